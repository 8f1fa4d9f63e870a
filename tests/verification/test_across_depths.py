"""Several depths of one problem: counts that are put there, feasible costs by evaluation."""

import dataclasses
import itertools

import numpy as np
import pytest
from grown import grown
from small_minima import small
from steered import REST, cost_at, steered, traced
from zoo import claimed

from ocp.controls import near_zero, random_start, zeros
from ocp.datasets import moons
from ocp.evaluation import rollout
from ocp.files import TrainingFile
from ocp.problem import Problem
from ocp.trace import Trace
from verification import verify_content
from verification.checks.across_depths import counts
from verification.report import Verdict

OVER_ALL = [f"turnpike.{n}" for n in ("across_depths", "outside", "values", "not_optimal")]
CLAIM, OUTSIDE, _, BEATEN = OVER_ALL
#: a margin inside the tube 1/2
WELL = REST - 1.0


def random(depth, seed=0, scale=0.5, **changes) -> TrainingFile:
    problem = small(depth=depth, **changes)
    return claimed(problem, random_start(problem, np.random.default_rng(seed), scale))


def over_all(contents, names=()):
    """The lines on all files together."""
    report = verify_content(contents, names=names, only=("turnpike",))
    return [line for line in report.entries if line.name in OVER_ALL]


def claim(contents):
    """The line on the counts."""
    line = over_all(contents)[0]
    assert (line.name, line.kind) == (CLAIM, "claim")
    return line


def beaten(*contents) -> dict:
    """The files that are proved not to be optimal: number -> (J, bound)."""
    found = [line for line in over_all(contents, range(len(contents))) if line.name == BEATEN]
    if [line.message[:7] for line in found] == ["no file"]:
        return {}
    traces = any(isinstance(content, Trace) for content in contents)
    verdict = Verdict.OBSERVED if traces else Verdict.PROVED
    assert {(line.verdict, line.relation) for line in found} == {(verdict, ">")}
    return {int(line.where): (line.measured, line.bound) for line in found}


# --- the claim ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("off", "outcome", "growth", "worst"),
    [
        ((3.0, 3.5, 4.0), Verdict.PASSED, 1.0, "three"),  # one layer: allowed
        ((3.0, 4.0, 2.0), Verdict.PASSED, 1.0, "two"),
        ((3.0, 2.0, 2.0), Verdict.PASSED, 0.0, "one"),
        ((3.0, 4.25, 2.0), Verdict.INCONCLUSIVE, 1.25, "two"),
        ((3.0, 3.0, 5.75), Verdict.INCONCLUSIVE, 2.75, "three"),
        ((3.0, 3.0, 6.0), Verdict.FAILED, 3.0, "three"),  # half of the six added layers
        ((1.0, 5.0, 1.0), Verdict.FAILED, 4.0, "two"),
        ((float("nan"), 3.0, 3.0), Verdict.FAILED, None, "one"),
    ],
)
def test_the_count_may_grow_by_one_layer_and_not_by_half_of_the_added_ones(
    off, outcome, growth, worst
):
    line = counts(off, (4, 6, 10), ("one", "two", "three"))
    assert (line.verdict, line.bound, line.where) == (outcome, 1.0, worst)
    assert growth is None or line.measured == growth


def test_the_least_depth_counts_by_its_least_file():
    line = counts((3.0, 5.0, 4.5, 4.5), (4, 4, 6, 10), "abcd")
    assert (line.verdict, line.measured, line.where) == (Verdict.INCONCLUSIVE, 2.0, "b")


def test_one_layer_more_is_no_small_share_of_two():
    assert counts((1.0, 1.0, 1.0), (2, 3, 4), "abc").verdict is Verdict.INCONCLUSIVE
    assert counts((1.0, 1.0, 1.0), (3, 4, 6), "abc").verdict is Verdict.PASSED


@pytest.mark.parametrize("depths", [(6, 9), (6, 6, 12), (7, 8, 13)])
def test_three_depths_are_wanted_the_largest_twice_the_smallest(depths):
    line = claim([random(N, seed) for seed, N in enumerate(depths)])
    assert (line.verdict, line.kind) == (Verdict.NOT_APPLICABLE, "claim")


# --- which files count --------------------------------------------------------------------------


