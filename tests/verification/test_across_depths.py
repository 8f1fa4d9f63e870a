"""Several depths of one problem: counts that are put there, feasible costs by evaluation."""

import functools

import numpy as np
import pytest
import scipy.optimize
from small_minima import minimise, small
from steered import REST, cost_at, lines_of, steered, traced
from zoo import claimed

from ocp.controls import near_zero, random_start, zeros
from ocp.datasets import moons
from ocp.evaluation import rollout
from ocp.files import TrainingFile
from ocp.problem import Problem
from verification import verify_content
from verification.report import Verdict

OVER_ALL = ("turnpike.across_depths", "turnpike.values", "turnpike.not_optimal")
CLAIM, _, BEATEN = OVER_ALL
#: margins outside and inside the tube 1/2, four samples
OUT, WELL = REST - 2.0, REST - 1.0


def random(depth, seed=0, scale=0.5, **changes) -> TrainingFile:
    problem = small(depth=depth, **changes)
    return claimed(problem, random_start(problem, np.random.default_rng(seed), scale))


def claim(contents):
    """The line on the counts."""
    return lines_of(contents, "turnpike")[CLAIM]


def beaten(*contents, names=()):
    """The lines on files that are not optimal: file -> (J, bound)."""
    report = verify_content(contents, names=names, only=("turnpike",))
    found = [line for line in report.entries if line.name == BEATEN]
    if [line.verdict for line in found] == [Verdict.OBSERVED]:
        return {}
    assert {(line.verdict, line.relation) for line in found} == {(Verdict.PROVED, ">")}
    return {line.where: (line.measured, line.bound) for line in found}


def counted(off, depth, make=steered, **changes):
    """Four samples that are outside for `off` layers in all, quarters included, then rest.

    They start at one place, whatever `off` and the depth, and end outside, which does not count.
    """
    m = np.full((depth + 1, 4), REST)
    m[0] = WELL
    at = [(k, i) for i in range(4) for k in range(1, depth)]
    for k, i in at[: int(4 * off)]:
        m[k, i] = OUT
    m[-1] = OUT
    return make(m, **changes)


# --- the claim ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off", "outcome", "growth", "worst"),
    [
        ((3.0, 3.5, 4.0), Verdict.PASSED, 1.0, "file 2"),  # one layer: allowed
        ((3.0, 4.0, 2.0), Verdict.PASSED, 1.0, "file 1"),
        ((3.0, 2.0, 2.0), Verdict.PASSED, 0.0, "file 0"),
        ((0.0, 0.0, 0.0), Verdict.PASSED, 0.0, "file 0"),
        ((3.0, 4.25, 2.0), Verdict.INCONCLUSIVE, 1.25, "file 1"),
        ((3.0, 3.0, 5.75), Verdict.INCONCLUSIVE, 2.75, "file 2"),
        ((3.0, 3.0, 6.0), Verdict.FAILED, 3.0, "file 2"),  # half of the six added layers
        ((1.0, 5.0, 1.0), Verdict.FAILED, 4.0, "file 1"),
    ],
)
@pytest.mark.parametrize("make", [steered, traced])
def test_the_count_may_grow_by_one_layer_and_not_by_half_of_the_added_ones(
    off, outcome, growth, worst, make
):
    line = claim([counted(c, N, make) for c, N in zip(off, (4, 6, 10), strict=True)])
    if make is traced and outcome is Verdict.PASSED:  # it has no gradient
        outcome = Verdict.INCONCLUSIVE
    assert (line.verdict, line.kind) == (outcome, "claim")
    assert (line.measured, line.bound, line.where) == (growth, 1.0, worst)


def idle(trace, depth: int) -> TrainingFile:
    """The training file with the statement of a trace, at u = 0."""
    keys = ("labels", "n_classes", "h", "p_d", "r", "gamma", "beta")
    keys = {key: getattr(trace, key) for key in keys}
    problem = Problem(**keys, inputs=trace.logits[0], depth=depth, width=2, activation="identity")
    return TrainingFile(problem=problem, controls=zeros(problem))


def test_one_trace_among_files_leaves_the_claim_open():
    trace = traced(np.full((7, 2), WELL), h=1e-3, gamma=0.0)
    for middle, outcome in ((idle(trace, 6), Verdict.PASSED), (trace, Verdict.INCONCLUSIVE)):
        line = claim([idle(trace, 4), middle, idle(trace, 8)])
        assert (line.verdict, line.measured) == (outcome, 0.0)


