"""Strict dissipativity with constant storage: a theorem for every file, so no verdict on it.

    l(x, u) - l* >= (1/n_d) sum_i alpha(dist_z,i) + (r/2)|u|^2

holds for trained and untrained networks alike.  The slack is evaluated (a) along the trajectory,
with outward rounding where the file allows it; (b) on a seeded sample near it, far away and in
adversarial directions, a test in float64; (c) the certified bound of alpha is ball arithmetic on
demand.  All three test alpha and this code.  That no other storage does better is a theorem about
alpha alone: `evaluation.storage`.
"""

from __future__ import annotations

import math

import numpy as np

from ocp.problem import SCHEMES, Problem

from ..balls.alpha import check_alpha
from ..balls.enclosures import Enclosures, merged_targets
from ..balls.slack import minus_least_slack
from ..evaluation.minimisers import Minimisers, log_mean_exp
from ..evaluation.states import batches, logits, propagate
from ..evaluation.subject import (
    UNKNOWN_DATA,
    Subject,
    TraceSubject,
    TrainingSubject,
    decided,
)
from ..report import (
    Between,
    Entry,
    Finding,
    Verdict,
    in_floats,
    not_applicable,
    not_checked,
    theorem,
)

SEED = 271828
SAMPLES = 200_000
#: most targets that share the sample
KINDS = 100
#: rounding of g: absolute, per unit of the logits' size
ROUNDING = 64 * np.finfo(float).eps
RANK = "the minimisers behind a rank-deficient readout are found by minimisation in float64"

NAMES = (
    "dissipativity.trajectory",
    "dissipativity.sampled",
    "dissipativity.certified",
)


def why_not(subject: Subject) -> str:
    """Why dissipativity is not a statement about this file, or ""."""
    problem = subject.problem
    if subject.minimisers.applicable:
        return subject.minimisers.applicable
    if problem.beta == 0:
        return "beta = 0: the layers carry no data cost"
    if problem.block == "single" and not problem.sigma.zero_at_zero:
        return f"{problem.activation} unshifted is not 0 at 0: u = 0 is no equilibrium"
    if not math.isfinite(subject.survey.objective):
        return "the states are not finite"
    return ""


def check_dissipativity(subject: TrainingSubject) -> list[Entry]:
    """Return the constant and the three lines on the slack."""
    reason = why_not(subject)
    if reason:
        return [not_applicable(name, reason) for name in NAMES]
    return [
        _constant(subject),
        along_trajectory(subject),
        sampled(subject),
        *_certified(subject),
    ]


def _constant(subject: Subject) -> Finding:
    minimisers, problem = subject.minimisers, subject.problem
    n_c = problem.n_classes
    if minimisers.full_rank and isinstance(subject, TrainingSubject):
        targets = merged_targets(problem)
        least = min(min(targets.rows[kind]) for kind in np.unique(targets.kind))
        curvature = float(2 * least * (1 - least) if n_c == 2 else least)
        verdict, why = Verdict.PROVED, ""
        eps, curvature = float(least), math.nextafter(curvature, 0.0)  # a lower bound
    else:
        eps = float(minimisers.softmax.min())
        curvature = float(minimisers.softmax.max() * eps * 2) if n_c == 2 else eps
        verdict = Verdict.OBSERVED
        why = "; no proof: " + (RANK if not minimisers.full_rank else UNKNOWN_DATA)
    exact = n_c == 2 and minimisers.full_rank
    form = "log(p + (1-p) e^(-sqrt2 s)) + (1-p) sqrt2 s" if exact else "(eps/rho) phi(sqrt(rho) s)"
    return Finding(
        name="dissipativity.alpha",
        verdict=verdict,
        measured=curvature,
        message=f"g - g* >= alpha(s) = {form}, s the distance of the centred logits;"
        f" measured: curvature of alpha at 0; least target entry {eps:.4g}{why}",
    )


def along_trajectory(subject: TrainingSubject) -> Finding:
    """(a) least slack over all layers, stages and samples."""
    if subject.enclosures is not None and subject.minimisers.full_rank:
        return decided(subject, _enclosed_slack)
    worst, where, allowed = _in_floats(subject)
    return in_floats(
        NAMES[0],
        -worst,
        allowed,
        subject.why_not_enclosed or RANK,
        where=where,
        message=f"{_least(worst, subject.problem)} (measured: minus it; bound: rounding)",
    )


def _enclosed_slack(found: Enclosures) -> Finding:
    measured, (k, s, i) = minus_least_slack(found)
    return theorem(
        NAMES[0],
        measured,
        Between(0.0, 0.0),
        where=_place(k, s, i, len(SCHEMES[found.problem.scheme][0])),
        message=f"{_least(-float(measured.upper) + 0.0, found.problem)} (measured: minus its lower"
        " end)",
    )


def _least(slack: float, problem: Problem) -> str:
    pairs = problem.depth * problem.n_samples
    return f"least slack {slack:.3g} over {pairs} (layer, sample) pairs"


def _place(k: int, s: int, i: int, stages: int) -> str:
    stage = f", stage {s + 1}" if stages > 1 else ""
    return f"layer {k}{stage}, sample {i}"


