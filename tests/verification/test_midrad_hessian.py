"""Enclosures of the Hessian by midpoint-radius matrices, against balls, floats and sixty digits."""

import boxes
import mpmath
import numpy as np
import oracle_digits
import pytest

from ocp.problem import SCHEMES, Problem
from verification.balls import arithmetic as balls
from verification.balls import hessian as ball_hessian
from verification.balls import midrad, midrad_hessian, midrad_layer
from verification.balls.activations import ContainsKink
from verification.balls.model import ball_model

pytest.importorskip("flint")


def name_of(kind) -> str:
    return "-".join([*kind[:3], str(len(kind[3]))])


def by_balls(problem, u, radius):
    """The oracle's enclosure as floats: midpoints and outward radii."""
    with balls.precision(128):
        box = balls.ball(balls.exact(u), radius)
        H = ball_hessian.gradient_and_hessian(ball_model(problem), box)[1]
        mid = balls.nearest(H)
        return mid, balls.magnitude(H - balls.exact(mid))


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow if i % 3 else ())
        for i, kind in enumerate(boxes.KINDS)
    ],
    ids=name_of,
)
def test_the_ball_hessian_at_the_centre_is_inside_and_both_enclosures_are_about_as_wide(kind):
    rng = np.random.default_rng(8)
    for radius in (0.0, *boxes.RADII):
        problem = boxes.problem_of(rng, *kind)
        u, half = boxes.box_of(rng, problem, radius)
        try:
            found = boxes.enclosure(problem, u, half)
        except ContainsKink:
            with pytest.raises(ContainsKink):
                by_balls(problem, u, half)
            continue
        centre, thin = by_balls(problem, u, 0.0)
        assert (np.abs(centre - found.mid) <= found.rad + thin).all()
        mid, wide = by_balls(problem, u, half)
        assert (np.abs(mid - found.mid) <= found.rad + wide).all()
        if radius == 0.0:
            assert found.rad.max() <= 1e-12 * np.abs(centre).max()
        elif radius <= 1e-3:
            assert found.rad.sum() <= 3.0 * wide.sum()


def test_hessians_at_random_points_of_boxes_lie_in_their_enclosures():
    tried, found, out = boxes.sampled(boxes.KINDS, points=6, seed=1)
    assert tried >= 2400 and found >= 380
    assert out == 0


@pytest.mark.slow
def test_a_hundred_thousand_points_lie_in_their_enclosures():
    tried, _, out = boxes.sampled(boxes.KINDS, points=270, seed=0)
    assert tried >= 100_000
    assert out == 0


def digits_outside(kind, radius: float) -> int:
    """Entries of a Hessian in digits, at a random point of a box, that leave its enclosure."""
    rng = np.random.default_rng(3)
    problem = boxes.problem_of(rng, *kind)
    u, half = boxes.box_of(rng, problem, radius)
    found = boxes.enclosure(problem, u, half)
    with oracle_digits.digits():
        # exact sums: the point is in the box, not next to it
        step = [mpmath.mpf(t) for t in rng.uniform(-1, 1, len(u)).tolist()]
        pairs = zip(u.tolist(), half.tolist(), step, strict=True)
        point = np.array([mpmath.mpf(v) + r * t for v, r, t in pairs], dtype=object)
        H = oracle_digits.hessian(problem, point)
        room = mpmath.mpf(10) ** -35  # central differences in digits are good to 1e-38
        flat = zip(H.flat, found.mid.flat, found.rad.flat, strict=True)
        return sum(abs(x - mpmath.mpf(m)) > mpmath.mpf(r) + room for x, m, r in flat)


@pytest.mark.parametrize("radius", [0.0, 1e-9])
@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(kind, marks=pytest.mark.slow if i > 3 else ())
        for i, kind in enumerate(boxes.KINDS[::7])
    ],
    ids=name_of,
)
def test_hessians_of_sixty_digits_lie_inside_without_any_tolerance(kind, radius):
    assert digits_outside(kind, radius) == 0


def test_samples_in_chunks_change_nothing_but_rounding(monkeypatch):
    rng = np.random.default_rng(5)
    for kind in boxes.KINDS[::7]:
        problem = boxes.problem_of(rng, *kind)
        u, half = boxes.box_of(rng, problem, 1e-6)
        try:
            whole = boxes.enclosure(problem, u, half)
        except ContainsKink:
            continue
        monkeypatch.setattr(midrad_hessian, "CHUNK_BYTES", 1)
        parts = boxes.enclosure(problem, u, half)
        monkeypatch.undo()
        assert np.allclose(whole.mid, parts.mid, rtol=1e-13, atol=1e-14)
        assert np.allclose(whole.rad, parts.rad, rtol=1e-6, atol=1e-14)
        assert np.array_equal(parts.mid, parts.mid.T) and np.array_equal(parts.rad, parts.rad.T)


