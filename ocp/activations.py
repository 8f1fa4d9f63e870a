"""Activations of the problem statement, with first and second derivatives.

Every formula is written so that it also accepts complex arguments where the function is
analytic: the tests differentiate it by complex steps.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import erf

ZERO_AT_ZERO = ("tanh", "softsign", "identity", "relu", "leaky_relu", "gelu", "silu")
SHIFTABLE = ("sigmoid", "softplus")
NAMES = ZERO_AT_ZERO + SHIFTABLE
#: first derivative jumps at 0: minima generically lie on the jump (problem.md, "Kinks")
KINKED = ("relu", "leaky_relu")
#: twice differentiable everywhere
SMOOTH = ("tanh", "identity", "gelu", "silu", "sigmoid", "softplus")
LEAKY_SLOPE = 0.01
#: sigma, sigma', sigma'' as far as they were asked for
Derivatives = tuple[np.ndarray, ...]
_SQRT2, _SQRT2PI = np.sqrt(2.0), np.sqrt(2.0 * np.pi)


@dataclass(frozen=True, slots=True)
class Activation:
    """The scalar map sigma of the statement.

    Parameters
    ----------
    name : one of `NAMES`
    shifted : sigmoid and softplus only, use sigma(v) - sigma(0)
    sharpness : softplus only, sigma(v) = softplus(k v) / k
    """

    name: str
    shifted: bool = False
    sharpness: float = 1.0

    @property
    def zero_at_zero(self) -> bool:
        """Whether sigma(0) = 0, so that every x is a steady state under u = 0 (block single)."""
        return self.name in ZERO_AT_ZERO or self.shifted

    @property
    def odd(self) -> bool:
        """Whether sigma(-v) = -sigma(v)."""
        return self.name in ("tanh", "softsign", "identity") or (
            self.name == "sigmoid" and self.shifted
        )

    def derivatives(self, v: np.ndarray, order: int) -> Derivatives:
        """Return (sigma, sigma', sigma'')[: order + 1] at v, same shape; order 0, 1 or 2.

        Conventions at kinks: relu'(0) = 0, leaky_relu'(0) = .01, second derivatives 0 there.
        """
        return _FORMULAS[self.name](v, order, self)

    def __call__(self, v: np.ndarray) -> np.ndarray:
        return self.derivatives(v, 0)[0]


def logistic(v: np.ndarray) -> np.ndarray:
    """1 / (1 + exp(-v)) without overflow, real or complex."""
    negative = v.real < 0
    e = np.exp(np.where(negative, v, -v))
    return np.where(negative, e, 1.0) / (1.0 + e)


def log1p_exp(v: np.ndarray) -> np.ndarray:
    """log(1 + exp(v)) without overflow, real or complex."""
    negative = v.real < 0
    return np.where(negative, 0.0, v) + np.log1p(np.exp(np.where(negative, v, -v)))


def _tanh(v: np.ndarray, order: int, _: Activation) -> Derivatives:
    t = np.tanh(v)
    if order == 0:
        return (t,)
    d1 = 1.0 - t * t
    return (t, d1, -2.0 * t * d1)[: order + 1]


def _softsign(v: np.ndarray, order: int, _: Activation) -> Derivatives:
    sign = np.where(v.real < 0, -1.0, 1.0)
    q = 1.0 / (1.0 + sign * v)
    # At v = 0 the second derivative jumps from 2 to -2; the convention is 0.
    return (v * q, q * q, np.where(v == 0, 0.0, -2.0 * sign * q**3))[: order + 1]


def _identity(v: np.ndarray, order: int, _: Activation) -> Derivatives:
    return (v, np.ones_like(v), np.zeros_like(v))[: order + 1]


def _relu(v: np.ndarray, order: int, _: Activation) -> Derivatives:
    on = v.real > 0
    return (np.where(on, v, 0.0), np.where(on, 1.0, 0.0), np.zeros_like(v))[: order + 1]


def _leaky_relu(v: np.ndarray, order: int, _: Activation) -> Derivatives:
    slope = np.where(v.real > 0, 1.0, LEAKY_SLOPE)
    return (v * slope, slope, np.zeros_like(v))[: order + 1]


def _gelu(v: np.ndarray, order: int, _: Activation) -> Derivatives:
    cdf = 0.5 * (1.0 + erf(v / _SQRT2))
    if order == 0:
        return (v * cdf,)
    pdf = np.exp(-0.5 * v * v) / _SQRT2PI
    return (v * cdf, cdf + v * pdf, pdf * (2.0 - v * v))[: order + 1]


def _silu(v: np.ndarray, order: int, _: Activation) -> Derivatives:
    s = logistic(v)
    ds = s * (1.0 - s)
    return (v * s, s + v * ds, ds * (2.0 + v * (1.0 - 2.0 * s)))[: order + 1]


def _sigmoid(v: np.ndarray, order: int, activation: Activation) -> Derivatives:
    s = logistic(v)
    ds = s * (1.0 - s)
    return (s - 0.5 if activation.shifted else s, ds, ds * (1.0 - 2.0 * s))[: order + 1]


def _softplus(v: np.ndarray, order: int, activation: Activation) -> Derivatives:
    k = activation.sharpness
    s = logistic(k * v)
    value = log1p_exp(k * v) / k - (np.log(2.0) / k if activation.shifted else 0.0)
    return (value, s, k * s * (1.0 - s))[: order + 1]


_FORMULAS = {
    "tanh": _tanh,
    "softsign": _softsign,
    "identity": _identity,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "gelu": _gelu,
    "silu": _silu,
    "sigmoid": _sigmoid,
    "softplus": _softplus,
}
