"""Every number, place and sentence of the second-order lines, from their definitions."""

import dataclasses
import types

import numpy as np
import pytest
from small_minima import small, solved
from zoo import claimed, widened

from ocp import controls as containers
from ocp.controls import flatten, unflatten
from ocp.evaluation.assembly import assembled_hessian
from ocp.evaluation.rollout import objective
from verification.checks import large_curvature, second_order
from verification.evaluation import hessian
from verification.evaluation.subject import TrainingSubject
from verification.report import Check, Finding, Verdict

GUARD = Finding(name="second_order.finite_differences", verdict=Verdict.OBSERVED)


def named(entries, name):
    (found,) = [entry for entry in entries if entry.name == f"second_order.{name}"]
    return found


# --- which lines there are ----------------------------------------------------------------------


def test_the_lines_of_a_minimum():
    problem, u = solved(r=0.1)
    subject = TrainingSubject(claimed(problem, u))
    lines = second_order.check_second_order(subject)
    names = ["curvature", "routes", "finite_differences", "inertia", "licq"]
    assert [line.name for line in lines] == [f"second_order.{name}" for name in names]
    values, vectors = np.linalg.eigh(assembled_hessian(problem, u))
    line = named(lines, "curvature")
    assert line.measured == pytest.approx(values[0], rel=1e-8)
    assert line.bound == subject.hessian.band
    assert line.relation == ">"
    assert line.where == containers.describe(problem, int(np.abs(vectors[:, 0]).argmax()))
    assert line.message == "least eigenvalue of the reduced Hessian and its error band"
    assert line.verdict is Verdict.PASSED
    routes = named(lines, "routes")
    assert routes.measured == subject.hessian.difference
    assert routes.verdict is Verdict.OBSERVED
    assert f"the largest eigenvalue is {values[-1]:.4g}" in routes.message
    assert named(lines, "inertia").message == (
        f"full KKT matrix: ({4 * 2 * 12 + 24}, {4 * 2 * 12}, 0) positive, negative and undecided"
        " eigenvalues by Haynsworth; reduced: (24, 0, 0)"
    )
    assert named(lines, "licq").verdict is Verdict.PROVED


def facts_with(first, too_large="", **more):
    problem, u = solved()
    keys = {"problem": problem, "controls": u, "tolerance": 1e-8, "too_large": too_large}
    stub = types.SimpleNamespace(**(keys | more))
    return stub, lambda *_: first


def test_nothing_is_said_of_curvature_where_the_point_is_not_stationary(monkeypatch):
    first = Check(name="first_order.gradient", measured=0.0123, bound=1e-8)
    stub, stationarity = facts_with(first)
    monkeypatch.setattr(second_order, "stationarity", stationarity)
    line, licq = second_order.check_second_order(stub)
    assert (line.name, line.kind) == ("second_order.curvature", "claim")
    assert line.verdict is Verdict.NOT_APPLICABLE
    assert line.message == "not stationary: 0.012 > 1e-08 (first_order.gradient)"
    assert licq.name == "second_order.licq"
    # a large file says so too, with what was seen of its curvature
    monkeypatch.setattr(large_curvature, "finding", lambda subject: [GUARD])
    stub.too_large = "large"
    assert second_order.check_second_order(stub)[1] is GUARD


def test_curvature_is_undecided_where_the_first_order_is(monkeypatch):
    first = Check(name="first_order.gradient", measured=0.1, bound=1e-8, undecidable="kinks")
    stub, stationarity = facts_with(first)
    monkeypatch.setattr(second_order, "stationarity", stationarity)
    line, licq = second_order.check_second_order(stub)
    assert (line.name, line.kind, line.relation) == ("second_order.curvature", "claim", ">")
    assert (line.verdict, line.explanation) == (Verdict.INCONCLUSIVE, "kinks")
    assert np.isnan(line.measured)
    assert np.isnan(line.bound)
    assert licq.name == "second_order.licq"


def test_a_large_file_has_its_own_claim(monkeypatch):
    first = Check(name="first_order.gradient", measured=0.0, bound=1e-8)
    stub, stationarity = facts_with(first, too_large="large")
    monkeypatch.setattr(second_order, "stationarity", stationarity)
    monkeypatch.setattr(large_curvature, "claim", lambda subject: [GUARD])
    found = second_order.check_second_order(stub)
    assert found[0] is GUARD
    assert [line.name for line in found[1:]] == ["second_order.licq"]


# --- the verdict on the least eigenvalue --------------------------------------------------------


