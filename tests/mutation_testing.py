"""Mutation testing of the judge's formula files: do the tests notice a changed operator?

    pip install cosmic-ray
    python tests/mutation_testing.py --mutants 300 --seed 0 --output mutation.json

A seeded sample of all mutants that cosmic-ray's operators make of the files is tried, one at a
time, in a copy of the repository.  A mutant is killed if a test fails or times out.  Mutants that
change annotations alone are no change of the program and are not in the population.  Survivors of
the quick tests of their file are tried against all quick tests of the judge.
"""

from __future__ import annotations

import argparse
import ast
import json
import math
import os
import random
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
    "dissipativity": ("test_turnpike.py", "test_zoo.py"),
    "alpha": ("test_alpha.py", "test_turnpike.py"),
    "targets": ("test_turnpike.py", "test_layers.py", "test_zoo.py"),
    "turnpike": ("test_turnpike.py", "test_zoo.py"),
    "across_depths": ("test_turnpike.py",),
    "certificate": ("test_certificate.py",),
}
SECONDS = 150


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--mutants", type=int, default=300)
    parse.add_argument("--seed", type=int, default=0)
    parse.add_argument("--files", nargs="+", default=list(FILES), choices=list(FILES))
    parse.add_argument("--part", default="0/1", help="i/n: every n-th mutant of the sample, from i")
    parse.add_argument("--seconds", type=float, default=math.inf, help="stop after that long")
    parse.add_argument("--output", default="mutation.json")
    options = parse.parse_args()
    population = [m for name in options.files for m in mutants_of(name)]
    sample = random.Random(options.seed).sample(population, min(options.mutants, len(population)))
    first, step = (int(i) for i in options.part.split("/"))
    results, start = [], time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        for part in ("ocp", "verification", "tests", "nn_baseline"):
            shutil.copytree(ROOT / part, Path(folder) / part)
        for part in ("setup.cfg", "pyproject.toml"):
            shutil.copy(ROOT / part, folder)
        for mutant in sample[first::step]:
            if time.monotonic() - start > options.seconds:
                break
            results.append({**mutant, "killed_by": killed(Path(folder), mutant)})
            del results[-1]["code"]
            print(len(results), results[-1], flush=True)
            Path(options.output).write_text(json.dumps(results, indent=1))
    print(summary(results, len(population)))
    return 0


def mutants_of(name: str) -> list[dict]:
    """All mutants of one file: operator, occurrence and the mutated text."""
    from cosmic_ray import plugins
    from cosmic_ray.ast import ast_nodes, get_ast
    from cosmic_ray.mutating import mutate_code

    path = ROOT / "verification" / f"{name}.py"
    code = path.read_text()
    plain, nodes = without_annotations(code), list(ast_nodes(get_ast(code)))
    found = []
    for operator_name in plugins.operator_names():
        operator = plugins.get_operator(operator_name)
        if operator.arguments():
            continue
        instance = operator()
        count = sum(len(list(instance.mutation_positions(node))) for node in nodes)
        for occurrence in range(count):
            mutated = mutate_code(code, instance, occurrence)
            if mutated is None or without_annotations(mutated) == plain:
                continue
            line = next(
                i
                for i, (a, b) in enumerate(
                    zip(code.splitlines(), mutated.splitlines(), strict=False), start=1
                )
                if a != b
            )
            found.append(
                {
                    "file": name,
                    "operator": operator_name.removeprefix("core/"),
                    "line": line,
                    "now": mutated.splitlines()[line - 1].strip(),
                    "code": mutated,
                }
            )
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


def killed(folder: Path, mutant: dict) -> str:
    """Return what killed the mutant, or ""."""
    path = folder / "verification" / f"{mutant['file']}.py"
    original = path.read_text()
    path.write_text(mutant["code"])
    try:
        if tests_fail(folder, FILES[mutant["file"]]):
            return "its own tests"
        others = sorted(p.name for p in (folder / "tests" / "verification").glob("test_*.py"))
        if tests_fail(folder, [name for name in others if name not in FILES[mutant["file"]]]):
            return "the judge's other tests"
        return ""
    finally:
        path.write_text(original)


def tests_fail(folder: Path, names: list[str]) -> bool:
    """Run tests in a forked process, which has NumPy and SciPy loaded already."""
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
        os.chdir(folder)
        sys.path[:0] = [str(folder)]
        sys.dont_write_bytecode = True
        signal.alarm(SECONDS)
        paths = [f"tests/verification/{name}" for name in names]
        os._exit(int(pytest.main(["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", *paths])))
    _, status = os.waitpid(child, 0)
    return status != 0


def summary(results: list[dict], population: int) -> str:
    """Score with Wilson's 95 % interval, and the survivors."""
    n, k = len(results), sum(bool(result["killed_by"]) for result in results)
    if not n:
        return "no mutant was tried"
    z, p = 1.959964, k / n
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    half = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
    lines = [f"{k} of {n} killed, {p:.1%} [{centre - half:.1%}, {centre + half:.1%}]"]
    lines[0] += f", sampled from {population}"
    lines += [f"survived: {r}" for r in results if not r["killed_by"]]
    return "\n".join(lines)


if __name__ == "__main__":
    for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
        os.environ.setdefault(_name, "1")
    sys.exit(main())
