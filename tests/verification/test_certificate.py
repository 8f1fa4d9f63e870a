"""The certificate: what it proves is true, every number recomputed; edges from both sides."""

import math
import sys
from fractions import Fraction

import mpmath
import numpy as np
import pytest
import scipy.linalg
from closed_forms import bowl, file_at, pair, valley
from small_minima import small, solved
from tiny_problems import PAIR, at, minimum
from zoo import curvature_at

from ocp import datasets
from ocp.controls import flatten
from ocp.evaluation import rollout
from ocp.evaluation.assembly import assembled_hessian
from ocp.problem import Problem
from verification import Verdict, verify_content
from verification.balls import arithmetic as balls
from verification.balls import costs
from verification.balls import model as ball_model
from verification.checks.certificate import Outcome, certify_minimum, gradient_bounds

flint = pytest.importorskip("flint")
ALL = ["minimum", "contraction", "curvature", "objective"]


def certified(content, **options):
    return certify_minimum(content.problem, flatten(content.controls), **options)


def lines(content, tolerance=1e-8, names=ALL[:1], **options):
    found = verify_content(
        [content], only=("certificate",), certify=True, tolerance=tolerance, **options
    ).entries
    assert [line.name for line in found] == [f"certificate.{name}" for name in names]
    assert [line.kind for line in found] == ["claim", *["finding"] * (len(found) - 1)]
    return found


# --- what is proved -----------------------------------------------------------------------------


def test_a_bowl_is_certified_with_the_numbers_of_its_formula():
    content = bowl(A=-3e-9, b=4e-9, r=0.75)
    found = certified(content)
    assert (found.outcome, found.bits) == (Outcome.MINIMUM, 128)
    assert found.distance == pytest.approx(4e-9, rel=1e-9)
    assert found.distance_2 == pytest.approx(5e-9, rel=1e-9)
    assert found.min_curvature == pytest.approx(0.5 * 0.75, rel=1e-9)
    assert found.min_curvature <= 0.5 * 0.75
    assert found.dominance == pytest.approx(1.0, rel=1e-9)
    assert found.grad_lower <= 0.375 * 4e-9 * (1 + 1e-15)
    assert found.grad_upper >= 0.375 * 4e-9 * (1 - 1e-15)
    J = float(rollout.data_cost(content.problem, content.controls, np.zeros((2, 1))))
    assert found.objective_lower <= J * (1 + 1e-15)
    assert found.objective_upper >= J * (1 - 1e-15)
    assert found.objective_upper - found.objective_lower < 1e-15


def test_distances_and_radii_are_those_of_the_moved_file():
    problem, u = solved()
    H, exact = assembled_hessian(problem, u), flatten(u)
    by = 1e-7 * np.random.default_rng(1).standard_normal(len(exact))
    found = certify_minimum(problem, exact + by)
    assert found.outcome is Outcome.MINIMUM
    assert found.distance == pytest.approx(np.abs(by).max(), rel=1e-3)
    assert found.distance_2 == pytest.approx(np.linalg.norm(by), rel=1e-3)
    g = np.abs(H @ by).max()
    assert found.grad_lower == pytest.approx(g, rel=1e-3)
    assert found.grad_lower <= found.grad_upper <= found.grad_lower * (1 + 1e-9)
    assert 0 < found.radius < found.radius_max <= 100.5 * found.radius
    assert 0.05 < found.rho < 1
    assert 0.99 < found.dominance <= 1
    J = float(rollout.objective(problem, u))
    assert found.objective_lower - 1e-14 <= J <= found.objective_upper + 1e-14
    assert float(found.objective_digits.strip("[]").split()[0]) == pytest.approx(J, abs=1e-14)
    # (1 - rho)/|B|_w <= lambda_min, and not by orders of magnitude below
    least = scipy.linalg.eigvalsh(H)[0]
    assert 1e-2 * least < found.min_curvature <= least


def test_the_curvature_bound_holds_on_the_box_and_follows_from_the_contraction():
    content = valley(4.0, 0.0, r=0.5)
    found = certified(content)
    edges = [file_at(content.problem, b=b) for b in (found.radius_max, -found.radius_max)]
    least = min(scipy.linalg.eigvalsh(assembled_hessian(f.problem, f.controls))[0] for f in edges)
    assert 0 < found.radius <= found.radius_max
    assert found.min_curvature <= least
    # (1 - rho)/|B|_w with B = diag(1/(h r), ..) at the centre
    assert found.min_curvature == pytest.approx((1 - found.rho) * 0.5 * 0.5, rel=1e-6)


