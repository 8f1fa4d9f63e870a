"""Activations of the problem statement, with first and second derivatives.

Every formula is written so that it also accepts complex arguments where the function is
analytic: the tests differentiate it by complex steps.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import erf

LEAKY_SLOPE = 0.01
_SQRT2, _SQRT2PI = np.sqrt(2.0), np.sqrt(2.0 * np.pi)
#: (sigma, sigma', sigma'')[: order + 1]
Derivatives = tuple[np.ndarray, ...]


@dataclass(frozen=True, slots=True)
class Activation:
    """The scalar map sigma of the statement, with its properties: one row of the table below.

    Parameters
    ----------
    name : one of `NAMES`
    shifted : sigma(v) - sigma(0), for those that are not 0 at 0
    sharpness : k of sigma(k v) / k, for those that have one
    """

    name: str
    shifted: bool = False
    sharpness: float = 1.0

    def derivatives(self, v: np.ndarray, order: int) -> Derivatives:
        """Return (sigma, sigma', sigma'')[: order + 1] at v, same shape; order 0, 1 or 2.

        Conventions at kinks: relu'(0) = 0, leaky_relu'(0) = .01, second derivatives 0 there.
        """
        value, *slopes = self._row.formula(v, order, self.sharpness)
        return (value - self.offset if self.shifted else value, *slopes)

    def __call__(self, v: np.ndarray) -> np.ndarray:
        return self.derivatives(v, 0)[0]

    @property
    def _row(self) -> _Row:
        return _TABLE[self.name]

    @property
    def offset(self) -> float:
        """What is subtracted: sigma(0) of the function before the shift, or 0."""
        return self._row.at_zero / self.sharpness if self.shifted else 0.0

    @property
    def shiftable(self) -> bool:
        """Whether there is a shift to make."""
        return self._row.at_zero != 0.0

    @property
    def zero_at_zero(self) -> bool:
        """Whether sigma(0) = 0, so that every x is a steady state under u = 0 (block single)."""
        return self.shifted or not self.shiftable

    @property
    def odd(self) -> bool:
        """Whether sigma(-v) = -sigma(v)."""
        return self._row.odd and self.zero_at_zero

    @property
    def bounded(self) -> bool:
        """Whether |sigma| has a bound."""
        return self._row.bounded

    @property
    def kink(self) -> int:
        """The order, 1 or 2, of the first derivative that jumps at 0; 0: none does.

        With 1, minima generically lie on the jump.
        """
        return self._row.kink

    @property
    def smooth(self) -> bool:
        """Whether sigma is twice continuously differentiable."""
        return not self.kink

    @property
    def piecewise_linear(self) -> bool:
        """Whether sigma'' = 0 but for kinks: a flat part, if any, is there on purpose."""
        return self._row.piecewise_linear

    @property
    def lipschitz(self) -> float:
        """An upper bound of sup |sigma'|, less than 1e-5 above it: proofs rest on it."""
        return self._row.lipschitz

    @property
    def has_sharpness(self) -> bool:
        """Whether the statement's sharpness means something."""
        return self._row.has_sharpness


def logistic(v: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-v)) without overflow, real or complex."""
    negative = v.real < 0
    e = np.exp(np.where(negative, v, -v))
    return np.where(negative, e, 1.0) / (1.0 + e)


def log1p_exp(v: np.ndarray) -> np.ndarray:
    """log(1 + exp(v)) without overflow, real or complex."""
    negative = v.real < 0
    return np.where(negative, 0.0, v) + np.log1p(np.exp(np.where(negative, v, -v)))


def _tanh(v: np.ndarray, order: int, _: float) -> Derivatives:
    t = np.tanh(v)
    if order == 0:
        return (t,)
    d1 = 1.0 - t * t
    return (t, d1, -2.0 * t * d1)[: order + 1]


def _softsign(v: np.ndarray, order: int, _: float) -> Derivatives:
    sign = np.where(v.real < 0, -1.0, 1.0)
    q = 1.0 / (1.0 + sign * v)
    # At v = 0 the second derivative jumps from 2 to -2; the convention is 0.
    return (v * q, q * q, np.where(v == 0, 0.0, -2.0 * sign * q**3))[: order + 1]


def _identity(v: np.ndarray, order: int, _: float) -> Derivatives:
    return (v, np.ones_like(v), np.zeros_like(v))[: order + 1]


def _relu(v: np.ndarray, order: int, _: float) -> Derivatives:
    on = v.real > 0
    return (np.where(on, v, 0.0), np.where(on, 1.0, 0.0), np.zeros_like(v))[: order + 1]


def _leaky_relu(v: np.ndarray, order: int, _: float) -> Derivatives:
    slope = np.where(v.real > 0, 1.0, LEAKY_SLOPE)
    return (v * slope, slope, np.zeros_like(v))[: order + 1]


def _gelu(v: np.ndarray, order: int, _: float) -> Derivatives:
    cdf = 0.5 * (1.0 + erf(v / _SQRT2))
    if order == 0:
        return (v * cdf,)
    pdf = np.exp(-0.5 * v * v) / _SQRT2PI
    return (v * cdf, cdf + v * pdf, pdf * (2.0 - v * v))[: order + 1]


def _silu(v: np.ndarray, order: int, _: float) -> Derivatives:
    s = logistic(v)
    ds = s * (1.0 - s)
    return (v * s, s + v * ds, ds * (2.0 + v * (1.0 - 2.0 * s)))[: order + 1]


def _sigmoid(v: np.ndarray, order: int, _: float) -> Derivatives:
    s = logistic(v)
    ds = s * (1.0 - s)
    return (s, ds, ds * (1.0 - 2.0 * s))[: order + 1]


def _softplus(v: np.ndarray, order: int, k: float) -> Derivatives:
    s = logistic(k * v)
    return (log1p_exp(k * v) / k, s, k * s * (1.0 - s))[: order + 1]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Row:
    """What is known of one activation; the meanings are those of the properties of `Activation`.

    formula : (v, order, sharpness) -> derivatives of the unshifted function, v real or complex
    at_zero : its value at 0 where the sharpness is 1
    odd : whether sigma(v) - sigma(0) is odd
    """

    formula: Callable[[np.ndarray, int, float], Derivatives]
    lipschitz: float = 1.0
    at_zero: float = 0.0
    odd: bool = False
    bounded: bool = False
    kink: int = 0
    piecewise_linear: bool = False
    has_sharpness: bool = False


_TABLE = {
    "tanh": _Row(formula=_tanh, odd=True, bounded=True),
    "softsign": _Row(formula=_softsign, odd=True, bounded=True, kink=2),
    "identity": _Row(formula=_identity, odd=True, piecewise_linear=True),
    "relu": _Row(formula=_relu, kink=1, piecewise_linear=True),
    "leaky_relu": _Row(formula=_leaky_relu, kink=1, piecewise_linear=True),
    "gelu": _Row(formula=_gelu, lipschitz=1.12891),  # its slope exceeds 1 before it tends to 1
    "silu": _Row(formula=_silu, lipschitz=1.09984),
    "sigmoid": _Row(formula=_sigmoid, lipschitz=0.25, at_zero=0.5, odd=True, bounded=True),
    "softplus": _Row(formula=_softplus, at_zero=float(np.log(2.0)), has_sharpness=True),
}
NAMES = tuple(_TABLE)
