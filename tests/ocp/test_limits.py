"""Limits of time hold within a step and for every solver; options are tried before the work."""

import os
import signal
import threading
import time

import numpy as np
import pytest
from problems import spirals

from ocp import Status, solvers
from ocp.__main__ import main
from ocp.controls import random_start
from ocp.evaluation import hessian_products
from ocp.solvers import clock, fatrop, krylov, structured
from ocp.solvers.progress import silent

TOML = "[problem]\ndepth = 2\nwidth = 2\nr = 0.1\n[data]\nname = 'moons'\nn_samples = 6\n"


@pytest.fixture
def start():
    problem = spirals(6, depth=4)
    return problem, random_start(problem, np.random.default_rng(0))


@pytest.fixture
def hours(monkeypatch):
    """A clock on which an hour passes between two looks, and the looks."""
    looks = []

    def look():
        looks.append(None)
        return 3600.0 * len(looks)

    monkeypatch.setattr(time, "perf_counter", look)
    return looks


@pytest.mark.parametrize("limit", [0, 4000])
def test_the_structured_solver_ends_within_a_step(start, hours, monkeypatch, limit):
    problem, controls = start
    products = []
    counted = lambda *a: products.append(1) or hessian_products.hessian_product(*a)  # noqa: E731
    monkeypatch.setattr(krylov, "hessian_product", counted)
    # the limit is reached after ten looks at the clock; a step looks at it many times
    options = structured.StructuredOptions(max_seconds=10 * 3600.0, dense_limit=limit)
    found = structured.solve(problem, controls, options=options)
    assert found.status is Status.TIME_LIMIT
    assert len(hours) < 16 and len(products) < 12
    assert np.isfinite(found.report.objective)


def test_a_point_that_meets_the_tolerance_is_not_judged_when_time_is_over(start, hours):
    problem, controls = start
    options = structured.StructuredOptions(tolerance=1e6, max_seconds=1.0)
    assert structured.solve(problem, controls, options=options).status is Status.TIME_LIMIT


def test_the_limits_are_looked_at_before_each_factorisation_and_each_chunk():
    ticks = []
    from ocp.evaluation.assembly import hessian
    from ocp.evaluation.sweeps import backward, forward, prepare
    from ocp.solvers import trust_region

    problem = spirals(97, depth=2)
    constants = prepare(problem)
    sweep = forward(constants, np.full(problem.n_decision, 0.1))
    hessian(constants, sweep, backward(constants, sweep), lambda: ticks.append(1))
    assert len(ticks) >= 1
    count = len(ticks)
    H = np.diag([-1.0, 2.0, 3.0])
    trust_region.step(H, np.ones(3), 0.1, tick=lambda: ticks.append(1))
    assert len(ticks) > count


def test_fatrop_is_ended_when_time_is_over(start, monkeypatch):
    problem, controls = start
    monkeypatch.setattr(fatrop, "_run", lambda *given: time.sleep(600))
    options = fatrop.FatropOptions(max_seconds=1.0)
    begun = time.monotonic()
    found = fatrop.solve(problem, controls, options=options)
    assert found.status is Status.TIME_LIMIT and time.monotonic() - begun < 60
    assert np.array_equal(found.controls.A, controls.A)


def test_ctrl_c_ends_fatrop(start, monkeypatch):
    problem, controls = start
    monkeypatch.setattr(fatrop, "_run", lambda *given: time.sleep(600))
    threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()
    assert fatrop.solve(problem, controls).status is Status.INTERRUPTED


def test_work_in_a_child_returns_its_bytes_its_error_and_its_death(monkeypatch):
    fork, children = os.fork, []

    def counted():
        child = fork()
        if child:
            children.append(child)
        return child

    monkeypatch.setattr(os, "fork", counted)
    big = os.urandom(3_000_000)
    assert clock.in_child(lambda: big, 60) == big

    def fail():
        print("nobody reads this")
        raise RuntimeError("no \ud800 such thing")

    with pytest.raises(RuntimeError, match="such thing"):
        clock.in_child(fail)
    with pytest.raises(RuntimeError, match="SIGKILL"):
        clock.in_child(lambda: os.kill(os.getpid(), signal.SIGKILL))
    with pytest.raises(clock.OutOfTime):
        clock.in_child(lambda: time.sleep(60), 0.1)
    assert len(children) == 4
    for child in children:  # none is left
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


@pytest.mark.parametrize(
    ("solver", "option", "says"),
    [
        ("ipopt", "linear_solver=ma27", "linear_solver=ma27"),
        ("ipopt", "linear_solver=nonsense", "linear_solver=nonsense"),
        ("ipopt", "tolx=3", "No such IPOPT option: tolx"),
        ("ipopt", "tol=-1", "tol=-1"),
        ("ipopt", "max_iter=many", "max_iter"),
        ("fatrop", "tolx=3", "Fatrop option not supported: tolx"),
        ("fatrop", "max_iter=many", "fatrop does not take"),
        ("structured", "tolx=3", "unknown option 'tolx' of the structured solver"),
        ("structured", "expand=0.5", "expand is 0.5"),
        ("structured", "dense_limit=x", "dense_limit"),
    ],
)
@pytest.mark.parametrize("verb", ["solve", "polish"])
def test_options_of_a_solver_are_tried_before_the_work(
    tmp_path, monkeypatch, capfd, verb, solver, option, says
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text(TOML)
    source = "p.toml"
    if verb == "polish":
        assert main(["solve", "p.toml", "--output", "a"]) in (0, 1)
        source = "a"
        capfd.readouterr()
    line = [verb, source, "--output", "o", "--solver", solver, "--option", option]
    assert main(line) == 2
    said = capfd.readouterr()
    assert says in said.err and len(said.err.splitlines()) == 1 and not said.out
    assert not (tmp_path / "o").exists()


def test_options_that_a_solver_takes_are_taken(start):
    problem, controls = start
    for name, options in (
        ("ipopt", {"linear_solver": "mumps", "mumps_pivot_order": 5}),
        ("fatrop", {"mu_init": 0.1}),
        ("structured", {"initial_radius": 0.5}),
    ):
        solver = solvers.by_name(name, options=options, max_seconds=60)
        assert solver(problem, controls, 1e-8, silent).status is Status.SOLVED


@pytest.mark.parametrize("value", ["0", "0.5", "nan", "-1"])
def test_a_limit_that_no_solver_takes_is_refused(tmp_path, capsys, value):
    (tmp_path / "p.toml").write_text(TOML)
    line = ["solve", str(tmp_path / "p.toml"), "--output", str(tmp_path / "o")]
    assert main([*line, "--max-seconds", value]) == 2
    assert "--max-seconds is" in capsys.readouterr().err
