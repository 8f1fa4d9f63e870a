"""The search: deterministic, within its budget, keeps its best point, distinct survivors."""

import dataclasses
import itertools

import numpy as np
import pytest
from problems import blobs, circles, spirals
from test_interrupts import press

import ocp
from ocp.continuation import by_effort, levels, search
from ocp.continuation.search_options import SearchOptions, cost
from ocp.continuation.variants import variant
from ocp.controls import flatten, random_start
from ocp.evaluation import batch
from ocp.evaluation.rollout import objective
from ocp.evaluation.sweeps import prepare
from ocp.solvers.solution import Status
from verification.crosscheck import symmetry

FEW = SearchOptions(work=30, starts=6, generation=4)


def run(problem, **changes):
    with np.errstate(all="ignore"):
        return search.search(problem, **{"options": FEW, **changes})


@pytest.fixture(scope="module")
def deep():
    return spirals(depth=13)


@pytest.fixture(scope="module")
def found(deep):
    return run(deep, seed=1)


def test_it_ends_at_a_strict_minimum_and_counts_its_work(found):
    assert found.status is Status.SOLVED and found.report.grad_inf_norm <= 1e-8
    assert found.report.method == "structured with search" and found.report.seed == 1
    assert {line.depth for line in found.report.trace} == {5, 8, 11, 13}
    assert found.report.iterations > len(found.report.trace)
    assert found.report.options["search"]["work"] == 30


def test_a_seed_and_a_count_of_work_decide_the_result(deep, found):
    again = run(deep, seed=1)
    assert np.array_equal(flatten(again.controls), flatten(found.controls))
    assert again.report.iterations == found.report.iterations
    assert run(deep, seed=2).report.iterations != found.report.iterations


@pytest.mark.parametrize("depth", [1, 2, 3, 5, 6, 9])
def test_every_depth_is_searched(depth):
    found = run(spirals(depth=depth))
    assert found.problem.depth == depth and found.status is Status.SOLVED


@pytest.mark.parametrize("risen", [False, True])
def test_the_race_begins_anew_where_all_survivors_rise(deep, risen):
    options = dataclasses.replace(FEW, work=0)
    if risen:  # all layers but two cost the loss, and new ones can hardly leave u = 0
        deep = deep.with_(gamma=0.0)
        options = dataclasses.replace(options, first_scales=(1e-6,), survivors=1)
    own = search._Search(deep, options, 3, ocp.silent)
    with np.errstate(all="ignore"):
        own.climb()
    steps = itertools.pairwise(line.depth for line in own.trace)
    races = sum(pair == (5, 8) for pair in steps)
    assert races == (1 + search.RACES_AGAIN if risen else 1)
    lowest = {level: J[0] for level, (_, J) in own.found.items()}
    assert (lowest[8] > lowest[5] * (1 + search.RISE)) == risen


def test_the_budget_is_kept(deep):
    spent = []
    for work in (0, 40):
        options = dataclasses.replace(FEW, work=work)
        own = search._Search(deep, options, 0, ocp.silent)
        with np.errstate(all="ignore"):
            own.climb()
            climbed = own.work
            own.cycles()
        spent.append((own.work - climbed) / cost(deep.depth))
    assert spent[0] == 0
    # the generation under way is finished
    assert 40 <= spent[1] < 40 + 200


def test_a_large_budget_goes_to_populations_at_every_depth(monkeypatch):
    monkeypatch.setattr(search, "LARGE", 0)
    problem = blobs(depth=13)
    own = search._Search(problem, dataclasses.replace(FEW, work=60), 0, ocp.silent)
    with np.errstate(all="ignore"):
        own.climb()
        before = {level: J[0] for level, (_, J) in own.found.items()}
        own.cycles()
    assert set(own.found) == {5, 6, 7, 8, 11}
    for level, (u, J) in own.found.items():
        assert J[0] <= before.get(level, np.inf) and (np.diff(J) > 0).all()
        again = batch.sweep(prepare(own.at(level)), u).objective
        assert np.allclose(again, J, rtol=1e-12)  # of the level itself, not of a variant


def test_variants_differ_in_one_thing():
    rng, problem = np.random.default_rng(0), spirals(depth=5)
    seen = set()
    for _ in range(60):
        other = variant(problem, rng)
        changed = {k for k in ("r", "gamma", "p_d") if getattr(other, k) != getattr(problem, k)}
        if other.n_samples != problem.n_samples:
            changed.add("samples")
            rows = {(*x, y) for x, y in zip(problem.inputs, problem.labels, strict=True)}
            assert rows >= {(*x, y) for x, y in zip(other.inputs, other.labels, strict=True)}
        assert len(changed) == 1
        assert other.p_d < 1.0
        seen |= changed
    assert seen == {"r", "gamma", "p_d", "samples"}


