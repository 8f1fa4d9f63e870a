"""The certificate: what it proves, and that nothing false passes."""

import json
import math

import numpy as np
import pytest
from small_minima import minimise, small, solved

from ocp import controls, datasets
from ocp.controls import flatten, unflatten
from ocp.evaluation import assembly, rollout
from ocp.files import TrainingFile
from ocp.problem import Problem
from verification import report
from verification.balls import (
    arithmetic as balls,
)
from verification.balls import (
    hessian as ball_hessian,
)
from verification.balls import (
    krawczyk,
)
from verification.balls import (
    model as ball_model,
)
from verification.checks import certificate
from verification.checks.certificate import Outcome, certify_minimum, check_certificate
from verification.evaluation.subject import TrainingSubject

flint = pytest.importorskip("flint")


def _file(problem: Problem, u: np.ndarray) -> TrainingFile:
    return TrainingFile(problem=problem, controls=unflatten(problem, u))


def test_a_minimum_is_certified_with_distance_radius_curvature_and_objective():
    problem, u = solved()
    found = certify_minimum(problem, flatten(u))
    assert found.outcome is Outcome.MINIMUM, found.reason
    H = assembly.assembled_hessian(problem, u)
    least = np.linalg.eigvalsh(H)[0]
    newton = np.linalg.solve(H, rollout.gradient(problem, u)[0])
    # float64 knows the minimiser to |g|/lambda_min, about 1e-14 here
    assert found.distance < 1e-10 and found.distance >= 0.3 * np.abs(newton).max()
    assert 0 < found.min_curvature <= least * (1 + 1e-6)
    assert found.distance <= found.distance_2 <= found.distance * math.sqrt(len(H)) * 1.001
    assert found.objective_upper - found.objective_lower < 1e-15
    assert found.objective_lower <= float(rollout.objective(problem, u)) + 1e-14
    assert 0 < found.rho < 1 and found.dominance > 0.99 and found.bits == 128
    assert found.grad_lower <= np.abs(rollout.gradient(problem, u)[0]).max() + 1e-14


def test_the_minimiser_found_in_80_digits_lies_within_the_distance_and_the_interval():
    # Newton's method in mpmath-free high precision: ball midpoints at 300 bits, no Krawczyk
    problem, u = solved()
    stored = flatten(u) + 1e-9 * np.random.default_rng(3).standard_normal(problem.n_decision)
    found = certify_minimum(problem, stored)
    assert found.outcome is Outcome.MINIMUM, found.reason
    with balls.precision(300):
        model, x = ball_model.ball_model(problem), balls.exact(stored)
        inverse = np.linalg.inv(assembly.assembled_hessian(problem, u))
        for _ in range(60):
            g = ball_model.gradient(model, x)
            x = balls.mid(x - balls.matmul(balls.exact(inverse), balls.mid(g)[:, None])[:, 0])
        assert balls.magnitude(ball_model.gradient(model, x)).max() < 1e-60
        away = balls.magnitude(x - balls.exact(stored))
        J = ball_model.objective(model, x)
        inner = flint.arb(found.objective_digits.strip("[]"))
    assert away.max() <= found.distance <= away.max() * (1 + 1e-6) + 1e-30
    assert np.linalg.norm(away) <= found.distance_2
    assert inner.overlaps(J)
    assert found.objective_lower <= balls.upper(J) and balls.lower(J) <= found.objective_upper


@pytest.mark.parametrize(
    "changes",
    [
        {"scheme": "heun", "activation": "gelu"},
        {"scheme": "rk4", "activation": "softplus", "depth": 2},
        {"block": "double", "activation": "silu", "depth": 2},
        {"activation": "sigmoid", "trained": ("layers", "readout"), "r_ends": 0.05},
        {"trained": ("layers", "lift"), "r_ends": 0.05, "beta": 0},
        {"p_d": 1.0},
    ],
    ids=lambda c: "-".join(str(v) for v in c.values()),
)
def test_every_scheme_block_end_and_activation_can_be_certified(changes):
    problem, u = solved(**changes)
    least = np.linalg.eigvalsh(assembly.assembled_hessian(problem, u))[0]
    found = certify_minimum(problem, flatten(u))
    if least > 1e-8:
        assert found.outcome is Outcome.MINIMUM, found.reason
        assert found.min_curvature <= least * (1 + 1e-6)
    else:
        assert found.outcome is not Outcome.MINIMUM


