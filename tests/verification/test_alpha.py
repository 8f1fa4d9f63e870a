"""The lower bounds of the soft cross-entropy and g_mis, attacked."""

import itertools

import mpmath
import numpy as np
import pytest

from ocp import loss
from verification.evaluation import alpha

CASES = [(2, 0.51), (2, 0.9), (2, 0.999), (3, 0.34), (3, 0.9), (5, 0.999), (10, 0.11), (10, 0.9)]
#: points a case in the default run; the slow test takes 1e7
POINTS = 100_000


def attack(n_c: int, p: float, points: int, seed: int) -> tuple[float, float]:
    """Least g / closed form and least g - tight (relative) over adversarial and random points."""
    rng = np.random.default_rng(seed)
    q = loss.soft_target(np.array([0]), n_c, p)[0]
    eps = (1 - p) / (n_c - 1)
    table = np.geomspace(1e-3, 1e3, 2001)
    exact = alpha.tight(table, n_c, p, 181)
    worst, below = np.inf, np.inf
    for start in range(0, points, 50_000):
        m = min(50_000, points - start)
        kind = rng.integers(0, 3, m)
        v = rng.standard_normal((m, n_c))
        levels = rng.standard_normal((m, 3))
        one = rng.integers(1, n_c, m)
        structured = np.repeat(levels[:, :1], n_c, axis=1)
        structured[:, 0] = levels[:, 1]
        structured[np.arange(m), one] = levels[:, 2]
        v[kind == 1] = structured[kind == 1]
        v[kind == 2] = np.sign(v[kind == 2])
        v -= v.mean(axis=1, keepdims=True)
        length = np.linalg.norm(v, axis=1)
        keep = length > 1e-6
        v = v[keep] / length[keep, None]
        s = 10.0 ** rng.uniform(-1.5, 2.5, len(v))
        g = loss.soft_cross_entropy(np.log(q) + s[:, None] * v, q)
        worst = min(worst, float((g / alpha.closed_form(s, n_c, eps)).min()))
        # alpha*(s)/s is nondecreasing: the node below gives a lower bound between nodes
        node = np.searchsorted(table, s, side="right") - 1
        lower = exact[node] * s / table[node]
        below = min(below, float((g / lower).min()))
    return worst, below


@pytest.mark.parametrize(("n_c", "p"), CASES)
def test_no_point_lies_below(n_c, p):
    worst, below = attack(n_c, p, POINTS, seed=1)
    # g is computed to about 1e-16 (1 + s); at s = .03 it is of size 1e-4: 1e-10 relative
    assert worst >= 1 - 1e-9
    assert below >= 1 - 1e-9


@pytest.mark.slow
@pytest.mark.parametrize(("n_c", "p"), CASES)
def test_no_point_of_ten_million_lies_below(n_c, p):
    worst, below = attack(n_c, p, 10_000_000, seed=2)
    assert worst >= 1 - 1e-9
    assert below >= 1 - 1e-9


@pytest.mark.parametrize(("n_c", "p"), CASES)
def test_the_attack_finds_a_bound_that_is_too_large(n_c, p, monkeypatch):
    tight = alpha.tight
    monkeypatch.setattr(alpha, "tight", lambda *a: 1.01 * tight(*a))
    assert attack(n_c, p, POINTS, seed=1)[1] < 1 - 1e-4


@pytest.mark.parametrize(("n_c", "p"), [(2, 0.9), (3, 0.34), (3, 0.9), (4, 0.99), (6, 0.5)])
def test_tight_is_the_minimum_over_the_whole_sphere(n_c, p):
    """Projected gradient descent on the sphere from many starts reaches alpha*, and not below."""
    q = loss.soft_target(np.array([0]), n_c, p)[0]
    rng = np.random.default_rng(0)
    for s in (0.1, 1.0, 3.0, 10.0):
        v = rng.standard_normal((400, n_c))
        v -= v.mean(axis=1, keepdims=True)
        v *= s / np.linalg.norm(v, axis=1, keepdims=True)
        step = 1.0
        for _ in range(3000):
            slope = loss.softmax(np.log(q) + v) - q
            slope -= slope.mean(axis=1, keepdims=True)
            v = v - step * slope
            v -= v.mean(axis=1, keepdims=True)  # rounding along 1 would be blown up
            v *= s / np.linalg.norm(v, axis=1, keepdims=True)
        found = loss.soft_cross_entropy(np.log(q) + v, q).min()
        wanted = alpha.tight(np.array([s]), n_c, p)[0]
        assert found >= wanted * (1 - 1e-9)
        assert found <= wanted * (1 + 1e-5)


@pytest.mark.parametrize(("n_c", "p"), CASES)
def test_orders_limits_and_monotonicity(n_c, p):
    eps, s = (1 - p) / (n_c - 1), np.geomspace(1e-6, 1e4, 400)
    lower, tight = alpha.closed_form(s, n_c, eps), alpha.tight(s, n_c, p)
    assert (lower <= tight * (1 + 1e-9)).all()
    assert (np.diff(tight) > 0).all() and (np.diff(lower) > 0).all()
    assert (np.diff(tight / s) >= -1e-12).all()
    small = alpha.tight(np.array([1e-5]), n_c, p)[0]
    curvature = 2 * p * (1 - p) if n_c == 2 else eps
    assert small == pytest.approx(curvature * 0.5e-10, rel=1e-4)
    slope = eps * np.sqrt(n_c / (n_c - 1))
    assert lower[-1] == pytest.approx(slope * s[-1], rel=1e-2)
    assert tight[-1] == pytest.approx(slope * s[-1], rel=1e-2)


