"""The solvers by name, each as the one callable that growth and the command lines expect."""

from __future__ import annotations

import dataclasses
import importlib
from typing import NamedTuple

import numpy as np

from ..controls import Controls
from ..problem import Problem
from .progress import Report
from .solution import Solution, Solver


class Row(NamedTuple):
    """One solver, the file of this folder with its name.

    options : the dataclass of its options, in that file
    own : the field of them that takes options in the method's own words; "": they are fields
    warm : whether `solve` takes a costate
    """

    options: str
    own: str = ""
    warm: bool = False


TABLE = {
    "structured": Row(options="StructuredOptions"),
    "ipopt": Row(options="IpoptOptions", own="ipopt", warm=True),
    "fatrop": Row(options="FatropOptions", own="fatrop"),
}
NAMES = tuple(TABLE)
DEFAULT = "structured"


def by_name(
    name: str,
    *,
    max_iterations: int = 3000,
    max_seconds: float = 3600.0,
    options: dict[str, object] | None = None,
    costate: np.ndarray | None = None,
) -> Solver:
    """Return the solver called `name`.

    max_seconds : of each solve
    options : further options in the solver's own words: IPOPT's and fatrop's names, or the fields
        of `ocp.solvers.structured.StructuredOptions`
    costate : warm start of IPOPT's multipliers, (N+1, n_d, n); the others have none

    Raises
    ------
    ValueError : the name or an option is unknown or of the wrong type
    """
    if name not in NAMES:
        raise ValueError(f"solver is {name!r}; wanted one of {', '.join(NAMES)}")
    method = importlib.import_module(f".{name}", __package__)
    row = TABLE[name]
    make = getattr(method, row.options)
    fields = {f.name for f in dataclasses.fields(make)}
    limits = {"max_iterations": max_iterations, "max_seconds": max_seconds}
    limits = {limit: value for limit, value in limits.items() if limit in fields}
    own = {row.own: options or {}} if row.own else dict(options or {})
    known = fields - {"tolerance", *limits}
    for key in own:
        if key not in known:
            raise ValueError(
                f"unknown option {key!r} of the {name} solver;"
                f" wanted one of {', '.join(sorted(known))}"
            )
    make(**limits, **own)  # refuses values out of range
    if row.own and options:
        method.check_options(options)
    extra = {"costate": costate} if row.warm else {}

    def solve(problem: Problem, start: Controls, tolerance: float, report: Report) -> Solution:
        chosen = make(tolerance=tolerance, **limits, **own)
        return method.solve(problem, start, options=chosen, report=report, **extra)

    return solve


def as_solver(solver: str | Solver) -> Solver:
    """Return the solver called so, with its default options; a callable is returned as it is."""
    return by_name(solver) if isinstance(solver, str) else solver
