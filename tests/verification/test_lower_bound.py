"""The lower bound over all controls: no control gets below it, and its pieces are what they say."""

import math

import numpy as np
import pytest
import scipy.optimize
from hypothesis import given, settings
from hypothesis import strategies as st
from small_minima import minimise, small, solved

from ocp import controls, datasets, loss
from ocp.activations import NAMES
from ocp.controls import flatten, unflatten
from ocp.evaluation import rollout
from ocp.files import TrainingFile
from ocp.problem import SCHEMES, Problem
from verification import report
from verification.checks.gap import check_gap
from verification.evaluation import lower_bound
from verification.evaluation.subject import TrainingSubject

ACTIVATIONS = NAMES


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("block", ["single", "double"])
def test_no_control_costs_less_not_even_an_optimised_one(scheme, block):
    for seed, activation in enumerate(ACTIVATIONS[:4]):
        rng = np.random.default_rng(seed)
        problem = small(
            scheme=scheme, block=block, activation=activation, depth=2, r=10.0 ** rng.uniform(-3, 0)
        )
        bound = lower_bound.lower_bound(problem, cells=400).value
        u = minimise(problem, controls.random_start(problem, rng), newton_steps=1)
        best = float(rollout.objective(problem, u))
        assert 0 < bound <= best
        for scale in (0.0, 0.1, 1.0, 10.0):
            u = controls.near_zero(problem, rng, scale)
            assert bound <= float(rollout.objective(problem, u))


@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6))
def test_random_problems_and_controls_stay_above(seed):
    rng = np.random.default_rng(seed)
    n_c = int(rng.integers(2, 5))
    n_d = int(rng.integers(n_c, 10))
    inputs = rng.standard_normal((n_d, 2))
    if rng.integers(3) == 0:
        inputs[1] = inputs[0]  # equal inputs with different labels
    problem = Problem(
        inputs=inputs,
        labels=np.concatenate([[0, 1], rng.integers(0, n_c, n_d - 2)]),
        n_classes=n_c,
        depth=int(rng.integers(1, 4)),
        width=int(rng.integers(2, 4)),
        h=float(rng.uniform(0.05, 1.0)),
        scheme=str(rng.choice(list(SCHEMES))),
        block=str(rng.choice(["single", "double"])),
        activation=str(rng.choice(ACTIVATIONS)),
        p_d=1.0 if rng.integers(4) == 0 else float(rng.uniform(1 / n_c + 0.01, 0.999)),
        r=float(rng.choice([0.0, 1e-3, 1.0])),
        gamma=float(rng.uniform(0, 2)) + 0.01,
        beta=int(rng.integers(2)),
    )
    bound = lower_bound.lower_bound(problem, cells=200)
    fun = lambda u: float(rollout.objective(problem, unflatten(problem, u)))  # noqa: E731
    jac = lambda u: rollout.gradient(problem, unflatten(problem, u))[0]  # noqa: E731
    start = flatten(controls.random_start(problem, rng, 1.0))
    with np.errstate(all="ignore"):
        found = scipy.optimize.minimize(fun, start, jac=jac, method="L-BFGS-B")
    assert bound.value <= found.fun + 1e-12
    assert bound.value <= fun(np.zeros_like(start)) + 1e-12


def test_more_cells_only_raise_the_bound_and_it_converges():
    problem = small(r=0.1)
    values = [lower_bound.lower_bound(problem, cells=c).value for c in (50, 200, 800, 3200)]
    assert values == sorted(values)
    assert values[-1] - values[-2] < 0.1 * (values[1] - values[0] + 1e-12)


