"""Mutation testing of the judge's formula files: do the tests notice a changed operator?

    pip install cosmic-ray coverage
    python tests/mutation_testing.py --mutants 300 --seed 2 --output mutation.json

A seeded sample of all mutants that cosmic-ray's operators make of the files is tried, one at a
time, in a copy of the repository.  A mutant is killed if a test fails or times out.  Mutants that
change annotations alone are no change of the program and are not in the population: every module
of the judge that kkt, second_order, dissipativity, turnpike and certificate import, directly or
not, and across_depths.  Results are appended: the same command again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
FORMULAS = (
    "first_order",
    "second_order",
    "dissipativity",
    "turnpike",
    "across_depths",
    "certificate",
)


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--mutants", type=int, default=300)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--files", nargs="+", default=None, help="default: all of the population")
    parse.add_argument("--part", default="0/1", help="i/n: every n-th mutant of the sample, from i")
    parse.add_argument("--seconds", type=float, default=math.inf, help="stop after that long")
    parse.add_argument("--output", type=Path, default=Path("mutation.json"))
    parse.add_argument("--survivors", action="store_true", help="try the survivors again")
    parse.add_argument("--summary", action="store_true", help="only print what was found")
    options = parse.parse_args()
    results = json.loads(options.output.read_text()) if options.output.exists() else []
    if options.summary:
        print(summary(results))
        return 0
    start, output = time.monotonic(), options.output.resolve()
    sample = sample_of(options.files or population(), options.mutants, options.seed)
    first, step = (int(i) for i in options.part.split("/"))
    earlier = {key(result): result for result in results}
    with tempfile.TemporaryDirectory() as folder:
        tests = tests_in(Path(folder).resolve(), output)
        tests.kills = kills_of(results)
        for mutant in sample[first::step]:
            known = earlier.get(key(mutant))
            again = options.survivors and known is not None and not known["killed_by"]
            if known is not None and not again:
                continue
            if time.monotonic() - start > options.seconds:
                break
            begun, killer = time.monotonic(), tests.kill(mutant)
            found = {k: v for k, v in mutant.items() if k != "code"} | {"killed_by": killer}
            if again:
                known["killed_later_by"] = killer
            else:
                results.append(found)
            print(f"{len(results)} {time.monotonic() - begun:.1f} s", found, flush=True)
            output.write_text(json.dumps(results, indent=1))
    print(summary(results))
    return 0


def key(result: dict) -> tuple:
    return result["file"], result["operator"], result["occurrence"]


def kills_of(results: list[dict]) -> dict[str, list[str]]:
    """file -> tests that killed its mutants."""
    kills: dict[str, list[str]] = {}
    for result in results:
        if "::" in result["killed_by"]:
            kills.setdefault(result["file"], []).append(result["killed_by"].rpartition(": ")[0])
    return kills


def tests_in(folder: Path, output: Path):
    """Copy the repository and measure its tests there."""
    from mutation_runs import Tests

    for part in ("ocp", "verification", "tests", "nn_baseline", "examples"):
        shutil.copytree(ROOT / part, folder / part)
    for part in ("setup.cfg", "pyproject.toml"):
        shutil.copy(ROOT / part, folder)
    return Tests(folder, output.with_suffix(".tests.json"))


def population() -> list[str]:
    """The formula files and every module of the judge that they import, directly or not."""
    found: set[str] = set()
    waiting = list(FORMULAS)
    while waiting:
        name = waiting.pop()
        path = ROOT / "verification" / "checks" / f"{name}.py"
        if name in found or not path.exists():
            continue
        found.add(name)
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.level == 1:
                waiting += [node.module] if node.module else [alias.name for alias in node.names]
    return sorted(found)


def sites_of(name: str) -> list[tuple[str, str, int]]:
    """All places of one file where an operator of cosmic-ray applies."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    nodes = list(ast_nodes(get_ast((ROOT / "verification" / "checks" / f"{name}.py").read_text())))
    sites = []
    for operator_name in plugins.operator_names():
        operator = plugins.get_operator(operator_name)
        if not operator.arguments():
            count = sum(len(list(operator().mutation_positions(node))) for node in nodes)
            sites += [(name, operator_name, occurrence) for occurrence in range(count)]
    return sites


def mutant_at(name: str, operator_name: str, occurrence: int) -> dict | None:
    """The mutated file; None if it is no program or, without annotations, the same one."""
    from cosmic_ray import plugins
    from cosmic_ray.mutating import mutate_code

    code = (ROOT / "verification" / "checks" / f"{name}.py").read_text()
    mutated = mutate_code(code, plugins.get_operator(operator_name)(), occurrence)
    if mutated is None or without_annotations(mutated) in ("", without_annotations(code)):
        return None
    pairs = zip(code.splitlines(), mutated.splitlines(), strict=False)
    line = next(i for i, (a, b) in enumerate(pairs, start=1) if a != b)
    return {
        "file": name,
        "operator": operator_name.removeprefix("core/"),
        "occurrence": occurrence,
        "line": line,
        "now": mutated.splitlines()[line - 1].strip(),
        "code": mutated,
    }


def sample_of(files: list[str], size: int, seed: int) -> list[dict]:
    """A seeded sample without replacement."""
    sites = [site for name in files for site in sites_of(name)]
    random.Random(seed).shuffle(sites)
    found: list[dict] = []
    for site in sites:
        if len(found) == size:
            break
        mutant = mutant_at(*site)
        if mutant is not None:
            found.append(mutant)
    return found


def without_annotations(code: str) -> str:
    """The program without annotations and docstrings; "" if it does not parse."""
    try:
        tree = ast.parse(code)
    except SyntaxError:
        return ""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            node.returns = None
        elif isinstance(node, ast.arg):
            node.annotation = None
        elif isinstance(node, ast.AnnAssign):
            node.annotation = ast.Constant(None)
    return ast.dump(tree)


def summary(results: list[dict]) -> str:
    """Score with its interval, by file too, and the survivors."""
    if not results:
        return "no mutant was tried"
    lines = [score("all", [bool(r["killed_by"]) for r in results])]
    if any("killed_later_by" in r for r in results):
        now = [bool(r["killed_by"] or r.get("killed_later_by")) for r in results]
        lines.append(score("with the tests written since", now))
    for name in sorted({r["file"] for r in results}):
        lines.append(score(name, [bool(r["killed_by"]) for r in results if r["file"] == name]))
    how = Counter(r["killed_by"].rpartition(": ")[2] or "survived" for r in results)
    lines.append(f"by {dict(how)}")
    lines += [f"survived: {r}" for r in results if not r["killed_by"]]
    return "\n".join(lines)


def score(name: str, killed: list[bool]) -> str:
    """Share of the killed with Wilson's 95 % interval."""
    n, k = len(killed), sum(killed)
    z, p = 1.959964, k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    return f"{name}: {k} of {n} killed, {p:.1%} [{centre - half:.1%}, {centre + half:.1%}]"


if __name__ == "__main__":
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ.setdefault(_name, "1")
    sys.exit(main())
