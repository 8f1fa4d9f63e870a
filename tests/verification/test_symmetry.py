"""Symmetries leave J alone; what is no symmetry does not."""

import dataclasses

import numpy as np
import pytest
from problems import blobs, spirals

from ocp.controls import random_start
from ocp.problem import Problem
from verification.crosscheck import symmetry
from verification.evaluation import states


def moved(problem, seed=0):
    controls = random_start(problem, np.random.default_rng(seed))
    J = states.objective(problem, controls)
    group = symmetry.symmetries(problem)
    return [states.objective(problem, symmetry.apply(s, controls)) - J for s in group], group


@pytest.mark.parametrize("block", ["single", "double"])
@pytest.mark.parametrize("width", [2, 3, 4])
def test_the_spirals_have_the_point_reflection_and_the_unused_coordinates(width, block):
    problem = spirals(5, width=width, block=block)
    change, group = moved(problem)
    unused = width - 2
    assert len(group) == 2 * (2**unused) * max(1, unused)  # 2^u u! for u <= 2
    assert str(group[0]) == "identity"
    assert "point reflection" in map(str, group)
    assert np.abs(change).max() <= 1e-13


def test_the_reflection_of_the_issue_is_the_sign_of_b():
    problem = spirals(5)
    controls = random_start(problem, np.random.default_rng(1))
    turned = dataclasses.replace(controls, b=-controls.b)
    gap, found = symmetry.distance(problem, controls, turned)
    assert gap == 0.0
    assert str(found) == "point reflection"


def test_activations_that_are_not_odd_have_no_signs():
    problem = spirals(5, width=4, activation="silu")
    change, group = moved(problem)
    assert len(group) == 2
    assert all(sign > 0 for s in group for sign in s.signs)
    assert np.abs(change).max() <= 1e-13
    # the activation of a double block acts on hidden units: the states may be reflected
    change, group = moved(spirals(5, width=3, activation="silu", block="double"))
    assert len(group) == 4
    assert np.abs(change).max() <= 1e-13


def test_data_without_symmetry_leave_the_unused_coordinate():
    problem = blobs(n_classes=2, width=3)
    change, group = moved(problem)
    assert sorted(map(str, group)) == ["identity", "x -> (x0, x1, -x2)"]
    assert np.abs(change).max() <= 1e-13


@pytest.mark.parametrize(
    ("trained", "count"),
    # only what the fixed end forbids is left out; with both trained 2^3 3! remain
    [(("layers", "lift"), 4), (("layers", "readout"), 4), (("layers", "lift", "readout"), 48)],
)
def test_trained_ends_go_along(trained, count):
    change, group = moved(spirals(5, width=3, trained=trained, r_ends=0.1))
    assert len(group) == count
    assert np.abs(change).max() <= 1e-13


def test_every_signed_permutation_left_out_changes_j():
    problem = spirals(5, width=3)
    controls = random_start(problem, np.random.default_rng(0))
    J = states.objective(problem, controls)
    kept = {(s.order, s.signs) for s in symmetry.symmetries(problem)}
    for order, signs in symmetry._signed_permutations(problem):
        if (order, signs) not in kept:
            other = symmetry.Symmetry(order=order, signs=signs, classes=(0, 1))
            assert abs(states.objective(problem, symmetry.apply(other, controls)) - J) > 1e-6


def test_hidden_units_of_a_double_block_are_matched():
    rng = np.random.default_rng(0)
    for activation in ("tanh", "silu"):
        problem = spirals(5, width=4, block="double", activation=activation)
        controls = random_start(problem, rng)
        A, b, W = controls.A.copy(), controls.b.copy(), controls.W.copy()
        for k in range(problem.depth):
            order = rng.permutation(4)
            sign = rng.choice([-1.0, 1.0], 4) if activation == "tanh" else np.ones(4)
            A[k], b[k] = sign[:, None] * A[k][order], sign * b[k][order]
            W[k] = W[k][:, order] * sign
        other = dataclasses.replace(controls, A=A, b=b, W=W)
        assert abs(states.objective(problem, other) - states.objective(problem, controls)) < 1e-13
        assert symmetry.distance(problem, controls, other)[0] == 0.0


def test_wide_states_get_reflections_only():
    rng = np.random.default_rng(0)
    problem = Problem(
        inputs=rng.standard_normal((6, 2)), labels=np.arange(6) % 2, n_classes=2, width=8, depth=2
    )
    change, group = moved(problem)
    assert len(group) == 7  # identity and six unused coordinates
    assert np.abs(change).max() <= 1e-13
