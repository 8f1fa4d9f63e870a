"""Runs that are killed, stopped and started twice: what is left, and what becomes of it.

    python tests/benchmarks/robustness_runs.py --output tests/benchmarks/robustness.md
    python tests/benchmarks/robustness_runs.py --small       seconds; the fast tests run this

killed      kill -9 at random moments while a run works, after its first checkpoint; when it has
            been resumed to its end, every file is compared with those of a run never stopped
twice       a run begun in the folder of one that works
stopped     Ctrl-C to the whole group of processes, as a terminal sends it, at random moments from
            the first line of `__main__` on; SIGTERM to the one process

Only the section between the two marks of the output is replaced.  Exit code 1: something was lost.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STUDIES = ROOT / "examples" / "studies"
BEGIN, END = "<!-- runs: begin -->", "<!-- runs: end -->"
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


# --- processes ----------------------------------------------------------------------------------


class Forked:
    """A run in a fork of this process, which has imported what takes seconds."""

    def __init__(self, room: str, arguments: list[str], errors: Path) -> None:
        self.pid = os.fork()
        if self.pid:
            return
        code = 99
        try:
            os.setsid()
            with errors.open("w") as file, open(os.devnull, "w") as nowhere:
                os.dup2(file.fileno(), 2)
                os.dup2(nowhere.fileno(), 1)
                code = _main_of(room)(arguments)
        finally:
            os._exit(code)

    def poll(self) -> int | None:
        done, status = os.waitpid(self.pid, os.WNOHANG)
        return os.waitstatus_to_exitcode(status) if done else None

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])


def _main_of(room: str) -> Callable[[list[str]], int]:
    from ocp import exits, interrupts

    interrupts.listen()
    if room.endswith(".py"):
        import weights

        return lambda arguments: exits.run(lambda: weights.main(arguments))
    if room == "ocp":
        from ocp.__main__ import main
    else:
        from nn_baseline.__main__ import main
    return main


def load() -> None:
    """Import what the forks share; BLAS and torch on one thread, or a fork would hang."""
    sys.path[:0] = [str(ROOT), str(STUDIES)]
    import torch

    torch.set_num_threads(1)
    import weights  # noqa: F401

    import nn_baseline.commands  # noqa: F401
    import ocp.command_line.verbs  # noqa: F401
    from ocp import figures  # noqa: F401


class Started(subprocess.Popen):
    """A run by its command line, in a session of its own."""

    def __init__(self, room: str, arguments: list[str], errors: Path) -> None:
        where = [str(_file(room))] if room.endswith(".py") else ["-m", room]
        with errors.open("w") as file:
            super().__init__(
                [sys.executable, *where, *arguments], cwd=ROOT, start_new_session=True,
                stdout=subprocess.DEVNULL, stderr=file, env=ENVIRONMENT,
                # a script in the background of a shell ignores Ctrl-C, and so would this
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )  # fmt: skip


ENVIRONMENT = os.environ | {
    **dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"),
    "PYTHONPATH": str(ROOT),
    "MPLBACKEND": "Agg",
}


def _file(room: str) -> Path:
    return STUDIES / room if (STUDIES / room).exists() else STUDIES.parent / room


def session_of(pid: int) -> list[int]:
    """The processes of a session that still run."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            fields = path.read_text().rpartition(")")[2].split()
            if int(fields[3]) == pid and fields[0] not in "ZX":
                found.append(int(path.parent.name))
    return found


