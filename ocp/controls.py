"""The decision variables of the statement: what training is free to choose.

One flat order is used everywhere (gradients, Hessians, files of eigenvectors): layer by layer
A_k row by row, b_k, then W_k for block double; after the last layer a trained lift (E, e) and a
trained readout (C, c).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import validation
from .problem import END_PARTS, Problem


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Controls:
    """The controls u_k and, where they are trained, the ends.

    A : (N, n, n);  b : (N, n);  W : (N, n, n) for block double, else None
    lift_weight (n, n_in), lift_bias (n,) : only where the lift is trained, else None
    readout_weight (n_c, n), readout_bias (n_c,) : only where the readout is trained, else None
    """

    A: np.ndarray
    b: np.ndarray
    W: np.ndarray | None = None
    lift_weight: np.ndarray | None = None
    lift_bias: np.ndarray | None = None
    readout_weight: np.ndarray | None = None
    readout_bias: np.ndarray | None = None

    @property
    def depth(self) -> int:
        return len(self.A)

    def norms(self) -> np.ndarray:
        """|u_k|, the Euclidean norm of everything in layer k, (N,)."""
        squares = (self.A**2).sum(axis=(1, 2)) + (self.b**2).sum(axis=1)
        if self.W is not None:
            squares = squares + (self.W**2).sum(axis=(1, 2))
        return np.sqrt(squares)

    def layers(self, start: int, stop: int) -> Controls:
        """Return the controls of layers start..stop-1 with the same ends."""
        cut = slice(start, stop)
        return dataclasses.replace(
            self, A=self.A[cut], b=self.b[cut], W=None if self.W is None else self.W[cut]
        )

    def followed_by(self, other: Controls) -> Controls:
        """Return these layers and then those of `other`, with these ends."""
        return dataclasses.replace(
            self,
            A=np.concatenate([self.A, other.A]),
            b=np.concatenate([self.b, other.b]),
            W=None if self.W is None else np.concatenate([self.W, other.W]),
        )

    def idled(self, k: int) -> Controls:
        """Return a copy with u_j = 0 for j >= k, the depth unchanged."""
        keep = (np.arange(self.depth) < k)[:, None]
        return dataclasses.replace(
            self,
            A=self.A * keep[..., None],
            b=self.b * keep,
            W=None if self.W is None else self.W * keep[..., None],
        )


def ends(problem: Problem, controls: Controls) -> tuple[np.ndarray, ...]:
    """Return (E, e, C, c): the trained ones from `controls`, the others from `problem`."""
    trained = [getattr(controls, part) for part in END_PARTS]
    return tuple(
        getattr(problem, part) if value is None else value
        for part, value in zip(END_PARTS, trained, strict=True)
    )


def penalty_diagonal(problem: Problem) -> np.ndarray:
    """Return the diagonal of the quadratic penalty, (d,): h r on layers, r_ends on trained ends."""
    diagonal = np.full(problem.n_decision, problem.r_ends)
    diagonal[: problem.depth * problem.layer_size] = problem.h * problem.r
    return diagonal


def _end_shapes(problem: Problem) -> list[tuple[str, tuple[int, ...]]]:
    return [(part, getattr(problem, part).shape) for part in problem.trained_parts]


def flatten(controls: Controls) -> np.ndarray:
    """Return all decision variables in the flat order, (d,)."""
    N = controls.depth
    parts = [controls.A.reshape(N, -1), controls.b]
    if controls.W is not None:
        parts.append(controls.W.reshape(N, -1))
    flat = [np.concatenate(parts, axis=1).ravel()]
    for part in END_PARTS:
        value = getattr(controls, part)
        if value is not None:
            flat.append(value.ravel())
    return np.concatenate(flat)


def unflatten(problem: Problem, u: np.ndarray) -> Controls:
    """Return the controls of flat vectors u, (..., d); leading axes come first in every part."""
    N, n, m = problem.depth, problem.width, problem.layer_size
    lead = u.shape[:-1]
    layers = u[..., : N * m].reshape(*lead, N, m)
    parts: dict[str, Any] = {
        "A": layers[..., : n * n].reshape(*lead, N, n, n),
        "b": layers[..., n * n : n * n + n],
    }
    if problem.block == "double":
        parts["W"] = layers[..., n * n + n :].reshape(*lead, N, n, n)
    start = N * m
    for name, shape in _end_shapes(problem):
        size = int(np.prod(shape))
        parts[name] = u[..., start : start + size].reshape(*lead, *shape)
        start += size
    return Controls(**parts)


def describe(problem: Problem, index: int) -> str:
    """Return where entry `index` of the flat order lies, as "layer 7, A[1,2]"."""
    n, m = problem.width, problem.layer_size
    k, j = divmod(int(index), m)
    if k < problem.depth:
        if j < n * n:
            return f"layer {k}, A[{j // n},{j % n}]"
        if j < n * n + n:
            return f"layer {k}, b[{j - n * n}]"
        j -= n * n + n
        return f"layer {k}, W[{j // n},{j % n}]"
    start = problem.depth * m
    for name, shape in _end_shapes(problem):
        size = int(np.prod(shape))
        if index < start + size:
            at = ",".join(str(i) for i in np.unravel_index(index - start, shape))
            return f"{name}[{at}]"
        start += size
    raise ValueError(f"index {index} is outside the {problem.n_decision} decision variables")


def zeros(problem: Problem) -> Controls:
    """Return u = 0; trained ends start from those of the problem."""
    return near_zero(problem, np.random.default_rng(0), 0.0)


def near_zero(problem: Problem, rng: np.random.Generator, scale: float) -> Controls:
    """Return Gaussian controls of standard deviation `scale`, b included.

    b = 0 is invariant under gradient steps for odd activations, hence never a start.
    Block double: W = 0, because an appended layer must not move the states and u = 0 itself is
    a saddle that a method would never leave; A and b get at least 0.1 for the same reason.
    Trained ends are those of the problem.
    """
    N, n = problem.depth, problem.width
    double = problem.block == "double"
    spread = max(scale, 0.1) if double and scale > 0 else scale
    return Controls(
        A=spread * rng.standard_normal((N, n, n)),
        b=spread * rng.standard_normal((N, n)),
        W=np.zeros((N, n, n)) if double else None,
        **{name: getattr(problem, name).copy() for name, _ in _end_shapes(problem)},
    )


def random_start(problem: Problem, rng: np.random.Generator, scale: float = 0.5) -> Controls:
    """Return Gaussian controls, every layer part (W too) of standard deviation `scale`."""
    start = near_zero(problem, rng, scale)
    n = problem.width
    return dataclasses.replace(
        start,
        A=scale * rng.standard_normal(start.A.shape),
        b=scale * rng.standard_normal(start.b.shape),
        W=scale * rng.standard_normal((problem.depth, n, n)) if start.W is not None else None,
    )


def validate(problem: Problem, controls: Controls) -> None:
    """Raise ValueError unless the controls fit the problem and are finite."""
    N, n = problem.depth, problem.width
    wanted: list[tuple[str, tuple[int, ...] | None]] = [
        ("A", (N, n, n)),
        ("b", (N, n)),
        ("W", (N, n, n) if problem.block == "double" else None),
    ]
    trained = dict(_end_shapes(problem))
    for name in END_PARTS:
        wanted.append((name, trained.get(name)))
    for name, shape in wanted:
        value = getattr(controls, name)
        validation.shape(name, value, shape)
        if value is not None:
            validation.finite(name, value)
