"""The judge's own forward pass: states, stage points and costs, in batches of samples.

With the layer's matrix M_k = [A_k b_k] on augmented states and the Butcher table (a, w),

    Y_1 = x_k,  Y_s = x_k + h a_s K_{s-1},  K_s = sigma(M_k [Y_s; 1])   [W_k sigma(..)],
    x_{k+1} = x_k + h sum_s w_s K_s,

all stage points are kept: they are the variables of the full-space KKT system (`adjoint`).
Samples are taken in batches whose arrays stay below `BATCH_BYTES`, whatever the file holds.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass

import numpy as np

from ocp import loss
from ocp.controls import Controls, ends
from ocp.problem import SCHEMES, Problem

#: memory of the arrays of one batch of samples
BATCH_BYTES = 64 * 2**20
#: logits of all layers are kept up to this size: several checks read them
LOGITS_BYTES = 256 * 2**20
KINK_TOLERANCE = 1e-9
#: pre-activations this small are listed by the survey, unless there are too many
NEAR_KINK, LISTED = 1e-5, 10**6


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Batch:
    """Some samples: their rows, values s (m, n_in), soft targets q (m, n_c), labels (m,)."""

    rows: slice
    s: np.ndarray
    q: np.ndarray
    labels: np.ndarray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Pass:
    """Everything a batch passes through: X (N+1, m, n); Y, V, K (N, S, m, n)."""

    X: np.ndarray
    Y: np.ndarray
    V: np.ndarray
    K: np.ndarray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Survey:
    """Per-layer facts about the whole file, gathered batch by batch.

    objective : J;  layer_cost : l_k, (N,);  data_cost : F(x_k), (N+1,)
    stage_data_cost : F(Y_{k,s}), (N, S)
    g : soft cross-entropy of every sample at every layer, (N+1, n_d)
    right : whether it is classified right there, (N+1, n_d)
    final_logits : (n_d, n_c);  logits : of all layers, (N+1, n_d, n_c), or None if too large
    least_preactivation, largest_preactivation : min and max of |v|
    near_kinks : layer, stage, sample, unit and |v| where it is below 1e-5, (c, 5), or None
    saturated : share of |sigma'(v)| below 1e-3 of its largest value, by layer, (N,)
    """

    objective: float
    layer_cost: np.ndarray
    data_cost: np.ndarray
    stage_data_cost: np.ndarray
    g: np.ndarray
    right: np.ndarray
    final_logits: np.ndarray
    least_preactivation: float
    largest_preactivation: float
    saturated: np.ndarray
    logits: np.ndarray | None = None
    near_kinks: np.ndarray | None = None


@dataclass(slots=True)
class Work:
    """Layers times samples that were passed, forwards and backwards."""

    forward: int = 0
    backward: int = 0


_COUNTERS: ContextVar[tuple[Work, ...]] = ContextVar("counters of work", default=())


@contextlib.contextmanager
def counting() -> Iterator[Work]:
    """Yield a count of all passes that are made inside, however deep in the calls."""
    work = Work()
    token = _COUNTERS.set((*_COUNTERS.get(), work))
    try:
        yield work
    finally:
        _COUNTERS.reset(token)


def count(*, forward: int = 0, backward: int = 0) -> None:
    """Add to every count that is being taken."""
    for work in _COUNTERS.get():
        work.forward += forward
        work.backward += backward


def batches(problem: Problem, copies: int = 1) -> Iterator[Batch]:
    """Yield all samples in order; `copies` arrays of the size of one pass are meant to fit."""
    stages = len(SCHEMES[problem.scheme][0])
    numbers = problem.depth * stages * (4 * problem.width + 2 * problem.n_classes)
    size = max(1, int(BATCH_BYTES // (8 * copies * (numbers + problem.inputs.shape[1]))))
    for start in range(0, problem.n_samples, size):
        rows = slice(start, min(start + size, problem.n_samples))
        s = problem.input_rows(rows)
        labels = problem.labels[rows]
        q = loss.soft_target(labels, problem.n_classes, problem.p_d)
        yield Batch(rows=rows, s=s, q=q, labels=labels)


def whole(problem: Problem) -> Batch:
    """Return all samples as one batch, for what is small by its own limits."""
    q = problem.soft_targets
    return Batch(rows=slice(None), s=problem.input_values, q=q, labels=problem.labels)


def propagate(problem: Problem, controls: Controls, batch: Batch) -> Pass:
    """Roll the batch through all layers."""
    E, e, _, _ = ends(problem, controls)
    m, n, N = len(batch.s), problem.width, problem.depth
    X = np.empty((N + 1, m, n))
    Y, V, K = (np.empty((N, len(SCHEMES[problem.scheme][0]), m, n)) for _ in range(3))
    X[0] = batch.s @ E.T + e
    for k in range(N):
        X[k + 1] = _layer(problem, controls, k, X[k], problem.h, Y[k], V[k], K[k])
    count(forward=N * m)
    return Pass(X=X, Y=Y, V=V, K=K)


def layer(problem: Problem, controls: Controls, k: int, x: np.ndarray, h: float) -> np.ndarray:
    """Phi_h(x, u_k) of the statement, with another step size if h says so; x (m, n)."""
    Y, V, K = (np.empty((len(SCHEMES[problem.scheme][0]), *x.shape)) for _ in range(3))
    return _layer(problem, controls, k, x, h, Y, V, K)


def _layer(
    problem: Problem,
    controls: Controls,
    k: int,
    x: np.ndarray,
    h: float,
    Y: np.ndarray,
    V: np.ndarray,
    K: np.ndarray,
) -> np.ndarray:
    """Phi_h(x, u_k), (m, n); stage points, pre-activations and slopes go to Y, V, K (S, m, n)."""
    nodes, weights = SCHEMES[problem.scheme]
    for s, a in enumerate(nodes):
        Y[s] = x if s == 0 else x + (h * a) * K[s - 1]
        V[s] = Y[s] @ controls.A[k].T + controls.b[k]
        value = problem.sigma.derivatives(V[s], 0)[0]
        K[s] = value if controls.W is None else value @ controls.W[k].T
    return x + h * np.tensordot(weights, K, axes=1)


def statement_logits(problem: Problem, controls: Controls, X: np.ndarray) -> np.ndarray:
    """z = C x + c as the statement has them, (..., n_c)."""
    _, _, C, c = ends(problem, controls)
    return X @ C.T + c


def logits(problem: Problem, controls: Controls, X: np.ndarray) -> np.ndarray:
    """z = C x + c - c_0, (..., n_c): only rounding sees a common offset of the logits."""
    _, _, C, c = ends(problem, controls)
    return X @ C.T + (c - c[0])


def regularisation(problem: Problem, controls: Controls) -> np.ndarray:
    """(r/2)|u_k|^2 by layer, (N,)."""
    return 0.5 * problem.r * controls.norms() ** 2


def ends_cost(problem: Problem, controls: Controls) -> float:
    """(r_ends/2) times the squared norm of the trained ends."""
    trained = (
        controls.lift_weight,
        controls.lift_bias,
        controls.readout_weight,
        controls.readout_bias,
    )
    return 0.5 * problem.r_ends * sum(float((v**2).sum()) for v in trained if v is not None)


def objective(problem: Problem, controls: Controls) -> float:
    """J(u) alone, for differences and for directions of descent."""
    weights = np.array(SCHEMES[problem.scheme][1])
    total = problem.h * float(regularisation(problem, controls).sum())
    total += ends_cost(problem, controls)
    scale = 1.0 / problem.n_samples
    for batch in batches(problem):
        run = propagate(problem, controls, batch)
        final = loss.soft_cross_entropy(logits(problem, controls, run.X[-1]), batch.q)
        total += problem.gamma * scale * float(final.sum())
        if problem.beta:
            g = loss.soft_cross_entropy(logits(problem, controls, run.Y), batch.q)
            total += problem.h * scale * float((weights @ g.sum(axis=-1).T).sum())
    return total


def survey(problem: Problem, controls: Controls) -> Survey:
    """Evaluate the file once and keep what the checks need."""
    gathered = Gathering(problem, controls)
    for batch in batches(problem):
        gathered.add(batch, propagate(problem, controls, batch))
    return gathered.result()


class Gathering:
    """A survey under way: batches are added as they pass through, whoever propagates them."""

    def __init__(self, problem: Problem, controls: Controls) -> None:
        self.problem, self.controls = problem, controls
        N, n_d = problem.depth, problem.n_samples
        stages = len(SCHEMES[problem.scheme][0])
        self.g, self.right = np.empty((N + 1, n_d)), np.empty((N + 1, n_d), dtype=bool)
        self.final = np.empty((n_d, problem.n_classes))
        fits = 8 * self.g.size * problem.n_classes <= LOGITS_BYTES
        self.kept = np.empty((N + 1, n_d, problem.n_classes)) if fits else None
        # of these activations only kinks matter: no part of theirs is flat but on purpose
        self.has_flat_part = not problem.sigma.piecewise_linear
        self.stage_cost, self.flat = np.zeros((N, stages)), np.zeros(N)
        self.least, self.largest = np.inf, 0.0
        self.near: list[np.ndarray] | None = None if problem.sigma.smooth else []

    def add(self, batch: Batch, run: Pass) -> None:
        """Take what a batch shows."""
        problem, rows = self.problem, batch.rows
        z = logits(problem, self.controls, run.X)
        self.g[:, rows] = loss.soft_cross_entropy(z, batch.q)
        self.right[:, rows] = loss.is_right(z, batch.labels)
        self.final[rows] = z[-1]
        if self.kept is not None:
            self.kept[:, rows] = z
        if run.Y.shape[1] == 1:  # euler: its only stage point is x_k
            at_stages = self.g[:-1, None, rows]
        else:
            at_stages = loss.soft_cross_entropy(logits(problem, self.controls, run.Y), batch.q)
        self.stage_cost += at_stages.sum(axis=-1) / problem.n_samples
        size = np.abs(run.V)
        self.least, self.largest = min(self.least, size.min()), max(self.largest, size.max())
        if self.near is not None and self._lists_kinks:
            at = np.argwhere(size <= NEAR_KINK)
            value = size[tuple(at.T)]
            at[:, 2] += rows.start
            self.near.append(np.column_stack([at, value]))
        if self.has_flat_part:
            # at most 1, to which the slopes of gelu and silu settle
            steepest = min(1.0, problem.sigma.lipschitz)
            slope = np.abs(problem.sigma.derivatives(run.V, 1)[1])
            share = len(batch.s) / problem.n_samples
            self.flat += (slope < 1e-3 * steepest).mean(axis=(1, 2, 3)) * share

    @property
    def _lists_kinks(self) -> bool:
        return self.near is not None and sum(map(len, self.near)) < LISTED

    def result(self) -> Survey:
        """Return the survey once all batches are in."""
        problem, controls = self.problem, self.controls
        weights = np.array(SCHEMES[problem.scheme][1])
        layer_cost = problem.beta * self.stage_cost @ weights + regularisation(problem, controls)
        data_cost = self.g.mean(axis=1)
        J = problem.h * float(layer_cost.sum()) + problem.gamma * float(data_cost[-1])
        return Survey(
            objective=J + ends_cost(problem, controls),
            layer_cost=layer_cost,
            data_cost=data_cost,
            stage_data_cost=self.stage_cost,
            g=self.g,
            right=self.right,
            final_logits=self.final,
            least_preactivation=float(self.least),
            largest_preactivation=float(self.largest),
            saturated=self.flat,
            logits=self.kept,
            near_kinks=np.concatenate(self.near) if self.near and self._lists_kinks else None,
        )


def kinks(problem: Problem, controls: Controls, found: Survey) -> tuple[int, str]:
    """Count pre-activations within 1e-9 (1 + max|v|) of a kink and say where the first lies.

    (0, "") for smooth activations.
    """
    threshold = KINK_TOLERANCE * (1.0 + found.largest_preactivation)
    if problem.sigma.smooth or found.least_preactivation > threshold:
        return 0, ""
    if found.near_kinks is not None and threshold <= NEAR_KINK:
        on = found.near_kinks[found.near_kinks[:, 4] <= threshold]
        k, _, _, unit = min(map(tuple, on[:, :4].astype(int)))
        return len(on), f"layer {k}, unit {unit}"
    count = 0
    first: tuple[int, int] | None = None
    for batch in batches(problem):
        on = np.abs(propagate(problem, controls, batch).V) <= threshold
        count += int(on.sum())
        for k, _, _, unit in np.argwhere(on)[:1]:
            first = min(first or (k, unit), (k, unit))
    return count, f"layer {first[0]}, unit {first[1]}" if first else ""


def kinks_between(problem: Problem, controls: Controls, moved: Controls) -> tuple[int, str]:
    """Count pre-activations that a step of the controls takes next to a kink or across it.

    On the way from v to v', |v| <= 4 |v - v'|, or |v'| within the tolerance of `kinks`: the piece
    of J that the step was taken on may end before the point that it leads to.
    """
    if problem.sigma.smooth:
        return 0, ""
    count, first = 0, (problem.depth, 0)
    for batch in batches(problem, copies=2):
        before, after = (propagate(problem, u, batch).V for u in (controls, moved))
        tolerance = KINK_TOLERANCE * (1.0 + float(np.abs(after).max()))
        on = (np.abs(before) <= 4.0 * np.abs(before - after)) | (np.abs(after) <= tolerance)
        count += int(on.sum())
        for k, _, _, unit in np.argwhere(on)[:1]:
            first = min(first, (int(k), int(unit)))
    return count, f"layer {first[0]}, unit {first[1]}" if count else ""
