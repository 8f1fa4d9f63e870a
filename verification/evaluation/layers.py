"""The judge's own depth used, entry layer, idling and cropping."""

from __future__ import annotations

import numpy as np

from ocp import loss
from ocp.problem import SCHEMES, Problem

from . import states
from .subject import Subject, TrainingSubject

#: tau of "depth used": idling the later layers may change J by this share
TAU = 1e-2


def entry_layer(subject: Subject) -> int:
    """First k with F(x_j) - l* <= 1.1 (F(x_N) - l*) + 1e-3 g_mis for all j >= k."""
    problem, cost = subject.problem, subject.survey.data_cost
    g_mis = loss.misclassification_threshold(problem.n_classes, problem.p_d)
    above = cost - subject.minimisers.least
    bound = 1.1 * above[-1] + 1e-3 * g_mis
    k = problem.depth
    if not above[k] <= bound:
        return k + 1
    while k > 0 and above[k - 1] <= bound:
        k -= 1
    return k


def bracket(subject: Subject, k: int) -> float:
    """sum_{j >= k} h l_j + gamma F(x_N): what idling or cropping at k replaces."""
    problem, found = subject.problem, subject.survey
    later = problem.h * float(found.layer_cost[k:].sum())
    return later + problem.gamma * float(found.data_cost[-1])


def idled_change(subject: Subject, k: int) -> float:
    """J(idled at k) - J by the formula; needs sigma(0) = 0 or a double block."""
    problem = subject.problem
    left = problem.h * problem.beta * (problem.depth - k) + problem.gamma
    return left * float(subject.survey.data_cost[k]) - bracket(subject, k)


def cropped_change(subject: Subject, k: int) -> float:
    """J(cropped at k) - J by the formula, k = 0..N."""
    return subject.problem.gamma * float(subject.survey.data_cost[k]) - bracket(subject, k)


def idles(problem: Problem) -> bool:
    """Whether u = 0 leaves every state where it is."""
    return problem.block == "double" or problem.sigma.zero_at_zero


def logits_at(subject: TrainingSubject, k: int) -> np.ndarray:
    """Logits read out at layer k, (n_d, n_c)."""
    if subject.survey.logits is not None:
        return subject.survey.logits[k]
    problem, controls = subject.problem, subject.controls
    result = np.empty((problem.n_samples, problem.n_classes))
    for batch in states.batches(problem):
        run = states.propagate(problem, controls, batch)
        result[batch.rows] = states.logits(problem, controls, run.X[k])
    return result


def idled_and_cropped_objectives(subject: TrainingSubject, k: int) -> tuple[float, float]:
    """J with u_j = 0 for j >= k, and J of the first k layers, evaluated in one pass.

    The idled network is rolled out whole; the cropped one is its first k layers.
    """
    problem, controls = subject.problem, subject.controls.idled(k)
    weights = np.array(SCHEMES[problem.scheme][1])
    costs = problem.h * states.regularisation(problem, controls)
    final = np.zeros(2)  # F(x_k), F(x_N)
    for batch in states.batches(problem):
        run = states.propagate(problem, controls, batch)
        share = 1.0 / problem.n_samples
        z = states.logits(problem, controls, run.X[[k, -1]])
        final += share * loss.soft_cross_entropy(z, batch.q).sum(axis=-1)
        if problem.beta:
            z = states.logits(problem, controls, run.Y)
            costs += problem.h * share * (loss.soft_cross_entropy(z, batch.q).sum(-1) @ weights)
    ends = states.ends_cost(problem, controls)
    idled = float(costs.sum()) + problem.gamma * float(final[1]) + ends
    return idled, float(costs[:k].sum()) + problem.gamma * float(final[0]) + ends


def flips(z: np.ndarray, other: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Samples whose predicted class, or whether it is right, changes; (n_d,) bool."""
    moved = z.argmax(axis=-1) != other.argmax(axis=-1)
    return moved | (loss.is_right(z, labels) != loss.is_right(other, labels))


def depth_used(subject: TrainingSubject, tolerance: float = TAU) -> int:
    """Smallest k at which idling changes J by at most tolerance * J and flips nothing.

    Idling keeps x_k, so the logits are those at layer k; where u = 0 moves the states, J and the
    logits of the idled network are evaluated.
    """
    problem, found = subject.problem, subject.survey
    J = found.objective
    for k in range(problem.depth):
        if idles(problem):
            if abs(idled_change(subject, k)) <= tolerance * abs(J):
                after = logits_at(subject, k)
                if not flips(found.final_logits, after, problem.labels).any():
                    return k
        else:
            controls = subject.controls.idled(k)
            other = states.survey(problem, controls)
            if abs(other.objective - J) <= tolerance * abs(J):
                after = other.final_logits
                if not flips(found.final_logits, after, problem.labels).any():
                    return k
    return problem.depth
