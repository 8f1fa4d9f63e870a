"""Every number, bound, verdict and place of the first-order lines, recomputed; edges from both
sides, on files of known truth."""

import dataclasses

import numpy as np
import pytest
from closed_forms import bowl, file_at, statement, valley
from sentences import numbers
from small_minima import small
from zoo import claimed, minimum, moved

from ocp import controls as containers
from ocp.controls import describe
from ocp.evaluation import rollout
from verification import Verdict, verify_content
from verification.checks.first_order import check_first_order
from verification.evaluation.subject import TrainingSubject

GRADIENT, SCALED, NEWTON, TERMINAL, RECURSION = (
    f"first_order.{name}"
    for name in ("gradient", "scaled", "newton_distance", "costate_terminal", "costate_recursion")
)
#: more decision variables than a dense Hessian is formed for (400 MiB: 7240 of them)
WIDE = {"width": 85}


def lines(content, tolerance=1e-8):
    found = check_first_order(TrainingSubject(content, tolerance))
    assert [line.name for line in found] == [GRADIENT, SCALED, NEWTON, TERMINAL, RECURSION]
    assert [line.kind == "claim" for line in found if line.name != NEWTON] == [
        True,
        False,
        True,
        True,
    ]
    return {line.name: line for line in found}


def random_file(seed=0, **changes):
    problem = small(**changes)
    return claimed(problem, containers.random_start(problem, np.random.default_rng(seed), 0.5))


def above(x):
    return np.nextafter(x, np.inf)


def below(x):
    return np.nextafter(x, -np.inf)


# --- the gradient -------------------------------------------------------------------------------


def test_the_gradient_is_compared_with_the_tolerance_unscaled():
    content = moved(minimum(), 9, -1e-3)
    g, _ = rollout.gradient(content.problem, content.controls)
    line = lines(content)[GRADIENT]
    assert line.measured == pytest.approx(np.abs(g).max(), rel=1e-9)
    assert (line.bound, line.verdict) == (1e-8, Verdict.FAILED)
    assert line.where == describe(content.problem, int(np.abs(g).argmax()))
    assert lines(content, line.measured)[GRADIENT].verdict is Verdict.PASSED
    assert lines(content, below(line.measured))[GRADIENT].verdict is Verdict.FAILED


def test_a_gradient_that_is_not_finite_fails_and_nothing_is_made_of_it():
    content = file_at(small(activation="identity"), A=1e200)
    report = verify_content([content], only=("first_order",))
    line = report.named(GRADIENT)
    assert (line.verdict, line.bound) == (Verdict.FAILED, 1e-8)
    assert not np.isfinite(line.measured)
    assert report.named(SCALED).verdict is report.named(NEWTON).verdict is Verdict.NOT_APPLICABLE


def test_on_kinks_the_gradient_decides_only_with_a_descent():
    # relu behind a blind readout, at a kink: what decays is 5e-10 in A[0,0]
    found = lines(bowl(A=[[-1e-9, 0.0], [0.0, 0.0]], r=1.0, width=2, activation="relu"))
    # no costate is stored
    assert found[TERMINAL].verdict is found[RECURSION].verdict is Verdict.NOT_APPLICABLE
    line = found[GRADIENT]
    assert (line.verdict, line.where) == (Verdict.INCONCLUSIVE, "layer 0, A[0,0]")
    assert (line.measured, line.bound) == (5e-10, 1e-8)
    # leaky_relu: dJ/db = h L F' is -0.5 to the right and -0.005, by convention, at the kink
    content = valley(4.0, float(np.log(1 / 3)), activation="leaky_relu", r=1e-6)
    line = lines(content)[GRADIENT]
    assert (line.verdict, line.bound, line.where) == (Verdict.FAILED, 1e-8, "layer 0, b[0]")
    # the least decrease that is resolved is about 100 times the rounding of J
    assert line.measured == pytest.approx(0.5, rel=2e-2)
    found = lines(content, tolerance=0.6)
    assert found[GRADIENT].verdict is Verdict.INCONCLUSIVE
    assert found[GRADIENT].measured == pytest.approx(0.005, rel=1e-9)
    assert found[NEWTON].verdict is Verdict.NOT_APPLICABLE


