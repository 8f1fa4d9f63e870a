"""How far training ended above the exact optimum, and which optimum it would have reached.

A checkpoint is polished: an exact solve of all layers, started from it.  The solver is the
caller's; the judge evaluates what comes back.  Two stationary points are called the same optimum
if a symmetry of the problem takes one to within `SAME` of the other and their values agree.
Best known means the lowest value among the optima given: nothing here is a global optimum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ocp.controls import Controls, describe, flatten
from ocp.problem import Problem

from ..evaluation import adjoint, states
from ..report import Finding, Verdict
from .symmetry import Symmetry, distance, symmetries

#: optima at a gradient of 1e-10 are known to about 1e-10/lambda_min = 1e-6; distinct ones are
#: further apart than .01 in all that were found
SAME = 1e-4
SAME_VALUE = 1e-9

Polish = Callable[[Problem, Controls], Controls]


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A checkpoint before and after polishing, beside the optima that are known.

    objective, gradient : J and |dJ/du|_inf before;  polished_objective, polished_gradient : after
    moved : |u' - u|_inf, at `moved_where`;  moved_norm : |u' - u|_2, beside which `norm` is |u|_2
    optimum : index of the optimum that the polished point is, up to `symmetry`; -1 for none
    separation : distance to the nearest of the optima, |.|_inf, over the symmetries
    best : lowest objective among the optima and the polished point;  best_optimum : its index,
        -1 if polishing found a lower one
    """

    objective: float
    gradient: float
    polished_objective: float
    polished_gradient: float
    moved: float
    moved_where: str
    moved_norm: float
    norm: float
    optimum: int
    symmetry: Symmetry | None
    separation: float
    best: float
    best_optimum: int

    @property
    def above_best(self) -> float:
        """(J - J_best) / J_best at the end of training."""
        return self.objective / self.best - 1.0

    @property
    def polished_above_best(self) -> float:
        """The same after polishing."""
        return self.polished_objective / self.best - 1.0

    @property
    def fell_into_best(self) -> bool:
        """Whether polishing ends at the best known optimum."""
        return self.optimum == self.best_optimum


def gap(
    problem: Problem, trained: Controls, polish: Polish, optima: Sequence[Controls]
) -> tuple[Gap, Controls]:
    """Polish a checkpoint and place it among the optima; also return the polished controls.

    Raises
    ------
    ValueError : no optimum is given
    """
    if not optima:
        raise ValueError("no optimum was given; wanted at least one exact solution")
    after = polish(problem, trained)
    values = [states.objective(problem, u) for u in optima]
    J = states.objective(problem, after)
    group = symmetries(problem)
    apart = [distance(problem, after, u, group) for u in optima]
    nearest = int(np.argmin([d for d, _ in apart]))
    separation, symmetry = apart[nearest]
    same = separation <= SAME and abs(J - values[nearest]) <= SAME_VALUE * max(1.0, abs(J))
    lowest = int(np.argmin(values))
    new_best = not same and values[lowest] > J
    before_u, after_u = flatten(trained), flatten(after)
    step = np.abs(after_u - before_u)
    found = Gap(
        objective=states.objective(problem, trained),
        gradient=_residual(problem, trained),
        polished_objective=J,
        polished_gradient=_residual(problem, after),
        moved=float(step.max()),
        moved_where=describe(problem, int(step.argmax())),
        moved_norm=float(np.linalg.norm(after_u - before_u)),
        norm=float(np.linalg.norm(before_u)),
        optimum=nearest if same else -1,
        symmetry=symmetry if same else None,
        separation=separation,
        best=min(J, values[lowest]),
        best_optimum=-1 if new_best else lowest,
    )
    return found, after


def distinct(problem: Problem, points: Sequence[Controls]) -> list[list[int]]:
    """Group the points that are the same optimum up to symmetry; each group lowest value first."""
    group = symmetries(problem)
    values = [states.objective(problem, u) for u in points]
    groups: list[list[int]] = []
    for i in np.argsort(values, kind="stable"):
        for members in groups:
            first = members[0]
            near = abs(values[i] - values[first]) <= SAME_VALUE * max(1.0, abs(values[i]))
            if near and distance(problem, points[i], points[first], group)[0] <= SAME:
                members.append(int(i))
                break
        else:
            groups.append([int(i)])
    return groups


def findings(found: Gap) -> list[Finding]:
    """Return the lines of a report; they inform, nothing is claimed."""
    line = lambda name, measured, where, message: Finding(  # noqa: E731
        name=f"crosscheck.{name}",
        verdict=Verdict.OBSERVED,
        measured=measured,
        where=where,
        message=message,
    )
    which = f"optimum {found.optimum}, {found.symmetry}" if found.optimum >= 0 else "none of them"
    basin = "the best known" if found.fell_into_best else "not the best known"
    return [
        line("gap", found.above_best, "", "(J - best known)/best known where training ended"),
        line("gap_polished", found.polished_above_best, "", "the same after an exact solve"),
        line("distance_moved", found.moved, found.moved_where, "largest change by polishing"),
        line("optimum", found.separation, which, f"distance to the nearest optimum; {basin}"),
    ]


def _residual(problem: Problem, controls: Controls) -> float:
    return float(np.abs(adjoint.gradient(problem, controls)[0]).max())
