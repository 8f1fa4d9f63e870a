"""Second order: is the stationary point a strict local minimum?

The linear independence constraint qualification always holds (unit block lower triangular state
Jacobian), so the reduced Hessian Z'WZ decides, and by Haynsworth's inertia formula

    inertia(full KKT matrix) = inertia(Z'WZ) + (N n n_d, N n n_d, 0).

passed        lambda_min > band here and after one Newton step
failed        lambda_min < -band and J is seen to fall along the eigenvector (the witness)
inconclusive  the band contains zero; exact null directions; pre-activations on kinks
Reference: Nocedal and Wright, Numerical Optimization, theorems 12.5-12.6 and 16.2.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ocp.controls import describe, flatten, unflatten

from ..evaluation import adjoint, hessian
from ..evaluation.descent import SEED, Descent, descend_by_curvature
from ..evaluation.subject import TrainingSubject
from ..report import Check, Entry, Finding, Verdict, not_applicable, not_checked
from . import large_curvature
from .certificate import too_large
from .first_order import stationarity

#: agreement wanted of central differences, relative to |H|_2; they only guard
DIFFERENCE_TOLERANCE = 1e-4
DIFFERENCE_STEP = 1e-5

CURVATURE = "second_order.curvature"


def check_second_order(subject: TrainingSubject) -> list[Entry]:
    """Return the verdict on curvature with its band, guard, inertia and qualification."""
    licq = Finding(
        name="second_order.licq",
        verdict=Verdict.PROVED,
        message="constraint gradients are independent at every point: the state Jacobian is unit"
        " block lower triangular, its determinant is 1",
    )
    first = stationarity(subject)
    if first.verdict is Verdict.FAILED:
        why = f"not stationary: {first.measured:.2g} > {subject.tolerance:.2g} ({first.name})"
        seen = large_curvature.finding(subject) if subject.too_large else []
        return [not_applicable(CURVATURE, why, "claim"), *seen, licq]
    if first.verdict is Verdict.INCONCLUSIVE:
        return [_undecided(first.undecidable), licq]
    if subject.kinks[0]:
        return [_on_kinks(subject), licq]
    if subject.too_large:
        return [*large_curvature.claim(subject), licq]
    guard = finite_differences(subject)
    return [curvature(subject, guard), _routes(subject), guard, _inertia(subject), licq]


def _undecided(why: str) -> Check:
    nan = float("nan")
    return Check(name=CURVATURE, measured=nan, bound=nan, relation=">", undecidable=why)


def _on_kinks(subject: TrainingSubject) -> Check:
    """softsign: the second derivative jumps there, so no eigenvalue decides; J itself may."""
    count, where = subject.kinks
    why = f"{count} pre-activations on kinks, first at {where}"
    found = subject.kink_descent or _along_curvature(subject)
    if found is None:
        return _undecided(f"{why}; no descent found by evaluating J")
    return Check(
        name=CURVATURE,
        measured=-found.rate,
        bound=0.0,
        relation=">",
        where=describe(subject.problem, int(np.abs(found.step).argmax())),
        message=f"{why}; J falls by {found.decrease:.2e} along a step of length"
        f" {np.linalg.norm(found.step):.1e}, evaluated (measured: minus the decrease per unit)",
    )


def _along_curvature(subject: TrainingSubject) -> Descent | None:
    """A fall of J along the direction of least curvature: what is evaluated holds at kinks too."""
    if not subject.too_large:
        return descend_by_curvature(
            subject.problem, subject.controls, subject.hessian.vectors[:, 0]
        )
    ritz = subject.least_curvature
    if ritz is None:
        return None
    return descend_by_curvature(subject.problem, subject.controls, ritz.vector)


def curvature(subject: TrainingSubject, guard: Finding) -> Check:
    """Decide the sign of the least eigenvalue of the reduced Hessian."""
    found, problem = subject.hessian, subject.problem
    least = float(found.eigenvalues[0])
    line = Check(
        name=CURVATURE,
        measured=least,
        bound=found.band,
        relation=">",
        where=describe(problem, int(np.abs(found.vectors[:, 0]).argmax())),
        message="least eigenvalue of the reduced Hessian and its error band",
    )
    if least < -found.band:
        shown = witness(subject)
        if shown is None:
            why = "the curvature is negative but no decrease of J could be evaluated"
            return dataclasses.replace(line, undecidable=why)
        text = (
            f"not a minimum: J falls by {shown.decrease:.2e} along the eigenvector, step"
            f" {np.linalg.norm(shown.step):.1e}, evaluated; restart from there"
        )
        return dataclasses.replace(line, message=text)
    return dataclasses.replace(line, undecidable=_undecidable(subject, guard))


def witness(subject: TrainingSubject) -> Descent | None:
    """A step along the least eigenvector that lowers J, with negative curvature evaluated."""
    return descend_by_curvature(subject.problem, subject.controls, subject.hessian.vectors[:, 0])


def _undecidable(subject: TrainingSubject, guard: Finding) -> str:
    """Why a least eigenvalue that is not below -band still proves nothing, or ""."""
    found = subject.hessian
    if guard.verdict is Verdict.INCONCLUSIVE:
        return "finite differences of the gradient disagree with the reduced Hessian"
    null = [f"{reason} ({len(rows)})" for reason, rows in subject.null_directions.items()]
    zero = int((np.abs(found.eigenvalues) <= found.band).sum())
    if null:
        return f"exact null directions: {'; '.join(null)}"
    if zero:
        # the next step is one that can be taken
        more = "" if too_large(subject.problem) else "; --certify may decide"
        return f"{zero} eigenvalues lie within the error band of zero{more}"
    near = subject.contraction
    if near.why_not:
        return f"not near a stationary point: {near.why_not}"
    return _after_newton_step(subject)


def _after_newton_step(subject: TrainingSubject) -> str:
    """Repeat the condition after one Newton step: the point must not sit at a boundary."""
    after = subject.contraction.after
    if after is None:
        moved = flatten(subject.controls) - subject.contraction.step
        after = hessian.spectrum(subject.problem, unflatten(subject.problem, moved))
    if not after.eigenvalues[0] > after.band:
        return f"after one Newton step the least eigenvalue is {after.eigenvalues[0]:.2g}"
    return ""


def _routes(subject: TrainingSubject) -> Finding:
    found = subject.hessian
    return Finding(
        name="second_order.routes",
        verdict=Verdict.OBSERVED,
        measured=found.difference,
        message="spectral norm of the difference of two exact routes (condensing; products);"
        f" the largest eigenvalue is {np.abs(found.eigenvalues).max():.4g}",
    )


def finite_differences(subject: TrainingSubject) -> Finding:
    """Guard: central differences of the gradient along two seeded directions and the last one."""
    name, problem, found = "second_order.finite_differences", subject.problem, subject.hessian
    if not problem.sigma.smooth and subject.survey.least_preactivation < 1e-3:
        return not_checked(name, "a kink lies within the difference step")
    rng, u = np.random.default_rng(SEED), flatten(subject.controls)
    directions = np.vstack([rng.standard_normal((2, len(u))), found.vectors[:, 0]])
    worst = 0.0
    for direction in directions / np.linalg.norm(directions, axis=1, keepdims=True):
        step = DIFFERENCE_STEP * direction
        ahead = adjoint.gradient(problem, unflatten(problem, u + step))[0]
        behind = adjoint.gradient(problem, unflatten(problem, u - step))[0]
        difference = (ahead - behind) / (2 * DIFFERENCE_STEP)
        worst = max(worst, float(np.abs(difference - found.H @ direction).max()))
    bound = DIFFERENCE_TOLERANCE * float(np.abs(found.eigenvalues).max())
    return Finding(
        name=name,
        verdict=Verdict.OBSERVED if worst <= bound else Verdict.INCONCLUSIVE,
        measured=worst,
        bound=bound,
        message=f"central differences of the gradient, 2 directions of seed {SEED} and the least"
        " eigenvector; a guard only",
    )


def _inertia(subject: TrainingSubject) -> Finding:
    found, problem = subject.hessian, subject.problem
    plus = int((found.eigenvalues > found.band).sum())
    minus = int((found.eigenvalues < -found.band).sum())
    zero = len(found.eigenvalues) - plus - minus
    states = problem.depth * problem.width * problem.n_samples
    return Finding(
        name="second_order.inertia",
        verdict=Verdict.OBSERVED,
        message=f"full KKT matrix: ({states + plus}, {states + minus}, {zero}) positive, negative"
        f" and undecided eigenvalues by Haynsworth; reduced: ({plus}, {minus}, {zero})",
    )