def test_a_saddle_with_gradient_of_rounding_is_proved_to_be_no_minimum():
    # block double: u = 0 is stationary for any data, and W sigma(b) is a product of two unknowns
    problem = small(block="double", depth=2)
    u = flatten(controls.zeros(problem))
    assert np.abs(rollout.gradient(problem, unflatten(problem, u))[0]).max() < 1e-15
    least = np.linalg.eigvalsh(assembly.assembled_hessian(problem, unflatten(problem, u)))[0]
    assert least < -1e-4
    found = certify_minimum(problem, u)
    assert found.outcome is Outcome.SADDLE, found.reason
    assert least * 1.01 <= found.curvature_witness < 0
    (line,) = check_certificate(TrainingSubject(_file(problem, u)))
    assert line.verdict is report.Verdict.FAILED and line.kind == "claim"


def test_a_minimum_inside_an_unused_coordinate_is_not_certified_as_one():
    inner, start = solved(r=1e-3)
    problem = small(r=1e-3, width=3)
    A, b = np.zeros((4, 3, 3)), np.zeros((4, 3))
    A[:, :2, :2], b[:, :2] = start.A, start.b
    u = controls.Controls(A=A, b=b)
    H = assembly.assembled_hessian(problem, u)
    found = certify_minimum(problem, flatten(u))
    if np.linalg.eigvalsh(H)[0] < -1e-9:
        assert found.outcome is Outcome.SADDLE
    else:
        assert found.outcome is Outcome.MINIMUM
    assert float(rollout.objective(problem, u)) == pytest.approx(
        float(rollout.objective(inner, start)), abs=1e-14
    )


@pytest.mark.parametrize("least_wanted", [-1e-6, 1e-6])
def test_one_eigenvalue_of_minus_1e_6_decides(least_wanted, monkeypatch):
    # J plus a quadratic about the minimum that moves the least eigenvalue to the wanted value
    problem, u = solved()
    values, vectors = np.linalg.eigh(assembly.assembled_hessian(problem, u))
    bend = (least_wanted - values[0]) * np.outer(vectors[:, 0], vectors[:, 0])
    hessian, slope, here = balls.exact(bend), ball_model.gradient, balls.exact(flatten(u))
    both = ball_hessian.gradient_and_hessian
    extra = lambda box: balls.matmul(hessian, (box - here)[:, None])[:, 0]  # noqa: E731

    def bent(model, box, progress=None):
        g, H = both(model, box, progress)
        return g + extra(box), H + hessian

    for module in (certificate, krawczyk):
        monkeypatch.setattr(module, "gradient_and_hessian", bent)
        monkeypatch.setattr(module, "gradient", lambda model, box: slope(model, box) + extra(box))
    found = certify_minimum(problem, flatten(u))
    wanted = Outcome.MINIMUM if least_wanted > 0 else Outcome.SADDLE
    assert found.outcome is wanted, found.reason


def test_a_wrong_point_is_not_applicable_and_never_passes():
    problem, u = solved()
    moved = flatten(u)
    moved[3] += 1e-5
    (line,) = check_certificate(TrainingSubject(_file(problem, moved)))
    assert line.verdict is report.Verdict.NOT_APPLICABLE and "not stationary" in line.message
    # asked for at any tolerance, the distance tells
    found = certify_minimum(problem, moved)
    assert found.outcome is Outcome.MINIMUM and found.distance >= 0.99e-5
    random = flatten(controls.random_start(problem, np.random.default_rng(0)))
    assert certify_minimum(problem, random).outcome is Outcome.UNDECIDED


