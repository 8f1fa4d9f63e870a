"""The training problem as a nonlinear program in CasADi: the textbook transcription.

Multiple shooting: states and controls are variables, in the order U_0, X_1, U_1, X_2, ..., and

    minimise  J(w)   subject to   g_k = X_{k+1} - Phi_h(X_k, U_k) = 0,   k = 0..N-1.

Single shooting: only the controls are variables, the states are eliminated by recursion.
The model is written natively in CasADi from the statement; nothing of the NumPy evaluation is
called, so that agreement of the two means something.  Samples are columns here, (n, n_d), and
vectors run column by column; `Packing` alone knows how that maps to the toolkit's arrays.

Reference: Bock and Plitt, "A multiple shooting algorithm for direct solution of optimal control
problems", IFAC 1984.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import casadi as ca
import numpy as np

from ..activations import LEAKY_SLOPE, Activation
from ..controls import Controls, unflatten
from ..loss import off_target
from ..problem import SCHEMES, Problem


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Transcription:
    """A nonlinear program min f(x) s.t. g(x) = 0 and the map between its vectors and arrays."""

    nlp: dict[str, ca.MX]
    packing: Packing


def multiple_shooting(problem: Problem) -> Transcription:
    """Return the program with states and controls as variables."""
    packing = Packing(problem, states=True)
    U, X, ends = packing.symbols()
    layer = _layer(problem)
    terminal = _terminal(problem)
    x_0 = _lifted(problem, ends)
    q = problem.soft_targets.T
    f, g = 0, []
    for k in range(problem.depth):
        x = X[k - 1] if k else x_0
        following, cost = _mapped(layer, problem, x, U[k], q, ends)
        g.append(ca.vec(X[k] - following))
        f += problem.h * (ca.sum2(cost) / problem.n_samples + problem.r / 2 * ca.sumsqr(U[k]))
    cost = _mapped(terminal, problem, X[-1], None, q, ends)
    f += problem.gamma * ca.sum2(cost) / problem.n_samples + _ends_cost(problem, ends)
    w = packing.vector(U, X, ends)
    return Transcription(nlp={"x": w, "f": f, "g": ca.vertcat(*g)}, packing=packing)


def single_shooting(problem: Problem) -> Transcription:
    """Return the unconstrained program in the controls alone."""
    packing = Packing(problem, states=False)
    U, _, ends = packing.symbols()
    layer = _layer(problem)
    x, q, f = _lifted(problem, ends), problem.soft_targets.T, 0
    for k in range(problem.depth):
        x, cost = _mapped(layer, problem, x, U[k], q, ends)
        f += problem.h * (ca.sum2(cost) / problem.n_samples + problem.r / 2 * ca.sumsqr(U[k]))
    cost = _mapped(_terminal(problem), problem, x, None, q, ends)
    f += problem.gamma * ca.sum2(cost) / problem.n_samples + _ends_cost(problem, ends)
    return Transcription(nlp={"x": packing.vector(U, [], ends), "f": f}, packing=packing)


class Packing:
    """Vectors of the program <-> layer-first NumPy arrays; the only place with transposes.

    One layer's control U_k is vec(A_k), b_k, [vec(W_k)], column by column.
    """

    def __init__(self, problem: Problem, states: bool) -> None:
        self.problem, self.states = problem, states
        n, n_d = problem.width, problem.n_samples
        self._n_u = problem.layer_size
        self._n_x = n * n_d if states else 0
        shapes = []
        if "lift" in problem.trained:
            shapes += [problem.lift_weight.shape, (n, 1)]
        if "readout" in problem.trained:
            shapes += [problem.readout_weight.shape, (problem.n_classes, 1)]
        self._end_shapes = shapes

    def symbols(self) -> tuple[list[ca.MX], list[ca.MX], list[ca.MX]]:
        """Return the symbols of controls, of states X_1..X_N (or none) and of trained ends."""
        p = self.problem
        U = [ca.MX.sym(f"U{k}", self._n_u) for k in range(p.depth)]
        X = [ca.MX.sym(f"X{k + 1}", p.width, p.n_samples) for k in range(p.depth)]
        ends = [ca.MX.sym(f"end{j}", *shape) for j, shape in enumerate(self._end_shapes)]
        return U, X if self.states else [], ends

    def vector(self, U: list[ca.MX], X: list[ca.MX], ends: list[ca.MX]) -> ca.MX:
        """Return the symbols in the program's order."""
        parts = []
        for k in range(len(U)):
            parts += [U[k], ca.vec(X[k])] if self.states else [U[k]]
        return ca.vertcat(*parts, *[ca.vec(e) for e in ends])

    def pack(self, controls: Controls, X: np.ndarray) -> np.ndarray:
        """Return the program's vector for controls and states X, (N+1, n_d, n)."""
        N = self.problem.depth
        parts = [controls.A.mT.reshape(N, -1), controls.b]
        if controls.W is not None:
            parts.append(controls.W.mT.reshape(N, -1))
        if self.states:
            parts.append(X[1:].reshape(N, -1))  # column i of (n, n_d) is sample i
        ends = [
            np.ravel(value, order="F")
            for value in (getattr(controls, part) for part in self.problem.trained_parts)
        ]
        return np.concatenate([np.concatenate(parts, axis=1).ravel(), *ends])

    def unpack(self, w: np.ndarray) -> tuple[Controls, np.ndarray | None]:
        """Return controls and states X_1..X_N, (N, n_d, n), of a vector of the program."""
        p = self.problem
        N, n = p.depth, p.width
        size = self._n_u + self._n_x
        layers = w[: N * size].reshape(N, size)
        parts = {
            "A": layers[:, : n * n].reshape(N, n, n).mT.copy(),
            "b": layers[:, n * n : n * n + n].copy(),
        }
        if p.block == "double":
            parts["W"] = layers[:, n * n + n : self._n_u].reshape(N, n, n).mT.copy()
        X = layers[:, self._n_u :].reshape(N, p.n_samples, n).copy() if self.states else None
        start = N * size
        for name, shape in zip(p.trained_parts, self._end_shapes, strict=True):
            stop = start + math.prod(shape)
            value = w[start:stop].reshape(shape, order="F").copy()
            parts[name] = value.ravel() if name.endswith("bias") else value
            start = stop
        return Controls(**parts), X

    def order(self) -> np.ndarray:
        """Return for each entry of the toolkit's flat vector its place in the program's, (d,)."""
        d = self.problem.n_decision
        flat = unflatten(self.problem, np.arange(1.0, d + 1))
        empty = np.zeros((self.problem.depth + 1, self.problem.n_samples, self.problem.width))
        places = self.pack(flat, empty)
        return np.argsort(np.where(places > 0, places, np.inf), kind="stable")[:d]

    def multipliers(self, costate: np.ndarray) -> np.ndarray:
        """Return lam_g of g_k = X_{k+1} - Phi for a costate, (N+1, n_d, n): lam_g = -lambda."""
        return -costate[1:].ravel()

    def costate(self, lam_g: np.ndarray) -> np.ndarray:
        """Return lambda_1..lambda_N of the multipliers, (N, n_d, n)."""
        p = self.problem
        return -lam_g.reshape(p.depth, p.n_samples, p.width)