def idle(trace, depth: int) -> TrainingFile:
    """The training file with the statement of a trace, at u = 0."""
    keys = ("labels", "n_classes", "h", "p_d", "r", "gamma", "beta")
    keys = {key: getattr(trace, key) for key in keys} | {"inputs": trace.logits[0], "width": 2}
    problem = Problem(**keys, depth=depth, activation="identity")
    return TrainingFile(problem=problem, controls=zeros(problem))


def open_without(contents, why):
    """The claim is open, measures nothing and says why a file does not count."""
    line = claim(contents)
    assert line.verdict is Verdict.INCONCLUSIVE
    assert np.isnan(line.measured) and why in line.undecidable
    return line


def test_traces_are_observed_and_never_pass_or_fail():
    good = [np.full((N + 1, 2), REST) for N in (4, 6, 10)]
    bad = [np.full((N + 1, 2), REST - 2.0) for N in (4, 6, 10)]
    for layers in (good, bad):
        open_without([traced(m) for m in layers], "file 1 (a stage trace has no gradient")


def test_the_counts_of_files_that_do_not_count_are_observed():
    """Known margins: one, two and three of four samples are outside in one layer."""
    contents = []
    for N, off in ((4, 1), (6, 2), (10, 3)):
        m = np.full((N + 1, 4), REST)
        m[0], m[1, :off] = WELL, REST - 2.0
        contents.append(steered(m))
    (line,) = (found for found in over_all(contents) if found.name == OUTSIDE)
    assert line.verdict is Verdict.OBSERVED
    assert line.message.endswith("0.25 (N = 4), 0.50 (N = 6), 0.75 (N = 10)")
    hard = over_all([random(N, p_d=1.0) for N in (4, 6, 8)])[1]
    assert (hard.name, hard.verdict) == (OUTSIDE, Verdict.NOT_APPLICABLE)


def test_one_trace_among_files_does_not_count():
    trace = traced(np.full((7, 2), WELL), h=1e-3, gamma=0.0)
    open_without([idle(trace, 4), trace, idle(trace, 8)], "file 1 (a stage trace has no gradient")


def padded(content: TrainingFile, depth: int) -> TrainingFile:
    """The file with idle layers after it."""
    problem = content.problem.with_(depth=depth)
    after = zeros(problem.with_(depth=depth - content.controls.depth))
    return claimed(problem, content.controls.followed_by(after))


def mirrored(content: TrainingFile) -> TrainingFile:
    """The same network with its coordinates in another order, where the ends are symmetric."""
    u = content.controls
    return claimed(content.problem, dataclasses.replace(u, A=u.A[:, ::-1, ::-1], b=u.b[:, ::-1]))


def test_idle_extensions_are_one_solution():
    """At rest from the start: u = 0 is the minimum at every depth."""
    rest = traced(np.full((7, 2), REST))
    contents = [idle(rest, N) for N in (4, 6, 8)]
    assert verify_content(contents[:1], only=("first_order",)).verdict is Verdict.PASSED
    open_without(contents, "file 1 (the leading layers of file 0)")


def test_copies_in_other_coordinates_are_one_solution():
    six, nine, twelve = grown(1)
    copies = [six, mirrored(six), nine, twelve]
    assert "file 1 (first_order" in claim(copies).message  # the ends tell the coordinates apart
    line = claim([six, six, nine, nine, twelve])
    assert line.verdict is Verdict.PASSED
    assert "file 1 (the leading layers of file 0), file 3 (the leading" in line.message


def test_files_that_are_no_solutions_do_not_count():
    six, nine, twelve = grown(1)
    u = nine.controls
    moved = claimed(nine.problem, dataclasses.replace(u, A=u.A + 1e-3))
    open_without([six, moved, twelve], "file 1 (first_order.gradient failed)")
    line = claim([six, moved, nine, twelve])
    assert line.verdict is Verdict.PASSED
    assert "not counted: file 1 (first_order.gradient failed)" in line.message


def test_padded_copies_do_not_pass():
    six = grown(1)[0]
    line = claim([six, padded(six, 9), padded(six, 12)])
    assert line.verdict is Verdict.INCONCLUSIVE


def test_files_whose_objective_overflows_do_not_pass():
    contents = []
    for N in (4, 6, 10):
        m = np.full((N + 1, 4), REST)
        contents.append(steered(m, spare=1e200, r=1.0))
    open_without(contents, "file 1 (its objective is not finite)")