def test_next_to_means_a_thousandth_of_the_largest_control():
    content = minimum(PAIR)
    u = flatten(content.controls)
    nearby = 1e-3 * np.abs(u).max()
    assert nearby > 2.5e-3
    near, far = (at(content.problem, u + share * nearby) for share in (0.9, 1.1))
    assert lines(near, tolerance=1.0, names=ALL)[0].verdict is Verdict.PASSED
    assert lines(far, tolerance=1.0)[0].verdict is Verdict.INCONCLUSIVE


def test_on_a_kink_it_is_open_and_not_said_not_to_be_stationary():
    (line,) = lines(valley(4.0, -1.0, activation="leaky_relu"))
    assert line.verdict is Verdict.INCONCLUSIVE


def test_the_lines_of_a_minimum_carry_these_numbers():
    content = valley(4.0, 0.0, b=0.0, A=1e-9, r=0.5)
    found = certified(content)
    first, *proofs = lines(content, names=ALL)
    assert (first.verdict, first.measured) == (Verdict.PASSED, found.distance)
    wanted = (
        (found.rho, "<", 1.0),
        (found.min_curvature, ">", 0.0),
        (found.objective_lower, "<=", found.objective_upper),
    )
    assert [(line.measured, line.relation, line.bound) for line in proofs] == list(wanted)
    assert {line.verdict for line in proofs} == {Verdict.PROVED}


def test_a_saddle_is_proved_along_its_least_eigenvector():
    content = pair(4.0, r=0.5)
    found = certified(content)
    assert (found.outcome, found.bits) == (Outcome.SADDLE, 128)
    # h (r - 1) = -1/4 at the point, the largest curvature on the box
    assert -0.25 <= found.curvature_witness == pytest.approx(-0.25, rel=1e-3)
    assert found.dominance <= 0
    assert 0 < found.radius <= found.radius_max
    assert found.distance < 1e-300
    assert math.isnan(found.min_curvature)
    (line,) = lines(content)
    assert line.verdict is Verdict.FAILED
    assert (line.measured, line.relation, line.bound) == (found.curvature_witness, ">=", 0.0)


def test_a_saddle_too_flat_for_floats_is_proved_all_the_same():
    # h (r - L (p - 1/2)) with p = 1/(1 + exp(-z)), z the float next to log 3
    content = pair(4.0, r=1.0)
    with mpmath.workdps(40):
        p = 1 / (1 + mpmath.exp(-mpmath.mpf(content.problem.readout_bias[0])))
        least = float((1 - 4 * (p - mpmath.mpf(1) / 2)) / 2)
    assert -1e-16 < least < 0
    found = certified(content)
    assert found.outcome is Outcome.SADDLE
    assert -1 < found.dominance <= 0
    assert least <= found.curvature_witness < 0.1 * least


def test_what_double_precision_takes_for_flat_stays_open():
    # curvature h r = 5e-18 across the valley: positive, but Cholesky in floats cannot tell
    content = valley(2.0, 0.0, width=2, activation="identity", r=1e-17)
    found = certified(content)
    assert (found.outcome, found.bits) == (Outcome.UNDECIDED, 128)
    assert found.radius > 0  # unique all the same
    assert lines(content)[0].verdict is Verdict.INCONCLUSIVE


def test_the_minimiser_found_in_80_digits_lies_within_the_distance_and_the_interval():
    # Newton's method in mpmath-free high precision: ball midpoints at 300 bits, no Krawczyk
    problem, u = solved()
    stored = flatten(u) + 1e-9 * np.random.default_rng(3).standard_normal(problem.n_decision)
    found = certify_minimum(problem, stored)
    assert found.outcome is Outcome.MINIMUM, found.reason
    with balls.precision(300):
        model, x = ball_model.ball_model(problem), balls.exact(stored)
        inverse = np.linalg.inv(assembled_hessian(problem, u))
        for _ in range(60):
            g = ball_model.gradient(model, x)
            x = balls.mid(x - balls.matmul(balls.exact(inverse), balls.mid(g)[:, None])[:, 0])
        assert balls.magnitude(ball_model.gradient(model, x)).max() < 1e-60
        away = balls.magnitude(x - balls.exact(stored))
        J = ball_model.objective(model, x)
        inner = flint.arb(found.objective_digits.strip("[]"))
    assert away.max() <= found.distance <= away.max() * (1 + 1e-6) + 1e-30
    assert np.linalg.norm(away) <= found.distance_2
    assert inner.overlaps(J)
    assert found.objective_lower <= balls.upper(J) and balls.lower(J) <= found.objective_upper


