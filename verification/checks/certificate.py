"""A proof that a strict local minimiser lies next to the stored controls (Krawczyk's test).

Tried first by midpoint-radius matrices (`balls.by_matrices`: a second for 240 variables), then,
where these decide nothing and the estimate of the time allows it, in ball arithmetic throughout
(`balls.by_balls`), whose precision is doubled while the proof fails for want of it.  What is
proved, and why it follows, stands in `balls.proof`.  It is *local*: nothing is said of other
minima.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np

from ocp.controls import flatten
from ocp.problem import Problem

from .. import report
from ..balls import arithmetic as balls
from ..balls import by_balls, by_matrices, costs, midrad
from ..balls.activations import ContainsKink
from ..balls.model import ball_model, gradient
from ..balls.proof import Certificate, Outcome, largest_entry
from ..evaluation.newton import NEARBY
from ..evaluation.subject import TrainingSubject
from ..report import Entry, Finding, Verdict

Progress = Callable[[str], None]


def certify_minimum(
    problem: Problem,
    u: np.ndarray,
    bits: int = 128,
    max_bits: int = 512,
    progress: Progress | None = None,
) -> Certificate:
    """Try to prove a strict local minimiser next to the controls u, (d,) floats.

    Matrices come first, with the centre in balls of `bits` bits.  Where they decide nothing, balls
    throughout; their precision is doubled up to `max_bits` while the proof fails for want of it.
    """
    if bits < 64:
        raise ValueError(f"bits is {bits}; wanted at least 64")
    say = progress or (lambda text: None)
    refusal = too_large(problem)
    if refusal:
        return Certificate(outcome=Outcome.UNDECIDED, reason=refusal)
    found = Certificate(outcome=Outcome.UNDECIDED, reason="this machine does not round to nearest")
    if midrad.rounds_as_proved():
        try:
            with balls.precision(bits):
                found = by_matrices.attempt(problem, u, bits, say)
        except ContainsKink as kink:
            found = _on_kink(kink, bits)
        if found.outcome is not Outcome.UNDECIDED:
            return found
    more = costs.of_balls(problem)
    if more.too_much:
        beyond = f" (by float64 matrices; balls of {bits} bits throughout would take {more})"
        return dataclasses.replace(found, reason=found.reason + beyond)
    while True:
        with balls.precision(bits):
            try:
                found, retry = by_balls.attempt(problem, u, bits, say)
            except ContainsKink as kink:
                return _on_kink(kink, bits)
        if not retry or 2 * bits > max_bits:
            return found
        bits *= 2


def _on_kink(kink: ContainsKink, bits: int) -> Certificate:
    k, i, j = kink.index
    reason = f"a pre-activation may lie on a kink: layer {k}, sample {i}, unit {j}"
    return Certificate(outcome=Outcome.UNDECIDED, reason=reason, bits=bits)


def gradient_bounds(problem: Problem, u: np.ndarray, bits: int = 128) -> tuple[float, float]:
    """Return bounds of max_j |dJ/du_j| at the floats u, the exact one lies between."""
    with balls.precision(bits):
        return largest_entry(gradient(ball_model(problem), balls.exact(u)))


def check_certificate(subject: TrainingSubject) -> list[Entry]:
    """Return the lines of the check "certificate".

    A file whose largest gradient entry provably exceeds the tolerance is not stationary, and then
    the certificate is not applicable.

    Raises
    ------
    ValueError : python-flint is not installed
    """
    balls.require()
    name, tolerance = "certificate.minimum", subject.tolerance
    problem, u = subject.problem, flatten(subject.controls)
    refusal = too_large(problem)
    if refusal:
        return [report.not_checked(name, refusal, kind="claim")]
    try:
        least, most = gradient_bounds(problem, u)
    except ContainsKink:
        least = most = 0.0  # the attempt below says where
    if least > tolerance:
        why = f"not stationary: the largest gradient entry is at least {least:.3g}"
        return [report.not_applicable(name, f"{why} > {tolerance:.3g}", kind="claim")]
    if not math.isfinite(most):
        why = "the ball of the gradient is unbounded: the states overflow"
        return [Finding(name=name, verdict=Verdict.INCONCLUSIVE, message=why, kind="claim")]
    nearby = NEARBY * max(1.0, float(np.abs(u).max()))
    return entries(certify_minimum(problem, u, progress=subject.progress), nearby)


def entries(found: Certificate, nearby: float) -> list[Entry]:
    """Return the lines of the table for a result.

    nearby : largest distance of a stationary point that says something of the stored controls
    """
    name = "certificate.minimum"
    if found.outcome is not Outcome.UNDECIDED and not found.distance <= nearby:
        why = (
            f"a stationary point is certified, but only within {found.distance:.3g} of the stored"
            f" controls; next to them means {nearby:.3g}: polish the file"
        )
        return [Finding(name=name, verdict=Verdict.INCONCLUSIVE, message=why, kind="claim")]
    if found.outcome is Outcome.UNDECIDED:
        why = f"not certified: {found.reason}"
        return [Finding(name=name, verdict=Verdict.INCONCLUSIVE, message=why, kind="claim")]
    if found.outcome is Outcome.SADDLE:
        why = (
            f"{found.outcome.value}: curvature <= {found.curvature_witness:.4g} along a direction,"
            f" at distance <= {found.distance:.3g}"
        )
        verdict = Verdict.FAILED
        return [
            Finding(
                name=name,
                verdict=verdict,
                measured=found.curvature_witness,
                bound=0.0,
                relation=">=",
                message=why,
                kind="claim",
            )
        ]
    statement = (
        f"there is a strict local minimiser, the only stationary point within"
        f" {found.radius:.3g} of the polished controls, at distance <= {found.distance:.3g} from"
        f" the stored controls, with objective in {found.objective_digits}"
        f" ({found.bits} bits; local, nothing is said of other minima)"
    )
    proved = Verdict.PROVED
    return [
        Finding(
            name=name,
            verdict=Verdict.PASSED,
            measured=found.distance,
            message=statement,
            kind="claim",
        ),
        Finding(
            name="certificate.contraction",
            verdict=proved,
            measured=found.rho,
            bound=1.0,
            relation="<",
            message="weighted norm of I - B H over the box",
        ),
        Finding(
            name="certificate.curvature",
            verdict=proved,
            measured=found.min_curvature,
            bound=0.0,
            relation=">",
            message="lower bound of the least eigenvalue of the Hessian on the box",
        ),
        Finding(
            name="certificate.objective",
            verdict=proved,
            measured=found.objective_lower,
            bound=found.objective_upper,
            message="the objective of the minimiser lies between",
        ),
    ]


def too_large(problem: Problem) -> str:
    """Return why no certificate is tried, or ""."""
    cost = costs.of_matrices(problem)
    if not cost.too_much:
        return ""
    return (
        f"{problem.n_decision} decision variables and {problem.n_samples} samples in"
        f" {problem.depth} layers: a proof would take {cost}; tried up to {costs.LIMITS}"
    )
