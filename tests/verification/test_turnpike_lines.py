"""Every number, place and sentence of the turnpike's lines on one file, from their definitions."""

import types

import numpy as np
import pytest
import scipy.stats
from small_minima import small
from zoo import claimed

from ocp import controls as containers
from ocp import datasets, loss
from ocp.evaluation import rollout
from verification.checks import turnpike
from verification.evaluation.alpha import lower_bound
from verification.evaluation.subject import TrainingSubject
from verification.report import Verdict


def facts_of(scale=0.5, **changes):
    problem = small(**changes)
    u = containers.random_start(problem, np.random.default_rng(3), scale)
    return problem, u, TrainingSubject(claimed(problem, u))


def named(subject):
    return {line.name: line for line in turnpike.check_turnpike(subject)}


def seen(problem, u):
    """States' logits, sample losses, distances and stage costs by the reference."""
    X = rollout.rollout(problem, u).X
    z = rollout.logits(problem, u, X)
    q = problem.soft_targets
    centred = z - z.mean(axis=-1, keepdims=True)
    wanted = np.log(q) - np.log(q).mean(axis=1, keepdims=True)
    g = np.stack([loss.soft_cross_entropy(at, q) for at in z])
    right = np.stack([loss.is_right(at, problem.labels) for at in z])
    return g, np.linalg.norm(centred - wanted, axis=-1), right


THREE = dict(zip(("inputs", "labels"), datasets.blobs(n_samples=9, n_classes=3), strict=True))


@pytest.mark.parametrize(
    "changes",
    [{}, {"scheme": "heun"}, {"h": 0.25, "gamma": 3.0, "p_d": 0.8}, THREE | {"n_classes": 3}],
)
def test_the_count_bounds(changes):
    problem, u, subject = facts_of(**changes)
    lines = named(subject)
    g, distance, right = seen(problem, u)
    N, n_d, n_c, h = problem.depth, problem.n_samples, problem.n_classes, problem.h
    J = float(rollout.objective(problem, u))
    w_1 = {"euler": 1.0, "heun": 0.5}[problem.scheme]
    eps = (1 - problem.p_d) / (n_c - 1)
    boundary = np.log(problem.p_d / eps) / np.sqrt(2)
    pi = np.full(n_c, eps)
    pi[0] = problem.p_d
    for fraction, text in ((0.125, "1/8"), (0.25, "1/4"), (0.5, "1/2")):
        e = fraction * boundary
        line = lines[f"turnpike.tube_{text}"]
        off = (distance[:-1] > e).mean(axis=1)
        assert turnpike.off_turnpike(subject, fraction) == pytest.approx(off)
        assert line.measured == pytest.approx(off.sum())
        assert line.bound == pytest.approx(J / (w_1 * h * lower_bound(np.array(e), n_c, pi)))
        assert line.verdict is (Verdict.PROVED if line.bound < N else Verdict.VACUOUS)
        assert line.message == (
            f"layers outside the tube of radius {e:.3g} (logits), mean over samples; bound"
            f" J'/(w_1 h alpha(e)), trivial bound {N}"
        )
    g_mis = loss.misclassification_threshold(n_c, problem.p_d)
    line = lines["turnpike.misclassified"]
    assert line.measured == (~right[:-1]).sum()
    assert line.bound == pytest.approx(n_d * J / (w_1 * h * g_mis))
    assert line.verdict is (Verdict.PROVED if line.bound < N * n_d else Verdict.VACUOUS)
    assert line.message == (
        f"(sample, layer) pairs classified wrong; bound n_d J/(w_1 h g_mis), g_mis = {g_mis:.5g},"
        f" trivial bound {N * n_d}"
    )
    squares = (u.A**2).sum(axis=(1, 2)) + (u.b**2).sum(axis=1)
    F = g.mean(axis=1)
    if problem.scheme == "euler":
        stage = F[:-1] + 0.5 * problem.r * squares
        assert h * stage.sum() + problem.gamma * F[-1] == pytest.approx(J)
        for fraction, text in ((0.125, "1/8"), (0.5, "1/2")):
            line = lines[f"turnpike.level_{text}"]
            assert line.measured == (stage > fraction * g_mis).sum()
            assert line.bound == pytest.approx(J / (h * fraction * g_mis))
            assert line.message == (
                f"layers with l_k - l* > {fraction * g_mis:.3g} = {text} g_mis; bound J'/(h eta),"
                f" trivial bound {N}"
            )
    assert set(lines) == {
        *(f"turnpike.tube_{t}" for t in ("1/8", "1/4", "1/2")), "turnpike.misclassified",
        "turnpike.level_1/8", "turnpike.level_1/2",
        "turnpike.one_file", "turnpike.leaving", "turnpike.rate",
    }  # fmt: skip


def test_levels_are_counted_strictly_above():
    problem, _, subject = facts_of()
    g_mis = loss.misclassification_threshold(2, problem.p_d)
    cost = np.array([0.5, 0.125, 0.1251, 0.6]) * g_mis
    subject.__dict__["survey"] = types.SimpleNamespace(layer_cost=cost, objective=1.0)
    low, high = turnpike._level_counts(subject)
    assert (low.measured, high.measured) == (3, 1)


