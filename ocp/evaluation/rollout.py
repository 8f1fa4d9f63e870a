"""Reference evaluation in NumPy: states, objective, costate, gradient, KKT residual.

One layer of an explicit Runge-Kutta scheme with stages s = 1..S is the chain

    X_s = x_k + h a_s K_{s-1},   v_s = A_k X_s + b_k,   K_s = sigma(v_s)   [W_k sigma(v_s)],
    x_{k+1} = x_k + h sum_s w_s K_s,

so one loop over stages, read backwards for the adjoint, serves every scheme and block.
All functions are batched over samples and accept complex controls where sigma is analytic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import loss
from ..controls import Controls, ends, flatten, penalty_diagonal, unflatten
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
    states: list[np.ndarray] = [x]
    stages: list[Stage] = []
    for k in range(problem.depth):
        x, of_layer = layer(problem, controls, k, x, order)
        states.append(x)
        stages.extend(of_layer)
    return Trajectory(X=np.stack(np.broadcast_arrays(*states)), stages=tuple(stages))


def logits(problem: Problem, controls: Controls, X: np.ndarray) -> np.ndarray:
    """z = C x + c for states of any leading shape, (..., n_c)."""
    _, _, C, c = ends(problem, controls)
    return X @ C.T + c


def relative_logits(problem: Problem, controls: Controls, X: np.ndarray) -> np.ndarray:
    """z - c_0: losses do not see a common offset of the logits, rounding does; (..., n_c)."""
    _, _, C, c = ends(problem, controls)
    return X @ C.T + (c - c[0])


def data_cost(problem: Problem, controls: Controls, X: np.ndarray) -> np.ndarray:
    """F(x) = (1/n_d) sum_i g_{y_i}(C x^i + c) for states (..., n_d, n); shape (...)."""
    z = relative_logits(problem, controls, X)
    g = loss.soft_cross_entropy(z, problem.soft_targets)
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
    trained = (getattr(controls, part) for part in problem.trained_parts)
    return cost + 0.5 * problem.r_ends * sum((value**2).sum() for value in trained)


def gradient(
    problem: Problem, controls: Controls, trajectory: Trajectory | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return dJ/du in the flat order, (d,), and the costate lambda_k = dJ/dx_k, (N+1, n_d, n).

    lambda_N = gamma grad F(x_N), then backwards through `layer_adjoint`; this is the discrete
    Pontryagin principle and back-propagation alike.
    """
    if trajectory is None or len(trajectory.stages[0].sigma) < 2:
        trajectory = rollout(problem, controls, order=1)
    return _backwards(problem, controls, trajectory)


def gradient_size(problem: Problem, controls: Controls) -> float:
    """Largest entry of dJ/du with the absolute value of every term in every sum.

    Rounding of the gradient is relative to it.
    """
    total, _ = _backwards(problem, controls, rollout(problem, controls, order=1), sizes=True)
    return float(total.max())


