"""Two gloo processes train as one does."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from nn_baseline import checkpoint
from nn_baseline.distributed import Processes
from ocp import controls, files

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
TRAIN = [
    *("train", "moons", "--depth", "4", "--width", "3", "--epochs", "8", "--batch-size", "15"),
    *("--init-scale", "0.3", "--lr", "0.01", "--dtype", "float64", "--threads", "1"),
]


def launch(arguments, count):
    """Start `count` processes with the environment that torchrun sets."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "nn_baseline", *arguments],
            cwd=ROOT,
            env=os.environ
            | {
                "WORLD_SIZE": str(count),
                "RANK": str(rank),
                "LOCAL_RANK": str(rank),
                "MASTER_ADDR": "127.0.0.1",
                "MASTER_PORT": str(port),
                "OMP_NUM_THREADS": "1",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    outputs = [p.communicate(timeout=240) for p in started]
    codes = [p.returncode for p in started]
    assert codes == [0] * count, outputs
    return outputs


def objectives(folder):
    lines = (folder / checkpoint.LOG_FILE).read_text().splitlines()
    return [json.loads(line)["objective"] for line in lines]


@pytest.mark.parametrize("method", ["adam", "lbfgs"])
def test_two_processes_reach_the_objective_of_one(tmp_path, method):
    options = [*TRAIN, "--optimizer", method]
    if method == "lbfgs":
        options += ["--batch-size", "0", "--schedule", "constant", "--lr", "1", "--epochs", "2"]
    launch([*options, "--output", str(tmp_path / "one")], 1)
    outputs = launch([*options, "--output", str(tmp_path / "two")], 2)
    # batches of 15 or 14 on two processes are parts of 7 and 8: the weights must make up for it
    assert objectives(tmp_path / "two") == pytest.approx(objectives(tmp_path / "one"), abs=1e-6)
    one, two = (files.load(tmp_path / f / checkpoint.TRAINING_FILE) for f in ("one", "two"))
    assert controls.flatten(two.controls) == pytest.approx(controls.flatten(one.controls), abs=1e-6)
    assert "Layer by layer" in outputs[0][0] and not outputs[1][0].strip()


def test_parts_cover_the_batch_and_a_batch_too_small_is_refused():
    import torch

    batch = torch.arange(7)
    parts = [Processes(rank=r, count=3).part(batch) for r in range(3)]
    assert np.array_equal(torch.cat(parts), batch)
    with pytest.raises(ValueError, match="2 samples for 3 processes"):
        Processes(rank=0, count=3).part(torch.arange(2))
