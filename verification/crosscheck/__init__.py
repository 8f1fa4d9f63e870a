"""One network, several implementations: do they compute the same, and if not, what differs?

Each evaluation is compared with the judge's own,

    |J' - J| <= tol max(1, |J|),   |g' - g|_inf <= tol max(1, |g|_inf),   the same for the costate,

and where one of these fails `disagreement` walks through the network in the order of computation
and names the first quantity that the statement does not explain.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ocp.controls import Controls, describe
from ocp.problem import Problem

from ..report import Check, Entry, Finding, Report, Verdict, not_checked
from .disagreement import locate
from .evaluation import Evaluation, Own, evaluate

TOLERANCE = 1e-12


def crosscheck(
    problem: Problem,
    controls: Controls,
    evaluations: Sequence[Evaluation],
    tolerance: float = TOLERANCE,
) -> Report:
    """Return the report on all evaluations against the judge's own.

    tolerance : relative to max(1, largest absolute entry); float32 evaluations need about 1e-5

    Raises
    ------
    ValueError : an array has another shape than the problem's
    """
    if not evaluations:
        raise ValueError("no evaluation was given; wanted at least one to compare")
    own = evaluate(problem, controls)
    entries: list[Entry] = []
    for other in evaluations:
        shown = own
        if other.costate is not None and len(other.costate) == problem.depth:
            shown = dataclasses.replace(own, costate=own.costate[1:])
        _validate(shown, other)
        entries += compare(problem, controls, shown, other, tolerance)
    return Report(entries=tuple(entries), files=tuple(other.name for other in evaluations))


def compare(
    problem: Problem, controls: Controls, own: Own, other: Evaluation, tolerance: float
) -> list[Entry]:
    """Return the claims on one evaluation, and the diagnosis if one of them fails."""
    name = f"crosscheck.{other.name}"
    lines: list[Entry] = [
        Check(
            name=f"{name}.objective",
            measured=relative(other.objective, own.objective),
            bound=tolerance,
            message=f"J = {other.objective:.15g}, the judge's {own.objective:.15g}",
        )
    ]
    for quantity in ("gradient", "costate", "states", "logits", "losses", "penalty"):
        theirs, ours = getattr(other, quantity), getattr(own, quantity)
        if theirs is None:
            lines.append(not_checked(f"{name}.{quantity}", "not supplied", "claim"))
            continue
        lines.append(
            Check(
                name=f"{name}.{quantity}",
                measured=relative(theirs, ours),
                bound=tolerance,
                where=_worst(problem, quantity, np.asarray(theirs) - np.asarray(ours)),
            )
        )
    if any(line.verdict is Verdict.FAILED for line in lines):
        where, what = locate(problem, controls, own, other, tolerance)
        lines.append(
            Finding(name=f"{name}.differs", verdict=Verdict.FAILED, where=where, message=what)
        )
    return lines


def relative(found: np.ndarray | float, wanted: np.ndarray | float) -> float:
    """Return max |found - wanted| / max(1, max |wanted|); infinite if an entry is NaN."""
    error = np.abs(np.asarray(found) - np.asarray(wanted)).max()
    value = float(error / max(1.0, float(np.abs(wanted).max())))
    return value if value == value else float("inf")


def _worst(problem: Problem, quantity: str, difference: np.ndarray) -> str:
    """Say where the largest difference is, or "" if there is none."""
    size = np.abs(difference)
    if quantity == "penalty" or not size.max() > 0:
        return ""
    if quantity == "gradient":
        return describe(problem, int(size.argmax()))
    k, i = np.unravel_index(size.argmax(), size.shape)[:2]
    k += problem.depth + 1 - len(size)  # a costate without the one of x_0
    return f"layer {k}, sample {i}"


def _validate(own: Own, other: Evaluation) -> None:
    for quantity in ("gradient", "costate", "states", "logits", "losses"):
        theirs, ours = getattr(other, quantity), getattr(own, quantity)
        if theirs is not None and np.shape(theirs) != np.shape(ours):
            raise ValueError(
                f"{other.name}: {quantity} has shape {np.shape(theirs)}; wanted {np.shape(ours)}"
            )
