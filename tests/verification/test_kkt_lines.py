"""Every number, place and sentence of the first-order lines, from their definitions."""

import dataclasses
import types

import numpy as np
import pytest
from small_minima import small, solved
from zoo import claimed

from ocp import controls as containers
from ocp.controls import flatten, unflatten
from ocp.evaluation import rollout
from ocp.evaluation.assembly import assembled_hessian
from ocp.files import TrainingFile
from verification.checks import first_order
from verification.evaluation import states
from verification.evaluation.descent import Descent
from verification.evaluation.subject import TrainingSubject
from verification.report import Verdict


def random_file(seed=0, **changes):
    problem = small(**changes)
    u = containers.random_start(problem, np.random.default_rng(seed), 0.5)
    return problem, u, TrainingSubject(claimed(problem, u))


def moved(index, by, **changes):
    """A minimum with one control moved."""
    problem, u = solved(**changes)
    flat = flatten(u)
    flat[index] += by
    return (
        problem,
        unflatten(problem, flat),
        TrainingSubject(claimed(problem, unflatten(problem, flat))),
    )


# --- stationarity -------------------------------------------------------------------------------


def test_the_gradient_is_named_with_its_worst_entry():
    problem, u, subject = moved(9, 1e-3)
    g, _ = rollout.gradient(problem, u)
    line = first_order.stationarity(subject)
    assert line.name == "first_order.gradient"
    assert line.measured == pytest.approx(np.abs(g).max(), rel=1e-9)
    assert line.bound == 1e-8
    assert line.where == containers.describe(problem, int(np.abs(g).argmax()))
    assert (line.verdict, line.explanation) == (Verdict.FAILED, "")
    assert (
        first_order.stationarity(TrainingSubject(subject.content, tolerance=1.0)).verdict
        is Verdict.PASSED
    )


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_gradient_that_is_not_finite_fails(value):
    stub = types.SimpleNamespace(grad_inf_norm=value, tolerance=1e-8)
    line = first_order.stationarity(stub)
    assert line.verdict is Verdict.FAILED
    assert line.bound == 1e-8
    assert "states or controls leave the floating-point range" in line.explanation


def on_kinks(found):
    problem = small()
    step = np.zeros(problem.n_decision)
    step[5], step[2] = -0.3, 0.4
    descent = Descent(step=step, decrease=0.0125, rate=0.25) if found else None
    gradient = np.zeros(problem.n_decision)
    gradient[7] = -3.0
    return types.SimpleNamespace(
        problem=problem.with_(activation="relu"), gradient=gradient, grad_inf_norm=3.0,
        tolerance=1e-8, kinks=(2, "layer 1, sample 3, unit 0"), kink_descent=descent,
    )  # fmt: skip


def test_on_kinks_the_gradient_decides_only_with_a_descent():
    reason = "2 pre-activations on kinks, first at layer 1, sample 3, unit 0"
    subject = on_kinks(found=False)
    line = first_order.stationarity(subject)
    assert line.verdict is Verdict.INCONCLUSIVE
    assert line.explanation == f"{reason}; no descent found by evaluating J"
    assert (line.measured, line.bound) == (3.0, 1e-8)
    assert line.where == containers.describe(subject.problem, 7)
    subject = on_kinks(found=True)
    line = first_order.stationarity(subject)
    assert line.verdict is Verdict.FAILED
    assert (line.measured, line.bound) == (0.25, 1e-8)
    assert line.where == containers.describe(subject.problem, 2)
    assert line.explanation == (
        f"{reason}; J falls by 1.25e-02 along a step of length 5.0e-01, evaluated (measured:"
        " decrease per unit of |step|_1)"
    )


@pytest.mark.parametrize(
    ("activation", "count", "said"),
    [("relu", 1, True), ("leaky_relu", 1, True), ("softsign", 1, False), ("relu", 0, False)],
)
def test_kinks_are_a_reason_for_relu_alone_and_only_if_there_are_some(activation, count, said):
    stub = types.SimpleNamespace(
        kinks=(count, "there"), problem=types.SimpleNamespace(activation=activation)
    )
    assert bool(first_order.kink_reason(stub)) is said


