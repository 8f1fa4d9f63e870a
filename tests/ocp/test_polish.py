"""Polishing reaches the rounding floor, keeps far points as they are and saddles saddles."""

import numpy as np
import pytest
from problems import blobs, circles, spirals

from ocp.controls import flatten, random_start, unflatten, zeros
from ocp.evaluation.hessian_products import reduced_hessian
from ocp.problem import Problem
from ocp.solvers.curvature import by_eigenvalues
from ocp.solvers.ipopt import IpoptOptions, solve
from ocp.solvers.newton import polish, polished, settled
from ocp.solvers.optimality import assess, descend
from ocp.solvers.solution import Status


@pytest.fixture(scope="module")
def rough():
    problem = spirals(6, depth=4)
    start = random_start(problem, np.random.default_rng(0))
    return solve(problem, start, options=IpoptOptions(tolerance=1e-4))


def test_a_rough_solution_is_polished_to_rounding(rough):
    better = polished(rough)
    assert better.status is Status.SOLVED
    assert better.report.grad_inf_norm <= 1e-12
    assert better.report.grad_inf_norm <= rough.report.grad_inf_norm
    assert better.report.method == rough.report.method
    distance = np.abs(flatten(better.controls) - flatten(rough.controls)).max()
    assert distance <= 10 * max(rough.report.newton_distance, 1e-12)


def test_a_point_that_is_not_close_comes_back_unchanged():
    problem = spirals(6, depth=4)
    far = random_start(problem, np.random.default_rng(0))
    found = polish(problem, far, max_iterations=1, max_distance=1e-3)
    assert found.status is Status.NOT_STATIONARY
    assert np.array_equal(flatten(found.controls), flatten(far))


def test_a_saddle_stays_a_saddle():
    problem = circles(6, depth=2)
    at_saddle = solve(problem, zeros(problem))
    assert polish(problem, at_saddle.controls).status is Status.SADDLE


def test_the_error_band_is_small_and_the_least_eigenvalue_is_the_least(rough):
    found = by_eigenvalues(rough.problem, rough.controls)
    H = reduced_hessian(rough.problem, rough.controls)
    assert 0 < found.band < 1e-9
    assert abs(found.least - np.linalg.eigvalsh(0.5 * (H + H.T))[0]) <= found.band
    assert np.linalg.norm(H @ found.vector - found.least * found.vector) <= 10 * found.band
    g = np.ones(len(H))
    assert np.allclose(H @ found.solve(g), g)


def test_no_descent_is_found_at_a_minimum(rough):
    better = polished(rough)
    J = better.report.objective
    direction = by_eigenvalues(better.problem, better.controls).vector
    assert descend(better.problem, better.controls, direction, J)[1] == 0.0


def test_a_moved_minimum_is_not_solved_and_a_diverged_point_is_named():
    problem = blobs(2, 6, depth=2, r=1e-2)
    found = polish(
        problem, solve(problem, random_start(problem, np.random.default_rng(0))).controls
    )
    assert found.status is Status.SOLVED
    u = flatten(found.controls)
    u[0] += 1e-5
    assert assess(problem, unflatten(problem, u), 1e-8).status is Status.NOT_STATIONARY
    with np.errstate(all="ignore"):
        assert assess(problem, unflatten(problem, u * 1e200), 1e-8).status is Status.DIVERGED


def test_a_point_within_the_tolerance_is_taken_on_to_where_newton_contracts(rough):
    better = polished(rough)
    problem, u = better.problem, flatten(better.controls)
    far = unflatten(problem, u + 2e-3 * max(1.0, np.abs(u).max()) * np.eye(len(u))[0])
    facts = assess(problem, far, 10.0)
    assert facts.status is Status.FLAT
    assert "moves the controls by" in facts.message
    controls, found = settled(problem, far, facts, 10.0)
    assert found.status is Status.SOLVED
    assert flatten(controls) == pytest.approx(u, abs=1e-9)
    # what is solved, and what Newton's steps do not lead to one, stays as it is
    assert settled(problem, controls, found, 10.0)[0] is controls


def test_a_flat_tail_stays_flat():
    """r = 0 and all samples right: J falls for ever along u -> t u."""
    problem = Problem(
        inputs=[[1000.0], [-1000.0], [1500.0]], labels=[0, 1, 0], n_classes=2, depth=1, width=1,
        beta=0, h=0.5, r=0.0, activation="tanh",
        readout_weight=[[5e-4], [-5e-4]], readout_bias=[0.0, 0.0],
    )  # fmt: skip
    tail = unflatten(problem, np.array([8.55e-3, 2.36e-5]))
    facts = assess(problem, tail, 1e-8)
    assert facts.grad_inf_norm <= 1e-8
    assert facts.status is Status.FLAT
    controls, after = settled(problem, tail, facts, 1e-8)
    assert after.status is not Status.SOLVED
    assert controls is tail
