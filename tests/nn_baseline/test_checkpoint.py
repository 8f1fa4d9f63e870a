"""State files, training files, and files that want to do harm."""

import json
import pickle
import struct

import numpy as np
import pytest
import safetensors.torch
import torch

from nn_baseline import checkpoint, evaluation
from nn_baseline.model import Network
from ocp import controls, files
from ocp.evaluation import rollout
from ocp.problem import Problem


def test_a_state_comes_back_as_it_was(tmp_path):
    tree = {
        "a": [1, 2.5, None, True, "x", torch.arange(3.0, dtype=torch.float64)],
        "b": {0: torch.tensor(7), "empty": {}, "list": []},
        "nan": float("inf"),
    }
    checkpoint.save_state(tmp_path / "s", tree)
    back = checkpoint.load_state(tmp_path / "s")
    assert torch.equal(back["a"].pop(), tree["a"].pop())
    assert torch.equal(back["b"].pop(0), tree["b"].pop(0))
    assert back == tree


def test_training_files_come_back_bit_for_bit(tmp_path, make_problem):
    for seed in range(12):
        problem, u = make_problem(seed)
        checkpoint.save_training(tmp_path / "t", Network(problem, u))
        network, content = checkpoint.load_training(tmp_path / "t")
        assert np.array_equal(controls.flatten(network.controls()), controls.flatten(u))
        J = rollout.objective(content.problem, content.controls)
        assert rollout.objective(problem, u) == J
        gradient, _ = rollout.gradient(problem, u)
        assert content.origin["objective"] == pytest.approx(float(J), rel=1e-12, abs=1e-12)
        assert content.origin["grad_inf_norm"] == pytest.approx(np.abs(gradient).max(), rel=1e-11)
        checkpoint.save_training(tmp_path / "again", network)
        assert files.load(tmp_path / "again").sha256 == content.sha256


def test_the_claims_of_a_file_do_not_depend_on_the_chunks(make_problem):
    problem, u = make_problem(7)
    network = Network(problem, u)
    x, y = torch.tensor(problem.inputs), torch.tensor(problem.labels)
    whole = evaluation.objective_and_gradient(network, x, y)
    parts = evaluation.objective_and_gradient(network, x, y, size=2)
    assert len(y) > 2 and parts == pytest.approx(whole, rel=1e-12)


def images(n=50):
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (n, 30), dtype=np.uint8), np.arange(n) % 3
    E = rng.standard_normal((4, 30))
    given = {"depth": 3, "width": 4, "input_scale": 1 / 255, "input_shift": 0.0}
    return Problem(inputs=x, labels=y, n_classes=3, lift_weight=E, **given)


def test_images_are_kept_as_bytes_or_by_reference_with_the_held_out_part(tmp_path):
    problem = images(500)
    network = Network(problem)
    test = (problem.inputs[:5], problem.labels[:5])
    checkpoint.save_training(tmp_path / "bytes", network, test=test)
    content = files.load(tmp_path / "bytes")
    assert content.problem.inputs.dtype == np.uint8 and len(content.test_labels) == 5

    np.save(tmp_path / "images.npy", problem.inputs)
    reference = {
        "name": "images.npy",
        "sha256": files.data_files.sha256_of(tmp_path / "images.npy"),
        "rows": 500,
    }
    checkpoint.save_training(tmp_path / "small", network, reference=reference)
    sizes = [(tmp_path / name).stat().st_size for name in ("small", "bytes")]
    assert sizes[0] < sizes[1] - 500 * 30
    again, _ = checkpoint.load_training(tmp_path / "small", tmp_path / "images.npy")
    assert np.array_equal(again.problem.inputs, problem.inputs)
    with pytest.raises(ValueError, match="--data"):
        checkpoint.load_training(tmp_path / "small")


class Harm:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


@pytest.mark.parametrize("load", [checkpoint.load_state, checkpoint.load_training])
def test_hostile_files_are_refused_and_nothing_is_executed(tmp_path, load):
    problem = images()
    checkpoint.save_training(tmp_path / "good", Network(problem))
    good = (tmp_path / "good").read_bytes()
    victim = tmp_path / "harm"
    torch.save({"x": Harm(victim)}, tmp_path / "torch.pt")
    hostile = {
        "pickle": pickle.dumps(Harm(victim)),
        "torch": (tmp_path / "torch.pt").read_bytes(),
        "truncated": good[: len(good) // 2],
        "empty": b"",
        "short": b"\x01\x02",
        "huge": struct.pack("<Q", 2**62) + b"{}",
        "large": struct.pack("<Q", 50_000_000) + b" " * 100,
        "offsets": _with_header({"A": {"dtype": "F64", "shape": [9], "data_offsets": [0, 72]}}),
    }
    for name, content in hostile.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="not a complete safetensors file"):
            load(tmp_path / name)
    assert not victim.exists()


def _with_header(header):
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + b"\0" * 8


def test_safetensors_files_that_are_no_states_are_refused(tmp_path):
    save = lambda structure: safetensors.torch.save_file(  # noqa: E731
        {"x": torch.zeros(1)},
        tmp_path / "s",
        {"format": checkpoint.STATE_FORMAT, "structure": structure},
    )
    for structure in ("[1]", '{"tensor": "y"}', '{"code": "import os"}', "{", "3", '{"dict": 3}'):
        save(structure)
        with pytest.raises(ValueError, match=r"damaged|wanted a dict"):
            checkpoint.load_state(tmp_path / "s")
    safetensors.torch.save_file({"x": torch.zeros(1)}, tmp_path / "s")
    with pytest.raises(ValueError, match="the format is None"):
        checkpoint.load_state(tmp_path / "s")
