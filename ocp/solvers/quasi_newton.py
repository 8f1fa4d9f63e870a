"""Descent by gradients alone, L-BFGS: where second derivatives are not worth their price yet.

A Hessian of d variables costs as much as about d / 20 gradients.  Far from a minimum the steps of
Newton's method are short of what its Hessians cost; near one nothing is as good.  So this is a
phase before a solver, and its outcome a start: nothing is assessed.

Reference: Byrd, Lu, Nocedal and Zhu, "A limited memory algorithm for bound constrained
optimization", SIAM J. Sci. Comput. 16, 1995; SciPy's L-BFGS-B, without bounds.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import scipy.optimize

from .. import interrupts
from ..controls import Controls, flatten, unflatten
from ..evaluation.sweeps import backward, forward, keep_freed_memory, prepare
from ..problem import Problem
from .progress import Progress, Report, silent
from .solution import Iteration

#: pairs of steps and gradients kept
MEMORY = 30
#: iterations between two lines of the trace and of the report
EVERY = 20


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Descent:
    """Where a descent ended: the lowest point that it has seen.

    controls, objective, residual : there; the residual is max |dJ/du|
    iterations : of L-BFGS
    trace : a line every `EVERY` iterations, and the last
    interrupted : whether Ctrl-C ended it
    """

    controls: Controls
    objective: float
    residual: float
    iterations: int
    trace: tuple[Iteration, ...]
    interrupted: bool


def descend(
    problem: Problem,
    start: Controls,
    *,
    tolerance: float,
    max_iterations: int,
    report: Report = silent,
) -> Descent:
    """Descend from `start` to a gradient of at most `tolerance`, max |dJ/du|, or to the limit.

    A start where J is not finite comes back as it is.
    """
    constants = prepare(problem)
    begun = time.perf_counter()
    keep_freed_memory()
    trace: list[Iteration] = []
    # the line search may end at a point that is not its lowest: (J, residual, u)
    best = (np.inf, np.inf, flatten(start))

    def evaluate(u: np.ndarray) -> tuple[float, np.ndarray]:
        nonlocal best
        sweep = forward(constants, u)
        gradient = backward(constants, sweep).gradient
        if sweep.objective < best[0] and np.isfinite(gradient).all():
            best = (sweep.objective, float(np.abs(gradient).max()), u.copy())
        return sweep.objective, gradient

    done = 0

    def count(_: np.ndarray) -> None:
        nonlocal done
        done += 1
        if done % EVERY == 0:
            tell()

    def tell() -> None:
        seconds = time.perf_counter() - begun
        trace.append(_line(problem.depth, done, best[:2], seconds))
        report(
            Progress(
                depth=problem.depth,
                iteration=done,
                objective=best[0],
                residual=best[1],
                seconds=seconds,
            )
        )

    stopped = False
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        try:
            with interrupts.opened():
                first, _ = evaluate(best[2])
                if np.isfinite(first):
                    scipy.optimize.minimize(
                        evaluate,
                        best[2],
                        jac=True,
                        method="L-BFGS-B",
                        callback=count,
                        options={
                            "maxcor": MEMORY,
                            "maxiter": max_iterations,
                            "maxfun": 2 * max_iterations,
                            "gtol": tolerance,
                            "ftol": 0.0,
                        },
                    )
        except KeyboardInterrupt:
            stopped = True
    if done % EVERY:
        tell()
    J, residual, u = best
    return Descent(
        controls=unflatten(problem, u),
        objective=J,
        residual=residual,
        iterations=done,
        trace=tuple(trace),
        interrupted=stopped,
    )


def _line(depth: int, iteration: int, at: tuple[float, float], seconds: float) -> Iteration:
    return Iteration(
        depth=depth,
        iteration=iteration,
        objective=at[0],
        primal_infeasibility=0.0,
        dual_infeasibility=at[1],
        regularisation=float("nan"),
        step_length=float("nan"),
        seconds=seconds,
    )
