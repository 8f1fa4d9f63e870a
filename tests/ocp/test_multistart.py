"""Many starts: resumable, equal for any number of workers, robust to a worker that dies."""

import concurrent.futures
import json
import multiprocessing
import os
import re
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import problems
import pytest

from ocp import files, run_folder, workers
from ocp.continuation import multistart
from ocp.continuation.growth import GrowthOptions
from ocp.solvers.solution import Status

ROOT = Path(__file__).parents[2]
OPTIONS = GrowthOptions(depths=(2, 4))


def tiny():
    return problems.blobs(3, 9, depth=4)


def values(found):
    return [(s.seed, s.status, s.objective, s.min_curvature) for s in found.starts]


def test_one_and_two_workers_give_equal_results(tmp_path):
    alone = multistart.multistart(tiny(), range(4), tmp_path / "a", options=OPTIONS)
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as two:
        both = multistart.multistart(
            tiny(), range(4), tmp_path / "b", options=OPTIONS, executor=two
        )
    assert values(alone) == values(both)
    for seed in range(4):
        one, other = (files.load(multistart.solution_path(tmp_path / name, seed)) for name in "ab")
        assert (one.controls.A == other.controls.A).all()


def test_an_interrupted_run_goes_on(tmp_path, monkeypatch):
    honest, calls = multistart.grow, []

    def stops(*arguments, seed, **options):
        calls.append(seed)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return honest(*arguments, seed=seed, **options)

    monkeypatch.setattr(multistart, "grow", stops)
    with pytest.raises(KeyboardInterrupt):
        multistart.multistart(tiny(), range(4), tmp_path, options=OPTIONS)
    found = multistart.multistart(tiny(), range(4), tmp_path, options=OPTIONS)
    assert calls == [0, 1, 2, 2, 3]
    assert len(found.starts) == 4
    again = multistart.multistart(tiny(), range(4), tmp_path, options=OPTIONS)
    assert values(again) == values(found) and len(calls) == 5


def test_distinct_minima_are_kept_best_first_and_failures_are_shown(tmp_path):
    found = multistart.multistart(tiny(), range(3), tmp_path, options=OPTIONS)
    objectives = [start.objective for start, _ in found.optima]
    assert objectives == sorted(objectives)
    assert found.best.objective == min(s.objective for s in found.starts if s.solved)
    assert sum(len(seeds) for _, seeds in found.optima) == sum(s.solved for s in found.starts)
    assert (tmp_path / "table.md").read_text() == multistart.table(found)
    best = multistart.solution_path(tmp_path, found.best.seed).read_bytes()
    assert (tmp_path / "best.safetensors").read_bytes() == best
    record = json.loads((tmp_path / "seed_0.json").read_text())
    record |= {"status": Status.SADDLE.name, "objective": -1.0}
    (tmp_path / "seed_0.json").write_text(json.dumps(record))
    spoiled = multistart.collect(tmp_path, range(3))
    assert spoiled.best.objective > 0  # a saddle is never the answer
    assert "SADDLE" in multistart.table(spoiled)
    (tmp_path / "seed_0.json").write_text("{")
    with pytest.raises(ValueError, match="remove it"):
        multistart.collect(tmp_path, range(3))


def test_a_folder_of_another_problem_is_refused(tmp_path):
    multistart.multistart(tiny(), [0], tmp_path, options=OPTIONS)
    with pytest.raises(ValueError, match=r"another problem .*\(r was 0\.001, is 0\.02\)"):
        multistart.multistart(tiny().with_(r=0.02), [0], tmp_path, options=OPTIONS)
    with pytest.raises(ValueError, match=r"solver was 'structured', is 'ipopt'"):
        multistart.multistart(tiny(), [0], tmp_path, solver="ipopt", options=OPTIONS)
    (tmp_path / "problem.json").write_bytes(b"\xff{")
    with pytest.raises(ValueError, match=r"problem\.json is damaged"):
        multistart.multistart(tiny(), [0], tmp_path, options=OPTIONS)
    with run_folder.claimed(tmp_path), pytest.raises(ValueError, match="in use by another run"):
        multistart.multistart(tiny(), [0], tmp_path, options=OPTIONS)
    with pytest.raises(ValueError, match="solver is 'none'"):
        multistart.multistart(tiny(), [0], tmp_path / "new", solver="none")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1}, {"seed": True}, {"status": "WON"}, {"objective": None}, {"objective": "1"},
        {"grad_inf_norm": -1.0}, {"min_curvature": []}, {"depth_used": 1.5}, {"iterations": -1},
        {"seconds": -1}, {"message": 3}, {"sha256": "x"}, {"colour": "red"}, {"seconds": None},
        {"objective": float("nan")}, {"seconds": float("inf")},
    ],
)  # fmt: skip
def test_a_damaged_record_is_refused_with_one_sentence(tmp_path, change):
    multistart.multistart(tiny(), [0], tmp_path, options=OPTIONS)
    path = tmp_path / "seed_0.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(ValueError, match=r"seed_0\.json is no record .* remove it") as found:
        multistart.multistart(tiny(), [0], tmp_path, options=OPTIONS)
    assert "\n" not in str(found.value)


