"""Stage traces: read, refused, judged; equal to the network they were taken from."""

import dataclasses

import numpy as np
import pytest
import safetensors.numpy
from small_minima import solved

from ocp import container, files, trace
from ocp.evaluation import rollout
from verification.__main__ import main
from verification.api import verify
from verification.report import Verdict, headline


def write(path, statement=None, metadata=None, **tensors):
    problem, u = solved(depth=6, r=1e-3)
    X = rollout.rollout(problem, u).X
    stored = {
        "logits": rollout.logits(problem, u, X),
        "control_norm": u.norms(),
        "labels": np.array(problem.labels),
    } | tensors
    stored = {k: np.ascontiguousarray(v) for k, v in stored.items() if v is not None}
    keys = {"format": "trace-1", "n_classes": 2, "depth": 6, "h": 0.5, "p_d": 0.9}
    keys |= {"r": 1e-3, "gamma": 1.0, "beta": 1} | (statement or {})
    keys = {k: v for k, v in keys.items() if v is not None}
    origin = {"sha256": container.content_hash(keys, stored)} | (metadata or {})
    text = {"problem": container.canonical_json(keys), "origin": container.canonical_json(origin)}
    path.write_bytes(safetensors.numpy.save(stored, text))
    return problem, u


def test_a_trace_is_judged_like_its_network(tmp_path):
    problem, u = write(tmp_path / "t.safetensors")
    files.save(tmp_path / "n.safetensors", files.TrainingFile(problem=problem, controls=u))
    of_trace = verify(tmp_path / "t.safetensors")
    of_network = verify(tmp_path / "n.safetensors", only=["turnpike"])
    for entry in of_network.entries:
        twin = of_trace.named(entry.name)
        # the data of a trace are unknown: what is proved of the network is observed of it
        observed = entry.verdict is Verdict.PROVED
        assert twin.verdict is (Verdict.OBSERVED if observed else entry.verdict)
        assert twin.measured == pytest.approx(entry.measured, rel=1e-9, nan_ok=True)
        assert twin.bound == pytest.approx(entry.bound, rel=1e-9, nan_ok=True)
    # of a network nothing can be claimed from its trace
    assert of_trace.exit_code == 3
    assert "no claim about the network was evaluated" in headline(of_trace)
    assert of_trace.named("first_order").verdict is Verdict.NOT_APPLICABLE
    assert of_trace.named("dissipativity.trajectory").verdict is Verdict.OBSERVED
    # the objective is the Euler sum
    J = float(rollout.objective(problem, u))
    write(tmp_path / "t.safetensors", metadata={"objective": J})
    assert verify(tmp_path / "t.safetensors").named("statement.objective").verdict is Verdict.PASSED
    write(tmp_path / "t.safetensors", metadata={"objective": J + 1e-6})
    assert verify(tmp_path / "t.safetensors").exit_code == 1


def test_a_trace_without_claims_is_inconclusive_and_a_wrong_hash_fails(tmp_path):
    path = tmp_path / "t.safetensors"
    write(path, metadata={"sha256": "0" * 64})
    assert verify(path).named("statement.sha256").verdict is Verdict.FAILED
    assert verify(path, only=["turnpike", "depth"]).exit_code == 3


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"statement": {"width": 3}}, "unknown key 'width'"),
        ({"statement": {"h": None}}, "h is None"),
        ({"statement": {"h": 0.0}}, "h is 0.0"),
        ({"statement": {"depth": 5}}, "'logits' has shape"),
        ({"statement": {"p_d": 0.5}}, "p_d is 0.5"),
        ({"statement": {"beta": 2}}, "beta is 2"),
        ({"statement": {"beta": 0, "gamma": 0.0}}, "beta and gamma are both 0"),
        ({"statement": {"n_classes": True}}, "n_classes is True"),
        ({"labels": None}, "'labels' is missing"),
        ({"labels": np.zeros(12)}, "'labels' has type F64"),
        ({"labels": np.arange(12)}, "labels[2] is 2; wanted a class in 0..1"),
        ({"labels": np.zeros(12, dtype=np.int64)}, "all labels are 0"),
        ({"control_norm": -np.ones(6)}, "negative"),
        ({"logits": np.full((7, 12, 2), np.nan)}, "'logits'[0, 0, 0] is nan"),
        ({"extra": np.zeros(2)}, "unknown tensor 'extra'"),
        ({"relative_update": np.zeros(5)}, "'relative_update' has shape"),
        ({"relative_update": np.full(6, -1.0)}, "'relative_update' has a negative entry"),
        ({"relative_update": np.full(6, np.inf)}, "'relative_update'[0] is inf"),
        ({"direction_change": np.full(6, 2.1)}, "'direction_change' has an entry above 2"),
        ({"ends_norm": np.zeros(2)}, "'ends_norm' has shape"),
        ({"ends_norm": np.array([-1.0])}, "'ends_norm' has a negative entry"),
    ],
)
def test_refusals(tmp_path, capsys, change, says):
    path = tmp_path / "t.safetensors"
    write(path, **change)
    assert main([str(path)]) == 2
    error = capsys.readouterr().err
    assert says in error and error.count("\n") == 1


