"""Can some control steer every sample onto the minimisers of its loss?  A proof, where possible.

All samples share the controls.  With M layers the steering condition is, for each sample i,

    E_i(u) = (C_j - C_last) x_M^i + c_j - c_last - log q_j/q_last = 0,   j < n_c - 1,

n_d (n_c - 1) equations (rank(P C) = n_c - 1) in M dim(u) unknowns.  Gauss-Newton finds u with a
small residual; a small residual is no proof.  Krawczyk's test on mu -> E(u + Y mu), Y = E'^+, gives
one: |B E(u)| + |I - B E'(U) Y| R < R on U = u + Y [-R, R] means that E vanishes somewhere in U.

Then u is followed by u = 0 for as long as one likes (sigma(0) = 0 keeps every state), and

    V_N <= J_M  for every N >= M:     the optimal value does not grow with the depth, and a globally
    optimal control has at most n_d J_M / (w_1 h g_mis) misclassified (layer, sample) pairs.

Where it is not exactly reachable the file's own control, idled, gives the weaker bound
V_N <= J + h (N - M) F(x_M), which grows with N.
Source: the turnpike property through controllability, arXiv 2101.03000; Krawczyk, see certificate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ocp import loss
from ocp.controls import Controls, ends, flatten, unflatten
from ocp.problem import Problem

from ..balls import arithmetic as balls
from ..balls.count_bounds import most_wrong
from ..balls.model import BallModel
from ..evaluation import layers
from ..evaluation.minimisers import RESOLVED
from ..evaluation.steering import ARRIVED, equations_and_jacobian, gauss_newton
from ..evaluation.subject import TrainingSubject
from ..report import Entry, Finding, Verdict, not_applicable, not_checked, printed

MAX_EQUATIONS = 500
MAX_UNKNOWNS = 1000
BITS = 192
#: a sum of at most 1e5 non-negative floats is wrong by less than this factor
_UP = 1.0 + 1e-10


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Reachability:
    """What was found; nan where it was not reached.

    certified : whether exact steering is proved;  reason : why not
    depth : M, layers used;  equations, unknowns : n_d (n_c - 1) and M dim(u)
    residual : largest |E| after Gauss-Newton, in float64
    cost : upper bound of J_M of the exact steering control (certified) or its float64 value
    contraction : |I - B E'(U) Y|;  controls : the steering control, (M dim(u),)
    """

    certified: bool
    reason: str
    depth: int
    equations: int
    unknowns: int
    residual: float
    cost: float
    contraction: float
    controls: np.ndarray


def check_reachability(subject: TrainingSubject) -> list[Entry]:
    """Return the lines of the check "reachability"."""
    names = ("reachability.steering", "reachability.depth")
    problem = subject.problem
    reason = why_not(subject)
    if reason:
        return [not_applicable(name, reason) for name in names]
    if not math.isfinite(subject.survey.objective):
        return [not_applicable(name, "the objective is not finite") for name in names]
    J, delta = subject.survey.objective, float(subject.survey.data_cost[-1])
    weaker = (
        f"weaker bound, from this file idled: V_N <= {J:.6g}"
        f" + {problem.h * problem.beta * delta:.4g} (N - {problem.depth}), residual"
        f" F(x_M) = {delta:.3g}"
    )
    refusal = too_large(problem) or _inseparable(subject)
    if refusal:
        lacking = Verdict.NOT_APPLICABLE if _inseparable(subject) else Verdict.NOT_CHECKED
        message = f"{refusal}; {weaker}"
        first = Finding(name=names[0], verdict=lacking, message=message)
        return [first, not_checked(names[1], "no exact steering is proved")]
    found = reach(problem, subject.controls, subject.progress)
    if not found.certified:
        return [
            Finding(
                name=names[0],
                verdict=Verdict.OBSERVED,
                measured=found.residual,
                message=f"exact steering is not certified: {found.reason}; {weaker}",
            ),
            not_checked(names[1], "no exact steering is proved"),
        ]
    return [_steering_line(names[0], found, subject), _depth_line(names[1], found, subject)]


def why_not(subject: TrainingSubject) -> str:
    """Why reachability is not a statement about this file, or ""."""
    problem = subject.problem
    if problem.p_d == 1.0:
        return "p_d = 1: the minimum of hard cross-entropy is not attained"
    if not subject.minimisers.full_rank:
        rank = subject.minimisers.rank
        found = f"has rank {rank}" if rank >= 0 else "has a rank that cannot be decided"
        return f"the centred readout {found}; wanted n_classes - 1 = {problem.n_classes - 1}"
    if not layers.idles(problem):
        return f"{problem.activation} unshifted is not 0 at 0: appended layers move the states"
    return ""


def too_large(problem: Problem) -> str:
    """Why nothing is attempted, or ""."""
    equations = problem.n_samples * (problem.n_classes - 1)
    unknowns = problem.depth * problem.layer_size
    if equations <= MAX_EQUATIONS and unknowns <= MAX_UNKNOWNS:
        return ""
    return (
        f"{equations} equations in {unknowns} unknowns;"
        f" steering is tried up to {MAX_EQUATIONS} and {MAX_UNKNOWNS}"
    )


def _inseparable(subject: TrainingSubject) -> str:
    if not subject.minimisers.conflicts:
        return ""
    i, j = subject.minimisers.conflicts[0]
    return f"samples {i} and {j} have equal lifted inputs and different labels: not reachable"


def reach(
    problem: Problem, controls: Controls, progress: Callable[[str], None] = lambda text: None
) -> Reachability:
    """Steer from the given controls, deepened by nearly idle layers if the unknowns are too few."""
    m = problem.layer_size
    equations = problem.n_samples * (problem.n_classes - 1)
    deeper, start = _enough_layers(problem, controls, equations)
    unknowns = deeper.depth * m
    found: dict = {"depth": deeper.depth, "equations": equations, "unknowns": unknowns}
    u, residual = gauss_newton(deeper, start, progress)
    J = _float_cost(deeper, start, u)
    found |= {"residual": residual, "cost": J, "contraction": math.nan, "controls": u}
    if unknowns < equations:
        reason = f"{equations} equations need more than {unknowns} unknowns (M dim(u))"
        return Reachability(certified=False, reason=reason, **found)
    if not residual <= ARRIVED:
        reason = f"Gauss-Newton leaves a residual of {residual:.2g}"
        return Reachability(certified=False, reason=reason, **found)
    if not balls.available():
        reason = f"residual {residual:.2g}; a proof needs python-flint: {balls.INSTALL}"
        return Reachability(certified=False, reason=reason, **found)
    progress("reachability: Krawczyk's test")
    return prove(deeper, start, u, found)


def prove(problem: Problem, controls: Controls, u: np.ndarray, found: dict) -> Reachability:
    """Krawczyk's test around u after polishing it in ball arithmetic."""
    from ..balls.activations import ContainsKink
    from ..balls.hessian import final_jacobian
    from ..balls.model import ball_model, objective

    refused = lambda reason: Reachability(certified=False, reason=reason, **found)  # noqa: E731
    values, jacobian = equations_and_jacobian(problem, controls, u)
    # E' need not be onto; then nothing below succeeds and nothing is claimed
    Y = np.linalg.pinv(jacobian, rcond=1e-14)
    with balls.precision(BITS):
        model = ball_model(problem)
        fixed = balls.exact(flatten(controls)[len(u) :])
        whole = lambda layers_part: np.concatenate([layers_part, fixed])  # noqa: E731
        exact_Y, centre = balls.exact(Y), balls.exact(u)
        for _ in range(12):
            values = _ball_equations(model, whole(centre))
            size = balls.magnitude(values).max()
            if not size > 1e-40:
                break
            step = balls.matmul(exact_Y, balls.mid(values)[:, None])[:, 0]
            centre = balls.mid(centre - step)
        values = _ball_equations(model, whole(centre))
        try:
            rows = balls.exact(_readout(problem, controls)[0])
            rows = rows[:-1] - rows[-1]
            derivative = lambda box: balls.matmul(  # noqa: E731
                final_jacobian(model, whole(box), rows).reshape(len(values), -1), exact_Y
            )
            B = balls.exact(np.linalg.inv(balls.nearest(derivative(centre))))
            defect = np.abs(balls.matmul(B, values[:, None])[:, 0])
            newton = balls.magnitude(defect)
            # a box a little larger than the Newton step: the smaller, the easier
            radius = max(4.0 * float(newton.max()), 1e-45)
            widths = np.abs(Y).sum(axis=1) * radius * _UP
            box = balls.ball(centre, widths)
            product = balls.matmul(B, derivative(box))
            diagonal = np.arange(len(values))
            product[diagonal, diagonal] = product[diagonal, diagonal] - 1
            contraction = float(balls.magnitude(product).sum(axis=1).max()) * _UP
        except ContainsKink as kink:
            k, i, j = kink.index
            return refused(f"a pre-activation may lie on a kink: layer {k}, sample {i}, unit {j}")
        except np.linalg.LinAlgError:
            return refused("E'(u) is not onto")
        found["contraction"] = contraction
        # strictly inside: |B E| + |I - B E'(U) Y| R < R
        if not _UP * (float(newton.max()) + contraction * radius) < radius:
            least = float(np.linalg.svd(jacobian, compute_uv=False)[-1])
            return refused(
                f"Krawczyk's test does not hold: residual {found['residual']:.1g} but least"
                f" singular value {least:.1g} of E'(u); a small residual is no proof"
            )
        found["cost"] = balls.upper(objective(model, whole(box)))
    return Reachability(certified=True, reason="", **found)


