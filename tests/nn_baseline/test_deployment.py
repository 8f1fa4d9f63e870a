"""Networks for use: plain torch, torch.export and ONNX give what the statement's network gives."""

import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from nn_baseline.deployment import (
    deployed,
    write_exported,
    write_onnx,
    write_plain,
)
from nn_baseline.model import Network

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def network():
    """A network of four layers on bytes, and rows to try it on."""
    from ocp import controls
    from ocp.problem import Problem

    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (20, 5), dtype=np.uint8)
    problem = Problem(
        inputs=inputs, labels=np.arange(20) % 3, n_classes=3, depth=4, width=6,
        input_scale=1 / 255, input_shift=-0.5, trained=("layers", "lift", "readout"),
        class_names=("low", "middle", "high"),
    )  # fmt: skip
    return Network(problem, controls.random_start(problem, rng, 0.5)), inputs


@pytest.mark.parametrize("seed", range(54))
def test_plain_torch_is_the_statements_network(make_problem, seed):
    """Every scheme, block and activation, bytes included."""
    problem, u = make_problem(seed)
    made = Network(problem, u)
    x = torch.tensor(problem.inputs)
    wanted = made(x).detach()
    found = deployed(made).to_torch(torch.float64)
    assert type(found) is torch.nn.Sequential and len(found) == problem.depth + 2
    error = float((found(x.double()).detach() - wanted).abs().max())
    assert error <= 1e-12 * max(1.0, float(wanted.abs().max()))
    assert torch.equal(made(x), made.logits(made.states(x)[-1]))
    assert f"depth={problem.depth}, width={problem.width}" in repr(made)


def test_it_predicts_the_names(network):
    made, inputs = network
    found = deployed(made)
    z = made(torch.tensor(inputs)).detach().numpy()
    names = np.array(["low", "middle", "high"])
    assert np.array_equal(found.predict(inputs), names[z.argmax(axis=1)])
    assert np.array_equal(deployed(made, np.array([5, 7, 9])).predict(inputs), z.argmax(1) * 2 + 5)
    assert repr(found) == "Deployed(depth=4, width=6, inputs=5, classes=[low, middle, high])"
    with pytest.raises(ValueError, match="wanted 3 classes"):
        deployed(made, np.arange(4))


def test_a_fresh_interpreter_without_this_package_gives_the_same(network, tmp_path):
    made, inputs = network
    write_plain(tmp_path, deployed(made))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["network.safetensors", "residual.py"]
    code = (
        "import builtins, json, sys\n"
        "real = builtins.__import__\n"
        "def guarded(name, *rest, **more):\n"
        "    assert name.split('.')[0] not in ('nn_baseline', 'ocp', 'verification'), name\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = guarded\n"
        "sys.path.insert(0, '.')\n"
        "import torch\n"
        "from residual import load\n"
        "network = load('network.safetensors')\n"
        f"print(json.dumps(network(torch.tensor({inputs.tolist()}).float()).tolist()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    z = np.array(json.loads(done.stdout))
    assert np.abs(z - deployed(made).logits(inputs)).max() <= 1e-5


def test_what_torch_exports_gives_the_same_for_any_batch(network, tmp_path):
    made, inputs = network
    write_exported(tmp_path / "network.pt2", deployed(made))
    found = torch.export.load(tmp_path / "network.pt2").module()
    for rows in (1, 2, 20):
        x = torch.tensor(inputs[:rows]).float()
        assert (
            np.abs(found(x).detach().numpy() - deployed(made).logits(inputs[:rows])).max() <= 1e-5
        )


def test_onnxruntime_gives_the_same_for_any_batch(network, tmp_path):
    runtime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnxscript")
    made, inputs = network
    write_onnx(tmp_path / "network.onnx", deployed(made))
    assert [p.name for p in tmp_path.iterdir()] == ["network.onnx"]
    session = runtime.InferenceSession(tmp_path / "network.onnx")
    for rows in (1, 2, 20):
        (z,) = session.run(["logits"], {"inputs": inputs[:rows].astype(np.float32)})
        assert np.abs(z - deployed(made).logits(inputs[:rows])).max() <= 1e-5
    names = session.get_modelmeta().custom_metadata_map["classes"]
    assert json.loads(names) == ["low", "middle", "high"]


def test_without_the_extra_a_sentence_names_it(network, tmp_path, monkeypatch):
    monkeypatch.setattr("nn_baseline.deployment.can_write_onnx", lambda: False)
    with pytest.raises(ValueError, match="install the extra `onnx`"):
        write_onnx(tmp_path / "network.onnx", deployed(network[0]))
