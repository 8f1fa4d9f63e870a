"""Slack of the dissipation inequality: alpha by hand, places that are known, what is sampled."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import logsumexp
from small_minima import small
from steered import EPS, REST, cost_at, distance_at, lines_of, steered, tight, traced
from zoo import claimed

from ocp.controls import random_start, zeros
from ocp.datasets import blobs
from ocp.evaluation import rollout
from ocp.files import TrainingFile
from ocp.problem import Problem
from verification.checks.dissipativity import check_dissipativity
from verification.evaluation.subject import TrainingSubject
from verification.report import Verdict

LINES = [f"dissipativity.{name}" for name in ("alpha", "trajectory", "sampled", "certified")]
UNSHIFTED = {"activation": "softplus", "shifted": False}
THREE = dict(zip(("inputs", "labels"), blobs(n_samples=9, n_classes=3), strict=True))
THREE |= {"n_classes": 3}
#: three classes, the first logit against the other two alike
LINE = THREE | {"readout_weight": np.array([[1.0, 0.0], [-0.5, 0.0], [-0.5, 0.0]])}
#: two equal points with different labels: their target is (1/2, 1/2)
TORN = {"inputs": np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), "labels": np.array([0, 1, 1])}


def random(**changes) -> TrainingFile:
    problem = small(**changes)
    return claimed(problem, random_start(problem, np.random.default_rng(3), 0.5))


def excess(v, pi):
    """log E_pi e^v - E_pi v: near 0 without cancellation, elsewhere as it stands."""
    d = v - (v * pi).sum(axis=-1, keepdims=True)
    small = np.minimum(d, 1.0)
    near = np.log1p(((np.expm1(small) - small) * pi).sum(axis=-1))
    return np.where((np.abs(d) < 1.0).all(axis=-1), near, logsumexp(d, axis=-1, b=pi))


def alpha(s, n_c, least):
    """Exact for two classes, else the closed form with the least entry of the target."""
    if n_c == 2:
        return tight(s, 1 - least)
    rho = (n_c - 1) / n_c
    t = np.sqrt(rho) * s
    series = t**2 / 2 - t**3 / 6 + t**4 / 24 - t**5 / 120
    return least / rho * np.where(t < 1e-2, series, np.expm1(-t) + t)


# --- whom it is about, and alpha ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("content", "names"),
    [
        (random(p_d=1.0), LINES[1:]),
        (random(beta=0), LINES[1:]),
        (random(**UNSHIFTED), LINES[1:]),
        (traced(np.ones((3, 2)), norm=1e200), ["dissipativity"]),  # J overflows
        (traced(np.ones((3, 2)), beta=0), ["dissipativity"]),
        (traced(np.ones((3, 2))), LINES[:2]),
        (random(**UNSHIFTED, block="double"), LINES),
        (random(activation="softplus"), LINES),
    ],
)
def test_whom_it_is_about(content, names):
    lines = lines_of(content, "dissipativity")
    assert list(lines) == names
    wanted = [Verdict.NOT_APPLICABLE] * len(names)
    if names == LINES:
        wanted = [Verdict.PROVED, Verdict.PROVED, Verdict.OBSERVED, Verdict.NOT_CHECKED]
    if names == LINES[:2]:  # the data of a trace are unknown
        wanted = [Verdict.OBSERVED] * 2
    assert [line.verdict for line in lines.values()] == wanted


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"p_d": 0.8}, [0.8, 0.2]),
        ({"p_d": 0.8} | THREE, [0.8, 0.1, 0.1]),
        ({"readout_weight": np.ones((2, 2))}, [0.5, 0.5]),
    ],
)
def test_the_curvature_of_alpha_is_that_of_the_loss_in_its_flattest_direction(changes, target):
    line = lines_of(random(**changes), "dissipativity")["dissipativity.alpha"]
    curvatures = np.linalg.eigvalsh(np.diag(target) - np.outer(target, target))
    assert line.measured == pytest.approx(curvatures[1])  # the first is 0, along (1, .., 1)


# --- along the trajectory -----------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["euler", "heun", "rk4"])
@pytest.mark.parametrize("changes", [THREE, {"block": "double"}, {"p_d": 0.8, "h": 0.25}])
def test_the_least_slack_of_a_network(scheme, changes):
    content = random(scheme=scheme, **changes)
    problem, q = content.problem, content.problem.soft_targets
    stages = rollout.rollout(problem, content.controls).stages
    z = np.stack([rollout.logits(problem, content.controls, stage.X) for stage in stages])
    v = z.reshape(problem.depth, -1, *z.shape[1:]) - np.log(q)
    distance = np.linalg.norm(v - v.mean(axis=-1, keepdims=True), axis=-1)
    slack = excess(v, q) - alpha(distance, problem.n_classes, q.min())
    k, s, i = np.unravel_index(slack.argmin(), slack.shape)
    line = lines_of(content, "dissipativity")["dissipativity.trajectory"]
    assert line.verdict is Verdict.PROVED
    assert -line.measured == pytest.approx(slack.min(), rel=1e-9, abs=1e-15)
    assert line.bound == 0.0
    assert line.where == f"layer {k}{f', stage {s + 1}' if v.shape[1] > 1 else ''}, sample {i}"


@pytest.mark.parametrize(("make", "k", "i"), [(steered, 1, 1), (traced, 3, 0)])
def test_the_least_slack_of_known_margins(make, k, i):
    """Below rest the slack grows with the distance; a file's last layer has no stage point."""
    m = REST - np.array([[0.3, 0.6, 0.9], [0.4, 0.2, 0.5], [0.7, 0.8, 1.0], [0.1, 3.0, 0.3]])
    line = lines_of(make(m), "dissipativity")["dissipativity.trajectory"]
    assert line.where == f"layer {k}, sample {i}"
    assert -line.measured == pytest.approx(cost_at(m[k, i]) - tight(distance_at(m[k, i])))
    rounding = pytest.approx(64 * EPS * (1 + distance_at(m).max()), abs=0)
    assert line.bound == (rounding if make is traced else 0.0)


