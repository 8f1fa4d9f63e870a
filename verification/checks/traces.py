"""Stage traces of other architectures: the checks that need only logits, norms and labels."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from ocp import loss
from ocp.controls import Controls
from ocp.problem import Problem
from ocp.trace import Trace

from ..evaluation import states
from ..evaluation.layers import cropped_change, entry_layer, flips
from ..evaluation.minimisers import Minimisers
from ..evaluation.subject import TrainingSubject
from ..report import Entry, Finding, Verdict, not_applicable
from . import turnpike
from .dissipativity import along_trace
from .geometry import class_distance
from .statement import stored_hash, stored_objective

WHY_NOT = "a stage trace holds no states, costates or derivatives"
CLAIMS = ("first_order", "second_order", "certificate")


class TraceSubject(TrainingSubject):
    """A trace seen as a network whose states are its logits (C = identity)."""

    def __init__(self, trace: Trace, *options: float) -> None:
        super().__init__(trace, *options)
        n_c = trace.n_classes
        self._problem = Problem(
            inputs=trace.logits[0],
            labels=trace.labels,
            n_classes=n_c,
            depth=trace.depth,
            width=n_c,
            h=trace.h,
            activation="identity",
            p_d=trace.p_d,
            r=trace.r,
            gamma=trace.gamma,
            beta=trace.beta,
        )

    @property
    def problem(self) -> Problem:
        return self._problem

    @property
    def controls(self) -> Controls:
        n, N = self._problem.width, self._problem.depth
        return Controls(A=np.zeros((N, n, n)), b=np.zeros((N, n)))

    @cached_property
    def minimisers(self) -> Minimisers:
        return Minimisers(self.problem, self.controls, merge=False)

    @cached_property
    def grad_inf_norm(self) -> float:
        return 0.0  # unknown: no claim about stationarity is made of a trace

    @cached_property
    def distances(self) -> np.ndarray:
        offset = self.minimisers.offset(self.content.logits, slice(None))
        return np.linalg.norm(offset, axis=-1)

    @cached_property
    def survey(self) -> states.Survey:
        """Euler sums of the costs that the trace carries."""
        trace = self.content
        q = loss.soft_target(trace.labels, trace.n_classes, trace.p_d)
        g = np.stack([loss.soft_cross_entropy(z, q) for z in trace.logits])
        cost = g.mean(axis=1)
        layer_cost = trace.beta * cost[:-1] + 0.5 * trace.r * trace.control_norm**2
        J = trace.h * float(layer_cost.sum()) + trace.gamma * float(cost[-1])
        return states.Survey(
            objective=J,
            layer_cost=layer_cost,
            data_cost=cost,
            stage_data_cost=cost[:-1, None],
            g=g,
            right=np.stack([loss.is_right(z, trace.labels) for z in trace.logits]),
            final_logits=trace.logits[-1],
            least_preactivation=np.nan,
            largest_preactivation=np.nan,
            saturated=np.full(trace.depth, np.nan),
            logits=trace.logits,
        )


def check_trace(check: str, subject: TraceSubject) -> list[Entry]:
    """Return the lines of one check on a trace."""
    if check == "statement":
        return [stored_hash(subject), stored_objective(subject)]
    if check == "geometry":
        return [
            not_applicable("geometry.rank", "a stage trace holds no readout", "claim"),
            *class_distance(subject),
        ]
    if check == "dissipativity":
        return along_trace(subject)
    if check == "turnpike":
        return turnpike.check_turnpike(subject)
    if check == "depth":
        return _depth(subject)
    return [not_applicable(check, WHY_NOT, "claim" if check in CLAIMS else "finding")]


def _depth(subject: TraceSubject) -> list[Entry]:
    """Cropping at the entry layer: cost, logits, flips; depth used needs idling."""
    k, N = entry_layer(subject), subject.problem.depth
    lines: list[Entry] = [not_applicable("depth.used", "idling cannot be told from a trace")]
    if not 1 <= k < N:
        return [*lines, not_applicable("depth.cropped", f"the entry layer is {k} of {N}")]
    z = subject.content.logits
    flipped = flips(z[-1], z[k], subject.problem.labels)
    change = np.abs(z[-1] - z[k]).max(axis=1)
    return [
        *lines,
        Finding(
            name="depth.cropped",
            verdict=Verdict.OBSERVED,
            measured=cropped_change(subject, k),
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
