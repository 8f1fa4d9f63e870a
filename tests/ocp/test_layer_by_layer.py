"""Descents by L-BFGS, and growth of large problems one layer at a time."""

import signal

import numpy as np
import pytest
from problems import spirals

from ocp import Problem, datasets
from ocp.continuation import layer_by_layer
from ocp.continuation.by_effort import solve
from ocp.continuation.growth import GrowthOptions, grow
from ocp.controls import flatten, random_start, unflatten
from ocp.evaluation.rollout import gradient, objective
from ocp.solvers import by_name, quasi_newton
from ocp.solvers.optimality import assess
from ocp.solvers.quasi_newton import descend
from ocp.solvers.solution import Status


def images(depth=3, samples=40, **changes):
    """Ten classes as far apart as digits, but few samples: layer by layer only if told so."""
    rng = np.random.default_rng(5)
    labels = np.arange(samples) % 4
    inputs = 1.5 * rng.standard_normal((4, 12))[labels] + rng.standard_normal((samples, 12))
    E = rng.standard_normal((6, 12)) / 4
    return Problem(
        inputs=inputs, labels=labels, n_classes=4,
        **({"depth": depth, "width": 6, "lift_weight": E, "r": 1e-2} | changes),
    )  # fmt: skip


@pytest.fixture
def large(monkeypatch):
    """Every wide problem counts as large."""
    monkeypatch.setattr(layer_by_layer, "WORK", 0.0)


