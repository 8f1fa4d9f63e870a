"""A proof that a strict local minimiser lies next to the stored controls (Krawczyk's test).

At >= 128 bits: polish u to u* by Newton steps; with G = J'(u*), H(U) an enclosure of the Hessian
over the box U = u* +- R and B close to the inverse Hessian,

    |B G| + |I - B H(U)| R < R  (componentwise)

    => exactly one stationary point u+ in U, and every Hessian on U is nonsingular;
    L^-1 H(u*) L^-T diagonally dominant (Gershgorin), L a Cholesky factor
    => H(u*) is positive definite, hence so is the Hessian on all of U: U is connected and no
       eigenvalue passes zero.  So u+ is a strict local minimiser, the only one in U, and
       |u+ - u*|_w <= |B G|_w / (1 - rho),  lambda_min >= (1 - rho) / |B|_w  on U,
       rho = | |I - B H(U)| |_w in the weighted sup norm |v|_w = max |v_j| / w_j, R = tau w.

This is *local*: nothing is said of other minima.
References: R. Krawczyk, Computing 4 (1969); S. M. Rump, Acta Numerica 19 (2010), section 13.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from ocp.controls import describe, flatten
from ocp.problem import Problem

from .. import report
from ..balls import arithmetic as balls
from ..balls.activations import ContainsKink
from ..balls.hessian import gradient_and_hessian
from ..balls.krawczyk import (
    UP,
    approximate_inverse,
    curvature_bound,
    defect_of,
    error_bound,
    gershgorin,
    polish,
    widest_box,
)
from ..balls.model import ball_model, gradient, objective
from ..evaluation.newton import NEARBY
from ..evaluation.subject import TrainingSubject
from ..report import Entry, Finding, Verdict

Progress = Callable[[str], None]

#: decision variables and samples times layers times stages beyond which nothing is attempted
MAX_DECISION = 1000
MAX_STATES = 200_000


class Outcome(enum.Enum):
    """What was proved.  The value is the sentence shown to the user."""

    MINIMUM = "a strict local minimiser is proved to lie next to the stored controls"
    SADDLE = "the stationary point next to the stored controls is proved to be no minimum"
    UNDECIDED = "nothing is proved"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Certificate:
    """Result of the proof; every float is rounded to the safe side, nan where not reached.

    reason : why nothing is proved, empty otherwise
    bits : precision of the midpoints
    grad_lower, grad_upper : bounds of the largest |dJ/du_j| at the stored controls
    distance : bound of |u+ - stored|_inf;  distance_2 : of the Euclidean distance
    radius : smallest half side R_j of the box in which u+ is unique;  radius_max : the largest
    rho : contraction | |I - B H(U)| |_w < 1
    dominance : Gershgorin's margin of L^-1 H L^-T, 1 is best, > 0 is positive definite
    min_curvature : lower bound of the least eigenvalue of the Hessian on the whole box
    objective_lower, objective_upper : bounds of J(u+), and `objective_digits` as text
    curvature_witness : for a saddle, the negative value w'Hw that is not exceeded on the box
    """

    outcome: Outcome
    reason: str = ""
    bits: int = 0
    grad_lower: float = math.nan
    grad_upper: float = math.nan
    distance: float = math.nan
    distance_2: float = math.nan
    radius: float = math.nan
    radius_max: float = math.nan
    rho: float = math.nan
    dominance: float = math.nan
    min_curvature: float = math.nan
    objective_lower: float = math.nan
    objective_upper: float = math.nan
    objective_digits: str = ""
    curvature_witness: float = math.nan


def certify_minimum(
    problem: Problem,
    u: np.ndarray,
    bits: int = 128,
    max_bits: int = 512,
    progress: Progress | None = None,
) -> Certificate:
    """Try to prove a strict local minimiser next to the controls u, (d,) floats.

    The precision is doubled from `bits` to `max_bits` while the proof fails for want of it.
    """
    if bits < 64:
        raise ValueError(f"bits is {bits}; wanted at least 64")
    say = progress or (lambda text: None)
    refusal = too_large(problem)
    if refusal:
        return Certificate(outcome=Outcome.UNDECIDED, reason=refusal)
    while True:
        with balls.precision(bits):
            try:
                found, retry = _attempt(problem, u, bits, say)
            except ContainsKink as kink:
                k, i, j = kink.index
                reason = f"a pre-activation may lie on a kink: layer {k}, sample {i}, unit {j}"
                return Certificate(outcome=Outcome.UNDECIDED, reason=reason, bits=bits)
        if not retry or 2 * bits > max_bits:
            return found
        bits *= 2


def gradient_bounds(problem: Problem, u: np.ndarray, bits: int = 128) -> tuple[float, float]:
    """Return bounds of max_j |dJ/du_j| at the floats u, the exact one lies between."""
    with balls.precision(bits):
        return _gradient_bounds(gradient(ball_model(problem), balls.exact(u)))


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


def _attempt(problem: Problem, u: np.ndarray, bits: int, say: Progress) -> tuple[Certificate, bool]:
    """One precision: return (certificate, whether more bits might help)."""
    model, stored = ball_model(problem), balls.exact(u)
    found: dict = {"bits": bits}
    undecided = lambda reason: Certificate(outcome=Outcome.UNDECIDED, reason=reason, **found)  # noqa: E731
    part = lambda what: lambda done: say(f"certificate: {what}, {done:.0%}")  # noqa: E731
    g, H = gradient_and_hessian(model, stored, part("Hessian"))
    found["grad_lower"], found["grad_upper"] = _gradient_bounds(g)
    if not math.isfinite(found["grad_upper"]) or not np.isfinite(balls.nearest(H)).all():
        return undecided("the ball of the gradient or of the Hessian is unbounded"), False
    centre, reason = polish(model, stored, H, bits)
    if reason:
        flat, sentence = _flattest(problem, balls.nearest(H))
        return undecided(sentence if flat < 1e-13 else reason), False
    g, H = gradient_and_hessian(model, centre, part("Hessian at the polished point"))
    B = approximate_inverse(H)
    if B is None:
        return undecided("the Hessian is singular"), False
    rough = balls.nearest(H)
    found["dominance"] = gershgorin(H, rough)
    newton = balls.magnitude(balls.matmul(B, g[:, None])[:, 0])
    defect = defect_of(B, H)
    if not defect.sum(axis=1).max() < 0.5:
        flat, sentence = _flattest(problem, rough)
        return undecided(sentence), flat > 2.0**-bits
    box = widest_box(model, centre, B, newton, part("Hessian over the box"))
    if box is None:
        return undecided("no box was found on which I - B H contracts"), True
    w, tau, rho, H_box = box
    found["rho"] = rho
    found["radius"], found["radius_max"] = float(tau * w.min()), float(tau * w.max())
    error = error_bound(newton, rho, w)
    moved = balls.magnitude(stored - centre) + error
    largest = float(moved.max())
    found["distance"] = largest * UP
    # relative to the largest: squares of small distances would underflow to 0
    found["distance_2"] = largest * float(np.linalg.norm(moved / largest)) * UP
    if not found["dominance"] > 0:
        direction = scipy.linalg.eigh(rough, subset_by_index=[0, 0])[1][:, 0]
        return _saddle(H_box, direction, found, undecided), False
    J = objective(model, balls.ball(centre, error))
    found["objective_lower"], found["objective_upper"] = balls.lower(J), balls.upper(J)
    found["objective_digits"] = J.str(25)
    found["min_curvature"] = curvature_bound(balls.magnitude(B), rho, w)
    return Certificate(outcome=Outcome.MINIMUM, **found), False


def _flattest(problem: Problem, rough: np.ndarray) -> tuple[float, str]:
    """Least |eigenvalue| relative to the largest, and the sentence that names its direction."""
    values, vectors = scipy.linalg.eigh(rough)
    at = int(np.abs(values).argmin())
    where = describe(problem, int(np.abs(vectors[:, at]).argmax()))
    sentence = (
        f"the Hessian cannot be told from a singular one (least eigenvalue about {values[at]:.2g},"
        f" its direction is largest in {where}): a null direction, as r = 0 leaves them"
    )
    return float(np.abs(values[at]) / np.abs(values).max()), sentence


def _saddle(
    H: np.ndarray,
    direction: np.ndarray,
    found: dict,
    undecided: Callable[[str], Certificate],
) -> Certificate:
    """Prove w'Hw < 0 on the whole box, or say that the definiteness is open."""
    w = balls.exact(direction)
    curvature = balls.upper((w * balls.matmul(H, w[:, None])[:, 0]).sum())
    if curvature < 0:
        return Certificate(outcome=Outcome.SADDLE, curvature_witness=curvature, **found)
    return undecided(
        "a unique stationary point is proved, but not that its Hessian is positive definite"
    )


def _gradient_bounds(g: np.ndarray) -> tuple[float, float]:
    sizes = balls.apply(abs, g)
    least = max(balls.lower(x) for x in sizes)
    return max(least, 0.0), float(balls.magnitude(g).max())


def too_large(problem: Problem) -> str:
    """Return why no certificate is tried, or ""."""
    d = problem.n_decision
    states = problem.n_samples * problem.depth
    if d <= MAX_DECISION and states <= MAX_STATES:
        return ""
    return (
        f"{d} decision variables and {states} states;"
        f" the dense ball Hessian is tried up to {MAX_DECISION} and {MAX_STATES}"
    )
