"""Failure signatures that depend on where the data cost settles (the others: the zoo's table)."""

import dataclasses

import numpy as np
import pytest
from small_minima import solved

from ocp.files import TrainingFile
from verification import api
from verification.checks import diagnosis
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


def stub(monkeypatch, **changes):
    """The small minimum that is settled and half wrong, with something else."""
    problem, controls = solved(depth=8, r=0.3)
    content = TrainingFile(problem=problem, controls=controls, origin={})
    subject = TrainingSubject(content)
    keys = {"entry": 1, "used": 3, "wrong": 6, "gradient": 0.0} | changes
    right = np.arange(12) >= keys.pop("wrong")
    subject.__dict__["survey"] = dataclasses.replace(
        subject.survey, right=np.tile(right, (9, 1)), data_cost=1e-3 * subject.survey.data_cost
    )
    subject.__dict__["grad_inf_norm"] = keys.pop("gradient")
    entry, used = keys.pop("entry"), keys.pop("used")
    monkeypatch.setattr(diagnosis, "entry_layer", lambda subject: entry)
    monkeypatch.setattr(diagnosis, "depth_used", lambda subject: used)
    if keys:
        subject.content = dataclasses.replace(content, problem=problem.with_(**keys))
    return [line.name.removeprefix("diagnosis.") for line in diagnosis.balance(subject)]


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
def test_each_condition_decides(changes, said, monkeypatch):
    assert ("settled_unfitted" in stub(monkeypatch, **changes)) is said


def test_a_larger_p_d_is_advised_only_where_it_is_small():
    for p_d, advised in ((0.8, True), (0.9, False)):
        problem, controls = solved(depth=8, r=0.3, p_d=p_d)
        message = signatures(problem, controls)["settled_unfitted"].message
        assert ("raise p_d" in message) is advised


@pytest.mark.parametrize("changes", [{"r": 0.03}, {"r": 0.1}, {"r": 0.01, "p_d": 0.7}])
def test_not_said_where_the_samples_are_right(changes):
    problem, controls = solved(depth=8, **changes)
    assert "settled_unfitted" not in signatures(problem, controls)
