"""Count bounds that hold for every file, and what one file shows: margins and costs by hand."""

import re

import numpy as np
import pytest
import scipy.stats
from small_minima import small
from steered import (
    REST,
    cost_at,
    course,
    g_mis,
    lines_of,
    margin_of,
    steered,
    tight,
    traced,
)
from zoo import claimed

from ocp import loss
from ocp.controls import Controls, random_start
from ocp.datasets import blobs
from ocp.evaluation import rollout
from verification.evaluation.minimisers import class_distances
from verification.evaluation.subject import TraceSubject
from verification.report import Verdict

TUBES = {"tube_1/8": 1 / 8, "tube_1/4": 1 / 4, "tube_1/2": 1 / 2}
LEVELS = {"level_1/8": 1 / 8, "level_1/2": 1 / 2}
NEITHER, SHOWN = ["counts", "one_file"], ["one_file", "leaving", "rate"]
COUNTS = [*TUBES, "misclassified", *LEVELS]
UNSHIFTED = {"activation": "softplus", "shifted": False}
THREE = dict(zip(("inputs", "labels"), blobs(n_samples=9, n_classes=3), strict=True))
TORN = {"inputs": np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), "labels": np.array([0, 1, 1])}


def random(**changes):
    problem = small(**changes)
    return claimed(problem, random_start(problem, np.random.default_rng(3), 0.5))


def turnpike(content) -> dict:
    """The lines of the check, by the last part of their names."""
    return {name.partition(".")[2]: line for name, line in lines_of(content, "turnpike").items()}


@pytest.mark.parametrize(
    ("content", "names", "out"),
    [
        (random(**UNSHIFTED), NEITHER, set(NEITHER)),
        (traced(np.ones((3, 2)), norm=1e200), NEITHER, set(NEITHER)),  # J overflows
        (random(beta=0), ["counts", *SHOWN], {"counts"}),
        (random(p_d=1.0), ["tube", *COUNTS[3:], *SHOWN], {"tube", "leaving", "rate"}),
        (random(**UNSHIFTED, block="double"), COUNTS + SHOWN, set()),
        (random(activation="softplus"), COUNTS + SHOWN, set()),
    ],
)
def test_whom_it_is_about(content, names, out):
    lines = turnpike(content)
    assert list(lines) == names
    found = {name for name in names if lines[name].verdict is Verdict.NOT_APPLICABLE}
    assert out <= found <= out | {"leaving", "rate"}


# --- bounds -------------------------------------------------------------------------------------


def alpha(s, pi):
    """The bound of the excess at a distance: exact for two classes, else the closed form."""
    if len(pi) == 2:
        return tight(s, pi.max())
    root = np.sqrt((len(pi) - 1) / len(pi))
    return pi.min() / root**2 * (np.exp(-root * s) + root * s - 1)


