"""What one file costs, enclosed: every number comes as a ball that contains the exact one.

The controls are the stored floats, the statement is exact, all rounding is outwards.  With gap the
least F that equal inputs with different labels leave (0 without them) and qbar their mean target,

    excess_i(x) = KL(qbar_i || softmax(C x + c)),   F(x) = gap + mean_i excess_i(x),
    l_k = beta sum_s w_s F(X_{k,s}) + (r/2)|u_k|^2.

A network that is cropped, idled or extended is summed over its own layers,

    cropped at k      sum_{j<k} h l_j + gamma F(x_k)
    idled at k        sum_{j<k} h l_j + (h beta (N-k) + gamma) F(x_k)
    extended by m     sum_{j<N} h l_j + (h beta m + gamma) F(x_N),

never as a difference of totals, in which small terms are lost.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from ocp.controls import Controls, flatten
from ocp.problem import SCHEMES, Problem

from ..report import Between
from . import arithmetic as balls
from .model import BallModel, ball_model, objective, parts_of, penalty, states

#: precision of the midpoints; the second is tried where the first leaves wide enclosures
BITS = (128, 256)
#: wider than this relative to 1 + F, more bits are tried: float64 is no wider
WIDE = 2.0**-50
#: numbers that are formed, activations and inputs, beyond which nothing is: about five seconds
MAX_NUMBERS = 500_000


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Targets:
    """Soft targets with those of exactly equal inputs merged, as fractions.

    rows : one target a kind, (kinds, n_c), first those of the classes
    kind : index of every sample, (n_d,)
    """

    rows: list[list[Fraction]]
    kind: np.ndarray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Enclosures:
    """One file in balls of `bits` bits.

    logits : of x_k less the first logit, N+1 of (n_d, n_c)
    stage_logits, stage_excess : of every stage point, [k][s] of (n_d, n_c) and (n_d,)
    data_excess : F(x_k) - gap, N+1;  stage_cost : sum_s w_s F(X_{k,s}) - gap, N
    layer_penalty : (r/2)|u_k|^2, N;  ends_cost : (r_ends/2) times the squared norm of trained ends
    """

    problem: Problem
    controls: Controls
    bits: int
    model: BallModel
    targets: Targets
    gap: balls.Ball
    logits: list[np.ndarray]
    stage_logits: list[list[np.ndarray]]
    stage_excess: list[list[np.ndarray]]
    data_excess: list[balls.Ball]
    stage_cost: list[balls.Ball]
    layer_penalty: list[balls.Ball]
    ends_cost: balls.Ball = field(repr=False)

    def data_cost(self, k: int) -> balls.Ball:
        """F(x_k)."""
        return self.data_excess[k] + self.gap

    def layer_excess(self, k: int) -> balls.Ball:
        """l_k less what no control avoids, beta gap; 0 or above."""
        beta = self.problem.beta
        return self.stage_cost[k] * beta + self.layer_penalty[k]

    def kept(self, k: int) -> balls.Ball:
        """sum_{j<k} h l_j."""
        total = _sum(self.layer_excess(j) for j in range(k))
        return self.model.h * (total + k * self.problem.beta * self.gap)

    def excess_cost(self) -> balls.Ball:
        """J' = J less the cost of trained ends and less what no control avoids."""
        problem = self.problem
        total = _sum(self.layer_excess(j) for j in range(problem.depth))
        return self.model.h * total + self._gamma * self.data_excess[-1]

    @property
    def _gamma(self) -> balls.Ball:
        return balls.rational(Fraction(self.problem.gamma))

    def total(self) -> balls.Ball:
        """J."""
        return self._continued(self.problem.depth, 0)

    def _continued(self, k: int, idle: int) -> balls.Ball:
        """The first k layers, then `idle` layers at u = 0, where these keep the state."""
        after = self.model.h * (self.problem.beta * idle) + self._gamma
        return self.kept(k) + after * self.data_cost(k) + self.ends_cost

    def _between(self, k: int, idle: int) -> Between:
        with balls.precision(self.bits):
            return between(self._continued(k, idle))

    def objective(self) -> Between:
        """J."""
        return self._between(self.problem.depth, 0)

    def cropped(self, k: int) -> Between:
        """J of the first k layers."""
        return self._between(k, 0)

    def idled(self, k: int) -> Between:
        """J with u_j = 0 for j >= k, where u = 0 keeps every state."""
        return self._between(k, self.problem.depth - k)

    def extended(self, m: int) -> Between:
        """J with m layers at u = 0 appended, where u = 0 keeps every state."""
        return self._between(self.problem.depth, m)


def between(x: balls.Ball) -> Between:
    """The ends of a ball as floats, rounded outwards; a float by itself."""
    value = float(x)
    if x.is_exact() and x == value:
        return Between(value, value)
    return Between(balls.lower(x), balls.upper(x))


def evaluated(problem: Problem, controls: Controls, bits: int = BITS[0]) -> Between:
    """J, by rolling the network out: what the sums over kept layers are compared with."""
    with balls.precision(bits):
        return between(objective(ball_model(problem), balls.exact(flatten(controls))))


def why_not(problem: Problem) -> str:
    """Why no file of this size is enclosed here, or ""."""
    if not balls.available():
        return f"outward rounding needs python-flint: {balls.INSTALL}"
    stages = len(SCHEMES[problem.scheme][0])
    # a wide layer takes longer for each of its numbers
    a_layer = problem.width * max(1.0, problem.width / 64) + problem.n_classes
    numbers = problem.n_samples * int(problem.depth * stages * a_layer + problem.inputs.shape[1])
    if numbers <= MAX_NUMBERS:
        return ""
    return f"outward rounding is meant for {MAX_NUMBERS} numbers; this file takes {numbers}"


