"""What the certificate says and when it tries again, from its definitions."""

import math
import types

import numpy as np
import pytest
import scipy.linalg
from small_minima import small, solved

from ocp import controls
from ocp.controls import flatten, unflatten
from ocp.evaluation import rollout
from ocp.evaluation.assembly import assembled_hessian
from ocp.files import TrainingFile
from verification.balls import arithmetic as balls
from verification.balls.activations import ContainsKink
from verification.checks import certificate
from verification.checks.certificate import Certificate, Outcome, certify_minimum
from verification.evaluation.subject import TrainingSubject
from verification.report import Verdict

flint = pytest.importorskip("flint")


# --- the sentences ------------------------------------------------------------------------------


def test_the_lines_of_a_minimum():
    found = Certificate(
        outcome=Outcome.MINIMUM, bits=256, distance=1.2345e-9, radius=3.4567e-5, rho=0.25,
        min_curvature=2e-4, objective_lower=1.0, objective_upper=1.5, objective_digits="[1.2]",
    )  # fmt: skip
    first, contraction, curvature, objective = certificate.entries(found)
    assert (first.name, first.kind) == ("certificate.minimum", "claim")
    assert (first.verdict, first.measured) == (Verdict.PASSED, 1.2345e-9)
    assert first.message == (
        "there is a strict local minimiser, the only stationary point within 3.46e-05 of the"
        " polished controls, at distance <= 1.23e-09 from the stored controls, with objective in"
        " [1.2] (256 bits; local, nothing is said of other minima)"
    )
    wanted = (
        (contraction, "contraction", 0.25, 1.0, "<"),
        (curvature, "curvature", 2e-4, 0.0, ">"),
        (objective, "objective", 1.0, 1.5, "<="),
    )
    for line, name, measured, bound, relation in wanted:
        assert line.name == f"certificate.{name}"
        assert (line.verdict, line.kind) == (Verdict.PROVED, "finding")
        assert (line.measured, line.bound, line.relation) == (measured, bound, relation)


def test_the_lines_of_a_saddle_and_of_nothing():
    found = Certificate(outcome=Outcome.SADDLE, curvature_witness=-0.125, distance=1e-12)
    (line,) = certificate.entries(found)
    assert (line.name, line.kind) == ("certificate.minimum", "claim")
    assert (line.verdict, line.measured, line.bound) == (Verdict.FAILED, -0.125, 0.0)
    assert line.relation == ">="
    assert line.message == (
        "the stationary point next to the stored controls is proved to be no minimum: curvature"
        " <= -0.125 along a direction, at distance <= 1e-12"
    )
    (line,) = certificate.entries(Certificate(outcome=Outcome.UNDECIDED, reason="why"))
    assert (line.name, line.kind) == ("certificate.minimum", "claim")
    assert (line.verdict, line.message) == (Verdict.INCONCLUSIVE, "not certified: why")


# --- when it is tried, and tried again ----------------------------------------------------------


def attempts(monkeypatch, outcomes, **options):
    """Bits of each attempt, when these (certificate, retry) come out."""
    asked, waiting = [], list(outcomes)

    def attempt(problem, u, bits, say):
        asked.append((bits, flint.ctx.prec))
        return waiting.pop(0)

    monkeypatch.setattr(certificate, "_attempt", attempt)
    problem = small()
    before = flint.ctx.prec
    found = certify_minimum(problem, np.zeros(problem.n_decision), **options)
    assert flint.ctx.prec == before
    assert all(bits == precision for bits, precision in asked)
    return [bits for bits, _ in asked], found


