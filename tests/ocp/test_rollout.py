"""The reference evaluation against complex steps, orders of convergence and invariances."""

import itertools

import numpy as np
import pytest
from problems import SMOOTH, blobs, random_problem, spirals

from ocp import activations, loss
from ocp.controls import Controls, flatten, random_start, unflatten
from ocp.evaluation.assembly import assembled_hessian
from ocp.evaluation.hessian_products import hessian_product, reduced_hessian
from ocp.evaluation.rollout import (
    data_cost,
    gradient,
    kkt_residual,
    layer_costs,
    objective,
    rollout,
)
from ocp.problem import BLOCKS, SCHEMES

STEP = 1e-30  # a complex step has no cancellation: the error is that of one evaluation


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("activation", SMOOTH)
def test_derivatives_equal_complex_steps(scheme, activation):
    rng = np.random.default_rng(0)
    for _ in range(4):
        problem = random_problem(rng, scheme, activation)
        u = flatten(random_start(problem, rng))
        g, _ = gradient(problem, unflatten(problem, u))
        directions = rng.standard_normal((3, len(u)))
        along = [
            float(objective(problem, unflatten(problem, u + 1j * STEP * d)).imag) / STEP
            for d in directions
        ]
        scale = max(1.0, np.abs(g).max())
        assert np.allclose(directions @ g, along, rtol=0, atol=1e-12 * scale * len(u))
        products = hessian_product(problem, unflatten(problem, u), directions)
        tangents = [
            gradient(problem, unflatten(problem, u + 1j * STEP * d))[0].imag / STEP
            for d in directions
        ]
        scale = max(1.0, np.abs(products).max())
        assert np.allclose(products, tangents, rtol=0, atol=1e-12 * scale)


def test_loss_is_stable_for_logits_of_1e4():
    z = np.array([[1e4, -1e4], [-1e4, 1e4], [1e4, 1e4]])
    q = loss.soft_target(np.array([0, 0, 0]), 2, 0.9)
    g = loss.soft_cross_entropy(z, q)
    entropy = 0.9 * np.log(0.9) + 0.1 * np.log(0.1)
    assert np.allclose(g, [0.1 * 2e4 + entropy, 0.9 * 2e4 + entropy, np.log(2) + entropy])
    problem = spirals(depth=2, readout_weight=1e4 * np.eye(2, 3))
    g, costate = gradient(problem, random_start(problem, np.random.default_rng(0)))
    assert np.isfinite(g).all()
    assert np.isfinite(costate).all()


@pytest.mark.parametrize(
    ("n_classes", "p_d", "expected"),
    [(2, 0.9, 0.36806), (10, 0.9, 0.57153), (10, 0.5, 0.20448), (10, 0.99, 0.67833)],
)
def test_misclassification_threshold(n_classes, p_d, expected):
    assert loss.misclassification_threshold(n_classes, p_d) == pytest.approx(expected, abs=5e-6)
    assert loss.misclassification_threshold(n_classes, 1.0) == pytest.approx(np.log(2))


def test_a_tie_is_not_right():
    z = np.array([[1.0, 1.0], [2.0, 1.0], [np.nan, 1.0]])
    assert loss.is_right(z, np.array([0, 0, 0])).tolist() == [False, True, False]


