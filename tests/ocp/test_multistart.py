"""Many starts: resumable, equal for any number of workers, robust to a worker that dies."""

import concurrent.futures
import json
import multiprocessing
import warnings

import problems
import pytest

from ocp import files
from ocp.continuation import multistart
from ocp.continuation.growth import GrowthOptions
from ocp.solvers.solution import Status

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
    with pytest.raises(ValueError, match="another problem"):
        multistart.multistart(tiny().with_(r=0.02), [0], tmp_path, options=OPTIONS)


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
