"""Other files that say the same, and files that no longer say what is true.

Each takes a training file and a generator of random numbers, and returns a file; None where it
does not apply.  Those that keep the truth keep J, every derivative up to the change of variables,
and the costate; `origin` is kept, the hash is made anew.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
import oracle

from ocp.activations import Activation
from ocp.controls import Controls
from ocp.files import TrainingFile
from ocp.problem import Problem

Transformation = Callable[[TrainingFile, np.random.Generator], TrainingFile | None]
TOLERANCE = 1e-8


def _replaced(content: TrainingFile, problem: Problem, u: Controls, costate) -> TrainingFile:
    return dataclasses.replace(content, problem=problem, controls=u, costate=costate)


def offset_of_the_logits(content: TrainingFile, rng: np.random.Generator) -> TrainingFile | None:
    """c + t 1, exact: multiples of 2^-20 and a power of two."""
    problem = content.problem
    if "readout" in problem.trained:
        return None
    t = float(2.0 ** rng.integers(-3, 12)) * rng.choice([-1.0, 1.0])
    coarse = np.round(problem.readout_bias * 2.0**20) / 2.0**20
    if not np.array_equal(coarse, problem.readout_bias):
        return None
    return dataclasses.replace(content, problem=problem.with_(readout_bias=coarse + t))


def permuted_samples(content: TrainingFile, rng: np.random.Generator) -> TrainingFile:
    problem = content.problem
    order = rng.permutation(problem.n_samples)
    problem = problem.with_(inputs=problem.inputs[order], labels=problem.labels[order])
    costate = None if content.costate is None else content.costate[:, order]
    return dataclasses.replace(content, problem=problem, costate=costate)


def doubled_samples(content: TrainingFile, rng: np.random.Generator) -> TrainingFile:
    """Every sample stated twice: F is a mean."""
    problem = content.problem
    twice = np.tile(np.arange(problem.n_samples), 2)
    problem = problem.with_(inputs=problem.inputs[twice], labels=problem.labels[twice])
    costate = None if content.costate is None else content.costate[:, twice] / 2
    return dataclasses.replace(content, problem=problem, costate=costate)


def relabelled_classes(content: TrainingFile, rng: np.random.Generator) -> TrainingFile:
    problem, u = content.problem, content.controls
    order = rng.permutation(problem.n_classes)  # new class j was order[j]
    new = np.argsort(order)
    problem = problem.with_(
        labels=new[problem.labels],
        readout_weight=problem.readout_weight[order],
        readout_bias=problem.readout_bias[order],
    )
    if u.readout_weight is not None:
        u = dataclasses.replace(
            u, readout_weight=u.readout_weight[order], readout_bias=u.readout_bias[order]
        )
    return dataclasses.replace(
        content, problem=problem, controls=u, test_labels=new[content.test_labels]
    )


def _moved(content: TrainingFile, state: np.ndarray, hidden: np.ndarray) -> TrainingFile:
    """States in the coordinates `state` x, hidden units in `hidden`; both orthogonal."""
    problem, u = content.problem, content.controls
    carry = {
        "lift_weight": lambda v: state @ v,
        "lift_bias": lambda v: state @ v,
        "readout_weight": lambda v: v @ state.T,
        "readout_bias": lambda v: v,
    }
    ends = {name: change(getattr(problem, name)) for name, change in carry.items()}
    trained = {
        name: change(getattr(u, name))
        for name, change in carry.items()
        if getattr(u, name) is not None
    }
    u = Controls(
        A=hidden @ u.A @ state.T,
        b=u.b @ hidden.T,
        W=None if u.W is None else state @ u.W @ hidden.T,
        **trained,
    )
    costate = None if content.costate is None else content.costate @ state.T
    return _replaced(content, problem.with_(**ends), u, costate)


def permuted_coordinates(content: TrainingFile, rng: np.random.Generator) -> TrainingFile:
    n = content.problem.width
    state = np.eye(n)[rng.permutation(n)]
    hidden = np.eye(n)[rng.permutation(n)] if content.controls.W is not None else state
    return _moved(content, state, hidden)


def flipped_coordinates(content: TrainingFile, rng: np.random.Generator) -> TrainingFile | None:
    """Signs; hidden units flip for odd activations alone, the states of double blocks always."""
    problem, n = content.problem, content.problem.width
    odd = Activation(problem.activation, bool(problem.shifted), problem.sharpness).odd
    double = content.controls.W is not None
    if not odd and not double:
        return None
    state = np.diag(rng.choice([-1.0, 1.0], n))
    hidden = np.diag(rng.choice([-1.0, 1.0], n)) if odd else np.eye(n)
    return _moved(content, state, hidden if double else state)


KEEP: tuple[Transformation, ...] = (
    offset_of_the_logits,
    permuted_samples,
    doubled_samples,
    relabelled_classes,
    permuted_coordinates,
    flipped_coordinates,
)


# what no longer holds: (file, the lines that must not pass)


def _gradient(content: TrainingFile) -> float:
    problem = content.problem
    return float(np.abs(oracle.gradient(problem, oracle.flat(problem, content.controls))).max())


STATIONARY = ("first_order.gradient", "second_order.curvature")


def nudged_controls(content: TrainingFile, rng: np.random.Generator):
    """Off the optimum, until the gradient is two to a thousand tolerances."""
    problem = content.problem
    u = oracle.flat(problem, content.controls)
    direction = rng.standard_normal(len(u)) * (rng.random(len(u)) < rng.uniform(0.1, 1.0))
    slope = float(np.abs(oracle.derivatives(problem, u)[2] @ direction).max())
    if not slope > 1e-6:
        return None
    u = u + direction * TOLERANCE * 10 ** rng.uniform(0.4, 3) / slope
    moved = dataclasses.replace(content, controls=oracle.controls_of(problem, u))
    return (moved, STATIONARY) if _gradient(moved) > 1.1 * TOLERANCE else None


def edited_labels(content: TrainingFile, rng: np.random.Generator):
    problem = content.problem
    labels = problem.labels.copy()
    i = rng.integers(len(labels))
    labels[i] = (labels[i] + rng.integers(1, problem.n_classes)) % problem.n_classes
    if len(set(labels)) < 2:
        return None
    return _restated(content, problem.with_(labels=labels))


def edited_p_d(content: TrainingFile, rng: np.random.Generator):
    problem = content.problem
    p_d = problem.p_d - (problem.p_d - 1 / problem.n_classes) * rng.uniform(1e-3, 0.5)
    return _restated(content, problem.with_(p_d=float(p_d)))


def _restated(content: TrainingFile, problem: Problem):
    """The same controls and claims under another statement."""
    changed = dataclasses.replace(content, problem=problem)
    u = oracle.flat(problem, content.controls)
    lines = STATIONARY if _gradient(changed) > 1.1 * TOLERANCE else ()
    J, stored = oracle.objective(problem, u), content.origin["objective"]
    if isinstance(stored, float) and abs(J - stored) > 2e-10 * max(1.0, abs(J)):
        lines = (*lines, "statement.objective")
    if content.costate is not None:
        residual = oracle.costate_residuals(problem, u, content.costate)
        if residual[-1] > 2 * TOLERANCE:
            lines = (*lines, "first_order.costate_terminal")
    return (changed, lines) if lines else None


def shuffled_layers(content: TrainingFile, rng: np.random.Generator):
    problem, u = content.problem, content.controls
    order = rng.permutation(problem.depth)
    mixed = dataclasses.replace(
        u, A=u.A[order], b=u.b[order], W=None if u.W is None else u.W[order]
    )
    changed = dataclasses.replace(content, controls=mixed)
    return (changed, STATIONARY) if _gradient(changed) > 1.1 * TOLERANCE else None


def inserted_kink(content: TrainingFile, rng: np.random.Generator):
    """A row of zeros: pre-activations at exactly 0."""
    problem, u = content.problem, content.controls
    if problem.sigma.smooth:
        return None
    k, j = rng.integers(problem.depth), rng.integers(problem.width)
    A, b = u.A.copy(), u.b.copy()
    A[k, j], b[k, j] = 0.0, 0.0
    changed = dataclasses.replace(content, controls=dataclasses.replace(u, A=A, b=b))
    sharp = problem.sigma.kink == 1
    lines = STATIONARY if sharp or _gradient(changed) > 1.1 * TOLERANCE else STATIONARY[1:]
    return changed, lines


def altered_costate(content: TrainingFile, rng: np.random.Generator):
    problem, costate = content.problem, content.costate
    if costate is None or problem.activation in ("relu", "leaky_relu"):
        return None
    costate = costate.copy()
    k = rng.integers(problem.depth + 1)
    by = max(np.abs(costate).max(), 1e-4) * 10 ** rng.uniform(-2.5, 0)
    costate[k, rng.integers(problem.n_samples), rng.integers(problem.width)] += by
    u = oracle.flat(problem, content.controls)
    residual = oracle.costate_residuals(problem, u, costate)
    names = ("first_order.costate_terminal", "first_order.costate_recursion")
    lines = tuple(
        name
        for name, value in zip(names, (residual[-1], residual[:-1].max()), strict=True)
        if value > 2 * TOLERANCE
    )
    return (dataclasses.replace(content, costate=costate), lines) if lines else None


def claimed_otherwise(content: TrainingFile, rng: np.random.Generator):
    stored = content.origin["objective"]
    if not isinstance(stored, float):
        return None
    by = rng.choice([-1.0, 1.0]) * max(1.0, abs(stored)) * 10 ** rng.uniform(-9.5, 0)
    origin = content.origin | {"objective": stored + by}
    return dataclasses.replace(content, origin=origin), ("statement.objective",)


DESTROY = (
    nudged_controls,
    edited_labels,
    edited_p_d,
    shuffled_layers,
    inserted_kink,
    altered_costate,
    claimed_otherwise,
)
