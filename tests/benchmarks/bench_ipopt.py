"""Textbook cold solves against depth growth, both by IPOPT with MUMPS, on the default spirals.

    python -m pytest tests/benchmarks/bench_ipopt.py --benchmark-only --benchmark-json=FILE
    python tests/benchmarks/bench_ipopt.py FILE > tests/benchmarks/ipopt.md

One round a seed, one thread.  "cold" is what a textbook would do: full depth at once, IPOPT's own
defaults; "cold, QAMD" changes only the ordering of the factorisation; "growth" is our default.
"""

from __future__ import annotations

import statistics
import sys
import time

import numpy as np
import pytest
import recorded

from ocp import datasets
from ocp.continuation.growth import GrowthOptions, grow
from ocp.controls import random_start
from ocp.evaluation.rollout import logits
from ocp.problem import Problem
from ocp.solvers import by_name

METHODS = {
    "cold": ({"mumps_pivot_order": 7, "nlp_scaling_method": "gradient-based"}, (20,), 3),
    "cold, QAMD": ({}, (20,), 3),
    "growth, IPOPT's ordering": ({"mumps_pivot_order": 7}, None, 5),
    "growth": ({}, None, 5),
}
CASES = [(name, seed) for name, (_, _, seeds) in METHODS.items() for seed in range(seeds)]


@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("method", "seed"), CASES)
def test_default_spirals(benchmark, method, seed):
    ipopt, depths, _ = METHODS[method]
    inputs, labels = datasets.spirals()
    problem = Problem(inputs=inputs, labels=labels, n_classes=2)
    solver = by_name("ipopt", options=ipopt, max_seconds=1800)

    def solve():
        cpu = time.process_time()
        options = GrowthOptions(depths=depths, restarts=0)
        start = random_start(problem, np.random.default_rng(seed)) if depths else None
        found = grow(problem, solver, seed=seed, start=start, options=options)
        return found, time.process_time() - cpu

    solution, cpu = benchmark.pedantic(solve, rounds=1)
    report = solution.report
    right = logits(problem, solution.controls, solution.states[-1]).argmax(axis=-1) == labels
    benchmark.extra_info.update(
        method=method,
        seed=seed,
        cpu_seconds=cpu,
        status=report.status.name,
        objective=report.objective,
        grad_inf_norm=report.grad_inf_norm,
        min_curvature=report.min_curvature,
        iterations=report.iterations,
        right=int(right.sum()),
        versions=report.versions,
        host=recorded.host(),
    )


def table(path: str) -> str:
    """Return the committed table of a pytest-benchmark JSON file."""
    rows, said = recorded.rows_and_host(path)
    lines = [
        "# IPOPT on the default spirals: cold and with depth growth",
        "",
        "`python -m pytest tests/benchmarks/bench_ipopt.py --benchmark-only"
        " --benchmark-json=FILE`, then `python tests/benchmarks/bench_ipopt.py FILE`.",
        "",
        said + ".  194 points, N = 20, n = 3, tolerance 1e-8.",
        "",
        "Compare CPU seconds: other work on the host lengthens the wall time of a row.",
        "",
        "| method | seed | wall s | CPU s | iterations | objective | max abs dJ/du"
        " | least curvature | right | status |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        lines.append(
            f"| {r['method']} | {r['seed']} | {r['seconds']:.1f} | {r['cpu_seconds']:.1f}"
            f" | {r['iterations']} | {r['objective']:.4f} | {r['grad_inf_norm']:.1e}"
            f" | {r['min_curvature'] or float('nan'):.1e} | {r['right']} | {r['status']} |"
        )
    lines += [
        "",
        "| method | solved | median CPU s of these | median objective |",
        "|---|---|---|---|",
    ]
    for method in METHODS:
        own = [r for r in rows if r["method"] == method]
        solved = [r for r in own if r["status"] == "SOLVED"]
        if solved:
            seconds = statistics.median(r["cpu_seconds"] for r in solved)
            objective = statistics.median(r["objective"] for r in solved)
            lines.append(
                f"| {method} | {len(solved)} of {len(own)} | {seconds:.1f} | {objective:.4f} |"
            )
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(sys.argv[1]))
