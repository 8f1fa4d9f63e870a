"""Directions along which J is constant to second order for a structural reason, named.

Each candidate is put into the reduced Hessian and counts only if H v vanishes there.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from ocp.controls import Controls, ends, flatten
from ocp.problem import Problem

from .hessian import Spectrum
from .states import batches, propagate


def null_directions(problem: Problem, controls: Controls, found: Spectrum) -> dict[str, np.ndarray]:
    """Return for each structural reason its exact null directions, (count, d)."""
    reasons: dict[str, list[np.ndarray]] = {}
    for reason, direction in _candidates(problem, controls):
        length = np.linalg.norm(direction)
        if length > 0 and np.linalg.norm(found.H @ direction) <= found.band * length:
            reasons.setdefault(reason, []).append(direction)
    return {reason: np.stack(directions) for reason, directions in reasons.items()}


def _candidates(problem: Problem, controls: Controls) -> Iterator[tuple[str, np.ndarray]]:
    if problem.r == 0:
        yield from _without_decay(problem, controls)
    if "readout" in problem.trained and problem.r_ends == 0:
        n, n_c = problem.width, problem.n_classes
        for j in range(n + 1):
            weight, bias = np.zeros((n_c, n)), np.zeros(n_c)
            if j < n:
                weight[:, j] = 1.0
            else:
                bias[:] = 1.0
            yield (
                "r_ends = 0: the same row added to every row of the readout",
                flatten(_zero(problem, readout_weight=weight, readout_bias=bias)),
            )
    if problem.activation == "identity":
        yield from _rotations(problem, controls)


def _without_decay(problem: Problem, controls: Controls) -> Iterator[tuple[str, np.ndarray]]:
    """r = 0: unread rows of the last layer, and rows that see linearly dependent states."""
    n, N = problem.width, problem.depth
    _, _, C, _ = ends(problem, controls)
    unread = np.flatnonzero(np.abs(C - C.mean(axis=0)).max(axis=0) == 0)
    for j in map(int, unread):
        for i in range(n + 1):
            yield (
                f"r = 0: the readout does not see row {j} of the last layer",
                _entry(problem, N - 1, j, i),
            )
    moments = np.zeros((N, n + 1, n + 1))
    alive = np.zeros((N, n), dtype=bool)
    # elsewhere a slope that is computed as 0 has only underflowed: tanh at 20 is no constant
    alive |= not problem.sigma.piecewise_linear
    for batch in batches(problem):
        run = propagate(problem, controls, batch)
        stacked = np.concatenate([run.Y, np.ones((*run.Y.shape[:-1], 1))], axis=-1)
        moments += np.einsum("ksia,ksib->kab", stacked, stacked, optimize=True)
        slope = problem.sigma.derivatives(run.V, 1)[1]
        alive |= (slope != 0).any(axis=(1, 2))
    for k in range(N):
        values, vectors = np.linalg.eigh(moments[k])
        for column in np.flatnonzero(values <= 1e-13 * values[-1]):
            for j in range(n):
                A, b = np.zeros((N, n, n)), np.zeros((N, n))
                A[k, j], b[k, j] = vectors[:n, column], vectors[n, column]
                yield (
                    f"r = 0: the states at layer {k} and 1 are linearly dependent",
                    flatten(_zero(problem, A=A, b=b)),
                )
        for j in map(int, np.flatnonzero(~alive[k])):
            for i in range(n + 1):
                yield f"r = 0: unit {j} of layer {k} is dead", _entry(problem, k, j, i)


def _rotations(problem: Problem, controls: Controls) -> Iterator[tuple[str, np.ndarray]]:
    """x' = W (A x + b) and |u| do not change under (W S', S A, S b), S a rotation."""
    n, N = problem.width, problem.depth
    if controls.W is None:
        return
    for k in range(N):
        for i in range(n):
            for j in range(i):
                S = np.zeros((n, n))
                S[i, j], S[j, i] = 1.0, -1.0
                A, b, W = np.zeros((N, n, n)), np.zeros((N, n)), np.zeros((N, n, n))
                A[k], b[k], W[k] = S @ controls.A[k], S @ controls.b[k], -controls.W[k] @ S
                yield (
                    "identity in a double block: hidden coordinates can be rotated",
                    flatten(_zero(problem, A=A, b=b, W=W)),
                )


def _entry(problem: Problem, k: int, row: int, column: int) -> np.ndarray:
    """Unit vector of A_k[row, column], or of b_k[row] for column = n."""
    n, N = problem.width, problem.depth
    A, b = np.zeros((N, n, n)), np.zeros((N, n))
    if column < n:
        A[k, row, column] = 1.0
    else:
        b[k, row] = 1.0
    return flatten(_zero(problem, A=A, b=b))


def _zero(problem: Problem, **parts: np.ndarray) -> Controls:
    """Zero controls of the right shapes with some parts given."""
    n, N = problem.width, problem.depth
    shapes: dict[str, tuple[int, ...]] = {"A": (N, n, n), "b": (N, n)}
    if problem.block == "double":
        shapes["W"] = (N, n, n)
    shapes |= {part: getattr(problem, part).shape for part in problem.trained_parts}
    return Controls(**{name: parts.get(name, np.zeros(shape)) for name, shape in shapes.items()})