@pytest.mark.parametrize("side", [1 - 1e-6, 1 + 1e-6])
@pytest.mark.parametrize("J", ["below 1", "above 1"])
def test_stationary_enough_is_one_percent_of_the_objective_or_of_one(side, J):
    """u = 0 beside the minimisers: the gradient grows with gamma, and with h relative to J."""

    def still(size: float) -> TrainingFile:
        keys = {"h": 0.1, "gamma": size} if J == "below 1" else {"h": size, "gamma": 100.0}
        return steered(np.full((7, 2), WELL), **keys)

    def norm(size: float) -> float:
        content = still(size)
        cost = float(rollout.objective(content.problem, content.controls))
        assert (cost > 1) is (J == "above 1")
        return np.abs(rollout.gradient(content.problem, content.controls)[0]).max() / max(1, cost)

    ends = (0.0, 5.0) if J == "below 1" else (1e-3, 0.1)
    size = scipy.optimize.brentq(lambda s: norm(s) - 1e-2, *ends, xtol=1e-15, rtol=1e-15)
    middle = still(size * (side if J == "above 1" else 1 + 2 * (side - 1)))
    keys = {"h": middle.problem.h, "gamma": middle.problem.gamma}
    at_rest = [steered([[WELL] * 2, *[[REST] * 2] * N], **keys) for N in (4, 10)]
    line = claim([at_rest[0], middle, at_rest[1]])
    assert line.measured == 0.0
    assert line.verdict is (Verdict.PASSED if side < 1 else Verdict.INCONCLUSIVE)


def test_growth_in_proportion_fails_however_unfinished():
    contents = [counted(c, N, gamma=1e3, h=0.5) for c, N in ((0, 4), (0, 6), (3, 10))]
    assert claim(contents).verdict is Verdict.FAILED
    contents = [counted(0, N, gamma=1e3, h=0.5) for N in (4, 6, 10)]
    assert claim(contents).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("depths", "outcome"),
    [
        ((4, 6, 8), Verdict.PASSED),
        ((3, 4, 6), Verdict.PASSED),
        ((2, 3, 4), Verdict.INCONCLUSIVE),  # one layer more is no small share of two
        ((4, 6, 7), Verdict.NOT_APPLICABLE),
        ((4, 8), Verdict.NOT_APPLICABLE),
        ((4, 8, 8), Verdict.NOT_APPLICABLE),
        ((4, 4, 6, 6, 8), Verdict.PASSED),
    ],
)
def test_three_depths_are_wanted_the_largest_twice_the_smallest(depths, outcome):
    line = claim([counted(0, N) for N in depths])
    assert (line.verdict, line.kind) == (outcome, "claim")


@pytest.mark.parametrize("changes", [{"p_d": 1.0}, {"activation": "softplus", "shifted": False}])
def test_hypotheses_that_fail(changes):
    lines = lines_of([random(N, **changes) for N in (4, 6, 8)], "turnpike")
    assert (lines[CLAIM].verdict, lines[CLAIM].kind) == (Verdict.NOT_APPLICABLE, "claim")
    assert BEATEN in lines


# --- which files belong together ----------------------------------------------------------------

OTHER = {"readout_weight": 2 * np.eye(2)}
LIFT = {"lift_weight": 2 * np.eye(2)}
ENDS = {"trained": ("layers", "readout"), "r_ends": 0.1}


@pytest.mark.parametrize(
    ("first", "third", "together"),
    [
        ({}, {}, True),
        ({}, {"r": 0.5}, False),
        ({}, {"scheme": "heun"}, False),
        ({}, {"inputs": moons(12)[0]}, False),
        ({}, {"labels": 1 - small().labels}, False),
        ({}, OTHER, False),
        (ENDS, ENDS | OTHER, True),
        (ENDS, ENDS | {"readout_bias": np.ones(2)}, True),
        (ENDS, ENDS | LIFT, False),
        ({"trained": ("layers", "lift")}, {"trained": ("layers", "lift")} | LIFT, True),
    ],
)
def test_files_may_differ_in_depth_and_in_trained_ends_alone(first, third, together):
    contents = [random(4, **first), random(6, **first), random(8, **third)]
    report = verify_content(contents, only=("turnpike",))
    of_all = [line for line in report.entries if line.name in OVER_ALL]
    if together:
        assert {line.name for line in of_all} == set(OVER_ALL)
        assert of_all[0].verdict is not Verdict.NOT_APPLICABLE
    else:
        assert [(line.name, line.verdict, line.kind) for line in of_all] == [
            (CLAIM, Verdict.NOT_APPLICABLE, "claim")
        ]


def test_traces_hold_logits_for_inputs():
    """Those of two traces may differ, those of a trace and of a file may not."""
    trace, other = traced(np.full((5, 2), REST)), traced(np.full((7, 2), WELL))
    assert BEATEN in lines_of([trace, other], "turnpike")
    assert BEATEN in lines_of([trace, idle(trace, 6)], "turnpike")
    assert BEATEN not in lines_of([trace, idle(other, 6)], "turnpike")


def test_the_order_of_the_files_changes_nothing():
    keys = {"r": 1e-9}
    contents = [
        counted(0.0, 4, **keys),
        counted(3.0, 6, spare=9.0, **keys),
        counted(4.0, 10, **keys),
    ]
    names, told = ["four", "six", "ten"], []
    for order in ([0, 1, 2], [2, 0, 1], [1, 2, 0]):
        some, called = [contents[i] for i in order], [names[i] for i in order]
        report = verify_content(some, names=called, only=("turnpike",))
        told.append([line for line in report.entries if line.name in OVER_ALL])
    assert told[0] == told[1] == told[2]
    assert (told[0][0].measured, told[0][0].where) == (4.0, "ten")