def _in_floats(subject: TrainingSubject) -> tuple[float, str, float]:
    """Least slack, where, and what rounding may do to it; NaN where a logit overflows."""
    problem, minimisers = subject.problem, subject.minimisers
    worst, where, allowed = math.inf, "", 0.0
    kept = subject.survey.logits if len(SCHEMES[problem.scheme][0]) == 1 else None
    for batch in batches(problem, copies=2):
        if kept is None:
            run = propagate(problem, subject.controls, batch)
            z = logits(problem, subject.controls, run.Y)
        else:  # euler: the only stage point is x_k
            z = kept[:-1, None, batch.rows]
        slack, size = _slack(minimisers, z, batch.rows)
        if not np.isfinite(slack).all():
            return math.nan, "the size of a logit overflows", math.nan
        k, s, i = np.unravel_index(slack.argmin(), slack.shape)
        allowed = max(allowed, ROUNDING * size)
        if slack[k, s, i] < worst:
            worst = float(slack[k, s, i])
            where = _place(int(k), int(s), batch.rows.start + int(i), z.shape[1])
    return worst, where, allowed


def check_dissipativity_of_trace(subject: TraceSubject) -> list[Entry]:
    """The slack of a stage trace, whose states are its logits."""
    reason = why_not(subject)
    if reason:
        return [not_applicable("dissipativity", reason)]
    slack, size = _slack(subject.minimisers, subject.content.logits, slice(None))
    k, i = np.unravel_index(slack.argmin(), slack.shape)
    return [
        _constant(subject),
        in_floats(
            NAMES[0],
            -float(slack[k, i]),
            ROUNDING * size,
            subject.why_not_enclosed,
            where=f"layer {k}, sample {i}",
            message=f"least slack over {slack.size} (layer, sample) pairs (measured: minus it)",
        ),
    ]


def _slack(
    minimisers: Minimisers, z: np.ndarray, rows: slice | np.ndarray
) -> tuple[np.ndarray, float]:
    """(g - g*) - alpha(dist_z) for each sample, and the size that rounding is relative to."""
    distance = np.linalg.norm(minimisers.offset(z, rows), axis=-1)
    slack = minimisers.excess(z, rows) - minimisers.alpha(distance, rows)
    return slack, float(1.0 + distance.max())


def sampled(subject: TrainingSubject) -> Finding:
    """(b) seeded logits around the minimisers, near to far, and along adversarial directions."""
    minimisers, n_c = subject.minimisers, subject.problem.n_classes
    if not minimisers.rank:
        return not_applicable(NAMES[1], "a readout of rank 0 moves no logit: none is sampled")
    rng = np.random.default_rng(SEED)
    kinds = min(len(minimisers.target), KINDS)
    worst, count, where, allowed = math.inf, 0, "", 0.0
    left = np.linalg.svd(minimisers.PC, full_matrices=False)[0][:, : minimisers.rank]
    for kind in range(kinds):
        m = SAMPLES // kinds
        random = rng.standard_normal((m, n_c))
        # adversarial: few logits move together, the likely class up, one unlikely class down
        pattern = (rng.random((m, n_c)) < rng.random((m, 1))) * 2.0 - 1.0
        top = np.zeros((m, n_c))
        top[:, minimisers.softmax[kind].argmax()] = 1.0
        top[np.arange(m), rng.integers(0, n_c, m)] -= rng.random(m)
        for directions in (random, pattern, top):
            v = directions - directions.mean(axis=1, keepdims=True)
            if not minimisers.full_rank:
                v = v @ left @ left.T  # what the readout can reach
            length = np.linalg.norm(v, axis=1, keepdims=True)
            v = v[length[:, 0] > 1e-9] / length[length[:, 0] > 1e-9]
            v = v * 10.0 ** rng.uniform(-4, 3, (len(v), 1))
            if not len(v):
                continue
            pi, distance = minimisers.softmax[kind], np.linalg.norm(v, axis=1)
            slack = log_mean_exp(v, pi, minimisers.log_softmax[kind]) - minimisers.bound(
                distance, kind
            )
            allowance = ROUNDING * (1.0 + distance)
            count += len(slack)
            i = int((slack / allowance).argmin())
            if slack[i] / allowance[i] < worst:
                worst, where = float(slack[i] / allowance[i]), f"target {kind}, s={distance[i]:.3g}"
                allowed = float(allowance[i])
    return in_floats(
        NAMES[1],
        -worst * allowed,
        allowed,
        "a test of alpha on samples",
        where=where,
        message=f"least slack relative to rounding over {count} logit vectors, seed {SEED}, random"
        " and adversarial directions, distances 1e-4 to 1e3",
    )


def _certified(subject: TrainingSubject) -> list[Entry]:
    """(c) the tight alpha in ball arithmetic, on demand."""
    if not subject.certify:
        return [not_checked(NAMES[2], "asked for with --certify")]
    if not subject.minimisers.full_rank or subject.minimisers.conflicts:
        return [not_applicable(NAMES[2], "the certified form is that of the plain soft target")]
    return list(check_alpha(subject.content))
