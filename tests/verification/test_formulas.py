"""Numbers of single formulas from their definitions, where verdicts are too coarse a test."""

import types

import numpy as np
import pytest
from small_minima import small, solved
from test_traces import write as write_trace
from zoo import claimed

from ocp import controls, trace
from ocp.controls import flatten
from ocp.files import TrainingFile
from verification.checks import statement
from verification.evaluation import descent, hessian, lanczos
from verification.evaluation.subject import HESSIAN_BYTES, TraceSubject, TrainingSubject
from verification.report import Finding, Report, Verdict


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_the_band_is_relative_to_the_largest_eigenvalue(size):
    problem, u = solved(r=0.1)
    found = hessian.spectrum(problem.with_(gamma=size, r=0.1 * size, beta=0), u)
    norm = np.linalg.norm(found.H, 2)
    rounding = 10 * len(found.H) * np.finfo(float).eps * norm
    assert found.band == pytest.approx(rounding + found.difference, rel=1e-12)
    assert found.difference < rounding


def test_single_precision_moves_the_gradient_by_the_hessian_times_half_a_unit():
    problem, u = solved()
    subject = TrainingSubject(TrainingFile(problem=problem, controls=u, float32=("A", "b")))
    lines = statement.check_statement(subject)
    (line,) = (line for line in lines if line.name == "statement.precision")
    half_ulp = 0.5 * np.spacing(np.abs(flatten(u)).astype(np.float32)).astype(float)
    most = (np.abs(subject.hessian.H) @ half_ulp).max()
    assert 0.05 * most < line.measured <= 1.001 * most


def test_dense_hessians_are_formed_up_to_400_mib():
    assert HESSIAN_BYTES == 400 * 2**20
    said = []
    for d in (7240, 7241):  # 8 d^2 bytes
        problem = types.SimpleNamespace(n_decision=d, n_samples=1, depth=1, width=1)
        said.append(TrainingSubject.too_large.fget(types.SimpleNamespace(problem=problem)))
    assert said[0] == ""
    assert "7241 x 7241 entries, 0.4 GiB" in said[1]


def test_dense_hessians_are_formed_up_to_a_work_of_4e12():
    sizes = {"depth": 10, "width": 50}  # 20 d n_d N n^2 operations
    for n_samples, beyond in ((8000, False), (8001, True)):
        problem = types.SimpleNamespace(n_decision=1000, n_samples=n_samples, **sizes)
        text = TrainingSubject.too_large.fget(types.SimpleNamespace(problem=problem))
        assert text == ("the 1000 columns of the reduced Hessian cost 4e+12 operations" * beyond)


def test_a_trace_has_the_data_cost_of_all_layers_but_the_last(tmp_path):
    write_trace(tmp_path / "t.safetensors")
    survey = TraceSubject(trace.load(tmp_path / "t.safetensors")).survey
    assert survey.stage_data_cost.shape == (6, 1)
    assert np.array_equal(survey.stage_data_cost[:, 0], survey.data_cost[:-1])


def test_descent_from_kinks_is_sought_along_the_gradient_alone_if_samples_cost_too_much(
    monkeypatch,
):
    problem = small(activation="relu")
    u = controls.random_start(problem, np.random.default_rng(0), 0.5)
    g = TrainingSubject(claimed(problem, u)).gradient
    for work in (0.0, 1.0 * problem.n_samples * problem.depth * problem.width**2):
        monkeypatch.setattr(descent, "WORK", work)
        found = descent.descend_from_kink(problem, u, g, 1e-8)
        assert np.allclose(np.abs(found.step @ g), np.linalg.norm(found.step) * np.linalg.norm(g))


def test_a_report_is_restricted_by_check():
    entries = [Finding(name=n, verdict=Verdict.OBSERVED) for n in ("depth.used", "gap.lower_bound")]
    kept = Report(entries=tuple(entries)).select(["gap"]).entries
    assert [entry.name for entry in kept] == ["gap.lower_bound"]


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_the_rounding_of_a_ritz_value_is_relative_to_the_largest(size):
    H = size * np.diag(np.arange(-5.0, 40.0))
    ritz = lanczos.least_eigenvalue(lambda v: H @ v, 45, 12)
    largest = max(abs(ritz.least), abs(ritz.largest))
    assert ritz.rounding == pytest.approx(10 * 12 * np.finfo(float).eps * largest, rel=1e-12)
