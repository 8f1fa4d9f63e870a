"""The training file: round trips bit for bit, refuses the rest, is written whole or not at all."""

import errno
import json
import os
import struct

import numpy as np
import pytest
import safetensors.numpy
from problems import blobs, spirals

from ocp import files
from ocp.atomic import write_atomically
from ocp.controls import Controls, random_start
from ocp.evaluation.rollout import gradient, objective
from ocp.files import TrainingFile


def content(**changes) -> TrainingFile:
    problem = spirals(4, **changes)
    controls = random_start(problem, np.random.default_rng(0))
    return TrainingFile(problem=problem, controls=controls, costate=gradient(problem, controls)[1])


def parts(path):
    """Tensors and metadata of a file, to be edited and written back."""
    with safetensors.safe_open(path, framework="numpy") as file:
        return {k: file.get_tensor(k) for k in file.keys()}, dict(file.metadata())  # noqa: SIM118


@pytest.fixture
def stored(tmp_path):
    path = tmp_path / "a.safetensors"
    files.save(path, content())
    return path


def test_a_round_trip_is_bit_for_bit(tmp_path):
    for number, problem in enumerate(
        (
            spirals(4, scheme="rk4", activation="softplus", sharpness=3.0, p_d=1.0),
            blobs(block="double", trained=("layers", "lift", "readout"), r_ends=0.1, beta=0),
        )
    ):
        controls = random_start(problem, np.random.default_rng(0))
        test = {"test_inputs": problem.inputs[:2] + 1, "test_labels": problem.labels[:2]}
        path = tmp_path / f"{number}.safetensors"
        saved = TrainingFile(problem=problem, controls=controls, origin={"seed": 3}, **test)
        sha256 = files.save(path, saved)
        back = files.load(path)
        for name in Controls.__slots__:
            one, two = getattr(controls, name), getattr(back.controls, name)
            assert (one is None and two is None) or np.array_equal(one, two)
        assert objective(back.problem, back.controls) == objective(problem, controls)
        assert np.array_equal(back.test_inputs, test["test_inputs"])
        assert back.sha256 == sha256 == back.origin["sha256"]
        assert back.origin["seed"] == 3
        assert files.save(path, back) == sha256


def test_fortran_ordered_and_strided_arrays_survive(tmp_path):
    saved = content()
    A = saved.controls.A
    wide = np.zeros((A.shape[0], 6, 6))
    wide[:, ::2, ::2] = A
    path = tmp_path / "a.safetensors"
    for variant in (np.asfortranarray(A), wide[:, ::2, ::2], A[::-1].copy()[::-1], A.astype(">f8")):
        assert not variant.flags.c_contiguous or variant.dtype.byteorder == ">"
        controls = Controls(A=variant, b=np.asfortranarray(saved.controls.b))
        files.save(path, TrainingFile(problem=saved.problem, controls=controls))
        assert np.array_equal(files.load(path).controls.A, A)


def test_float32_is_read_and_reported(stored):
    tensors, metadata = parts(stored)
    tensors["A"] = tensors["A"].astype(np.float32)
    safetensors.numpy.save_file(tensors, stored, metadata)
    back = files.load(stored)
    assert back.float32 == ("A",)
    assert back.controls.A.dtype == np.float64


def test_bytes_and_references_keep_a_file_small(tmp_path):
    raw = np.arange(24, dtype=np.uint8).reshape(6, 4)
    labels = np.array([0, 1, 0, 1])
    np.save(tmp_path / "images.npy", raw)
    problem = spirals(2).with_(
        inputs=raw[2:6], labels=labels, width=4, input_scale=1 / 255, input_shift=0.0,
        lift_weight=None, lift_bias=None, readout_weight=None, readout_bias=None,
    )  # fmt: skip
    controls = random_start(problem, np.random.default_rng(0))
    path = tmp_path / "a.safetensors"
    files.save(path, TrainingFile(problem=problem, controls=controls))
    assert files.load(path).problem.inputs.dtype == np.uint8
    reference = {
        "name": "images.npy",
        "sha256": files.data_files.sha256_of(tmp_path / "images.npy"),
        "rows": [2, 6],
    }
    files.save(path, TrainingFile(problem=problem, controls=controls, data=reference))
    back = files.load(path, data=tmp_path / "images.npy")
    assert np.array_equal(back.problem.inputs, raw[2:6])
    with pytest.raises(files.InputsElsewhere, match="give that file as --data"):
        files.load(path)
    np.save(tmp_path / "other.npy", raw + 1)
    with pytest.raises(ValueError, match=r"has sha256 .*; wanted"):
        files.load(path, data=tmp_path / "other.npy")


def edit_problem(**changes):
    def edit(tensors, metadata):
        statement = json.loads(metadata["problem"])
        for key, value in changes.items():
            if value is None:
                del statement[key]
            else:
                statement[key] = value
        metadata["problem"] = json.dumps(statement)

    return edit


def edit_tensor(name, change):
    def edit(tensors, metadata):
        if change is None:
            del tensors[name]
        else:
            tensors[name] = change(tensors.get(name))

    return edit


def with_nan(array):
    array = array.copy()
    array.flat[3] = np.nan
    return array


