"""Tiny cost weights meet an absolute tolerance anywhere; the Newton distance sees through them."""

import numpy as np
import pytest
from small_minima import small, solved
from zoo import claimed, minimum

from ocp.controls import Controls, random_start
from verification.api import verify_content
from verification.checks import first_order
from verification.evaluation.subject import TrainingSubject
from verification.report import Verdict

LINE = "first_order.newton_distance"


def judged(content, tolerance=1e-8):
    return verify_content([content], tolerance=tolerance, only=["first_order", "second_order"])


def untrained(**weights):
    problem = small(beta=0, **weights)
    return claimed(problem, random_start(problem, np.random.default_rng(0), 0.5))


@pytest.mark.parametrize("r", [1e-13, 0.0])
def test_random_controls_do_not_pass_by_their_weights(r):
    report = judged(untrained(gamma=1e-12, r=r))
    assert report.named("first_order.gradient").verdict is Verdict.PASSED
    line = report.named(LINE)
    assert line.verdict is Verdict.INCONCLUSIVE
    assert line.measured > line.bound >= 1e-3
    assert report.verdict is not Verdict.PASSED
    assert report.exit_code == 3


def test_nor_does_their_curvature_pass():
    # positive curvature far from a stationary point is no minimum: only the decay is left
    problem = small(beta=0, gamma=1e-14, r=1e-9)
    content = claimed(problem, random_start(problem, np.random.default_rng(0), 0.5))
    report = judged(content)
    assert report.named("first_order.gradient").verdict is Verdict.PASSED
    line = report.named("second_order.curvature")
    assert line.measured > line.bound
    assert line.verdict is Verdict.INCONCLUSIVE
    assert "not near a stationary point" in line.explanation


@pytest.mark.parametrize("by", [1.0, 1e-6, 1e-12])
def test_the_weights_change_no_verdict_of_a_minimum(by):
    problem, u = solved(beta=0, r=0.1)
    report = judged(claimed(problem.with_(gamma=by * problem.gamma, r=by * problem.r), u))
    assert report.named(LINE).verdict is Verdict.OBSERVED
    assert report.exit_code == 0


def test_the_bound_separates_near_from_far():
    problem, u = solved()
    for by, verdict in ((0.5e-3, Verdict.OBSERVED), (2e-3, Verdict.INCONCLUSIVE)):
        A = u.A.copy()
        A[2, 0, 1] += by * max(1.0, np.abs(u.A).max(), np.abs(u.b).max())
        content = claimed(problem, Controls(A=A, b=u.b))
        assert judged(content, tolerance=1.0).named(LINE).verdict is verdict
        # beyond the tolerance the gradient itself fails, and this line only informs
        assert judged(content).named(LINE).verdict is Verdict.OBSERVED


def test_large_files_are_judged_by_the_balance_of_the_gradient(monkeypatch):
    monkeypatch.setattr(TrainingSubject, "too_large", "treated as too large")
    line = judged(untrained(gamma=1e-12, r=1e-13)).named(LINE)
    assert line.verdict is Verdict.INCONCLUSIVE
    assert "do not cancel" in line.explanation
    assert line.measured > line.bound
    for content in (minimum(), untrained(gamma=1.0, r=1e-2)):
        assert judged(content).named(LINE).verdict is Verdict.NOT_CHECKED


def test_balance_is_that_of_the_two_terms_and_rounding_counts_for_nothing():
    subject = TrainingSubject(untrained(gamma=1e-12, r=1e-13))
    quadratic = subject.gradient - subject.data_gradient
    expected = np.linalg.norm(subject.gradient) / (
        np.linalg.norm(quadratic) + np.linalg.norm(subject.data_gradient)
    )
    assert first_order.unbalanced(subject) == pytest.approx(expected, rel=1e-12)
    assert first_order.unbalanced(TrainingSubject(untrained(gamma=1e-12, r=0.0))) == 0.0
    # u = 0 is stationary for the double block: next to it all terms are rounding
    problem, one = small(block="double"), np.ones((4, 2, 2))
    tiny = Controls(A=1e-15 * one, b=np.zeros((4, 2)), W=1e-15 * one)
    subject = TrainingSubject(claimed(problem, tiny))
    assert np.abs(subject.gradient).max() > 0
    assert first_order.unbalanced(subject) == 0.0


def test_the_step_leaves_out_directions_without_curvature():
    subject = TrainingSubject(claimed(*solved(r=0.0)))
    step, left = first_order.newton_step(subject)
    values = subject.hessian.eigenvalues
    assert left == (np.abs(values) <= subject.hessian.band).sum() > 0
    assert np.allclose(
        subject.hessian.H @ step,
        subject.hessian.vectors[:, np.abs(values) > subject.hessian.band]
        @ (subject.hessian.vectors[:, np.abs(values) > subject.hessian.band].T @ subject.gradient),
        atol=1e-12,
    )
