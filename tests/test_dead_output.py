"""A dead standard output costs no result, in any command; the words are lost, nothing else."""

import json
import os
import shlex
import shutil
import subprocess
import sys
import time

import numpy as np
import pytest
from problems import spirals

from ocp import files, polish
from ocp.controls import random_start

TOML = (
    "[problem]\ndepth = 2\nwidth = 2\nr = 0.1\n"
    "[data]\ninputs = [[0.3, 1.0], [0.1, 0.9], [1.0, 0.1], [0.9, 0.0]]\nlabels = [0, 0, 1, 1]\n"
)
#: how a standard output dies: the reader has left, the disk is full, it is not there
DEATHS = ("| head -c 0", "> /dev/full", ">&-")
#: a command, its exit code with a living output, what it makes
COMMANDS = {
    "solve": ("ocp solve p.toml --output made --json made.json", 0, ("made", "made.json")),
    "judge": ("verification good --only geometry --json made.json --latex made.tex", 0,
              ("made.json", "made.tex")),
    "judged bad": ("verification bad --only first_order --json made.json", 1, ("made.json",)),
    "multistart": ("ocp multistart p.toml --starts 1 --output made", 0,
                   ("made/best.safetensors", "made/table.md")),
    "eval": ("nn_baseline eval good --json made.json", 0, ("made.json",)),
    "export": ("nn_baseline export good --output made", 0, ("made",)),
    "train": ("nn_baseline train p.toml --epochs 1 --output made", 0,
              ("made/checkpoint.safetensors", "made/state.safetensors", "made/log.jsonl")),
}  # fmt: skip
FAST = ("solve", "judged bad")


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stored")
    problem = spirals(4, depth=2)
    start = random_start(problem, np.random.default_rng(0), 0.1)
    files.save(folder / "bad", files.TrainingFile(problem=problem, controls=start))
    files.save(folder / "good", polish(problem, start).to_file())
    (folder / "p.toml").write_text(TOML)
    return folder


@pytest.fixture
def folder(stored, tmp_path, monkeypatch):
    shutil.copytree(stored, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def shell(command: str, **environment: str) -> subprocess.CompletedProcess:
    """Run with the repository's packages in a shell that reports the command's own exit code."""
    program = f"set -o pipefail; {sys.executable} -m {command}"
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return subprocess.run(
        ["bash", "-c", program], capture_output=True, text=True, errors="surrogateescape",
        env=os.environ | {"PYTHONPATH": root} | environment,
    )  # fmt: skip


@pytest.mark.parametrize("death", DEATHS)
@pytest.mark.parametrize(
    "name", [*FAST, *(pytest.param(n, marks=pytest.mark.slow) for n in COMMANDS if n not in FAST)]
)
def test_a_dead_standard_output_costs_no_result(folder, name, death):
    command, code, made = COMMANDS[name]
    before = {path: path.read_bytes() for path in folder.iterdir()}
    done = shell(f"{command} {death}")
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr
    # that the disk is full is worth a sentence; a reader that left knows it
    said = [line for line in done.stderr.splitlines() if not line.startswith("warning: ")]
    assert said == (["standard output: No space left on device"] if "full" in death else [])
    assert all((folder / path).stat().st_size > 0 for path in made)
    assert all(path.read_bytes() == content for path, content in before.items())


@pytest.mark.parametrize(
    "death", ["2>&1 | head -c 0", "> /dev/full 2>&1", ">&- 2>&-", "2>/dev/full"]
)
def test_a_dead_standard_error_costs_no_result_either(folder, death):
    done = shell(f"ocp solve p.toml --output made {death}")
    assert done.returncode == 0 and (folder / "made").exists()
    assert shell(f"ocp solve p.toml --output . {death}").returncode == 2


def test_a_pipe_that_does_not_block_gets_every_word(folder):
    program = (
        "import os, sys; os.set_blocking(1, False)\n"
        "from ocp import exits\n"
        "sys.exit(exits.run(lambda: print('x' * 300_000) or 3))"
    )
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": root},
    )
    time.sleep(2)  # the pipe is full by now
    out, error = process.communicate(timeout=60)
    assert (process.returncode, len(out), error) == (3, 300_001, b"")


@pytest.mark.parametrize("room", ["ocp", "verification", "nn_baseline"])
def test_help_and_usage_end_quietly_too(room):
    for death in DEATHS:
        done = shell(f"{room} --help {death}")
        assert done.returncode == 0 and "Exception" not in done.stderr
    assert shell(f"{room} --nonsense 2>/dev/full").returncode == 2


def test_a_result_that_goes_to_a_full_disk_is_a_sentence(folder):
    for command in (
        "ocp solve p.toml --output a --json",
        "verification good --only geometry --json",
    ):
        for target in ("- > /dev/full", "/dev/full"):
            done = shell(f"{command} {target}")
            assert done.returncode == 2 and "No space left on device" in done.stderr
            assert len(done.stderr.splitlines()) == 1
        assert shell(f"{command} - | head -c 0").returncode == 0
    assert (folder / "a").exists()


def test_only_the_result_goes_to_a_standard_output_that_is_an_output(folder):
    for command in (
        "ocp solve p.toml --output a --json -",
        "ocp solve p.toml --output a --json /dev/stdout",
        "verification good --only geometry --json -",
        "ocp solve p.toml --output b --solver ipopt --option print_level=3 --json -",
    ):
        done = shell(command)
        assert json.loads(done.stdout) and done.returncode == 0
        assert "written to" in done.stderr or "PASSED" in done.stderr
    table = shell("verification good --only geometry --latex - --json made.json")
    assert table.stdout.startswith(r"\begin{tabular}") and "PASSED" in table.stderr
    assert json.loads((folder / "made.json").read_text())["exit_code"] == 0
    done = shell("ocp solve p.toml --output - > piped; cmp piped a")
    assert done.returncode == 0 and "written to" in done.stderr
    substituted = shell("ocp solve p.toml --output a --json >(cat > sub.json); sleep 0.5")
    assert substituted.returncode == 0 and json.loads((folder / "sub.json").read_text())


@pytest.mark.slow
def test_the_baseline_writes_its_numbers_to_standard_output(folder):
    done = shell("nn_baseline eval good --json -")
    assert "training" in json.loads(done.stdout) and "Layer by layer" in done.stderr


@pytest.mark.parametrize(
    "environment",
    [
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        pytest.param({}, marks=pytest.mark.slow),
        pytest.param({"FORCE_COLOR": "1"}, marks=pytest.mark.slow),
    ],
)
def test_names_are_data_on_any_terminal(folder, environment):
    for name, shown in (
        ("[red]x", "[red]x"),
        ("a\nb", r"a\nb"),
        ("c\x1b[31m", r"c\x1b[31m"),
        (":smile:", ":smile:"),
        (os.fsdecode(b"\xff"), r"\udcff"),
    ):
        (folder / "made").unlink(missing_ok=True)
        os.link("good", name)
        quoted = shlex.quote(name)
        done = shell(f"ocp polish {quoted} --output {quoted}.out", **environment)
        assert done.returncode == 0, done.stderr
        assert f"written to {shown}.out" in done.stdout and os.path.exists(f"{name}.out")
        done = shell(f"verification {quoted} good --only geometry", **environment)
        assert done.returncode == 0 and shown in done.stdout
        assert name not in done.stderr + done.stdout or name == shown
        done = shell(f"ocp polish {quoted} --output {quoted}", **environment)
        assert done.returncode == 2 and f"--output is {shown}, which is the input" in done.stderr
