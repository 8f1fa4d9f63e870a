"""Steering onto the minimisers: what is proved holds, what is not reachable is never proved."""

import math

import numpy as np
import pytest
from small_minima import small, solved

from ocp import activations, controls, datasets, loss
from ocp.controls import flatten, unflatten
from ocp.evaluation import rollout
from ocp.files import TrainingFile
from ocp.problem import SCHEMES, Problem
from verification import report
from verification.balls import arithmetic as balls
from verification.checks import reachability
from verification.checks.reachability import check_reachability, reach
from verification.evaluation import steering
from verification.evaluation.subject import TrainingSubject

flint = pytest.importorskip("flint")


def separable(n_samples: int = 20, **changes) -> Problem:
    """Random points in the plane, classes alternating: hard to separate, ten layers."""
    rng = np.random.default_rng(0)
    keys = {"n_classes": 2, "depth": 10, "width": 3, "r": 1e-3}
    return Problem(
        inputs=rng.standard_normal((n_samples, 2)),
        labels=np.arange(n_samples) % 2,
        **(keys | changes),
    )


def start_of(problem: Problem, seed: int = 1) -> controls.Controls:
    return controls.random_start(problem, np.random.default_rng(seed), 0.3)


@pytest.mark.parametrize("activation", activations.NAMES)
@pytest.mark.parametrize(
    ("scheme", "block"), [(s, b) for s in SCHEMES for b in ("single", "double")]
)
def test_the_jacobian_is_that_of_the_states(scheme, block, activation):
    # against complex steps where the activation is analytic, against the ball model everywhere
    rng = np.random.default_rng(1)
    problem = small(
        scheme=scheme, block=block, activation=activation, depth=2, n_classes=3,
        readout_weight=rng.standard_normal((3, 2)),
    )  # fmt: skip
    u = controls.random_start(problem, rng)
    values, jacobian = steering.equations_and_jacobian(problem, u, flatten(u))
    X = rollout.rollout(problem, u).X[-1]
    C, c = problem.readout_weight, problem.readout_bias
    z = X @ C.T + c
    z = z - z.mean(axis=1, keepdims=True)
    target = np.log(problem.soft_targets)
    wanted = (z - target + target.mean(axis=1, keepdims=True)) @ np.eye(3)
    # P(z - log q) = 0 iff the equations vanish: the same up to the shift of the last logit
    assert np.allclose(values.reshape(-1, 2), wanted[:, :2] - wanted[:, 2:], atol=1e-13)
    if activations.Activation(activation).smooth:
        step = 1e-30
        for j in rng.integers(0, problem.n_decision, 6):
            moved = flatten(u).astype(complex)
            moved[j] += 1j * step
            x = rollout.rollout(problem, unflatten(problem, moved)).X[-1]
            slope = ((x @ C.T)[:, :2] - (x @ C.T)[:, 2:]).imag / step
            assert np.allclose(jacobian[:, j], slope.ravel(), rtol=1e-12, atol=1e-12)
    from verification.balls.hessian import final_jacobian
    from verification.balls.model import ball_model

    with balls.precision(128):
        rows = balls.exact(C[:-1] - C[-1])
        found = final_jacobian(ball_model(problem), balls.exact(flatten(u)), rows)
    assert np.allclose(balls.nearest(found).reshape(jacobian.shape), jacobian, atol=1e-13)


def test_twenty_samples_in_ten_layers_are_certified_and_the_control_steers_them():
    problem = separable()
    found = reach(problem, start_of(problem))
    assert found.certified, found.reason
    assert (found.depth, found.equations, found.unknowns) == (10, 20, 120)
    u = unflatten(problem, found.controls)
    F = rollout.data_cost(problem, u, rollout.rollout(problem, u).X[-1])
    assert F < 1e-20 and found.contraction < 0.5
    # the bound holds for idle extensions of any depth: V_N <= J_M
    J = float(rollout.objective(problem, u))
    assert found.cost == pytest.approx(J, rel=1e-12)
    for more in (1, 7, 40):
        deeper = problem.with_(depth=10 + more)
        tail = controls.zeros(problem.with_(depth=more))
        assert float(rollout.objective(deeper, u.followed_by(tail))) <= found.cost * (1 + 1e-12)


@pytest.mark.parametrize(
    "changes",
    [
        {"scheme": "rk4"},
        {"scheme": "heun", "activation": "softplus"},
        {"block": "double", "activation": "sigmoid", "shifted": False},
        {"activation": "gelu"},
    ],
    ids=str,
)
def test_other_schemes_blocks_and_activations(changes):
    problem = separable(6, depth=8, **changes)
    found = reach(problem, start_of(problem))
    assert found.certified, found.reason
    u = unflatten(problem, found.controls)
    assert rollout.data_cost(problem, u, rollout.rollout(problem, u).X[-1]) < 1e-20


def test_too_few_unknowns_are_deepened_and_said():
    problem = separable(20, depth=1)
    found = reach(problem, start_of(problem))
    assert found.unknowns >= found.equations and found.depth > 1


def test_more_equations_than_unknowns_are_never_certified(monkeypatch):
    # E' cannot be onto; however small the residual, nothing is proved
    monkeypatch.setattr(reachability, "MAX_UNKNOWNS", 24)  # no layers are appended
    problem = separable(40, depth=2)
    found = reach(problem, start_of(problem))
    assert not found.certified and "80 unknowns" not in found.reason
    assert "40 equations need more than 24 unknowns" in found.reason


