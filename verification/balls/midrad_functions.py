"""The activations with two derivatives, and the softmax, over midpoint-radius arrays.

Libraries' tanh and exp are not proven: exp, expm1, log1p and erfc are taken from arb at the float
midpoints m, the derivatives are rational in them.  Then Taylor's theorem with |v - m| <= r,

    |f(v) - f(m)| <= min(L_1 r, |f'(m)| r + L_2 r^2 / 2),     L_k >= sup |f^(k)|,

for f = sigma, sigma', sigma''.  The constants L_k are proved by bisection in the tests.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ocp.activations import Activation

from . import arithmetic as balls
from . import midrad
from .activations import ContainsKink
from .midrad import EPS, UP, MidRad

#: midpoints of elementary functions; `midrad.enclose` wants 60 good ones
BITS = 72
#: above the sup of each of the first four derivatives, by 1e-5 of it or more: bisection proves it
LIPSCHITZ = {
    "tanh": (1.0001, 0.77, 2.0002, 4.087),
    "sigmoid": (0.25002, 0.09624, 0.12502, 0.12772),
    "softplus": (1.00001, 0.25002, 0.09624, 0.12502),
    "silu": (1.09986, 0.50005, 0.30823, 0.50005),
    "gelu": (1.12892, 0.79793, 0.77881, 1.5959),
}
#: the normal density and its products with v^4 are below TINY beyond it
_FAR = 40.0


def derivatives(sigma: Activation, v: MidRad) -> tuple[MidRad, MidRad, MidRad]:
    """Return enclosures of sigma, sigma' and sigma'' over every ball in v, each of its shape.

    Raises
    ------
    ContainsKink : one of them jumps at 0, and a ball holds 0
    """
    if sigma.kink:
        on_kink = np.argwhere(~(np.abs(v.mid) > v.rad))
        if len(on_kink):
            raise ContainsKink(tuple(int(i) for i in on_kink[0]))
    if sigma.name in _EXACT:
        return _EXACT[sigma.name](v)
    if sigma.name != "softplus":
        return _taylor(_SMOOTH[sigma.name](v.mid, sigma), v.rad, sigma)
    # softplus(k v)/k, the shift is log(2)/k
    k = sigma.sharpness
    y = v * k
    value, first, second = _taylor(_softplus(y.mid, sigma), y.rad, sigma)
    inverse = _each(lambda t: 1 / t, np.array([k]))
    return value * inverse, first, second * k


def at_floats(sigma: Activation, m: np.ndarray) -> list[MidRad]:
    """Return sigma and three derivatives at floats, for the names in `LIPSCHITZ`, sharpness 1."""
    return (_softplus if sigma.name == "softplus" else _SMOOTH[sigma.name])(m, sigma)


def _taylor(at: list[MidRad], r: np.ndarray, sigma: Activation) -> tuple:
    """Widen f, f', f'' at the midpoints, `at` holds the third one too, to the radius r; wide
    boxes are cut to the range |f^(k)| <= L_k."""
    sup = LIPSCHITZ[sigma.name]
    half_square = 0.5 * r * r * UP + midrad.TINY
    wide = []
    for f, slope, L, more in zip(at[:3], at[1:], sup[:3], sup[1:], strict=True):
        local = slope.magnitude() * r + more * half_square
        wide.append(MidRad(f.mid, (f.rad + np.minimum(L * r, local) + midrad.TINY) * UP))
    value, first, second = wide
    rising = sigma.name in ("tanh", "sigmoid", "softplus")
    return (
        midrad.within(value, -1.0, 1.0) if sigma.bounded else value,
        midrad.within(first, 0.0 if rising else -sup[0], sup[0]),
        midrad.within(second, -sup[1], sup[1]),
    )


def _each(function: Callable, x: np.ndarray) -> MidRad:
    """Enclose function(ball) at every float."""
    with balls.precision(BITS):
        return midrad.enclose(balls.apply(function, balls.exact(x)))


def exp(x: np.ndarray) -> MidRad:
    """Return enclosures of exp at floats."""
    return _each(lambda t: t.exp(), x)


def _falling(x: np.ndarray) -> tuple[MidRad, MidRad, MidRad]:
    """exp(-x), 1 - exp(-x) and 1/(1 + exp(-x)) at floats x >= 0, all to a few EPS of their size."""
    e = exp(-x)
    rest = 1.0 - e
    small = x < 0.7
    if small.any():
        rest[small] = -_each(lambda t: t.expm1(), -x[small])
    return e, rest, midrad.reciprocal(1.0 + e)


def _signed(m: np.ndarray, x: MidRad) -> MidRad:
    return MidRad(np.where(m < 0, -x.mid, x.mid), x.rad)


def _tanh(m: np.ndarray, _: Activation) -> list[MidRad]:
    """t = (1 - e)/(1 + e), t' = 4 e/(1 + e)^2, t'' = -2 t t', t''' = -2 t' (1 - 3 t^2)."""
    e, rest, q = _falling(2.0 * np.abs(m))
    t = _signed(m, rest * q)
    first = 4.0 * (e * q * q)
    return [t, first, -2.0 * (t * first), -2.0 * (first * (1.0 - 3.0 * (t * t)))]


def _logistic(m: np.ndarray) -> tuple[MidRad, MidRad, MidRad, MidRad]:
    """s = 1/(1 + exp(-m)), s' = s (1 - s), s'' = -s' tanh(m/2), s''' = s' (1 - 6 s')."""
    e, rest, q = _falling(np.abs(m))
    s = midrad.where(m < 0, e * q, q)
    first = e * q * q
    return s, first, -(first * _signed(m, rest * q)), first * (1.0 - 6.0 * first)


def _sigmoid(m: np.ndarray, sigma: Activation) -> list[MidRad]:
    s, first, second, third = _logistic(m)
    if sigma.shifted:
        _, rest, q = _falling(np.abs(m))
        s = 0.5 * _signed(m, rest * q)
    return [s, first, second, third]


def _softplus(m: np.ndarray, sigma: Activation) -> list[MidRad]:
    s, first, second, _ = _logistic(m)
    value = _each(lambda t: (-abs(t)).exp().log1p(), m) + np.maximum(m, 0.0)
    if sigma.shifted:
        value = value - _each(lambda t: t.log(), np.array([2.0]))
    return [value, s, first, second]


def _silu(m: np.ndarray, _: Activation) -> list[MidRad]:
    s, first, second, third = _logistic(m)
    return [s * m, s + first * m, 2.0 * first + second * m, 3.0 * second + third * m]


def _gelu(m: np.ndarray, _: Activation) -> list[MidRad]:
    """f' = Phi + m phi, f'' = phi (2 - m^2), f''' = phi (m^3 - 4 m)."""
    from flint import arb

    cdf = _each(lambda t: (-t / arb(2).sqrt()).erfc() / 2, m)
    pdf = _each(lambda t: (-(t * t) / 2).exp() / (2 * arb.pi()).sqrt(), m)
    near = midrad.exact(np.clip(m, -_FAR, _FAR))
    square = near * near
    return [
        cdf * m,
        cdf + pdf * near,
        pdf * (2.0 - square),
        pdf * (near * (square - 4.0)),
    ]


def _softsign(v: MidRad) -> tuple[MidRad, MidRad, MidRad]:
    sign = np.where(v.mid < 0, -1.0, 1.0)
    q = midrad.reciprocal(1.0 + v * sign)
    square = q * q
    return v * q, square, (square * q) * (-2.0 * sign)


def _identity(v: MidRad) -> tuple[MidRad, MidRad, MidRad]:
    return v, midrad.exact(np.ones(v.shape)), midrad.zeros(*v.shape)


def _relu(v: MidRad) -> tuple[MidRad, MidRad, MidRad]:
    on = np.where(v.mid > 0, 1.0, 0.0)
    return v * on, midrad.exact(on), midrad.zeros(*v.shape)


def _leaky_relu(v: MidRad) -> tuple[MidRad, MidRad, MidRad]:
    from flint import arb

    # the statement says .01 and the code stores the nearest float: the ball holds both
    leak = _each(lambda x: x.union(arb("0.01")), np.array([0.01]))
    slope = midrad.where(v.mid > 0, midrad.exact(np.ones(v.shape)), leak)
    return v * slope, slope, midrad.zeros(*v.shape)


_SMOOTH = {"tanh": _tanh, "sigmoid": _sigmoid, "silu": _silu, "gelu": _gelu}
_EXACT = {
    "identity": _identity,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "softsign": _softsign,
}


def softmax(z: MidRad) -> tuple[MidRad, MidRad]:
    """Return softmax p, (.., n_c), and diag p - p p', (.., n_c, n_c), over the box z.

    At the midpoints, logits are taken relative to the largest; what that rounds widens the box.
    In the box p_l(t)/p_l <= exp(w), w = 2 max r, along the straight line to any point of it, and
    dp_j = integral of p_j(t) sum_l p_l(t) (d_j - d_l), so that

        |p_j(z) - p_j| <= exp(2 w) p_j sum_{l != j} p_l (r_j + r_l),   and at most 1;

    exp(y) <= 1 + y + y^2 for 0 <= y <= 1, and 2^ceil(1.4427 y) beyond.  p_j (1 - p_j) is the sum
    of p_j p_l over l != j.
    """
    top = z.mid.max(axis=-1, keepdims=True)
    w = z.mid - top
    r = (z.rad + EPS * np.abs(w)) * UP
    e = exp(w)
    p = e * midrad.reciprocal(e.sum(axis=-1)[..., None])
    n_c, size = p.shape[-1], p.magnitude()
    y = 4.0 * r.max(axis=-1, keepdims=True)
    doubled = np.ldexp(1.0, np.ceil(1.4427 * np.minimum(y, 700.0)).astype(int))
    growth = np.where(y <= 1.0, 1.0 + y + y * y, np.where(y < 700.0, doubled, np.nan)) * UP
    spread = np.zeros(p.shape)
    for j in range(n_c):
        pairs = size * (r + r[..., j : j + 1])
        pairs[..., j] = 0.0
        spread[..., j] = pairs.sum(axis=-1)
    spread *= growth * size * (1.0 + (n_c + 16) * EPS)
    moved = np.where(spread <= 1.0, spread, 1.0) + n_c * midrad.TINY
    moved = np.where(np.isfinite(z.mid), moved, np.nan)
    p = midrad.within(MidRad(p.mid, (p.rad + moved) * UP), 0.0, 1.0)
    Q = midrad.within(-(p[..., :, None] * p[..., None, :]), -0.25, 0.0)
    diagonal = np.arange(n_c)
    Q[..., diagonal, diagonal] = midrad.zeros(*p.shape)
    Q[..., diagonal, diagonal] = midrad.within(-Q.sum(axis=-1), 0.0, 0.25)
    return p, Q
