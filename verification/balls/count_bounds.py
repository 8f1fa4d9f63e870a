"""Counts of layers off the turnpike and their bounds, both enclosed.

With J' = J - (ends) - (hN + gamma) l*, l* = gap, w_1 the first weight of the scheme, k = 0..N-1:

    (1/n_d) #{(i, k): dist_z(x_k^i) > e}  <= J' / (w_1 h alpha(e))
    #{(i, k): x_k^i classified wrong}     <= n_d J / (w_1 h g_mis)
    #{k: l_k - l* > eta}                  <= J' / (h eta)

A count whose comparisons are not all decided lies between those that surely hold and those that
are not surely false.  Everything is stated for readouts of full rank, but for the second line.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np

from ocp.problem import SCHEMES, Problem

from ..report import Between
from . import arithmetic as balls
from .decisions import rightness
from .enclosures import BITS, Enclosures, between
from .slack import alpha, squared_distance, used_rows

#: a theorem's two sides: what is counted, and its bound
Sides = tuple[Between, Between]


def tube_sides(found: Enclosures, fraction: Fraction) -> Sides:
    """Layers outside the tube of that fraction of log(p/eps)/sqrt2, mean over samples."""
    problem = found.problem
    with balls.precision(found.bits):
        p, eps = (balls.rational(q) for q in soft_target(found))
        # squares are compared: no root of a ball around 0 is needed
        radius = balls.rational(fraction) * (p / eps).log() / balls.rational(Fraction(2)).sqrt()
        outside = [squared_distance(found, z) for z in found.logits[:-1]]
        surely, perhaps = _count(outside, radius * radius)
        least = [alpha(radius, row) for row in used_rows(found)]
        bound = _over(found.excess_cost(), _first(found), least)
    n_d = problem.n_samples
    return Between(Fraction(surely, n_d), Fraction(perhaps, n_d)), bound


def wrong_sides(found: Enclosures) -> Sides:
    """(sample, layer) pairs classified wrong."""
    right, wrong = zip(*(rightness(found, k) for k in range(found.problem.depth)), strict=True)
    pairs = found.problem.n_samples * found.problem.depth
    with balls.precision(found.bits):
        cost = found.total() * found.problem.n_samples
        bound = _over(cost, _first(found), [g_mis(found)])
    return Between(int(np.sum(wrong)), pairs - int(np.sum(right))), bound


def level_sides(found: Enclosures, fraction: Fraction) -> Sides:
    """Layers whose cost exceeds l* by more than that fraction of g_mis."""
    with balls.precision(found.bits):
        eta = balls.rational(fraction) * g_mis(found)
        above = np.array([found.layer_excess(k) for k in range(found.problem.depth)], dtype=object)
        surely, perhaps = _count([above], eta)
        bound = _over(found.excess_cost(), found.model.h, [eta])
    return Between(surely, perhaps), bound


def g_mis(found: Enclosures) -> balls.Ball:
    """p log(2p/(p + eps)) + eps log(2 eps/(p + eps))."""
    return misclassification_threshold(*soft_target(found))


def misclassification_threshold(p: Fraction, eps: Fraction) -> balls.Ball:
    """g_mis for a target with p on the true class and eps on each other."""
    terms = [balls.rational(q) * balls.rational(2 * q / (p + eps)).log() for q in (p, eps) if q]
    return sum(terms, balls.rational(Fraction(0)))


def most_wrong(problem: Problem, cost: float) -> float:
    """The largest whole number not above n_d cost / (w_1 h g_mis), for any control of that cost."""
    p = Fraction(problem.p_d)
    with balls.precision(BITS[-1]):
        threshold = misclassification_threshold(p, (1 - p) / (problem.n_classes - 1))
        first = balls.rational(Fraction(SCHEMES[problem.scheme][1][0]).limit_denominator(6))
        unit = first * balls.rational(Fraction(problem.h))
        bound = _over(balls.rational(Fraction(cost)) * problem.n_samples, unit, [threshold])
    return float(math.floor(bound.upper)) if math.isfinite(bound.upper) else math.inf


def soft_target(found: Enclosures) -> tuple[Fraction, Fraction]:
    """p_d and eps."""
    row = found.targets.rows[0]
    return row[0], row[1]


def _count(values: list[np.ndarray], level: balls.Ball) -> tuple[int, int]:
    """How many balls surely lie above the level, and how many not surely at or below it."""
    surely = sum(int((v > level).sum()) for v in values)
    below = sum(int((v <= level).sum()) for v in values)
    return surely, sum(map(len, values)) - below


def _first(found: Enclosures) -> balls.Ball:
    return found.model.h * found.model.w[0]


def _over(cost: balls.Ball, unit: balls.Ball, least: list[balls.Ball]) -> Between:
    """cost / (unit min(least)); no bound where the divisor cannot be told from 0."""
    bounds = [between(cost / (unit * a)) if a > 0 else Between(0.0, math.inf) for a in least]
    return Between(max(b.lower for b in bounds), max(b.upper for b in bounds))
