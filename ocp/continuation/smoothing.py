"""The way to relu through smooth problems: softplus with growing sharpness.

softplus(k v)/k is within log 2/k of relu, so the minima of the smooth problems lead to points
near those of the kinked one, where first- and second-order conditions do not decide.
"""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np

from ..problem import Problem
from ..solvers import DEFAULT, as_solver
from ..solvers.optimality import assess
from ..solvers.progress import Report, silent
from ..solvers.solution import Solution, Solver, Status
from .growth import GrowthOptions, escape, extend, grow


def smoothed_relu(
    problem: Problem,
    solver: str | Solver = DEFAULT,
    *,
    sharpness: tuple[float, ...] = (10.0, 100.0, 1000.0),
    ratio: float = 1.25,
    path_depth: int | None = None,
    seed: int = 0,
    options: GrowthOptions | None = None,
    report: Report = silent,
) -> tuple[Solution, ...]:
    """Follow the minima of softplus with growing sharpness towards relu.

    solver : its name, or a callable (problem, start, tolerance, report)
    ratio : largest factor between one solve and the next.  From 10 to 100 at once a deep network
        loses its minimum; in steps of 1.25 each solve takes ten to twenty iterations
    path_depth : follow the path with so many layers, then grow each of its minima to full depth

    Returns the solutions for each sharpness, then the last controls judged as the relu problem:
    NONSMOOTH where pre-activations lie on kinks, as they do generically, never SOLVED there.
    """
    if problem.activation != "relu":
        raise ValueError(f"activation is {problem.activation!r}; wanted 'relu'")
    options, solver = options or GrowthOptions(), as_solver(solver)
    if not ratio > 1:
        raise ValueError(f"ratio is {ratio!r}; wanted a number above 1")
    depth = min(path_depth or problem.depth, problem.depth)
    kind = {"activation": "softplus", "shifted": True, "sharpness": sharpness[0]}
    smooth = problem.with_(**kind, depth=depth)
    path = [grow(smooth, solver, seed=seed, options=options, report=report)]
    for low, high in itertools.pairwise(sharpness):
        if path[-1].status is Status.INTERRUPTED:
            break
        path.append(_sharpen(path[-1], solver, low, high, ratio, options, report))
    if depth < problem.depth and path[-1].status is not Status.INTERRUPTED:
        shallow, path = path, []
        for one in shallow:
            deep = one.problem.with_(depth=problem.depth)
            path.append(
                grow(deep, solver, seed=seed, start=one.controls, options=options, report=report)
            )
            if path[-1].status is Status.INTERRUPTED:
                break
    last = path[-1]
    # shallower only after Ctrl-C
    controls = extend(problem, last.controls, np.random.default_rng(seed), 0.0)
    facts = assess(problem, controls, options.tolerance)
    interrupted = last.status is Status.INTERRUPTED
    record = dataclasses.replace(
        last.report,
        status=Status.INTERRUPTED if interrupted else facts.status,
        method=f"{last.report.method}, smoothed path to relu",
        **facts.fields_of_report(),
    )
    judged = facts.solution(problem, controls, record)
    return (*path, judged)


def _sharpen(
    last: Solution,
    solver: Solver,
    low: float,
    high: float,
    ratio: float,
    options: GrowthOptions,
    report: Report,
) -> Solution:
    """Follow a minimum from one sharpness to the next in factors of at most `ratio`."""
    steps = np.geomspace(low, high, 1 + max(1, math.ceil(math.log(high / low, ratio))))
    for k in (*steps[1:-1].tolist(), high):
        smooth = last.problem.with_(sharpness=k)
        tolerance = options.tolerance if k == high else options.intermediate_tolerance
        last = solver(smooth, last.controls, tolerance, report)
        for _ in range(options.escapes):
            if last.status is Status.SADDLE:
                last = escape(last, solver, report)
        if last.status is Status.INTERRUPTED:
            break
    return last
