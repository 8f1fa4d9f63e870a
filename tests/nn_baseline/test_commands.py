"""The command line: tables, exit codes, one clear sentence on bad input."""

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from nn_baseline import checkpoint
from nn_baseline.__main__ import main, parser
from nn_baseline.options import Options
from ocp import controls, datasets, description, files
from ocp.data_options import DataOptions
from ocp.evaluation import rollout
from ocp.problem import Problem

ROOT = Path(__file__).parents[2]
SMALL = ["--depth", "4", "--width", "3", "--batch-size", "0", "--dtype", "float64"]


def train(folder, *more):
    return main(["train", "moons", "--output", str(folder), "--epochs", "5", *SMALL, *more])


def test_the_parser_knows_the_fields_of_the_options_and_the_statement():
    flags = set(vars(parser().parse_args(["train", "moons", "--output", "x"])))
    of_the_options = {field.name for field in dataclasses.fields(Options)}
    of_the_command = {"command", "dataset", "data_dir", "output", "resume", "split", "lift"}
    of_the_command |= {"trained", "embed", "no_held_out", "threads", "extend"}
    of_the_command |= {field.name for field in dataclasses.fields(DataOptions)}
    assert of_the_options <= flags
    assert flags - of_the_options - of_the_command <= {f.name for f in dataclasses.fields(Problem)}


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from nn_baseline.__main__ import parser; parser().format_help();"
        "print([m for m in ('numpy', 'torch', 'rich', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
    for command in ("fetch", "train", "depth", "eval", "crop", "export"):
        with pytest.raises(SystemExit) as stop:
            parser().parse_args([command, "--help"])
        assert stop.value.code == 0


def test_a_training_is_trained_shown_cropped_and_exported(tmp_path, capsys):
    assert train(tmp_path / "run", "--lr", "0.01") == 0
    out = capsys.readouterr().out
    assert "Layer by layer" in out and "All epochs are done." in out
    file = str(tmp_path / "run" / checkpoint.TRAINING_FILE)

    assert main(["eval", file, "--json", str(tmp_path / "eval.json")]) == 0
    numbers = json.loads((tmp_path / "eval.json").read_text())["training"]
    content = files.load(file)
    reference = rollout.objective(content.problem, content.controls)
    assert numbers["objective"] == pytest.approx(float(reference), abs=1e-12)

    cropped = str(tmp_path / "cropped.safetensors")
    command = ["crop", file, "--keep", "2", "--fine-tune", "1", "--fresh", "1"]
    command += ["--output", cropped, "--with-samples"]
    assert main([*command, "--json", str(tmp_path / "crop.json")]) == 0
    kinds = [c["kind"] for c in json.loads((tmp_path / "crop.json").read_text())]
    assert kinds[0] == "full" and "prefix 2" in kinds and "prefix 2 + tuned" in kinds
    assert any(kind.startswith("fresh 2") for kind in kinds)
    cut = files.load(cropped)
    # crops are made in float32
    assert np.allclose(cut.controls.A, content.controls.A[:2], rtol=1e-6)

    assert main(["export", file, "--output", str(tmp_path / "trace")]) == 0
    assert (tmp_path / "trace").exists()


def test_a_crop_has_a_fresh_network_of_its_depth_beside_it_where_one_is_asked_for(tmp_path, capsys):
    assert train(tmp_path / "run") == 0
    file, numbers = tmp_path / "run" / checkpoint.TRAINING_FILE, tmp_path / "crop.json"
    command = ["--keep", "1", "2", "--json", str(numbers)]

    def fresh() -> list[str]:
        kinds = [c["kind"] for c in json.loads(numbers.read_text())]
        return [kind for kind in kinds if kind.startswith("fresh")]

    assert main(["crop", str(file), *command, "--fresh"]) == 0
    # depth 4 takes 48 multiply-adds a sample, depth 1 takes 21 and depth 2 takes 30
    assert fresh() == ["fresh 1, 11 epochs", "fresh 2, 8 epochs"]
    for none in ([], ["--fresh", "0"]):
        assert main(["crop", str(file), *command, *none]) == 0
        assert fresh() == []
    capsys.readouterr()
    # what a file claims of its training is not trusted
    content = files.load(file)
    for options in (None, {"epochs": 10**12}, {"epochs": 2, "optimizer": "lion"}, ["epochs"]):
        claimed = dataclasses.replace(content, origin={"options": options})
        files.save(tmp_path / "claims", claimed)
        assert main(["crop", str(tmp_path / "claims"), *command, "--fresh"]) == 0
        assert "--fresh EPOCHS" in capsys.readouterr().out
        assert fresh() == []


