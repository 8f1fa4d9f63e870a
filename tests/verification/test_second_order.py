"""Every number, bound, verdict and place of the second-order lines, recomputed; edges from both
sides, on files of known truth."""

import numpy as np
import pytest
from closed_forms import bowl, next_to_a_saddle, pair, valley
from sentences import numbers
from zoo import minimum

from ocp.controls import describe, flatten, unflatten
from ocp.evaluation.assembly import assembled_hessian
from ocp.evaluation.rollout import gradient, objective
from verification import Verdict
from verification.checks.second_order import check_second_order
from verification.evaluation.subject import TrainingSubject

CURVATURE, ROUTES, GUARD, INERTIA, LICQ, LANCZOS = (
    f"second_order.{name}"
    for name in ("curvature", "routes", "finite_differences", "inertia", "licq", "lanczos")
)
ALL = [CURVATURE, ROUTES, GUARD, INERTIA, LICQ]
#: more decision variables than a dense Hessian is formed for
WIDE = {"width": 85}
EPS = np.finfo(float).eps


def lines(content, tolerance=1e-8, names=ALL, **options):
    found = check_second_order(TrainingSubject(content, tolerance, **options))
    assert [line.name for line in found] == names
    assert (found[0].kind, found[-1].verdict) == ("claim", Verdict.PROVED)
    return {line.name: line for line in found}


def spectrum(content):
    return np.linalg.eigh(assembled_hessian(content.problem, content.controls))


def above(x):
    return np.nextafter(x, np.inf)


# --- which lines there are ----------------------------------------------------------------------


def test_the_lines_of_a_minimum():
    content = minimum(r=0.1)
    found = lines(content)
    values, vectors = spectrum(content)
    line, difference = found[CURVATURE], found[ROUTES].measured
    assert line.verdict is Verdict.PASSED
    assert line.relation == ">"
    assert line.measured == pytest.approx(values[0], rel=1e-8)
    assert line.where == describe(content.problem, int(np.abs(vectors[:, 0]).argmax()))
    assert line.bound == pytest.approx(10 * 24 * EPS * values[-1] + difference, rel=1e-9)
    assert 0 <= difference < 100 * EPS * values[-1]
    assert found[ROUTES].verdict is found[INERTIA].verdict is Verdict.OBSERVED
    assert numbers(found[ROUTES]) == [pytest.approx(values[-1], rel=1e-3)]
    states = 4 * 2 * 12
    assert numbers(found[INERTIA]) == [states + 24, states, 0, 24, 0, 0]


def test_nothing_is_said_of_curvature_where_the_point_is_not_stationary():
    # dJ/db = h r b = 1/2
    line = lines(bowl(b=1.0, r=1.0), 0.4, names=[CURVATURE, LICQ])[CURVATURE]
    assert line.verdict is Verdict.NOT_APPLICABLE
    assert numbers(line)[:2] == [0.5, 0.4]
    seen = lines(bowl(b=1.0, r=1.0, **WIDE), budget=0.0, names=[CURVATURE, LANCZOS, LICQ])
    assert seen[LANCZOS].verdict is Verdict.NOT_CHECKED


@pytest.mark.parametrize("size", [{}, WIDE])
def test_curvature_is_undecided_where_the_first_order_is(size):
    line = lines(bowl(activation="relu", **size), names=[CURVATURE, LICQ])[CURVATURE]
    assert (line.verdict, line.relation) == (Verdict.INCONCLUSIVE, ">")
    assert np.isnan(line.measured)
    assert np.isnan(line.bound)


def test_a_large_file_has_its_own_claim():
    line = lines(bowl(**WIDE), budget=0.0, names=[CURVATURE, LICQ])[CURVATURE]
    assert line.verdict is Verdict.INCONCLUSIVE
    line = lines(bowl(r=1.0, **WIDE), budget=8.0, names=[CURVATURE, LANCZOS, LICQ])[CURVATURE]
    assert line.verdict is Verdict.PASSED