def spectral(values, band=1e-6, **more):
    """A file with these eigenvalues; the eigenvectors are the unit vectors."""
    problem = small(depth=1)
    d = problem.n_decision
    values = np.array([*values, *[1.0] * (d - len(values))])
    found = types.SimpleNamespace(
        eigenvalues=values, vectors=np.eye(d), band=band, H=np.diag(values), difference=0.0
    )
    keys = {"problem": problem, "hessian": found, "kinks": (0, ""), "gradient": np.zeros(d)}
    u = containers.Controls(A=np.zeros((1, 2, 2)), b=np.zeros((1, 2)))
    return types.SimpleNamespace(**(keys | {"controls": u, "tolerance": 1e-8} | more))


def test_negative_curvature_fails_with_a_witness_only():
    problem, u = solved(r=0.1)
    # the minimum inside a state space with one more, unused coordinate, at a smaller r
    problem, u = widened(problem, u)
    problem = problem.with_(r=0.02)
    subject = TrainingSubject(claimed(problem, u))
    assert subject.hessian.eigenvalues[0] < -subject.hessian.band
    line = second_order.curvature(subject, GUARD)
    shown = second_order.witness(subject)
    fall = float(objective(problem, u)) - float(
        objective(problem, unflatten(problem, flatten(u) + shown.step))
    )
    assert fall > 0
    assert shown.decrease == pytest.approx(fall, rel=1e-3)
    assert line.verdict is Verdict.FAILED
    assert line.message == (
        f"not a minimum: J falls by {shown.decrease:.2e} along the eigenvector, step"
        f" {np.linalg.norm(shown.step):.1e}, evaluated; restart from there"
    )
    least = subject.hessian.vectors[:, 0]
    assert abs(shown.step @ least) == pytest.approx(np.linalg.norm(shown.step))


def test_negative_curvature_without_a_witness_is_undecided(monkeypatch):
    monkeypatch.setattr(second_order, "witness", lambda subject: None)
    line = second_order.curvature(spectral([-2e-6]), GUARD)
    assert line.verdict is Verdict.INCONCLUSIVE
    assert line.undecidable == "the curvature is negative but no decrease of J could be evaluated"
    assert (line.measured, line.bound) == (-2e-6, 1e-6)


def undecided(values, monkeypatch, null=(), far="", guard=GUARD, **more):
    monkeypatch.setattr(second_order, "null_directions", lambda subject: list(null))
    monkeypatch.setattr(second_order, "far", lambda subject: far)
    monkeypatch.setattr(second_order, "_after_newton_step", lambda subject: "")
    monkeypatch.setattr(second_order, "witness", lambda subject: None)
    return second_order.curvature(spectral(values, **more), guard)


def test_what_leaves_the_curvature_undecided_comes_in_order(monkeypatch):
    kinks, doubt = (3, "layer 2"), dataclasses.replace(GUARD, verdict=Verdict.INCONCLUSIVE)
    flat = (0.0, 1e-6, 1.1e-6)
    say = lambda *a, **k: undecided(*a, monkeypatch, **k).undecidable  # noqa: E731
    relu = small(depth=1, activation="relu")
    everything = {"null": ["r = 0", "lift"], "far": "far away", "guard": doubt, "kinks": kinks}
    assert say(flat, problem=relu, **everything) == ("3 pre-activations on kinks, first at layer 2")
    softsign = small(depth=1, activation="softsign")  # its second derivative jumps
    assert "on kinks" in say((0.5,), problem=softsign, kinks=(1, "there"))
    assert say((0.5,), problem=softsign) == ""
    assert say((0.5,), kinks=(1, "there")) == ""  # tanh has none
    assert say(flat, **everything) == (
        "finite differences of the gradient disagree with the reduced Hessian"
    )
    everything["guard"] = GUARD
    assert say(flat, **everything) == "exact null directions: r = 0; lift"
    everything["null"] = ()
    assert say(flat, **everything) == "2 eigenvalues lie within the error band of zero"
    # an eigenvalue at the edge of the band is within it, also from below
    assert say((-1e-6, 0.5)) == "1 eigenvalues lie within the error band of zero"
    assert say((1.1e-6, 0.5), far="far away") == "not near a stationary point: far away"
    line = undecided((1.1e-6, 0.5), monkeypatch)
    assert (line.verdict, line.undecidable) == (Verdict.PASSED, "")