def test_what_is_no_trace_is_left_to_the_other_reader(tmp_path):
    for content in (b"", b"\xff" * 20, (2**60).to_bytes(8, "little"), b"\2\0\0\0\0\0\0\0[]"):
        (tmp_path / "x").write_bytes(content)
        assert not trace.is_trace(tmp_path / "x")
    assert not trace.is_trace(tmp_path / "missing")
    assert not trace.is_trace(tmp_path)


def test_a_trace_without_a_statement_is_refused(tmp_path):
    arrays = {"logits": np.ones((2, 2, 2)), "control_norm": np.ones(1), "labels": np.arange(2)}
    safetensors.numpy.save_file(arrays, tmp_path / "t.safetensors", {"origin": "{}"})
    with pytest.raises(ValueError, match=r't\.safetensors: the metadata lack the key "problem"'):
        trace.load(tmp_path / "t.safetensors")


def test_single_precision_is_read_and_said(tmp_path):
    problem, u = solved(depth=6, r=1e-3)
    z = rollout.logits(problem, u, rollout.rollout(problem, u).X)
    write(tmp_path / "t.safetensors", logits=z.astype(np.float32))
    found = trace.load(tmp_path / "t.safetensors")
    assert found.float32 == ("logits",) and found.logits.dtype == np.float64


def more(**tensors):
    """The optional tensors of six blocks, of which the last three idle."""
    return {
        "control_norm": np.array([4.0, 3.0, 2.0, 0.1, 0.01, 0.0]),
        "relative_update": np.array([0.5, 0.9, 0.2, 1e-2, 1e-3, 0.0]),
        "direction_change": np.array([0.1, 0.3, 0.2, 0.0, 0.0, 0.0]),
        "ends_norm": np.array([20.0]),
    } | tensors


def test_what_blocks_do_is_observed_with_its_figures(tmp_path):
    write(tmp_path / "t.safetensors", **more())
    report = verify(tmp_path / "t.safetensors", only=["depth"])
    idle = report.named("depth.idle_blocks")
    assert (idle.verdict, idle.measured, idle.where) == (Verdict.OBSERVED, 3.0, "layer 3")
    for name, at in (("relative_update", 1), ("direction_change", 1)):
        line = report.named(f"depth.{name}")
        assert (line.measured, line.where) == (more()[name][at], f"layer {at}")
    assert report.named("depth.ends_norm").measured == 20.0
    assert "add 0.2 to J" in report.named("depth.ends_norm").message  # r/2 400


@pytest.mark.parametrize(
    ("changed", "idle"),
    [
        ({"control_norm": np.array([4.0, 3.0, 2.0, 0.3, 0.1, 0.1])}, 2),
        ({"control_norm": np.array([4.0, 3.0, 2.0, 0.1, 0.1, 0.3])}, 0),
        ({"relative_update": np.array([0.5, 0.9, 0.2, 1e-3, 2e-2, 0.0])}, 1),
        ({"relative_update": np.full(6, 0.5)}, 0),
        ({"control_norm": np.zeros(6), "relative_update": np.zeros(6)}, 6),
    ],
)
def test_idle_blocks_have_small_norms_and_small_updates_to_the_end(tmp_path, changed, idle):
    write(tmp_path / "t.safetensors", **more(**changed))
    line = verify(tmp_path / "t.safetensors", only=["depth"]).named("depth.idle_blocks")
    assert line.measured == idle


def test_optional_tensors_are_written_and_read_back(tmp_path):
    one = dataclasses.replace(constant_trace({}), relative_update=np.array([0.5, 0.0]))
    trace.save(tmp_path / "t", one)
    back = trace.load(tmp_path / "t")
    assert back.relative_update.tolist() == [0.5, 0.0]
    assert back.direction_change is None and back.ends_norm is None


def test_equal_traces_give_equal_bytes(tmp_path):
    written = []
    for order in (1, -1):
        keys = [f"key{i}" for i in range(12)][::order]
        one = constant_trace(dict.fromkeys(keys, 1))
        trace.save(tmp_path / "t", one)
        written.append((tmp_path / "t").read_bytes())
    assert written[0] == written[1]


def constant_trace(origin):
    """Two layers that do nothing."""
    return trace.Trace(
        logits=np.zeros((3, 2, 2)),
        control_norm=np.zeros(2),
        labels=np.array([0, 1]),
        origin=origin,
        **{"n_classes": 2, "depth": 2, "h": 0.5, "p_d": 0.9, "r": 1e-3, "gamma": 1.0, "beta": 1},
    )
