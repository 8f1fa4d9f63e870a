"""First order: is the file a stationary point of J, and is its stored costate the adjoint?

Norms: absolute means the largest absolute entry, unscaled; scaled means |g_k|_2 divided by
|h r u_k|_2 + |data part of g_k|_2 of the same layer, the two terms that cancel at a minimum.
"""

from __future__ import annotations

import numpy as np

from ocp.controls import describe, flatten

from ..evaluation.adjoint import decay, multipliers
from ..evaluation.states import batches, propagate
from ..evaluation.subject import TrainingSubject
from ..report import Check, Entry, Finding, Verdict, not_applicable, not_checked

#: a stored costate must agree to this share of its largest entry whatever the tolerance
COSTATE_SHARE = 1e-3
FLOAT32_SHARE = 1e-4
NEWTON_DISTANCE = "first_order.newton_distance"
#: largest Newton step of a point that counts as near a stationary one, over max(1, |u|_inf)
NEARBY = 1e-3
#: the same without a Hessian: the share of the gradient's two terms that may be left over
UNBALANCED = 1e-2
#: gradient terms below this share of the cost weights are rounding
ROUNDED = 1e-12


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
    """Report |H^-1 g|_inf: how far the nearest stationary point is, to first order.

    The tolerance on the gradient is absolute: tiny cost weights meet it anywhere.  A point within
    the tolerance whose Newton step is of the size of its controls is left undecided by this line.
    """
    name = NEWTON_DISTANCE
    if kink_reason(subject):
        return not_applicable(name, f"no Hessian: {kink_reason(subject)}")
    if not np.isfinite(subject.grad_inf_norm):
        return not_applicable(name, "the gradient is not finite")
    near = subject.grad_inf_norm <= subject.tolerance
    if subject.too_large:
        share = unbalanced(subject)
        if near and share > UNBALANCED:
            why = "the gradient is within the tolerance, but its terms do not cancel"
            return Check(name=name, measured=share, bound=UNBALANCED, undecidable=why)
        return not_checked(name, subject.too_large)
    step, singular = newton_step(subject)
    at = int(np.abs(step).argmax())
    measured, where = float(np.abs(step[at])), describe(subject.problem, at)
    if near and far(subject):
        return Check(
            name=name,
            measured=measured,
            bound=nearby(subject),
            where=where,
            undecidable=far(subject),
            message="cost weights so small that the absolute tolerance says little: polish the"
            " file, or give a smaller --tol",
        )
    if singular:
        return not_applicable(name, "the reduced Hessian is singular within its error band")
    return Finding(
        name=name,
        verdict=Verdict.OBSERVED,
        measured=measured,
        where=where,
        message="a stationary point lies within about this distance"
        if near
        else "one Newton step; no statement this far from a stationary point",
    )


def newton_step(subject: TrainingSubject) -> tuple[np.ndarray, int]:
    """H^-1 g in the directions whose curvature is known, (d,), and the number of the others."""
    found = subject.hessian
    known = np.abs(found.eigenvalues) > found.band
    vectors, values = found.vectors[:, known], found.eigenvalues[known]
    return vectors @ ((vectors.T @ subject.gradient) / values), int((~known).sum())


def nearby(subject: TrainingSubject) -> float:
    """Largest Newton step of a point that is said to be near a stationary one."""
    return NEARBY * max(1.0, float(np.abs(flatten(subject.controls)).max()))


def far(subject: TrainingSubject) -> str:
    """Why the point is not near a stationary one whatever its gradient, or ""."""
    length = float(np.abs(newton_step(subject)[0]).max(initial=0.0))
    if length <= nearby(subject):
        return ""
    return f"one Newton step moves the controls by {length:.2g}, more than {nearby(subject):.2g}"


def unbalanced(subject: TrainingSubject) -> float:
    """|g|_2 over the norms of its decay and data parts; 0 without decay or within rounding."""
    problem = subject.problem
    quadratic = np.linalg.norm(decay(problem, subject.controls))
    terms = quadratic + np.linalg.norm(subject.data_gradient)
    weight = problem.gamma + problem.h * problem.depth * problem.beta
    if quadratic == 0 or not terms > ROUNDED * weight:
        return 0.0
    return float(np.linalg.norm(subject.gradient) / terms)


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
    bound = max(min(subject.tolerance, COSTATE_SHARE * largest), share * largest)
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
