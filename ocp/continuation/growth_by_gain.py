"""Growth by the gain over idling: how much deeper pays, decided while growing.

The value rises with depth (each layer costs h F), so a deeper network is never compared by its
value but with its own idle extension, the shallow solution with layers that do nothing:

    gain = J(idle extension to N + m) - J_{N+m}  =  J_N + m h F(x_N) - J_{N+m}     (beta = 1)

A negative gain proves that the new point is not globally optimal: it is rejected, and the solve
starts again from the idle extension, from which a descent method cannot end above it.  While
the gain is at least `small` of J the step in depth stays; below it the step doubles, because the
network has reached its turnpike and more layers will idle.  With depth "auto" growth ends when
the gain is below `small` of J twice running and all samples are classified right.

With a depth asked for, growth then leaps: N - K idle layers after K solved ones cost exactly
h (N - K) beta F(x_K), so the problem of depth K with gamma + h (N - K) beta in place of gamma is
the deep one with its tail at rest, at the price of the shallow one.  Its solution with idle layers
appended is the start of the only solve at depth N.

Source: value functions over the horizon, problem of depth selection; arXiv 2405.19013.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import numpy as np

from .. import loss, validation
from ..controls import Controls
from ..evaluation.depth import idle_from
from ..evaluation.rollout import logits, objective
from ..problem import Problem
from ..solvers import DEFAULT, as_solver
from ..solvers.progress import Progress, Report, silent
from ..solvers.solution import STARTS, Solution, Solver, Status
from .growth import GrowthOptions, escape, extend, grow


@dataclass(frozen=True, slots=True, kw_only=True)
class GainOptions:
    """How to grow by the gain.

    first : depth of the first solve, where no start is given
    step : layers added at first
    small : a gain below this share of J is small
    max_depth : where "auto" gives up
    growth : scales, tolerances and trials as in `growth`; its depths are not used.
        New layers are all but idle: random ones of scale 1e-2 cost twice the iterations at depth
    """

    first: int = 5
    step: int = 3
    small: float = 0.01
    max_depth: int = 200
    growth: GrowthOptions = dataclasses.field(
        default_factory=lambda: GrowthOptions(append_scale=1e-6)
    )

    def __post_init__(self) -> None:
        for name in ("first", "step", "max_depth"):
            validation.integer(name, getattr(self, name), 1)
        if not 0.0 < self.small < 1.0:
            raise ValueError(f"small is {self.small!r}; wanted a number between 0 and 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rung:
    """One depth on the way: its objective, its gain over idling and whether that was rejected."""

    depth: int
    objective: float
    gain: float
    rejected: bool
    right: int


def grow_by_gain(
    problem: Problem,
    solver: str | Solver = DEFAULT,
    *,
    depth: int | None,
    seed: int = 0,
    start: Controls | None = None,
    options: GainOptions | None = None,
    report: Report = silent,
) -> tuple[Solution, tuple[Rung, ...]]:
    """Grow to `depth`, or with None until more layers do not pay; return the way up too.

    solver : its name, or a callable (problem, start, tolerance, report)
    start : controls of a shallower network to go on from; default random ones of the seed
    """
    options, solver = options or GainOptions(), as_solver(solver)
    growth = options.growth
    begun, rng = time.perf_counter(), np.random.default_rng([seed, 1])
    limit = options.max_depth if depth is None else depth
    first = min(limit, options.first if start is None else start.depth)
    shallow = problem.with_(depth=first)
    # not known yet whether this is the last depth: solve to the final tolerance only then
    rough = growth.intermediate_tolerance if first < limit else growth.tolerance
    opening = dataclasses.replace(growth, depths=(first,), tolerance=rough)
    if start is None:
        solution = grow(shallow, solver, seed=seed, options=opening, report=report)
    else:
        solution = solver(shallow, start, rough, report)
    iterations, rungs, small_in_a_row = solution.report.iterations, [_rung(solution)], 0
    step, leapt = options.step, depth is None  # "auto" knows of no depth to leap to
    while solution.problem.depth < limit and solution.status is not Status.INTERRUPTED:
        deeper = problem.with_(depth=min(limit, solution.problem.depth + step))
        start = solution.controls
        if small_in_a_row and not leapt and deeper.depth < limit and _at_rest(solution, options):
            leapt, deeper = True, problem.with_(depth=limit)
            rest, count = _with_tail_at_rest(deeper, solution, solver, rough, growth, report)
            iterations += count
            if rest.status is Status.INTERRUPTED:  # its J is not that of the problem asked for
                record = dataclasses.replace(solution.report, status=Status.INTERRUPTED)
                solution = dataclasses.replace(solution, report=record)
                break
            start = rest.controls
        tolerance = growth.tolerance if deeper.depth == limit else rough
        found, rung, count = _climb(deeper, solution, start, solver, tolerance, growth, rng, report)
        iterations += count
        rungs.append(rung)
        sentence = f"gain over idling {rung.gain:.2e}" + (", rejected once" * rung.rejected)
        report(Progress(depth=deeper.depth, objective=rung.objective, message=sentence))
        if found.status not in STARTS:
            solution = found
            break
        small = rung.gain < options.small * solution.report.objective
        small_in_a_row = small_in_a_row + 1 if small else 0
        solution = found
        if small:
            step *= 2
        done = depth is None and small_in_a_row >= 2 and rung.right == problem.n_samples
        if done:
            break
    if solution.report.grad_inf_norm > growth.tolerance and solution.status in (
        Status.SOLVED,
        Status.DEGENERATE,
        Status.FLAT,
    ):
        solution = solver(solution.problem, solution.controls, growth.tolerance, report)
        iterations += solution.report.iterations
    record = dataclasses.replace(
        solution.report,
        method=f"{solution.report.method} with growth by gain",
        iterations=iterations,
        seconds=time.perf_counter() - begun,
        seed=seed,
    )
    return dataclasses.replace(solution, report=record), tuple(rungs)


def gain_over_idling(shallow: Solution, deeper: Solution) -> float:
    """J(idle extension of `shallow`) - J(deeper); negative: `deeper` is not globally optimal."""
    idle = _idle(deeper.problem, shallow.controls, np.random.default_rng(0))
    return float(objective(deeper.problem, idle)) - deeper.report.objective


def _at_rest(solution: Solution, options: GainOptions) -> bool:
    """Whether all samples are right, the last two steps of layers idle, and idling is u = 0."""
    problem, controls = solution.problem, solution.controls
    if problem.block == "double" or not problem.sigma.zero_at_zero:
        return False
    z = logits(problem, controls, solution.states[-1])
    idles = idle_from(controls) <= problem.depth - 2 * options.step
    return idles and bool(loss.is_right(z, problem.labels).all())


def _with_tail_at_rest(
    deeper: Problem,
    solution: Solution,
    solver: Solver,
    tolerance: float,
    growth: GrowthOptions,
    report: Report,
) -> tuple[Solution, int]:
    """The solved layers again, optimal for `deeper` while all others idle; iterations."""
    problem = solution.problem
    idle = deeper.h * deeper.beta * (deeper.depth - problem.depth)
    weighted = problem.with_(gamma=problem.gamma + idle)
    return _descend(weighted, solution.controls, solver, tolerance, growth, report)


def _climb(
    deeper: Problem,
    solution: Solution,
    start: Controls,
    solver: Solver,
    tolerance: float,
    growth: GrowthOptions,
    rng: np.random.Generator,
    report: Report,
) -> tuple[Solution, Rung, int]:
    """Solve at the new depth from `start` with layers near zero; judge it by its gain."""
    start = extend(deeper, start, rng, growth.append_scale)
    found, count = _descend(deeper, start, solver, tolerance, growth, report)
    gain, rejected = gain_over_idling(solution, found), False
    rounding = 1e-12 * abs(found.report.objective)
    if gain < -rounding and found.status is not Status.INTERRUPTED:
        rejected = True
        idle = _idle(deeper, solution.controls, rng)
        again, more = _descend(deeper, idle, solver, tolerance, growth, report)
        count += more
        lower = again.report.objective < found.report.objective
        if lower or again.status is Status.INTERRUPTED:
            found, gain = again, gain_over_idling(solution, again)
    return found, _rung(found, gain, rejected), count


def _descend(
    problem: Problem,
    start: Controls,
    solver: Solver,
    tolerance: float,
    growth: GrowthOptions,
    report: Report,
) -> tuple[Solution, int]:
    """Solve and leave saddles; the solution and the iterations of all solves."""
    found = solver(problem, start, tolerance, report)
    count = found.report.iterations
    for _ in range(growth.escapes):
        if found.status is not Status.SADDLE:
            break
        found = escape(found, solver, report)
        count += found.report.iterations
    return found, count


def _idle(problem: Problem, controls: Controls, rng: np.random.Generator) -> Controls:
    """Layers that do nothing: u = 0, or W = 0 with random A, b where u = 0 would be a saddle."""
    return extend(problem, controls, rng, 0.1 if problem.block == "double" else 0.0)


def _rung(solution: Solution, gain: float = float("nan"), rejected: bool = False) -> Rung:
    problem = solution.problem
    z = logits(problem, solution.controls, solution.states[-1])
    return Rung(
        depth=problem.depth,
        objective=solution.report.objective,
        gain=gain,
        rejected=rejected,
        right=int(loss.is_right(z, problem.labels).sum()),
    )
