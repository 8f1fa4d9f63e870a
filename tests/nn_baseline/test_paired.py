"""The paired interval covers, and the least depth follows from it."""

import numpy as np
import pytest

from nn_baseline.paired import difference, least_depth


def test_the_estimate_and_the_interval_are_those_of_the_counts():
    right = np.array([True] * 90 + [False] * 10)
    other = np.array([True] * 85 + [False] * 5 + [True] * 3 + [False] * 7)
    found = difference(right, other)  # 5 right here alone, 3 there alone
    assert found.points == pytest.approx(2.0)
    b, c, n = 5.5, 3.5, 102
    p, q = b / n, c / n
    error = np.sqrt((p + q - (p - q) ** 2) / n)
    assert found.low == pytest.approx(100 * (p - q - 1.959964 * error))
    assert found.high == pytest.approx(100 * (p - q + 1.959964 * error))
    mirrored = difference(other, right)
    assert (mirrored.low, mirrored.high) == pytest.approx((-found.high, -found.low))
    assert str(found) == f"+2.00 points [{found.low:+.2f}, {found.high:+.2f}]"


@pytest.mark.parametrize(("n", "p", "q"), [(50, 0.1, 0.05), (300, 0.02, 0.02), (1000, 0.05, 0.02)])
def test_the_interval_covers_the_true_difference(n, p, q):
    rng = np.random.default_rng(0)
    inside = 0
    for _ in range(2000):
        cell = rng.choice(3, size=n, p=[p, q, 1 - p - q])
        found = difference(cell == 0, cell == 1)
        inside += found.low <= 100 * (p - q) <= found.high
    # 2000 draws of a coverage of 95 % lie within 1 % of it at two standard errors
    assert inside / 2000 > 0.94


def test_equal_predictions_leave_an_interval_that_shrinks_with_the_samples():
    widths = [difference(np.ones(n, bool), np.ones(n, bool)).high for n in (10, 100, 10_000)]
    assert widths[0] > 10 > widths[1] > 1 > 0.1 > widths[2] > 0


def test_the_least_depth_is_the_first_that_may_be_as_good():
    n = 2000
    best = np.ones(n, bool)
    slightly = best.copy()
    slightly[:2] = False  # 0.1 points
    clearly = best.copy()
    clearly[:100] = False  # 5 points
    assert least_depth([1, 2, 3], [clearly, slightly, best]) == 2
    assert least_depth([1, 2, 3], [clearly, clearly, best]) == 3
    assert least_depth([1, 2, 3], [best, best, best]) == 1
    assert least_depth([1, 2, 3], [clearly, clearly, best], tolerance=6.0) == 1
    assert least_depth([4], [clearly]) == 4


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(ValueError, match="wanted the same"):
        difference(np.ones(3, bool), np.ones(4, bool))
    with pytest.raises(ValueError, match="wanted the same"):
        difference(np.ones(0, bool), np.ones(0, bool))
    with pytest.raises(ValueError, match="wanted ascending"):
        least_depth([2, 1], [np.ones(3, bool)] * 2)
    with pytest.raises(ValueError, match="wanted ascending"):
        least_depth([], [])
