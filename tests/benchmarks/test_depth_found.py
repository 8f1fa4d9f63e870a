"""The benchmark of growing depth runs, resumes, and its table says hits and misses as they are."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent


@pytest.fixture
def depth_table(monkeypatch):
    monkeypatch.syspath_prepend(str(HERE))
    import depth_table

    return depth_table


def rows(found, work, fresh, name="moons", seeds=3):
    """Rows of one set: depths found, and the accuracy of fresh networks by depth."""
    made = []
    for seed in range(seeds):
        common = {"set": name, "seed": seed, "cpu_seconds": 1.0}
        jitter = 0.01 * seed
        made += [
            common | {"row": f"fresh {k}", "depth": k, "gain_depth": "", "work": k, "passes": 1,
                      "accuracy": accuracy + jitter}
            for k, accuracy in enumerate(fresh)
        ]  # fmt: skip
        grown = {"depth": found, "gain_depth": found, "work": work, "passes": 10, "accuracy": 90.0}
        for row in ("grown", "equal", "autogrow"):
            made.append(common | {"row": row} | grown)
    return made


FRESH = [50.0, 60.0, 89.9, *[90.0] * 10]


@pytest.mark.parametrize(
    ("found", "work", "lines"),
    [
        (2, 25.0, ["| moons | 3 | 2 [2, 2] | 90.01 | 2 2 2 | 3 of 3 |", "1 of 1: met"]),
        (3, 40.0, ["| moons | 3 | 2 [2, 2] | 90.01 | 3 3 3 | 3 of 3 |", "1 of 1: met"]),
        (4, 40.0, ["| 4 4 4 | 0 of 3 |", "0 of 1: **missed**"]),
        (2, 50.0, ["each set | 0 of 1: **missed**"]),
    ],
)
def test_the_table_counts_hits_and_misses(depth_table, found, work, lines):
    text = "\n".join(depth_table.lines(rows(found, work, FRESH)))
    for line in lines:
        assert line in text, text


def test_a_set_with_rows_missing_has_no_reference(depth_table):
    made = [r for r in rows(2, 20.0, FRESH) if r["row"] != "fresh 7"]
    text = "\n".join(depth_table.lines(made))
    assert "| moons | 3 |" not in text and "| moons | 90.00 | 1.00 |" in text


def test_the_quick_run_writes_rows_once_and_a_table(tmp_path):
    command = [sys.executable, HERE / "depth_found.py", "--quick", "--output", tmp_path]
    first = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parents[1])
    lines = (tmp_path / "depth_found.csv").read_text().splitlines()
    found = list(csv.DictReader(lines))
    assert {r["row"] for r in found} == {"grown", "equal", "autogrow", "fresh 1"}
    assert {r["set"] for r in found} == {"wine", "moons"}
    assert len(first.stdout.splitlines()) == len(found)
    again = subprocess.run(command, capture_output=True, text=True, check=True, cwd=HERE.parents[1])
    assert again.stdout == ""
    assert (tmp_path / "depth_found.md").read_text().startswith("# The depth found by growth")
