"""The global minimum of tiny problems: proved, compared with grids and polish, attacked."""

import dataclasses
import functools
import itertools

import numpy as np
import oracle
import oracle_digits
import pytest
from tiny_problems import flow, tiny, twins

from ocp.controls import unflatten
from ocp.files import TrainingFile, save
from ocp.problem import Problem
from verification.balls import midrad_functions
from verification.balls.global_minimum import prove_file, prove_global_minimum
from verification.balls.intervals import Interval, point
from verification.balls.scalar_network import ScalarNetwork, scalar_network

pytest.importorskip("flint")


@functools.cache
def minima(problem: Problem, starts: int = 12, seed: int = 0) -> list[tuple[float, np.ndarray]]:
    """What the oracle's solver finds from random starts, the lowest first."""
    rng = np.random.default_rng(seed)
    ends = [
        oracle.minimise(problem, 2 * rng.normal(size=problem.n_decision), rounds=1)
        for _ in range(starts)
    ]
    return sorted(((oracle.objective(problem, u), u) for u in ends), key=lambda pair: pair[0])


@functools.cache
def problem_named(name: str) -> Problem:
    """One object a problem: `minima` remembers by identity."""
    table = {
        "one layer": tiny(),
        "one layer, light": tiny(r=1e-3),
        "two layers": tiny(2),
        "flow": flow(),
        "standard": flow(beta=0, gamma=2.0),
        "twins": twins(2),
    }
    return table[name]


ACTIVATIONS = sorted(midrad_functions.LIPSCHITZ)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_points_of_boxes_stay_inside(activation, depth):
    # float64 against float64: the oracle's own rounding, 1e-13, is granted
    rng = np.random.default_rng(depth)
    problem = tiny(depth, activation=activation, beta=depth % 2, lift_bias=np.array([0.3]))
    network = scalar_network(problem, 40.0)
    c, radius = 1.5 * rng.normal(size=(2 * depth, 12)), 10.0 ** rng.uniform(-12, -0.3, size=12)
    box = Interval(c - radius, c + radius)
    J, G = network.objective_and_gradient(box)
    H = network.hessian(box)
    for b in range(12):
        for sides in itertools.islice(itertools.product((-1, 1), repeat=2 * depth), 4):
            u = c[:, b] + radius[b] * rng.choice([0.0, 0.5, 1.0]) * np.array(sides)
            value, g, h = oracle.derivatives(problem, u)
            assert J.lo[b] - 1e-13 <= value <= J.hi[b] + 1e-13
            assert (G.lo[:, b] - 1e-13 <= g).all() and (g <= G.hi[:, b] + 1e-13).all()
            assert (H.lo[..., b] - 1e-12 <= h).all() and (h <= H.hi[..., b] + 1e-12).all()


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_ranges_are_those_of_dense_samples_and_not_much_wider(activation):
    table = scalar_network(tiny(activation=activation), 4.0).sigma
    sigma = tiny(activation=activation).sigma
    rng = np.random.default_rng(1)
    low = rng.uniform(-8, 8, size=200)
    high = np.minimum(low + 10.0 ** rng.uniform(-4, 0.9, size=200), 9.0)
    inner = low + (high - low) * np.linspace(0, 1, 4001)[:, None]
    for k, values in enumerate(sigma.derivatives(inner, 2)):
        found = table(Interval(low, high), k)
        assert (found.lo <= values.min(axis=0) + 1e-13).all()
        assert (found.hi >= values.max(axis=0) - 1e-13).all()
        # the tail on which the next derivative is below L STEP / 2 is one group: its range is wide
        granted = (1e-6, 3e-6, 3e-3)[k]
        assert (found.lo >= values.min(axis=0) - granted).all()
        assert (found.hi <= values.max(axis=0) + granted).all()


def test_beyond_its_table_a_function_is_unbounded():
    table = scalar_network(tiny(), 1.0).sigma
    with np.errstate(all="ignore"):
        found = table(point(np.array([1e3, -1e300, np.inf])), 0)
    assert not (np.isfinite(found.lo) & np.isfinite(found.hi)).any()


@pytest.mark.parametrize(
    "name", ["one layer", "one layer, light", "two layers", "flow", "standard"]
)
def test_the_lowest_of_many_starts_is_proved_global(name):
    problem = problem_named(name)
    value, u = minima(problem)[0]
    found = prove_global_minimum(problem, u)
    assert found.decided and found.left == 0 and found.stored_place >= 0
    assert found.upper - found.lower < 1e-11
    (place,) = [found.places[found.stored_place]]
    # sixty digits: a polished point of the place, its value between the bounds
    with oracle_digits.digits():
        polished = oracle_digits.polish(problem, u)[0]
        J = oracle_digits.objective(problem, polished)
    exact = np.array([float(x) for x in polished])
    assert (place.low - 1e-15 <= exact).all() and (exact <= place.high + 1e-15).all()
    assert found.lower - 1e-15 <= float(J) <= found.upper + 1e-15
    assert value >= found.lower - 1e-13


