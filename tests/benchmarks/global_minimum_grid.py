"""Nothing lower than the proved global minimum: dense grids, polish, sixty digits.

    PYTHONPATH=tests/verification python tests/benchmarks/global_minimum_grid.py

For each line of `global_minimum.csv`: J on a grid of the whole cube in which every global
minimiser lies (2001 points a side of the square, 41 of the four-dimensional cube, 13 of the
six-dimensional one) and on its shrunken copies; the lowest grid points that are lower than all
their neighbours, and random starts, are polished by the oracle's solver, and the lowest end in
sixty digits.  Neither the oracle nor the vectorised J below shares code with the search.  Prints a
table; exit code 1 if anything lies below the proved lower bound.
"""

from __future__ import annotations

import csv
import itertools
import sys
from pathlib import Path

import mpmath
import numpy as np
import oracle
import oracle_digits
from global_minimum import DATA

from ocp.problem import Problem

TABLE = Path(__file__).with_name("global_minimum.csv")
#: points a side by dimension, and how often the grid is shrunken by a half
SIDES, SHRUNKEN = {2: 2001, 4: 41, 6: 13}, 3
#: grid points that are polished, and random starts
LOWEST, STARTS = 40, 20


def values(problem: Problem, u: np.ndarray) -> np.ndarray:
    """J at the columns of u, (d, B)."""
    x = problem.inputs[:, :1] @ problem.lift_weight.T + problem.lift_bias
    sign = np.where(problem.labels == 0, 1.0, -1.0)[:, None]
    slope = problem.readout_weight[0, 0] - problem.readout_weight[1, 0]
    offset = problem.readout_bias[0] - problem.readout_bias[1]
    p = problem.p_d
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))

    def cost(x):
        t = sign * (slope * x + offset)
        return (np.logaddexp(0.0, -t) + (1 - p) * t - entropy).mean(axis=0)

    J = 0.5 * problem.h * problem.r * (u**2).sum(axis=0)
    for k in range(problem.depth):
        J = J + problem.h * problem.beta * cost(x)
        x = x + problem.h * np.tanh(u[2 * k] * x + u[2 * k + 1])
    return J + problem.gamma * cost(x)


def grid(problem: Problem, radius: float) -> tuple[np.ndarray, int]:
    """The lowest local minima of J on a grid of |u_j| <= radius, and the number of its points."""
    d = problem.n_decision
    axis = np.linspace(-radius, radius, SIDES[d])
    J = np.empty((SIDES[d],) * d)
    tail = np.stack([g.ravel() for g in np.meshgrid(*[axis] * (d - 1), indexing="ij")])
    for i, first in enumerate(axis):
        u = np.vstack([np.full(tail.shape[1], first), tail])
        parts = np.array_split(u, max(1, u.shape[1] // 100_000), axis=1)
        J[i] = np.concatenate([values(problem, part) for part in parts]).reshape(J.shape[1:])
    low = np.ones(J.shape, dtype=bool)
    for j, side in itertools.product(range(d), (-1, 1)):
        low &= np.roll(J, side, axis=j) >= J  # beyond the faces J is larger than anything needed
    at = np.argwhere(low)
    at = at[np.argsort(J[low])[:LOWEST]]
    return axis[at], J.size


def polished(problem: Problem, starts: np.ndarray) -> tuple[np.ndarray, mpmath.mpf]:
    """The lowest end of all starts, and its J in sixty digits after Newton steps in them."""
    ends = [oracle.minimise(problem, u, rounds=1) for u in starts]
    u = min(ends, key=lambda end: oracle.objective(problem, end))
    with oracle_digits.digits():
        exact = oracle_digits.polish(problem, u)[0]
        return np.array([float(v) for v in exact]), oracle_digits.objective(problem, exact)


def main() -> int:
    worst = 0
    print(
        "| data | beta | r | N | grid points | polished | lowest grid J - V | J in sixty digits"
        " | least J - V_lower | proved width |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    with TABLE.open() as file:
        lines = list(csv.DictReader(file))
    for line in lines:
        problem = Problem(
            n_classes=2, width=1, depth=int(line["N"]), r=float(line["r"]),
            beta=int(line["beta"]), **DATA[line["data"]],
        )  # fmt: skip
        radius, points, found = float(line["radius searched"]) + 0.05, 0, []
        for k in range(SHRUNKEN + 1):
            lowest, count = grid(problem, radius / 2**k)
            points, found = points + count, [*found, *lowest]
        grid_J = values(problem, np.array(found).T)
        order = np.argsort(grid_J)[:LOWEST]
        rng = np.random.default_rng(1)
        more = 2 * rng.normal(size=(STARTS, problem.n_decision))
        _, J = polished(problem, np.vstack([np.array(found)[order], more]))
        lower, upper = (mpmath.mpf(line[name]) for name in ("V_lower", "V_upper"))
        with oracle_digits.digits():
            worst |= lower > J or mpmath.mpf(grid_J.min()) < lower - mpmath.mpf(10) ** -13
            print(
                f"| {line['data']} | {line['beta']} | {line['r']} | {line['N']} | {points} |"
                f" {LOWEST + STARTS} | {float(grid_J.min() - upper):.1e} | {mpmath.nstr(J, 20)} |"
                f" {float(J - lower):.1e} | {float(upper - lower):.0e} |",
                flush=True,
            )
    return int(worst)


if __name__ == "__main__":
    sys.exit(main())