def activation(problem: Problem, v: ca.SX) -> ca.SX:
    """sigma of the statement; branches keep value and both derivatives finite for any v."""
    return _ACTIVATIONS[problem.activation](v, problem.sigma)


def _sigmoid(v: ca.SX, sigma: Activation) -> ca.SX:
    half = 0.5 * ca.tanh(v / 2)
    return half if sigma.shifted else 0.5 + half


def _softplus(v: ca.SX, sigma: Activation) -> ca.SX:
    t = sigma.sharpness * v
    # both branches are evaluated, hence neither argument of exp may overflow
    above, below = ca.if_else(t > 0, t, 0), ca.if_else(t > 0, 0, t)
    softplus = ca.if_else(t > 0, t + ca.log1p(ca.exp(-above)), ca.log1p(ca.exp(below)))
    return (softplus - (math.log(2) if sigma.shifted else 0.0)) / sigma.sharpness


_ACTIVATIONS: dict[str, Callable[[ca.SX, Activation], ca.SX]] = {
    "tanh": lambda v, _: ca.tanh(v),
    "softsign": lambda v, _: v / (1 + ca.fabs(v)),
    "identity": lambda v, _: v,
    # if_else and not fmax: the derivative of fmax at 0 is .5 in CasADi, the convention is 0
    "relu": lambda v, _: ca.if_else(v > 0, v, 0),
    "leaky_relu": lambda v, _: ca.if_else(v > 0, v, LEAKY_SLOPE * v),
    "gelu": lambda v, _: v * 0.5 * (1 + ca.erf(v / math.sqrt(2))),
    "silu": lambda v, _: v * 0.5 * (1 + ca.tanh(v / 2)),
    "sigmoid": _sigmoid,
    "softplus": _softplus,
}


