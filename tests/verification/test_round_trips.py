"""file -> torch -> file and file -> CasADi -> file, bit for bit; float32 with a stated error."""

import json

import numpy as np
import pytest
import torch
from problems import random_problem
from safetensors import safe_open
from safetensors.numpy import save_file
from small_minima import solved

from nn_baseline import checkpoint
from ocp import activations, files
from ocp.controls import flatten, random_start
from ocp.evaluation.rollout import gradient, objective, rollout
from ocp.files import TrainingFile
from ocp.solvers.multiple_shooting import multiple_shooting
from verification import api
from verification.report import Verdict


def cases(count=40):
    for number in range(count):
        rng = np.random.default_rng([20240603, number])
        scheme = ("euler", "heun", "rk4")[number % 3]
        activation = activations.NAMES[number % len(activations.NAMES)]
        problem = random_problem(rng, scheme, activation)
        yield problem, random_start(problem, rng)


def contents_of(path):
    """Tensor bytes by name and the statement."""
    content = files.load(path)
    return content, flatten(content.controls).tobytes()


def test_through_torch_bit_for_bit(tmp_path):
    for problem, controls in cases():
        first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
        files.save(first, TrainingFile(problem=problem, controls=controls))
        network, content = checkpoint.load_training(first)
        checkpoint.save_training(second, network)
        again, flat = contents_of(second)
        assert flat == flatten(controls).tobytes() == flatten(content.controls).tobytes()
        for name in ("inputs", "labels", "lift_weight", "lift_bias", "readout_weight"):
            assert np.array_equal(getattr(again.problem, name), getattr(problem, name))
        assert checkpoint.fingerprint(again.problem) == checkpoint.fingerprint(problem)


def test_through_casadi_bit_for_bit(tmp_path):
    for problem, controls in cases():
        first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
        X = rollout(problem, controls).X
        _, costate = gradient(problem, controls)
        files.save(first, TrainingFile(problem=problem, controls=controls, costate=costate))
        content = files.load(first)
        packing = multiple_shooting(content.problem).packing
        w = packing.pack(content.controls, X)
        back, states = packing.unpack(w)
        assert states.tobytes() == X[1:].tobytes()
        lam = packing.costate(packing.multipliers(content.costate))
        returned = np.concatenate([content.costate[:1], lam])
        files.save(second, TrainingFile(problem=problem, controls=back, costate=returned))
        assert first.read_bytes() == second.read_bytes()


def test_single_precision_is_reported_with_its_error(tmp_path):
    problem, controls = next(cases(1))
    wide, narrow = tmp_path / "wide.safetensors", tmp_path / "narrow.safetensors"
    files.save(wide, TrainingFile(problem=problem, controls=controls))
    network, _ = checkpoint.load_training(wide, dtype=torch.float32)
    checkpoint.save_training(narrow, network)
    moved = flatten(files.load(narrow).controls) - flatten(controls)
    # rounding to float32 is relative, 2^-24 an entry
    assert np.abs(moved).max() <= 2.0**-24 * np.abs(flatten(controls)).max()
    assert np.abs(moved).max() > 0
    report = api.verify(narrow, only=["statement"])
    assert Verdict.FAILED not in [entry.verdict for entry in report.entries]
    assert pytest.approx(0, abs=1e-5) == moved.max()


def test_a_file_in_single_precision_is_verified_with_its_error_stated(tmp_path):
    problem, controls = solved()
    path = tmp_path / "single.safetensors"
    J, (g, _) = objective(problem, controls), gradient(problem, controls)
    origin = {"objective": float(J), "grad_inf_norm": float(np.abs(g).max())}
    files.save(path, TrainingFile(problem=problem, controls=controls, origin=origin))
    with safe_open(path, "np") as file:
        metadata = dict(file.metadata())
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    origin = json.loads(metadata["origin"])
    origin.pop("sha256", None)
    single = {k: v.astype(np.float32) if k in ("A", "b") else v for k, v in tensors.items()}
    save_file(single, path, {**metadata, "origin": json.dumps(origin)})
    report = api.verify(path, only=["statement", "first_order", "diagnosis"])
    stated = report.named("statement.precision")
    assert "stored in single precision: A, b" in stated.message
    # what is stated is what happens, up to the luck of the signs
    found = report.named("first_order.gradient")
    assert 0 < found.measured <= 10 * stated.measured
    assert found.verdict is Verdict.FAILED
    assert report.named("statement.objective").verdict is Verdict.PASSED
    assert report.named("statement.objective").bound == 1e-5 * max(1.0, J)
    assert "export float64" in report.named("diagnosis.not_converged").message
