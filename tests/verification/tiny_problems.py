"""Networks of width 1 whose global minimum is proved in a tenth of a second, and points of them."""

from __future__ import annotations

import functools

import numpy as np
import oracle

from ocp.controls import unflatten
from ocp.files import TrainingFile
from ocp.problem import Problem

#: inputs and labels of four numbers that x -> -x takes to the other class
TWINS = (((-1.5,), (-0.6,), (0.6,), (1.5,)), (0, 1, 0, 1))


def tiny(depth: int = 1, **changes) -> Problem:
    """Six numbers in two classes, one logit of the state against 0."""
    keys = {
        "inputs": np.array([[-1.5], [-0.6], [0.4], [1.2], [0.8], [-1.1]]),
        "labels": np.array([0, 0, 1, 1, 1, 0]),
        **{"n_classes": 2, "width": 1, "depth": depth, "h": 1.0, "r": 1e-2},
    }
    return Problem(**(keys | changes))


def flow(depth: int = 2, **changes) -> Problem:
    """Separable numbers, steps of 1/2, a sharp readout: training more than halves J(0)."""
    return tiny(
        depth,
        inputs=np.array([[-0.3], [-0.2], [0.1], [0.3]]),
        labels=np.array([0, 0, 1, 1]),
        **({"h": 0.5, "readout_weight": np.array([[3.0], [-3.0]])} | changes),
    )


def twins(depth: int = 1, **changes) -> Problem:
    """Four numbers in two classes: (a, b) -> (a, -b) exchanges the classes."""
    inputs, labels = TWINS
    return tiny(depth, **({"inputs": np.array(inputs), "labels": np.array(labels)} | changes))


def at(problem: Problem, u) -> TrainingFile:
    return TrainingFile(problem=problem, controls=unflatten(problem, np.array(u, dtype=float)))


@functools.cache
def minimum(start: tuple[float, ...], changes: tuple = ()) -> TrainingFile:
    """The minimum of the twins that the oracle's solver finds from there, one layer each pair."""
    problem = twins(len(start) // 2, **dict(changes))
    return at(problem, oracle.minimise(problem, np.array(start), rounds=1))


#: one layer: J = 1.20005 and 1.20431;  two layers: the same two by mirror images
LOWEST, LOCAL, PAIR = (0.3, -0.3), (-1.4, -2.5), (-1.1, 0.7, 2.6, 1.9)
