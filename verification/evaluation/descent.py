"""Directions of descent, shown by evaluating J: what turns "undecided" into "failed"."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.optimize

from ocp.controls import Controls, flatten, unflatten
from ocp.problem import Problem

from . import adjoint, states

SEED = 20240513
#: gradients sampled around a kink, and how far from it
SAMPLES = 60
RADII = (1e-7, 1e-5)
#: multiplications of all sampled gradients; beyond it fewer are taken, or none
WORK = 2e9


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Descent:
    """J(u) - J(u + step) = decrease > 0, evaluated.

    rate : decrease per unit of |step|_1 at the smallest step that can be resolved
    """

    step: np.ndarray
    decrease: float
    rate: float


def descend(
    problem: Problem, controls: Controls, direction: np.ndarray, slope: float
) -> Descent | None:
    """Show that J falls along a direction from the start: at the smallest resolvable step.

    A lower value farther away alone would show another basin, not that this point is no minimum.

    slope : decrease per unit of t that is granted (what a gradient within the tolerance causes)
    """
    J, rounding = states.objective(problem, controls), _rounding(problem, controls)
    steps = 0.5 ** np.arange(0, 40)
    fall = J - _along(problem, controls, direction, steps)
    resolvable = np.flatnonzero(np.abs(fall) > rounding + slope * steps)
    if not len(resolvable) or not fall[resolvable[-1]] > 0:
        return None
    # the longest step up to which every shorter one falls as well
    first = resolvable[-1]
    while first > 0 and fall[first - 1] > fall[first]:
        first -= 1
    rate = fall[resolvable[-1]] / (steps[resolvable[-1]] * np.abs(direction).sum())
    return Descent(step=steps[first] * direction, decrease=float(fall[first]), rate=float(rate))


def descend_by_curvature(
    problem: Problem, controls: Controls, direction: np.ndarray
) -> Descent | None:
    """Show that J has negative curvature along a direction, and falls along it.

    J(u + t d) + J(u - t d) - 2 J(u) < 0 at the smallest resolvable t: no slope explains that.
    """
    J, rounding = states.objective(problem, controls), 4 * _rounding(problem, controls)
    steps = 0.5 ** np.arange(0, 30)
    ahead = J - _along(problem, controls, direction, steps)
    behind = J - _along(problem, controls, -direction, steps)
    bend = ahead + behind
    resolvable = np.flatnonzero(np.abs(bend) > rounding)
    if not len(resolvable) or not bend[resolvable[-1]] > 0:
        return None
    fall, sign = (ahead, 1.0) if ahead[resolvable[-1]] >= behind[resolvable[-1]] else (behind, -1.0)
    first = resolvable[-1]
    while first > 0 and fall[first - 1] > fall[first]:
        first -= 1
    step = sign * steps[first] * direction
    rate = fall[resolvable[-1]] / (steps[resolvable[-1]] * np.abs(direction).sum())
    return Descent(step=step, decrease=float(fall[first]), rate=float(rate))


def descend_once(
    problem: Problem, controls: Controls, gradient: np.ndarray, J: float, tolerance: float
) -> Descent | None:
    """Try one step along -g, short enough that its decrease is just resolved: one forward pass."""
    squared = float(gradient @ gradient)
    rounding = 100 * np.finfo(float).eps * max(1.0, abs(J))
    if not 0.0 < squared < np.inf:
        return None
    step = -(1e4 * rounding / squared) * gradient
    fall = J - states.objective(problem, unflatten(problem, flatten(controls) + step))
    length = float(np.abs(step).sum())
    if not fall > rounding + tolerance * length:
        return None
    return Descent(step=step, decrease=float(fall), rate=float(fall) / length)


def _along(
    problem: Problem, controls: Controls, direction: np.ndarray, steps: np.ndarray
) -> np.ndarray:
    u = flatten(controls)
    with np.errstate(all="ignore"):
        return np.array(
            [states.objective(problem, unflatten(problem, u + t * direction)) for t in steps]
        )


def _rounding(problem: Problem, controls: Controls) -> float:
    """What two evaluations of J may differ by without meaning."""
    return 100 * np.finfo(float).eps * max(1.0, abs(states.objective(problem, controls)))


def descend_from_kink(
    problem: Problem, controls: Controls, gradient: np.ndarray, tolerance: float
) -> Descent | None:
    """Look for descent where J has kinks, along -g and along the shortest sampled subgradient.

    The shortest vector in the convex hull of gradients sampled nearby is a direction of descent
    unless the point is stationary in Clarke's sense (Burke, Lewis, Overton, SIAM J. Optim. 15,
    2005).  A decrease counts if it exceeds what a gradient of `tolerance` in every entry allows.
    """
    candidates = [gradient]
    work = problem.n_samples * problem.depth * problem.width**2
    count = int(np.clip(WORK / max(work, 1), 0, SAMPLES))
    rng, u = np.random.default_rng(SEED), flatten(controls)
    for radius in RADII if count > 1 else ():
        nearby = u + radius * rng.uniform(-1, 1, (count, len(u)))
        # not the gradient by convention: with relu'(0) = 0 it need not be a subgradient of J
        hull = np.stack([adjoint.gradient(problem, unflatten(problem, v))[0] for v in nearby])
        candidates.append(_shortest(hull))
    best = None
    for candidate in candidates:
        length = np.linalg.norm(candidate)
        if not 0.0 < length < np.inf:
            continue
        direction = -candidate / length
        slope = tolerance * float(np.abs(direction).sum())
        found = descend(problem, controls, direction, slope)
        if found is not None and (best is None or found.decrease > best.decrease):
            best = found
    return best


def _shortest(hull: np.ndarray) -> np.ndarray:
    """Shortest convex combination of the rows: nonnegative least squares with a weight on sum 1."""
    scale = np.abs(hull).max(initial=0.0)
    if not 0.0 < scale < np.inf:
        return hull[0]
    heavy = 1e4
    system = np.vstack([hull.T / scale, np.full(len(hull), heavy)])
    target = np.zeros(len(system))
    target[-1] = heavy
    weights, _ = scipy.optimize.nnls(system, target)
    return weights @ hull / max(weights.sum(), 1e-300)
