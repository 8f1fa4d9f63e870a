"""NumPy, CasADi and torch agree on 100 random networks; four broken torch models never pass."""

import copy
import dataclasses
import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from problems import SMOOTH, random_problem, spirals

from nn_baseline.model import Network
from ocp.controls import random_start
from ocp.problem import SCHEMES
from verification.crosscheck import crosscheck
from verification.crosscheck.evaluation import evaluate
from verification.report import Verdict


def load_example(name):
    path = Path(__file__).parents[2] / "examples" / f"{name}.py"
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


evaluations = load_example("evaluations")
PAIRS = 100


def pairs(count=PAIRS):
    """Random statements and controls: all schemes and smooth activations in turn."""
    for number in range(count):
        rng = np.random.default_rng([20240601, number])
        scheme = tuple(SCHEMES)[number % 3]
        activation = SMOOTH[number % len(SMOOTH)]
        problem = random_problem(rng, scheme, activation)
        yield problem, random_start(problem, rng)


class WrongStep(Network):
    def __init__(self, problem, controls, **options):
        super().__init__(problem.with_(h=1.01 * problem.h), controls, **options)


class MissingBias(Network):
    def layer(self, x, A, b, W, stages=None):
        return super().layer(x, A, torch.zeros_like(b), W, stages)


class Tempered(Network):
    TEMPERATURE = 1.1

    def logits(self, X):
        return super().logits(X) / self.TEMPERATURE

    def forward(self, inputs, labels):
        costs = self.data_costs(self.costed(self.path(inputs)), labels)
        return costs @ costs.new_tensor(self.cost_weights()) + self.penalty()


class SwappedTarget(Network):
    """p_d where 1 - p_d belongs."""

    def __init__(self, problem, controls, **options):
        super().__init__(problem, controls, **options)
        self.problem = copy.copy(problem)
        object.__setattr__(self.problem, "p_d", 1.0 - problem.p_d)


BROKEN = {
    "step": (WrongStep, "the step h is"),
    "bias": (MissingBias, "the bias b is missing"),
    "temperature": (Tempered, "softmax temperature 1.1"),
    "p_d": (SwappedTarget, "(swapped: 1 - p_d)"),
}


def failed(report):
    return [entry for entry in report.entries if entry.verdict is Verdict.FAILED]


def test_three_evaluations_agree_on_100_random_pairs():
    for problem, controls in pairs():
        report = crosscheck(
            problem,
            controls,
            [
                evaluations.by_torch(problem, controls),
                evaluations.by_casadi(problem, controls),
            ],
        )
        report.require()


@pytest.mark.parametrize("slip", BROKEN)
def test_a_broken_torch_model_is_caught_every_time_and_named(slip):
    build, words = BROKEN[slip]
    for number, (problem, controls) in enumerate(pairs()):
        broken = evaluations.by_torch(problem, controls, build)
        report = crosscheck(problem, controls, [broken])
        assert report.verdict is Verdict.FAILED, number
        named = report.named("crosscheck.torch.differs")
        assert words in named.message, (number, named.message)
        if slip == "step":
            assert "(+1.00%)" in named.message


@pytest.fixture(scope="module")
def case():
    problem = spirals(4, depth=3, h=0.4, scheme="heun", r=0.1)
    return problem, random_start(problem, np.random.default_rng(0))


def diagnosis(case, **changes):
    problem, controls = case
    other = dataclasses.replace(evaluate(problem, controls), name="other", **changes)
    report = crosscheck(problem, controls, [other])
    assert report.verdict is Verdict.FAILED
    line = report.named("crosscheck.other.differs")
    return f"{line.where}: {line.message}"


def test_the_judge_agrees_with_itself_to_the_bit(case):
    other = dataclasses.replace(evaluate(*case), name="other")
    report = crosscheck(*case, [other])
    assert [entry.measured for entry in report.entries] == [0.0] * 7
    assert report.verdict is Verdict.PASSED


