"""What a solver returns: the point, why it stopped, and the record of how it got there."""

from __future__ import annotations

import dataclasses
import enum
import functools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ParamSpec

import numpy as np

from .. import interrupts
from ..container import json_values
from ..controls import Controls
from ..files import TrainingFile
from ..problem import Problem
from .progress import Report


class Status(enum.Enum):
    """Why a solver stopped.  The value is the sentence shown to the user."""

    SOLVED = "Strict local minimum: KKT residual and curvature are within tolerance."
    SADDLE = (
        "Stationary, but the reduced Hessian has a negative eigenvalue; escape along `witness`."
    )
    DEGENERATE = (
        "Stationary, but the least eigenvalue is within its error band: minimum or saddle is open."
    )
    FLAT = (
        "The gradient meets the tolerance, but no stationary point was found near: Newton's steps"
        " do not contract.  The objective may fall for ever; lower the tolerance or raise the"
        " weights."
    )
    NONSMOOTH = (
        "Pre-activations lie on kinks of the activation, where first- and second-order conditions"
        " do not decide; use softplus with growing sharpness (`ocp.smoothed_relu`)."
    )
    NOT_STATIONARY = (
        "Stopped above the tolerance: progress has ended in rounding errors or at a poor step;"
        " loosen the tolerance or start elsewhere."
    )
    ITERATION_LIMIT = (
        "Iteration limit reached; raise `max_iterations` or start from a shallower solution."
    )
    TIME_LIMIT = "Time limit reached; raise `max_seconds` or start from a shallower solution."
    INTERRUPTED = "Interrupted; the point is the best iterate so far."
    INFEASIBLE = "The solver lost feasibility and could not restore it; start from a rollout."
    DIVERGED = "The iterates or the objective left the range of floating-point numbers."
    REFUSED = "The solver refused the problem or ran out of memory before its first iterate."


#: where growth may go on from: a deeper network takes such a point as its start
STARTS = (Status.SOLVED, Status.DEGENERATE, Status.FLAT, Status.NOT_STATIONARY)


class SolveError(RuntimeError):
    """A solve did not end as the caller required."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Iteration:
    """One line of a solver's trace; NaN where the method has no such quantity."""

    depth: int
    iteration: int
    objective: float
    primal_infeasibility: float
    dual_infeasibility: float
    regularisation: float
    step_length: float
    seconds: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SolveReport:
    """The detached record of one solve.

    objective : J at the rolled-out states
    grad_inf_norm : largest absolute entry of dJ/du there, unscaled
    kkt_residual : largest absolute entry of the unscaled KKT residual of the solver's own point
        (states, multipliers and all); NaN for methods without states as variables
    min_curvature, curvature_band : least eigenvalue of the reduced Hessian and its error band
    newton_distance : |H^-1 g|_inf, distance to the stationary point nearby
    witness, witness_decrease : direction of negative curvature, (d,), and J(u) - J(u + t witness)
    n_kinks : pre-activations on kinks of the activation
    iterations : of the solver, all depths together
    solver_said : the solver's own last word, for the record; it decides nothing
    """

    status: Status
    method: str
    objective: float
    grad_inf_norm: float
    tolerance: float
    kkt_residual: float = float("nan")
    min_curvature: float = float("nan")
    curvature_band: float = float("nan")
    newton_distance: float = float("nan")
    witness: np.ndarray | None = None
    witness_decrease: float = float("nan")
    n_kinks: int = 0
    iterations: int = 0
    seconds: float = float("nan")
    message: str = ""
    solver_said: str = ""
    seed: int | None = None
    options: dict = field(default_factory=dict)
    versions: dict = field(default_factory=dict)
    trace: tuple[Iteration, ...] = ()

    def to_json(self) -> dict:
        """Return the record as JSON values; NaN becomes null."""
        record = dataclasses.asdict(self)
        record["status"] = self.status.name
        record["sentence"] = self.status.value
        record["witness"] = None if self.witness is None else self.witness.tolist()
        return json_values(record)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Solution:
    """A point, its adjoint states and the report on it.

    states : (N+1, n_d, n) rolled out from the controls;  costate : (N+1, n_d, n) at those states
    """

    problem: Problem
    controls: Controls
    states: np.ndarray
    costate: np.ndarray
    report: SolveReport

    @property
    def status(self) -> Status:
        return self.report.status

    def require(self) -> Solution:
        """Return self if SOLVED, else raise SolveError with the sentence of the status."""
        if self.status is not Status.SOLVED:
            report = self.report
            raise SolveError(
                f"{self.status.name}: {self.status.value} (objective {report.objective:.6g},"
                f" gradient {report.grad_inf_norm:.1e}) {report.message}".rstrip()
            )
        return self

    def to_file(self, **changes: Any) -> TrainingFile:
        """Return the training file of this solution, costate included."""
        report = self.report
        origin = {
            "producer": "turnpike-ocp",
            "solver": report.method,
            "seed": report.seed,
            "versions": report.versions,
            "options": report.options,
            "status": report.status.name,
            "objective": report.objective,
            "grad_inf_norm": report.grad_inf_norm,
        }
        content = TrainingFile(
            problem=self.problem,
            controls=self.controls,
            # of no use for a warm start, and no file holds NaN
            costate=self.costate if np.isfinite(self.costate).all() else None,
            origin=json_values(origin),
        )
        return dataclasses.replace(content, **changes)


_P = ParamSpec("_P")


def keeping(work: Callable[_P, Solution]) -> Callable[_P, Solution]:
    """Let no Ctrl-C end a method without its solution: the status is then INTERRUPTED.

    Long parts ask for it, in an `interrupts.opened` block or by `interrupts.pending`.
    """

    @functools.wraps(work)
    def kept(*args: _P.args, **kwargs: _P.kwargs) -> Solution:
        with interrupts.shielded():
            solution = work(*args, **kwargs)
            pressed = interrupts.take()
        return interrupted(solution) if pressed else solution

    return kept


def interrupted(solution: Solution) -> Solution:
    """Return the solution with the status INTERRUPTED."""
    record = dataclasses.replace(solution.report, status=Status.INTERRUPTED)
    return dataclasses.replace(solution, report=record)


#: how growth and the command lines call any method: (problem, start, tolerance, report)
Solver = Callable[[Problem, Controls, float, Report], Solution]