# --- scaled -------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained", [(), ("lift", "readout")])
def test_the_scaled_gradient_is_that_of_the_worst_layer(trained):
    problem, u, subject = random_file(trained=("layers", *trained))
    g, _ = rollout.gradient(problem, u)
    size = 6
    quadratic = problem.h * problem.r * flatten(u)
    if trained:  # the cost of the ends has a weight of its own, and is relative to nothing
        quadratic = first_order.decay(problem, u)
        free = problem.with_(r=0.0, r_ends=0.0)
        assert g - quadratic == pytest.approx(rollout.gradient(free, u)[0], abs=1e-12)
    parts = [slice(0, 6), slice(6, 12), slice(12, 18), slice(18, 24)]
    names = [f"layer {k}" for k in range(4)]
    if trained:
        parts, names = [*parts, slice(24, problem.n_decision)], [*names, "trained ends"]
        assert problem.n_decision == 24 + 6 + 6
    norm = np.linalg.norm
    scaled = [norm(g[p]) / (norm(quadratic[p]) + norm((g - quadratic)[p])) for p in parts]
    whole = [norm(g[p]) for p in parts]
    line = first_order.scaled_stationarity(subject)
    assert line.name == "first_order.scaled"
    assert line.verdict is Verdict.OBSERVED
    assert line.measured == pytest.approx(max(scaled), rel=1e-9)
    assert line.where == names[int(np.argmax(scaled))]
    assert line.message == (
        "|g_k|_2 over the sum of the norms of its two terms, worst layer; largest |g_k|_2 ="
        f" {max(whole):.1e} at {names[int(np.argmax(whole))]}"
    )
    assert first_order.layer_groups(subject) == list(zip(names, parts, strict=True))
    assert size == parts[0].stop


def split(whole, quadratic, data, monkeypatch):
    """A file whose layers have these norms of the gradient and its two terms."""
    spread = lambda values: np.repeat(np.array(values, dtype=float), 6) / np.sqrt(6)  # noqa: E731
    problem = small()
    monkeypatch.setattr(first_order, "decay", lambda *_: spread(quadratic))
    return types.SimpleNamespace(
        problem=problem, controls=None, gradient=spread(whole), data_gradient=spread(data)
    )


def test_layers_whose_terms_vanish_beside_the_others_are_not_the_worst(monkeypatch):
    # layer 1: all rounding; layer 2: nothing at all; layer 3: small, but more than rounding
    whole, quadratic = (1.0, 1e-13, 0.0, 1e-12), (2.0, 0.5e-12, 0.0, 3e-12)
    data = (3.0, 1e-13, 0.0, 5e-12)
    line = first_order.scaled_stationarity(split(whole, quadratic, data, monkeypatch))
    assert line.measured == pytest.approx(0.2)
    assert line.where == "layer 0"
    whole = (1.0, 1e-13, 0.0, 8e-12)
    line = first_order.scaled_stationarity(split(whole, quadratic, data, monkeypatch))
    assert line.measured == pytest.approx(1.0)
    assert line.where == "layer 3"
    assert "largest |g_k|_2 = 1.0e+00 at layer 0" in line.message
    nothing = (0.0,) * 4
    line = first_order.scaled_stationarity(split(nothing, nothing, nothing, monkeypatch))
    assert line.measured == 0.0
    line = first_order.scaled_stationarity(split((np.nan, 0, 0, 0), nothing, nothing, monkeypatch))
    assert (line.verdict, line.message) == (Verdict.NOT_APPLICABLE, "the gradient is not finite")


# --- Newton distance ----------------------------------------------------------------------------


