"""The boxes of a branch and bound: pruned, split, set aside with their one stationary point.

What each test proves stands in `global_minimum`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .intervals import Interval, point
from .scalar_network import ScalarNetwork

#: boxes of one sweep: their arrays stay in the cache
CHUNK = 4096
#: the box I around X, relative to X: a stationary point on a face of X is inside of I
INFLATION = 1.25
#: a box as narrow as this is no longer split
NARROW = 1e-7
#: boxes between two lines of progress: some seconds
OFTEN = 100_000


class Search:
    """The boxes that wait, those set aside, and the best point so far."""

    def __init__(self, network: ScalarNetwork, upper: float, best: np.ndarray) -> None:
        self.network, self.upper, self.best = network, upper, best
        self.boxes = 0
        #: (I, K) with exactly one stationary point in I, which is in K
        self.unique: list[tuple[Interval, Interval]] = []
        #: boxes too narrow to split, and boxes that the limit left
        self.narrow: list[Interval] = []
        self.waiting: list[Interval] = []

    def run(self, radius: float, most: int, say: Callable[[str], None]) -> None:
        d = 2 * self.network.depth
        side = np.full((d, 1), radius)
        self.waiting = [Interval(-side, side)]
        told = 0
        while self.waiting and self.boxes < most:
            X = self.waiting.pop()
            self.boxes += X.lo.shape[1]
            X, slope = self._pruned(X)
            if not X.lo.size:
                continue
            halves = self._split(X, slope)
            step = CHUNK // 2
            for start in range(0, halves.lo.shape[1], step):
                self.waiting.append(halves[:, start : start + step])
            self._gather()
            if self.boxes - told >= OFTEN:
                told = self.boxes
                say(f"global minimum: {told} boxes, V_N <= {self.upper:.9g}")

    def _gather(self) -> None:
        """Join the last small chunks: a sweep over few boxes costs as much as over many."""
        while len(self.waiting) > 1:
            a, b = self.waiting[-2:]
            if a.lo.shape[1] + b.lo.shape[1] > CHUNK:
                break
            self.waiting[-2:] = [joined([a, b])]

    def _pruned(self, X: Interval) -> tuple[Interval, np.ndarray]:
        """Return what of the boxes X still can hold a global minimiser, and max |dJ/du| there."""
        for around, _ in self.unique:
            X = kept(X, ~inside(X, around).all(axis=0))
        J, G = self.network.objective_and_gradient(X)
        away = (J.lo > self.upper) | ((G.lo > 0) | (G.hi < 0)).any(axis=0)
        X, G = kept(X, ~away), kept(G, ~away)
        if not X.lo.size:
            return X, X.lo
        c = np.clip(0.5 * (X.lo + X.hi), X.lo, X.hi)
        J_c, G_c = self.network.objective_and_gradient(point(c))
        self._improve(c, J_c.hi)
        mean_value = J_c + (G * (X - point(c))).sum()
        stay = ~(mean_value.lo > self.upper)
        X, slope = kept(X, stay), G.magnitude()[:, stay]
        if not X.lo.size:
            return X, slope
        X, stay = self._newton(X, c[:, stay], kept(G_c, stay))
        return X, slope[:, stay]

    def _improve(self, c: np.ndarray, upper: np.ndarray) -> None:
        at = int(np.where(np.isnan(upper), np.inf, upper).argmin())
        if upper[at] < self.upper:
            self.upper, self.best = float(upper[at]), c[:, at].copy()

    def _newton(self, X: Interval, c: np.ndarray, G_c: Interval) -> tuple[Interval, np.ndarray]:
        """Krawczyk's operator on the boxes around X: drop, set aside or shrink, and who stays."""
        half = INFLATION * np.maximum(X.hi - c, c - X.lo)
        around = Interval(np.minimum(c - half, X.lo), np.maximum(c + half, X.hi))
        H = self.network.hessian(around)
        d = len(c)
        diagonal = np.arange(d)
        concave = (H.hi[diagonal, diagonal] < 0).any(axis=0)
        middle = np.moveaxis(0.5 * (H.lo + H.hi), -1, 0)
        Y = np.moveaxis(_inverses(middle), 0, -1)
        shift, moved = around - point(c), []
        for i in range(d):
            step = _dot([point(Y[i, k]) for k in range(d)], G_c)
            rest = []
            for j in range(d):
                product = _dot([point(Y[i, k]) for k in range(d)], H[:, j])
                rest.append(point(float(i == j)) - product)
            moved.append(point(c[i]) - step + _dot(rest, shift))
        K = Interval(np.stack([x.lo for x in moved]), np.stack([x.hi for x in moved]))
        misses = ((K.lo > X.hi) | (K.hi < X.lo)).any(axis=0)
        proved = ((K.lo > around.lo) & (K.hi < around.hi)).all(axis=0) & ~concave & ~misses
        for b in np.flatnonzero(proved):
            self._set_aside(around[:, b : b + 1], K[:, b : b + 1])
        stay = np.asarray(~(concave | misses | proved))
        # fmax and fmin: where K is not a number it cuts nothing
        cut = Interval(np.fmax(X.lo, K.lo), np.fmin(X.hi, K.hi))
        return kept(cut, stay), stay

    def _set_aside(self, around: Interval, K: Interval) -> None:
        """Keep (I, K) unless the stationary point of I is the one of a box kept before."""
        if not any(inside(K, other).all() for other, _ in self.unique):
            self.unique.append((around, K))

    def _split(self, X: Interval, slope: np.ndarray) -> Interval:
        """Bisect the side along which the gradient changes J most; narrow boxes are put aside."""
        width = X.hi - X.lo
        narrow = (width < NARROW).all(axis=0)
        if narrow.any():
            self.narrow.append(kept(X, narrow))
            X, width, slope = kept(X, ~narrow), width[:, ~narrow], slope[:, ~narrow]
        columns = np.arange(X.lo.shape[1])
        # where the slope is unknown, the widest
        slope = np.where(np.isfinite(slope), slope, 1e100)
        axis = (width * slope).argmax(axis=0)
        middle = 0.5 * (X.lo[axis, columns] + X.hi[axis, columns])
        left, right = X.hi.copy(), X.lo.copy()
        left[axis, columns] = right[axis, columns] = middle
        return joined([Interval(X.lo, left), Interval(right, X.hi)])


def kept(X: Interval, stay: Any) -> Interval:
    """Return the boxes for which `stay`, (B,), holds."""
    return Interval(X.lo[:, stay], X.hi[:, stay])


def joined(parts: list[Interval]) -> Interval:
    """Return all boxes of the parts."""
    return Interval(
        np.concatenate([p.lo for p in parts], axis=1), np.concatenate([p.hi for p in parts], axis=1)
    )


def inside(X: Interval, Y: Interval) -> np.ndarray:
    """Whether X lies in Y, entry by entry."""
    return (X.lo >= Y.lo) & (X.hi <= Y.hi)


def _dot(row: list[Interval], x: Interval) -> Interval:
    total = row[0] * x[0]
    for k in range(1, len(row)):
        total = total + row[k] * x[k]
    return total


def _inverses(H: np.ndarray) -> np.ndarray:
    """Approximate inverses, (B, d, d), the identity where there is none: no bound rests on them."""
    eye = np.eye(H.shape[-1])
    H = np.where(np.isfinite(H).all(axis=(1, 2), keepdims=True), H, eye)
    try:
        Y = np.linalg.inv(H)
    except np.linalg.LinAlgError:
        Y = np.linalg.pinv(H)
    return np.where(np.isfinite(Y).all(axis=(1, 2), keepdims=True), Y, eye)
