"""The examples run, with --quick, from any folder, and write what they say."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocp import files

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(name, *arguments, cwd):
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
    )  # fmt: skip


def test_spirals(tmp_path):
    done = run("spirals_ocp.py", "--quick", "--pdf", "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SOLVED: Strict local minimum" in done.stdout
    assert "classified right  24 of 24" in done.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["status"] == "SOLVED"
    assert report["grad_inf_norm"] <= 1e-8
    assert report["min_curvature"] > report["curvature_band"]
    assert len(report["layers"]["stage_cost"]) == 8
    assert files.load(tmp_path / "out" / "solution.safetensors").problem.depth == 8
    for name in ("features", "decision_region", "layers", "convergence"):
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 5000
        assert (tmp_path / "out" / f"{name}.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--p-d", "0.4"], "error: p_d is 0.4"),
        (["--width", "1"], "error: width is 1"),
        (["--starts", "0"], "error: --starts is 0"),
        (["--effort", "much"], "error: effort is 'much'"),
        (["--effort", "quick", "--seconds", "3"], "error: --effort is given with --seconds"),
        (["--effort", "quick", "--trials", "3"], "error: --effort is given with --trials"),
        (["--seconds", "3", "--solver", "ipopt"], "error: --seconds is given with --solver"),
        (["--points-per-class", "0"], "error: points_per_class is 0"),
    ],
)
def test_spirals_refuses_bad_arguments(tmp_path, arguments, sentence):
    done = run("spirals_ocp.py", *arguments, "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1
    assert not any((tmp_path / "out").glob("*.safetensors"))


def test_an_output_folder_that_cannot_be_made_is_found_before_the_work(tmp_path):
    (tmp_path / "file").write_text("")
    done = run("spirals_ocp.py", "--output", tmp_path / "file" / "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "is a file; wanted a folder" in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_spirals_help():
    done = run("spirals_ocp.py", "--help", cwd=EXAMPLES)
    assert "--points-per-class" in done.stdout
    assert "--quick" in done.stdout


def test_soft_cross_entropy(tmp_path):
    done = run("soft_cross_entropy.py", "--quick", "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "curvature of alpha at 0: 0.1" in done.stdout
    assert (tmp_path / "out" / "soft_cross_entropy.png").stat().st_size > 5000
    done = run("soft_cross_entropy.py", "--p-d", "1", "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2
    assert "wanted 1/n_classes < p_d < 1" in done.stderr


def test_depth_growth(tmp_path):
    done = run("depth_growth.py", "--quick", "--output", tmp_path, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "depth_growth.json").read_text())
    assert [r["status"] for r in rows] == ["SOLVED"] * 6
    assert (tmp_path / "depth_growth.png").stat().st_size > 5000


def test_digits(tmp_path):
    done = run("digits_ocp.py", "--quick", "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "SOLVED: Strict local minimum" in done.stdout
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert report["status"] == "SOLVED" and report["grad_inf_norm"] <= 1e-8
    assert report["min_curvature"] > report["curvature_band"]
    assert len(report["layers"]["control_norm"]) == 3
    assert report["of"] == [300, 360] and report["right"][0] > 270 and report["right"][1] > 270
    content = files.load(tmp_path / "out" / "solution.safetensors")
    assert content.problem.depth == 3 and len(content.test_labels) == 360
    for name in ("layers", "images"):
        assert (tmp_path / "out" / f"{name}.png").stat().st_size > 5000
    done = run("digits_ocp.py", "--images", "9", "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2 and "error: --images is 9; wanted 10 to 1437" in done.stderr
