"""What the assembly for Euler's method saves of a whole default solve of the spirals.

    python -m pytest tests/benchmarks/bench_assembly.py --benchmark-only --benchmark-json=FILE
    python tests/benchmarks/bench_assembly.py FILE > tests/benchmarks/assembly.md

One process, one thread.  Each round solves with it and without it, in alternating order, and
counts processor time.  The two sum in another order, so that rounding may send them along
different iterates: beside the solves the table has the time of one iteration.
"""

from __future__ import annotations

import statistics
import sys
import time
from unittest import mock

import pytest
import recorded
from threadpoolctl import threadpool_limits

import ocp
from ocp.evaluation import assembly_euler

SEEDS, ROUNDS = range(7), 5


def solved(problem: ocp.Problem, seed: int, fast: bool) -> tuple[ocp.Solution, float]:
    """One default solve and its processor time [s]; `fast`: with the assembly for Euler."""
    applies = assembly_euler.applies if fast else lambda problem: False
    with mock.patch.object(assembly_euler, "applies", applies):
        begun = time.process_time()
        solution = ocp.solve(problem, seed=seed)
        return solution, time.process_time() - begun


@pytest.mark.timeout(1800)
@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("seed", SEEDS)
def test_default_spirals(benchmark, seed):
    inputs, labels = ocp.datasets.spirals()
    problem = ocp.Problem(inputs=inputs, labels=labels, n_classes=2)
    seconds = {"with": [], "without": []}
    last = {}

    def pair():
        order = list(seconds) if len(seconds["with"]) % 2 else list(seconds)[::-1]
        for side in order:
            last[side], spent = solved(problem, seed, fast=side == "with")
            seconds[side].append(spent)

    with threadpool_limits(1):
        benchmark.pedantic(pair, rounds=ROUNDS, warmup_rounds=0)
        benchmark.extra_info.update(
            seed=seed,
            seconds={side: statistics.median(times) for side, times in seconds.items()},
            spread={side: max(times) / min(times) for side, times in seconds.items()},
            iterations={side: found.report.iterations for side, found in last.items()},
            objective={side: found.report.objective for side, found in last.items()},
            status={side: found.status.name for side, found in last.items()},
            versions=last["with"].report.versions,
            host=recorded.host(),
        )


def table(path: str) -> str:
    """Return the committed table of a pytest-benchmark JSON file."""
    rows, said = recorded.rows_and_host(path)
    lines = [
        "# What the assembly for Euler's method saves of a default solve",
        "",
        "`python -m pytest tests/benchmarks/bench_assembly.py --benchmark-only"
        " --benchmark-json=FILE`, then `python tests/benchmarks/bench_assembly.py FILE`.",
        "",
        said + ".  `ocp.solve` of the default spirals (194 points, N = 20, n = 3, growth by the"
        f" structured solver, 4 trials, tolerance 1e-8); processor seconds, medians of {ROUNDS}"
        " rounds, with and without alternating in one process.",
        "",
        "| seed | with [s] | without [s] | saved [%] | iterations with, without"
        " | an iteration with [ms] | without [ms] | saved [%] | largest/least round"
        " | J with, without |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    whole, each = [], []
    for r in rows:
        (fast, slow), (k, m), values = (
            [r[name][side] for side in ("with", "without")]
            for name in ("seconds", "iterations", "objective")
        )
        whole.append(1 - fast / slow)
        each.append(1 - (fast / k) / (slow / m))
        lines.append(
            f"| {r['seed']} | {fast:.2f} | {slow:.2f} | {100 * whole[-1]:.1f} | {k}, {m}"
            f" | {1000 * fast / k:.2f} | {1000 * slow / m:.2f} | {100 * each[-1]:.1f}"
            f" | {max(r['spread'].values()):.2f}"
            f" | {', '.join(f'{J:.6f}' for J in values)} |"
        )
    lines += [
        "",
        f"Median over the seeds: {100 * statistics.median(whole):.1f} % of a whole solve,"
        f" {100 * statistics.median(each):.1f} % of an iteration.",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(sys.argv[1]))
