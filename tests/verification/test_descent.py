"""Descent that is shown by evaluation: at small steps, never by another basin."""

import numpy as np
import pytest
from small_minima import small, solved
from zoo import claimed, widened

from ocp import controls as containers
from ocp.controls import flatten
from verification.checks import diagnosis, first_order, second_order
from verification.evaluation import descent, hessian, states
from verification.evaluation.subject import TrainingSubject
from verification.report import Verdict


@pytest.fixture
def parabola(monkeypatch):
    """Replace J by a function of the first control: f is set by the test."""
    problem = small()

    def use(f):
        monkeypatch.setattr(states, "objective", lambda problem, u: float(f(flatten(u)[0])))
        return problem, containers.zeros(problem), np.eye(problem.n_decision)[0]

    return use


def test_a_lower_basin_behind_a_hill_is_no_descent(parabola):
    problem, u, e = parabola(lambda t: abs(t) - 10 * (abs(t) > 0.2))
    assert descent.descend(problem, u, e, 0.0) is None
    problem, u, e = parabola(lambda t: t**2 - 10 * (abs(t) > 0.2))
    assert descent.descend_by_curvature(problem, u, e) is None


def test_descent_is_found_with_its_rate_and_longest_step(parabola):
    problem, u, e = parabola(lambda t: -abs(t) + 2 * t**2)
    found = descent.descend(problem, u, e, 0.0)
    assert found.rate == pytest.approx(1.0, rel=1e-2)
    assert found.step[0] == 0.25 and found.decrease == pytest.approx(0.125)


def test_a_slope_that_the_tolerance_allows_is_not_descent(parabola):
    problem, u, e = parabola(lambda t: -1e-8 * t)
    assert descent.descend(problem, u, e, 1.1e-8) is None
    assert descent.descend(problem, u, e, 0.9e-8) is not None
    assert descent.descend_by_curvature(problem, u, e) is None


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_negative_curvature_is_told_from_a_slope(parabola, sign):
    problem, u, e = parabola(lambda t: sign * 1e-9 * t - 1e-6 * t**2 + t**4)
    found = descent.descend_by_curvature(problem, u, e)
    assert found.decrease > 0 and abs(found.step[0]) < 1e-2
    problem, u, e = parabola(lambda t: sign * 1e-9 * t + 1e-6 * t**2)
    assert descent.descend_by_curvature(problem, u, e) is None


def test_a_kink_that_is_a_minimum_and_one_that_is_not(parabola, monkeypatch):
    problem, u, _ = parabola(lambda t: abs(t))
    kink = lambda problem, c: (np.sign(flatten(c)) * (np.arange(24) == 0),) * 2  # noqa: E731
    monkeypatch.setattr(descent.adjoint, "gradient", kink)
    assert descent.descend_from_kink(problem, u, np.zeros(24), 1e-8) is None
    problem, u, _ = parabola(lambda t: max(t, 2 * t))

    def slope(problem, c):
        return (np.where(flatten(c) >= 0, 2.0, 1.0) * (np.arange(24) == 0),) * 2

    monkeypatch.setattr(descent.adjoint, "gradient", slope)
    found = descent.descend_from_kink(problem, u, np.zeros(24), 1e-8)
    assert found is not None and found.step[0] < 0


def test_the_band_decides_between_passed_and_inconclusive():
    subject = TrainingSubject(claimed(*solved()))
    guard = second_order.finite_differences(subject)
    assert second_order.curvature(subject, guard).verdict is Verdict.PASSED
    least = subject.hessian.eigenvalues[0]
    for band, verdict in ((0.99 * least, Verdict.PASSED), (1.01 * least, Verdict.INCONCLUSIVE)):
        wide = TrainingSubject(claimed(*solved()))
        found = wide.hessian
        replaced = hessian.Spectrum(
            H=found.H,
            eigenvalues=found.eigenvalues,
            vectors=found.vectors,
            difference=0.0,
            band=band,
        )
        wide.__dict__["hessian"] = replaced
        assert second_order.curvature(wide, guard).verdict is verdict


def test_routes_that_disagree_widen_the_band(monkeypatch):
    products = hessian.by_products
    wrong = lambda *a: products(*a) * (1 + 1e-2)  # noqa: E731
    monkeypatch.setattr(hessian, "by_products", wrong)
    lines = {
        e.name: e for e in second_order.check_second_order(TrainingSubject(claimed(*solved())))
    }
    assert lines["second_order.routes"].measured == pytest.approx(1.021e-2, rel=1e-2)
    assert lines["second_order.curvature"].verdict is Verdict.INCONCLUSIVE