# --- the verdict on the least eigenvalue --------------------------------------------------------


def test_negative_curvature_fails_with_a_step_along_which_J_falls():
    content = pair(4.0, r=0.5)
    values, vectors = spectrum(content)
    assert values == pytest.approx([0.5 * (0.5 - 1), 0.5 * 0.5, 0.5 * (0.5 + 1)])
    found = lines(content)
    line = found[CURVATURE]
    assert line.verdict is Verdict.FAILED
    assert line.measured == pytest.approx(values[0], rel=1e-12)
    assert line.where in ("layer 0, b[0]", "layer 0, W[0,0]")  # both have the same weight
    fall, length = numbers(line)
    problem, u = content.problem, flatten(content.controls)
    moved = [unflatten(problem, u + sign * length * vectors[:, 0]) for sign in (1, -1)]
    falls = [float(objective(problem, content.controls) - objective(problem, v)) for v in moved]
    # the step is printed with two digits, J is quadratic there
    assert fall == pytest.approx(max(falls), rel=0.2)
    assert fall > 0
    assert numbers(found[INERTIA]) == [4, 3, 0, 2, 1, 0]
    three = {"inputs": np.zeros((3, 1)), "labels": [0, 1, 1], "r": 0.5}
    assert numbers(lines(pair(4.0, **three))[INERTIA]) == [5, 4, 0, 2, 1, 0]
    # A and the lift's weight cost nothing
    free = {"r": 0.0, "lift": 0.0, "trained": ("layers", "lift")}
    assert numbers(lines(pair(4.0, **free), tolerance=2.0)[INERTIA]) == [4, 3, 2, 2, 1, 2]


@pytest.mark.parametrize(
    ("bands", "verdict", "inertia"),
    [
        (-1.5, Verdict.INCONCLUSIVE, (2, 1, 0)),  # negative, but no fall of J can be evaluated
        (-0.5, Verdict.INCONCLUSIVE, (2, 0, 1)),
        (0.5, Verdict.INCONCLUSIVE, (2, 0, 1)),
        (1.5, Verdict.PASSED, (3, 0, 0)),
    ],
)
def test_an_eigenvalue_has_a_sign_outside_the_band_only(bands, verdict, inertia):
    # h (r - 1) at band = 10 d eps |H| with d = 3 controls and |H| = h (r + 1) = 1
    found = lines(pair(4.0, r=1.0 + 2 * bands * 30 * EPS))
    line = found[CURVATURE]
    assert line.measured == pytest.approx(bands * line.bound, abs=0.3 * line.bound)
    assert line.verdict is verdict
    plus, minus, zero = inertia
    assert numbers(found[INERTIA]) == [2 + plus, 2 + minus, zero, *inertia]


@pytest.mark.parametrize(
    ("widened", "verdict", "inertia"),
    [(lambda x: x, Verdict.INCONCLUSIVE, (2, 0, 2)), (above, Verdict.PASSED, (4, 0, 0))],
)
def test_an_eigenvalue_at_the_edge_of_the_band_is_within_it(widened, verdict, inertia):
    band = 10 * 4 * EPS * 0.5
    trained = {"lift": 0.0, "trained": ("layers", "lift")}
    found = lines(bowl(r=1.0, r_ends=widened(band), **trained))
    assert found[CURVATURE].bound == band
    assert found[CURVATURE].verdict is verdict
    assert numbers(found[INERTIA])[3:] == list(inertia)


def test_the_hessian_must_be_definite_after_one_newton_step_too():
    assert lines(next_to_a_saddle(0.0))[CURVATURE].verdict is not Verdict.PASSED
    seen = []
    for by in (2e-9, -2e-9):
        content = next_to_a_saddle(by)
        line = lines(content)[CURVATURE]
        assert line.verdict is not Verdict.PASSED
        if spectrum(content)[0][0] > line.bound:
            assert line.verdict is Verdict.INCONCLUSIVE
            seen.append(line.undecidable)
    assert len(seen) == 1 and "after one Newton step the least eigenvalue is -5" in seen[0]


