"""Many starts at once: the trust-region method of `structured`, in lockstep on one batch.

All starts take their step at the same time and share one evaluation; who has finished leaves the
batch, and between steps the caller may send starts away (`Cull`).  Nothing is assessed: what
comes out are starts of deeper solves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..evaluation import batch
from ..evaluation.sweeps import keep_freed_memory, prepare
from ..problem import Problem
from . import trust_region
from .clock import Tick, never
from .structured import ROUNDING, StructuredOptions

#: (iterations so far, objectives of all starts, who is still in) -> who stays in
Cull = Callable[[int, np.ndarray, np.ndarray], np.ndarray]


@dataclass(slots=True, eq=False, kw_only=True)
class Descents:
    """Where the starts have come: all that a later call or a caller needs.

    u : (starts, d), in the order of `evaluation.batch`;  objective, residual : (starts,)
    running : who is neither finished nor culled;  finished : who met the tolerance, or its floor
    steps : taken by all starts together
    path : after each common step, the steps so far, the least objective and its residual
    """

    problem: Problem
    u: np.ndarray
    objective: np.ndarray
    residual: np.ndarray
    running: np.ndarray
    finished: np.ndarray
    steps: int = 0
    path: list[tuple[int, float, float]] = field(default_factory=list)


def descend(
    problem: Problem,
    u: np.ndarray,
    *,
    tolerance: float,
    max_iterations: int = 300,
    cull: Cull | None = None,
    tick: Tick = never,
    into: list[Descents] | None = None,
) -> Descents:
    """Descend from all rows of u, (starts, d), to a gradient of at most `tolerance`.

    tick : called before every common step; what it raises ends the descent
    into : receives the outcome at once, for whoever ends the descent from outside
    """
    options = StructuredOptions()
    constants = prepare(problem)
    keep_freed_memory()
    u = np.array(u)
    at = batch.sweep(constants, u)
    B = len(u)
    out = Descents(
        problem=problem,
        u=u,
        objective=at.objective.copy(),
        residual=np.abs(at.gradient).max(axis=1),
        running=np.isfinite(at.objective),
        finished=np.zeros(B, dtype=bool),
    )
    if into is not None:
        into.append(out)
    g, H = at.gradient.copy(), np.empty((B, u.shape[1], u.shape[1]))
    radius, shift = np.full(B, options.initial_radius), np.zeros(B)
    widened = np.zeros(B, dtype=bool)
    fresh = out.running.copy()  # whose Hessian is not there yet
    inside = np.arange(B)
    for iteration in range(max_iterations):
        if cull is not None and iteration:
            out.running &= cull(iteration, out.objective, out.running)
        rows = np.flatnonzero(fresh & out.running)
        if len(rows):
            H[rows] = batch.hessians(constants, at.of(np.searchsorted(inside, rows)))
            for i in rows:
                if out.residual[i] <= tolerance and _convex(H[i]):
                    out.running[i], out.finished[i] = False, True
        inside = np.flatnonzero(out.running)
        if not len(inside):
            break
        tick()
        steps = [trust_region.step(H[i], g[i], radius[i], shift[i]) for i in inside]
        at = batch.sweep(constants, u[inside] + np.stack([step.s for step in steps]))
        residuals = np.abs(at.gradient).max(axis=1)
        fresh[:] = False
        for j, (i, step) in enumerate(zip(inside, steps, strict=True)):
            actual = out.objective[i] - at.objective[j]
            noise = ROUNDING * max(1.0, abs(out.objective[i]))
            if step.predicted <= noise:  # as in `structured`: the gradient decides
                taken = actual >= -10 * noise and residuals[j] < 0.9 * out.residual[i]
                if not taken and not widened[i] and step.boundary:
                    radius[i], shift[i], widened[i] = options.initial_radius, 0.0, True
                    continue
                if not taken:
                    out.running[i], out.finished[i] = False, out.residual[i] <= tolerance
                    continue
            else:
                ratio = actual / step.predicted
                taken = ratio > options.accept
                if not taken:
                    smaller = 0.5 if ratio > 0.0 else 0.25
                    radius[i] = smaller * min(radius[i], step.length)
                    shift[i] = 2.0 * step.shift
                    continue
                shift[i] = step.shift
                if ratio < options.shrink_below:
                    radius[i] = 0.5 * step.length
                elif ratio > options.expand_above and step.boundary:
                    radius[i], shift[i] = options.expand * radius[i], shift[i] / options.expand
            u[i] += step.s
            g[i] = at.gradient[j]
            out.objective[i], out.residual[i] = at.objective[j], residuals[j]
            widened[i], fresh[i] = False, True
        out.steps += len(inside)
        best = int(np.argmin(np.where(np.isfinite(out.objective), out.objective, np.inf)))
        out.path.append((out.steps, float(out.objective[best]), float(out.residual[best])))
    return out


def _convex(H: np.ndarray) -> bool:
    band = 10 * len(H) * np.finfo(float).eps * float(np.abs(H).sum(axis=1).max())
    return trust_region.factorise(H, -band) is not None