@pytest.mark.parametrize("changes", [{"p_d": 1.0}, {"activation": "softplus", "shifted": False}])
def test_hypotheses_that_fail(changes):
    lines = over_all([random(N, **changes) for N in (4, 6, 8)])
    assert (lines[0].verdict, lines[0].kind) == (Verdict.NOT_APPLICABLE, "claim")
    assert lines[-1].name == BEATEN


# --- which files belong together ----------------------------------------------------------------

READOUT, LIFT = {"trained": ("layers", "readout")}, {"trained": ("layers", "lift")}


@pytest.mark.parametrize(
    ("all_of_them", "third", "together"),
    [
        ({}, {}, True),
        ({}, {"r": 0.5}, False),
        ({}, {"scheme": "heun"}, False),
        ({}, {"inputs": moons(12)[0]}, False),
        ({}, {"labels": 1 - small().labels}, False),
        ({}, {"readout_weight": 2 * np.eye(2)}, False),
        (READOUT, {"readout_weight": 2 * np.eye(2)}, True),
        (READOUT, {"readout_bias": np.ones(2)}, True),
        (READOUT, {"lift_weight": 2 * np.eye(2)}, False),
        (LIFT, {"lift_weight": 2 * np.eye(2)}, True),
        (LIFT, {"readout_weight": 2 * np.eye(2)}, False),
    ],
)
def test_files_may_differ_in_depth_and_in_trained_ends_alone(all_of_them, third, together):
    changes = ((4, all_of_them), (6, all_of_them), (8, all_of_them | third))
    lines = over_all([random(depth, **keys) for depth, keys in changes])
    if together:
        assert list(dict.fromkeys(line.name for line in lines)) == OVER_ALL
        assert lines[0].verdict is not Verdict.NOT_APPLICABLE
    else:
        (line,) = lines
        assert (line.name, line.verdict) == (CLAIM, Verdict.NOT_APPLICABLE)
        assert line.kind == "claim"


def test_traces_hold_logits_for_inputs():
    """Those of two traces may differ, those of a trace and of a file may not."""
    trace, other = traced(np.full((5, 2), REST)), traced(np.full((7, 2), WELL))
    compared = [len(over_all(pair)) > 1 for pair in
                ([trace, other], [trace, idle(trace, 6)], [trace, idle(other, 6)])]  # fmt: skip
    assert compared == [True, True, False]


def test_the_order_of_the_files_changes_nothing():
    six, nine, twelve = grown(1)
    contents = [six, random(6), nine, twelve, traced(np.full((7, 2), WELL))]
    names = np.array(["six", "random", "nine", "twelve", "trace"])
    for some in ([0, 1, 2, 3], [0, 2, 4]):
        found = []
        for order in itertools.permutations(some):
            lines = over_all([contents[i] for i in order], names[list(order)])
            found.append([dataclasses.replace(line, measured=0.0) for line in lines])
        assert all(lines == found[0] for lines in found)


# --- which files are beaten ---------------------------------------------------------------------


def evaluated(content, depth: int) -> float:
    """J of this file's controls, cropped or with idle layers appended."""
    problem, u = content.problem.with_(depth=depth), content.controls
    if depth > u.depth:
        u = u.followed_by(zeros(problem.with_(depth=depth - u.depth)))
    return float(rollout.objective(problem, u.layers(0, depth)))


@pytest.mark.parametrize("changes", [{}, {"beta": 0}, {"h": 0.25, "gamma": 3.0, "scheme": "heun"}])
def test_the_least_of_several_refutes(changes):
    pairs = ((2, 3.0), (4, 3.0), (5, 0.3), (5, 1.0), (6, 0.1), (7, 0.3), (9, 2.0))
    contents = [random(N, N, scale, **changes) for N, scale in pairs]
    wanted = {}
    for i, content in enumerate(contents):
        N = content.problem.depth
        best = min(evaluated(other, N) for other in contents if other is not content)
        if evaluated(content, N) > best:
            wanted[i] = pytest.approx((evaluated(content, N), best), rel=1e-12)
    assert beaten(*contents) == wanted
    assert len(wanted) > 3


def test_where_zero_moves_the_states_nothing_is_appended():
    changes = {"activation": "softplus", "shifted": False}
    good = random(5, scale=0.1, **changes)
    for depth, found in ((7, []), (5, [1]), (4, [1])):
        assert list(beaten(good, random(depth, 1, 3.0, **changes))) == found


