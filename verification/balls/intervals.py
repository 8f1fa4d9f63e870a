"""Arrays of intervals [lo, hi] in float64, and tabulated functions over them: for many boxes.

A result of one operation rounded to nearest lies between its two neighbours among the floats, so
`nextafter` away from the interval encloses (NaN stays NaN and decides nothing).  Minima and maxima
are exact.  Unlike midpoint-radius arrays, products of wide intervals are hulls, not wider.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .midrad import EPS, TINY, UP, MidRad

#: spacing of the tables, a power of two: v - i STEP is exact for the nearest i (Sterbenz)
STEP = 2.0**-9
_HALF = STEP / 2
_FACTORIAL = (1.0, 1.0, 2.0, 6.0, 24.0)


class Interval:
    """All arrays between `lo` and `hi`, entry by entry; two float64 arrays that broadcast."""

    __slots__ = ("hi", "lo")
    __array_ufunc__ = None

    def __init__(self, lo: np.ndarray, hi: np.ndarray) -> None:
        self.lo, self.hi = lo, hi

    def __getitem__(self, key: Any) -> Interval:
        return Interval(self.lo[key], self.hi[key])

    def __neg__(self) -> Interval:
        return Interval(-self.hi, -self.lo)

    def __add__(self, other: Interval) -> Interval:
        return _outwards(self.lo + other.lo, self.hi + other.hi)

    def __sub__(self, other: Interval) -> Interval:
        return _outwards(self.lo - other.hi, self.hi - other.lo)

    def __mul__(self, other: Interval) -> Interval:
        p, q = self.lo * other.lo, self.hi * other.hi
        s, t = self.lo * other.hi, self.hi * other.lo
        low = np.minimum(np.minimum(p, q), np.minimum(s, t))
        return _outwards(low, np.maximum(np.maximum(p, q), np.maximum(s, t)))

    def square(self) -> Interval:
        """Return x * x with one x: never negative."""
        p, q = self.lo * self.lo, self.hi * self.hi
        low = np.where((self.lo <= 0) & (self.hi >= 0), 0.0, np.minimum(p, q))
        found = _outwards(low, np.maximum(p, q))
        return Interval(np.maximum(found.lo, 0.0), found.hi)

    def magnitude(self) -> np.ndarray:
        """Return the largest absolute value."""
        return np.maximum(np.abs(self.lo), np.abs(self.hi))

    def sum(self) -> Interval:
        """Over the first axis: |fl(sum) - sum| <= gamma_n sum |a|, in any order."""
        n = len(self.lo)
        error = (np.abs(self.lo) + np.abs(self.hi)).sum(axis=0) * (2 * n * EPS) + n * TINY
        return _outwards(self.lo.sum(axis=0) - error, self.hi.sum(axis=0) + error)


def _outwards(lo: np.ndarray, hi: np.ndarray) -> Interval:
    return Interval(np.nextafter(lo, -np.inf), np.nextafter(hi, np.inf))


def point(x: np.ndarray | float) -> Interval:
    """Return the floats themselves."""
    x = np.asarray(x, dtype=np.float64)
    return Interval(x, x)


def of(x: MidRad) -> Interval:
    """Return the hull of a midpoint-radius array."""
    return _outwards(x.mid - x.rad, x.mid + x.rad)


class Tabulated:
    """A smooth function f with two derivatives over intervals in [-reach, reach].

    At the nearest node c, d = v - c and |d| <= STEP / 2, Taylor's theorem gives

        |f^(k)(v) - sum_{j<4-k} f^(k+j)(c) d^j / j!| <= L |d|^(4-k) / (4-k)!,   L >= sup |f''''|.

    On a cell on which the same expansion of f^(k+1) excludes 0, f^(k) is monotone; the other cells
    form few groups with a known range.  So the range over an interval is the hull of the values
    at its ends and of the ranges of the groups that it meets.  Beyond the reach: infinite.
    """

    def __init__(self, at: Callable[[np.ndarray], list[MidRad]], L: float, reach: float) -> None:
        self.last = int(np.ceil(reach / STEP)) + 1
        nodes = np.arange(-self.last, self.last + 1) * STEP
        f = at(nodes)
        self.terms, self.groups = [], []
        slack = [_variation(f, k, L) for k in range(4)]
        for k in range(3):
            parts = [f[k + j].mid / _FACTORIAL[j] for j in range(4 - k)]
            # ten roundings at most, each of a number below the sum of all terms
            size = sum(np.abs(p) for p in parts)
            wide = sum(g.rad for g in f[k:]) + L * _HALF ** (4 - k) / _FACTORIAL[4 - k]
            self.terms.append(np.stack([*parts, (wide + 32 * EPS * size + TINY) * UP]))
            self.groups.append(_groups(nodes, f[k], f[k + 1], slack[k], slack[k + 1]))

    def _at(self, v: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray]:
        """Bounds of f^(k) at floats."""
        i = np.clip(np.rint(np.nan_to_num(v / STEP)), -self.last, self.last)
        d = v - i * STEP
        *terms, error = self.terms[k][:, i.astype(np.int64) + self.last]
        value = terms[-1]
        for term in terms[-2::-1]:
            value = term + d * value
        beyond = ~(np.abs(d) <= _HALF)
        value, error = np.where(beyond, 0.0, value), np.where(beyond, np.inf, error)
        return np.nextafter(value - error, -np.inf), np.nextafter(value + error, np.inf)

    def __call__(self, v: Interval, k: int) -> Interval:
        """Return the range of f^(k), k = 0, 1, 2."""
        low, high = self._at(v.lo, k)
        low_2, high_2 = self._at(v.hi, k)
        low, high = np.minimum(low, low_2), np.maximum(high, high_2)
        for start, stop, least, most in self.groups[k]:
            met = (v.lo <= stop) & (v.hi >= start)
            low = np.where(met, np.minimum(low, least), low)
            high = np.where(met, np.maximum(high, most), high)
        return Interval(low, high)


def _variation(f: list[MidRad], k: int, L: float) -> np.ndarray:
    """Bound |f^(k)(v) - f^(k)(c)| over each cell |v - c| <= STEP / 2."""
    found = np.full(f[0].shape, L * _HALF ** (4 - k) / _FACTORIAL[4 - k])
    for j in range(1, 4 - k):
        found += f[k + j].magnitude() * _HALF**j
    return found * UP


def _groups(
    nodes: np.ndarray, f: MidRad, slope: MidRad, around: np.ndarray, slope_around: np.ndarray
) -> list[tuple[float, float, float, float]]:
    """Runs of cells on which the slope may vanish: (start, stop, least, most)."""
    flat = ~((np.abs(slope.mid) - slope.rad) * (1 - 8 * EPS) > slope_around)
    low = f.mid - (f.rad + around) * UP
    high = f.mid + (f.rad + around) * UP
    runs = np.flatnonzero(np.diff(np.concatenate([[False], flat, [False]]).astype(int)))
    return [
        (
            float(nodes[i] - _HALF),
            float(nodes[j - 1] + _HALF),
            float(np.nextafter(low[i:j].min(), -np.inf)),
            float(np.nextafter(high[i:j].max(), np.inf)),
        )
        for i, j in runs.reshape(-1, 2)
    ]
