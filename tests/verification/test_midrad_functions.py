"""Activations and softmax over boxes, against sixty digits; each constant proved by bisection."""

import mpmath
import numpy as np
import oracle_digits
import pytest

from ocp import activations
from ocp.activations import Activation
from verification.balls import arithmetic as balls
from verification.balls import midrad, midrad_functions
from verification.balls.activations import ContainsKink
from verification.balls.activations import derivatives as ball_derivatives
from verification.balls.midrad import MidRad

flint = pytest.importorskip("flint")
#: ordinary, tiny, saturated, where exp leaves the floats, and huge midpoints
MIDPOINTS = (0.0, 1e-300, 1e-9, 0.2, 0.34, 0.36, 0.69, 0.71, 1.3, 3.0, 8.0, 19.0, 37.0, 41.0, 700.0)
MIDPOINTS = (*MIDPOINTS, 746.0, 1e5, 1e18)
HALF_SIDES = (0.0, 1e-18, 1e-12, 1e-6, 1e-2, 0.3, 2.0, 50.0)
NAMES = [
    Activation(name, shifted, sharpness)
    for name in activations.NAMES
    for shifted in ((False, True) if Activation(name).shiftable else (False,))
    for sharpness in ((1.0, 3.0, 0.1) if Activation(name).has_sharpness else (1.0,))
]


def boxes() -> MidRad:
    """All pairs of a signed midpoint and a half side."""
    mid = np.array([*MIDPOINTS, *(-m for m in MIDPOINTS[1:])])
    mid, rad = np.meshgrid(mid, HALF_SIDES)
    return MidRad(mid.ravel(), rad.ravel())


def of_digits(sigma: Activation, v):
    """(sigma, sigma', sigma'') in digits; the last by a central difference of sigma'."""
    step = mpmath.mpf(10) ** -30
    value, slope = oracle_digits.sigma(sigma, v)
    if sigma.piecewise_linear:
        return value, slope, mpmath.mpf(0)
    if sigma.name == "softsign":
        return value, slope, -2 * mpmath.sign(v) * slope / (1 + abs(v))
    ahead, behind = (oracle_digits.sigma(sigma, v + t)[1] for t in (step, -step))
    return value, slope, (ahead - behind) / (2 * step)


def escaped(sigma: Activation, seed: int = 0, points: int = 3) -> int:
    """Values of random points of all boxes that are not in their enclosures."""
    rng, box, count = np.random.default_rng(seed), boxes(), 0
    if sigma.kink:
        keep = np.abs(box.mid) > box.rad
        box = MidRad(box.mid[keep], box.rad[keep])
    found = midrad_functions.derivatives(sigma, box)
    with mpmath.workdps(90):
        # s - 1/2 and s (1 - s) cancel in digits, and the second derivative is a difference
        room = (
            mpmath.mpf(10) ** -80 if sigma.shifted else 0,
            mpmath.mpf(10) ** -80,
            mpmath.mpf(10) ** -25,
        )
        for i in range(len(box.mid)):
            for step in (-1.0, 1.0, *rng.uniform(-1, 1, points).tolist()):
                v = mpmath.mpf(box.mid[i]) + mpmath.mpf(box.rad[i]) * mpmath.mpf(step)
                values = of_digits(sigma, v)
                for value, f, more in zip(values, found, room, strict=True):
                    away = abs(value - mpmath.mpf(f.mid[i]))
                    count += away > mpmath.mpf(f.rad[i]) + more
    return count


@pytest.mark.parametrize("sigma", NAMES, ids=str)
def test_no_value_of_an_activation_leaves_its_enclosure(sigma):
    assert escaped(sigma) == 0


def relative(sigma, mid, half):
    """Radii of the enclosures less what arb finds, and both as floats."""
    box = MidRad(np.array([mid]), np.array([half]))
    found = midrad_functions.derivatives(sigma, box)
    with balls.precision(128):
        exact = ball_derivatives(sigma, balls.ball(balls.exact(box.mid), half), 2)
        wide = [balls.upper(x[0].rad()) for x in exact]
    return [float(f.rad[0]) for f in found], wide


