"""The reduced Hessian assembled from forward sensitivities: the second exact route.

With S = dX_s/du at a stage point and V = dv/du, and kappa, zeta the adjoints of K_s and v,

    d2J/du2 = sum over stages of  hw beta (C S)' (diag p - p p')/n_d (C S)
              + V' diag(eta sigma'') V
              + the bilinear terms  zeta_j dA_jl dX_l  and  kappa_a dW_aj d(sigma_j)
              + the quadratic penalty,

shared by all samples: this is the Schur complement of the KKT matrix on the controls.
"""

from __future__ import annotations

import numpy as np

from . import loss
from .controls import Controls, ends, layer_size
from .problem import Problem
from .rollout import Trajectory, gradient, logits, penalty_weights, rollout


def assembled_hessian(problem: Problem, controls: Controls) -> np.ndarray:
    """Return the dense Hessian of J(u), (d, d), symmetric to the last bit.

    Memory grows as n_d n d.  Source: theory of the reduced Hessian, Nocedal and Wright,
    Numerical Optimization, section 16.2; here Z is the sensitivity of the states.
    """
    trajectory = rollout(problem, controls, order=2)
    kappas = _stage_adjoints(problem, controls, trajectory)
    _, _, C, _ = ends(problem, controls)
    n, n_d, d, h = problem.width, problem.n_samples, problem.n_decision, problem.h
    m = layer_size(problem)
    lift, readout = _end_slices(problem)
    H = np.zeros((d, d))
    S = np.zeros((n_d, n, d))
    if lift is not None:
        S[:, :, lift] = _bilinear(problem.input_values, n)
    step, K = np.zeros_like(S), np.zeros_like(S)
    for index, (stage, kappa) in enumerate(zip(trajectory.stages, kappas, strict=True)):
        k = stage.k
        u = slice(k * m, (k + 1) * m)
        if stage.a == 0.0:
            step, K = np.zeros_like(S), np.zeros_like(S)
        X = S + (h * stage.a) * K
        V = np.matmul(controls.A[k], X)
        V[:, :, u.start : u.start + n * n + n] += _bilinear(stage.X, n)
        dsigma = stage.sigma[1][:, :, None] * V
        eta = kappa if controls.W is None else kappa @ controls.W[k]
        zeta = eta * stage.sigma[1]
        _add_quadratic(H, V, eta * stage.sigma[2])
        _add_cross(H, u.start, zeta, X)
        K = dsigma
        if controls.W is not None:
            W_start = u.start + n * n + n
            _add_cross(H, W_start, kappa, dsigma)
            K = np.matmul(controls.W[k], dsigma)
            K[:, :, W_start : W_start + n * n] += _bilinear(stage.sigma[0], n, bias=False)
        if problem.beta:
            _add_loss(H, problem, controls, C, h * stage.w, stage.X, X, readout)
        step += stage.w * K
        last = index + 1 == len(trajectory.stages) or trajectory.stages[index + 1].a == 0.0
        if last:
            S = S + h * step
    _add_loss(H, problem, controls, C, problem.gamma, trajectory.X[-1], S, readout)
    H = 0.5 * (H + H.T)
    H[np.arange(d), np.arange(d)] += penalty_weights(problem)
    return H


def _stage_adjoints(
    problem: Problem, controls: Controls, trajectory: Trajectory
) -> list[np.ndarray]:
    """kappa_s = dJ/dK_s for every stage in forward order, (n_d, n) each."""
    _, costate = gradient(problem, controls, trajectory)
    _, _, C, _ = ends(problem, controls)
    h, kappas = problem.h, []
    mu_next, a_next = np.zeros_like(costate[0]), 0.0
    for stage in reversed(trajectory.stages):
        kappa = (h * stage.w) * costate[stage.k + 1] + (h * a_next) * mu_next
        kappas.append(kappa)
        eta = kappa if controls.W is None else kappa @ controls.W[stage.k]
        mu_next = (eta * stage.sigma[1]) @ controls.A[stage.k]
        if problem.beta:
            p = loss.softmax(logits(problem, controls, stage.X)) - problem.soft_targets
            mu_next = mu_next + (h * stage.w / problem.n_samples) * (p @ C)
        a_next = stage.a
        if stage.a == 0.0:
            mu_next = np.zeros_like(mu_next)
    return kappas[::-1]


def _bilinear(X: np.ndarray, n: int, bias: bool = True) -> np.ndarray:
    """d(M X + c)/d(M, c) for row-major M with n rows: (n_d, n, n l + n)."""
    n_d, width = X.shape
    out = np.zeros((n_d, n, n * width + (n if bias else 0)))
    for j in range(n):
        out[:, j, j * width : (j + 1) * width] = X
        if bias:
            out[:, j, n * width + j] = 1.0
    return out


def _add_quadratic(H: np.ndarray, V: np.ndarray, weight: np.ndarray) -> None:
    """H += sum_i V_i' diag(weight_i) V_i."""
    flat = V.reshape(-1, V.shape[-1])
    H += (flat * weight.reshape(-1, 1)).T @ flat


def _add_cross(H: np.ndarray, start: int, adjoint: np.ndarray, X: np.ndarray) -> None:
    """Add the bilinear term adjoint_j dM_jl dX_l of a row-major matrix M stored from `start`."""
    d = X.shape[-1]
    block = np.tensordot(adjoint, X, axes=(0, 0)).reshape(-1, d)  # (n l, d)
    rows = slice(start, start + len(block))
    H[rows] += block
    H[:, rows] += block.T


def _add_loss(H, problem, controls, C, weight, X, S, readout) -> None:
    """Add weight * d2F/du2 at the states X with sensitivities S, trained readout included."""
    p = loss.softmax(logits(problem, controls, X))
    Z = np.matmul(C, S)
    if readout is not None:
        Z[:, :, readout] += _bilinear(X, problem.n_classes)
        residual = (weight / problem.n_samples) * (p - problem.soft_targets)
        _add_cross(H, readout.start, residual, S)
    centred = Z - np.einsum("ic,icd->id", p, Z)[:, None, :]
    _add_quadratic(H, centred, (weight / problem.n_samples) * p)


def _end_slices(problem: Problem) -> tuple[slice | None, slice | None]:
    start = problem.depth * layer_size(problem)
    lift = readout = None
    if "lift" in problem.trained:
        stop = start + problem.lift_weight.size + problem.width
        lift, start = slice(start, stop), stop
    if "readout" in problem.trained:
        readout = slice(start, problem.n_decision)
    return lift, readout