def test_the_problem_of_a_file_is_trained_as_it_is_or_with_changes(tmp_path):
    inputs, labels = datasets.spirals(6)
    problem = Problem(inputs=inputs, labels=labels, n_classes=2, depth=5, r=0.02, scheme="heun")
    solved = files.TrainingFile(problem=problem, controls=controls.zeros(problem))
    files.save(tmp_path / "exact.safetensors", solved)
    description.save(tmp_path / "problem.toml", problem)
    for name in ("exact.safetensors", "problem.toml"):
        command = ["train", str(tmp_path / name), "--epochs", "2", "--output"]
        out, other = tmp_path / f"of_{name}", tmp_path / f"other_{name}"
        assert main([*command, str(out)]) == 0
        trained = files.load(out / checkpoint.TRAINING_FILE).problem
        assert description.statement_of(trained) == description.statement_of(problem)
        assert np.array_equal(trained.inputs, inputs)
        assert main([*command, str(other), "--r", "0.5"]) == 0
        assert files.load(other / checkpoint.TRAINING_FILE).problem.r == 0.5


def test_resuming_continues(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert train(whole, "--schedule", "constant", "--epochs", "7") == 0
    assert train(parts, "--schedule", "constant") == 0
    assert main(["train", "moons", "--output", str(parts), *SMALL, "--schedule", "constant",
                 "--extend", "7"]) == 0  # fmt: skip
    one, two = (files.load(f / checkpoint.TRAINING_FILE).controls for f in (whole, parts))
    assert np.array_equal(controls.flatten(one), controls.flatten(two))


def test_a_training_that_has_ended_is_left_as_it_is_and_says_so(tmp_path, capsys):
    assert train(tmp_path) == 0
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}
    for more, code, words in (
        (["--resume"], 0, "All epochs are done. Nothing was left to do."),
        ([], 2, "wanted --resume to go on with it"),
        (["--resume", "--r", "0.5", "--threads", "2"], 2, "r was 0.001, is 0.5; threads was 0, is"),
        (["--resume", "--lr", "0.5", "--h", "1"], 2, "h was 0.5, is 1.0; lr was 0.001, is 0.5"),
        (["--extend", "9"], 2, "--epochs is given with --extend"),
    ):
        assert train(tmp_path, *more) == code
        said = capsys.readouterr()
        assert words in " ".join((said.err if code else said.out).split())
    after = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}
    assert after == before


