"""Exact solves on real images: growth as it was, and layer by layer; the results judged.

    python tests/benchmarks/real_data.py FOLDER --judge > tests/benchmarks/real_data.md

One process solves all rows, with BLAS on one thread, and counts its own processor seconds; ratios
are of rows of one problem.  With --judge `python -m verification FILE --certify` judges the
first file of each problem in a process of its own.  FOLDER keeps rows and files: what is there is
not solved again (`--only` some rows).

    before      depths 1, 2, 4, N by Newton's method alone, one trial, general assembly of Hessians
    assembly    the same with the assembly for wide layers
    T = 1, 2, 4 layer by layer by L-BFGS with T trials, Newton's method at full depth
                (T = 4: `ocp solve`;  T = 2: `ocp.grow`)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import resource
import subprocess
import sys
import time
from pathlib import Path
from unittest import mock

import numpy as np
from threadpoolctl import threadpool_limits

import ocp
from nn_baseline import data
from ocp import files
from ocp.evaluation import assembly_wide
from ocp.lift import lift
from ocp.versions import versions

EXITS = {0: "all passed", 1: "failed", 3: "undecided"}


def digits(width: int, depth: int, r: float) -> ocp.Problem:
    """All 1797 of scikit-learn's digits; the readout is trained."""
    from sklearn.datasets import load_digits

    images = load_digits()
    inputs = images.data / 16.0
    E, e = lift("principal", width, inputs)
    return ocp.Problem(
        inputs=inputs, labels=images.target.astype(np.int64), n_classes=10, depth=depth,
        width=width, h=0.5, p_d=0.9, r=r, r_ends=1e-3, lift_weight=E, lift_bias=e,
        trained=("layers", "readout"),
    )  # fmt: skip


def mnist() -> ocp.Problem:
    """The 4000 embedded training images of MNIST; fixed ends."""
    images = data.load("mnist5k")
    inputs = images.inputs / 255.0
    E, e = lift("principal", 10, inputs)
    return ocp.Problem(
        inputs=inputs, labels=images.labels, n_classes=10, depth=6, width=10, h=0.5, p_d=0.9,
        r=1e-2, lift_weight=E, lift_bias=e,
    )  # fmt: skip


PROBLEMS = {
    "digits, n = 10, N = 10, r = 1e-3": lambda: digits(10, 10, 1e-3),
    "digits, n = 16, N = 6, r = 1e-2": lambda: digits(16, 6, 1e-2),
    "MNIST 4000, n = 10, N = 6, r = 1e-2": mnist,
}
ORDER = ("T = 4", "before", "T = 1", "T = 2", "assembly")
SEEDS = {"T = 4": (0, 1)}
COLUMNS = (
    "problem", "d", "way", "seed", "CPU s", "ratio", "status", "J", "least curvature",
    "Newton steps", "L-BFGS steps", "judge, with certificate", "its CPU s",
)  # fmt: skip


def solved(problem: ocp.Problem, way: str, seed: int, limit: float) -> tuple[ocp.Solution, float]:
    """Solve one row; return the solution and its processor seconds."""
    growth = ocp.GrowthOptions(trials=1, restarts=0, depths=(1, 2, 4, problem.depth))
    if way.startswith("T"):
        growth = ocp.GrowthOptions(trials=int(way[-1]))
    general = mock.patch.object(assembly_wide, "applies", lambda problem: False)
    with general if way == "before" else contextlib.nullcontext():
        begun = time.process_time()
        solver = ocp.solver_by_name("structured", max_seconds=limit)
        solution = ocp.grow(problem, solver, seed=seed, options=growth)
        return solution, time.process_time() - begun


def judged(path: Path) -> tuple[str, float]:
    """What the judge's exit code says, and its processor seconds."""

    def spent() -> float:
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        return usage.ru_utime + usage.ru_stime

    before = spent()
    command = [sys.executable, "-m", "verification", str(path), "--certify"]
    pinned = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    environment = os.environ | pinned
    code = subprocess.run(command, capture_output=True, check=False, env=environment).returncode
    return EXITS.get(code, f"exit {code}"), spent() - before


