"""The proof in ball arithmetic throughout: the Hessian too has midpoints of `bits` bits.

Slower than `by_matrices` by a factor of 30 and more, and not limited by float64: it decides what
the matrices leave undecided, and is the oracle of their tests.
"""

from __future__ import annotations

import math

import numpy as np
import scipy.linalg

from ocp.problem import Problem

from . import arithmetic as balls
from .hessian import gradient_and_hessian
from .krawczyk import (
    UP,
    approximate_inverse,
    curvature_bound,
    defect_of,
    error_bound,
    gershgorin,
    polish,
    widest_box,
)
from .model import ball_model, objective
from .proof import (
    NO_BOX,
    NOT_DEFINITE,
    SINGULAR,
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


def attempt(problem: Problem, u: np.ndarray, bits: int, say: Say) -> tuple[Certificate, bool]:
    """One precision: return (certificate, whether more bits might help)."""
    model, stored = ball_model(problem), balls.exact(u)
    found: dict = {"bits": bits}
    g, H = gradient_and_hessian(model, stored, part(say, "Hessian"))
    found["grad_lower"], found["grad_upper"] = largest_entry(g)
    if not math.isfinite(found["grad_upper"]) or not np.isfinite(balls.nearest(H)).all():
        return undecided(UNBOUNDED, found), False
    centre, reason = polish(model, stored, H, bits)
    if reason:
        flat, sentence = flattest(problem, balls.nearest(H))
        return undecided(sentence if flat < 1e-13 else reason, found), False
    g, H = gradient_and_hessian(model, centre, part(say, "Hessian at the polished point"))
    B = approximate_inverse(H)
    if B is None:
        return undecided(SINGULAR, found), False
    rough = balls.nearest(H)
    if not np.isfinite(rough).all():
        return undecided(UNBOUNDED, found), False
    found["dominance"] = gershgorin(H, rough)
    newton = balls.magnitude(balls.matmul(B, g[:, None])[:, 0])
    defect = defect_of(B, H)
    if not defect.sum(axis=1).max() < 0.5:
        flat, sentence = flattest(problem, rough)
        return undecided(sentence, found), flat > 2.0**-bits
    box = widest_box(model, centre, B, newton, part(say, "Hessian over the box"))
    if box is None:
        return undecided(NO_BOX, found), True
    w, tau, rho, H_box = box
    found["rho"] = rho
    found["radius"], found["radius_max"] = float(tau * w.min()), float(tau * w.max())
    error = error_bound(newton, rho, w)
    moved = balls.magnitude(stored - centre) + error
    found["distance"], found["distance_2"] = distances(moved, UP)
    if not found["dominance"] > 0:
        direction = scipy.linalg.eigh(rough, subset_by_index=[0, 0])[1][:, 0]
        return _saddle(H_box, direction, found), False
    J = objective(model, balls.ball(centre, error))
    found["objective_lower"], found["objective_upper"] = balls.lower(J), balls.upper(J)
    found["objective_digits"] = J.str(25)
    found["min_curvature"] = curvature_bound(balls.magnitude(B), rho, w)
    if not found["min_curvature"] > 0:
        return undecided(TOO_FLAT, found), False
    return Certificate(outcome=Outcome.MINIMUM, **found), False


def _saddle(H: np.ndarray, direction: np.ndarray, found: dict) -> Certificate:
    """Prove w'Hw < 0 on the whole box, or say that the definiteness is open."""
    w = balls.exact(direction)
    curvature = balls.upper((w * balls.matmul(H, w[:, None])[:, 0]).sum())
    if curvature < 0:
        return Certificate(outcome=Outcome.SADDLE, curvature_witness=curvature, **found)
    return undecided(NOT_DEFINITE, found)
