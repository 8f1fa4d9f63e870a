"""Several files of one problem at different depths: what the turnpike claim can fail on.

off_N = (1/n_d) #{(i, k): k < N, x_k^i outside the tube 1/2}.  A turnpike bounds off_N as N grows;
without one it grows with N.  Only solutions count: files that pass first order by themselves.
Copies, crops and idle extensions of one another are one solution, of their least depth.  Passed:
off_N grows by at most one layer from the least count at the least depth on.  Failed: by half or
more of the added layers.  Also, for each pair of files, without conditions:

    append m idle layers to depth N:   J_N + m h F(x_N)  is feasible at depth N + m
    crop depth N to k:                 sum_{j<k} h l_j + gamma F(x_k)  is feasible at depth k

so a file of that depth with a larger J is proved not globally optimal.  Two stage traces said to be
of one model, data and weights are compared in the same way, whatever their blocks are: an idle
block leaves its state, and h stays.  What comes out is observed, true if both files are what they
say; where they hold the norms of their ends, a file must lose with them and without.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.sparse.csgraph import connected_components

from ..evaluation import layers
from ..evaluation.subject import Subject, TraceSubject, TrainingSubject
from ..report import ROUNDING, Between, Check, Entry, Finding, Verdict, not_applicable
from . import first_order
from .turnpike import off_turnpike

NAME = "turnpike.across_depths"
TUBE = 1 / 2
ALLOWED = 1.0
#: share of the added layers that counts as growth in proportion to N
PROPORTIONAL = 0.5
#: relative gain of another file that is worth a line
WORTH = 1e-12
#: norms of leading layers that agree to this share of the largest are those of one solution
EQUAL = 1e-12


def check_across_depths(subjects: Sequence[Subject], names: Sequence[str]) -> list[Entry]:
    """Return the claim on the counts, the values V_N and which files are proved not optimal.

    The order of the files does not matter.
    """
    keys = [
        (s.problem.depth, s.content.sha256, str(n)) for s, n in zip(subjects, names, strict=True)
    ]
    order = sorted(range(len(keys)), key=keys.__getitem__)
    subjects, names = [subjects[i] for i in order], [names[i] for i in order]
    different = _difference(subjects, names)
    if different:
        return [not_applicable(NAME, different, "claim")]
    return [
        _counts(subjects, names),
        _outside(subjects),
        _values(subjects),
        *_not_optimal(subjects, names),
    ]


def _difference(subjects: Sequence[Subject], names: Sequence[str]) -> str:
    """Say in what two files differ beside depth and controls, or ""."""
    first = subjects[0].problem
    for subject, name in zip(subjects[1:], names[1:], strict=True):
        for field in dataclasses.fields(first):
            if field.name == "depth" or (field.name == "inputs" and _are_traces(subjects)):
                continue
            one, two = getattr(first, field.name), getattr(subject.problem, field.name)
            if field.name in first.trained_parts:
                continue
            if not np.array_equal(one, two):
                return f"{name} and {names[0]} differ in {field.name}, not only in depth"
    return ""


def _are_traces(subjects: Sequence[Subject]) -> bool:
    """Traces hold logits for inputs; these differ from network to network."""
    return all(isinstance(subject, TraceSubject) for subject in subjects)


def _counts(subjects: Sequence[Subject], names: Sequence[str]) -> Entry:
    few = _too_few([subject.problem.depth for subject in subjects])
    if few:
        return not_applicable(NAME, few, "claim")
    for subject in subjects:
        if subject.minimisers.applicable or not layers.idles(subject.problem):
            why = subject.minimisers.applicable or "u = 0 is no equilibrium"
            return not_applicable(NAME, why, "claim")
    counted, others = _solutions(subjects, names)
    depths = [subjects[i].problem.depth for i in counted]
    left_out = f"; not counted: {', '.join(others)}" if others else ""
    if _too_few(depths):
        return Check(
            name=NAME,
            measured=float("nan"),
            bound=ALLOWED,
            undecidable=f"of solutions there are {_too_few(depths)}{left_out}",
        )
    off = [float(off_turnpike(subjects[i], TUBE).sum()) for i in counted]
    return counts(off, depths, [str(names[i]) for i in counted], left_out)


def counts(
    off: Sequence[float], depths: Sequence[int], names: Sequence[str], left_out: str = ""
) -> Check:
    """The claim on layers outside the tube, one count for each solution, depths ascending."""
    first = min(c for c, N in zip(off, depths, strict=True) if depths[0] == N)
    growth, added = max(off) - first, depths[-1] - depths[0]
    listed = ", ".join(f"{c:.2f} (N = {N})" for c, N in zip(off, depths, strict=True))
    undecidable = ""
    if added <= 2 * ALLOWED:
        undecidable = (
            f"only {added} layers lie between the depths: one layer more is no small share"
        )
    elif ALLOWED < growth < PROPORTIONAL * added:
        undecidable = (
            "the count grows by more than one layer, but by less than half of the added ones"
        )
    return Check(
        name=NAME,
        measured=growth,
        bound=ALLOWED,
        where=names[int(np.argmax(off))],
        undecidable=undecidable,
        message=f"growth of the layers outside the tube 1/2, mean over samples: {listed}{left_out}",
    )


def _too_few(depths: Sequence[int]) -> str:
    """Say why a list of depths, ascending, says nothing on growth with depth, or ""."""
    if len(set(depths)) >= 3 and depths[-1] >= 2 * depths[0]:
        return ""
    listed = ", ".join(map(str, depths)) or "none"
    return f"depths {listed}; wanted three or more, the largest at least twice the smallest"


def _solutions(subjects: Sequence[Subject], names: Sequence[str]) -> tuple[list[int], list[str]]:
    """Return which files count, one for each solution, and why each of the others does not."""
    found, others = [], []
    for i, (subject, name) in enumerate(zip(subjects, names, strict=True)):
        why = _no_solution(subject)
        if why:
            others.append(f"{name} ({why})")
        else:
            found.append(i)
    solutions = [subjects[i] for i in found]
    alike = [[_one_solution(one, two) for two in solutions] for one in solutions]
    _, group = connected_components(np.array(alike).reshape(len(found), len(found)))
    first: dict[int, int] = {}
    for i, k in zip(found, group, strict=True):
        if k in first:
            others.append(f"{names[i]} (the leading layers of {names[first[k]]})")
        else:
            first[k] = i
    return sorted(first.values()), others


def _no_solution(subject: Subject) -> str:
    if not isinstance(subject, TrainingSubject):
        return "a stage trace has no gradient: nothing tells a solution from any other network"
    if not np.isfinite(subject.survey.objective):
        return "its objective is not finite"
    return first_order.passes(subject)


def _one_solution(one: Subject, two: Subject) -> bool:
    """Whether the leading layers agree in what permuted and flipped coordinates leave alone."""
    norms = [_norms(subject) for subject in (one, two)]
    shorter = min(len(norms[0]), len(norms[1]))
    scale = max(float(norm.max(initial=0.0)) for norm in norms)
    return bool(np.abs(norms[0][:shorter] - norms[1][:shorter]).max() <= EQUAL * scale)


def _norms(subject: Subject) -> np.ndarray:
    """|A_k|, |b_k| and |W_k| by layer, (N, 2 or 3)."""
    assert isinstance(subject, TrainingSubject)
    u = subject.controls
    parts = [u.A, u.b] if u.W is None else [u.A, u.b, u.W]
    return np.stack([np.linalg.norm(v.reshape(len(v), -1), axis=1) for v in parts], axis=1)


def _outside(subjects: Sequence[Subject]) -> Finding:
    """The counts of every file, solution or not: nothing is concluded from them."""
    name = "turnpike.outside"
    for subject in subjects:
        if subject.minimisers.applicable:
            return not_applicable(name, subject.minimisers.applicable)
    off = [(float(off_turnpike(s, TUBE).sum()), s.problem.depth) for s in subjects]
    return Finding(
        name=name,
        verdict=Verdict.OBSERVED,
        message="layers outside the tube 1/2 of every file, solution or not, mean over samples: "
        + ", ".join(f"{c:.2f} (N = {N})" for c, N in off),
    )


def _values(subjects: Sequence[Subject]) -> Finding:
    """List V_N (upper bounds: each file is one feasible point)."""
    values = ", ".join(
        f"{subject.survey.objective:.6g} (N = {subject.problem.depth})" for subject in subjects
    )
    return Finding(
        name="turnpike.values",
        verdict=Verdict.OBSERVED,
        message=f"objectives by depth, upper bounds of V_N: {values}",
    )


def _not_optimal(subjects: Sequence[Subject], names: Sequence[str]) -> list[Entry]:
    """Return one line for each file that another one beats: proved where both are enclosed."""
    lines: list[Entry] = []
    for subject, name in zip(subjects, names, strict=True):
        depth = subject.problem.depth
        J = float(_cost(subject, depth, subject)[0].lower)
        beaten = []
        for other, source in zip(subjects, names, strict=True):
            cost, text = _cost(other, depth, subject)
            if other is not subject and cost.upper < J - WORTH * max(1.0, abs(J)):
                beaten.append((float(cost.upper), f"{text} {source}", other))
        if beaten:
            best, how, other = min(beaten, key=lambda found: found[:2])
            enclosed = subject.enclosures is not None and other.enclosures is not None
            lines.append(
                Finding(
                    name="turnpike.not_optimal",
                    verdict=Verdict.PROVED if enclosed else Verdict.OBSERVED,
                    measured=J,
                    bound=best,
                    relation=">",
                    where=str(name),
                    message=f"{_refuted(subject, other)}: {how} costs less at the same depth;"
                    f" restart from there{'' if enclosed else _in_floats(subject, other)}",
                )
            )
    if not lines:
        lines.append(
            Finding(
                name="turnpike.not_optimal",
                verdict=Verdict.OBSERVED,
                message="no file is refuted by appending to or cropping another one",
            )
        )
    return lines


def _refuted(*pair: Subject) -> str:
    if all(isinstance(subject, TraceSubject) for subject in pair):
        known = np.isfinite([s.said_ends_cost for s in pair if isinstance(s, TraceSubject)]).all()
        ends = "" if known else " and their ends cost the same"
        return f"not optimal if both files are what they say{ends}"
    return "not globally optimal"


def _in_floats(*pair: Subject) -> str:
    return f"; no proof: {next(s.why_not_enclosed for s in pair if s.why_not_enclosed)}"


def _cost(subject: Subject, depth: int, rival: Subject) -> tuple[Between, str]:
    """Cost at `depth` of this file with idle layers appended, cropped, or as it is.

    rival : the file of that depth that it is compared with
    """
    found, m = subject.enclosures, depth - subject.problem.depth
    mixed = isinstance(subject, TraceSubject) and not isinstance(rival, TraceSubject)
    if m > 0 and (mixed or not layers.idles(subject.problem)):
        return Between(np.inf, np.inf), ""
    text = f"{m} idle layers after" if m > 0 else f"the first {depth} layers of"
    if m == 0:
        text = "the controls of"
    if found is None:
        cost = _cost_in_floats(subject, m)
        more = _more_for_ends(subject, rival)
        return Between(cost.lower + more, cost.upper + more), text
    if m > 0:
        return found.extended(m), text
    return (found.objective() if m == 0 else found.cropped(depth)), text


def _more_for_ends(subject: Subject, rival: Subject) -> float:
    """What the ends of a trace are said to cost more than another's; 0 if less, or not said."""
    if not (isinstance(subject, TraceSubject) and isinstance(rival, TraceSubject)):
        return 0.0
    more = subject.said_ends_cost - rival.said_ends_cost
    return more if more > 0.0 else 0.0  # NaN is not


def _cost_in_floats(subject: Subject, m: int) -> Between:
    problem, found = subject.problem, subject.survey
    if m < 0:
        cost = found.objective + layers.cropped_change(subject, problem.depth + m)
    else:
        cost = found.objective + m * problem.h * problem.beta * float(found.data_cost[-1])
    granted = ROUNDING * max(1.0, abs(found.objective))
    return Between(cost - granted, cost + granted)
