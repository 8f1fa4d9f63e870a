"""Mutation runs of the judge: do its tests notice a changed operator, number or condition?

    pip install cosmic-ray
    python tests/benchmarks/mutation.py --mutants 300 --seed 3

tries a seeded sample of all mutants that cosmic-ray makes of the formula files, in a clone of the
last commit below `output/`; the same command again goes on where it stopped.  A mutant meets the
test files named after its file, then every other quick test of the judge; a test that fails or
takes too long kills it.  What does not parse or changes annotations alone is no mutant and is
passed over; every other one counts, equivalent ones too.  A killed mutant takes about 2 s, a
survivor 75 s.  `cr-rate --estimate output/mutation_300_3/session.sqlite` says how far it is.
"""

from __future__ import annotations

import argparse
import ast
import csv
import os
import random
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

from scipy import stats

ROOT = Path(__file__).parents[2]
NAMES = ["first_order", "second_order", "dissipativity", "turnpike", "across_depths", "certificate"]
NAMES += ["global_minimum"]
TESTS = Path("tests") / "verification"
# of the quick tests the slowest takes 3 s; a mutant is new to every cache of rewritten assertions
PYTEST = ["-m", "pytest", "-x", "-q", "--tb=line", "--assert=plain", "--timeout=40"]
PYTEST += ["-m", "not slow", "-p", "no:cacheprovider"]
CONFIG = """[cosmic-ray]
module-path = {files}
timeout = 900.0
test-command = "'{python}' tests/benchmarks/mutation.py --run-tests{own}"
distributor.name = "local"
"""


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--mutants", type=int, default=300)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--files", nargs="+", choices=NAMES, default=NAMES, help="all of them")
    parse.add_argument(
        "--own", action="store_true", help="only the tests named after a file: survivors at most"
    )
    parse.add_argument("--run-tests", action="store_true", help="what the session runs a mutant")
    options = parse.parse_args()
    if options.run_tests:
        return run_tests(options.own)
    limits = ([] if options.files == NAMES else options.files) + ["own"] * options.own
    folder = ROOT / "output" / "_".join(["mutation", f"{options.mutants}_{options.seed}", *limits])
    if not (folder / "session.sqlite").exists():
        begin(folder, options)
    # a run that was killed leaves its mutant behind
    subprocess.run(["git", "checkout", "-q", "."], cwd=folder / "clone", check=True)
    try:
        cosmic_ray(folder, "exec", "config.toml", "session.sqlite")
    finally:
        rows = results(folder / "session.sqlite")
        with (folder / "mutation.csv").open("w", newline="") as file:
            columns = ("file", "line", "operator", "occurrence", "killed_by")
            table = csv.DictWriter(file, columns, extrasaction="ignore", lineterminator="\n")
            table.writeheader()
            table.writerows(rows)
        text = report(rows, (folder / "sample.txt").read_text())
        (folder / "mutation.md").write_text(text)
        print(text)
    return 0


def begin(folder: Path, options: argparse.Namespace) -> None:
    """Clone, draw the sample into a session, and see that the tests pass without a mutant."""
    from cosmic_ray.work_db import use_db

    shutil.rmtree(folder, ignore_errors=True)  # of a beginning that was interrupted
    folder.mkdir(parents=True)
    subprocess.run(["git", "clone", "-q", str(ROOT), str(folder / "clone")], check=True)
    # by hashes no mutant is taken for what was compiled here; the session itself stores none
    compiling = [sys.executable, "-m", "compileall", "-q", "--invalidation-mode", "checked-hash"]
    subprocess.run([*compiling, str(folder / "clone")], check=True)
    mutants, seed = options.mutants, options.seed
    files, own = [f"verification/checks/{name}.py" for name in options.files], " --own"
    config = CONFIG.format(files=files, python=sys.executable, own=own if options.own else "")
    (folder / "config.toml").write_text(config)
    cosmic_ray(folder, "init", "config.toml", "session.new")
    with use_db(folder / "session.new") as database:
        places = database.work_items
        sample, passed_over = drawn(places, mutants, seed, lambda item: changes(folder, item))
        database.clear()
        database.add_work_items(sample)
    head = ["git", "log", "-1", "--format=%h"]
    commit = subprocess.run(head, cwd=folder / "clone", capture_output=True, text=True, check=True)
    (folder / "sample.txt").write_text(
        f"`python tests/benchmarks/mutation.py --mutants {mutants} --seed {seed}"
        f"{'' if options.files == NAMES else ' --files ' + ' '.join(options.files)}"
        f"{own if options.own else ''}`, cosmic-ray "
        f"{version('cosmic-ray')}, commit {commit.stdout.strip()}:\n{len(sample)} of the "
        f"{len(places)} places where an operator applies are drawn. Passed over on the way, as "
        f"they do not\nparse or change annotations alone: {passed_over}."
    )
    cosmic_ray(folder, "baseline", "config.toml")
    (folder / "session.new").rename(folder / "session.sqlite")