def test_the_guard_of_finite_differences_catches_a_common_error(monkeypatch):
    for name in ("by_products", "by_condensing"):
        right = getattr(hessian, name)
        monkeypatch.setattr(hessian, name, lambda *a, right=right: right(*a) * 1.01)
    lines = {
        e.name: e for e in second_order.check_second_order(TrainingSubject(claimed(*solved())))
    }
    assert lines["second_order.finite_differences"].verdict is Verdict.INCONCLUSIVE
    assert lines["second_order.curvature"].verdict is Verdict.INCONCLUSIVE


def test_the_worst_layer_and_parameter_are_named():
    problem, u = solved()
    A = u.A.copy()
    A[2, 1, 0] += 1e-3
    subject = TrainingSubject(claimed(problem, containers.Controls(A=A, b=u.b)))
    line = first_order.stationarity(subject)
    index = int(np.abs(subject.gradient).argmax())
    assert line.where == containers.describe(problem, index)
    assert line.measured == np.abs(subject.gradient).max()
    groups = first_order.layer_groups(subject)
    covered = [i for _, group in groups for i in range(*group.indices(problem.n_decision))]
    assert covered == list(range(problem.n_decision))
    # by the definition: |g_k|_2 over |h r u_k|_2 + |data part|_2
    decay = problem.h * problem.r * flatten(subject.controls)
    parts = [(subject.gradient, decay, subject.gradient - decay)] * len(groups)
    norms = [
        [np.linalg.norm(x[group]) for x in part]
        for part, (_, group) in zip(parts, groups, strict=True)
    ]
    wanted = [g / (a + b) for g, a, b in norms]
    scaled = first_order.scaled_stationarity(subject)
    assert scaled.measured == pytest.approx(max(wanted))
    assert scaled.where == groups[int(np.argmax(wanted))][0]


def test_null_directions_are_named_and_counted():
    for changes, says, count in (
        ({"trained": ("layers", "readout"), "r_ends": 0.0}, "same row added", 3),
        ({"activation": "identity", "block": "double"}, "rotated", None),
    ):
        subject = TrainingSubject(claimed(*solved(**changes)))
        (reason,) = (text for text in subject.null_directions if says in text)
        found = subject.null_directions[reason]
        assert count in (len(found), None)
        assert np.abs(found @ subject.hessian.H).max() <= 1e-9 * np.abs(found).max()
    # r = 0 and one more coordinate that nothing reads: its row in the last layer, and x_0 is flat
    problem, u = solved(r=0.0)
    sentence = "; ".join(TrainingSubject(claimed(*widened(problem, u))).null_directions)
    assert "does not see row 2" in sentence and "linearly dependent" in sentence
    assert TrainingSubject(claimed(*solved())).null_directions == {}


@pytest.mark.parametrize(
    ("changes", "start", "name"),
    [
        ({"p_d": 0.9999}, None, "p_d_near_one"),
        ({"p_d": 0.51}, None, "p_d_near_uniform"),
        ({"gamma": 500.0}, None, "gamma_too_large"),
        ({"r": 0.0}, None, "r_zero"),
        ({}, "zeros", "b_zero"),
        ({"width": 3}, "zeros", "unused_coordinate"),
        ({"block": "double"}, "zeros", "zero_layers"),
        ({"beta": 0, "depth": 40, "h": 0.9}, "saturating", "vanishing"),
        ({}, "saturating", "saturated"),
        ({}, "random", "not_converged"),
        ({}, "random", "laggards"),
    ],
)
def test_failure_signatures(changes, start, name):
    problem = small(**changes)
    n, N = problem.width, problem.depth
    rng = np.random.default_rng(0)
    u = {
        None: lambda: containers.random_start(problem, rng, 0.1),
        "zeros": lambda: containers.zeros(problem),
        "random": lambda: containers.random_start(problem, rng, 0.5),
        "saturating": lambda: containers.Controls(
            A=np.tile(-2.0 * np.eye(n), (N, 1, 1)), b=np.full((N, n), 9.0)
        ),
    }[start]()
    found = [e.name for e in diagnosis.check_diagnosis(TrainingSubject(claimed(problem, u)))]
    if name == "vanishing":
        assert {"diagnosis.vanishing", "diagnosis.saturated"} & set(found)
    else:
        assert f"diagnosis.{name}" in found
