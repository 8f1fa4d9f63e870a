"""The Hessian of J over a box of controls, in ball arithmetic, by one backward sweep.

Derived anew from the statement.  In the local variables of layer k, z = (x, theta, u_k) with theta
a trained readout, the cost to go V_k(z) of one sample has

    V_k'' = Phi' P_{k+1} Phi + sum over stages of [ hw J' C'(diag p - p p')C J / n_d
            + V' diag(eta sigma'') V + (bilinear terms of A x and W sigma) ],

P_k its (x, theta) block, and T_k = d2V_k / dx d(u_k, u_{k+1}, ..) gives the other columns:
T_k = [V_k''[x, u_k], Phi_x' T_{k+1}],  d2J/du_k du_j = sum_i Phi_u' T_{k+1}[:, u_j], j > k.
All matrices are enclosures, so the result encloses the Hessian at every point of the box.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import arithmetic as balls
from .model import (
    BallModel,
    BallStage,
    end_slices,
    gradient_and_adjoints,
    parts_of,
    penalty,
    softmax,
    states,
)

Progress = Callable[[float], None]


def gradient_and_hessian(
    model: BallModel, u: np.ndarray, progress: Progress | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return enclosures of dJ/du, (d,), and of the Hessian, (d, d), over the box u.

    progress : called with the share of the work that is done

    Raises
    ------
    ContainsKink : the box reaches a point where the activation is not smooth; `index` is
        (layer, sample, unit)
    """
    problem = model.problem
    X, stages = states(model, u, order=2)
    g, kappas = gradient_and_adjoints(model, u, X, stages)
    q = parts_of(problem, u)
    A, W, C, c = q.A, q.W, q.C, q.c
    n, m, n_d, d = problem.width, problem.layer_size, problem.n_samples, len(u)
    lift, readout = end_slices(problem)
    t = readout.stop - readout.start
    H = balls.zeros(d, d)
    P = _loss_hessian(model, C, c, X, _end_jacobian(n_d, n, t), problem.gamma, readout)
    T = balls.zeros(n_d, n, 0)
    S = len(model.a)
    for k in reversed(range(problem.depth)):
        here = slice(k * S, k * S + S)
        Phi, steps = _layer(model, A[k], None if W is None else W[k], stages[here], t, m)
        local = balls.zeros(n_d, n + t + m, n + t + m)
        for stage, kappa, (J, V, dsigma) in zip(stages[here], kappas[here], steps, strict=True):
            eta = kappa if W is None else balls.matmul(kappa, W[k])
            local = local + _squares(V, eta * stage.sigma[2])
            local = local + _cross(J, eta * stage.sigma[1], n + t)
            if W is not None:
                local = local + _cross(dsigma, kappa, n + t + n * n + n)
            if problem.beta:
                weight = model.h * model.w[stage.s]
                local = local + _loss_hessian(model, C, c, stage.X, J, weight, readout)
        full = np.concatenate([Phi, _theta_rows(n_d, n, t, m)], axis=1)
        local = local + balls.matmul(_transpose(full), balls.matmul(P, full))
        P = local[:, : n + t, : n + t]
        own, later = slice(k * m, k * m + m), slice(k * m + m, problem.depth * m)
        H[own, own] = local[:, n + t :, n + t :].sum(axis=0)
        _put(H, own, readout, local[:, n + t :, n : n + t].sum(axis=0))
        if later.start < later.stop:
            Phi_u = Phi[:, :, n + t :].reshape(n_d * n, m)
            _put(H, own, later, balls.matmul(Phi_u.T, T.reshape(n_d * n, -1)))
            earlier = balls.matmul(_transpose(Phi[:, :, :n]), T)
        else:
            earlier = T
        T = np.concatenate([local[:, :n, n + t :], earlier], axis=2)
        if progress is not None:
            progress(1 - k / problem.depth)
    H[readout, readout] = P[:, n:, n:].sum(axis=0)
    if lift.start < lift.stop:
        B = _bilinear(model.inputs, n, 0, lift.stop - lift.start, bias=True)
        flat = B.reshape(n_d * n, -1).T
        layers = slice(0, problem.depth * m)
        _put(H, lift, layers, balls.matmul(flat, T.reshape(n_d * n, -1)))
        _put(H, lift, readout, balls.matmul(flat, P[:, :n, n:].reshape(n_d * n, -1)))
        H[lift, lift] = balls.matmul(_transpose(B), balls.matmul(P[:, :n, :n], B)).sum(axis=0)
    diagonal = np.arange(d)
    H[diagonal, diagonal] = H[diagonal, diagonal] + np.array(penalty(model), dtype=object)
    return g, H


