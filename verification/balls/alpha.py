"""A proved lower bound of the tight alpha*(s) = min {g : |P(z - log q)| = s}, in ball arithmetic.

Reduction to one angle.  At a minimum of g = log sum q_j e^{w_j} - q.w on |w| = s, sum w = 0 each
wrong logit solves eps (e^w/Z - 1) = mu w + nu.  The left side is convex in w, so there are at most
two values a < b, with slope p_a - mu < 0 at a; two logits at a would have the curvature
2 (p_a - mu) < 0 along their exchange.  Hence at most one wrong logit is lower, the others are
equal, and w lies on the circle s (cos t u1 + sin t u2),

    u1 ~ (1, -1/(n_c-1), ..),   u2 ~ (0, 1, -1/(n_c-2), ..).

Bisection.  On |t - c| <= r, g >= g(c) - r |g'|; intervals are halved until this is within
`tolerance` of the best value seen.

Between nodes.  g is convex with g(0) = 0, so g(s d)/s does not decrease in s for any direction d,
nor does alpha*(s)/s: alpha*(s) >= s a_m / s_m for s >= s_m.  Below the first node the closed form
(eps/rho) phi(sqrt(rho) s) is used.  The bound is for statements about g alone: it is not concave
in s^2, as the joint distance in (x, u) would need.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike

from ocp.files import TrainingFile

from ..evaluation import alpha
from ..report import Between, Entry, not_applicable, not_checked, theorem
from . import arithmetic as balls

#: distances at which the angle is bisected
NODES = tuple(np.geomspace(0.02, 120.0, 100).tolist())
BITS = 128
MAX_INTERVALS = 20_000


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class AlphaCertificate:
    """alpha*(s) >= lower_bound(s) for every s >= 0, proved.

    nodes : distances s_m, ascending;  values : a_m <= alpha*(s_m), rounded down
    """

    n_classes: int
    p_d: float
    nodes: np.ndarray
    values: np.ndarray

    def lower_bound(self, s: float) -> float:
        """Return a float that is not above alpha*(s)."""
        if not s >= 0.0:
            raise ValueError(f"s is {s}; wanted a distance of at least 0")
        if s == 0.0:
            return 0.0
        with balls.precision(BITS):
            closed = balls.lower(_closed_form(s, self.n_classes, self.p_d))
            m = int(np.searchsorted(self.nodes, s, side="right")) - 1
            if m < 0 or not math.isfinite(s):
                return max(closed, 0.0) if math.isfinite(closed) else 0.0
            line = balls.exact(self.values[m])[()] * s / balls.exact(self.nodes[m])[()]
            return max(closed, balls.lower(line), 0.0)


def certify_alpha(
    n_classes: int, p_d: float, nodes: ArrayLike = NODES, tolerance: float = 1e-5
) -> AlphaCertificate:
    """Prove values of the tight alpha at the nodes; 2 <= n_c, 1/n_c < p_d < 1.

    tolerance : relative gap to the best value seen at which an interval of angles is left
    """
    if not (n_classes >= 2 and 1.0 / n_classes < p_d < 1.0):
        raise ValueError(
            f"n_classes is {n_classes} and p_d is {p_d}; wanted n_classes >= 2, 1/n_c < p_d < 1"
        )
    nodes = np.asarray(nodes, dtype=float)
    if nodes.ndim != 1 or not len(nodes) or not (nodes[0] > 0 and (np.diff(nodes) > 0).all()):
        raise ValueError("nodes are not ascending numbers above 0")
    with balls.precision(BITS):
        least = [_least(s, n_classes, p_d, tolerance) for s in nodes.tolist()]
    return AlphaCertificate(
        n_classes=n_classes, p_d=p_d, nodes=nodes, values=np.array(least, dtype=float)
    )


def check_alpha(file: TrainingFile) -> tuple[Entry, ...]:
    """Return the line "dissipativity.certified" for the soft target of a file."""
    name, problem = "dissipativity.certified", file.problem
    if problem.p_d == 1.0:
        return (not_applicable(name, "p_d = 1: the minimum of the loss is not attained"),)
    if not balls.available():
        return (not_checked(name, f"needs python-flint: {balls.INSTALL}"),)
    n_c, p_d = problem.n_classes, problem.p_d
    found = certify_alpha(n_c, p_d)
    float_values = alpha.tight(found.nodes, n_c, p_d)
    # the float minimum is uncertain by its rounding and by its series near 0, 1e-13 in size
    excess = (found.values - float_values) / (1.0 + found.nodes)
    worst = int(excess.argmax())
    boundary = math.log(p_d * (n_c - 1) / (1.0 - p_d)) / math.sqrt(2.0)
    samples = ", ".join(
        f"alpha*({s:.4g}) >= {found.lower_bound(s):.5g}" for s in (0.5 * boundary, boundary, 50.0)
    )
    measured = float(excess[worst])
    line = theorem(
        name,
        Between(measured, measured),
        Between(1e-12, 1e-12),
        where=f"s = {found.nodes[worst]:.4g}",
        message=f"proved by ball arithmetic at {len(found.nodes)} distances: {samples} (measured:"
        " proved bound less the float minimum, relative to 1 + s)",
    )
    return (line,)


def _target(n_classes: int, p_d: float) -> tuple[balls.Ball, balls.Ball]:
    p = Fraction(p_d)
    return balls.rational(p), balls.rational((1 - p) / (n_classes - 1))


def _closed_form(s: float, n_classes: int, p_d: float) -> balls.Ball:
    """(eps/rho) phi(sqrt(rho) s), phi(t) = e^-t - 1 + t; exact for two classes instead."""
    from flint import arb

    p, eps = _target(n_classes, p_d)
    if n_classes == 2:
        t = arb(2).sqrt() * arb(s)
        return (p + eps * (-t).exp()).log() + eps * t
    rho = balls.rational(Fraction(n_classes - 1, n_classes))
    t = rho.sqrt() * arb(s)
    return (eps / rho) * ((-t).expm1() + t)


def _least(s: float, n_classes: int, p_d: float, tolerance: float) -> float:
    """A float not above the minimum over the circle of radius s; for n_c = 2 the exact form.

    The exact form for two classes is the smaller of the two points w = +-(s, -s)/sqrt 2, the one
    that raises the likelier class: d/ds of the difference of the two is (1-2p) times a
    non-negative number, p > 1/2.
    """
    if n_classes == 2:
        return max(0.0, balls.lower(_closed_form(s, 2, p_d)))
    from flint import arb

    circle = _Circle(s, n_classes, p_d)
    best = math.inf
    pending, done, count = [], math.inf, 0
    turn = 2 * arb.pi()
    for i in range(16):
        pending.append(_interval(circle, turn * (2 * i + 1) / 32, balls.upper(turn / 32)))
        best = min(best, pending[-1][1])
    while pending:
        low, here, c, r = pending.pop()
        best = min(best, here)
        # intervals that are good enough keep their own bound: the minimum over all is proved
        if low >= best * (1.0 - tolerance) or count >= MAX_INTERVALS:
            done = min(done, low)
            continue
        count += 1
        half = math.nextafter(0.5 * r, math.inf)
        for centre in (c - half, c + half):
            pending.append(_interval(circle, centre, half))
    return max(0.0, done) if math.isfinite(done) else 0.0


def _interval(circle: _Circle, c: balls.Ball, r: float) -> tuple[float, float, balls.Ball, float]:
    """(proved lower bound on |t - c| <= r, value at c from above, midpoint of c, r)."""
    from flint import arb

    # the midpoint moves by less than its radius; the interval is widened by as much
    r = math.nextafter(r + balls.upper(arb(c.rad())), math.inf)
    c = c.mid()
    value = circle.value(c)
    slope = circle.slope(c + arb(0, r))
    low = balls.lower(value - arb(r) * slope.abs_upper())
    low = low if math.isfinite(low) else -math.inf
    return low, balls.upper(value), c, r


class _Circle:
    """g and dg/dt on w = s (cos t u1 + sin t u2), n_c >= 3; three distinct logits."""

    def __init__(self, s: float, n_classes: int, p_d: float) -> None:
        from flint import arb

        m = n_classes - 1
        self.s = arb(s)
        p, eps = _target(n_classes, p_d)
        self.q = (p, eps, (m - 1) * eps)
        root = lambda a, b: balls.rational(Fraction(a, b)).sqrt()  # noqa: E731
        # unit vectors: u1 = sqrt(m/n_c) (1, -1/m, ..), u2 = sqrt((m-1)/m) (0, 1, -1/(m-1), ..)
        u1, u2 = root(m, n_classes), root(m - 1, m)
        self.cos = (u1, -u1 / m, -u1 / m)
        self.sin = (arb(0), u2, -u2 / (m - 1))

    def value(self, t: balls.Ball) -> balls.Ball:
        """g at the angle t."""
        w = self._logits(t)
        total = sum((q * x.exp() for q, x in zip(self.q, w, strict=True)))
        return total.log() - sum((q * x for q, x in zip(self.q, w, strict=True)))

    def slope(self, t: balls.Ball) -> balls.Ball:
        """dg/dt = sum_j (softmax_j - q_j) dw_j/dt over the ball t."""
        w = self._logits(t)
        sine, cosine = t.sin(), t.cos()
        turned = [self.s * (b * cosine - a * sine) for a, b in zip(self.cos, self.sin, strict=True)]
        result = 0
        for j in range(3):
            # q_j / sum_l q_l e^{w_l - w_j}: one difference of logits at a time keeps it narrow
            total = sum(self.q[i] * (w[i] - w[j]).exp() for i in range(3))
            result = result + (self.q[j] / total - self.q[j]) * turned[j]
        return result

    def _logits(self, t: balls.Ball) -> list[balls.Ball]:
        sine, cosine = t.sin(), t.cos()
        return [self.s * (a * cosine + b * sine) for a, b in zip(self.cos, self.sin, strict=True)]