@pytest.mark.parametrize(
    ("activation", "b", "decides"),
    [
        ("relu", 0.0, False),
        ("leaky_relu", 0.0, False),
        ("softsign", 0.0, True),
        ("relu", 1.0, True),
    ],
)
def test_kinks_matter_for_relu_and_only_where_there_are_some(activation, b, decides):
    content = bowl(b=b, r=1e-9, activation=activation)
    found = lines(dataclasses.replace(content, costate=np.zeros((2, 2, 1))))
    assert found[GRADIENT].verdict is (Verdict.PASSED if decides else Verdict.INCONCLUSIVE)
    costate = Verdict.PASSED if decides else Verdict.NOT_APPLICABLE
    assert found[TERMINAL].verdict is found[RECURSION].verdict is costate
    if decides:  # nothing is the share of nothing
        assert numbers(found[TERMINAL])[0] == 0.0


# --- scaled -------------------------------------------------------------------------------------


@pytest.mark.parametrize("trained", [(), ("lift", "readout")])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_scaled_gradient_is_that_of_the_worst_layer(trained, seed):
    content = random_file(seed, trained=("layers", *trained), r_ends=0.3 if trained else 0.0)
    problem, u = content.problem, content.controls
    g, _ = rollout.gradient(problem, u)
    data, _ = rollout.gradient(problem.with_(r=0.0, r_ends=0.0), u)
    parts = [slice(6 * k, 6 * k + 6) for k in range(4)] + [slice(24, None)] * bool(trained)
    names = [f"layer {k}" for k in range(4)] + ["trained ends"] * bool(trained)
    norm = np.linalg.norm
    share = [norm(g[p]) / (norm((g - data)[p]) + norm(data[p])) for p in parts]
    whole = [norm(g[p]) for p in parts]
    line = lines(content)[SCALED]
    assert line.verdict is Verdict.OBSERVED
    assert line.measured == pytest.approx(max(share), rel=1e-9)
    assert line.where == names[int(np.argmax(share))]
    assert numbers(line)[0] == pytest.approx(max(whole), rel=0.05)
    assert names[int(np.argmax(whole))] in line.message


def test_layers_whose_terms_vanish_beside_the_others_are_not_the_worst():
    # layer 0: data -1, decay 1/2; layer 1 is dead: no data, decay b/2
    def worst(b):
        problem = statement(
            depth=2, activation="relu", r=1.0, p_d=0.75,
            readout_weight=[[4.0], [0.0]], readout_bias=[-802.0, 0.0],
        )  # fmt: skip
        line = lines(file_at(problem, b=[[1.0], [b]]))[SCALED]
        return line.measured, line.where

    rounding = 2 * (1e-12 * 1.5)
    assert worst(-rounding) == (pytest.approx(1 / 3, rel=1e-14), "layer 0")
    assert worst(-above(rounding)) == (1.0, "layer 1")
    assert worst(0.0) == (pytest.approx(1 / 3, rel=1e-14), "layer 0")
    assert lines(bowl(depth=2))[SCALED].measured == 0.0


# --- stored costate -----------------------------------------------------------------------------


def with_costate(content, *changes, **more):
    costate = content.costate.copy()
    for at, by in changes:
        costate[at] += by
    return dataclasses.replace(content, costate=costate, **more)


def residual(content):
    """|right-hand side - given| of the adjoint equations, largest over the units, (N+1, n_d)."""
    problem, u, given = content.problem, content.controls, content.costate
    X = rollout.rollout(problem, u).X
    residual = np.empty(given.shape)
    residual[-1] = rollout.gradient(problem, u)[1][-1] - given[-1]
    for k in range(problem.depth):
        # lambda_k = d/dx_k (h l_k + lambda_{k+1} . Phi), by the complex step
        for j in range(problem.width):
            x = X[k].astype(complex)
            x[:, j] += 1e-30j
            following, _ = rollout.layer(problem, u, k, x)
            cost = problem.h * problem.beta * _losses(problem, u, x)
            value = cost + (given[k + 1] * following).sum(axis=1)
            residual[k, :, j] = value.imag / 1e-30 - given[k, :, j]
    return np.abs(residual).max(axis=2)


def _losses(problem, u, x):
    z = rollout.logits(problem, u, x)
    return (np.log(np.exp(z).sum(axis=1)) - (problem.soft_targets * z).sum(axis=1)) / len(x)