@pytest.mark.parametrize("p", [0.6, 0.9, 0.999])
@pytest.mark.parametrize("further", [0.1, 1.0, 30.0])
def test_beyond_rest_alpha_is_attained(p, further):
    """A constant that is too large by a trace would contradict the theorem here."""
    content = steered(np.full((3, 2), np.log(p / (1 - p)) + further), p_d=p)
    line = lines_of(content, "dissipativity")["dissipativity.trajectory"]
    assert (line.verdict, line.measured, line.bound) == (Verdict.PROVED, 0.0, 0.0)
    traced_line = lines_of(
        traced(np.full((3, 2), np.log(p / (1 - p)) + further), p_d=p), "dissipativity"
    )
    found = traced_line["dissipativity.trajectory"]
    assert found.verdict is Verdict.OBSERVED
    assert abs(found.measured) <= found.bound < 1e-6 * tight(further / np.sqrt(2), p)


@pytest.mark.parametrize(("least", "farthest"), [(10, 950), (950, 10)])
def test_the_least_slack_over_several_batches(least, farthest):
    """u = 0, margins 2 x; batches of 873 samples."""
    x = np.full(1000, REST / 2 - 1.0)
    x[least], x[farthest], x[-1] = REST / 2 - 0.4, -7.0, 1.0 - REST / 2
    keys = {"inputs": x[:, None], "labels": np.arange(1000) // 999, "n_classes": 2, "width": 1}
    problem = Problem(**keys, depth=300, scheme="heun", readout_weight=[[1.0], [-1.0]])
    content = TrainingFile(problem=problem, controls=zeros(problem))
    line = lines_of(content, "dissipativity")["dissipativity.trajectory"]
    assert line.where == f"layer 0, stage 1, sample {least}"
    assert -line.measured == pytest.approx(cost_at(REST - 0.8) - tight(0.8 / np.sqrt(2)))
    assert line.bound == pytest.approx(64 * EPS * (1 + distance_at(-14.0)), rel=1e-12, abs=0)


@pytest.mark.parametrize("others", [1.0, 1.7e308])
@pytest.mark.parametrize("few", [True, False], ids=["enclosed", "in float64"])
def test_logits_whose_mean_overflows(monkeypatch, others, few):
    """The states are finite and the theorem holds; float64 loses their mean and decides nothing."""
    if not few:
        monkeypatch.setattr(TrainingSubject, "why_not_enclosed", "treated as too large")
    inputs = np.array([[1.7e308, 1.7e308], [others, others], [others, others]])
    problem = small(inputs=inputs, labels=[0, 0, 1])
    content = TrainingFile(problem=problem, controls=zeros(problem))
    line = lines_of(content, "dissipativity")["dissipativity.trajectory"]
    if few:
        assert (line.verdict, line.measured <= 0.0) == (Verdict.PROVED, True)
        return
    assert (line.verdict, line.where) == (Verdict.INCONCLUSIVE, "the size of a logit overflows")
    assert np.isnan(line.measured)


def test_a_readout_of_rank_0_leaves_nothing_to_sample_and_no_proof():
    lines = lines_of(random(readout_weight=np.ones((2, 2))), "dissipativity")
    assert [line.verdict for line in lines.values()] == [
        *(Verdict.OBSERVED, Verdict.OBSERVED, Verdict.NOT_APPLICABLE, Verdict.NOT_CHECKED)
    ]
    assert "rank 0" in lines["dissipativity.sampled"].message


# --- sampled ------------------------------------------------------------------------------------


def sample(softmaxes, reached):
    """The sample that the line describes: target, softmax, centred logits of random lengths.

    reached : the projection on what the readout can reach, (n_c, n_c)
    """
    rng = np.random.default_rng(271828)
    kinds = min(len(softmaxes), 100)
    for kind, pi in enumerate(softmaxes[:kinds]):
        m, n_c = 200_000 // kinds, len(pi)
        isotropic = rng.standard_normal((m, n_c))
        signs = np.where(rng.random((m, n_c)) < rng.random((m, 1)), 1.0, -1.0)
        top = np.tile(np.eye(n_c)[pi.argmax()], (m, 1))
        top[np.arange(m), rng.integers(0, n_c, m)] -= rng.random(m)
        for direction in (isotropic, signs, top):
            v = (direction - direction.mean(axis=1, keepdims=True)) @ reached
            length = np.linalg.norm(v, axis=1)
            v = v[length > 1e-9] / length[length > 1e-9, None]
            yield kind, pi, v * 10.0 ** rng.uniform(-4, 3, (len(v), 1))


@pytest.mark.parametrize(
    ("changes", "softmaxes", "direction"),
    [
        (THREE, [[1, 1, 18], [1, 18, 1], [18, 1, 1]], None),
        # near uniform targets the least slack is that of few logits that move together
        (THREE | {"p_d": 0.35}, [[13, 13, 14], [13, 14, 13], [14, 13, 13]], None),
        # the first logit alone can be met, the others share the rest of the target
        (LINE, [[2, 19, 19], [2, 19, 19], [36, 2, 2]], [2, -1, -1]),
    ],
    ids=["three classes", "nearly uniform", "rank 1"],
)
def test_who_draws_the_same_sample_finds_the_same_slack(changes, softmaxes, direction):
    line = lines_of(random(**changes), "dissipativity")["dissipativity.sampled"]
    softmaxes = np.array(softmaxes) / np.sum(softmaxes, axis=1, keepdims=True)
    reached = np.eye(3) if direction is None else np.outer(direction, direction) / 6
    count, least = 0, np.inf
    for kind, pi, v in sample(softmaxes, reached):
        s = np.linalg.norm(v, axis=1)
        slack, rounding = excess(v, pi) - alpha(s, 3, pi.min()), 64 * EPS * (1 + s)
        count, at = count + len(v), (slack / rounding).argmin()
        if slack[at] / rounding[at] < least:
            least, wanted = slack[at] / rounding[at], (-slack[at], rounding[at])
            where = f"target {kind}, s={s[at]:.3g}"
    assert (line.measured, line.bound) == pytest.approx(wanted, rel=1e-6, abs=0)
    assert (line.where, line.verdict) == (where, Verdict.OBSERVED)
    assert f"over {count} logit vectors, seed 271828," in line.message


def test_at_most_a_hundred_targets_share_the_sample():
    """Groups of equal points, of which a share has label 1: every share is a target."""
    shares = [(j, of) for of in range(1, 20) for j in range(of + 1) if np.gcd(j, of) == 1]
    labels = np.concatenate([np.arange(of) < j for j, of in shares]).astype(int)
    inputs = np.repeat(np.arange(len(shares)), [of for _, of in shares])[:, None] * 0.01
    problem = small(inputs=inputs, labels=labels, depth=1)
    content = TrainingFile(problem=problem, controls=zeros(problem))
    line = lines_of(content, "dissipativity")["dissipativity.sampled"]
    second = np.sort([0.1 + 0.8 * j / of for j, of in shares])
    assert len(second) > 100
    count = sum(len(v) for *_, v in sample(np.stack([second, 1 - second], axis=1), np.eye(2)))
    assert f"over {count} logit vectors" in line.message
    assert line.verdict is Verdict.OBSERVED


# --- certified ----------------------------------------------------------------------------------


def certified(**changes):
    """The verdicts of the certified lines, where they are asked for."""
    lines = check_dissipativity(TrainingSubject(random(**changes), certify=True))
    return {line.verdict for line in lines if line.name.startswith("dissipativity.certified")}


def test_the_certified_constant_is_that_of_the_plain_target():
    pytest.importorskip("flint")
    assert certified() == {Verdict.PROVED}
    assert certified(**LINE) == certified(**TORN) == {Verdict.NOT_APPLICABLE}


def test_without_ball_arithmetic_it_is_not_checked():
    program = "import sys; sys.modules['flint'] = None; import test_dissipativity as here;"
    program += "print(*[verdict.value for verdict in here.certified()])"
    path = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    command = [sys.executable, "-c", program]
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=path)
    assert found.stdout == "not checked\n"