def test_null_directions_are_not_certified_and_named():
    problem = small(r=0.0)
    _, u = solved(r=1e-2)
    point = minimise(problem, u)
    found = certify_minimum(problem, flatten(point))
    assert found.outcome is Outcome.UNDECIDED and "null direction" in found.reason
    lines = check_certificate(TrainingSubject(_file(problem, flatten(point)), tolerance=1e-3))
    assert lines[0].verdict is report.Verdict.INCONCLUSIVE
    # exactly singular, exactly stationary: no data cost, no r in the idle directions
    idle = small(r=0.0, activation="identity", labels=np.arange(12) % 2, inputs=np.zeros((12, 2)))
    found = certify_minimum(idle, flatten(controls.zeros(idle)))
    assert found.outcome is Outcome.UNDECIDED and "singular" in found.reason


def test_more_bits_are_taken_when_the_curvature_is_small():
    # one layer, sigma = identity, convex in u: curvature h r alone in the idle directions
    inputs = np.array([[1.0], [-1.0]])
    problem = Problem(
        inputs=inputs,
        labels=np.array([0, 1]),
        n_classes=2,
        depth=1,
        width=2,
        r=1e-13,
        activation="identity",
    )
    u = minimise(problem, controls.random_start(problem, np.random.default_rng(1)))
    found = certify_minimum(problem, flatten(u), bits=64)
    least = np.linalg.eigvalsh(assembly.assembled_hessian(problem, u))[0]
    assert least < 1e-12
    assert found.outcome is not Outcome.SADDLE
    if found.outcome is Outcome.MINIMUM:
        assert 0 < found.min_curvature < 1e-12


def test_boxes_that_contain_a_kink_are_refused():
    inputs, labels = datasets.circles(6)
    problem = Problem(
        inputs=inputs, labels=labels, n_classes=2, depth=2, width=2, activation="relu"
    )
    u = flatten(controls.zeros(problem))  # every pre-activation is 0
    found = certify_minimum(problem, u)
    assert found.outcome is Outcome.UNDECIDED
    assert "kink: layer 0, sample 0, unit 0" in found.reason
    (line,) = check_certificate(TrainingSubject(_file(problem, u), tolerance=1.0))
    assert line.verdict is report.Verdict.INCONCLUSIVE
    # the same for softsign, whose second derivative jumps
    soft = problem.with_(activation="softsign")
    assert "kink" in certify_minimum(soft, u).reason


def test_relu_away_from_kinks_is_certified():
    # the bias keeps the pre-activations of one active layer off the kink; beta = 0, gamma = 1
    inputs = np.array([[2.0, 1.0], [1.0, 2.0]])
    problem = Problem(
        inputs=inputs,
        labels=np.array([0, 1]),
        n_classes=2,
        depth=1,
        width=2,
        beta=0,
        activation="leaky_relu",
        r=0.1,
    )
    start = controls.Controls(A=np.array([[[1.0, 0.2], [-0.2, 1.0]]]), b=np.ones((1, 2)))
    u = minimise(problem, start)
    found = certify_minimum(problem, flatten(u))
    gradient = np.abs(rollout.gradient(problem, u)[0]).max()
    assert (found.outcome is Outcome.MINIMUM) == (gradient < 1e-9), (found.reason, gradient)


def test_overflow_is_no_certificate():
    problem = small(activation="identity")
    u = np.full(problem.n_decision, 1e200)
    lines = check_certificate(TrainingSubject(_file(problem, u)))
    assert all(line.verdict is not report.Verdict.PASSED for line in lines)
    assert certify_minimum(problem, u).outcome is Outcome.UNDECIDED


def test_large_problems_are_refused_with_a_sentence():
    problem = small(depth=200, width=3)
    (line,) = check_certificate(TrainingSubject(_file(problem, flatten(controls.zeros(problem)))))
    assert line.verdict is report.Verdict.NOT_CHECKED and "2400" in line.message


