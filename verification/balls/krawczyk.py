"""The numerical steps of Krawczyk's test: polish, precondition, choose the box, Gershgorin.

What is returned as a bound is rigorous (`defect_of`, `gershgorin`); the approximate inverse, the
polished centre and the shape of the box need not be: the test judges them.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import scipy.linalg

from . import arithmetic as balls
from .activations import ContainsKink
from .hessian import gradient_and_hessian
from .model import BallModel, gradient

#: sums of at most 1e5 non-negative floats are wrong by less than this factor
UP = 1.0 + 1e-10


def polish(
    model: BallModel, stored: np.ndarray, H: np.ndarray, bits: int
) -> tuple[np.ndarray, str]:
    """Newton steps with the approximate inverse of H: (centre, "") or (.., why not).

    Nothing here needs to be rigorous: the test that follows judges the point that comes out.
    """
    centre, B = stored, approximate_inverse(H)
    if B is None:
        return centre, "the Hessian at the stored controls is singular"
    sizes: list[float] = []
    for _ in range(40):
        g = gradient(model, centre)
        step = balls.mid(balls.matmul(B, balls.mid(g)[:, None])[:, 0])
        size = float(balls.magnitude(step).max())
        if not math.isfinite(size):
            return centre, "the Newton steps are not finite"
        if sizes and size > 0.5 * sizes[-1]:
            if size < 2.0 ** (-bits / 2):
                break  # rounding level
            if len(sizes) > 12 or size > 2 * sizes[0]:
                return centre, f"the Newton steps do not shrink ({sizes[0]:.2g}, .., {size:.2g})"
            B = approximate_inverse(gradient_and_hessian(model, centre)[1])
            if B is None:
                return centre, "the Hessian is singular near the stored controls"
        sizes.append(size)
        centre = balls.mid(centre - step)
        if size < 2.0 ** (-0.8 * bits):
            break
    away = float(balls.magnitude(centre - stored).max())
    if away > 2 * sizes[0] + 2.0 ** (-bits / 2):
        reason = (
            f"the Newton steps lead {away:.2g} away, more than twice the first ({sizes[0]:.2g})"
        )
        return centre, reason
    return centre, ""


def widest_box(
    model: BallModel,
    centre: np.ndarray,
    B: np.ndarray,
    newton: np.ndarray,
    progress: Callable[[float], None] | None,
) -> tuple[np.ndarray, float, float, np.ndarray] | None:
    """Return (w, tau, rho, H(U)) of the largest box tried on which Krawczyk's test holds.

    The enclosure widens in proportion to a small box: a probe tells how wide it may be, and in
    which coordinates (Perron weights).  Boxes that reach a kink are given up for smaller ones.
    """
    d = len(centre)
    w, probe = np.ones(d), 2.0**-60
    H = _hessian_over(model, centre, np.full(d, probe), None)
    defect = np.full((d, d), np.inf) if H is None else defect_of(B, H)
    if not np.isfinite(defect).all():
        return None
    w = perron(defect)
    tau = 0.3 * probe / max(float((defect @ w / w).max()), 1e-12)
    best = None
    for _ in range(8):
        R = tau * w
        H = _hessian_over(model, centre, R, progress)
        defect = np.full((d, d), np.inf) if H is None else defect_of(B, H)
        rho = float((defect @ w / w).max()) * UP
        # strictly inside, componentwise: |B G| + |I - B H| R < R
        if H is not None and rho < 1.0 and bool((UP * (newton + UP * (defect @ R)) < R).all()):
            best = (w, tau, rho, H)
            if rho > 0.05:
                break
            tau *= 0.4 / rho if rho > 1e-3 else 100.0
        elif best is not None:
            break
        else:
            tau *= 0.1
    return best


def _hessian_over(
    model: BallModel,
    centre: np.ndarray,
    R: np.ndarray,
    progress: Callable[[float], None] | None,
) -> np.ndarray | None:
    """The Hessian over the box, or None where the box reaches a kink."""
    try:
        return gradient_and_hessian(model, balls.ball(centre, R), progress)[1]
    except ContainsKink:
        return None


def error_bound(newton: np.ndarray, rho: float, w: np.ndarray) -> np.ndarray:
    """Bounds of |u+ - u*|: u+ - u* = -B G + (I - B H)(u+ - u*), so |.|_w <= |B G|_w / (1 - rho)."""
    return UP * UP * float((newton / w).max()) / (1.0 - rho) * w


def curvature_bound(size_of_B: np.ndarray, rho: float, w: np.ndarray) -> float:
    """Lower bound of lambda_min for positive definite H with | |I - B H| |_w <= rho < 1.

    1/lambda_min is the spectral radius of H^-1 = (B H)^-1 B, at most |B|_w / (1 - rho).
    """
    return float((1.0 - rho) / ((size_of_B @ w / w).max() * UP) / UP)


def gershgorin(H: np.ndarray, rough: np.ndarray) -> float:
    """Lower bound of min_i T_ii - sum_j |T_ij|, T = M H M', M = the float inverse of a Cholesky
    factor; -inf if there is none.  Positive: T, hence M is nonsingular and H positive definite."""
    try:
        # halves first, and unchecked: what overflows is seen in the inverse
        L = scipy.linalg.cholesky(0.5 * rough + 0.5 * rough.T, lower=True, check_finite=False)
        inverse = scipy.linalg.solve_triangular(L, np.eye(len(L)), lower=True, check_finite=False)
    except scipy.linalg.LinAlgError:
        return -math.inf
    if not np.isfinite(inverse).all():
        return -math.inf
    M = balls.exact(inverse)
    T = balls.matmul(balls.matmul(M, H), M.T)
    sizes = balls.magnitude(T)
    diagonal = np.array([balls.lower(x) for x in T.diagonal()])
    off = (sizes.sum(axis=1) - sizes.diagonal()).clip(0) + 1e-10 * sizes.sum(axis=1)
    return float((diagonal - off * UP).min())


def defect_of(B: np.ndarray, H: np.ndarray) -> np.ndarray:
    """Upper bounds of |I - B H| entry by entry, as floats; inf where a ball is not finite."""
    product = balls.matmul(B, H)
    diagonal = np.arange(len(B))
    product[diagonal, diagonal] = product[diagonal, diagonal] - 1
    sizes = balls.magnitude(product)
    return np.where(np.isnan(sizes), np.inf, sizes)


def approximate_inverse(H: np.ndarray) -> np.ndarray | None:
    """An approximate inverse of the midpoints, symmetric, or None; its error does not matter."""
    from flint import arb_mat

    d = len(H)
    try:
        matrix = arb_mat(d, d, balls.mid(H).ravel().tolist())
        identity = arb_mat(d, d, [int(i == j) for i in range(d) for j in range(d)])
        found = matrix.solve(identity, algorithm="approx").entries()
    except ZeroDivisionError:
        return None
    if not all(x.is_finite() for x in found):
        return None
    B = np.empty(d * d, dtype=object)
    B[:] = found
    return balls.mid(B.reshape(d, d))


def perron(defect: np.ndarray) -> np.ndarray:
    """Weights w near the Perron vector of the defect, largest 1, least 1/100."""
    w = np.ones(len(defect))
    for _ in range(30):
        w = np.maximum(defect @ w, 1e-300)
        w = np.maximum(w / w.max(), 1e-2)
    return w
