"""Count bounds that hold for every file, and what one file shows: margins and costs by hand."""

import dataclasses
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

TUBES = {"1/8": 1 / 8, "1/4": 1 / 4, "1/2": 1 / 2}
LEVELS = {"1/8": 1 / 8, "1/2": 1 / 2}
COUNTS = (*(f"tube_{text}" for text in TUBES), "misclassified", "level_1/8", "level_1/2")
SHOWN = ("one_file", "leaving", "rate")
#: distance of rest from a tie
BOUNDARY = REST / np.sqrt(2)
THREE = dict(zip(("inputs", "labels"), blobs(n_samples=9, n_classes=3), strict=True))
THREE |= {"n_classes": 3}
TORN = {"inputs": np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), "labels": np.array([0, 1, 1])}
UNSHIFTED = {"activation": "softplus", "shifted": False}


def random(rng=3, scale=0.5, **changes):
    problem = small(**changes)
    return claimed(problem, random_start(problem, np.random.default_rng(rng), scale))


def turnpike(content) -> dict:
    """The lines of the check, by the last part of their names."""
    return {name.partition(".")[2]: line for name, line in lines_of(content, "turnpike").items()}


# --- whom it is about ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "names", "out"),
    [
        (random(**UNSHIFTED), ("counts", "one_file"), ("counts", "one_file")),
        (
            random(activation="sigmoid", shifted=False),
            ("counts", "one_file"),
            ("counts", "one_file"),
        ),
        (traced(np.ones((3, 2)), 1e200), ("counts", "one_file"), ("counts", "one_file")),
        (steered([[1.0, 1.0], [2.0, 1.0]], beta=0, gamma=1.0), ("counts", *SHOWN), ("counts",)),
        (random(p_d=1.0), ("tube", *COUNTS[3:], *SHOWN), ("tube", "leaving", "rate")),
        (random(**UNSHIFTED, block="double"), (*COUNTS, *SHOWN), ()),
        (random(), (*COUNTS, *SHOWN), ()),
    ],
    ids=["softplus", "overflow", "no stage costs", "hard", "double", "plain"],
)
def test_whom_it_is_about(content, names, out):
    lines = turnpike(content)
    assert tuple(lines) == names
    found = {name for name in names if lines[name].verdict is Verdict.NOT_APPLICABLE}
    assert found - {"leaving", "rate"} == set(out) - {"leaving", "rate"}
    assert found >= set(out)


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
        {},
        {"h": 0.25, "gamma": 3.0, "p_d": 0.8},
        THREE,
        TORN | {"depth": 3},
        TORN | {"trained": ("layers", "lift", "readout"), "r_ends": 0.3, "gamma": 2.0},
    ],
    ids=["plain", "other weights", "three classes", "torn", "trained ends"],
)
def test_counts_and_bounds_of_a_network(scheme, changes):
    content = random(scheme=scheme, **changes)
    problem, u = content.problem, content.controls
    N, n_d, n_c, h = problem.depth, problem.n_samples, problem.n_classes, problem.h
    run, target = rollout.rollout(problem, u), problem.soft_targets.copy()
    if "inputs" in changes and n_c == 2:
        target[:2] = 0.5  # equal points share their labels
    z = rollout.logits(problem, u, run.X)
    v = z - z.mean(axis=-1, keepdims=True) - np.log(target)
    distance = np.linalg.norm(v - (v.mean(axis=-1, keepdims=True)), axis=-1)
    kl = (problem.soft_targets * np.log(problem.soft_targets / target)).sum() / n_d
    layer_costs = rollout.layer_costs(problem, u, run)
    ends = [u.lift_weight, u.lift_bias, u.readout_weight, u.readout_bias]
    ends_cost = sum(float((end**2).sum()) for end in ends if end is not None)
    J = h * layer_costs.sum() + problem.gamma * rollout.data_cost(problem, u, run.X[-1])
    excess = J - (h * N + problem.gamma) * kl
    w_1 = {"euler": 1.0, "heun": 1 / 2, "rk4": 1 / 6}[scheme]
    eps = (1 - problem.p_d) / (n_c - 1)
    both = problem.p_d + eps
    mis = sum(t * np.log(2 * t / both) for t in (problem.p_d, eps))
    lines, wanted = turnpike(content), {}
    for text, fraction in TUBES.items():
        e = fraction * np.log(problem.p_d / eps) / np.sqrt(2)
        weakest = min(alpha(e, pi) for pi in target)
        off = (distance[:-1] > e).mean(axis=1).sum()
        wanted[f"tube_{text}"] = (off, excess / (w_1 * h * weakest), N)
    wrong = ~np.stack([loss.is_right(at, problem.labels) for at in z[:-1]])
    J += problem.r_ends / 2 * ends_cost
    wanted["misclassified"] = (wrong.sum(), n_d * J / (w_1 * h * mis), n_d * N)
    for text, fraction in LEVELS.items():
        above = (layer_costs - kl > fraction * mis).sum()
        wanted[f"level_{text}"] = (above, excess / (h * fraction * mis), N)
    for name, (measured, bound, trivial) in wanted.items():
        assert (lines[name].measured, lines[name].bound) == pytest.approx((measured, bound)), name
        informs = Verdict.PROVED if bound < trivial else Verdict.VACUOUS
        assert lines[name].verdict is informs, name


