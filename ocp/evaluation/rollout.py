"""Reference evaluation in NumPy: states, objective, costate, gradient, Hessian-vector product.

One layer of an explicit Runge-Kutta scheme with stages s = 1..S is the chain

    X_s = x_k + h a_s K_{s-1},   v_s = A_k X_s + b_k,   K_s = sigma(v_s)   [W_k sigma(v_s)],
    x_{k+1} = x_k + h sum_s w_s K_s,

so one loop over stages, read backwards for the adjoint, serves every scheme and block.
All functions are batched over samples and accept complex controls where sigma is analytic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import loss
from ..controls import Controls, ends, flatten, unflatten
from ..problem import SCHEMES, Problem


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stage:
    """One stage of one layer: where it is evaluated and what it yields."""

    k: int
    a: float
    w: float
    X: np.ndarray  # (n_d, n) stage point
    v: np.ndarray  # (n_d, n) pre-activation
    sigma: tuple[np.ndarray, ...]  # sigma, sigma', sigma'' at v


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Trajectory:
    """States X, (N+1, n_d, n), and the stages in the order in which they were computed."""

    X: np.ndarray
    stages: tuple[Stage, ...]


def layer(
    problem: Problem, controls: Controls, k: int, x: np.ndarray, order: int = 0
) -> tuple[np.ndarray, tuple[Stage, ...]]:
    """Return Phi_h(x, u_k), (n_d, n), and its stages with `order` derivatives of sigma."""
    nodes, weights = SCHEMES[problem.scheme]
    h, sigma = problem.h, problem.sigma
    step, K = np.zeros_like(x), np.zeros_like(x)
    stages = []
    for a, w in zip(nodes, weights, strict=True):
        X = x + (h * a) * K
        v = X @ controls.A[k].T + controls.b[k]
        values = sigma.derivatives(v, order)
        K = values[0] if controls.W is None else values[0] @ controls.W[k].T
        step = step + w * K
        stages.append(Stage(k=k, a=a, w=w, X=X, v=v, sigma=values))
    return x + h * step, tuple(stages)


def rollout(problem: Problem, controls: Controls, order: int = 0) -> Trajectory:
    """Evaluate all layers; `order` derivatives of the activation are kept at every stage."""
    E, e, _, _ = ends(problem, controls)
    x = problem.input_values @ E.T + e
    states, stages = [x], []
    for k in range(problem.depth):
        x, of_layer = layer(problem, controls, k, x, order)
        states.append(x)
        stages.extend(of_layer)
    return Trajectory(X=np.stack(np.broadcast_arrays(*states)), stages=tuple(stages))


def logits(problem: Problem, controls: Controls, X: np.ndarray) -> np.ndarray:
    """z = C x + c for states of any leading shape, (..., n_c)."""
    _, _, C, c = ends(problem, controls)
    return X @ C.T + c


def data_cost(problem: Problem, controls: Controls, X: np.ndarray) -> np.ndarray:
    """F(x) = (1/n_d) sum_i g_{y_i}(C x^i + c) for states (..., n_d, n); shape (...)."""
    g = loss.soft_cross_entropy(logits(problem, controls, X), problem.soft_targets)
    return g.mean(axis=-1)


def layer_costs(problem: Problem, controls: Controls, trajectory: Trajectory) -> np.ndarray:
    """l_k = sum_s w_s beta F(X_{k,s}) + (r/2)|u_k|^2, shape (N,); J sums h l_k and gamma F(x_N)."""
    cost = 0.5 * problem.r * _layer_squares(controls)
    if problem.beta:
        for stage in trajectory.stages:
            cost[stage.k] += stage.w * data_cost(problem, controls, stage.X)
    return cost


def objective(
    problem: Problem, controls: Controls, trajectory: Trajectory | None = None
) -> np.floating:
    """J(u) = sum_k h l_k + gamma F(x_N) + (r_ends/2)|trained ends|^2."""
    trajectory = rollout(problem, controls) if trajectory is None else trajectory
    terminal = problem.gamma * data_cost(problem, controls, trajectory.X[-1])
    cost = problem.h * layer_costs(problem, controls, trajectory).sum() + terminal
    return cost + 0.5 * problem.r_ends * sum((v**2).sum() for _, v in _trained_ends(controls))


def gradient(
    problem: Problem, controls: Controls, trajectory: Trajectory | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return dJ/du in the flat order, (d,), and the costate lambda_k = dJ/dx_k, (N+1, n_d, n).

    lambda_N = gamma grad F(x_N), then backwards through `layer_adjoint`; this is the discrete
    Pontryagin principle and back-propagation alike.
    """
    if trajectory is None or len(trajectory.stages[0].sigma) < 2:
        trajectory = rollout(problem, controls, order=1)
    grad = _penalty_gradient(problem, controls)
    adjoint = terminal_adjoint(problem, controls, trajectory.X[-1], grad)
    costate = [adjoint]
    per_layer = len(SCHEMES[problem.scheme][0])
    for k in reversed(range(problem.depth)):
        stages = trajectory.stages[k * per_layer : (k + 1) * per_layer]
        adjoint = adjoint + layer_adjoint(problem, controls, stages, adjoint, grad)
        costate.append(adjoint)
    if grad.lift_weight is not None:
        grad.lift_weight[...] += adjoint.T @ problem.input_values
        grad.lift_bias[...] += adjoint.sum(axis=0)
    return flatten(grad), np.stack(costate[::-1])


