"""Ball arithmetic: object arrays of python-flint `arb`, every result encloses the exact one.

Elementwise operations are NumPy's on object arrays; matrix products go through `arb_mat`, whose
inner loops are compiled.  Floats enter exactly and leave rounded outwards, never to nearest.
Squares are written x * x: x ** 2 gives nan on a ball around 0.
Reference: F. Johansson, Arb: efficient arbitrary-precision midpoint-radius interval arithmetic,
IEEE Transactions on Computers 66 (2017).
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fractions import Fraction
from typing import Any

import numpy as np

#: one python-flint `arb`; flint ships no types
Ball = Any
INSTALL = "pip install 'turnpike-ocp[certify]'"


def available() -> bool:
    """Whether python-flint can be imported."""
    return importlib.util.find_spec("flint") is not None


def require() -> None:
    """Raise ValueError with the command to run unless python-flint is installed."""
    if not available():
        raise ValueError(f"a certificate needs ball arithmetic (python-flint): {INSTALL}")


@contextmanager
def precision(bits: int) -> Iterator[None]:
    """Work with midpoints of `bits` bits inside the block."""
    from flint import ctx

    before = ctx.prec
    ctx.prec = bits
    try:
        yield
    finally:
        ctx.prec = before


def exact(values: np.ndarray | float) -> np.ndarray:
    """Return the floats as balls of radius zero, an object array of the same shape."""
    from flint import arb

    values = np.asarray(values, dtype=np.float64)
    return _objects([arb(v) for v in values.ravel().tolist()], values.shape)


def rational(value: Fraction) -> Ball:
    """Return a ball that contains the fraction."""
    from flint import arb

    return arb(value.numerator) / arb(value.denominator)


def ball(middle: np.ndarray, radius: np.ndarray | float) -> np.ndarray:
    """Return middle +- radius, outwards; middle an object array, radius floats of its shape."""
    from flint import arb

    radii = np.broadcast_to(np.asarray(radius, dtype=np.float64), middle.shape)
    wide = [m + arb(0, r) for m, r in zip(middle.ravel(), radii.ravel().tolist(), strict=True)]
    return _objects(wide, middle.shape)


def zeros(*shape: int) -> np.ndarray:
    """Return exact zeros."""
    return exact(np.zeros(shape))


def mid(balls: np.ndarray) -> np.ndarray:
    """Return the midpoints as balls of radius zero."""
    return apply(lambda x: x.mid(), balls)


def nearest(balls: np.ndarray) -> np.ndarray:
    """Return the midpoints as floats, rounded to nearest: for preconditioners, no bound."""
    return np.array([float(x.mid()) for x in balls.ravel()]).reshape(balls.shape)


def magnitude(balls: np.ndarray) -> np.ndarray:
    """Return floats that are not below the largest absolute value in each ball."""
    up = [_float_up(x.abs_upper()) for x in balls.ravel()]
    return np.array(up, dtype=np.float64).reshape(balls.shape)


def lower(x: Ball) -> float:
    """Return a float that is not above any point of the ball; nan if the ball is not finite."""
    return -_float_up((-x).upper())


def upper(x: Ball) -> float:
    """Return a float that is not below any point of the ball; nan if the ball is not finite."""
    return _float_up(x.upper())


def apply(function: Callable, balls: np.ndarray) -> np.ndarray:
    """Return function(x) for every ball."""
    return _objects([function(x) for x in balls.ravel()], balls.shape)


def matmul(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Return a @ b for object arrays (r, k) (k, c), or batches (m, r, k) (m, k, c)."""
    from flint import arb_mat

    if a.ndim == 2:
        (r, k), c = a.shape, b.shape[1]
        product = arb_mat(r, k, a.ravel().tolist()) * arb_mat(k, c, b.ravel().tolist())
        return _objects(product.entries(), (r, c))
    (m, r, k), c = a.shape, b.shape[2]
    found = []
    for left, right in zip(a.reshape(m, -1), b.reshape(m, -1), strict=True):
        found += (arb_mat(r, k, left.tolist()) * arb_mat(k, c, right.tolist())).entries()
    return _objects(found, (m, r, c))


def _objects(items: list, shape: tuple[int, ...]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


def _float_up(x: Ball) -> float:
    """Return a float not below the exact number x; float(arb) rounds to nearest."""
    value = float(x)
    if math.isnan(value) or not x.is_finite():
        return math.inf if value == math.inf else math.nan
    return math.nextafter(value, math.inf)
