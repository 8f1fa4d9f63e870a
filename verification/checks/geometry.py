"""Loss geometry: what the samples are asked to reach, and whether the readout allows it."""

from __future__ import annotations

import numpy as np

from ocp import loss

from ..evaluation.minimisers import CLEAR, ZERO, class_distances
from ..evaluation.subject import Subject, TrainingSubject
from ..report import Check, Entry, Finding, Verdict, not_applicable

VALUE_TOLERANCE = 1e-12
#: roundings granted to a logit
ROUNDINGS = 64
#: above it the claim is left open rather than granted
COARSEST = 1e-6


def check_geometry(subject: TrainingSubject) -> list[Entry]:
    """Return the claims on the minimisers and the findings on rank, conditioning, distances."""
    minimisers = subject.minimisers
    lines = [_rank(subject)]
    if minimisers.applicable or not minimisers.full_rank:
        why = minimisers.applicable or "the centred readout is rank-deficient"
        lines.append(not_applicable("geometry.minimisers", why, "claim"))
    else:
        lines.append(_minimisers(subject))
    if not minimisers.applicable and minimisers.rank > 0:
        lines.append(
            Finding(
                name="geometry.conditioning",
                verdict=Verdict.OBSERVED,
                measured=float(minimisers.singular[0] / minimisers.least_singular),
                message=f"of the centred readout; dist_z >= {minimisers.least_singular:.4g}"
                " dist(x, M_y), the factor being its least singular value",
            )
        )
        lines += class_distance(subject)
    if minimisers.least > 0:
        lines.append(
            Finding(
                name="geometry.least_cost",
                verdict=Verdict.OBSERVED,
                measured=minimisers.least,
                message="l*, the least data cost of any state: it is above 0",
            )
        )
    if minimisers.conflicts:
        shown = ", ".join(f"{i} and {j}" for i, j in minimisers.conflicts[:5])
        lines.append(
            Finding(
                name="geometry.conflicts",
                verdict=Verdict.OBSERVED,
                measured=float(len(minimisers.conflicts)),
                message=f"equal lifted inputs with different labels, never separated: {shown}",
            )
        )
    return lines


def check_geometry_of_trace(subject: Subject) -> list[Entry]:
    """Return the distance between classes; a stage trace holds no readout to look at."""
    return [
        not_applicable("geometry.rank", "a stage trace holds no readout", "claim"),
        *class_distance(subject),
    ]


def class_distance(subject: Subject) -> list[Entry]:
    """Return the distance between the minimisers of two classes, where there are minimisers."""
    if subject.minimisers.applicable:
        return []
    distance = class_distances(subject.problem)
    return [
        Finding(
            name="geometry.class_distance",
            verdict=Verdict.OBSERVED,
            measured=distance.between_classes,
            message=f"between minimisers of two classes, in logits; {distance.boundary:.4g}"
            " from the decision boundary",
        )
    ]


def _rank(subject: TrainingSubject) -> Entry:
    name, minimisers = "geometry.rank", subject.minimisers
    wanted = minimisers.n_classes - 1
    relative = minimisers.singular / max(minimisers.singular.max(initial=0.0), 1e-300)
    last = float(relative[wanted - 1]) if len(relative) >= wanted else 0.0
    if minimisers.rank >= 0 and not minimisers.full_rank:
        why = f"the centred readout has rank {minimisers.rank} < n_classes - 1 = {wanted}: no state"
        return not_applicable(name, f"{why} attains the least loss of every class", "claim")
    return Check(
        name=name,
        measured=last,
        bound=CLEAR,
        relation=">",
        undecidable=""
        if minimisers.rank >= 0
        else "a singular value of the centred readout is too small to be told from zero",
        message=f"singular value number {wanted} of the centred readout over the largest",
    )


def _minimisers(subject: TrainingSubject) -> Check:
    """Construct a point of every M_y and evaluate the loss and its slope there."""
    problem, minimisers = subject.problem, subject.minimisers
    labels = np.arange(problem.n_classes)
    q = loss.soft_target(labels, problem.n_classes, problem.p_d)
    wanted = np.log(q) - minimisers.c
    wanted = wanted - wanted.mean(axis=1, keepdims=True)
    points = np.linalg.lstsq(minimisers.PC, wanted.T, rcond=ZERO)[0].T
    z = points @ minimisers.PC.T + (minimisers.c - minimisers.c.mean())
    worst = np.abs(loss.softmax(z) - q).max(axis=1)
    y = int(worst.argmax())
    # what rounding of logits of this size, and of the solution for the points, leaves open
    rounding = max(VALUE_TOLERANCE, ROUNDINGS * np.finfo(float).eps * float(np.abs(wanted).max()))
    bound = rounding * float(minimisers.singular[0] / minimisers.least_singular)
    return Check(
        name="geometry.minimisers",
        measured=float(worst[y]),
        bound=min(bound, COARSEST),
        where=f"class {problem.classes[y]}",
        undecidable="the logits are so large, or the readout so ill-conditioned, that rounding"
        f" alone may move softmax by {bound:.1e}"
        if bound > COARSEST and worst[y] > COARSEST
        else "",
        message=f"|softmax(C x + c) - q| at a point of each M_y; every M_y has dimension"
        f" {problem.width - problem.n_classes + 1}",
    )
