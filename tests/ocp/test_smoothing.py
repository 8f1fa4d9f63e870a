"""The smoothed path to relu: its steps, its growth, and that its end is never called solved."""

import dataclasses

import numpy as np
import pytest
from problems import blobs

from ocp.continuation.growth import GrowthOptions
from ocp.continuation.smoothing import smoothed_relu
from ocp.evaluation.rollout import objective
from ocp.solvers import by_name
from ocp.solvers.solution import Status

SOLVER = by_name("ipopt", max_iterations=300)
STRUCTURED = by_name("structured", max_iterations=300)


def test_the_smoothed_path_approaches_relu_and_never_claims_it_solved():
    problem = blobs(2, 6, depth=3, activation="relu", r=1e-2)
    *path, last = smoothed_relu(problem, SOLVER, options=GrowthOptions(depths=(3,)))
    assert [s.problem.sharpness for s in path] == [10.0, 100.0, 1000.0]
    assert all(s.problem.activation == "softplus" for s in path)
    assert path[0].status is Status.SOLVED
    assert last.problem.activation == "relu"
    assert last.status in (Status.NONSMOOTH, Status.NOT_STATIONARY)
    # softplus of sharpness k is within log 2 / k of relu
    gaps = [abs(objective(problem, s.controls) - s.report.objective) for s in path]
    assert gaps[2] < gaps[0]
    assert gaps[2] < 5e-3
    with pytest.raises(ValueError, match="wanted 'relu'"):
        smoothed_relu(blobs(), SOLVER)
    with pytest.raises(ValueError, match=r"ratio is 1\.0; wanted a number above 1"):
        smoothed_relu(problem, SOLVER, ratio=1.0)


@pytest.mark.parametrize("path_depth", [None, 2])
def test_an_interrupt_ends_the_smoothed_path(path_depth):
    problem, seen = blobs(2, 6, depth=3, activation="relu", r=1e-2), []

    def interrupted_past_ten(statement, start, tolerance, report):
        seen.append(statement.sharpness)
        solution = SOLVER(statement, start, tolerance, report)
        if statement.sharpness == 10.0:
            return solution
        record = dataclasses.replace(solution.report, status=Status.INTERRUPTED)
        return dataclasses.replace(solution, report=record)

    *path, last = smoothed_relu(problem, interrupted_past_ten, path_depth=path_depth)
    assert sum(k > 10 for k in seen) == 1  # nothing was solved after Ctrl-C
    assert len(path) == 2 and last.status is Status.INTERRUPTED
    assert last.problem.activation == "relu" and last.controls.depth == 3


def test_the_smoothed_path_takes_small_steps_and_may_be_grown():
    seen = []

    def solver(problem, start, tolerance, report):
        seen.append((problem.depth, problem.sharpness))
        return STRUCTURED(problem, start, tolerance, report)

    problem = blobs(2, 6, depth=6, activation="relu", r=1e-2)
    *path, last = smoothed_relu(problem, solver, sharpness=(10.0, 100.0), path_depth=3, ratio=2.0)
    assert [s.problem.sharpness for s in path] == [10.0, 100.0]
    assert all(s.problem.depth == 6 for s in (*path, last))
    shallow = [k for depth, k in seen if depth == 3]
    assert len(set(shallow)) == 5  # 10 and four steps of 10^(1/4) < 2
    assert max(np.diff(np.log(sorted(set(shallow))))) <= np.log(2.0)
    assert {k for depth, k in seen if depth == 6} == {10.0, 100.0}
    assert path[0].status is Status.SOLVED
    assert last.status in (Status.NONSMOOTH, Status.NOT_STATIONARY)