@pytest.mark.parametrize("sigma", NAMES, ids=str)
def test_enclosures_are_about_as_wide_as_those_of_balls(sigma):
    for mid in (-2.0, 0.4, 1.1):
        for half, ratio in ((1e-9, 1.2), (1e-4, 1.2), (1e-2, 3.0)):
            for own, wide in zip(*relative(sigma, mid, half), strict=True):
                assert own <= ratio * wide + 1e-14


def test_small_and_saturated_arguments_keep_their_digits():
    tanh, _, sigmoid = (Activation(n, n == "sigmoid") for n in ("tanh", "gelu", "sigmoid"))
    thin = MidRad(np.array([1e-12, 25.0]), np.zeros(2))
    for sigma in (tanh, sigmoid):
        value, slope, second = midrad_functions.derivatives(sigma, thin)
        assert value.rad[0] < 1e-14 * value.mid[0]
        assert slope.rad[1] < 1e-14 * slope.mid[1] and 0 < slope.mid[1] < 1e-9
        assert second.rad[1] < 1e-14 * abs(second.mid[1])


def test_a_kink_in_a_box_is_named_and_one_beside_it_is_not():
    for name in activations.NAMES:
        sigma = Activation(name)
        box = MidRad(np.array([[1.0, 2.0], [1e-3, -3.0]]), np.full((2, 2), 1e-3))
        if sigma.kink:
            with pytest.raises(ContainsKink) as kink:
                midrad_functions.derivatives(sigma, box)
            assert kink.value.index == (1, 0)
            box.rad[...] = np.nextafter(1e-3, 0)
            box.rad[0, 0] = np.nan
            with pytest.raises(ContainsKink) as kink:
                midrad_functions.derivatives(sigma, box)
            assert kink.value.index == (0, 0)
            box.rad[0, 0] = 0.0
        midrad_functions.derivatives(sigma, box)


def test_what_is_not_a_number_stays_unbounded():
    for sigma in NAMES:
        if not sigma.kink and sigma.name != "identity":
            for mid, rad in ((np.nan, 0.0), (1.0, np.nan)):
                with np.errstate(all="ignore"):
                    found = midrad_functions.derivatives(
                        sigma, MidRad(np.array([mid]), np.array([rad]))
                    )
                assert not any(np.isfinite(f.rad[0]) and np.isfinite(f.mid[0]) for f in found)


# --- the constants ------------------------------------------------------------------------------


def quotients(name, v):
    """The first four derivatives of the unshifted function at a ball, by Taylor series: another
    route.  None where the ball is too wide for one."""
    before, flint.ctx.cap = flint.ctx.cap, 5
    try:
        x = flint.arb_series([v, 1])
        match name:
            case "tanh":
                f = 1 - 2 / (1 + (2 * x).exp())
            case "sigmoid":
                f = 1 / (1 + (-x).exp())
            case "softplus":
                f = x + (1 + (-x).exp()).log() if v > 0 else (1 + x.exp()).log()
            case "silu":
                f = x / (1 + (-x).exp())
            case _:
                f = x * (-x / flint.arb(2).sqrt()).erfc() / 2
        return [f[k] * flint.arb(k).fac() for k in range(1, 5)]
    except ValueError:
        return None
    finally:
        flint.ctx.cap = before


@pytest.mark.parametrize("name", midrad_functions.LIPSCHITZ)
def test_the_constants_bound_the_derivatives_everywhere_and_are_almost_attained(name):
    bounds = midrad_functions.LIPSCHITZ[name]
    # beyond 40 all of them are within 1e-12 of 0, or of 1 for the first
    pending, seen = [(-40.0, 40.0)], [0.0] * 4
    while pending:
        low, high = pending.pop()
        middle = 0.5 * (low + high)
        at = quotients(name, flint.arb(middle))
        seen = [max(s, balls.lower(abs(x))) for s, x in zip(seen, at, strict=True)]
        over = quotients(name, flint.arb(middle, 0.5 * (high - low)))
        if not over or not all(abs(x) <= b for x, b in zip(over, bounds, strict=True)):
            assert high - low > 1e-8, middle
            pending += [(low, middle), (middle, high)]
    for value, bound in zip(seen, bounds, strict=True):
        assert bound * (1 - 1e-3) <= value <= bound


