"""Whether the stored controls are a *global* minimiser: proved, proved not to be, or undecided.

The branch and bound of `balls.global_minimum` encloses V_N, the least J over all controls, and
names every box that can hold a global minimiser.  Of the stored controls, with J in [j, J']:

    0 <= J - V_N <= J' - lower                 always
    next to a global minimiser                 the strict local minimiser within their distance is
                                               the only stationary point of the only place, or of
                                               one of two that a symmetry exchanges
    not global                                 j > upper, or J at that local minimiser is

These are findings: a local minimum that is not global is what training is expected to find.
"""

from __future__ import annotations

import math

import numpy as np

from ocp.controls import flatten

from .. import report
from ..balls import arithmetic as balls
from ..balls.global_minimum import MOST, GlobalMinimum, Place, prove_global_minimum, why_not
from ..evaluation.newton import NEARBY
from ..evaluation.subject import TrainingSubject
from ..report import Entry, Finding, Verdict, printed

#: with --certify: as many layers, and boxes times samples, as take seconds
LAYERS, WORK = 2, 1_000_000
#: by name: as many layers as take minutes, and as many samples as fit into memory
MOST_LAYERS, MOST_SAMPLES = 3, 1000
#: undecided boxes that are written out
SHOWN = 3
VALUE, MINIMISERS = "global_minimum.value", "global_minimum.minimisers"
GAP = "global_minimum.gap"
GLOBAL, NOT_GLOBAL = "global_minimum.stored_is_global", "global_minimum.stored_is_not_global"


def check_global_minimum(subject: TrainingSubject) -> list[Entry]:
    """Return the lines of the check "global_minimum".

    Raises
    ------
    ValueError : python-flint is not installed
    """
    balls.require()
    name, problem, u = "global_minimum", subject.problem, flatten(subject.controls)
    asked = name in subject.named
    reason = _too_large(subject) or why_not(problem, u)
    if reason:
        return [report.not_applicable(name, reason)]
    if not asked and problem.depth > LAYERS:
        why = f"{problem.depth} layers, some minutes: asked for with --only global_minimum"
        return [report.not_checked(name, why)]
    most = MOST if asked else WORK // problem.n_samples
    try:
        found = prove_global_minimum(problem, u, most=most, progress=subject.progress)
    except RuntimeError as error:  # J has a minimum, so the enclosures are wrong
        message = f"CONTRADICTS A THEOREM: {error}"
        return [Finding(name=VALUE, verdict=Verdict.FAILED, message=message)]
    nearby = NEARBY * max(1.0, float(np.abs(u).max()))
    return entries(found, nearby, "" if asked else "; --only global_minimum looks further")


def _too_large(subject: TrainingSubject) -> str:
    problem = subject.problem
    for what, number, most in (
        ("layers", problem.depth, MOST_LAYERS),
        ("samples", problem.n_samples, MOST_SAMPLES),
    ):
        if number > most:
            return f"{number} {what}; a global minimum is searched for up to {most}"
    return ""


def entries(found: GlobalMinimum, nearby: float, further: str = "") -> list[Entry]:
    """Return the lines of the table for a result.

    nearby : largest distance of a stationary point that says something of the stored controls
    further : what to do where the limit of work was reached
    """
    return [_value(found), _minimisers(found, further), _gap(found), _stored(found, nearby)]


def _value(found: GlobalMinimum) -> Finding:
    least = max(found.lower, 0.0)  # no term of J is negative
    low, high = printed(least, False, 12), printed(found.upper, True, 12)
    return Finding(
        name=VALUE,
        verdict=Verdict.PROVED if least > 0 else Verdict.VACUOUS,
        measured=found.upper,
        bound=least,
        relation=">=",
        message=f"V_N, the least J over all controls, is in [{low}, {high}];"
        f" {found.boxes} boxes of |u_j| <= {printed(found.radius, True, 3)} were looked at",
    )


def _minimisers(found: GlobalMinimum, further: str) -> Finding:
    count = len(found.places)
    places = f"{count} {'place' if count == 1 else 'places'} can hold a global minimiser"
    undecided = [place for place in found.places if not place.unique]
    if not undecided:
        each = "with exactly one stationary point" + (" each" if count > 1 else "")
        if found.mirrored:
            each += "; b -> -b, which leaves J as it is, takes them to each other: both hold one"
        message, verdict = f"{places}, {each}", Verdict.PROVED
    else:
        reasons = "; ".join(sorted({place.reason for place in undecided}))
        boxes = ", ".join(_box(place) for place in undecided[:SHOWN])
        more = f" and {len(undecided) - SHOWN} more" if len(undecided) > SHOWN else ""
        message = f"{places}, {len(undecided)} undecided ({reasons}): {boxes}{more}"
        message += further if found.left else ""
        verdict = Verdict.INCONCLUSIVE
    return Finding(name=MINIMISERS, verdict=verdict, measured=float(count), message=message)


def _box(place: Place) -> str:
    sides = zip(place.low, place.high, strict=True)
    return " x ".join(f"[{printed(a, False, 3)}, {printed(b, True, 3)}]" for a, b in sides)


def gap(found: GlobalMinimum) -> tuple[float, float]:
    """Bounds of J - V_N of the stored controls, rounded outwards."""
    low = math.nextafter(found.stored_lower - found.upper, -math.inf)
    high = found.stored_upper - max(found.lower, 0.0)
    return max(0.0, low), math.nextafter(high, math.inf)


def _gap(found: GlobalMinimum) -> Finding:
    low, high = gap(found)
    informative = found.lower > 0
    return Finding(
        name=GAP,
        verdict=Verdict.PROVED if informative else Verdict.VACUOUS,
        measured=high,
        bound=low,
        relation=">=",
        message=f"J of the stored controls is above V_N by a number in"
        f" [{printed(low, False, 3)}, {printed(high, True, 3)}]",
    )


def _stored(found: GlobalMinimum, nearby: float) -> Finding:
    above = printed(gap(found)[0], False, 3)
    near = found.stored_distance <= nearby
    distance = f"within {printed(found.stored_distance, True, 3)} of the stored controls"
    if near and found.stored_place >= 0:
        if found.decided and len(found.places) == 1:
            verdict, message = Verdict.PROVED, f"the only global minimiser lies {distance}"
        elif found.mirrored:
            verdict, message = Verdict.PROVED, f"one of the two global minimisers lies {distance}"
        else:
            verdict = Verdict.INCONCLUSIVE
            message = (
                f"a strict local minimiser lies {distance}, alone in one of the {len(found.places)}"
                " places that can hold a global one; which of them do is undecided"
            )
        return Finding(name=GLOBAL, verdict=verdict, message=message)
    if near and found.stored_minimum > found.upper:
        least = math.nextafter(found.stored_minimum - found.upper, -math.inf)
        message = (
            f"NOT global: the strict local minimiser {distance} has a J of at least"
            f" {printed(least, False, 3)} above V_N"
        )
        return Finding(
            name=NOT_GLOBAL, verdict=Verdict.PROVED, measured=least, bound=0.0, relation=">",
            message=message,
        )  # fmt: skip
    if not near and gap(found)[0] > 0:
        message = (
            f"NOT global: J of the stored controls is at least {above} above V_N; no local minimum"
            " is proved next to them"
        )
        return Finding(
            name=NOT_GLOBAL, verdict=Verdict.PROVED, measured=gap(found)[0], bound=0.0,
            relation=">", message=message,
        )  # fmt: skip
    message = "neither proved to be next to a global minimiser nor proved not to be"
    return Finding(name=GLOBAL, verdict=Verdict.INCONCLUSIVE, message=message)
