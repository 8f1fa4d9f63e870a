"""Midpoint-radius arithmetic against exact fractions: no result leaves its enclosure.

Each bound is needed: without it, one of these tests finds a point outside.
"""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from verification.balls import arithmetic as balls
from verification.balls import midrad
from verification.balls.midrad import MidRad, matmul

flint = pytest.importorskip("flint")
#: exponents of midpoints: ordinary, wide apart, next to underflow, next to overflow
SCALES = {"one": (-2, 2), "wide": (-60, 60), "tiny": (-1074, -1000), "huge": (450, 511)}


def fractions(values) -> np.ndarray:
    flat = [Fraction(v) for v in np.asarray(values, dtype=float).ravel().tolist()]
    out = np.empty(len(flat), dtype=object)
    out[:] = flat
    return out.reshape(np.shape(values))


def random(rng, scale: str, shape, thin: bool) -> MidRad:
    """Random boxes; thin ones are single floats."""
    mid = rng.choice([-1, 1], shape) * np.exp2(rng.uniform(*SCALES[scale], shape))
    mid = np.where(rng.random(shape) < 0.1, 0.0, mid)
    rad = np.zeros(shape) if thin else np.abs(mid) * np.exp2(rng.uniform(-60, 2, shape))
    return MidRad(mid, rad)


def point(rng, x: MidRad) -> np.ndarray:
    """An exact point of the box: a corner, or one inside."""
    step = rng.choice([-1.0, 1.0, 0.5, -0.25, 0.0], x.shape)
    return fractions(x.mid) + fractions(x.rad) * fractions(step)


def outside(exact: np.ndarray, found: MidRad) -> int:
    """How many exact values are not in their enclosures; unbounded ones contain everything."""
    count = 0
    for value, mid, rad in zip(exact.ravel(), found.mid.ravel(), found.rad.ravel(), strict=True):
        if math.isfinite(mid) and math.isfinite(rad):
            count += abs(value - Fraction(mid)) > Fraction(rad)
    return count


def dot(a, b) -> np.ndarray:
    """The exact product, of batches too."""
    return a.dot(b) if a.ndim == 2 else np.stack([p.dot(q) for p, q in zip(a, b, strict=True)])


def transposed(a, b) -> MidRad:
    return matmul(a.T, b.T)


#: name -> (shapes of the operands, the operation on boxes, the same on fractions)
OPERATIONS = {
    "plus": (((40,), (40,)), lambda a, b: a + b, lambda a, b: a + b),
    "minus": (((40,), (40,)), lambda a, b: a - b, lambda a, b: a - b),
    "times": (((40,), (40,)), lambda a, b: a * b, lambda a, b: a * b),
    "times floats": (((40,), (40,)), lambda a, b: a * b.mid, lambda a, b: a * b),
    "sum": (((6, 30), (1,)), lambda a, _: a.sum(axis=1), lambda a, _: a.sum(axis=1)),
    "matmul": (((4, 30), (30, 3)), matmul, dot),
    "floats matmul": (((4, 30), (30, 3)), lambda a, b: matmul(a.mid, b), dot),
    "matmul floats": (((4, 30), (30, 3)), lambda a, b: matmul(a, b.mid), dot),
    "matmul transposed": (((30, 4), (3, 30)), transposed, lambda a, b: dot(a.T, b.T)),
    "batch": (((2, 3, 9), (2, 9, 2)), matmul, dot),
}  # fmt: skip


def escaped(name: str, scale: str, trials: int, seed: int = 0) -> int:
    """Exact results of random points of random boxes outside the enclosures of an operation."""
    shapes, on_boxes, on_points = OPERATIONS[name]
    rng, count = np.random.default_rng(seed), 0
    for trial in range(trials):
        a, b = (random(rng, scale, shape, trial % 2 == 0) for shape in shapes)
        if "floats" in name:
            exact = MidRad(a.mid, np.zeros(a.shape)), MidRad(b.mid, np.zeros(b.shape))
            a, b = (exact[0], b) if name == "floats matmul" else (a, exact[1])
        with np.errstate(all="ignore"):
            found = on_boxes(a, b)
        count += outside(on_points(point(rng, a), point(rng, b)), found)
    return count


