"""The sentences on the depth found say what the numbers say."""

import numpy as np
import pytest

from nn_baseline.diagnosis_of_depth import figure, sentences
from nn_baseline.growth_result import Grown, Stage
from nn_baseline.paired import difference
from nn_baseline.result import Status


def grown(depth, right, gain_depth=2, steps=()):
    stages = tuple(
        Stage(depth=k, network=None, objective=1.0, passes=1.0, accuracy=float(part.mean()),
              loss=0.1, right=part)
        for k, part in right.items()
    )  # fmt: skip
    return Grown(
        network=None, depth=depth, passes=1.0, gain_depth=gain_depth, steps=steps, stages=stages,
        status=Status.FINISHED, message="", work=1.0, seconds=1.0,
    )  # fmt: skip


def with_errors(n, count):
    found = np.ones(n, bool)
    found[:count] = False
    return found


def test_the_next_layer_is_named_with_its_gain_and_interval():
    n = 10_000
    found = grown(3, {2: with_errors(n, 500), 3: with_errors(n, 12), 4: with_errors(n, 10)})
    said = sentences(found, 0.2)
    gained = difference(found.stages[2].right, found.stages[1].right)
    assert said[0] == (
        f"3 layers are enough on validation data: the fourth gains {gained} of accuracy"
        " (10000 samples)"
    )
    assert gained.points == pytest.approx(0.02)
    assert "the most accurate of the depths tried is 4" in said[1]
    assert "uses 2 layers" in said[-1]
    assert not any("cannot tell" in sentence for sentence in said)


def test_too_few_samples_are_said():
    said = " ".join(sentences(grown(1, {1: with_errors(100, 3), 2: with_errors(100, 3)}), 0.2))
    assert said.startswith("1 layer is enough on validation data: the second gains +0.00 points")
    assert "100 validation samples cannot tell 0.2 points" in said


def test_the_deepest_that_was_tried_is_said_to_be_that():
    said = sentences(grown(2, {1: with_errors(1000, 300), 2: with_errors(1000, 3)}, 1), 0.2)
    assert said[0].startswith("2 layers are the most that were tried") and "1 layer:" in said[-1]


def test_the_figure_shows_each_depth_and_the_one_found():
    curve = grown(2, {1: with_errors(100, 30), 2: with_errors(100, 3)}).curve()
    axes = figure(curve, [{"depth": 2, "gain": 0.1, "idle": 1.0}], 2)
    (line,) = [x for x in axes.get_lines() if len(x.get_xdata()) == 2 and x.get_marker() == "o"]
    assert list(line.get_xdata()) == [1, 2] and list(line.get_ydata()) == [70.0, 97.0]
    assert "depth found: 2" in [text.get_text() for text in axes.get_legend().get_texts()]
