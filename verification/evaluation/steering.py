"""Steering every sample onto its minimiser, in float64: the equations and Gauss-Newton for them.

E(u) = (C_j - C_last) x_N + (c_j - c_last) - log(q_j / q_last) for every sample and j < n_c - 1, in
the controls of the layers alone.  What is proved of a solution is in `reachability`.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.linalg

from ocp.controls import Controls, ends, flatten, unflatten
from ocp.problem import SCHEMES, Problem

from .states import Pass, propagate, whole

#: Gauss-Newton has arrived when no equation is violated by more
ARRIVED = 1e-9
#: equations^2 x unknowns x iterations that Gauss-Newton may spend, some seconds
WORK = 4e8


def equations_and_jacobian(
    problem: Problem, controls: Controls, u: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """E(u), (n_d (n_c-1),), and dE/du of the layers alone, (n_d (n_c-1), N m), in float64.

    The slopes of every layer are taken at the stages of the forward pass; then the rows
    C_j - C_last are swept backwards through the layers.
    """
    moved = _with_layers(problem, controls, u)
    run = propagate(problem, moved, whole(problem))
    _, _, C, c = ends(problem, moved)
    n, m, N = problem.width, problem.layer_size, problem.depth
    n_d, rows = problem.n_samples, C[:-1] - C[-1]
    q = problem.soft_targets
    wanted = np.log(q[:, :-1] / q[:, -1:])
    values = run.X[-1] @ rows.T + (c[:-1] - c[-1]) - wanted
    sweep = np.broadcast_to(rows, (n_d, *rows.shape))
    jacobian = np.empty((n_d, len(rows), N * m))
    for k in reversed(range(N)):
        slope = _layer_slope(problem, moved, run, k)
        jacobian[:, :, k * m : k * m + m] = sweep @ slope[:, :, n:]
        sweep = sweep @ slope[:, :, :n]
    return values.ravel(), jacobian.reshape(-1, N * m)


def _layer_slope(problem: Problem, controls: Controls, run: Pass, k: int) -> np.ndarray:
    """dx_{k+1}/d(x_k, u_k), (n_d, n, n + m)."""
    nodes, weights = SCHEMES[problem.scheme]
    n, h, W = problem.width, problem.h, controls.W
    total = np.zeros((problem.n_samples, n, n + problem.layer_size))
    dK = np.zeros_like(total)
    diagonal = np.arange(n)
    for s, (a, w) in enumerate(zip(nodes, weights, strict=True)):
        dX = h * a * dK
        dX[:, diagonal, diagonal] += 1.0
        value, first = problem.sigma.derivatives(run.V[k, s], 1)
        dV = controls.A[k] @ dX
        for j in range(n):
            dV[:, j, n + j * n : n + j * n + n] += run.Y[k, s]
            dV[:, j, n + n * n + j] += 1.0
        dK = first[:, :, None] * dV
        if W is not None:
            dK = W[k] @ dK
            for j in range(n):
                start = n + n * n + n + j * n
                dK[:, j, start : start + n] += value
        total = total + w * dK
    total *= h
    total[:, diagonal, diagonal] += 1.0
    return total


def gauss_newton(
    problem: Problem,
    controls: Controls,
    progress: Callable[[str], None] = lambda text: None,
) -> tuple[np.ndarray, float]:
    """Levenberg-Marquardt on |E(u)|^2 with shortest steps: (u of the layers, largest |E|).

    The damping follows the residual first, and is constant in a second try where that is cheap.
    """
    unknowns = problem.depth * problem.layer_size
    equations = problem.n_samples * (problem.n_classes - 1)
    budget = int(np.clip(WORK / (equations**2 * unknowns), 30, 200))
    u, residual = _levenberg(problem, controls, progress, budget, 1e-2, True)
    if residual > ARRIVED and budget == 200:
        again, other = _levenberg(problem, controls, progress, budget, 1.0, False)
        if other < residual:
            u, residual = again, other
    return u, residual


def _levenberg(
    problem: Problem,
    controls: Controls,
    progress: Callable[[str], None],
    iterations: int,
    damping: float,
    follow: bool,
) -> tuple[np.ndarray, float]:
    u = flatten(controls)[: problem.depth * problem.layer_size].copy()
    values, jacobian = equations_and_jacobian(problem, controls, u)
    for iteration in range(iterations):
        size = float(np.abs(values).max())
        if iteration % 20 == 0:
            progress(f"reachability: Gauss-Newton, residual {size:.1e}")
        if size <= 1e-14 or not math.isfinite(size) or damping > 1e14:
            break
        gram = jacobian @ jacobian.T
        mean = float(np.trace(gram)) / len(gram)
        added = mean * (damping * (min(1.0, size) if follow else 1.0) + 1e-14)
        try:
            factor = scipy.linalg.cho_factor(gram + added * np.eye(len(gram)))
        except scipy.linalg.LinAlgError:
            damping *= 5.0
            continue
        step = -jacobian.T @ scipy.linalg.cho_solve(factor, values)
        with np.errstate(over="ignore", invalid="ignore"):
            new_values, new_jacobian = equations_and_jacobian(problem, controls, u + step)
        norm = np.linalg.norm(values)
        predicted = norm - np.linalg.norm(values + jacobian @ step)
        actual = norm - np.linalg.norm(new_values)
        if actual > 1e-4 * predicted:
            u, values, jacobian = u + step, new_values, new_jacobian
            damping *= 0.2 if actual > 0.5 * predicted else 1.0 if actual > 0.2 * predicted else 2.0
        elif size <= 1e-12:
            break  # rounding level
        else:
            damping *= 5.0
    return u, float(np.abs(values).max())


def _with_layers(problem: Problem, controls: Controls, u: np.ndarray) -> Controls:
    """The controls with the layers of u and their own ends."""
    return unflatten(problem, np.concatenate([u, flatten(controls)[len(u) :]]))
