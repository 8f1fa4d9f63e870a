"""The check global_minimum: global, proved not to be, undecided; every number recomputed."""

import dataclasses

import numpy as np
import oracle
import pytest
from closed_forms import bowl
from tiny_problems import LOCAL, LOWEST, PAIR, at, flow, minimum, tiny, twins

import verification
from ocp import files
from ocp.controls import flatten
from verification.__main__ import main
from verification.balls import global_search
from verification.balls.global_minimum import GlobalMinimum, Place
from verification.balls.intervals import point
from verification.balls.scalar_network import ScalarNetwork, mirrored
from verification.checks import global_minimum
from verification.report import InconclusiveError, Verdict, VerificationError

pytest.importorskip("flint")
NAME = "global_minimum"
PROVED, OPEN = Verdict.PROVED, Verdict.INCONCLUSIVE
IS, IS_NOT = f"{NAME}.stored_is_global", f"{NAME}.stored_is_not_global"


def lines(content, **options) -> dict:
    """The lines of the check by name; none of them is a claim, none is ever passed."""
    options = options or {"only": (NAME,)}
    report = verification.verify_content([content], **options).select([NAME])
    assert all(entry.kind == "finding" for entry in report.entries)
    assert report.counts()[Verdict.PASSED] == 0
    return {entry.name: entry for entry in report.entries}


def J(content) -> float:
    return oracle.objective(content.problem, flatten(content.controls))


def moved(content, by: float):
    return at(content.problem, flatten(content.controls) + by)


def test_the_lowest_minimum_is_proved_global_and_its_value_enclosed():
    content = minimum(LOWEST)
    found = lines(content)
    assert [entry.verdict for entry in found.values()] == [PROVED] * 4
    value, gap = found[f"{NAME}.value"], found[f"{NAME}.gap"]
    assert value.bound - 1e-15 <= J(content) <= value.measured + 1e-15
    assert 0 <= value.measured - value.bound < 1e-11
    assert gap.bound == 0 <= gap.measured < 1e-11
    assert found[f"{NAME}.minimisers"].measured == 1
    assert IS in found and IS_NOT not in found


def test_a_local_minimum_is_told_apart_though_its_certificate_passes():
    content = minimum(LOCAL)
    above = J(content) - J(minimum(LOWEST))
    assert above > 1e-3
    report = verification.verify_content([content], certify=True)
    assert report.named("certificate.minimum").verdict is Verdict.PASSED
    assert report.exit_code == 0  # a local minimum is what training claims
    line = report.named(IS_NOT)
    assert (line.verdict, line.kind, line.relation, line.bound) == (PROVED, "finding", ">", 0.0)
    assert line.measured == pytest.approx(above, abs=1e-11) and line.measured <= above + 1e-15
    gap = report.named(f"{NAME}.gap")
    assert gap.bound - 1e-15 <= above <= gap.measured + 1e-15
    assert IS not in {entry.name for entry in report.entries}


def test_next_to_the_global_minimiser_is_next_to_it_and_the_gap_is_that_of_the_file():
    content = moved(minimum(LOWEST), 1e-6)
    found = lines(content)
    gap = found[f"{NAME}.gap"]
    assert found[IS].verdict is PROVED
    assert 0 < gap.bound <= gap.measured < 1e-10
    above = J(content) - J(minimum(LOWEST))
    assert gap.bound - 1e-15 <= above <= gap.measured + 1e-15


@pytest.mark.parametrize("start", [LOWEST, LOCAL])
def test_far_from_every_minimiser_is_not_global(start):
    # the certificate would polish it onto the minimum: too far to be said of the file
    content = moved(minimum(start), 0.01)
    line = lines(content)[IS_NOT]
    assert line.verdict is PROVED
    assert line.measured == pytest.approx(J(content) - J(minimum(LOWEST)), abs=1e-11)


def test_next_to_means_a_thousandth_of_the_largest_control():
    content = minimum(PAIR)
    nearby = 1e-3 * np.abs(flatten(content.controls)).max()
    assert nearby > 2.5e-3
    near, far = moved(content, 0.9 * nearby), moved(content, 1.1 * nearby)
    assert lines(near)[IS].verdict is PROVED
    assert lines(far)[IS_NOT].verdict is PROVED


def test_where_nothing_is_trained_it_is_not_global():
    assert IS_NOT in lines(at(tiny(), [0.0, 0.0]))