@pytest.mark.parametrize("seed", range(12))
def test_the_count_bounds_hold_for_random_controls(seed):
    rng = np.random.default_rng(seed)
    keys = {"scheme": ("euler", "heun", "rk4")[seed % 3], "block": ("single", "double")[seed % 2]}
    keys |= {"gamma": rng.uniform(0, 2), "p_d": rng.uniform(0.55, 0.999), "h": rng.uniform(0.1, 1)}
    keys |= {"depth": int(rng.integers(1, 9)), "trained": ("layers", "readout"), "r_ends": 0.1}
    lines = turnpike(random(rng, rng.uniform(0, 2), **keys))
    assert {lines[name].verdict for name in COUNTS} <= {Verdict.PROVED, Verdict.VACUOUS}
    assert all(np.isfinite(lines[name].bound) for name in COUNTS)


@pytest.mark.parametrize(
    ("name", "edge", "other", "count"),
    [
        ("tube_1/8", REST * 9 / 8, REST, 3),
        ("tube_1/4", REST * 5 / 4, REST, 3),
        ("tube_1/2", REST * 3 / 2, REST, 3),
        ("misclassified", 0.0, REST, 12),
        ("level_1/8", margin_of(g_mis() / 8), margin_of(g_mis() / 8), 6),
        ("level_1/2", margin_of(g_mis() / 2), margin_of(g_mis() / 2), 6),
    ],
)
def test_files_that_all_but_attain_their_bounds(name, edge, other, count):
    """Six layers, two samples on the edge and two elsewhere: a bound is the count beyond it."""
    outwards = 1e-6 if edge > REST else -1e-6
    for step, measured in ((outwards, count), (-outwards, 0)):
        line = turnpike(steered(np.tile([edge + step, edge + step, other + step, other], (7, 1))))
        assert line[name].measured == (measured if name[0] != "l" or measured else 0)
        assert line[name].bound == pytest.approx(count, rel=1e-4)


def test_only_the_layers_before_the_last_are_counted():
    outside, wrong = REST - 3.0, -1.0
    m = np.array([[REST, REST], [outside, wrong], [REST, wrong], [wrong, wrong]])
    for content in (steered(m), traced(m)):
        lines = turnpike(content)
        assert [lines[f"tube_{text}"].measured for text in TUBES] == [1.5] * 3
        assert lines["misclassified"].measured == 3
        assert [lines[f"level_{text}"].measured for text in LEVELS] == [2, 2]


