"""Time and memory of the judge against the number of samples, layers and the width.

    python tests/benchmarks/judge_table.py [--output judge.md] [--quick]

Each row is one file of random controls (blobs, ten classes for the wide ones), judged in a process
of its own by every check but the certificate.  Second-order work is done although the file is not
stationary: the column "second order" times the reduced Hessian by both routes and its eigenvalues.
Rows that the output has already are kept: the same command again goes on where it stopped.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parents[2]
CASES = (  # n_d, N, n
    (194, 20, 3),
    (2000, 20, 3),
    (20000, 20, 3),
    (194, 80, 3),
    (194, 20, 8),
    (194, 20, 16),
    (2000, 20, 64),
    (60000, 20, 64),
)
CHECKS = (
    "statement",
    "geometry",
    "dissipativity",
    "turnpike",
    "reachability",
    "depth",
    "gap",
    "diagnosis",
)
HEAD = """# Time and memory of the judge

`python tests/benchmarks/judge_table.py --output tests/benchmarks/judge.md`
({about}; processor seconds of one thread; memory of the whole process).
Not checked: what the judge itself says it left out of such a file.

| n_d | N | n | d | checks, s | second order, s | peak MiB | not checked |
|---|---|---|---|---|---|---|---|
"""


def main() -> None:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--output", default="judge.md")
    parse.add_argument("--quick", action="store_true", help="the three smallest cases")
    parse.add_argument("--case", help=argparse.SUPPRESS)
    options = parse.parse_args()
    if options.case:
        print(json.dumps(measure(*json.loads(options.case))))
        return
    output = Path(options.output)
    text = output.read_text() if output.exists() else HEAD.format(about=about())
    for case in CASES[: 3 if options.quick else None]:
        if "\n| {} | {} | {} | ".format(*case) in text:
            continue
        command = [sys.executable, __file__, "--case", json.dumps(case)]
        done = subprocess.run(
            command, capture_output=True, text=True, check=True, cwd=ROOT, env=environment()
        )
        found = json.loads(done.stdout)
        cells = (*case, found["d"], f"{found['checks']:.1f}", found["hessian"], found["peak"])
        row = "| " + " | ".join(map(str, (*cells, found["skipped"]))) + " |"
        print(row, flush=True)
        text += row + "\n"
        output.write_text(text)


def about() -> str:
    """Processor and versions."""
    from ocp.versions import versions

    lines = Path("/proc/cpuinfo").read_text().splitlines() if sys.platform == "linux" else []
    model = next((line.partition(":")[2].strip() for line in lines if "model name" in line), "")
    made_with = versions("safetensors", "python-flint")
    return ", ".join([model, *(f"{name} {version}" for name, version in made_with.items())])


def environment() -> dict[str, str]:
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    return os.environ | threads | {"PYTHONPATH": str(ROOT)}


def measure(n_d: int, N: int, n: int) -> dict:
    """Judge one file in this process; seconds are processor time of one thread."""
    import numpy as np

    from ocp import controls, datasets, files
    from ocp.problem import Problem
    from verification.api import verify
    from verification.evaluation.subject import Facts

    inputs, labels = datasets.blobs(n_d, 10 if n >= 10 else 2)
    problem = Problem(
        inputs=inputs, labels=labels, n_classes=int(labels.max()) + 1, depth=N, width=n
    )
    u = controls.random_start(problem, np.random.default_rng(0), 1 / n)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.safetensors"
        files.save(path, files.TrainingFile(problem=problem, controls=u))
        start = time.process_time()
        # the Newton distance of first_order forms the Hessian: timed apart
        report = verify(path, only=CHECKS)
        checks = time.process_time() - start
        facts = Facts(files.load(path))
        start = time.process_time()
        _ = facts.gradient
        checks += time.process_time() - start
        skipped = [e.name for e in report.entries if e.verdict.value == "not checked"]
        seconds = facts.too_large and "not formed"
        if not facts.too_large:
            start = time.process_time()
            _ = facts.hessian
            seconds = f"{time.process_time() - start:.2f}"
        else:
            skipped += ["second_order", "newton_distance"]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    return {
        "d": problem.n_decision,
        "checks": checks,
        "hessian": seconds,
        "peak": peak,
        "skipped": ", ".join(skipped),
    }


if __name__ == "__main__":
    main()
