"""Depth growth, with escapes from saddles: the way to a good optimum through shallower problems.

Growth is the default start: solve shallow, append layers with controls near zero,
solve again, up to the depth asked.  It finds lower optima than a cold start at full depth and
needs few iterations there, because from the turnpike on the appended layers have nothing to do.

Where Hessians are dear (`layer_by_layer.applies`) the way up is one layer at a time by gradients,
and the solver's part is the end of it; depths given are gone as they are, by the solver.
"""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .. import validation
from ..controls import Controls, random_start
from ..problem import Problem
from ..solvers import DEFAULT, as_solver
from ..solvers.optimality import assess
from ..solvers.progress import Progress, Report, silent
from ..solvers.size import check_size
from ..solvers.solution import (
    STARTS,
    Iteration,
    Solution,
    Solver,
    Status,
    interrupted,
    keeping,
)
from . import layer_by_layer
from .steps import escape, extend, stopped

#: (depth, tolerance) on the way up
Stages = list[tuple[int, float]]
#: the last solution, the iterations of all solves, their traces
Climbed = tuple[Solution, int, tuple[Iteration, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class GrowthOptions:
    """How to grow.

    depths : increasing, ending at the problem's depth; None: 5, 8, 11, ..., and layer by layer for
        large problems
    start_scale : standard deviation of the random controls at the first depth; small starts end
        lower: 1.19 against 1.38 in the median of 10 seeds of the spirals at .1 and .5, one trial
    append_scale : standard deviation of the controls of new layers; layer by layer ten times as
        much
    trials : how many random starts are solved at the first two depths; the best one goes on.
        The objective at the second depth all but decides the final one (correlation .92 over 16
        seeds of the spirals), and shallow solves cost little.  Layer by layer: how many candidates
        there are at each depth
    intermediate_tolerance : on the gradient at all depths but the last
    tolerance : on the gradient at the last depth
    escapes : how many saddles to leave at each depth
    restarts : how often a seed that is stuck may begin anew from other random controls
    """

    depths: tuple[int, ...] | None = None
    start_scale: float = 0.1
    append_scale: float = 1e-2
    trials: int = 2
    intermediate_tolerance: float = 1e-6
    tolerance: float = 1e-8
    escapes: int = 5
    restarts: int = 1

    def __post_init__(self) -> None:
        for name in ("start_scale", "append_scale", "intermediate_tolerance", "tolerance"):
            validation.positive(name, getattr(self, name))
        for name, least in (("trials", 1), ("escapes", 0), ("restarts", 0)):
            validation.integer(name, getattr(self, name), least)
        if self.depths is not None and (
            not self.depths or self.depths[0] < 1 or (np.diff(self.depths) <= 0).any()
        ):
            raise ValueError(f"depths are {self.depths}; wanted increasing numbers of at least 1")


def default_depths(depth: int, first: int = 5, step: int = 3) -> tuple[int, ...]:
    """Return 5, 8, 11, ..., depth."""
    return (*range(first, depth, step), depth)


@keeping
def grow(
    problem: Problem,
    solver: str | Solver = DEFAULT,
    *,
    seed: int = 0,
    start: Controls | None = None,
    options: GrowthOptions | None = None,
    report: Report = silent,
) -> Solution:
    """Solve the problem by growing the depth.

    solver : its name, or a callable (problem, start, tolerance, report)
    start : controls of a shallower network to go on from; default random controls of the seed

    The solution's report counts all iterations and seconds, of every depth and every restart.

    Raises
    ------
    ValueError : an option does not fit, or the memory for the problem is not there
    """
    check_size(problem, solver if isinstance(solver, str) else DEFAULT)
    options, solver = options or GrowthOptions(), as_solver(solver)
    begun, spent, notes = time.perf_counter(), 0, []
    traces: tuple[Iteration, ...] = ()
    shallowest = 0 if start is None else start.depth
    depths = options.depths or tuple(d for d in default_depths(problem.depth) if d >= shallowest)
    by_layers = options.depths is None and layer_by_layer.applies(problem)
    if depths[-1] != problem.depth:
        raise ValueError(f"depths end at {depths[-1]}; wanted the problem's {problem.depth}")
    for attempt in range(options.restarts + 1):
        rng = np.random.default_rng([seed, attempt])
        climb = functools.partial(_climb, problem, solver, options=options, report=report)
        tolerances = [options.intermediate_tolerance] * (len(depths) - 1) + [options.tolerance]
        stages = list(zip(depths, tolerances, strict=True))
        if by_layers:
            best, iterations, trace = _by_layers(climb, problem, start, rng, options, report)
        elif start is None and options.trials > 1:
            best, iterations, trace = _best_of_trials(climb, stages, [seed, attempt], options)
        else:
            best, iterations, trace = climb(stages, start, rng=rng)
        spent, traces = spent + iterations, traces + trace
        if best.status in (Status.SOLVED, Status.INTERRUPTED) or attempt == options.restarts:
            break
        note = f"stuck at depth {best.problem.depth} ({best.status.name}), restarted"
        notes.append(note)
        report(Progress(depth=best.problem.depth, message=note))
    if best.problem.depth < problem.depth:  # interrupted or stuck on the way up
        best = _idle_extension(problem, best, options, rng)
    record = dataclasses.replace(
        best.report,
        method=f"{best.report.method} with growth",
        iterations=spent,
        seconds=time.perf_counter() - begun,
        seed=seed,
        trace=traces,
        message="; ".join(filter(None, [*notes, best.report.message])),
        options={**best.report.options, "growth": dataclasses.asdict(options)},
    )
    return dataclasses.replace(best, report=record)


def _climb(
    problem: Problem,
    solver: Solver,
    stages: Stages,
    start: Controls | None,
    *,
    options: GrowthOptions,
    rng: np.random.Generator,
    report: Report,
) -> Climbed:
    """One way up the stages from a start, None: a random one of the first depth."""
    controls, iterations = start, 0
    trace: tuple[Iteration, ...] = ()
    for depth, tolerance in stages:
        stage = problem.with_(depth=depth)
        if controls is None:
            controls = random_start(stage, rng, options.start_scale)
        else:
            controls = extend(stage, controls, rng, options.append_scale)
        solution = solver(stage, controls, tolerance, report)
        iterations += solution.report.iterations
        trace += solution.report.trace
        for _ in range(options.escapes):
            if solution.status is not Status.SADDLE:
                break
            solution = escape(solution, solver, report)
            iterations += solution.report.iterations
            trace += solution.report.trace
        if solution.status not in STARTS:
            break
        controls = solution.controls
    return solution, iterations, trace


def _best_of_trials(
    climb: Callable[..., Climbed], stages: Stages, seeds: list[int], options: GrowthOptions
) -> Climbed:
    """Climb two stages from several random starts and all the way from the best of them."""
    first, rest = stages[:2], stages[2:]
    iterations, found = 0, []
    trace: tuple[Iteration, ...] = ()
    for trial in range(options.trials):
        # the first trial is what a single one would be
        rng = np.random.default_rng(seeds + ([trial] if trial else []))
        solution, count, lines = climb(first, None, rng=rng)
        iterations, trace = iterations + count, trace + lines
        found.append((solution.status is not Status.SOLVED, solution.report.objective, trial))
        if found[-1] == min(found):
            best, its_rng = solution, rng
        if solution.status is Status.INTERRUPTED:  # whatever an earlier trial found
            return interrupted(best), iterations, trace
    if not rest or best.status is not Status.SOLVED:
        return best, iterations, trace
    solution, count, lines = climb(rest, best.controls, rng=its_rng)
    return solution, iterations + count, trace + lines


def _by_layers(
    climb: Callable[..., Climbed],
    problem: Problem,
    start: Controls | None,
    rng: np.random.Generator,
    options: GrowthOptions,
    report: Report,
) -> Climbed:
    """Grow by gradients, and solve at full depth from there."""
    way = layer_by_layer.climb(
        problem,
        rng,
        start=start,
        trials=options.trials,
        start_scale=options.start_scale,
        append_scale=options.append_scale,
        report=report,
    )
    if way.interrupted:
        solution = stopped(problem.with_(depth=way.depth), way.controls, "l-bfgs", 0.0)
        return solution, way.iterations, way.trace
    stages = [(problem.depth, options.tolerance)]
    solution, iterations, trace = climb(stages, way.controls, rng=rng)
    return solution, way.iterations + iterations, way.trace + trace


def _idle_extension(
    problem: Problem, solution: Solution, options: GrowthOptions, rng: np.random.Generator
) -> Solution:
    """The shallow solution at full depth with idle layers appended, judged there."""
    controls = extend(problem, solution.controls, rng, 0.0)
    facts = assess(problem, controls, options.tolerance)
    record = dataclasses.replace(
        solution.report,
        objective=facts.objective,
        grad_inf_norm=facts.grad_inf_norm,
        # what was solved at the shallow depth need not be at this one
        status=facts.status if solution.status is Status.SOLVED else solution.status,
    )
    return facts.solution(problem, controls, record)
