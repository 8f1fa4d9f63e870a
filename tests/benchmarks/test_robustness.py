"""A seeded tenth of the campaigns of robustness.md."""

import pytest
import robustness_readers


@pytest.mark.parametrize("kind", robustness_readers.SHARES)
def test_damaged_files_are_read_or_refused_in_a_sentence(kind):
    count = -(-520 * robustness_readers.SHARES[kind] // sum(robustness_readers.SHARES.values()))
    found = robustness_readers.campaign(kind, count, seed=2)
    assert set(found["outcomes"]) <= {"read", "refused"}, found["faults"]
    assert not found["faults"]
    assert found["longest"] < robustness_readers.LONGEST
