"""Growth of large problems: one layer at a time by gradients, Newton's method at the end alone.

With thousands of samples a Hessian costs as much as fifty gradients and more, and at shallow
depths all that is wanted is a start for the next one.  So at each depth L-BFGS makes a few steps
from some candidates, the better half of them goes on, and each of these is offered two different
new layers:

    depth 1      2 T random starts, T the trials of growth
    depth k      T candidates: the T/2 best of depth k - 1, each with two new random layers
    full depth   the best one goes on, to where Newton's method takes over

Which layer is appended decides as much as the start: on digits (n = 10, N = 10, d = 1210) twelve
single climbs ended at J between .804 and .852, and T = 4 ends at .8037 and .8102 (two seeds).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..controls import Controls, random_start
from ..problem import Problem
from ..solvers.progress import Progress, Report, silent
from ..solvers.quasi_newton import Descent, descend
from ..solvers.solution import Iteration
from .steps import extend

#: a Hessian of so much work, n_d d^2, costs 50 ms, about fifty gradients
WORK = 2e8
#: narrow layers have cheap Hessians, and steps by gradients stall there: on the spirals
WIDE = 6
#: from this depth on depths grow by a fifth
SINGLE_UP_TO = 9
#: iterations at each depth, and of the last candidate at full depth
BRIEF, LONG = 100, 1500
#: tolerance of the gradient
TOLERANCE = 1e-5
#: new layers are so many times larger than those of growth by Newton's method: single climbs on
#: digits end at a median J (four seeds) of .819 with a scale of .1, .832 with .01, .839 with .3
APPEND = 10.0


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Climb:
    """Where the best candidate came: controls of `depth` layers, and what all of them took."""

    controls: Controls
    depth: int
    iterations: int
    trace: tuple[Iteration, ...]
    interrupted: bool


def applies(problem: Problem) -> bool:
    """Whether the problem is so large that Hessians on the way up are not worth their price."""
    work = float(problem.n_samples) * float(problem.n_decision) ** 2
    return problem.width >= WIDE and work >= WORK


def depths_to(depth: int, first: int = 1) -> tuple[int, ...]:
    """Return first, first + 1, ..., and steps of a fifth beyond `SINGLE_UP_TO`, to `depth`."""
    found = [first]
    while found[-1] < depth:
        k = found[-1]
        found.append(min(depth, k + 1 if k <= SINGLE_UP_TO else k + k // 5))
    return tuple(found)


def climb(
    problem: Problem,
    rng: np.random.Generator,
    *,
    start: Controls | None = None,
    trials: int = 4,
    start_scale: float = 0.1,
    append_scale: float = 1e-2,
    report: Report = silent,
) -> Climb:
    """Return a start for a solver at full depth; see the module's text.

    start : controls to grow from, in place of random ones
    trials : T
    append_scale : a tenth of the standard deviation of new layers

    Ctrl-C ends it with the best of what there is.
    """
    iterations: int = 0
    trace: tuple[Iteration, ...] = ()
    best: list[Descent] = []
    for depth in depths_to(problem.depth, 1 if start is None else start.depth):
        stage = problem.with_(depth=depth)
        if best:
            ways = 1 if trials == 1 else 2
            parents = [one.controls for one in best for _ in range(ways)]
            candidates = [extend(stage, u, rng, APPEND * append_scale) for u in parents]
        elif start is not None:
            candidates = [start]
        else:
            count = 1 if trials == 1 else 2 * trials
            candidates = [random_start(stage, rng, start_scale) for _ in range(count)]
        found: list[Descent] = []
        for controls in candidates:
            one = descend(stage, controls, tolerance=TOLERANCE, max_iterations=BRIEF, report=report)
            iterations, trace = iterations + one.iterations, trace + one.trace
            found.append(one)
            if one.interrupted:
                break
        found.sort(key=lambda one: one.objective)  # what is not finite stands last
        if any(one.interrupted for one in found):
            return Climb(
                controls=found[0].controls,
                depth=depth,
                iterations=iterations,
                trace=trace,
                interrupted=True,
            )
        best = found[: max(1, trials // 2)]
        report(Progress(depth=depth, objective=best[0].objective, message=""))
    last = descend(
        problem, best[0].controls, tolerance=TOLERANCE, max_iterations=LONG, report=report
    )
    return Climb(
        controls=last.controls,
        depth=problem.depth,
        iterations=iterations + last.iterations,
        trace=trace + last.trace,
        interrupted=last.interrupted,
    )