def test_the_newton_distance_is_that_of_the_whole_hessian():
    for by, near in ((1e-3, False), (1e-10, True)):
        problem, u, subject = moved(9, by, r=0.1)
        g, _ = rollout.gradient(problem, u)
        step = np.linalg.solve(assembled_hessian(problem, u), g)
        line = first_order.newton_distance(subject)
        assert line.name == "first_order.newton_distance"
        assert line.verdict is Verdict.OBSERVED
        assert line.measured == pytest.approx(np.abs(step).max(), rel=1e-4)
        assert line.where == containers.describe(problem, int(np.abs(step).argmax()))
        assert line.message == (
            "a stationary point lies within about this distance"
            if near
            else "one Newton step; no statement this far from a stationary point"
        )


def spectral(values, gradient, controls=0.0, **more):
    """A file with a diagonal Hessian."""
    problem = small(depth=1)
    d = problem.n_decision
    assert len(values) == len(gradient) == d
    found = types.SimpleNamespace(
        eigenvalues=np.array(values, dtype=float), vectors=np.eye(d), band=1e-6
    )
    u = containers.Controls(A=np.full((1, 2, 2), controls), b=np.zeros((1, 2)))
    keys = {"kinks": (0, ""), "tolerance": 1e-8, "too_large": "", "hessian": found}
    keys |= {"gradient": np.array(gradient, dtype=float), "problem": problem, "controls": u}
    keys["grad_inf_norm"] = float(np.abs(keys["gradient"]).max())
    return types.SimpleNamespace(**(keys | more))


def test_directions_within_the_band_are_left_out_of_the_newton_step():
    values = (-2.0, -1e-6, 0.0, 1e-6, 1.1e-6, 4.0)
    step, left = first_order.newton_step(spectral(values, (1, 1, 1, 1, 1.1e-6, 8)))
    assert step == pytest.approx([-0.5, 0, 0, 0, 1, 2])
    assert left == 3
    line = first_order.newton_distance(spectral(values, (1, 1, 1, 1, 1.1e-6, 8)))
    assert line.verdict is Verdict.NOT_APPLICABLE
    assert line.message == "the reduced Hessian is singular within its error band"


def test_a_point_within_the_tolerance_but_far_from_stationary_is_undecided():
    values, g = (1e-5, 2e-5, 1, 1, 1, 1), (5e-9, 2e-8, 0, 0, 0, 0)
    subject = spectral(values, g, tolerance=1e-7)
    assert first_order.nearby(subject) == 1e-3
    assert first_order.far(subject) == ""  # exactly at the limit
    assert first_order.newton_distance(subject).verdict is Verdict.OBSERVED
    subject = spectral(values, (5e-9, -2.2e-8, 0, 0, 0, 0), tolerance=1e-7)
    text = "one Newton step moves the controls by 0.0011, more than 0.001"
    assert first_order.far(subject) == text
    line = first_order.newton_distance(subject)
    assert line.verdict is Verdict.INCONCLUSIVE
    assert line.measured == pytest.approx(1.1e-3)
    assert line.bound == 1e-3
    assert line.where == containers.describe(subject.problem, 1)
    assert line.undecidable == text
    assert "polish the file, or give a smaller --tol" in line.message
    # large controls: relative to them
    subject = spectral(values, (5e-9, -2.2e-8, 0, 0, 0, 0), tolerance=1e-7, controls=-2.0)
    assert first_order.nearby(subject) == 2e-3
    assert first_order.newton_distance(subject).verdict is Verdict.OBSERVED
    # far, but the gradient says so already
    subject = spectral(values, (5e-9, -2.2e-8, 0, 0, 0, 0), tolerance=1e-8)
    assert first_order.newton_distance(subject).verdict is Verdict.OBSERVED
    # exactly at the tolerance counts as within it
    subject = spectral(values, (5e-9, -2.2e-8, 0, 0, 0, 0), tolerance=2.2e-8)
    assert first_order.newton_distance(subject).verdict is Verdict.INCONCLUSIVE


