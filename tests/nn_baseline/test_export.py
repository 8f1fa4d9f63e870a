"""Other people's networks: into the training file where they are the statement's, else a trace."""

import json

import numpy as np
import pytest
import safetensors
import safetensors.numpy
import torch
from torch import nn

from nn_baseline import export
from nn_baseline.model import Network
from ocp import container, files, trace
from ocp.evaluation import rollout


class Residual(nn.Module):
    """x + h sigma(A x + b), or x + h W sigma(A x + b)."""

    def __init__(self, width, h=1.0, double=False, bias=False):
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width, bias=bias) if double else None
        self.h = h

    def forward(self, x):
        K = torch.tanh(self.inner(x))
        return x + self.h * (K if self.outer is None else self.outer(K))


def user_network(double=False, h=1.0, dtype=torch.float32):
    torch.manual_seed(0)
    blocks = [Residual(5, h, double) for _ in range(4)]
    return nn.Sequential(nn.Linear(2, 5), *blocks, nn.Linear(5, 3)).to(dtype)


def points(n=12):
    rng = np.random.default_rng(0)
    return rng.standard_normal((n, 2)), np.arange(n) % 3


GIVEN = {"n_classes": 3, "p_d": 0.9, "r": 1e-3}


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize(("h", "dtype"), [(1.0, torch.float32), (0.3, torch.float64)])
def test_a_sequential_of_residual_blocks_becomes_a_training_file(tmp_path, double, h, dtype):
    model = user_network(double, h, dtype)
    inputs, labels = points()
    network = export.dense_network(
        list(model[1:-1]),
        model[-1],
        inputs,
        labels,
        lift=model[0],
        h=h,
        activation="tanh",
        trained=("layers", "lift", "readout"),
        **GIVEN,
    )
    from nn_baseline import checkpoint

    checkpoint.save_training(tmp_path / "t", network)
    back = files.load(tmp_path / "t")
    X = rollout.rollout(back.problem, back.controls).X
    z = rollout.logits(back.problem, back.controls, X[-1])
    theirs = model(torch.tensor(inputs, dtype=dtype)).detach().numpy()
    assert np.abs(z - theirs).max() <= (2e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [({"h": 0.99}, "block 0 .* differs"), ({"activation": "softsign"}, "block 0 .* differs")],
)
def test_a_network_that_does_something_else_is_refused(wrong, words):
    model = user_network()
    inputs, labels = points()
    given = GIVEN | {"h": 1.0, "activation": "tanh"} | wrong
    with pytest.raises(ValueError, match=words):
        export.dense_network(list(model[1:-1]), model[-1], inputs, labels, lift=model[0], **given)


def test_blocks_that_are_not_the_statements_are_refused():
    inputs, labels = points()
    blocks = [Residual(5), Residual(5, double=True)]
    lift, readout = nn.Linear(2, 5), nn.Linear(5, 3)
    with pytest.raises(ValueError, match="block 1 has 2 linear maps"):
        export.dense_network(blocks, readout, inputs, labels, lift=lift, activation="tanh", **GIVEN)
    blocks = [Residual(5, double=True, bias=True)]
    with pytest.raises(ValueError, match="second bias"):
        export.dense_network(blocks, readout, inputs, labels, lift=lift, activation="tanh", **GIVEN)


def read_trace(path):
    with safetensors.safe_open(path, framework="numpy") as file:
        metadata = file.metadata()
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    return json.loads(metadata["problem"]), json.loads(metadata["origin"]), tensors


