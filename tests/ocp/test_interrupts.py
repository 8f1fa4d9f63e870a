"""Ctrl-C and SIGTERM: where they raise, where they wait, where they end the process."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import problems
import pytest

from ocp import files, interrupts
from ocp.__main__ import main
from ocp.controls import random_start
from ocp.solvers import fatrop, newton, structured
from ocp.solvers.solution import Status

ROOT = Path(__file__).parents[2]


def press():
    signal.raise_signal(signal.SIGINT)


def test_a_shielded_block_ends_before_the_interrupt_is_raised():
    before, seen = signal.getsignal(signal.SIGINT), []
    with pytest.raises(KeyboardInterrupt), interrupts.shielded():
        press()
        seen.append(interrupts.pending())
    assert seen == [True]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_block_that_answers_goes_on_and_an_opened_one_raises_at_once():
    with interrupts.shielded():
        press()
        assert interrupts.take() and not interrupts.pending()
        with pytest.raises(KeyboardInterrupt), interrupts.opened():
            press()
            raise AssertionError("not reached")
        press()
        with pytest.raises(KeyboardInterrupt), interrupts.opened():  # what came before it, too
            raise AssertionError("not reached")
        assert not interrupts.pending()


@pytest.mark.parametrize("method", [structured.solve, newton.polish, fatrop.solve])
def test_no_solver_loses_its_point_to_an_interrupt_outside_its_iteration(method, monkeypatch):
    """Pressed while the point is being judged, when nothing iterates."""
    module = sys.modules[method.__module__]
    honest = module.assess

    def judged(*arguments, **options):
        press()
        return honest(*arguments, **options)

    monkeypatch.setattr(module, "assess", judged)
    problem = problems.blobs(3, 9, depth=2)
    found = method(problem, random_start(problem, np.random.default_rng(0), 0.1))
    assert found.status is Status.INTERRUPTED
    assert np.isfinite(found.report.objective)


LISTENING = """
import sys, time, signal, os
from ocp import exits, interrupts
interrupts.listen()
print("listening", flush=True)
{before}
def main():
    print("working", flush=True)
    {during}
    return 0
sys.exit(exits.run(main))
"""


def pressed(before="", during="", number=signal.SIGINT, after="working"):
    """The exit code and the errors of a process that gets a signal once it has said `after`."""
    process = subprocess.Popen(
        [sys.executable, "-c", LISTENING.format(before=before, during=during)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    for line in process.stdout:
        if line.strip() == after:
            break
    time.sleep(0.05)
    begun = time.monotonic()
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    assert time.monotonic() - begun < 6  # it sleeps for 9
    return process.returncode, errors


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize(
    "given",
    [
        {"before": "time.sleep(9)", "after": "listening"},
        {"during": "time.sleep(9)"},
        {"during": "import slow_import"},
        # a destructor swallows what is raised in it
        {"during": "type('D', (), {'__del__': lambda s: time.sleep(1)})(); time.sleep(9)"},
    ],
    ids=["before", "during", "import", "swallowed"],
)
def test_a_command_ends_with_its_code_and_no_traceback(given, number, code, tmp_path, monkeypatch):
    (tmp_path / "slow_import.py").write_text("import time\ntime.sleep(9)\n")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path), prepend=os.pathsep)
    assert pressed(number=number, **given) == (code, "interrupted\n")


@pytest.mark.parametrize("room", ["ocp", "verification", "nn_baseline"])
def test_the_rooms_listen_before_anything_heavy_is_imported(room):
    code = f"""
import runpy, sys
from ocp import interrupts
def listen():
    heavy = {{'numpy', 'scipy', 'torch', 'rich', 'argparse', 'casadi'}} & set(sys.modules)
    print(sorted(heavy))
    raise SystemExit
interrupts.listen = listen
runpy.run_module({room!r}, run_name="__main__", alter_sys=True)
"""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


def test_polishing_from_afar_is_not_gone_on_with_by_another_solver(tmp_path, monkeypatch):
    """Newton's method answers Ctrl-C; the solver that would come next is never begun."""
    problem = problems.blobs(3, 9, depth=2)
    start = random_start(problem, np.random.default_rng(0), 1.0)
    files.save(tmp_path / "far", files.TrainingFile(problem=problem, controls=start))
    honest = newton.assembled_hessian

    def pressed_in(*arguments):
        press()
        return honest(*arguments)

    monkeypatch.setattr(newton, "assembled_hessian", pressed_in)
    monkeypatch.setattr(structured, "_iterate", lambda *_: 1 / 0)
    code = main(["polish", str(tmp_path / "far"), "--output", str(tmp_path / "out")])
    assert code == 130
    assert files.load(tmp_path / "out").origin["status"] == "INTERRUPTED"
