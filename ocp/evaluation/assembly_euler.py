"""The blocks of the Hessian for Euler's method, single block, fixed ends: the default, made fast.

With x+ = x + h sigma(A x + b) the derivatives have a structure that the general assembly does not
use.  Row j of F_u is h sigma'_j (x, 1), so with X = (x, 1), D = diag(h sigma') and P = P_{k+1}

    F_x = I + D A                    C  = F_x' P = P + A' (D P)
    P_k = A' diag(bend) A + L + C + (C D) A
    G_k = M_ij X_l + delta_il zeta_j,            M = C D + A' diag(bend)
    H_kk = sum_samples (D P D + diag(bend))_jj' X_l X_l'

and A_k is the same for all samples: with the samples in the last axis each product with A_k is
one matrix product for all samples, and H_kk one product of weights (n^2, samples) with the Gram
vectors (samples, (n+1)^2).  Measured on the spirals, n = 3: these blocks take a third of the time
of the general ones, the whole Hessian 1.6 times less at N = 5..11 and 1.3 times less at N = 20; at
n = 8 the products of the combination dominate and nothing is gained.
"""

from __future__ import annotations

import numpy as np

from ..problem import Problem
from .sweeps import Backward, Constants, Forward


def applies(problem: Problem) -> bool:
    """Whether the problem has this structure."""
    return (
        problem.scheme == "euler" and problem.block == "single" and problem.trained == ("layers",)
    )


def blocks(
    H: np.ndarray,
    constants: Constants,
    sweep: Forward,
    adjoint: Backward,
    losses: np.ndarray,
    part: slice,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Add the diagonal blocks of some samples to H; return S, G (samples, n, N m) and F_x.

    losses : Hessians of the data cost at the loss points that count, (points, samples, n, n)
    """
    problem, A, hold = constants.problem, sweep.controls.A, np.ascontiguousarray
    N, n, m = problem.depth, problem.width, problem.layer_size
    nn, samples = n * n, part.stop - part.start
    X = hold(sweep.X[:N, part].mT)  # (N, n, samples), as all that follows
    dsigma, kappa = hold(adjoint.dsigma[0][:, part].mT), hold(adjoint.kappa[0][:, part].mT)
    D, zeta = problem.h * dsigma, kappa * dsigma
    bend = kappa * hold(adjoint.ddsigma[0][:, part].mT)
    L = hold(losses.transpose(0, 2, 3, 1))
    C, weights, _ = recursion(A, D, bend, L, stages_cost=constants.first == 0)
    add_diagonal(H, weights, X)
    M = C * D[:, None]
    M += A.mT[..., None] * bend[:, None]
    M = M.transpose(0, 2, 1, 3)  # (N, j, i, samples)
    G = np.empty((N, m, n, samples))
    of_A = G[:, :nn].reshape(N, n, n, n, samples)
    np.multiply(M[:, :, None], X[:, None, :, None], out=of_A)
    S = np.zeros((N, m, n, samples))
    sensitive = S[:, :nn].reshape(N, n, n, n, samples)
    for j in range(n):
        of_A[:, :, j, j] += zeta
        np.multiply(D[:, j, None], X, out=sensitive[:, j, :, j])
        S[:, nn + j, j] = D[:, j]
    G[:, nn:] = M
    Fx = A[:, None] * D.mT[..., None]
    Fx[..., np.arange(n), np.arange(n)] += 1.0
    flat = (N * m, n, samples)
    return hold(S.reshape(flat).T), hold(G.reshape(flat).T), Fx


def recursion(
    A: np.ndarray, D: np.ndarray, bend: np.ndarray, L: np.ndarray, *, stages_cost: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """C_k and D P_{k+1} D + diag(bend), (N, n, n, samples), from the last layer on, and P_0."""
    N, n, samples = D.shape
    pairs = (A[:, :, :, None] * A[:, :, None, :]).reshape(N, n, n * n)  # A_ji A_jl
    Q = (pairs.mT @ bend).reshape(N, n, n, samples)
    if stages_cost:
        Q += L[:N]
    C, weights = np.empty_like(Q), np.empty_like(Q)
    P, transposed = L[-1], A.mT
    for k in range(N - 1, -1, -1):
        DP = D[k][:, None] * P
        np.multiply(DP, D[k], out=weights[k])
        np.matmul(transposed[k], DP.reshape(n, n * samples), out=C[k].reshape(n, n * samples))
        C[k] += P
        P = np.matmul(transposed[k], C[k] * D[k])
        P += C[k]
        P += Q[k]
    weights[:, np.arange(n), np.arange(n)] += bend
    return C, weights, P


def add_diagonal(H: np.ndarray, weights: np.ndarray, X: np.ndarray) -> None:
    """Add sum_samples weights_jj' X_l X_l' to the diagonal blocks, X = (x, 1)."""
    N, n, samples = X.shape
    m = n * n + n
    extended = np.concatenate([X, np.ones((N, 1, samples))], axis=1)
    gram = (extended[:, :, None] * extended[:, None]).reshape(N, (n + 1) ** 2, samples)
    sums = weights.reshape(N, n * n, samples) @ gram.mT
    sums = sums.reshape(N, n, n, n + 1, n + 1).transpose(0, 1, 3, 2, 4)  # j, l, j', l'
    for k in range(N):
        block, entries = H[k * m : (k + 1) * m, k * m : (k + 1) * m], sums[k]
        block[: n * n, : n * n] += entries[:, :n, :, :n].reshape(n * n, n * n)
        block[: n * n, n * n :] += entries[:, :n, :, n].reshape(n * n, n)
        block[n * n :, n * n :] += entries[:, n, :, n]
