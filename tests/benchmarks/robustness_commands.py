"""Give the commands what they should not be given, and count how they take it.

    python tests/benchmarks/robustness_commands.py --lines 900 --processes 112 --seed 1

In process: every option of every command with values of the wrong type, range or kind, alone and
in pairs.  As processes: closed pipes, full devices, no home, the C locale, folders and files that
may not be written, odd and long names.  A command is taken well if it ends with one of its codes,
without a traceback, within 60 s, with every input as it was, and, where it ends as done, with its
result on disk.  The tables of tests/benchmarks/robustness.md are what this prints.
"""

import argparse
import contextlib
import ctypes
import functools
import io
import itertools
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

import nn_baseline.__main__
import ocp
import ocp.__main__
import verification.__main__
from ocp.datasets import spirals

MAINS = {
    "ocp": ocp.__main__,
    "nn_baseline": nn_baseline.__main__,
    "verification": verification.__main__,
}
LONGEST = 60
VALUES = (
    "", "x", "-1", "0", "1", "nan", "inf", "-inf", "1e400", "9" * 400, "1.5", "1e-400", "True",
    "\x1b[31m", "\udcff", "a\nb", "[bold]x[/bold]", "\u00e9", "-", "--", "/", ".", "nowhere/x",
    "a\0b", "x" * 300, "=", "a=b", "None", "p.toml", "t.csv", "good.safetensors", "../..", "\u0663",
)  # fmt: skip
#: what ends each line of tests: names are in the folder that the command runs in
GOOD = {
    ("ocp", "solve"): ["p.toml", "--output", "out.safetensors", "--cold"],
    ("ocp", "polish"): ["good.safetensors", "--output", "out.safetensors"],
    ("ocp", "grow"): ["good.safetensors", "--output", "out.safetensors", "--depth", "3"],
    ("ocp", "multistart"): ["p.toml", "--output", "out", "--starts", "1"],
    ("nn_baseline", "train"): ["t.csv", "--output", "out", "--depth", "2", "--width", "3",
                               "--epochs", "1"],
    ("nn_baseline", "depth"): ["t.csv", "--output", "out", "--deepest", "2", "--phase-epochs", "1",
                               "--final-epochs", "1"],
    ("nn_baseline", "eval"): ["good.safetensors"],
    ("nn_baseline", "crop"): ["good.safetensors", "--keep", "1", "--fresh", "0"],
    ("nn_baseline", "export"): ["good.safetensors", "--output", "out.safetensors"],
    ("nn_baseline", "fetch"): ["nothing", "--data-dir", "out"],
    ("verification", ""): ["good.safetensors", "--only", "statement", "first_order"],
}  # fmt: skip
OUTPUTS = ("--output", "--json", "--latex")
TOML = """lift = "zeros"
[problem]
depth = 2
width = 3
r = 0.1
[data]
name = "spirals"
points_per_class = 3
"""


class Hang(BaseException):
    """A command took longer than LONGEST seconds."""


@functools.cache
def inputs() -> dict[str, bytes]:
    """The files that the commands read, by name."""
    X, y = spirals(6)
    rows = "".join(f"{a},{b},{c}\n" for (a, b), c in zip(X, y, strict=True))
    problem = ocp.Problem(inputs=X, labels=y, n_classes=2, depth=2, width=3, h=0.5, r=0.1,
                          scheme="euler", block="single", activation="tanh", shifted=False,
                          p_d=0.9, gamma=1.0, beta=1)  # fmt: skip
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "good.safetensors"
        controls = ocp.Controls(A=np.full((2, 3, 3), 0.1), b=np.full((2, 3), 0.2))
        ocp.save(path, ocp.TrainingFile(problem=problem, controls=controls))
        good = path.read_bytes()
    return {"p.toml": TOML.encode(), "t.csv": rows.encode(), "good.safetensors": good}


def fresh(folder: Path) -> None:
    for name, content in inputs().items():
        (folder / name).write_bytes(content)


