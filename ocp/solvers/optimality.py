"""What this project calls solved: our own residual and our own curvature, never a return string.

    stationary     max |dJ/du| <= tol at the rolled-out states
    SOLVED         and lambda_min > band, here and after one Newton step, and these steps contract
    SADDLE         lambda_min < -band, and J decreases along the eigenvector, evaluated
    FLAT           lambda_min > band, but Newton's steps do not contract: no stationary point near
    DEGENERATE     none of these
    band           10 d eps |H|_2 + |H_assembled - H_by_products|_2, two exact routes

Contraction, with s = H^-1 g and largest entries: |s| <= 1e-3 max(1, |u|), and either both are
rounding, |s| <= 1e-11 max(1, |u|) and |g| <= 100 eps G with G the gradient summed with absolute
values, or |g(u - s)| <= |g|/4 and the next step is at most half as long, or at that floor.  Flat
tails, where J falls for ever, meet any absolute tolerance and fail this.

Constraint qualification holds always (the state Jacobian is unit block lower triangular), so the
reduced Hessian decides.  Reference: Nocedal and Wright, Numerical Optimization, theorems 12.5-12.6.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ..controls import Controls, flatten, unflatten
from ..evaluation.rollout import Trajectory, gradient, gradient_size, objective, rollout
from ..problem import Problem
from .curvature import Curvature, by_eigenvalues
from .solution import Solution, SolveReport, Status

KINK_TOLERANCE = 1e-9
#: longest Newton step to a stationary point that counts as near, over max(1, |u|_inf)
NEARBY = 1e-3
#: what is rounding: steps over max(1, |u|_inf), gradients in eps times their size
ROUNDED_STEP, ROUNDED = 1e-11, 100


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Kinks:
    """Pre-activations on kinks: how many, and the first one."""

    count: int
    where: str


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Optimality:
    """First- and second-order facts about one point; NaN where they were not evaluated."""

    status: Status
    objective: float
    grad_inf_norm: float
    costate: np.ndarray
    states: np.ndarray
    kinks: Kinks
    min_curvature: float = float("nan")
    curvature_band: float = float("nan")
    newton_distance: float = float("nan")
    witness: np.ndarray | None = None
    witness_decrease: float = float("nan")
    message: str = ""

    def fields_of_report(self) -> dict:
        """Return what a SolveReport says of the point; the status is the caller's to set."""
        names = (
            *("objective", "grad_inf_norm", "min_curvature", "curvature_band"),
            *("newton_distance", "witness", "witness_decrease", "message"),
        )
        return {name: getattr(self, name) for name in names} | {"n_kinks": self.kinks.count}

    def solution(self, problem: Problem, controls: Controls, report: SolveReport) -> Solution:
        """Return the point that was assessed with its states, its costate and a report."""
        return Solution(
            problem=problem,
            controls=controls,
            states=self.states,
            costate=self.costate,
            report=report,
        )


def assess(
    problem: Problem,
    controls: Controls,
    tolerance: float,
    curvature: Callable[[Problem, Controls], Curvature] = by_eigenvalues,
) -> Optimality:
    """Decide what the controls are; see the module's table.

    tolerance : on the largest absolute entry of dJ/du, unscaled
    curvature : how the least eigenvalue and its band are found, one of `ocp.solvers.curvature`
    """
    trajectory = rollout(problem, controls, order=2)
    J = float(objective(problem, controls, trajectory))
    g, costate = gradient(problem, controls, trajectory)
    residual = float(np.abs(g).max())
    kinks = find_kinks(problem, trajectory)
    known = functools.partial(
        Optimality,
        objective=J,
        grad_inf_norm=residual,
        costate=costate,
        states=trajectory.X,
        kinks=kinks,
    )
    if not (np.isfinite(J) and np.isfinite(residual)):
        return known(status=Status.DIVERGED)
    if kinks.count and problem.sigma.kink == 1:
        return known(
            status=Status.NONSMOOTH,
            message=f"{kinks.count} pre-activations on kinks, first at {kinks.where}",
        )
    if residual > tolerance:
        return known(status=Status.NOT_STATIONARY)
    found = curvature(problem, controls)
    known = functools.partial(known, min_curvature=found.least, curvature_band=found.band)
    if kinks.count:
        jumps = f"pre-activations where {problem.activation}'' jumps"
        message = f"{kinks.count} {jumps}, first at {kinks.where}"
        return known(status=Status.NONSMOOTH, message=message)
    if found.least < -found.band:
        witness, decrease = descend(problem, controls, found.vector, J)
        status = Status.SADDLE if decrease > 0 else Status.DEGENERATE
        return known(status=status, witness=witness, witness_decrease=decrease)
    if not found.least > found.band:
        return known(status=Status.DEGENERATE)
    step = found.solve(g)
    known = functools.partial(known, newton_distance=float(np.abs(step).max()))
    moved = unflatten(problem, flatten(controls) - step)
    beyond = find_kinks(problem, trajectory, rollout(problem, moved, order=1))
    if beyond.count:
        message = f"{beyond.count} kinks within reach of a Newton step, first at {beyond.where}"
        return known(status=Status.NONSMOOTH, message=message)
    after, _ = gradient(problem, moved)
    next_found = curvature(problem, moved)
    why_not = _does_not_contract(problem, controls, (g, after), (step, _solved(next_found, after)))
    if why_not:
        return known(status=Status.FLAT, message=why_not)
    if not next_found.least > next_found.band:
        message = "the conditions do not hold any more after one Newton step"
        return known(status=Status.DEGENERATE, message=message)
    return known(status=Status.SOLVED)


