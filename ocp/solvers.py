"""The solvers by name, each as the one callable that growth and the command lines expect."""

from __future__ import annotations

from .continuation import Solver
from .controls import Controls
from .problem import Problem
from .progress import Report
from .solution import Solution

NAMES = ("ipopt",)
DEFAULT = "ipopt"


def by_name(
    name: str,
    *,
    max_iterations: int = 3000,
    max_seconds: float = 3600.0,
    options: dict[str, object] | None = None,
) -> Solver:
    """Return the solver called `name`.

    options : further options in the solver's own words (IPOPT's names for "ipopt")

    Raises
    ------
    ValueError : the name or an option is unknown
    """
    if name not in NAMES:
        raise ValueError(f"solver is {name!r}; wanted one of {', '.join(NAMES)}")
    from . import ipopt

    def solve(problem: Problem, start: Controls, tolerance: float, report: Report) -> Solution:
        chosen = ipopt.IpoptOptions(
            tolerance=tolerance,
            max_iterations=max_iterations,
            max_seconds=max_seconds,
            ipopt=options or {},
        )
        return ipopt.solve(problem, start, options=chosen, report=report)

    return solve
