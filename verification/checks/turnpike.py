"""Turnpike: count bounds that are theorems (beta = 1), and what one file shows.

With J' = J - (ends) - (hN + gamma) l*, w_1 the first weight of the scheme, k = 0..N-1:

    (1/n_d) #{(i, k): dist_z(x_k^i) > e}  <= J' / (w_1 h alpha(e))
    #{(i, k): x_k^i classified wrong}     <= n_d J / (w_1 h g_mis)
    #{k: l_k - l* > eta}                  <= J' / (h eta)

because every term of J' is nonnegative.  They hold for every file, trained or not, and are vacuous
where the bound is not below the trivial maximum.  Counts and bounds are enclosed (`balls`) where
the file is small enough; else they are observed in float64.  What can fail needs several depths:
see `across_depths`.  Tubes e are fixed fractions of log(p/eps)/sqrt2, never chosen from the data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import partial

import numpy as np
import scipy.stats

from ocp import loss
from ocp.problem import SCHEMES

from ..balls.count_bounds import Sides, level_sides, tube_sides, wrong_sides
from ..balls.enclosures import Enclosures
from ..evaluation.layers import entry_layer
from ..evaluation.minimisers import RESOLVED, class_distances
from ..evaluation.subject import Subject
from ..report import Entry, Finding, Verdict, in_floats, not_applicable, theorem
from .dissipativity import RANK

TUBES = ((1 / 8, "1/8"), (1 / 4, "1/4"), (1 / 2, "1/2"))
LEVELS = ((1 / 8, "1/8"), (1 / 2, "1/2"))
#: fewest layers that a rate is fitted on, and judged on
FEWEST = 3


def check_turnpike(subject: Subject) -> list[Entry]:
    """Return the count bounds and the observations on one file."""
    problem = subject.problem
    if problem.block == "single" and not problem.sigma.zero_at_zero:
        why = f"{problem.activation} unshifted is not 0 at 0: u = 0 is no equilibrium"
        return [not_applicable("turnpike.counts", why), not_applicable("turnpike.one_file", why)]
    if not np.isfinite(subject.survey.objective):
        why = "the states are not finite"
        return [not_applicable("turnpike.counts", why), not_applicable("turnpike.one_file", why)]
    if problem.beta == 0:
        why = "beta = 0: the layers carry no data cost, nothing bounds these counts"
        counts: list[Entry] = [not_applicable("turnpike.counts", why)]
    else:
        counts = [*_tube_counts(subject), _wrong_count(subject), *_level_counts(subject)]
    return [*counts, _entry(subject), _leaving(subject), _rate(subject)]


def excess_cost(subject: Subject) -> float:
    """J' = J less the cost of trained ends and less what no control can avoid."""
    problem = subject.problem
    unavoidable = (
        problem.h * problem.depth * problem.beta + problem.gamma
    ) * subject.minimisers.least
    return subject.survey.objective - subject.ends_cost - unavoidable


def tube(subject: Subject, fraction: float) -> float:
    """Radius of a tube around the minimisers, in logits."""
    return fraction * class_distances(subject.problem).boundary


def off_turnpike(subject: Subject, fraction: float) -> np.ndarray:
    """Share of samples outside the tube at each layer 0..N-1, (N,); NaN distances are outside."""
    inside = subject.distances[:-1] <= tube(subject, fraction)
    return 1.0 - inside.mean(axis=1)


def _first_weight(subject: Subject) -> float:
    return subject.problem.h * SCHEMES[subject.problem.scheme][1][0]


def _over(cost: float, unit: float) -> float:
    """How often `unit` fits into a cost; no bound where it is rounding, at p_d next to 1/n_c."""
    return cost / unit if unit > RESOLVED else np.inf


def _count(
    subject: Subject,
    name: str,
    enclosed: Callable[[Enclosures], Sides],
    observed: tuple[float, float],
    trivial: float,
    message: str,
    why: str = "",
) -> Finding:
    """A count and its bound: enclosed, or in float64 where that is not possible (why)."""
    found = subject.enclosures
    if found is None or why:
        return in_floats(name, *observed, subject.why_not_enclosed or why, trivial, message=message)
    return theorem(name, *enclosed(found), trivial, message=message)


def _why_in_floats(subject: Subject) -> str:
    """Why l* or distances are known in float64 only, or ""."""
    minimisers = subject.minimisers
    return "" if minimisers.applicable or minimisers.full_rank else RANK


def _tube_counts(subject: Subject) -> list[Entry]:
    if subject.minimisers.applicable:
        return [not_applicable("turnpike.tube", subject.minimisers.applicable)]
    lines: list[Entry] = []
    for fraction, text in TUBES:
        e = tube(subject, fraction)
        least = min(
            float(subject.minimisers.bound(np.array(e), kind))
            for kind in range(len(subject.minimisers.target))
        )
        bound = _over(excess_cost(subject), _first_weight(subject) * least)
        lines.append(
            _count(
                subject,
                f"turnpike.tube_{text}",
                partial(tube_sides, fraction=Fraction(text)),
                (float(off_turnpike(subject, fraction).sum()), bound),
                float(subject.problem.depth),
                f"layers outside the tube of radius {e:.3g} (logits), mean over samples;"
                f" bound J'/(w_1 h alpha(e)), trivial bound {subject.problem.depth}",
                _why_in_floats(subject),
            )
        )
    return lines