def _ball_equations(model: BallModel, u: np.ndarray) -> np.ndarray:
    from ..balls.model import final_states

    problem = model.problem
    C, c = (balls.exact(v) for v in _readout(problem, unflatten_floats(problem, u)))
    x = final_states(model, u)
    rows = C[:-1] - C[-1]
    ratio = model.targets[:, :-1] / model.targets[:, -1:]
    wanted = balls.apply(lambda q: q.log(), ratio)
    return (balls.matmul(x, rows.T) + (c[:-1] - c[-1]) - wanted).ravel()


def unflatten_floats(problem: Problem, u: np.ndarray) -> Controls:
    """The controls of thin balls as floats: only for the ends, which are floats exactly."""
    return unflatten(problem, balls.nearest(u))


def _readout(problem: Problem, controls: Controls) -> tuple[np.ndarray, np.ndarray]:
    _, _, C, c = ends(problem, controls)
    return C, c


def _float_cost(problem: Problem, controls: Controls, u: np.ndarray) -> float:
    from ..evaluation.states import objective

    whole = np.concatenate([u, flatten(controls)[len(u) :]])
    with np.errstate(over="ignore", invalid="ignore"):
        return objective(problem, unflatten(problem, whole))


def _enough_layers(
    problem: Problem, controls: Controls, equations: int
) -> tuple[Problem, Controls]:
    """The same network with nearly idle layers appended while the unknowns are too few."""
    m = problem.layer_size
    wanted = min(-(-equations * 5 // (4 * m)), MAX_UNKNOWNS // m)
    more = wanted - problem.depth
    if more <= 0:
        return problem, controls
    rng = np.random.default_rng(314159)
    n = problem.width
    tail = Controls(
        A=0.1 * rng.standard_normal((more, n, n)),
        b=0.1 * rng.standard_normal((more, n)),
        W=None if controls.W is None else 0.1 * rng.standard_normal((more, n, n)),
    )
    return problem.with_(depth=wanted), controls.followed_by(tail)


def _steering_line(name: str, found: Reachability, subject: TrainingSubject) -> Finding:
    message = (
        f"a control of depth {found.depth} that steers every sample onto its minimiser is proved"
        f" to exist (contraction {found.contraction:.2g}):"
        f" V_N <= {printed(found.cost, up=True)} for every N >= {found.depth}"
    )
    J = subject.enclosures.objective().lower if subject.enclosures else -math.inf
    if found.depth <= subject.problem.depth and found.cost < J:
        message += "; this file costs more and is proved not globally optimal"
    return Finding(
        name=name, verdict=Verdict.PROVED, measured=found.cost, bound=math.inf, message=message
    )


def _depth_line(name: str, found: Reachability, subject: TrainingSubject) -> Finding:
    """At most this many layers of a globally optimal control misclassify a sample."""
    problem = subject.problem
    if problem.beta == 0:
        return not_applicable(name, "beta = 0: the layers carry no data cost")
    g_mis = loss.misclassification_threshold(problem.n_classes, problem.p_d)
    if g_mis <= RESOLVED:
        return not_applicable(name, f"g_mis = {g_mis:.2g} is rounding: p_d is next to 1/n_c")
    bound = most_wrong(problem, found.cost)
    if not math.isfinite(bound):
        return not_applicable(name, "g_mis cannot be told from 0")
    used = layers.depth_used(subject)
    return Finding(
        name=name,
        verdict=Verdict.PROVED,
        measured=float(used),
        bound=math.floor(bound),
        message=f"a globally optimal control of any depth N >= {found.depth} misclassifies a sample"
        f" in at most {math.floor(bound)} layers; this file uses {used} (measured)",
    )
