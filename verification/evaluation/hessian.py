"""The reduced Hessian by two exact routes that share no intermediate quantity.

`by_condensing`   backward recursion on the cost-to-go: with C_k(x, u_k, ..) the cost from layer k,
                  its second derivatives in (x, u_k, later u) follow from those of C_{k+1} and the
                  layer's own; at k = 0 what remains is the Schur complement of the full KKT matrix
                  on the shared controls, Z'WZ.
`by_products`     Hessian-vector products: tangents of the states forwards, tangents of the
                  multipliers backwards, one direction a column.

Their difference, with rounding, is the error band of every eigenvalue (`spectrum`).
Reference: Nocedal and Wright, Numerical Optimization, 2nd ed., section 12.5 (projected Hessian).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.linalg

from ocp import loss
from ocp.controls import Controls, ends, flatten, penalty_diagonal, unflatten
from ocp.problem import SCHEMES, Problem

from .adjoint import Multipliers, loss_slope, multipliers
from .states import Batch, Pass, batches, logits, propagate

#: memory of the tangents of one block of directions
TANGENT_BYTES = 64 * 2**20


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Spectrum:
    """The reduced Hessian H (d, d) and its eigenvalues, ascending, with eigenvectors in columns.

    difference : |H_condensed - H_products|_2
    band : 10 d eps |H|_2 + difference; an eigenvalue within it of zero has no sign
    """

    H: np.ndarray
    eigenvalues: np.ndarray
    vectors: np.ndarray
    difference: float
    band: float


def spectrum(problem: Problem, controls: Controls) -> Spectrum:
    """Form H by both routes and decompose it.

    Raises
    ------
    FloatingPointError : an entry is not finite
    """
    H, other = by_condensing(problem, controls), by_products(problem, controls)
    if not (np.isfinite(H).all() and np.isfinite(other).all()):
        raise FloatingPointError("the reduced Hessian has entries that are not finite")
    eigenvalues, vectors = scipy.linalg.eigh(H)
    gap = H - 0.5 * (other + other.T)
    difference = float(np.abs(scipy.linalg.eigvalsh(gap)[[0, -1]]).max())
    norm = max(abs(eigenvalues[0]), abs(eigenvalues[-1]))
    band = 10 * len(H) * np.finfo(float).eps * norm + difference
    return Spectrum(
        H=H, eigenvalues=eigenvalues, vectors=vectors, difference=difference, band=float(band)
    )


def by_condensing(problem: Problem, controls: Controls) -> np.ndarray:
    """Return the reduced Hessian, (d, d), by condensing layer by layer from the last."""
    H = np.zeros((problem.n_decision, problem.n_decision))
    copies = 2 + problem.layer_size // 2 + problem.n_decision // (4 * problem.depth)
    for batch in batches(problem, copies=copies):
        _condense(problem, controls, batch, H)
    H = 0.5 * (H + H.T)
    H[np.diag_indices_from(H)] += penalty_diagonal(problem)
    return H


def _condense(problem: Problem, controls: Controls, batch: Batch, H: np.ndarray) -> None:
    """Add the samples of one batch to H (symmetrised by the caller: blocks u_k, later twice)."""
    run = propagate(problem, controls, batch)
    found = multipliers(problem, controls, batch, run)
    n, N, m = problem.width, problem.depth, problem.layer_size
    n_lift = problem.lift_weight.size + n if "lift" in problem.trained else 0
    n_p = problem.n_decision - N * m - n_lift  # trained readout
    samples = len(batch.s)
    ends_at = problem.n_decision - n_p
    read = slice(ends_at, problem.n_decision)
    # Second derivatives of the cost-to-go in x (V), x and the readout (Vp), x and later layers
    # (Vf), one set a sample: samples meet only in the controls, so blocks of H are sums over
    # samples and nothing of size n_d^2 is ever formed.  Pairs of distant layers need Vf alone.
    identity = np.broadcast_to(np.eye(n), (samples, n, n))
    nothing = np.zeros((samples, n, n_p))
    scale = problem.gamma / problem.n_samples
    rows, total = _cost_curvature(
        problem, controls, batch, run.X[N], np.concatenate([identity, nothing], axis=2), scale, n
    )
    V, Vp, Vf = rows[:, :, :n], rows[:, :, n:], np.zeros((samples, n, 0))
    H[read, read] += total[n:, n:]
    for k in reversed(range(N)):
        rows, total, J = _layer_curvature(problem, controls, batch, run, found, k, n_p)
        # chain rule: the layer's own curvature plus that of the cost-to-go pulled back through J;
        # per sample only rows of x_k are kept, since the next step pulls back through x_k alone
        VJ = V @ J
        rows += np.einsum("iax,ial->ixl", J[:, :, :n], VJ)
        total += np.einsum("iax,ial->xl", J, VJ, optimize=True)
        rows[:, :, n + m :] += np.einsum("iax,iap->ixp", J[:, :, :n], Vp)
        cross = np.einsum("iax,iap->xp", J[:, :, : n + m], Vp, optimize=True)
        total[: n + m, n + m :] += cross
        own, later = slice(k * m, (k + 1) * m), slice((k + 1) * m, N * m)
        H[own, own] += total[n : n + m, n : n + m]
        H[read, read] += total[n + m :, n + m :]
        _add_pair(H, own, read, total[n : n + m, n + m :])
        flat = J[:, :, n : n + m].reshape(samples * n, m)
        _add_pair(H, own, later, flat.T @ Vf.reshape(samples * n, Vf.shape[2]))
        Vf = np.concatenate(
            [rows[:, :, n : n + m], np.einsum("iax,iaf->ixf", J[:, :, :n], Vf)], axis=2
        )
        V, Vp = rows[:, :, :n], rows[:, :, n + m :]
    if n_lift:
        own = slice(N * m, ends_at)
        J = np.concatenate([_rows(batch.s, n), identity], axis=2)
        H[own, own] += np.einsum("iaj,iab,ibl->jl", J, V, J, optimize=True)
        _add_pair(H, own, slice(0, N * m), np.einsum("iaj,iaf->jf", J, Vf, optimize=True))
        _add_pair(H, own, read, np.einsum("iaj,iap->jp", J, Vp, optimize=True))


def _add_pair(H: np.ndarray, one: slice, other: slice, block: np.ndarray) -> None:
    H[one, other] += block
    H[other, one] += block.T


def _rows(Y: np.ndarray, n: int) -> np.ndarray:
    """d(A Y)/dA for A with n rows, row by row: (m, n, n * cols)."""
    return np.einsum("ab,ij->iabj", np.eye(n), Y).reshape(len(Y), n, -1)


def _cost_curvature(
    problem: Problem,
    controls: Controls,
    batch: Batch,
    Y: np.ndarray,
    T: np.ndarray,
    scale: float,
    first: int,
) -> tuple[np.ndarray, np.ndarray]:
    """Second derivatives of scale * g(C Y + c) in the local variables, Y having the tangent T.

    T : dY, (m, n, L), whose last columns are the readout's own (zero there).
    Returns (rows of the first `first` variables for each sample, sum over samples (L, L)).
    """
    _, _, C, _ = ends(problem, controls)
    L, n_c = T.shape[2], problem.n_classes
    n_p = C.size + n_c if "readout" in problem.trained else 0
    Z = C @ T  # dz
    if n_p:
        Z = Z.copy()
        Z[:, :, L - n_p :] += np.concatenate(
            [_rows(Y, n_c), np.broadcast_to(np.eye(n_c), (len(Y), n_c, n_c))], axis=2
        )
    p = loss.softmax(logits(problem, controls, Y))
    PZ = p[:, :, None] * (Z - np.einsum("ic,icl->il", p, Z)[:, None, :])
    rows = scale * np.einsum("icx,icl->ixl", Z[:, :, :first], PZ)
    total = scale * np.einsum("icx,icl->xl", Z, PZ, optimize=True)
    if n_p:
        slope = scale * (p - batch.q)
        at = slice(L - n_p, L - n_c)
        G = np.einsum("ic,inl->cnl", slope, T).reshape(-1, L)
        total[at] += G
        total[:, at] += G.T
        rows[:, :, at] += np.einsum("ic,inx->ixcn", slope, T[:, :, :first]).reshape(
            len(Y), first, -1
        )
    return rows, total


def _layer_curvature(
    problem: Problem,
    controls: Controls,
    batch: Batch,
    run: Pass,
    found: Multipliers,
    k: int,
    n_p: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Second derivatives of one layer's Lagrangian in (x_k, u_k, readout), and its Jacobian.

    Returns rows (m, n, L) of x for each sample, their sum over samples with all rows (L, L), and
    J = dx_{k+1}/d(x_k, u_k, readout), (m, n, L).
    """
    nodes, weights = SCHEMES[problem.scheme]
    n, m, h = problem.width, problem.layer_size, problem.h
    samples, L = len(batch.s), problem.width + problem.layer_size + n_p
    A, W = controls.A[k], None if controls.W is None else controls.W[k]
    at_A, at_b, at_W = (
        slice(n, n + n * n),
        slice(n + n * n, 2 * n + n * n),
        slice(2 * n + n * n, n + m),
    )
    base = np.zeros((samples, n, L))
    base[:, :, :n] = np.eye(n)
    J, dK = base.copy(), np.zeros_like(base)
    rows, total = np.zeros((samples, n, L)), np.zeros((L, L))
    for s, (a, w) in enumerate(zip(nodes, weights, strict=True)):
        T = base + (h * a) * dK
        Y, v = run.Y[k, s], run.V[k, s]
        value, d1, d2 = problem.sigma.derivatives(v, 2)
        R = A @ T  # dv
        R[:, :, at_A] += _rows(Y, n)
        R[:, :, at_b] += np.eye(n)
        S = d1[:, :, None] * R  # d sigma(v)
        kappa, zeta = found.kappa[k, s], found.zeta[k, s]
        pulled = kappa if W is None else kappa @ W
        DR = (pulled * d2)[:, :, None] * R
        rows += np.einsum("iax,ial->ixl", R[:, :, :n], DR)
        total += np.einsum("iax,ial->xl", R, DR, optimize=True)
        _bilinear(rows, total, zeta, T, at_A)
        if W is None:
            dK = S
        else:
            dK = W @ S
            dK[:, :, at_W] += _rows(value, n)
            _bilinear(rows, total, kappa, S, at_W)
        if problem.beta:
            scale = h * w / problem.n_samples
            more_rows, more = _cost_curvature(problem, controls, batch, Y, T, scale, n)
            rows += more_rows
            total += more
        J = J + (h * w) * dK
    return rows, total, J


