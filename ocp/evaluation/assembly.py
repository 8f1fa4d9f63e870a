"""The reduced Hessian assembled block by block: the second exact route, and the fast one.

Per sample, with V_k(x) the cost from layer k on at fixed controls, lambda_k its gradient and
P_k its Hessian, one layer F with Hamiltonian Hessian Q (all terms of the layer's own cost and
of lambda_{k+1}.F) gives

    P_k = Q_xx + F_x' P_{k+1} F_x,      G_k = Q_xu + F_x' P_{k+1} F_u,
    H_kk = sum_i  Q_uu + F_u' P_{k+1} F_u,
    H_jk = sum_i  (dx_k/du_j)' G_k,     j < k,

and with Phi the product of the F_x between, a range of layers that is split in two needs only

    H_left,right = sum_i  S_left' G_right,
    S_left -> Phi_right S_left,   G_right -> Phi_left' G_right,

S the sensitivity of the range's end to its controls, G the mixed derivative at its start.  So
the sensitivities are transported log2 N times, not N times, and the flops are those of one
large product per split: n_d n d^2 instead of n_d n d^2 N / 3 for the textbook sum Z'WZ.

The sum over samples is the Schur complement of the KKT matrix on the shared controls.
Source: the backward recursion is that of Dunn and Bertsekas, "Efficient dynamic programming
implementations of Newton's method for unconstrained optimal control problems" (1989).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..controls import Controls, ends, flatten, layer_size
from ..problem import Problem
from . import assembly_euler
from .sweeps import Backward, Constants, Forward, backward, forward, prepare

#: doubles in one (layers, samples, n, m) array of a chunk of samples: 1 MB, measured best
CHUNK_DOUBLES = 1 << 17
#: but at least so many samples: each chunk passes once over the d x d Hessian
CHUNK_SAMPLES = 64


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


def assembled_hessian(problem: Problem, controls: Controls) -> np.ndarray:
    """Return the dense Hessian of J(u), (d, d), symmetric to the last bit."""
    constants = prepare(problem)
    sweep = forward(constants, flatten(controls))
    return hessian(constants, sweep, backward(constants, sweep))


def hessian(constants: Constants, sweep: Forward, adjoint: Backward) -> np.ndarray:
    """Return the Hessian at two sweeps, (d, d), symmetric to the last bit.

    Memory: d^2 and the arrays of one chunk, whatever the number of samples.
    """
    problem = constants.problem
    d, n, n_d = problem.n_decision, problem.width, problem.n_samples
    H = np.zeros((d, d))
    size = max(CHUNK_SAMPLES, CHUNK_DOUBLES // (n * d))
    # equal chunks: a small last one would waste its overhead
    count = -(-n_d // size)
    for part in np.array_split(np.arange(n_d), count):
        _add_chunk(H, constants, sweep, adjoint, slice(part[0], part[-1] + 1))
    H = np.triu(H)
    H += np.triu(H, 1).T
    H[np.arange(d), np.arange(d)] += constants.penalty
    return H


def _add_chunk(H, constants: Constants, sweep: Forward, adjoint: Backward, part: slice) -> None:
    """Add the upper triangle of the Hessian of the data cost of some samples."""
    problem = constants.problem
    N, n, m = problem.depth, problem.width, layer_size(problem)
    losses = _loss_hessians(constants, sweep, part)
    if assembly_euler.applies(problem):
        S, G, Fx = assembly_euler.blocks(H, constants, sweep, adjoint, losses, part)
        _combine(H, S, G, Fx, m, 0, N, to_end=False, to_start=False)
        return
    layers = _layers(constants, sweep, adjoint, losses, part)
    P = losses[-1]
    C = np.empty_like(layers.Fx)
    D = np.empty_like(layers.Fx)
    for k in range(N - 1, -1, -1):
        D[k] = P
        np.matmul(layers.Fx[k].mT, P, out=C[k])
        P = layers.Qxx[k] + C[k] @ layers.Fx[k]
    diagonal = layers.Quu + _sum_products(layers.Fu, D @ layers.Fu)
    samples = part.stop - part.start
    # (samples, n, N m): the columns of a range of layers are contiguous in each row
    S = np.ascontiguousarray(layers.Fu.transpose(1, 2, 0, 3)).reshape(samples, n, N * m)
    G = layers.Qxu + C @ layers.Fu
    G = np.ascontiguousarray(G.transpose(1, 2, 0, 3)).reshape(samples, n, N * m)
    for k in range(N):
        H[k * m : (k + 1) * m, k * m : (k + 1) * m] += diagonal[k]
    _combine(H, S, G, layers.Fx, m, 0, N, to_end=False, to_start=True)
    _add_ends(H, constants, sweep, layers, P, G, part)


def _combine(
    H, S, G, Fx, m: int, start: int, stop: int, *, to_end: bool, to_start: bool
) -> np.ndarray | None:
    """Fill the blocks of a range of layers; return its transition Phi, (samples, n, n).

    On return S refers to the range's end if `to_end`, G to its start if `to_start`; what nobody
    reads is not transported, and Phi is None where neither is.
    """
    if stop - start == 1:
        return Fx[start]
    middle = (start + stop) // 2
    left = _combine(H, S, G, Fx, m, start, middle, to_end=True, to_start=to_start)
    right = _combine(H, S, G, Fx, m, middle, stop, to_end=to_end, to_start=True)
    one, two = slice(start * m, middle * m), slice(middle * m, stop * m)
    rows = S.shape[0] * S.shape[1]
    H[one, two] += S.reshape(rows, -1)[:, one].T @ G.reshape(rows, -1)[:, two]
    if to_end:
        S[:, :, one] = right @ S[:, :, one]
    if to_start:
        G[:, :, two] = left.mT @ G[:, :, two]
    return right @ left if to_end or to_start else None


def _loss_hessians(constants: Constants, sweep: Forward, part: slice) -> np.ndarray:
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


def _layers(constants, sweep: Forward, adjoint: Backward, losses, part: slice) -> Layers:
    """Differentiate all layers at once, stage by stage; see the module's first formulas.

    Within a layer the stage points depend on (x_k, u_k); Xx, Xu are these derivatives.
    """
    problem, controls = constants.problem, sweep.controls
    N, n, h, W = problem.depth, problem.width, problem.h, controls.W
    m, nn = layer_size(problem), problem.width**2
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
        Xx, Xu = None, None  # the first stage point is x_k itself: identity and zero
        if constants.nodes[s]:
            Xx = (h * constants.nodes[s]) * Kx
            Xx[..., np.arange(n), np.arange(n)] += 1.0
            Xu = (h * constants.nodes[s]) * Ku
        Vx = A if Xx is None else A @ Xx
        Vu = np.zeros((*shape, m)) if Xu is None else A @ Xu
        _add_bilinear(Vu, X, 0)
        Vu[..., np.arange(n), nn + np.arange(n)] += 1.0
        # (V' diag(bend) V) and the bilinear term zeta_j dA_jl dX_l
        bent = (bend[..., None] * Vx).mT
        Qxx += bent @ Vx
        Qxu += bent @ Vu
        Quu += _sum_products(Vu, bend[..., None] * Vu)
        if Xx is None:
            rows = np.arange(n)
            block = Qxu[..., :nn].reshape(*shape, n, n)
            block[..., rows, :, rows] += zeta
        else:
            _add_cross(Qxu, Quu, zeta, Xx, Xu, 0)
        if W is not None:
            sx, su = dsigma[..., None] * Vx, dsigma[..., None] * Vu
            _add_cross(Qxu, Quu, kappa, sx, su, nn + n)
            Kx, Ku = W[:, None] @ sx, W[:, None] @ su
            _add_bilinear(Ku, sweep.sigma[s][:, part], nn + n)
        else:
            Kx, Ku = dsigma[..., None] * Vx, dsigma[..., None] * Vu
        if constants.first == 0:
            L = losses[s * N : (s + 1) * N]
            if Xx is None:
                Qxx += L
            else:
                bent = Xx.mT @ L
                Qxx += bent @ Xx
                Qxu += bent @ Xu
                Quu += _sum_products(Xu, L @ Xu)
            if theta:
                mixed = _mixed_readout(constants, sweep, s * N, (s + 1) * N, part)
                T += mixed if Xx is None else Xx.mT @ mixed
                if Xu is not None:
                    U += _sum_products(Xu, mixed)
        Fx += (h * constants.quadrature[s]) * Kx
        Fu += (h * constants.quadrature[s]) * Ku
    return Layers(Fx=Fx, Fu=Fu, Qxx=Qxx, Qxu=Qxu, Quu=Quu, T=T, U=U)


def _sum_products(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """sum_i left_i' right_i for (N, samples, n, p) and (N, samples, n, q): (N, p, q)."""
    N, samples, n, p = left.shape
    return left.reshape(N, samples * n, p).mT @ right.reshape(N, samples * n, -1)


