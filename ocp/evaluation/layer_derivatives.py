"""First and second derivatives of all layers at once: what the assembly of the Hessian combines.

Within a layer the stage points X_s depend on (x_k, u_k); Xx, Xu are these derivatives.  With v the
pre-activation and eta the adjoint of sigma(v), a stage adds to the quadratic form of Q

    V' diag(eta sigma'') V         sigma is curved; V = (Vx, Vu) is dv
    2 zeta_j dA_jl dX_l            v = A X + b is bilinear in A and X; zeta = eta sigma'
    2 kappa_j dW_jl d(sigma)_l     K = W sigma(v) is bilinear as well
    X' L X                         the data cost at the stage point

There is no term for one stage starting from the slope of another: that is linear, and kappa, the
adjoint of K_s within the layer, has its weight.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..controls import ends
from .sweeps import Backward, Constants, Forward


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Layers:
    """First and second derivatives of all layers for a chunk of samples, (N, samples, ., .).

    Fx (n, n), Fu (n, m) : of the layer map;  Qxx (n, n), Qxu (n, m) : of the Hamiltonian
    Quu : (N, m, m), summed over the samples
    T, U : with a trained readout, d2(layer)/dx dtheta (n, t) and, summed, d2/du dtheta (N, m, t)
    """

    Fx: np.ndarray
    Fu: np.ndarray
    Qxx: np.ndarray
    Qxu: np.ndarray
    Quu: np.ndarray
    T: np.ndarray | None
    U: np.ndarray | None


def differentiate(
    constants: Constants, sweep: Forward, adjoint: Backward, losses: np.ndarray, part: slice
) -> Layers:
    """Return the derivatives of all layers, found stage by stage; see the module's text."""
    problem, controls = constants.problem, sweep.controls
    N, n, h, W = problem.depth, problem.width, problem.h, controls.W
    m, nn = problem.layer_size, problem.width**2
    S, samples = len(constants.nodes), part.stop - part.start
    A = controls.A[:, None]
    theta = problem.n_classes * (n + 1) if controls.readout_weight is not None else 0
    shape = (N, samples, n)
    Fx, Fu = np.zeros((*shape, n)), np.zeros((*shape, m))
    Fx[..., np.arange(n), np.arange(n)] = 1.0
    Qxx, Qxu, Quu = np.zeros((*shape, n)), np.zeros((*shape, m)), np.zeros((N, m, m))
    T = np.zeros((*shape, theta)) if theta else None
    U = np.zeros((N, m, theta)) if theta else None
    Kx = Ku = None
    for s in range(S):
        X = sweep.X[s * N : (s + 1) * N, part]
        dsigma, kappa = adjoint.dsigma[s][:, part], adjoint.kappa[s][:, part]
        eta = kappa if W is None else kappa @ W
        zeta, bend = eta * dsigma, eta * adjoint.ddsigma[s][:, part]
        # the first stage point is x_k itself, Xx = I and Xu = 0: None spares these products
        Xx, Xu = None, None
        if Kx is not None and Ku is not None:
            Xx = (h * constants.nodes[s]) * Kx
            Xx[..., np.arange(n), np.arange(n)] += 1.0
            Xu = (h * constants.nodes[s]) * Ku
        Vx = A if Xx is None else A @ Xx
        Vu = np.zeros((*shape, m)) if Xu is None else A @ Xu
        add_bilinear(Vu, X, 0)
        Vu[..., np.arange(n), nn + np.arange(n)] += 1.0
        bent = (bend[..., None] * Vx).mT
        Qxx += bent @ Vx
        Qxu += bent @ Vu
        Quu += sum_products(Vu, bend[..., None] * Vu)
        if Xx is None or Xu is None:
            # dX = dx: row l of Qxu gets zeta_j in the columns A_jl alone (block is a view)
            rows = np.arange(n)
            block = Qxu[..., :nn].reshape(*shape, n, n)
            block[..., rows, :, rows] += zeta
        else:
            _add_cross(Qxu, Quu, zeta, Xx, Xu, 0)
        if W is not None:
            sx, su = dsigma[..., None] * Vx, dsigma[..., None] * Vu
            _add_cross(Qxu, Quu, kappa, sx, su, nn + n)
            Kx, Ku = W[:, None] @ sx, W[:, None] @ su
            add_bilinear(Ku, sweep.sigma[s][:, part], nn + n)
        else:
            Kx, Ku = dsigma[..., None] * Vx, dsigma[..., None] * Vu
        if constants.first == 0:
            L = losses[s * N : (s + 1) * N]
            if Xx is None or Xu is None:
                Qxx += L
            else:
                bent = Xx.mT @ L
                Qxx += bent @ Xx
                Qxu += bent @ Xu
                Quu += sum_products(Xu, L @ Xu)
            if T is not None and U is not None:
                mixed = mixed_readout(constants, sweep, s * N, (s + 1) * N, part)
                T += mixed if Xx is None else Xx.mT @ mixed
                if Xu is not None:
                    U += sum_products(Xu, mixed)
        Fx += (h * constants.quadrature[s]) * Kx
        Fu += (h * constants.quadrature[s]) * Ku
    return Layers(Fx=Fx, Fu=Fu, Qxx=Qxx, Qxu=Qxu, Quu=Quu, T=T, U=U)


