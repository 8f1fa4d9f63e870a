"""Certificates against sixty digits: what they enclose is there, and nothing else certifies."""

import re
from pathlib import Path

import known_minima
import known_truth
import numpy as np
import oracle
import oracle_digits
import pytest
from mpmath import mpf

from ocp import files
from verification import api
from verification.report import Verdict

pytest.importorskip("flint")

MINIMA = ("minimum", "soft_nudge", "tuned_embedding", "nearly_singular", "embedded")
OTHERS = (
    "dead_units",
    "separated_tail",
    "saturated_tail",
    "tiny_weights",
    "zero_of_a_double_block",
)
ORDER = known_minima.shuffled(seed=2)
QUICK = [
    ("minimum", 26), ("minimum", 0), ("soft_nudge", 50), ("embedded", 189),
    ("tuned_embedding", 140), ("nearly_singular", 145),
]  # fmt: skip
FILES = QUICK + [(MINIMA[i % 5], ORDER[i]) for i in range(60)]
NONE = [(OTHERS[i % 5], ORDER[60 + i]) for i in range(20)]
LARGEST = 40


def cases(chosen, few: int) -> list:
    slow = pytest.mark.slow
    return [pytest.param(*f, marks=() if i < few else slow) for i, f in enumerate(chosen)]


def certified(path: Path) -> dict:
    return {e.name: e for e in api.verify(path, certify=True, only=["certificate"]).entries}


@pytest.mark.parametrize(("kind", "index"), cases(FILES, few=len(QUICK)))
def test_what_is_certified_is_there(kind, index, tmp_path):
    path = tmp_path / "file.safetensors"
    _, facts = known_truth.make(path, kind, index)
    content = files.load(path)
    problem, u = content.problem, oracle.flat(content.problem, content.controls)
    said = certified(path)
    verdict = said["certificate.minimum"].verdict
    if kind == "minimum" and facts.strict and facts.hash_holds and len(u) <= LARGEST:
        assert verdict is Verdict.PASSED, said["certificate.minimum"].explanation
    if verdict not in (Verdict.PASSED, Verdict.FAILED):
        return
    with oracle_digits.digits():
        point, H, g = oracle_digits.polish(problem, u)
        assert g < mpf(10) ** -45
        if verdict is Verdict.FAILED:
            assert not oracle_digits.definite(H)
            return
        assert oracle_digits.definite(H)
        J = oracle_digits.objective(problem, point)
        interval = said["certificate.objective"]
        assert mpf(interval.measured) <= J <= mpf(interval.bound)
        text = said["certificate.minimum"].message
        middle, radius = re.search(r"\[([-+\d.e]+) \+/- ([-+\d.e]+)\]", text).groups()
        assert abs(J - mpf(middle)) <= mpf(radius)
        assert interval.bound - interval.measured <= 1e-12 * max(1.0, abs(interval.bound))
        moved = max(abs(a - mpf(float(b))) for a, b in zip(point, u, strict=True))
        assert moved <= mpf(said["certificate.minimum"].measured)
        curvature = mpf(said["certificate.curvature"].measured)
        assert curvature > 0
        assert oracle_digits.definite(H - (1 - mpf(10) ** -12) * curvature * np.eye(len(u)))


@pytest.mark.parametrize(("kind", "index"), cases(NONE, few=2))
def test_nothing_else_certifies(kind, index, tmp_path):
    path = tmp_path / "file.safetensors"
    name, _ = known_truth.make(path, kind, index)
    verdict = certified(path)["certificate.minimum"].verdict
    if name == kind:
        assert verdict is not Verdict.PASSED
    elif verdict is Verdict.PASSED:
        content = files.load(path)
        u = oracle.flat(content.problem, content.controls)
        with oracle_digits.digits():
            assert oracle_digits.definite(oracle_digits.polish(content.problem, u)[1])


@pytest.mark.parametrize("activation", ["relu", "leaky_relu", "softsign"])
def test_kinks_never_certify(activation, tmp_path):
    """u = 0: every unit sees v = 0 at every sample."""
    problem = known_minima.problem_of(0, activation=activation, r=5.0, p_d=0.8)
    path = tmp_path / "file.safetensors"
    files.save(path, known_truth.claimed(problem, np.zeros(known_minima.n_decision(problem))))
    assert certified(path)["certificate.minimum"].verdict is not Verdict.PASSED
