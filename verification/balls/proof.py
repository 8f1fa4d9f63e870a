"""What a proof of a strict local minimiser leaves behind, and what both ways to it share.

    |B G| + |I - B H(U)| R < R  (componentwise)  on the box U = u* +- R
    => exactly one stationary point u+ in U, and every Hessian on U is nonsingular;
    L^-1 H(u*) L^-T diagonally dominant (Gershgorin), L a Cholesky factor
    => H(u*) is positive definite, hence so is the Hessian on all of U: U is connected and no
       eigenvalue passes zero.  So u+ is a strict local minimiser, the only one in U, and
       |u+ - u*|_w <= |B G|_w / (1 - rho),  lambda_min >= (1 - rho) / |B|_w  on U,
       rho = | |I - B H(U)| |_w in the weighted sup norm |v|_w = max |v_j| / w_j, R = tau w.

G encloses the gradient at u*, H(U) the Hessian over U, B is close to the inverse Hessian.
References: R. Krawczyk, Computing 4 (1969); S. M. Rump, Acta Numerica 19 (2010), section 13.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

from ocp.controls import describe
from ocp.problem import Problem

from . import arithmetic as balls

#: told what is being done, "certificate: Hessian, 10%"
Say = Callable[[str], None]


class Outcome(enum.Enum):
    """What was proved.  The value is the sentence shown to the user."""

    MINIMUM = "a strict local minimiser is proved to lie next to the stored controls"
    SADDLE = "the stationary point next to the stored controls is proved to be no minimum"
    UNDECIDED = "nothing is proved"


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Certificate:
    """Result of the proof; every float is rounded to the safe side, nan where not reached.

    reason : why nothing is proved, empty otherwise
    bits : precision of the midpoints of the centre and its gradient
    grad_lower, grad_upper : bounds of the largest |dJ/du_j| at the stored controls
    distance : bound of |u+ - stored|_inf;  distance_2 : of the Euclidean distance
    radius : smallest half side R_j of the box in which u+ is unique;  radius_max : the largest
    rho : contraction | |I - B H(U)| |_w < 1
    dominance : Gershgorin's margin of L^-1 H L^-T, 1 is best, > 0 is positive definite
    min_curvature : lower bound of the least eigenvalue of the Hessian on the whole box
    objective_lower, objective_upper : bounds of J(u+), and `objective_digits` as text
    curvature_witness : for a saddle, the negative value w'Hw that is not exceeded on the box
    """

    outcome: Outcome
    reason: str = ""
    bits: int = 0
    grad_lower: float = math.nan
    grad_upper: float = math.nan
    distance: float = math.nan
    distance_2: float = math.nan
    radius: float = math.nan
    radius_max: float = math.nan
    rho: float = math.nan
    dominance: float = math.nan
    min_curvature: float = math.nan
    objective_lower: float = math.nan
    objective_upper: float = math.nan
    objective_digits: str = ""
    curvature_witness: float = math.nan


#: sentences of what both ways may run into
UNBOUNDED = "the ball of the gradient or of the Hessian is unbounded"
SINGULAR_AT_START = "the Hessian at the stored controls is singular"
SINGULAR = "the Hessian is singular"
NO_BOX = "no box was found on which I - B H contracts"
TOO_FLAT = "a strict local minimiser is proved, but its least curvature is below all floats"
NOT_DEFINITE = "a unique stationary point is proved, but not that its Hessian is positive definite"


def undecided(reason: str, found: dict) -> Certificate:
    """Return a certificate that proves nothing, with what was found on the way."""
    return Certificate(outcome=Outcome.UNDECIDED, reason=reason, **found)


def part(say: Say, what: str) -> Callable[[float], None]:
    """Return a function that tells the share of one part that is done."""
    return lambda done: say(f"certificate: {what}, {done:.0%}")


def largest_entry(g: np.ndarray) -> tuple[float, float]:
    """Bounds of max_j |g_j| for an object array of balls."""
    sizes = balls.apply(abs, g)
    least = max(balls.lower(x) for x in sizes)
    return max(least, 0.0), float(balls.magnitude(g).max())


def flattest(problem: Problem, rough: np.ndarray) -> tuple[float, str]:
    """Least |eigenvalue| relative to the largest, and the sentence that names its direction."""
    values, vectors = scipy.linalg.eigh(rough)
    at = int(np.abs(values).argmin())
    where = describe(problem, int(np.abs(vectors[:, at]).argmax()))
    sentence = (
        f"the Hessian cannot be told from a singular one (least eigenvalue about {values[at]:.2g},"
        f" its direction is largest in {where}): a null direction, as r = 0 leaves them"
    )
    largest = float(np.abs(values).max())
    return abs(float(values[at])) / largest if largest else 0.0, sentence


def distances(moved: np.ndarray, up: float) -> tuple[float, float]:
    """Upper bounds of the sup and the Euclidean norm; relative to the largest entry, because
    squares of small distances would underflow to 0."""
    largest = float(moved.max())
    return largest * up, largest * float(np.linalg.norm(moved / largest)) * up
