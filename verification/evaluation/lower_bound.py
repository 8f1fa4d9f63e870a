"""A lower bound of J that holds for *every* control.

Two samples of different classes share the controls, so layer k moves them apart by at most

    |x^i - x^j|_{k+1} <= psi(t_k) |x^i - x^j|_k,   t_k = h L |A_k|_F   [h L |W_k| |A_k|],

psi(t) = 1 + t (euler), 1 + t + t^2/2 (heun), 1 + t + t^2/2 + t^3/6 + t^4/24 (rk4), L = Lip(sigma).
While they are close they cannot both be right: with m the margin z_y - z_y' and p' = p/(p + eps),

    g_y(z) >= (p + eps) kl(m),  kl(m) = log(1 + e^-m) + (1 - p') m - H(p')  (data processing),
    m_i + m_j <= |C_y - C_y'| |x^i - x^j| = c delta   =>
    g_i + g_j >= 2 (p + eps) kl(min(c delta / 2, log(p/eps)))     (kl is convex, least there).

A fractional matching w (sum_j w_ij <= 1) adds pairs up: F >= Fbar(s) = (1/n_d) sum w_ij G_ij(s),
s = sum_{l<k} log psi(t_l), not increasing in s.  The control pays h (r/2) |A|^2 = r t^2/(2 h L^2)
[double: h (r/2)(|A|^2 + |W|^2) >= r t / L], hence J >= V_0(0) with

    V_k(s) = min_t  sum_stages h w beta Fbar(s + log stage(t)) + cost(t) + V_{k+1}(s + log psi(t)),
    V_N(s) = gamma Fbar(s).

On a grid of s every quantity is taken at the end of its cell where it is smallest, so the minimum
over the grid bounds the continuous one; floats are rounded down by more than libm can err.
F(x_0) is known and replaces Fbar(0) at the first stage.  The bound is far from the best value
where single samples must travel: `checks.gap` says how far.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.optimize
from scipy.special import xlogy

from ocp import loss
from ocp.problem import SCHEMES, Problem

#: psi and the stage points: |X_s^i - X_s^j| <= stage(t) |x^i - x^j|, coefficients by power of t
_PSI = {
    "euler": (1.0, 1.0),
    "heun": (1.0, 1.0, 1 / 2),
    "rk4": (1.0, 1.0, 1 / 2, 1 / 6, 1 / 24),
}
_STAGES = {
    "euler": ((1.0,),),
    "heun": ((1.0,), (1.0, 1.0)),
    "rk4": ((1.0,), (1.0, 1 / 2), (1.0, 1 / 2, 1 / 4), (1.0, 1.0, 1 / 2, 1 / 4)),
}
#: relative error of exp, log1p, expm1 and of short sums of theirs, with room: 64 units
_SLACK = 64 * np.finfo(float).eps
MAX_SAMPLES = 3000


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class LowerBound:
    """J(u) >= value for every u with these ends, rounded down.

    matched : pairs in the matching at s = 0;  step : grid step of s;  cells : its number
    """

    value: float
    matched: int
    step: float
    cells: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pairs:
    """A fractional matching of samples of different classes.

    reach : c_ij |x_0^i - x_0^j| / 2, rounded up, (pairs,);  weight : w_ij, (pairs,)
    """

    reach: np.ndarray
    weight: np.ndarray


def lower_bound(problem: Problem, cells: int = 4000) -> LowerBound:
    """Return the bound; larger `cells` make it sharper, never wrong.

    Raises
    ------
    ValueError : trained ends, or more samples than the matching is meant for
    """
    refusal = why_not(problem)
    if refusal:
        raise ValueError(refusal)
    limit = _upper_separation(problem)
    gain, reach = _pairs(problem)
    families = [_matching(problem, gain, reach, s) for s in np.linspace(0.0, limit, 9)[:-1]]
    edges = limit / cells * np.arange(cells + 1) if limit > 0 else np.zeros(2)
    # any matching bounds F at any s, hence so does the best of them
    F = np.max([_matched_cost(problem, pairs, edges) for pairs in families], axis=0)
    beyond = np.max([_matched_cost(problem, pairs, np.array([math.inf])) for pairs in families])
    F = np.minimum.accumulate(F)
    value = _dynamic_program(problem, edges, F, float(beyond))
    if problem.beta:
        # the first stage point is x_0 itself: its cost is known, whatever the control
        known = problem.h * SCHEMES[problem.scheme][1][0] * (_initial_cost(problem) - float(F[0]))
        value = (value + max(0.0, known)) * (1.0 - _SLACK)
    return LowerBound(
        value=float(value),
        matched=int((families[0].weight > 0).sum()),
        step=float(edges[1]),
        cells=len(edges) - 1,
    )


def why_not(problem: Problem) -> str:
    """Why no bound is computed, or ""."""
    if problem.trained != ("layers",):
        return "the bound is for fixed ends; a trained lift or readout moves the samples freely"
    if problem.n_samples > MAX_SAMPLES:
        return f"the matching is meant for {MAX_SAMPLES} samples; found {problem.n_samples}"
    return ""


def pair_cost(problem: Problem, margin: np.ndarray) -> np.ndarray:
    """Lower bound of g_i + g_j for margins that sum to at most 2 `margin` >= 0, rounded down."""
    p = problem.p_d
    eps = loss.off_target(problem.n_classes, p)
    both = p + eps
    first, second = p / both, eps / both
    best = math.log(p / eps) if eps > 0 else math.inf
    m = np.minimum(margin, best)
    # at an infinite margin and p = 1 the loss vanishes
    linear = np.where(np.isinf(m), 0.0, second * np.where(np.isinf(m), 0.0, m))
    entropy = -(xlogy(first, first) + xlogy(second, second))
    kl = np.log1p(np.exp(-m)) + linear - entropy
    error = _SLACK * (np.log1p(np.exp(-m)) + np.abs(linear) * 4 + 4 * abs(entropy) + 4 * eps)
    at_best = m >= best * (1.0 - 1e-12)
    return np.where(at_best, 0.0, np.maximum(0.0, 2 * both * (kl - error) * (1 - _SLACK)))


def _pairs(problem: Problem) -> tuple[np.ndarray, np.ndarray]:
    """(i, j differ in class), and c_ij |x_0^i - x_0^j| / 2 rounded up; (n_d, n_d)."""
    x = problem.input_values @ problem.lift_weight.T + problem.lift_bias
    # rounding of x_0: a dot product of n_in terms, then a difference
    terms = x.shape[1] + problem.inputs.shape[1] + 8
    error = terms * np.finfo(float).eps * float(_input_sizes(problem).max())
    n, y = problem.width, problem.labels
    differences = lambda j: np.abs(x[:, None, j] - x[None, :, j]) + 2 * error  # noqa: E731
    distance = _norms(differences, n) * (1 + (n + 8) * _SLACK)
    # equal rows are equal exactly: no control separates them
    _, group = np.unique(problem.input_values, axis=0, return_inverse=True)
    group = group.ravel()
    distance[group[:, None] == group[None, :]] = 0.0
    C = problem.readout_weight
    rows = _norms(lambda j: np.abs(C[:, None, j] - C[None, :, j]), n) * (1 + (n + 8) * _SLACK)
    rows = rows[y[:, None], y[None, :]]
    with np.errstate(over="ignore", invalid="ignore"):
        reach = 0.5 * rows * distance * (1 + _SLACK)
    # what overflows is no bound, and what underflows is not 0
    reach = np.maximum(np.where(np.isnan(reach), np.inf, reach), np.finfo(float).tiny)
    reach[(rows == 0.0) | (distance == 0.0)] = 0.0
    return y[:, None] != y[None, :], reach


def _norms(sizes: Callable[[int], np.ndarray], n: int) -> np.ndarray:
    """Euclidean norms over j < n of what sizes(j) gives; squares neither overflow nor vanish."""
    with np.errstate(over="ignore", invalid="ignore"):
        top = sizes(0)
        for j in range(1, n):
            top = np.maximum(top, sizes(j))
        scale = np.where((top > 0) & np.isfinite(top), top, 1.0)
        total = np.zeros_like(scale)
        for j in range(n):
            total += (sizes(j) / scale) ** 2
        return np.where(np.isfinite(top), scale * np.sqrt(total), np.inf)


def _initial_cost(problem: Problem) -> float:
    """F(x_0), rounded down: g moves by at most twice the largest error of a logit."""
    x = problem.input_values @ problem.lift_weight.T + problem.lift_bias
    z = x @ problem.readout_weight.T + problem.readout_bias
    F = float(loss.soft_cross_entropy(z, problem.soft_targets).mean())
    size = _input_sizes(problem) @ np.abs(problem.readout_weight).T + np.abs(problem.readout_bias)
    terms = problem.inputs.shape[1] + problem.width + problem.n_classes + 16
    error = 8 * terms * np.finfo(float).eps * (1.0 + float(size.max()))
    return max(0.0, F - error) if math.isfinite(F) else 0.0


def _input_sizes(problem: Problem) -> np.ndarray:
    """Sums of the absolute values of all terms in x_0, (n_d, n): what rounding is relative to."""
    values = np.abs(problem.inputs.astype(float))
    if problem.input_scale is not None and problem.input_shift is not None:
        values = abs(problem.input_scale) * values + abs(problem.input_shift)
    return values @ np.abs(problem.lift_weight).T + np.abs(problem.lift_bias)


def _matching(problem: Problem, different: np.ndarray, reach: np.ndarray, s: float) -> Pairs:
    """The fractional matching that is best at s: half of the best assignment, made symmetric.

    For a permutation pi, w_ij = [pi(i) = j]/2 + [pi(j) = i]/2 has sum_j w_ij <= 1.
    """
    gain = np.where(different, pair_cost(problem, reach * math.exp(s)), 0.0)
    rows, columns = scipy.optimize.linear_sum_assignment(gain, maximize=True)
    keep = different[rows, columns]
    rows, columns = rows[keep], columns[keep]
    return Pairs(reach=reach[rows, columns], weight=np.full(len(rows), 0.5))


def _matched_cost(problem: Problem, pairs: Pairs, s: np.ndarray) -> np.ndarray:
    """(1/n_d) sum w_ij G_ij(s), rounded down, at every s; (len(s),)."""
    if not len(pairs.reach):
        return np.zeros(len(s))
    total = np.zeros(len(s))
    zero = pairs.reach == 0.0
    for start in range(0, len(s), 512):
        part = slice(start, start + 512)
        with np.errstate(invalid="ignore", over="ignore"):
            margin = pairs.reach[:, None] * (np.exp(s[part]) * (1 + _SLACK))
        margin[zero] = 0.0  # 0 times infinity
        total[part] = (pairs.weight[:, None] * pair_cost(problem, margin)).sum(axis=0)
    # a sum of non-negative floats is wrong by less than its number of terms in units
    shrink = 1.0 - (len(pairs.reach) + 8) * np.finfo(float).eps
    return total / problem.n_samples * shrink


def _upper_separation(problem: Problem) -> float:
    """An s at which the cheapest way there costs more than u = 0 does, or every pair is free.

    Beyond it the bound of F is that of the pairs that no control separates.
    """
    different, reach = _pairs(problem)
    positive = reach[different & (reach > 0)]
    if not len(positive):
        return 0.0
    p = problem.p_d
    eps = loss.off_target(problem.n_classes, p)
    best = math.log(p / eps) if eps > 0 else 40.0
    free = math.log(max(best / positive.min(), 1.0)) + 0.01
    return float(min(free, 30.0))


def _dynamic_program(problem: Problem, s: np.ndarray, F: np.ndarray, beyond: float) -> float:
    """V_0(0) on the grid s_g = g step; F_g bounds Fbar on (s_{g-1}, s_g] and `beyond` later on."""
    h, N, beta, gamma = problem.h, problem.depth, problem.beta, problem.gamma
    G = len(s) - 1
    down = 1.0 - _SLACK
    padded = np.concatenate([F, np.full(G + 2, beyond)])
    # increments of log psi in cell m, (m step, (m+1) step]: t is at least t_m
    least_t = _inverse_psi(problem.scheme, s)
    cost = _control_cost(problem, least_t) * down
    V = gamma * padded[: G + 1] * down
    V_beyond = gamma * beyond * down
    index = np.arange(G + 1)
    data = np.zeros((len(SCHEMES[problem.scheme][1]), G + 1), dtype=int)
    most_t = _inverse_psi(problem.scheme, s + s[1]) * (1 + 1e-9) + 1e-12
    for stage, polynomial in enumerate(_STAGES[problem.scheme]):
        # the largest log stage(t) in the cell, in whole steps rounded up
        top = np.log(np.polynomial.polynomial.polyval(most_t, polynomial)) * (1 + 1e-12)
        data[stage] = np.minimum(np.ceil(top / s[1] + 1e-9), G + 1) if s[1] > 0 else 0
        if polynomial == (1.0,):
            data[stage] = 0
    # Why this is a bound: a layer with log psi in cell m, (m step, (m+1) step], pays at least
    # cost[m] (its least t), yet is credited with the whole cell: it arrives m + 1 steps on, where
    # V and Fbar, which do not increase in s, are smallest.  So every control's true cost is above
    # that of some path on the grid, and the minimum over paths is below all of them.
    for _ in range(N):
        later = np.concatenate([V, np.full(G + 2, V_beyond)])
        new = np.full(G + 1, np.inf)
        for m in range(G + 1):
            value = cost[m] + later[index + m + 1]
            if beta:
                for w, jump in zip(SCHEMES[problem.scheme][1], data[:, m], strict=True):
                    value = value + h * w * padded[index + jump]
            np.minimum(new, value, out=new)
            if cost[m] >= new.max():  # costs grow with m: no later cell can lower anything
                break
        else:
            # larger increments than the grid holds: everything is `beyond` afterwards
            rest = cost[G] + V_beyond
            if beta:
                rest = rest + h * SCHEMES[problem.scheme][1][0] * padded[index]
            np.minimum(new, rest, out=new)
        # standing still (t = 0) is exact on the grid
        still = V + (h * beta * sum(SCHEMES[problem.scheme][1])) * padded[: G + 1]
        V = np.minimum(new, still) * (1.0 - (8 + N) * _SLACK)
        V_beyond = (V_beyond + h * beta * beyond) * (1.0 - (8 + N) * _SLACK)
    return float(max(V[0], 0.0))


def _inverse_psi(scheme: str, s: np.ndarray) -> np.ndarray:
    """t >= 0 with psi(t) <= e^s, rounded down, elementwise."""
    wanted = np.expm1(s) * (1.0 - 1e-13)
    low, high = np.zeros_like(s), wanted.copy()
    polynomial = (0.0, *_PSI[scheme][1:])
    for _ in range(80):
        middle = 0.5 * (low + high)
        inside = np.polynomial.polynomial.polyval(middle, polynomial) <= wanted
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return low * (1.0 - 1e-13)


def _control_cost(problem: Problem, t: np.ndarray) -> np.ndarray:
    """The least that a layer pays for t = h L |A|_F, or h L |W|_F |A|_F."""
    L = problem.sigma.lipschitz
    if problem.block == "double":
        return problem.r * t / L
    return problem.r * t * t / (2.0 * problem.h * L * L)