@pytest.mark.parametrize("samples", [1, 2])
def test_a_kink_is_named_by_layer_sample_and_unit_in_whatever_chunk(samples, monkeypatch):
    problem = Problem(
        inputs=np.array([[1.0, 1.0], [1.0, -1.0], [2.0, 0.0]]), labels=np.array([0, 1, 0]),
        n_classes=2, depth=1, width=2, activation="relu",
    )  # fmt: skip
    monkeypatch.setattr(
        midrad_hessian, "CHUNK_BYTES", samples * midrad_hessian.bytes_per_sample(problem)
    )
    # v_1 = x_1 meets the kink at the third sample only
    u = np.array([1.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    with pytest.raises(ContainsKink) as kink:
        boxes.enclosure(problem, u, np.zeros(6))
    assert kink.value.index == (0, 2, 1)
    assert boxes.enclosure(problem, u + 0.25, np.full(6, 1e-3)).finite()


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_overflows_is_not_finite(scheme):
    rng = np.random.default_rng(0)
    problem = boxes.problem_of(rng, "identity", scheme, "double", ("layers",))
    for size in (1e120, 1e200, np.inf, np.nan):
        with np.errstate(all="ignore"):
            assert not boxes.enclosure(problem, np.full(20, size), np.zeros(20)).finite()


TRAPS = {
    "saturated": {"controls": 60.0},
    "saturated beyond exp": {"controls": 1e4},
    "tiny inputs": {"inputs": 1e-160},
    "subnormal inputs": {"inputs": 5e-310},
    "tiny controls": {"controls": 1e-200},
    "huge inputs": {"inputs": 1e100},
    "huge logits": {"readout": 1e6},
    "products that underflow": {"inputs": 1e-170, "controls": 1e-170, "readout": 1e-170},
    "huge times tiny": {"inputs": 1e120, "controls": 1e-120},
}


@pytest.mark.parametrize("activation", ["tanh", "gelu", "silu", "softplus", "identity"])
@pytest.mark.parametrize("trap", TRAPS)
def test_extreme_numbers_stay_inside(trap, activation):
    rng, by = np.random.default_rng(12), TRAPS[trap]
    for scheme, block in (("euler", "single"), ("rk4", "double")):
        problem = boxes.problem_of(rng, activation, scheme, block, boxes.ENDS[1], beta=1)
        problem = problem.with_(inputs=by.get("inputs", 1.0) * problem.inputs)
        u, half = boxes.box_of(rng, problem, 1e-9)
        layers = problem.depth * problem.layer_size
        u[:layers] *= by.get("controls", 1.0)
        u[-9:] *= by.get("readout", 1.0)
        half = half * np.abs(u)
        with np.errstate(all="ignore"):
            thin_box, wide = (boxes.enclosure(problem, u, r) for r in (0.0 * half, half))
        centre, own = by_balls(problem, u, 0.0)
        for found in (thin_box, wide):
            sure = np.isfinite(found.rad) & np.isfinite(found.mid)
            away = np.abs(centre - found.mid)[sure]
            assert (away <= (found.rad + own)[sure] * (1 + 1e-15)).all()
        # nor is all of it given up, where numbers stay in range
        if "huge" not in trap and activation != "identity":
            assert thin_box.finite()


# --- without one radius, a Hessian is found outside ---------------------------------------------

#: (where it is used, its name, which of its results)
RESULTS = {
    "sigma": (midrad_hessian, "derivatives", 0),
    "sigma'": (midrad_hessian, "derivatives", 1),
    "sigma''": (midrad_hessian, "derivatives", 2),
    "softmax": (midrad_layer, "softmax", 0),
    "diag p - p p'": (midrad_layer, "softmax", 1),
}
OPERATORS = {"products entry by entry": "__mul__", "sums": "__add__"}


def thin(x):
    return midrad.exact(x.mid)


@pytest.mark.parametrize("what", [*RESULTS, *OPERATORS, "matrix products"])
def test_without_the_radius_of_one_operation_hessians_are_found_outside(what, monkeypatch):
    if what in RESULTS:
        module, name, part = RESULTS[what]
        whole = getattr(module, name)
        pick = lambda *given: [thin(x) if i == part else x for i, x in enumerate(whole(*given))]  # noqa: E731
        monkeypatch.setattr(module, name, pick)
    elif what in OPERATORS:
        operator = getattr(midrad.MidRad, OPERATORS[what])
        monkeypatch.setattr(midrad.MidRad, OPERATORS[what], lambda a, b: thin(operator(a, b)))
    else:
        for module in (midrad_hessian, midrad_layer):
            monkeypatch.setattr(module, "matmul", lambda a, b: thin(midrad.matmul(a, b)))
    kinds = [kind for kind in boxes.KINDS if kind[0] in ("tanh", "gelu")]
    assert boxes.sampled(kinds, points=6, seed=2)[2] > 0


def test_without_the_bounds_of_rounding_digits_are_found_outside(monkeypatch):
    monkeypatch.setattr(midrad, "EPS", 0.0)
    assert digits_outside(("identity", "rk4", "single", ("layers",)), 0.0) > 0
