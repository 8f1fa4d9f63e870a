"""Minima of one problem at several depths, each grown from the one before."""

from __future__ import annotations

import functools

import numpy as np
from small_minima import minimise, small
from zoo import claimed

from ocp.controls import near_zero, random_start
from ocp.files import TrainingFile


@functools.cache
def grown(beta: int, depths: tuple[int, ...] = (6, 9, 12)) -> tuple[TrainingFile, ...]:
    """Minima at ascending depths, each from the last with nearly idle layers appended."""
    problem = small(depth=depths[0], beta=beta, r=1e-3)
    u = minimise(problem, random_start(problem, np.random.default_rng(0), 0.5))
    files = [claimed(problem, u)]
    for depth in depths[1:]:
        more = depth - problem.depth
        tail = near_zero(problem.with_(depth=more), np.random.default_rng(depth), 1e-3)
        problem = problem.with_(depth=depth)
        u = minimise(problem, u.followed_by(tail))
        files.append(claimed(problem, u))
    return tuple(files)
