"""Runs own their folder; what a killed process left is cleared, what others write is not."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from ocp import atomic, run_folder, temporary

ROOT = Path(__file__).parents[2]
HOLDS = """
import sys, time
from ocp import run_folder
with run_folder.claimed(sys.argv[1]):
    print("held", flush=True)
    time.sleep(60)
"""


def held(folder):
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "held\n"
    return process


def test_a_folder_in_use_is_refused_and_a_dead_process_holds_nothing(tmp_path):
    process = held(tmp_path)
    try:
        for claim in (run_folder.claimed(tmp_path), run_folder.claimed(tmp_path / ".")):
            with pytest.raises(ValueError, match="in use by another run"), claim:
                raise AssertionError("not reached")
        with pytest.raises(ValueError, match="in use by another run"):
            run_folder.check("--output", tmp_path, ["state"])
    finally:
        process.send_signal(signal.SIGKILL)
        process.communicate()
    assert (tmp_path / run_folder.LOCK).exists()
    with run_folder.claimed(tmp_path):
        assert [p.name for p in tmp_path.iterdir()] == [run_folder.LOCK]
        with pytest.raises(ValueError, match="in use"), run_folder.claimed(tmp_path):
            pass
    assert not list(tmp_path.iterdir())


def test_a_lock_file_that_was_taken_away_meanwhile_protects_nobody(tmp_path, monkeypatch):
    honest, calls = run_folder._lock, []

    def slow(handle):  # the holder ends and removes its file between our open and our lock
        calls.append(handle)
        if len(calls) == 1:
            (tmp_path / run_folder.LOCK).unlink()
        honest(handle)

    monkeypatch.setattr(run_folder, "_lock", slow)
    with run_folder.claimed(tmp_path):
        assert len(calls) == 2
        with pytest.raises(ValueError, match="in use"), run_folder.claimed(tmp_path):
            pass


def test_checking_leaves_nothing_behind(tmp_path):
    run_folder.check("--output", tmp_path / "new", ["a"])
    run_folder.check("--output", tmp_path, ["a"])
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="wanted a folder"):
        run_folder.check("--output", "", ["a"])


WRITES = """
import os, sys, time
from ocp import atomic
os.fsync = lambda handle: (print("writing", flush=True), time.sleep(60))
atomic.write_atomically(sys.argv[1], b"content")
"""


def writing(path):
    process = subprocess.Popen(
        [sys.executable, "-c", WRITES, str(path)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "writing\n"
    return process


def test_the_next_write_into_a_folder_clears_what_a_killed_one_left(tmp_path):
    alive, dead = writing(tmp_path / "a"), writing(tmp_path / "b")
    dead.kill()
    dead.communicate()
    own = tmp_path / ".turnpike-notes.tmp"  # a user's
    own.write_text("mine")
    elsewhere = tmp_path / f".turnpike-{'0' * 8}-{dead.pid}-abcdefgh.tmp"
    elsewhere.write_text("of another machine")
    try:
        assert len(list(tmp_path.iterdir())) == 4
        atomic.write_atomically(tmp_path / "c", b"")
        left = {p.name for p in tmp_path.iterdir()}
        assert {"c", own.name, elsewhere.name} < left and len(left) == 4
        assert any(f"-{alive.pid}-" in name for name in left)
    finally:
        alive.kill()
        alive.communicate()
    with run_folder.claimed(tmp_path):
        assert len(list(tmp_path.iterdir())) == 4  # the lock in the place of the temporary file


def test_a_number_that_another_process_has_by_now_protects_nothing(tmp_path):
    name = temporary.prefix().replace(f"-{os.getpid()}-", f"-{os.getppid()}-") + "abcdefgh.tmp"
    path = tmp_path / name
    path.write_text("")
    temporary.remove_stale(tmp_path)
    assert path.exists()  # the parent lives, and began before the file
    os.utime(path, (0, 0))
    temporary.remove_stale(tmp_path)
    assert not path.exists()