def test_the_precision_is_doubled_while_that_may_help(monkeypatch):
    no = [Certificate(outcome=Outcome.UNDECIDED, reason=str(i)) for i in range(9)]
    more = [(c, True) for c in no]
    assert attempts(monkeypatch, more) == ([128, 256, 512], no[2])
    assert attempts(monkeypatch, [(no[0], False)]) == ([128], no[0])
    assert attempts(monkeypatch, [(no[0], True), (no[1], False)]) == ([128, 256], no[1])
    assert attempts(monkeypatch, more, bits=64, max_bits=127) == ([64], no[0])
    assert attempts(monkeypatch, more, bits=64, max_bits=128) == ([64, 128], no[1])
    assert attempts(monkeypatch, more, bits=100, max_bits=1000) == ([100, 200, 400, 800], no[3])
    with pytest.raises(ValueError, match="bits is 63; wanted at least 64"):
        attempts(monkeypatch, more, bits=63)


def test_a_kink_ends_the_attempts(monkeypatch):
    def attempt(*_):
        raise ContainsKink((2, 7, 1))

    monkeypatch.setattr(certificate, "_attempt", attempt)
    problem = small()
    found = certify_minimum(problem, np.zeros(problem.n_decision), bits=64)
    assert (found.outcome, found.bits) == (Outcome.UNDECIDED, 64)
    assert found.reason == "a pre-activation may lie on a kink: layer 2, sample 7, unit 1"


@pytest.mark.parametrize(
    ("d", "n_samples", "depth", "tried"),
    [(1000, 40_000, 5, True), (1001, 1, 1, False), (1, 40_001, 5, False), (1000, 200_000, 1, True)],
)
def test_what_is_too_large_is_not_tried(d, n_samples, depth, tried):
    sizes = types.SimpleNamespace(n_decision=d, n_samples=n_samples, depth=depth)
    assert certificate._too_large(sizes) == (
        ""
        if tried
        else f"{d} decision variables and {n_samples * depth} states; the dense ball Hessian is"
        " tried up to 1000 and 200000"
    )
    if not tried:
        found = certify_minimum(sizes, np.zeros(d))
        assert (found.outcome, found.reason) == (
            Outcome.UNDECIDED, certificate._too_large(sizes),
        )  # fmt: skip


def certified(monkeypatch, bounds, tol=1e-8):
    problem, u = solved()
    asked = []
    monkeypatch.setattr(certificate, "gradient_bounds", lambda *_: bounds)
    monkeypatch.setattr(
        certificate,
        "certify_minimum",
        lambda *a, **k: asked.append(a) or Certificate(outcome=Outcome.UNDECIDED, reason="tried"),
    )
    lines = certificate.check_certificate(
        TrainingSubject(TrainingFile(problem=problem, controls=u), tolerance=tol)
    )
    return lines, asked


def test_only_what_may_be_stationary_is_tried(monkeypatch):
    (line,), asked = certified(monkeypatch, (1.001e-8, 1.1e-8))
    assert (line.name, line.kind) == ("certificate.minimum", "claim")
    assert line.verdict is Verdict.NOT_APPLICABLE
    assert line.message == "not stationary: the largest gradient entry is at least 1e-08 > 1e-08"
    assert not asked
    (line,), asked = certified(monkeypatch, (1e-8, 1.0))  # at the tolerance: not provably beyond
    assert line.message == "not certified: tried"
    assert len(asked) == 1
    (line,), asked = certified(monkeypatch, (0.0, math.inf))
    assert (line.verdict, line.kind) == (Verdict.INCONCLUSIVE, "claim")
    assert line.message == "the ball of the gradient is unbounded: the states overflow"
    assert not asked


def test_a_kink_in_the_gradient_is_left_to_the_attempt_to_name(monkeypatch):
    def kink(*_):
        raise ContainsKink((0, 0, 0))

    problem, u = solved()
    monkeypatch.setattr(certificate, "gradient_bounds", kink)
    found = Certificate(outcome=Outcome.UNDECIDED, reason="on a kink")
    monkeypatch.setattr(certificate, "certify_minimum", lambda *_, **__: found)
    (line,) = certificate.check_certificate(
        TrainingSubject(TrainingFile(problem=problem, controls=u))
    )
    assert line.message == "not certified: on a kink"


