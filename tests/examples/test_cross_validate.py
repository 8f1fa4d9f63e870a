"""The exact optimum against trained networks: the quick run, its record, and bad arguments."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ocp import files
from verification.evaluation import states

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "cross_validate.py"), *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
    )  # fmt: skip


def test_the_quick_run(tmp_path):
    out = tmp_path / "out"
    done = run("--quick", "--output", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    record = json.loads((out / "cross_validate.json").read_text())
    assert record["largest_difference_of_three_programs"] <= 1e-12
    assert record["optima"] == sorted(record["optima"])
    assert len(record["seeds"]) == 2
    for seed, row in enumerate(record["seeds"]):
        # the record and the files say the same, by the judge's own arithmetic
        content = files.load(out / f"adam_{seed}.safetensors")
        J = states.objective(content.problem, content.controls)
        assert row["objective"] == pytest.approx(J, rel=1e-14)
        assert row["polished_objective"] < row["objective"]
        assert row["above_best"] == pytest.approx(J / row["best"] - 1, rel=1e-12)
        assert row["polished_gradient"] <= 1e-8 < row["gradient"]
    exact = files.load(out / "exact.safetensors")
    J = states.objective(exact.problem, exact.controls)
    assert pytest.approx(record["optima"][0], rel=1e-14) == J
    assert np.isclose(record["best_objective"], min(r["best"] for r in record["seeds"]))
    below, median, _ = record["above_best_least_median_largest"]["trained"]
    assert below <= median
    assert median == pytest.approx(np.median([r["above_best"] for r in record["seeds"]]))
    for seed, row in enumerate(record["seeds"]):
        content = files.load(out / f"adam_{seed}_polished.safetensors")
        J = states.objective(content.problem, content.controls)
        assert row["polished_objective"] == pytest.approx(J, rel=1e-14)
        # the same optimum means near it, and another one means away from all
        assert (row["optimum"] >= 0) == (row["separation"] <= 1e-4)
    assert (out / "paths.png").stat().st_size > 5000
    assert (out / "paths.pdf").read_bytes().startswith(b"%PDF")
    assert "above the best known J, trained" in done.stdout


def test_bad_arguments_are_refused_in_one_sentence(tmp_path):
    done = run("--seeds", "0", "--output", tmp_path, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr == "error: --seeds is 0; wanted at least 1\n"
