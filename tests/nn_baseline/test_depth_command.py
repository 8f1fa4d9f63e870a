"""The command `depth`: from a table of one's own with names of classes to an ONNX file."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")
from nn_baseline import residual
from nn_baseline.__main__ import main, parser
from nn_baseline.classifier import TurnpikeClassifier
from nn_baseline.depth_command import PARAMETERS
from ocp import files

torch.set_num_threads(1)
QUICK = ["--phase-epochs", "5", "--final-epochs", "10", "--deepest", "2", "--threads", "1"]
COLUMNS = "length [mm],weight,colour"


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    """A table with columns of very different size, and classes with a comma in a name."""
    rng = np.random.default_rng(0)
    c = rng.integers(0, 3, 240)
    x = rng.normal(size=(240, 3)) * [1, 10, 1000]
    x[:, 0] += 3 * (c == 1)
    x[:, 1] += 30 * (c == 2)
    names = ["barley", "oat", "wheat, durum"]
    lines = [f'{a:.5g},{b:.5g},{d:.5g},"{names[k]}"' for (a, b, d), k in zip(x, c, strict=True)]
    path = tmp_path_factory.mktemp("data") / "grain.csv"
    path.write_text("\n".join([f"{COLUMNS},sort", *lines]) + "\n")
    return path


@pytest.fixture(scope="module")
def folder(table, tmp_path_factory):
    out = tmp_path_factory.mktemp("out") / "grain"
    assert main(["depth", str(table), "--output", str(out), *QUICK, "--fresh"]) == 0
    return out


def test_it_writes_networks_figure_and_numbers(folder, table):
    found = json.loads((folder / "depth.json").read_text())
    assert found["classes"] == ["barley", "oat", "wheat, durum"]
    assert [row["depth"] for row in found["curve"]] == [1, 2] and found["depth"] in (1, 2)
    assert len(found["growths"]) == 1 and found["growths"][0]["raw_gain"] is not None
    assert len(found["fresh"]["grown_minus_fresh"]) == 3
    assert (folder / "depth.png").read_bytes().startswith(b"\x89PNG")
    network = residual.load(str(folder / "network.safetensors"))
    rows = [line.rsplit(',"', 1) for line in table.read_text().splitlines()[1:]]
    x = np.array([[float(v) for v in row.split(",")] for row, _ in rows])
    names = np.array([name.rstrip('"') for _, name in rows])
    z = network(torch.tensor(x).float()).detach().numpy()
    assert (np.array(found["classes"])[z.argmax(axis=1)] == names).mean() > 0.9
    content = files.load(folder / "training.safetensors")
    assert content.problem.class_names == tuple(found["classes"])
    assert content.problem.depth == found["depth"]


def test_onnxruntime_gives_the_same(folder):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    session = runtime.InferenceSession(folder / "network.onnx")
    x = np.random.default_rng(1).normal(size=(7, 3)).astype(np.float32)
    (z,) = session.run(None, {"inputs": x})
    wanted = residual.load(str(folder / "network.safetensors"))(torch.tensor(x))
    assert np.abs(z - wanted.detach().numpy()).max() <= 1e-5
    names = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    assert names == ["barley", "oat", "wheat, durum"]


def test_what_is_printed_says_what_was_read_and_why_the_depth(table, tmp_path, capsys):
    assert main(["depth", str(table), "--output", str(tmp_path), *QUICK]) == 0
    out = capsys.readouterr().out
    assert out.startswith("read 240 samples, 3 inputs (length [mm], weight, colour), label column")
    assert "over idling" in out and "Depth curve" in out and "network.onnx" in out
    table_lines = [line for line in out.splitlines() if line[:1] in "┏┃┡│└"]
    assert table_lines and max(map(len, table_lines)) <= 80
    before = (tmp_path / "network.safetensors").read_bytes()
    assert main(["depth", str(table), "--output", str(tmp_path), *QUICK]) == 2
    assert "wanted --resume to go on with it" in capsys.readouterr().err
    assert main(["depth", str(table), "--output", str(tmp_path), *QUICK, "--resume"]) == 0
    assert (tmp_path / "network.safetensors").read_bytes() == before
    assert main(["depth", str(table), "--output", str(tmp_path), *QUICK, "--resume", "--r", "1"])
    assert "r was 0.0001, is 1.0" in capsys.readouterr().err


@pytest.mark.slow
def test_ctrl_c_keeps_the_trainings_so_far_and_resuming_gives_the_same(table, tmp_path):
    command = [sys.executable, "-m", "nn_baseline", "depth", str(table), "--output"]
    out, root = tmp_path / "out", Path(__file__).parents[2]
    more = [*QUICK[2:], "--phase-epochs", "60", "--fresh"]
    process = subprocess.Popen(
        [*command, str(out), *more], cwd=root, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    limit = time.monotonic() + 100
    while not list(out.glob("growth/002-*/state.safetensors")) and time.monotonic() < limit:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=100)
    assert process.returncode == 130 and "Traceback" not in err, err
    assert not (out / "network.safetensors").exists()
    for place, flags in ((out, ["--resume"]), (tmp_path / "whole", [])):
        subprocess.run([*command, str(place), *more, *flags], cwd=root, check=True,
                       capture_output=True)  # fmt: skip
    for name in ("network.safetensors", "depth.json", "growth/growth.jsonl"):
        assert (out / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_the_flags_are_the_parameters_of_the_estimator():
    given = vars(parser().parse_args(["depth", "moons", "--output", "x"]))
    parameters = set(TurnpikeClassifier().get_params())
    assert set(PARAMETERS) <= set(given) & parameters
    # the command standardises, has the seed, and begins with one layer
    assert parameters - set(PARAMETERS) == {"random_state", "standardise", "shallowest"}


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--data-dir", "somewhere"], "needs no folder"),
        (["--validation-fraction", "2"], "wanted between 0 and 1"),
        (["--deepest", "0"], "deepest is 0"),
        (["--append", "copies"], "append is 'copies'"),
        (["--resume"], "wanted the folder of an earlier growth"),
        (["--threads", "-1"], "--threads"),
        (["--label", "nothing"], "nothing"),
    ],
)
def test_bad_input_gets_a_sentence_and_leaves_no_network(more, message, table, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["depth", str(table), "--output", str(out), *QUICK, *more]) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
    assert not (out / "network.safetensors").exists()


def test_an_output_that_is_the_input_is_refused(table, capsys):
    assert main(["depth", str(table), "--output", str(table), *QUICK]) == 2
    assert "wanted a folder" in capsys.readouterr().err