@pytest.mark.parametrize(
    "changes",
    [
        {"scheme": "heun", "activation": "gelu"},
        {"scheme": "rk4", "activation": "softplus", "depth": 2},
        {"block": "double", "activation": "silu", "depth": 2},
        {"activation": "sigmoid", "trained": ("layers", "readout"), "r_ends": 0.05},
        {"trained": ("layers", "lift"), "r_ends": 0.05, "beta": 0},
        {"p_d": 1.0},
    ],
    ids=lambda c: "-".join(str(v) for v in c.values()),
)
def test_every_scheme_block_end_and_activation_can_be_certified(changes):
    problem, u = solved(**changes)
    least = np.linalg.eigvalsh(assembled_hessian(problem, u))[0]
    found = certify_minimum(problem, flatten(u))
    if least > 1e-8:
        assert found.outcome is Outcome.MINIMUM, found.reason
        assert found.min_curvature <= least * (1 + 1e-6)
    else:
        assert found.outcome is not Outcome.MINIMUM


@pytest.mark.parametrize("least", [-1e-6, 1e-6])
def test_one_eigenvalue_of_1e_6_decides(least):
    problem, u = curvature_at(least)
    found = certify_minimum(problem, flatten(u))
    assert found.outcome is (Outcome.MINIMUM if least > 0 else Outcome.SADDLE), found.reason


def test_relu_away_from_kinks_is_certified():
    # dJ/db = h L (p - 1/2) + h r b
    p = 1 / (1 + np.exp(1.0))
    content = valley(1.0, -1.0, b=0.5 - p, r=1.0, activation="relu")
    found = certified(content)
    assert found.outcome is Outcome.MINIMUM
    assert found.distance < 1e-15
    assert found.radius < 0.5 - p  # the box stays off the kink


@pytest.mark.slow
def test_the_default_spirals_are_certified():
    from ocp import solvers
    from ocp.continuation import growth as continuation

    inputs, labels = datasets.spirals()
    problem = Problem(inputs=inputs, labels=labels, n_classes=2)
    solution = continuation.grow(problem, solvers.by_name("structured"), seed=0)
    u = flatten(solution.controls)
    assert len(u) == 240
    found = certify_minimum(problem, u)
    assert found.outcome is Outcome.MINIMUM, found.reason
    least = np.linalg.eigvalsh(assembled_hessian(problem, solution.controls))[0]
    assert 0.1 * least < found.min_curvature <= least * (1 + 1e-6)
    # the stored gradient is about 1e-9, the least curvature 1e-4; the box depends on the minimum
    assert found.distance < 1e-6 and found.radius > 0
    assert found.objective_lower - 1e-12 <= float(rollout.objective(problem, solution.controls))


# --- when it is tried, and tried again ----------------------------------------------------------


@pytest.mark.parametrize(
    ("r", "r_ends", "options", "bits"),
    [
        # the least eigenvalue is above 2^-64 = 5.42e-20 of the largest, or not
        (5.5e-20, 0.0, {"bits": 64}, 128),
        (5.4e-20, 0.0, {"bits": 64}, 64),
        (2e-19, 1.0, {"bits": 64}, 64),
        (5.5e-20, 0.0, {"bits": 64, "max_bits": 127}, 64),
        (5.5e-20, 0.0, {"bits": 64, "max_bits": 128}, 128),
        (5.5e-20, 0.0, {}, 128),
    ],
)
def test_the_precision_is_doubled_while_that_may_help(r, r_ends, options, bits):
    lift = {"lift": 0.0, "trained": ("layers", "lift"), "r_ends": r_ends} if r_ends else {}
    content, before = valley(2.0, 0.0, width=2, activation="identity", r=r, **lift), flint.ctx.prec
    found = certified(content, **options)
    assert (found.outcome, found.bits) == (Outcome.UNDECIDED, bits)
    assert flint.ctx.prec == before


def test_a_box_that_is_never_small_enough_is_tried_up_to_512_bits():
    # the minimum lies 1e-26 beside a kink
    content = valley(2.0, 1e-25, b=-1e-26, r=0.5, activation="leaky_relu")
    for options, bits in (({}, 512), ({"bits": 100, "max_bits": 1000}, 800)):
        found = certified(content, **options)
        assert (found.outcome, found.bits) == (Outcome.UNDECIDED, bits)
    with pytest.raises(ValueError, match="63"):
        certified(content, bits=63)


def test_more_digits_do_not_help_a_null_direction_a_kink_or_an_overflow():
    for content in (
        valley(2.0, 0.0, width=2, activation="identity", r=0.0),
        valley(1e3, 2.5, r=1e-8, activation="identity"),  # Newton's method diverges
        valley(1e160, 0.0),  # H is 1e319: no float
        file_at(small(activation="identity"), A=1e200),  # neither is the gradient
        bowl(activation="relu"),
    ):
        found = certified(content)
        assert (found.outcome, found.bits) == (Outcome.UNDECIDED, 128)
        assert math.isnan(found.distance)
        assert lines(content, tolerance=1e300)[0].verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize("scheme", ["euler", "heun", "rk4"])
