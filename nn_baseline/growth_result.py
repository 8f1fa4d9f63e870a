"""What a growth found: each growth's gains, each depth's accuracy, and why a depth was chosen."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .model import Network
from .paired import Difference, difference
from .result import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One growth, from depth - m to `depth` layers, beside m layers that stayed idle.

    raw_gain : J_N + beta m h F(x_N) before it, minus J_{N+m} after it
    gain : J of the idle extension after the same steps, minus J_{N+m}
    gained : validation accuracy with the new layers minus without them
    work : layers times passes over the samples, of all trainings so far
    """

    depth: int
    raw_gain: float
    gain: float
    idle: float
    objective: float
    validation_loss: float
    idle_validation_loss: float
    validation_accuracy: float
    gained: Difference
    kept: bool
    work: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Stage:
    """A depth on the way, before annealing, on validation data.

    objective : J at the depth of its last comparison; not comparable between depths
    passes : over the samples, that its parameters have seen
    right : which samples are classified right, (n,) bool
    """

    depth: int
    network: Network
    objective: float
    passes: float
    accuracy: float
    loss: float
    right: np.ndarray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Grown:
    """A grown network.

    network, depth : of the depth that validation accuracy needs, annealed
    gain_depth : the deepest growth that was worth it, by J
    work : layers times passes over the samples
    passes : over the samples, that the network's parameters have seen
    """

    network: Network
    depth: int
    passes: float
    gain_depth: int
    steps: tuple[Step, ...]
    stages: tuple[Stage, ...]
    status: Status
    message: str
    work: float
    seconds: float

    def curve(self) -> list[dict]:
        """Return each depth tried, beside the best of them: points of accuracy with interval."""
        best = max(self.stages, key=lambda stage: (stage.accuracy, -stage.depth))
        rows = []
        for stage in self.stages:
            lost = difference(stage.right, best.right)
            rows.append(
                {
                    "depth": stage.depth,
                    "accuracy": stage.accuracy,
                    "points": lost.points,
                    "low": lost.low,
                    "high": lost.high,
                    "loss": stage.loss,
                    "objective": stage.objective,
                }
            )
        return rows
