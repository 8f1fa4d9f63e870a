"""What is printed as proved: comparisons of enclosures by their ends, and none of anything else."""

import dataclasses
import subprocess
import sys
from fractions import Fraction

import mpmath
import numpy as np
import pytest
from sixty_digits import Network
from small_minima import small
from steered import REST, lines_of, steered, traced
from test_enclosures import COUNTS, drawn, holds, sides_of
from zoo import claimed, minimum

from ocp import datasets
from ocp.controls import Controls, zeros
from ocp.files import TrainingFile
from verification import verify_content
from verification.balls import decisions
from verification.balls.enclosures import MAX_NUMBERS, enclose, evaluated, why_not
from verification.checks import depth, gap
from verification.evaluation.lower_bound import lower_bound
from verification.report import Between, Verdict, printed, theorem

pytest.importorskip("flint")

THEOREMS = ("dissipativity", "turnpike", "depth", "gap")


# --- what the ends of enclosures decide ---------------------------------------------------------


def tied(**changes) -> TrainingFile:
    """One of two samples tied in all three layers, the other far beyond: hard targets, r = 0.

    n_d J = 3 h log 2 + 3 h log(1 + e^-2000), so the bound exceeds the count by 1e-868.
    """
    m = np.tile([0.0, 2000.0], (4, 1))
    return steered(m, p_d=1.0, h=0.5, **changes)


def test_a_bound_that_is_all_but_met_is_left_open_where_float64_sees_a_proof():
    content = tied()
    J = 3 * 0.5 * np.log(2) / 2
    assert 2 * J / (0.5 * np.log(2)) >= 3  # in float64 the count is within its bound
    line = lines_of(content, "turnpike")["turnpike.misclassified"]
    assert line.verdict is Verdict.INCONCLUSIVE
    assert "undecided, the enclosures overlap" in line.message
    assert (line.measured, line.bound) == (3, pytest.approx(3, abs=1e-15))
    assert verify_content([content], only=("turnpike",)).exit_code == 3  # and it is no failure


def test_ties_are_counted_wrong_and_met_bounds_are_vacuous():
    content = steered(np.zeros((4, 3)), p_d=0.6, h=0.5)
    line = lines_of(content, "turnpike")["turnpike.misclassified"]
    assert (line.measured, line.verdict) == (9, Verdict.VACUOUS)
    flips = lines_of(content, "depth")["depth.flips"]
    assert (flips.measured, flips.verdict) == (0, Verdict.VACUOUS)  # no margin is above 0


@pytest.mark.parametrize(
    ("measured", "bound", "trivial", "verdict"),
    [
        ((1, 1), (2.0, 2.1), 3.0, Verdict.PROVED),
        ((1, 2), (2.0, 2.1), 3.0, Verdict.PROVED),
        ((1, 3), (2.0, 2.1), 3.0, Verdict.INCONCLUSIVE),
        ((2, 2), (1.9, 2.1), 3.0, Verdict.INCONCLUSIVE),
        ((2, 2), (1.9, 2.0), 3.0, Verdict.INCONCLUSIVE),
        ((2, 2), (1.9, 1.99), 3.0, Verdict.FAILED),
        ((Fraction(1, 3), Fraction(1, 3)), (1 / 3, 0.4), 3.0, Verdict.INCONCLUSIVE),
        ((2, 2), (1.9, 1.99), 1.0, Verdict.FAILED),
        ((1, 1), (2.0, 3.0), 3.0, Verdict.VACUOUS),
        ((1, 1), (2.0, np.inf), np.inf, Verdict.VACUOUS),
        ((np.nan, np.nan), (2.0, 2.0), 3.0, Verdict.INCONCLUSIVE),
        ((1, 1), (np.nan, np.nan), 3.0, Verdict.INCONCLUSIVE),
    ],
)
def test_what_two_enclosures_say_of_a_theorem(measured, bound, trivial, verdict):
    line = theorem("turnpike.x", Between(*measured), Between(*bound), trivial, message="m")
    assert line.verdict is verdict
    assert (line.measured, line.bound) == pytest.approx((measured[1], bound[1]), nan_ok=True)
    assert ("CONTRADICTS A THEOREM" in line.message) == (verdict is Verdict.FAILED)


@pytest.mark.parametrize("name", COUNTS)
def test_counts_contradict_costs_that_are_too_small(name):
    """Enclosures of a file whose layers seem to cost a millionth of what they do."""
    problem, u = drawn(4, beta=1, gamma=0.0, r=0.0, p_d=0.99, depth=6)
    found = enclose(problem, u)
    cheap = [cost / 1e6 for cost in found.stage_cost]
    false = dataclasses.replace(found, stage_cost=cheap)
    true_line = theorem(f"turnpike.{name}", *sides_of(found, name))
    assert true_line.verdict in (Verdict.PROVED, Verdict.VACUOUS)
    if name.startswith("level"):  # its count is of the same costs: only the bound is false
        measured, bound = sides_of(found, name)[0], sides_of(false, name)[1]
    else:
        measured, bound = sides_of(false, name)
    assert theorem(f"turnpike.{name}", measured, bound).verdict is Verdict.FAILED


