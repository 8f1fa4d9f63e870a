"""A zoo of 20 problems solved by both solvers: data sets x smooth activations x schemes x classes.

The two follow different paths and may end in different minima, so objectives are not compared;
from the other's solution, moved by 1e-4, each must come back to the same point.
"""

import dataclasses

import numpy as np
import problems
import pytest

from ocp import datasets
from ocp.continuation.growth import GrowthOptions, grow
from ocp.controls import flatten, random_start, unflatten
from ocp.problem import Problem
from ocp.solvers import by_name, structured
from ocp.solvers.solution import Status

ACTIVATIONS = ("tanh", "gelu", "silu", "sigmoid", "softplus")


def zoo() -> list[Problem]:
    """Every activation with every data set once; schemes, blocks and classes alternate."""
    found = []
    for i, name in enumerate(("spirals", "circles", "blobs", "moons")):
        for j, activation in enumerate(ACTIVATIONS):
            scheme = ("euler", "heun", "rk4")[(i + j) % 3]
            classes = 2 if name in ("spirals", "moons") else 2 + (i + j) % 3
            if name == "spirals":
                inputs, labels = datasets.spirals(8)
            elif name == "moons":
                inputs, labels = datasets.moons(16)
            else:
                inputs, labels = getattr(datasets, name)(15, classes)
            found.append(
                Problem(
                    inputs=inputs,
                    labels=labels,
                    n_classes=classes,
                    depth=4,
                    width=max(3, classes),
                    scheme=scheme,
                    activation=activation,
                    r=1e-2,
                )
            )
    return found


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_both_solvers_solve_the_zoo_and_agree_at_each_minimum():
    solved = {"structured": 0, "ipopt": 0}
    notes = []
    for index, problem in enumerate(zoo()):
        for name in solved:
            options = GrowthOptions(depths=(2, 4))
            found = grow(problem, by_name(name), seed=index, options=options)
            solved[name] += found.status is Status.SOLVED
            if found.status is not Status.SOLVED:
                notes.append((index, problem.activation, problem.scheme, name, found.status.name))
                continue
            if name == "ipopt":
                _comes_back(problem, found)
    assert solved["structured"] >= 18 and solved["ipopt"] >= 18, notes


def _comes_back(problem, found):
    u = flatten(found.controls)
    moved = unflatten(problem, u + 1e-4 * np.random.default_rng(0).standard_normal(len(u)))
    back = structured.solve(problem, moved).require()
    report = back.report
    assert report.objective == pytest.approx(found.report.objective, rel=1e-11)
    # |u - u*| <= |g| / lambda_min for both
    distance = np.abs(flatten(back.controls) - u).max()
    g = report.grad_inf_norm + found.report.grad_inf_norm
    assert distance <= 10 * (g * np.sqrt(len(u)) + 1e-14) / report.min_curvature


@pytest.mark.parametrize("index", [0, 6, 12, 18])
def test_some_of_the_zoo_by_the_structured_solver(index):
    problem = zoo()[index]
    found = grow(problem, by_name("structured"), seed=index, options=GrowthOptions(depths=(2, 4)))
    assert found.status is Status.SOLVED


def test_the_memory_does_not_grow_with_the_number_of_samples_times_layers():
    """10,000 samples, N = 20, n = 4: chunks keep the Hessian's scratch memory bounded."""
    import tracemalloc

    from ocp.evaluation import sweeps
    from ocp.evaluation.assembly import hessian

    inputs, labels = datasets.spirals(5000)
    problem = Problem(inputs=inputs, labels=labels, n_classes=2, depth=20, width=4)
    u = flatten(random_start(problem, np.random.default_rng(0)))
    constants = sweeps.prepare(problem)
    tracemalloc.start()
    sweep = sweeps.forward(constants, u)
    H = hessian(constants, sweep, sweeps.backward(constants, sweep))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert np.isfinite(H).all()
    assert peak < 600e6  # bytes; the whole process then stays below 1 GB


def test_a_problem_with_a_diverging_layer_is_named():
    problem = problems.spirals(h=50.0)
    start = random_start(problem, np.random.default_rng(0), 5.0)
    options = structured.StructuredOptions(max_iterations=30)
    found = structured.solve(problem, start, options=options)
    assert dataclasses.is_dataclass(found.report) and found.status in Status
