"""Depth growth; depth used and entry layer."""

import dataclasses

import numpy as np
import pytest
from problems import blobs, spirals

from ocp.continuation import growth
from ocp.continuation.growth import GrowthOptions, default_depths, extend, grow
from ocp.controls import Controls, flatten, near_zero, random_start
from ocp.evaluation.depth import (
    cropped_objective,
    depth_used,
    entry_layer,
    idle_from,
    idled_objective,
    layer_table,
    least_data_cost,
    subspace_distance,
)
from ocp.evaluation.rollout import data_cost, gradient, logits, objective, rollout
from ocp.loss import soft_cross_entropy
from ocp.solvers import by_name
from ocp.solvers.solution import Status

SOLVER = by_name("ipopt", max_iterations=300)


@pytest.fixture(scope="module")
def grown():
    return grow(spirals(12, depth=11), SOLVER, seed=0, options=GrowthOptions(depths=(5, 8, 11)))


def test_growth_ends_at_a_strict_minimum_and_counts_all_its_work(grown):
    assert grown.require().report.seed == 0
    assert {line.depth for line in grown.report.trace} == {5, 8, 11}
    assert grown.report.iterations >= len(grown.report.trace) - 10
    assert grown.report.options["growth"]["depths"] == (5, 8, 11)
    assert grown.report.method.endswith("with growth")


def test_growth_is_deterministic(grown):
    again = grow(spirals(12, depth=11), SOLVER, seed=0, options=GrowthOptions(depths=(5, 8, 11)))
    assert np.array_equal(flatten(again.controls), flatten(grown.controls))


def test_growth_from_a_given_start_keeps_its_layers():
    problem = spirals(6, depth=6)
    start = random_start(problem.with_(depth=3), np.random.default_rng(0))
    options = GrowthOptions(depths=(6,))
    seen = []

    def solver(stage, controls, tolerance, report):
        seen.append(controls)
        return SOLVER(stage, controls, tolerance, report)

    grow(problem, solver, start=start, options=options)
    assert np.array_equal(seen[0].A[:3], start.A)
    assert 0 < np.abs(seen[0].A[3:]).max() < 0.1


def test_layers_are_appended():
    problem = spirals(6, depth=5)
    rng = np.random.default_rng(0)
    short = random_start(problem.with_(depth=3), rng)
    longer = extend(problem, short, rng, 1e-2)
    assert longer.depth == 5 and np.array_equal(longer.A[:3], short.A)
    assert extend(problem, longer, rng, 1e-2) is longer
    with pytest.raises(ValueError, match="wanted at most 2"):
        extend(problem.with_(depth=2), short, rng, 1e-2)


@pytest.mark.parametrize("block", ["single", "double"])
def test_appended_layers_are_near_idle_but_not_at_the_invariant_set(block):
    problem = spirals(6, depth=4, block=block)
    rng = np.random.default_rng(0)
    short = random_start(problem.with_(depth=2), rng)
    longer = extend(problem, short, rng, 1e-2)
    X = rollout(problem, longer).X
    assert np.abs(X[4] - X[2]).max() < 0.1
    assert (longer.b[2:] != 0).all()
    if block == "double":
        assert np.array_equal(longer.W[2:], np.zeros((2, 3, 3)))
        assert np.abs(longer.A[2:]).max() > 0.1


def test_a_stuck_seed_is_restarted_once_and_says_so():
    problem = spirals(6, depth=5)
    calls = []

    def stuck(stage, controls, tolerance, report):
        calls.append(controls)
        solution = SOLVER(stage, controls, tolerance, report)
        if len(calls) == 1:
            record = dataclasses.replace(solution.report, status=Status.ITERATION_LIMIT)
            return dataclasses.replace(solution, report=record)
        return solution

    messages = []
    single = GrowthOptions(trials=1)
    found = grow(
        problem, stuck, seed=0, options=single, report=lambda p: messages.append(p.message)
    )
    assert "stuck at depth 5 (ITERATION_LIMIT), restarted" in found.report.message
    assert found.report.message in messages
    assert not np.array_equal(calls[0].A, calls[1].A)
    assert found.status is Status.SOLVED