def terminal_adjoint(
    problem: Problem, controls: Controls, x: np.ndarray, grad: Controls
) -> np.ndarray:
    """Return gamma grad F(x), (n_d, n); a trained readout's part is added to `grad` in place."""
    C = ends(problem, controls)[2]
    p_minus_q = _residual(problem, controls, x)
    _add_readout(grad, problem.gamma, p_minus_q, x)
    return problem.gamma * p_minus_q @ C


def layer_adjoint(
    problem: Problem,
    controls: Controls,
    stages: tuple[Stage, ...],
    adjoint: np.ndarray,
    grad: Controls,
) -> np.ndarray:
    """Return d(h l_k + lambda_{k+1}.(Phi - x))/dx_k, (n_d, n), adding d/du_k to `grad` in place.

    kappa_s = h w_s lambda_{k+1} + h a_{s+1} mu_{s+1}   is the adjoint of K_s,
    mu_s = h w_s beta grad F(X_s) + A'(sigma'(v_s) * W' kappa_s)   that of X_s.
    """
    k, h, W = stages[0].k, problem.h, controls.W
    C = ends(problem, controls)[2]
    mu, total, a_next = np.zeros_like(adjoint), np.zeros_like(adjoint), 0.0
    for stage in reversed(stages):
        kappa = (h * stage.w) * adjoint + (h * a_next) * mu
        if W is not None:
            grad.W[k] += kappa.T @ stage.sigma[0]
            kappa = kappa @ W[k]
        zeta = kappa * stage.sigma[1]
        grad.A[k] += zeta.T @ stage.X
        grad.b[k] += zeta.sum(axis=0)
        mu = zeta @ controls.A[k]
        if problem.beta:
            p_minus_q = _residual(problem, controls, stage.X)
            mu = mu + (h * stage.w) * (p_minus_q @ C)
            _add_readout(grad, h * stage.w, p_minus_q, stage.X)
        total, a_next = total + mu, stage.a
    return total


def kkt_residual(
    problem: Problem, controls: Controls, X: np.ndarray, costate: np.ndarray
) -> dict[str, float]:
    """Residuals of the KKT conditions with the states as variables, unscaled, largest entries.

    X : states x_0..x_N, (N+1, n_d, n), feasible or not;  costate : lambda_0..lambda_N, the same
    shape; lambda_0 is given by the others and not used.

    "dynamics" |x_{k+1} - Phi_h(x_k, u_k)|,  "states" |dL/dx_k|, k = 1..N,  "controls" |dL/du|
    with L = J + sum_k lambda_{k+1}.(Phi_h(x_k, u_k) - x_{k+1}).
    """
    E, e, _, _ = ends(problem, controls)
    grad = _penalty_gradient(problem, controls)
    x_0 = problem.input_values @ E.T + e
    dynamics, states = [np.abs(X[0] - x_0).max()], []
    states.append(np.abs(terminal_adjoint(problem, controls, X[-1], grad) - costate[-1]).max())
    for k in reversed(range(problem.depth)):
        following, stages = layer(problem, controls, k, X[k], order=1)
        dynamics.append(np.abs(X[k + 1] - following).max())
        adjoint = costate[k + 1] + layer_adjoint(problem, controls, stages, costate[k + 1], grad)
        if k:
            states.append(np.abs(adjoint - costate[k]).max())
    if grad.lift_weight is not None:
        grad.lift_weight[...] += adjoint.T @ problem.input_values
        grad.lift_bias[...] += adjoint.sum(axis=0)
    return {
        "dynamics": float(max(dynamics)),
        "states": float(max(states)),
        "controls": float(np.abs(flatten(grad)).max()),
    }


