"""The studies: --quick of each, resumable, the same on any executor, every exit code recorded."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

STUDIES = Path(__file__).parents[2] / "examples" / "studies"
sys.path.insert(0, str(STUDIES))

import csv_tables  # noqa: E402


def run(name, *arguments, **options):
    return subprocess.run(
        [sys.executable, str(STUDIES / name), *map(str, arguments)],
        capture_output=True, text=True, check=False, timeout=300,
        env={**os.environ, "PYTHONPATH": str(STUDIES.parents[1])}, **options,
    )  # fmt: skip


def interrupted(output, workers):
    """Run a quick study and press Ctrl-C after its first row: exit code and standard error.

    On a busy machine the study may end before the key is pressed: that says nothing, and is tried
    again from nothing.
    """
    for _ in range(5):
        code, errors = _interrupted(output, workers)
        if code != 0:
            break
        shutil.rmtree(output)
    return code, errors


def _interrupted(output, workers):
    command = [sys.executable, str(STUDIES / "weights.py"), "--quick", "--workers", str(workers)]
    process = subprocess.Popen(
        [*command, "--output", str(output)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, env={**os.environ, "PYTHONPATH": str(STUDIES.parents[1])},
        start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not list((output / "rows").glob("*_[0-9a-f]*.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    time.sleep(0.1)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the workers too
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors


def tables(folder):
    """Everything that must not depend on where and in which order rows were computed."""
    found = {path.name: path.read_bytes() for path in folder.glob("*.csv")}
    found |= {path.name: path.read_bytes() for path in folder.glob("*_common.json")}
    return found | {path.name: path.read_bytes() for path in folder.glob("*.png")}


#: study -> tables whose lines are exact solutions
EXACT = {
    "depth": ("exact", "ladders", "crops"),
    "losses": ("weights", "depths", "ladders"),
    "soft_target": ("exact", "ladders"),
    "weights": ("r", "gamma", "map"),
    "landscape": ("starts", "shakes", "adam", "ipopt", "certificates"),
    "global_optimum": ("optima", "locals"),
}


@pytest.mark.parametrize("name", EXACT)
def test_quick(name, tmp_path):
    if name in ("depth", "losses"):
        pytest.importorskip("sklearn")
    done = run(f"{name}.py", "--quick", "--workers", "1", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / f"{name}.png").stat().st_size > 5000
    for part in EXACT[name]:
        with (tmp_path / f"{name}_{part}.csv").open() as file:
            lines = list(csv.DictReader(file))
        assert lines
        assert all(line["exit_code"] in ("0", "1", "3") for line in lines), part
    cost = json.loads((tmp_path / f"{name}_cost.json").read_text())
    assert sum(part["rows"] for part in cost["parts"].values()) >= len(lines)
    # every row names its versions and its options, where all agree in the record of the table
    common = json.loads((tmp_path / f"{name}_common.json").read_text())[part]
    assert "numpy" in (common | lines[0])["versions"]
    # the figure comes from the tables alone
    again = run(f"{name}.py", "--from-tables", tmp_path, "--output", tmp_path / "again")
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "again" / f"{name}.png").read_bytes() == (
        tmp_path / f"{name}.png"
    ).read_bytes()


def test_quick_architectures(tmp_path):
    pytest.importorskip("sklearn")
    done = run("architectures.py", "--quick", "--workers", "1", "--output", tmp_path / "one")
    assert done.returncode == 0, done.stderr
    deep = csv_tables.read(tmp_path / "one" / "architectures_deep.csv")
    common = json.loads((tmp_path / "one" / "architectures_common.json").read_text())["deep"]
    deep = [common | line for line in deep]
    assert {line["architecture"] for line in deep} == {"conv", "vit", "resnet"}
    assert {line["arm"] for line in deep} == {"stage", "stage_r0", "terminal"}
    for line in deep:
        assert 0 <= line["kept"] <= line["depth"] == len(line["norms"])
        # the stages of the whole network and the cropped one by itself agree on what is right
        assert line["crop_test"] == pytest.approx(line["stages"][line["kept"]], abs=3e-3)
        assert line["lost"] == pytest.approx(100 * (line["test"] - line["crop_test"]), abs=0.3)
        assert line["lost_low"] <= line["lost"] <= line["lost_high"]
    fresh = csv_tables.read(tmp_path / "one" / "architectures_fresh.csv")
    epochs = json.loads((tmp_path / "one" / "architectures_common.json").read_text())["fresh"]
    assert all((epochs | line)["epochs_run"] == 6 for line in fresh)  # 2 epochs of 3 blocks
    again = run("architectures.py", "--quick", "--workers", "1", "--output", tmp_path / "one")
    assert again.returncode == 0 and "deep 1 of 3" not in again.stdout


def test_architectures_need_their_images(tmp_path):
    done = run("architectures.py", "--workers", "1", "--output", tmp_path)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr and "fashion" in done.stderr


@pytest.mark.slow
def test_a_minimum_known_before_takes_its_place_and_its_problem_is_checked(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert run("landscape.py", "--quick", "--output", first).returncode == 0
    done = run("landscape.py", "--quick", "--known", first / "best.safetensors", "--output", second)
    assert done.returncode == 0, done.stderr
    best = csv_tables.read(second / "landscape_optima.csv")[0]
    assert best["ended_known"] == 1
    known = csv_tables.read(second / "landscape_known.csv")
    assert [(line["exit_code"], line["status"]) for line in known] == [(0, "SOLVED")]
    other = STUDIES.parent / "best_known" / "spirals.safetensors"
    done = run("landscape.py", "--quick", "--known", other, "--output", tmp_path / "third")
    assert done.returncode == 2
    assert "another problem: inputs differs" in done.stderr
    done = run("landscape.py", "--quick", "--known", tmp_path / "no", "--output", tmp_path / "4")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)


def test_help_is_light_and_bad_input_is_refused(tmp_path):
    for name in EXACT:
        code = f"import sys; sys.argv = ['x', '--help']; sys.path.insert(0, {str(STUDIES)!r})\n"
        code += f"import {name}\ntry: {name}.main(['--help'])\nexcept SystemExit: pass\n"
        code += "assert not {'torch', 'casadi', 'matplotlib', 'sklearn'} & set(sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True,
                              check=False, cwd=STUDIES.parents[1])  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert "--cluster" in done.stdout
    for arguments, sentence in (
        (["--workers", "0"], "error: --workers is 0"),
        (["--minutes", "nan"], "error: --minutes is nan"),
        (["--from-tables", tmp_path / "none"], "holds no tables"),
    ):
        done = run("weights.py", *arguments, "--output", tmp_path / "out")
        assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
        assert sentence in done.stderr


def test_a_study_stopped_and_resumed_equals_one_that_was_not(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert run("weights.py", "--quick", "--workers", "1", "--output", whole).returncode == 0
    # stopped by the clock before the first row, and by Ctrl-C later
    stopped = run("weights.py", "--quick", "--workers", "1", "--minutes", 1e-9, "--output", parts)
    assert stopped.returncode == 1
    assert "the same command goes on" in stopped.stdout
    assert interrupted(parts, workers=2) == (130, "interrupted\n")
    kept = {path: path.stat().st_mtime_ns for path in (parts / "rows").glob("*.json")}
    assert kept
    done = run("weights.py", "--quick", "--workers", "2", "--output", parts)
    assert done.returncode == 0, done.stderr
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())  # none ran again
    assert tables(whole) == tables(parts)


@pytest.mark.slow
def test_processes_and_a_dask_cluster_give_equal_tables(tmp_path):
    pytest.importorskip("distributed")
    own = run("weights.py", "--quick", "--workers", "2", "--output", tmp_path / "own")
    assert own.returncode == 0, own.stderr
    dask = run("weights.py", "--quick", "--workers", "2", "--cluster", "local",
               "--output", tmp_path / "dask")  # fmt: skip
    assert dask.returncode == 0, dask.stderr
    assert tables(tmp_path / "own") == tables(tmp_path / "dask")


def test_a_minimum_costs_elsewhere_what_is_said_and_none_is_left_beaten(tmp_path):
    assert run("weights.py", "--quick", "--workers", "1", "--output", tmp_path).returncode == 0
    import continuation_rows
    import exact

    from ocp.evaluation.rollout import objective

    rows = [json.loads(p.read_text()) for p in (tmp_path / "rows").glob("r_*[0-9a-f].json")]
    assert {row["parameters"].get("carried") for row in rows} >= {None, "up", "down"}
    for row in rows:
        content = (tmp_path / "rows" / f"{row['name']}.{exact.SOLUTION}").read_bytes()
        file = exact.load(content)
        for name, value in (("r", 0.02), ("gamma", 7.0)):
            own = {"r": row["parameters"]["r"], "gamma": 1.0}
            said = continuation_rows.cost_at(row | {"parameters": own}, name, value)
            true = float(objective(file.problem.with_(**{name: value}), file.controls))
            assert said == pytest.approx(true, rel=1e-9)
    for value in (1e-3, 1.0):
        own = [row["result"]["J"] for row in rows if row["parameters"]["r"] == value]
        assert min(own) <= (1 + 1e-9) * min(
            continuation_rows.cost_at(row, "r", value) for row in rows
        )
    # what is not strictly minimal is never carried
    worse = [row | {"result": row["result"] | {"status": "SADDLE"}} for row in rows]
    assert continuation_rows.cheapest(worse, "r", 1.0) == {}
    by_seed = [row | {"parameters": row["parameters"] | {"seed": i}} for i, row in enumerate(rows)]
    assert len(continuation_rows.cheapest(by_seed, "r", 1.0)) == 1
    assert len(continuation_rows.cheapest(by_seed, "r", 1.0, by_seed=True)) == len(rows)


def test_a_value_that_stays_beaten_is_solved_again_from_there_and_only_once():
    import continuation_rows

    rows = [stub_row("r", 1.0, 5.0, 1.0), stub_row("r", 2.0, 9.0, 1.0)]  # 5.5 at r = 2
    asked = []

    class Held:
        def rows(self, compute, tasks):
            asked.extend(tasks)
            way = tasks[0].parameters["carried"] if tasks else ""
            J = {"up": 9.0, "down": 7.0, "beaten": 5.2}.get(way)
            return [
                stub_row("r", t.parameters["r"], J, 1.0, name=t.name, carried=way) for t in tasks
            ]

    found = continuation_rows.carried(Held(), "p", [[row] for row in rows], "r", (1.0, 2.0))
    ways = [(t.parameters["carried"], t.parameters["r"]) for t in asked]
    # 7.0 at r = 1 and 9.0 at r = 2 were no help; the network of r = 1 costs 5.5 at r = 2
    assert ways == [("up", 2.0), ("down", 1.0), ("beaten", 2.0), ("beaten", 1.0)]
    assert asked[2].given == {"neighbour": "r_1.0_5.0.solution.safetensors"}
    assert min(row["result"]["J"] for row in found if row["parameters"]["r"] == 2.0) == 5.2


def stub_row(of, value, J, control_sum, **more):
    own = {"r": 1.0, "gamma": 1.0, of: value, "seed": 0}
    if "carried" in more:
        own["carried"] = more["carried"]
    result = {"J": J, "control_sum": control_sum, "data_cost_end": 0.0, "status": "SOLVED"}
    return {"name": more.get("name", f"{of}_{value}_{J}"), "parameters": own, "result": result}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--starts", 0], "--starts is 0; wanted at least 2"),
        (["--starts", 7], "--starts is 7; wanted an even number"),
        (["--adam", 0], "--adam is 0; wanted at least 1"),
        (["--certified", 0], "--certified is 0"),
        (["--known", "nothing"], "nothing"),
    ],
)
def test_counts_of_the_landscape_are_checked_before_any_work(arguments, sentence, tmp_path):
    done = run("landscape.py", *arguments, "--output", tmp_path / "out")
    assert (done.returncode, len(done.stderr.splitlines())) == (2, 1)
    assert sentence in done.stderr
    assert not (tmp_path / "out").exists()


def test_ctrl_c_in_the_only_process_stores_no_row(tmp_path):
    assert interrupted(tmp_path, workers=1) == (130, "interrupted\n")
    assert not list(tmp_path.glob("*.csv"))


@pytest.mark.slow
def test_a_scheduler_elsewhere_needs_only_the_packages(tmp_path):
    pytest.importorskip("distributed")
    environment = {**os.environ, "PYTHONPATH": str(STUDIES.parents[1])}
    at = ["--host", "127.0.0.1", "--no-dashboard"]
    address = tmp_path / "scheduler.json"
    start = [sys.executable, "-m", "distributed.cli.dask_scheduler", *at, "--port", "0"]
    work = [sys.executable, "-m", "distributed.cli.dask_worker", *at, "--nthreads", "1"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "env": environment}
    with (
        subprocess.Popen([*start, "--scheduler-file", str(address)], **quiet) as scheduler,
        subprocess.Popen(
            [*work, "--scheduler-file", str(address), "--local-directory", str(tmp_path)], **quiet
        ) as worker,
    ):
        try:
            deadline = time.monotonic() + 60
            while not address.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            url = json.loads(address.read_text())["address"]
            done = run("weights.py", "--quick", "--cluster", url, "--output", tmp_path / "there")
            assert done.returncode == 0, done.stderr
        finally:
            worker.terminate()
            scheduler.terminate()
    own = run("weights.py", "--quick", "--workers", "1", "--output", tmp_path / "own")
    assert own.returncode == 0, own.stderr
    assert tables(tmp_path / "there") == tables(tmp_path / "own")