def test_a_tie_is_wrong():
    lines = turnpike(traced([[0.0, 1e-9], [-1e-9, 0.0], [1.0, 1.0]]))
    assert lines["misclassified"].measured == 3


def on_the_tube():
    """A trace of samples that rounding puts on the tube 1/2 to the last bit."""
    for p in np.linspace(0.6, 0.99, 40):
        m = 1.5 * np.log(p / (1 - p)) + 1e-16 * np.arange(-50, 50)
        subject = TraceSubject(traced([m, m], p_d=p))
        hit = subject.distances[0] == class_distances(subject.problem).boundary / 2
        if hit.any():
            return traced(np.full((2, 2), m[hit][0]), p_d=p)
    raise AssertionError("no margin has that distance")


def test_on_the_tube_is_inside():
    assert turnpike(on_the_tube())["tube_1/2"].measured == 0


def test_a_level_is_counted_strictly_above():
    """Hard targets far beyond the tie: the data cost is 0 exactly, r/2 |u|^2 is the level."""
    hard = loss.misclassification_threshold(2, 1.0)
    for fraction, text in ((1 / 8, "1/8"), (1 / 2, "1/2")):
        norms = np.array([1 - 1e-12, 1.0, 1 + 1e-12])
        content = traced(np.full((4, 2), 200.0), norms, p_d=1.0, r=2 * fraction * hard)
        assert turnpike(content)[f"level_{text}"].measured == 1


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        *((f"tube_{text}", tight(f * BOUNDARY)) for text, f in TUBES.items()),
        ("misclassified", g_mis()),
        *((f"level_{text}", f * g_mis()) for text, f in LEVELS.items()),
    ],
)
def test_a_unit_that_is_rounding_bounds_nothing(name, unit):
    m = np.full((3, 2), 1.0)
    for factor in (1 + 1e-6, 1 - 1e-6):
        h = factor * 1e-14 / unit
        line = turnpike(traced(m, h=h, gamma=2.0))[name]
        samples = 2 if name == "misclassified" else 1
        bound = samples * (2 * h + 2.0) * cost_at(1.0) / (h * unit) if factor > 1 else np.inf
        assert line.bound == pytest.approx(bound)
        assert line.verdict is Verdict.VACUOUS


def test_samples_without_a_distance_are_outside():
    content = traced(np.full((3, 4), REST))
    logits = content.logits.copy()
    logits[1, 2] = 1.7e308  # their mean overflows
    lines = turnpike(dataclasses.replace(content, logits=logits))
    assert [lines[f"tube_{text}"].measured for text in TUBES] == [0.25] * 3


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
    lines = turnpike(make(course(costs)))
    line = lines["one_file"]
    assert (line.measured, line.where) == (entry, f"layer {entry}")
    assert line.verdict is Verdict.OBSERVED
    line = lines["leaving"]
    if low is None:
        assert line.verdict is Verdict.NOT_APPLICABLE
        return
    assert (line.verdict, line.where) == (Verdict.OBSERVED, f"layer {low}")
    if low < len(costs) - 1:
        assert line.measured == pytest.approx(costs[-1] - costs[low])
    else:
        assert line.measured == 0.0


def fitted(costs, last):
    """Slope, half width, error and spread of the logarithms 0..last by their definitions."""
    k, y = np.arange(last + 1), np.log(costs[: last + 1])
    even, odd = k % 2 == 0, k % 2 == 1
    slope, intercept = np.polyfit(k[even], y[even], 1)
    left = y - intercept - slope * k
    m = even.sum()
    scatter = (left[even] ** 2).sum() / (m - 2) / ((k[even] - k[even].mean()) ** 2).sum()
    half = scipy.stats.t.ppf(0.975, m - 2) * np.sqrt(scatter)
    return -slope, half, np.sqrt((left[odd] ** 2).mean()), np.ptp(y[odd])


def judged(costs):
    """The rate's line, and whether it calls the approach exponential."""
    line = turnpike(traced(course(costs)))["rate"]
    return line, not line.message.endswith(": not an exponential approach")