def test_a_file_that_is_too_large_is_not_checked(monkeypatch):
    problem, u = solved()
    monkeypatch.setattr(certificate, "MAX_DECISION", 23)
    (line,) = certificate.check_certificate(
        TrainingSubject(TrainingFile(problem=problem, controls=u))
    )
    assert (line.name, line.kind) == ("certificate.minimum", "claim")
    assert line.verdict is Verdict.NOT_CHECKED
    assert line.message.startswith("24 decision variables and 48 states;")


# --- the numbers --------------------------------------------------------------------------------


def test_the_bounds_of_the_gradient_enclose_it():
    problem, u = small(), controls.random_start(small(), np.random.default_rng(0), 0.5)
    g = np.abs(rollout.gradient(problem, u)[0]).max()
    low, high = certificate.gradient_bounds(problem, flatten(u))
    assert low <= high
    assert low == pytest.approx(g, rel=1e-12)
    assert high == pytest.approx(g, rel=1e-12)
    with balls.precision(64):
        wide = balls.ball(balls.exact(np.array([0.5, -2.0, 1.0])), np.array([1.0, 0.25, 0.0]))
        assert certificate._gradient_bounds(wide) == pytest.approx((1.75, 2.25))
        around = balls.ball(balls.exact(np.zeros(2)), np.array([1.0, 0.5]))
        assert certificate._gradient_bounds(around) == pytest.approx((0.0, 1.0))


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
    assert 0 < found.radius <= found.radius_max <= 100.5 * found.radius
    assert 0.05 < found.rho < 1
    assert 0.99 < found.dominance <= 1
    J = float(rollout.objective(problem, u))
    assert found.objective_lower <= J + 1e-14
    assert found.objective_upper >= J - 1e-14
    assert found.objective_digits.startswith(f"[{J:.12f}"[:14])
    # (1 - rho)/|B|_w <= lambda_min, and not by orders of magnitude below
    least = scipy.linalg.eigvalsh(H)[0]
    assert 1e-2 * least < found.min_curvature <= least


def test_progress_names_its_three_parts():
    said = []
    problem, u = solved()
    certify_minimum(problem, flatten(u), progress=said.append)
    parts = {text.rpartition(",")[0] for text in said}
    assert parts == {
        "certificate: Hessian", "certificate: Hessian at the polished point",
        "certificate: Hessian over the box",
    }  # fmt: skip
    assert all(text.endswith("%") for text in said)


def test_the_flattest_direction_is_named_relative_to_the_largest_curvature():
    problem = small(depth=1)
    H = np.diag([4.0, -3.0, 1.0, -8.0, 2e-3, 5.0])
    flat, sentence = certificate._flattest(problem, H)
    assert flat == pytest.approx(2.5e-4)
    assert "(least eigenvalue about 0.002, its direction is largest in " in sentence
    assert controls.describe(problem, 4) in sentence
    assert sentence.endswith("a null direction, as r = 0 leaves them")


def test_a_saddle_is_proved_by_a_direction_or_left_open():
    undecided = lambda reason: Certificate(outcome=Outcome.UNDECIDED, reason=reason)  # noqa: E731
    with balls.precision(64):
        H = balls.exact(np.array([[1.0, 2.0], [2.0, 1.0]]))
        subject = {"bits": 64, "distance": 1e-9}
        found = certificate._saddle(H, np.array([3.0, -1.0]), subject, undecided)
        assert found.outcome is Outcome.SADDLE
        assert found.curvature_witness == pytest.approx(-2.0)  # 9 + 1 - 12
        assert (found.bits, found.distance) == (64, 1e-9)
        found = certificate._saddle(H, np.array([1.0, 1.0]), subject, undecided)
        assert found.outcome is Outcome.UNDECIDED
        assert found.reason == (
            "a unique stationary point is proved, but not that its Hessian is positive definite"
        )
        zero = balls.exact(np.zeros((2, 2)))
        assert (
            certificate._saddle(zero, np.ones(2), subject, undecided).outcome is Outcome.UNDECIDED
        )