@pytest.mark.parametrize(("name", "scale"), list(itertools.product(OPERATIONS, SCALES)))
def test_no_exact_result_leaves_its_enclosure(name, scale):
    assert escaped(name, scale, trials=20) == 0


def test_the_scales_reach_underflow_and_overflow():
    rng = np.random.default_rng(0)
    tiny, huge = (random(rng, scale, (500,), True) for scale in ("tiny", "huge"))
    with np.errstate(all="ignore"):
        assert ((tiny * tiny).mid == 0).all() and (np.abs(tiny.mid) < 2.0**-1022).any()
        cubes = huge * huge * huge
    assert not np.isfinite(cubes.mid).all()
    assert not np.isfinite(cubes.rad[~np.isfinite(cubes.mid)]).any()


def without(monkeypatch, what: str) -> None:
    """Take one bound away."""
    if what in ("EPS", "TINY"):
        monkeypatch.setattr(midrad, what, 0.0)
    elif what == "UP":
        monkeypatch.setattr(midrad, "UP", 1.0)
    elif what == "radius of a product":
        monkeypatch.setattr(
            MidRad, "__mul__", lambda a, b: MidRad(a.mid * b.mid, np.abs(a.mid) * b.rad)
        )
    elif what == "quadratic term of a product":
        cut = lambda a, b: MidRad(  # noqa: E731
            a.mid * b.mid, (np.abs(a.mid) * b.rad + a.rad * np.abs(b.mid)) * midrad.UP
        )
        monkeypatch.setattr(MidRad, "__mul__", cut)


@pytest.mark.parametrize(
    ("what", "name", "scale"),
    [
        ("EPS", "plus", "one"),
        ("EPS", "minus", "wide"),
        ("EPS", "times", "one"),
        ("EPS", "sum", "one"),
        ("EPS", "matmul", "one"),
        ("EPS", "floats matmul", "wide"),
        ("TINY", "times", "tiny"),
        ("TINY", "times floats", "tiny"),
        ("TINY", "matmul", "tiny"),
        ("UP", "plus", "one"),
        ("radius of a product", "times", "one"),
        ("quadratic term of a product", "times", "one"),
    ],
)
def test_without_one_bound_a_point_is_found_outside(what, name, scale, monkeypatch):
    without(monkeypatch, what)
    assert escaped(name, scale, trials=40) > 0


@pytest.mark.parametrize("side", ["a", "b"])
def test_without_the_radius_of_a_factor_a_point_of_the_product_is_found_outside(side):
    rng, count = np.random.default_rng(1), 0
    for _ in range(20):
        a, b = random(rng, "one", (4, 9), False), random(rng, "one", (9, 3), False)
        found = matmul(a.mid, b) if side == "a" else matmul(a, b.mid)
        count += outside(point(rng, a).dot(point(rng, b)), found)
    assert count > 0


def test_long_sums_that_drift_stay_inside():
    # 0.1 is above 1/10, and rounding to nearest drifts: the error of the naive sum is far from 0
    n = 4096
    row, column = np.full((1, n), 0.1), np.full((n, 1), 0.7)
    exact = n * Fraction(0.1) * Fraction(0.7)
    found = matmul(row, column)
    assert abs(exact - Fraction(found.mid[0, 0])) <= Fraction(found.rad[0, 0])
    assert found.rad[0, 0] <= 3 * n * n * 0.07 * midrad.EPS
    total = midrad.exact(row).sum(axis=1)
    assert abs(n * Fraction(0.1) - Fraction(total.mid[0])) <= Fraction(total.rad[0])
    # a large term that goes away again takes small ones with it
    row[0, 0], row[0, 1] = 2.0**60, -(2.0**60)
    exact = Fraction(0.1) * (n - 2)
    for found in (matmul(row, np.ones((n, 1)))[0, 0], midrad.exact(row).sum(axis=1)[0]):
        assert abs(exact - Fraction(float(found.mid))) <= Fraction(float(found.rad))