def test_no_newton_distance_on_kinks_or_without_a_finite_gradient():
    subject = spectral((1,) * 6, (1,) * 6, kinks=(1, "layer 0"))
    subject.problem = subject.problem.with_(activation="relu")
    line = first_order.newton_distance(subject)
    assert line.verdict is Verdict.NOT_APPLICABLE
    assert line.message == "no Hessian: 1 pre-activations on kinks, first at layer 0"
    line = first_order.newton_distance(spectral((1,) * 6, (1,) * 6, grad_inf_norm=np.inf))
    assert (line.verdict, line.message) == (Verdict.NOT_APPLICABLE, "the gradient is not finite")


@pytest.mark.parametrize(
    ("g", "norm", "outcome", "measured"),
    [
        (2e-2, 1e-8, Verdict.INCONCLUSIVE, 0.02),  # within the tolerance, terms do not cancel
        (1e-2, 1e-8, Verdict.NOT_CHECKED, np.nan),  # at the limit
        (2e-2, 1.1e-8, Verdict.NOT_CHECKED, np.nan),  # the gradient itself says it
    ],
)
def test_without_a_hessian_the_terms_of_the_gradient_must_cancel(
    g, norm, outcome, measured, monkeypatch
):
    monkeypatch.setattr(first_order, "decay", lambda *_: np.array([0.4, 0.0]))
    subject = types.SimpleNamespace(
        problem=small(), controls=None, kinks=(0, ""), tolerance=1e-8, too_large="large",
        gradient=np.array([0.0, g]), data_gradient=np.array([0.0, 0.6]), grad_inf_norm=norm,
    )  # fmt: skip
    line = first_order.newton_distance(subject)
    assert line.verdict is outcome
    if outcome is Verdict.INCONCLUSIVE:
        assert line.measured == pytest.approx(measured)
        assert line.bound == 1e-2
        assert "its terms do not cancel" in line.undecidable
    else:
        assert line.message == "large"


def test_terms_of_the_gradient_that_are_rounding_are_balanced(monkeypatch):
    problem = small(depth=3, h=0.25, gamma=1.25, beta=1)  # weight 2
    subject = types.SimpleNamespace(problem=problem, controls=None)
    subject.gradient, subject.data_gradient = np.array([0.5e-12]), np.array([1.5e-12])
    monkeypatch.setattr(first_order, "decay", lambda *_: np.array([0.5e-12]))
    assert (
        first_order.unbalanced(subject) == 0.0
    )  # terms of 2e-12, no more than 1e-12 times the weight
    subject.data_gradient = np.array([1.6e-12])
    assert first_order.unbalanced(subject) == pytest.approx(0.5 / 2.1)
    subject.problem = problem.with_(beta=0)  # weight 1.25
    subject.data_gradient = np.array([1.0e-12])
    assert first_order.unbalanced(subject) == pytest.approx(0.5 / 1.5)
    monkeypatch.setattr(first_order, "decay", lambda *_: np.zeros(1))
    subject.data_gradient = np.ones(1)
    assert first_order.unbalanced(subject) == 0.0  # r = 0: nothing can cancel


# --- stored costate -----------------------------------------------------------------------------


def with_costate(change, float32=(), tolerance=1e-8, **changes):
    problem, u, _ = random_file(**changes)
    _, costate = rollout.gradient(problem, u)
    costate = change(costate.copy())
    content = TrainingFile(problem=problem, controls=u, costate=costate, float32=float32)
    return problem, u, first_order.stored_costate(TrainingSubject(content, tolerance=tolerance))


def in_batches_of_five(monkeypatch):
    whole = next(iter(states.batches(small())))
    parts = [
        dataclasses.replace(whole, rows=c, s=whole.s[c], q=whole.q[c], labels=whole.labels[c])
        for c in (slice(0, 5), slice(5, 10), slice(10, 12))
    ]
    monkeypatch.setattr(first_order, "batches", lambda *_, **__: iter(parts))


