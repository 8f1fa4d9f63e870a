"""Who is classified right, whose prediction flips: decided only where the balls decide it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..report import Between
from . import arithmetic as balls
from .enclosures import Enclosures


def rightness(found: Enclosures, k: int) -> tuple[np.ndarray, np.ndarray]:
    """Whether each sample is surely right at layer k, and surely wrong; (n_d,) of bool, twice."""
    z, labels = found.logits[k], found.problem.labels
    with balls.precision(found.bits):
        true = np.take_along_axis(z, labels[:, None], axis=1)
        ahead, behind = np.greater(true, z), np.less_equal(true, z)
    np.put_along_axis(ahead, labels[:, None], True, axis=1)
    np.put_along_axis(behind, labels[:, None], False, axis=1)
    return ahead.all(axis=1), behind.any(axis=1)


def winners(found: Enclosures, k: int) -> np.ndarray:
    """The first largest logit of each sample at layer k, -1 where it is not decided."""
    z = found.logits[k]
    top = balls.nearest(z).argmax(axis=1)
    with balls.precision(found.bits):
        best = np.take_along_axis(z, top[:, None], axis=1)
        beats, ties = best > z, best >= z
    column = np.arange(z.shape[1])
    first = np.where(column < top[:, None], beats, ties) | (column == top[:, None])
    return np.where(first.all(axis=1), top, -1)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Flips:
    """Predictions that change when the network is cropped.

    flipped : their number;  safe : samples whose margin exceeds the spread of their logits' changes
    first : a sample that surely flips, or -1;  n_samples : n_d
    """

    flipped: Between
    safe: Between
    first: int
    n_samples: int


def flips(found: Enclosures, k: int) -> Flips:
    """Compare the predictions at the last layer with those at layer k."""
    N, n_d = found.problem.depth, found.problem.n_samples
    before, after = winners(found, N), winners(found, k)
    right, right_after = rightness(found, N), rightness(found, k)
    decided = (before >= 0) & (after >= 0)
    turned = (right[0] & right_after[1]) | (right[1] & right_after[0])
    surely = turned | (decided & (before != after))
    stays = (right[0] & right_after[0]) | (right[1] & right_after[1])
    never = decided & (before == after) & stays
    if k == N:  # the same logits: whatever they are, nothing changes
        surely, never = np.zeros(n_d, dtype=bool), np.ones(n_d, dtype=bool)
    safe, unsafe = _safe(found, k)
    return Flips(
        flipped=Between(int(surely.sum()), n_d - int(never.sum())),
        safe=Between(int(safe.sum()), n_d - int(unsafe.sum())),
        first=int(np.flatnonzero(surely)[0]) if surely.any() else -1,
        n_samples=n_d,
    )


def _safe(found: Enclosures, k: int) -> tuple[np.ndarray, np.ndarray]:
    """margin > max_j change_j - min_j change_j: surely so, and surely not."""
    z = found.logits[-1]
    top = balls.nearest(z).argmax(axis=1)[:, None]
    others = np.arange(z.shape[1]) != top
    with balls.precision(found.bits):
        margin = np.take_along_axis(z, top, axis=1) - z
        change = found.logits[k] - z if k < found.problem.depth else z * 0
        spread = _extreme(change, "max") - _extreme(change, "min")
        surely = ((margin > spread) | ~others).all(axis=1)
        surely_not = ((margin <= spread) & others).any(axis=1)
    return surely, surely_not


def _extreme(rows: np.ndarray, which: str) -> np.ndarray:
    """The largest or the smallest of each row, (rows, 1)."""
    found = rows[:, 0]
    for column in rows.T[1:]:
        found = np.array(
            [getattr(a, which)(b) for a, b in zip(found, column, strict=True)], dtype=object
        )
    return found[:, None]
