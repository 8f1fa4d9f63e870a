"""Two classifiers on the same samples: the difference of their accuracies, with its interval.

The depth that a task needs is the least one whose interval to the best depth holds a loss that
nobody minds; the samples are the same, so only those count that one of the two gets right alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

#: two-sided 95 % of the normal distribution
_Z = 1.959963984540054
#: points of accuracy that a shallower network may lose; our choice
TOLERANCE = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """An accuracy minus another on the same samples, in points of 100, with a 95 % interval."""

    points: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.points:+.2f} points [{self.low:+.2f}, {self.high:+.2f}]"


def difference(right: np.ndarray, other: np.ndarray) -> Difference:
    """Return the accuracy of `right` minus that of `other`, (n,) bool each.

    With b samples right here alone and c there alone: the estimate is (b - c)/n; the interval is
    that of the differences after half a sample has been added to each of the four cells, so that
    n samples without a difference do not give a point.

    Source: Agresti and Min, "Simple improved confidence intervals for comparing matched
    proportions", Statistics in Medicine 24, 2005.

    Raises
    ------
    ValueError : no samples, or not the same
    """
    right, other = np.asarray(right, bool), np.asarray(other, bool)
    if right.shape != other.shape or right.ndim != 1 or not len(right):
        raise ValueError(
            f"the samples have shapes {right.shape} and {other.shape}; wanted the same, at least 1"
        )
    n = len(right)
    b, c = int((right & ~other).sum()), int((~right & other).sum())
    m = n + 2
    centre = (b - c) / m
    spread = math.sqrt((b + c + 1) / m - centre**2) / math.sqrt(m)
    return Difference(
        points=100.0 * (b - c) / n,
        low=100.0 * max(-1.0, centre - _Z * spread),
        high=100.0 * min(1.0, centre + _Z * spread),
    )


def least_depth(
    depths: Sequence[int], right: Sequence[np.ndarray], tolerance: float = TOLERANCE
) -> int:
    """Return the least depth whose paired interval to the best holds -tolerance or more.

    depths : ascending;  right : of each, which validation samples it classifies right, (n,) bool;
    of equally accurate depths the least counts as the best
    """
    if not depths or len(depths) != len(right) or list(depths) != sorted(set(depths)):
        raise ValueError(f"depths are {list(depths)} for {len(right)} networks; wanted ascending")
    best = int(np.argmax([part.sum() for part in right]))
    for depth, part in zip(depths, right, strict=True):
        if difference(part, right[best]).high >= -tolerance:
            return depth
    return depths[best]  # its interval to itself holds 0