def test_seconds_end_the_cycles_in_the_middle_of_a_generation(deep):
    options = dataclasses.replace(FEW, work=None, seconds=2.0)
    found = run(deep, options=options)
    assert found.status is Status.SOLVED and 1.0 < found.report.seconds < 60.0


def test_the_objective_of_a_level_is_that_of_the_idle_tail(deep):
    own = search._Search(deep, FEW, 0, ocp.silent)
    shallow = random_start(own.at(11), np.random.default_rng(0), 0.3)
    idle = ocp.extend(deep, shallow, np.random.default_rng(0), 0.0)
    assert objective(own.at(11), shallow) == pytest.approx(objective(deep, idle), rel=1e-14)


def test_survivors_are_distinct_up_to_symmetry(deep):
    own = search._Search(deep, SearchOptions(), 0, ocp.silent)
    with np.errstate(all="ignore"):
        own.climb()
    problem = own.at(5)
    group = symmetry.symmetries(problem)
    points = [search.batch.unpack(problem, u) for u in own.found[5][0]]
    assert len(points) >= 2
    for one, other in itertools.combinations(points, 2):
        assert symmetry.distance(problem, one, other, group)[0] > 1e-3
        mirrored = symmetry.apply(group[-1], other)
        J = [float(objective(problem, u)) for u in (other, mirrored)]
        assert levels.distinct(np.array(J), 4) == [int(np.argmin(J))]


def test_distinct_takes_the_least_and_drops_what_is_out_of_range():
    J = np.array([2.0, np.nan, 1.0, 1.0 + 1e-9, np.inf, 3.0])
    assert levels.distinct(J, 3) == [2, 0, 5]
    assert levels.distinct(J, 1) == [2]


@pytest.mark.parametrize("when", [1, 3, 5, 8])
def test_an_interrupt_keeps_the_best_point_so_far(deep, monkeypatch, when):
    calls, honest, best = itertools.count(1), levels.descend, []

    def descend(problem, u, **options):
        if next(calls) == when:
            press()
        out = honest(problem, u, **options)
        best.append((problem.depth, float(np.nanmin(out.objective))))
        return out

    monkeypatch.setattr(levels, "descend", descend)
    found = run(deep)
    assert found.status is Status.INTERRUPTED and found.problem is deep
    assert len(best) == when - 1
    assert np.isfinite(found.report.objective)
    if when > 4:  # the level of the idle tail was reached: its best is what is kept
        assert found.report.objective == pytest.approx(min(J for N, J in best if N == 11), rel=1e-5)


def test_an_interrupt_within_a_descent_keeps_its_best_start(deep, monkeypatch):
    def stop(options):
        if options.iteration > 20:
            press()

    found = run(deep, report=stop)
    assert found.status is Status.INTERRUPTED and np.isfinite(found.report.objective)


@pytest.mark.parametrize(
    "problem",
    [
        spirals(depth=3, scheme="heun"),
        spirals(depth=3, scheme="rk4"),
        spirals(depth=3, block="double"),
        blobs(3, depth=2, trained=("layers", "readout"), r_ends=0.1),
    ],
)
def test_where_batches_do_not_apply_growth_is_the_way(problem):
    with pytest.raises(ValueError, match="use growth"):
        search.search(problem)
    found = ocp.solve(problem, effort="quick")
    assert found.status is Status.SOLVED and found.report.method.endswith("with growth")
    assert found.report.options["growth"]["trials"] == 2
    more = by_effort.lowest(problem, options=SearchOptions(work=400))
    assert more.report.objective <= found.report.objective + 1e-9
    assert more.report.iterations > found.report.iterations


def test_relu_is_grown():
    assert not search.applies(circles(activation="relu"))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"effort": "much"}, "effort is 'much'"),
        ({"seconds": 0}, "seconds is 0"),
        ({"work": -1}, "work is -1"),
        ({"starts": 0}, "starts is 0"),
    ],
)
def test_options_are_checked(options, said):
    with pytest.raises(ValueError, match=said):
        SearchOptions(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"effort": "quick", "seconds": 1.0},
        {"effort": "quick", "options": ocp.GrowthOptions()},
        {"seconds": 1.0, "solver": "ipopt"},
    ],
)
def test_solve_refuses_what_it_would_ignore(options):
    with pytest.raises(ValueError, match=r"given with|are given"):
        ocp.solve(spirals(depth=2), **options)
