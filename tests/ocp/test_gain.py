"""Growth by the gain over idling: the formula, the rejection and the depth it chooses."""

import dataclasses

import numpy as np
import problems
import pytest

from ocp.continuation.growth import GrowthOptions, extend
from ocp.continuation.growth_by_gain import GainOptions, gain_over_idling, grow_by_gain
from ocp.evaluation.rollout import data_cost, objective
from ocp.solvers import structured
from ocp.solvers.solution import Status


def solver(problem, start, tolerance, report):
    options = structured.StructuredOptions(tolerance=tolerance)
    return structured.solve(problem, start, options=options, report=report)


def test_the_gain_is_the_formula_of_the_theory():
    problem = problems.spirals(points_per_class=8)
    shallow, _ = grow_by_gain(problem, solver, depth=5)
    deeper, _ = grow_by_gain(problem, solver, depth=9, start=shallow.controls)
    terminal = float(data_cost(problem, shallow.controls, shallow.states[-1]))
    by_hand = shallow.report.objective + 4 * problem.h * terminal - deeper.report.objective
    # two sums of some thousand terms of order one
    assert gain_over_idling(shallow, deeper) == pytest.approx(by_hand, abs=1e-12)
    assert by_hand > 0


def test_a_worse_point_is_rejected_and_the_idle_extension_wins():
    problem, calls = problems.spirals(points_per_class=8), []

    def spoils_its_first_deep_start(statement, start, tolerance, report):
        calls.append(statement.depth)
        if calls.count(8) == 1 and statement.depth == 8:
            start = extend(statement, start.layers(0, 1), np.random.default_rng(5), 3.0)
        return solver(statement, start, tolerance, report)

    single = GainOptions(growth=GrowthOptions(append_scale=1e-6, trials=1))
    found, rungs = grow_by_gain(problem, spoils_its_first_deep_start, depth=8, options=single)
    assert calls == [5, 8, 8]
    assert rungs[-1].rejected and rungs[-1].gain >= 0
    idle = extend(found.problem, found.controls.layers(0, 5), np.random.default_rng(0), 0.0)
    assert found.report.objective < float(objective(found.problem, idle))


def test_auto_stops_when_more_layers_do_not_pay():
    problem = problems.blobs(3, 9)
    found, rungs = grow_by_gain(problem, solver, depth=None, options=GainOptions(first=2))
    assert found.status is Status.SOLVED
    assert found.report.grad_inf_norm <= 1e-8
    assert rungs[-1].right == problem.n_samples
    assert all(r.gain < 0.01 * r.objective for r in rungs[-2:])
    assert found.problem.depth < 30


def test_the_depth_asked_for_is_reached_and_steps_double_on_the_turnpike():
    found, rungs = grow_by_gain(problems.blobs(3, 9), solver, depth=20)
    assert found.problem.depth == 20 and found.status is Status.SOLVED
    steps = np.diff([r.depth for r in rungs])
    assert steps[0] == 3 and steps.max() > 3


@pytest.mark.parametrize("scheme", ["euler", "rk4"])
def test_on_the_turnpike_growth_leaps_to_the_depth_asked_for(scheme):
    problem, calls = problems.blobs(3, 9, scheme=scheme), []

    def records(statement, start, tolerance, report):
        calls.append((statement.depth, statement.gamma, start))
        return solver(statement, start, tolerance, report)

    found, rungs = grow_by_gain(problem, records, depth=60)
    assert found.problem.depth == 60 and found.status is Status.SOLVED and not rungs[-1].rejected
    (K, gamma, _), (depth, _, start) = calls[-2:]
    assert depth == 60 and K < 30
    assert gamma == pytest.approx(problem.gamma + problem.h * (60 - K), rel=1e-15)
    # the weighted shallow problem is the deep one with its tail at rest
    head = start.layers(0, K)
    weighted = float(objective(problem.with_(depth=K, gamma=gamma), head))
    idle = extend(found.problem, head, np.random.default_rng(0), 0.0)
    # sums of a hundred terms of order one
    assert weighted == pytest.approx(float(objective(found.problem, idle)), rel=1e-13)
    assert found.report.objective <= weighted


def test_an_interrupt_during_the_leap_ends_the_growth():
    problem, calls = problems.blobs(3, 9), []

    def interrupted_at_the_leap(statement, start, tolerance, report):
        calls.append(statement.depth)
        solution = solver(statement, start, tolerance, report)
        if statement.gamma == problem.gamma:
            return solution
        record = dataclasses.replace(solution.report, status=Status.INTERRUPTED)
        return dataclasses.replace(solution, report=record)

    found, _ = grow_by_gain(problem, interrupted_at_the_leap, depth=60)
    assert found.status is Status.INTERRUPTED
    assert max(calls) < 30  # nothing was solved after Ctrl-C
    assert found.problem.gamma == problem.gamma


@pytest.mark.parametrize("wrong", [{"first": 0}, {"step": 2.5}, {"small": 0.0}])
def test_options_are_validated(wrong):
    with pytest.raises(ValueError, match="wanted"):
        GainOptions(**wrong)
