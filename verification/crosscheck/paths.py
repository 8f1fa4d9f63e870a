"""Two networks of one problem, layer by layer: what the exact optimum does and the trained one not.

l_k  stage cost      |u_k|  control norm      F(x_k)  data cost
d_k  root mean square over samples of the distance of the logits to their minimiser subspace
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ocp.files import TrainingFile

from ..evaluation.layers import depth_used, entry_layer
from ..evaluation.subject import TrainingSubject
from ..report import Finding, Verdict


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Path:
    """One network's path.

    stage_cost, control_norm : l_k and |u_k|, (N,);  data_cost : F(x_k), (N+1,)
    distance : d_k, (N+1,); None for hard targets, which have no minimiser
    entry : entry layer of the turnpike, N + 1 if there is none;  used : depth used
    """

    name: str
    objective: float
    stage_cost: np.ndarray
    control_norm: np.ndarray
    data_cost: np.ndarray
    distance: np.ndarray | None
    entry: int
    used: int

    @property
    def depth(self) -> int:
        return len(self.stage_cost)


def path(name: str, content: TrainingFile) -> Path:
    """Evaluate one file's path with the judge's own arithmetic."""
    subject = TrainingSubject(content)
    has_minimisers = not subject.minimisers.applicable
    return Path(
        name=name,
        objective=subject.survey.objective,
        stage_cost=subject.survey.layer_cost,
        control_norm=subject.controls.norms(),
        data_cost=subject.survey.data_cost,
        distance=np.sqrt((subject.distances**2).mean(axis=1)) if has_minimisers else None,
        entry=entry_layer(subject),
        used=depth_used(subject),
    )


def compare(exact: Path, trained: Path) -> list[Finding]:
    """Return findings on where the trained path leaves the exact one.

    Raises
    ------
    ValueError : the depths differ
    """
    if exact.depth != trained.depth:
        raise ValueError(
            f"{trained.name} has depth {trained.depth}; wanted that of {exact.name}, {exact.depth}"
        )
    excess = trained.stage_cost - exact.stage_cost
    k = int(excess.argmax())
    norm = trained.control_norm[exact.entry :].max(initial=0.0)
    idle = exact.control_norm[exact.entry :].max(initial=0.0)
    lines = [
        ("stage_cost", float(excess[k]), f"layer {k}", "largest excess of the trained stage cost"),
        (
            "entry",
            float(trained.entry),
            f"layer {trained.entry}",
            f"turnpike entry of {trained.name}; {exact.name} enters at layer {exact.entry}",
        ),
        (
            "idling",
            float(norm),
            "",
            f"largest |u_k| once {exact.name} has entered, whose own is {idle:.3g}",
        ),
    ]
    return [
        Finding(
            name=f"path.{name}",
            verdict=Verdict.OBSERVED,
            measured=measured,
            where=where,
            message=message,
        )
        for name, measured, where, message in lines
    ]


def entry_by_depth(paths: Sequence[Path]) -> dict[int, tuple[int, int]]:
    """Return depth -> (entry layer, depth used), for a ladder of depths."""
    return {p.depth: (p.entry, p.used) for p in sorted(paths, key=lambda p: p.depth)}