@pytest.mark.parametrize("scheme", ["euler", "heun", "rk4"])
@pytest.mark.parametrize(
    "changes",
    [
        {"h": 0.25, "gamma": 3.0, "p_d": 0.8},
        {"block": "double", "p_d": 0.999},
        THREE | {"n_classes": 3},
        TORN | {"depth": 3, "trained": ("layers", "lift", "readout"), "r_ends": 0.3, "gamma": 2.0},
    ],
    ids=["plain", "double", "three classes", "torn"],
)
def test_counts_and_bounds_of_a_network(scheme, changes):
    content = random(scheme=scheme, **changes)
    problem, u = content.problem, content.controls
    N, n_d, n_c, h, gamma = (
        problem.depth, problem.n_samples, problem.n_classes, problem.h, problem.gamma,
    )  # fmt: skip
    run, target = rollout.rollout(problem, u), problem.soft_targets.copy()
    if "trained" in changes:
        target[:2] = 0.5  # equal points share their labels
    z = rollout.logits(problem, u, run.X)
    v = z - np.log(target)
    distance = np.linalg.norm(v - v.mean(axis=-1, keepdims=True), axis=-1)
    least = (problem.soft_targets * np.log(problem.soft_targets / target)).sum() / n_d
    layer_costs = rollout.layer_costs(problem, u, run)
    J = h * layer_costs.sum() + gamma * rollout.data_cost(problem, u, run.X[-1])
    excess = J - (h * N + gamma) * least
    w_1 = {"euler": 1.0, "heun": 1 / 2, "rk4": 1 / 6}[scheme]
    eps = (1 - problem.p_d) / (n_c - 1)
    mis = sum(t * np.log(2 * t / (problem.p_d + eps)) for t in (problem.p_d, eps))
    wrong = ~np.stack([loss.is_right(at, problem.labels) for at in z[:-1]])
    J = float(rollout.objective(problem, u))  # trained ends cost as well
    wanted = {"misclassified": (wrong.sum(), n_d * J / (w_1 * h * mis), n_d * N)}
    for name, fraction in TUBES.items():
        e = fraction * np.log(problem.p_d / eps) / np.sqrt(2)
        off = (distance[:-1] > e).mean(axis=1).sum()
        wanted[name] = (off, excess / (w_1 * h * min(alpha(e, pi) for pi in target)), N)
    for name, fraction in LEVELS.items():
        above = (layer_costs - least > fraction * mis).sum()
        wanted[name] = (above, excess / (h * fraction * mis), N)
    lines = turnpike(content)
    for name, (measured, bound, trivial) in wanted.items():
        assert (lines[name].measured, lines[name].bound) == pytest.approx((measured, bound)), name
        informs = Verdict.PROVED if bound < trivial else Verdict.VACUOUS
        assert lines[name].verdict is informs, name


@pytest.mark.parametrize(
    ("name", "edge", "other", "count"),
    [
        *((name, REST * (1 + fraction), REST, 3) for name, fraction in TUBES.items()),
        ("misclassified", 0.0, REST, 12),
        *((name, margin_of(f * g_mis()), margin_of(f * g_mis()), 6) for name, f in LEVELS.items()),
    ],
)
def test_files_that_all_but_attain_their_bounds(name, edge, other, count):
    """Six layers, two samples on the edge and two elsewhere: a bound is the count beyond it."""
    outwards = 1e-6 if edge > REST else -1e-6
    for step, measured in ((outwards, count), (-outwards, 0)):
        line = turnpike(steered(np.tile([edge + step, edge + step, other + step, other], (7, 1))))
        assert line[name].measured == measured
        assert line[name].bound == pytest.approx(count, rel=1e-4)
        trivial = 24 if name == "misclassified" else 6
        informs = Verdict.PROVED if line[name].bound < trivial else Verdict.VACUOUS
        assert line[name].verdict is informs


def test_only_the_layers_before_the_last_are_counted_and_a_tie_is_wrong():
    m = np.array([[REST, REST], [REST, -1.0], [REST - 3.0, 0.0], [-1.0, 0.0]])
    for content in (steered(m, h=2.0**-10), traced(m)):  # h that rounds no state away from the tie
        lines = turnpike(content)
        measured = [lines[name].measured for name in COUNTS]
        assert measured == [1.5, 1.5, 1.5, 3, 2, 2]


def test_a_bound_that_is_met_is_no_contradiction():
    """All samples tied and no other cost: n_d J / (h g_mis) is the number of pairs."""
    line = turnpike(steered(np.zeros((3, 5)), p_d=0.6, h=0.5))["misclassified"]
    assert line.bound == pytest.approx(line.measured)
    assert line.verdict is not Verdict.FAILED


def on_the_tube():
    """A trace of samples that rounding puts on the tube 1/2 to the last bit."""
    for p in np.linspace(0.6, 0.99, 40):
        m = 1.5 * np.log(p / (1 - p)) + 1e-16 * np.arange(-50, 50)
        subject = TraceSubject(traced([m, m], p_d=p))
        hit = subject.distances[0] == class_distances(subject.problem).boundary / 2
        if hit.any():
            return traced(np.full((2, 2), m[hit][0]), p_d=p)
    raise AssertionError("no margin has that distance")


