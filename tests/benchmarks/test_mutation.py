"""Mutation runs: the sample, what is a mutant, who killed it, and the report."""

import random
from types import SimpleNamespace

import mutation
import pytest


def places(count=50):
    return [
        SimpleNamespace(
            mutations=[SimpleNamespace(module_path="a.py", operator_name="core/Op", occurrence=i)]
        )
        for i in range(count)
    ]


def occurrences(sample):
    return [item.mutations[0].occurrence for item in sample]


def test_a_seed_draws_one_sample_in_whatever_order_the_places_come():
    shuffled = places()
    random.Random(1).shuffle(shuffled)
    one, passed_over = mutation.drawn(places(), 20, 7, lambda _: True)
    again, _ = mutation.drawn(shuffled, 20, 7, lambda _: True)
    other, _ = mutation.drawn(places(), 20, 8, lambda _: True)
    assert occurrences(one) == occurrences(again) != occurrences(other)
    assert len(set(occurrences(one))) == 20 and passed_over == 0


@pytest.mark.parametrize("size", [10, 25, 40])
def test_what_is_no_mutant_is_passed_over_and_counted(size):
    def is_even(item):
        return item.mutations[0].occurrence % 2 == 0

    sample, passed_over = mutation.drawn(places(), size, 0, is_even)
    every, _ = mutation.drawn(places(), 50, 0, lambda _: True)
    kept = [i for i in occurrences(every) if i % 2 == 0][:size]
    assert occurrences(sample) == kept
    met = occurrences(every)[: len(sample) + passed_over]
    assert sum(i % 2 for i in met) == passed_over


def test_annotations_are_no_program_and_operators_are():
    code = "def f(x: int | None = 1 + 1) -> int | str:\n    y: int | str = x\n    return y"
    assert mutation.program(code) == mutation.program(code.replace("|", "^"))
    assert mutation.program(code) != mutation.program(code.replace("+", "-"))
    assert mutation.program("def f(a, / b): pass") == ""


@pytest.mark.parametrize(
    ("output", "name"),
    [
        ("FAILED {}::test_b[1-2] - assert 1 == 2", "test_a.py::test_b[1-2]: failure"),
        ("x: Failed: Timeout (>40.0s)\nFAILED {}::test_b", "test_a.py::test_b: time"),
        ("ERROR {} - ValueError: no", "test_a.py: failure"),
        ("timeout", "no test: time"),
        ("Segmentation fault", "no test: failure"),
    ],
)
def test_the_killer_is_named(output, name):
    assert mutation.killer(output.format("tests/verification/test_a.py")) == name


def test_the_report_lists_the_survivors_and_wilsons_interval():
    place = {"file": "turnpike", "line": 3, "before": "a + b", "after": "a - b"}
    rows = [{**place, "killed_by": "test_a.py::test_b: time"}] * 9 + [{**place, "killed_by": ""}]
    text = mutation.report(rows, "the sample")
    assert "Killed: **9 of 10, 90.0% [59.6%, 98.2%]**; 9 of them by time, 0 by a crash." in text
    assert text.endswith("\n- turnpike 3: `a + b` becomes `a - b`\n")
    assert "| turnpike | 9 of 10" in text
