"""Many starts at once: J, gradient and Hessian of a batch of controls for Euler's method.

At depth 5 four fifths of one evaluation are NumPy's overhead; a batch pays it once.  For Euler,
single block and fixed ends the layer is [A b] times X = (x, 1), so with all arrays
(layers, starts, .., samples), D = h sigma', P = P_{k+1} as in `assembly_euler`, a block k < k' is

    T_k'[k'] = (C D + A' diag(bend), I),  T_k'[k] = F_x(k)' T_k'[k+1] = T + A_k' (D_k T)
    H_kk'    = sum_samples (D_k T_M)_jj' X_kl X_k'l'  +  (D_k T_I)_jl' zeta_k'j' X_kl

The weights D T are what the transport needs anyway, n^2 numbers instead of n m, and the sums are
small matrix products, for all pairs of layers and all starts in one call.  For narrow networks
that is faster than the combination of `assembly` even for one start.

Variables are ordered layer by layer, row by row of [A b]: `pack` and `unpack`.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..controls import Controls
from ..problem import Problem
from . import assembly_euler
from .sweeps import Constants

#: doubles in the weights of one chunk of starts and samples: 4 MB, measured best
CHUNK_DOUBLES = 1 << 19
#: of wider networks the products of `assembly` are faster
WIDEST = 6


def applies(problem: Problem) -> bool:
    """Whether batches of this problem can be evaluated."""
    return assembly_euler.applies(problem) and problem.width <= WIDEST


def pack(controls: list[Controls]) -> np.ndarray:
    """Return controls as rows (starts, d), in the order of this file."""
    rows = [np.concatenate([u.A, u.b[..., None]], axis=2).ravel() for u in controls]
    return np.stack(rows)


def unpack(problem: Problem, u: np.ndarray) -> Controls:
    """Return the controls of one row, (d,)."""
    n = problem.width
    M = u.reshape(problem.depth, n, n + 1)
    return Controls(A=M[..., :n].copy(), b=M[..., n].copy())


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Sweep:
    """J (starts,), dJ/du (starts, d), and what the Hessians need.

    E : (x, 1), (N + 1, starts, n + 1, samples);  D, zeta, bend : (N, starts, n, samples)
    p : softmax at the loss points that count, (points, starts, n_c, samples)
    """

    M: np.ndarray
    objective: np.ndarray
    gradient: np.ndarray
    E: np.ndarray
    D: np.ndarray
    zeta: np.ndarray
    bend: np.ndarray
    p: np.ndarray

    def of(self, rows: np.ndarray) -> Sweep:
        """Return the sweep of some starts."""
        return Sweep(
            M=self.M[rows],
            objective=self.objective[rows],
            gradient=self.gradient[rows],
            **{name: getattr(self, name)[:, rows] for name in ("E", "D", "zeta", "bend", "p")},
        )


def sweep(constants: Constants, u: np.ndarray) -> Sweep:
    """Evaluate J and its gradient at all rows of u, (starts, d)."""
    problem = constants.problem
    N, n, n_d, B, h = problem.depth, problem.width, problem.n_samples, len(u), problem.h
    M = u.reshape(B, N, n, n + 1)
    by_layer = np.ascontiguousarray(M.transpose(1, 0, 2, 3))
    C, c, first = problem.readout_weight, problem.readout_bias, constants.first
    E = np.empty((N + 1, B, n + 1, n_d))
    E[:, :, n] = 1.0
    E[0, :, :n] = (constants.inputs @ problem.lift_weight.T + problem.lift_bias).T
    D, zeta, bend = (np.empty((N, B, n, n_d)) for _ in range(3))
    for k in range(N):
        value, slope, bend[k] = problem.sigma.derivatives(by_layer[k] @ E[k], 2)
        np.multiply(slope, h, out=D[k])
        np.multiply(value, h, out=E[k + 1, :, :n])
        E[k + 1, :, :n] += E[k, :, :n]
    bend *= h
    z = C @ E[first:, :, :n]
    z += c[:, None]
    g, p = _loss(z, constants.targets.T)
    weights = constants.weights[first:]
    J = weights @ (g.mean(axis=-1) - constants.entropy)
    J += 0.5 * h * problem.r * (u * u).sum(axis=1)
    residual = (p - constants.targets.T) * (weights / n_d)[:, None, None, None]
    dloss = C.T @ residual
    adjoint = dloss[-1]
    transposed = np.ascontiguousarray(by_layer[..., :n].mT)
    for k in range(N - 1, -1, -1):
        np.multiply(adjoint, D[k], out=zeta[k])
        bend[k] *= adjoint
        adjoint = adjoint + transposed[k] @ zeta[k]
        if first == 0:
            adjoint += dloss[k]
    gradient = (zeta @ E[:N].mT).transpose(1, 0, 2, 3).reshape(B, -1) + (h * problem.r) * u
    return Sweep(M=M, objective=J, gradient=gradient, E=E, D=D, zeta=zeta, bend=bend, p=p)


def hessians(constants: Constants, at: Sweep) -> np.ndarray:
    """Return the Hessians at all points of a sweep, (starts, d, d), symmetric to rounding."""
    problem = constants.problem
    B, N, n = len(at.M), problem.depth, problem.width
    H = np.zeros((B, N, n, n + 1, N, n, n + 1))
    per_start = N * (N + 1) * n * n
    samples = max(1, min(problem.n_samples, CHUNK_DOUBLES // per_start))
    parts = np.array_split(np.arange(problem.n_samples), -(-problem.n_samples // samples))
    starts = max(1, CHUNK_DOUBLES // (per_start * len(parts[0])))
    for rows in np.array_split(np.arange(B), -(-B // starts)):
        own = slice(rows[0], rows[-1] + 1)
        for part in parts:
            _add(H[own], constants, at, own, slice(part[0], part[-1] + 1))
    flat = H.reshape(B, at.gradient.shape[1], -1)
    diagonal = np.arange(flat.shape[1])
    flat[:, diagonal, diagonal] += problem.h * problem.r
    return flat


def _add(H: np.ndarray, constants: Constants, at: Sweep, own: slice, part: slice) -> None:
    """Add the upper blocks of some starts and samples."""
    N, n = constants.problem.depth, constants.problem.width
    E, D, zeta, bend = (X[:, own, :, part] for X in (at.E, at.D, at.zeta, at.bend))
    B, samples = E.shape[1], E.shape[3]
    A = np.ascontiguousarray(at.M[own].transpose(1, 0, 2, 3)[..., :n])
    transposed = np.ascontiguousarray(A.mT)
    L = _loss_hessians(constants, at.p[:, own, :, part])
    pairs = (A[..., None] * A[..., None, :]).reshape(N, B, n, n * n)
    Q = (pairs.mT @ bend).reshape(N, B, n, n, samples)
    if constants.first == 0:
        Q += L[:N]
    first, second = np.triu_indices(N, 1)
    start = np.searchsorted(first, np.arange(N + 1))
    # weights of the pairs of layers: (pair, T_M and T_I, starts, j, j' or l', samples)
    W = np.empty((len(first), 2, B, n, n, samples))
    T = np.empty((N, 2, B, n, n, samples))
    T[:, 1] = np.eye(n)[..., None]
    own_W = np.empty((N, B, n, n, samples))
    P = L[-1]
    flat = (-1, 2, B, n, n * samples)
    for k in range(N - 1, -1, -1):
        Dk = D[k][:, :, None]
        DP = Dk * P
        np.multiply(DP, D[k][:, None], out=own_W[k])
        C = (transposed[k] @ DP.reshape(B, n, n * samples)).reshape(DP.shape)
        C += P
        CD = C * D[k][:, None]
        if k < N - 1:
            pairs_k = W[start[k] : start[k + 1]]
            np.multiply(Dk, T[k + 1 :], out=pairs_k)
            T[k + 1 :] += (transposed[k] @ pairs_k.reshape(flat)).reshape(pairs_k.shape)
        np.multiply(transposed[k][..., None], bend[k][:, None], out=T[k, 0])
        T[k, 0] += CD
        P = transposed[k][:, None] @ CD
        P += C
        P += Q[k]
    diagonal, layers = np.arange(n), np.arange(N)
    own_W[:, :, diagonal, diagonal] += bend
    block = _sums(own_W, E[:N], E[:N])  # j j' l l'
    H[:, layers, :, :, layers] += block.transpose(0, 1, 2, 4, 3, 5)
    if N == 1:
        return
    left = E[first]
    block = _sums(W[:, 0], left, E[second]).transpose(0, 1, 2, 4, 3, 5)
    block[..., :n] += _sums(W[:, 1], left, zeta[second]).transpose(0, 1, 2, 4, 5, 3)
    H[:, first, :, :, second] += block
    H[:, second, :, :, first] += block.transpose(0, 1, 4, 5, 2, 3)


def _sums(W: np.ndarray, left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """sum over the samples of W_ab left_c right_d, (pairs, starts, a, b, c, d)."""
    pairs, B, a, b, samples = W.shape
    c, d = left.shape[2], right.shape[2]
    gram = (left[:, :, :, None] * right[:, :, None]).reshape(pairs, B, c * d, samples)
    return (W.reshape(pairs, B, a * b, samples) @ gram.mT).reshape(pairs, B, a, b, c, d)


def _loss(z: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy without its constant, (..., samples), and softmax, as z (..., n_c, samples)."""
    if z.shape[-2] == 2:  # as in `sweeps`
        difference = z[..., 1, :] - z[..., 0, :]
        t = np.exp(-np.abs(difference))
        g = np.maximum(difference, 0.0) + np.log1p(t) - q[1] * difference
        larger = 1.0 / (1.0 + t)
        upper = np.where(difference >= 0.0, larger, t * larger)
        return g, np.stack([1.0 - upper, upper], axis=-2)
    w = z - z.max(axis=-2, keepdims=True)
    p = np.exp(w)
    total = p.sum(axis=-2, keepdims=True)
    p /= total
    return np.log(total[..., 0, :]) - (q * w).sum(axis=-2), p


def _loss_hessians(constants: Constants, p: np.ndarray) -> np.ndarray:
    """d2(weight F)/dx2 at the loss points that count, (points, starts, n, n, samples)."""
    problem = constants.problem
    C = problem.readout_weight
    weight = (constants.weights[constants.first :] / problem.n_samples)[:, None, None, None]
    if problem.n_classes == 2:  # rank one
        c = C[1] - C[0]
        curvature = weight * (p[:, :, :1] * p[:, :, 1:])
        return curvature[..., None, :] * np.outer(c, c)[..., None]
    mean = (C.T @ p)[:, :, None]
    centred = C[..., None] - mean  # (points, starts, n_c, n, samples)
    weighted = (weight * p)[:, :, :, None] * centred
    return np.einsum("pbcis,pbcjs->pbijs", weighted, centred)