def test_the_flow_is_trained_and_its_minimum_is_half_of_nothing_done():
    problem = problem_named("flow")
    found = prove_global_minimum(problem, minima(problem)[0][1])
    assert problem.r <= 1e-2 and found.upper <= oracle.objective(problem, np.zeros(4)) / 2


def test_a_dense_grid_finds_nothing_lower():
    problem = problem_named("one layer")
    found = prove_global_minimum(problem, minima(problem)[0][1])
    axis = np.linspace(-found.radius, found.radius, 801)
    u = np.stack([g.ravel() for g in np.meshgrid(axis, axis)])
    x = problem.inputs[:, :1]
    sign = np.where(problem.labels == 0, 1.0, -1.0)[:, None]
    p = problem.p_d
    entropy = -(p * np.log(p) + (1 - p) * np.log(1 - p))
    g = lambda t: (np.logaddexp(0, -t) + (1 - p) * t - entropy).mean(axis=0)  # noqa: E731
    J = g(sign * x) + g(sign * (x + np.tanh(u[0] * x + u[1]))) + 0.5e-2 * (u**2).sum(axis=0)
    assert J.min() >= found.lower
    assert J.min() - found.upper < 1e-3


@pytest.mark.parametrize("name", ["two layers", "flow"])
def test_a_file_with_another_minimum_is_seen_not_to_be_global(name):
    problem = problem_named(name)
    ends = minima(problem, starts=40)
    _, other = next((J, u) for J, u in ends if ends[0][0] + 1e-3 < J)
    assert np.abs(oracle.gradient(problem, other)).max() < 1e-6
    found = prove_global_minimum(problem, other)
    assert found.decided and found.stored_place == -1
    assert found.upper < found.stored_lower and found.upper == pytest.approx(ends[0][0], abs=1e-10)
    assert found.upper < found.stored_minimum and found.stored_distance < 1e-6


def test_symmetric_data_have_two_global_minimisers():
    # (a, b) -> (a, -b) exchanges the classes of these data
    found = prove_global_minimum(problem_named("twins"), np.zeros(4))
    assert found.decided and len(found.places) == 2 and found.upper - found.lower < 1e-11
    assert found.mirrored
    a, b = (0.5 * (p.low + p.high) for p in found.places)
    assert np.abs(a * [1, -1, 1, -1] - b).max() < 1e-8 and np.abs(a[1]) > 0.1


def test_where_controls_are_dear_nothing_done_is_global():
    # mirrored inputs with labels mirrored the wrong way: moving apart does not pay at r = 10
    problem = tiny(inputs=np.array([[-3.0], [3.0]]), labels=np.array([1, 0]), r=10.0)
    target = np.log(0.9 / 0.1)
    problem = dataclasses.replace(problem, inputs=np.array([[-target], [target]]))
    found = prove_global_minimum(problem, np.zeros(2))
    assert found.decided and len(found.places) == 1
    assert np.abs(found.places[0].low).max() < 1e-6 and np.abs(found.places[0].high).max() < 1e-6


def test_the_limit_of_work_leaves_boxes_and_true_bounds():
    problem = problem_named("two layers")
    value, u = minima(problem)[0]
    found = prove_global_minimum(problem, u, most=3000)
    assert not found.decided and found.left > 0
    assert found.lower < value <= found.upper + 1e-12
    assert {"the limit of work was reached"} == {p.reason for p in found.places if not p.unique}


@pytest.mark.parametrize(("J_by", "G_by"), [(0.0, 0.1), (0.1, 0.0)])
def test_enclosures_that_exclude_the_minimum_are_noticed(monkeypatch, J_by, G_by):
    problem = problem_named("one layer")
    u = minima(problem)[0][1]
    right = ScalarNetwork.objective_and_gradient

    def broken(self, u):
        J, G = right(self, u)
        return J + point(J_by), G + point(G_by)

    monkeypatch.setattr(ScalarNetwork, "objective_and_gradient", broken)
    with pytest.raises(RuntimeError, match="error in the enclosures"):
        prove_global_minimum(problem, u)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"width": 2}, "width is 2; a global proof is for width 1"),
        ({"scheme": "heun"}, "scheme is heun; a global proof is for scheme euler"),
        ({"block": "double"}, "block is double"),
        ({"activation": "relu"}, "activation is relu; wanted one of tanh"),
        ({"r": 0.0}, "r is 0; wanted r > 0"),
    ],
)
def test_other_problems_are_refused_in_a_sentence(changes, sentence):
    problem = tiny(**changes)
    with pytest.raises(ValueError, match=sentence):
        prove_global_minimum(problem, np.zeros(problem.n_decision))


def test_a_training_file_is_what_the_search_starts_from(tmp_path):
    problem = problem_named("one layer")
    path = tmp_path / "one.safetensors"
    save(path, TrainingFile(problem=problem, controls=unflatten(problem, np.array([1.0, -1.0]))))
    found = prove_file(path)
    # Newton's method leads from there to the global minimiser, which is far away
    assert found.decided and found.stored_distance > 1
    assert found.stored_lower > found.upper


def test_controls_that_are_no_numbers_are_refused():
    with pytest.raises(ValueError, match="wanted 2 finite numbers"):
        prove_global_minimum(tiny(), np.array([np.nan, 0.0]))
