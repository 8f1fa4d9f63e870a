"""Points for the zoo: small trained problems, found with SciPy and polished by Newton steps."""

from __future__ import annotations

import functools

import numpy as np
import scipy.optimize

from ocp import controls as containers
from ocp import datasets
from ocp.controls import Controls, flatten, unflatten
from ocp.evaluation.assembly import assembled_hessian
from ocp.evaluation.rollout import gradient, objective
from ocp.problem import Problem


def small(**changes) -> Problem:
    """Twelve points on two circles, width 2, depth 4: solved in well under a second."""
    inputs, labels = datasets.circles(12)
    keys = {"n_classes": 2, "depth": 4, "width": 2, "r": 1e-2}
    return Problem(**({"inputs": inputs, "labels": labels} | keys | changes))


def minimise(problem: Problem, start: Controls, newton_steps: int = 20) -> Controls:
    """A stationary point reached from `start`; Newton steps take the gradient to rounding."""
    fun = lambda u: float(objective(problem, unflatten(problem, u)))  # noqa: E731
    jac = lambda u: gradient(problem, unflatten(problem, u))[0]  # noqa: E731
    hess = lambda u: assembled_hessian(problem, unflatten(problem, u))  # noqa: E731
    u = flatten(start)
    for _ in range(3):
        u = scipy.optimize.minimize(
            fun, u, jac=jac, hess=hess, method="trust-exact", options={"gtol": 1e-10}
        ).x
    for _ in range(newton_steps):
        step = np.linalg.lstsq(hess(u), jac(u), rcond=1e-10)[0]
        if np.abs(jac(u - step)).max() >= np.abs(jac(u)).max():
            break
        u = u - step
    return unflatten(problem, u)


@functools.cache
def solved(seed: int = 0, **changes) -> tuple[Problem, Controls]:
    """The small problem with `changes` (hashable values) and a minimum of it."""
    problem = small(**changes)
    start = containers.random_start(problem, np.random.default_rng(seed), 0.5)
    return problem, minimise(problem, start)
