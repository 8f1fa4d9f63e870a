"""Failure signatures that depend on where the data cost settles (the others: the zoo's table)."""

import dataclasses

import pytest
from small_minima import solved

from ocp.files import TrainingFile
from verification import api


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


@pytest.mark.parametrize("changes", [{"r": 0.03}, {"r": 0.1}, {"r": 0.01, "p_d": 0.7}])
def test_not_said_where_the_samples_are_right(changes):
    problem, controls = solved(depth=8, **changes)
    assert "settled_unfitted" not in signatures(problem, controls)
