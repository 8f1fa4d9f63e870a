"""Growing depth: the gains are what the definition says; a growth resumed is the same growth."""

import dataclasses
import json

import numpy as np
import pytest
import torch

from nn_baseline.growing import appended, grow, idle_extension, passes, right, validation_loss
from nn_baseline.growth_plan import Plan
from nn_baseline.model import Network
from nn_baseline.options import Options
from nn_baseline.result import Status
from nn_baseline.start import start_network
from nn_baseline.training import train
from ocp import controls, datasets, loss
from ocp.activations import Activation
from ocp.evaluation import rollout
from ocp.problem import Problem

torch.set_num_threads(1)
PHASE = Options(
    optimizer="adam", lr=1e-2, epochs=8, batch_size=16, evaluate_every=0, init_scale=0.3
)
FINAL = dataclasses.replace(PHASE, epochs=4, schedule="cosine")


def moons(**given):
    inputs, labels = datasets.moons(40, noise=0.2)
    return Problem(inputs=inputs, labels=labels, n_classes=2, **{"depth": 1, "width": 4} | given)


VALIDATION = datasets.moons(60, noise=0.2, seed=1)


def plan(**given):
    return Plan(**{"phase": (PHASE,), "final": (FINAL,), "deepest": 3, "worth": 0.0,
                   "patience": 0, "settled": 1e9} | given)  # fmt: skip


def flat(network):
    return controls.flatten(network.controls())


@pytest.mark.parametrize("seed", range(12))
def test_an_idle_extension_costs_what_layers_of_zeros_cost(make_problem, seed):
    """Two routes: the heavier terminal weight here, layers of zeros in NumPy there."""
    problem, u = make_problem(seed)
    if problem.block == "single" and not problem.sigma.zero_at_zero:
        pytest.skip("u = 0 moves the states of these")
    network = Network(problem, u)
    extension = idle_extension(problem, network, 3)
    whole = problem.with_(depth=problem.depth + 3)
    zeros = u.followed_by(controls.zeros(problem.with_(depth=3)))
    x, y = torch.tensor(problem.inputs), torch.tensor(problem.labels)
    assert float(extension(x, y).detach()) == pytest.approx(
        float(rollout.objective(whole, zeros)), rel=1e-12, abs=1e-13
    )


@pytest.mark.parametrize("append", ["near zero", "random"])
def test_appended_layers_stand_behind_the_others_and_have_a_bias(append):
    network = start_network(moons(depth=2), PHASE)
    longer = appended(moons(), network, plan(append=append, added=2), seed=3)
    assert longer.problem.depth == 4
    assert torch.equal(longer.A[:2], network.A) and torch.equal(longer.b[:2], network.b)
    new = torch.cat([longer.A[2:].flatten(), longer.b[2:].flatten()])
    scale = {"near zero": 0.01, "random": 0.5}[append]  # 1/sqrt(4)
    assert bool((longer.b[2:] != 0).all())
    assert 0.5 * scale < float(new.detach().std()) < 2 * scale
    again = appended(moons(), network, plan(append=append, added=2), seed=3)
    assert np.array_equal(flat(again), flat(longer))


def test_the_gains_are_those_of_trainings_done_by_hand():
    problem = moons()
    found = grow(problem, VALIDATION, plan(deepest=2, final=()))
    (step,) = found.steps
    one = start_network(problem, PHASE)
    train(one, PHASE)

    def J(network):
        return float(rollout.objective(network.problem, network.controls()))

    z = rollout.logits(problem, one.controls(), rollout.rollout(problem, one.controls()).X)[-1]
    q = loss.soft_target(problem.labels, problem.n_classes, problem.p_d)
    F = loss.soft_cross_entropy(z, q).mean()
    before = J(one) + problem.beta * problem.h * F
    grown = appended(problem, one, plan(), PHASE.seed)
    idle = idle_extension(problem, one, 1)
    train(idle, PHASE)
    train(grown, PHASE)
    assert step.raw_gain == pytest.approx(before - J(grown), rel=1e-10)
    assert step.gain == pytest.approx(J(idle) - J(grown), rel=1e-10)
    # the trained idle extension is cheaper than it was: the raw gain counts that as well
    assert before - J(idle) == pytest.approx(step.raw_gain - step.gain, rel=1e-10)
    assert step.validation_loss == pytest.approx(validation_loss(grown, VALIDATION))
    assert step.validation_accuracy == right(grown, VALIDATION).mean()
    old, new = right(idle, VALIDATION), right(grown, VALIDATION)
    assert step.gained.points == pytest.approx(100 * (new.mean() - old.mean()))


