"""A start for many samples from few: grow on an even subset, then solve on all samples.

An iteration costs in proportion to the samples, and nearly all iterations are spent far from the
end, where a subset tells as much as all.  From its minimum the full problem is a few steps away.
"""

from __future__ import annotations

import dataclasses
import time

import numpy as np

from .continuation import Solver
from .gain import GainOptions, grow_by_gain
from .optimality import assess
from .problem import Problem
from .progress import Progress, Report, silent
from .solution import Solution, Status


def thinned(problem: Problem, samples: int) -> Problem:
    """Return the problem on about `samples` samples, taken evenly in order within each class.

    Every class that is present stays present; a problem with no more samples comes back as it is.
    """
    if samples >= problem.n_samples:
        return problem
    kept = []
    for label in np.unique(problem.labels):
        members = np.flatnonzero(problem.labels == label)
        count = max(1, round(samples * len(members) / problem.n_samples))
        kept.append(members[np.rint(np.linspace(0, len(members) - 1, count)).astype(int)])
    rows = np.sort(np.concatenate(kept))
    return problem.with_(inputs=problem.inputs[rows], labels=problem.labels[rows])


def grow_through_subset(
    problem: Problem,
    solver: Solver,
    *,
    samples: int = 200,
    seed: int = 0,
    options: GainOptions | None = None,
    report: Report = silent,
) -> Solution:
    """Grow on a subset, then solve on all samples from there; the status is that on all samples."""
    options = options or GainOptions()
    begun = time.perf_counter()
    few = thinned(problem, samples)
    rough, _ = grow_by_gain(
        few, solver, depth=problem.depth, seed=seed, options=options, report=report
    )
    if few is problem:
        return rough
    if rough.status is Status.INTERRUPTED:  # nothing more is solved: the controls, judged on all
        problem = problem.with_(depth=rough.problem.depth)
        facts = assess(problem, rough.controls, options.growth.tolerance)
        record = dataclasses.replace(rough.report, **facts.fields_of_report())
        return Solution(
            problem=problem,
            controls=rough.controls,
            states=facts.states,
            costate=facts.costate,
            report=record,
        )
    note = f"from {few.n_samples} to all {problem.n_samples} samples"
    report(Progress(depth=problem.depth, message=note))
    found = solver(problem, rough.controls, options.growth.tolerance, report)
    record = dataclasses.replace(
        found.report,
        method=f"{found.report.method} with growth on a subset",
        iterations=rough.report.iterations + found.report.iterations,
        seconds=time.perf_counter() - begun,
        seed=seed,
    )
    return dataclasses.replace(found, report=record)
