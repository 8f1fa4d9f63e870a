"""Does Newton's method contract here?  What "near a stationary point" means.

An absolute tolerance on the gradient is met by flat tails, where J falls for ever.  With
s = H^-1 g (largest entries), on the complement of named exact null directions of H, a point counts
as near a stationary one only if |s| <= 1e-3 max(1, |u|) and either

    floor         |s| <= 1e-11 max(1, |u|) and |g| <= 100 eps G: both are rounding there
    contraction   |g(u - s)| <= |g|/4 and the next step is at most half as long, or at the floor

G is the largest entry of the gradient summed with absolute values.  On exp and power tails the
gradient falls by 1/e or less a step, so they fail the second.  Where a kink lies within reach of
the step, one piece of J says nothing of the point it leads to.  Kantorovich's theorem is the
proof, two contracting steps are the test: Ortega and Rheinboldt, Iterative Solution of Nonlinear
Equations in Several Variables, section 12.6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.sparse.linalg

from ocp.controls import Controls, flatten, unflatten
from ocp.problem import Problem

from . import adjoint, hessian, states
from .null_directions import null_directions

#: largest Newton step of a point that counts as near a stationary one, over max(1, |u|_inf)
NEARBY = 1e-3
#: step and gradient at the rounding floor, over max(1, |u|_inf) and over G
FLOOR_STEP, FLOOR_GRADIENT = 1e-11, 100 * np.finfo(float).eps
#: share of |g| that may be left after one step, and of |s| in the second one
GRADIENT_FALL, STEP_FALL = 1 / 4, 1 / 2
#: |H s - g| over |g| of a step that is found by iteration
INEXACT = 0.01
#: how far an eigenvector may leave the named null directions and still be explained by them
EXPLAINED = 1e-4
#: products between two looks at the residual of the iteration, which cost one more
LOOK = 8


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Contraction:
    """What two Newton steps show.

    step : s, (d,), NaN where it is not known;  length : |s|_inf;  at : its entry
    bound : 1e-3 max(1, |u|)
    why_not : why no stationary point is known to be near, or "" where the rule holds
    after : the spectrum after one step, where it was computed
    checked : False where the budget ended first
    """

    step: np.ndarray
    length: float
    at: int
    bound: float
    why_not: str
    after: hessian.Spectrum | None = None
    checked: bool = True


def by_spectrum(
    problem: Problem,
    controls: Controls,
    gradient: np.ndarray,
    size: float,
    found: hessian.Spectrum,
) -> Contraction:
    """Apply the rule with dense Hessians; `size` is G."""
    after: hessian.Spectrum | None = None

    def second(moved: Controls, g: np.ndarray) -> tuple[np.ndarray, str]:
        nonlocal after
        after = hessian.spectrum(problem, moved)
        return step_of(problem, moved, after, g, size)

    first = step_of(problem, controls, found, gradient, size)
    outcome = _rule(problem, controls, gradient, size, first, second)
    return Contraction(**outcome, after=after)


def by_products(
    problem: Problem, controls: Controls, gradient: np.ndarray, size: float, products: int
) -> Contraction:
    """Apply the rule with MINRES, within a number of Hessian-vector products."""
    left = products

    def solve(at: Controls, g: np.ndarray) -> tuple[np.ndarray, str]:
        nonlocal left
        s, used = minres(lambda d: hessian.products(problem, at, d[None])[0], g, left)
        left -= used
        return (np.full(len(g), np.nan), "budget") if s is None else (s, "")

    outcome = _rule(problem, controls, gradient, size, solve(controls, gradient), solve)
    if outcome["why_not"] == "budget":
        outcome["why_not"] = f"the budget ended after {products - left} Hessian-vector products"
        return Contraction(**outcome, checked=False)
    return Contraction(**outcome)


def _rule(
    problem: Problem,
    controls: Controls,
    g: np.ndarray,
    size: float,
    first: tuple[np.ndarray, str],
    second: Callable[[Controls, np.ndarray], tuple[np.ndarray, str]],
) -> dict:
    u = flatten(controls)
    scale = max(1.0, float(np.abs(u).max()))
    s, why_not = first
    known = np.isfinite(s).all()
    at = int(np.abs(s).argmax()) if known else 0
    length = float(np.abs(s[at])) if known else float("nan")
    facts: dict = {"step": s, "length": length, "at": at, "bound": NEARBY * scale}
    if why_not:
        return facts | {"why_not": why_not}
    if not length <= NEARBY * scale:
        text = f"one Newton step moves the controls by {length:.2g}, more than {NEARBY * scale:.2g}"
        return facts | {"why_not": text}
    moved = unflatten(problem, u - s)
    count, where = states.kinks_between(problem, controls, moved)
    if count:
        text = f"{count} pre-activations have a kink within reach of the Newton step, first at"
        return facts | {"why_not": f"{text} {where}"}
    norm = float(np.abs(g).max())
    at_floor = lambda step, slope: (  # noqa: E731
        step <= FLOOR_STEP * scale and slope <= FLOOR_GRADIENT * size
    )
    if at_floor(length, norm):
        return facts | {"why_not": ""}
    after = adjoint.gradient(problem, moved)[0]
    norm_after = float(np.abs(after).max())
    if not norm_after <= GRADIENT_FALL * norm:
        text = f"one Newton step takes the gradient from {norm:.2g} to {norm_after:.2g}, not below"
        return facts | {"why_not": f"{text} a quarter: Newton's method does not contract"}
    s_after, why_not = second(moved, after)
    if why_not:
        return facts | {"why_not": why_not if why_not == "budget" else f"after one step {why_not}"}
    length_after = float(np.abs(s_after).max())
    if not (length_after <= STEP_FALL * length or at_floor(length_after, norm_after)):
        text = f"Newton's steps do not shrink by half: {length:.2g}, then {length_after:.2g}"
        return facts | {"why_not": text}
    return facts | {"why_not": ""}


def step_of(
    problem: Problem, controls: Controls, found: hessian.Spectrum, g: np.ndarray, size: float
) -> tuple[np.ndarray, str]:
    """H^-1 g on the complement of the exact null directions, (d,), and why it is not known.

    An eigenvalue within its band of zero that no structural reason explains leaves it unknown, and
    so does a slope along a direction that is said to be null: J is constant along true ones.
    """
    known = np.abs(found.eigenvalues) > found.band
    flat = found.vectors[:, ~known]
    vectors, values = found.vectors[:, known], found.eigenvalues[known]
    s = vectors @ ((vectors.T @ g) / values)
    if not flat.shape[1]:
        return s, ""
    named = [row for rows in null_directions(problem, controls, found).values() for row in rows]
    named = [v for v in named if abs(g @ v) <= FLOOR_GRADIENT * size * np.abs(v).sum()]
    rest = flat
    if named:
        basis = scipy.linalg.orth(np.array(named).T)
        rest = flat - basis @ (basis.T @ flat)
    unexplained = int((np.linalg.norm(rest, axis=0) > EXPLAINED).sum())
    if unexplained:
        text = f"{unexplained} eigenvalues of the reduced Hessian lie within the error band of zero"
        return s, f"{text}: the Newton step is not known"
    return s, ""


class _Enough(Exception):
    """The residual is small enough, or the budget has ended."""


def minres(
    product: Callable[[np.ndarray], np.ndarray], g: np.ndarray, most: int
) -> tuple[np.ndarray | None, int]:
    """Solve H s = g to |H s - g| <= .01 |g| with at most `most` products: (s or None, used)."""
    used, found, steps = 0, None, 0
    target = INEXACT * float(np.linalg.norm(g))
    if target == 0.0:
        return np.zeros_like(g), 0

    def counted(v: np.ndarray) -> np.ndarray:
        nonlocal used
        if used >= most:
            raise _Enough
        used += 1
        return product(v)

    def look(s: np.ndarray) -> None:
        nonlocal found, steps
        steps += 1
        if (steps in (1, 3) or steps % LOOK == 0) and np.linalg.norm(counted(s) - g) <= target:
            found = s.copy()
            raise _Enough

    H = scipy.sparse.linalg.LinearOperator((len(g), len(g)), matvec=counted, dtype=float)
    try:
        s, _ = scipy.sparse.linalg.minres(H, g, rtol=1e-14, maxiter=max(1, most), callback=look)
        if np.linalg.norm(counted(s) - g) <= target:
            found = s
    except _Enough:
        pass
    return found, used