# --- which files are beaten ---------------------------------------------------------------------


def evaluated(content, depth: int) -> float:
    """J of this file's controls, cropped or with idle layers appended."""
    problem, u = content.problem.with_(depth=depth), content.controls
    if depth > u.depth:
        u = u.followed_by(zeros(problem.with_(depth=depth - u.depth)))
    return float(rollout.objective(problem, u.layers(0, depth)))


@pytest.mark.parametrize("changes", [{}, {"beta": 0}, {"h": 0.25, "gamma": 3.0, "scheme": "heun"}])
@pytest.mark.parametrize("depth", [2, 4, 5, 6, 8])
def test_a_file_is_feasible_at_every_other_depth(changes, depth):
    good, bad = random(5, scale=0.1, **changes), random(depth, 1, scale=3.0, **changes)
    J = float(rollout.objective(bad.problem, bad.controls))
    found = beaten(good, bad, names=("good", "bad"))
    assert found.keys() == {"bad"}
    assert found["bad"] == pytest.approx((J, evaluated(good, depth)), rel=1e-12)


def test_the_least_of_several_refutes():
    contents = [random(N, N, scale=s) for N, s in ((4, 3.0), (5, 0.3), (6, 0.1), (7, 0.3))]
    found = beaten(*contents)
    for i, content in enumerate(contents):
        N = content.problem.depth
        best = min(evaluated(other, N) for other in contents if other is not content)
        J = evaluated(content, N)
        assert (f"file {i}" in found) is (best < J)
        if best < J:
            assert found[f"file {i}"] == pytest.approx((J, best), rel=1e-12)
    assert 1 < len(found) < 4


def test_where_zero_moves_the_states_nothing_is_appended():
    changes = {"activation": "softplus", "shifted": False}
    good, bad = random(5, scale=0.1, **changes), random(7, 1, scale=3.0, **changes)
    assert beaten(good, bad) == {}
    for depth in (5, 4):
        assert beaten(good, random(depth, 1, scale=3.0, **changes)).keys() == {"file 1"}


def test_a_trace_can_be_cropped_and_not_appended_to():
    good, bad = np.full((6, 2), REST), np.full((6, 2), REST - 3.0)
    assert beaten(traced(good[:4]), traced(bad)) == {}
    found = beaten(traced(bad[:4]), traced(good, norm=2.0))
    assert found.keys() == {"file 0"}
    # h sum r/2 |u|^2 of three layers; the costs at rest are 0
    assert found["file 0"] == pytest.approx((2.5 * cost_at(REST - 3.0), 0.5 * 3 * 0.02))


@pytest.mark.parametrize("J", [1e-3, 1.0, 1e3])
def test_rounding_refutes_nothing(J):
    """Two files of one depth, of which one pays for control that does nothing."""
    margins, h = np.full((3, 2), WELL), 0.5
    gamma = J / cost_at(WELL) - 2 * h if J >= 1 else 0.0
    h = h if J >= 1 else J / (2 * cost_at(WELL))
    for times, refuted in ((0.9, False), (1.5, True)):
        spare = np.sqrt(times * 1e-12 * max(1.0, J) / h)  # r = 1, two layers
        cheap, dear = (steered(margins, spare=s, h=h, gamma=gamma, r=1.0) for s in (0.0, spare))
        assert bool(beaten(cheap, dear)) is refuted


# --- files that were trained --------------------------------------------------------------------

DEPTHS = (6, 9, 12)


@functools.cache
def grown(beta: int) -> tuple[TrainingFile, ...]:
    """Minima at three depths, each from the last with nearly idle layers appended."""
    files = []
    problem = small(depth=DEPTHS[0], beta=beta, r=1e-3)
    u = random_start(problem, np.random.default_rng(0), 0.5)
    for depth in DEPTHS:
        if depth > problem.depth:
            more = problem.with_(depth=depth - problem.depth)
            tail = near_zero(more, np.random.default_rng(depth), 1e-3)
            problem, u = problem.with_(depth=depth), u.followed_by(tail)
        u = minimise(problem, u)
        files.append(claimed(problem, u))
    return tuple(files)


@pytest.mark.parametrize(("beta", "outcome"), [(1, Verdict.PASSED), (0, Verdict.FAILED)])
def test_three_trained_depths_pass_with_stage_costs_and_fail_without(beta, outcome):
    report = verify_content(grown(beta), only=("turnpike",))
    assert report.named(CLAIM).verdict is report.verdict is outcome
    assert report.named(BEATEN).verdict is Verdict.OBSERVED


@pytest.mark.parametrize(
    ("scale", "start"), [*((s, random_start) for s in (0.01, 0.1, 0.5, 2.0)), (1e-3, near_zero)]
)
def test_untrained_controls_never_pass(scale, start):
    problems = [small(depth=depth) for depth in DEPTHS]
    contents = [claimed(p, start(p, np.random.default_rng(p.depth), scale)) for p in problems]
    assert claim(contents).verdict in (Verdict.FAILED, Verdict.INCONCLUSIVE)
