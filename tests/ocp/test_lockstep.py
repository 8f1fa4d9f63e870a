"""Batches of starts: equal to single evaluations to rounding, and their descent in lockstep."""

import numpy as np
import pytest
from problems import blobs, circles, spirals

from ocp.controls import flatten, random_start
from ocp.evaluation import assembly, batch, sweeps
from ocp.solvers import lockstep, structured

CASES = {
    "spirals": spirals(),
    "one layer": spirals(depth=1),
    "terminal cost only": spirals(depth=3, beta=0),
    "softplus, width 2": spirals(depth=3, width=2, activation="softplus"),
    "four classes": blobs(4, depth=3),
    "hard targets": circles(p_d=1.0),
}


def starts(problem, count=5, scale=0.4):
    rng = np.random.default_rng(0)
    return [random_start(problem, rng, scale) for _ in range(count)]


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("chunk", [1, batch.CHUNK_DOUBLES])
def test_a_batch_equals_single_evaluations(name, chunk, monkeypatch):
    monkeypatch.setattr(batch, "CHUNK_DOUBLES", chunk)
    problem = CASES[name]
    controls, constants = starts(problem), sweeps.prepare(problem)
    assert batch.applies(problem)
    at = batch.sweep(constants, batch.pack(controls))
    H = batch.hessians(constants, at)
    flat = flatten(batch.unpack(problem, np.arange(problem.n_decision))).astype(int)
    for i, one in enumerate(controls):
        sweep = sweeps.forward(constants, flatten(one))
        adjoint = sweeps.backward(constants, sweep)
        assert at.objective[i] == pytest.approx(sweep.objective, rel=1e-14)
        np.testing.assert_allclose(at.gradient[i][flat], adjoint.gradient, rtol=0, atol=1e-14)
        single = assembly.hessian(constants, sweep, adjoint)
        np.testing.assert_allclose(H[i][np.ix_(flat, flat)], single, rtol=0, atol=1e-13)


def test_packing_and_unpacking_are_inverse():
    problem = spirals(depth=3)
    one = starts(problem, 1)[0]
    again = batch.unpack(problem, batch.pack([one])[0])
    assert np.array_equal(flatten(again), flatten(one))


@pytest.mark.parametrize(
    "changes",
    [{"scheme": "rk4"}, {"block": "double"}, {"trained": ("layers", "lift"), "r_ends": 0.1}],
)
def test_batches_say_where_they_do_not_apply(changes):
    assert not batch.applies(spirals(**changes))


def test_starts_in_lockstep_end_where_single_ones_do():
    problem = blobs()
    controls = starts(problem, 4, 0.2)
    found = lockstep.descend(problem, batch.pack(controls), tolerance=1e-9)
    assert found.finished.all() and not found.running.any()
    assert (found.residual <= 1e-9).all()
    for i, one in enumerate(controls):
        single = structured.solve(problem, one).report
        assert found.objective[i] == pytest.approx(single.objective, abs=1e-12)


def test_a_batch_of_one_walks_like_one_of_many():
    problem = spirals(depth=2)
    u = batch.pack(starts(problem, 6, 0.2))
    many = lockstep.descend(problem, u, tolerance=1e-7, max_iterations=8)
    one = lockstep.descend(problem, u[3:4], tolerance=1e-7, max_iterations=8)
    assert one.objective[0] == pytest.approx(many.objective[3], rel=1e-9)
    assert one.steps <= 8 and many.steps <= 48


def test_a_start_out_of_range_leaves_and_the_others_go_on():
    problem = circles(depth=2)
    u = batch.pack(starts(problem, 3, 0.2))
    u[1] = 1e200
    with np.errstate(all="ignore"):
        found = lockstep.descend(problem, u, tolerance=1e-7)
    assert found.finished.tolist() == [True, False, True]
