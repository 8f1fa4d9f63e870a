"""Midpoint-radius arrays in float64: BLAS speed, and every result encloses the exact one.

A `MidRad` is the set of all arrays X with |X - mid| <= rad entry by entry.  All operations round
to nearest; what rounding may do is bounded beforehand and added to the radius.  With
u = 2^-53, EPS = 2u, TINY = 2^-1070 and any order of summation, with or without fused operations:

    c = fl(a + b)    |c - (a + b)| <= u |c| <= fl(EPS |c|)             (exact where c is subnormal)
    c = fl(a b)      |c - a b| <= EPS |c| + 2^-1074                    (gradual underflow)
    c = fl(A B)      |c - A B| <= gamma_n |A| |B| + n 2^-1075,         gamma_n = n u / (1 - n u)

n the inner dimension.  The last one holds for every product that adds the n terms of an entry in
some order, which OpenBLAS, MKL and NumPy's loops do; it does not hold for Strassen's method.
A radius is a sum of products of non-negative numbers in k roundings, so that its exact value is
at most fl(.)/(1 - gamma_k) + underflow: factors 1 + (k + 1) EPS and terms TINY repair both.  What
overflows becomes inf or nan and stays so: a result counts only where it is finite (`finite`).
Reference: S. M. Rump, Acta Numerica 19 (2010), sections 2, 9 and 10.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

from . import arithmetic as balls

#: 2u: twice the relative error of one rounding to nearest
EPS = 2.0**-52
#: above 2^4 underflow errors of 2^-1074 each
TINY = 2.0**-1070
#: radius from which a known range is worth using
WIDE = 1e-3
#: repairs up to 15 roundings of a non-negative sum
UP = 1.0 + 16 * EPS


class MidRad:
    """All arrays within `rad` of `mid`; two float64 arrays of one shape.  Slices are views."""

    __slots__ = ("mid", "rad")
    __array_ufunc__ = None  # a float array on the left leaves the operation to us

    def __init__(self, mid: np.ndarray, rad: np.ndarray) -> None:
        self.mid, self.rad = mid, rad

    @property
    def shape(self) -> tuple[int, ...]:
        return self.mid.shape

    def __getitem__(self, key: Any) -> MidRad:
        return MidRad(self.mid[key], self.rad[key])

    def __setitem__(self, key: Any, value: MidRad) -> None:
        self.mid[key], self.rad[key] = value.mid, value.rad

    def reshape(self, *shape: int) -> MidRad:
        return MidRad(self.mid.reshape(*shape), self.rad.reshape(*shape))

    @property
    def T(self) -> MidRad:
        """The last two axes exchanged."""
        return MidRad(self.mid.swapaxes(-1, -2), self.rad.swapaxes(-1, -2))

    def __neg__(self) -> MidRad:
        return MidRad(-self.mid, self.rad)

    def __add__(self, other: MidRad | np.ndarray | float) -> MidRad:
        mid = self.mid + (other.mid if isinstance(other, MidRad) else other)
        rad = np.abs(mid)
        rad *= EPS
        rad += self.rad
        if isinstance(other, MidRad):
            rad += other.rad
        rad *= UP
        return MidRad(mid, rad)

    __radd__ = __add__

    def __sub__(self, other: MidRad | np.ndarray | float) -> MidRad:
        return self + (-other)

    def __rsub__(self, other: np.ndarray | float) -> MidRad:
        return (-self) + other

    def __mul__(self, other: MidRad | np.ndarray | float) -> MidRad:
        if not isinstance(other, MidRad):
            mid = self.mid * other
            rad = self.rad * np.abs(other)
        else:
            mid = self.mid * other.mid
            # |ab - a0 b0| <= |a0| rb + ra (|b0| + rb)
            rad = np.abs(other.mid) + other.rad
            rad = self.rad * rad
            rad += np.abs(self.mid) * other.rad
        error = np.abs(mid)
        error *= EPS
        rad += error
        rad += TINY
        rad *= UP
        return MidRad(mid, rad)

    __rmul__ = __mul__

    def magnitude(self) -> np.ndarray:
        """Return floats that are not below the largest absolute value."""
        return (np.abs(self.mid) + self.rad) * UP

    def finite(self) -> bool:
        """Whether the enclosure says anything."""
        return bool(np.isfinite(self.mid).all() and np.isfinite(self.rad).all())

    def sum(self, axis: int) -> MidRad:
        """|fl(sum) - sum| <= gamma_{n-1} sum |a|, in any order."""
        n = self.shape[axis]
        mid = self.mid.sum(axis=axis)
        rad = (np.abs(self.mid) * (n * EPS) + self.rad).sum(axis=axis) * (1.0 + (n + 8) * EPS)
        return MidRad(mid, rad + (n + 2) * TINY)


def exact(values: np.ndarray) -> MidRad:
    """Return the floats themselves."""
    values = np.asarray(values, dtype=np.float64)
    return MidRad(values, np.zeros(values.shape))


def zeros(*shape: int) -> MidRad:
    """Return exact zeros."""
    return MidRad(np.zeros(shape), np.zeros(shape))


def around(middle: np.ndarray, radius: np.ndarray) -> MidRad:
    """Return a box of floats that contains middle +- radius; middle an object array of balls."""
    box = enclose(middle)
    return MidRad(box.mid, (box.rad + radius) * UP)


def enclose(values: np.ndarray) -> MidRad:
    """Return floats around the balls of an object array; unbounded ones get the radius inf or nan.

    A ball of 60 good bits is within 2^-60 |mid| of its midpoint, which float() rounds to nearest:
    EPS |float| + TINY bounds both.  Others are measured, outwards.
    """
    flat = values.ravel().tolist()
    mid = np.array([float(x) for x in flat], dtype=np.float64)
    good = np.array([x.rel_accuracy_bits() for x in flat], dtype=np.float64)
    rad = np.abs(mid) * EPS + TINY
    for i in np.flatnonzero((good < 60) | (good > 2.0**32) | ~np.isfinite(mid)):
        away = abs(flat[i] - mid[i])
        # exact balls have endless good bits; most of them are floats
        rad[i] = 0.0 if away == 0 else balls.upper(away) if np.isfinite(mid[i]) else np.nan
    return MidRad(mid.reshape(values.shape), rad.reshape(values.shape))


def matmul(a: MidRad | np.ndarray, b: MidRad | np.ndarray) -> MidRad:
    """Return a @ b, batches as NumPy's; a float array is exact.

    |AB - A0 B0| <= |A0| RB + RA (|B0| + RB), and rounding adds n EPS |A0| |B0| + n TINY, where
    n EPS >= gamma_n.  The radius takes at most n + 7 roundings.
    """
    a_mid, a_rad = (a.mid, a.rad) if isinstance(a, MidRad) else (a, None)
    b_mid, b_rad = (b.mid, b.rad) if isinstance(b, MidRad) else (b, None)
    n = a_mid.shape[-1]
    mid = a_mid @ b_mid
    size = np.abs(b_mid)
    inner = size * (n * EPS)
    inner += TINY
    if b_rad is not None:
        inner += b_rad
    rad = np.abs(a_mid) @ inner
    if a_rad is not None:
        if b_rad is not None:
            size += b_rad
        rad += a_rad @ size
    rad *= 1.0 + (n + 8) * EPS
    rad += (n + 2) * TINY
    return MidRad(mid, rad)


def concatenate(parts: list[MidRad], axis: int) -> MidRad:
    return MidRad(
        np.concatenate([p.mid for p in parts], axis=axis),
        np.concatenate([p.rad for p in parts], axis=axis),
    )


def where(condition: np.ndarray, yes: MidRad, no: MidRad) -> MidRad:
    """Return `yes` where the condition holds, else `no`, entry by entry."""
    return MidRad(np.where(condition, yes.mid, no.mid), np.where(condition, yes.rad, no.rad))


def within(x: MidRad, low: float, high: float) -> MidRad:
    """Return what of x lies in [low, high], where the exact values are known to lie.

    Thin boxes stay as they are: |fl(a - b) - (a - b)| <= EPS |fl| would only widen them.
    """
    if not (x.rad > WIDE).any():
        return x
    below, above = x.mid - x.rad, x.mid + x.rad
    below = np.maximum(below - EPS * np.abs(below), low)
    above = np.minimum(above + EPS * np.abs(above), high)
    mid = 0.5 * (below + above)
    rad = np.maximum(above - mid, mid - below) * UP + TINY
    cut = (x.rad > WIDE) & (rad < x.rad)
    return MidRad(np.where(cut, mid, x.mid), np.where(cut, rad, x.rad))


def reciprocal(x: MidRad) -> MidRad:
    """Return 1/x for x that is known to be at least 1: |1/x - 1/x0| <= r / (x0 max(1, x0 - r))."""
    low = np.maximum((x.mid - x.rad) * (1.0 - 16 * EPS), 1.0)
    mid = 1.0 / np.where(x.mid >= 1.0, x.mid, np.nan)
    return MidRad(mid, (x.rad / low * mid + EPS * mid + TINY) * UP)


@cache
def rounds_as_proved() -> bool:
    """Whether this machine rounds to nearest and underflows gradually, in NumPy and in BLAS.

    A library compiled with fast-math may have set flush-to-zero for the whole process.
    """
    one, half = np.full((9, 9), 1.0), np.full((9, 9), 2.0**-54)
    least = np.full((9, 9), 2.0**-1074)
    down, up = one - 2.0**-53 * 1.5, one + 2.0**-53 * 1.5
    to_nearest = (one + half == 1.0).all() and (one - half == 1.0).all()
    to_nearest = to_nearest and (down == 1.0 - 2.0**-52).all() and (up == 1.0 + 2.0**-52).all()
    gradual = (least * 1.0 == least).all() and (least + least == 2 * least).all()
    product = least @ np.eye(9)
    small = np.full((9, 9), 2.0**-537) @ (np.eye(9) * 2.0**-537)
    return bool(to_nearest and gradual and (product == least).all() and (small == least).all())