def test_what_no_control_can_avoid_is_taken_from_the_cost():
    # two equal points with different labels: l* > 0
    inputs, labels = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), np.array([0, 1, 1])
    problem, u, subject = facts_of(inputs=inputs, labels=labels, depth=3, h=0.25, gamma=2.0)
    least = subject.minimisers.least
    assert least > 0.1
    J = float(rollout.objective(problem, u))
    assert turnpike.excess_cost(subject) == pytest.approx(J - (0.25 * 3 + 2.0) * least)
    ends = {"trained": ("layers", "readout"), "r_ends": 0.3, "depth": 3, "h": 0.25, "gamma": 2.0}
    problem, u, subject = facts_of(inputs=inputs, labels=labels, **ends)
    J = float(rollout.objective(problem, u))
    cost = J - float(rollout.objective(problem.with_(r_ends=0.0), u))
    assert cost > 0
    assert turnpike.excess_cost(subject) == pytest.approx(
        J - cost - 2.75 * subject.minimisers.least
    )


def test_a_unit_that_is_rounding_bounds_nothing():
    assert turnpike._over(3.0, 2e-14) == 1.5e14
    assert turnpike._over(3.0, 1e-14) == np.inf
    assert turnpike._over(3.0, np.nan) == np.inf


def test_samples_without_a_distance_are_outside():
    subject = facts_of()[2]
    e = turnpike.tube(subject, 0.5)
    distances = np.full((5, 12), e)  # on the tube is inside
    distances[1, :3], distances[2, 0], distances[4] = 1.01 * e, np.nan, 9 * e
    subject.__dict__["distances"] = distances
    assert turnpike.off_turnpike(subject, 0.5) == pytest.approx([0, 3 / 12, 1 / 12, 0])


@pytest.mark.parametrize("activation", ["softplus", "sigmoid"])
def test_where_zero_is_no_equilibrium_nothing_is_counted(activation):
    changes = {"activation": activation, "shifted": False}
    lines = turnpike.check_turnpike(facts_of(**changes)[2])
    assert [line.name for line in lines] == ["turnpike.counts", "turnpike.one_file"]
    why = f"{activation} unshifted is not 0 at 0: u = 0 is no equilibrium"
    assert {(line.verdict, line.message) for line in lines} == {(Verdict.NOT_APPLICABLE, why)}
    double = facts_of(**changes, block="double")[2]
    assert "turnpike.tube_1/2" in named(double)


def test_states_that_overflow_are_not_counted():
    subject = facts_of()[2]
    subject.__dict__["survey"] = types.SimpleNamespace(objective=np.inf)
    lines = turnpike.check_turnpike(subject)
    assert [line.name for line in lines] == ["turnpike.counts", "turnpike.one_file"]
    assert {line.message for line in lines} == {"the states are not finite"}


def test_without_stage_costs_nothing_bounds_the_counts():
    lines = turnpike.check_turnpike(facts_of(beta=0)[2])
    names = ["counts", "one_file", "leaving", "rate"]
    assert [line.name for line in lines] == [f"turnpike.{name}" for name in names]
    assert lines[0].verdict is Verdict.NOT_APPLICABLE
    assert lines[0].message.startswith("beta = 0: the layers carry no data cost")


def test_hard_targets_have_no_tubes():
    lines = named(facts_of(p_d=1.0)[2])
    assert lines["turnpike.tube"].verdict is Verdict.NOT_APPLICABLE
    assert "infimum" in lines["turnpike.tube"].message
    for name in ("turnpike.leaving", "turnpike.rate"):
        assert lines[name].verdict is Verdict.NOT_APPLICABLE
        assert "infimum" in lines[name].message
    assert "turnpike.misclassified" in lines


# --- what one file shows ------------------------------------------------------------------------


def curve(costs, **more):
    """A file with these data costs, by layer."""
    subject = facts_of(depth=len(costs) - 1)[2]
    survey = types.SimpleNamespace(data_cost=np.array(costs, dtype=float), objective=1.0)
    subject.__dict__["survey"] = survey
    return subject


def test_the_entry_layer_and_the_arc_at_the_end():
    subject = curve([3.0, 1.0, 0.3, 0.21, 0.2, 0.204, 0.21])
    line = turnpike._entry(subject)
    assert line.name == "turnpike.one_file"
    assert (line.measured, line.where) == (3.0, "layer 3")
    assert line.verdict is Verdict.OBSERVED
    assert line.message == (
        "observed from layer 3 of 6: the data cost stays within 10 % of its final 0.21; one file"
        " proves no turnpike, give three depths"
    )
    line = turnpike._leaving(subject)
    assert line.name == "turnpike.leaving"
    assert line.measured == pytest.approx(0.01)
    assert (line.where, line.verdict) == ("layer 4", Verdict.OBSERVED)
    subject = curve([3.0, 2.0, 1.0, 0.5])
    line = turnpike._entry(subject)
    assert (line.measured, line.where) == (3.0, "layer 3")
    assert line.message == (
        "no turnpike is seen: the data cost still changes in the last layer of 3"
    )
    line = turnpike._leaving(subject)
    assert line.verdict is Verdict.NOT_APPLICABLE
    assert line.message == "the turnpike is not entered"