def touched(folder: Path, line: list[str]) -> list[str]:
    """Which inputs that the line reads are not what they were."""
    written = {i + 1 for i, part in enumerate(line) if part in OUTPUTS}
    read = {part for i, part in enumerate(line) if i not in written}
    return [
        name
        for name, content in inputs().items()
        if name in read
        if not (folder / name).is_file() or (folder / name).read_bytes() != content
    ]


def options_of(main: str, verb: str) -> list[str]:
    """The options of a command, as its parser knows them."""
    parser = MAINS[main].parser()
    if verb:
        subs = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        parser = subs.choices[verb]
    found = [a.option_strings[-1] for a in parser._actions if a.option_strings]
    return [name for name in found if name != "--help"]


def lines(count: int, seed: int) -> list[tuple[str, list[str]]]:
    """Command lines: each option with each value in a random order, then pairs of options."""
    rng = random.Random(seed)
    single, pairs = [], []
    for (main, verb), good in GOOD.items():
        names = options_of(main, verb)
        start = [verb] if verb else []
        for name in names:
            for value in VALUES:
                single.append((main, [*start, *good, name, value]))
            single.append((main, [*start, *good, name]))
        for _ in range(40):
            extra = [part for n in rng.choices(names, k=2) for part in (n, rng.choice(VALUES))]
            pairs.append((main, [*start, *good, *extra]))
        for i in range(len(good)):
            for value in VALUES:  # a wrong file, or what stands in its place
                pairs.append((main, [*start, *good[:i], value, *good[i + 1 :]]))
        pairs += [(main, start), (main, [*start, "--bogus"]), (main, [*start, *good, *good])]
    rng.shuffle(single)
    rng.shuffle(pairs)
    return [*single[: 2 * count // 3], *pairs[: count - 2 * count // 3]]


def in_process(main: str, line: list[str]) -> tuple[str, str]:
    """Run a line in a fresh folder; return the outcome and what is wrong with it."""
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", "backslashreplace") for _ in range(2)]
    before = os.getcwd()
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        folder = Path(place)
        fresh(folder)
        os.chdir(folder)
        signal.alarm(LONGEST)
        try:
            with contextlib.redirect_stdout(streams[0]), contextlib.redirect_stderr(streams[1]):
                code = MAINS[main].main(line)
        except SystemExit as error:
            code = error.code
        except Hang:
            return "hang", f"more than {LONGEST} s"
        except BaseException as error:
            return "traceback", f"{type(error).__name__}: {error}"
        finally:
            signal.alarm(0)
            os.chdir(before)
        if wrong := touched(folder, line):
            return "input touched", f"{wrong}, code {code}"
        said = "".join(s.buffer.getvalue().decode("utf-8", "replace") for s in streams)
        err = streams[1].buffer.getvalue().decode("utf-8", "replace")
        if code not in (0, 1, 2, 3):
            return "odd code", f"{code}"
        if "Traceback" in said:
            return "traceback", err[-300:]
        if "\x1b[31m" in said:
            return "raw escape", said[-300:]
        left = sorted(p.name for p in folder.iterdir() if p.name not in inputs())
        if code == 2:
            if not err.strip():
                return "no sentence", ""
            return ("refused", "") if not left else ("refused late", f"left {left}: {err[-200:]}")
        for flag, path in dict(itertools.pairwise(line)).items():
            if flag in OUTPUTS and path not in ("-", "") and not (folder / path).exists():
                return "result lost", f"{path}: {err[-200:]}"
        return "done", ""


# --- as processes -----------------------------------------------------------------------------

#: name: command line, and the file or folder that it makes
COMMANDS = {
    "solve": (["ocp", "solve", "p.toml", "--cold", "--output", "OUT"], "out.safetensors"),
    "polish": (["ocp", "polish", "good.safetensors", "--output", "OUT"], "out.safetensors"),
    "multistart": (["ocp", "multistart", "p.toml", "--starts", "1", "--output", "OUT"], "out"),
    "train": (["nn_baseline", "train", "t.csv", "--depth", "2", "--width", "3", "--epochs", "1",
               "--output", "OUT"], "out"),
    "eval": (["nn_baseline", "eval", "good.safetensors", "--json", "OUT"], "out.json"),
    "export": (["nn_baseline", "export", "good.safetensors", "--output", "OUT"],
               "out.safetensors"),
    "judge": (["verification", "good.safetensors", "--only", "statement", "first_order", "--json",
               "OUT"], "out.json"),
}  # fmt: skip
FOLDERS = ("multistart", "train")
_LIBC = ctypes.CDLL(None)
_DROP, _OVERRIDE = 24, 1  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE


def _limit() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, 64))