def until(condition: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            return False
        time.sleep(0.004)
    return True


# --- killed -------------------------------------------------------------------------------------


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
        count.wrong += [f"{run.name}: {f}" for f in _differences(wanted_files, plain(out))]
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


def _differences(wanted: dict, found: dict) -> list[str]:
    lost = [f"{name} is missing" for name in wanted if name not in found]
    more = [f"{name} is left" for name in found if name not in wanted]
    other = [f"{name} differs" for name in wanted if name in found and wanted[name] != found[name]]
    return lost + more + other


# --- twice --------------------------------------------------------------------------------------


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


# --- stopped ------------------------------------------------------------------------------------


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


# --- tables -------------------------------------------------------------------------------------


def campaign(small: bool, seed: int, scratch: Path, only: str) -> tuple[list[str], list[str]]:
    """Run all; return the lines of the section and what was wrong."""
    rng, wrong, lines = random.Random(seed), [], []
    from ocp.versions import versions

    said = ", ".join(f"{k} {v}" for k, v in versions("torch", "casadi", "safetensors").items())
    lines += [f"({_cpu()}, {os.cpu_count()} cores; {said}; seed {seed}.)", ""]
    if only in ("", "killed"):
        load()
        table, total = [], Count()
        wanted = {FULL: 2} if small else RUNS
        for run, moments in wanted.items():
            by_command_line = 0 if small else -(-moments // 4)
            found = killed(run, moments, by_command_line, rng, scratch)
            table.append(
                f"| {run.name} | {found.moments} | {found.by_command_line} | {len(found.wrong)} |"
            )
            _tell(table[-1], found.wrong)
            total.moments += found.moments
            total.by_command_line += found.by_command_line
            wrong += found.wrong
        lines += [
            "Killed with `kill -9` at random moments while the run works (after its first"
            " checkpoint, and after it has written something since its start), then resumed,"
            " several times over; at the end every file, the log included, is compared with those"
            " of a run that was never stopped, bit by bit but for recorded seconds.",
            "",
            "| run | kills | by the command line | files that differ, are missing or left |",
            "|---|---|---|---|",
            *table,
            f"| all | {total.moments} | {total.by_command_line} | {len(wrong)} |",
            "",
        ]
        runs = [FULL] if small else [run for run in RUNS if "workers" not in run.name]
        refused = [twice(run, scratch) for run in runs]
        for one in refused:
            wrong += one
            _tell("twice", one)
        lines += [
            f"Two runs at once in one folder: {len(runs)} tried"
            f" ({'; '.join(run.name for run in runs)}), {sum(not one for one in refused)} times the"
            " second was refused with one sentence and exit 2 and the first went on to its end.",
            "",
        ]
    if only in ("", "stopped"):
        table, all_, faults = [], Stops(), []
        chosen = commands(scratch)
        if small:
            names = ["ocp solve", "ocp multistart --workers 2", "nn_baseline train"]
            chosen = {name: chosen[name] for name in names}
        for name, row in chosen.items():
            found = stopped(name, row, 1 if small else 6, rng, scratch, small=small)
            table.append(
                f"| {name} | {row[2]} | {found.moments} | {found.terminated}"
                f" | {found.slowest:.2f} | {len(found.wrong)} |"
            )
            _tell(table[-1], found.wrong)
            all_.moments += found.moments
            all_.terminated += found.terminated
            all_.slowest = max(all_.slowest, found.slowest)
            faults += found.wrong
        wrong += faults
        lines += [
            "Stopped at random moments from the first line of `__main__` on, imports included, by"
            " Ctrl-C (SIGINT to the whole group, as a terminal sends it) or SIGTERM. Wrong is"
            " another exit code than 130 or 143, a traceback, more than two seconds, or a process"
            " that is left.",
            "",
            "| command | processes | Ctrl-C | SIGTERM | slowest end, s | wrong |",
            "|---|---|---|---|---|---|",
            *table,
            f"| all | | {all_.moments} | {all_.terminated} | {all_.slowest:.2f} | {len(faults)} |",
            "",
        ]
    return lines, wrong


def _tell(line: str, wrong: list[str]) -> None:
    print(line, *wrong, sep="\n", flush=True)


def _cpu() -> str:
    with contextlib.suppress(OSError, StopIteration):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        name = next(line for line in lines if line.startswith("model name"))
        return name.partition(":")[2].strip()
    return platform.machine()


def write_section(path: Path, lines: list[str]) -> None:
    """Put the section between its marks, at the end of the file where there are none yet."""
    command = "python tests/benchmarks/robustness_runs.py --output tests/benchmarks/robustness.md"
    section = "\n".join([BEGIN, "## Runs", "", f"`{command}`", *lines[:-1], END, ""])
    text = path.read_text() if path.exists() else "# What goes in, what is lost\n\n"
    before, _, rest = text.partition(BEGIN)
    after = rest.partition(END)[2].lstrip("\n") if rest else ""
    path.write_text(before + section + (("\n" + after) if after else ""))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, help="file whose section is replaced")
    parser.add_argument("--small", action="store_true", help="a few moments of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", choices=("killed", "stopped"), default="")
    options = parser.parse_args(arguments)
    os.environ.update(ENVIRONMENT)
    sys.path[:0] = [str(ROOT)]
    with tempfile.TemporaryDirectory() as scratch:
        lines, wrong = campaign(options.small, options.seed, Path(scratch), options.only)
    if options.output is not None:
        write_section(options.output, lines)
    print("\n".join(wrong) if wrong else "nothing was lost")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
