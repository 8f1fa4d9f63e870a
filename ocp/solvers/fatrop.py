"""The rival from optimal control: fatrop's structured interior point on stacked samples.

fatrop factorises stage by stage (a Riccati recursion), which pays when a stage is small.  Here
all samples share the controls, so the state of a stage is the states of all samples, n n_d
numbers, and the recursion is dense in them; the structured solver exploits what fatrop cannot see.

The structure is declared (`structure_detection="manual"`, rows x_{k+1} - F), never detected.
Only problems whose ends are fixed: a trained lift or readout couples all stages.

Reference: Vanroye, Sathya, De Schutter, Decre, "FATROP: a fast constrained optimal control
problem solver for robot trajectory optimization and control", IROS 2023.
"""

from __future__ import annotations

import dataclasses
import json
import time
from dataclasses import dataclass

import casadi as ca
import numpy as np

from .. import validation
from ..controls import Controls, validate
from ..evaluation.rollout import rollout
from ..problem import Problem
from ..versions import versions
from .clock import OutOfTime, in_child
from .multiple_shooting import multiple_shooting
from .newton import settled
from .optimality import assess
from .progress import Progress, Report, silent
from .solution import Solution, SolveReport, Status, keeping


@dataclass(frozen=True, slots=True, kw_only=True)
class FatropOptions:
    """Options of one solve.

    tolerance : on max |dJ/du| at the rolled-out states; fatrop itself is asked for a tenth of it
    max_iterations, max_seconds : limits, each at least 1.  fatrop knows no limit on time and
        tells nobody where it is, so it runs in a process of its own that is ended then (or by
        Ctrl-C); the start is what is left
    fatrop : further options by fatrop's own names
    """

    tolerance: float = 1e-8
    max_iterations: int = 3000
    max_seconds: float = 3600.0
    fatrop: dict[str, object] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        validation.positive("tolerance", self.tolerance)
        validation.integer("max_iterations", self.max_iterations, 1)
        validation.at_least("max_seconds", self.max_seconds, 1, infinite=True)


@keeping
def solve(
    problem: Problem,
    start: Controls,
    *,
    options: FatropOptions | None = None,
    report: Report = silent,
) -> Solution:
    """Solve from the rollout of `start`; the status is that of `optimality.assess`.

    Raises
    ------
    ValueError : the start does not fit, an option is unknown, or an end is trained
    """
    options = options or FatropOptions()
    validate(problem, start)
    if problem.trained != ("layers",):
        raise ValueError(
            f"trained is {list(problem.trained)}; fatrop wants fixed ends, because trained ones"
            " couple all stages"
        )
    begun = time.perf_counter()
    transcription = multiple_shooting(problem)
    packing = transcription.packing
    n_x = problem.width * problem.n_samples
    n_u = transcription.nlp["x"].numel() // problem.depth - n_x
    structure = {
        "structure_detection": "manual",
        "N": problem.depth,
        # x_0 is data: the first stage has no state, the last no control
        "nx": [0] + [n_x] * problem.depth,
        "nu": [n_u] * problem.depth + [0],
        "ng": [0] * (problem.depth + 1),
    }
    inner = {
        "tol": options.tolerance / 10,
        "max_iter": options.max_iterations,
        "print_level": 0,
        **options.fatrop,
    }
    outer = {"fatrop": inner, "print_time": False, "error_on_fail": False, **structure}
    outer["equality"] = [True] * transcription.nlp["g"].numel()
    # fatrop wants the order x_k, u_k within a stage: with no x_0 this is U_0, X_1, U_1, X_2, ...
    X = rollout(problem, start).X
    report(Progress(depth=problem.depth, message="fatrop reports at its end only"))
    w, iterations, string, reason = np.array([np.nan]), 0, "", None
    try:
        left = options.max_seconds - (time.perf_counter() - begun)
        answer = in_child(lambda: _run(transcription.nlp, outer, packing.pack(start, X)), left)
        w, (iterations, string) = _unpacked(answer)
    except OutOfTime:
        reason = Status.TIME_LIMIT
    except KeyboardInterrupt:
        reason = Status.INTERRUPTED
    except RuntimeError as error:
        raise _refused(error) from None
    controls = packing.unpack(w)[0] if np.isfinite(w).all() else start
    facts = assess(problem, controls, options.tolerance)
    controls, facts = settled(problem, controls, facts, options.tolerance)
    if reason is not None:
        facts = dataclasses.replace(facts, status=reason)
    elif facts.status is Status.NOT_STATIONARY and iterations >= options.max_iterations:
        facts = dataclasses.replace(facts, status=Status.ITERATION_LIMIT)
    record = SolveReport(
        status=facts.status,
        method="fatrop/stacked",
        solver_said=string,
        iterations=iterations,
        seconds=time.perf_counter() - begun,
        tolerance=options.tolerance,
        options=dataclasses.asdict(options),
        versions=versions("casadi"),
        **facts.fields_of_report(),
    )
    return facts.solution(problem, controls, record)


def check_options(options: dict[str, object]) -> None:
    """Raise ValueError if fatrop does not take these options; they are tried on two variables."""
    x = ca.MX.sym("x", 2)
    # one stage with a control, x_1 = u_0, and the last without
    nlp = {"x": x, "f": ca.sumsqr(x - 1), "g": x[1] - x[0]}
    outer = {
        **{"fatrop": {"print_level": 0, **options}, "print_time": False, "error_on_fail": False},
        **{"structure_detection": "manual", "N": 1, "nx": [0, 1], "nu": [1, 0], "ng": [0, 0]},
        "equality": [True],
    }
    try:
        in_child(lambda: _run(nlp, outer, np.zeros(2)), 60.0)
    except OutOfTime:
        raise ValueError(f"fatrop does not end with the options {options}") from None
    except RuntimeError as error:
        raise _refused(error) from None


def _run(nlp: dict, options: dict, start: np.ndarray) -> bytes:
    """Solve and return iterations, fatrop's own word and the variables."""
    solver = ca.nlpsol("solver", "fatrop", nlp, options)
    result = solver(x0=start, lbg=0, ubg=0)
    stats = solver.stats()
    string = str(stats.get("return_status", stats.get("unified_return_status", "")))
    iterations = stats.get("iterations_count", stats.get("fatrop", {}).get("iterations_count", 0))
    said = json.dumps([int(iterations), string]).encode()
    return said + b"\n" + np.array(result["x"], dtype=float).ravel().tobytes()


def _unpacked(answer: bytes) -> tuple[np.ndarray, tuple[int, str]]:
    said, _, numbers = answer.partition(b"\n")
    return np.frombuffer(numbers).copy(), tuple(json.loads(said))


def _refused(error: RuntimeError) -> ValueError:
    """One sentence of the many lines of a CasADi error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in reversed(lines) if "ption not" in line), lines[-1])
    reason = reason.rsplit(".cpp:", 1)[-1].lstrip("0123456789: ")
    return ValueError(f"fatrop does not take the options: {reason}")