@pytest.mark.parametrize(
    "wrong",
    [["--lr", "-1"], ["--depth", "0"], ["--batch-size", "9999"], ["--device", "nowhere"],
     ["--extend", "3"], ["--resume"], ["--split", "0"], ["--lift", "cubic"]],
)  # fmt: skip
def test_bad_input_makes_no_folder(tmp_path, capsys, wrong):
    command = ["train", "moons", "--output", str(tmp_path / "new" / "run"), *wrong]
    assert main(command) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "imagenet", "--output", "x"], "unknown dataset 'imagenet'"),
        (["train", "mnist", "--output", "x"], "fetch mnist"),
        (["train", "moons", "--output", "x", "--p-d", "0.4"], "p_d is 0.4"),
        (["train", "moons", "--output", "x", "--batch-size", "1000"], "batch_size is 1000"),
        (["train", "moons", "--output", "x", "--lift", "cubic"], "lift is 'cubic'"),
        (["train", "moons", "--output", "x", "--trained", "readout"], "with 'layers'"),
        (["train", "moons", "--output", "x", "--resume"], "is not there"),
        (["eval", "nowhere.safetensors"], "nowhere.safetensors: No such file"),
        (["train", "", "--output", "x"], "unknown dataset ''"),
        (["fetch", "cifar", "--data-dir", "x"], "nothing to fetch"),
    ],
)
def test_bad_input_ends_with_one_sentence(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    err = capsys.readouterr().err
    assert words in err and len(err.strip().splitlines()) == 1


def test_cuda_is_asked_for_in_vain(tmp_path, capsys):
    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    assert train(tmp_path, "--device", "cuda") == 2
    assert "0 CUDA devices" in capsys.readouterr().err


def test_divergence_exits_with_1(tmp_path, capsys):
    options = ["--activation", "identity", "--optimizer", "sgd", "--lr", "1e40", "--epochs", "90"]
    assert train(tmp_path, *options, "--schedule", "constant") == 1
    assert "not finite at step" in " ".join(capsys.readouterr().out.split())


def test_ctrl_c_stops_cleanly_and_keeps_what_it_has(tmp_path):
    command = [sys.executable, "-m", "nn_baseline", "train", "moons", *SMALL]
    process = subprocess.Popen(
        [*command, "--output", str(tmp_path), "--epochs", "1000000"],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    log = tmp_path / checkpoint.LOG_FILE
    for _ in range(1200):
        if log.exists() and log.stat().st_size > 1000:
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 130, err
    assert "Interrupted; resume" in " ".join(out.split()) and "Traceback" not in err
    kept = files.load(tmp_path / checkpoint.TRAINING_FILE)
    assert kept.origin["status"] == "INTERRUPTED"


def test_a_command_never_replaces_its_input(tmp_path, capsys):
    assert train(tmp_path / "run") == 0
    file = tmp_path / "run" / checkpoint.TRAINING_FILE
    before, name = file.read_bytes(), str(file)
    again = str(tmp_path / "run" / ".." / "run" / checkpoint.TRAINING_FILE)
    fresh = str(tmp_path / "new")
    capsys.readouterr()
    for arguments in (
        ["eval", name, "--json", again],
        ["export", name, "--output", again],
        ["export", name, "--output", name],
        ["crop", name, "--output", again],
        ["crop", name, "--json", name],
        ["crop", name, "--output", fresh, "--json", fresh],
        ["train", name, "--output", str(file.parent)],
    ):
        assert main(arguments) == 2, arguments
        err = capsys.readouterr().err
        assert "wanted another f" in err and len(err.strip().splitlines()) == 1
    assert file.read_bytes() == before and not (tmp_path / "new").exists()


def test_an_option_that_export_would_ignore_is_none_of_its_options(tmp_path, capsys):
    told = ["export", "f", "--output", str(tmp_path / "t"), "--json", str(tmp_path / "j")]
    with contextlib.suppress(SystemExit):
        assert main(told) == 2
    assert "--json" in capsys.readouterr().err


def test_what_cannot_be_written_is_found_before_the_work(tmp_path, capsys):
    # neither the file nor the data set can be read: whoever looks at them first says that
    name, unreadable = str(tmp_path / "file.safetensors"), str(tmp_path / "points.npz")
    for path in (name, unreadable):
        Path(path).write_bytes(b"nothing")
    for arguments, words in (
        (["eval", name], "not a complete safetensors file"),
        (["train", unreadable, "--output", str(tmp_path / "run")], "points.npz"),
        (["eval", name, "--json", str(tmp_path / "no" / "x")], "there is no folder"),
        (["crop", name, "--output", str(tmp_path)], "wanted the name of a file"),
        (["export", name, "--output", ""], "wanted the name of a file"),
        (["crop", name, "--threshold", "nan"], "wanted at least 0 and below 1"),
        (["crop", name, "--fresh", "-1"], "wanted at least 0 epochs"),
        (["crop", name, "--fresh", "9" * 400], "--fresh is above 2^63 - 1"),
        (["crop", name, "--lr", "0"], "lr is 0"),
        (["train", unreadable, "--output", name], "is a file; wanted a folder"),
        (["train", unreadable, "--output", ""], "--output is ''; wanted a folder"),
        (["train", unreadable, "--output", str(tmp_path), "--threads", "-1"], "--threads is -1"),
    ):
        assert main(arguments) == 2, arguments
        err = capsys.readouterr().err
        assert words in err and len(err.strip().splitlines()) == 1, err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "required: command"),
        (["frobnicate"], "invalid choice"),
        (["train", "moons"], "--output"),
        (["train", "moons", "--output", "x", "--epochs", "many"], "invalid int value"),
        (["eval", "x", "--nonsense"], "unrecognized arguments"),
    ],
)
def test_usage_errors_are_one_sentence(capsys, arguments, words):
    with pytest.raises(SystemExit) as stop:
        main(arguments)
    err = capsys.readouterr().err
    assert stop.value.code == 2 and words in err and len(err.strip().splitlines()) == 1


def test_memory_and_numbers_beyond_float32_are_named_and_real_faults_are_not_hidden(
    tmp_path, monkeypatch, capsys
):
    run = ["train", "moons", "--output", str(tmp_path), "--epochs", "1"]
    for more, words in (
        (["--width", str(10**12)], "not enough memory"),
        (["--optimizer", "sgd", "--lr", "1e40"], "too large for the dtype"),
        (["--device", "meta"], "wanted cpu, cuda or cuda:INDEX"),
        (["--split", "0"], "a split at 0"),
        (["--lr-end", "5"], "at most 1"),
        (["--width", "-2", "--lift", "gaussian"], "width is -2"),
    ):
        assert main([*run, *more]) == 2, more
        err = capsys.readouterr().err
        assert words in err and len(err.strip().splitlines()) == 1, err

    def broken(*a, **k):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(torch.Tensor, "backward", broken)
    with pytest.raises(RuntimeError, match="shapes"):
        main(run)
