"""The reference solver: IPOPT with MUMPS and exact Hessians on the textbook transcription.

IPOPT's return string never decides.  The controls that it returns are rolled out, and the status
is what `optimality.assess` finds there; the string only explains why a residual is too large.

Reference: Waechter and Biegler, "On the implementation of an interior-point filter line-search
algorithm for large-scale nonlinear programming", Mathematical Programming 106, 2006.
"""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass, field

import casadi as ca
import numpy as np

from .. import interrupts, validation
from ..controls import Controls, validate
from ..evaluation.rollout import gradient, kkt_residual, objective, rollout
from ..problem import Problem
from ..versions import versions
from .clock import OutOfTime, in_child
from .multiple_shooting import Transcription, multiple_shooting, single_shooting
from .newton import settled
from .optimality import assess
from .progress import Progress, Report, silent
from .solution import Iteration, Solution, SolveReport, Status, keeping

#: why a residual above the tolerance was returned; a residual below it is judged by `assess`
RETURN_STRINGS = {
    "Solve_Succeeded": Status.NOT_STATIONARY,
    "Solved_To_Acceptable_Level": Status.NOT_STATIONARY,
    "Feasible_Point_Found": Status.NOT_STATIONARY,
    "Search_Direction_Becomes_Too_Small": Status.NOT_STATIONARY,
    "Error_In_Step_Computation": Status.NOT_STATIONARY,
    "Infeasible_Problem_Detected": Status.INFEASIBLE,
    "Restoration_Failed": Status.INFEASIBLE,
    "Diverging_Iterates": Status.DIVERGED,
    "Invalid_Number_Detected": Status.DIVERGED,
    "User_Requested_Stop": Status.INTERRUPTED,
    "Maximum_Iterations_Exceeded": Status.ITERATION_LIMIT,
    "Maximum_CpuTime_Exceeded": Status.TIME_LIMIT,
    "Maximum_WallTime_Exceeded": Status.TIME_LIMIT,
    "Not_Enough_Degrees_Of_Freedom": Status.REFUSED,
    "Invalid_Problem_Definition": Status.REFUSED,
    "Invalid_Option": Status.REFUSED,
    "Unrecoverable_Exception": Status.REFUSED,
    "NonIpopt_Exception_Thrown": Status.REFUSED,
    "Insufficient_Memory": Status.REFUSED,
    "Internal_Error": Status.REFUSED,
}

#: QAMD orders columns that are almost full (the shared controls) last: half the factorisation
#: time of IPOPT's default, measured on the spirals
DEFAULT_OPTIONS = {"mumps_pivot_order": 6, "nlp_scaling_method": "none"}


