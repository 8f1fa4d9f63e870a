"""First order: is the file a stationary point of J, and is its stored costate the adjoint?

Norms: absolute means the largest absolute entry, unscaled; scaled means |g_k|_2 divided by
|h r u_k|_2 + |data part of g_k|_2 of the same layer, the two terms that cancel at a minimum.
"""

from __future__ import annotations

import numpy as np

from ocp.controls import describe, ends

from ..evaluation.adjoint import decay, multipliers
from ..evaluation.newton import step_of
from ..evaluation.states import batches, propagate
from ..evaluation.subject import TrainingSubject
from ..report import Check, Entry, Finding, Verdict, not_applicable, not_checked

#: a stored costate must agree to this share of its largest entry whatever the tolerance
COSTATE_SHARE = 1e-3
FLOAT32_SHARE = 1e-4
#: roundings granted to one term of a costate
ROUNDED = 64
NEWTON_DISTANCE = "first_order.newton_distance"


def check_first_order(subject: TrainingSubject) -> list[Entry]:
    """Return stationarity, its scaled form, the Newton distance and the stored costate's lines."""
    return [
        stationarity(subject),
        scaled_stationarity(subject),
        newton_distance(subject),
        *stored_costate(subject),
    ]


def stationarity(subject: TrainingSubject) -> Check:
    """max |dJ/du| <= tol at the rolled-out states; on kinks undecided unless J is seen to fall."""
    name, norm, tolerance = "first_order.gradient", subject.grad_inf_norm, subject.tolerance
    if not np.isfinite(norm):
        return Check(
            name=name,
            measured=norm,
            bound=tolerance,
            message="the gradient is not finite: states or controls leave the floating-point range",
        )
    where = describe(subject.problem, int(np.abs(subject.gradient).argmax()))
    reason = kink_reason(subject)
    if not reason:
        return Check(name=name, measured=norm, bound=tolerance, where=where)
    found = subject.kink_descent
    if found is None:
        text = f"{reason}; no descent found by evaluating J"
        return Check(name=name, measured=norm, bound=tolerance, where=where, undecidable=text)
    return Check(
        name=name,
        measured=found.rate,
        bound=tolerance,
        where=describe(subject.problem, int(np.abs(found.step).argmax())),
        message=f"{reason}; J falls by {found.decrease:.2e} along a step of length"
        f" {np.linalg.norm(found.step):.1e}, evaluated (measured: decrease per unit of |step|_1)",
    )


def kink_reason(subject: TrainingSubject) -> str:
    """Why first-order conditions do not decide: pre-activations where the slope jumps."""
    count, where = subject.kinks
    if subject.problem.sigma.kink != 1 or not count:
        return ""
    return f"{count} pre-activations on kinks, first at {where}"


def scaled_stationarity(subject: TrainingSubject) -> Finding:
    """Report |g_k| / (|decay part| + |data part|) of the worst layer."""
    name = "first_order.scaled"
    groups = layer_groups(subject)
    parts = [subject.gradient, decay(subject.problem, subject.controls), subject.data_gradient]
    whole, quadratic, data = (
        np.array([np.linalg.norm(part[group]) for _, group in groups]) for part in parts
    )
    if not np.isfinite(whole).all():
        return not_applicable(name, "the gradient is not finite")
    terms = quadratic + data
    scaled = np.divide(whole, terms, out=np.zeros_like(whole), where=terms > 0)
    # layers whose two terms both vanish carry rounding only
    scaled[terms <= 1e-12 * terms.max(initial=0.0)] = 0.0
    worst, absolute = int(scaled.argmax()), int(whole.argmax())
    return Finding(
        name=name,
        verdict=Verdict.OBSERVED,
        measured=float(scaled[worst]),
        where=groups[worst][0],
        message="|g_k|_2 over the sum of the norms of its two terms, worst layer;"
        f" largest |g_k|_2 = {whole[absolute]:.1e} at {groups[absolute][0]}",
    )


def layer_groups(subject: TrainingSubject) -> list[tuple[str, slice]]:
    """Return the flat order in groups: every layer, then the trained ends together."""
    size, depth = subject.problem.layer_size, subject.problem.depth
    groups = [(f"layer {k}", slice(k * size, (k + 1) * size)) for k in range(depth)]
    if subject.problem.n_decision > depth * size:
        groups.append(("trained ends", slice(depth * size, subject.problem.n_decision)))
    return groups