def test_a_training_file_that_is_missing_is_made_again_and_another_one_is_noticed(tmp_path):
    multistart.multistart(tiny(), [0, 1], tmp_path, options=OPTIONS)
    path = multistart.solution_path(tmp_path, 0)
    content = path.read_bytes()
    path.unlink()
    multistart.multistart(tiny(), [0, 1], tmp_path, options=OPTIONS)
    assert path.read_bytes() == content
    path.write_bytes(multistart.solution_path(tmp_path, 1).read_bytes())
    with pytest.raises(ValueError, match=r"seed_0\.safetensors is not .* remove both"):
        multistart.multistart(tiny(), [0, 1], tmp_path, options=OPTIONS)


def test_a_finished_run_is_left_as_it_is(tmp_path):
    multistart.multistart(tiny(), [0, 1], tmp_path, options=OPTIONS)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}
    multistart.multistart(tiny(), [0, 1], tmp_path, options=OPTIONS)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()} == before


def test_a_killed_worker_is_one_sentence_and_the_same_call_goes_on(tmp_path):
    with pytest.raises(OSError, match=r"a worker died; .* the same command goes on"):  # noqa: SIM117
        with workers.pool(2) as two:
            found = []

            def kill(progress):
                if not found:
                    found.extend(multiprocessing.active_children())
                    found[0].kill()

            multistart.multistart(
                tiny(), range(30), tmp_path, options=OPTIONS, executor=two, report=kill
            )
    kept = len(list(tmp_path.glob("seed_*.json")))
    assert 1 <= kept < 30 and not multiprocessing.active_children()
    again = multistart.multistart(tiny(), range(kept), tmp_path, options=OPTIONS)
    assert len(again.starts) == kept


def test_workers_end_with_the_process_that_began_them(tmp_path):
    code = (
        "import multiprocessing, time\n"
        "from ocp import workers\n"
        "if __name__ == '__main__':\n"
        "    with workers.pool(2) as pool:\n"
        "        pool.submit(int).result()\n"
        "        print(*[c.pid for c in multiprocessing.active_children()], flush=True)\n"
        "        pool.submit(time.sleep, 60).result()\n"
    )
    (tmp_path / "main.py").write_text(code)
    process = subprocess.Popen(
        [sys.executable, str(tmp_path / "main.py")], stdout=subprocess.PIPE, text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    pids = list(map(int, process.stdout.readline().split()))
    assert len(pids) == 2
    for pid in pids:
        os.kill(pid, signal.SIGINT)  # as a terminal does
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 10
    while any(alive(pid) for pid in pids) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not any(alive(pid) for pid in pids)


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads /proc")
def test_workers_take_no_notice_of_ctrl_c_from_their_first_line_on():
    with workers.pool(3):
        children = multiprocessing.active_children()
        assert len(children) == 3
        for child in children:
            status = Path(f"/proc/{child.pid}/status").read_text()
            blocked = int(re.search(r"SigBlk:\s*([0-9a-f]+)", status)[1], 16)
            assert blocked >> (signal.SIGINT - 1) & 1


def alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.filterwarnings("default")  # distributed warns when a worker dies, which is the point
def test_dask_goes_on_when_one_of_two_workers_is_killed(tmp_path):
    distributed = pytest.importorskip("distributed")
    alone = multistart.multistart(tiny(), range(6), tmp_path / "a", options=OPTIONS)
    with (
        warnings.catch_warnings(),
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
        ) as cluster,
        distributed.Client(cluster) as client,
    ):
        warnings.simplefilter("ignore")
        told = []

        def kill_one(progress):
            told.append(progress.message)
            if len(told) == 2:
                next(iter(cluster.workers.values())).process.process._process.kill()

        both = multistart.multistart(
            tiny(),
            range(6),
            tmp_path / "b",
            options=OPTIONS,
            executor=client.get_executor(),
            report=kill_one,
        )
    assert len(told) == 6
    assert values(alone) == values(both)


def test_the_command_line_writes_the_best_and_the_table(tmp_path, capsys):
    from ocp.__main__ import main
    from ocp.description import save

    save(tmp_path / "problem.toml", problems.blobs(3, 9, depth=3))
    arguments = ["multistart", str(tmp_path / "problem.toml"), "--output", str(tmp_path / "out")]
    assert main([*arguments, "--starts", "2"]) == 0
    assert "distinct minima" in capsys.readouterr().out
    best = files.load(tmp_path / "out" / "best.safetensors")
    assert f"{best.origin['objective']:.10f}" in (tmp_path / "out" / "table.md").read_text()
    assert main([*arguments, "--starts", "0"]) == 2
    assert "wanted at least 1" in capsys.readouterr().err


def test_grow_auto_from_the_command_line(tmp_path):
    from ocp.__main__ import main
    from ocp.description import save

    save(tmp_path / "problem.toml", problems.blobs(3, 9, depth=2))
    small, big = tmp_path / "a.safetensors", tmp_path / "b.safetensors"
    assert main(["solve", str(tmp_path / "problem.toml"), "--output", str(small)]) == 0
    assert main(["grow", str(small), "--depth", "auto", "--output", str(big)]) == 0
    assert files.load(big).problem.depth > 2
