"""Near a stationary point means that Newton's method contracts: a claim of its own, beside the
tolerance on the gradient, which tiny weights and flat tails meet anywhere."""

import dataclasses

import numpy as np
import pytest
from closed_forms import bowl, file_at, valley
from small_minima import small, solved
from zoo import claimed, minimum, moved

from ocp.controls import Controls, describe, random_start
from ocp.evaluation import rollout
from ocp.evaluation.assembly import assembled_hessian
from ocp.problem import Problem
from ocp.solvers.optimality import assess
from ocp.solvers.solution import Status
from verification.api import verify_content
from verification.evaluation import adjoint
from verification.evaluation.newton import minres
from verification.report import DECIDED, Verdict

LINE, CURVATURE = "first_order.newton_distance", "second_order.curvature"
#: more decision variables than a dense Hessian is formed for
WIDE = {"width": 85}


def judged(content, tolerance=1e-8, **options):
    return verify_content(
        [content], tolerance=tolerance, only=["first_order", "second_order"], **options
    )


def line(content, tolerance=1e-8, **options):
    found = judged(content, tolerance, **options).named(LINE)
    assert found.kind == "claim" or found.verdict not in DECIDED
    return found


def untrained(**weights):
    problem = small(beta=0, **weights)
    return claimed(problem, random_start(problem, np.random.default_rng(0), 0.5))


def tail(b: float, activation="tanh", **changes):
    """r = 0, three samples far to both sides: J falls for ever along u -> t u."""
    problem = Problem(
        **({"inputs": [[1000.0], [-1000.0], [1500.0]], "labels": [0, 1, 0], "n_classes": 2}
        | {"depth": 1, "width": 1, "beta": 0, "h": 0.5, "r": 0.0, "activation": activation}
        | {"readout_weight": [[5e-4], [-5e-4]], "readout_bias": [0.0, 0.0]} | changes)
    )  # fmt: skip
    return file_at(problem, A=b)


# --- no stationary point --------------------------------------------------------------------------


@pytest.mark.parametrize("a", [8.55e-3, 9e-3, 1e-2, 1.2e-2])
def test_an_objective_without_a_stationary_point_passes_neither_claim(a):
    content = tail(a)
    report = judged(content)
    assert report.named("first_order.gradient").verdict is Verdict.PASSED
    for name in (LINE, CURVATURE):
        assert report.named(name).verdict is Verdict.INCONCLUSIVE
    assert report.exit_code == 3
    # and a solver does not call it solved
    found = assess(content.problem, content.controls, 1e-8)
    assert found.status in (Status.FLAT, Status.DEGENERATE)
    further = tail(2 * a)
    J = [float(rollout.objective(c.problem, c.controls)) for c in (content, further)]
    assert J[1] < J[0]


@pytest.mark.parametrize("r", [1e-13, 0.0])
def test_random_controls_do_not_pass_by_their_weights(r):
    content = untrained(gamma=1e-12, r=r)
    report = judged(content)
    assert report.named("first_order.gradient").verdict is Verdict.PASSED
    assert report.named(LINE).verdict is Verdict.INCONCLUSIVE
    assert report.exit_code == 3
    assert assess(content.problem, content.controls, 1e-8).status is not Status.SOLVED


def test_nor_does_their_curvature_pass():
    # positive curvature far from a stationary point is no minimum: only the decay is left
    problem = small(beta=0, gamma=1e-14, r=1e-9)
    content = claimed(problem, random_start(problem, np.random.default_rng(0), 0.5))
    found = judged(content).named(CURVATURE)
    assert found.measured > found.bound
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "not near a stationary point" in found.explanation
    assert assess(problem, content.controls, 1e-8).status is Status.FLAT


# --- minima ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [1.0, 1e-6, 1e-12])
def test_the_weights_change_no_verdict_of_a_minimum(by):
    problem, u = solved(beta=0, r=0.1)
    content = claimed(problem.with_(gamma=by * problem.gamma, r=by * problem.r), u)
    report = judged(content)
    assert report.named(LINE).verdict is Verdict.PASSED
    assert report.exit_code == 0
    assert assess(content.problem, u, 1e-8).status is Status.SOLVED


