"""The proof with the Hessian in midpoint-radius float64 matrices, the centre and G in balls.

The stored controls are polished to `bits` bits; only H(U), the preconditioner B (floats, exact by
definition) and the products B H, L^-1 H L^-T are matrices of floats.  The objective follows from
its ball at the centre c by Taylor's theorem on the box:

    |J(u+) - J(c)| <= |G|' e + e' |H(U)| e / 2,     |u+ - c| <= e.

What float64 cannot tell, curvature of 1e-12 of the largest or less, stays undecided here.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.linalg

from ocp.controls import unflatten
from ocp.problem import Problem

from ..evaluation.hessian import by_condensing
from . import arithmetic as balls
from . import midrad
from .activations import ContainsKink
from .krawczyk import UP, curvature_bound, error_bound, perron
from .midrad import MidRad, matmul
from .midrad_hessian import Statement, hessian, statement
from .model import BallModel, ball_model, gradient, objective
from .proof import (
    NO_BOX,
    NOT_DEFINITE,
    SINGULAR,
    SINGULAR_AT_START,
    TOO_FLAT,
    UNBOUNDED,
    Certificate,
    Outcome,
    Say,
    distances,
    flattest,
    largest_entry,
    part,
    undecided,
)

#: the Newton step below which the centre is good enough, relative to the largest control: a few
#: thousandths of the spacing of floats, and far below any box on which matrices of floats contract
POLISHED = 2.0**-64
#: half sides of the first box, and of the widest that is tried, relative to the largest control
PROBE, WIDEST = 1e-12, 0.26


def attempt(problem: Problem, u: np.ndarray, bits: int, say: Say) -> Certificate:
    """Try to prove a strict local minimiser next to the controls u, (d,) floats.

    Raises
    ------
    ContainsKink : the activation may not be smooth at a state
    """
    model = ball_model(problem)
    found: dict = {"bits": bits}
    stored = balls.exact(u)
    g = gradient(model, stored)
    found["grad_lower"], found["grad_upper"] = largest_entry(g)
    if not math.isfinite(found["grad_upper"]):
        return undecided(UNBOUNDED, found)
    with np.errstate(all="ignore"):  # what overflows is seen to be infinite
        return _attempt(model, stored, g, found, say)


def _attempt(
    model: BallModel, stored: np.ndarray, g: np.ndarray, found: dict, say: Say
) -> Certificate:
    problem = model.problem
    centre, g, reason = _polish(model, stored, g, part(say, "Hessian"))
    if reason:
        rough = _float_hessian(problem, stored)
        flat, sentence = flattest(problem, rough) if np.isfinite(rough).all() else (math.inf, "")
        return undecided(sentence if flat < 1e-13 else reason, found)
    rounded = statement(model)
    told = part(say, "Hessian at the polished point")
    H = hessian(rounded, midrad.around(centre, np.zeros(len(centre))), told)
    if not H.finite():
        return undecided(UNBOUNDED, found)
    B = inverse(H.mid)
    if B is None:
        return undecided(SINGULAR, found)
    found["dominance"] = gershgorin(H)
    newton = (np.abs(B) @ balls.magnitude(g)) * UP + len(g) * midrad.TINY
    thin = defect_of(B, H)
    if not thin.sum(axis=1).max() < 0.5:
        return undecided(flattest(problem, H.mid)[1], found)
    told = part(say, "Hessian over the box")
    box = widest_box(rounded, centre, B, thin, newton, told)
    if box is None:
        return undecided(NO_BOX, found)
    w, tau, rho, H_box = box
    found["rho"] = rho
    found["radius"], found["radius_max"] = float(tau * w.min()), float(tau * w.max())
    error = np.minimum(error_bound(newton, rho, w), tau * w)
    found["distance"], found["distance_2"] = distances(balls.magnitude(stored - centre) + error, UP)
    if not found["dominance"] > 0:
        return _saddle(H.mid, H_box, found)
    quadratic = error @ (H_box.magnitude() @ error)
    change = (float(balls.magnitude(g) @ error) + quadratic) * UP + len(g) * midrad.TINY
    J = balls.ball(np.array([objective(model, centre)], dtype=object), change)[0]
    found["objective_lower"], found["objective_upper"] = balls.lower(J), balls.upper(J)
    found["objective_digits"] = J.str(25)
    found["min_curvature"] = curvature_bound(np.abs(B), rho, w)
    if not found["min_curvature"] > 0:
        return undecided(TOO_FLAT, found)
    return Certificate(outcome=Outcome.MINIMUM, **found)


def _polish(
    model: BallModel, stored: np.ndarray, g: np.ndarray, told: Callable[[float], None]
) -> tuple[np.ndarray, np.ndarray, str]:
    """Newton steps with float Hessians: (centre, its gradient, "") or (.., why not).

    Nothing here needs to be rigorous: the test that follows judges the point that comes out.
    """
    centre, sizes, B = stored, [], None
    small = POLISHED * max(1.0, float(balls.magnitude(stored).max()))
    for _ in range(40):
        if B is None or (len(sizes) > 1 and sizes[-1] > 1e-3 * sizes[-2]):
            B = inverse(_float_hessian(model.problem, centre))
            if B is None:
                return centre, g, SINGULAR_AT_START
            told(1.0)
        step = B @ balls.nearest(g)
        size = float(np.abs(step).max())
        if not math.isfinite(size):
            return centre, g, "the Newton steps are not finite"
        sizes.append(size)
        if size <= small:
            break
        if size > 2 * sizes[0] or (len(sizes) > 12 and size > 0.5 * sizes[-2]):
            return centre, g, f"the Newton steps do not shrink ({sizes[0]:.2g}, .., {size:.2g})"
        centre = balls.mid(centre - balls.exact(step))
        g = gradient(model, centre)
    away = float(balls.magnitude(centre - stored).max())
    if away > 2 * sizes[0] + small:
        return (
            centre,
            g,
            (f"the Newton steps lead {away:.2g} away, more than twice the first ({sizes[0]:.2g})"),
        )
    return centre, g, ""


def widest_box(
    model: Statement,
    centre: np.ndarray,
    B: np.ndarray,
    thin: np.ndarray,
    newton: np.ndarray,
    told: Callable[[float], None],
) -> tuple[np.ndarray, float, float, MidRad] | None:
    """Return (w, tau, rho, H(U)) of a box on which Krawczyk's test holds, among those tried.

    What a probe adds to the defect at the centre, `thin`, says how the enclosure widens, hence in
    which coordinates the box may be how wide (Perron weights): aimed at is rho = 0.3.  Boxes that
    reach a kink are given up for smaller ones.
    """
    d = len(centre)
    size = max(1.0, float(balls.magnitude(centre).max()))
    w, tau = np.ones(d), PROBE * size
    best, aimed = None, False
    for _ in range(8):
        R = tau * w
        H = _hessian_over(model, centre, R, told)
        defect = np.full((d, d), np.inf) if H is None else defect_of(B, H)
        rho = float((defect @ w / w).max()) * UP
        # strictly inside, componentwise: |B G| + |I - B H| R < R
        if H is not None and rho < 1.0 and bool((UP * (newton + UP * (defect @ R)) < R).all()):
            best = (w, tau, rho, H)
            if aimed and (rho > 0.05 or tau >= WIDEST * size):
                break
        elif aimed and best is not None:
            break
        if not math.isfinite(rho):
            tau *= 1e-2
        elif aimed:
            tau *= 0.3 / max(rho, 3e-3)
        else:
            wider, aimed = np.maximum(defect - thin, 0.0), True
            w = perron(wider)
            tau *= 0.3 / max(float((wider @ w / w).max()), 1e-12)
        tau = min(tau, WIDEST * size)
    return best


def _hessian_over(
    model: Statement, centre: np.ndarray, R: np.ndarray, told: Callable[[float], None]
) -> MidRad | None:
    """The Hessian over the box, or None where the box reaches a kink."""
    try:
        return hessian(model, midrad.around(centre, R), told)
    except ContainsKink:
        return None


def inverse(H: np.ndarray) -> np.ndarray | None:
    """An approximate inverse, or None; its error does not matter."""
    try:
        B = np.linalg.inv(H)
    except np.linalg.LinAlgError:
        return None
    return B if np.isfinite(B).all() else None


def defect_of(B: np.ndarray, H: MidRad) -> np.ndarray:
    """Upper bounds of |I - B H| entry by entry; inf where nothing is known."""
    product = matmul(B, H)
    diagonal = np.arange(len(B))
    product[diagonal, diagonal] = product[diagonal, diagonal] - 1.0
    sizes = product.magnitude()
    return np.where(np.isnan(sizes), np.inf, sizes)


def gershgorin(H: MidRad) -> float:
    """Lower bound of min_i T_ii - sum_j |T_ij|, T = M H M', M = the float inverse of a Cholesky
    factor; -inf if there is none.  Positive: T, hence M is nonsingular and H positive definite."""
    if not H.finite():
        return -math.inf
    try:
        # the factor of finite numbers may overflow: seen in the product
        L = scipy.linalg.cholesky(H.mid, lower=True)
        M = scipy.linalg.solve_triangular(L, np.eye(len(L)), lower=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        return -math.inf
    T = matmul(matmul(M, H), np.ascontiguousarray(M.T))
    if not T.finite():
        return -math.inf
    sizes = T.magnitude()
    diagonal = (T.mid.diagonal() - T.rad.diagonal()) - midrad.EPS * sizes.diagonal()
    np.fill_diagonal(sizes, 0.0)
    return float((diagonal - sizes.sum(axis=1) * UP).min()) - midrad.EPS


def _saddle(rough: np.ndarray, H: MidRad, found: dict) -> Certificate:
    """Prove w'Hw < 0 on the whole box, or say that the definiteness is open."""
    w = scipy.linalg.eigh(rough, subset_by_index=[0, 0])[1]
    product = matmul(np.ascontiguousarray(w.T), matmul(H, w))
    curvature = float((product.mid + product.rad)[0, 0])
    curvature += midrad.EPS * abs(curvature)
    if curvature < 0:
        return Certificate(outcome=Outcome.SADDLE, curvature_witness=curvature, **found)
    return undecided(NOT_DEFINITE, found)


def _float_hessian(problem: Problem, centre: np.ndarray) -> np.ndarray:
    """The judge's Hessian in floats: no bound."""
    return by_condensing(problem, unflatten(problem, balls.nearest(centre)))