def _as_anybody() -> None:
    """Root without its right to write anywhere (Linux)."""
    if not os.geteuid() and _LIBC.prctl(_DROP, _OVERRIDE, 0, 0, 0):
        raise OSError("root keeps its rights here")


def closed(number: int) -> Callable[[], None]:
    return lambda: os.close(number)


#: name: what the process is given beside its command; see `as_process`
PLACES: dict[str, dict] = {
    "reader has left": {"pipe": True},
    "stdout is full": {"stdout": "/dev/full"},
    "stderr is full": {"stderr": "/dev/full"},
    "stdout is closed": {"before": closed(1)},
    "stderr is closed": {"before": closed(2)},
    "stdin is closed": {"before": closed(0)},
    "no HOME, no PATH": {"env": {}},
    "C locale": {"env": {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}},
    "ASCII output": {"env": {"PYTHONIOENCODING": "ascii"}, "name": "\u00e9\u4e2d"},
    "output is full": {"out": "/dev/full", "refused": True},
    "disk is full": {"before": _limit, "refused": True},
    "read-only folder": {"before": _as_anybody, "mode": 0o555, "refused": True},
    "read-only file": {"there": 0o444, "refused": True},
    "255 bytes": {"length": 255},
    "256 bytes": {"length": 256, "refused": True},
    "a newline": {"name": "a\nb"},
    "brackets": {"name": "[bold]a[red]"},
    "an escape": {"name": "a\x1b[31mb"},
    "no UTF-8": {"name": "a\udcff\udc80"},
    "a dash in front": {"name": "./-o"},
}


def as_process(command: str, place: str) -> tuple[str, str]:
    """Run a command in a place; return the outcome and what is wrong with it."""
    told, wanted = COMMANDS[command]
    given = PLACES[place]
    suffix = Path(wanted).suffix
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        folder.chmod(0o755)
        fresh(folder)
        name = given.get("name", "out") + suffix
        if "length" in given:
            name = "o" * (given["length"] - len(suffix)) + suffix
        out = given.get("out", name)
        if "there" in given:
            target = folder / name
            if command in FOLDERS:
                target.mkdir()
                record = "table.md" if command == "multistart" else "log.jsonl"
                target = target / record
            target.write_bytes(b"old")
            target.chmod(given["there"])
        if "mode" in given:
            folder.chmod(given["mode"])
        env = {
            k: v for k, v in os.environ.items() if k not in ("HOME", "PATH") or "env" not in given
        }
        env |= {"PYTHONPATH": str(Path(ocp.__file__).parents[1]), "OMP_NUM_THREADS": "1",
                "PYTHONDONTWRITEBYTECODE": "1", **given.get("env", {})}  # fmt: skip
        line = [sys.executable, "-m", *(out if part == "OUT" else part for part in told)]
        stdout: object = subprocess.PIPE
        with contextlib.ExitStack() as stack:
            if "stdout" in given:
                stdout = stack.enter_context(open(given["stdout"], "wb"))
            if given.get("pipe"):
                reading, writing = os.pipe()
                os.close(reading)
                stdout = stack.enter_context(os.fdopen(writing, "wb"))
            stderr = subprocess.PIPE
            if "stderr" in given:
                stderr = stack.enter_context(open(given["stderr"], "wb"))
            try:
                done = subprocess.run(
                    line, cwd=folder, env=env, stdout=stdout, stderr=stderr, timeout=180,
                    preexec_fn=given.get("before"), stdin=subprocess.DEVNULL)  # fmt: skip
            except subprocess.TimeoutExpired:
                return "hang", ""
        folder.chmod(0o755)
        said = (done.stdout or b"") + (done.stderr or b"")
        err = (done.stderr or b"").decode("utf-8", "replace")
        if b"Traceback" in said or b"Exception ignored" in said:
            return "traceback", err[-400:]
        if wrong := touched(folder, line):
            return "input touched", f"{wrong}"
        if b"\x1b[31m" in said:
            return "raw escape", err[-300:]
        if given.get("refused"):
            if done.returncode == 2:
                return "refused", ""
            return "not refused", f"code {done.returncode}: {err[-300:]}"
        if done.returncode not in (0, 1, 3):
            return "not done", f"code {done.returncode}: {err[-300:]}"
        path = folder / name
        lost = not path.exists() or (path.is_file() and not path.stat().st_size)
        return ("result lost", err[-300:]) if lost else ("done", "")


