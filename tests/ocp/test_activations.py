"""Each activation's properties are recomputed from its values, and its slopes from differences."""

import numpy as np
import pytest

from ocp.activations import NAMES, Activation

GRID = np.linspace(-30.0, 30.0, 2_000_001)


def variants(name: str) -> list[Activation]:
    """The activation plain, shifted and sharpened, as far as the statement allows each."""
    plain = Activation(name)
    shifts = (False, True) if plain.shiftable else (False,)
    sharpnesses = (1.0, 0.5, 20.0) if plain.has_sharpness else (1.0,)
    return [Activation(name, shifted, k) for shifted in shifts for k in sharpnesses]


each = pytest.mark.parametrize("sigma", [sigma for name in NAMES for sigma in variants(name)])


@each
def test_the_lipschitz_constant_bounds_the_steepest_slope_and_is_close_to_it(sigma):
    steepest = np.abs(sigma.derivatives(GRID, 1)[1]).max()
    secants = np.abs(np.diff(sigma(GRID)) / np.diff(GRID))
    # a secant on the grid is right to 2 eps |sigma| / step <= 4e-10
    assert max(steepest, secants.max() - 4e-10) <= sigma.lipschitz <= steepest * 1.0001


@each
def test_the_value_at_zero_and_the_symmetry_are_those_of_the_row(sigma):
    at_zero = float(sigma(np.zeros(1))[0])
    assert sigma.zero_at_zero == (at_zero == 0.0)
    plain = Activation(sigma.name, sharpness=sigma.sharpness)
    assert sigma.shiftable == (plain(np.zeros(1))[0] != 0.0)
    assert sigma.offset == (plain(np.zeros(1))[0] if sigma.shifted else 0.0)
    v = np.linspace(0.01, 5.0, 101)
    assert sigma.odd == np.allclose(sigma(-v), -sigma(v), rtol=0, atol=1e-14)


@each
def test_boundedness_is_seen_far_out(sigma):
    assert sigma.bounded == (np.abs(sigma(np.array([-1e9, 1e9]))).max() <= 1.0)


@each
def test_kinks_are_where_one_sided_differences_disagree(sigma):
    e = 1e-4
    left, right = (sigma(sign * e * np.arange(3.0)) for sign in (-1, 1))
    first = abs((right[1] - right[0]) + (left[1] - left[0])) / e
    second = abs(np.diff(right, 2)[0] - np.diff(left, 2)[0]) / e**2
    # one-sided differences of a smooth sigma differ by e |sigma''| and 2 e |sigma'''|, at most .1
    expected = 1 if first > 0.1 else 2 if second > 0.1 else 0
    assert sigma.kink == expected
    assert sigma.smooth == (expected == 0)


@each
def test_a_piecewise_linear_one_has_no_curvature_anywhere_else_and_the_others_have(sigma):
    v = np.linspace(0.05, 3.0, 60)
    bend = np.abs(sigma.derivatives(np.concatenate([-v, v]), 2)[2]).max()
    assert sigma.piecewise_linear == (bend == 0.0)


def test_a_sharpness_scales_both_axes_and_means_something_for_some_alone():
    v = np.linspace(-3.0, 3.0, 41)
    for name in NAMES:
        plain, sharp = Activation(name), Activation(name, sharpness=4.0)
        wanted = plain(4.0 * v) / 4.0 if plain.has_sharpness else plain(v)
        assert np.allclose(sharp(v), wanted, rtol=1e-15, atol=0)
    assert [name for name in NAMES if Activation(name).has_sharpness] == ["softplus"]


@each
def test_derivatives_by_finite_differences_away_from_kinks(sigma):
    v = np.array([-3.0, -0.7, -0.1, 0.2, 1.3, 4.0])
    value, d1, d2 = sigma.derivatives(v, 2)
    e = 1e-5
    up, down = sigma.derivatives(v + e, 1), sigma.derivatives(v - e, 1)
    # central differences: truncation e^2 |sigma'''|/6 ~ 1e-10 k^2, rounding 1e-16/e ~ 1e-11
    room = 1e-9 * sigma.sharpness**2
    assert np.allclose((up[0] - down[0]) / (2 * e), d1, atol=room)
    assert np.allclose((up[1] - down[1]) / (2 * e), d2, atol=room * max(1.0, sigma.sharpness))
    assert np.array_equal(sigma(v), value)


def test_conventions_at_kinks():
    zero = np.zeros(1)
    assert [d[0] for d in Activation("relu").derivatives(zero, 2)] == [0, 0, 0]
    assert [d[0] for d in Activation("leaky_relu").derivatives(zero, 2)] == [0, 0.01, 0]
    assert Activation("softsign").derivatives(zero, 2)[2][0] == 0


@each
def test_they_stay_finite_for_huge_arguments(sigma):
    v = np.array([-1e4, 1e4, -750.0, 750.0])
    for values in sigma.derivatives(v, 2):
        assert np.isfinite(values).all()
