"""Failure signatures that depend on where the data cost settles (the others: the zoo's table)."""

import dataclasses

import numpy as np
import pytest
from small_minima import solved

from ocp.controls import zeros
from ocp.files import TrainingFile
from ocp.problem import Problem
from verification import api
from verification.checks.diagnosis import check_diagnosis
from verification.evaluation.layers import depth_used, entry_layer
from verification.evaluation.subject import TrainingSubject


def signatures(problem, controls):
    content = TrainingFile(problem=problem, controls=controls, origin={})
    report = api.verify_content([content], names=["file"], only=("diagnosis",))
    return {e.name.removeprefix("diagnosis."): e for e in report.entries if "diagnosis." in e.name}


def test_a_minimum_that_leaves_samples_wrong_with_layers_left_over():
    problem, controls = solved(depth=8, r=0.3)
    found = signatures(problem, controls)["settled_unfitted"]
    assert found.measured == 0.5  # of twelve points
    assert found.where == "layer 1"
    assert "lower r" in found.message
    # not said of a point that is not stationary: its training may just have stopped early
    moved = dataclasses.replace(controls, A=controls.A + 1e-3)
    assert "settled_unfitted" not in signatures(problem, moved)


def named(*, entry=1, used=3, wrong=6, gradient=0.0, **changes):
    """What is said of the small minimum whose costs settle at a layer, some layers being used."""
    problem, controls = solved(depth=8, r=0.3)
    content = TrainingFile(problem=problem, controls=controls, origin={})
    subject = TrainingSubject(content)
    found, k, h = subject.survey, np.arange(9), problem.h
    cost = subject.minimisers.least + (k < entry)
    # idling from layer k changes J by nothing, but before layer `used` by ten times J
    later = (h * (8 - k) + problem.gamma) * cost - problem.gamma * cost[-1]
    later += 10 * found.objective * (k < used)
    subject.__dict__["survey"] = dataclasses.replace(
        found,
        right=np.tile(np.arange(12) >= wrong, (9, 1)),
        data_cost=cost,
        layer_cost=-np.diff(later) / h,
        logits=np.tile(found.final_logits, (9, 1, 1)),
    )
    subject.__dict__["grad_inf_norm"] = gradient
    assert (entry_layer(subject), depth_used(subject)) == (entry, used)
    subject.content = dataclasses.replace(content, problem=problem.with_(**changes))
    return [line.name.removeprefix("diagnosis.") for line in check_diagnosis(subject)]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, True),
        ({"entry": 6}, True),  # .8 of 8 layers is 6.4
        ({"entry": 7}, False),
        ({"used": 8}, False),  # no layer is left over
        ({"beta": 0}, False),
        ({"r": 0.0}, False),
        ({"wrong": 1}, False),  # one of twelve
        ({"wrong": 2}, True),
        ({"gradient": 1e-8}, True),
        ({"gradient": 1.1e-8}, False),
        ({"gradient": float("nan")}, False),
    ],
)
def test_each_condition_decides(changes, said):
    assert ("settled_unfitted" in named(**changes)) is said


def test_a_larger_p_d_is_advised_only_where_it_is_small():
    for p_d, advised in ((0.8, True), (0.9, False)):
        problem, controls = solved(depth=8, r=0.3, p_d=p_d)
        message = signatures(problem, controls)["settled_unfitted"].message
        assert ("raise p_d" in message) is advised


@pytest.mark.parametrize("changes", [{"r": 0.03}, {"r": 0.1}, {"r": 0.01, "p_d": 0.7}])
def test_not_said_where_the_samples_are_right(changes):
    problem, controls = solved(depth=8, **changes)
    assert "settled_unfitted" not in signatures(problem, controls)


def at_rest(inputs, **changes):
    """What is said of u = 0, where the state is the input and its larger coordinate the answer."""
    labels = np.array([0, 0, 1, 1])
    problem = Problem(inputs=inputs, labels=labels, n_classes=2, width=2, depth=1, **changes)
    return signatures(problem, zeros(problem))


def test_an_outcome_no_better_than_the_largest_class_is_said_with_its_root_cause():
    found = at_rest(np.array([[2.0, 1.0], [3.0, 1.0], [2.0, 1.0], [3.0, 1.0]]))
    line = found["largest_class"]
    assert line.measured == 2.0 and "right are 2 of 4 samples" in line.message
    assert "start anew" in line.message and "input_scale" not in found
    # inputs that reach thousands are the root cause, and the only advice
    found = at_rest(np.array([[2e3, 1.0], [3e3, 1.0], [2e3, 1.0], [3e3, 1.0]]))
    assert "--standardise" in found["largest_class"].message
    assert "start anew" not in found["largest_class"].message
    # three of four are better than the largest class: the size of the inputs is a line of its own
    found = at_rest(np.array([[2e3, 1.0], [3e3, 1.0], [1.0, 4.0], [3e3, 1.0]]))
    assert "largest_class" not in found and found["input_scale"].measured == 0.25
    # nothing is said where all are right, whatever the size
    found = at_rest(np.array([[2e3, 1.0], [3e3, 1.0], [1.0, 4.0], [2.0, 3e3]]))
    assert not {"largest_class", "input_scale", "by_class"} & found.keys()


def test_wrong_samples_are_counted_by_the_names_of_their_classes():
    inputs = np.array([[2.0, 1.0], [3.0, 1.0], [2.0, 1.0], [1.0, 4.0]])
    found = at_rest(inputs, class_names=("rock", "mine"))
    assert found["by_class"].message == "right by class rock: 2 of 2, mine: 1 of 2"
    assert "2 (mine)" in found["laggards"].message
    assert "by_class" not in at_rest(inputs)
