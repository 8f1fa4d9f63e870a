"""Slack of the dissipation inequality: alpha by hand, places that are known, what is sampled."""

import subprocess
import sys

import mpmath
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
from ocp.trace import Trace
from verification.checks.dissipativity import check_dissipativity
from verification.evaluation.subject import TrainingSubject
from verification.report import Verdict

NAMES = ("trajectory", "sampled", "certified")
THREE = dict(zip(("inputs", "labels"), blobs(n_samples=9, n_classes=3), strict=True))
THREE |= {"n_classes": 3}
#: two equal points with different labels: their target is (1/2, 1/2)
TORN = {"inputs": np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), "labels": np.array([0, 1, 1])}
#: three classes, the first logit against the other two alike
LINE = THREE | {"readout_weight": np.array([[1.0, 0.0], [-0.5, 0.0], [-0.5, 0.0]])}
UNSHIFTED = {"activation": "softplus", "shifted": False}
#: a readout of rank 0 leaves no direction to sample
NOTHING_TO_SAMPLE = pytest.mark.xfail(strict=True, raises=ValueError)
BELOW = REST - np.array([[0.3, 0.6, 0.9], [0.4, 0.2, 0.5], [0.7, 0.8, 1.0], [0.1, 3.0, 0.3]])


def random(**changes) -> TrainingFile:
    problem = small(**changes)
    return claimed(problem, random_start(problem, np.random.default_rng(3), 0.5))


def still(inputs, depth=3, **changes) -> TrainingFile:
    """u = 0 and the margins 2 x of the inputs, all of class 0 but the last."""
    labels = np.append(np.zeros(len(inputs) - 1, dtype=int), 1)
    keys = {"n_classes": 2, "depth": depth, "width": 1, "readout_weight": [[1.0], [-1.0]]}
    problem = Problem(
        inputs=np.array(inputs, dtype=float)[:, None], labels=labels, **keys | changes
    )
    return TrainingFile(problem=problem, controls=zeros(problem))


# --- whom it is about ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        random(p_d=1.0),
        random(beta=0),
        random(**UNSHIFTED),
        still([1.0, -1e300], activation="identity", readout_weight=[[1e300], [-1e300]]),
    ],
    ids=["hard targets", "no stage costs", "no equilibrium", "overflow"],
)
def test_where_it_is_no_statement(content):
    lines = lines_of(content, "dissipativity")
    assert list(lines) == [f"dissipativity.{name}" for name in NAMES]
    assert {line.verdict for line in lines.values()} == {Verdict.NOT_APPLICABLE}


@pytest.mark.parametrize(
    "changes", [{}, UNSHIFTED | {"block": "double"}, {"activation": "softplus"}]
)
def test_where_it_is_one(changes):
    lines = lines_of(random(**changes), "dissipativity")
    assert list(lines) == [f"dissipativity.{name}" for name in ("alpha", *NAMES)]
    proved = [Verdict.PROVED] * 3 + [Verdict.NOT_CHECKED]
    assert [line.verdict for line in lines.values()] == proved


@pytest.mark.parametrize(
    ("changes", "target"),
    [
        ({"p_d": 0.8}, [0.8, 0.2]),
        ({"p_d": 0.8} | THREE, [0.8, 0.1, 0.1]),
        pytest.param({"readout_weight": np.ones((2, 2))}, [0.5, 0.5], marks=NOTHING_TO_SAMPLE),
    ],
)
def test_the_curvature_of_alpha_is_that_of_the_loss_in_its_flattest_direction(changes, target):
    line = lines_of(random(**changes), "dissipativity")["dissipativity.alpha"]
    pi = np.array(target)
    curvatures = np.linalg.eigvalsh(np.diag(pi) - np.outer(pi, pi))
    assert line.measured == pytest.approx(curvatures[1])  # the first is 0, along (1, .., 1)


# --- along the trajectory -----------------------------------------------------------------------


def exact_slack(z, label, n_c, p):
    """g - alpha(dist_z) of one sample, and dist_z, in fifty digits."""
    with mpmath.workdps(50):
        p = mpmath.mpf(p)
        eps, rho = (1 - p) / (n_c - 1), mpmath.mpf(n_c - 1) / n_c
        q = [p if j == label else eps for j in range(n_c)]
        v = [mpmath.mpf(float(t)) - mpmath.log(w) for t, w in zip(z, q, strict=True)]
        v = [t - mpmath.fsum(v) / n_c for t in v]
        s = mpmath.sqrt(mpmath.fsum(t**2 for t in v))
        g = mpmath.log(mpmath.fsum(w * mpmath.exp(t) for t, w in zip(v, q, strict=True)))
        g -= mpmath.fsum(w * t for t, w in zip(v, q, strict=True))
        root = mpmath.sqrt(2) * s
        if n_c == 2:
            bound = mpmath.log(p + (1 - p) * mpmath.exp(-root)) + (1 - p) * root
        else:
            root = mpmath.sqrt(rho) * s
            bound = eps / rho * (mpmath.exp(-root) + root - 1)
        return float(g - bound), float(s)


