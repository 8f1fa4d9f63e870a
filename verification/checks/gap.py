"""The gap between the file's objective and a bound that holds for every control."""

from __future__ import annotations

import math

from ..evaluation.lower_bound import lower_bound, why_not
from ..evaluation.subject import TrainingSubject
from ..report import NAN, Entry, Finding, Verdict, not_applicable, not_checked

#: agreement between two evaluations of J, as in the statement's check
ROUNDING = 1e-10


def check_gap(subject: TrainingSubject) -> list[Entry]:
    """Return the bound and how far the file's objective is above it."""
    name, problem, J = "gap.lower_bound", subject.problem, subject.survey.objective
    if problem.trained != ("layers",):
        return [not_applicable(name, why_not(problem))]
    if why_not(problem):
        return [not_checked(name, why_not(problem))]
    if not math.isfinite(J):
        return [not_applicable(name, "the objective is not finite")]
    bound = lower_bound(problem).value
    contradiction = bound > J + ROUNDING * max(1.0, abs(J))
    gap = (J - bound) / J if J > 0 else NAN
    message = (
        f"every control costs at least {bound:.6g}; this file is {gap:.1%} of its objective"
        " above that; no more is known of other minima"
    )
    if contradiction:
        message = f"CONTRADICTS A THEOREM: J = {J:.6g} is below the bound {bound:.6g}"
    verdict = Verdict.PROVED if bound > 0 else Verdict.VACUOUS
    return [
        Finding(
            name=name,
            verdict=Verdict.FAILED if contradiction else verdict,
            measured=bound,
            bound=J,
            message=message,
        )
    ]