def test_a_small_residual_is_no_proof():
    # samples 0 and 1 are 1e-9 apart with the same class: both can be steered, yet E' is nearly
    # not onto; with different classes the distance must grow 1e9 times and the test must not hold
    rng = np.random.default_rng(3)
    inputs = rng.standard_normal((6, 2))
    inputs[1] = inputs[0] + 1e-9
    for labels in ([0, 0, 1, 1, 0, 1], [0, 1, 1, 0, 0, 1]):
        problem = Problem(
            inputs=inputs, labels=np.array(labels), n_classes=2, depth=4, width=3
        )  # fmt: skip
        found = reach(problem, start_of(problem))
        if found.certified:
            u = unflatten(problem, found.controls)
            x = rollout.rollout(problem, u).X[-1]
            assert rollout.data_cost(problem, u, x) < 1e-18
        else:
            assert found.reason


def test_a_wrong_jacobian_makes_no_proof(monkeypatch):
    # the proof evaluates E and E' in its own arithmetic: a wrong float Jacobian only makes it fail
    problem = separable(6, depth=6)
    start = start_of(problem)
    u, residual = steering.gauss_newton(problem, start)
    assert residual < 1e-12
    true = steering.equations_and_jacobian

    def wrong(problem, controls, u):
        values, jacobian = true(problem, controls, u)
        jacobian = jacobian.copy()
        jacobian[0] = jacobian[1]
        return values, jacobian

    monkeypatch.setattr(reachability, "equations_and_jacobian", wrong)
    subject = {"depth": 6, "equations": 6, "unknowns": 72, "residual": residual, "cost": 1.0}
    subject |= {"contraction": math.nan, "controls": u}
    assert not reachability.prove(problem, start, u, subject).certified
    # nor does a point that does not steer: the residual is not within any box
    monkeypatch.setattr(reachability, "equations_and_jacobian", true)
    away = u + 0.3 * np.random.default_rng(0).standard_normal(len(u))
    found = reachability.prove(problem, start, away, subject)
    if found.certified:  # polishing may walk back to a steering control; it must then be one
        assert found.cost < math.inf
    monkeypatch.setattr(balls, "mid", lambda x: balls.zeros(*x.shape) if x.ndim == 2 else x)
    assert not reachability.prove(problem, start, away, subject).certified


def test_the_lines_of_a_reachable_file():
    problem = separable(8, depth=8)
    u = start_of(problem)
    told: list[str] = []
    steering, depth = check_reachability(
        TrainingSubject(TrainingFile(problem=problem, controls=u), progress=told.append)
    )
    assert steering.verdict is report.Verdict.PROVED and told
    assert "V_N <=" in steering.message
    # the untrained control costs more than a steering one of the same depth: proved not optimal
    J = float(rollout.objective(problem, u))
    assert steering.measured < J and "not globally optimal" in steering.message
    g_mis = loss.misclassification_threshold(2, problem.p_d)
    bound = problem.n_samples * steering.measured / (problem.h * g_mis)
    assert depth.bound == math.floor(bound * (1 + 1e-9))
    assert 0 <= depth.measured <= problem.depth


def test_the_file_that_does_not_steer_gets_the_weaker_bound():
    problem, u = solved()
    steering, depth = check_reachability(TrainingSubject(TrainingFile(problem=problem, controls=u)))
    assert steering.verdict is report.Verdict.OBSERVED and "weaker bound" in steering.message
    assert depth.verdict is report.Verdict.NOT_CHECKED


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"p_d": 1.0}, "not attained"),
        ({"readout_weight": np.array([[1.0, 0, 0], [1.0, 0, 0]])}, "rank 0"),
        ({"activation": "sigmoid", "shifted": False}, "not 0 at 0"),
    ],
    ids=["hard", "rank", "unshifted"],
)
def test_hypotheses_that_fail_are_not_applicable(changes, message):
    problem = separable(6, depth=2, **changes)
    lines = check_reachability(
        TrainingSubject(TrainingFile(problem=problem, controls=start_of(problem)))
    )
    assert all(line.verdict is report.Verdict.NOT_APPLICABLE for line in lines)
    assert message in lines[0].message


def test_equal_inputs_with_different_labels_are_not_reachable():
    problem = Problem(
        inputs=np.ones((3, 2)), labels=np.array([0, 1, 1]), n_classes=2, depth=3, width=3
    )
    steering, _ = check_reachability(
        TrainingSubject(TrainingFile(problem=problem, controls=start_of(problem)))
    )
    assert steering.verdict is report.Verdict.NOT_APPLICABLE and "not reachable" in steering.message
    # and were it tried, it would not be certified
    assert not reach(problem, start_of(problem)).certified


def test_large_files_overflow_and_a_missing_extra(monkeypatch):
    inputs, labels = datasets.circles(600)
    problem = small(inputs=inputs, labels=labels)
    steering, _ = check_reachability(
        TrainingSubject(TrainingFile(problem=problem, controls=start_of(problem)))
    )
    assert steering.verdict is report.Verdict.NOT_CHECKED and "600 equations" in steering.message
    linear = small(activation="identity")
    huge = unflatten(linear, np.full(linear.n_decision, 1e200))
    with np.errstate(all="ignore"):
        lines = check_reachability(TrainingSubject(TrainingFile(problem=linear, controls=huge)))
    assert all(line.verdict is report.Verdict.NOT_APPLICABLE for line in lines)
    monkeypatch.setattr(balls, "available", lambda: False)
    problem = separable(6, depth=6)
    steering, _ = check_reachability(
        TrainingSubject(TrainingFile(problem=problem, controls=start_of(problem)))
    )
    assert steering.verdict is report.Verdict.OBSERVED and "python-flint" in steering.message
