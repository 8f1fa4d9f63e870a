"""The activations of the statement and two derivatives, in ball arithmetic."""

from __future__ import annotations

import numpy as np

from ocp.activations import Activation

from . import arithmetic as balls
from .arithmetic import Ball

#: sigma, sigma', sigma'' of one ball, as many as are asked for
Values = tuple[Ball, ...]


class ContainsKink(ValueError):
    """A ball of pre-activations contains the point where the activation is not smooth."""

    def __init__(self, index: tuple[int, ...]):
        super().__init__("a pre-activation ball contains the kink at 0")
        self.index = index


def derivatives(sigma: Activation, v: np.ndarray, order: int) -> list[np.ndarray]:
    """Return [sigma, sigma', sigma''][: order + 1] of every ball in v, each of its shape.

    Raises
    ------
    ContainsKink : a derivative that is asked for jumps at 0, and a ball holds 0
    """
    if sigma.kink and order >= sigma.kink:
        for index, x in np.ndenumerate(v):
            if not (x > 0 or x < 0):
                raise ContainsKink(index)
    formula = _FORMULAS[sigma.name]
    found = [formula(x, order, sigma) for x in v.ravel()]
    return [balls._objects([f[i] for f in found], v.shape) for i in range(order + 1)]


def _tanh(v: Ball, order: int, _: Activation) -> Values:
    t = v.tanh()
    if order == 0:
        return (t,)
    # (1 - t)(1 + t) would lose nothing for small balls, and sech(v)^2 keeps its sign for wide ones
    s = v.sech()
    d1 = s * s
    return (t, d1, -2 * t * d1)


def _softsign(v: Ball, order: int, _: Activation) -> Values:
    q = 1 / (1 + abs(v))
    sign = 1 if v > 0 else -1
    return (v * q, q * q, -2 * sign * q * q * q)


def _identity(v: Ball, order: int, _: Activation) -> Values:
    return (v, v * 0 + 1, v * 0)


def _relu(v: Ball, order: int, _: Activation) -> Values:
    return (v.max(v * 0), v * 0 + (1 if v > 0 else 0), v * 0)


def _leaky_relu(v: Ball, order: int, _: Activation) -> Values:
    from flint import arb

    # the statement says .01 and the code stores the nearest float: the ball holds both
    leak = arb("0.01").union(arb(0.01))
    if v > 0:
        return (v, v * 0 + 1, v * 0)
    if v < 0:
        return (leak * v, leak, v * 0)
    return (v.max(leak * v), leak.union(v * 0 + 1), v * 0)


def _gelu(v: Ball, order: int, _: Activation) -> Values:
    from flint import arb

    half = v * arb(0.5).sqrt()
    cdf = (-half).erfc() / 2
    if order == 0:
        return (v * cdf,)
    pdf = (-(half * half)).exp() / (2 * arb.pi()).sqrt()
    return (v * cdf, cdf + v * pdf, pdf * (2 - v * v))


#: beyond it exponentials are taken of the negative size: those of the size may not be finite
_FAR = 2.0**20


def _logistic(v: Ball) -> Ball:
    if v < -_FAR:
        e = v.exp()
        return e / (1 + e)
    return 1 / (1 + (-v).exp())


def _silu(v: Ball, order: int, _: Activation) -> Values:
    s = _logistic(v)
    ds = s * _logistic(-v)
    return (v * s, s + v * ds, ds * (2 + v * (1 - 2 * s)))


def _sigmoid(v: Ball, order: int, activation: Activation) -> Values:
    from flint import arb

    s = _logistic(v)
    ds = s * _logistic(-v)
    return (s - arb(0.5) if activation.shifted else s, ds, -ds * (v / 2).tanh())


def _softplus(v: Ball, order: int, activation: Activation) -> Values:
    from flint import arb

    k = arb(activation.sharpness)
    s = _logistic(k * v)
    value = k * v + (-k * v).exp().log1p() if k * v > _FAR else (k * v).exp().log1p()
    value = value - (arb.const_log2() if activation.shifted else 0)
    return (value / k, s, k * s * _logistic(-k * v))


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