def test_a_product_that_underflows_entirely_is_not_zero():
    found = matmul(np.full((1, 3), 2.0**-600), np.full((3, 1), 2.0**-600))
    assert found.mid[0, 0] == 0.0
    assert Fraction(found.rad[0, 0]) >= 3 * Fraction(1, 2**1200)
    # and a large factor after it makes the radius visible
    again = found * 2.0**1000
    assert Fraction(float(again.rad[0, 0])) >= 3 * Fraction(1, 2**200)


def test_subnormal_floats_are_enclosed_in_a_product_with_huge_ones():
    rng = np.random.default_rng(2)
    a, b = random(rng, "tiny", (5, 40), False), random(rng, "huge", (40, 5), False)
    assert outside(point(rng, a).dot(point(rng, b)), matmul(a, b)) == 0


def test_reciprocals_of_numbers_from_one_on():
    rng = np.random.default_rng(3)
    for thin in (True, False):
        x = random(rng, "one", (400,), thin)
        x = MidRad(1.0 + np.abs(x.mid), np.abs(x.rad))
        found = midrad.reciprocal(x)
        for t in (-1, 0, 1):
            exact = np.maximum(fractions(x.mid) + t * fractions(x.rad), Fraction(1))
            assert outside(1 / exact, found) == 0
    with np.errstate(all="ignore"):
        assert np.isnan(midrad.reciprocal(MidRad(np.array([0.5]), np.array([1.0]))).rad).all()


def test_balls_enter_outwards():
    with balls.precision(200):
        third = flint.arb(1) / 3
        values = [third, flint.arb(0.1), flint.arb(0), third * flint.arb(2) ** -1074]
        values += [flint.arb(1, 1e-3), flint.arb(0, 1e-9), flint.arb(2) ** -3000, -third]
        array = np.array(values, dtype=object)
        found = midrad.enclose(array)
        for x, mid, rad in zip(values, found.mid.tolist(), found.rad.tolist(), strict=True):
            assert flint.arb(mid, rad).contains(x)
        assert found.rad[1] == found.rad[2] == 0.0
        assert found.rad[0] <= 2 * midrad.EPS
        lost = np.array([flint.arb("nan"), flint.arb(2) ** 3000, flint.arb("inf")], dtype=object)
        assert not np.isfinite(midrad.enclose(lost).rad).any()
        box = midrad.around(array[:1], np.array([1e-20]))
        assert flint.arb(float(box.mid[0]), float(box.rad[0])).contains(third + flint.arb(1e-20))


def test_this_machine_rounds_as_the_bounds_want_it():
    assert midrad.rounds_as_proved()


def test_a_known_range_cuts_wide_boxes_and_loses_no_point():
    rng = np.random.default_rng(7)
    x = random(rng, "one", (4000,), False)
    x.rad[:50], x.rad[50:100] = np.inf, np.nan
    found = midrad.within(x, -0.3, 0.7)
    for step in (-1, 1, 0.3):
        finite = np.isfinite(x.rad)
        exact = fractions(x.mid[finite]) + Fraction(step) * fractions(x.rad[finite])
        inside = np.array([Fraction(-0.3) <= v <= Fraction(0.7) for v in exact])
        assert inside.sum() > 500
        assert outside(exact[inside], found[finite][inside]) == 0
    assert np.allclose(found.mid[:50], 0.2) and np.allclose(found.rad[:50], 0.5)
    assert np.isnan(found.rad[50:100]).all()
    reaching = (x.rad > 1.0) & (np.abs(x.mid) < 0.3)
    assert reaching.any() and (found.rad[reaching] < 0.51).all()
    thin = MidRad(np.array([0.6999]), np.array([1e-3]))
    assert midrad.within(thin, -0.3, 0.7) is thin