def test_a_network_that_is_not_the_cropped_one_contradicts_the_sum():
    content = minimum(depth=6, r=1e-3)
    problem, u = content.problem, content.controls
    found = enclose(problem, u)
    summed, right = found.cropped(3), evaluated(problem.with_(depth=3), u.layers(0, 3))
    wrong = evaluated(problem.with_(depth=4), u.layers(0, 4))
    assert depth.effect("cropped", summed, right, 0.0, 3).verdict is Verdict.PROVED
    assert depth.effect("cropped", summed, wrong, 0.0, 3).verdict is Verdict.FAILED
    wide = Between(right.lower - 1.0, right.upper + 1.0)
    assert depth.effect("cropped", summed, wide, 0.0, 3).verdict is Verdict.INCONCLUSIVE
    lost = Between(np.nan, np.nan)
    assert depth.effect("cropped", summed, lost, 0.0, 3).verdict is Verdict.INCONCLUSIVE


def test_differences_of_rounding_are_no_proof():
    """Two costs of 1e8 that differ by 2e-9, less than a float there: neither is the larger."""
    problem = small(r=1.0, depth=2)
    u = Controls(A=np.zeros((2, 2, 2)), b=np.full((2, 2), 1e4))
    v = Controls(A=np.zeros((2, 2, 2)), b=u.b * (1 + 1e-17))
    one, other = enclose(problem, u).objective(), enclose(problem, v).objective()
    assert one.lower <= other.upper and other.lower <= one.upper
    # what the layer after costs is still seen where the kept layers are summed by themselves
    found = enclose(problem, u)
    with mpmath.workdps(60):
        assert holds(found.cropped(1), Network(problem.with_(depth=1), u.layers(0, 1)).objective())


def test_a_lower_bound_is_compared_with_both_ends_of_the_objective():
    content = minimum()
    J = enclose(content.problem, content.controls).objective()
    least = lower_bound(content.problem).value
    assert gap.compared(least, J, "").verdict is Verdict.PROVED
    assert gap.compared(np.nextafter(J.upper, np.inf), J, "").verdict is Verdict.FAILED
    assert gap.compared(J.upper, J, "").verdict is Verdict.INCONCLUSIVE
    assert gap.compared(0.0, J, "").verdict is Verdict.VACUOUS


@pytest.mark.parametrize("seed", range(6))
def test_flips_are_those_of_sixty_digits(seed):
    problem, u = drawn(seed, depth=5)
    found = enclose(problem, u)
    with mpmath.workdps(60):
        net = Network(problem, u)
        for k in range(problem.depth + 1):
            flipped = safe = 0
            for z, after in zip(net.final, net.at(k), strict=True):
                flipped += z.index(max(z)) != after.index(max(after))
                change = [b - a for a, b in zip(z, after, strict=True)]
                first, second = sorted(z)[:-3:-1]
                safe += first - second > max(change) - min(change)
            seen = decisions.flips(found, k)
            assert (seen.flipped, seen.safe) == ((flipped, flipped), (safe, safe))
            assert depth.flips(seen).verdict in (Verdict.PROVED, Verdict.VACUOUS)
    more = dataclasses.replace(seen, flipped=Between(3, 3), safe=Between(3, 3))
    assert depth.flips(more).verdict is Verdict.FAILED
    open_ = dataclasses.replace(seen, flipped=Between(0, 3), safe=Between(3, 3))
    assert depth.flips(open_).verdict is Verdict.INCONCLUSIVE


@pytest.mark.parametrize(
    ("value", "up", "text"),
    [
        (1.23456789, True, "1.23457"),
        (1.23456789, False, "1.23456"),
        (-1.23456789, True, "-1.23456"),
        (2.0, True, "2"),
        (0.0, False, "0"),
        (np.inf, True, "inf"),
        (1.0000000001e-7, True, "1.00001e-7"),
    ],
)
def test_a_bound_is_printed_on_its_own_side(value, up, text):
    assert printed(value, up) == text


# --- where nothing is enclosed ------------------------------------------------------------------


def large() -> TrainingFile:
    """Twelve samples of very many coordinates, all but two of them zero."""
    n_in = MAX_NUMBERS // 12
    inputs, labels = datasets.circles(12)
    wide = np.pad(inputs, ((0, 0), (0, n_in - 2)))
    problem = small(inputs=wide, labels=labels, lift_weight=np.eye(2, n_in))
    return claimed(problem, zeros(problem))


def test_large_files_and_traces_are_observed_and_the_line_says_why():
    content = large()
    assert why_not(content.problem).startswith(f"outward rounding is meant for {MAX_NUMBERS}")
    trace = traced(np.full((4, 2), REST - 0.1))
    for made, why in ((content, why_not(content.problem)), (trace, "a stage trace does not hold")):
        lines = {line.name: line for line in verify_content([made], only=THEOREMS).entries}
        proved = [name for name, line in lines.items() if line.verdict is Verdict.PROVED]
        # a theorem whose constants are exact fractions
        assert proved == ["dissipativity.alpha"] * (made is content)
        assert why in lines["dissipativity.trajectory"].message


def test_what_float64_sees_against_a_theorem_decides_nothing():
    """A trace whose count and bound are equal but for rounding, and one that overflows."""
    trace = traced(np.zeros((3, 5)), h=0.3, gamma=0.0, p_d=0.6)
    assert lines_of(trace, "turnpike")["turnpike.misclassified"].verdict is not Verdict.FAILED
    trace = traced(np.tile([1e200, 1.0], (3, 1)))
    line = lines_of(trace, "dissipativity")["dissipativity.trajectory"]
    assert line.verdict in (Verdict.OBSERVED, Verdict.INCONCLUSIVE)


def test_without_ball_arithmetic_everything_is_observed():
    program = "import sys; sys.modules['flint'] = None; import without_flint"
    path = {"PYTHONPATH": ":".join(path for path in sys.path if path)}
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=path
    )
    assert found.stdout.split() == ["dissipativity.alpha", "python-flint"]
