"""Geometry does not see a common offset of the logits, nor how large a bias is."""

import numpy as np
import pytest
import scipy.optimize
from closed_forms import statement
from small_minima import small, solved
from zoo import claimed

from ocp import loss
from ocp.controls import random_start, zeros
from ocp.datasets import blobs
from verification import Verdict, verify_content
from verification.evaluation.minimisers import Minimisers


def judged(problem, controls=None, only=()):
    controls = zeros(problem) if controls is None else controls
    return verify_content([claimed(problem, controls)], only=only)


def three(**changes):
    inputs, labels = blobs(n_samples=9, n_classes=3)
    return small(inputs=inputs, labels=labels, n_classes=3, **changes)


@pytest.mark.parametrize("size", [1.0, 1e3, 1e5, 1e8, 1e12])
def test_a_large_bias_is_another_problem_with_the_same_geometry(size):
    for problem in (small(readout_bias=[size, 0.0]), three(readout_bias=[0.0, size, -size])):
        report = judged(problem, only=["geometry"])
        assert report.named("geometry.rank").verdict is Verdict.PASSED
        found = report.named("geometry.minimisers")
        # at 1e12 one rounding of the logits is 1e-4: nothing can be told, and nothing is
        wanted = Verdict.PASSED if size < 1e8 else (Verdict.PASSED, Verdict.INCONCLUSIVE)
        assert found.verdict in np.atleast_1d(wanted)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_a_rescaled_readout_keeps_the_verdicts(scale):
    report = judged(three(readout_weight=scale * np.eye(3)[:, :2] * 2), only=["geometry"])
    assert report.verdict is Verdict.PASSED


@pytest.mark.parametrize("offset", [1.0, -1024.0, 2.0**20, 2.0**30])
def test_a_common_offset_of_the_logits_changes_nothing(offset):
    problem, u = solved(readout_bias=(0.5, -0.25))
    moved = problem.with_(readout_bias=problem.readout_bias + offset)
    only = ("statement", "first_order", "second_order", "geometry", "turnpike", "depth")
    one, two = (judged(p, u, only) for p in (problem, moved))
    assert [(e.name, e.verdict) for e in one.entries] == [(e.name, e.verdict) for e in two.entries]
    for a, b in zip(one.entries, two.entries, strict=True):
        if not a.name.endswith("licq"):
            assert a.measured == pytest.approx(b.measured, rel=1e-6, abs=1e-11, nan_ok=True)


@pytest.mark.parametrize(
    ("weight", "bias", "rank"),
    [
        (np.zeros((3, 2)), [0.0, 0.0, 0.0], 0),
        (np.ones((3, 2)), [1.0, 0.0, 0.0], 0),
        (np.full((3, 2), 0.1), [0.0, 0.0, 0.0], 0),  # equal rows, whose mean is rounded
        ([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], [0.0, 0.0, 0.0], 1),
        ([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], [800.0, 0.0, 0.0], 1),
        ([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]], [0.0, 0.0, 800.0], 1),
    ],
)
def test_deficient_readouts_get_verdicts(weight, bias, rank):
    problem = three(readout_weight=weight, readout_bias=bias)
    u = random_start(problem, np.random.default_rng(0), 0.5)
    report = judged(problem, u)
    assert report.exit_code in (0, 1, 3)
    for name in ("geometry.rank", "geometry.minimisers"):
        line = report.named(name)
        assert (line.verdict, line.kind) == (Verdict.NOT_APPLICABLE, "claim")
    assert f"rank {rank} < n_classes - 1 = 2" in report.named("geometry.rank").message


@pytest.mark.parametrize("bias", [[0.0, 0.0, 0.0], [5.0, -3.0, 0.0], [800.0, 0.0, 0.0]])
def test_the_least_loss_of_a_deficient_readout_is_the_least(bias):
    """Against a scalar minimisation along the readout's only direction."""
    weight = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    problem = three(readout_weight=weight, readout_bias=bias)
    found = Minimisers(problem, zeros(problem))
    for target, z in zip(found.target, found.minimiser, strict=True):

        def value(t, target=target):
            return float(loss.soft_cross_entropy(t * weight[:, 0] + np.array(bias), target))

        best = scipy.optimize.minimize_scalar(
            value, bounds=(-900.0, 900.0), method="bounded", options={"xatol": 1e-10}
        )
        assert loss.soft_cross_entropy(z, target) == pytest.approx(best.fun, rel=1e-10, abs=1e-12)


def test_one_layer_without_any_direction_is_judged():
    problem = statement(readout_weight=np.zeros((2, 1)), readout_bias=[0.0, 0.0])
    assert judged(problem).exit_code in (0, 1, 3)
