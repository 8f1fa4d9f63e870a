"""alpha in ball arithmetic, and the slack of g - g* >= alpha(dist_z) along a trajectory.

For two classes alpha is the excess itself on the side that raises the likelier class: with d the
offset of its logit less that of the other one, s = |d|/sqrt2, p >= 1/2 the larger target,

    excess(d) = log(p + (1-p) e^-d) + (1-p) d,     alpha(s) = excess(|d|),

so the slack is 0 for d >= 0, an identity that no enclosure could decide.
"""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from ..report import Between
from . import arithmetic as balls
from .enclosures import Enclosures, between

Row = list[Fraction]


def used_rows(found: Enclosures) -> list[Row]:
    """The targets that samples have."""
    return [found.targets.rows[kind] for kind in np.unique(found.targets.kind)]


def alpha(s: balls.Ball, row: Row) -> balls.Ball:
    """A lower bound of the excess at the distance s >= 0: exact for two classes, else closed."""
    if len(row) == 2:
        p, t = balls.rational(max(row)), balls.rational(Fraction(2)).sqrt() * s
        return (p + (1 - p) * (-t).exp()).log() + (1 - p) * t
    rho = balls.rational(Fraction(len(row) - 1, len(row)))
    t = rho.sqrt() * s
    return balls.rational(min(row)) / rho * ((-t).expm1() + t)


def offsets(found: Enclosures, z: np.ndarray) -> np.ndarray:
    """P(z - log qbar), (n_d, n_c)."""
    logs = [[balls.rational(q).log() for q in row] for row in found.targets.rows]
    d = z - np.array(logs, dtype=object)[found.targets.kind]
    return d - (d.sum(axis=1) / d.shape[1])[:, None]


def squared_distance(found: Enclosures, z: np.ndarray) -> np.ndarray:
    """dist_z^2 of every sample, (n_d,)."""
    d = offsets(found, z)
    return (d * d).sum(axis=1)


def minus_least_slack(found: Enclosures) -> tuple[Between, tuple[int, int, int]]:
    """Minus the least slack over all stage points, and the (layer, stage, sample) it is near."""
    with balls.precision(found.bits):
        slack = np.array(
            [
                [_slack(found, z, excess) for z, excess in zip(*layer, strict=True)]
                for layer in zip(found.stage_logits, found.stage_excess, strict=True)
            ],
            dtype=object,
        )
        ends = [between(-x) for x in slack.ravel()]
    lower, upper = (np.array(end).reshape(slack.shape) for end in zip(*ends, strict=True))
    # a contradiction is shown where it is surest, otherwise the point that is nearest to one
    worst = lower if lower.max() > 0 else upper
    k, s, i = np.unravel_index(worst.argmax(), worst.shape)
    return Between(float(lower.max()), float(upper.max())), (int(k), int(s), int(i))


def _slack(found: Enclosures, z: np.ndarray, excess: np.ndarray) -> np.ndarray:
    """excess - alpha(dist_z), (n_d,)."""
    rows, kinds = found.targets.rows, found.targets.kind
    square = squared_distance(found, z)
    roots = balls.apply(lambda x: x.nonnegative_part().sqrt(), square)
    bounds = np.array([alpha(s, rows[y]) for s, y in zip(roots, kinds, strict=True)], dtype=object)
    slack = excess - bounds
    if z.shape[1] > 2:
        return slack
    zero = balls.rational(Fraction(0))
    for i, (d, y) in enumerate(zip(offsets(found, z), kinds, strict=True)):
        likelier, other = (0, 1) if rows[y][0] >= rows[y][1] else (1, 0)
        identical = rows[y][0] == rows[y][1] or d[likelier] >= d[other]
        if identical and slack[i].contains(0):
            slack[i] = zero
    return slack
