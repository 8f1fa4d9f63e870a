"""The ladder of depths: the quick run, going on after a stop, its verdicts, bad arguments."""

import csv
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ocp import files
from verification.crosscheck import paths

EXAMPLES = Path(__file__).parents[2] / "examples"


def run(*arguments, cwd):
    return subprocess.run(
        [sys.executable, str(EXAMPLES / "path_ladder.py"), *map(str, arguments)],
        capture_output=True, text=True, check=False, cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
    )  # fmt: skip


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    folder = tmp_path_factory.mktemp("ladder")
    done = run("--quick", "--output", folder / "out", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder / "out", done.stdout


def test_the_quick_run_says_what_its_files_say(quick):
    out, text = quick
    record = json.loads((out / "ladder.json").read_text())
    assert [(r["activation"], r["depth"]) for r in record["rungs"]] == [
        (activation, depth) for activation in ("tanh", "relu") for depth in (3, 4, 6)
    ]
    for rung in record["rungs"]:
        name = f"{rung['activation']}_{rung['depth']}_exact.safetensors"
        path = paths.path("", files.load(out / "rungs" / name))
        assert rung["exact"]["objective"] == pytest.approx(path.objective, rel=1e-14)
        assert rung["exact"]["entry"] == path.entry
        assert rung["exact"]["stage_cost"] == pytest.approx(path.stage_cost, rel=1e-5)
        assert len(rung["exact"]["distance"]) == rung["depth"] + 1
        assert rung["trained"][0]["objective"] > rung["exact"]["objective"]
    assert text.count("rung ") == 6
    assert (out / "ladder.png").stat().st_size > 5000
    assert (out / "ladder.pdf").read_bytes().startswith(b"%PDF")


def test_relu_is_reached_through_its_smoothed_path_and_never_called_solved(quick):
    out, _ = quick
    rows = list(csv.DictReader((out / "ladder.csv").read_text().splitlines()))
    assert len(rows) == 12
    exact = [r for r in rows if r["network"] == "exact"]
    for row in exact:
        if row["activation"] == "tanh":
            assert row["status"] == "SOLVED"
            assert row["J_softplus_10"] == ""
        else:
            assert row["status"] == "NONSMOOTH"
            # softplus of sharpness k is within log 2 / k of relu: J settles along the path
            J = [float(row[f"J_softplus_{k}"]) for k in (10, 100, 1000)]
            assert abs(J[2] - float(row["objective"])) < abs(J[0] - float(row["objective"]))


def test_the_judge_is_asked_about_all_depths(quick):
    out, text = quick
    judged = json.loads((out / "ladder.json").read_text())["turnpike"]
    verdicts = {(j["activation"], j["network"]): j["verdict"] for j in judged}
    assert verdicts["tanh", "exact"] == "passed"
    assert verdicts["tanh", "trained"] == "inconclusive"  # 200 steps: no solutions to judge
    assert "turnpike.across_depths" in text


def test_finished_rungs_are_taken_up_again(quick, tmp_path):
    out, _ = quick
    (out / "rungs" / "tanh_4.json").unlink()  # as after a stop in this rung
    kept = (out / "rungs" / "relu_6_exact.safetensors").stat().st_mtime_ns
    before = (out / "ladder.csv").read_bytes()
    done = run("--quick", "--output", out, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "5 of 6 rungs are there already" in done.stdout
    assert "rung 6 of 6: tanh, N = 4" in done.stdout
    assert (out / "rungs" / "relu_6_exact.safetensors").stat().st_mtime_ns == kept
    assert (out / "ladder.csv").read_bytes() == before
    # other settings make other rungs
    record = json.loads((out / "rungs" / "tanh_3.json").read_text())
    (out / "rungs" / "tanh_3.json").write_text(json.dumps({**record, "lr": 0.5}))
    done = run("--quick", "--output", out, cwd=tmp_path)
    assert "rung 6 of 6: tanh, N = 3" in done.stdout


def test_an_interrupted_ladder_keeps_its_finished_rungs(tmp_path):
    command = [sys.executable, "-u", str(EXAMPLES / "path_ladder.py"), "--quick", "--output", "out"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(EXAMPLES.parent)},
        # a test run in the background ignores Ctrl-C, and its children would inherit that
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:  # fmt: skip
        assert process.stdout.readline().startswith("rung 1 of 6: tanh, N = 3")
        process.send_signal(signal.SIGINT)
        assert process.wait(120) == 130
        assert process.stderr.read() == "interrupted\n"
    kept = {path.name for path in (tmp_path / "out" / "rungs").iterdir()}
    assert {"tanh_3.json", "tanh_3_exact.safetensors", "tanh_3_trained_0.safetensors"} <= kept
    assert not any(name.endswith(".tmp") for name in kept)
    assert not (tmp_path / "out" / "ladder.json").exists()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--seeds", "0"], "error: --seeds is 0; wanted at least 1\n"),
        (["--depths", "5", "10"], "error: --depths are [5, 10]; wanted three or more"),
        (["--depths", "0", "5", "9"], "error: --depths are [0, 5, 9]; wanted three or more"),
    ],
)
def test_bad_arguments_are_refused_in_one_sentence(tmp_path, arguments, sentence):
    done = run(*arguments, "--output", tmp_path / "out", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith(sentence)
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()