def newton_distance(subject: TrainingSubject) -> Entry:
    """The claim that a stationary point is near: Newton's method contracts (`evaluation.newton`).

    The tolerance on the gradient is absolute: tiny weights and flat tails meet it anywhere.
    """
    name = NEWTON_DISTANCE
    if kink_reason(subject):
        return not_applicable(name, f"no Hessian: {kink_reason(subject)}", "claim")
    if not np.isfinite(subject.grad_inf_norm):
        return not_applicable(name, "the gradient is not finite", "claim")
    near = subject.grad_inf_norm <= subject.tolerance
    if not near and subject.too_large:
        return not_checked(name, subject.too_large)
    if not near:
        return _far_step(subject)
    found = subject.contraction
    if not found.checked:
        return not_checked(name, f"{subject.too_large}; {found.why_not}", "claim")
    return Check(
        name=name,
        measured=found.length,
        bound=found.bound,
        where=describe(subject.problem, found.at),
        undecidable=f"no stationary point was found near: {found.why_not}" if found.why_not else "",
        message=""
        if found.why_not
        else "a stationary point lies within about this distance: Newton's method contracts",
    )


def _far_step(subject: TrainingSubject) -> Finding:
    """One Newton step where the gradient is above the tolerance: a number, no statement."""
    step, unknown = step_of(
        subject.problem, subject.controls, subject.hessian, subject.gradient, subject.gradient_size
    )
    if unknown:
        return not_applicable(NEWTON_DISTANCE, unknown)
    at = int(np.abs(step).argmax())
    return Finding(
        name=NEWTON_DISTANCE,
        verdict=Verdict.OBSERVED,
        measured=float(np.abs(step[at])),
        where=describe(subject.problem, at),
        message="one Newton step; no statement this far from a stationary point",
    )


def passes(subject: TrainingSubject) -> str:
    """Why a file does not pass first order by itself, gradient and contraction, or ""."""
    for line in (stationarity(subject), newton_distance(subject)):
        if line.verdict is not Verdict.PASSED:
            return f"{line.name} {line.verdict.value}"
    return ""


def stored_costate(subject: TrainingSubject) -> list[Entry]:
    """Put the stored costate into the adjoint equations, terminal condition apart."""
    names = ("first_order.costate_terminal", "first_order.costate_recursion")
    problem, controls, stored = subject.problem, subject.controls, subject.content.costate
    if stored is None:
        return [not_applicable(name, "the file stores no costate", "claim") for name in names]
    if kink_reason(subject):
        why = f"the costate is not unique: {kink_reason(subject)}"
        return [not_applicable(name, why, "claim") for name in names]
    worst = np.zeros(problem.depth + 1)
    sample, largest = np.zeros(problem.depth + 1, dtype=int), 0.0
    for batch in batches(problem, copies=2):
        run = propagate(problem, controls, batch)
        given = stored[:, batch.rows]
        wanted = multipliers(problem, controls, batch, run, given).costate
        residual = np.abs(wanted - given).max(axis=2)
        residual = np.where(np.isnan(residual), np.inf, residual)
        at = residual.argmax(axis=1)
        value = residual[np.arange(len(at)), at]
        sample = np.where(value > worst, at + batch.rows.start, sample)
        worst = np.maximum(worst, value)
        largest = max(largest, float(np.abs(wanted).max()))
    share = FLOAT32_SHARE if "costate" in subject.content.float32 else 0.0
    # softmax - q rounds by eps however small it is: what one term of a costate then is
    _, _, C, _ = ends(problem, controls)
    weight = max(problem.gamma, problem.h * problem.beta) / problem.n_samples
    rounding = ROUNDED * float(np.finfo(float).eps * weight * np.abs(C).sum(axis=0).max())
    bound = max(min(subject.tolerance, COSTATE_SHARE * largest), share * largest, rounding)
    lines: list[Entry] = []
    for name, layers in zip(names, ([problem.depth], range(problem.depth)), strict=True):
        k = max(layers, key=lambda layer: worst[layer])
        scaled = worst[k] / largest if largest > 0 else 0.0
        lines.append(
            Check(
                name=name,
                measured=float(worst[k]),
                bound=bound,
                where=f"layer {k}, sample {sample[k]}",
                message=f"{scaled:.1e} of the largest costate",
            )
        )
    return lines
