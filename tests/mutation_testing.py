"""Mutation testing of the judge's formula files: do the tests notice a changed operator?

    pip install cosmic-ray
    python tests/mutation_testing.py --mutants 300 --seed 0 --output mutation.json

A seeded sample of all mutants that cosmic-ray's operators make of the files is tried, one at a
time, in a copy of the repository.  A mutant is killed if a test fails or times out.  Mutants that
change annotations alone are no change of the program and are not in the population.  The tests of
its file are tried first, then all other quick tests of the judge.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
#: formula file -> tests that are tried first
FILES = {
    "kkt": ("test_descent.py", "test_zoo.py"),
    "adjoint": ("test_derivatives.py",),
    "second_order": ("test_descent.py", "test_zoo.py"),
    "hessian": ("test_derivatives.py",),
    "dissipativity": ("test_turnpike.py", "test_traces.py", "test_zoo.py"),
    "alpha": ("test_alpha.py", "test_turnpike.py"),
    "targets": ("test_turnpike.py", "test_layers.py", "test_zoo.py"),
    "turnpike": ("test_turnpike.py", "test_traces.py", "test_zoo.py"),
    "across_depths": ("test_turnpike.py",),
    "certificate": ("test_certificate.py",),
    "krawczyk": ("test_certificate.py",),
}


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--mutants", type=int, default=300)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--files", nargs="+", default=list(FILES), choices=list(FILES))
    parse.add_argument("--part", default="0/1", help="i/n: every n-th mutant of the sample, from i")
    parse.add_argument("--seconds", type=float, default=math.inf, help="stop after that long")
    parse.add_argument("--output", default="mutation.json")
    options = parse.parse_args()
    sample = sample_of(options.files, options.mutants, options.seed)
    first, step = (int(i) for i in options.part.split("/"))
    results, start = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for part in ("ocp", "verification", "tests", "nn_baseline", "examples"):
            shutil.copytree(ROOT / part, Path(folder) / part)
        for part in ("setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / part, folder)
        tests = Tests(Path(folder))
        for mutant in sample[first::step]:
            if time.monotonic() - start > options.seconds:
                break
            results.append({**mutant, "killed_by": tests.kill(mutant)})
            del results[-1]["code"]
            print(len(results), results[-1], flush=True)
            Path(options.output).write_text(json.dumps(results, indent=1))
    print(summary(results))
    return 0


def sites_of(name: str) -> list[tuple[str, str, int]]:
    """All places of one file where an operator of cosmic-ray applies."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast

    nodes = list(ast_nodes(get_ast((ROOT / "verification" / f"{name}.py").read_text())))
    sites = []
    for operator_name in plugins.operator_names():
        operator = plugins.get_operator(operator_name)
        if not operator.arguments():
            count = sum(len(list(operator().mutation_positions(node))) for node in nodes)
            sites += [(name, operator_name, occurrence) for occurrence in range(count)]
    return sites


def mutant_at(name: str, operator_name: str, occurrence: int) -> dict | None:
    """The mutated file; None if the program without annotations is the same."""
    from cosmic_ray import plugins
    from cosmic_ray.mutating import mutate_code

    code = (ROOT / "verification" / f"{name}.py").read_text()
    mutated = mutate_code(code, plugins.get_operator(operator_name)(), occurrence)
    if mutated is None or without_annotations(mutated) == without_annotations(code):
        return None
    pairs = zip(code.splitlines(), mutated.splitlines(), strict=False)
    line = next(i for i, (a, b) in enumerate(pairs, start=1) if a != b)
    return {
        "file": name,
        "operator": operator_name.removeprefix("core/"),
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


class Tests:
    """The judge's quick tests in a copy of the repository, with the time that each file takes."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        paths = (folder / "tests" / "verification").glob("test_*.py")
        self.names = sorted(path.name for path in paths)
        self.seconds: dict[str, float] = {}

    def measure(self, name: str) -> None:
        """Run a test file without any mutation: it must pass; its time sets the limit."""
        if name not in self.seconds:
            outcome, self.seconds[name] = self.run([name], math.inf)
            print(f"{name}: {self.seconds[name]:.1f} s {outcome}", flush=True)
            if outcome:
                raise SystemExit(f"{name} fails without any mutation ({outcome})")

    def kill(self, mutant: dict) -> str:
        """Return what killed the mutant, or ""."""
        path = self.folder / "verification" / f"{mutant['file']}.py"
        original = path.read_text()
        first = FILES[mutant["file"]]
        try:
            for name in (*first, *(name for name in self.names if name not in first)):
                path.write_text(original)
                self.measure(name)
                path.write_text(mutant["code"])
                outcome, _ = self.run([name], 10.0 + 3.0 * self.seconds[name])
                if outcome:
                    return f"{name}: {outcome}"
            return ""
        finally:
            path.write_text(original)

    def run(self, names: list[str], seconds: float) -> tuple[str, float]:
        """Run tests in a forked process, which has NumPy and SciPy loaded already.

        seconds : of processor time, so that a busy machine kills nothing
        """
        import numpy  # noqa: F401
        import pytest
        import scipy.linalg
        import scipy.optimize
        import scipy.stats  # noqa: F401

        child = os.fork()
        if child == 0:
            null = os.open(os.devnull, os.O_WRONLY)
            os.dup2(null, 1)
            os.dup2(null, 2)
            os.chdir(self.folder)
            sys.path[:0] = [str(self.folder)]
            sys.dont_write_bytecode = True
            if math.isfinite(seconds):
                used = time.process_time()
                limit = math.ceil(used + seconds)
                resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
            paths = [f"tests/verification/{name}" for name in names]
            options = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow"]
            os._exit(int(pytest.main([*options, *paths])))
        _, status, usage = os.wait4(child, 0)
        spent = usage.ru_utime + usage.ru_stime
        if os.WIFSIGNALED(status):
            return ("time" if os.WTERMSIG(status) == signal.SIGXCPU else "crash"), spent
        # 5: a file whose tests are all slow has none to run, which kills nothing
        return ("failure" if os.WEXITSTATUS(status) not in (0, 5) else ""), spent


def summary(results: list[dict]) -> str:
    """Score with Wilson's 95 % interval, and the survivors."""
    n, k = len(results), sum(bool(result["killed_by"]) for result in results)
    if not n:
        return "no mutant was tried"
    z, p = 1.959964, k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    lines = [f"{k} of {n} killed, {p:.1%} [{centre - half:.1%}, {centre + half:.1%}]"]
    lines += [f"survived: {r}" for r in results if not r["killed_by"]]
    return "\n".join(lines)


if __name__ == "__main__":
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_name, "1")
    sys.exit(main())
