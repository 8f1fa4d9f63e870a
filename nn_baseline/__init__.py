"""The statement's networks in PyTorch: train them, crop them, and export networks of one's own.

    network = nn_baseline.start_network(problem, nn_baseline.Options(epochs=100))
    nn_baseline.train(network, nn_baseline.Options(epochs=100))
    nn_baseline.save_training("trained.safetensors", network)

Any other residual network gets the loss at every block by `wrap`.

Names are loaded on first use: `python -m nn_baseline --help` starts without torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import cropping, data
    from .checkpoint import load_training, save_training
    from .classifier import TurnpikeClassifier
    from .deployment import Deployed, deployed
    from .evaluation import Layers, evaluate
    from .export import dense_network, network_trace, stage_trace
    from .growing import grow
    from .growth_plan import Plan
    from .initialisation import problem_of
    from .model import Network, soft_cross_entropy
    from .options import Options
    from .result import Status
    from .start import samples, start_network
    from .training import train
    from .wrapped.block_report import block_report, choose
    from .wrapped.cropping import crop
    from .wrapped.state_dicts import load_state
    from .wrapped.tracing import write_trace
    from .wrapped.wrapper import Wrapped, wrap

#: file -> its public names; a file without names is public itself
_HOME: dict[str, tuple[str, ...]] = {
    "checkpoint": ("load_training", "save_training"),
    "classifier": ("TurnpikeClassifier",),
    "cropping": (),
    "data": (),
    "deployment": ("Deployed", "deployed"),
    "evaluation": ("Layers", "evaluate"),
    "export": ("dense_network", "network_trace", "stage_trace"),
    "growing": ("grow",),
    "growth_plan": ("Plan",),
    "initialisation": ("problem_of",),
    "model": ("Network", "soft_cross_entropy"),
    "options": ("Options",),
    "start": ("samples", "start_network"),
    "result": ("Status",),
    "training": ("train",),
    "wrapped.block_report": ("block_report", "choose"),
    "wrapped.cropping": ("crop",),
    "wrapped.state_dicts": ("load_state",),
    "wrapped.tracing": ("write_trace",),
    "wrapped.wrapper": ("Wrapped", "wrap"),
}
__all__ = [
    "Deployed",
    "Layers",
    "Network",
    "Options",
    "Plan",
    "Status",
    "TurnpikeClassifier",
    "Wrapped",
    "block_report",
    "choose",
    "crop",
    "cropping",
    "data",
    "dense_network",
    "deployed",
    "evaluate",
    "grow",
    "load_state",
    "load_training",
    "network_trace",
    "problem_of",
    "samples",
    "save_training",
    "soft_cross_entropy",
    "stage_trace",
    "start_network",
    "train",
    "wrap",
    "write_trace",
]


if not TYPE_CHECKING:  # a type checker that sees __getattr__ would take any name for public

    def __getattr__(name: str) -> object:
        for module, names in _HOME.items():
            if name in names:
                return getattr(importlib.import_module(f".{module}", __name__), name)
            if name == module and not names:
                return importlib.import_module(f".{module}", __name__)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
