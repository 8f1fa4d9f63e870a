"""Verdicts, exit codes and the rule that nothing passes by accident."""

import math

import pytest

from verification import report
from verification.report import Check, Finding, Report, Verdict, VerificationError

NAN, INF = math.nan, math.inf


def check(measured, bound, **more):
    return Check(name="first_order.x", measured=measured, bound=bound, **more)


@pytest.mark.parametrize(
    ("measured", "bound", "relation", "verdict"),
    [
        (1.0, 1.0, "<=", Verdict.PASSED),
        (1.0, 1.0, "<", Verdict.FAILED),
        (1.0, 1.0, ">", Verdict.FAILED),
        (1.0, 1.0, ">=", Verdict.PASSED),
        (2.0, 1.0, "<=", Verdict.FAILED),
        (2.0, 1.0, ">", Verdict.PASSED),
        (NAN, 1.0, "<=", Verdict.FAILED),
        (NAN, 1.0, ">", Verdict.FAILED),
        (1.0, NAN, "<=", Verdict.FAILED),
        (1.0, NAN, ">", Verdict.FAILED),
        (-INF, 1.0, "<=", Verdict.FAILED),
        (INF, 1.0, ">", Verdict.FAILED),
        (INF, INF, "<=", Verdict.FAILED),
        (1.0, INF, "<=", Verdict.VACUOUS),
        (1.0, -INF, ">", Verdict.VACUOUS),
    ],
)
def test_the_verdict_of_an_inequality(measured, bound, relation, verdict):
    assert check(measured, bound, relation=relation).verdict is verdict


def test_a_bound_that_is_not_below_the_trivial_maximum_is_vacuous():
    assert check(1.0, 5.0, trivial=5.0).verdict is Verdict.VACUOUS
    assert check(1.0, 5.0, trivial=5.1).verdict is Verdict.PASSED
    assert check(6.0, 5.0, trivial=5.0).verdict is Verdict.FAILED


def test_what_cannot_be_decided_is_inconclusive_whatever_the_numbers():
    assert check(NAN, NAN, undecidable="kinks").verdict is Verdict.INCONCLUSIVE
    assert check(0.0, 1.0, undecidable="kinks").verdict is Verdict.INCONCLUSIVE


def test_an_unknown_relation_is_refused():
    with pytest.raises(ValueError, match="relation"):
        check(0.0, 1.0, relation="==")


def test_a_theorem_is_proved_vacuous_or_contradicted():
    exactly = lambda v: report.Between(v, v)  # noqa: E731
    of = lambda m, b, t: report.theorem("turnpike.x", exactly(m), exactly(b), t).verdict  # noqa: E731
    assert of(1, 2, 3) is Verdict.PROVED
    assert of(1, 3, 3) is Verdict.VACUOUS
    assert of(1, INF, INF) is Verdict.VACUOUS
    assert of(4, 3, 3) is Verdict.FAILED
    assert of(NAN, 3, 9) is of(1, NAN, 9) is Verdict.INCONCLUSIVE


def test_in_float64_a_theorem_is_observed_or_left_open():
    of = lambda m, b, t: report.in_floats("turnpike.x", m, b, "large", t).verdict  # noqa: E731
    assert of(1, 2, 3) is of(2, 2 - 1e-12, 3) is Verdict.OBSERVED
    assert of(1, 3, 3) is of(1, INF, INF) is Verdict.VACUOUS
    assert (
        of(4, 3, 3) is of(NAN, 3, 9) is of(1, NAN, 9) is of(INF, INF, INF) is Verdict.INCONCLUSIVE
    )


PASSED, FAILED = check(0.0, 1.0), check(2.0, 1.0)
OPEN = check(0.0, 1.0, undecidable="open")
PROVED = Finding(name="depth.x", verdict=Verdict.PROVED)
CONTRADICTION = Finding(name="depth.x", verdict=Verdict.FAILED)
OPEN_FINDING = Finding(name="reachability.x", verdict=Verdict.INCONCLUSIVE)
ABSENT = report.not_applicable("first_order.x", "no", "claim")
SKIPPED = report.not_checked("certificate", "no", "claim")


@pytest.mark.parametrize(
    ("entries", "code"),
    [
        ((PASSED,), 0),
        ((PASSED, ABSENT, SKIPPED, PROVED, OPEN_FINDING), 0),
        ((PASSED, FAILED, OPEN), 1),
        ((PASSED, CONTRADICTION), 1),
        ((PASSED, OPEN), 3),
        ((), 3),
        ((ABSENT, SKIPPED, PROVED), 3),
    ],
)
def test_the_exit_code(entries, code):
    assert Report(entries=entries).exit_code == code


def test_a_report_is_no_truth_value_and_require_raises_with_the_table():
    good, bad = Report(entries=(PASSED,)), Report(entries=(PASSED, FAILED))
    with pytest.raises(TypeError):
        bool(good)
    assert good.require() is good
    with pytest.raises(VerificationError, match="1 passed, 1 failed, 0 inconclusive"):
        bad.require()
    with pytest.raises(VerificationError):
        Report(entries=()).require()
    with pytest.raises(KeyError):
        bad.named("first_order.x")
    assert good.named("first_order.x") is PASSED
    assert bad.select(["depth"]).entries == ()


def test_json_holds_no_nan():
    found = report.to_json(Report(entries=(check(NAN, 1.0), PROVED), files=("a",)))
    assert found["exit_code"] == 1
    assert found["checks"][0]["measured"] is None
    assert set(found["checks"][0]) == {
        *("name", "kind", "verdict", "measured", "bound", "where", "message")
    }