def loss_hessians(constants: Constants, sweep: Forward, part: slice) -> np.ndarray:
    """d2(weight F)/dX2 at the loss points that count, (points, samples, n, n)."""
    problem = constants.problem
    _, _, C, _ = ends(problem, sweep.controls)
    weight = constants.weights[constants.first :, None, None] / problem.n_samples
    p = sweep.p[:, part]
    if problem.n_classes == 2:  # rank one
        c = C[1] - C[0]
        curvature = weight[..., 0] * p[..., 0] * p[..., 1]
        return (curvature[..., None] * np.outer(c, c).ravel()).reshape(*p.shape[:2], len(c), len(c))
    weighted = weight * p
    centred = C - (p @ C)[..., None, :]
    return (weighted[..., None] * centred).mT @ centred


def mixed_readout(
    constants: Constants, sweep: Forward, start: int, stop: int, part: slice
) -> np.ndarray:
    """d2(weight F)/dX dtheta at loss points start..stop-1, theta = (C row by row, c)."""
    problem = constants.problem
    n, n_c = problem.width, problem.n_classes
    _, _, C, _ = ends(problem, sweep.controls)
    weight = constants.weights[start:stop, None, None] / problem.n_samples
    p = sweep.p[start - constants.first : stop - constants.first, part]
    X = sweep.X[start:stop, part]
    residual = weight * (p - constants.targets[part])
    # dr/dz' C, transposed: how the gradient with respect to X changes with the logits
    CD = C.T * (weight * p)[..., None, :] - (weight * (p @ C))[..., None] * p[..., None, :]
    out = np.empty((*X.shape, n_c * (n + 1)))
    weights = out[..., : n_c * n].reshape(*X.shape, n_c, n)
    weights[...] = CD[..., None] * X[..., None, None, :]
    rows = np.arange(n)
    weights[..., rows, :, rows] += residual
    out[..., n_c * n :] = CD
    return out


def sum_products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """sum_i left_i' right_i for (N, samples, n, p) and (N, samples, n, q): (N, p, q)."""
    N, samples, n, p = left.shape
    return left.reshape(N, samples * n, p).mT @ right.reshape(N, samples * n, -1)


def add_bilinear(V: np.ndarray, X: np.ndarray, start: int) -> None:
    """Add d(M X)_j = X_l dM_jl for the row-major matrix M whose columns start at `start`."""
    n = X.shape[-1]
    for j in range(V.shape[-2]):
        V[..., j, start + j * n : start + (j + 1) * n] += X


def _add_cross(
    Qxu: np.ndarray,
    Quu: np.ndarray,
    adjoint: np.ndarray,
    Yx: np.ndarray,
    Yu: np.ndarray,
    start: int,
) -> None:
    """Add the bilinear term adjoint_j dM_jl dY_l of a row-major matrix M stored from `start`."""
    n = adjoint.shape[-1]
    N, size = len(Quu), n * n
    for j in range(n):
        for_row = slice(start + j * n, start + (j + 1) * n)
        Qxu[..., for_row] += adjoint[..., j, None, None] * Yx.mT
    block = sum_products(adjoint[..., None, :], Yu.reshape(*Yu.shape[:2], 1, -1))
    block = block.reshape(N, size, -1)
    Quu[:, start : start + size] += block
    Quu[:, :, start : start + size] += block.mT