@pytest.mark.parametrize("batch", [None, 5])
def test_the_stored_costate_is_put_into_the_adjoint_equations(batch, monkeypatch):
    if batch:
        in_batches_of_five(monkeypatch)

    def last(costate):
        costate[4, 7, 1] += 1e-3
        costate[4, 2, 0] -= 4e-3
        return costate

    problem, u, (terminal, recursion) = with_costate(last)
    largest = np.abs(rollout.gradient(problem, u)[1]).max()
    assert [terminal.name, recursion.name] == [
        "first_order.costate_terminal", "first_order.costate_recursion",
    ]  # fmt: skip
    assert terminal.measured == pytest.approx(4e-3, rel=1e-9)
    assert terminal.where == "layer 4, sample 2"
    assert terminal.bound == 1e-8
    # x_4 = x_3 + h tanh(A x_3 + b): layer 3 wants (I + h A' diag(sigma')) lambda_4 + its own cost
    x = rollout.rollout(problem, u).X[3, 2]
    slope = 1 - np.tanh(u.A[3] @ x + u.b[3]) ** 2
    jacobian = np.eye(2) + problem.h * slope[:, None] * u.A[3]
    error = np.abs(jacobian.T @ [-4e-3, 0.0]).max()
    assert recursion.measured == pytest.approx(error, rel=1e-6)
    assert recursion.where == "layer 3, sample 2"
    moved = largest if error < largest else error
    assert recursion.explanation == f"{error / moved:.1e} of the largest costate"

    def middle(costate):
        costate[1, 11, 0] += 2e-3
        return costate

    _, _, (terminal, recursion) = with_costate(middle)
    assert terminal.measured < 1e-12
    assert terminal.verdict is Verdict.PASSED
    assert recursion.where in ("layer 0, sample 11", "layer 1, sample 11")
    assert recursion.measured >= 2e-3 * (1 - 1e-9)
    assert recursion.verdict is Verdict.FAILED


def test_the_bound_on_the_costate_is_the_tolerance_or_a_share_of_its_largest_entry():
    same = lambda costate: costate  # noqa: E731
    problem, u, (line, _) = with_costate(same, tolerance=1e-8)
    largest = np.abs(rollout.gradient(problem, u)[1]).max()
    assert line.bound == 1e-8
    _, _, (line, _) = with_costate(same, tolerance=10.0)
    assert line.bound == pytest.approx(1e-3 * largest, rel=1e-9)
    single = lambda costate: costate.astype(np.float32).astype(float)  # noqa: E731
    _, _, (line, other) = with_costate(single, float32=("costate",))
    assert line.bound == other.bound == pytest.approx(1e-4 * largest, rel=1e-5)
    assert line.verdict is other.verdict is Verdict.PASSED
    _, _, (line, _) = with_costate(single, float32=("A",), tolerance=1e-10)
    assert line.bound == 1e-10
    assert line.verdict is Verdict.FAILED


def test_a_costate_that_is_not_a_number_fails_and_is_the_worst(monkeypatch):
    in_batches_of_five(monkeypatch)

    def broken(costate):
        costate[4, 3, 0] = costate[4, 8, 1] = np.nan  # the first of them is named
        costate[4, 5, 1] += 1.0
        return costate

    _, _, (terminal, recursion) = with_costate(broken)
    assert terminal.where == "layer 4, sample 3"
    assert terminal.verdict is recursion.verdict is Verdict.FAILED
    assert recursion.where == "layer 3, sample 3"


def test_no_costate_to_judge():
    problem, u, _ = random_file()
    lines = first_order.stored_costate(TrainingSubject(TrainingFile(problem=problem, controls=u)))
    assert [line.name for line in lines] == [
        "first_order.costate_terminal", "first_order.costate_recursion",
    ]  # fmt: skip
    for line in lines:
        assert (line.verdict, line.kind) == (Verdict.NOT_APPLICABLE, "claim")
        assert line.message == "the file stores no costate"
    subject = on_kinks(found=False)
    subject.controls, subject.content = u, types.SimpleNamespace(costate=np.zeros((5, 12, 2)))
    for line in first_order.stored_costate(subject):
        assert (line.verdict, line.kind) == (Verdict.NOT_APPLICABLE, "claim")
        assert line.message.startswith("the costate is not unique: 2 pre-activations")
