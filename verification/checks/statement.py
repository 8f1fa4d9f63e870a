"""Statement: what the file says of itself against recomputation."""

from __future__ import annotations

import json
import math

import numpy as np

from ocp.controls import flatten, unflatten

from ..evaluation import adjoint
from ..evaluation.subject import Subject, TrainingSubject
from ..report import HASH, Check, Entry, Finding, Verdict, not_applicable

OBJECTIVE_TOLERANCE = 1e-10
FLOAT32_TOLERANCE = 1e-5
CLAIM = "claim"


def check_statement(subject: TrainingSubject) -> list[Entry]:
    """Compare the stored hash, objective and gradient norm with recomputed ones."""
    return [
        stored_hash(subject),
        stored_objective(subject),
        _gradient_norm(subject),
        *_precision(subject),
        *_cautions(subject),
    ]


def check_statement_of_trace(subject: Subject) -> list[Entry]:
    """Compare what can be recomputed of a stage trace: its hash and its objective."""
    return [stored_hash(subject), stored_objective(subject)]


def stored_hash(subject: Subject) -> Entry:
    """The stored sha256 against the recomputed one."""
    stored = subject.content.origin.get("sha256")
    if stored is None:
        return not_applicable(HASH, "the file stores no hash", CLAIM)
    same = isinstance(stored, str) and stored == subject.content.sha256
    return Check(
        name=HASH,
        measured=float(not same),
        bound=0.0,
        message="statement and tensors are those that were hashed"
        if same
        else f"stored {str(stored)[:16]}.., recomputed {subject.content.sha256[:16]}..",
    )


def stored_objective(subject: Subject) -> Entry:
    """The stored objective against J."""
    name, J = "statement.objective", subject.survey.objective
    if "objective" not in subject.content.origin:
        return not_applicable(name, f"the file stores no objective; J = {J:.12g}", CLAIM)
    stored = _number(subject.content.origin["objective"])
    tolerance = FLOAT32_TOLERANCE if subject.content.float32 else OBJECTIVE_TOLERANCE
    return Check(
        name=name,
        measured=abs(J - stored),
        bound=tolerance * max(1.0, abs(J)),
        message=f"stored {_told(subject, 'objective', 12)}, recomputed {J:.12g}",
    )


def _gradient_norm(subject: TrainingSubject) -> Entry:
    name, norm = "statement.gradient_norm", subject.grad_inf_norm
    if "grad_inf_norm" not in subject.content.origin:
        return not_applicable(name, f"the file stores none; |dJ/du|_inf = {norm:.3g}", CLAIM)
    stored = _number(subject.content.origin["grad_inf_norm"])
    # a negative or missing number is no claim that any gradient can meet
    bound = max(subject.tolerance, 10 * stored) if stored >= 0 else math.nan
    return Check(
        name=name,
        measured=norm,
        bound=bound,
        message=f"stored {_told(subject, 'grad_inf_norm', 3)}",
    )


def _precision(subject: TrainingSubject) -> list[Entry]:
    """Say what single precision costs: half a unit in the last place, put into the controls."""
    name, stored = "statement.precision", subject.content.float32
    if not stored:
        return []
    u = flatten(subject.controls)
    rng = np.random.default_rng(0)
    half_ulp = 0.5 * np.spacing(np.abs(u).astype(np.float32)).astype(np.float64)
    moved = unflatten(subject.problem, u + half_ulp * rng.choice([-1.0, 1.0], len(u)))
    change = np.abs(adjoint.gradient(subject.problem, moved)[0] - subject.gradient).max()
    return [
        Finding(
            name=name,
            verdict=Verdict.OBSERVED,
            measured=float(change),
            message=f"stored in single precision: {', '.join(stored)}; half a unit in the last"
            f" place of the controls moves the gradient by {change:.1e}"
            + (
                ", above the tolerance: export in float64 to pass first_order"
                if change > subject.tolerance
                else ""
            ),
        )
    ]


def _cautions(subject: TrainingSubject) -> list[Entry]:
    return [
        Finding(name="statement.caution", verdict=Verdict.OBSERVED, message=sentence)
        for sentence in subject.problem.cautions()
    ]


def _told(subject: Subject, key: str, digits: int) -> str:
    """What the file stores, as it stands there if it is no number."""
    value = subject.content.origin[key]
    number = _number(value)
    return f"{json.dumps(value)[:40]}, no number" if math.isnan(number) else f"{number:.{digits}g}"


def _number(value: object) -> float:
    """A stored number; NaN, which fails every check, for anything else."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.nan
