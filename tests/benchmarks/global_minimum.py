"""V_1, V_2 and a V_3 on proved global minima of networks of width 1, with the work that it took.

    PYTHONPATH=tests/verification python tests/benchmarks/global_minimum.py > \\
        tests/benchmarks/global_minimum.csv

Each row: the lowest of 40 random starts (the oracle's solver, which knows nothing of the search)
is given to the search.  `start_in` is the place whose minimiser is next to it, -1: none, so that
it is not global.  Processor seconds of the search alone, one thread.
"""

from __future__ import annotations

import csv
import sys
import time

import numpy as np
import oracle

from ocp.problem import Problem
from verification.balls.global_minimum import prove_global_minimum
from verification.report import printed

FLOW = {
    "inputs": np.array([[-0.3], [-0.2], [0.1], [0.3]]),
    "labels": np.array([0, 0, 1, 1]),
    "readout_weight": np.array([[3.0], [-3.0]]),
    "h": 0.5,
}
#: named as in tests/verification/test_global_minimum.py
SIX = {
    "inputs": np.array([[-1.5], [-0.6], [0.4], [1.2], [0.8], [-1.1]]),
    "labels": np.array([0, 0, 1, 1, 1, 0]),
    "h": 1.0,
}
TWINS = {
    "inputs": np.array([[-1.5], [-0.6], [0.6], [1.5]]),
    "labels": np.array([0, 1, 0, 1]),
    "h": 1.0,
}
DATA = {"flow": FLOW, "six": SIX, "twins": TWINS}
ROWS = [
    (name, data, depth, r, beta)
    for name, data in DATA.items()
    for beta in (1, 0)
    for r in (1e-1, 1e-2)
    for depth in (1, 2)
] + [("flow", FLOW, 3, 1e-1, 1)]


def row(name: str, data: dict, depth: int, r: float, beta: int) -> dict:
    """Search one problem."""
    problem = Problem(n_classes=2, width=1, depth=depth, r=r, beta=beta, **data)
    rng = np.random.default_rng(0)
    ends = [
        oracle.minimise(problem, 2 * rng.normal(size=problem.n_decision), rounds=1)
        for _ in range(40)
    ]
    u = min(ends, key=lambda end: oracle.objective(problem, end))
    start = time.process_time()
    found = prove_global_minimum(problem, u)
    seconds = time.process_time() - start
    idle = oracle.objective(problem, np.zeros(problem.n_decision))
    return {
        "data": name,
        "beta": beta,
        "r": r,
        "N": depth,
        "d": problem.n_decision,
        "V_lower": printed(found.lower, False, 13),
        "V_upper": printed(found.upper, True, 13),
        "V/J(0)": f"{found.upper / idle:.3f}",
        "minimisers": len(found.places),
        "undecided": sum(not place.unique for place in found.places),
        "start_in": found.stored_place,
        "largest |u_j|": f"{np.abs(found.best).max():.3f}",
        "radius searched": f"{found.radius:.1f}",
        "boxes": found.boxes,
        "CPU s": f"{seconds:.2f}",
    }


def main() -> None:
    writer = None
    for given in ROWS:
        line = row(*given)
        if writer is None:
            writer = csv.DictWriter(sys.stdout, list(line), lineterminator="\n")
            writer.writeheader()
        writer.writerow(line)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
