"""What each block of a wrapped model does on given samples, and how many blocks to keep.

    relative update     mean over samples of |x_{k+1} - s_k| / |s_k|
    direction change    mean over samples of 1 - cos(x_{k+1}, s_k)

s_k is what the idle block would leave of x_k: the state itself, or the block's shortcut of it.

A block is called idle where its norm is at most 5 % of the largest and its relative update at most
1 %.  A weight that a normalisation follows is a free scale; such a block counts with its folded
norm, or, where none can be computed, never as idle.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from ..evaluation import is_right
from ..model import target_entropy
from . import controls
from .arguments import Call, as_call
from .losses import check_labels
from .residual import probing
from .wrapper import Wrapped

IDLE_NORM, IDLE_UPDATE = 0.05, 0.01
#: normal quantile of a two-sided interval of 95 %
QUANTILE = 1.959964


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BlockReport:
    """What was seen of N blocks on the samples, in eval mode.

    control_norm : |u_k|, (N,);  folded_norm : with every BatchNorm folded in, (N,), NaN where no
        BatchNorm follows a weight or where another norm does
    free_scale : whether a norm of any kind follows a weight, (N,)
    relative_update, direction_change : (N,);  ends_norm : of stem, shortcuts and head, as trained
    cross_entropy, accuracy : after each block, (N + 1,), the soft cross-entropy F and shares
    right : (N + 1, targets) whether each target that counts is classified right
    objective : J on these samples
    """

    control_norm: np.ndarray
    folded_norm: np.ndarray
    free_scale: np.ndarray
    relative_update: np.ndarray
    direction_change: np.ndarray
    ends_norm: float
    cross_entropy: np.ndarray
    accuracy: np.ndarray
    right: np.ndarray
    objective: float

    @property
    def depth(self) -> int:
        """N."""
        return len(self.control_norm)

    @property
    def idle_from(self) -> int:
        """The least k from which on all blocks are idle; N where the last one is not."""
        size = np.where(self.free_scale, self.folded_norm, self.control_norm)
        # NaN compares False: a block whose size is unknown is never idle
        quiet = (size <= IDLE_NORM * np.nanmax(size)) if np.isfinite(size).any() else size < 0
        idle = quiet & (self.relative_update <= IDLE_UPDATE)
        busy = np.flatnonzero(~idle)
        return int(busy[-1]) + 1 if len(busy) else 0

    def lost(self, k: int) -> tuple[float, tuple[float, float]]:
        """Accuracy of all blocks less that of the first k, in points, and its paired interval."""
        points = 100 * float(self.accuracy[-1] - self.accuracy[k])
        return points, paired_interval(self.right[-1], self.right[k])

    def table(self) -> str:
        """One line a block, in plain text."""
        lines = ["  k       |u_k|      folded   rel. update   1 - cos        F   right [%]"]
        for k in range(self.depth + 1):
            seen = f"{self.cross_entropy[k]:9.4f} {100 * self.accuracy[k]:8.2f}"
            if k == self.depth:
                lines.append(f"{k:3d} {'':50s} {seen}")
                continue
            folded = f"{self.folded_norm[k]:.3e}" if np.isfinite(self.folded_norm[k]) else "-"
            lines.append(
                f"{k:3d} {self.control_norm[k]:11.3e} {folded:>11s} {self.relative_update[k]:13.3e}"
                f" {self.direction_change[k]:11.3e}  {seen}"
            )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """How many blocks to keep, chosen on validation samples.

    kept : the least number whose accuracy is within `allowed` of all blocks'
    lost, interval : accuracy of all blocks less that of the kept ones, in points, and its 95 %
        interval over the samples, paired
    """

    kept: int
    lost: float
    interval: tuple[float, float]
    allowed: float


def block_report(wrapped: Wrapped, batches: Iterable[tuple[Any, Tensor]]) -> BlockReport:
    """Evaluate all stages and blocks on batches of (inputs, labels).

    inputs : a tensor, a tuple of arguments, or a mapping of keywords

    Raises
    ------
    ValueError : no batch, or labels that do not fit
    """
    gathered = _Gathered()
    for inputs, labels in batches:
        call = as_call(inputs)
        wrapped.examined(*call.args, **call.kwargs)
        gathered.add(wrapped, call, labels)
    if not gathered.targets:
        raise ValueError("no batch is given; wanted pairs of inputs and labels")
    found = wrapped.facts.weighed
    norm = controls.norms(found).cpu().numpy()
    folded = folded_norms(wrapped)
    F = np.sum(gathered.cost, axis=0) / gathered.targets
    right = np.concatenate(gathered.right, axis=1)
    if wrapped.label_smoothing is not None:
        n_classes = gathered.n_classes
        F = F + target_entropy(n_classes, wrapped.p_d_of(n_classes))
    h, r = wrapped.h, wrapped.r
    ends = controls.ends_norm(found)
    J = h * float((wrapped.beta * F[:-1] + 0.5 * r * norm**2).sum()) + wrapped.gamma * float(F[-1])
    return BlockReport(
        control_norm=norm,
        folded_norm=np.array([math.nan if v is None else v for v in folded]),
        free_scale=np.array([v is not None for v in folded]),
        relative_update=np.sum(gathered.update, axis=0) / gathered.rows,
        direction_change=np.sum(gathered.direction, axis=0) / gathered.rows,
        ends_norm=ends,
        cross_entropy=F,
        accuracy=right.mean(axis=1),
        right=right,
        objective=J + 0.5 * wrapped.r_ends * ends**2,
    )


def choose(report: BlockReport, allowed: float = 0.3) -> Choice:
    """Choose how many blocks to keep: the least within `allowed` points of all of them.

    Take validation samples: a choice that has seen the test samples says nothing about them.
    """
    lost = 100 * (report.accuracy[-1] - report.accuracy)
    kept = int(np.flatnonzero(lost <= allowed + 1e-9)[0])
    points, interval = report.lost(kept)
    return Choice(kept=kept, lost=points, interval=interval, allowed=allowed)


def paired_interval(full: np.ndarray, cropped: np.ndarray) -> tuple[float, float]:
    """95 % interval of the accuracy of one network less another's on the same targets, in points.

    Normal, over the differences of 0, 1 or -1; of no width where no target differs.
    """
    difference = full.astype(float) - cropped.astype(float)
    mean = 100 * float(difference.mean())
    half = 100 * QUANTILE * float(difference.std(ddof=1)) / math.sqrt(len(difference))
    return mean - half, mean + half


def folded_norms(wrapped: Wrapped) -> list[float | None]:
    """`controls.folded_norm` of every block, on the samples that were kept."""
    facts, runs = wrapped.facts, wrapped.runs
    with probing(wrapped.model):
        try:
            runs.first(facts.sample, keep_calls=True)
            return [
                controls.folded_norm(block, call, skip)
                for block, call, skip in zip(
                    wrapped.blocks, runs.tape.calls, facts.skips, strict=True
                )
            ]
        finally:
            runs.tape.clear()


class _Gathered:
    """Sums over batches of what each block does."""

    def __init__(self) -> None:
        self.targets = self.rows = self.n_classes = 0
        self.cost: list[np.ndarray] = []
        self.right: list[np.ndarray] = []
        self.update: list[np.ndarray] = []
        self.direction: list[np.ndarray] = []

    def add(self, wrapped: Wrapped, call: Call, labels: Tensor) -> None:
        """Run one batch."""
        with probing(wrapped.model):
            z, moved = wrapped.stages_and_updates(call)
            check_labels(labels, z, wrapped.ignore_index)
            F = wrapped.data_costs(z, labels)
            counted = labels != wrapped.ignore_index
            y = labels[counted]
            right = is_right(z[:, counted], y).cpu().numpy()
        self.n_classes = z.shape[-1]
        self.targets += len(y)
        self.rows += moved.shape[-1]
        self.cost.append(F.double().cpu().numpy() * len(y))
        self.right.append(right)
        self.update.append(moved[0].sum(dim=-1).cpu().numpy())
        self.direction.append(moved[1].sum(dim=-1).cpu().numpy())
