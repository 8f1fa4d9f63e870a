"""Second order for networks whose reduced Hessian is too large to form: Lanczos within a budget.

The budget counts passes, one pass being a gradient over the data; a Lanczos step costs at most
three.  Of a stationary file the result is a claim, of any other file a finding.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator

import numpy as np

from ocp.controls import describe

from ..evaluation import states
from ..evaluation.descent import descend_by_curvature
from ..evaluation.lanczos import DELTA, SEED, Ritz
from ..evaluation.subject import PASSES_A_STEP, PASSES_BEFORE, LanczosCost, Subject, TrainingSubject
from ..report import Check, Entry, Finding, Verdict, not_checked

CURVATURE = "second_order.curvature"
LANCZOS = "second_order.lanczos"


def claim(subject: TrainingSubject) -> list[Entry]:
    """Return the claim on the curvature of a stationary file."""
    ritz = subject.least_curvature
    if ritz is None:
        nan = float("nan")
        return [
            Check(
                name=CURVATURE,
                measured=nan,
                bound=nan,
                relation=">",
                undecidable=_no_budget(subject),
            )
        ]
    check = Check(
        name=CURVATURE,
        measured=ritz.least if ritz.least < 0 else ritz.interval[0],
        bound=ritz.rounding if ritz.least >= 0 else -ritz.rounding,
        relation=">",
        where=_where(subject, ritz),
        undecidable=_undecidable(subject, ritz),
        message=_text(ritz),
    )
    return [check, _line(subject, ritz)]


def finding(subject: TrainingSubject) -> list[Entry]:
    """Return what Lanczos sees where the file is not stationary."""
    ritz = subject.least_curvature
    if ritz is None:
        return [not_checked(LANCZOS, _no_budget(subject))]
    return [_line(subject, ritz)]


class Spent:
    """What judging a file costs, check by check: processor time, and passes counted exactly."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.forward = self.backward = 0

    @contextlib.contextmanager
    def on(self, check: str, subject: Subject) -> Iterator[None]:
        """Count what happens inside for `check`, less what Lanczos takes of it."""
        begun, before = time.process_time(), _lanczos_cost(subject)
        with states.counting() as work:
            yield
        after = _lanczos_cost(subject)
        lanczos = after.seconds - before.seconds
        self.seconds[check] = time.process_time() - begun - lanczos
        self.forward += work.forward - (after.forward - before.forward)
        self.backward += work.backward - (after.backward - before.backward)

    def finding(self, subject: TrainingSubject) -> Finding:
        """Say it in gradient passes, one being a forward and a backward pass over the data."""
        one, lanczos = subject.pass_seconds, subject.lanczos_cost
        size = subject.problem.n_samples * subject.problem.depth
        dear = sorted(self.seconds.items(), key=lambda item: -item[1])[:3]
        text = (
            "gradient passes without Lanczos, in processor time"
            f" ({', '.join(f'{name} {seconds / one:.1f}' for name, seconds in dear)});"
            f" counted: {self.forward / size:.1f} forward, {self.backward / size:.1f} backward"
        )
        if lanczos.steps:
            passes = lanczos.seconds / one
            text += (
                f"; Lanczos {passes:.1f} of a budget of {subject.budget:g},"
                f" {passes / lanczos.steps:.1f} a step"
            )
        return Finding(
            name="cost.passes",
            verdict=Verdict.OBSERVED,
            measured=sum(self.seconds.values()) / one,
            message=f"{text}; a pass takes {one:.2g} s",
        )


def _lanczos_cost(subject: Subject) -> LanczosCost:
    return subject.lanczos_cost if isinstance(subject, TrainingSubject) else LanczosCost()


def _undecidable(subject: TrainingSubject, ritz: Ritz) -> str:
    if ritz.least < -ritz.rounding:
        seen = descend_by_curvature(subject.problem, subject.controls, ritz.vector)
        if seen is not None:
            return ""
        return "the curvature is negative but no decrease of J could be evaluated"
    if ritz.interval[0] > ritz.rounding:
        near = subject.contraction
        return f"not near a stationary point: {near.why_not}" if near.why_not else ""
    return f"the budget of {subject.budget:g} passes ended after {ritz.steps} Lanczos steps"


def _line(subject: TrainingSubject, ritz: Ritz) -> Finding:
    return Finding(
        name=LANCZOS,
        verdict=Verdict.OBSERVED,
        measured=ritz.least,
        where=_where(subject, ritz),
        message=_text(ritz),
    )


def _text(ritz: Ritz) -> str:
    low, high = ritz.interval
    return (
        f"{ritz.steps} Lanczos steps, seed {SEED}: an eigenvalue within {ritz.residual:.1e} of"
        f" {ritz.least:.3e}; the least one in [{low:.3e}, {high:.3e}] but for a probability of"
        f" {DELTA:.0e} over the start; the largest at least {ritz.largest:.3e}"
    )


def _where(subject: TrainingSubject, ritz: Ritz) -> str:
    return describe(subject.problem, int(np.abs(ritz.vector).argmax()))


def _no_budget(subject: TrainingSubject) -> str:
    wanted = PASSES_BEFORE + PASSES_A_STEP
    return f"{subject.too_large}; Lanczos wants --budget of {wanted:g} passes or more"