def _backwards(
    problem: Problem, controls: Controls, trajectory: Trajectory, sizes: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    grad = _penalty_gradient(problem, controls)
    if sizes:
        grad = unflatten(problem, np.abs(flatten(grad)))
    adjoint = terminal_adjoint(problem, controls, trajectory.X[-1], grad, sizes)
    costate = [adjoint]
    per_layer = len(SCHEMES[problem.scheme][0])
    for k in reversed(range(problem.depth)):
        stages = trajectory.stages[k * per_layer : (k + 1) * per_layer]
        adjoint = adjoint + layer_adjoint(problem, controls, stages, adjoint, grad, sizes)
        costate.append(adjoint)
    add_lift(grad, problem, adjoint, sizes)
    return flatten(grad), np.stack(costate[::-1])


def terminal_adjoint(
    problem: Problem, controls: Controls, x: np.ndarray, grad: Controls, sizes: bool = False
) -> np.ndarray:
    """Return gamma grad F(x), (n_d, n); a trained readout's part is added to `grad` in place.

    sizes : as in `layer_adjoint`
    """
    of = _of(sizes)
    C = of(ends(problem, controls)[2])
    p_minus_q = _residual(problem, controls, x, sizes)
    _add_readout(grad, problem.gamma, p_minus_q, of(x))
    return problem.gamma * p_minus_q @ C


def layer_adjoint(
    problem: Problem,
    controls: Controls,
    stages: tuple[Stage, ...],
    adjoint: np.ndarray,
    grad: Controls,
    sizes: bool = False,
) -> np.ndarray:
    """Return d(h l_k + lambda_{k+1}.(Phi - x))/dx_k, (n_d, n), adding d/du_k to `grad` in place.

    kappa_s = h w_s lambda_{k+1} + h a_{s+1} mu_{s+1}   is the adjoint of K_s,
    mu_s = h w_s beta grad F(X_s) + A'(sigma'(v_s) * W' kappa_s)   that of X_s.

    sizes : the same with the absolute value of every term; `adjoint` then is one of sizes
    """
    of = _of(sizes)
    k, h, C = stages[0].k, problem.h, of(ends(problem, controls)[2])
    A, W = of(controls.A[k]), None if controls.W is None else of(controls.W[k])
    mu, total, a_next = np.zeros_like(adjoint), np.zeros_like(adjoint), 0.0
    for stage in reversed(stages):
        kappa = (h * stage.w) * adjoint + (h * a_next) * mu
        if W is not None and grad.W is not None:
            grad.W[k] += kappa.T @ of(stage.sigma[0])
            kappa = kappa @ W
        zeta = kappa * of(stage.sigma[1])
        grad.A[k] += zeta.T @ of(stage.X)
        grad.b[k] += zeta.sum(axis=0)
        mu = zeta @ A
        if problem.beta:
            p_minus_q = _residual(problem, controls, stage.X, sizes)
            mu = mu + (h * stage.w) * (p_minus_q @ C)
            _add_readout(grad, h * stage.w, p_minus_q, of(stage.X))
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
    add_lift(grad, problem, adjoint)
    return {
        "dynamics": float(max(dynamics)),
        "states": float(max(states)),
        "controls": float(np.abs(flatten(grad)).max()),
    }


def _layer_squares(controls: Controls) -> np.ndarray:
    """|u_k|^2 without a square root or abs, so that complex steps pass through."""
    squares = (controls.A**2).sum(axis=(1, 2)) + (controls.b**2).sum(axis=1)
    if controls.W is not None:
        squares = squares + (controls.W**2).sum(axis=(1, 2))
    return squares


def _penalty_gradient(problem: Problem, controls: Controls) -> Controls:
    """The gradient of the quadratic penalty, to be added to in place."""
    return unflatten(problem, penalty_diagonal(problem) * flatten(controls))


def _residual(
    problem: Problem, controls: Controls, X: np.ndarray, sizes: bool = False
) -> np.ndarray:
    """(softmax z - q)/n_d, (n_d, n_c): the gradient of F with respect to the logits."""
    p = loss.softmax(relative_logits(problem, controls, X))
    return (p + problem.soft_targets if sizes else p - problem.soft_targets) / problem.n_samples


def _of(sizes: bool) -> Callable[[np.ndarray], np.ndarray]:
    return np.abs if sizes else lambda term: term


def add_lift(grad: Controls, problem: Problem, adjoint: np.ndarray, sizes: bool = False) -> None:
    """Add the part of a trained lift; adjoint: of x_0, (n_d, n), or m tangents of it."""
    if grad.lift_weight is not None and grad.lift_bias is not None:
        grad.lift_weight[...] += adjoint.mT @ _of(sizes)(problem.input_values)
        grad.lift_bias[...] += adjoint.sum(axis=-2)


def _add_readout(grad: Controls, weight: float, p_minus_q: np.ndarray, X: np.ndarray) -> None:
    if grad.readout_weight is not None and grad.readout_bias is not None:
        grad.readout_weight[...] += weight * (p_minus_q.T @ X)
        grad.readout_bias[...] += weight * p_minus_q.sum(axis=0)