@pytest.mark.parametrize(
    "changes",
    [
        [((4, 7, 1), 1e-3), ((4, 2, 0), -4e-3)],
        [((1, 11, 0), 2e-3)],
        [((0, 0, 1), -1e-4)],
        [((3, 5, 1), 1e-3), ((2, 6, 0), 1e-3)],
    ],
)
def test_the_stored_costate_is_put_into_the_adjoint_equations(changes):
    content = with_costate(random_file(), *changes)
    wrong, largest = residual(content), np.abs(content.costate).max()
    found = lines(content)
    for line, layers in ((found[TERMINAL], slice(4, 5)), (found[RECURSION], slice(0, 4))):
        worst = wrong[layers].max()
        assert line.measured == pytest.approx(worst, rel=1e-6, abs=1e-15)
        assert line.verdict is (Verdict.FAILED if worst > 1e-8 else Verdict.PASSED)
        assert line.bound == 1e-8
        scaled = numbers(line)[0]
        assert scaled == pytest.approx(line.measured / largest, rel=0.05)
        if worst > 1e-8:
            k, i = np.argwhere(wrong == worst)[0]
            assert line.where == f"layer {k}, sample {i}"


def test_the_bound_on_the_costate_is_the_tolerance_or_a_share_of_its_largest_entry():
    content = random_file()
    largest = np.abs(content.costate).max()
    assert lines(content, 10.0)[TERMINAL].bound == pytest.approx(1e-3 * largest, rel=1e-9)
    single = content.costate.astype(np.float32).astype(float)
    rounded = dataclasses.replace(content, costate=single, float32=("costate",))
    for name in (TERMINAL, RECURSION):
        line = lines(rounded)[name]
        assert line.bound == pytest.approx(1e-4 * largest, rel=1e-5)
        assert line.verdict is Verdict.PASSED
    elsewhere = lines(dataclasses.replace(rounded, float32=("A",)), 1e-10)
    assert (elsewhere[TERMINAL].bound, elsewhere[TERMINAL].verdict) == (1e-10, Verdict.FAILED)


def test_the_costate_of_samples_that_cost_nearly_nothing_is_held_to_rounding_alone():
    """Hard labels and a margin of 27: softmax - q is 2e-12 and rounds by eps, as any other."""
    content = random_file(p_d=1.0, readout_weight=60 * np.eye(2), depth=2, beta=0)
    u = containers.zeros(content.problem)
    far = content.problem.with_(inputs=np.eye(2)[content.problem.labels] * 0.45)
    content = claimed(far, u)
    noise = np.random.default_rng(0).uniform(-8, 8, content.costate.shape)
    term = np.finfo(float).eps * 60 * far.gamma / far.n_samples
    stored = dataclasses.replace(content, costate=content.costate + noise * term)
    assert 0 < np.abs(content.costate).max() < 1e-10
    assert lines(stored)[TERMINAL].verdict is Verdict.PASSED
    wrong = dataclasses.replace(content, costate=content.costate * 1.5)
    assert lines(wrong)[TERMINAL].verdict is Verdict.FAILED


def test_the_worst_of_many_samples_is_found_in_whichever_batch_it_is():
    # a deep file of 200 samples is taken in batches of about 140
    problem = statement(
        inputs=np.linspace(-1, 1, 200)[:, None], labels=np.arange(200) % 2, depth=3700, h=1e-3
    )
    content = claimed(problem, file_at(problem, A=0.1, b=0.1).controls)
    for late in (190, 10):
        wrong = with_costate(content, ((3700, late, 0), 1e-3), ((3700, 100, 0), 5e-4))
        line = lines(wrong)[TERMINAL]
        assert (line.where, line.measured) == (f"layer 3700, sample {late}", pytest.approx(1e-3))


def test_a_costate_that_is_not_a_number_fails_and_is_the_worst():
    broken = with_costate(random_file(), ((4, 3, 0), np.nan), ((4, 8, 1), np.nan), ((4, 5, 1), 1.0))
    found = lines(broken)
    assert [found[n].where for n in (TERMINAL, RECURSION)] == [
        "layer 4, sample 3",
        "layer 3, sample 3",
    ]
    assert found[TERMINAL].verdict is found[RECURSION].verdict is Verdict.FAILED
