"""Which networks are the same up to a symmetry of the problem?

A signed permutation S of the coordinates of the state maps a network to one with states S x,

    single   A_k -> S A_k S',  b_k -> S b_k       (signs need an odd activation)
    double   A_k -> A_k S',    W_k -> S W_k
    ends     E -> S E,  e -> S e,  C -> R C S',  c -> R c

It leaves J alone if trained ends go along and fixed ends need not:
S maps the set of lifted samples onto itself, sample i to pi(i) with its label, up to a permutation
R of the classes.  Unused coordinates may so be permuted and reflected; on data that the point
reflection maps to the other class, (A, b) and (A, -b) are equivalent (S = -1).
In block double, layers have hidden units of their own, permuted and reflected layer by layer.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import scipy.optimize

from ocp.controls import Controls, flatten
from ocp.problem import Problem

#: wider states get only the identity and the reflections of single coordinates and of all
FULL_WIDTH = 6
#: more classes than this are not permuted
PERMUTED_CLASSES = 5
TOLERANCE = 1e-12


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Symmetry:
    """x -> S x with S[i, order[i]] = signs[i], and a permutation of the classes.

    classes : row j of the new readout is row classes[j] of the old
    """

    order: tuple[int, ...]
    signs: tuple[int, ...]
    classes: tuple[int, ...]

    @property
    def matrix(self) -> np.ndarray:
        """S, (n, n)."""
        S = np.zeros((len(self.order),) * 2)
        S[np.arange(len(self.order)), self.order] = self.signs
        return S

    def __str__(self) -> str:
        moved = [j for j, i in enumerate(self.order) if i != j]
        if not moved and all(sign > 0 for sign in self.signs):
            return "identity"
        if not moved and all(sign < 0 for sign in self.signs):
            return "point reflection"
        image = ", ".join(
            f"{'-' if s < 0 else ''}x{i}" for s, i in zip(self.signs, self.order, strict=True)
        )
        return f"x -> ({image})"


def symmetries(problem: Problem) -> list[Symmetry]:
    """Return the signed permutations that leave J alone, the identity first."""
    X = problem.input_values @ problem.lift_weight.T + problem.lift_bias
    found = []
    classes = _class_permutations(problem)
    for order, signs in _signed_permutations(problem):
        image = np.array(signs) * X[:, order]
        for classes_to in classes:
            if _fits_readout(problem, order, signs, classes_to) and _fits_samples(
                problem, X, image, classes_to
            ):
                found.append(Symmetry(order=order, signs=signs, classes=classes_to))
                break
    return found


def apply(symmetry: Symmetry, controls: Controls) -> Controls:
    """Return the network whose states are S times those of `controls`."""
    S = symmetry.matrix
    R = list(symmetry.classes)
    double = controls.W is not None
    left = lambda M: None if M is None else S @ M  # noqa: E731
    C, c = controls.readout_weight, controls.readout_bias
    return Controls(
        A=controls.A @ S.T if double else S @ controls.A @ S.T,
        b=controls.b if double else controls.b @ S.T,
        W=left(controls.W),
        lift_weight=left(controls.lift_weight),
        lift_bias=left(controls.lift_bias),
        readout_weight=None if C is None else (C @ S.T)[R],
        readout_bias=None if c is None else c[R],
    )


def distance(
    problem: Problem,
    one: Controls,
    other: Controls,
    group: list[Symmetry] | None = None,
) -> tuple[float, Symmetry]:
    """Return the least |one - S other|_inf over the group, and where it is attained."""
    group = symmetries(problem) if group is None else group
    best = (float("inf"), group[0])  # a gap that is NaN everywhere leaves the first
    for symmetry in group:
        image = apply(symmetry, other)
        if image.W is not None:
            image = align_hidden_units(problem, one, image)
        gap = float(np.abs(flatten(one) - flatten(image)).max())
        if gap < best[0]:
            best = (gap, symmetry)
    return best


def align_hidden_units(problem: Problem, one: Controls, other: Controls) -> Controls:
    """Permute (odd activations: and reflect) the hidden units of each layer of `other`.

    W sigma(A x + b) stays when the rows of (A, b) and the columns of W move together.
    """
    A, b = other.A.copy(), other.b.copy()
    if other.W is None or one.W is None:
        return other
    W = other.W.copy()
    for k in range(problem.depth):
        units = np.concatenate([other.A[k], other.b[k][:, None], other.W[k].T], axis=1)
        wanted = np.concatenate([one.A[k], one.b[k][:, None], one.W[k].T], axis=1)
        same = ((wanted[:, None] - units) ** 2).sum(axis=2)
        turned = ((wanted[:, None] + units) ** 2).sum(axis=2)
        if not problem.sigma.odd:
            turned = np.full_like(same, np.inf)
        _, order = scipy.optimize.linear_sum_assignment(np.minimum(same, turned))
        here = np.arange(len(order))
        sign = np.where(turned[here, order] < same[here, order], -1.0, 1.0)
        A[k] = sign[:, None] * other.A[k][order]
        b[k] = sign * other.b[k][order]
        W[k] = other.W[k][:, order] * sign
    return dataclasses.replace(other, A=A, b=b, W=W)


def _signed_permutations(
    problem: Problem,
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    n = problem.width
    identity = tuple(range(n))
    # in block double the activation sees hidden units only: signs need no odd activation
    signed = problem.sigma.odd or problem.block == "double"
    if n > FULL_WIDTH:
        yield identity, (1,) * n
        if signed:
            yield identity, (-1,) * n
            for j in range(n):
                yield identity, tuple(-1 if i == j else 1 for i in range(n))
        return
    for order in itertools.permutations(range(n)):
        for signs in itertools.product((1, -1), repeat=n) if signed else ((1,) * n,):
            yield order, signs


def _class_permutations(problem: Problem) -> list[tuple[int, ...]]:
    n_c = problem.n_classes
    if n_c > PERMUTED_CLASSES:
        return [tuple(range(n_c))]
    return list(itertools.permutations(range(n_c)))


def _fits_readout(
    problem: Problem,
    order: tuple[int, ...],
    signs: tuple[int, ...],
    classes: tuple[int, ...],
) -> bool:
    """P C S = R P C and P c = R P c for a fixed readout; a trained one goes along."""
    if "readout" in problem.trained:
        return True
    C = problem.readout_weight - problem.readout_weight.mean(axis=0)
    c = problem.readout_bias - problem.readout_bias.mean()
    CS = np.zeros_like(C)
    CS[:, list(order)] = C * np.array(signs)
    size = TOLERANCE * max(1.0, float(np.abs(C).max()), float(np.abs(c).max()))
    rows = list(classes)
    return bool(np.abs(CS - C[rows]).max() <= size and np.abs(c - c[rows]).max() <= size)


def _fits_samples(
    problem: Problem, X: np.ndarray, image: np.ndarray, classes: tuple[int, ...]
) -> bool:
    """The image of the samples is the set of samples; the labels move by the class permutation.

    A trained lift goes along with S, every sample stays itself: then its label must.
    """
    # logits of the image are z[classes]: label y becomes the row j with classes[j] = y
    labels = np.argsort(classes)[problem.labels]
    if "lift" in problem.trained:
        return bool((labels == problem.labels).all())
    size = TOLERANCE * max(1.0, float(np.abs(X).max()))
    grid = lambda points, y: np.column_stack([np.round(points / (1e3 * size)), y])  # noqa: E731
    mine, theirs = grid(X, problem.labels), grid(image, labels)
    mine, theirs = (rows[np.lexsort(rows.T)] for rows in (mine + 0.0, theirs + 0.0))
    return bool(np.abs(mine - theirs).max() <= 1.0)
