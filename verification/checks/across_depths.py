"""Several files of one problem at different depths: what the turnpike claim can fail on.

off_N = (1/n_d) #{(i, k): k < N, x_k^i outside the tube 1/2}.  A turnpike bounds off_N as N grows;
without one it grows with N.  Passed: it grows by at most one layer from the least depth on.
Failed: by half or more of the added layers.  Also, for each pair of depths, without conditions:

    append m idle layers to depth N:   J_N + m h F(x_N)  is feasible at depth N + m
    crop depth N to k:                 sum_{j<k} h l_j + gamma F(x_k)  is feasible at depth k

so a file of that depth with a larger J is proved not globally optimal.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from ..evaluation import layers
from ..evaluation.subject import Subject, TraceSubject
from ..report import Check, Entry, Finding, Verdict, not_applicable
from .turnpike import off_turnpike

NAME = "turnpike.across_depths"
TUBE = 1 / 2
ALLOWED = 1.0
#: share of the added layers that counts as growth in proportion to N
PROPORTIONAL = 0.5
#: |dJ/du|_inf relative to J above which a file is no solution of anything
UNTRAINED = 1e-2
#: relative rounding granted to a comparison of objectives
ROUNDING = 1e-12


def check_across_depths(subjects: Sequence[Subject], names: Sequence[str]) -> list[Entry]:
    """Return the claim on the counts, the values V_N and which files are proved not optimal."""
    different = _difference(subjects, names)
    if different:
        return [not_applicable(NAME, different, "claim")]
    order = np.argsort([subject.problem.depth for subject in subjects], kind="stable")
    subjects, names = [subjects[i] for i in order], [names[i] for i in order]
    return [_counts(subjects, names), _values(subjects), *_not_optimal(subjects, names)]


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
    depths = [subject.problem.depth for subject in subjects]
    if len(set(depths)) < 3 or depths[-1] < 2 * depths[0]:
        why = (
            f"depths {', '.join(map(str, depths))}; wanted three or more, the largest at least"
            " twice the smallest"
        )
        return not_applicable(NAME, why, "claim")
    for subject in subjects:
        if subject.minimisers.applicable or not layers.idles(subject.problem):
            why = subject.minimisers.applicable or "u = 0 is no equilibrium"
            return not_applicable(NAME, why, "claim")
    off = np.array([float(off_turnpike(subject, TUBE).sum()) for subject in subjects])
    growth = float(off.max() - off[0])
    added = depths[-1] - depths[0]
    listed = ", ".join(f"{c:.2f} (N = {N})" for c, N in zip(off, depths, strict=True))
    line = Check(
        name=NAME,
        measured=growth,
        bound=ALLOWED,
        where=str(names[int(off.argmax())]),
        message=f"growth of the layers outside the tube 1/2, mean over samples: {listed}",
    )
    if added <= 2 * ALLOWED:
        text = f"only {added} layers lie between the depths: one layer more is no small share"
        return dataclasses.replace(line, undecidable=text)
    unfinished = [
        str(name)
        for subject, name in zip(subjects, names, strict=True)
        if not subject.grad_inf_norm <= UNTRAINED * max(1.0, subject.survey.objective)
    ]
    if ALLOWED < growth < PROPORTIONAL * added:
        text = "the count grows by more than one layer, but by less than half of the added ones"
        return dataclasses.replace(line, undecidable=text)
    traces = [
        str(name)
        for subject, name in zip(subjects, names, strict=True)
        if isinstance(subject, TraceSubject)
    ]
    if growth <= ALLOWED and traces:
        text = f"the count is bounded, but {traces[0]} is a stage trace: it has no gradient, so"
        text += " nothing tells a solution from any other network"
        return dataclasses.replace(line, undecidable=text)
    if growth <= ALLOWED and unfinished:
        text = f"the count is bounded, but {unfinished[0]} is far from stationary"
        return dataclasses.replace(line, undecidable=text)
    return line


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
    """Return one line for each file that another one beats, proved by evaluation."""
    lines: list[Entry] = []
    for subject, name in zip(subjects, names, strict=True):
        best, how = np.inf, ""
        for other, source in zip(subjects, names, strict=True):
            if other is subject:
                continue
            cost, text = _feasible(other, subject.problem.depth)
            if cost < best:
                best, how = cost, f"{text} {source}"
        J = subject.survey.objective
        if J - best > ROUNDING * max(1.0, abs(J)):
            lines.append(
                Finding(
                    name="turnpike.not_optimal",
                    verdict=Verdict.PROVED,
                    measured=J,
                    bound=float(best),
                    relation=">",
                    where=str(name),
                    message=f"not globally optimal: {how} costs less at the same depth;"
                    " restart from there",
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


def _feasible(subject: Subject, depth: int) -> tuple[float, str]:
    """Cost at `depth` of this file with idle layers appended, cropped, or as it is."""
    problem, found = subject.problem, subject.survey
    m = depth - problem.depth
    if m >= 0:
        if m and (isinstance(subject, TraceSubject) or not layers.idles(problem)):
            return np.inf, ""
        idle = m * problem.h * problem.beta * float(found.data_cost[-1])
        return found.objective + idle, f"{m} idle layers after" if m else "the controls of"
    return found.objective + layers.cropped_change(subject, depth), f"the first {depth} layers of"
