"""K-infinity lower bounds alpha of the soft cross-entropy: g >= alpha(dist_z), re-derived.

With q the target, eps = min q, w = P(z - log q) and s = |w|:  g = log sum_j q_j e^{w_j} - q.w.

Closed form.  g = min_tau sum_j q_j phi(tau - w_j), phi(t) = e^-t + t - 1 (set the derivative in
tau to zero: e^tau = sum q_j e^{w_j}).  phi(t) >= phi(|t|), so g >= eps min_tau sum_j phi(|tau -
w_j|).  phi(sqrt .) is concave and 0 at 0, hence subadditive; the sum of (tau - w_j)^2 is at least
s^2, and among the sums of n_c - 1 or n_c terms the extreme case gives (1/rho) phi(sqrt(rho) s),
rho = (n_c - 1)/n_c.  It holds for every q with least entry eps.

Two classes.  w = +-(s, -s)/sqrt 2; the sign that raises the likelier class gives the minimum.

Tight.  On the sphere |w| = s, sum w = 0, the equal wrong logits of the soft target reduce the
minimum to one angle: w = s (cos t u1 + sin t u2), u1 ~ (1, -1/(n_c-1), ..), u2 ~ (0, 1,
-1/(n_c-2), ..).  The tests compare it with a search over the whole sphere.
"""

from __future__ import annotations

import numpy as np

from ocp.loss import off_target

#: local minima over the angle that are refined
MINIMA = 3


def phi(t: np.ndarray) -> np.ndarray:
    """e^-t + t - 1 >= 0, without cancellation near 0."""
    t = np.asarray(t, dtype=float)
    value = np.asarray(np.expm1(-t) + t)
    near = np.abs(t) < 0.05
    if near.any():
        small = t[near]
        series = np.zeros_like(small)
        for m in range(10, 1, -1):  # (-t)^m / m!, Horner; the first term left out is below 1e-22
            series = (1.0 + series) * (-small / m)
        value[near] = -small * series
    return value


def closed_form(s: np.ndarray, n_classes: int, eps: float) -> np.ndarray:
    """(eps/rho) phi(sqrt(rho) s), for any target with least entry eps."""
    rho = (n_classes - 1) / n_classes
    return (eps / rho) * phi(np.sqrt(rho) * np.asarray(s, dtype=float))


def two_class(s: np.ndarray, p: float) -> np.ndarray:
    """log(p + (1-p) e^{-sqrt2 s}) + (1-p) sqrt2 s: exact for two classes, p the larger entry."""
    t = np.sqrt(2.0) * np.asarray(s, dtype=float)
    # below 1: log E e^d = log(1 + E phi(-d)), d centred; the direct form loses its digits there
    near = np.log1p(p * phi((p - 1) * np.minimum(t, 1)) + (1 - p) * phi(p * np.minimum(t, 1)))
    return np.where(t < 1, near, np.log1p((1 - p) * np.expm1(-t)) + (1 - p) * t)


def lower_bound(s: np.ndarray, n_classes: int, target: np.ndarray) -> np.ndarray:
    """The bound that the judge uses: exact for two classes, else the closed form."""
    if n_classes == 2:
        return two_class(s, float(np.max(target)))
    return closed_form(s, n_classes, float(np.min(target)))


def tight(s: np.ndarray, n_classes: int, p_d: float, angles: int = 721) -> np.ndarray:
    """alpha*(s), the minimum of g on the sphere of radius s: a grid of angles, then refinement."""
    s = np.atleast_1d(np.asarray(s, dtype=float))
    if n_classes == 2:
        return two_class(s, p_d)
    value = lambda t: on_circle(s, t, n_classes, p_d)  # noqa: E731
    grid = np.linspace(0.0, 2 * np.pi, angles)[:-1]
    at = value(np.broadcast_to(grid[:, None], (len(grid), len(s))))
    # near p = 1/n_c several minima are almost equal: the grid cannot tell which is the least
    minima = (at <= np.roll(at, 1, axis=0)) & (at <= np.roll(at, -1, axis=0))
    starts = np.where(minima, at, np.inf).argsort(axis=0)[:MINIMA]
    width = 2 * np.pi / (angles - 1)
    low, high = grid[starts] - width, grid[starts] + width
    golden = (np.sqrt(5.0) - 1) / 2
    for _ in range(40):  # to 1e-8 of the width, beyond which the value is rounding
        one, two = high - golden * (high - low), low + golden * (high - low)
        left = value(one) < value(two)
        low, high = np.where(left, low, one), np.where(left, two, high)
    return value(0.5 * (low + high)).min(axis=0)


def tight_direction(s: float, n_classes: int, p_d: float) -> np.ndarray:
    """A w of length s at which g = alpha*(s); entry 0 is the true class."""
    if n_classes == 2:
        return s * np.array([1.0, -1.0]) / np.sqrt(2.0)
    t = np.linspace(0.0, 2 * np.pi, 200001)
    angle = t[on_circle(np.array([s]), t[:, None], n_classes, p_d)[:, 0].argmin()]
    true, one, rest = _coordinates(np.array([s]), angle, n_classes)
    return np.concatenate([true, one, np.repeat(rest, n_classes - 2)])


def on_circle(s: np.ndarray, t: np.ndarray, n_classes: int, p_d: float) -> np.ndarray:
    """g at w = s (cos t u1 + sin t u2), n_c >= 3; the rest of the wrong logits are equal."""
    eps = off_target(n_classes, p_d)
    true, one, rest = _coordinates(s, t, n_classes)
    m = n_classes - 2
    mean = p_d * true + eps * (one + m * rest)
    true, one, rest = true - mean, one - mean, rest - mean
    # log E e^d = log(1 + E phi(-d)), d centred: no cancellation near 0; far away the usual form
    clip = lambda d: np.minimum(d, 30.0)  # noqa: E731
    near = np.log1p(p_d * phi(-clip(true)) + eps * (phi(-clip(one)) + m * phi(-clip(rest))))
    top = np.maximum(np.maximum(true, one), rest)
    far = np.log(p_d * np.exp(true - top) + eps * (np.exp(one - top) + m * np.exp(rest - top)))
    return np.where(top < 30.0, near, far + top)


def _coordinates(
    s: np.ndarray, t: np.ndarray, n_classes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The true logit, the lowered wrong one and the others at angle t on the sphere."""
    m = n_classes - 1
    u1, u2 = np.sqrt(m / n_classes), np.sqrt((m - 1) / m) if m > 1 else 0.0
    true = s * np.cos(t) * u1
    wrong = -s * np.cos(t) * u1 / m
    one = wrong + s * np.sin(t) * u2
    rest = wrong - s * np.sin(t) * u2 / (m - 1)
    return true, one, rest