def _alarm(*_):
    raise Hang


WELL = ("done", "refused")


def run_lines(count: int, seed: int) -> tuple[dict[str, Counter], list[str]]:
    """Counts by command, and the faults in words."""
    before = signal.signal(signal.SIGALRM, _alarm)
    found: dict[str, Counter] = {}
    faults = []
    for main, line in lines(count, seed):
        outcome, words = in_process(main, line)
        verb = line[0] if line and (main, line[0]) in GOOD else ""
        found.setdefault(f"{main} {verb}".strip(), Counter())[outcome] += 1
        if outcome not in WELL:
            shown = [part[:60] for part in line]
            faults.append(f"{outcome}: {main} {shown}: {words}")
    signal.signal(signal.SIGALRM, before)
    return found, faults


def run_processes(
    count: int, seed: int, commands: tuple[str, ...] = tuple(COMMANDS), workers: int = 2
) -> tuple[dict[str, Counter], list[str]]:
    """Counts by place, and the faults in words."""
    pairs = [(command, place) for place in PLACES for command in commands]
    random.Random(seed).shuffle(pairs)
    found: dict[str, Counter] = {}
    faults = []
    with ThreadPoolExecutor(workers) as pool:
        outcomes = pool.map(lambda pair: as_process(*pair), pairs[:count])
        for (command, place), (outcome, words) in zip(pairs, outcomes, strict=False):
            found.setdefault(place, Counter())[outcome] += 1
            if outcome not in WELL:
                faults.append(f"{outcome}: {command}, {place}: {words}")
                print(faults[-1], file=sys.stderr, flush=True)
    return found, faults


def show(title: str, found: dict[str, Counter]) -> None:
    bad = sorted({name for counts in found.values() for name in counts} - set(WELL))
    names = [*WELL, *bad]
    total: Counter[str] = sum(found.values(), Counter())
    print(f"| {title} | all | {' | '.join(names)} |\n|---|---|" + "---|" * len(names))
    for row, counts in sorted(found.items()):
        cells = " | ".join(str(counts[name]) for name in names)
        print(f"| {row} | {counts.total()} | {cells} |")
    print(f"| all | **{total.total()}** | {' | '.join(f'**{total[n]}**' for n in names)} |\n")


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--lines", type=int, default=600)
    parse.add_argument("--processes", type=int, default=112)
    parse.add_argument("--seed", type=int, default=1)
    parse.add_argument("--workers", type=int, default=2, help="processes at once")
    options = parse.parse_args()
    start = time.time()
    found, faults = run_lines(options.lines, options.seed)
    show("in process", found)
    places, more = run_processes(options.processes, options.seed, workers=options.workers)
    show("as processes", places)
    print(f"{time.time() - start:.0f} s")
    print(*faults, sep="\n", file=sys.stderr)
    return int(bool(faults or more))


if __name__ == "__main__":
    sys.exit(main())
