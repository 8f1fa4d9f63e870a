"""The exact spirals pass every claim, certificate included; what beta = 0 trains does not."""

import pytest

from ocp import datasets, files
from ocp.continuation.growth import grow
from ocp.problem import Problem
from ocp.solvers import by_name
from verification.__main__ import main
from verification.api import verify

DEPTHS = (8, 14, 20)


def solve(folder, beta: int) -> list[str]:
    inputs, labels = datasets.spirals()
    paths = []
    for depth in DEPTHS:
        problem = Problem(inputs=inputs, labels=labels, n_classes=2, depth=depth, beta=beta)
        solution = grow(problem, by_name("structured"), seed=0).require()
        paths.append(str(folder / f"beta{beta}_{depth}.safetensors"))
        files.save(paths[-1], solution.to_file())
    return paths


@pytest.mark.slow
def test_three_depths_of_the_exact_spirals(tmp_path):
    pytest.importorskip("flint")
    *_, deepest = paths = solve(tmp_path, beta=1)
    assert main([deepest, "--certify"]) == 0
    report = verify(deepest, certify=True, only=["certificate"])
    assert {e.verdict.value for e in report.claims} == {"passed"}
    assert main(paths) == 0
    assert verify(*paths, only=["turnpike"]).named("turnpike.across_depths").verdict.value == (
        "passed"
    )


@pytest.mark.slow
def test_three_depths_trained_without_stage_costs(tmp_path):
    paths = solve(tmp_path, beta=0)
    report = verify(*paths, only=["turnpike"])
    assert report.named("turnpike.across_depths").verdict.value == "failed"
    # each of them is a minimum all the same
    for path in paths:
        assert main([path, "--only", "statement", "first_order", "second_order"]) == 0
