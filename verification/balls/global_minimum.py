"""Branch and bound that proves the global minimum of tiny problems, from one known point.

Since h r |u|^2 / 2 <= J, every global minimiser lies in the cube |u_j| <= sqrt(2 J_best/(h r)),
J_best the objective of the known point.  The objective is smooth on all of R^d, so a global
minimiser is a stationary point with a positive semidefinite Hessian.  A box X with centre c goes if

    J(X) > J_best,  or  J(c) + G(X)(X - c) > J_best                 (natural and mean value form)
    0 not in G_j(X), or H_jj(X) < 0                                 (no such stationary point)
    K = c - Y G(c) + (I - Y H(I))(I - c) does not meet X, I a box around X

Y near H^-1: K holds every stationary point of I (Krawczyk), X shrinks to X & K, and K inside I
proves that I has exactly one.  Those are set aside, and proved again in ball arithmetic
(`by_matrices`), with the objective, once the search is over; what cannot be is undecided.
References: R. B. Kearfott, Rigorous Global Search (1996); E. Hansen, G. W. Walster, Global
Optimization Using Interval Analysis (2004).
"""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.sparse.csgraph

from ocp.controls import flatten
from ocp.files import load
from ocp.problem import Problem

from . import arithmetic as balls
from . import by_matrices, midrad
from .global_search import NARROW, Search, inside, joined, kept
from .intervals import Interval, point
from .model import ball_model, objective
from .proof import Certificate, Outcome
from .scalar_network import ScalarNetwork, mirrored, refusal, scalar_network

#: bits of the midpoints in ball arithmetic
BITS = 128
#: boxes above this number are joined to one
FEW = 500
#: boxes that are looked at: minutes for d = 4
MOST = 20_000_000
#: half side of the largest cube that is searched
LARGEST = 1e6


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Place:
    """A box that can hold a global minimiser.

    low, high : the box, (d,)
    lower, upper : bounds of J at its stationary point; of J on the box, and inf, if undecided
    unique : whether the box holds exactly one stationary point
    strict : whether that is a strict local minimiser
    boxes : how many boxes of the search it joins
    reason : why not unique, empty otherwise
    """

    low: np.ndarray
    high: np.ndarray
    lower: float
    upper: float
    unique: bool
    strict: bool = False
    boxes: int = 1
    reason: str = ""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class GlobalMinimum:
    """What the search proved: lower <= min J <= upper, attained in the places only.

    best : the lowest point that was evaluated, (d,)
    stored_lower, stored_upper : bounds of J at the point that the search was given
    stored_place : index of the place whose stationary point is proved to be the strict local
        minimiser within `stored_distance` of the stored point, -1: none
    stored_distance : to a strict local minimiser, proved; inf: none is
    stored_minimum : lower bound of J there; NaN: none
    mirrored : whether there are two places only, and b -> -b takes the one global minimiser to the
        other, so that both are
    radius : half side of the cube that was searched
    boxes : number of boxes that were looked at;  left : of those that the limit of work left
    """

    lower: float
    upper: float
    best: np.ndarray
    stored_lower: float
    stored_upper: float
    stored_place: int
    stored_distance: float
    stored_minimum: float
    mirrored: bool
    radius: float
    boxes: int
    left: int
    places: tuple[Place, ...]

    @property
    def decided(self) -> bool:
        """Whether every place holds exactly one stationary point."""
        return all(place.unique for place in self.places)


def prove_file(path: str | os.PathLike, *, most: int = MOST) -> GlobalMinimum:
    """Start from the controls of a training file, whatever they are."""
    content = load(path)
    return prove_global_minimum(content.problem, flatten(content.controls), most=most)