def test_a_hessian_whose_factor_overflows_proves_nothing(scheme):
    keys = {"inputs": np.array([[0.4], [-0.4]]), "labels": np.array([0, 1]), "n_classes": 2}
    keys |= {"depth": 2, "width": 1, "activation": "identity", "block": "double"}
    keys |= {"readout_weight": np.array([[-0.9], [-0.5]]), "scheme": scheme}
    problem = Problem(**keys, h=1e100, r=5e-324)
    found = certify_minimum(problem, np.zeros(problem.n_decision), max_bits=128)
    assert found.outcome is Outcome.UNDECIDED and found.reason


@pytest.mark.filterwarnings("error")
def test_a_hessian_of_zeros_is_a_null_direction():
    found = certified(bowl(r=0.0))
    assert found.outcome is Outcome.UNDECIDED
    assert "cannot be told from a singular one" in found.reason


def test_a_curvature_below_all_floats_is_not_said_to_be_positive():
    content = bowl(A=0.0, b=0.0, r=1e-310)
    found = certified(content)
    assert (found.outcome, found.min_curvature) == (Outcome.UNDECIDED, 0.0)
    assert "below all floats" in found.reason


def test_what_is_too_large_is_not_tried():
    # 12000 decision variables: matrices of 15 GB
    content = bowl(depth=6000)
    (line,) = lines(content)
    assert line.verdict is Verdict.NOT_CHECKED
    found = certified(content)
    assert (found.outcome, found.bits) == (Outcome.UNDECIDED, 0)
    assert found.reason == line.message and "12000" in line.message


@pytest.mark.parametrize("limit", ["MAX_SECONDS", "MAX_BYTES"])
def test_either_limit_refuses_and_balls_have_their_own(limit, monkeypatch):
    # flat in one direction: left undecided by matrices, and by balls
    flat = valley(2.0, 0.0, width=2, activation="identity", r=0.0)
    assert "float64" not in certified(flat).reason
    least = "seconds" if limit == "MAX_SECONDS" else "bytes"
    by_matrices, by_balls = (
        getattr(estimate(flat.problem), least) for estimate in (costs.of_matrices, costs.of_balls)
    )
    assert by_matrices < by_balls
    monkeypatch.setattr(costs, limit, math.nextafter(by_balls, 0.0))
    found = certified(flat)
    assert (found.outcome, found.bits) == (Outcome.UNDECIDED, 128)
    assert "float64" in found.reason and "null direction" in found.reason
    monkeypatch.setattr(costs, limit, math.nextafter(by_matrices, 0.0))
    assert certified(flat).bits == 0


def test_more_than_a_thousand_variables_are_certified():
    content = bowl(depth=501, r=0.75)
    found = certified(content)
    assert (found.outcome, found.bits) == (Outcome.MINIMUM, 128)
    assert found.min_curvature == pytest.approx(0.5 * 0.75, rel=1e-9)


def test_only_what_may_be_stationary_is_tried():
    content = bowl(b=1e-9, r=1.0)
    least, most = gradient_bounds(content.problem, flatten(content.controls))
    assert least < most
    assert lines(content, tolerance=least, names=ALL)[0].verdict is Verdict.PASSED
    (line,) = lines(content, tolerance=np.nextafter(least, 0))
    assert line.verdict is Verdict.NOT_APPLICABLE


def test_the_bounds_of_the_gradient_enclose_it():
    content = bowl(A=-1 / 3, b=0.1, h=0.3, r=0.7)
    exact = Fraction(0.3) * Fraction(0.7) * Fraction(1 / 3)
    least, most = gradient_bounds(content.problem, flatten(content.controls))
    assert Fraction(least) <= exact <= Fraction(most)
    assert most <= least * (1 + 1e-15)
    # dJ/db = L (p - 1/2) h at z = 1e-40 with 128 bits around 0: the sign is open
    least, most = gradient_bounds(valley(4.0, 1e-40).problem, np.zeros(2))
    assert least == 0.0 < most < 1e-37
    assert gradient_bounds(valley(4.0, 1e-40).problem, np.zeros(2), bits=128) == (least, most)


def test_progress_names_its_three_parts_to_the_end():
    said = []
    lines(valley(4.0, 0.0, r=0.5), names=ALL, progress=said.append)
    told = [text.rpartition(", ") for text in said if "%" in text]
    assert len({part for part, _, _ in told}) == 3
    assert [share for part, _, share in told if part == told[-1][0]][-1] == "100%"


def test_without_flint_a_clear_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "flint", None)
    with pytest.raises(ValueError, match=r"python-flint.*certify"):
        lines(bowl())
