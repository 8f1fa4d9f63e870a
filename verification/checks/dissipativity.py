"""Strict dissipativity with constant storage: a theorem for every file, so no verdict on it.

    l(x, u) - l* >= (1/n_d) sum_i alpha(dist_z,i) + (r/2)|u|^2

holds for trained and untrained networks alike.  The slack is evaluated (a) along the trajectory,
(b) on a seeded sample near it, far away and in adversarial directions; (c) the certified bound of
alpha is ball arithmetic on demand.  All three test alpha and this code.  That no other storage
does better is a theorem about alpha alone: `evaluation.storage`.
"""

from __future__ import annotations

import math

import numpy as np

from ocp.problem import SCHEMES

from ..evaluation.minimisers import Minimisers, log_mean_exp
from ..evaluation.states import batches, logits, propagate
from ..evaluation.subject import Subject, TraceSubject, TrainingSubject
from ..report import (
    Entry,
    Finding,
    Verdict,
    not_applicable,
    not_checked,
    theorem,
)

SEED = 271828
SAMPLES = 200_000
#: rounding of g: absolute, per unit of the logits' size
ROUNDING = 64 * np.finfo(float).eps

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
    minimisers, n_c = subject.minimisers, subject.problem.n_classes
    eps = float(minimisers.softmax.min())
    exact = n_c == 2 and minimisers.full_rank
    form = "log(p + (1-p) e^(-sqrt2 s)) + (1-p) sqrt2 s" if exact else "(eps/rho) phi(sqrt(rho) s)"
    curvature = float(minimisers.softmax.max() * eps * 2) if exact else eps
    return Finding(
        name="dissipativity.alpha",
        verdict=Verdict.PROVED,
        measured=curvature,
        message=f"g - g* >= alpha(s) = {form}, s the distance of the centred logits;"
        f" measured: curvature of alpha at 0; least target entry {eps:.4g}",
    )


def along_trajectory(subject: TrainingSubject) -> Finding:
    """(a) least slack over all layers, stages and samples."""
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
        k, s, i = np.unravel_index(np.nanargmin(slack), slack.shape)
        allowed = max(allowed, ROUNDING * size)
        if np.isnan(slack).any():
            worst, where = math.nan, "a state is not finite"
        elif slack[k, s, i] < worst:
            worst = float(slack[k, s, i])
            stage = f", stage {s + 1}" if z.shape[1] > 1 else ""
            where = f"layer {k}{stage}, sample {batch.rows.start + i}"
    points = problem.depth * problem.n_samples
    return theorem(
        NAMES[0],
        -worst,
        allowed,
        math.inf,
        where=where,
        message=f"least slack {worst:.3g} over {points} (layer, sample) pairs (measured: minus it;"
        " bound: rounding)",
    )


def check_dissipativity_of_trace(subject: TraceSubject) -> list[Entry]:
    """The slack of a stage trace, whose states are its logits."""
    reason = why_not(subject)
    if reason:
        return [not_applicable("dissipativity", reason)]
    slack, size = _slack(subject.minimisers, subject.content.logits, slice(None))
    k, i = np.unravel_index(slack.argmin(), slack.shape)
    return [
        _constant(subject),
        theorem(
            NAMES[0],
            -float(slack[k, i]),
            ROUNDING * size,
            math.inf,
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
    rng = np.random.default_rng(SEED)
    kinds = len(minimisers.target)
    worst, count, where, allowed = math.inf, 0, "", 0.0
    left = np.linalg.svd(minimisers.PC, full_matrices=False)[0][:, : minimisers.rank]
    for kind in range(min(kinds, 100)):
        m = max(100, SAMPLES // min(kinds, 100))
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
            pi, distance = minimisers.softmax[kind], np.linalg.norm(v, axis=1)
            slack = log_mean_exp(v, pi) - minimisers.bound(distance, kind)
            allowance = ROUNDING * (1.0 + distance)
            count += len(slack)
            i = int((slack / allowance).argmin())
            if slack[i] / allowance[i] < worst:
                worst, where = float(slack[i] / allowance[i]), f"target {kind}, s={distance[i]:.3g}"
                allowed = float(allowance[i])
    return theorem(
        NAMES[1],
        -worst * allowed,
        allowed,
        math.inf,
        where=where,
        message=f"least slack relative to rounding over {count} logit vectors, seed {SEED}, random"
        " and adversarial directions, distances 1e-4 to 1e3: a test of alpha, no proof",
    )


def _certified(subject: TrainingSubject) -> list[Entry]:
    """(c) the tight alpha in ball arithmetic, on demand."""
    if not subject.certify:
        return [not_checked(NAMES[2], "asked for with --certify")]
    if not subject.minimisers.full_rank or subject.minimisers.conflicts:
        return [not_applicable(NAMES[2], "the certified form is that of the plain soft target")]
    try:
        from ..balls.alpha import check_alpha
    except ModuleNotFoundError as error:
        return [not_checked(NAMES[2], f"not available: {error}")]
    return list(check_alpha(subject.content))
