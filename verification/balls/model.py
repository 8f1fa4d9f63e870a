"""The statement in ball arithmetic: states, objective and gradient at balls of controls.

Derived anew from the statement.  Every result encloses the exact value at every point of the box;
data, step, quadrature weights and targets enter exactly (1 - p_d is not rounded).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

import numpy as np

from ocp.controls import ends, unflatten
from ocp.problem import SCHEMES, Problem

from . import arithmetic as balls
from .activations import ContainsKink, derivatives


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BallModel:
    """The statement in exact numbers: balls that contain h, the weights, the data, the targets.

    inputs : (n_d, n_in);  targets : q, (n_d, n_c);  entropy : H(q);  a, w : nodes and weights
    """

    problem: Problem
    h: balls.Ball
    a: list
    w: list
    inputs: np.ndarray
    targets: np.ndarray
    entropy: balls.Ball


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class BallStage:
    """One stage: X (n_d, n) the stage point, v its pre-activations, sigma and derivatives."""

    k: int
    s: int
    X: np.ndarray
    sigma: list[np.ndarray]


def ball_model(problem: Problem) -> BallModel:
    """Return the statement at the current precision; 1 - p_d is exact, not its rounding."""
    from flint import arb

    p = Fraction(problem.p_d)
    n_c = problem.n_classes
    true, other = balls.rational(p), balls.rational((1 - p) / (n_c - 1))
    targets = np.empty((problem.n_samples, n_c), dtype=object)
    targets[...] = other
    targets[np.arange(problem.n_samples), problem.labels] = true
    surprise = lambda q: q * q.log() if q > 0 else arb(0)  # noqa: E731
    nodes, weights = SCHEMES[problem.scheme]
    inputs = balls.exact(problem.inputs)
    if problem.input_scale is not None:
        inputs = inputs * arb(problem.input_scale) + arb(problem.input_shift)
    return BallModel(
        problem=problem,
        h=arb(problem.h),
        a=[arb(a) for a in nodes],
        w=[balls.rational(Fraction(w).limit_denominator(6)) for w in weights],
        inputs=inputs,
        targets=targets,
        entropy=-(surprise(true) + (n_c - 1) * surprise(other)),
    )


def objective(model: BallModel, u: np.ndarray) -> balls.Ball:
    """Return a ball that contains J at every point of the box u, an object array (d,)."""
    problem, q = model.problem, parts_of(model.problem, u)
    C, c = q.C, q.c
    X, stages = states(model, u, order=0)
    total = problem.gamma * _data_cost(model, C, c, X)
    for stage in stages:
        if problem.beta:
            total = total + model.h * model.w[stage.s] * _data_cost(model, C, c, stage.X)
    for weight, x in zip(penalty(model), u, strict=True):
        total = total + weight * x * x / 2
    return total


def gradient(model: BallModel, u: np.ndarray) -> np.ndarray:
    """Return an enclosure of dJ/du over the box u, (d,)."""
    X, stages = states(model, u, order=1)
    return gradient_and_adjoints(model, u, X, stages)[0]


class Parts(NamedTuple):
    """The matrices of the statement as object arrays; W is None for block single."""

    A: np.ndarray
    b: np.ndarray
    W: np.ndarray | None
    E: np.ndarray
    e: np.ndarray
    C: np.ndarray
    c: np.ndarray


def parts_of(problem: Problem, u: np.ndarray) -> Parts:
    """Take the decided ones from u, the others exactly from the problem."""
    controls = unflatten(problem, u)
    exact = [v if v.dtype == object else balls.exact(v) for v in ends(problem, controls)]
    return Parts(controls.A, controls.b, controls.W, *exact)


def states(model: BallModel, u: np.ndarray, order: int) -> tuple[np.ndarray, list[BallStage]]:
    """Return x_N, (n_d, n), and all stages in forward order."""
    problem = model.problem
    q = parts_of(problem, u)
    A, b, W = q.A, q.b, q.W
    x = balls.matmul(model.inputs, q.E.T) + q.e
    stages = []
    for k in range(problem.depth):
        step = K = None
        for s, (a, w) in enumerate(zip(model.a, model.w, strict=True)):
            X = x if s == 0 else x + (model.h * a) * K
            v = balls.matmul(X, A[k].T) + b[k]
            try:
                values = derivatives(problem.sigma, v, order)
            except ContainsKink as kink:
                raise ContainsKink((k, *kink.index)) from None
            K = values[0] if W is None else balls.matmul(values[0], W[k].T)
            step = w * K if step is None else step + w * K
            stages.append(BallStage(k=k, s=s, X=X, sigma=values))
        x = x + model.h * step
    return x, stages


def gradient_and_adjoints(
    model: BallModel, u: np.ndarray, X: np.ndarray, stages: list[BallStage]
) -> tuple[np.ndarray, list[np.ndarray]]:
    """The gradient, (d,), and kappa = dJ/dK of every stage in forward order, (n_d, n) each."""
    problem = model.problem
    q = parts_of(problem, u)
    A, W, C, c = q.A, q.W, q.C, q.c
    n, m, (lift, readout) = problem.width, problem.layer_size, end_slices(problem)
    g = np.array(penalty(model), dtype=object) * u
    residual = _residual(model, C, c, X, balls.exact(problem.gamma)[()])
    costate = balls.matmul(residual, C)
    _add_outer(g, readout, residual, X)
    kappas: list[np.ndarray] = []
    mu, total, S = None, None, len(model.a)
    for stage in reversed(stages):
        k, s = stage.k, stage.s
        kappa = (model.h * model.w[s]) * costate
        if s + 1 < S:
            kappa = kappa + (model.h * model.a[s + 1]) * mu
        kappas.append(kappa)
        start = k * m
        if W is not None:
            W_here = slice(start + n * n + n, start + m)
            g[W_here] = g[W_here] + balls.matmul(kappa.T, stage.sigma[0]).ravel()
        eta = kappa if W is None else balls.matmul(kappa, W[k])
        zeta = eta * stage.sigma[1]
        _add_outer(g, slice(start, start + n * n + n), zeta, stage.X)
        mu = balls.matmul(zeta, A[k])
        if problem.beta:
            residual = _residual(model, C, c, stage.X, model.h * model.w[s])
            mu = mu + balls.matmul(residual, C)
            _add_outer(g, readout, residual, stage.X)
        total = mu if s + 1 == S else total + mu
        if s == 0:
            costate = costate + total
    _add_outer(g, lift, costate, model.inputs)
    return g, kappas[::-1]


def softmax(model: BallModel, C: np.ndarray, c: np.ndarray, X: np.ndarray) -> np.ndarray:
    """Return softmax(C x + c), (n_d, n_c).

    p_j = 1 / sum_l exp(z_l - z_j): each logit difference enters once, which keeps balls small.
    Logits known to half the precision need no such care: n_c exponentials, not n_c^2.
    """
    from flint import ctx

    z = balls.matmul(X, C.T) + c
    one, half = balls.exact(1.0)[()], ctx.prec // 2
    if z.shape[1] > 2 and all(x.rel_accuracy_bits() > half for x in z.ravel()):
        rows, top = np.arange(len(z)), balls.nearest(z).argmax(axis=1)
        w = z - z[rows, top][:, None]
        w[rows, top] = balls.exact(0.0)[()]
        e = balls.apply(lambda x: x.exp(), w)
        return e / e.sum(axis=1)[:, None]
    ratio = balls.apply(lambda x: x.exp(), z[:, :, None] - z[:, None, :])
    diagonal = np.arange(z.shape[1])
    ratio[:, diagonal, diagonal] = one
    return one / ratio.sum(axis=1)


def _data_cost(model: BallModel, C: np.ndarray, c: np.ndarray, X: np.ndarray) -> balls.Ball:
    """F(x) = mean of logsumexp(z) - q.z - H(q), the logits taken relative to the largest.

    What all logits have in common is left out before it is rounded.
    """
    C, c = C - C[0], c - c[0]
    C[0], c[0] = balls.zeros(C.shape[1]), balls.exact(0.0)[()]
    z = balls.matmul(X, C.T) + c
    rows, top = np.arange(len(z)), balls.nearest(z).argmax(axis=1)
    w = z - z[rows, top][:, None]
    w[rows, top] = balls.exact(0.0)[()]
    total = balls.apply(lambda x: x.exp(), w).sum(axis=1)
    g = balls.apply(lambda x: x.log(), total) - (model.targets * w).sum(axis=1)
    return (g - model.entropy).sum() / model.problem.n_samples


def _residual(
    model: BallModel, C: np.ndarray, c: np.ndarray, X: np.ndarray, weight: balls.Ball
) -> np.ndarray:
    """weight (softmax z - q)/n_d, (n_d, n_c)."""
    p = softmax(model, C, c, X)
    return (weight / model.problem.n_samples) * (p - model.targets)


def penalty(model: BallModel) -> list:
    """Diagonal of the quadratic penalty: h r on layers, r_ends on trained ends."""
    from flint import arb

    problem = model.problem
    layers = problem.depth * problem.layer_size
    inner, outer = model.h * arb(problem.r), arb(problem.r_ends)
    return [inner] * layers + [outer] * (problem.n_decision - layers)


def end_slices(problem: Problem) -> tuple[slice, slice]:
    """Where a trained lift and readout lie in the flat order; empty where not trained."""
    start = problem.depth * problem.layer_size
    lift_size = problem.lift_weight.size + problem.width if "lift" in problem.trained else 0
    middle = start + lift_size
    stop = problem.n_decision
    return slice(start, middle), slice(middle, stop)


def _add_outer(g: np.ndarray, where: slice, adjoint: np.ndarray, X: np.ndarray) -> None:
    """Add the derivative of adjoint'(M X + c) to the entries of g that hold (M, c)."""
    if where.start < where.stop:
        parts = [balls.matmul(adjoint.T, X).ravel(), adjoint.sum(axis=0)]
        g[where] = g[where] + np.concatenate(parts)


def final_states(model: BallModel, u: np.ndarray) -> np.ndarray:
    """Return an enclosure of x_N over the box u, (n_d, n)."""
    return states(model, u, order=0)[0]
