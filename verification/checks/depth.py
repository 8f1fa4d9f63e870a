"""Depth: how much of it is used, and what idling and cropping there would do.

    idled at k    J changes by (h beta (N-k) + gamma) F(x_k) - [sum_{j>=k} h l_j + gamma F(x_N)]
    cropped at k  J changes by gamma F(x_k) - [the same bracket]

Both formulas are compared with an evaluation of the idled and of the cropped network.
"""

from __future__ import annotations

import math

import numpy as np

from ..evaluation import layers
from ..evaluation.layers import entry_layer
from ..evaluation.subject import TraceSubject, TrainingSubject
from ..report import Entry, Finding, Verdict, not_applicable, theorem

#: agreement of a formula with an evaluation, relative to J
AGREEMENT = 1e-10


def check_depth(subject: TrainingSubject) -> list[Entry]:
    """Return depth used, the effect of idling and cropping there, logits, flips, margins."""
    problem = subject.problem
    J, N = subject.survey.objective, problem.depth
    if not math.isfinite(J):
        return [not_applicable("depth.used", "the objective is not finite")]
    k = layers.depth_used(subject)
    lines: list[Entry] = [
        Finding(
            name="depth.used",
            verdict=Verdict.OBSERVED,
            measured=float(k),
            bound=float(N),
            where=f"layer {k}",
            message=f"idling from layer {k} of {N} changes J by at most"
            f" {layers.TOLERANCE:.0%} and flips nothing; the entry layer is {entry_layer(subject)}",
        )
    ]
    idled, cropped = layers.idled_and_cropped_objectives(subject, k)
    if layers.idles(problem):
        lines.append(_effect("idled", layers.idled_change(subject, k), idled, J, k))
    else:
        lines.append(not_applicable("depth.idled", "u = 0 moves the states"))
    if k >= 1:
        lines.append(_effect("cropped", layers.cropped_change(subject, k), cropped, J, k))
    else:
        lines.append(not_applicable("depth.cropped", "a network needs one layer"))
    return [*lines, *_predictions(subject, k)]


def check_depth_of_trace(subject: TraceSubject) -> list[Entry]:
    """Return cropping at the entry layer: cost, logits, flips; depth used needs idling."""
    k, N = entry_layer(subject), subject.problem.depth
    lines: list[Entry] = [not_applicable("depth.used", "idling cannot be told from a trace")]
    if not 1 <= k < N:
        return [*lines, not_applicable("depth.cropped", f"the entry layer is {k} of {N}")]
    z = subject.content.logits
    flipped = layers.flips(z[-1], z[k], subject.problem.labels)
    change = np.abs(z[-1] - z[k]).max(axis=1)
    return [
        *lines,
        Finding(
            name="depth.cropped",
            verdict=Verdict.OBSERVED,
            measured=layers.cropped_change(subject, k),
            where=f"layer {k}",
            message="change of J when the network is cropped at the entry layer",
        ),
        Finding(
            name="depth.logits",
            verdict=Verdict.OBSERVED,
            measured=float(change.max()),
            where=f"sample {int(change.argmax())}",
            message=f"largest change of a logit; {int(flipped.sum())} predictions flip",
        ),
    ]


def _effect(what: str, change: float, evaluated: float, J: float, k: int) -> Finding:
    """The formula for the change of J against its evaluation: a theorem for every file."""
    return theorem(
        f"depth.{what}",
        abs(change - (evaluated - J)),
        AGREEMENT * max(1.0, abs(J)),
        math.inf,
        where=f"layer {k}",
        message=f"{what} there, J changes by {change:+.4g} (measured: formula less evaluation)",
    )


def _predictions(subject: TrainingSubject, k: int) -> list[Entry]:
    """Change of logits, flips, and samples that cannot have flipped by their margins."""
    z, after = subject.survey.final_logits, layers.logits_at(subject, k)
    change = np.abs(after - z).max(axis=1)
    ordered = np.sort(z, axis=1)
    margin = ordered[:, -1] - ordered[:, -2]
    safe = margin > 2 * change
    flipped = layers.flips(z, after, subject.problem.labels)
    worst, n_d = int(change.argmax()), len(z)
    broken = int((safe & flipped).sum())
    return [
        Finding(
            name="depth.logits",
            verdict=Verdict.OBSERVED,
            measured=float(change[worst]),
            where=f"sample {worst}",
            message=f"largest change of a logit when the network is cropped at layer {k}",
        ),
        theorem(
            "depth.flips",
            float(flipped.sum()),
            float(n_d - safe.sum()),
            float(n_d),
            where=f"sample {int(np.flatnonzero(flipped)[0])}" if flipped.any() else "",
            message=f"samples whose prediction changes; {int(safe.sum())} of {n_d} cannot: their"
            f" margin exceeds twice the change of their logits"
            + (f"; {broken} of these did" if broken else ""),
        ),
    ]
