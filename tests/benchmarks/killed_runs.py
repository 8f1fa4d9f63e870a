"""Runs killed while they work and resumed to their end, and runs begun twice in one folder."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import shutil
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from run_processes import Forked, Started, until

PROBLEM = "[problem]\ndepth = {depth}\n[data]\nname = 'spirals'\npoints_per_class = {points}\n"
TRAIN = [
    *("train", "moons", "--depth", "4", "--width", "3", "--init-scale", "0.3", "--dtype"),
    *("float64", "--checkpoint-seconds", "0.05", "--threads", "1"),
]


@dataclass(frozen=True, kw_only=True, eq=False)
class Run:
    """A command that goes on where it was.

    room : module, or the file of a study
    arguments : {toml} stands for the problem, {out} for the folder
    resume : what is added to go on
    worked : whether the folder shows work to lose
    """

    name: str
    room: str
    arguments: list[str]
    worked: Callable[[Path], bool]
    resume: list[str] = field(default_factory=list)

    def command(self, out: Path, toml: Path, resume: bool = False) -> list[str]:
        given = [*self.arguments, *(self.resume if resume else [])]
        return [text.format(out=out, toml=toml) for text in given]


def trained(folder: Path) -> bool:
    log = folder / "log.jsonl"
    return (folder / "state.safetensors").exists() and log.exists() and log.stat().st_size > 0


def solved(folder: Path) -> bool:
    return _some(folder, "seed_*.json")


def rows(folder: Path) -> bool:
    return _some(folder / "rows", "*_[0-9a-f]*.json")


def _some(folder: Path, pattern: str) -> bool:
    """Whether there is such a file with content; names that are only tried have none."""
    with contextlib.suppress(OSError):
        return any(path.stat().st_size for path in folder.glob(pattern))
    return False


def training(name: str, *more: str) -> Run:
    given = [*TRAIN, "--output", "{out}", *more]
    return Run(name=name, room="nn_baseline", arguments=given, worked=trained, resume=["--resume"])


def starts(name: str, workers: int) -> Run:
    given = ["multistart", "{toml}", "--starts", "9", "--workers", str(workers)]
    return Run(name=name, room="ocp", arguments=[*given, "--output", "{out}"], worked=solved)


FULL = training("train, whole set", "--epochs", "300", "--batch-size", "0")
RUNS = {
    FULL: 18,
    training("train, mini-batches", "--epochs", "60", "--batch-size", "16"): 18,
    training(
        *("train, lbfgs", "--epochs", "20", "--batch-size", "0", "--optimizer", "lbfgs"),
        *("--schedule", "constant", "--lr", "1"),
    ): 16,
    training(
        *("train, patience", "--epochs", "9000", "--batch-size", "0", "--lr", "0.05"),
        *("--patience", "20", "--min-fall", "1e-3", "--schedule", "constant"),
    ): 16,
    starts("multistart", 1): 16,
    starts("multistart, 2 workers", 2): 8,
    Run(
        name="study, --quick",
        room="weights.py",
        arguments=["--quick", "--workers", "1", "--output", "{out}"],
        worked=rows,
    ): 12,
}


def plain(folder: Path) -> dict[str, object]:
    """The content of all files of a folder, without the seconds that they record."""
    return {
        str(path.relative_to(folder)): _without_seconds(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _without_seconds(path: Path) -> object:
    timed = {"seconds", "cpu_seconds", "wall_seconds", "cpu_minutes"}

    def strip(value: object) -> object:
        if isinstance(value, dict):
            return {k: strip(v) for k, v in value.items() if k not in timed}
        return [strip(v) for v in value] if isinstance(value, list) else value

    content = path.read_bytes()
    if path.name == "log.jsonl":
        lines = content.decode().splitlines(keepends=True)
        return [(strip(json.loads(line)), line[-1:]) for line in lines]
    if path.name == "table.md":  # the last column
        return [line.rsplit("|", 2)[0] for line in content.decode().splitlines()]
    if path.name == "state.safetensors":
        size = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(content[8:size])
        structure = header["__metadata__"]["structure"]
        cut = re.sub(r'\["seconds", [0-9.e+-]+\]', "", structure)
        if len(cut) == len(structure):
            raise AssertionError("the state has no seconds")
        header["__metadata__"]["structure"] = cut
        return header, content[size:]
    if path.suffix == ".json" and path.name != "problem.json":
        return strip(json.loads(content))
    return content


@dataclass
class Count:
    """Of one kind of run."""

    moments: int = 0
    by_command_line: int = 0
    wrong: list[str] = field(default_factory=list)


def killed(run: Run, wanted: int, by_command_line: int, rng: random.Random, scratch: Path) -> Count:
    """Kill a run `wanted` times, in chains of several; compare what each chain ends with."""
    toml = scratch / "problem.toml"
    toml.write_text(PROBLEM.format(depth=6, points=8))
    name = re.sub(r"\W+", "_", run.name)
    whole, errors = scratch / f"{name}_whole", scratch / "errors"
    began = time.monotonic()
    code = Forked(run.room, run.command(whole, toml), errors).wait()
    if code not in (0, 1):
        return Count(wrong=[f"{run.name}: exit {code}: {errors.read_text()[-300:]}"])
    length, wanted_files, count, chain = time.monotonic() - began, plain(whole), Count(), 0
    while count.moments < wanted and not count.wrong:
        chain += 1
        out, resume, kills = scratch / f"{name}_{chain}", False, 0
        for _ in range(60):
            real = count.by_command_line < by_command_line
            start = Started if real else Forked
            more = run.command(out, toml, resume)
            process = start(run.room, more, errors)
            last = kills >= 6 or count.moments >= wanted
            if not last:
                until(lambda p=process, o=out: run.worked(o) or p.poll() is not None, 60)
                before = _stamps(out)
                # resumed processes begin with imports: "works" is where it has changed a file
                until(lambda p=process, b=before, o=out: _stamps(o) != b or _ended(p), 60)
                time.sleep(rng.uniform(0, min(1.0, length / 4)))
                if not _ended(process):
                    _kill(process.pid)
                    kills, count.moments = kills + 1, count.moments + 1
                    count.by_command_line += real
            code = process.wait() if isinstance(process, Started) else _reaped(process)
            resume = run.worked(out) or (out / "state.safetensors").exists()
            if code in (0, 1):
                break
            if code != -signal.SIGKILL:
                count.wrong.append(f"{run.name}: exit {code}: {errors.read_text()[-300:]}")
                break
        count.wrong += [f"{run.name}: {f}" for f in differences(wanted_files, plain(out))]
        shutil.rmtree(out)
    return count


def _ended(process: Forked | Started) -> bool:
    """Whether it has ended; a fork is left for `_reaped`."""
    if isinstance(process, Started):
        return process.poll() is not None
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def _reaped(process: Forked) -> int:
    return process.wait()


def _kill(pid: int) -> None:
    """The process alone: its workers have to notice by themselves."""
    os.kill(pid, signal.SIGKILL)


def _stamps(folder: Path) -> dict[str, int]:
    found: dict[str, int] = {}
    with contextlib.suppress(OSError):  # a folder that is only tried vanishes again
        for path in folder.rglob("*"):
            if not path.name.startswith("."):
                found[str(path)] = path.stat().st_mtime_ns
    return found


def differences(wanted: dict, found: dict) -> list[str]:
    lost = [f"{name} is missing" for name in wanted if name not in found]
    more = [f"{name} is left" for name in found if name not in wanted]
    other = [f"{name} differs" for name in wanted if name in found and wanted[name] != found[name]]
    return lost + more + other


def twice(run: Run, scratch: Path) -> list[str]:
    """Begin a run in the folder of one that works; return what was wrong."""
    toml = scratch / "problem.toml"
    toml.write_text(PROBLEM.format(depth=6, points=8))
    out = scratch / "twice"
    shutil.rmtree(out, ignore_errors=True)
    first = Forked(run.room, run.command(out, toml), scratch / "first")
    until(lambda: run.worked(out), 60)
    second = Forked(run.room, run.command(out, toml, resume=True), scratch / "second").wait()
    said = (scratch / "second").read_text()
    wrong = []
    if _ended(first):
        wrong.append(f"{run.name}: the first ended too early to tell")
    if second != 2 or "in use by another run" not in said or len(said.splitlines()) != 1:
        wrong.append(f"{run.name}: the second: exit {second}: {said[-300:]}")
    code = first.wait()
    return wrong if code in (0, 1) else [*wrong, f"{run.name}: the first: exit {code}"]
