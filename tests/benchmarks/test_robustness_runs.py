"""A seeded part of the campaign of killed, stopped and doubled runs; what its counts rest on."""

import json
import os
import subprocess
import sys
from pathlib import Path

import killed_runs
import pytest
import robustness_runs

ROOT = Path(__file__).parents[2]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the campaign forks")
def test_nothing_is_lost_in_a_small_part_of_the_campaign(tmp_path):
    script = ROOT / "tests" / "benchmarks" / "robustness_runs.py"
    out = tmp_path / "robustness.md"
    done = subprocess.run(
        [sys.executable, str(script), "--small", "--output", str(out)],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    text = out.read_text()
    assert "| all | 2 |" in text and "| all | | 3 | 0 |" in text


def test_files_are_compared_to_the_bit_but_for_their_seconds(tmp_path):
    (tmp_path / "seed_0.json").write_text(json.dumps({"seed": 0, "seconds": 1.5}))
    (tmp_path / "log.jsonl").write_text('{"epoch": 1, "seconds": 2}\n')
    before = killed_runs.plain(tmp_path)
    (tmp_path / "seed_0.json").write_text(json.dumps({"seed": 0, "seconds": 2.5}))
    assert killed_runs.plain(tmp_path) == before
    (tmp_path / "log.jsonl").write_text('{"epoch": 1, "seconds": 2}\n{"epoch": 1, "seconds": 2}\n')
    after = killed_runs.plain(tmp_path)
    assert killed_runs.differences(before, after) == ["log.jsonl differs"]
    (tmp_path / "log.jsonl").write_text('{"epoch": 1, "seconds": 2}')  # without its end
    assert killed_runs.plain(tmp_path) != before
    (tmp_path / ".x.tmp").write_text("")
    (tmp_path / "seed_0.json").unlink()
    found = killed_runs.differences(before, killed_runs.plain(tmp_path))
    assert found == ["seed_0.json is missing", ".x.tmp is left", "log.jsonl differs"]


def test_only_its_own_section_is_replaced(tmp_path):
    path = tmp_path / "r.md"
    path.write_text("# Head\n\nbefore\n")
    robustness_runs.write_section(path, ["one", ""])
    path.write_text(path.read_text() + "after\n")
    robustness_runs.write_section(path, ["two", ""])
    text = path.read_text()
    assert text.startswith("# Head\n\nbefore\n") and text.endswith("after\n")
    assert "one" not in text and text.count("two") == 1