def test_on_the_tube_is_inside_and_without_a_distance_outside():
    assert turnpike(on_the_tube())["tube_1/2"].measured == 0
    content = traced(np.full((3, 4), REST))
    content.logits[1, 2] = 1.7e308  # their mean overflows
    assert [turnpike(content)[name].measured for name in TUBES] == [0.25] * 3


@pytest.mark.parametrize(("name", "fraction"), LEVELS.items())
def test_a_level_is_counted_strictly_above(name, fraction):
    """Hard targets far beyond the tie: the data cost is 0 exactly, r/2 |u|^2 is the level."""
    r = 2 * fraction * loss.misclassification_threshold(2, 1.0)
    norms = np.array([1 - 1e-12, 1.0, 1 + 1e-12])
    assert turnpike(traced(np.full((4, 2), 200.0), norms, p_d=1.0, r=r))[name].measured == 1


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        *((name, tight(f * REST / np.sqrt(2))) for name, f in TUBES.items()),
        ("misclassified", g_mis() / 2),
        *((name, f * g_mis()) for name, f in LEVELS.items()),
    ],
)
def test_a_unit_that_is_rounding_bounds_nothing(name, unit):
    """For two samples: n_d J / (h g_mis) = J / (h g_mis / 2)."""
    least = 1e-14 / (unit if name != "misclassified" else 2 * unit)
    for h in (least * (1 + 1e-6), least * (1 - 1e-6)):
        line = turnpike(traced(np.ones((3, 2)), h=h, gamma=2.0))[name]
        bound = (2 * h + 2.0) * cost_at(1.0) / (h * unit) if h > least else np.inf
        assert line.bound == pytest.approx(bound)
        assert line.verdict is Verdict.VACUOUS


# --- what one file shows ------------------------------------------------------------------------


@pytest.mark.parametrize("make", [steered, traced])
@pytest.mark.parametrize(
    ("costs", "entry", "low"),
    [
        ([3.0, 1.0, 0.3, 0.21, 0.2, 0.204, 0.21], 3, 4),
        ([3.0, 0.1, 0.3, 0.21, 0.22, 0.23, 0.209], 3, 6),
        ([0.2, 0.2, 0.19, 0.2], 0, 2),
        ([3.0, 2.0, 1.0, 0.5], 3, None),
    ],
)
def test_the_entry_layer_and_the_arc_at_the_end(make, costs, entry, low):
    line, arc, _ = list(turnpike(make(course(costs))).values())[-3:]
    assert (line.measured, line.where) == (entry, f"layer {entry}")
    assert line.verdict is Verdict.OBSERVED
    if low is None:
        assert arc.verdict is Verdict.NOT_APPLICABLE
    else:
        assert (arc.verdict, arc.where) == (Verdict.OBSERVED, f"layer {low}")
        assert arc.measured == pytest.approx(costs[-1] - costs[low])


def fitted(costs, last):
    """Slope, half width, error and spread of the logarithms 0..last by their definitions."""
    k, y = np.arange(last + 1), np.log(costs[: last + 1])
    even, odd = k % 2 == 0, k % 2 == 1
    slope, intercept = np.polyfit(k[even], y[even], 1)
    left, m = y - intercept - slope * k, even.sum()
    scatter = (left[even] ** 2).sum() / (m - 2) / ((k[even] - k[even].mean()) ** 2).sum()
    half = scipy.stats.t.ppf(0.975, m - 2) * np.sqrt(scatter)
    return -slope, half, np.sqrt((left[odd] ** 2).mean()), np.ptp(y[odd])