def test_without_flint_a_clear_sentence(monkeypatch):
    monkeypatch.setattr(balls, "available", lambda: False)
    problem, u = solved()
    with pytest.raises(ValueError, match=r"python-flint.*certify"):
        check_certificate(TrainingSubject(_file(problem, flatten(u))))


def test_progress_is_told_and_the_lines_are_json():
    problem, u = solved()
    told: list[str] = []
    lines = check_certificate(TrainingSubject(_file(problem, flatten(u)), progress=told.append))
    assert told and all(text.startswith("certificate: ") for text in told)
    assert [line.name for line in lines] == [
        "certificate.minimum",
        "certificate.contraction",
        "certificate.curvature",
        "certificate.objective",
    ]
    made = report.Report(entries=lines)
    assert made.verdict is report.Verdict.PASSED
    assert "global" not in json.dumps(report.to_json(made))


@pytest.mark.slow
def test_the_default_spirals_are_certified():
    from ocp import solvers
    from ocp.continuation import growth as continuation

    inputs, labels = datasets.spirals()
    problem = Problem(inputs=inputs, labels=labels, n_classes=2)
    solution = continuation.grow(problem, solvers.by_name("structured"), seed=0)
    u = flatten(solution.controls)
    assert len(u) == 240
    found = certify_minimum(problem, u)
    assert found.outcome is Outcome.MINIMUM, found.reason
    least = np.linalg.eigvalsh(assembly.assembled_hessian(problem, solution.controls))[0]
    assert 0.1 * least < found.min_curvature <= least * (1 + 1e-6)
    # the stored gradient is about 1e-9, the least curvature 1e-4; the box depends on the minimum
    assert found.distance < 1e-6 and found.radius > 0
    assert found.objective_lower - 1e-12 <= float(rollout.objective(problem, solution.controls))


def test_a_minimum_with_hard_labels_is_certified():
    problem = small(p_d=1.0)
    u = minimise(problem, controls.random_start(problem, np.random.default_rng(0), 0.5))
    found = certify_minimum(problem, flatten(u))
    assert found.outcome is Outcome.MINIMUM, found.reason
    J = float(rollout.objective(problem, u))
    assert found.objective_lower - 1e-14 <= J <= found.objective_upper + 1e-14
    assert found.objective_upper - found.objective_lower < 1e-15


@pytest.mark.parametrize(("growth", "calls_most"), [(1.0, 40), (3.0, 3)])
def test_newton_steps_that_do_not_shrink_are_said_to(monkeypatch, growth, calls_most):
    model = ball_model.ball_model(small())
    d, calls = model.problem.n_decision, []

    def growing(*_):
        calls.append(1)
        return balls.exact(np.full(d, 1e-3 * growth ** len(calls)))

    monkeypatch.setattr(krawczyk, "gradient", growing)
    monkeypatch.setattr(krawczyk, "gradient_and_hessian", lambda *_: (None, balls.exact(np.eye(d))))
    _, reason = krawczyk.polish(model, balls.exact(np.zeros(d)), balls.exact(np.eye(d)), 128)
    assert "do not shrink" in reason
    # steps that grow are given up at once, others after a dozen
    assert len(calls) <= calls_most


def test_why_the_polish_fails_is_said_unless_the_hessian_is_flat(monkeypatch):
    monkeypatch.setattr(certificate, "polish", lambda model, u, H, bits: (u, "the steps wander"))
    problem, u = solved()
    assert certify_minimum(problem, flatten(u)).reason == "the steps wander"
    problem, u = solved(r=0.0)
    assert certify_minimum(problem, flatten(u)).reason != "the steps wander"


def test_newton_steps_of_rounding_size_end_the_polish(monkeypatch):
    model = ball_model.ball_model(small())
    d = model.problem.n_decision
    monkeypatch.setattr(krawczyk, "gradient", lambda *_: balls.exact(np.full(d, 2.0**-70)))
    centre, reason = krawczyk.polish(model, balls.exact(np.zeros(d)), balls.exact(np.eye(d)), 128)
    assert reason == ""
    assert float(balls.magnitude(centre).max()) <= 2 * 2.0**-70
