"""Every number, place and sentence of the lines on the slack, from their definitions."""

import dataclasses
import sys
import types

import numpy as np
import pytest
from small_minima import small
from zoo import claimed

from ocp import controls as containers
from ocp import datasets, loss, trace
from ocp.evaluation import rollout
from verification.checks import dissipativity
from verification.evaluation import states
from verification.evaluation.alpha import lower_bound
from verification.evaluation.minimisers import log_mean_exp
from verification.evaluation.subject import TraceSubject, TrainingSubject
from verification.report import Finding, Verdict

EPS = np.finfo(float).eps
THREE = dict(zip(("inputs", "labels"), datasets.blobs(n_samples=9, n_classes=3), strict=True))
THREE |= {"n_classes": 3}
LINES = ("trajectory", "sampled", "certified")


def facts_of(certify=False, **changes):
    problem = small(**changes)
    u = containers.random_start(problem, np.random.default_rng(3), 0.5)
    return TrainingSubject(claimed(problem, u), certify=certify)


def pi_of(problem):
    eps = (1 - problem.p_d) / (problem.n_classes - 1)
    return np.where(np.arange(problem.n_classes) == 0, problem.p_d, eps)


def slack_of(problem, z):
    """g - alpha(dist_z) of every sample, by the reference."""
    q = problem.soft_targets
    wanted = np.log(q) - np.log(q).mean(axis=1, keepdims=True)
    distance = np.linalg.norm(z - z.mean(axis=-1, keepdims=True) - wanted, axis=-1)
    bound = lower_bound(distance, problem.n_classes, pi_of(problem))
    return loss.soft_cross_entropy(z, q) - bound, distance


# --- whom it is about ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"p_d": 1.0}, "infimum of hard cross-entropy is not attained"),
        ({"beta": 0}, "beta = 0: the layers carry no data cost"),
        (
            {"activation": "softplus", "shifted": False},
            "softplus unshifted is not 0 at 0: u = 0 is no equilibrium",
        ),
    ],
)
def test_hypotheses_that_fail(changes, why):
    lines = dissipativity.check_dissipativity(facts_of(**changes))
    assert [line.name for line in lines] == [f"dissipativity.{name}" for name in LINES]
    for line in lines:
        assert line.verdict is Verdict.NOT_APPLICABLE
        assert why in line.message


def test_hypotheses_that_hold_or_overflow():
    assert dissipativity.why_not(facts_of()) == ""
    double = facts_of(activation="softplus", shifted=False, block="double")
    assert dissipativity.why_not(double) == ""
    assert dissipativity.why_not(facts_of(activation="softplus")) == ""  # shifted
    subject = facts_of()
    subject.__dict__["survey"] = types.SimpleNamespace(objective=np.inf)
    assert dissipativity.why_not(subject) == "the states are not finite"


def test_the_lines_of_a_file():
    lines = dissipativity.check_dissipativity(facts_of())
    names = ("alpha", *LINES)
    assert [line.name for line in lines] == [f"dissipativity.{name}" for name in names]


# --- the constant -------------------------------------------------------------------------------


def test_alpha_is_named_with_its_curvature():
    line = dissipativity._constant(facts_of(p_d=0.8))
    assert (line.name, line.verdict) == ("dissipativity.alpha", Verdict.PROVED)
    assert line.measured == pytest.approx(2 * 0.8 * 0.2)
    assert line.message == (
        "g - g* >= alpha(s) = log(p + (1-p) e^(-sqrt2 s)) + (1-p) sqrt2 s, s the distance of the"
        " centred logits; measured: curvature of alpha at 0; least target entry 0.2"
    )
    line = dissipativity._constant(facts_of(p_d=0.8, **THREE))
    assert line.measured == pytest.approx(0.1)
    assert "alpha(s) = (eps/rho) phi(sqrt(rho) s), s" in line.message
    assert line.message.endswith("least target entry 0.1")
    # two classes behind a readout of rank 0: the closed form, with the least entry
    flat = facts_of(p_d=0.8, readout_weight=np.ones((2, 2)))
    line = dissipativity._constant(flat)
    assert "(eps/rho)" in line.message
    assert line.measured == pytest.approx(0.5)