def _loss(z: ca.SX, q: ca.SX, p_d: float, n_classes: int) -> ca.SX:
    """KL(q || softmax z), relative to the largest logit."""
    w = z - ca.mmax(z)
    off = off_target(n_classes, p_d)
    entropy = -p_d * math.log(p_d) - ((1 - p_d) * math.log(off) if off > 0 else 0.0)
    return ca.log(ca.sum1(ca.exp(w))) - ca.dot(q, w) - entropy


def _readout_symbols(problem: Problem) -> tuple[list[ca.SX], ca.SX, ca.SX]:
    """Inputs for a trained readout (else none), and C, c."""
    if "readout" not in problem.trained:
        return [], ca.SX(ca.DM(problem.readout_weight)), ca.SX(ca.DM(problem.readout_bias))
    C = ca.SX.sym("C", problem.n_classes, problem.width)
    c = ca.SX.sym("c", problem.n_classes)
    return [ca.vertcat(ca.vec(C), c)], C, c


def _layer(problem: Problem) -> ca.Function:
    """One sample through one layer: (x, u, q[, readout]) -> (Phi_h(x, u), sum_s w_s beta g)."""
    n, h = problem.width, problem.h
    x, q = ca.SX.sym("x", n), ca.SX.sym("q", problem.n_classes)
    A, b = ca.SX.sym("A", n, n), ca.SX.sym("b", n)
    u = [ca.vec(A), b]
    W = ca.SX.eye(n)
    if problem.block == "double":
        W = ca.SX.sym("W", n, n)
        u.append(ca.vec(W))
    inputs, C, c = _readout_symbols(problem)
    step, K, cost = 0, 0, 0
    for a, w in zip(*SCHEMES[problem.scheme], strict=True):
        stage = x + h * a * K if a else x
        K = activation(problem, A @ stage + b)
        if problem.block == "double":
            K = W @ K
        step += w * K
        if problem.beta:
            cost += w * _loss(C @ stage + c, q, problem.p_d, problem.n_classes)
    return ca.Function("layer", [x, ca.vertcat(*u), q, *inputs], [x + h * step, cost])


def _terminal(problem: Problem) -> ca.Function:
    """The data cost of one sample: (x, q[, readout]) -> g."""
    x, q = ca.SX.sym("x", problem.width), ca.SX.sym("q", problem.n_classes)
    inputs, C, c = _readout_symbols(problem)
    cost = _loss(C @ x + c, q, problem.p_d, problem.n_classes)
    return ca.Function("terminal", [x, q, *inputs], [cost])


def _mapped(
    function: ca.Function,
    problem: Problem,
    x: ca.MX,
    u: ca.MX | None,
    q: np.ndarray,
    ends: list[ca.MX],
) -> Any:
    """Apply a one-sample function to all samples; the controls are the same for each.

    Returns what the function returns, a matrix or a tuple of them, a column a sample.
    """
    n_d = problem.n_samples
    arguments = [x] if u is None else [x, ca.repmat(u, 1, n_d)]
    arguments.append(q)
    if "readout" in problem.trained:
        readout = ca.vertcat(ca.vec(ends[-2]), ends[-1])
        arguments.append(ca.repmat(readout, 1, n_d))
    return function.map(n_d)(*arguments)


def _lifted(problem: Problem, ends: list[ca.MX]) -> ca.MX:
    """x_0 of all samples, (n, n_d)."""
    s = problem.input_values.T
    if "lift" in problem.trained:
        return ends[0] @ s + ca.repmat(ends[1], 1, problem.n_samples)
    return ca.MX(ca.DM(problem.lift_weight @ s + problem.lift_bias[:, None]))


def _ends_cost(problem: Problem, ends: list[ca.MX]) -> ca.MX:
    return sum((problem.r_ends / 2 * ca.sumsqr(end) for end in ends), ca.MX(0))