@pytest.mark.parametrize(
    ("edit", "sentence"),
    [
        (edit_problem(format=2), '"problem" has format 2 (written by a newer version); wanted 1'),
        (edit_problem(format="one"), "has format 'one'; wanted 1"),
        (edit_problem(format=None), "has format None; wanted 1"),
        (edit_problem(h=None), "lacks the key 'h'"),
        (edit_problem(colour="red"), "unknown key 'colour' in \"problem\""),
        (edit_problem(p_d=True), "p_d is True; wanted a number"),
        (edit_problem(depth=4), "A has shape (5, 3, 3); wanted (4, 3, 3)"),
        (edit_problem(width=4), "lift_weight has shape (3, 2); wanted (4, 2)"),
        (edit_problem(activation="sine"), "activation is 'sine'"),
        (edit_problem(trained=["readout"]), "trained is ['readout']"),
        (edit_problem(trained="layers"), "trained is 'layers'; wanted a list"),
        (edit_problem(block="double"), "W has shape None; wanted (5, 3, 3)"),
        (edit_tensor("A", with_nan), "tensor 'A'[0, 1, 0] is nan; wanted finite numbers"),
        (edit_tensor("inputs", with_nan), "tensor 'inputs'[1, 1] is nan"),
        (edit_tensor("b", None), "tensor 'b' is missing"),
        (edit_tensor("inputs", None), "tensor 'inputs' is missing"),
        (edit_tensor("b", lambda b: b[:, :2]), "b has shape (5, 2); wanted (5, 3)"),
        (edit_tensor("B", lambda _: np.zeros(2)), "unknown tensor 'B'; wanted A, b"),
        (edit_tensor("A", lambda A: A.astype(np.float16)), "type F16; wanted F64 or F32"),
        (edit_tensor("labels", lambda y: y.astype(np.int32)), "type I32; wanted I64"),
        (edit_tensor("labels", lambda y: y + 7), "labels[0] is 7; wanted a class in 0..1"),
        (edit_tensor("labels", lambda y: 0 * y), "all labels are 0"),
        (edit_tensor("costate", lambda c: c[:2]), "'costate' has shape (2, 8, 3)"),
        (edit_tensor("test.inputs", lambda _: np.zeros((2, 2))), "found 'test.inputs' alone"),
        (lambda t, m: m.pop("problem"), 'lack the key "problem"'),
        (lambda t, m: m.update(problem="{"), '"problem" is no valid JSON'),
        (lambda t, m: m.update(problem="[1]"), '"problem" is list; wanted a JSON object'),
        (lambda t, m: m.update(problem='{"h": NaN}'), "NaN; wanted finite numbers"),
        (lambda t, m: m.update(origin="3"), '"origin" is int; wanted a JSON object'),
    ],
)
def test_what_is_not_a_training_file_is_refused(stored, edit, sentence):
    tensors, metadata = parts(stored)
    edit(tensors, metadata)
    safetensors.numpy.save_file(tensors, stored, metadata)
    with pytest.raises(ValueError) as error:
        files.load(stored)
    assert sentence in str(error.value)
    assert str(error.value).startswith(f"{stored}: ")
    assert "\n" not in str(error.value)


def test_truncated_foreign_and_hostile_files_are_refused(stored, tmp_path):
    whole = stored.read_bytes()
    pickle = b"\x80\x04cos\nsystem\n(S'touch pwned'\ntR."
    huge = struct.pack("<Q", 2**62) + b"{}"
    for broken in (whole[:100], whole[:-8], b"", b"not a file", pickle, huge, whole + b"more"):
        stored.write_bytes(broken)
        with pytest.raises(ValueError, match="not a complete safetensors file"):
            files.load(stored)
    assert not (tmp_path / "pwned").exists()
    with pytest.raises(IsADirectoryError):
        files.load(tmp_path)


def test_every_edit_changes_the_hash(stored):
    before = files.load(stored).sha256
    for edit in (edit_problem(r=2e-3), edit_tensor("A", lambda A: A + 1e-16 + 1e-12)):
        tensors, metadata = parts(stored)
        edit(tensors, metadata)
        safetensors.numpy.save_file(tensors, stored, metadata)
        assert files.load(stored).sha256 != before
        assert files.load(stored).origin["sha256"] == before


def test_writing_refuses_what_reading_would(tmp_path):
    saved = content()
    controls = Controls(A=with_nan(saved.controls.A), b=saved.controls.b)
    with pytest.raises(ValueError, match="A\\[0, 1, 0\\] is nan"):
        files.save(
            tmp_path / "a.safetensors", TrainingFile(problem=saved.problem, controls=controls)
        )
    costate = saved.costate.copy()
    costate[0, 0, 0] = np.inf
    bad = TrainingFile(problem=saved.problem, controls=saved.controls, costate=costate)
    with pytest.raises(ValueError, match="costate\\[0, 0, 0\\] is inf"):
        files.save(tmp_path / "a.safetensors", bad)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()])
def test_an_interrupted_write_keeps_the_old_file(stored, monkeypatch, failing, error):
    before = stored.read_bytes()

    def fail(*_):
        raise error

    if failing == "write":
        real = os.fdopen

        def broken(*arguments):
            file = real(*arguments)
            file.write(b"half of it")
            file.flush()
            file.close()
            raise error

        monkeypatch.setattr(os, "fdopen", broken)
    else:
        monkeypatch.setattr(os, failing, fail)
    with pytest.raises(type(error)):
        files.save(stored, content(r=0.5))
    assert stored.read_bytes() == before
    assert [p.name for p in stored.parent.iterdir()] == [stored.name]


def test_a_full_disk_names_the_file_that_could_not_be_written(tmp_path, monkeypatch):
    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    path = tmp_path / "report.json"
    with pytest.raises(OSError, match=r"No space left on device: .*report\.json"):
        write_atomically(path, b"{}")
    assert not list(tmp_path.iterdir())
