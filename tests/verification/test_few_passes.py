"""Large files are judged in few passes, with the same numbers as small ones."""

import numpy as np
import pytest
from problems import spirals

from ocp.controls import random_start
from ocp.files import TrainingFile
from verification import __main__ as command
from verification.api import verify_content
from verification.evaluation import adjoint, descent, states
from verification.evaluation.subject import TrainingSubject
from verification.report import Verdict


def content(**changes):
    problem = spirals(20, depth=8, **changes)
    return TrainingFile(problem=problem, controls=random_start(problem, np.random.default_rng(0)))


@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_forward_passes_of_all_checks_but_lanczos(monkeypatch, activation):
    monkeypatch.setattr(TrainingSubject, "too_large", "treated as too large")
    monkeypatch.setattr(TrainingSubject, "why_not_enclosed", "treated as too large")
    file = content(activation=activation)
    with states.counting() as count:
        checks = ("statement", "first_order", "second_order", "geometry", "turnpike", "depth")
        verify_content([file], budget=0, only=[*checks, "diagnosis"])
    passes = count.forward / (file.problem.n_samples * file.problem.depth)
    # one forward for gradient and survey, one for the network idled and cropped; relu may look
    # once more for descent from a kink
    assert passes <= (2.0 if activation == "tanh" else 3.0)


def test_the_passes_that_are_printed_are_those_that_were_made(monkeypatch):
    monkeypatch.setattr(TrainingSubject, "too_large", "treated as too large")
    monkeypatch.setattr(TrainingSubject, "why_not_enclosed", "treated as too large")
    file = content()
    on_large_files = ["first_order", "second_order", "geometry", "turnpike", "depth", "diagnosis"]
    line = verify_content([file], budget=0, only=on_large_files).named("cost.passes")
    assert "counted: 2.0 forward, 1.0 backward" in line.message
    assert "Lanczos 0" not in line.message
    size = file.problem.n_samples * file.problem.depth
    with states.counting() as work:
        line = verify_content([file], budget=20, only=on_large_files).named("cost.passes")
    # a Lanczos step is a forward and a backward pass of its own, and counted apart
    assert "counted: 2.0 forward, 1.0 backward" in line.message
    assert "a step" in line.message
    assert work.forward == (2 + 5) * size


@pytest.mark.parametrize("scheme", ["euler", "rk4"])
@pytest.mark.parametrize("activation", ["tanh", "relu"])
def test_a_survey_off_the_gradient_pass_is_that_of_its_own_pass(monkeypatch, activation, scheme):
    file = content(activation=activation, scheme=scheme)
    monkeypatch.setattr(states, "BATCH_BYTES", 40_000)  # several batches
    shared, alone = TrainingSubject(file, share_pass=True), TrainingSubject(file)
    for name in states.Survey.__slots__:
        one, other = getattr(shared.survey, name), getattr(alone.survey, name)
        if name == "near_kinks":
            assert (one is None) == (other is None)
            continue
        assert np.allclose(one, other, rtol=1e-13, atol=0), name
    assert np.array_equal(shared.gradient, alone.gradient)


def test_lanczos_steps_cost_one_forward_and_one_backward_each(monkeypatch):
    monkeypatch.setattr(TrainingSubject, "too_large", "treated as too large")
    file = content()
    with states.counting() as few:
        verify_content([file], budget=8, only=["second_order"])
    with states.counting() as more:
        verify_content([file], budget=20, only=["second_order"])
    samples = file.problem.n_samples * file.problem.depth
    assert (more.forward - few.forward) / samples == 4  # 1 and 5 steps


def test_kept_logits_change_no_number(monkeypatch):
    file = content(scheme="heun")
    kept = verify_content([file], only=["turnpike", "depth", "dissipativity", "diagnosis"])
    monkeypatch.setattr(states, "LOGITS_BYTES", 0)
    again = verify_content([file], only=["turnpike", "depth", "dissipativity", "diagnosis"])
    for one, other in zip(kept.entries, again.entries, strict=True):
        assert one.name == other.name
        assert one.verdict is other.verdict
        assert one.measured == pytest.approx(other.measured, rel=1e-12, abs=1e-15, nan_ok=True)


def test_costate_norms_are_those_of_the_multipliers():
    file = content()
    _, _, norms = adjoint.gradient_and_costate_norms(file.problem, file.controls)
    (batch,) = states.batches(file.problem)
    run = states.propagate(file.problem, file.controls, batch)
    costate = adjoint.multipliers(file.problem, file.controls, batch, run).costate
    assert np.allclose(norms, np.linalg.norm(costate, axis=(1, 2)), rtol=1e-14)


def test_one_step_shows_descent_and_only_where_there_is_some():
    file = content(activation="relu")
    problem, u = file.problem, file.controls
    J = states.objective(problem, u)
    g = adjoint.gradient(problem, u)[0]
    found = descent.descend_once(problem, u, g, J, 1e-8)
    assert found.decrease > 0
    assert found.rate == pytest.approx(g @ g / np.abs(g).sum(), rel=1e-2)
    assert descent.descend_once(problem, u, -g, J, 1e-8) is None
    assert descent.descend_once(problem, u, 0 * g, J, 1e-8) is None
    assert descent.descend_once(problem, u, g, J, 1e3) is None


def test_kinks_of_a_large_file_far_from_stationary_are_no_excuse(monkeypatch):
    monkeypatch.setattr(TrainingSubject, "too_large", "treated as too large")
    monkeypatch.setattr(TrainingSubject, "kinks", (3, "layer 1, unit 2"))
    file = content(activation="relu")
    report = verify_content([file], only=["first_order", "diagnosis"])
    line = report.named("first_order.gradient")
    assert line.verdict is Verdict.FAILED
    assert "3 pre-activations on kinks" in line.explanation
    assert "J falls by" in line.explanation
    assert "training stopped early" in report.named("diagnosis.not_converged").message
    assert "3 pre-activations" in report.named("diagnosis.kinks").message


def test_the_budget_is_checked_before_anything_is_read(capsys):
    assert command.main(["none.safetensors", "--budget", "-1"]) == 2
    assert "--budget is -1.0; wanted a number of passes of at least 0" in capsys.readouterr().err
    with pytest.raises(ValueError, match="the budget is nan"):
        TrainingSubject(content(), budget=float("nan"))


def test_the_cost_of_a_large_file_is_printed(monkeypatch):
    file = content()
    assert "cost.passes" not in {e.name for e in verify_content([file]).entries}
    monkeypatch.setattr(TrainingSubject, "too_large", "treated as too large")
    only = ["first_order", "second_order"]
    line = verify_content([file], only=only, budget=50).named("cost.passes")
    assert line.verdict is Verdict.OBSERVED
    assert line.measured > 0
    assert "of a budget of 50" in line.message


@pytest.mark.parametrize("activation", ["relu", "softsign"])
def test_kinks_are_counted_alike_from_the_survey_and_by_another_pass(monkeypatch, activation):
    file = content(activation=activation)
    file.controls.A[3, 1], file.controls.b[3, 1] = 0.0, 0.0  # a dead unit: v = 0 on all samples
    listed = TrainingSubject(file).kinks
    assert listed == (file.problem.n_samples, "layer 3, unit 1")
    monkeypatch.setattr(states, "LISTED", 0)
    assert TrainingSubject(file).survey.near_kinks is None
    assert TrainingSubject(file).kinks == listed
