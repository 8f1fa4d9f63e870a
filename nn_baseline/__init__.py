"""The statement's networks in PyTorch: train them, crop them, and export networks of one's own.

    network = nn_baseline.start_network(problem, nn_baseline.Options(epochs=100))
    nn_baseline.train(network, nn_baseline.Options(epochs=100))
    nn_baseline.save_training("trained.safetensors", network)

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
}
__all__ = [
    "Deployed",
    "Layers",
    "Network",
    "Options",
    "Plan",
    "Status",
    "TurnpikeClassifier",
    "cropping",
    "data",
    "dense_network",
    "deployed",
    "evaluate",
    "grow",
    "load_training",
    "network_trace",
    "problem_of",
    "samples",
    "save_training",
    "soft_cross_entropy",
    "stage_trace",
    "start_network",
    "train",
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