def test_of_two_mirrored_minimisers_both_are_global():
    content = minimum(PAIR)
    assert mirrored(content.problem)
    found = lines(content, certify=True)
    assert found[f"{NAME}.minimisers"].measured == 2
    assert found[f"{NAME}.minimisers"].verdict is PROVED
    assert found[IS].verdict is PROVED
    image = at(content.problem, flatten(content.controls) * [1, -1, 1, -1])
    assert lines(image)[IS].verdict is PROVED


def test_two_that_no_symmetry_relates_and_no_float_tells_apart_stay_undecided():
    inputs = np.array([[np.nextafter(-1.5, 0)], [-0.6], [0.6], [1.5]])
    content = at(twins(2, inputs=inputs), flatten(minimum(PAIR).controls))
    assert not mirrored(content.problem)
    found = lines(content)
    assert found[f"{NAME}.minimisers"].measured == 2
    assert found[IS].verdict is OPEN
    assert found[f"{NAME}.gap"].measured < 1e-11  # as global as floats can tell


@pytest.mark.parametrize(
    ("problem", "is_so"),
    [
        (twins(), True),
        (twins(3, beta=0, activation="sigmoid"), True),
        (twins(readout_bias=np.array([0.25, 0.25])), True),
        (twins(inputs=np.array([[-1.75], [-0.75], [0.25], [1.25]]), lift_bias=[0.25]), True),
        (twins(inputs=np.array([[-1.75], [-0.75], [0.25], [1.25]])), False),
        (twins(readout_bias=np.array([0.25, 0.0])), False),
        (twins(activation="softplus"), False),
        (twins(activation="sigmoid", shifted=False), False),
        (twins(labels=np.array([0, 1, 1, 0])), False),
        (tiny(), False),
    ],
    ids=range(10),
)
def test_the_symmetry_is_one_of_the_objective(problem, is_so):
    assert mirrored(problem) is is_so
    rng = np.random.default_rng(0)
    signs = np.tile([1.0, -1.0], problem.depth)
    points = rng.normal(size=(6, problem.n_decision))
    off = [abs(oracle.objective(problem, u) - oracle.objective(problem, u * signs)) for u in points]
    assert (max(off) < 1e-14) is is_so


def test_the_limit_of_work_names_what_is_left(monkeypatch):
    monkeypatch.setattr(global_minimum, "WORK", 400)
    found = lines(minimum(PAIR), certify=True)
    line = found[f"{NAME}.minimisers"]
    assert line.verdict is OPEN and "[" in line.message
    assert found[IS].verdict is OPEN
    value = found[f"{NAME}.value"]
    assert value.bound < J(minimum(PAIR)) <= value.measured + 1e-15
    # by name it goes on
    assert lines(minimum(PAIR), certify=True, only=(NAME,))[IS].verdict is PROVED


@pytest.mark.parametrize(
    "content",
    [
        bowl(width=2),
        bowl(r=0.0),
        bowl(activation="relu"),
        bowl(r=1e-30, A=1.0),
        at(tiny(r=5e-324, h=0.25), [1.0, 0.0]),
        at(tiny(), [1e200, 0.0]),
        at(tiny(4), np.zeros(8)),
        at(tiny(inputs=np.zeros((1001, 1)), labels=np.arange(1001) % 2), [0.0, 0.0]),
    ],
    ids=["width", "r", "kinks", "cube", "penalty", "overflow", "layers", "samples"],
)
def test_other_files_are_not_searched(content):
    (line,) = lines(content).values()
    assert (line.name, line.verdict) == (NAME, Verdict.NOT_APPLICABLE)
    assert line.message


def test_unasked_nothing_is_searched_and_what_takes_minutes_by_name_only():
    for content, options in ((minimum(LOWEST), {"only": ()}), (at(flow(3), np.zeros(6)), None)):
        (line,) = lines(content, **(options or {"certify": True})).values()
        assert line.verdict is Verdict.NOT_CHECKED


def test_wrong_enclosures_contradict_a_theorem(monkeypatch):
    right = ScalarNetwork.objective_and_gradient

    def broken(self, u):
        J, G = right(self, u)
        return J + point(0.1), G

    monkeypatch.setattr(ScalarNetwork, "objective_and_gradient", broken)
    (line,) = lines(minimum(LOWEST)).values()
    assert line.verdict is Verdict.FAILED


