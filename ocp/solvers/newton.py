"""Newton's method on the reduced problem from a point close to a minimum, to rounding level."""

from __future__ import annotations

import dataclasses
import time

import numpy as np
import scipy.linalg

from .. import interrupts
from ..controls import Controls, flatten, unflatten, validate
from ..evaluation.assembly import assembled_hessian
from ..evaluation.rollout import gradient
from ..problem import Problem
from ..versions import versions
from .optimality import Optimality, assess
from .solution import Iteration, Solution, SolveReport, Status, interrupted, keeping


@keeping
def polish(
    problem: Problem,
    controls: Controls,
    *,
    tolerance: float = 1e-12,
    max_iterations: int = 20,
    max_distance: float = 0.1,
) -> Solution:
    """Return the stationary point reached by full Newton steps, each of which must lower |g|_inf.

    tolerance : on max |dJ/du|; steps go on below it while they still halve the residual
    max_distance : steps longer than this times (1 + |u|_inf) are refused: the point is not close

    The status is that of `optimality.assess`; a point that is not close comes back unchanged.
    """
    validate(problem, controls)
    begun = time.perf_counter()
    u = flatten(controls)
    g, _ = gradient(problem, controls)
    trace = []
    stopped = False
    try:
        with interrupts.opened():
            for iteration in range(max_iterations):
                residual = np.abs(g).max()
                H = assembled_hessian(problem, unflatten(problem, u))
                try:
                    step = -scipy.linalg.solve(H, g, assume_a="sym")
                except (scipy.linalg.LinAlgError, scipy.linalg.LinAlgWarning):
                    break
                length = np.abs(step).max()
                if not length <= max_distance * (1.0 + np.abs(u).max()):
                    break
                after, _ = gradient(problem, unflatten(problem, u + step))
                if not np.abs(after).max() < (0.5 if residual <= tolerance else 1.0) * residual:
                    break
                u, g = u + step, after
                trace.append(
                    Iteration(
                        depth=problem.depth,
                        iteration=iteration,
                        objective=float("nan"),
                        primal_infeasibility=0.0,
                        dual_infeasibility=float(np.abs(g).max()),
                        regularisation=0.0,
                        step_length=float(length),
                        seconds=time.perf_counter() - begun,
                    )
                )
    except KeyboardInterrupt:
        stopped = True
    polished = unflatten(problem, u)
    facts = assess(problem, polished, tolerance)
    report = SolveReport(
        method="newton",
        status=facts.status,
        tolerance=tolerance,
        iterations=len(trace),
        seconds=time.perf_counter() - begun,
        versions=versions(),
        options={"tolerance": tolerance, "max_iterations": max_iterations},
        trace=tuple(trace),
        **facts.fields_of_report(),
    )
    found = facts.solution(problem, polished, report)
    return interrupted(found) if stopped else found


def polished(solution: Solution, tolerance: float = 1e-12) -> Solution:
    """Polish a SOLVED solution; it is returned unchanged where polishing does not improve it."""
    if solution.status is not Status.SOLVED:
        return solution
    better = polish(solution.problem, solution.controls, tolerance=tolerance)
    if better.status is Status.INTERRUPTED:
        return interrupted(solution)
    if not better.report.grad_inf_norm < solution.report.grad_inf_norm:
        return solution
    facts = ("objective", "grad_inf_norm", "min_curvature", "curvature_band", "newton_distance")
    record = dataclasses.replace(
        solution.report, **{name: getattr(better.report, name) for name in facts}
    )
    return dataclasses.replace(better, report=record)


def settled(
    problem: Problem, controls: Controls, facts: Optimality, tolerance: float
) -> tuple[Controls, Optimality]:
    """Go on with Newton's steps from a FLAT point; it is kept unless they end at a SOLVED one.

    An absolute tolerance is met before the steps contract where the curvature changes fast, as
    beside smoothed kinks, and far from any stationary point on flat tails: only the steps tell.
    """
    if facts.status is not Status.FLAT:
        return controls, facts
    better = polish(problem, controls, tolerance=min(tolerance, 1e-12))
    if better.status is Status.INTERRUPTED:
        return controls, dataclasses.replace(facts, status=Status.INTERRUPTED)
    if np.array_equal(flatten(better.controls), flatten(controls)):
        return controls, facts
    found = assess(problem, better.controls, tolerance)
    return (better.controls, found) if found.status is Status.SOLVED else (controls, facts)