# --- softmax ------------------------------------------------------------------------------------


def softmax_escaped(seed: int = 0) -> int:
    """Values of softmax and diag p - p p' at random points of boxes outside their enclosures."""
    rng, count = np.random.default_rng(seed), 0
    for n_c in (2, 3, 10):
        for scale in (1.0, 30.0, 800.0):
            for half in (0.0, 1e-12, 1e-4, 0.02, 0.2, 1.0, 20.0, 1e3):
                z = scale * rng.standard_normal((2, n_c)) + rng.choice([0.0, 1e6])
                box = MidRad(z, half * rng.uniform(0, 1, z.shape))
                p, Q = midrad_functions.softmax(box)
                with mpmath.workdps(60):
                    for trial in range(4):
                        step = rng.uniform(-1, 1, z.shape)
                        step = np.sign(step) if trial % 2 else step
                        count += one_softmax(box, step, p, Q)
    return count


def one_softmax(box, step, p, Q) -> int:
    count = 0
    for i in range(len(box.mid)):
        exact = [
            mpmath.mpf(m) + mpmath.mpf(r) * mpmath.mpf(s)
            for m, r, s in zip(box.mid[i], box.rad[i], step[i], strict=True)
        ]
        e = [mpmath.exp(x - max(exact)) for x in exact]
        values = [x / mpmath.fsum(e) for x in e]
        for j, v in enumerate(values):
            count += abs(v - mpmath.mpf(p.mid[i, j])) > mpmath.mpf(p.rad[i, j])
            for l, w in enumerate(values):
                rest = mpmath.fsum(values[:j] + values[j + 1 :])
                exact_Q = v * rest if j == l else -v * w
                count += abs(exact_Q - mpmath.mpf(Q.mid[i, j, l])) > mpmath.mpf(Q.rad[i, j, l])
    return count


def test_softmax_and_its_derivative_stay_in_their_enclosures():
    assert softmax_escaped() == 0


def test_softmax_over_boxes_is_sharp_to_first_order():
    z = np.array([[0.3, -1.0, 4.0], [0.0, 0.0, 0.0]])
    half = 1e-6
    p, _ = midrad_functions.softmax(MidRad(z, np.full(z.shape, half)))
    e = np.exp(z)
    q = e / e.sum(axis=1, keepdims=True)
    # |dp_j| <= p_j sum_l p_l |d_j - d_l| = 2 half p_j (1 - p_j), attained at a corner
    assert np.allclose(p.rad, 2 * half * q * (1 - q), rtol=1e-4)
    wide, _ = midrad_functions.softmax(MidRad(z, np.full(z.shape, 1e3)))
    assert np.allclose(wide.mid, 0.5) and np.allclose(wide.rad, 0.5)


# --- without one bound, a point is found outside ------------------------------------------------


def elementary_escaped() -> int:
    rng = np.random.default_rng(4)
    x = np.concatenate([-np.exp2(rng.uniform(-60, 9.4, 300)), [0.0, -746.0, -1e5]])
    found = midrad_functions.exp(x)
    with mpmath.workdps(60):
        away = [abs(mpmath.exp(t) - mpmath.mpf(m)) for t, m in zip(x, found.mid, strict=True)]
        return sum(a > mpmath.mpf(r) for a, r in zip(away, found.rad, strict=True))


def test_exponentials_of_floats_are_enclosed(monkeypatch):
    assert elementary_escaped() == 0
    # a library's exp as if it were exact
    monkeypatch.setattr(midrad_functions, "exp", lambda x: midrad.exact(np.exp(x)))
    assert elementary_escaped() > 0


@pytest.mark.parametrize("what", ["half of each constant", "no remainder"])
def test_without_the_bounds_of_an_activation_a_value_is_found_outside(what, monkeypatch):
    for name, sup in midrad_functions.LIPSCHITZ.items():
        less = [0.5 * x for x in sup] if what != "no remainder" else [sup[0], 0.0, 0.0, 0.0]
        monkeypatch.setitem(midrad_functions.LIPSCHITZ, name, tuple(less))
        assert escaped(Activation(name)) > 0