# --- along the trajectory -----------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["euler", "heun"])
@pytest.mark.parametrize("batch", [None, 5])
@pytest.mark.parametrize("changes", [{}, THREE])
def test_the_least_slack_along_the_trajectory(scheme, batch, changes, monkeypatch):
    subject = facts_of(scheme=scheme, **changes)
    problem, u = subject.problem, subject.controls
    subject.survey  # noqa: B018 (with whole batches)
    if batch:
        whole = next(iter(states.batches(problem)))
        n_d = problem.n_samples
        cut = [slice(at, min(at + batch, n_d)) for at in range(0, n_d, batch)]
        parts = [
            dataclasses.replace(whole, rows=c, s=whole.s[c], q=whole.q[c], labels=whole.labels[c])
            for c in cut
        ]
        monkeypatch.setattr(dissipativity, "batches", lambda *_, **__: iter(parts))
    line = dissipativity.along_trajectory(subject)
    X = rollout.rollout(problem, u).X
    stages = [X[:-1]]
    if scheme == "heun":  # the second stage is an Euler step ahead
        ahead = [x + problem.h * np.tanh(x @ A.T + b) for x, A, b in zip(X, u.A, u.b, strict=False)]
        stages.append(np.stack(ahead))
    z = np.stack([rollout.logits(problem, u, Y) for Y in stages], axis=1)  # (N, S, n_d, n_c)
    slack, distance = slack_of(problem, z)
    k, s, i = np.unravel_index(slack.argmin(), slack.shape)
    stage = f", stage {s + 1}" if scheme == "heun" else ""
    assert line.name == "dissipativity.trajectory"
    assert line.verdict is Verdict.PROVED
    assert -line.measured == pytest.approx(slack.min(), rel=1e-9, abs=1e-15)
    assert line.where == f"layer {k}{stage}, sample {i}"
    assert line.bound == pytest.approx(64 * EPS * (1 + distance.max()), rel=1e-9, abs=0)
    assert line.message == (
        f"least slack {slack.min():.3g} over {problem.depth * problem.n_samples} (layer, sample)"
        " pairs (measured: minus it; bound: rounding)"
    )


def test_a_constant_that_is_too_large_contradicts_the_theorem(monkeypatch):
    subject = facts_of()
    true = type(subject.minimisers).alpha
    monkeypatch.setattr(
        type(subject.minimisers), "alpha", lambda self, s, rows: true(self, s, rows) + 10.0
    )
    line = dissipativity.along_trajectory(subject)
    assert line.verdict is Verdict.FAILED
    assert line.measured == pytest.approx(10.0 - slack_least(subject), rel=1e-9)


def slack_least(subject):
    X = rollout.rollout(subject.problem, subject.controls).X[:-1]
    return slack_of(subject.problem, rollout.logits(subject.problem, subject.controls, X))[0].min()


def test_a_state_that_is_not_finite_fails():
    subject = facts_of()
    logits = subject.survey.logits.copy()
    logits[2, 3] = np.nan
    subject.__dict__["survey"] = dataclasses.replace(subject.survey, logits=logits)
    line = dissipativity.along_trajectory(subject)
    assert line.verdict is Verdict.FAILED
    assert line.where == "a state is not finite"


@pytest.mark.parametrize("n_classes", [2, 3])
def test_the_slack_of_a_trace(n_classes):
    rng = np.random.default_rng(0)
    labels = np.arange(7) % n_classes
    logits = rng.standard_normal((5, 7, n_classes))
    content = trace.Trace(
        logits=logits, labels=labels, control_norm=np.ones(4), n_classes=n_classes, depth=4,
        h=0.5, p_d=0.9, r=1e-2, gamma=1.0, beta=1, origin={},
    )  # fmt: skip
    subject = TraceSubject(content)
    alpha, line = dissipativity.check_dissipativity_of_trace(subject)
    assert alpha.name == "dissipativity.alpha"
    slack, distance = slack_of(subject.problem, logits)
    k, i = np.unravel_index(slack.argmin(), slack.shape)
    assert line.name == "dissipativity.trajectory"
    assert -line.measured == pytest.approx(slack.min(), rel=1e-9)
    assert line.where == f"layer {k}, sample {i}"
    assert line.bound == pytest.approx(64 * EPS * (1 + distance.max()), rel=1e-9, abs=0)
    assert line.message == "least slack over 35 (layer, sample) pairs (measured: minus it)"
    assert line.verdict is Verdict.PROVED
    (line,) = dissipativity.check_dissipativity_of_trace(
        TraceSubject(dataclasses.replace(content, beta=0))
    )
    assert (line.name, line.verdict) == ("dissipativity", Verdict.NOT_APPLICABLE)