def test_a_stage_trace_of_any_blocks_holds_what_the_contract_says(tmp_path):
    torch.manual_seed(0)
    blocks = [nn.Sequential(nn.Conv2d(2, 2, 3, padding=1), nn.ReLU()) for _ in range(3)]
    readout = nn.Sequential(nn.Flatten(), nn.Linear(32, 3))
    x, y = torch.randn(7, 2, 4, 4), torch.arange(7) % 3
    sha256 = export.stage_trace(tmp_path / "trace", blocks, readout, x, y, **GIVEN)
    problem, origin, tensors = read_trace(tmp_path / "trace")
    assert problem == {
        **{"format": "trace-1", "n_classes": 3, "depth": 3, "h": 1.0, "p_d": 0.9, "r": 1e-3},
        **{"gamma": 1.0, "beta": 1},
    }
    assert origin["sha256"] == sha256 == container.content_hash(problem, tensors)
    assert tensors["logits"].shape == (4, 7, 3) and tensors["control_norm"].shape == (3,)
    last = readout(blocks[2](blocks[1](blocks[0](x)))).detach().numpy()
    assert tensors["logits"][-1] == pytest.approx(last, abs=1e-6)
    squares = sum(float((p.detach().double() ** 2).sum()) for p in blocks[1].parameters())
    assert tensors["control_norm"][1] == pytest.approx(np.sqrt(squares), rel=1e-12)


def test_the_trace_of_the_statements_network_is_that_of_its_blocks(tmp_path, make_problem):
    problem, u = make_problem(1)
    network = Network(problem, u)
    inputs, labels = torch.tensor(problem.inputs), torch.tensor(problem.labels)
    export.network_trace(tmp_path / "a", network, inputs, labels)
    statement, _, tensors = read_trace(tmp_path / "a")
    X = rollout.rollout(problem, u).X
    assert tensors["logits"] == pytest.approx(rollout.logits(problem, u, X), abs=1e-12)
    assert tensors["control_norm"] == pytest.approx(u.norms(), rel=1e-14)
    assert statement["depth"] == problem.depth
    read = trace.load(tmp_path / "a")
    assert np.array_equal(read.logits, tensors["logits"]) and read.p_d == problem.p_d


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"labels": np.array([0, 3])}, r"labels\[1\] is 3; wanted a class in 0..2"),
        ({"labels": np.array([1, 1])}, "all labels are 1"),
        ({"labels": np.array([0.0, 1.0])}, "type float64; wanted integers"),
        ({"logits": np.zeros((2, 2, 4))}, r"shape \(2, 2, 4\); wanted \(2, 2, 3\)"),
        ({"control_norm": np.array([np.nan])}, r"control_norm\[0\] is nan"),
        ({"control_norm": -np.ones(1)}, "negative entry; wanted norms"),
        ({"p_d": 0.2}, "p_d is 0.2"),
        ({"h": 0.0}, "h is 0.0; wanted a number above 0"),
        ({"depth": 2}, r"shape \(2, 2, 3\); wanted \(3, 2, 3\)"),
    ],
)
def test_bad_traces_are_not_written(tmp_path, wrong, words):
    given = {
        "logits": np.zeros((2, 2, 3)),
        "control_norm": np.ones(1),
        "labels": np.array([0, 1]),
        **{"n_classes": 3, "depth": 1, "h": 1.0, "p_d": 0.9, "r": 1e-3, "gamma": 1.0, "beta": 1},
    } | wrong
    with pytest.raises(ValueError, match=words):
        trace.save(tmp_path / "x", trace.Trace(**given))
    assert not (tmp_path / "x").exists()


def test_equal_traces_are_equal_bytes_and_read_back(tmp_path):
    given = {
        "logits": np.arange(12.0).reshape(2, 2, 3)[:, :, ::-1],
        "control_norm": np.ones(1, dtype=np.float32),
        "labels": np.array([0, 1], dtype=np.int32),
        **{"n_classes": 3, "depth": 1, "h": 1, "p_d": 0.9, "r": 1e-3, "gamma": 1.0, "beta": 1},
    }
    hashes = {trace.save(tmp_path / f"{i}", trace.Trace(**given)) for i in range(8)}
    assert len({(tmp_path / f"{i}").read_bytes() for i in range(8)}) == 1
    back = trace.load(tmp_path / "0")
    assert hashes == {back.sha256} == {back.origin["sha256"]}
    assert np.array_equal(back.logits, given["logits"])
    assert trace.save(tmp_path / "again", back) == back.sha256
