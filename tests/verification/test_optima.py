"""Polished checkpoints are placed among the optima, up to symmetry, by numbers that are known."""

import dataclasses

import numpy as np
import pytest
from small_minima import minimise, small

from ocp.controls import random_start
from ocp.files import TrainingFile
from verification.crosscheck import optima, paths, symmetry
from verification.evaluation import states
from verification.report import Verdict


@pytest.fixture(scope="module")
def several():
    problem = small(width=3)
    points = [
        minimise(problem, random_start(problem, np.random.default_rng(seed), 0.5))
        for seed in range(4)
    ]
    return problem, points


def test_images_under_a_symmetry_are_one_optimum(several):
    problem, points = several
    group = symmetry.symmetries(problem)
    assert len(group) > 1
    images = [symmetry.apply(s, points[0]) for s in group]
    groups = optima.distinct(problem, [*points, *images])
    home = next(members for members in groups if 0 in members)
    assert set(range(len(points), len(points) + len(images))) <= set(home)
    values = [states.objective(problem, points[m[0]]) for m in groups if m[0] < len(points)]
    assert values == sorted(values)


def test_a_checkpoint_near_an_optimum_falls_into_it(several):
    problem, points = several
    best = points[int(np.argmin([states.objective(problem, u) for u in points]))]
    image = symmetry.apply(symmetry.symmetries(problem)[-1], best)
    rng = np.random.default_rng(0)
    near = dataclasses.replace(image, A=image.A + 1e-3 * rng.standard_normal(image.A.shape))
    found, after = optima.gap(problem, near, minimise, [best])
    assert found.fell_into_best
    assert found.optimum == 0
    assert found.separation <= optima.SAME
    assert found.objective > found.polished_objective
    assert found.above_best > 0
    assert found.polished_above_best == pytest.approx(0, abs=1e-10)
    assert 1e-4 < found.moved < 1e-2
    assert found.polished_gradient < 1e-9 < found.gradient
    assert states.objective(problem, after) == found.polished_objective
    assert found.moved_norm >= found.moved
    lines = optima.findings(found)
    assert [line.verdict for line in lines] == [Verdict.OBSERVED] * 4
    assert "the best known" in lines[-1].message


def test_a_solver_that_does_nothing_is_no_optimum(several):
    problem, points = several
    start = random_start(problem, np.random.default_rng(9), 0.5)
    found, _ = optima.gap(problem, start, lambda problem, u: u, points)
    assert found.optimum == -1
    assert not found.fell_into_best
    assert found.moved == 0.0
    assert found.polished_gradient == found.gradient > 1e-3
    assert "none of them" in optima.findings(found)[-1].where


def test_a_lower_value_becomes_the_best_known(several):
    problem, points = several
    ordered = sorted(points, key=lambda u: states.objective(problem, u))
    zero = dataclasses.replace(ordered[0], A=0 * ordered[0].A, b=0 * ordered[0].b)
    found, _ = optima.gap(problem, ordered[0], lambda problem, u: u, [zero])
    assert found.best_optimum == -1
    assert found.best == states.objective(problem, ordered[0])
    assert found.fell_into_best
    with pytest.raises(ValueError, match="no optimum"):
        optima.gap(problem, zero, lambda problem, u: u, [])


def test_paths_are_those_of_the_survey(several):
    problem, points = several
    content = TrainingFile(problem=problem, controls=points[0])
    exact = paths.path("exact", content)
    assert exact.stage_cost.shape == exact.control_norm.shape == (problem.depth,)
    J = problem.h * exact.stage_cost.sum() + problem.gamma * exact.data_cost[-1]
    assert pytest.approx(exact.objective, rel=1e-14) == J
    assert exact.objective == pytest.approx(states.objective(problem, points[0]), rel=1e-14)
    # n_c = 2: the distance of one sample to its line is |z_y - z_other - log(p/eps)|/sqrt 2
    z = states.logits(problem, points[0], _final(problem, points[0]))
    margin = (z[:, 0] - z[:, 1]) * np.where(problem.labels == 0, 1, -1)
    wanted = np.sqrt(((margin - np.log(9.0)) ** 2 / 2).mean())
    assert exact.distance[-1] == pytest.approx(wanted, rel=1e-12)


def test_comparison_names_where_paths_part(several):
    problem, points = several
    exact = paths.path("exact", TrainingFile(problem=problem, controls=points[0]))
    A = points[0].A.copy()
    A[2] += 1.0
    worse = dataclasses.replace(points[0], A=A)
    trained = paths.path("trained", TrainingFile(problem=problem, controls=worse))
    lines = {line.name: line for line in paths.compare(exact, trained)}
    assert lines["path.stage_cost"].where in ("layer 2", "layer 3")
    assert lines["path.stage_cost"].measured > 0
    assert paths.entry_by_depth([exact]) == {problem.depth: (exact.entry, exact.used)}
    cut = dataclasses.replace(trained, stage_cost=trained.stage_cost[:-1])
    with pytest.raises(ValueError, match="trained has depth 3; wanted that of exact, 4"):
        paths.compare(exact, cut)


def test_hard_targets_have_no_distance():
    problem = small(p_d=1.0)
    content = TrainingFile(
        problem=problem, controls=random_start(problem, np.random.default_rng(0))
    )
    assert paths.path("hard", content).distance is None


def _final(problem, controls):
    (batch,) = states.batches(problem)
    return states.propagate(problem, controls, batch).X[-1]
