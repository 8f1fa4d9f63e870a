"""Whole processes: the example from the shell prompt to the last figure, and what rivals take.

    python tests/benchmarks/whole_process.py --output whole_process.json
    python tests/benchmarks/whole_process.py --table whole_process.json > whole_process.md

CPU seconds (user and system) of the child process with one thread: interpreter, imports, solve,
judgement of the end, files, figures.  Textbook: one cold solve by multiple shooting with IPOPT and
MUMPS as they set themselves, a start of scale .5, no figures.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from ocp.versions import versions

ROOT = Path(__file__).parents[2]
EXAMPLE = [str(ROOT / "examples" / "spirals_ocp.py")]
TEXTBOOK = """
import sys
from rivals import METHODS
from ocp import Problem, datasets
inputs, labels = datasets.spirals(int(sys.argv[1]))
problem = Problem(inputs=inputs, labels=labels, n_classes=2, depth=20)
controls, iterations, said = METHODS["ipopt-cold"].run(problem, int(sys.argv[2]), 1e-8)
from ocp import assess
facts = assess(problem, controls, 1e-8)
print("J =", facts.fields_of_report()["objective"], facts.status.name)
"""
#: name -> (title, command of a seed, runs)
ROWS = {
    "example": ("`python examples/spirals_ocp.py`, seed 0 each time", EXAMPLE, 5),
    "example, 98 points": (
        "the example, 98 points",
        [*EXAMPLE, "--points-per-class", "49", "--seed", "{}"],
        5,
    ),
    "textbook, 98 points": (
        "textbook IPOPT, 98 points",
        ["-c", TEXTBOOK, "49", "{}"],
        3,
    ),
}


def run(command: list[str], seed: int) -> dict:
    """Run one child process and return its CPU seconds and what it found."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    here = os.pathsep.join([str(Path(__file__).parent), str(ROOT)])
    with tempfile.TemporaryDirectory() as folder:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run(
            [sys.executable, *(part.replace("{}", str(seed)) for part in command)],
            env={**os.environ, **threads, "PYTHONPATH": here},
            cwd=folder,
            capture_output=True,
            text=True,
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    found = [line for line in done.stdout.splitlines() if "J =" in line]
    return {
        "seed": seed,
        "seconds": round(seconds, 2),
        "exit": done.returncode,
        "found": found[0].strip() if found else done.stderr.strip()[-200:],
    }


def table(content: dict) -> str:
    """The rows as markdown."""
    lines = [
        "# Whole processes",
        "",
        "`python tests/benchmarks/whole_process.py --output FILE`, then `--table FILE`. CPU seconds"
        " of the child process, one thread; seeds 0, 1, .. where not said.",
        "",
        f"Host: {content['host']}. "
        + ", ".join(f"{name} {number}" for name, number in content["versions"].items()),
        "",
        "| process | median CPU s | all | exit codes | found |",
        "|---|---|---|---|---|",
    ]
    medians = {}
    for name, found in content["rows"].items():
        seconds = [row["seconds"] for row in found]
        medians[name] = statistics.median(seconds)
        codes = sorted({row["exit"] for row in found})
        lines.append(
            f"| {ROWS[name][0]} | {medians[name]:.2f} | {', '.join(map(str, seconds))}"
            f" | {', '.join(map(str, codes))} | {'; '.join(row['found'] for row in found)} |"
        )
    if len(medians) == len(ROWS):
        ratio = medians["textbook, 98 points"] / medians["example, 98 points"]
        lines += ["", f"Textbook against the example, 98 points: {ratio:.0f} times."]
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path)
    parser.add_argument("--table", type=Path)
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    options = parser.parse_args()
    if options.table:
        print(table(json.loads(options.table.read_text())), end="")
        return 0
    rows: dict[str, list[dict]] = {}
    for name in options.rows:
        _, command, runs = ROWS[name]
        run(command, 0) if name == "example" else None  # compiled files are nobody's
        for seed in range(runs):
            rows.setdefault(name, []).append(run(command, seed))
            print(name, rows[name][-1], flush=True)
    host = f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, python "
    content = {"host": host + platform.python_version(), "versions": versions(), "rows": rows}
    if options.output:
        options.output.write_text(json.dumps(content, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
