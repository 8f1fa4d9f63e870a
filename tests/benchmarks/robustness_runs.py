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
import os
import platform
import random
import sys
import tempfile
from pathlib import Path

from killed_runs import FULL, RUNS, Count, killed, twice
from run_processes import ENVIRONMENT, ROOT, load
from stopped_commands import Stops, commands, stopped

BEGIN, END = "<!-- runs: begin -->", "<!-- runs: end -->"


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