@pytest.mark.parametrize("by", [1e-3, -1e-10])
def test_the_newton_distance_is_that_of_the_whole_hessian(by):
    content = moved(minimum(r=0.1), 9, by)
    problem, u = content.problem, content.controls
    step = np.linalg.solve(assembled_hessian(problem, u), rollout.gradient(problem, u)[0])
    found = line(content)
    assert found.verdict is (Verdict.PASSED if abs(by) < 1e-9 else Verdict.OBSERVED)
    assert found.measured == pytest.approx(np.abs(step).max(), rel=1e-4)
    assert found.where == describe(problem, int(np.abs(step).argmax()))


@pytest.mark.parametrize(
    "changes", [{}, {"beta": 0, "depth": 9}, {"scheme": "rk4"}, {"block": "double"}]
)
def test_the_rounding_floor_is_that_of_the_solvers_too(changes):
    """Two routes to the size of the terms of the gradient, and a bound of its rounding."""
    problem, u = solved(r=0.1, **changes)
    size = adjoint.gradient_size(problem, u)
    assert rollout.gradient_size(problem, u) == pytest.approx(size, rel=1e-12)
    assert size >= np.abs(rollout.gradient(problem, u)[0]).max()
    one, two = adjoint.gradient(problem, u)[0], rollout.gradient(problem, u)[0]
    assert np.abs(one - two).max() <= 100 * np.finfo(float).eps * size


# --- edges ----------------------------------------------------------------------------------------


def test_a_step_of_the_size_of_the_controls_leaves_it_open():
    # the step of a bowl is u itself, and one step ends at the minimum
    assert line(bowl(b=0.99e-3, r=1.0), tolerance=1.0).verdict is Verdict.PASSED
    found = line(bowl(A=1e-4, b=-np.nextafter(1e-3, 1), r=1.0), tolerance=1.0)
    assert (found.verdict, found.where) == (Verdict.INCONCLUSIVE, "layer 0, b[0]")
    assert (found.measured, found.bound) == (pytest.approx(1e-3), 1e-3)
    # dJ/db = 1/2: at the tolerance is within it; beyond it the gradient says so itself
    assert line(bowl(b=1.0, r=1.0), 0.5).verdict is Verdict.INCONCLUSIVE
    assert line(bowl(b=1.0, r=1.0), np.nextafter(0.5, 0)).verdict is Verdict.OBSERVED


@pytest.mark.parametrize(
    ("share", "verdict"), [(0.999, Verdict.PASSED), (1.001, Verdict.INCONCLUSIVE)]
)
def test_steps_are_relative_to_large_controls(share, verdict):
    # F'/(L h F'') = sinh(z)/(L h); |u|_inf = 2
    z = float(np.arcsinh(2e-3 * share * 10.0 * 0.5))
    found = line(valley(10.0, z, b=-2.0, r=1e-13, activation="identity"), tolerance=1.0)
    assert found.verdict is verdict
    assert found.measured == pytest.approx(2e-3 * share, rel=1e-6)
    assert found.bound == 2e-3


@pytest.mark.parametrize(("z", "contracts"), [(0.5, True), (0.9, True), (1.3, False), (2.5, False)])
def test_the_gradient_must_fall_to_a_quarter(z, contracts):
    """Newton on softplus(z) - z/2 takes z to z - sinh z: the share that is left grows with z."""
    slope = lambda v: 1 / (1 + np.exp(-v)) - 0.5  # noqa: E731
    assert bool(abs(slope(z - np.sinh(z))) <= slope(z) / 4) is contracts
    content = valley(100.0, z, b=1e3, r=1e-9, activation="identity")
    found = line(content, tolerance=1e9)
    assert found.verdict is (Verdict.PASSED if contracts else Verdict.INCONCLUSIVE)
    assert ("not below a quarter" in found.explanation) is not contracts