# --- sampled ------------------------------------------------------------------------------------


def attacks(subject, monkeypatch):
    """The logit vectors that are tried, by target and family, and the line."""
    tried = []

    def record(v, pi):
        tried.append((v.copy(), pi.copy()))
        return log_mean_exp(v, pi)

    monkeypatch.setattr(dissipativity, "log_mean_exp", record)
    return tried, dissipativity.sampled(subject)


@pytest.mark.parametrize("changes", [{}, THREE])
def test_what_is_sampled(changes, monkeypatch):
    subject = facts_of(**changes)
    n_c = subject.problem.n_classes
    tried, line = attacks(subject, monkeypatch)
    assert len(tried) == 3 * n_c  # random, patterns, top class; for every target
    count = sum(len(v) for v, _ in tried)
    assert f"least slack relative to rounding over {count} logit vectors, seed 271828," in (
        line.message
    )
    for family, (v, pi) in enumerate(tried):
        kind = family // 3
        assert pi == pytest.approx(subject.minimisers.softmax[kind])
        assert 0.25 * 200_000 // n_c <= len(v) <= 200_000 // n_c
        length = np.linalg.norm(v, axis=1)
        assert np.abs(v.mean(axis=1) / length).max() < 1e-7
        assert 1e-4 * 0.999 <= length.min() < 1.01e-4
        assert 0.99e3 < length.max() <= 1e3 * 1.001
        # even in the logarithm: a seventh of them in every decade
        shares = np.histogram(np.log10(length), bins=np.arange(-4, 4))[0] / len(v)
        assert shares == pytest.approx(np.full(7, 1 / 7), abs=0.01)
        unit = v / length[:, None]
        if family % 3 == 0 and n_c == 3:  # isotropic in the plane of centred logits
            assert (unit**2).mean(axis=0) == pytest.approx(np.full(3, 1 / 3), abs=0.01)
        if family % 3 == 1:  # two values in every pattern, both signs equally often
            spread = np.sort(unit, axis=1)
            gaps = np.diff(spread, axis=1)
            assert (np.sort(gaps, axis=1)[:, :-1] < 1e-12).all()
            assert abs((unit[:, 0] > 0).mean() - 0.5) < 0.02
        if family % 3 == 2:  # the likely class up, one other down by less
            likely = pi.argmax()
            assert (unit.argmax(axis=1) == likely).all()
            others = np.delete(unit, likely, axis=1)
            assert others.min() < 0
            if n_c == 3:
                # which one is down: equally often; neither where the likely one itself was drawn
                down = np.diff(others, axis=1)[:, 0]
                assert (np.abs(down) < 1e-12).mean() == pytest.approx(1 / 3, abs=0.01)
                assert (down > 1e-12).mean() == pytest.approx(1 / 3, abs=0.01)
    assert line.name == "dissipativity.sampled"
    assert line.verdict is Verdict.PROVED
    # the least slack relative to what rounding may do at that distance
    least = np.inf
    for family, (v, pi) in enumerate(tried):
        distance = np.linalg.norm(v, axis=1)
        g = log_mean_exp(v, pi)
        allowance = 64 * EPS * (1 + distance)
        slack = g - subject.minimisers.bound(distance, family // 3)
        at = int((slack / allowance).argmin())
        if slack[at] / allowance[at] < least:
            least, where = slack[at] / allowance[at], f"target {family // 3}, s={distance[at]:.3g}"
            wanted = (-slack[at], allowance[at])
    assert (line.measured, line.bound) == pytest.approx(wanted, rel=1e-6, abs=1e-18)
    assert line.where == where
    assert line.measured <= line.bound


@pytest.mark.parametrize("from_, to", [(1e-4, 2e-4), (0.9, 1.1), (900.0, 1e3)])
@pytest.mark.parametrize("target", [0, 1])
def test_a_constant_that_is_too_large_somewhere_is_found(from_, to, target, monkeypatch):
    subject = facts_of()
    true = type(subject.minimisers).bound

    def bound(self, distance, kind):
        wrong = (distance > from_) & (distance < to) & (kind == target)
        return true(self, distance, kind) * np.where(wrong, 1.2, 1.0) + 1e-9 * wrong

    monkeypatch.setattr(type(subject.minimisers), "bound", bound)
    line = dissipativity.sampled(subject)
    assert line.verdict is Verdict.FAILED
    assert "CONTRADICTS A THEOREM" in line.message
    assert line.where.startswith(f"target {target}, s=")
    assert line.measured > line.bound > 0


def test_only_what_the_readout_can_reach_is_sampled(monkeypatch):
    # three classes behind a readout that moves the first logit against the other two alike
    readout = np.array([[1.0, 0.0], [-0.5, 0.0], [-0.5, 0.0]])
    subject = facts_of(readout_weight=readout, **THREE)
    assert subject.minimisers.rank == 1
    tried, line = attacks(subject, monkeypatch)
    assert line.verdict is Verdict.PROVED
    for v, _ in tried:
        along = np.array([2.0, -1.0, -1.0]) / np.sqrt(6)
        assert np.abs(np.abs(v @ along) - np.linalg.norm(v, axis=1)).max() < 1e-9


def test_at_most_a_hundred_targets_share_the_samples(monkeypatch):
    many = types.SimpleNamespace(
        target=np.full((150, 2), 0.5), softmax=np.full((150, 2), 0.5), full_rank=True, rank=1,
        PC=np.array([[0.5, -0.5], [-0.5, 0.5]]), bound=lambda distance, kind: 0.0 * distance,
    )  # fmt: skip
    stub = types.SimpleNamespace(minimisers=many, problem=types.SimpleNamespace(n_classes=2))
    tried, _ = attacks(stub, monkeypatch)
    assert len(tried) == 300
    assert {len(v) for v, _ in tried[::3]} == {2000}
    monkeypatch.setattr(dissipativity, "SAMPLES", 5000)
    tried, _ = attacks(stub, monkeypatch)
    assert {len(v) for v, _ in tried[::3]} == {100}


# --- certified ----------------------------------------------------------------------------------


def test_the_certified_constant_is_asked_for_and_is_that_of_the_plain_target(monkeypatch):
    (line,) = dissipativity._certified(facts_of())
    assert (line.name, line.verdict) == ("dissipativity.certified", Verdict.NOT_CHECKED)
    assert line.message == "asked for with --certify"
    flat = facts_of(certify=True, readout_weight=np.ones((2, 2)))
    inputs, labels = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([0, 1, 1])
    torn = facts_of(certify=True, inputs=inputs, labels=labels)
    assert torn.minimisers.conflicts
    for subject in (flat, torn):
        (line,) = dissipativity._certified(subject)
        assert (line.name, line.verdict) == ("dissipativity.certified", Verdict.NOT_APPLICABLE)
        assert line.message == "the certified form is that of the plain soft target"
    found = (Finding(name="dissipativity.certified", verdict=Verdict.PROVED),)
    asked = types.SimpleNamespace(check_alpha=lambda content: found)
    monkeypatch.setitem(sys.modules, "verification.balls.alpha", asked)
    assert dissipativity._certified(facts_of(certify=True)) == list(found)
    monkeypatch.setitem(sys.modules, "verification.balls.alpha", None)
    (line,) = dissipativity._certified(facts_of(certify=True))
    assert (line.name, line.verdict) == ("dissipativity.certified", Verdict.NOT_CHECKED)
    assert line.message.startswith("not available: ")