def row(name: str, way: str, seed: int, path: Path, limit: float) -> dict:
    problem = PROBLEMS[name]()
    solution, seconds = solved(problem, way, seed, limit)
    report = solution.report
    files.save(path, solution.to_file())
    newton = sum(line.step_length == line.step_length for line in report.trace)
    return {
        "problem": name, "d": problem.n_decision, "way": way, "seed": seed, "CPU s": seconds,
        "status": report.status.name, "J": report.objective, "limit": limit,
        "least curvature": report.min_curvature, "Newton steps": newton,
        "L-BFGS steps": report.iterations - newton,
    }  # fmt: skip


def table(rows: list[dict]) -> str:
    before = {r["problem"]: r for r in rows if r["way"] == "before"}
    unjudged = {"judge, with certificate": "", "its CPU s": np.nan}
    formats = {"CPU s": ".1f", "ratio": ".1f", "J": ".6f", "least curvature": ".1e"}
    lines = ["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS)]
    for r in sorted(rows, key=lambda r: (list(PROBLEMS).index(r["problem"]), r["CPU s"])):
        rival = before.get(r["problem"], {"CPU s": np.nan, "status": ""})
        own = {**unjudged, **r, "ratio": rival["CPU s"] / r["CPU s"]}
        cells = {
            c: format(own[c], formats.get(c, ".0f" if c == "its CPU s" else "")) for c in COLUMNS
        }
        if rival["status"] == "TIME_LIMIT":  # it would have taken longer
            cells["ratio"] = "> " + cells["ratio"]
        shown = ("" if "nan" in cell else cell for cell in cells.values())
        lines.append("| " + " | ".join(shown) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument(
        "--seconds", type=float, default=900, help="limit of each solve on the clock (900)"
    )
    parser.add_argument("--table", action="store_true", help="only what FOLDER holds")
    parser.add_argument("--judge", action="store_true", help="certificates, too: minutes each")
    parser.add_argument("--only", nargs="*", default=ORDER, help=f"of {', '.join(ORDER)}")
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    with threadpool_limits(1):
        for way in options.only:
            for number, name in enumerate(PROBLEMS):
                for seed in SEEDS.get(way, (0,)):
                    path = options.folder / f"{number}_{way.replace(' ', '')}_{seed}.safetensors"
                    kept = path.with_suffix(".json")
                    if options.table and not kept.exists():
                        continue
                    if not kept.exists():
                        found = row(name, way, seed, path, options.seconds)
                        kept.write_text(json.dumps(found))
                        print(found, file=sys.stderr, flush=True)
                    rows.append(json.loads(kept.read_text()))
    # a certificate takes longer than a solve: one for each problem
    for r in rows if options.judge else []:
        if (r["way"], r["seed"]) == (ORDER[0], 0):
            number = list(PROBLEMS).index(r["problem"])
            path = options.folder / f"{number}_{r['way'].replace(' ', '')}_0.safetensors"
            kept = path.with_suffix(".judge")
            if options.table and not kept.exists():
                continue
            if not kept.exists():
                kept.write_text(json.dumps(judged(path)))
            r["judge, with certificate"], r["its CPU s"] = json.loads(kept.read_text())
    used = ", ".join(f"{name} {version}" for name, version in versions().items())
    print("# Exact solves on real images\n")
    print("`python tests/benchmarks/real_data.py FOLDER --judge`\n")
    print(f"Host: {platform.machine()}, {platform.system()}; one thread.  Versions: {used}.")
    limits = sorted({r["limit"] for r in rows if "limit" in r})
    print("Processor seconds; *ratio*: of `before` to the row, same problem.")
    print(
        "Limit of each solve on the clock:", ", ".join(f"{limit:.0f} s" for limit in limits), "\n"
    )
    print(table(rows) + "\n")
    print("```" + __doc__.split("rows).")[1].rstrip() + "\n```")


if __name__ == "__main__":
    main()
