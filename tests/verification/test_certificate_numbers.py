"""Every number and verdict of the certificate, recomputed; edges from both sides, on files of
known truth: the bowl, the valley and the saddle of `closed_forms`."""

import math
from fractions import Fraction

import numpy as np
import pytest
import scipy.linalg
from closed_forms import bowl, file_at, pair, valley
from small_minima import small, solved

from ocp.controls import flatten
from ocp.evaluation import rollout
from ocp.evaluation.assembly import assembled_hessian
from verification import Verdict, verify_content
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
    # J = log 2 - (1 - p) log(1 - p) .. at the readout's bias 0: its loss is log 2 whatever u is
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


def test_the_box_is_one_on_which_the_curvature_and_uniqueness_hold():
    # F'' falls from 1/4 at z = 0: on |b| <= radius the least curvature of J is that of the edge
    content = valley(4.0, 0.0, r=0.5)
    found = certified(content)
    L, h, problem = 4.0, 0.5, content.problem
    edges = [file_at(problem, b=sign * found.radius) for sign in (1, -1)]
    least = min(scipy.linalg.eigvalsh(assembled_hessian(f.problem, f.controls))[0] for f in edges)
    assert found.min_curvature <= least
    assert found.radius <= found.radius_max
    at_zero = h * 0.5, h * 0.5 + (h * L) ** 2 / 4
    assert found.rho == pytest.approx(1 - found.min_curvature / at_zero[0], rel=1e-6)


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
    for number in (found.radius, found.distance):
        assert f"{number:.3g} " in first.message
    assert found.objective_digits in first.message
    assert "128 bits" in first.message


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


def test_what_double_precision_takes_for_flat_stays_open():
    # curvature h r = 5e-18 across the valley: positive, but Cholesky in floats cannot tell
    content = valley(2.0, 0.0, width=2, activation="identity", r=1e-17)
    found = certified(content)
    assert (found.outcome, found.bits) == (Outcome.UNDECIDED, 128)
    assert found.radius > 0  # unique all the same
    assert lines(content)[0].verdict is Verdict.INCONCLUSIVE


# --- when it is tried, and tried again ----------------------------------------------------------


@pytest.mark.parametrize(
    ("r", "options", "bits"),
    [
        (5.5e-20, {"bits": 64}, 128),  # the flatness r is above 2^-64 = 5.42e-20
        (5.4e-20, {"bits": 64}, 64),  # a null direction stays one
        (5.5e-20, {"bits": 64, "max_bits": 127}, 64),
        (5.5e-20, {"bits": 64, "max_bits": 128}, 128),
        (5.5e-20, {}, 128),
    ],
)
def test_the_precision_is_doubled_while_that_may_help(r, options, bits):
    before = flint.ctx.prec
    found = certified(valley(2.0, 0.0, width=2, activation="identity", r=r), **options)
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


@pytest.mark.parametrize(("depth", "extra", "tried"), [(500, 0, True), (500, 1, False)])
def test_what_is_too_large_is_not_tried(depth, extra, tried):
    # 1000 decision variables, 200000 states: all on kinks, so that nothing is computed
    samples = 400 + extra
    labels = np.arange(samples) % 2
    content = bowl(
        depth=depth, inputs=np.zeros((samples, 1)), labels=labels, activation="relu", r=1.0
    )
    (line,) = lines(content)
    assert line.verdict is (Verdict.INCONCLUSIVE if tried else Verdict.NOT_CHECKED)
    assert certified(content).outcome is Outcome.UNDECIDED
    assert certified(content).bits == (128 if tried else 0)
    # 3 * 333 + 2 = 1001
    many = bowl(depth=333, block="double", trained=("layers", "lift"), lift=0.0)
    assert many.problem.n_decision == 1001
    assert lines(many)[0].verdict is Verdict.NOT_CHECKED


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


def test_progress_names_its_three_parts_to_the_end():
    said = []
    lines(valley(4.0, 0.0, r=0.5), names=ALL, progress=said.append)
    told = [text.rpartition(", ") for text in said if "%" in text]
    assert len({part for part, _, _ in told}) == 3
    assert [share for part, _, share in told if part == told[-1][0]][-1] == "100%"
