"""The gap between the file's objective and a bound that holds for every control."""

from __future__ import annotations

import dataclasses
import math

from ..evaluation.lower_bound import lower_bound, why_not
from ..evaluation.subject import TrainingSubject
from ..report import (
    NAN,
    Between,
    Entry,
    Finding,
    Verdict,
    in_floats,
    not_applicable,
    not_checked,
    printed,
    theorem,
)


def check_gap(subject: TrainingSubject) -> list[Entry]:
    """Return the bound and how far the file's objective is above it."""
    name, problem, J = "gap.lower_bound", subject.problem, subject.survey.objective
    if problem.trained != ("layers",):
        return [not_applicable(name, why_not(problem))]
    if why_not(problem):
        return [not_checked(name, why_not(problem))]
    if not math.isfinite(J):
        return [not_applicable(name, "the objective is not finite")]
    least, found = lower_bound(problem).value, subject.enclosures
    message = (
        f"every control costs at least {printed(least, up=False)}; this file is"
        f" {(J - least) / J if J > 0 else NAN:.1%} of its objective above that; no more is known of"
        " other minima"
    )
    if found is None:
        return [in_floats(name, least, J, subject.why_not_enclosed, message=message)]
    return [compared(least, found.objective(), message=message)]


def compared(least: float, objective: Between, message: str) -> Finding:
    """The theorem least <= J; `least` is rounded down, J enclosed."""
    line = theorem("gap.lower_bound", Between(least, least), objective, message=message)
    vacuous = least <= 0 and line.verdict is Verdict.PROVED
    return dataclasses.replace(line, verdict=Verdict.VACUOUS) if vacuous else line
