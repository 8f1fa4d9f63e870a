"""The fast solver: a trust-region Newton method on the shared controls, with exact Hessians.

All samples share the controls, so the Schur complement of the KKT matrix on the controls is the
d x d Hessian of J(u): small and dense.  States come from rollouts and are always feasible.

    s_j = argmin  g's + s'Hs/2,  |s| <= radius          exact, by Cholesky factorisations
    accept if J falls by a fraction of what the model predicts; else a smaller radius

A trust region handles negative curvature, so iterates leave saddles.  Near a minimum decreases
drown in rounding; there a step counts if it lowers the gradient.  Beyond `dense_limit` variables
steps come from truncated conjugate gradients with Hessian-vector products.

The status is decided by `optimality.assess`, never by the iteration.
Reference: Conn, Gould and Toint, Trust-Region Methods, algorithm 6.1.1; More' and Sorensen, 1983.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .. import interrupts, validation
from ..controls import Controls, flatten, unflatten, validate
from ..evaluation.assembly import hessian
from ..evaluation.sweeps import (
    Backward,
    Constants,
    Forward,
    backward,
    forward,
    keep_freed_memory,
    prepare,
)
from ..problem import Problem
from ..versions import versions
from . import krylov, trust_region
from .clock import OutOfTime, Tick, until
from .curvature import by_factorisation
from .newton import settled
from .optimality import assess
from .progress import Progress, Report, silent
from .solution import Iteration, Solution, SolveReport, Status, keeping

#: a predicted decrease below this times max(1, |J|) drowns in rounding
ROUNDING = 1e-14


@dataclass(frozen=True, slots=True, kw_only=True)
class StructuredOptions:
    """Options of one solve.

    tolerance : on max |dJ/du|
    max_iterations, max_seconds : limits, each at least 1; seconds are counted within a step too
    initial_radius : of the trust region, in the Euclidean norm of the controls
    accept : least ratio of actual to predicted decrease of an accepted step
    shrink_below, expand_above : ratios at which the radius changes
    expand : by which factor the radius grows
    dense_limit : largest number of variables with a dense Hessian
    """

    tolerance: float = 1e-8
    max_iterations: int = 3000
    max_seconds: float = 3600.0
    initial_radius: float = 1.0
    accept: float = 1e-4
    shrink_below: float = 0.25
    expand_above: float = 0.75
    expand: float = 2.0
    dense_limit: int = 4000

    def __post_init__(self) -> None:
        for name in ("tolerance", "initial_radius", "accept", "shrink_below"):
            validation.positive(name, getattr(self, name))
        for name, least in (("max_iterations", 1), ("dense_limit", 0)):
            validation.integer(name, getattr(self, name), least)
        validation.at_least("expand", self.expand, 1)
        validation.at_least("max_seconds", self.max_seconds, 1, infinite=True)
        if not self.accept < self.shrink_below < self.expand_above < 1.0:
            raise ValueError(
                f"accept, shrink_below, expand_above are {self.accept}, {self.shrink_below},"
                f" {self.expand_above}; wanted them increasing and below 1"
            )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Outcome:
    """Where the iteration ended, and why it did not converge (None: it did)."""

    u: np.ndarray
    reason: Status | None
    trace: list[Iteration]


@keeping
def solve(
    problem: Problem,
    start: Controls,
    *,
    options: StructuredOptions | None = None,
    report: Report = silent,
) -> Solution:
    """Solve from `start`; never raises for an unsuccessful outcome, Ctrl-C included.

    Raises
    ------
    ValueError : the start does not fit the problem, or an option is out of range
    """
    options = options or StructuredOptions()
    validate(problem, start)
    begun = time.perf_counter()
    keep_freed_memory()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        outcome = _iterate(problem, flatten(start), options, report, begun)
        controls = unflatten(problem, outcome.u)
        # out of time there is none left to judge a point that may be stationary
        tolerance = 0.0 if outcome.reason is Status.TIME_LIMIT else options.tolerance
        facts = assess(problem, controls, tolerance, curvature=by_factorisation)
        controls, facts = settled(problem, controls, facts, options.tolerance)
    reason = outcome.reason
    if reason is not None and Status.INTERRUPTED in (reason, facts.status):
        facts = dataclasses.replace(facts, status=Status.INTERRUPTED)
    elif reason is not None and facts.status is Status.NOT_STATIONARY:
        facts = dataclasses.replace(facts, status=reason)
    record = SolveReport(
        status=facts.status,
        method="structured",
        iterations=len(outcome.trace),
        seconds=time.perf_counter() - begun,
        tolerance=options.tolerance,
        options=dataclasses.asdict(options),
        versions=versions(),
        trace=tuple(outcome.trace),
        **facts.fields_of_report(),
    )
    return facts.solution(problem, controls, record)


def _iterate(
    problem: Problem, u: np.ndarray, options: StructuredOptions, report: Report, begun: float
) -> _Outcome:
    """The trust-region iteration; Ctrl-C ends it at the best iterate, which is the last one."""
    trace: list[Iteration] = []
    tick = until(begun + options.max_seconds)
    try:
        with interrupts.opened():
            for state in _iterates(problem, u, options, tick):
                u = state.u
                seconds = time.perf_counter() - begun
                if state.step is not None:
                    trace.append(_line(problem, len(trace), state, state.step, seconds))
                    report(
                        Progress(
                            depth=problem.depth,
                            iteration=len(trace),
                            objective=state.sweep.objective,
                            residual=state.residual,
                            seconds=seconds,
                        )
                    )
                if state.ended:
                    return _Outcome(u=u, reason=state.reason, trace=trace)
                if len(trace) >= options.max_iterations:
                    return _Outcome(u=u, reason=Status.ITERATION_LIMIT, trace=trace)
                if seconds > options.max_seconds:
                    return _Outcome(u=u, reason=Status.TIME_LIMIT, trace=trace)
    except OutOfTime:
        return _Outcome(u=u, reason=Status.TIME_LIMIT, trace=trace)
    except KeyboardInterrupt:
        return _Outcome(u=u, reason=Status.INTERRUPTED, trace=trace)
    raise AssertionError("the iteration ends by itself")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _State:
    """One iterate and the step that led to it (None at the start)."""

    u: np.ndarray
    sweep: Forward
    residual: float
    step: trust_region.Step | None
    ended: bool = False
    reason: Status | None = None


def _iterates(
    problem: Problem, u: np.ndarray, options: StructuredOptions, tick: Tick
) -> Iterator[_State]:
    """Yield the accepted iterates; the last one says that it has `ended`."""
    constants = prepare(problem)
    sweep = forward(constants, u)
    if not np.isfinite(sweep.objective):
        yield _State(
            u=u, sweep=sweep, residual=np.inf, step=None, ended=True, reason=Status.DIVERGED
        )
        return
    adjoint = backward(constants, sweep)
    step: trust_region.Step | None = None  # that led to u
    # the multiplier of |s| <= radius changes little from step to step: the last one is the guess
    radius, shift = options.initial_radius, 0.0
    while True:
        residual = float(np.abs(adjoint.gradient).max())
        model = _model(constants, sweep, adjoint, options, tick)
        # A small gradient is no reason to stop at a saddle: there the model has a descent
        # direction of second order, and its step leaves.
        if residual <= options.tolerance and model.convex():
            yield _State(u=u, sweep=sweep, residual=residual, step=step, ended=True)
            return
        yield _State(u=u, sweep=sweep, residual=residual, step=step)
        taken, widened = None, False
        while taken is None:
            tick()
            tried = model.step(radius, shift)
            trial = forward(constants, u + tried.s)
            actual = sweep.objective - trial.objective
            noise = ROUNDING * max(1.0, abs(sweep.objective))
            if tried.predicted <= noise:
                # the ratio of actual to predicted would compare rounding errors, and shrinking
                # the radius on its word would never end: the gradient decides
                taken = _by_gradient(constants, trial, residual, actual, noise)
                if taken is None and not widened and tried.boundary:
                    # the radius, not the model, made the step short: offer a Newton step, once
                    radius, shift, widened = options.initial_radius, 0.0, True
                    continue
                if taken is None:  # at the floor of float64, stationary or not
                    yield _State(
                        u=u,
                        sweep=sweep,
                        residual=residual,
                        step=None,
                        ended=True,
                        reason=Status.NOT_STATIONARY,
                    )
                    return
                break
            ratio = actual / tried.predicted
            if ratio > options.accept:  # False where J is not finite
                taken = backward(constants, trial)
            else:
                radius, shift = _smaller(radius, tried, ratio), 2.0 * tried.shift
        if tried.predicted > noise:  # else the radius has nothing to learn from this step
            shift = tried.shift
            if ratio < options.shrink_below:
                radius = 0.5 * tried.length
            elif ratio > options.expand_above and tried.boundary:
                radius, shift = options.expand * radius, shift / options.expand
        u, sweep, adjoint, step = u + tried.s, trial, taken, tried


def _by_gradient(
    constants: Constants, trial: Forward, residual: float, actual: float, noise: float
) -> Backward | None:
    """Judge a step whose decrease drowns in rounding by the gradient it leads to."""
    if not actual >= -10 * noise:
        return None
    taken = backward(constants, trial)
    return taken if np.abs(taken.gradient).max() < 0.9 * residual else None


def _smaller(radius: float, step: trust_region.Step, ratio: float) -> float:
    """The radius after a rejected step: much smaller where J rose or is not finite."""
    return (0.5 if ratio > 0.0 else 0.25) * min(radius, step.length)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class _Dense:
    """The quadratic model with its Hessian assembled."""

    H: np.ndarray
    g: np.ndarray
    tick: Tick

    def step(self, radius: float, shift: float) -> trust_region.Step:
        return trust_region.step(self.H, self.g, radius, shift, self.tick)

    def convex(self) -> bool:
        """Whether H is positive definite beyond the rounding errors of its entries."""
        band = 10 * len(self.H) * np.finfo(float).eps * float(np.abs(self.H).sum(axis=1).max())
        return trust_region.factorise(self.H, -band) is not None


def _model(
    constants: Constants, sweep: Forward, adjoint: Backward, options: StructuredOptions, tick: Tick
) -> _Dense | krylov.Products:
    if constants.problem.n_decision <= options.dense_limit:
        return _Dense(H=hessian(constants, sweep, adjoint, tick), g=adjoint.gradient, tick=tick)
    return krylov.Products(
        problem=constants.problem, controls=sweep.controls, g=adjoint.gradient, tick=tick
    )


def _line(
    problem: Problem, index: int, state: _State, step: trust_region.Step, seconds: float
) -> Iteration:
    return Iteration(
        depth=problem.depth,
        iteration=index + 1,
        objective=state.sweep.objective,
        primal_infeasibility=0.0,
        dual_infeasibility=state.residual,
        regularisation=step.shift,
        step_length=step.length,
        seconds=seconds,
    )
