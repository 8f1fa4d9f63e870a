"""One step in depth, one away from a saddle, and a stop: what all ways to a good optimum share."""

from __future__ import annotations

import numpy as np

from ..controls import Controls, flatten, near_zero, unflatten
from ..problem import Problem
from ..solvers.optimality import assess
from ..solvers.progress import Progress, Report, silent
from ..solvers.solution import Solution, Solver, SolveReport, Status
from ..versions import versions


def extend(
    problem: Problem,
    controls: Controls,
    rng: np.random.Generator,
    scale: float,
) -> Controls:
    """Return controls of the problem's depth: `controls` and new layers near zero after them."""
    new = problem.depth - controls.depth
    if new < 0:
        raise ValueError(
            f"the controls have depth {controls.depth}; wanted at most {problem.depth}"
        )
    if new == 0:
        return controls
    layers = near_zero(problem.with_(depth=new), rng, scale)
    return controls.followed_by(layers)


def escape(solution: Solution, solver: Solver, report: Report = silent) -> Solution:
    """Go on from a SADDLE: step along the witness, which was checked to lower J, and solve again.

    Raises
    ------
    ValueError : the solution is no saddle with a witness
    """
    record = solution.report
    if solution.status is not Status.SADDLE or record.witness is None:
        raise ValueError(f"the solution is {solution.status.name}; wanted SADDLE with a witness")
    u = flatten(solution.controls) + record.witness
    note = f"saddle (curvature {record.min_curvature:.1e}): escaping along its witness"
    report(Progress(depth=solution.problem.depth, objective=record.objective, message=note))
    return solver(solution.problem, unflatten(solution.problem, u), record.tolerance, report)


def stopped(problem: Problem, controls: Controls, method: str, tolerance: float) -> Solution:
    """Return the point where Ctrl-C ended what works with controls alone, INTERRUPTED."""
    facts = assess(problem, controls, 0.0)  # nothing is stationary to 0: no Hessian is formed
    record = SolveReport(
        status=Status.INTERRUPTED,
        method=method,
        tolerance=tolerance,
        versions=versions(),
        **facts.fields_of_report(),
    )
    return facts.solution(problem, controls, record)
