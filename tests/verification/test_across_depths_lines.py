"""Every number, place and sentence of the lines on several depths, from their definitions."""

import types

import numpy as np
import pytest
from small_minima import small
from zoo import claimed

from ocp import controls as containers
from ocp.datasets import moons
from ocp.evaluation import rollout
from verification.checks import across_depths
from verification.evaluation.subject import TrainingSubject
from verification.report import Verdict


def facts_of(depth, seed=0, scale=0.5, **changes):
    problem = small(depth=depth, **changes)
    u = containers.random_start(problem, np.random.default_rng(seed), scale)
    return TrainingSubject(claimed(problem, u))


def J_of(problem, u):
    return float(rollout.objective(problem, u))


# --- the claim ----------------------------------------------------------------------------------


def counted(off, depths=(4, 6, 10), stationary=True, **changes):
    """The claim on files with these counts of layers outside the tube."""
    subjects = []
    for depth in depths:
        norm = 0.0 if stationary else 0.5
        subjects.append(
            types.SimpleNamespace(
                problem=small(depth=depth, **changes), grad_inf_norm=norm,
                survey=types.SimpleNamespace(objective=2.0),
                minimisers=types.SimpleNamespace(applicable=""),
            )
        )  # fmt: skip
    by_subject = dict(zip(map(id, subjects), off, strict=True))
    shares = lambda subject, tube: np.array([by_subject[id(subject)] - 1.0, tube, 1 - tube])  # noqa: E731
    return subjects, shares


def claim(monkeypatch, *arguments, **keywords):
    subjects, shares = counted(*arguments, **keywords)
    monkeypatch.setattr(across_depths, "off_turnpike", shares)
    names = [f"file {i}" for i in range(len(subjects))]
    return across_depths._counts(subjects, names)


@pytest.mark.parametrize(
    ("off", "outcome", "growth", "worst"),
    [
        ((3.0, 3.5, 4.0), Verdict.PASSED, 1.0, "file 2"),  # one layer: allowed
        ((3.0, 4.0, 2.0), Verdict.PASSED, 1.0, "file 1"),
        ((3.0, 2.0, 2.0), Verdict.PASSED, 0.0, "file 0"),
        ((3.0, 4.01, 2.0), Verdict.INCONCLUSIVE, 1.01, "file 1"),
        ((3.0, 3.0, 5.99), Verdict.INCONCLUSIVE, 2.99, "file 2"),
        ((3.0, 3.0, 6.0), Verdict.FAILED, 3.0, "file 2"),  # half of the six added layers
        ((3.0, 9.0, 3.0), Verdict.FAILED, 6.0, "file 1"),
    ],
)
def test_the_count_may_grow_by_one_layer_and_not_by_half_of_the_added_ones(
    off, outcome, growth, worst, monkeypatch
):
    line = claim(monkeypatch, off)
    assert line.name == "turnpike.across_depths"
    assert line.verdict is outcome
    assert line.measured == pytest.approx(growth)
    assert (line.bound, line.where) == (1.0, worst)
    listed = ", ".join(f"{c:.2f} (N = {N})" for c, N in zip(off, (4, 6, 10), strict=True))
    assert line.message == (
        f"growth of the layers outside the tube 1/2, mean over samples: {listed}"
    )
    assert line.undecidable == (
        "the count grows by more than one layer, but by less than half of the added ones"
        if outcome is Verdict.INCONCLUSIVE
        else ""
    )


def test_a_bounded_count_of_files_far_from_stationary_decides_nothing(monkeypatch):
    line = claim(monkeypatch, (3.0, 3.0, 3.0), stationary=False)
    assert line.verdict is Verdict.INCONCLUSIVE
    assert line.undecidable == "the count is bounded, but file 0 is far from stationary"
    # a count that grows in proportion fails all the same
    assert claim(monkeypatch, (3.0, 3.0, 6.0), stationary=False).verdict is Verdict.FAILED


