"""Nothing false passes, nothing true fails: the judge against files of known truth.

Sixty of them here, all in the slow test, which prints the table of counts (-s).
"""

from pathlib import Path

import known_truth
import pytest
import truth
from known_minima import CONFIGURATIONS

from ocp import files
from verification import api

COUNT = 660
FEW = 60
ZOO = known_truth.zoo(COUNT)


def judged(folder: Path, name: str, index: int, certify: bool):
    """(kind, report or None where it is refused, what is false about it) of one file."""
    path = folder / "file.safetensors"
    name, facts = known_truth.make(path, name, index)
    try:
        report = api.verify(path, certify=certify)
    except ValueError as error:
        assert "\n" not in str(error)
        return name, None, [] if facts.refused else [f"no verdict: {error}"]
    if facts.refused:
        return name, report, ["accepted: a statement that is none"]
    api.json_text(report)
    return name, report, truth.faults(report, files.load(path), facts)


def test_every_kind_meets_every_scheme_block_activation_and_trained_ends():
    assert COUNT >= 600
    pairs = len(known_truth.KINDS) * len(CONFIGURATIONS)
    assert len(set(known_truth.zoo(pairs))) == pairs
    assert {name for name, _ in ZOO} == set(known_truth.KINDS)
    assert {index for _, index in ZOO} == set(range(len(CONFIGURATIONS)))


def sweep(folder: Path, chosen: list[tuple[str, int]], certify: bool) -> tuple[truth.Tally, list]:
    tally, false = truth.Tally(), []
    for name, index in chosen:
        name, report, found = judged(folder, name, index, certify)
        tally.add(name, report)
        false += [f"{name} {index}: {sentence}" for sentence in found]
    return tally, false


def test_sixty_files(tmp_path):
    tally, false = sweep(tmp_path, known_truth.few(FEW), certify=False)
    assert sum(tally.verdicts.values()) == FEW
    assert not false, "\n".join(false)
    # a judge that leaves everything open says nothing false either
    assert tally.count("passed") >= 6 and tally.count("failed") >= 20


@pytest.mark.parametrize(
    "name", ["saturated_tail", "separated_tail", "tiny_weights", "hidden_slope", "beside_a_kink"]
)
def test_stationary_in_name_only(name, tmp_path):
    """Slopes that underflow, hide behind larger ones, or jump within the reach of Newton's step."""
    for index in range(0, len(CONFIGURATIONS), 24):
        assert not judged(tmp_path, name, index, certify=False)[2], index


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("part", range(4))
def test_all_files(tmp_path, part):
    tally, false = sweep(tmp_path, ZOO[part::4], certify=True)
    print(f"\n{tally.table()}")
    assert not false, "\n".join(false)
    # isolated minima pass; those that rotations move are left open
    assert tally.verdicts["minimum", "failed"] == 0 < tally.verdicts["minimum", "passed"]