def _solved(found: Curvature, g: np.ndarray) -> np.ndarray:
    """H^-1 g where H may be singular: what is not finite is no short step."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return found.solve(g)


def _does_not_contract(
    problem: Problem,
    controls: Controls,
    gradients: tuple[np.ndarray, np.ndarray],
    steps: tuple[np.ndarray, np.ndarray],
) -> str:
    """Why Newton's steps do not show a stationary point near, or ""."""
    scale = max(1.0, float(np.abs(flatten(controls)).max()))
    floor = ROUNDED * float(np.finfo(float).eps) * gradient_size(problem, controls)
    norms = [float(np.abs(g).max()) for g in gradients]
    lengths = [float(np.abs(s).max()) for s in steps]
    if not lengths[0] <= NEARBY * scale:
        return f"a Newton step moves the controls by {lengths[0]:.2g}, above {NEARBY * scale:.2g}"
    rounding = [
        length <= ROUNDED_STEP * scale and norm <= floor
        for length, norm in zip(lengths, norms, strict=True)
    ]
    if rounding[0]:
        return ""
    if not norms[1] <= norms[0] / 4:
        return f"a Newton step takes the gradient from {norms[0]:.2g} to {norms[1]:.2g}"
    if not (lengths[1] <= lengths[0] / 2 or rounding[1]):
        return f"Newton's steps are {lengths[0]:.2g} and then {lengths[1]:.2g} long"
    return ""


def descend(
    problem: Problem, controls: Controls, direction: np.ndarray, J: float
) -> tuple[np.ndarray, float]:
    """Return the signed direction and the largest evaluated decrease J(u) - J(u + t d) > 0.

    Steps t = 1, 1/2, 1/4, ... in both signs; (direction, 0.0) if none lowers J beyond rounding.
    """
    u = flatten(controls)
    rounding = 100 * float(np.finfo(float).eps) * max(1.0, abs(J))
    best, signed = rounding, direction
    for t in 0.5 ** np.arange(0, 24):
        for sign in (1.0, -1.0):
            with np.errstate(over="ignore", invalid="ignore"):
                decrease = J - float(
                    objective(problem, unflatten(problem, u + t * sign * direction))
                )
            if decrease > best:
                best, signed = decrease, t * sign * direction
    return signed, best if best > rounding else 0.0


def find_kinks(problem: Problem, trajectory: Trajectory, moved: Trajectory | None = None) -> Kinks:
    """Count pre-activations within 1e-9 (1 + max|v|) of 0 unless the activation is smooth.

    moved : count those that a step takes there, or of which it is a quarter or more, instead
    """
    if problem.sigma.smooth:
        return Kinks(count=0, where="")
    V = np.stack([stage.v for stage in (moved or trajectory).stages])
    on = np.abs(V) <= KINK_TOLERANCE * (1.0 + np.abs(V).max())
    if moved is not None:
        before = np.stack([stage.v for stage in trajectory.stages])
        on |= np.abs(before) <= 4.0 * np.abs(before - V)
    if not on.any():
        return Kinks(count=0, where="")
    stage, _, unit = np.argwhere(on)[0]
    return Kinks(count=int(on.sum()), where=f"layer {trajectory.stages[stage].k}, unit {unit}")
