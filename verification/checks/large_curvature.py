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

from ..evaluation import hessian, states
from ..evaluation.descent import descend_by_curvature
from ..evaluation.lanczos import DELTA, SEED, Ritz, least_eigenvalue
from ..evaluation.subject import TrainingSubject
from ..report import Check, Entry, Finding, Verdict, not_checked

#: passes that one Lanczos step costs, and that the other checks cost together
PASSES_A_STEP, PASSES_BEFORE = 3.0, 5.0
CURVATURE = "second_order.curvature"
LANCZOS = "second_order.lanczos"


def claim(subject: TrainingSubject) -> list[Entry]:
    """Return the claim on the curvature of a stationary file."""
    ritz = lanczos(subject)
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
    ritz = lanczos(subject)
    if ritz is None:
        return [not_checked(LANCZOS, _no_budget(subject))]
    return [_line(subject, ritz)]


def lanczos(subject: TrainingSubject) -> Ritz | None:
    """Run Lanczos within the budget; None if it allows no step."""
    steps = int((subject.budget - PASSES_BEFORE) // PASSES_A_STEP)
    if steps < 1:
        return None
    problem, controls = subject.problem, subject.controls
    product = lambda d: hessian.products(problem, controls, d[None])[0]  # noqa: E731
    decided = lambda ritz: ritz.least < -ritz.rounding or ritz.interval[0] > ritz.rounding  # noqa: E731
    begun, work = time.process_time(), dict(states.WORK)
    found = least_eigenvalue(product, problem.n_decision, steps, enough=decided)
    subject.lanczos_seconds = time.process_time() - begun
    subject.lanczos_work = {way: states.WORK[way] - work[way] for way in work}
    subject.lanczos_steps = found.steps
    return found


class Spent:
    """What judging a file costs, check by check: processor time, and passes counted exactly."""

    def __init__(self, subject: TrainingSubject) -> None:
        self.subject = subject
        self.seconds: dict[str, float] = {}
        self.counted = {"forward": 0, "backward": 0}

    @contextlib.contextmanager
    def on(self, check: str) -> Iterator[None]:
        """Count what happens inside for `check`, less what Lanczos takes of it."""
        subject = self.subject
        time_before, lanczos_before = time.process_time(), subject.lanczos_seconds
        work_before, lanczos_work = dict(states.WORK), subject.lanczos_work
        yield
        lanczos = subject.lanczos_seconds - lanczos_before
        self.seconds[check] = time.process_time() - time_before - lanczos
        for way in self.counted:
            done = states.WORK[way] - work_before[way]
            self.counted[way] += done - (subject.lanczos_work[way] - lanczos_work[way])

    def finding(self) -> Finding:
        """Say it in gradient passes, one being a forward and a backward pass over the data."""
        subject, one = self.subject, self.subject.pass_seconds
        size = subject.problem.n_samples * subject.problem.depth
        forward, backward = (self.counted[way] / size for way in ("forward", "backward"))
        dear = sorted(self.seconds.items(), key=lambda item: -item[1])[:3]
        text = (
            "gradient passes without Lanczos, in processor time"
            f" ({', '.join(f'{name} {seconds / one:.1f}' for name, seconds in dear)});"
            f" counted: {forward:.1f} forward, {backward:.1f} backward"
        )
        if subject.lanczos_steps:
            lanczos = subject.lanczos_seconds / one
            text += (
                f"; Lanczos {lanczos:.1f} of a budget of {subject.budget:g},"
                f" {lanczos / subject.lanczos_steps:.1f} a step"
            )
        return Finding(
            name="cost.passes",
            verdict=Verdict.OBSERVED,
            measured=sum(self.seconds.values()) / one,
            message=f"{text}; a pass takes {one:.2g} s",
        )


def _undecidable(subject: TrainingSubject, ritz: Ritz) -> str:
    if ritz.least < -ritz.rounding:
        seen = descend_by_curvature(subject.problem, subject.controls, ritz.vector)
        if seen is not None:
            return ""
        return "the curvature is negative but no decrease of J could be evaluated"
    if ritz.interval[0] > ritz.rounding:
        return ""
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
        f" {2 * DELTA:.0e} over the start; the largest at least {ritz.largest:.3e}"
    )


def _where(subject: TrainingSubject, ritz: Ritz) -> str:
    return describe(subject.problem, int(np.abs(ritz.vector).argmax()))


def _no_budget(subject: TrainingSubject) -> str:
    wanted = PASSES_BEFORE + PASSES_A_STEP
    return f"{subject.too_large}; Lanczos wants --budget of {wanted:g} passes or more"