def cosmic_ray(folder: Path, verb: str, *files: str) -> None:
    command = [sys.executable, "-m", "cosmic_ray.cli", verb, *(str(folder / f) for f in files)]
    environment = os.environ | {"PYTHONPATH": str(folder / "clone")}
    subprocess.run(command, cwd=folder / "clone", env=environment, check=True)


def run_tests(own_only: bool) -> int:
    """What the tests in this folder say of the file that differs from the last commit."""
    changed = ["git", "diff", "--name-only"]
    paths = subprocess.run(changed, capture_output=True, text=True, check=True).stdout.split()
    stems = [Path(path).stem for path in paths]
    own = {test for stem in stems for test in TESTS.glob(f"test_*{stem}*.py")}
    if own_only:  # where a check has a file of tests of its own beside those of its proofs
        own = {test for stem in stems for test in TESTS.glob(f"test_check_{stem}.py")} or own
    for tests in (own, set() if own_only else set(TESTS.glob("test_*.py")) - own):
        command = [sys.executable, *PYTEST, *map(str, sorted(tests))]
        code = subprocess.run(command).returncode if tests else 0
        if code not in (0, 5):  # 5: all of them are slow
            return code
    return 0


def drawn(items: list, size: int, seed: int, is_mutant: Callable) -> tuple[list, int]:
    """A seeded sample without replacement, and how many were passed over on the way."""
    order = sorted(items, key=place)
    random.Random(seed).shuffle(order)
    sample: list = []
    for count, item in enumerate(order):
        if len(sample) == size:
            return sample, count - size
        if is_mutant(item):
            sample.append(item)
    return sample, len(order) - len(sample)


def place(item) -> tuple[str, str, int]:
    (mutation,) = item.mutations
    return str(mutation.module_path), mutation.operator_name, mutation.occurrence


def changes(folder: Path, item) -> bool:
    """Is it a program, and another one?"""
    from cosmic_ray.mutating import mutate_code
    from cosmic_ray.plugins import get_operator

    path, operator, occurrence = place(item)
    code = (folder / "clone" / path).read_text()
    mutated = mutate_code(code, get_operator(operator)(), occurrence)
    return mutated is not None and program(mutated) not in ("", program(code))


def program(code: str) -> str:
    """The program without annotations; "" if it does not parse."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        for name in {"annotation", "returns"} & set(node._fields):
            setattr(node, name, None)
    return ast.dump(tree)


def results(session: Path) -> list[dict]:
    """A row a mutant that was tried."""
    from cosmic_ray.work_db import WorkDB, use_db

    with use_db(session, WorkDB.Mode.open) as database:
        found = sorted(database.completed_work_items, key=lambda pair: place(pair[0]))
    rows = []
    for item, result in found:
        path, operator, occurrence = place(item)
        if result.worker_outcome != "normal":
            raise SystemExit(f"{path} {operator} {occurrence}: {result.output}")
        changed = [line for line in result.diff.splitlines() if re.match(r"[-+](?![-+]{2} )", line)]
        row = {"file": Path(path).stem, "line": item.mutations[0].start_pos[0]}
        row |= {"operator": operator.removeprefix("core/"), "occurrence": occurrence}
        row["killed_by"] = killer(result.output) if result.is_killed else ""
        for name, sign in (("before", "-"), ("after", "+")):
            row[name] = " ".join(s[1:].strip() for s in changed if s.startswith(sign))
        rows.append(row)
    return rows


def killer(output: str) -> str:
    """Which test, and how."""
    test = re.search(rf"^(?:FAILED|ERROR) {TESTS.as_posix()}/(.+?)(?: - .*)?$", output, re.M)
    late = output == "timeout" or "Failed: Timeout" in output
    return f"{test[1] if test else 'no test'}: {'time' if late else 'failure'}"


def report(rows: list[dict], sample: str) -> str:
    """The score with its interval, by file too, and the survivors."""
    files = sorted({row["file"] for row in rows})
    late = sum(row["killed_by"].endswith(": time") for row in rows)
    crashes = sum(row["killed_by"] == "no test: failure" for row in rows)
    lines = ["# Mutants of the judge's formula files", "", sample, ""]
    lines += [f"Killed: **{score(rows)}**; {late} of them by time, {crashes} by a crash.", ""]
    lines += ["| file | killed, 95 % interval (Wilson) |", "|---|---|"]
    lines += [f"| {name} | {score([r for r in rows if r['file'] == name])} |" for name in files]
    lines += ["", "## The survivors", ""]
    for row in rows:
        if not row["killed_by"]:
            lines.append("- {file} {line}: `{before}` becomes `{after}`".format_map(row))
    return "\n".join(lines) + "\n"


def score(rows: list[dict]) -> str:
    """Share of the killed with Wilson's 95 % interval."""
    if not rows:
        return "0 of 0"
    n, k = len(rows), sum(bool(row["killed_by"]) for row in rows)
    low, high = stats.binomtest(k, n).proportion_ci(method="wilson")
    return f"{k} of {n}, {k / n:.1%} [{low:.1%}, {high:.1%}]"


if __name__ == "__main__":
    sys.exit(main())