def exact_slacks(z, labels, n_c, p):
    """Both for logits (..., n_d, n_c)."""
    found = [exact_slack(z[at], labels[at[-1]], n_c, p) for at in np.ndindex(z.shape[:-1])]
    return np.array(found).T.reshape(2, *z.shape[:-1])


@pytest.mark.parametrize("scheme", ["euler", "heun", "rk4"])
@pytest.mark.parametrize("changes", [{}, THREE, {"block": "double"}, {"p_d": 0.8, "h": 0.25}])
def test_the_least_slack_of_a_network(scheme, changes):
    content = random(scheme=scheme, **changes)
    problem = content.problem
    line = lines_of(content, "dissipativity")["dissipativity.trajectory"]
    stages = rollout.rollout(problem, content.controls).stages
    z = np.stack([rollout.logits(problem, content.controls, stage.X) for stage in stages])
    z = z.reshape(problem.depth, -1, *z.shape[1:])
    slack, distance = exact_slacks(z, problem.labels, problem.n_classes, problem.p_d)
    k, s, i = np.unravel_index(slack.argmin(), slack.shape)
    stage = f", stage {s + 1}" if z.shape[1] > 1 else ""
    assert line.verdict is Verdict.PROVED
    assert -line.measured == pytest.approx(slack.min(), rel=1e-9, abs=1e-15)
    assert line.where == f"layer {k}{stage}, sample {i}"
    assert line.bound == pytest.approx(64 * EPS * (1 + distance.max()), rel=1e-9, abs=0)


@pytest.mark.parametrize("make", [steered, traced])
def test_the_least_slack_of_known_margins(make):
    """Below rest the slack grows with the distance; a file's last layer has no stage point."""
    slack = cost_at(BELOW) - tight(distance_at(BELOW))
    lines = lines_of(make(BELOW), "dissipativity")
    line = lines["dissipativity.trajectory"]
    last = None if make is traced else -1
    k, i = np.unravel_index(slack[:last].argmin(), slack[:last].shape)
    assert (k, i) == ((3, 0) if make is traced else (1, 1))
    assert line.where == f"layer {k}, sample {i}"
    assert -line.measured == pytest.approx(slack[k, i], rel=1e-9)
    assert line.bound == pytest.approx(64 * EPS * (1 + distance_at(BELOW)[:last].max()), abs=0)
    assert line.verdict is Verdict.PROVED
    assert len(lines) == (2 if make is traced else 4)


@pytest.mark.parametrize("p", [0.6, 0.9, 0.999])
def test_beyond_rest_alpha_is_attained(p):
    """A constant that is too large by a trace would contradict the theorem here."""
    rest = np.log(p / (1 - p))
    for distance in (0.1, 1.0, 30.0):
        content = steered(np.full((3, 2), rest + distance), p_d=p)
        line = lines_of(content, "dissipativity")["dissipativity.trajectory"]
        assert line.verdict is Verdict.PROVED
        assert abs(line.measured) <= line.bound < 1e-6 * tight(distance / np.sqrt(2), p)


@pytest.mark.parametrize(("least", "farthest"), [(10, 950), (950, 10)])
def test_the_least_slack_over_several_batches(least, farthest):
    inputs = np.full(1000, REST / 2 - 1.0)
    inputs[least], inputs[farthest] = REST / 2 - 0.4, -7.0
    inputs[-1] = -inputs[0]
    content = still(inputs, depth=300, scheme="heun")  # batches of 873 samples
    line = lines_of(content, "dissipativity")["dissipativity.trajectory"]
    assert line.where == f"layer 0, stage 1, sample {least}"
    assert -line.measured == pytest.approx(cost_at(2 * inputs[least]) - tight(0.8 / np.sqrt(2)))
    assert line.bound == pytest.approx(64 * EPS * (1 + distance_at(-14.0)), rel=1e-12, abs=0)


def test_logits_whose_mean_overflows_fail():
    inputs = np.array([[1.7e308, 1.7e308], [1.0, 0.0], [0.0, 1.0]])
    problem = small(inputs=inputs, labels=[0, 0, 1])
    content = TrainingFile(problem=problem, controls=zeros(problem))
    line = lines_of(content, "dissipativity")["dissipativity.trajectory"]
    assert (line.verdict, line.where) == (Verdict.FAILED, "a state is not finite")
    assert np.isnan(line.measured)


def test_the_slack_of_a_trace():
    logits = np.random.default_rng(0).standard_normal((5, 7, 3))
    labels, keys = np.arange(7) % 3, {"h": 0.5, "p_d": 0.8, "r": 1e-2, "gamma": 1.0}
    keys |= {"logits": logits, "labels": labels, "control_norm": np.ones(4), "n_classes": 3}
    line = lines_of(Trace(depth=4, beta=1, **keys), "dissipativity")["dissipativity.trajectory"]
    slack, distance = exact_slacks(logits, labels, 3, 0.8)
    k, i = np.unravel_index(slack.argmin(), slack.shape)
    assert (-line.measured, line.where) == (pytest.approx(slack.min()), f"layer {k}, sample {i}")
    assert line.bound == pytest.approx(64 * EPS * (1 + distance.max()), rel=1e-9, abs=0)
    lines = lines_of(Trace(depth=4, beta=0, **keys), "dissipativity")
    assert [(line.name, line.verdict) for line in lines.values()] == [
        ("dissipativity", Verdict.NOT_APPLICABLE)
    ]


