"""Depth: how much of it is used, and what idling and cropping there would do.

    idled at k    J changes by (h beta (N-k) + gamma) F(x_k) - [sum_{j>=k} h l_j + gamma F(x_N)]
    cropped at k  J changes by gamma F(x_k) - [the same bracket]

The costs of the idled and of the cropped network, sums over the layers that are kept, are compared
with an evaluation of these networks: enclosed (`balls`) where the file is small enough.
"""

from __future__ import annotations

import math

import numpy as np

from ..balls import decisions
from ..balls.enclosures import Enclosures, evaluated
from ..evaluation import layers
from ..evaluation.layers import entry_layer
from ..evaluation.subject import TraceSubject, TrainingSubject, decided
from ..report import Between, Entry, Finding, Verdict, in_floats, not_applicable, theorem
from .traced_blocks import blocks_of_trace

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
            f" {layers.TAU:.0%} and flips nothing; the entry layer is {entry_layer(subject)}",
        )
    ]
    found = subject.enclosures
    effects = _effects_in_floats(subject, k) if found is None else _effects(subject, found, k)
    if not layers.idles(problem):
        effects["idled"] = not_applicable("depth.idled", "u = 0 moves the states")
    if k < 1:
        effects["cropped"] = not_applicable("depth.cropped", "a network needs one layer")
    return [*lines, effects["idled"], effects["cropped"], *predictions(subject, k)]


def check_depth_of_trace(subject: TraceSubject) -> list[Entry]:
    """Return what the blocks do, and cropping at the entry layer: cost, logits, flips."""
    k, N = entry_layer(subject), subject.problem.depth
    lines: list[Entry] = [
        not_applicable("depth.used", "idling cannot be told from a trace"),
        *blocks_of_trace(subject),
    ]
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


def _effects(subject: TrainingSubject, found: Enclosures, k: int) -> dict[str, Entry]:
    """What idling and cropping at k cost, enclosed twice."""
    problem, controls = subject.problem, subject.controls
    lines: dict[str, Entry] = {}
    if layers.idles(problem):
        idled = evaluated(problem, controls.idled(k), found.bits)
        change = layers.idled_change(subject, k)
        lines["idled"] = effect("idled", found.idled(k), idled, change, k)
    if k >= 1:
        cropped = evaluated(problem.with_(depth=k), controls.layers(0, k), found.bits)
        change = layers.cropped_change(subject, k)
        lines["cropped"] = effect("cropped", found.cropped(k), cropped, change, k)
    return lines


def effect(what: str, summed: Between, rolled: Between, change: float, k: int) -> Finding:
    """The sum over the kept layers against a roll-out: equal for every file, by a theorem.

    change : what it does to J, for the reader
    """
    apart = float(max(summed.lower - rolled.upper, rolled.lower - summed.upper))
    most = float(max(summed.upper - rolled.lower, rolled.upper - summed.lower))
    bound = AGREEMENT * max(1.0, abs(float(rolled.upper)))
    return theorem(
        f"depth.{what}",
        Between(max(0.0, math.nextafter(apart, -math.inf)), math.nextafter(most, math.inf)),
        Between(bound, bound),
        where=f"layer {k}",
        message=f"{what} there, J changes by {change:+.4g} (measured: sum over kept layers less"
        " evaluation, at most)",
    )


def _effects_in_floats(subject: TrainingSubject, k: int) -> dict[str, Entry]:
    """The formulas for the change of J against evaluations."""
    J, costs = subject.survey.objective, layers.idled_and_cropped_objectives(subject, k)
    changes = layers.idled_change(subject, k), layers.cropped_change(subject, k)
    return {
        what: in_floats(
            f"depth.{what}",
            abs(change - (cost - J)),
            AGREEMENT * max(1.0, abs(J)),
            subject.why_not_enclosed,
            where=f"layer {k}",
            message=f"{what} there, J changes by {change:+.4g} (measured: formula less evaluation)",
        )
        for what, change, cost in zip(("idled", "cropped"), changes, costs, strict=True)
    }


def predictions(subject: TrainingSubject, k: int) -> list[Entry]:
    """Change of logits, flips, and samples that cannot have flipped by their margins."""
    z, after = subject.survey.final_logits, layers.logits_at(subject, k)
    change = np.abs(after - z).max(axis=1)
    worst = int(change.argmax())
    return [
        Finding(
            name="depth.logits",
            verdict=Verdict.OBSERVED,
            measured=float(change[worst]),
            where=f"sample {worst}",
            message=f"largest change of a logit when the network is cropped at layer {k}",
        ),
        _flips_in_floats(subject, z, after)
        if subject.enclosures is None
        else decided(subject, lambda found: flips(decisions.flips(found, k))),
    ]


def flips(found: decisions.Flips) -> Finding:
    """Samples that flip against those that may, by their margins."""
    n_d, safe = found.n_samples, found.safe
    return theorem(
        "depth.flips",
        found.flipped,
        Between(n_d - safe.upper, n_d - safe.lower),
        float(n_d),
        where=f"sample {found.first}" if found.first >= 0 else "",
        message=_cannot(int(safe.lower), n_d),
    )


def _flips_in_floats(subject: TrainingSubject, z: np.ndarray, after: np.ndarray) -> Finding:
    ordered, change = np.sort(z, axis=1), after - z
    safe = ordered[:, -1] - ordered[:, -2] > change.max(axis=1) - change.min(axis=1)
    flipped = layers.flips(z, after, subject.problem.labels)
    return in_floats(
        "depth.flips",
        float(flipped.sum()),
        float(len(z) - safe.sum()),
        subject.why_not_enclosed,
        float(len(z)),
        where=f"sample {int(np.flatnonzero(flipped)[0])}" if flipped.any() else "",
        message=_cannot(int(safe.sum()), len(z)),
    )


def _cannot(safe: int, of: int) -> str:
    return (
        f"samples whose prediction changes; {safe} of {of} cannot: their margin exceeds the spread"
        " of the changes of their logits"
    )
