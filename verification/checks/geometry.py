"""Loss geometry: what the samples are asked to reach, and whether the readout allows it."""

from __future__ import annotations

import numpy as np

from ocp import loss

from ..evaluation.minimisers import CLEAR, ZERO, class_distances
from ..evaluation.subject import Facts
from ..report import Check, Entry, Finding, Verdict, not_applicable

VALUE_TOLERANCE = 1e-12
#: however ill-conditioned the readout is
COARSEST = 1e-6


def check_geometry(facts: Facts) -> list[Entry]:
    """Return the claims on the minimisers and the findings on rank, conditioning, distances."""
    targets = facts.targets
    lines = [_rank(facts)]
    if targets.applicable or not targets.full_rank:
        why = targets.applicable or "the centred readout is rank-deficient"
        lines.append(not_applicable("geometry.minimisers", why, "claim"))
    else:
        lines.append(_minimisers(facts))
    if not targets.applicable and targets.rank > 0:
        lines.append(
            Finding(
                name="geometry.conditioning",
                verdict=Verdict.OBSERVED,
                measured=float(targets.singular[0] / targets.least_singular),
                message=f"of the centred readout; dist_z >= {targets.least_singular:.4g}"
                " dist(x, M_y), the factor being its least singular value",
            )
        )
        lines += class_distance(facts)
    if targets.least > 0:
        lines.append(
            Finding(
                name="geometry.least_cost",
                verdict=Verdict.OBSERVED,
                measured=targets.least,
                message="l*, the least data cost of any state: it is above 0",
            )
        )
    if targets.conflicts:
        shown = ", ".join(f"{i} and {j}" for i, j in targets.conflicts[:5])
        lines.append(
            Finding(
                name="geometry.conflicts",
                verdict=Verdict.OBSERVED,
                measured=float(len(targets.conflicts)),
                message=f"equal lifted inputs with different labels, never separated: {shown}",
            )
        )
    return lines


def class_distance(facts: Facts) -> list[Entry]:
    """Return the distance between the minimisers of two classes, where there are minimisers."""
    if facts.targets.applicable:
        return []
    distance = class_distances(facts.problem)
    return [
        Finding(
            name="geometry.class_distance",
            verdict=Verdict.OBSERVED,
            measured=distance.between_classes,
            message=f"between minimisers of two classes, in logits; {distance.boundary:.4g}"
            " from the decision boundary",
        )
    ]


def _rank(facts: Facts) -> Entry:
    name, targets = "geometry.rank", facts.targets
    wanted = targets.n_classes - 1
    relative = targets.singular / max(targets.singular.max(initial=0.0), 1e-300)
    last = float(relative[wanted - 1]) if len(relative) >= wanted else 0.0
    if targets.rank >= 0 and not targets.full_rank:
        return Finding(
            name=name,
            verdict=Verdict.OBSERVED,
            measured=float(targets.rank),
            message=f"the centred readout has rank {targets.rank} < n_classes - 1 = {wanted}:"
            " no state attains the least loss of every class",
        )
    return Check(
        name=name,
        measured=last,
        bound=CLEAR,
        relation=">",
        undecidable=""
        if targets.rank >= 0
        else "a singular value of the centred readout is too small to be told from zero",
        message=f"singular value number {wanted} of the centred readout over the largest",
    )


def _minimisers(facts: Facts) -> Check:
    """Construct a point of every M_y and evaluate the loss and its slope there."""
    problem, targets = facts.problem, facts.targets
    labels = np.arange(problem.n_classes)
    q = loss.soft_target(labels, problem.n_classes, problem.p_d)
    wanted = np.log(q) - targets.c
    wanted = wanted - wanted.mean(axis=1, keepdims=True)
    points = np.linalg.lstsq(targets.PC, wanted.T, rcond=ZERO)[0].T
    z = points @ targets.C.T + targets.c
    worst = np.abs(loss.softmax(z) - q).max(axis=1)
    y = int(worst.argmax())
    return Check(
        name="geometry.minimisers",
        measured=float(worst[y]),
        bound=min(VALUE_TOLERANCE * float(targets.singular[0] / targets.least_singular), COARSEST),
        where=f"class {y}",
        message=f"|softmax(C x + c) - q| at a point of each M_y; every M_y has dimension"
        f" {problem.width - problem.n_classes + 1}",
    )