def test_work_and_passes_are_counted():
    found = grow(moons(), VALIDATION, plan(deepest=2))
    assert passes(PHASE) == 8 and passes(Options(optimizer="lbfgs", lr=1.0, epochs=2)) == 50
    # one layer, its idle extension, two layers; then the annealing of what was decided
    assert found.work == 8 * (1 + 1 + 2) + found.depth * 4
    assert found.passes == 8 + 8 + 4
    assert [s.passes for s in found.stages] == [16, 16]


def test_a_depth_is_trained_until_it_has_settled():
    quick = grow(moons(), VALIDATION, plan(deepest=2, settled=1e9))
    long = grow(moons(), VALIDATION, plan(deepest=2, settled=1e-9, most_phases=4))
    assert quick.stages[0].passes == 16 and long.stages[0].passes == 5 * 8


def test_growth_ends_where_a_layer_is_not_worth_it():
    found = grow(moons(), VALIDATION, plan(worth=1.0))
    assert [s.depth for s in found.steps] == [2] and not found.steps[0].kept
    assert found.gain_depth == 1
    free = grow(moons(), VALIDATION, plan())
    assert found.steps[0].gain == free.steps[0].gain


def test_growth_ends_where_accuracy_has_been_asked_in_vain():
    # no growth can bring 100 points, and after so many passes three of four are right
    learnt = {"phase": (dataclasses.replace(PHASE, epochs=60),), "tolerance": 100.0}
    found = grow(moons(), VALIDATION, plan(patience=1, **learnt))
    assert found.steps[0].validation_accuracy > 0.75 and found.steps[0].kept
    assert len(found.steps) == 1 and found.depth == 1
    assert len(grow(moons(), VALIDATION, plan(patience=2, **learnt)).steps) == 2


def test_a_network_that_has_learnt_too_little_is_not_asked():
    """Labels at random: all err as often as guessing, and the gain in J alone decides."""
    labels = np.random.default_rng(0).integers(0, 2, 60)
    found = grow(moons(), (VALIDATION[0], labels), plan(tolerance=100.0, patience=1))
    assert len(found.steps) == 2 and all(step.kept for step in found.steps)


@pytest.mark.parametrize("steps", [1, 20, 30, 55, 80])
def test_a_growth_that_was_stopped_and_resumed_is_the_same(tmp_path, steps):
    lines, left = [], [steps]

    def stop():
        left[0] -= 1
        return left[0] == 0

    whole = grow(moons(), VALIDATION, plan(), folder=tmp_path / "whole")
    part = grow(moons(), VALIDATION, plan(), folder=tmp_path / "part", should_stop=stop)
    assert part.status is Status.INTERRUPTED
    resumed = grow(
        moons(), VALIDATION, plan(), folder=tmp_path / "part", resume=True, record=lines.append
    )
    assert resumed.status is Status.FINISHED
    assert np.array_equal(flat(resumed.network), flat(whole.network))
    assert tuple(lines) == resumed.steps == whole.steps
    log = [(tmp_path / f / "growth.jsonl").read_bytes() for f in ("whole", "part")]
    assert log[0] == log[1] and len(json.loads(log[0].splitlines()[0])) == len(
        dataclasses.fields(whole.steps[0])
    )
    in_memory = grow(moons(), VALIDATION, plan())
    assert np.array_equal(flat(in_memory.network), flat(whole.network))


