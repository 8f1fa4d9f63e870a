"""Enclosures of costs, counts, bounds and slacks hold the numbers of sixty digits."""

from fractions import Fraction

import mpmath
import numpy as np
import pytest
import sixty_digits
from sixty_digits import Network, distance, divergence
from small_minima import small
from steered import lines_of, steered

from ocp import activations
from ocp.controls import Controls, random_start, zeros
from ocp.evaluation.rollout import objective
from ocp.files import TrainingFile
from ocp.problem import SCHEMES, Problem
from verification.balls import count_bounds
from verification.balls.enclosures import enclose, evaluated
from verification.balls.slack import minus_least_slack
from verification.report import Between, Verdict

pytest.importorskip("flint")

COUNTS = ["tube_1/8", "tube_1/4", "tube_1/2", "misclassified", "level_1/8", "level_1/2"]
THEOREMS = ("dissipativity", "turnpike", "depth", "gap")
ENDS = {"trained": ("layers", "lift", "readout"), "r_ends": 0.25}
TORN = {"inputs": np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), "labels": np.array([0, 1, 1])}


def drawn(seed: int, **changes) -> tuple[Problem, Controls]:
    rng = np.random.default_rng(seed)
    n_c = int(rng.integers(2, 5))
    keys = {
        "inputs": rng.standard_normal((5, 2)), "labels": np.arange(5) % n_c, "n_classes": n_c,
        "depth": 3, "width": 3, "p_d": float(rng.uniform(0.6, 0.95)), "r": 0.01, "h": 0.3,
        "readout_weight": 2 * rng.standard_normal((n_c, 3)),
        "readout_bias": rng.standard_normal(n_c), "lift_bias": rng.standard_normal(3),
        "gamma": 0.7, "beta": int(rng.integers(2)),
    }  # fmt: skip
    problem = Problem(**(keys | changes))
    return problem, random_start(problem, rng, 0.8)


def holds(found: Between, exact, width: float = 1e-14) -> bool:
    """Whether the interval contains the number and is hardly wider than a float."""
    low, high = mpmath.mpf(found.lower), mpmath.mpf(found.upper)
    return low <= exact <= high and high - low <= width * (1 + abs(exact))


# --- costs --------------------------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, ENDS], ids=["fixed ends", "trained ends"])
@pytest.mark.parametrize("activation", activations.NAMES)
@pytest.mark.parametrize(
    ("scheme", "block"), [("euler", "double"), ("heun", "single"), ("rk4", "single")]
)
def test_costs_of_a_network_cropped_idled_and_extended(scheme, block, activation, changes):
    problem, u = drawn(
        len(activation), scheme=scheme, block=block, activation=activation, **changes
    )
    found = enclose(problem, u)
    with mpmath.workdps(60):
        assert holds(found.objective(), Network(problem, u).objective())
        for k in range(1, problem.depth + 1):
            shallow = Network(problem.with_(depth=k), u.layers(0, k))
            assert holds(found.cropped(k), shallow.objective())
            assert holds(evaluated(problem.with_(depth=k), u.layers(0, k)), shallow.objective())
            if problem.sigma.zero_at_zero or block == "double":
                assert holds(found.idled(k), Network(problem, u.idled(k)).objective())
        if problem.sigma.zero_at_zero or block == "double":
            longer = u.followed_by(zeros(problem.with_(depth=2)))
            exact = Network(problem.with_(depth=5), longer).objective()
            assert holds(found.extended(2), exact)


def test_byte_inputs_hard_targets_and_a_common_offset_of_the_logits():
    rng = np.random.default_rng(3)
    keys = {"inputs": rng.integers(0, 256, (5, 2), dtype=np.uint8), "input_scale": 0.1}
    problem, u = drawn(2, p_d=1.0, beta=1, **keys, input_shift=-0.3)
    with mpmath.workdps(60):
        exact = Network(problem, u).objective()
        # byte inputs: scale * byte + shift is not rounded
        s = [[mpmath.mpf(0.1) * int(b) - mpmath.mpf(0.3) for b in row] for row in problem.inputs]
        assert max(abs(a - b) for a, b in zip(s[0], problem.input_values[0], strict=True)) < 1e-14
        assert (
            holds(enclose(problem, u).objective(), exact, 1e-13)
            or abs(mpmath.mpf(enclose(problem, u).objective().lower) - exact) < 1e-13
        )
    far = problem.with_(readout_bias=np.array(problem.readout_bias) * 0.0 + 2.0**40)
    near = problem.with_(readout_bias=np.zeros(problem.n_classes))
    assert enclose(far, u).objective() == enclose(near, u).objective()


def test_more_bits_where_the_first_ones_are_lost():
    """Away by 1e40 and back: the state is lost in float64 and in 128 bits, and not in 256."""
    problem = small(depth=2, activation="identity", h=1.0, r=0.0, beta=0)
    u = Controls(A=np.zeros((2, 2, 2)), b=np.array([[1e40, 0.0], [-1e40, 0.0]]))
    found = enclose(problem, u)
    assert found.bits == 256
    with mpmath.workdps(120):
        exact = Network(problem, u).objective()
        assert holds(found.objective(), exact)
        assert float(objective(problem, u)) != pytest.approx(float(exact), rel=1e-3)


@pytest.mark.parametrize("activation", activations.NAMES)
@pytest.mark.parametrize("at", [-1e150, 1e150])
def test_logits_of_any_size_are_enclosed(activation, at):
    """States of 1e150: no exponential of their size is formed, and no common offset is rounded."""
    problem, u = drawn(1, inputs=np.full((5, 2), at), activation=activation, beta=1, depth=2)
    blind = problem.with_(readout_weight=np.tile([[1.0, 2.0, 3.0]], (problem.n_classes, 1)))
    for made in (problem, blind):
        found = enclose(made, u)
        ends = [*found.objective(), *evaluated(made, u)]
        assert np.isfinite(ends).all()
        assert ends[0] == pytest.approx(ends[3], rel=1e-12)


