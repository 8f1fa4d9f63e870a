"""Lanczos bounds contain the truth; large files get a claim or a finding within their budget."""

import dataclasses

import numpy as np
import pytest
import scipy.optimize
from small_minima import small, solved

from ocp import datasets, files
from ocp.controls import flatten, random_start, unflatten
from ocp.evaluation.rollout import gradient, objective
from ocp.files import TrainingFile
from ocp.problem import Problem
from verification import __main__ as command
from verification import api
from verification.evaluation import hessian, lanczos
from verification.evaluation.subject import TrainingSubject
from verification.report import Verdict


def symmetric(eigenvalues, seed):
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.standard_normal((len(eigenvalues),) * 2))
    return (Q * eigenvalues) @ Q.T


@pytest.mark.parametrize("least", [-1.0, -1e-3, 1e-4, 0.5])
def test_bounds_hold_on_spectra_like_those_of_networks(least):
    for seed in range(20):
        values = np.concatenate([[least], np.geomspace(max(least, 1e-3) * 1.01, 1e3, 299)])
        H = symmetric(values, seed)
        for steps in (20, 60, 150):
            ritz = lanczos.least_eigenvalue(lambda v, H=H: H @ v, 300, steps, seed=seed)
            low, high = ritz.interval
            assert low <= least <= high, (seed, steps)
            assert np.abs(values - ritz.least).min() <= ritz.residual + ritz.rounding
            assert ritz.steps == steps
            assert np.isclose(np.linalg.norm(ritz.vector), 1.0)


def test_the_whole_space_gives_the_whole_spectrum():
    values = np.linspace(0.5, 4, 30)
    H = symmetric(values, 0)
    ritz = lanczos.least_eigenvalue(lambda v: H @ v, 30, 100)
    assert ritz.steps == 30
    assert ritz.interval[0] == pytest.approx(0.5, abs=1e-11)
    assert ritz.interval[0] < 0.5 < ritz.interval[1]


def test_a_subspace_that_looks_invariant_keeps_its_residual_and_its_doubt():
    # three distinct eigenvalues, three steps
    H = symmetric(np.repeat([1.0, 2.0, 5.0], 20), 0)
    ritz = lanczos.least_eigenvalue(lambda v: H @ v, 60, 50)
    assert ritz.steps == 3
    assert ritz.least == pytest.approx(1.0, abs=1e-12)
    assert 0.0 < ritz.residual < 1e-11
    assert 1e-9 < ritz.below < 1e-3


def test_an_eigenvector_that_the_start_hardly_contains_is_held_or_named_improbable():
    """The start is seeded, so it can be built into H: its share of the least eigenvector is c."""
    size, seed = 60, 5
    start = np.random.default_rng(seed).standard_normal(size)
    start /= np.linalg.norm(start)
    rng = np.random.default_rng(0)
    for share, held in ((1e-3, True), (1e-6, True), (1e-15, False)):
        v = rng.standard_normal(size)
        v -= start * (start @ v)
        v /= np.linalg.norm(v)
        v = share * start + np.sqrt(1 - share**2) * v
        basis, _ = np.linalg.qr(np.column_stack([v, rng.standard_normal((size, size - 1))]))
        values = np.concatenate([[-0.1], np.repeat([1.0, 2.0, 5.0], [20, 20, 19])])
        H = (basis * values) @ basis.T
        ritz = lanczos.least_eigenvalue(lambda w, H=H: H @ w, size, 50, seed=seed)
        assert (ritz.interval[0] <= -0.1) is held, share


def test_the_width_is_that_of_the_minimal_polynomial():
    """Against the definition: the start with the share that is granted just meets the bound."""
    values, off = np.array([1.0, 2.0, 5.0]), np.array([1.3, 0.7, 1e-3])
    x = lanczos.width_below(values, off, 100, 1e-6)
    share = 1e-6 * np.sqrt(np.pi / 200)
    assert np.prod(values - values[0] + x) * share == pytest.approx(np.prod(off), rel=1e-4)
    # and a random start has a smaller share of any direction with at most that probability
    starts = np.random.default_rng(0).standard_normal((20000, 100))
    seen = np.abs(starts[:, 0] / np.linalg.norm(starts, axis=1))
    assert np.mean(seen <= 0.1 * np.sqrt(np.pi / 200)) == pytest.approx(0.1, abs=0.01)


