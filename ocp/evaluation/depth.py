"""How much of the depth a network uses: layer table, idling, cropping, entry layer.

idled at k     u_j := 0 for j >= k, depth stays N
cropped at k   layers j >= k removed
depth used     smallest k such that idling at k changes J by at most tau J and flips nothing
entry layer    first k with F(x_j) - l* <= 1.1 (F(x_N) - l*) + 1e-3 g_mis for all j >= k
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import xlogy

from .. import loss
from ..controls import Controls, ends
from ..problem import Problem
from .rollout import data_cost, layer_costs, logits, objective, rollout

#: tau of "depth used": idling the later layers may change J by this share
TAU = 1e-2
#: a layer idles if its control norm is below this share of the largest
IDLE_SHARE = 1e-2


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LayerTable:
    """What happens layer by layer.

    data_cost : F(x_k), (N+1,)
    stage_cost : l_k, (N,), without the factor h
    control_norm : |u_k|, (N,)
    distance : mean over samples of the distance of x_k to the sample's minimiser subspace, (N+1,);
        NaN where there is none (hard labels, rank-deficient readout)
    accuracy : share of samples classified right by the readout at layer k, (N+1,)
    """

    data_cost: np.ndarray
    stage_cost: np.ndarray
    control_norm: np.ndarray
    distance: np.ndarray
    accuracy: np.ndarray


def layer_table(problem: Problem, controls: Controls) -> LayerTable:
    """Evaluate the table at the rolled-out states."""
    trajectory = rollout(problem, controls)
    z = logits(problem, controls, trajectory.X)
    return LayerTable(
        data_cost=data_cost(problem, controls, trajectory.X),
        stage_cost=layer_costs(problem, controls, trajectory),
        control_norm=controls.norms(),
        distance=subspace_distance(problem, controls, trajectory.X).mean(axis=-1),
        accuracy=loss.is_right(z, problem.labels).mean(axis=-1),
    )


def subspace_distance(problem: Problem, controls: Controls, X: np.ndarray) -> np.ndarray:
    """Distance of x^i to M_y = {x : P C x = P(log q(y) - c)}, P = I - 11'/n_c; (...), X (..., n).

    NaN where M_y is empty or not defined: p_d = 1, or rank(P C) < n_c - 1.
    """
    _, _, C, c = ends(problem, controls)
    PC = C - C.mean(axis=0)
    if problem.p_d == 1.0 or np.linalg.matrix_rank(PC) < problem.n_classes - 1:
        return np.full(X.shape[:-1], np.nan)
    target = np.log(problem.soft_targets) - c
    gap = X @ PC.T - (target - target.mean(axis=-1, keepdims=True))
    # the nearest point of the affine subspace is reached along the row space of P C
    return np.linalg.norm(gap @ np.linalg.pinv(PC).T, axis=-1)


def idled_objective(problem: Problem, controls: Controls, k: int) -> float:
    """J with u_j = 0 for j >= k, evaluated."""
    return float(objective(problem, controls.idled(k)))


def cropped_objective(problem: Problem, controls: Controls, k: int) -> float:
    """J of the network of depth k made of the first k layers, k >= 1, evaluated."""
    return float(objective(problem.with_(depth=k), controls.layers(0, k)))


def depth_used(problem: Problem, controls: Controls, tolerance: float = TAU) -> int:
    """Return the smallest k at which idling changes J by at most tolerance * J and flips nothing.

    A flip is a change of the predicted class or of whether the prediction is right (a tie is not).
    """
    J = float(objective(problem, controls))
    predicted, right = _classification(problem, controls)
    for k in range(problem.depth):
        idled = controls.idled(k)
        if abs(objective(problem, idled) - J) <= tolerance * abs(J):
            after, still = _classification(problem, idled)
            if np.array_equal(after, predicted) and np.array_equal(still, right):
                return k
    return problem.depth


def entry_layer(problem: Problem, controls: Controls) -> int:
    """Return the first layer from which the data cost stays near its final value."""
    F = data_cost(problem, controls, rollout(problem, controls).X)
    least = least_data_cost(problem, controls)
    g_mis = loss.misclassification_threshold(problem.n_classes, problem.p_d)
    near = F - least <= 1.1 * (F[-1] - least) + 1e-3 * g_mis
    outside = np.flatnonzero(~near)
    return 0 if len(outside) == 0 else int(outside[-1]) + 1


def idle_from(controls: Controls) -> int:
    """Return the layer from which on every |u_k| is below 1 % of the largest."""
    norms = controls.norms()
    busy = np.flatnonzero(norms > IDLE_SHARE * norms.max())
    return 0 if len(busy) == 0 else int(busy[-1]) + 1


def least_data_cost(problem: Problem, controls: Controls) -> float:
    """l*: the least value of F over all states, 0 unless the readout or duplicates forbid it.

    Rank-deficient readout: the mean over samples of min_x g_y(C x + c), found by convex
    minimisation over the range of C.  Equal lifted inputs with different labels: merged with
    their mean target, which adds the weighted Jensen-Shannon gap.
    """
    E, e, C, c = ends(problem, controls)
    lifted = problem.input_values @ E.T + e
    _, group = np.unique(lifted, axis=0, return_inverse=True)
    group = group.ravel()
    counts = np.bincount(group)
    q = problem.soft_targets
    mean_q = np.zeros((len(counts), problem.n_classes))
    np.add.at(mean_q, group, q)
    mean_q /= counts[:, None]
    gap = (xlogy(q, q).sum() - (counts[:, None] * xlogy(mean_q, mean_q)).sum()) / len(q)
    PC = C - C.mean(axis=0)
    if problem.p_d == 1.0 or np.linalg.matrix_rank(PC) == problem.n_classes - 1:
        return max(0.0, float(gap))
    least = 0.0
    targets, weights = np.unique(mean_q, axis=0, return_inverse=True)
    share = np.bincount(weights.ravel(), weights=counts) / len(q)
    for target, part in zip(targets, share, strict=True):
        least += part * _least_loss(C, c, target)
    return float(gap) + least


def _least_loss(C: np.ndarray, c: np.ndarray, target: np.ndarray) -> float:
    """min_x KL(target || softmax(C x + c)): Newton's method, the problem is convex."""
    left, singular, _ = np.linalg.svd(C - C.mean(axis=0), full_matrices=False)
    basis = left[:, singular > singular.max(initial=0.0) * 1e-12]
    y = np.zeros(basis.shape[1])
    for _ in range(100):
        p = loss.softmax(basis @ y + c)
        g = basis.T @ (p - target)
        if np.abs(g).max(initial=0.0) < 1e-15:
            break
        H = basis.T @ (np.diag(p) - np.outer(p, p)) @ basis
        step = np.linalg.solve(H, g)
        y = y - step / max(1.0, np.linalg.norm(step) / 5)
    return float(loss.soft_cross_entropy(basis @ y + c, target))


def right_by_class(problem: Problem, controls: Controls) -> np.ndarray:
    """How many samples of each class the readout of the last state has right, (n_c,)."""
    right = _classification(problem, controls)[1]
    return np.bincount(problem.labels[right], minlength=problem.n_classes)


def _classification(problem: Problem, controls: Controls) -> tuple[np.ndarray, np.ndarray]:
    """Predicted class and whether it is right, (n_d,) each."""
    z = logits(problem, controls, rollout(problem, controls).X[-1])
    return z.argmax(axis=-1), loss.is_right(z, problem.labels)