def test_the_gradient_at_rounding_is_no_excuse_for_a_long_step():
    """|g| = 1e-21 of terms of size 5e-8: below the floor, and the step is 5e-4 all the same."""
    content = tail(0.0125, gamma=1e-8)
    g = float(np.abs(rollout.gradient(content.problem, content.controls)[0]).max())
    assert g < 1e-15
    assert line(content).verdict is Verdict.INCONCLUSIVE


# --- directions without curvature -----------------------------------------------------------------


def test_exact_null_directions_are_left_out_and_others_leave_it_open():
    content = claimed(*solved(r=0.0))
    report = judged(content)
    found = report.named(LINE)
    assert found.verdict in (Verdict.PASSED, Verdict.INCONCLUSIVE)
    assert report.named(CURVATURE).verdict is Verdict.INCONCLUSIVE
    # a direction in the band that nothing explains
    band = 10 * 4 * np.finfo(float).eps * 0.5  # d = 4 controls, |H| = h r = 1/2
    lift = {"r": 1.0, "lift": -1.0, "trained": ("layers", "lift")}
    found = line(bowl(r_ends=band, **lift))
    assert found.verdict is Verdict.INCONCLUSIVE
    assert "2 eigenvalues of the reduced Hessian lie within the error band" in found.undecidable
    found = line(bowl(r_ends=np.nextafter(band, 1), **lift))
    assert (found.verdict, found.where) == (Verdict.INCONCLUSIVE, "lift_weight[0,0]")
    assert found.measured == pytest.approx(1.0, rel=1e-12)


# --- large files ----------------------------------------------------------------------------------


def test_large_files_are_judged_by_products_within_the_budget():
    near = bowl(b=1e-9, r=1.0, **WIDE)
    assert line(near, budget=35.0).verdict is Verdict.PASSED
    found = line(near, budget=7.0)
    assert found.verdict is Verdict.NOT_CHECKED
    assert "the budget ended" in found.explanation
    assert judged(near, budget=7.0).named(CURVATURE).verdict is Verdict.INCONCLUSIVE
    far = bowl(b=1e-2, r=1.0, **WIDE)
    assert line(far, tolerance=1.0).verdict is Verdict.INCONCLUSIVE
    assert line(far).verdict is Verdict.NOT_CHECKED  # above the tolerance no step is asked for


def test_the_iterated_step_is_that_of_the_hessian():
    problem, u = solved(r=0.1)
    H, g = assembled_hessian(problem, u), np.random.default_rng(0).standard_normal(24)
    s, used = minres(lambda v: H @ v, g, 100)
    assert np.linalg.norm(H @ s - g) <= 0.01 * np.linalg.norm(g)
    assert 0 < used <= 100
    assert minres(lambda v: H @ v, g, used - 1)[0] is None
    assert minres(lambda v: H @ v, 0 * g, 0)[0] is not None


# --- kinks ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 85])
def test_kinks_of_softsign_come_before_any_curvature(width):
    """A pre-activation exactly on the kink with a multiplier: J falls on one side."""
    content = valley(1.0, 0.3, b=0.0, r=1.0, width=width, activation="softsign")
    g = rollout.gradient(content.problem, content.controls)[0]
    found = judged(content, tolerance=2 * float(np.abs(g).max())).named(CURVATURE)
    assert "pre-activations on kinks" in found.explanation
    assert found.verdict in (Verdict.INCONCLUSIVE, Verdict.FAILED)
    if found.verdict is Verdict.FAILED:
        assert found.measured < 0 and "J falls by" in found.explanation


def test_moving_one_control_far_enough_is_seen():
    problem, u = solved()
    for by, verdict in ((1e-6, Verdict.PASSED), (2e-3, Verdict.INCONCLUSIVE)):
        A = u.A.copy()
        A[2, 0, 1] += by * max(1.0, np.abs(u.A).max(), np.abs(u.b).max())
        content = claimed(problem, Controls(A=A, b=u.b))
        assert line(content, tolerance=1.0).verdict is verdict
        # beyond the tolerance the gradient itself fails, and this line only informs
        assert line(dataclasses.replace(content)).verdict is Verdict.OBSERVED