def test_growth_options_are_validated():
    for bad in ({"depths": (5, 5)}, {"depths": ()}, {"append_scale": 0.0}, {"tolerance": -1.0}):
        with pytest.raises(ValueError):
            GrowthOptions(**bad)
    with pytest.raises(ValueError, match="depths end at 4; wanted the problem's 5"):
        grow(spirals(6, depth=5), SOLVER, options=GrowthOptions(depths=(3, 4)))
    assert default_depths(20) == (5, 8, 11, 14, 17, 20)
    assert default_depths(3) == (3,)


def test_the_best_of_several_shallow_starts_goes_on():
    problem = spirals(8, depth=5)
    seen = []

    def solver(stage, controls, tolerance, report):
        solution = SOLVER(stage, controls, tolerance, report)
        seen.append((stage.depth, controls, solution))
        return solution

    options = GrowthOptions(depths=(2, 3, 5), trials=3)
    found = grow(problem, solver, seed=4, options=options)
    assert [depth for depth, _, _ in seen if depth == 2] == [2, 2, 2]
    at_three = [s for depth, _, s in seen if depth == 3 and s.status is Status.SOLVED]
    best = min(at_three, key=lambda s: s.report.objective)
    (start,) = [u for depth, u, _ in seen if depth == 5]
    assert np.array_equal(start.A[:3], best.controls.A)
    assert found.report.iterations == sum(s.report.iterations for _, _, s in seen)
    single = []
    grow(problem, lambda *a: single.append(a[1]) or SOLVER(*a), seed=4,
         options=GrowthOptions(depths=(2, 3, 5)))  # fmt: skip
    assert np.array_equal(single[0].A, seen[0][1].A)
    with pytest.raises(ValueError, match="trials is 0"):
        GrowthOptions(trials=0)


def test_an_interruption_on_the_way_up_returns_the_idle_extension():
    problem = spirals(6, depth=8)

    def interrupted(stage, controls, tolerance, report):
        solution = SOLVER(stage, controls, tolerance, report)
        record = dataclasses.replace(solution.report, status=Status.INTERRUPTED)
        return dataclasses.replace(solution, report=record)

    found = grow(problem, interrupted)
    assert found.status is Status.INTERRUPTED
    assert found.controls.depth == 8
    assert not found.controls.A[5:].any()


@pytest.mark.parametrize("at", range(1, 8))
def test_an_interruption_at_any_call_of_the_solver_is_never_solved(at):
    problem, calls = spirals(6, depth=8), []

    def interrupted(stage, controls, tolerance, report):
        calls.append(stage.depth)
        solution = SOLVER(stage, controls, tolerance, report)
        if len(calls) < at:
            return solution
        record = dataclasses.replace(solution.report, status=Status.INTERRUPTED)
        return dataclasses.replace(solution, report=record)

    found = grow(problem, interrupted, options=GrowthOptions(depths=(2, 3, 5, 8), trials=3))
    assert found.status is Status.INTERRUPTED
    assert len(calls) == at
    assert found.problem.depth == 8


def test_an_idle_extension_is_judged_at_its_own_depth():
    problem = spirals(6, depth=8)
    shallow = grow(problem.with_(depth=3), SOLVER, options=GrowthOptions(depths=(3,)))
    assert shallow.status is Status.SOLVED
    rng = np.random.default_rng(0)
    deep = growth._idle_extension(problem, shallow, GrowthOptions(), rng)
    gradient_norm = np.abs(gradient(problem, deep.controls)[0]).max()
    assert gradient_norm > 1e-6
    assert deep.status is Status.NOT_STATIONARY


