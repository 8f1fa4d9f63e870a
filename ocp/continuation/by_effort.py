"""Solve with a budget: by the search where starts can be raced in batches, else by growth."""

from __future__ import annotations

import dataclasses
import itertools
import time

import numpy as np
from threadpoolctl import threadpool_limits

from ..problem import Problem
from ..solvers import DEFAULT
from ..solvers.progress import Report, silent
from ..solvers.solution import Solution, Solver, Status, interrupted, keeping
from .growth import GrowthOptions, grow
from .search import applies, search
from .search_options import SearchOptions, cost


def solve(
    problem: Problem,
    *,
    solver: str | Solver = DEFAULT,
    seed: int = 0,
    options: GrowthOptions | None = None,
    effort: str | None = None,
    seconds: float | None = None,
    report: Report = silent,
) -> Solution:
    """Solve the problem as `python -m ocp solve` does: by the search, BLAS on one thread.

    solver : "structured", "ipopt", "fatrop", or a callable (problem, start, tolerance, report)
    options : of growth, which then is the way instead of the search
    effort : "quick", "standard" (default) or "thorough"
    seconds : instead of an effort, about how long to search

    Another solver than "structured" grows with four trials; so does a problem whose starts cannot
    be raced in batches (`applies`), again and again from further seeds while the budget lasts;
    large ones layer by layer (`layer_by_layer`).

    Raises
    ------
    ValueError : an option would be ignored or does not fit; the memory is not there
    """
    budget = {"effort": effort, "seconds": seconds}
    given = [name for name, value in budget.items() if value is not None]
    if len(given) == 2:
        raise ValueError("effort and seconds are given; wanted one of them")
    for name in given:
        if options is not None:
            raise ValueError(f"{name} is given with options of growth, which does not use it")
        if solver != DEFAULT:
            raise ValueError(f"{name} is given with another solver, which grows and has no budget")
    # a number out of range ends as a status, not as a warning
    with threadpool_limits(1), np.errstate(all="ignore"):
        if options is not None or solver != DEFAULT:
            options = options or GrowthOptions(trials=4)
            return grow(problem, solver, seed=seed, options=options, report=report)
        chosen = SearchOptions(effort=effort or "standard", seconds=seconds)
        return lowest(problem, seed=seed, options=chosen, report=report)


def lowest(
    problem: Problem,
    solver: Solver | None = None,
    *,
    seed: int = 0,
    options: SearchOptions | None = None,
    report: Report = silent,
) -> Solution:
    """Search, or grow from many seeds where starts cannot be raced in batches."""
    way = search if applies(problem) else _grow_again
    return way(problem, solver, seed=seed, options=options, report=report)


@keeping
def _grow_again(
    problem: Problem,
    solver: Solver | None = None,
    *,
    seed: int = 0,
    options: SearchOptions | None = None,
    report: Report = silent,
) -> Solution:
    """Grow from the seed, and from others derived from it while the budget lasts; the best one."""
    options = options or SearchOptions()
    begun, work, steps = time.perf_counter(), 0, 0
    best: Solution | None = None
    trials = 2 if options.effort == "quick" else 4
    grown = GrowthOptions(tolerance=options.tolerance, trials=trials)
    for attempt in itertools.count():
        own = seed
        if attempt:
            own = int(np.random.SeedSequence([seed, attempt]).generate_state(1)[0])
        found = grow(problem, solver or DEFAULT, seed=own, options=grown, report=report)
        steps += found.report.iterations
        work += sum(cost(line.depth) for line in found.report.trace)
        stopped = found.status is Status.INTERRUPTED
        if best is None or _rank(found) < _rank(best):
            best = found
        seconds = time.perf_counter() - begun
        if stopped or (
            seconds >= options.seconds
            if options.seconds is not None
            else work >= options.budget(problem.depth)
        ):
            break
    assert best is not None
    record = dataclasses.replace(best.report, iterations=steps, seconds=seconds, seed=seed)
    best = dataclasses.replace(best, report=record)
    return interrupted(best) if stopped else best


def _rank(solution: Solution) -> tuple[bool, float]:
    return (solution.status is not Status.SOLVED, solution.report.objective)