def test_few_steps_say_little_and_not_finite_products_raise():
    ritz = lanczos.least_eigenvalue(lambda v: v * np.arange(1, 101), 100, 2)
    assert ritz.interval[0] < -1e3
    with pytest.raises(FloatingPointError):
        lanczos.least_eigenvalue(lambda v: v * np.nan, 10, 2)
    with pytest.raises(ValueError, match="steps is 0"):
        lanczos.least_eigenvalue(lambda v: v, 10, 0)


def as_large(content, monkeypatch, budget, tolerance=1e-8):
    """Judge a small file as if its Hessian could not be formed."""
    monkeypatch.setattr(TrainingSubject, "too_large", "the reduced Hessian is treated as too large")
    return api.verify_content([content], only=["second_order"], budget=budget, tolerance=tolerance)


def test_a_stationary_large_file_gets_a_claim(monkeypatch):
    problem, controls = solved()
    content = TrainingFile(problem=problem, controls=controls)
    truth = np.linalg.eigvalsh(hessian.by_condensing(problem, controls))[0]
    passed = as_large(content, monkeypatch, 500).named("second_order.curvature")
    assert passed.verdict is Verdict.PASSED
    assert passed.measured <= truth * (1 + 1e-6)
    short = as_large(content, monkeypatch, 11).named("second_order.curvature")
    assert short.verdict is Verdict.INCONCLUSIVE
    assert "the budget of 11 passes ended after 2 Lanczos steps" in short.explanation
    none = as_large(content, monkeypatch, 0).named("second_order.curvature")
    assert none.verdict is Verdict.INCONCLUSIVE
    assert "--budget of 8 passes or more" in none.explanation


def test_a_saddle_fails_with_its_witness(monkeypatch):
    # a minimum of width 2 inside width 3: stationary, and the third coordinate leads down
    _, controls = solved(0, width=2)
    problem = small(width=3)
    A, b = np.zeros((4, 3, 3)), np.zeros((4, 3))
    A[:, :2, :2], b[:, :2] = controls.A, controls.b
    saddle = dataclasses.replace(controls, A=A, b=b)
    truth = np.linalg.eigvalsh(hessian.by_condensing(problem, saddle))[0]
    content = TrainingFile(problem=problem, controls=saddle)
    line = as_large(content, monkeypatch, 500).named("second_order.curvature")
    assert truth < -1e-6
    assert line.verdict is Verdict.FAILED
    assert truth <= line.measured < 0


def test_a_file_that_is_not_stationary_gets_a_finding(monkeypatch):
    problem = small()
    controls = random_start(problem, np.random.default_rng(0))
    report = as_large(TrainingFile(problem=problem, controls=controls), monkeypatch, 500)
    assert report.named("second_order.curvature").verdict is Verdict.NOT_APPLICABLE
    found = report.named("second_order.lanczos")
    truth = np.linalg.eigvalsh(hessian.by_condensing(problem, controls))[0]
    assert found.verdict is Verdict.OBSERVED
    # it stops once the sign is known
    assert truth <= found.measured <= 0.9 * truth


def test_a_file_that_is_really_too_large_from_inconclusive_to_passed(tmp_path, capsys):
    """8,448 decision variables: the dense Hessian would take 544 MiB, Lanczos a few vectors."""
    inputs, labels = datasets.blobs(40, n_classes=4)
    problem = Problem(inputs=inputs, labels=labels, n_classes=4, depth=8, width=32, r=0.5)
    assert problem.n_decision == 8448
    found = scipy.optimize.minimize(
        lambda u: float(objective(problem, unflatten(problem, u))),
        flatten(random_start(problem, np.random.default_rng(0), 0.01)),
        jac=lambda u: gradient(problem, unflatten(problem, u))[0],
        method="L-BFGS-B",
        options={"gtol": 1e-9, "ftol": 0.0, "maxiter": 2000},
    )
    path = tmp_path / "large.safetensors"
    files.save(path, TrainingFile(problem=problem, controls=unflatten(problem, found.x)))
    only = ["--only", "first_order", "second_order"]
    assert command.main([str(path), *only]) == 3
    text = capsys.readouterr().out
    assert "inconclusive   second_order.curvature" in text
    assert "the budget of 35 passes ended after 10 Lanczos steps" in text
    assert command.main([str(path), *only, "--budget", "300"]) == 0
    text = capsys.readouterr().out
    assert "passed         second_order.curvature" in text
    # h r = .25 is the curvature of the control weight alone
    line = next(x for x in text.splitlines() if "second_order.curvature" in x)
    assert 0.0 < float(line.split()[2]) < 0.25 + 1e-6
    assert command.main([str(path), *only, "--budget", "0"]) == 3