@pytest.mark.parametrize(
    ("J", "norm", "finished"),
    [(2.0, 0.02, True), (2.0, 0.0201, False), (0.5, 0.01, True), (0.5, 0.0101, False)],
)
def test_stationary_enough_is_one_percent_of_the_objective_or_of_one(
    J, norm, finished, monkeypatch
):
    subjects, shares = counted((3.0, 3.0, 3.0))
    subjects[1].grad_inf_norm, subjects[1].survey.objective = norm, J
    monkeypatch.setattr(across_depths, "off_turnpike", shares)
    line = across_depths._counts(subjects, "abc")
    assert line.verdict is (Verdict.PASSED if finished else Verdict.INCONCLUSIVE)
    assert line.undecidable == ("" if finished else "the count is bounded, but b is far from"
                                " stationary")  # fmt: skip
    subjects[1].grad_inf_norm = np.nan
    assert across_depths._counts(subjects, "abc").verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("depths", "asked"),
    [((4, 6, 8), True), ((4, 6, 7), False), ((4, 8), False), ((4, 8, 8), False), ((2, 3, 4), True)],
)
def test_three_depths_are_wanted_the_largest_twice_the_smallest(depths, asked, monkeypatch):
    line = claim(monkeypatch, (3.0,) * len(depths), depths)
    if asked:
        assert line.verdict in (Verdict.PASSED, Verdict.INCONCLUSIVE)
        few = depths == (2, 3, 4)
        assert line.undecidable == few * (
            "only 2 layers lie between the depths: one layer more is no small share"
        )
    else:
        assert (line.verdict, line.kind) == (Verdict.NOT_APPLICABLE, "claim")
        assert line.message == (
            f"depths {', '.join(map(str, depths))}; wanted three or more, the largest at least"
            " twice the smallest"
        )


def test_hypotheses_that_fail(monkeypatch):
    line = claim(monkeypatch, (3.0,) * 3, activation="softplus", shifted=False)
    assert (line.verdict, line.kind) == (Verdict.NOT_APPLICABLE, "claim")
    assert line.message == "u = 0 is no equilibrium"
    subjects, shares = counted((3.0,) * 3)
    subjects[2].minimisers.applicable = "p_d = 1"
    monkeypatch.setattr(across_depths, "off_turnpike", shares)
    line = across_depths._counts(subjects, "abc")
    assert (line.verdict, line.kind, line.message) == (
        Verdict.NOT_APPLICABLE, "claim", "p_d = 1",
    )  # fmt: skip


# --- which files belong together ----------------------------------------------------------------


def test_files_may_differ_in_depth_and_in_trained_ends_alone():
    def difference(*changes):
        subject = [facts_of(4 + i, **change) for i, change in enumerate(changes)]
        return across_depths._difference(subject, ["one", "two", "three"][: len(subject)])

    assert difference({}, {}, {}) == ""
    text = "three and one differ in r, not only in depth"
    assert difference({}, {}, {"r": 0.5}) == text
    inputs, labels = moons(12)
    assert difference({}, {"inputs": inputs}) == "two and one differ in inputs, not only in depth"
    assert difference({}, {"labels": labels[::-1]}) == (
        "two and one differ in labels, not only in depth"
    )
    other = {"readout_weight": 2 * np.eye(2)}
    assert difference({}, other) == "two and one differ in readout_weight, not only in depth"
    ends = {"trained": ("layers", "readout")}
    assert difference(ends, ends | other) == ""
    lift = {"lift_weight": 2 * np.eye(2)}
    assert difference(ends, ends | lift) == ("two and one differ in lift_weight, not only in depth")
    lines = across_depths.check_across_depths(
        [facts_of(4), facts_of(6, r=0.5), facts_of(8)], ["one", "two", "three"]
    )
    assert [(line.name, line.verdict, line.kind) for line in lines] == [
        ("turnpike.across_depths", Verdict.NOT_APPLICABLE, "claim")
    ]
    assert lines[0].message == "two and one differ in r, not only in depth"


def test_traces_hold_logits_for_inputs():
    class Trace(across_depths.TraceSubject):
        def __init__(self, problem):
            self.__dict__["content"] = types.SimpleNamespace(problem=problem, controls=None)

        problem = property(lambda self: self.content.problem)

    one, two = Trace(small(depth=4)), Trace(small(depth=6, inputs=moons(12)[0]))
    assert across_depths._difference([one, two], "ab") == ""
    assert across_depths._difference([one, facts_of(6, inputs=moons(12)[0])], "ab") == (
        "b and a differ in inputs, not only in depth"
    )