@pytest.mark.parametrize(
    ("scheme", "block"), [("euler", "single"), ("heun", "single"), ("euler", "double")]
)
def test_the_grid_bounds_the_continuous_minimum_from_below_and_closely(scheme, block):
    # the same recursion minimised over t_0..t_{N-1} >= 0 directly: the second route
    problem = small(r=0.3, depth=3, scheme=scheme, block=block)
    different, reach = lower_bound._pairs(problem)
    pairs = lower_bound._matching(problem, different, reach, 0.0)
    F = lambda s: float(lower_bound._matched_cost(problem, pairs, np.array([s]))[0])  # noqa: E731
    psi = np.polynomial.polynomial.polyval

    def cost(t):
        total, s = 0.0, 0.0
        for step in np.abs(t):
            for stage, w in zip(lower_bound._STAGES[scheme], SCHEMES[scheme][1], strict=True):
                total += problem.h * w * F(s + math.log(psi(step, stage)))
            total += float(lower_bound._control_cost(problem, np.array(step)))
            s += math.log(psi(step, lower_bound._PSI[scheme]))
        return total + problem.gamma * F(s)

    best = min(
        scipy.optimize.minimize(cost, start * np.ones(3), method="Nelder-Mead").fun
        for start in (0.01, 0.3, 1.0, 3.0)
    )
    one_family = lower_bound.lower_bound(problem, cells=2000)
    assert one_family.value <= best * 1.2  # other matchings may only raise it, and little
    edges = np.linspace(0.0, lower_bound._upper_separation(problem), 3001)
    grid = lower_bound._dynamic_program(
        problem, edges, lower_bound._matched_cost(problem, pairs, edges), 0.0
    )
    assert grid <= best + 1e-12
    assert grid == pytest.approx(best, rel=0.02)


def test_the_cost_of_a_pair_is_below_every_pair_of_logits():
    rng = np.random.default_rng(3)
    for n_c, p in ((2, 0.9), (3, 0.5), (5, 0.999), (4, 1.0)):
        problem = Problem(
            inputs=np.eye(n_c), labels=np.arange(n_c), n_classes=n_c, width=n_c, p_d=p
        )
        q = loss.soft_target(np.array([0, 1]), n_c, p)
        z = rng.standard_normal((2, 100_000, n_c)) * 10.0 ** rng.uniform(-1, 1, (1, 100_000, 1))
        z[1] = z[0] + rng.standard_normal(z[0].shape) * 10.0 ** rng.uniform(-3, 1, (100_000, 1))
        margin = 0.5 * np.abs((z[0, :, 0] - z[0, :, 1]) - (z[1, :, 0] - z[1, :, 1]))
        both = sum(loss.soft_cross_entropy(z[i], q[i]) for i in range(2))
        assert (lower_bound.pair_cost(problem, margin) <= both + 1e-12 * (1 + both)).all()
        # attained: equal logits at the best common point (data processing is tight)
        eps = (1 - p) / (n_c - 1)
        at = np.full(n_c, math.log(eps) if eps > 0 else -800.0)
        at[:2] = math.log((p + eps) / 2)
        tight = sum(loss.soft_cross_entropy(at, q[i]) for i in range(2))
        assert lower_bound.pair_cost(problem, np.array(0.0)) == pytest.approx(tight, rel=1e-12)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_layers_separate_no_faster_than_psi(scheme):
    rng = np.random.default_rng(9)
    for activation in ACTIVATIONS:
        for block in ("single", "double"):
            problem = small(scheme=scheme, block=block, activation=activation, depth=1, width=2)
            for _ in range(30):
                u = controls.random_start(problem, rng, 10.0 ** rng.uniform(-1, 1))
                run = rollout.rollout(problem, u)
                size = np.linalg.norm(u.A[0])
                if block == "double":
                    size *= np.linalg.norm(u.W[0])
                t = problem.h * problem.sigma.lipschitz * size
                grown = np.polynomial.polynomial.polyval(t, lower_bound._PSI[scheme])
                gap = lambda x: np.linalg.norm(x[:, None] - x[None], axis=-1)  # noqa: E731
                assert (gap(run.X[1]) <= grown * gap(run.X[0]) * (1 + 1e-12) + 1e-14).all()
                for stage, polynomial in zip(run.stages, lower_bound._STAGES[scheme], strict=True):
                    grown = np.polynomial.polynomial.polyval(t, polynomial)
                    assert (gap(stage.X) <= grown * gap(run.X[0]) * (1 + 1e-12) + 1e-14).all()