def _add_bilinear(V: np.ndarray, X: np.ndarray, start: int) -> None:
    """Add d(M X)_j = X_l dM_jl for the row-major matrix M whose columns start at `start`."""
    n = X.shape[-1]
    for j in range(V.shape[-2]):
        V[..., j, start + j * n : start + (j + 1) * n] += X


def _add_cross(Qxu, Quu, adjoint, Yx, Yu, start: int) -> None:
    """Add the bilinear term adjoint_j dM_jl dY_l of a row-major matrix M stored from `start`."""
    n = adjoint.shape[-1]
    N, size = len(Quu), n * n
    for j in range(n):
        for_row = slice(start + j * n, start + (j + 1) * n)
        Qxu[..., for_row] += adjoint[..., j, None, None] * Yx.mT
    block = _sum_products(adjoint[..., None, :], Yu.reshape(*Yu.shape[:2], 1, -1))
    block = block.reshape(N, size, -1)
    Quu[:, start : start + size] += block
    Quu[:, :, start : start + size] += block.mT


def _mixed_readout(constants, sweep: Forward, start: int, stop: int, part: slice) -> np.ndarray:
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


def _add_ends(H, constants, sweep: Forward, layers: Layers, P, G, part: slice) -> None:
    """Add the rows and columns of a trained lift and readout; P and G refer to x_0."""
    problem, controls = constants.problem, sweep.controls
    if problem.trained == ("layers",):
        return
    N, n = problem.depth, problem.width
    m, samples = layer_size(problem), part.stop - part.start
    u, lift = slice(0, N * m), slice(N * m, N * m)
    Y = None
    if controls.lift_weight is not None:
        inputs = constants.inputs[part]
        size = controls.lift_weight.size
        lift = slice(N * m, N * m + size + n)
        Y = np.zeros((samples, n, size + n))
        _add_bilinear(Y, inputs, 0)
        Y[:, np.arange(n), size + np.arange(n)] = 1.0
        flat = Y.reshape(samples * n, -1)
        H[u, lift] += G.reshape(samples * n, -1).T @ flat
        H[lift, lift] += flat.T @ (P @ Y).reshape(samples * n, -1)
    if controls.readout_weight is not None:
        theta = slice(lift.stop, problem.n_decision)
        last = len(sweep.X) - 1
        T = _mixed_readout(constants, sweep, last, last + 1, part)[0]
        for k in range(N - 1, -1, -1):
            Fu = layers.Fu[k].reshape(samples * n, m)
            H[k * m : (k + 1) * m, theta] += Fu.T @ T.reshape(samples * n, -1) + layers.U[k]
            T = layers.Fx[k].mT @ T + layers.T[k]
        if Y is not None:
            H[lift, theta] += Y.reshape(samples * n, -1).T @ T.reshape(samples * n, -1)
        H[theta, theta] += _readout_block(constants, sweep, part)


def _readout_block(constants: Constants, sweep: Forward, part: slice) -> np.ndarray:
    """d2(sum of weight F)/dtheta2 at all loss points, theta = (C row by row, c)."""
    problem = constants.problem
    n, n_c, first = problem.width, problem.n_classes, constants.first
    weight = constants.weights[first:, None] / problem.n_samples
    p, X = sweep.p[:, part], sweep.X[first:, part]
    extended = np.concatenate([X, np.ones((*X.shape[:-1], 1))], axis=-1).reshape(-1, n + 1)
    block = np.empty((n_c, n + 1, n_c, n + 1))
    for a in range(n_c):
        for b in range(n_c):
            q = weight * p[..., a] * ((a == b) - p[..., b])
            block[a, :, b, :] = (extended * q.reshape(-1, 1)).T @ extended
    order = np.arange(n_c * (n + 1)).reshape(n_c, n + 1)
    order = np.concatenate([order[:, :n].ravel(), order[:, n]])
    return block.reshape(n_c * (n + 1), -1)[np.ix_(order, order)]