def test_reference_values():
    ratio = {
        n_c: (alpha.tight(s, n_c, 0.9) / alpha.closed_form(s, n_c, 0.1 / (n_c - 1))).max()
        for n_c in (2, 3, 10, 100)
        for s in [np.geomspace(1e-4, 100, 300)]
    }
    assert ratio == pytest.approx({2: 1.80, 3: 1.150, 10: 1.024, 100: 1.002}, abs=1.1e-3)
    found = alpha.tight(np.array([0.832, 3.39, 56.4]), 10, 0.9)
    # certified from below at nodes of which three digits are recorded
    assert found == pytest.approx([3.0619e-3, 2.8392e-2, 0.64894], rel=2e-3)


@pytest.mark.parametrize("p", [0.5, 0.6, 0.9, 0.999])
def test_the_two_class_form_is_exact_and_keeps_its_digits(p):
    import mpmath

    mpmath.mp.dps = 40
    for s in (1e-8, 1e-5, 9e-4, 1.1e-3, 0.1, 3.0, 300.0):
        t, q = mpmath.sqrt(2) * mpmath.mpf(s), mpmath.mpf(p)
        exact = mpmath.log(q + (1 - q) * mpmath.exp(-t)) + (1 - q) * t
        assert float(alpha.two_class(s, p)) == pytest.approx(float(exact), rel=1e-9)
    t = np.array([-3.0, -0.06, -0.04, 1e-9, 0.04, 0.06, 2.0])
    exact = [float(mpmath.exp(-mpmath.mpf(x)) + mpmath.mpf(x) - 1) for x in t]
    assert alpha.phi(t) == pytest.approx(exact, rel=3e-13)


def attack_g_mis(n_c: int, p: float, points: int, seed: int) -> tuple[float, int]:
    """Least g over wrong logits less g_mis, and how many logits were wrong."""
    rng = np.random.default_rng(seed)
    q = loss.soft_target(np.array([0]), n_c, p)[0]
    g_mis = loss.misclassification_threshold(n_c, p)
    least, count = np.inf, 0
    for start in range(0, points, 50_000):
        m = min(50_000, points - start)
        z = rng.standard_normal((m, n_c)) * 10.0 ** rng.uniform(-2, 1.5, (m, 1))
        z += np.where(rng.random((m, 1)) < 0.5, np.log(np.maximum(q, 1e-3)), 0.0)
        # adversarial: the true logit tied with, or just below, the largest other one
        tie = rng.random(m) < 0.5
        z[tie, 0] = z[tie, 1:].max(axis=1) - 10.0 ** rng.uniform(-12, 0, tie.sum())
        # and near the worst point: both at (p + eps)/2, the others at eps
        eps = max((1 - p) / (n_c - 1), 1e-30)
        near = np.log(np.r_[(p + eps) / 2, (p + eps) / 2, np.full(n_c - 2, eps)])
        close = rng.random(m) < 0.2
        z[close] = near + 10.0 ** rng.uniform(-9, -1) * rng.standard_normal((close.sum(), n_c))
        wrong = ~loss.is_right(z, np.zeros(m, dtype=int))
        least = min(least, float(loss.soft_cross_entropy(z[wrong], q).min()) - g_mis)
        count += int(wrong.sum())
    return least, count


@pytest.mark.parametrize(("n_c", "p"), [*CASES, (10, 1.0)])
def test_below_g_mis_a_sample_is_right_and_the_value_is_attained(n_c, p):
    least, count = attack_g_mis(n_c, p, POINTS, seed=1)
    assert count > POINTS / 10
    assert -1e-12 <= least <= 1e-2


@pytest.mark.slow
@pytest.mark.parametrize(("n_c", "p"), [*CASES, (10, 1.0)])
def test_ten_million_points_do_not_beat_g_mis(n_c, p):
    least, count = attack_g_mis(n_c, p, 10_000_000, seed=2)
    assert count > 1_000_000
    assert least >= -1e-12


def test_reference_values_of_g_mis():
    found = [loss.misclassification_threshold(*case) for case in ((2, 0.9), (10, 0.9), (10, 0.5))]
    assert found == pytest.approx([0.36806, 0.57153, 0.20448], abs=5e-6)


def test_the_misclassification_threshold_keeps_its_digits_and_its_sign_at_flat_targets():
    mpmath.mp.dps = 60
    for n_c, p in itertools.product((2, 3, 5), (1e-12, 1e-8, 1e-4, 1e-3, 5e-3, 0.01, 0.1, 0.3)):
        p = 1 / n_c + p
        eps = mpmath.mpf((1.0 - p) / (n_c - 1))
        whole, exact = p + eps, mpmath.mpf(p)
        exact = exact * mpmath.log(2 * exact / whole) + eps * mpmath.log(2 * eps / whole)
        # p - eps carries the rounding of eps: 1e-16 / (p - eps), twice
        allowed = 1e-13 + 1e-15 / abs(p - float(eps))
        assert loss.misclassification_threshold(n_c, p) == pytest.approx(float(exact), rel=allowed)
    for n_c in (2, 3, 7, 10):
        assert 0.0 <= loss.misclassification_threshold(n_c, np.nextafter(1 / n_c, 1.0)) < 1e-30


@pytest.mark.parametrize(("n_classes", "p"), [(3, 0.3334), (5, 0.2000001), (5, 0.2001), (8, 0.126)])
def test_tight_finds_the_least_of_several_nearly_equal_minima(n_classes, p):
    s = np.array([1e-3, 0.1, 1.0, 4.0])
    coarse = alpha.tight(s, n_classes, p, angles=181)
    assert np.allclose(coarse, alpha.tight(s, n_classes, p, angles=20001), rtol=1e-12)
