"""The trust-region subproblem with a dense symmetric matrix, solved by Cholesky factorisations.

    minimise  g's + s'Hs/2   subject to  |s| <= radius

The minimiser satisfies (H + shift I) s = -g with H + shift I positive semidefinite, shift >= 0
and shift (radius - |s|) = 0; the shift is found by Newton's method on 1/radius - 1/|s(shift)|,
safeguarded by an interval.  In the hard case, where s(shift) stays inside even at the least
admissible shift, a multiple of the lowest eigenvector is added.

A factorisation at d = 240 costs 0.2 ms, an eigendecomposition 4 ms; two or three are needed.
Reference: More' and Sorensen, "Computing a trust region step", 1983, algorithm 3.14; Conn,
Gould and Toint, Trust-Region Methods, section 7.3.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.linalg import blas, lapack

from .clock import Tick, never

#: accepted relative difference of |s| from the radius on the boundary
BOUNDARY = 0.1
#: accepted relative loss of the model's decrease in the hard case
HARD = 0.1
MAX_FACTORISATIONS = 50


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Step:
    """A step and what the quadratic model says of it.

    predicted : decrease of the model, -(g's + s'Hs/2) >= 0
    shift : the multiplier of |s| <= radius; 0 for a Newton step
    """

    s: np.ndarray
    shift: float
    predicted: float
    length: float
    boundary: bool


def factorise(H: np.ndarray, shift: float) -> np.ndarray | None:
    """Return the lower Cholesky factor of H + shift I (upper triangle arbitrary), or None."""
    M = H.copy()
    M.flat[:: len(M) + 1] += shift
    # the transpose of a symmetric C-ordered array is the same matrix in Fortran order
    L, info = lapack.dpotrf(M.T, lower=1, clean=0, overwrite_a=1)
    return L if info == 0 else None


def solve_with(L: np.ndarray, rhs: np.ndarray) -> np.ndarray:
    """Solve (L L') x = rhs."""
    return lapack.dpotrs(L, rhs, lower=1)[0]


def step(
    H: np.ndarray, g: np.ndarray, radius: float, guess: float = 0.0, tick: Tick = never
) -> Step:
    """Return the minimiser of the model in the ball, up to `BOUNDARY` and `HARD`.

    H : (d, d) symmetric;  g : (d,);  guess : the shift expected, from the last iteration
    tick : called before each factorisation
    """
    low, high = _interval(H, g, radius)
    shift = guess if low <= guess <= high else max(0.0, low)
    if guess <= low and low > 0.0:
        shift = max(np.sqrt(low * high), low + 0.01 * (high - low))
    for _ in range(MAX_FACTORISATIONS):
        tick()
        L = factorise(H, shift)
        if L is None:
            low = max(low, shift)
            shift = max(np.sqrt(low * high), low + 0.01 * (high - low))
            continue
        s = -solve_with(L, g)
        length = float(blas.dnrm2(s))
        if shift == 0.0 and length <= radius:
            return _done(H, g, s, 0.0, False)
        if shift > 0.0 and abs(length - radius) <= BOUNDARY * radius:
            return _done(H, g, s, shift, True)
        if length < radius:
            high = min(high, shift)
            z, bend = _lowest(L)
            s_z = float(s @ z)
            root = np.sqrt(s_z**2 + (radius - length) * (radius + length))
            # the root of smaller magnitude, written without cancellation
            t = (radius - length) * (radius + length) / (s_z + np.copysign(root, s_z))
            gain = shift * radius**2 - float(g @ s)  # twice the model's decrease, at most
            if t * t * bend <= HARD * gain:
                return _done(H, g, s + t * z, shift, True)
            low = max(low, shift - bend)
        else:
            low = max(low, shift)
        w = lapack.dtrtrs(L, s, lower=1)[0]
        w_length = float(blas.dnrm2(w))
        newton = -1.0  # at g = 0 there is no secular equation, only the hard case
        if w_length > 0.0:
            newton = shift + (length / w_length) ** 2 * (length - radius) / radius
        if low < newton < high:
            shift = newton
        elif w_length > 0.0 and newton <= 0.0 and low <= 0.0 and shift > 0.0:
            shift = 0.0
        else:
            shift = max(np.sqrt(low * high), low + 0.01 * (high - low))
        if high - low <= 1e-14 * high:
            break
    if L is None:  # the last shift failed; the upper end of the interval does not
        L = factorise(H, high + np.finfo(float).eps * len(H) * high)
        if L is None:
            raise scipy.linalg.LinAlgError("no shift makes the Hessian positive definite")
        s = -solve_with(L, g)
        length = float(blas.dnrm2(s))
    return _done(H, g, s * min(1.0, radius / max(length, radius)), shift, True)


def _interval(H: np.ndarray, g: np.ndarray, radius: float) -> tuple[float, float]:
    """Bounds on the shift from the diagonal, Gershgorin's circles and |g|/radius."""
    diagonal = H.diagonal()
    sums = np.abs(H).sum(axis=1)
    off = sums - np.abs(diagonal)
    norm = float(sums.max())
    slope = float(blas.dnrm2(g)) / radius
    low = max(0.0, -float(diagonal.min()), slope - min(float((diagonal + off).max()), norm))
    high = max(0.0, slope + min(float((off - diagonal).max()), norm))
    return low, max(high, low)


@functools.cache
def _direction(size: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(size)


def _lowest(L: np.ndarray, iterations: int = 3) -> tuple[np.ndarray, float]:
    """Return a unit vector z with z'(L L')z near its least value, and that value."""
    z = _direction(len(L))
    for _ in range(iterations):
        z = solve_with(L, z)
        length = blas.dnrm2(z)
        z /= length
    Rz = blas.dtrmv(L, z, lower=1, trans=1)
    return z, float(Rz @ Rz)


def _done(H: np.ndarray, g: np.ndarray, s: np.ndarray, shift: float, boundary: bool) -> Step:
    predicted = -float(g @ s + 0.5 * (s @ (H @ s)))
    return Step(
        s=s, shift=shift, predicted=predicted, length=float(blas.dnrm2(s)), boundary=boundary
    )
