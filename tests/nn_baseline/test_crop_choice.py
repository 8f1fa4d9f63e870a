"""A crop writes what was asked for: so many layers, or as few as lose no more than allowed."""

import json

import numpy as np
import pytest
import torch

from nn_baseline import residual
from nn_baseline.__main__ import main
from nn_baseline.checkpoint import save_training
from nn_baseline.model import Network
from ocp import files
from ocp.controls import Controls
from ocp.problem import Problem

torch.set_num_threads(1)


@pytest.fixture
def trained(tmp_path):
    """A network whose first layer turns wrong predictions into right ones, the others idle.

    x' = b moves the first coordinate by h tanh(2): classes are the sign of the first coordinate
    plus about 1, so the lift alone errs between -1 and 0.
    """
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, (400, 2))
    y = (x[:, 0] > -np.tanh(2.0)).astype(int)
    problem = Problem(
        inputs=x, labels=y, n_classes=2, depth=3, width=2, h=1.0, class_names=("low", "high"),
        readout_weight=np.array([[-1.0, 0.0], [1.0, 0.0]]),
    )  # fmt: skip
    A, b = np.zeros((3, 2, 2)), np.zeros((3, 2))
    b[0, 0] = 2.0
    b[2, 0] = 1e-4  # flips no more than a sample in ten thousand
    path = tmp_path / "trained.safetensors"
    save_training(path, Network(problem, Controls(A=A, b=b)), test=(x[:5], 1 - y[:5]))
    return path, x, y


def crop(path, *more):
    out = path.parent / "out" / "network.safetensors"
    out.parent.mkdir(exist_ok=True)
    assert main(["crop", str(path), "--output", str(out), *more]) == 0
    return out


def test_the_fewest_layers_that_lose_no_more_are_written_for_torch_alone(trained, capsys):
    path, x, y = trained
    out = crop(path, "--lose", "0.2")
    network = residual.load(str(out))
    assert len(network) == 3  # lift, one layer, readout
    assert (network(torch.tensor(x).float()).argmax(1).numpy() == y).mean() > 0.99
    assert (out.parent / "residual.py").exists()
    said = capsys.readouterr().out
    assert "1 of 3 layers (0)" in said and "on 400 samples" in said
    assert "chosen on the training samples" in said


def test_so_many_layers_are_written_the_first_or_the_best(trained, capsys):
    path, _, _ = trained
    assert len(residual.load(str(crop(path, "--keep", "2")))) == 4
    assert "2 of 3 layers (0, 1)" in capsys.readouterr().out
    crop(path, "--keep", "1", "--pick", "best")
    assert "1 of 3 layers (0)" in capsys.readouterr().out


def test_a_file_without_samples_holds_none_and_one_with_them_is_the_judges(trained):
    path, x, _ = trained
    assert crop(path, "--keep", "1").stat().st_size < x.nbytes / 2
    with_samples = files.load(crop(path, "--keep", "1", "--with-samples"))
    assert np.array_equal(with_samples.problem.inputs, x) and with_samples.problem.depth == 1


def test_validation_samples_of_ones_own_choose_and_are_matched_by_name(trained, capsys):
    """On samples that no layer can help, none is worth keeping: one is the least."""
    path, x, y = trained
    names = np.array(["low", "high"])
    table = path.parent / "validation.csv"
    far = np.abs(x[:, 0]) > 1
    lines = [f"{a},{b},{n}" for (a, b), n in zip(x[far], names[y[far]], strict=True)]
    table.write_text("\n".join(["a,b,class", *lines]) + "\n")
    crop(path, "--lose", "0", "--validation", str(table))
    said = capsys.readouterr().out
    assert f"on {far.sum()} samples" in said and "training samples, which" not in said
    for text, message in (
        ("a,b,c,class\n1,2,3,low\n1,2,4,high\n", "has 3 inputs; wanted 2"),
        ("a,b,class\n1.5,2.5,low\n1.5,2.25,middle\n", "class middle"),
    ):
        table.write_text(text)
        out = path.parent / "new.safetensors"
        assert main(["crop", str(path), "--output", str(out), "--validation", str(table)]) == 2
        assert message in capsys.readouterr().err and not out.exists()


def test_the_test_samples_of_the_file_choose_nothing(trained):
    """They are labelled the wrong way round here: whoever looked would keep no layer."""
    path, _, _ = trained
    content = files.load(path)
    assert (content.test_labels != content.problem.labels[:5]).all()
    assert len(residual.load(str(crop(path, "--lose", "0.2")))) == 3


def test_the_table_fits_eighty_columns(trained, capsys, monkeypatch):
    path, _, _ = trained
    monkeypatch.setenv("COLUMNS", "80")
    numbers = path.parent / "crop.json"
    command = ["crop", str(path), "--keep", "1", "2", "--fresh", "3", "--fine-tune", "2"]
    assert main([*command, "--json", str(numbers)]) == 0
    lines = capsys.readouterr().out.splitlines()
    lines = [line for line in lines if not line.startswith("Crops of")]  # a path may be long
    assert max(map(len, lines)) <= 80
    kinds = [row["kind"] for row in json.loads(numbers.read_text())]
    assert any("best 2 + tuned" in kind for kind in kinds)
    assert all(any(line.strip().startswith(kind) for line in lines) for kind in kinds)


def test_another_residual_py_is_not_replaced(trained, capsys):
    path, _, _ = trained
    (path.parent / "residual.py").write_text("mine = True\n")
    out = path.parent / "network.safetensors"
    assert main(["crop", str(path), "--output", str(out)]) == 2
    assert "residual.py is a file of another kind" in capsys.readouterr().err
    assert not out.exists()