def hessian_product(problem: Problem, controls: Controls, directions: np.ndarray) -> np.ndarray:
    """Return the Hessian of J times m directions, (m, d) -> (m, d): tangent of the gradient code.

    Memory grows as m N n_d n times a small factor; pass directions in chunks.
    """
    trajectory = rollout(problem, controls, order=2)
    h, W = problem.h, controls.W
    _, _, C, _ = ends(problem, controls)
    d = unflatten(problem, directions)
    dC = d.readout_weight
    # forward: tangents of the stage points, (m, n_d, n)
    m, n_d, n = len(directions), problem.n_samples, problem.width
    dx = np.zeros((m, n_d, n), dtype=np.result_type(directions, controls.A))
    if d.lift_weight is not None:
        dx = dx + problem.input_values @ d.lift_weight.mT + d.lift_bias[:, None, :]
    tangents = []
    dstep, dK = np.zeros_like(dx), np.zeros_like(dx)
    for index, stage in enumerate(trajectory.stages):
        k = stage.k
        if stage.a == 0.0:
            dstep, dK = np.zeros_like(dx), np.zeros_like(dx)
        dX = dx + (h * stage.a) * dK
        dv = dX @ controls.A[k].T + stage.X @ d.A[:, k].mT + d.b[:, k, None, :]
        dsigma = stage.sigma[1] * dv
        dK = dsigma if W is None else dsigma @ W[k].T + stage.sigma[0] @ d.W[:, k].mT
        dstep = dstep + stage.w * dK
        tangents.append((dX, dv, dsigma))
        last = index + 1 == len(trajectory.stages) or trajectory.stages[index + 1].a == 0.0
        if last:
            dx = dx + h * dstep
    # backward: the adjoint and its tangent together
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
    for stage, (dX, dv, dsigma) in zip(reversed(trajectory.stages), tangents[::-1], strict=True):
        k, hw = stage.k, h * stage.w
        kappa = hw * adjoint + (h * a_next) * mu_next
        dkappa = hw * dadjoint + (h * a_next) * dmu_next
        if W is not None:
            out.W[:, k] += dkappa.mT @ stage.sigma[0] + kappa.T @ dsigma
            dkappa = dkappa @ W[k] + kappa @ d.W[:, k]
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
    if out.lift_weight is not None:
        out.lift_weight[...] += dadjoint.mT @ problem.input_values
        out.lift_bias[...] += dadjoint.sum(axis=1)
    product = np.concatenate([flatten(_row(out, i))[None] for i in range(m)])
    return product + penalty_weights(problem) * directions


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


def _layer_squares(controls: Controls) -> np.ndarray:
    """|u_k|^2 without a square root or abs, so that complex steps pass through."""
    squares = (controls.A**2).sum(axis=(1, 2)) + (controls.b**2).sum(axis=1)
    if controls.W is not None:
        squares = squares + (controls.W**2).sum(axis=(1, 2))
    return squares


def _trained_ends(controls: Controls) -> list[tuple[str, np.ndarray]]:
    names = ("lift_weight", "lift_bias", "readout_weight", "readout_bias")
    return [(n, getattr(controls, n)) for n in names if getattr(controls, n) is not None]


def penalty_weights(problem: Problem) -> np.ndarray:
    """Diagonal of the quadratic penalty: h r on layers, r_ends on trained ends, (d,)."""
    weights = np.full(problem.n_decision, problem.r_ends)
    n = problem.width
    weights[: problem.depth * ((2 if problem.block == "double" else 1) * n * n + n)] = (
        problem.h * problem.r
    )
    return weights


def _penalty_gradient(problem: Problem, controls: Controls) -> Controls:
    """The gradient of the quadratic penalty, to be added to in place."""
    return unflatten(problem, penalty_weights(problem) * flatten(controls))


def _residual(problem: Problem, controls: Controls, X: np.ndarray) -> np.ndarray:
    """(softmax z - q)/n_d, (n_d, n_c): the gradient of F with respect to the logits."""
    p = loss.softmax(logits(problem, controls, X))
    return (p - problem.soft_targets) / problem.n_samples


def _residual_tangent(problem, controls, d: Controls, X, dX):
    """The residual and its tangent in m directions, (n_d, n_c) and (m, n_d, n_c)."""
    _, _, C, _ = ends(problem, controls)
    dz = dX @ C.T
    if d.readout_weight is not None:
        dz = dz + X @ d.readout_weight.mT + d.readout_bias[:, None, :]
    p = loss.softmax(logits(problem, controls, X))
    dp = p * (dz - (p * dz).sum(axis=-1, keepdims=True)) / problem.n_samples
    return (p - problem.soft_targets) / problem.n_samples, dp


def _add_readout(grad: Controls, weight: float, p_minus_q: np.ndarray, X: np.ndarray) -> None:
    if grad.readout_weight is not None:
        grad.readout_weight[...] += weight * (p_minus_q.T @ X)
        grad.readout_bias[...] += weight * p_minus_q.sum(axis=0)


def _add_readout_tangent(out: Controls, weight: float, p_minus_q, dp, X, dX) -> None:
    if out.readout_weight is not None:
        out.readout_weight[...] += weight * (dp.mT @ X + p_minus_q.T @ dX)
        out.readout_bias[...] += weight * dp.sum(axis=1)


def _row(controls: Controls, i: int) -> Controls:
    parts = {name: getattr(controls, name) for name in Controls.__slots__}
    return Controls(**{k: None if v is None else v[i] for k, v in parts.items()})