def prove_global_minimum(
    problem: Problem,
    u: np.ndarray,
    *,
    most: int = MOST,
    progress: Callable[[str], None] | None = None,
) -> GlobalMinimum:
    """Search all controls for the global minimum, given the controls u, (d,), of a file.

    most : boxes that are looked at, after which the others are left undecided

    Raises
    ------
    ValueError : the problem is none of those that `scalar_network` encloses, or u is not finite
    RuntimeError : no box is left, which contradicts the existence of a minimum
    """
    balls.require()
    u = np.asarray(u, dtype=np.float64)
    if u.shape != (problem.n_decision,) or not np.isfinite(u).all():
        raise ValueError(f"u has shape {u.shape}; wanted {problem.n_decision} finite numbers")
    reason = why_not(problem, u)
    if reason:
        raise ValueError(reason)
    with balls.precision(BITS), np.errstate(all="ignore"):  # what is not finite decides nothing
        stored = _objective(problem, u)
        radius = _radius(problem, stored[1])
        search = Search(scalar_network(problem, radius), stored[1], u)
        search.run(radius, most, progress or (lambda text: None))
        return _result(problem, u, stored, radius, search)


def why_not(problem: Problem, u: np.ndarray) -> str:
    """Say why nothing is searched from the controls u, (d,), or nothing."""
    reason = refusal(problem)
    if reason:
        return reason
    if not midrad.rounds_as_proved():
        return "this machine does not round to nearest; a proof needs that it does"
    with balls.precision(BITS), np.errstate(all="ignore"):
        upper = _objective(problem, u)[1]
        if not math.isfinite(upper):
            return f"J at the stored controls is {upper}; wanted a finite number"
        radius = _radius(problem, upper)
    if not radius <= LARGEST:
        return f"the cube to be searched is |u_j| <= {radius:.3g}; wanted at most {LARGEST:g}"
    return ""


def _objective(problem: Problem, u: np.ndarray) -> tuple[float, float]:
    J = objective(ball_model(problem), balls.exact(u))
    return balls.lower(J), balls.upper(J)


def _radius(problem: Problem, upper: float) -> float:
    """Bound |u|_2 of all u with J(u) <= upper: h r |u|^2 / 2 + beta h F(x_0) <= J."""
    idle = 0.0
    if problem.beta:  # J(0) of one layer without a final cost
        first = dataclasses.replace(problem, depth=1, gamma=0.0)
        idle = balls.lower(objective(ball_model(first), balls.zeros(first.n_decision)))
    penalty = balls.lower(balls.exact(problem.h)[()] * balls.exact(problem.r)[()])
    if not penalty > 0.0:
        return math.inf
    return math.sqrt(max(2.0 * (upper - idle) / penalty, 0.0)) * (1 + 1e-9) + 1e-9


def _result(
    problem: Problem, u: np.ndarray, stored: tuple[float, float], radius: float, search: Search
) -> GlobalMinimum:
    """Prove what was set aside, join what was not decided, keep what can be the lowest."""
    proved = [(around, _place(problem, search, around, K)) for around, K in search.unique]
    upper = min([search.upper, *(p.upper for _, p in proved if p is not None)])
    found = [(around, p) for around, p in proved if p is not None and not p.lower > upper]
    arounds = [around for around, _ in found]
    places = [p for _, p in found]
    search.upper = upper
    narrow = _undecided(search, search.narrow, f"narrower than {NARROW:g}")
    left = sum(X.lo.shape[1] for X in search.waiting)
    places += narrow + _undecided(search, search.waiting, "the limit of work was reached")
    if not places:
        raise RuntimeError("no box is left although J has a minimum: an error in the enclosures")
    place, distance, minimum = _next_to(problem, search.network, u, arounds)
    return GlobalMinimum(
        lower=min(p.lower for p in places),
        upper=upper,
        best=search.best,
        stored_lower=stored[0],
        stored_upper=stored[1],
        stored_place=place,
        stored_distance=distance,
        stored_minimum=minimum,
        mirrored=_mirrored(problem, places),
        radius=radius,
        boxes=search.boxes,
        left=left,
        places=tuple(places),
    )


def _certificate(problem: Problem, u: np.ndarray) -> tuple[Certificate, Interval]:
    """The local proof at u, and a box around u that holds its stationary point."""
    found = by_matrices.attempt(problem, u, BITS, lambda text: None)
    reach = found.distance if found.outcome is not Outcome.UNDECIDED else math.inf
    low, high = np.nextafter(u - reach, -math.inf), np.nextafter(u + reach, math.inf)
    return found, Interval(low[:, None], high[:, None])