VARIANTS = [
    {},
    {"scheme": "heun", "activation": "softplus", "trained": ("layers", "readout"), "r_ends": 1e-2},
    {"block": "double", "depth": 2},
    {"trained": ("layers", "lift"), "r_ends": 1e-2, "depth": 2},
    {"activation": "silu", "beta": 0},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_a_descent_returns_a_lower_point_with_its_own_values(changes):
    problem = images(**changes)
    start = random_start(problem, np.random.default_rng(0), 0.1)
    found = descend(problem, start, tolerance=1e-4, max_iterations=60)
    assert found.objective < objective(problem, start)
    assert found.objective == pytest.approx(float(objective(problem, found.controls)), rel=1e-13)
    g, _ = gradient(problem, found.controls)
    assert found.residual == pytest.approx(np.abs(g).max(), rel=1e-6, abs=1e-12)
    assert found.residual <= 1e-4 or found.iterations == 60
    values = [line.objective for line in found.trace]
    assert values == sorted(values, reverse=True)
    assert found.trace[-1].iteration == found.iterations


def test_a_start_out_of_range_comes_back_as_it_is():
    problem = images(activation="identity")
    start = random_start(problem, np.random.default_rng(0), 1e200)
    found = descend(problem, start, tolerance=1e-4, max_iterations=10)
    assert np.array_equal(flatten(found.controls), flatten(start))
    assert found.iterations == 0 and not found.interrupted


def test_an_interrupt_in_a_descent_keeps_the_lowest_point():
    problem = images()
    start = random_start(problem, np.random.default_rng(0), 0.1)

    def press(progress):
        signal.raise_signal(signal.SIGINT)

    found = descend(problem, start, tolerance=1e-12, max_iterations=500, report=press)
    assert found.interrupted
    assert found.iterations == quasi_newton.EVERY
    assert found.objective < objective(problem, start)


def test_depths_go_up_by_one_and_later_by_a_fifth():
    assert layer_by_layer.depths_to(4) == (1, 2, 3, 4)
    assert layer_by_layer.depths_to(5, 5) == (5,)
    deep = layer_by_layer.depths_to(100, 3)
    assert deep[:8] == (3, 4, 5, 6, 7, 8, 9, 10) and deep[-1] == 100
    assert len(deep) < 25


def test_size_decides():
    inputs, labels = datasets.blobs(20, n_classes=3, seed=0)
    wide = Problem(inputs=inputs, labels=labels, n_classes=3, width=10, depth=10)
    assert not layer_by_layer.applies(wide)
    assert not layer_by_layer.applies(spirals(97, depth=20))
    many = wide.with_(inputs=np.tile(inputs, (90, 1)), labels=np.tile(labels, 90))
    assert layer_by_layer.applies(many)
    narrow = Problem(inputs=many.inputs, labels=many.labels, n_classes=3, width=5, depth=40)
    assert not layer_by_layer.applies(narrow)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_growth_layer_by_layer_ends_at_a_strict_minimum(large, changes):
    problem = images(**changes)
    found = grow(problem, seed=1, options=GrowthOptions(trials=2)).require()
    depths = [line.depth for line in found.report.trace]
    assert sorted(set(depths)) == list(range(1, problem.depth + 1))
    # judged anew by the reference: all eigenvalues, all products
    assert assess(problem, found.controls, 1e-8).status is Status.SOLVED
    newton = [line for line in found.report.trace if line.step_length == line.step_length]
    assert {line.depth for line in newton} <= {problem.depth}
    assert found.report.iterations > len(newton)


def test_growth_layer_by_layer_is_deterministic_and_has_seeds(large):
    problem = images(depth=2)
    options = GrowthOptions(trials=2)
    one, same, other = (flatten(grow(problem, seed=s, options=options).controls) for s in (3, 3, 4))
    assert np.array_equal(one, same)
    assert not np.array_equal(one, other)


def test_ocp_solve_grows_so_and_depths_given_are_gone_as_they_are(large):
    problem = images(depth=2)
    found = solve(problem, seed=0, effort="quick").require()
    assert found.report.iterations > len(found.report.trace)  # L-BFGS: a line every 20
    given = grow(problem, options=GrowthOptions(depths=(1, 2))).require()
    assert given.report.iterations == len(given.report.trace)


def test_more_trials_are_more_candidates(large):
    problem = images(depth=2)
    starts = []

    def report(progress):
        if progress.depth == 1 and progress.iteration:
            starts.append(progress.objective)

    one = layer_by_layer.climb(problem, np.random.default_rng(0), trials=1)
    four = layer_by_layer.climb(problem, np.random.default_rng(0), trials=4, report=report)
    assert four.iterations > 3 * one.iterations
    assert len(set(starts)) > 1


def test_growth_goes_on_from_a_start(large):
    problem = images(depth=3)
    shallow = grow(problem.with_(depth=2), options=GrowthOptions(trials=1)).require()
    seen = []
    grow(
        problem, start=shallow.controls, options=GrowthOptions(trials=1),
        report=lambda progress: seen.append(progress.depth),
    )  # fmt: skip
    assert min(seen) == 2 and max(seen) == 3


@pytest.mark.parametrize("at", [1, 3, 6])
def test_an_interrupt_on_the_way_up_returns_the_idle_extension(large, at):
    problem, lines = images(depth=6), []

    def press(progress):
        lines.append(progress.depth)
        if len(lines) == at:
            signal.raise_signal(signal.SIGINT)

    found = grow(problem, report=press)
    assert found.status is Status.INTERRUPTED
    assert found.problem.depth == found.controls.depth == 6
    assert len(lines) <= at + 1
    assert not found.controls.A[lines[-1] :].any()
    assert np.isfinite(found.report.objective)


def test_without_weights_nothing_is_called_solved_that_is_not(large):
    """r = 0: J falls for ever along some directions, or is flat."""
    problem = images(depth=2, r=0.0)
    found = grow(problem, by_name("structured", max_iterations=30),
                 options=GrowthOptions(trials=1, restarts=0, escapes=1))  # fmt: skip
    again = assess(problem, found.controls, 1e-8).status
    assert (found.status is Status.SOLVED) <= (again is Status.SOLVED)
    assert np.isfinite(flatten(found.controls)).all()


def test_ill_scaled_data_end_with_a_status_and_finite_controls(large):
    problem = images(depth=2)
    scale = np.logspace(-3, 3, 12)
    problem = problem.with_(inputs=problem.inputs * scale)
    found = grow(problem, by_name("structured", max_iterations=100),
                 options=GrowthOptions(trials=1, restarts=0))  # fmt: skip
    assert np.isfinite(flatten(found.controls)).all()
    idle = unflatten(problem, 0 * flatten(found.controls))
    assert found.report.objective < objective(problem, idle)
