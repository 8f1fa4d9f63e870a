"""The Hessian of J over a box of controls in midpoint-radius matrices, in chunks of samples.

Derived anew from the statement; `hessian` does the same in balls and is the oracle of the tests.
In the local variables of layer k, z = (x, u_k), with V_k the cost to go of one sample,

    V_k'' = Phi' P Phi + sum over stages of [ J' C' Q C J + D' diag(eta sigma'') D
            + (bilinear terms of A X and W sigma) ],     P = d2V_{k+1}/dx2, Q = w (diag p - p p'),

J and D the Jacobians of the stage point and of its pre-activation.  Only the rows of x are kept
for every sample; the block of u_k is summed over samples by one product.  The columns of
T = d2V/dx d(later controls, trained readout) give the other blocks:

    T_k = [V_k''[x, u_k], Phi_x' T_{k+1} + sum over stages of J_x' M],
    d2J/du_k d(later) = sum_i Phi_u' T_{k+1} + sum over stages of J_u' M,

M = d2(w g)/dX d(C, c) in the readout's columns.  All factors enclose their values on the box, so
the result encloses the Hessian at every one of its points.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ocp.controls import ends, unflatten
from ocp.problem import Problem

from . import arithmetic as balls
from . import midrad
from .activations import ContainsKink
from .midrad import MidRad, matmul
from .midrad_functions import derivatives
from .midrad_layer import Parts, Stage, bilinear, flat, loss, summed, sweep
from .model import BallModel, end_slices, penalty

#: bytes of one chunk of samples
CHUNK_BYTES = 2**28


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Statement:
    """The constants of the statement; MidRad scalars are 0-d.

    a : h a_s;  w : h w_s;  data_w : beta h w_s / n_d, per stage;  final : gamma / n_d
    inputs : (n_d, n_in);  targets : (n_d, n_c);  penalty : (d,)
    """

    problem: Problem
    a: list[MidRad]
    w: list[MidRad]
    data_w: list[MidRad]
    final: MidRad
    inputs: MidRad
    targets: MidRad
    penalty: MidRad


def statement(model: BallModel) -> Statement:
    """Round the constants of the ball model outwards to floats."""
    problem = model.problem
    rounded = lambda values: midrad.enclose(np.array(values, dtype=object))  # noqa: E731
    per_sample = [problem.beta * model.h * w / problem.n_samples for w in model.w]
    final = balls.exact(problem.gamma)[()] / problem.n_samples
    return Statement(
        problem=problem,
        a=[rounded(model.h * a) for a in model.a],
        w=[rounded(model.h * w) for w in model.w],
        data_w=[rounded(w) for w in per_sample],
        final=rounded(final),
        inputs=midrad.enclose(model.inputs),
        targets=midrad.enclose(model.targets),
        penalty=rounded(penalty(model)),
    )


def _parts(problem: Problem, u: MidRad) -> Parts:
    mid, wide = unflatten(problem, u.mid), unflatten(problem, u.rad)
    W = None if mid.W is None or wide.W is None else MidRad(mid.W, wide.W)
    # what is not trained is the same array of the problem in both
    both = zip(ends(problem, mid), ends(problem, wide), strict=True)
    E, e, C, c = (midrad.exact(m) if r is m else MidRad(m, r) for m, r in both)
    return Parts(MidRad(mid.A, wide.A), MidRad(mid.b, wide.b), W, E, e, C, c)


def hessian(model: Statement, u: MidRad, progress: Callable[[float], None] | None = None) -> MidRad:
    """Return an enclosure of the Hessian over the box u, (d, d).

    progress : called with the share of the work that is done

    Raises
    ------
    ContainsKink : the box reaches a point where the activation is not smooth; `index` is
        (layer, sample, unit)
    """
    problem = model.problem
    d, n_d = problem.n_decision, problem.n_samples
    H, q = midrad.zeros(d, d), _parts(problem, u)
    size = max(1, int(CHUNK_BYTES // bytes_per_sample(problem)))
    for start in range(0, n_d, size):
        rows = slice(start, min(start + size, n_d))
        told = lambda done, rows=rows: (  # noqa: E731
            progress and progress((rows.start + done * (rows.stop - rows.start)) / n_d)
        )
        _Chunk(model, q, rows).add_to(H, told)
    for part in (H.mid, H.rad):
        part[...] = np.triu(part) + np.triu(part, 1).T
    diagonal = np.arange(d)
    H[diagonal, diagonal] = H[diagonal, diagonal] + model.penalty
    return H


def bytes_per_sample(problem: Problem) -> int:
    """What one sample of a chunk takes: T and its update, stages, the Jacobians of a layer."""
    n, n_c, m = problem.width, problem.n_classes, problem.layer_size
    lift, readout = end_slices(problem)
    t, e = readout.stop - readout.start, lift.stop - lift.start
    stages = 4 if problem.scheme == "rk4" else 2
    columns = problem.depth * m + t
    local = (n + m) * (4 * n + n_c) * stages + t * (n + n_c) * 4 + 3 * n * e + 6 * n_c * n_c
    return 16 * (3 * n * columns + 5 * stages * problem.depth * n + 3 * local)


class _Chunk:
    """The samples `rows`: forward sweep on construction, then `add_to` sweeps back."""

    def __init__(self, model: Statement, q: Parts, rows: slice) -> None:
        self.model, self.q, self.rows = model, q, rows
        self.n_i = rows.stop - rows.start
        self.targets, self.inputs = model.targets[rows], model.inputs[rows]
        x = matmul(self.inputs, q.E.T) + q.e
        self.stages: list[Stage] = []
        for k in range(model.problem.depth):
            start, K = x, x
            for s, (a, w) in enumerate(zip(model.a, model.w, strict=True)):
                X = start if s == 0 else start + a * K
                v = matmul(X, q.A[k].T) + q.b[k]
                try:
                    sigma = derivatives(model.problem.sigma, v)
                except ContainsKink as kink:
                    i, j = kink.index
                    raise ContainsKink((k, i + rows.start, j)) from None
                K = sigma[0] if q.W is None else matmul(sigma[0], q.W[k].T)
                x = x + w * K
                self.stages.append(Stage(X, sigma))
        self.x = x

    def add_to(self, H: MidRad, progress: Callable[[float], object]) -> None:
        """Add the second derivatives of these samples' cost to the upper triangle of H."""
        model, q, n_i = self.model, self.q, self.n_i
        n, m, N = model.problem.width, model.problem.layer_size, model.problem.depth
        lift, readout = end_slices(model.problem)
        t, S = readout.stop - readout.start, len(model.a)
        T = midrad.zeros(n_i, n, N * m + t)
        last = loss(q, self.x, self.targets, model.final, t)
        costate, P = matmul(last.slope, q.C), matmul(q.C.T, matmul(last.Q, q.C))
        if last.M is not None and last.end is not None:
            T[..., N * m :] = last.M
            _add(H, readout, readout, last.end)
        for k in reversed(range(N)):
            stages, losses = self.stages[k * S : k * S + S], None
            if model.problem.beta:
                weighted = zip(stages, model.data_w, strict=True)
                losses = [loss(q, stage.X, self.targets, w, t) for stage, w in weighted]
            done = sweep(q, k, stages, losses, model.a, model.w, costate, P)
            costate, P = done.costate, done.rows[..., :n]
            here, later = slice(k * m, k * m + m), slice(k * m + m, N * m + t)
            _add(H, here, here, done.own)
            block = summed(done.Phi[..., n:], T[..., later], sparse=q.W is None and S == 1)
            new = matmul(done.Phi[..., :n].T, T[..., later])
            if done.seen is not None and done.end is not None:
                end = slice(new.shape[-1] - t, new.shape[-1])
                new[..., end] = new[..., end] + done.seen[0]
                block[:, end] = block[:, end] + done.seen[1]
                _add(H, readout, readout, done.end)
            T[..., later], T[..., here] = new, done.rows[..., n:]
            inner = (N - k - 1) * m
            _add(H, here, slice(k * m + m, N * m), block[:, :inner])
            _add(H, here, readout, block[:, inner:])
            progress(1 - k / N)
        if lift.start < lift.stop:
            B = bilinear(self.inputs, n, 0, lift.stop - lift.start, bias=True)
            block = matmul(flat(B).T, flat(T))
            _add(H, slice(0, N * m), lift, block[:, : N * m].T)
            _add(H, lift, readout, block[:, N * m :])
            _add(H, lift, lift, matmul(flat(B).T, flat(matmul(P, B))))


def _add(H: MidRad, rows: slice, columns: slice, block: MidRad) -> None:
    if rows.start < rows.stop and columns.start < columns.stop:
        H[rows, columns] = H[rows, columns] + block