def test_the_conditions_hold_after_one_newton_step_too(monkeypatch):
    subject = spectral([0.5, 2.0], gradient=np.array([1e-9, -4e-9, 0, 0, 0, 0]))
    seen = {}

    def gradient(problem, moved):
        seen["u"] = flatten(moved)
        return seen["g"], None

    monkeypatch.setattr(second_order.adjoint, "gradient", gradient)
    spectrum = types.SimpleNamespace(eigenvalues=np.array([2e-6, 1.0]), band=1e-6)
    monkeypatch.setattr(hessian, "spectrum", lambda problem, moved: spectrum)
    seen["g"] = np.array([0.0, -1e-8, 0, 0, 0, 0])  # at the tolerance
    assert second_order._after_newton_step(subject) == ""
    assert seen["u"] == pytest.approx([-2e-9, 2e-9, 0, 0, 0, 0], abs=1e-20)
    for worse, text in ((-1.2e-8, "1.2e-08"), (np.nan, "nan")):
        seen["g"] = np.array([0.0, worse, 0, 0, 0, 0])
        assert second_order._after_newton_step(subject) == (
            f"after one Newton step the gradient is {text}"
        )
    seen["g"] = np.zeros(6)
    for least, text in ((1e-6, "1e-06"), (-0.5, "-0.5"), (np.nan, "nan")):
        spectrum.eigenvalues = np.array([least, 1.0])
        assert second_order._after_newton_step(subject) == (
            f"after one Newton step the least eigenvalue is {text}"
        )


# --- the guard and the inertia ------------------------------------------------------------------


def guarded(wrong, **changes):
    """The guard of a file whose Hessian is off by a matrix."""
    problem, u = solved(r=0.1, **changes)
    subject = TrainingSubject(claimed(problem, u))
    true = subject.hessian
    subject.__dict__["hessian"] = dataclasses.replace(true, H=true.H + wrong(true))
    return subject, second_order.finite_differences(subject)


def test_finite_differences_agree_with_the_hessian():
    subject, line = guarded(lambda found: 0.0 * found.H)
    largest = np.abs(subject.hessian.eigenvalues).max()
    assert line.bound == pytest.approx(1e-4 * largest, rel=1e-12)
    assert line.verdict is Verdict.OBSERVED
    # second order in the step 1e-5, and rounding of 1e-16/1e-5
    assert 0 < line.measured < 1e-8
    assert "2 directions of seed 20240513 and the least eigenvector" in line.message


def test_the_guard_looks_along_unit_vectors_and_the_least_eigenvector():
    # wrong along the least eigenvector alone: seen in full there
    subject, line = guarded(lambda f: 1e-3 * np.outer(f.vectors[:, 0], f.vectors[:, 0]))
    least = subject.hessian.vectors[:, 0]
    assert line.measured == pytest.approx(1e-3 * np.abs(least).max(), rel=1e-4)
    # wrong across it alone: seen along the two seeded directions
    rng = np.random.default_rng(20240513)
    random = rng.standard_normal((2, 24))
    random /= np.linalg.norm(random, axis=1, keepdims=True)

    def across(found):
        v = found.vectors[:, 1]
        return 1e-2 * np.outer(v, v)

    subject, line = guarded(across)
    v = subject.hessian.vectors[:, 1]
    most = max(np.abs(v @ d * v).max() for d in random)
    assert line.measured == pytest.approx(1e-2 * most, rel=1e-3)
    assert line.verdict is Verdict.INCONCLUSIVE


def test_the_guard_at_its_limit_and_next_to_kinks():
    problem, u = solved(r=0.1)
    subject = TrainingSubject(claimed(problem, u))
    line = second_order.finite_differences(subject)
    subject.__dict__["hessian"] = dataclasses.replace(
        subject.hessian, eigenvalues=subject.hessian.eigenvalues * line.measured / line.bound
    )
    close = second_order.finite_differences(subject)
    assert close.bound == pytest.approx(line.measured, rel=1e-12)
    relu = types.SimpleNamespace(
        problem=small(activation="relu"), hessian=None,
        survey=types.SimpleNamespace(least_preactivation=0.9e-3),
    )  # fmt: skip
    line = second_order.finite_differences(relu)
    assert line.name == "second_order.finite_differences"
    assert line.verdict is Verdict.NOT_CHECKED
    assert line.message == "a kink lies within the difference step"
    problem, u = small(activation="relu"), solved()[1]
    clear = TrainingSubject(claimed(problem, u))
    clear.__dict__["survey"] = dataclasses.replace(clear.survey, least_preactivation=1e-3)
    assert second_order.finite_differences(clear).verdict is not Verdict.NOT_CHECKED


def test_the_inertia_counts_what_the_band_leaves_open():
    subject = spectral([-2.0, -1.1e-6, -1e-6, 0.0, 1e-6, 3.0])
    subject.problem = small(depth=3, width=5)  # 3 * 5 * 12 states
    line = second_order._inertia(subject)
    assert line.name == "second_order.inertia"
    assert line.verdict is Verdict.OBSERVED
    assert line.message == (
        "full KKT matrix: (181, 182, 3) positive, negative and undecided eigenvalues by Haynsworth;"
        " reduced: (1, 2, 3)"
    )