def test_a_rate_is_fitted_on_even_layers_and_judged_on_odd_ones():
    rng = np.random.default_rng(0)
    excess = np.exp(1.0 - 0.7 * np.arange(12) + 0.1 * rng.standard_normal(12))
    found = turnpike.fit_rate(excess, 9)
    even, odd = np.arange(0, 10, 2), np.arange(1, 10, 2)
    slope, intercept = np.polyfit(even, np.log(excess[even]), 1)
    residual = np.log(excess[even]) - intercept - slope * even
    error = np.sqrt((residual**2).sum() / 3 / ((even - even.mean()) ** 2).sum())
    assert found.rate == pytest.approx(-slope)
    assert found.half == pytest.approx(scipy.stats.t.ppf(0.975, 3) * error)
    misses = np.log(excess[odd]) - intercept - slope * odd
    assert found.error == pytest.approx(np.sqrt((misses**2).mean()))
    assert found.spread == pytest.approx(np.ptp(np.log(excess[odd])))
    assert (found.first, found.last) == (0, 9)


@pytest.mark.parametrize(("last", "enough"), [(4, False), (5, True), (6, True)])
def test_a_rate_wants_three_layers_to_fit_and_three_to_judge(last, enough):
    excess = np.exp(-np.arange(9.0))
    assert (turnpike.fit_rate(excess, last) is not None) is enough
    excess[1] = 0.0  # no logarithm
    assert (turnpike.fit_rate(excess, 6) is not None) is False
    assert turnpike.fit_rate(excess, 7).rate == pytest.approx(1.0)
    excess[2] = -1.0
    assert turnpike.fit_rate(excess, 7).rate == pytest.approx(1.0)
    excess[0] = 0.0
    assert turnpike.fit_rate(excess, 7) is None


def test_the_line_on_the_rate():
    line = turnpike._rate(curve([np.exp(-k) for k in range(9)] + [np.exp(-8.0)] * 4))
    assert line.name == "turnpike.rate"
    assert (line.verdict, line.where) == (Verdict.OBSERVED, "layers 0 to 8")
    assert line.measured == pytest.approx(1.0)
    assert line.message.startswith(
        "exponential rate of approach of F - l* by layer, 95 % interval [1, 1], fitted on even"
        " layers; on the odd ones the logarithm errs by "
    )
    assert line.message.endswith(" of 6")
    # even and odd layers disagree
    costs = [np.exp(-k + 3 * (k % 2)) for k in range(9)] + [np.exp(-8.0)] * 4
    line = turnpike._rate(curve(costs))
    assert line.measured == pytest.approx(1.0)
    assert line.message.endswith("errs by 3 of 6: not an exponential approach")
    # the interval of the rate contains 0
    values = [0.0, -2.0, -4.0, -1.0, 2.0, 0.0, -6.0]
    costs = [10 * np.exp(v) for v in values] + [10 * np.exp(-6.0)] * 3
    line = turnpike._rate(curve(costs))
    assert line.message.endswith(": not an exponential approach")
    line = turnpike._rate(curve([1.0, 0.1, 0.01, 0.01, 0.01]))
    assert line.verdict is Verdict.NOT_APPLICABLE
    assert line.message == "too few layers before the entry for a fit and a judgement"


@pytest.mark.parametrize(("error", "half", "holds"), [
    (1.0, 0.5, True), (1.001, 0.5, False), (1.0, 1.0, False), (1.0, 0.999, True),
])  # fmt: skip
def test_an_approach_is_exponential_if_the_rate_is_positive_and_predicts(
    error, half, holds, monkeypatch
):
    found = turnpike.Rate(rate=1.0, half=half, error=error, spread=4.0, first=0, last=6)
    monkeypatch.setattr(turnpike, "fit_rate", lambda *_: found)
    line = turnpike._rate(curve([1.0, 0.1, 0.01, 0.01]))
    assert line.message.endswith("not an exponential approach") is not holds
    assert f"[{1 - half:.3g}, {1 + half:.3g}]" in line.message


def test_the_rate_is_fitted_up_to_the_entry_or_the_last_layer(monkeypatch):
    asked = []
    monkeypatch.setattr(turnpike, "fit_rate", lambda excess, last: asked.append((excess, last)))
    subject = curve([3.0, 2.0, 1.0, 1.0, 1.0])
    turnpike._rate(subject)
    turnpike._rate(curve([3.0, 2.0, 1.0, np.nan]))  # never entered: beyond the last
    assert [last for _, last in asked] == [2, 3]
    assert asked[0][0] == pytest.approx(subject.survey.data_cost - subject.minimisers.least)
