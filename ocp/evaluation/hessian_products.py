"""The reduced Hessian by products with directions: the first exact route, and the readable one.

Every line of the gradient's code (`rollout.gradient`, `rollout.layer_adjoint`) is differentiated
in the direction of the controls; nothing is derived from the block formulas of `assembly`, so
that the two routes can be held against each other.

Reference: Pearlmutter, "Fast exact multiplication by the Hessian", Neural Computation 6, 1994.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .. import loss
from ..controls import Controls, ends, flatten, penalty_diagonal, unflatten
from ..problem import Problem
from .rollout import Trajectory, add_lift, relative_logits, rollout


def hessian_product(problem: Problem, controls: Controls, directions: np.ndarray) -> np.ndarray:
    """Return the Hessian of J times m directions, (m, d) -> (m, d): tangent of the gradient code.

    Memory grows as m N n_d n times a small factor; pass directions in chunks.
    """
    trajectory = rollout(problem, controls, order=2)
    h, W = problem.h, controls.W
    _, _, C, _ = ends(problem, controls)
    d = unflatten(problem, directions)
    dC = d.readout_weight
    m = len(directions)
    tangents, dx = _forward_tangents(problem, controls, trajectory, d)
    # The multipliers depend on the controls too: the adjoint and its tangent go back together.
    out = unflatten(problem, np.zeros((m, problem.n_decision), dtype=dx.dtype))
    p_minus_q, dp = _residual_tangent(problem, controls, d, trajectory.X[-1], dx)
    adjoint = problem.gamma * p_minus_q @ C
    dadjoint = problem.gamma * dp @ C
    if dC is not None:
        dadjoint = dadjoint + problem.gamma * p_minus_q @ dC
    _add_readout_tangent(out, problem.gamma, p_minus_q, dp, trajectory.X[-1], dx)
    mu_sum, mu_next = np.zeros_like(adjoint), np.zeros_like(adjoint)
    dmu_sum, dmu_next = np.zeros_like(dx), np.zeros_like(dx)
    a_next = 0.0
    # The stages of all layers in one list, backwards: a stage with node 0 is the first of its
    # layer, so that after it the layer's sum is complete and the next layer begins.
    for stage, (dX, dv, dsigma) in zip(reversed(trajectory.stages), tangents[::-1], strict=True):
        k, hw = stage.k, h * stage.w
        kappa = hw * adjoint + (h * a_next) * mu_next
        dkappa = hw * dadjoint + (h * a_next) * dmu_next
        if W is not None and out.W is not None and d.W is not None:
            out.W[:, k] += dkappa.mT @ stage.sigma[0] + kappa.T @ dsigma
            dkappa = dkappa @ W[k] + kappa @ d.W[:, k]
            # last: the two lines above want the adjoint of K, not that of sigma(v)
            kappa = kappa @ W[k]
        zeta = kappa * stage.sigma[1]
        dzeta = dkappa * stage.sigma[1] + (kappa * stage.sigma[2]) * dv
        out.A[:, k] += dzeta.mT @ stage.X + zeta.T @ dX
        out.b[:, k] += dzeta.sum(axis=1)
        mu = zeta @ controls.A[k]
        dmu = dzeta @ controls.A[k] + zeta @ d.A[:, k]
        if problem.beta:
            p_minus_q, dp = _residual_tangent(problem, controls, d, stage.X, dX)
            mu = mu + hw * (p_minus_q @ C)
            dmu = dmu + hw * (dp @ C)
            if dC is not None:
                dmu = dmu + hw * (p_minus_q @ dC)
            _add_readout_tangent(out, hw, p_minus_q, dp, stage.X, dX)
        mu_sum, mu_next = mu_sum + mu, mu
        dmu_sum, dmu_next, a_next = dmu_sum + dmu, dmu, stage.a
        if stage.a == 0.0:
            adjoint, dadjoint = adjoint + mu_sum, dadjoint + dmu_sum
            mu_sum, mu_next = np.zeros_like(adjoint), np.zeros_like(adjoint)
            dmu_sum, dmu_next, a_next = np.zeros_like(dx), np.zeros_like(dx), 0.0
    add_lift(out, problem, dadjoint)
    product = np.concatenate([flatten(_row(out, i))[None] for i in range(m)])
    return product + penalty_diagonal(problem) * directions


def reduced_hessian(problem: Problem, controls: Controls, chunk: int = 64) -> np.ndarray:
    """Return the dense Hessian of J(u), (d, d), column by column from Hessian-vector products.

    Equal to the reduced Hessian Z'WZ of the full problem at feasible states with the adjoint
    multipliers: the state Jacobian is unit block lower triangular, so u is a global chart.
    """
    d = problem.n_decision
    H = np.empty((d, d), dtype=controls.A.dtype)
    for start in range(0, d, chunk):
        stop = min(start + chunk, d)
        H[start:stop] = hessian_product(problem, controls, np.eye(d)[start:stop])
    return H


def _forward_tangents(
    problem: Problem, controls: Controls, trajectory: Trajectory, d: Controls
) -> tuple[list[tuple[np.ndarray, np.ndarray, np.ndarray]], np.ndarray]:
    """Tangents (dX, dv, dsigma) of every stage and dx of the last state, each (m, n_d, n)."""
    h, W, dW = problem.h, controls.W, d.W
    m, n_d, n = len(d.A), problem.n_samples, problem.width
    dx = np.zeros((m, n_d, n), dtype=np.result_type(d.A, controls.A))
    if d.lift_weight is not None and d.lift_bias is not None:
        dx = dx + problem.input_values @ d.lift_weight.mT + d.lift_bias[:, None, :]
    tangents = []
    dstep, dK = np.zeros_like(dx), np.zeros_like(dx)
    for index, stage in enumerate(trajectory.stages):
        k = stage.k
        if stage.a == 0.0:
            dstep, dK = np.zeros_like(dx), np.zeros_like(dx)
        dX = dx + (h * stage.a) * dK
        dv = dX @ controls.A[k].T + stage.X @ d.A[:, k].mT + d.b[:, k, None, :]
        dsigma = dK = stage.sigma[1] * dv
        if W is not None and dW is not None:
            dK = dsigma @ W[k].T + stage.sigma[0] @ dW[:, k].mT
        dstep = dstep + stage.w * dK
        tangents.append((dX, dv, dsigma))
        last = index + 1 == len(trajectory.stages) or trajectory.stages[index + 1].a == 0.0
        if last:
            dx = dx + h * dstep
    return tangents, dx


def _residual_tangent(
    problem: Problem, controls: Controls, d: Controls, X: np.ndarray, dX: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The residual and its tangent in m directions, (n_d, n_c) and (m, n_d, n_c)."""
    _, _, C, _ = ends(problem, controls)
    dz = dX @ C.T
    if d.readout_weight is not None and d.readout_bias is not None:
        dz = dz + X @ d.readout_weight.mT + d.readout_bias[:, None, :]
    p = loss.softmax(relative_logits(problem, controls, X))
    dp = p * (dz - (p * dz).sum(axis=-1, keepdims=True)) / problem.n_samples
    return (p - problem.soft_targets) / problem.n_samples, dp


def _add_readout_tangent(
    out: Controls,
    weight: float,
    p_minus_q: np.ndarray,
    dp: np.ndarray,
    X: np.ndarray,
    dX: np.ndarray,
) -> None:
    if out.readout_weight is not None and out.readout_bias is not None:
        out.readout_weight[...] += weight * (dp.mT @ X + p_minus_q.T @ dX)
        out.readout_bias[...] += weight * dp.sum(axis=1)


def _row(controls: Controls, i: int) -> Controls:
    parts: dict[str, Any] = {name: getattr(controls, name) for name in Controls.__slots__}
    for name, part in parts.items():
        parts[name] = None if part is None else part[i]
    return Controls(**parts)