def test_from_the_command_line_and_as_an_assertion(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(global_search, "OFTEN", 1)
    told = []
    path, wide = tmp_path / "local.safetensors", tmp_path / "wide.safetensors"
    files.save(path, minimum(LOCAL))
    files.save(wide, bowl(width=2))
    assert main([str(path), "--only", NAME]) == 3  # findings only
    assert IS_NOT in capsys.readouterr().out
    report = verification.verify(path, only=(NAME,), progress=told.append)
    assert [entry.name.partition(".")[0] for entry in report.entries] == [NAME] * 4
    assert any("boxes" in text for text in told)
    assert verification.assert_global_minimum(path).named(IS_NOT)
    with pytest.raises(InconclusiveError):
        verification.assert_global_minimum(wide)
    monkeypatch.setattr(global_minimum, "prove_global_minimum", no_box)
    with pytest.raises(VerificationError, match="CONTRADICTS"):
        verification.assert_global_minimum(path)


def made(**changes) -> GlobalMinimum:
    """A result of one box, [1, 2] in both controls, with V_N in [2, 2.25], J = 6, J* = 5."""
    keys = {"lower": 2.0, "upper": 2.25, "best": np.ones(2), "stored_lower": 6.0}
    keys |= {"stored_upper": 6.5, "stored_place": -1, "stored_distance": 1e-4}
    keys |= {"stored_minimum": 5.0, "mirrored": False, "radius": 8.0, "boxes": 10, "left": 0}
    keys |= {"places": (box(),)}
    return GlobalMinimum(**(keys | changes))


def box(by: float = 0.0, reason: str = "") -> Place:
    low = np.array([1.0, 1.0]) + by
    return Place(low=low, high=low + 1, lower=2.0, upper=2.25, unique=not reason, reason=reason)


def of(found: GlobalMinimum, nearby: float = 1e-3) -> dict:
    return {line.name: line for line in global_minimum.entries(found, nearby, "; further")}


def test_bounds_are_the_differences_of_the_ends_rounded_outwards():
    found = of(made())
    gap, line = found[f"{NAME}.gap"], found[IS_NOT]
    assert np.nextafter(3.75, 0) == gap.bound and np.nextafter(4.5, 9) == gap.measured
    assert line.measured == np.nextafter(2.75, 0)  # of the local minimum, not of the file
    assert of(made(), nearby=1e-5)[IS_NOT].measured == np.nextafter(3.75, 0)  # too far from it
    assert of(made(), nearby=1e-4)[IS_NOT].measured == np.nextafter(2.75, 0)
    assert of(made(stored_minimum=2.25))[IS].verdict is OPEN
    assert of(made(stored_minimum=np.nan, stored_distance=np.inf))[IS_NOT].verdict is PROVED
    assert of(made(stored_distance=np.inf, stored_lower=2.25))[IS].verdict is OPEN
    unknown = of(made(lower=-np.inf))
    for name, ends in (("value", (0.0, 2.25)), ("gap", (np.nextafter(3.75, 0), 6.5))):
        line = unknown[f"{NAME}.{name}"]
        assert line.verdict is Verdict.VACUOUS
        assert (line.bound, line.measured) == pytest.approx(ends, rel=1e-15)


def test_next_to_an_undecided_or_another_place_nothing_is_proved():
    own = made(stored_place=0, stored_minimum=2.1)
    assert of(own)[IS].verdict is PROVED
    assert of(own, nearby=1e-5)[IS_NOT].verdict is PROVED  # the file itself is far above
    two = dataclasses.replace(own, places=(box(), box(3.0)))
    assert of(two)[IS].verdict is OPEN
    assert of(dataclasses.replace(two, mirrored=True))[IS].verdict is PROVED
    open_box = dataclasses.replace(own, places=(box(reason="narrow"),))
    assert of(open_box)[IS].verdict is OPEN


def test_undecided_boxes_are_written_out_and_the_others_counted():
    places = tuple(box(by, "narrow") for by in range(5))
    line = of(made(places=(box(9.0), *places)))[f"{NAME}.minimisers"]
    assert (line.verdict, line.measured) == (OPEN, 6.0)
    for said in ("6 places", "5 undecided", "narrow", "[1, 2] x [1, 2]", "and 2 more"):
        assert said in line.message
    assert "further" not in line.message
    three = of(made(places=places[:3], left=1))[f"{NAME}.minimisers"]
    assert "more" not in three.message and three.message.endswith("; further")


def test_with_certify_boxes_times_samples_are_limited(monkeypatch):
    asked = []

    def prove(problem, u, most, progress):
        asked.append(most)
        return made()

    monkeypatch.setattr(global_minimum, "prove_global_minimum", prove)
    lines(minimum(LOWEST), certify=True)
    lines(minimum(LOWEST))
    assert asked == [global_minimum.WORK // 4, global_minimum.MOST]


def no_box(*arguments, **options):
    raise RuntimeError("no box is left")