def test_losses_penalty_and_objective_are_named(case):
    problem, controls = case
    own = evaluate(problem, controls)
    data = own.objective - own.penalty
    assert "softmax temperature 1.25" in diagnosis(
        case, losses=_tempered(problem, own.logits, 1.25)
    )
    assert "entropy H(q) is not subtracted" in diagnosis(case, losses=own.losses + _entropy())
    assert "r/2 is r" in diagnosis(case, penalty=2 * own.penalty)
    assert "penalty: it is missing" in diagnosis(case, penalty=0.0)
    assert "1.5 times" in diagnosis(case, penalty=1.5 * own.penalty)
    assert "summed over samples" in diagnosis(case, objective=own.penalty + 8 * data)
    terminal = problem.gamma * own.losses[-1].mean()
    assert "terminal cost is missing" in diagnosis(case, objective=own.objective - terminal)
    assert "no known slip" in diagnosis(case, objective=own.objective + 0.1)
    bare = {"states": None, "logits": None, "losses": None, "penalty": None}
    assert "supply states" in diagnosis(case, objective=own.objective + 0.1, **bare)


def _tempered(problem, z, temperature):
    from ocp.loss import soft_cross_entropy

    return soft_cross_entropy(z / temperature, problem.soft_targets)


def _entropy():
    from ocp.loss import entropy, soft_target

    return float(entropy(soft_target(np.array([0]), 2, 0.9))[0])


def test_hard_targets_are_named(case):
    problem, controls = case
    own = evaluate(problem, controls)
    from ocp.loss import soft_cross_entropy, soft_target

    hard = soft_cross_entropy(own.logits, soft_target(problem.labels, 2, 1.0))
    assert "(hard targets)" in diagnosis(case, losses=hard)


def test_layers_are_located_and_named(case):
    problem, controls = case
    X = evaluate(problem, controls).states.copy()
    X[2:] += 0.01
    assert diagnosis(case, states=X).startswith("layer 1: x_2: off by up to 0.01")
    for slip, words in (
        ({"activation": "softsign"}, "layer 0: x_1: the activation is softsign"),
        ({"scheme": "euler"}, "layer 0: x_1: the scheme is euler"),
        ({"h": 0.6}, "layer 0: x_1: the step h is 0.6, the statement's 0.4 (+50.00%)"),
    ):
        other = evaluate(problem.with_(**slip), controls)
        assert words in diagnosis(case, states=other.states)
    turned = dataclasses.replace(controls, A=controls.A.mT)
    assert "A is transposed" in diagnosis(case, states=evaluate(problem, turned).states)
    shifted = evaluate(problem, controls).states + 1.0
    assert diagnosis(case, states=shifted).startswith("layer 0: x_0 = E s + e: off by up to 1")


def test_costate_and_gradient_are_located(case):
    problem, controls = case
    own = evaluate(problem, controls)
    assert "costate: the sign" in diagnosis(case, costate=-own.costate)
    costate = own.costate.copy()
    costate[:2] = 0.0
    assert diagnosis(case, costate=costate).startswith("layer 1: costate: no derivative arrives")
    gradient = own.gradient.copy()
    gradient[12 + 9 : 24] = 0.0
    assert "no gradient arrives at layer 1, b" in diagnosis(case, gradient=gradient)
    gradient[12 + 9 : 24] = 1.0
    assert "wrong for layer 1, b" in diagnosis(case, gradient=gradient)


def test_nan_and_wrong_shapes_never_pass(case):
    own = evaluate(*case)
    report = crosscheck(*case, [dataclasses.replace(own, name="other", objective=float("nan"))])
    assert report.verdict is Verdict.FAILED
    gradient = own.gradient.copy()
    gradient[3] = np.nan
    assert "gradient" in diagnosis(case, gradient=gradient)
    with pytest.raises(ValueError, match=r"other: gradient has shape \(35,\); wanted \(36,\)"):
        crosscheck(*case, [dataclasses.replace(own, name="other", gradient=own.gradient[1:])])
    with pytest.raises(ValueError, match="no evaluation was given"):
        crosscheck(*case, [])


def test_single_precision_is_told_from_an_error(case):
    problem, controls = case
    single = evaluations.by_torch(problem, controls, dtype=torch.float32)
    assert crosscheck(problem, controls, [single]).verdict is Verdict.FAILED
    assert crosscheck(problem, controls, [single], tolerance=1e-5).verdict is Verdict.PASSED