def enclose(problem: Problem, controls: Controls, precisions: tuple[int, ...] = BITS) -> Enclosures:
    """Return the file in balls, with more bits where the first ones leave it wide."""
    targets = merged_targets(problem)
    for bits in precisions:
        with balls.precision(bits):
            found = _enclose(problem, controls, targets, bits)
            ends = [between(F) for F in found.data_excess]
        if all(float(F.upper - F.lower) <= WIDE * (1 + abs(float(F.upper))) for F in ends):
            break
    return found


def _enclose(problem: Problem, controls: Controls, targets: Targets, bits: int) -> Enclosures:
    model, u = ball_model(problem), balls.exact(flatten(controls))
    q = parts_of(problem, u)
    X, stages = states(model, u, order=0)
    rows, offsets = q.C - q.C[0], q.c - q.c[0]
    loss = _Excess(targets)
    stage_logits: list[list[np.ndarray]] = [[] for _ in range(problem.depth)]
    stage_excess: list[list[np.ndarray]] = [[] for _ in range(problem.depth)]
    for stage in stages:
        z = balls.matmul(stage.X, rows.T) + offsets
        stage_logits[stage.k].append(z)
        stage_excess[stage.k].append(loss(z))
    final = balls.matmul(X, rows.T) + offsets
    mean = lambda values: values.sum() / problem.n_samples  # noqa: E731
    weighted = lambda parts: _sum(w * mean(g) for w, g in zip(model.w, parts, strict=True))  # noqa: E731
    squares = np.array([w * x * x / 2 for w, x in zip(penalty(model), u, strict=True)])
    layers = problem.depth * problem.layer_size
    return Enclosures(
        problem=problem,
        controls=controls,
        bits=bits,
        model=model,
        targets=targets,
        gap=_gap(problem, targets),
        logits=[*(parts[0] for parts in stage_logits), final],
        stage_logits=stage_logits,
        stage_excess=stage_excess,
        data_excess=[*(mean(parts[0]) for parts in stage_excess), mean(loss(final))],
        stage_cost=[weighted(parts) for parts in stage_excess],
        layer_penalty=[
            part.sum() / model.h for part in squares[:layers].reshape(problem.depth, -1)
        ],
        ends_cost=_sum(squares[layers:]),
    )


class _Excess:
    """KL(qbar || softmax z) of every sample, (n_d,), from logits (n_d, n_c)."""

    def __init__(self, targets: Targets) -> None:
        rows = np.array([[balls.rational(q) for q in row] for row in targets.rows], dtype=object)
        entropy = [-_sum(_surprise(q) for q in row) for row in targets.rows]
        self.q = rows[targets.kind]
        self.entropy = np.array(entropy, dtype=object)[targets.kind]

    def __call__(self, z: np.ndarray) -> np.ndarray:
        # relative to the largest logit no exponential overflows; which one it is does not matter
        top = balls.nearest(z).argmax(axis=1)
        w = z - z[np.arange(len(z)), top][:, None]
        w[np.arange(len(z)), top] = balls.rational(Fraction(0))
        total = balls.apply(lambda x: x.exp(), w).sum(axis=1)
        return balls.apply(lambda x: x.log(), total) - (self.q * w).sum(axis=1) - self.entropy


def merged_targets(problem: Problem) -> Targets:
    """Mean targets of samples whose stored inputs are equal, plain ones elsewhere.

    Inputs that a lift maps to one point in float64 only are told apart: in exact numbers they
    differ, and what holds for plain targets holds for them.
    """
    p, n_c = Fraction(problem.p_d), problem.n_classes
    off = (1 - p) / (n_c - 1)
    rows = [[p if j == y else off for j in range(n_c)] for y in range(n_c)]
    kind = np.array(problem.labels, dtype=int)
    _, group, size = np.unique(problem.inputs, axis=0, return_inverse=True, return_counts=True)
    group = group.ravel()
    for g in np.flatnonzero(size > 1):
        members = np.flatnonzero(group == g)
        count = np.bincount(problem.labels[members], minlength=n_c)
        if count.max() < len(members):
            share = [Fraction(int(c), len(members)) for c in count]
            rows.append([p * s + off * (1 - s) for s in share])
            kind[members] = len(rows) - 1
    return Targets(rows=rows, kind=kind)


def _gap(problem: Problem, targets: Targets) -> balls.Ball:
    """mean_i KL(q_i || qbar_i): what equal inputs with different labels cost at least."""
    total = balls.rational(Fraction(0))
    torn = np.flatnonzero(targets.kind >= problem.n_classes)
    for i in torn:
        own, mean = targets.rows[problem.labels[i]], targets.rows[targets.kind[i]]
        cross = _sum(
            balls.rational(q) * balls.rational(m).log() for q, m in zip(own, mean, strict=True) if q
        )
        total = total + _sum(_surprise(q) for q in own) - cross
    return total / problem.n_samples


def _sum(terms: Iterable[balls.Ball]) -> balls.Ball:
    return sum(terms, start=balls.rational(Fraction(0)))


def _surprise(q: Fraction) -> balls.Ball:
    """q log q, 0 at 0."""
    return balls.rational(q) * balls.rational(q).log() if q else balls.rational(Fraction(0))
