"""`python -m ocp`: results, exit codes, and one sentence for whatever is unusable."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from problems import spirals

from ocp import files
from ocp.__main__ import main
from ocp.controls import random_start
from ocp.files import TrainingFile

TOML = "[problem]\ndepth = 4\n[data]\nname = 'spirals'\npoints_per_class = 4\n"


def run(*arguments, **options):
    return subprocess.run(
        [sys.executable, "-m", "ocp", *map(str, arguments)],
        capture_output=True, text=True, check=False, **options,
    )  # fmt: skip


@pytest.fixture
def toml(tmp_path):
    path = tmp_path / "p.toml"
    path.write_text(TOML)
    return path


def test_solve_polish_and_grow(toml, tmp_path, capsys):
    a, b, c = (tmp_path / f"{name}.safetensors" for name in "abc")
    assert main(["solve", str(toml), "--output", str(a), "--json", str(tmp_path / "a.json")]) == 0
    shown = capsys.readouterr().out
    assert "SOLVED: Strict local minimum" in shown
    assert "least curvature" in shown
    record = json.loads((tmp_path / "a.json").read_text())
    assert record["status"] == "SOLVED"
    assert record["versions"]["numpy"] == np.__version__
    assert main(["solve", str(toml), "--output", str(a), "--solver", "ipopt"]) == 0
    content = files.load(a)
    assert content.origin["status"] == "SOLVED"
    assert content.costate is not None
    assert main(["polish", str(a), "--output", str(b)]) == 0
    assert files.load(b).origin["grad_inf_norm"] <= record["grad_inf_norm"]
    assert main(["grow", str(a), "--depth", "6", "--output", str(c)]) == 0
    assert files.load(c).problem.depth == 6
    assert main(["solve", str(a), "--warm", "--output", str(b)]) == 0
    assert main(["solve", str(toml), "--cold", "--seed", "1", "--output", str(b)]) == 0


def test_polish_starts_from_a_far_checkpoint(tmp_path):
    problem = spirals(4, depth=3)
    far = TrainingFile(problem=problem, controls=random_start(problem, np.random.default_rng(0)))
    path = tmp_path / "far.safetensors"
    files.save(path, far)
    near = tmp_path / "near.safetensors"
    assert main(["polish", str(path), "--output", str(near)]) == 0
    assert files.load(near).origin["grad_inf_norm"] <= 1e-12


def test_the_same_command_writes_the_same_bytes(toml, tmp_path):
    one, two = tmp_path / "1.safetensors", tmp_path / "2.safetensors"
    for path in (one, two):
        assert main(["solve", str(toml), "--output", str(path)]) == 0
    assert one.read_bytes() == two.read_bytes()


def test_an_unsolved_problem_is_written_with_its_status_and_exit_1(toml, tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    assert main(["solve", str(toml), "--cold", "--max-iterations", "2", "--output", str(path)]) == 1
    assert files.load(path).origin["status"] == "ITERATION_LIMIT"
    assert "Iteration limit reached" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "arguments", "sentence"),
    [
        ("[problem]\nactivation = 'sine'", [], "activation is 'sine'; wanted one of tanh"),
        ("[problem]\nscheme = 'midpoint'", [], "scheme is 'midpoint'"),
        ("[problem]\nrr = 3", [], "unknown key 'rr'"),
        ("[problem]\np_d = 0.5", [], "p_d is 0.5"),
        ("[problem]\np_d = 1.5", [], "p_d is 1.5"),
        ("[problem]\np_d = nan", [], "p_d is nan"),
        ("[problem]\nh = 0", [], "h is 0.0"),
        ("[problem]\ndepth = 0", [], "depth is 0"),
        ("[problem]\nwidth = 1", [], "width is 1"),
        ("[problem]\nr = -1", [], "r is -1.0"),
        ("[problem]\ngamma = -1", [], "gamma is -1.0"),
        ("[problem]\nbeta = 0\ngamma = 0", [], "beta and gamma are both 0"),
        ("[data]\ninputs = [[0.0], [1.0]]\nlabels = [0, 0]", [], "all labels are 0"),
        (
            "[problem]\nn_classes = 2\n[data]\ninputs = [[0.0], [1.0], [2.0]]\nlabels = [0, -1, 1]",
            [],
            "the labels have 3 classes (-1, 0, 1",
        ),
        ("[data]\ninputs = [[0.0], [1.0]]\nlabels = [0.5, 1.0]", [], "labels[0] is 0.5"),
        ("[data]\ninputs = [[0.0], [inf]]\nlabels = [0, 1]", [], "inputs[1, 0] is inf"),
        ("[data]\nfile = 'none.csv'", [], "No such file or directory"),
        ("not toml", [], "p.toml: "),
        (TOML, ["--option", "tolx=3"], "No such IPOPT option: tolx"),
        (TOML, ["--option", "tolx"], "--option is 'tolx'; wanted NAME=VALUE"),
        (TOML, ["--solver", "snopt"], "solver is 'snopt'; wanted one of"),
        (TOML, ["--tolerance", "-1"], "tolerance is -1.0"),
        (TOML, ["--warm"], "--warm wants a training file"),
        (TOML, ["--tolerance", "nan"], "tolerance is nan"),
        (TOML, ["--max-iterations", "0"], "--max-iterations is 0"),
        (TOML, ["--seed", "-1"], "--seed is -1"),
        ("[data]\nname = 'moons'\nnoise = 'x'", [], "noise is 'x'"),
    ],
)  # fmt: skip
def test_bad_input_gets_one_sentence_exit_2_and_nothing_is_written(
    tmp_path, capsys, text, arguments, sentence
):
    source, out = tmp_path / "p.toml", tmp_path / "out.safetensors"
    source.write_text(text)
    if "--solver" not in arguments and "--option" in arguments:
        arguments = [*arguments, "--solver", "ipopt"]
    out.write_bytes(b"what was there before")
    assert main(["solve", str(source), "--output", str(out), *arguments]) == 2
    error = capsys.readouterr().err
    assert sentence in error
    assert error.startswith("error: ")
    assert len(error.splitlines()) == 1
    assert out.read_bytes() == b"what was there before"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out.safetensors", "p.toml"]


def test_unusable_files_and_folders(toml, tmp_path, capsys):
    broken = tmp_path / "broken.safetensors"
    broken.write_bytes(b"\x80\x04.")
    for arguments, sentence in (
        (["polish", str(broken), "--output", str(tmp_path / "o")], "not a complete safetensors"),
        (["solve", str(toml), "--output", str(tmp_path / "no" / "o")], "there is no folder"),
        (["solve", str(toml), "--output", str(tmp_path)], "is a folder; wanted the name of a file"),
        (["solve", str(tmp_path / "none.toml"), "--output", "o"], "No such file or directory"),
    ):
        assert main(arguments) == 2
        error = capsys.readouterr().err
        assert sentence in error
        assert len(error.splitlines()) == 1


def test_growing_to_a_smaller_depth_is_refused(toml, tmp_path, capsys):
    path = tmp_path / "a.safetensors"
    assert main(["solve", str(toml), "--output", str(path)]) == 0
    assert main(["grow", str(path), "--depth", "4", "--output", str(tmp_path / "b")]) == 2
    assert "--depth is 4; wanted more than the file's 4" in capsys.readouterr().err


def test_equal_inputs_with_different_labels_are_a_warning_with_exit_0(tmp_path, capsys):
    source = tmp_path / "p.toml"
    source.write_text(
        "[problem]\ndepth = 2\nwidth = 2\nr = 0.1\n"
        "[data]\ninputs = [[0.3, 1.0], [0.3, 1.0], [1.0, 0.1]]\nlabels = [0, 1, 0]"
    )
    assert main(["solve", str(source), "--output", str(tmp_path / "a")]) == 0
    assert "warning: samples 0 and 1 have equal lifted inputs" in capsys.readouterr().err


def test_help_loads_nothing_heavy():
    code = (
        "import sys; from ocp.__main__ import parser; parser().format_help();"
        "print(sorted({'numpy', 'scipy', 'casadi', 'rich'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert "--output" in run("solve", "--help").stdout
    assert run("solve").returncode == 2


def test_ctrl_c_keeps_the_best_point_and_exits_130(tmp_path):
    source, out = tmp_path / "p.toml", tmp_path / "a.safetensors"
    source.write_text("[problem]\ndepth = 20\n")  # the default problem takes half a minute
    process = subprocess.Popen(
        [sys.executable, "-m", "ocp", "solve", str(source), "--output", str(out), "--solver",
         "ipopt"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    first = process.stdout.readline()  # a progress line: it is at work
    assert "iteration" in first
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert "Traceback" not in error
    assert files.load(out).origin["status"] == "INTERRUPTED"


@pytest.mark.skipif(os.geteuid() == 0, reason="root writes anywhere")
def test_an_unwritable_folder_is_found_before_the_work(toml, tmp_path, capsys):
    folder = tmp_path / "locked"
    folder.mkdir(mode=0o500)
    assert main(["solve", str(toml), "--output", str(folder / "a")]) == 2
    assert "Permission denied" in capsys.readouterr().err