@pytest.mark.parametrize(("scheme", "order"), [("euler", 1), ("heun", 2), ("rk4", 4)])
def test_order_of_convergence_for_a_fixed_piecewise_constant_control(scheme, order):
    """Each layer split into 2, 4, 8 with the same control, against 256 layers of rk4."""
    problem = spirals(depth=3, h=0.5, scheme=scheme)

    def split(controls, m, method):
        fine = problem.with_(depth=3 * m, h=0.5 / m, scheme=method)
        u = Controls(A=np.repeat(controls.A, m, axis=0), b=np.repeat(controls.b, m, axis=0))
        return np.append(rollout(fine, u).X[-1].ravel(), objective(fine, u))

    orders = []
    for seed in range(9):
        u = random_start(problem, np.random.default_rng(seed), 0.3)
        exact = split(u, 256, "rk4")
        errors = np.abs([split(u, m, scheme) - exact for m in (2, 4, 8)])
        in_state, in_objective = errors[:, :-1].max(axis=1), errors[:, -1]
        orders.append([np.log2(e[1] / e[2]) for e in (in_state, in_objective)])
    # the median, because the leading error term of J nearly cancels for some controls
    assert np.abs(np.median(orders, axis=0) - order).max() <= 0.1, orders


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("block", BLOCKS)
def test_invariances(scheme, block):
    rng = np.random.default_rng(4)
    problem = blobs(n_classes=3, width=4, scheme=scheme, block=block)
    u = random_start(problem, rng)
    J = objective(problem, u)
    order = rng.permutation(problem.n_samples)
    shuffled = problem.with_(inputs=problem.inputs[order], labels=problem.labels[order])
    assert objective(shuffled, u) == pytest.approx(J, rel=1e-13)
    classes = rng.permutation(3)
    relabelled = problem.with_(
        labels=classes[problem.labels],
        readout_weight=problem.readout_weight[np.argsort(classes)],
    )
    assert objective(relabelled, u) == pytest.approx(J, rel=1e-13)
    pad = lambda M, *widths: np.pad(M, widths)  # noqa: E731
    wide = problem.with_(
        width=5,
        lift_weight=pad(problem.lift_weight, (0, 1), (0, 0)),
        lift_bias=pad(problem.lift_bias, (0, 1)),
        readout_weight=pad(problem.readout_weight, (0, 0), (0, 1)),
    )
    padded = Controls(
        A=pad(u.A, (0, 0), (0, 1), (0, 1)),
        b=pad(u.b, (0, 0), (0, 1)),
        W=None if u.W is None else pad(u.W, (0, 0), (0, 1), (0, 1)),
    )
    assert objective(wide, padded) == pytest.approx(J, rel=1e-13)


def test_idle_layers_are_equilibria_for_every_scheme():
    for scheme in SCHEMES:
        problem = spirals(scheme=scheme)
        X = rollout(problem, random_start(problem, np.random.default_rng(0)).idled(0)).X
        assert np.array_equal(X, np.broadcast_to(X[0], X.shape))


def test_the_objective_is_the_sum_of_its_layers():
    problem = blobs(scheme="rk4", gamma=0.7)
    u = random_start(problem, np.random.default_rng(1))
    trajectory = rollout(problem, u)
    total = problem.h * layer_costs(problem, u, trajectory).sum()
    total += problem.gamma * data_cost(problem, u, trajectory.X[-1])
    assert objective(problem, u) == pytest.approx(total, rel=1e-15)


def test_two_routes_to_the_reduced_hessian():
    rng = np.random.default_rng(3)
    for scheme, activation in itertools.product(SCHEMES, activations.NAMES):
        problem = random_problem(rng, scheme, activation)
        u = random_start(problem, rng)
        one, two = assembled_hessian(problem, u), reduced_hessian(problem, u, chunk=7)
        scale = max(1.0, np.abs(two).max())
        assert np.allclose(one, two, rtol=0, atol=1e-12 * scale)
        assert np.array_equal(one, one.T)


def test_kkt_residuals_vanish_at_the_rollout_and_see_each_kind_of_error():
    problem = blobs(scheme="heun")
    u = random_start(problem, np.random.default_rng(1))
    X = rollout(problem, u).X
    g, costate = gradient(problem, u)
    clean = kkt_residual(problem, u, X, costate)
    assert clean["dynamics"] == 0
    assert clean["states"] < 1e-16
    assert clean["controls"] == pytest.approx(np.abs(g).max(), rel=1e-12)
    moved = X.copy()
    moved[2, 0, 0] += 1e-3
    assert kkt_residual(problem, u, moved, costate)["dynamics"] >= 1e-3
    wrong = costate.copy()
    wrong[1, 0, 0] += 1e-3
    assert kkt_residual(problem, u, X, wrong)["states"] >= 9e-4
    assert kkt_residual(problem, u, X, -costate)["states"] > 0.01
