"""Forward and backward sweeps in stacked arrays: what the structured solver evaluates.

The same chain as in `rollout` (stage points X_s, pre-activations v_s, stage slopes K_s), but
only the recursions run layer by layer; losses, activation derivatives and parameter gradients
are taken over all layers and samples at once.  Arrays are (stage, layer, sample, coordinate).

Nothing here is needed to state or to judge a problem: `rollout` is the readable reference,
and the tests hold the two together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .. import loss
from ..controls import Controls, ends, flatten, penalty_diagonal, unflatten
from ..problem import SCHEMES, Problem


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Constants:
    """What does not change from iterate to iterate.

    weights : of the data cost at each loss point, (S N + 1,): h w_s beta, last gamma
    first : index of the first loss point that counts, 0 for beta = 1, S N for beta = 0
    penalty : diagonal of the quadratic penalty, (d,)
    """

    problem: Problem
    inputs: np.ndarray
    targets: np.ndarray
    entropy: float
    nodes: tuple[float, ...]
    quadrature: tuple[float, ...]
    weights: np.ndarray
    first: int
    penalty: np.ndarray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Forward:
    """One forward sweep.

    X : loss points, (S N + 1, n_d, n): stage s of layer k at s N + k, the final state last
    v, sigma : pre-activations and their activations, (S, N, n_d, n)
    p : softmax of the logits at the loss points that count, (S N + 1 - first, n_d, n_c)
    """

    controls: Controls
    objective: float
    X: np.ndarray
    v: np.ndarray
    sigma: np.ndarray
    p: np.ndarray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Backward:
    """One backward sweep: dJ/du in the flat order and the adjoints kappa_s = dJ/dK_s.

    kappa, dsigma, ddsigma : (S, N, n_d, n)
    """

    gradient: np.ndarray
    kappa: np.ndarray
    dsigma: np.ndarray
    ddsigma: np.ndarray


def prepare(problem: Problem) -> Constants:
    """Collect the constants of a problem."""
    nodes, quadrature = SCHEMES[problem.scheme]
    per_stage = np.repeat(problem.h * problem.beta * np.array(quadrature), problem.depth)
    targets = problem.soft_targets
    return Constants(
        problem=problem,
        inputs=problem.input_values,
        targets=targets,
        entropy=float(loss.entropy(targets[:1])[0]),
        nodes=nodes,
        quadrature=quadrature,
        weights=np.append(per_stage, problem.gamma),
        first=0 if problem.beta else len(nodes) * problem.depth,
        penalty=penalty_diagonal(problem),
    )


def keep_freed_memory() -> None:
    """Make the C library keep what NumPy frees: page faults cost more than the arithmetic.

    glibc raises its thresholds for returning memory to the size of the largest block freed so
    far, 32 MB at most; measured, the Hessian at d = 240 then takes 5 instead of 12 ms.  No
    effect elsewhere.
    """
    block = np.empty(31 << 20, dtype=np.uint8)
    del block


def forward(constants: Constants, u: np.ndarray) -> Forward:
    """Roll the states out and evaluate J; u in the flat order, (d,)."""
    problem = constants.problem
    controls = unflatten(problem, u)
    E, e, C, c = ends(problem, controls)
    N, n, n_d, h = problem.depth, problem.width, problem.n_samples, problem.h
    S, sigma = len(constants.nodes), problem.sigma
    X = np.empty((S * N + 1, n_d, n))
    v, values = np.empty((S, N, n_d, n)), np.empty((S, N, n_d, n))
    x = constants.inputs @ E.T + e
    A_T = np.ascontiguousarray(controls.A.mT)
    W_T = None if controls.W is None else np.ascontiguousarray(controls.W.mT)
    for k in range(N):
        point, K, step = x, x, x
        for s in range(S):
            if constants.nodes[s]:
                point = x + (h * constants.nodes[s]) * K
            X[s * N + k] = point
            pre = v[s, k]
            np.matmul(point, A_T[k], out=pre)
            pre += controls.b[k]
            K = values[s, k] = sigma(pre)
            if W_T is not None:
                K = K @ W_T[k]
            slope = constants.quadrature[s] * K
            step = slope if s == 0 else step + slope
        x = x + h * step
    X[S * N] = x
    g, p = _loss(X[constants.first :] @ C.T + c, constants.targets)
    cost = constants.weights[constants.first :] @ (g.mean(axis=1) - constants.entropy)
    objective = float(cost) + 0.5 * float(u @ (constants.penalty * u))
    return Forward(controls=controls, objective=objective, X=X, v=v, sigma=values, p=p)


def backward(constants: Constants, sweep: Forward) -> Backward:
    """Adjoints and gradient at a forward sweep; see `rollout.gradient` for the recursion."""
    problem, controls = constants.problem, sweep.controls
    _, _, C, _ = ends(problem, controls)
    N, n_d, h, W = problem.depth, problem.n_samples, problem.h, controls.W
    S, first = len(constants.nodes), constants.first
    _, dsigma, ddsigma = problem.sigma.derivatives(sweep.v, 2)
    residual = (constants.weights[first:, None, None] / n_d) * (sweep.p - constants.targets)
    dloss = residual @ C
    adjoint = dloss[-1]
    kappa = np.empty_like(sweep.v)
    zeta = kappa if W is None else np.empty_like(kappa)
    for k in range(N - 1, -1, -1):
        mu: np.ndarray | None = None
        mu_sum: np.ndarray | None = None
        for s in range(S - 1, -1, -1):
            kappa_s = (h * constants.quadrature[s]) * adjoint
            if mu is not None:  # a later stage starts from this one's slope
                kappa_s += (h * constants.nodes[s + 1]) * mu
            kappa[s, k] = kappa_s
            if W is not None:
                kappa_s = kappa_s @ W[k]
                zeta[s, k] = kappa_s
            mu = (kappa_s * dsigma[s, k]) @ controls.A[k]
            if first == 0:
                mu += dloss[s * N + k]
            mu_sum = mu if mu_sum is None else mu_sum + mu
        adjoint = adjoint + mu_sum
    zeta = zeta * dsigma
    points = sweep.X[: S * N].reshape(sweep.v.shape)
    parts = {"A": (zeta.mT @ points).sum(axis=0), "b": zeta.sum(axis=(0, 2))}
    if W is not None:
        parts["W"] = (kappa.mT @ sweep.sigma).sum(axis=0)
    if controls.lift_weight is not None:
        parts["lift_weight"] = adjoint.T @ constants.inputs
        parts["lift_bias"] = adjoint.sum(axis=0)
    if controls.readout_weight is not None:
        parts["readout_weight"] = (residual.mT @ sweep.X[first:]).sum(axis=0)
        parts["readout_bias"] = residual.sum(axis=(0, 1))
    gradient = flatten(Controls(**parts)) + constants.penalty * flatten(controls)
    return Backward(gradient=gradient, kappa=kappa, dsigma=dsigma, ddsigma=ddsigma)


def _loss(z: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Cross-entropy without its constant, (..., n_d), and softmax, (..., n_d, n_c)."""
    if z.shape[-1] == 2:  # reductions over an axis of two are slow
        difference = z[..., 1] - z[..., 0]
        t = np.exp(-np.abs(difference))
        g = np.maximum(difference, 0.0) + np.log1p(t) - q[:, 1] * difference
        larger = 1.0 / (1.0 + t)
        p = np.empty_like(z)
        p[..., 1] = np.where(difference >= 0.0, larger, t * larger)
        p[..., 0] = np.where(difference >= 0.0, t * larger, larger)
        return g, p
    w = z - z.max(axis=-1, keepdims=True)
    p = np.exp(w)
    total = p.sum(axis=-1)
    p /= total[..., None]
    return np.log(total) - (q * w).sum(axis=-1), p