def _bilinear(
    rows: np.ndarray, total: np.ndarray, zeta: np.ndarray, T: np.ndarray, at: slice
) -> None:
    """Add the second derivative of sum_ab zeta_a M_ab y_b, y having the tangent T, M at `at`."""
    n, L = rows.shape[1], total.shape[0]
    G = np.einsum("ia,ibl->abl", zeta, T, optimize=True).reshape(-1, L)
    total[at] += G
    total[:, at] += G.T
    rows[:, :, at] += np.einsum("ia,ibx->ixab", zeta, T[:, :, :n]).reshape(len(rows), n, -1)


def by_products(problem: Problem, controls: Controls) -> np.ndarray:
    """Return the reduced Hessian, (d, d), column by column from Hessian-vector products."""
    return products(problem, controls, np.eye(problem.n_decision)).T


def products(problem: Problem, controls: Controls, directions: np.ndarray) -> np.ndarray:
    """Return H d for each row d of directions, (D, d)."""
    result = directions * penalty_diagonal(problem)
    for batch in batches(problem, copies=2):
        run = propagate(problem, controls, batch)
        found = multipliers(problem, controls, batch, run)
        numbers = len(batch.s) * problem.width * problem.depth * run.Y.shape[1] * 3
        size = max(1, TANGENT_BYTES // (8 * numbers))
        for start in range(0, len(directions), size):
            part = slice(start, start + size)
            result[part] += _tangent(problem, controls, batch, run, found, directions[part])
    return result


def _tangent(
    problem: Problem,
    controls: Controls,
    batch: Batch,
    run: Pass,
    found: Multipliers,
    directions: np.ndarray,
) -> np.ndarray:
    """Derivative of the data part of the gradient along each direction, (D, d)."""
    d = unflatten(problem, directions)
    nodes, weights = SCHEMES[problem.scheme]
    h, N, S = problem.h, problem.depth, len(nodes)
    D, samples, n, W = len(directions), len(batch.s), problem.width, controls.W
    dx = np.zeros((D, samples, n))
    if d.lift_weight is not None and d.lift_bias is not None:
        dx = batch.s @ d.lift_weight.mT + d.lift_bias[:, None]
    dY, dV = (np.empty((N, S, D, samples, n)) for _ in range(2))
    for k in range(N):
        step, dK = np.zeros_like(dx), np.zeros_like(dx)
        for s in range(S):
            dY[k, s] = dx if s == 0 else dx + (h * nodes[s]) * dK
            dV[k, s] = run.Y[k, s] @ d.A[:, k].mT + dY[k, s] @ controls.A[k].T + d.b[:, k, None]
            value, d1 = problem.sigma.derivatives(run.V[k, s], 1)
            dK = d1 * dV[k, s]
            if d.W is not None and W is not None:
                dK = dK @ W[k].T + value @ d.W[:, k].mT
            step = step + weights[s] * dK
        dx = dx + h * step
    scale = problem.gamma / problem.n_samples
    out: dict[str, np.ndarray] = {"A": np.empty_like(d.A), "b": np.empty_like(d.b)}
    if d.W is not None:
        out["W"] = np.zeros_like(d.W)
    if d.readout_weight is not None and d.readout_bias is not None:
        out["readout_weight"] = np.zeros_like(d.readout_weight)
        out["readout_bias"] = np.zeros_like(d.readout_bias)
    lam = _cost_tangent(problem, controls, batch, run.X[N], dx, d, scale, out)
    for k in reversed(range(N)):
        mu, total = np.zeros_like(lam), lam
        dA, db = 0.0, 0.0
        for s in reversed(range(S)):
            following = nodes[s + 1] if s + 1 < S else 0.0
            dkappa = h * (weights[s] * lam + following * mu)
            value, d1, d2 = problem.sigma.derivatives(run.V[k, s], 2)
            kappa, zeta = found.kappa[k, s], found.zeta[k, s]
            pulled, dpulled = kappa, dkappa
            if d.W is not None and W is not None:
                pulled = kappa @ W[k]
                dpulled = dkappa @ W[k] + kappa @ d.W[:, k]
                out["W"][:, k] += dkappa.mT @ value + kappa.T @ (d1 * dV[k, s])
            dzeta = dpulled * d1 + (pulled * d2) * dV[k, s]
            dA = dA + dzeta.mT @ run.Y[k, s] + zeta.T @ dY[k, s]
            db = db + dzeta.sum(axis=1)
            mu = dzeta @ controls.A[k] + zeta @ d.A[:, k]
            if problem.beta:
                weight = h * weights[s] / problem.n_samples
                mu = mu + _cost_tangent(
                    problem, controls, batch, run.Y[k, s], dY[k, s], d, weight, out
                )
            total = total + mu
        out["A"][:, k], out["b"][:, k] = dA, db
        lam = total
    if d.lift_weight is not None:
        out["lift_weight"], out["lift_bias"] = lam.mT @ batch.s, lam.sum(axis=1)
    return _flatten_rows(out)


def _cost_tangent(
    problem: Problem,
    controls: Controls,
    batch: Batch,
    Y: np.ndarray,
    dY: np.ndarray,
    d: Controls,
    scale: float,
    out: dict[str, np.ndarray],
) -> np.ndarray:
    """Derivative of scale * grad g(C Y + c) in Y; the readout's own part is added to `out`."""
    _, _, C, _ = ends(problem, controls)
    p = loss.softmax(logits(problem, controls, Y))
    dz = dY @ C.T
    if d.readout_weight is not None and d.readout_bias is not None:
        dz = dz + Y @ d.readout_weight.mT + d.readout_bias[:, None]
    dp = scale * p * (dz - (p * dz).sum(axis=-1, keepdims=True))
    if d.readout_weight is None:
        return dp @ C
    slope = scale * loss_slope(problem, controls, Y, batch)
    out["readout_weight"] += dp.mT @ Y + slope.T @ dY
    out["readout_bias"] += dp.sum(axis=1)
    return dp @ C + slope @ d.readout_weight


def _flatten_rows(parts: dict[str, np.ndarray]) -> np.ndarray:
    """Flatten parts with a leading axis of directions, (D, d)."""
    size = len(parts["A"])
    return np.stack([flatten(Controls(**{k: v[i] for k, v in parts.items()})) for i in range(size)])
