"""A file with 60,000 samples x 20 layers x width 64 is judged in bounded memory."""

import json
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ocp import controls, files
from ocp.problem import Problem

ROOT = Path(__file__).parents[2]


def write(path, n_d: int, n_in: int = 784, depth: int = 20, width: int = 64) -> None:
    """Random bytes as inputs, random labels, random controls."""
    rng = np.random.default_rng(0)
    problem = Problem(
        inputs=rng.integers(0, 256, (n_d, n_in), dtype=np.uint8),
        labels=rng.integers(0, 10, n_d),
        n_classes=10,
        depth=depth,
        width=width,
        input_scale=1 / 255,
        input_shift=0.0,
        lift_weight=0.05 * rng.standard_normal((width, n_in)),
    )
    u = controls.random_start(problem, rng, 0.05)
    files.save(path, files.TrainingFile(problem=problem, controls=u))


def judge(path, out) -> int:
    """Run the command and return the peak memory of its process in MiB."""
    command = [sys.executable, "-m", "verification", str(path), "--json", str(out)]
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    subprocess.run(command, cwd=ROOT, capture_output=True, check=False)
    return max(before, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) // 1024


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_largest_file(tmp_path):
    """The states alone are 645 MiB; the inputs as floats, which the statement forms, 359."""
    write(tmp_path / "big.safetensors", 60_000)
    peak = judge(tmp_path / "big.safetensors", tmp_path / "out.json")
    report = json.loads((tmp_path / "out.json").read_text())
    assert report["exit_code"] == 1  # untrained
    assert peak < 1024
    skipped = {e["name"]: e["message"] for e in report["checks"] if e["verdict"] == "not checked"}
    assert "51.6 GiB" in skipped["first_order.newton_distance"]
    verdicts = {e["verdict"] for e in report["checks"] if e["name"].startswith("turnpike")}
    assert verdicts & {"proved", "vacuous"}


def test_what_is_skipped_is_said(tmp_path):
    write(tmp_path / "a.safetensors", 50, n_in=10)
    judge(tmp_path / "a.safetensors", tmp_path / "out.json")
    report = json.loads((tmp_path / "out.json").read_text())
    skipped = {e["name"] for e in report["checks"] if e["verdict"] == "not checked"}
    assert "first_order.newton_distance" in skipped
