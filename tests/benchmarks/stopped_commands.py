"""Commands stopped by Ctrl-C and SIGTERM at random moments: how they end, and how soon."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from killed_runs import PROBLEM
from run_processes import ENVIRONMENT, ROOT, Started, session_of, until


def commands(scratch: Path) -> dict[str, tuple[str, list[str], int]]:
    """Commands that take long, by name: room, arguments, and how many processes they have."""
    sys.path[:0] = [str(ROOT)]
    toml, small = scratch / "long.toml", scratch / "short.toml"
    toml.write_text(PROBLEM.format(depth=40, points=97))
    small.write_text(PROBLEM.format(depth=6, points=8))
    best = str(ROOT / "examples" / "best_known" / "spirals.safetensors")
    file = str(scratch / "far.safetensors")  # from where there is much to do
    far = ["solve", str(toml), "--cold", "--max-iterations", "1", "--output", file]
    subprocess.run(
        [sys.executable, "-m", "ocp", *far],
        cwd=ROOT, env=ENVIRONMENT, check=False, capture_output=True,
    )  # fmt: skip
    one, out = ["--output", str(scratch / "o.safetensors")], ["--output", str(scratch / "folder")]
    train = ["train", "moons", "--depth", "6", "--epochs", "1000000", *out]
    lbfgs = ["--optimizer", "lbfgs", "--schedule", "constant", "--lr", "1", "--batch-size", "0"]
    many = ["multistart", str(toml), "--starts", "99", *out]
    return {
        "ocp solve": ("ocp", ["solve", str(toml), *one], 1),
        "ocp solve --solver ipopt": ("ocp", ["solve", str(toml), *one, "--solver", "ipopt"], 1),
        "ocp solve --solver fatrop": (
            *("ocp", ["solve", str(small), *one, "--solver", "fatrop", "--trials", "40"], 2),
        ),
        "ocp polish": ("ocp", ["polish", file, *one], 1),
        "ocp grow": ("ocp", ["grow", best, "--depth", "200", *one], 1),
        "ocp multistart": ("ocp", many, 1),
        "ocp multistart --workers 2": ("ocp", [*many, "--workers", "2"], 3),
        "verification": ("verification", [best], 1),
        "verification --certify": ("verification", [best, "--certify"], 1),
        "nn_baseline train": ("nn_baseline", train, 1),
        "nn_baseline train, lbfgs": ("nn_baseline", [*train, *lbfgs], 1),
        "nn_baseline eval": ("nn_baseline", ["eval", file], 1),
        "nn_baseline crop --fine-tune": (
            *("nn_baseline", ["crop", file, "--fine-tune", "100000"], 1),
        ),
        "nn_baseline export": ("nn_baseline", ["export", file, *one], 1),
        "examples/spirals_ocp.py": ("spirals_ocp.py", ["--depth", "40", *out], 1),
        "studies/weights.py --workers 1": ("weights.py", ["--workers", "1", *out], 1),
        "studies/weights.py --workers 2": ("weights.py", ["--workers", "2", *out], 3),
        "examples/path_ladder.py": ("path_ladder.py", ["--workers", "2", *out], 3),
    }


@dataclass
class Stops:
    """Of one command."""

    moments: int = 0
    terminated: int = 0
    slowest: float = 0.0
    wrong: list[str] = field(default_factory=list)


def stopped(
    name: str, row: tuple, moments: int, rng: random.Random, scratch: Path, *, small: bool
) -> Stops:
    """Stop a command so often, two thirds by Ctrl-C and the others by SIGTERM.

    small : sooner, and with more patience: a test says nothing about the speed of a machine
    """
    longest, limit = (2.0, 10.0) if small else (4.0, 2.0)
    room, arguments, _ = row
    found, errors, tries = Stops(), scratch / "stop_errors", 0
    while found.moments + found.terminated < moments and tries < 5 * moments:
        tries += 1
        shutil.rmtree(scratch / "folder", ignore_errors=True)
        number = signal.SIGTERM if (found.moments + found.terminated) % 3 == 2 else signal.SIGINT
        process = Started(room, arguments, errors)
        until(lambda p=process: listens(p.pid) or p.poll() is not None, 60)
        time.sleep(longest * rng.random() ** 2)  # more of them early, while it imports
        if process.poll() is not None:
            continue
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            (os.killpg if number == signal.SIGINT else os.kill)(process.pid, number)
        try:
            code = process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            code = process.wait()
        took = time.monotonic() - began
        gone = until(lambda p=process: not session_of(p.pid), limit)
        text = errors.read_text()
        if code in (0, 1, 3) and took < 1:
            continue  # it was about to end
        if number == signal.SIGINT:
            found.moments += 1
        else:
            found.terminated += 1
        found.slowest = max(found.slowest, took)
        what = f"{name}: {signal.Signals(number).name} "
        if code != 128 + number:
            found.wrong.append(what + f"exit {code}: {text[-400:]}")
        if took > limit:
            found.wrong.append(what + f"took {took:.1f} s")
        if "Traceback" in text or "Error" in text:
            found.wrong.append(what + f"said {text[-400:]}")
        if not gone:
            found.wrong.append(what + "left a process")
    return found


def listens(pid: int) -> bool:
    """Whether a process has come to the first line of its `__main__`: it then catches SIGTERM."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return False
    found = re.search(r"SigCgt:\s*([0-9a-f]+)", status)
    return bool(found and int(found[1], 16) >> (signal.SIGTERM - 1) & 1)