def _wrong_count(subject: Subject) -> Finding:
    problem = subject.problem
    wrong = int((~subject.survey.right[:-1]).sum())
    g_mis = loss.misclassification_threshold(problem.n_classes, problem.p_d)
    bound = _over(problem.n_samples * subject.survey.objective, _first_weight(subject) * g_mis)
    return _count(
        subject,
        "turnpike.misclassified",
        wrong_sides,
        (wrong, bound),
        float(problem.depth * problem.n_samples),
        f"(sample, layer) pairs classified wrong; bound n_d J/(w_1 h g_mis),"
        f" g_mis = {g_mis:.5g}, trivial bound {problem.depth * problem.n_samples}",
    )


def _level_counts(subject: Subject) -> list[Entry]:
    problem = subject.problem
    g_mis = loss.misclassification_threshold(problem.n_classes, problem.p_d)
    lines: list[Entry] = []
    for fraction, text in LEVELS:
        eta = fraction * g_mis
        above = int((subject.survey.layer_cost - subject.minimisers.least > eta).sum())
        lines.append(
            _count(
                subject,
                f"turnpike.level_{text}",
                partial(level_sides, fraction=Fraction(text)),
                (above, _over(excess_cost(subject), problem.h * eta)),
                float(problem.depth),
                f"layers with l_k - l* > {eta:.3g} = {text} g_mis; bound J'/(h eta),"
                f" trivial bound {problem.depth}",
                _why_in_floats(subject),
            )
        )
    return lines


def _entry(subject: Subject) -> Finding:
    k, N = entry_layer(subject), subject.problem.depth
    settled = subject.survey.data_cost[-1]
    return Finding(
        name="turnpike.one_file",
        verdict=Verdict.OBSERVED,
        measured=float(k),
        where=f"layer {k}",
        message=(
            f"observed from layer {k} of {N}: the data cost stays within 10 % of its final"
            f" {settled:.4g}; one file proves no turnpike, give three depths"
            if k < N
            else f"no turnpike is seen: the data cost still changes in the last layer of {N}"
        ),
    )


def _leaving(subject: Subject) -> Finding:
    """After the entry layer: where the data cost rises again (a leaving arc)."""
    name = "turnpike.leaving"
    cost, k = subject.survey.data_cost, entry_layer(subject)
    if subject.minimisers.applicable or k >= subject.problem.depth:
        return not_applicable(name, subject.minimisers.applicable or "the turnpike is not entered")
    excess = cost[k:] - subject.minimisers.least
    low = int(excess.argmin()) + k
    rise = float(cost[-1] - cost[low])
    return Finding(
        name=name,
        verdict=Verdict.OBSERVED,
        measured=rise,
        where=f"layer {low}",
        message="rise of the data cost from its least value after the entry to the last layer",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """log(F(x_k) - l*) = intercept - rate k; half: half width of the 95 % interval of the rate.

    fitted on even layers; error: root mean square of the logarithm's error on the odd ones
    """

    rate: float
    half: float
    error: float
    spread: float
    first: int
    last: int


def fit_rate(excess: np.ndarray, last: int) -> Rate | None:
    """Fit on the even layers 0..last and judge on the odd ones; None with too few layers."""
    layers = np.arange(last + 1)
    usable = excess[: last + 1] > 0
    even, odd = (layers % 2 == 0) & usable, (layers % 2 == 1) & usable
    if even.sum() < FEWEST or odd.sum() < FEWEST:
        return None
    fit = scipy.stats.linregress(layers[even], np.log(excess[: last + 1][even]))
    predicted = fit.intercept + fit.slope * layers[odd]
    seen = np.log(excess[: last + 1][odd])
    quantile = scipy.stats.t.ppf(0.975, even.sum() - 2)
    return Rate(
        rate=float(-fit.slope),
        half=float(quantile * fit.stderr),
        error=float(np.sqrt(np.mean((seen - predicted) ** 2))),
        spread=float(np.ptp(seen)),
        first=0,
        last=last,
    )


def _rate(subject: Subject) -> Finding:
    name = "turnpike.rate"
    if subject.minimisers.applicable:
        return not_applicable(name, subject.minimisers.applicable)
    excess = subject.survey.data_cost - subject.minimisers.least
    found = fit_rate(excess, min(entry_layer(subject), subject.problem.depth))
    if found is None:
        return not_applicable(name, "too few layers before the entry for a fit and a judgement")
    low, high = found.rate - found.half, found.rate + found.half
    holds = low > 0 and found.error <= 0.25 * found.spread
    return Finding(
        name=name,
        verdict=Verdict.OBSERVED,
        measured=found.rate,
        where=f"layers {found.first} to {found.last}",
        message=f"exponential rate of approach of F - l* by layer, 95 % interval [{low:.3g},"
        f" {high:.3g}], fitted on even layers; on the odd ones the logarithm errs by"
        f" {found.error:.2g} of {found.spread:.2g}"
        + ("" if holds else ": not an exponential approach"),
    )