def test_files_are_taken_in_the_order_of_their_depths():
    subjects = [facts_of(depth, scale=0.1) for depth in (8, 4, 6)]
    lines = across_depths.check_across_depths(subjects, ["eight", "four", "six"])
    assert [line.name for line in lines[:2]] == ["turnpike.across_depths", "turnpike.values"]
    assert "(N = 4), " in lines[0].message
    assert lines[0].message.index("N = 4") < lines[0].message.index("N = 6")
    J = {subject.problem.depth: subject.survey.objective for subject in subjects}
    assert lines[1].verdict is Verdict.OBSERVED
    assert lines[1].message == (
        "objectives by depth, upper bounds of V_N: "
        + ", ".join(f"{J[N]:.6g} (N = {N})" for N in (4, 6, 8))
    )


# --- which files are beaten ---------------------------------------------------------------------


@pytest.mark.parametrize("changes", [{}, {"beta": 0}, {"h": 0.25, "gamma": 3.0}])
def test_a_file_is_feasible_at_every_other_depth(changes):
    subject = facts_of(5, **changes)
    problem, u = subject.problem, subject.controls
    for depth, how in (
        (8, "3 idle layers after"), (6, "1 idle layers after"), (5, "the controls of"),
        (4, "the first 4 layers of"), (2, "the first 2 layers of"),
    ):  # fmt: skip
        cost, text = across_depths._feasible(subject, depth)
        assert text == how
        other = problem.with_(depth=depth)
        if depth > 5:
            more = containers.zeros(problem.with_(depth=depth - 5))
            wanted = J_of(other, u.followed_by(more))
        else:
            wanted = J_of(other, u.layers(0, depth))
        assert cost == pytest.approx(wanted, rel=1e-12)


def test_idle_layers_cannot_be_appended_where_they_move_the_states():
    subject = facts_of(5, activation="softplus", shifted=False)
    assert across_depths._feasible(subject, 6) == (np.inf, "")
    assert across_depths._feasible(subject, 5)[1] == "the controls of"
    assert np.isfinite(across_depths._feasible(subject, 4)[0])


def compared(costs, monkeypatch):
    """Files with these objectives, feasible at each other's depth at those costs."""
    subjects = [
        types.SimpleNamespace(
            problem=types.SimpleNamespace(depth=4 + i), survey=types.SimpleNamespace(objective=J)
        )
        for i, J in enumerate(costs)
    ]
    monkeypatch.setattr(
        across_depths, "_feasible", lambda f, depth: (f.survey.objective, f"how {depth} by")
    )
    return across_depths._not_optimal(subjects, ["a", "b", "c"][: len(costs)])


def test_a_file_that_another_one_beats_is_not_optimal(monkeypatch):
    first, second = compared((1.5, 1.0, 1.25), monkeypatch)
    for line, J, where, depth in ((first, 1.5, "a", 4), (second, 1.25, "c", 6)):
        assert line.name == "turnpike.not_optimal"
        assert line.verdict is Verdict.PROVED
        assert (line.measured, line.bound, line.relation) == (J, 1.0, ">")
        assert line.where == where
        assert line.message == (
            f"not globally optimal: how {depth} by b costs less at the same depth; restart from"
            " there"
        )
    (line,) = compared((1.0, 1.0), monkeypatch)
    assert (line.name, line.verdict) == ("turnpike.not_optimal", Verdict.OBSERVED)
    assert line.message == "no file is refuted by appending to or cropping another one"


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_rounding_refutes_nothing(size, monkeypatch):
    allowed = 1e-12 * max(1.0, size)
    (line,) = compared((size, size - 0.9 * allowed), monkeypatch)
    assert line.verdict is Verdict.OBSERVED
    (line,) = compared((size, size - 1.5 * allowed), monkeypatch)
    assert (line.verdict, line.where) == (Verdict.PROVED, "a")
    (line,) = compared((-size, -size - 1.5 * allowed), monkeypatch)
    assert (line.verdict, line.where) == (Verdict.PROVED, "a")
    (line,) = compared((-size, -size - 0.9 * allowed), monkeypatch)
    assert line.verdict is Verdict.OBSERVED
