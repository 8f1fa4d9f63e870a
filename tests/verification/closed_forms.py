"""Files whose gradient and Hessian are known by hand: edges are put where they belong.

One layer of width n, two samples of two classes, both at the origin, only a terminal cost: A is
seen by its decay alone.  With F(z) = softplus(z) - z/2 up to a constant, whatever p_d is,

`bowl`    the readout is blind: J = const + (h r/2)|u|^2, H = h r I, no data gradient
`valley`  J = F(z) + (h r/2)|u|^2, z = sum_j L_j h sigma(b_j) + a bias that gives the wanted z
`pair`    a double block at u = 0: gradient 0, H with the eigenvalues h r and h (r +- L/4)

F'(z) = p - 1/2 and F''(z) = p (1 - p) with p = 1/(1 + exp(-z)); at z = -800 exactly -1/2 and 0.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import scipy.optimize

from ocp.controls import Controls
from ocp.files import TrainingFile
from ocp.problem import Problem


def statement(**changes) -> Problem:
    keys = {"inputs": np.zeros((2, 1)), "labels": [0, 1], "n_classes": 2, "depth": 1, "width": 1}
    return Problem(**(keys | {"beta": 0, "h": 0.5} | changes))


def file_at(problem: Problem, A=0.0, b=0.0, lift=None) -> TrainingFile:
    """A and b filled with numbers, or arrays of a shape that fits; a trained lift likewise."""
    N, n = problem.depth, problem.width
    parts = {"A": (A, (N, n, n)), "b": (b, (N, n))}
    if problem.block == "double":
        parts["W"] = (0.0, (N, n, n))
    if lift is not None:
        parts |= {"lift_weight": (lift, (n, 1)), "lift_bias": (0.0, (n,))}
    filled = {name: np.array(np.broadcast_to(v, s), dtype=float) for name, (v, s) in parts.items()}
    return TrainingFile(problem=problem, controls=Controls(**filled))


def bowl(A=0.0, b=0.0, lift=None, **changes) -> TrainingFile:
    problem = statement(**changes)
    blind = np.zeros((problem.n_classes, problem.width))
    return file_at(problem.with_(readout_weight=blind), A, b, lift)


def valley(L, z: float, b=0.0, A=0.0, lift=None, **changes) -> TrainingFile:
    problem = statement(**changes)
    at, slope = (np.array(np.broadcast_to(v, problem.width), dtype=float) for v in (b, L))
    reached = slope @ (problem.h * problem.sigma.derivatives(at, 0)[0])
    readout = {"readout_weight": np.outer([1.0, 0.0], slope)}
    readout["readout_bias"] = np.array([z - reached, 0.0])
    return file_at(problem.with_(**readout), A, b, lift)


def pair(L: float, **changes) -> TrainingFile:
    return valley(L, float(np.log(3.0)), block="double", **changes)


def next_to_a_saddle(by: float) -> TrainingFile:
    """A trained lift e whose least curvature h (r - L |F'| sqrt(1 + e^2)) changes sign at e*.

    At e* it is -h 1e-9; at e* + by, where the gradient is of that size, it may be above 0.
    """
    L, r_ends, bias = 4.0, 0.5, float(np.log(3.0))
    slope = lambda e: 1.0 / (1.0 + np.exp(-bias - L * e)) - 0.5  # noqa: E731
    at = scipy.optimize.brentq(lambda e: L * slope(e) + r_ends * e, -1.0, 0.0, xtol=1e-16)
    r = L * abs(slope(at)) * np.sqrt(1.0 + at**2) - 1e-9
    content = pair(L, lift=0.0, trained=("layers", "lift"), r=float(r), r_ends=r_ends)
    u = dataclasses.replace(content.controls, lift_bias=np.array([at + by]))
    return dataclasses.replace(content, controls=u)
