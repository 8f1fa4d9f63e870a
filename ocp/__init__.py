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
    from .command_line.figures import save_figures
    from .continuation.growth import GrowthOptions, grow, solve
    from .continuation.growth_by_gain import GainOptions, grow_by_gain
    from .continuation.multistart import multistart
    from .continuation.smoothing import smoothed_relu
    from .controls import Controls
    from .description import load as load_problem
    from .evaluation.depth import depth_used, entry_layer, layer_table
    from .evaluation.rollout import objective
    from .files import TrainingFile, load, save
    from .problem import Problem
    from .solvers.newton import polish
    from .solvers.solution import Solution, SolveError, Status

#: public name -> its file and its name there; no name there: the file itself
_HOME = {
    "Problem": ("problem", "Problem"),
    "Controls": ("controls", "Controls"),
    "datasets": ("datasets", ""),
    "load_problem": ("description", "load"),
    "TrainingFile": ("files", "TrainingFile"),
    "load": ("files", "load"),
    "save": ("files", "save"),
    "solve": ("continuation.growth", "solve"),
    "grow": ("continuation.growth", "grow"),
    "GrowthOptions": ("continuation.growth", "GrowthOptions"),
    "grow_by_gain": ("continuation.growth_by_gain", "grow_by_gain"),
    "GainOptions": ("continuation.growth_by_gain", "GainOptions"),
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
    "save_figures": ("command_line.figures", "save_figures"),
}
__all__ = [
    "Controls",
    "GainOptions",
    "GrowthOptions",
    "Problem",
    "Solution",
    "SolveError",
    "Status",
    "TrainingFile",
    "datasets",
    "depth_used",
    "entry_layer",
    "grow",
    "grow_by_gain",
    "layer_table",
    "load",
    "load_problem",
    "multistart",
    "objective",
    "polish",
    "save",
    "save_figures",
    "smoothed_relu",
    "solve",
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