def test_a_trace_can_be_cropped_and_appended_to():
    good, bad = np.full((6, 2), REST - 1.0), np.full((6, 2), REST - 3.0)
    # J_M + (N - M) h beta F(z_M) against J_N, gamma = 1: nothing depends on the trace's last layers
    wanted = pytest.approx((3.5 * cost_at(REST - 3.0), 3.5 * cost_at(REST - 1.0)))
    assert beaten(traced(good[:4]), traced(bad)) == {1: wanted}
    good = np.full((6, 2), REST)
    # h sum r/2 |u|^2 of three layers; the costs at rest are 0
    wanted = pytest.approx((2.5 * cost_at(REST - 3.0), 0.5 * 3 * 0.02))
    assert beaten(traced(bad[:4]), traced(good, norm=2.0)) == {0: wanted}


def test_appending_to_a_trace_costs_nothing_where_only_the_last_layer_is_charged():
    good, bad = np.full((4, 2), REST - 1.0), np.full((6, 2), REST - 1.5)
    pair = (traced(m, beta=0, norm=0.3) for m in (good, bad))
    controls = 0.5 * 0.5 * 1e-2 * 0.09
    wanted = (cost_at(REST - 1.5) + 5 * controls, cost_at(REST - 1.0) + 3 * controls)
    assert beaten(*pair) == {1: pytest.approx(wanted)}


@pytest.mark.parametrize(
    ("ends", "refuted"), [((3.0, 3.0), 1), ((3.0, 9.0), 1), ((90.0, 3.0), 0), ((3.0, None), 1)]
)
def test_of_two_traces_one_loses_only_with_its_ends_and_without(ends, refuted):
    """r = .01: ends of norm 90 cost 40, more than the deeper trace saves without them."""
    margins = (np.full((4, 2), REST), np.full((6, 2), REST - 3.0))
    pair = [
        dataclasses.replace(traced(m), ends_norm=None if norm is None else np.array([norm]))
        for m, norm in zip(margins, ends, strict=True)
    ]
    lines = [e for e in verify_content(pair, only=("turnpike",)).entries
             if e.name == "turnpike.not_optimal"]  # fmt: skip
    assert len(lines) == 1 and lines[0].verdict is Verdict.OBSERVED
    assert lines[0].message.startswith("not optimal if both files are") == bool(refuted)
    assert ("their ends cost the same" in lines[0].message) == (None in ends)


def test_a_trace_is_not_appended_to_for_a_training_file():
    """The blocks of the one need not be those of the other."""
    margins = np.array([[REST - 3.0] * 2, *[[REST] * 2] * 3])
    shallow = traced(margins)
    assert beaten(shallow, traced(np.full((7, 2), REST - 3.0))).keys() == {1}
    assert beaten(shallow, idle(shallow, 6)) == {}


@pytest.mark.parametrize("J", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize(("times", "refuted"), [(0.9, {}), (1.5, {1})])
def test_rounding_refutes_nothing(J, times, refuted):
    """Two files of one depth, of which one pays for control that does nothing."""
    h = J / (4 * cost_at(WELL))
    spare = np.sqrt(times * 1e-12 * max(1.0, J) / h)  # r = 1, two layers
    keys = {"h": h, "gamma": 2 * h, "r": 1.0}
    pair = (steered(np.full((3, 2), WELL), spare=size, **keys) for size in (0.0, spare))
    assert beaten(*pair).keys() == set(refuted)


# --- files that were trained --------------------------------------------------------------------


@pytest.mark.parametrize(("beta", "outcome"), [(1, Verdict.PASSED), (0, Verdict.FAILED)])
def test_three_trained_depths_pass_with_stage_costs_and_fail_without(beta, outcome):
    assert claim(grown(beta)).verdict is outcome
    assert beaten(*grown(beta)) == {}


@pytest.mark.parametrize(
    ("scale", "start"), [*((s, random_start) for s in (0.01, 0.1, 0.5, 2.0)), (1e-3, near_zero)]
)
def test_untrained_controls_never_pass(scale, start):
    problems = [small(depth=depth) for depth in (6, 9, 12)]
    contents = [claimed(p, start(p, np.random.default_rng(p.depth), scale)) for p in problems]
    assert claim(contents).verdict is Verdict.INCONCLUSIVE
