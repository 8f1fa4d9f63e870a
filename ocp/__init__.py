"""Exact training of small residual networks, as optimal control.

    inputs, labels = ocp.datasets.moons(60, noise=0.1)
    problem = ocp.Problem(inputs=inputs, labels=labels, n_classes=2, depth=12)
    solution = ocp.solve(problem).require()
    ocp.save("solution.safetensors", solution.to_file())

Names are loaded on first use: `import ocp` and `python -m ocp --help` start at once.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # type checkers take it for true; typing itself would cost --help a tenth
if TYPE_CHECKING:
    from . import datasets
    from .command_line import console, figures
    from .continuation.by_effort import solve
    from .continuation.growth import GrowthOptions, default_depths, escape, extend, grow
    from .continuation.growth_by_gain import GainOptions, grow_by_gain
    from .continuation.multistart import multistart
    from .continuation.search import search
    from .continuation.search_options import SearchOptions
    from .continuation.smoothing import smoothed_relu
    from .controls import Controls, flatten, near_zero, random_start, unflatten
    from .data_files import read as read_data
    from .description import load as load_problem
    from .evaluation.assembly import assembled_hessian as reduced_hessian
    from .evaluation.depth import depth_used, entry_layer, idle_from, layer_table
    from .evaluation.rollout import logits, objective, rollout
    from .files import TrainingFile, load, save
    from .problem import Problem
    from .samples import Dataset
    from .solvers import NAMES as SOLVERS
    from .solvers import by_name as solver_by_name
    from .solvers.multiple_shooting import multiple_shooting, single_shooting
    from .solvers.newton import polish, polished
    from .solvers.optimality import assess
    from .solvers.progress import silent
    from .solvers.solution import Solution, SolveError, Status

#: public name -> its file and its name there; no name there: the file itself
_HOME = {
    "Problem": ("problem", "Problem"),
    "Controls": ("controls", "Controls"),
    "datasets": ("datasets", ""),
    "load_problem": ("description", "load"),
    "read_data": ("data_files", "read"),
    "Dataset": ("samples", "Dataset"),
    "TrainingFile": ("files", "TrainingFile"),
    "load": ("files", "load"),
    "save": ("files", "save"),
    "solve": ("continuation.by_effort", "solve"),
    "search": ("continuation.search", "search"),
    "SearchOptions": ("continuation.search_options", "SearchOptions"),
    "grow": ("continuation.growth", "grow"),
    "GrowthOptions": ("continuation.growth", "GrowthOptions"),
    "grow_by_gain": ("continuation.growth_by_gain", "grow_by_gain"),
    "GainOptions": ("continuation.growth_by_gain", "GainOptions"),
    "default_depths": ("continuation.growth", "default_depths"),
    "escape": ("continuation.growth", "escape"),
    "extend": ("continuation.growth", "extend"),
    "random_start": ("controls", "random_start"),
    "near_zero": ("controls", "near_zero"),
    "flatten": ("controls", "flatten"),
    "unflatten": ("controls", "unflatten"),
    "SOLVERS": ("solvers", "NAMES"),
    "solver_by_name": ("solvers", "by_name"),
    "silent": ("solvers.progress", "silent"),
    "assess": ("solvers.optimality", "assess"),
    "polished": ("solvers.newton", "polished"),
    "multiple_shooting": ("solvers.multiple_shooting", "multiple_shooting"),
    "single_shooting": ("solvers.multiple_shooting", "single_shooting"),
    "reduced_hessian": ("evaluation.assembly", "assembled_hessian"),
    "rollout": ("evaluation.rollout", "rollout"),
    "logits": ("evaluation.rollout", "logits"),
    "idle_from": ("evaluation.depth", "idle_from"),
    "figures": ("command_line.figures", ""),
    "console": ("command_line.console", ""),
    "smoothed_relu": ("continuation.smoothing", "smoothed_relu"),
    "multistart": ("continuation.multistart", "multistart"),
    "polish": ("solvers.newton", "polish"),
    "Solution": ("solvers.solution", "Solution"),
    "Status": ("solvers.solution", "Status"),
    "SolveError": ("solvers.solution", "SolveError"),
    "objective": ("evaluation.rollout", "objective"),
    "layer_table": ("evaluation.depth", "layer_table"),
    "depth_used": ("evaluation.depth", "depth_used"),
    "entry_layer": ("evaluation.depth", "entry_layer"),
}
__all__ = [
    "SOLVERS",
    "Controls",
    "Dataset",
    "GainOptions",
    "GrowthOptions",
    "Problem",
    "SearchOptions",
    "Solution",
    "SolveError",
    "Status",
    "TrainingFile",
    "assess",
    "console",
    "datasets",
    "default_depths",
    "depth_used",
    "entry_layer",
    "escape",
    "extend",
    "figures",
    "flatten",
    "grow",
    "grow_by_gain",
    "idle_from",
    "layer_table",
    "load",
    "load_problem",
    "logits",
    "multiple_shooting",
    "multistart",
    "near_zero",
    "objective",
    "polish",
    "polished",
    "random_start",
    "read_data",
    "reduced_hessian",
    "rollout",
    "save",
    "search",
    "silent",
    "single_shooting",
    "smoothed_relu",
    "solve",
    "solver_by_name",
    "unflatten",
]

if not TYPE_CHECKING:  # a type checker that sees __getattr__ would take any name for public

    def __getattr__(name: str) -> object:
        if name not in _HOME:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        file, there = _HOME[name]
        module = importlib.import_module(f".{file}", __name__)
        return getattr(module, there) if there else module


def __dir__() -> list[str]:
    return sorted(__all__)