def _place(problem: Problem, search: Search, around: Interval, K: Interval) -> Place | None:
    """The stationary point of the box, None if it is proved to be no minimiser."""
    found, box = _certificate(problem, _refined(search.network, 0.5 * (K.lo + K.hi))[:, 0])
    # a stationary point within the box is the only one of it
    if inside(box, around).all():
        if found.outcome is Outcome.SADDLE:
            return None
        low, high = np.maximum(box.lo, K.lo)[:, 0], np.minimum(box.hi, K.hi)[:, 0]
        bounds = found.objective_lower, found.objective_upper
        return Place(low=low, high=high, lower=bounds[0], upper=bounds[1], unique=True, strict=True)
    J = search.network.objective_and_gradient(K)[0]
    lower, upper = _known(J.lo[0], -math.inf), _known(J.hi[0], math.inf)
    return Place(low=K.lo[:, 0], high=K.hi[:, 0], lower=lower, upper=upper, unique=True)


def _refined(network: ScalarNetwork, u: np.ndarray) -> np.ndarray:
    """Newton steps in floats: nothing rests on the point that comes out."""
    for _ in range(6):
        G, H = network.objective_and_gradient(point(u))[1], network.hessian(point(u))
        try:
            step = np.linalg.solve((0.5 * (H.lo + H.hi))[..., 0], (0.5 * (G.lo + G.hi))[:, 0])
        except np.linalg.LinAlgError:
            return u
        if not np.isfinite(step).all():
            return u
        u = u - step[:, None]
    return u


def _undecided(search: Search, parts: list[Interval], reason: str) -> list[Place]:
    """Join touching boxes that still can hold a global minimiser."""
    if not parts:
        return []
    X = joined(parts)
    J = search.network.objective_and_gradient(X)[0]
    away = J.lo > search.upper
    for around, _ in search.unique:
        away |= inside(X, around).all(axis=0)
    X, lower = kept(X, ~away), np.where(np.isnan(J.lo), -np.inf, J.lo)[~away]
    groups = _touching(X) if X.lo.shape[1] <= FEW else np.zeros(X.lo.shape[1], dtype=int)
    return [
        Place(
            low=X.lo[:, groups == g].min(axis=1),
            high=X.hi[:, groups == g].max(axis=1),
            lower=float(lower[groups == g].min()),
            upper=math.inf,
            unique=False,
            boxes=int((groups == g).sum()),
            reason=reason,
        )
        for g in np.unique(groups)
    ]


def _touching(X: Interval) -> np.ndarray:
    """Number the groups of boxes that touch each other, (B,)."""
    meets = (X.lo[:, :, None] <= X.hi[:, None]) & (X.lo[:, None] <= X.hi[:, :, None])
    return scipy.sparse.csgraph.connected_components(meets.all(axis=0))[1]


def _next_to(
    problem: Problem, network: ScalarNetwork, u: np.ndarray, arounds: list[Interval]
) -> tuple[int, float, float]:
    """The place of the minimiser that Newton's method leads to, the distance, J there at least."""
    found, box = _certificate(problem, _refined(network, u[:, None])[:, 0])
    if found.outcome is not Outcome.MINIMUM:
        return -1, math.inf, math.nan
    own = [i for i, around in enumerate(arounds) if inside(box, around).all()]
    far = np.maximum(np.abs(box.lo[:, 0] - u), np.abs(box.hi[:, 0] - u)).max()
    return own[0] if own else -1, float(np.nextafter(far, math.inf)), found.objective_lower


def _mirrored(problem: Problem, places: list[Place]) -> bool:
    """Whether b -> -b leaves J as it is, and none of the only two places meets its own image.

    A global minimiser then lies in one of them and its image, which is another, in the other one.
    """
    if len(places) != 2 or not all(place.unique for place in places) or not mirrored(problem):
        return False
    b = slice(1, None, 2)
    return all(((place.low[b] > 0) | (place.high[b] < 0)).any() for place in places)


def _known(x: float, otherwise: float) -> float:
    return otherwise if math.isnan(x) else float(x)