def test_a_solved_deep_network_idles_and_its_depth_is_found(grown):
    problem, u = grown.problem, grown.controls
    k = depth_used(problem, u)
    assert 1 <= k < problem.depth
    J = objective(problem, u)
    assert abs(idled_objective(problem, u, k) - J) <= 1e-2 * J
    assert abs(idled_objective(problem, u, k - 1) - J) > 1e-2 * J
    assert entry_layer(problem, u) <= problem.depth
    table = layer_table(problem, u)
    assert table.accuracy[-1] == 1.0
    assert table.distance[-1] < 0.2 < table.distance[0]


def test_idling_and_cropping_follow_their_two_formulas(grown):
    problem, u = grown.problem, grown.controls
    table = layer_table(problem, u)
    N, h, gamma, F = problem.depth, problem.h, problem.gamma, table.data_cost
    J = objective(problem, u)
    for k in (1, 4, 9):
        rest = h * table.stage_cost[k:].sum() + gamma * F[-1]
        idled = J + (h * (N - k) + gamma) * F[k] - rest
        assert idled_objective(problem, u, k) == pytest.approx(idled, rel=1e-13)
        assert cropped_objective(problem, u, k) == pytest.approx(J + gamma * F[k] - rest, rel=1e-13)


def test_random_networks_use_all_layers_and_idle_ones_none():
    problem = spirals(12, depth=6)
    u = random_start(problem, np.random.default_rng(0), 1.0)
    assert depth_used(problem, u) >= 5
    assert idle_from(u) == 6
    assert depth_used(problem, u.idled(0)) == 0
    assert idle_from(u.idled(2)) == 2


def test_distance_to_the_minimisers_is_that_of_the_nearest_point():
    rng = np.random.default_rng(0)
    problem = blobs(3, 6, width=5, readout_weight=rng.standard_normal((3, 5)),
                    readout_bias=rng.standard_normal(3))  # fmt: skip
    u = near_zero(problem, rng, 0.1)
    X = rng.standard_normal((6, 5))
    distance = subspace_distance(problem, u, X)
    for i in range(6):
        q = problem.soft_targets[i]
        P = np.eye(3) - 1 / 3
        M, t = P @ problem.readout_weight, P @ (np.log(q) - problem.readout_bias)
        nearest = X[i] - np.linalg.lstsq(M, M @ X[i] - t, rcond=None)[0]
        assert distance[i] == pytest.approx(np.linalg.norm(X[i] - nearest), rel=1e-12)
        z = logits(problem, u, nearest)
        assert soft_cross_entropy(z, q) == pytest.approx(0, abs=1e-14)
    assert np.isnan(subspace_distance(problem.with_(p_d=1.0), u, X)).all()


def test_least_data_cost_with_rank_deficient_readout_and_duplicates():
    rng = np.random.default_rng(1)
    problem = blobs(3, 6, width=2, readout_weight=np.outer([1.0, -1.0, 0.5], [1.0, 2.0]))
    u = near_zero(problem, rng, 0.1)
    least = least_data_cost(problem, u)
    line = np.linspace(-20, 20, 400001)[:, None] * np.array([1.0, -1.0, 0.5])
    expected = np.mean([soft_cross_entropy(line, q).min() for q in problem.soft_targets])
    assert least == pytest.approx(expected, abs=1e-8)
    assert least > 0.01
    inputs = np.array([[0.0, 1.0], [0.0, 1.0], [1.0, 0.0]])
    twins = spirals(2).with_(inputs=inputs, labels=np.array([0, 1, 0]))
    w = near_zero(twins, rng, 0.1)
    # the two equal samples can do no better than logits of equal size: KL((.9,.1) || (.5,.5))
    gap = 2 / 3 * (np.log(2) + 0.9 * np.log(0.9) + 0.1 * np.log(0.1))
    assert least_data_cost(twins, w) == pytest.approx(gap, rel=1e-12)
    X = rollout(twins, Controls(A=w.A * 0, b=w.b * 0)).X
    assert (data_cost(twins, w, X) >= gap - 1e-12).all()
    assert least_data_cost(spirals(), near_zero(spirals(), rng, 0.1)) == 0.0