def test_what_128_bits_leave_open_256_decide():
    """A slack of 1e-40: two classes, 1e-9 below the minimiser of nearly even targets."""
    p = 0.5 + 2.0**-40
    content = steered(np.full((3, 2), 2 * np.arctanh(2 * p - 1) - 1e-9), p_d=p)
    measured, _ = minus_least_slack(enclose(content.problem, content.controls, (128,)))
    assert measured.upper > 0.0 > measured.lower
    assert lines_of(content, "dissipativity")["dissipativity.trajectory"].verdict is Verdict.PROVED


# --- counts and bounds --------------------------------------------------------------------------


def exact_sides(problem: Problem, u: Controls) -> dict[str, tuple]:
    """Counts and bounds at 60 digits."""
    net = Network(problem, u)
    N, n_d, labels = problem.depth, problem.n_samples, problem.labels.tolist()
    targets = [net.target(y) for y in labels]
    least = mpmath.mpf(0)
    if problem.n_samples == 3:  # torn: the first two inputs are equal
        mean = [(a + b) / 2 for a, b in zip(targets[0], targets[1], strict=True)]
        logs = [mpmath.log(v) for v in mean]
        least = (divergence(targets[0], logs) + divergence(targets[1], logs)) / 3
        targets[:2] = [mean, mean]
    h, gamma, w = mpmath.mpf(problem.h), mpmath.mpf(problem.gamma), net.weights[0]
    mis, q = sixty_digits.g_mis(net.target(0)), net.target(0)
    J = net.objective()
    excess = J - net.ends_cost - (h * N + gamma) * least
    sides = {}
    for text in ("1/8", "1/4", "1/2"):
        e = sixty_digits.fraction(text) * mpmath.log(max(q) / min(q)) / mpmath.sqrt(2)
        far = sum(
            distance(t, z) > e for k in range(N) for t, z in zip(targets, net.at(k), strict=True)
        )
        bound = excess / (w * h * min(sixty_digits.alpha(e, t) for t in targets))
        sides[f"tube_{text}"] = (Fraction(int(far), n_d), bound)
    wrong = sum(
        any(z[j] >= z[y] for j in range(len(z)) if j != y)
        for k in range(N)
        for z, y in zip(net.at(k), labels, strict=True)
    )
    sides["misclassified"] = (int(wrong), n_d * J / (w * h * mis))
    for text in ("1/8", "1/2"):
        eta = sixty_digits.fraction(text) * mis
        above = sum(net.layer_cost(k) - least > eta for k in range(N))
        sides[f"level_{text}"] = (int(above), excess / (h * eta))
    return sides


def sides_of(found, name: str):
    kind, _, text = name.partition("_")
    if kind == "misclassified":
        return count_bounds.wrong_sides(found)
    make = count_bounds.tube_sides if kind == "tube" else count_bounds.level_sides
    return make(found, Fraction(text))


@pytest.mark.parametrize("changes", [{}, TORN | {"n_classes": 2}, ENDS | {"block": "double"}])
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("seed", range(4))
def test_counts_are_decided_and_bounds_enclosed(seed, scheme, changes):
    keys = (
        {"readout_weight": np.eye(2, 3), "readout_bias": np.zeros(2)} if "inputs" in changes else {}
    )
    problem, u = drawn(seed, scheme=scheme, beta=1, **keys, **changes)
    found = enclose(problem, u)
    with mpmath.workdps(60):
        for name, (count, bound) in exact_sides(problem, u).items():
            measured, enclosed = sides_of(found, name)
            assert measured == (count, count), name
            assert holds(enclosed, bound), name


@pytest.mark.parametrize("n_c", [2, 3, 4])
@pytest.mark.parametrize("seed", range(3))
def test_the_least_slack_is_enclosed(seed, n_c):
    problem, u = drawn(seed, beta=1, n_classes=n_c, labels=np.arange(5) % n_c, scheme="heun",
                       readout_weight=np.eye(n_c, 3) * 2, readout_bias=np.zeros(n_c))  # fmt: skip
    measured, (k, s, i) = minus_least_slack(enclose(problem, u))
    with mpmath.workdps(60):
        net = Network(problem, u)
        slack = {
            (k, s, i): divergence(q, z) - sixty_digits.alpha(distance(q, z), q)
            for k, stages in enumerate(net.stages)
            for s, logits in enumerate(stages)
            for i, z in enumerate(logits)
            for q in [net.target(problem.labels[i])]
        }
        least = min(slack.values())
        assert mpmath.mpf(measured.lower) - 1e-55 <= -least <= mpmath.mpf(measured.upper) + 1e-55
        assert measured.upper - measured.lower < 1e-14
        assert slack[k, s, i] - least < 1e-30
    assert measured.upper <= 0.0


def test_logits_that_overflow_when_squared_have_a_slack():
    """1e200: their distance is infinite in float64, and so was the contradiction."""
    content = TrainingFile(
        problem=(problem := small(inputs=[[1e200, 0.0], [0.0, 1.0], [1.0, 1.0]], labels=[1, 0, 1])),
        controls=zeros(problem),
    )
    line = lines_of(content, "dissipativity")["dissipativity.trajectory"]
    assert (line.verdict, line.measured <= 0.0) == (Verdict.PROVED, True)