# --- why an attempt fails, and whether more digits may help -------------------------------------


def attempt(monkeypatch, problem=None, u=None, bits=128, **replaced):
    if problem is None:
        problem, start = solved()
        u = flatten(start)
    for name, value in replaced.items():
        monkeypatch.setattr(certificate, name, value)
    with balls.precision(bits):
        return certificate._attempt(problem, u, bits, lambda text: None)


def test_an_unbounded_ball_is_no_matter_of_digits(monkeypatch):
    true = certificate.gradient_and_hessian

    def unbounded(which):
        def found(model, x, progress):
            g, H = true(model, x, progress)
            part = g if which == "g" else H
            part[(0,) * part.ndim] = flint.arb("nan") if which == "H" else flint.arb("inf")
            return g, H

        return found

    for which in "gH":
        found, retry = attempt(monkeypatch, gradient_and_hessian=unbounded(which))
        assert retry is False
        assert found.reason == "the ball of the gradient or of the Hessian is unbounded"
        assert found.bits == 128


def test_a_polish_that_fails_names_a_null_direction_where_there_is_one(monkeypatch):
    fails = lambda model, stored, H, bits: (stored, "no convergence")  # noqa: E731
    for flat, said in ((1e-14, "sentence"), (1e-13, "no convergence"), (0.5, "no convergence")):
        found, retry = attempt(
            monkeypatch, polish=fails, _flattest=lambda *_, flat=flat: (flat, "sentence")
        )
        assert (found.reason, retry) == (said, False)


def test_a_singular_hessian_at_the_polished_point(monkeypatch):
    found, retry = attempt(monkeypatch, approximate_inverse=lambda H: None)
    assert found.reason == "the Hessian is singular"
    assert retry is False


@pytest.mark.parametrize(
    ("row", "flat", "outcome"),
    [
        (0.5, 2.0**-127, ("sentence", True)),  # digits are what is missing
        (0.5, 2.0**-128, ("sentence", False)),  # a null direction stays one
        (np.nan, 1.0, ("sentence", True)),
        (0.499, 1.0, None),
    ],
)
def test_a_hessian_whose_inverse_is_too_rough(row, flat, outcome, monkeypatch):
    true = certificate.defect_of

    def rough(B, H):
        defect = np.zeros_like(true(B, H))
        defect[3, :2] = row / 2
        return defect

    found, retry = attempt(
        monkeypatch,
        defect_of=rough,
        _flattest=lambda *_: (flat, "sentence"),
        widest_box=lambda *_: None,
    )
    if outcome is None:
        outcome = ("no box was found on which I - B H contracts", True)
    assert (found.reason, retry) == outcome


def test_a_hessian_that_is_not_definite_is_shown_along_its_least_eigenvector(monkeypatch):
    problem = small(block="double", depth=2)
    u = flatten(controls.zeros(problem))
    asked = []

    def saddle(H, direction, subject, undecided):
        asked.append((balls.nearest(H), direction))
        return Certificate(outcome=Outcome.SADDLE, **subject)

    found, retry = attempt(monkeypatch, problem, u, _saddle=saddle)
    assert retry is False
    assert found.dominance <= 0
    H, direction = asked[0]
    values = scipy.linalg.eigvalsh(assembled_hessian(problem, unflatten(problem, u)))
    assert values[0] < 0
    assert direction @ H @ direction == pytest.approx(values[0], rel=1e-3)  # H is over the box
    assert found.radius > 0
    assert found.distance < 1e-12
    # a margin of exactly 0 proves nothing
    problem, start = solved()
    found, _ = attempt(
        monkeypatch, problem, flatten(start), _saddle=saddle, gershgorin=lambda *_: 0.0
    )
    assert found.outcome is Outcome.SADDLE