@dataclass(frozen=True, slots=True, kw_only=True)
class IpoptOptions:
    """Options of one solve.

    tolerance : on max |dJ/du| at the rolled-out states; IPOPT itself is asked for 1/100 of it,
        because its residual is scaled and counts infeasible states
    max_iterations, max_seconds : limits, each at least 1; IPOPT looks at the seconds, in which
        the transcription counts, once in each of its iterations
    transcription : "multiple" or "single" shooting
    ipopt : further options of IPOPT by their own names; one that IPOPT does not know is an error
    """

    tolerance: float = 1e-8
    max_iterations: int = 3000
    max_seconds: float = 3600.0
    transcription: str = "multiple"
    ipopt: dict[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        validation.positive("tolerance", self.tolerance)
        validation.integer("max_iterations", self.max_iterations, 1)
        validation.at_least("max_seconds", self.max_seconds, 1, infinite=True)
        validation.one_of("transcription", self.transcription, ("multiple", "single"))


@keeping
def solve(
    problem: Problem,
    start: Controls,
    *,
    options: IpoptOptions | None = None,
    costate: np.ndarray | None = None,
    report: Report = silent,
) -> Solution:
    """Solve from the rollout of `start`; never raises for an unsuccessful outcome.

    costate : (N+1, n_d, n), warm start of the multipliers; default the adjoint at `start`

    Raises
    ------
    ValueError : the start does not fit the problem, or an option is unknown or mistyped
    """
    options = options or IpoptOptions()
    validate(problem, start)
    begun = time.perf_counter()
    single = options.transcription == "single"
    transcription = single_shooting(problem) if single else multiple_shooting(problem)
    packing = transcription.packing
    monitor = _Monitor(problem, transcription, start, report, begun)
    left = options.max_seconds - (time.perf_counter() - begun)
    solver = _solver(transcription, options, monitor, max(left, 1e-3))
    X = rollout(problem, start).X
    arguments: dict[str, object] = {"x0": packing.pack(start, X)}
    if not single:
        costate = gradient(problem, start)[1] if costate is None else costate
        arguments |= {"lbg": 0, "ubg": 0, "lam_g0": packing.multipliers(costate)}
    result = solver(**arguments)
    stats = solver.stats()
    string = stats["return_status"]
    w = np.array(result["x"]).ravel()
    controls, states = packing.unpack(w)
    kkt = float("nan")
    if not np.isfinite(w).all() or string == "User_Requested_Stop":
        controls = monitor.best
    elif not single:
        lam = np.concatenate([X[:1], packing.costate(np.array(result["lam_g"]).ravel())])
        kkt = max(kkt_residual(problem, controls, np.concatenate([X[:1], states]), lam).values())
    facts = assess(problem, controls, options.tolerance)
    controls, facts = settled(problem, controls, facts, options.tolerance)
    if facts.status is Status.NOT_STATIONARY:
        status = RETURN_STRINGS.get(string, Status.NOT_STATIONARY)
        facts = dataclasses.replace(facts, status=status, message=f"IPOPT said {string}")
    record = SolveReport(
        status=facts.status,
        method=f"ipopt/{options.transcription}",
        kkt_residual=kkt,
        solver_said=string,
        iterations=int(stats["iter_count"]),
        seconds=time.perf_counter() - begun,
        tolerance=options.tolerance,
        options=dataclasses.asdict(options),
        versions=versions("casadi"),
        trace=_trace(problem, stats, monitor),
        **facts.fields_of_report(),
    )
    return facts.solution(problem, controls, record)


def check_options(options: dict[str, object]) -> None:
    """Raise ValueError if IPOPT does not take these options here: they are tried on one variable.

    A name may be right and the library behind it missing (linear_solver=ma27 wants HSL), which
    IPOPT says when it runs; a library that is no such thing may end the process.
    """
    x = ca.MX.sym("x")
    outer = {
        "ipopt": {"print_level": 0, "sb": "yes", **options},
        **dict.fromkeys(("print_time", "error_on_fail", "show_eval_warnings"), False),
    }

    def run() -> bytes:
        solver = ca.nlpsol("solver", "ipopt", {"x": x, "f": (x - 1) ** 2}, outer)
        solver(x0=0)
        return solver.stats()["return_status"].encode()

    named = ", ".join(f"{name}={value}" for name, value in options.items())
    try:
        said = in_child(run, 60.0).decode()
    except OutOfTime:
        raise ValueError(f"IPOPT does not end with the options {named}") from None
    except RuntimeError as error:
        raise _refused(error, named) from None
    if RETURN_STRINGS.get(said) is Status.REFUSED:
        raise ValueError(
            f"IPOPT does not take the options {named}: it says {said}; a value is unknown, or its"
            " library (HSL for ma27 to ma97) is not installed here"
        )


def _refused(error: RuntimeError, options: str) -> ValueError:
    """One sentence of the many lines of a CasADi error."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    reason = next((line for line in lines if "ption" in line), lines[-1])
    reason = reason.rsplit(".cpp:", 1)[-1].lstrip("0123456789: ")
    return ValueError(f"IPOPT does not take the options {options}: {reason}")


def _solver(
    transcription: Transcription, options: IpoptOptions, monitor: _Monitor, seconds: float
) -> ca.Function:
    inner = {
        **DEFAULT_OPTIONS,
        "tol": options.tolerance / 100,
        "max_iter": options.max_iterations,
        "max_wall_time": seconds,
        # no bounds: a start is not pushed anywhere, and "acceptable" is never success
        "acceptable_iter": 0,
        "warm_start_init_point": "yes",
        "print_level": 0,
        "sb": "yes",
        **options.ipopt,
    }
    outer = {
        "ipopt": inner,
        "print_time": False,
        "iteration_callback": monitor.callback,
        "error_on_fail": False,
        "show_eval_warnings": False,
    }
    try:
        return ca.nlpsol("solver", "ipopt", transcription.nlp, outer)
    except RuntimeError as error:
        raise _refused(error, ", ".join(sorted(options.ipopt))) from None


class _Monitor:
    """Watches the iterates: live progress, Ctrl-C, and the best rolled-out iterate so far."""

    def __init__(
        self,
        problem: Problem,
        transcription: Transcription,
        start: Controls,
        report: Report,
        begun: float,
    ) -> None:
        self.problem, self.packing, self.report = problem, transcription.packing, report
        self.begun, self.iteration = begun, 0
        self.best_objective, self.best = np.inf, start
        self.seconds: list[float] = []
        self.callback = _Callback(self, transcription)

    def see(self, w: np.ndarray) -> bool:
        """Note an iterate; return whether to stop."""
        controls, _ = self.packing.unpack(w)
        with np.errstate(over="ignore", invalid="ignore"):
            J = float(objective(self.problem, controls))
        if self.best_objective > J:
            self.best_objective, self.best = J, controls
        self.seconds.append(time.perf_counter() - self.begun)
        self.report(
            Progress(
                depth=self.problem.depth,
                iteration=self.iteration,
                objective=J,
                seconds=self.seconds[-1],
            )
        )
        self.iteration += 1
        # within C++ a KeyboardInterrupt would be swallowed: `keeping` notes it, this stops
        return interrupts.pending()


class _Callback(ca.Callback):
    """IPOPT's iteration callback; CasADi wants a subclass with the program's signature."""

    def __init__(self, monitor: _Monitor, transcription: Transcription) -> None:
        ca.Callback.__init__(self)
        self._monitor = monitor
        nx = transcription.nlp["x"].numel()
        ng = transcription.nlp["g"].numel() if "g" in transcription.nlp else 0
        sizes = {"x": nx, "f": 1, "g": ng, "lam_x": nx, "lam_g": ng, "lam_p": 0}
        self._sizes = [sizes[ca.nlpsol_out(i)] for i in range(ca.nlpsol_n_out())]
        self.construct("monitor", {})

    def get_n_in(self) -> int:
        return ca.nlpsol_n_out()

    def get_n_out(self) -> int:
        return 1

    def get_name_in(self, i: int) -> str:
        return ca.nlpsol_out(i)

    def get_name_out(self, i: int) -> str:
        return "stop"

    def get_sparsity_in(self, i: int) -> ca.Sparsity:
        return ca.Sparsity.dense(self._sizes[i], 1)

    def eval(self, arguments: list[ca.DM]) -> list[int]:
        return [int(self._monitor.see(np.array(arguments[0]).ravel()))]


def _trace(problem: Problem, stats: dict, monitor: _Monitor) -> tuple[Iteration, ...]:
    log = stats.get("iterations") or {}
    count = len(log.get("obj", []))
    seconds = monitor.seconds + [float("nan")] * count
    return tuple(
        Iteration(
            depth=problem.depth,
            iteration=i,
            objective=log["obj"][i],
            primal_infeasibility=log["inf_pr"][i],
            dual_infeasibility=log["inf_du"][i],
            regularisation=log["regularization_size"][i],
            step_length=log["alpha_pr"][i],
            seconds=seconds[i],
        )
        for i in range(count)
    )