def test_lbfgs_phases_grow_and_resume(tmp_path):
    phase = Options(optimizer="lbfgs", lr=1.0, epochs=2, evaluate_every=0, init_scale=0.3)
    both = plan(phase=(dataclasses.replace(PHASE, batch_size=0), phase), final=(phase,), deepest=2)
    left = [12]

    def stop():
        left[0] -= 1
        return left[0] == 0

    whole = grow(moons(), VALIDATION, both)
    grow(moons(), VALIDATION, both, folder=tmp_path, should_stop=stop)
    resumed = grow(moons(), VALIDATION, both, folder=tmp_path, resume=True)
    assert np.array_equal(flat(resumed.network), flat(whole.network))
    assert whole.steps[0].objective < grow(moons(), VALIDATION, plan(deepest=2)).steps[0].objective


def test_another_growth_is_not_resumed_and_none_is_overwritten(tmp_path):
    grow(moons(), VALIDATION, plan(deepest=2), folder=tmp_path)
    for changed, message in (
        ((moons(), VALIDATION, plan(deepest=2, worth=0.5)), "worth was 0.0, is 0.5"),
        ((moons(r=0.5), VALIDATION, plan(deepest=2)), "r was 0.001, is 0.5"),
        ((moons(), (VALIDATION[0] + 1, VALIDATION[1]), plan(deepest=2)), "validation samples"),
    ):
        with pytest.raises(ValueError, match=message):
            grow(*changed, folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match="holds a growth"):
        grow(moons(), VALIDATION, plan(deepest=2), folder=tmp_path)
    with pytest.raises(ValueError, match="not there"):
        grow(moons(), VALIDATION, plan(deepest=2), folder=tmp_path / "new", resume=True)
    with pytest.raises(ValueError, match="without a folder"):
        grow(moons(), VALIDATION, plan(deepest=2), resume=True)
    for text in ('{"plan": 1}', "[]", "no json", '{"plan": 1, "problem": 2, "validation": 3}'):
        (tmp_path / "plan.json").write_text(text)
        with pytest.raises(ValueError, match="damaged"):
            grow(moons(), VALIDATION, plan(deepest=2), folder=tmp_path, resume=True)


def test_a_layer_that_breaks_the_training_is_not_kept():
    wild = plan(append_scale=1e200, deepest=2)
    found = grow(moons(activation="identity"), VALIDATION, wild)
    assert found.status is Status.FINISHED and found.depth == 1
    assert not found.steps[0].kept and np.isnan(found.steps[0].gain)


def test_layers_that_cannot_idle_are_refused():
    with pytest.raises(ValueError, match="a layer of zeros is not idle"):
        grow(moons(activation="sigmoid", shifted=False), VALIDATION, plan())
    assert Activation("sigmoid", True).zero_at_zero
    assert grow(moons(activation="sigmoid"), VALIDATION, plan(deepest=2)).depth >= 1


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"phase": ()}, "at least one training"),
        ({"phase": (FINAL,)}, "constant rate"),
        ({"phase": (dataclasses.replace(PHASE, warmup=3),)}, "constant rate"),
        ({"phase": (dataclasses.replace(PHASE, patience=1, evaluate_every=1),)}, "patience"),
        ({"final": (dataclasses.replace(FINAL, seed=9),)}, "device, dtype or seed"),
        ({"append": "copies"}, "append"),
        ({"append_scale": 0}, "append_scale"),
        ({"first": 5}, "first is 5 and deepest 3"),
        ({"worth": -1}, "worth"),
        ({"most_phases": 0}, "most_phases"),
    ],
)
def test_plans_that_make_no_sense_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        plan(**given)