def test_far_from_a_stationary_point_curvature_decides_nothing():
    # one Newton step of a bowl is u
    assert lines(bowl(b=0.99e-3, r=1.0), tolerance=1.0)[CURVATURE].verdict is Verdict.PASSED
    line = lines(bowl(b=above(1e-3), r=1.0), tolerance=1.0)[CURVATURE]
    assert (line.verdict, line.measured) == (Verdict.INCONCLUSIVE, 0.5)


@pytest.mark.parametrize(
    ("activation", "b", "verdict"),
    [
        ("softsign", 0.0, Verdict.INCONCLUSIVE),
        ("softsign", 1e-3, Verdict.INCONCLUSIVE),  # the step of a bowl leads onto the kink
        ("relu", 1e-3, Verdict.INCONCLUSIVE),
        ("tanh", 0.0, Verdict.PASSED),
        ("tanh", 1e-4, Verdict.PASSED),
    ],
)
def test_kinks_of_the_second_derivative_leave_it_open(activation, b, verdict):
    content = bowl(b=b, r=1.0, activation=activation)
    names = [CURVATURE, LICQ] if (activation, b) == ("softsign", 0.0) else ALL
    assert lines(content, tolerance=1.0, names=names)[CURVATURE].verdict is verdict


# --- the guard ----------------------------------------------------------------------------------


def difference(content):
    """Largest entry of (g(u + t d) - g(u - t d))/2t - H d, over two seeded d and an eigenvector."""
    problem, u = content.problem, flatten(content.controls)
    H = assembled_hessian(problem, content.controls)
    _, vectors = spectrum(content)
    directions = [*np.random.default_rng(20240513).standard_normal((2, len(u))), vectors[:, 0]]
    worst = []
    for d in directions:
        d = d / np.linalg.norm(d)
        ahead, behind = (gradient(problem, unflatten(problem, u + t * d))[0] for t in (1e-5, -1e-5))
        worst.append(np.abs((ahead - behind) / 2e-5 - H @ d).max())
    return worst


@pytest.mark.parametrize(
    ("content", "worst"),
    [
        (valley(1e3, 1.0, b=1.0), 0),
        (valley((0.0, 0.0, 1e3), 1.0, b=1.0, width=3), 1),
        (valley(1e3, -10.0, activation="silu"), 2),  # J bends most along the least eigenvector
    ],
)
def test_the_guard_compares_central_differences_with_the_hessian(content, worst):
    values, _ = spectrum(content)
    line, wanted = lines(content, tolerance=1e5)[GUARD], difference(content)
    assert int(np.argmax(wanted)) == worst
    assert line.measured == pytest.approx(max(wanted), rel=1e-4)
    assert line.bound == pytest.approx(1e-4 * np.abs(values).max(), rel=1e-9)


@pytest.mark.parametrize("L", [31_500.0, 32_300.0])
def test_the_guard_at_its_bound(L):
    content = valley(L, 1.0, b=1.0)
    share = max(difference(content)) / (1e-4 * np.abs(spectrum(content)[0]).max())
    assert share == pytest.approx(1.0, rel=0.05)
    found = lines(content, tolerance=1e5)
    assert found[GUARD].verdict is (Verdict.OBSERVED if share < 1 else Verdict.INCONCLUSIVE)


@pytest.mark.parametrize(
    ("activation", "b", "verdict"),
    [
        ("leaky_relu", 0.5, Verdict.OBSERVED),
        ("leaky_relu", 1e-3, Verdict.OBSERVED),
        ("leaky_relu", np.nextafter(1e-3, 0), Verdict.NOT_CHECKED),
        ("softsign", 1e-4, Verdict.NOT_CHECKED),
        ("tanh", 0.0, Verdict.OBSERVED),
    ],
)
def test_no_differences_across_a_kink(activation, b, verdict):
    assert lines(bowl(b=b, activation=activation), tolerance=1.0)[GUARD].verdict is verdict