def judged(logs):
    """The rate's line, and whether it calls the approach exponential; at rest after the last."""
    line = turnpike(traced(course(np.exp(np.append(logs, [min(logs)] * 3)))))["rate"]
    return line, not line.message.endswith(": not an exponential approach")


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("last", [5, 6, 9])
def test_a_rate_is_fitted_on_even_layers_and_judged_on_odd_ones(noise, last):
    logs = 2.0 - 0.7 * np.arange(last + 1)
    logs += noise * np.random.default_rng(last).standard_normal(last + 1)
    logs[-1] = logs.min() - 0.5
    line, exponential = judged(logs)
    rate, half, error, spread = fitted(np.exp(logs), last)
    assert (line.verdict, line.where) == (Verdict.OBSERVED, f"layers 0 to {last}")
    assert line.measured == pytest.approx(rate, rel=1e-6)
    told = [float(t) for t in re.findall(r"-?\d[\d.]*(?:e[-+]\d+)?", line.message)]
    assert told[1:3] == pytest.approx([rate - half, rate + half], rel=6e-3)
    assert told[3:] == pytest.approx([error, spread], rel=0.06)
    assert exponential == (rate - half > 0 and error <= 0.25 * spread)


@pytest.mark.parametrize("side", [1 - 1e-6, 1 + 1e-6])
def test_an_approach_is_exponential_if_the_rate_is_positive_and_predicts(side):
    logs, wiggle = 1.0 - np.arange(9.0), np.zeros(9)
    wiggle[1::2] = side * 0.25 * 6  # a quarter of the spread of the odd layers
    line, exponential = judged(logs + wiggle)
    assert (line.measured, exponential) == (pytest.approx(1.0), side < 1)
    # noise on the even layers that leaves the slope and widens its interval up to 0
    wiggle[1::2], wiggle[::2] = 0.0, [1.0, -2.0, 0.0, 2.0, -1.0]
    wiggle *= side / fitted(np.exp(logs + wiggle), 8)[1]
    line, exponential = judged(logs + wiggle)
    assert (line.measured, exponential) == (pytest.approx(1.0), side < 1)


def no_cost(sign: int) -> float:
    """A margin next to rest at which the mean of the computed costs is 0, or below it."""
    m = REST + 1e-10 * np.arange(-500, 500)
    costs = TraceSubject(traced(np.stack([m, m], axis=1))).survey.data_cost
    return float(m[np.sign(costs) == sign][0])


@pytest.mark.parametrize(
    ("last", "without", "enough"),
    [
        (4, {}, False),
        (5, {}, True),
        (6, {}, True),
        (6, {1: 0}, False),
        (6, {1: -1}, False),
        (7, {1: 0}, True),
        (7, {2: -1}, True),
        (7, {2: 0, 4: 0}, False),
    ],
)
def test_a_rate_wants_three_layers_to_fit_and_three_to_judge(last, without, enough):
    m = course(np.exp(-np.append(np.arange(last + 1.0), [last] * 3)))
    for k, sign in without.items():  # no logarithm there
        m[k] = no_cost(sign)
    line = turnpike(traced(m))["rate"]
    assert (line.verdict is Verdict.OBSERVED) is enough
    if enough:
        assert (line.measured, line.where) == (pytest.approx(1.0), f"layers 0 to {last}")


def test_the_rate_is_that_of_what_can_be_avoided():
    """Equal points with different labels: F decays to l* > 0, and F - l* decays by the rate."""
    keys = {"inputs": [[2.0], [2.0]], "labels": [0, 1], "width": 1, "depth": 12}
    problem = small(**keys, activation="identity", readout_weight=[[1.0], [0.0]])
    content = claimed(problem, Controls(A=np.full((12, 1, 1), -0.6), b=np.zeros((12, 1))))
    m = 2.0 * 0.7 ** np.arange(13)
    excess = (cost_at(m) + cost_at(-m)) / 2 - g_mis()
    last = int((excess <= 1.1 * excess[-1] + 1e-3 * g_mis()).argmax())
    line = turnpike(content)["rate"]
    assert line.where == f"layers 0 to {last}"
    assert line.measured == pytest.approx(fitted(excess, last)[0])