def test_equal_inputs_with_different_labels_bound_every_layer():
    problem = Problem(
        inputs=np.ones((2, 2)), labels=np.array([0, 1]), n_classes=2, depth=5, width=2, r=0.0
    )
    # nothing ever separates them: J >= (h N + gamma) min F, attained by u = 0 at equal logits
    value = lower_bound.lower_bound(problem).value
    J = float(rollout.objective(problem, controls.zeros(problem)))
    assert value == pytest.approx(J, rel=1e-9) and value <= J


def test_easy_data_have_a_small_gap_and_the_line_says_so():
    # two far points, expensive controls: hardly anything moves
    problem = Problem(
        inputs=np.array([[0.05, 0.0], [-0.05, 0.0]]), labels=np.array([0, 1]), n_classes=2,
        depth=3, width=2, r=50.0,
    )  # fmt: skip
    u = minimise(problem, controls.near_zero(problem, np.random.default_rng(0), 0.01))
    (line,) = check_gap(TrainingSubject(TrainingFile(problem=problem, controls=u)))
    assert line.verdict is report.Verdict.PROVED
    assert line.measured <= line.bound
    assert (line.bound - line.measured) / line.bound < 0.1
    assert "global" not in line.message


def test_a_bound_above_the_objective_is_a_contradiction(monkeypatch):
    problem, u = solved()
    file = TrainingFile(problem=problem, controls=u)
    (line,) = check_gap(TrainingSubject(file))
    assert line.verdict is report.Verdict.PROVED
    # a pair that is thought to cost thirty times as much: the bound is wrong
    true = lower_bound.pair_cost
    monkeypatch.setattr(lower_bound, "pair_cost", lambda problem, m: 30 * true(problem, m))
    (line,) = check_gap(TrainingSubject(file))
    assert line.verdict is report.Verdict.FAILED and "CONTRADICTS" in line.message


@pytest.mark.parametrize("size", [1e-170, 1e170, 1e308])
@pytest.mark.parametrize("readout", [0.0, 1e-170, 1e170])
def test_distances_that_overflow_or_vanish_when_squared(size, readout):
    """Separated by a small or a huge distance, seen by a faint, strong or blind readout."""
    keys = {"inputs": np.array([[size, 0.0], [-size, 0.0]]), "labels": np.array([0, 1])}
    weight = np.array([[readout, 0.0], [-readout, 0.0]])
    problem = Problem(**keys, n_classes=2, depth=3, width=2, r=0.0, readout_weight=weight)
    with np.errstate(all="ignore"):
        value = lower_bound.lower_bound(problem).value
        still = float(rollout.objective(problem, controls.zeros(problem)))
    assert 0.0 <= value < np.inf
    assert value <= still or np.isnan(still)
    if readout == 0.0:  # nothing separates them
        assert value == pytest.approx(still, rel=1e-9)
    else:  # r = 0: only where they are at first is paid for
        assert value <= problem.h * still or np.isnan(still)


def test_trained_ends_too_many_samples_and_overflow():
    problem = small(trained=("layers", "readout"))
    file = TrainingFile(problem=problem, controls=controls.zeros(problem))
    assert check_gap(TrainingSubject(file))[0].verdict is report.Verdict.NOT_APPLICABLE
    with pytest.raises(ValueError, match="fixed ends"):
        lower_bound.lower_bound(problem)
    inputs, labels = datasets.circles(4000)
    large = small(inputs=inputs, labels=labels)
    file = TrainingFile(problem=large, controls=controls.zeros(large))
    assert check_gap(TrainingSubject(file))[0].verdict is report.Verdict.NOT_CHECKED
    linear = small(activation="identity")
    huge = unflatten(linear, np.full(linear.n_decision, 1e200))
    with np.errstate(all="ignore"):
        (line,) = check_gap(TrainingSubject(TrainingFile(problem=linear, controls=huge)))
    assert line.verdict is report.Verdict.NOT_APPLICABLE
