"""A seeded tenth of the campaigns of robustness.md."""

import os

import pytest
import robustness_commands
import robustness_readers


@pytest.mark.parametrize("kind", robustness_readers.SHARES)
def test_damaged_files_are_read_or_refused_in_a_sentence(kind):
    count = -(-520 * robustness_readers.SHARES[kind] // sum(robustness_readers.SHARES.values()))
    found = robustness_readers.campaign(kind, count, seed=2)
    assert set(found["outcomes"]) <= {"read", "refused"}, found["faults"]
    assert not found["faults"]
    assert found["longest"] < robustness_readers.LONGEST


def test_wrong_command_lines_are_done_or_refused_in_a_sentence():
    found, faults = robustness_commands.run_lines(90, seed=2)
    assert not faults
    assert sum(counts.total() for counts in found.values()) == 90


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="the places are those of Linux")
def test_commands_in_odd_places_lose_nothing():
    found, faults = robustness_commands.run_processes(12, 2, commands=("solve", "judge"))
    assert not faults
    assert sum(counts.total() for counts in found.values()) == 12