def _layer(
    model: BallModel,
    A: np.ndarray,
    W: np.ndarray | None,
    stages: list[BallStage],
    t: int,
    m: int,
) -> tuple[np.ndarray, list[tuple[np.ndarray, np.ndarray, np.ndarray]]]:
    """Jacobian of one layer in (x, theta, u_k), (n_d, n, n + t + m), and of each stage (J, V, S):
    of the stage point, of the pre-activation and of sigma, same shape."""
    n_d, n = stages[0].X.shape
    identity = _end_jacobian(n_d, n, t + m)
    step = dK = None
    found = []
    for stage in stages:
        J = identity if dK is None else identity + (model.h * model.a[stage.s]) * dK
        V = _left(A, J) + _bilinear(stage.X, n, n + t, m, bias=True)
        dsigma = stage.sigma[1][:, :, None] * V
        found.append((J, V, dsigma))
        dK = dsigma
        if W is not None:
            before = n + t + n * n + n
            outer = _bilinear(stage.sigma[0], n, before, m - n * n - n, bias=False)
            dK = _left(W, dsigma) + outer
        weighted = model.w[stage.s] * dK
        step = weighted if step is None else step + weighted
    return identity + model.h * step, found


def final_jacobian(model: BallModel, u: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return an enclosure of d(rows x_N)/du_k for all layers over the box u, (n_d, r, N m).

    rows : (r, n) object array; trained ends are held fixed
    """
    problem = model.problem
    _, stages = states(model, u, order=1)
    q = parts_of(problem, u)
    n, m, n_d, S = problem.width, problem.layer_size, problem.n_samples, len(model.a)
    found = np.empty((n_d, len(rows), problem.depth * m), dtype=object)
    sweep = np.empty((n_d, *rows.shape), dtype=object)
    sweep[...] = rows
    for k in reversed(range(problem.depth)):
        W = None if q.W is None else q.W[k]
        Phi, _ = _layer(model, q.A[k], W, stages[k * S : k * S + S], 0, m)
        found[:, :, k * m : k * m + m] = balls.matmul(sweep, Phi[:, :, n:])
        sweep = balls.matmul(sweep, Phi[:, :, :n])
    return found


def _loss_hessian(
    model: BallModel,
    C: np.ndarray,
    c: np.ndarray,
    X: np.ndarray,
    J: np.ndarray,
    weight: float | balls.Ball,
    readout: slice,
) -> np.ndarray:
    """weight d2F in the local variables at states X with sensitivities J, (n_d, L, L)."""
    _, n, L = J.shape
    n_c = model.problem.n_classes
    weight = balls.exact(weight)[()] if isinstance(weight, float) else weight
    weight = weight / model.problem.n_samples
    p = softmax(model, C, c, X)
    # p_j (1 - p_j) = sum_l p_j p_l keeps the row sums of the enclosure near zero
    product = -(p[:, :, None] * p[:, None, :])
    off = ~np.eye(n_c, dtype=bool)
    product[:, ~off] = -np.where(off, product, balls.exact(0.0)[()]).sum(axis=2)
    Z = _left(C, J)
    t = readout.stop - readout.start
    if t:
        Z = Z + _bilinear(X, n_c, n, L - n, bias=True)
    found = balls.matmul(_transpose(Z), balls.matmul(weight * product, Z))
    return found + _cross(J, weight * (p - model.targets), n) if t else found


def _end_jacobian(n_d: int, n: int, more: int) -> np.ndarray:
    """d x / d(x, others) = [I 0], (n_d, n, n + more)."""
    return balls.exact(np.broadcast_to(np.eye(n, n + more), (n_d, n, n + more)))


def _theta_rows(n_d: int, n: int, t: int, m: int) -> np.ndarray:
    """d theta / d(x, theta, u) = [0 I 0], (n_d, t, n + t + m)."""
    return balls.exact(np.broadcast_to(np.eye(t, n + t + m, n), (n_d, t, n + t + m)))


def _left(M: np.ndarray, J: np.ndarray) -> np.ndarray:
    """Return M J_i for every sample in one product; M (r, n), J (n_d, n, L)."""
    n_d, n, L = J.shape
    wide = balls.matmul(M, J.transpose(1, 0, 2).reshape(n, n_d * L))
    return wide.reshape(len(M), n_d, L).transpose(1, 0, 2)


def _bilinear(X: np.ndarray, rows: int, before: int, after: int, bias: bool) -> np.ndarray:
    """d(M x + c)/d(.., M, c, ..): M row-major from column `before`, then c; `after` columns."""
    n_d, width = X.shape
    out = balls.zeros(n_d, rows, before + after)
    one = balls.exact(1.0)[()]
    for j in range(rows):
        out[:, j, before + j * width : before + (j + 1) * width] = X
        if bias:
            out[:, j, before + rows * width + j] = one
    return out


def _squares(V: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """V_i' diag(weight_i) V_i."""
    return balls.matmul(_transpose(V), weight[:, :, None] * V)


def _cross(J: np.ndarray, adjoint: np.ndarray, start: int) -> np.ndarray:
    """The second derivative of adjoint' M x: adjoint_j dM_jl dx_l, M row-major from `start`."""
    n_d, n, L = J.shape
    rows = adjoint.shape[1]
    block = (adjoint[:, :, None, None] * J[:, None, :, :]).reshape(n_d, rows * n, L)
    out = balls.zeros(n_d, L, L)
    out[:, start : start + rows * n] = block
    return out + _transpose(out)


def _put(H: np.ndarray, rows: slice, columns: slice, block: np.ndarray) -> None:
    if rows.start < rows.stop and columns.start < columns.stop:
        H[rows, columns] = block
        H[columns, rows] = block.T


def _transpose(batch: np.ndarray) -> np.ndarray:
    return batch.transpose(0, 2, 1)