# --- sampled ------------------------------------------------------------------------------------


def sample(softmaxes, reached):
    """The sample that the line describes, target by target: centred logits of random lengths.

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
            length = np.linalg.norm(v, axis=1, keepdims=True)
            v = (v / np.where(length > 1e-9, length, np.nan))[length[:, 0] > 1e-9]
            yield kind, pi, v * 10.0 ** rng.uniform(-4, 3, (len(v), 1))


def excess(v, pi):
    """log E_pi e^v - E_pi v: near 0 without cancellation, elsewhere as it stands."""
    d = v - (v @ pi)[:, None]
    small = np.minimum(d, 1.0)
    near = np.log1p((np.expm1(small) - small) @ pi)
    return np.where((np.abs(d) < 1.0).all(axis=1), near, logsumexp(d, axis=1, b=pi))


@pytest.mark.parametrize(
    ("changes", "softmaxes", "reached"),
    [
        (THREE, np.array([[1, 1, 18], [1, 18, 1], [18, 1, 1]]) / 20, np.eye(3)),
        # the first logit alone can be met, the others share the rest of the target
        (
            LINE,
            np.array([[2, 19, 19], [2, 19, 19], [36, 2, 2]]) / 40,
            np.outer([2, -1, -1], [2, -1, -1]) / 6,
        ),
    ],
    ids=["full rank", "rank 1"],
)  # fmt: skip
def test_who_draws_the_same_sample_finds_the_same_slack(changes, softmaxes, reached):
    line = lines_of(random(**changes), "dissipativity")["dissipativity.sampled"]
    count, least = 0, np.inf
    for kind, pi, v in sample(softmaxes, reached):
        s, root = np.linalg.norm(v, axis=1), np.sqrt(2 / 3) * np.linalg.norm(v, axis=1)
        phi = np.where(root < 1e-2, root**2 / 2 - root**3 / 6 + root**4 / 24 - root**5 / 120,
                       np.expm1(-root) + root)  # fmt: skip
        slack = excess(v, pi) - pi.min() * 1.5 * phi
        relative = slack / (64 * EPS * (1 + s))
        count, at = count + len(v), relative.argmin()
        if relative[at] < least:
            least, wanted = relative[at], (-slack[at], 64 * EPS * (1 + s[at]))
            where = f"target {kind}, s={s[at]:.3g}"
    assert (line.measured, line.bound) == pytest.approx(wanted, rel=1e-6, abs=0)
    assert line.where == where
    assert line.verdict is Verdict.PROVED
    assert f"over {count} logit vectors, seed 271828," in line.message


def test_at_most_a_hundred_targets_share_the_sample():
    """Groups of equal points, of which a share has label 1: every share is a target."""
    shares = [(j, of) for of in range(1, 20) for j in range(of + 1) if np.gcd(j, of) == 1]
    labels = np.concatenate([np.arange(of) < j for j, of in shares]).astype(int)
    inputs = np.repeat(np.arange(len(shares)), [of for _, of in shares])[:, None] * 0.01
    problem = small(inputs=inputs, labels=labels, depth=1)
    line = lines_of(TrainingFile(problem=problem, controls=zeros(problem)), "dissipativity")
    softmaxes = np.sort([0.1 + 0.8 * j / of for j, of in shares])
    assert len(softmaxes) > 100
    drawn = sample(np.stack([softmaxes, 1 - softmaxes], axis=1), np.eye(2))
    count = sum(len(v) for *_, v in drawn)
    assert f"over {count} logit vectors" in line["dissipativity.sampled"].message
    assert line["dissipativity.sampled"].verdict is Verdict.PROVED


# --- certified ----------------------------------------------------------------------------------


def certified(**changes):
    """The certified lines of random controls, where they are asked for."""
    lines = check_dissipativity(TrainingSubject(random(**changes), certify=True))
    return [line for line in lines if line.name.startswith("dissipativity.certified")]


def test_the_certified_constant_is_that_of_the_plain_target():
    for changes in (LINE, TORN):
        assert [line.verdict for line in certified(**changes)] == [Verdict.NOT_APPLICABLE]
    assert {line.verdict for line in certified()} == {Verdict.PROVED}


def test_without_ball_arithmetic_it_is_not_checked():
    program = "import sys; sys.modules['flint'] = None; import test_dissipativity as here;"
    program += "print(*[line.verdict.value for line in here.certified()])"
    command = [sys.executable, "-c", program]
    path = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    found = subprocess.run(command, capture_output=True, text=True, check=True, env=path)
    assert found.stdout == "not checked\n"