@pytest.mark.parametrize("noise", [0.0, 0.1, 0.5, 2.0])
@pytest.mark.parametrize("last", [5, 6, 9])
def test_a_rate_is_fitted_on_even_layers_and_judged_on_odd_ones(noise, last):
    rng = np.random.default_rng(last)
    k = np.arange(last + 1)
    logs = 2.0 - 0.7 * k + noise * rng.standard_normal(last + 1)
    logs[-1] = logs.min() - 0.5
    costs = np.exp(np.append(logs, logs[-1:].repeat(3)))
    line, exponential = judged(costs)
    rate, half, error, spread = fitted(costs, last)
    assert (line.verdict, line.where) == (Verdict.OBSERVED, f"layers 0 to {last}")
    assert line.measured == pytest.approx(rate, rel=1e-6)
    told = [float(t) for t in re.findall(r"-?\d[\d.]*(?:e[-+]\d+)?", line.message)]
    assert told[1:3] == pytest.approx([rate - half, rate + half], rel=6e-3)
    assert told[3:] == pytest.approx([error, spread], rel=0.06)
    assert exponential == (rate - half > 0 and error <= 0.25 * spread)


@pytest.mark.parametrize("side", [1 - 1e-6, 1 + 1e-6])
def test_an_approach_is_exponential_if_the_rate_is_positive_and_predicts(side):
    k = np.arange(9)
    logs = 1.0 - k.astype(float)
    logs[1::2] += side * 0.25 * 6  # a quarter of the spread of the odd layers
    line, exponential = judged(np.exp(np.append(logs, [logs[-1]] * 3)))
    assert line.measured == pytest.approx(1.0)
    assert exponential is (side < 1)
    # noise on the even layers that leaves the slope and widens its interval up to 0
    logs, wiggle = 1.0 - k.astype(float), np.zeros(9)
    wiggle[::2] = [1.0, -2.0, 0.0, 2.0, -1.0]
    half = fitted(np.exp(logs + wiggle), 8)[1]
    line, exponential = judged(np.exp(np.append(logs + side / half * wiggle, [logs[-1] - 2.0] * 3)))
    assert line.measured == pytest.approx(1.0)
    assert exponential is (side < 1)


def excess_of_no_cost(sign: float) -> float:
    """A margin next to rest at which the mean of the computed costs is 0, or below it."""
    m = REST + 1e-10 * np.arange(-500, 500)
    costs = TraceSubject(traced(np.stack([m, m]).T)).survey.data_cost
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
    costs = np.exp(-np.append(np.arange(last + 1.0), [last] * 3))
    m = course(costs)
    for k, sign in without.items():  # no logarithm there
        m[k] = excess_of_no_cost(sign)
    line = turnpike(traced(m))["rate"]
    assert (line.verdict is Verdict.OBSERVED) is enough
    if enough:
        assert (line.measured, line.where) == (pytest.approx(1.0), f"layers 0 to {last}")


def test_the_rate_is_that_of_what_can_be_avoided():
    """Equal points with different labels: F decays to l* > 0, and F - l* decays by the rate."""
    keys = {"inputs": [[2.0], [2.0]], "labels": [0, 1], "width": 1, "depth": 12}
    problem = small(**keys, activation="identity", readout_weight=[[1.0], [0.0]])
    content = claimed(problem, Controls(A=np.full((12, 1, 1), -0.6), b=np.zeros((12, 1))))
    excess = cost_at(2.0 * 0.7 ** np.arange(13)) + cost_at(-2.0 * 0.7 ** np.arange(13))
    excess = 0.5 * excess - g_mis()
    last = int((excess <= 1.1 * excess[-1] + 1e-3 * g_mis()).argmax())
    line = turnpike(content)["rate"]
    assert line.where == f"layers 0 to {last}"
    assert line.measured == pytest.approx(fitted(excess, last)[0])
