"""Time every solver on the default spirals, row by row, and write the table.

    python tests/benchmarks/compare_solvers.py --output DIR [--methods NAME ...] [--seeds K]

Each solve is a child process with one thread; a row is one JSON file in DIR, and rows that are
there are not run again.  A row that exceeds --row-seconds is recorded as such.  Gradient and
curvature of every row are recomputed by PyTorch's automatic differentiation of an objective that
is written from the statement alone (torch_objective.py).  Then solvers.md and solvers.json are
written from all rows in DIR.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

from ocp.atomic import write_atomically

TOLERANCE = 1e-8
#: variables up to which gradient and curvature are recomputed by automatic differentiation
RECOMPUTED_UP_TO = 1500


def main(arguments: list[str] | None = None) -> int:
    options = _parse(arguments)
    if options.row:
        method, seed = options.row
        _solve(method, int(seed), options.output)
        return 0
    from rivals import METHODS

    options.output.mkdir(parents=True, exist_ok=True)
    for name in options.methods or METHODS:
        count = min(METHODS[name].seeds, options.seeds)
        for seed in range(options.first_seed, options.first_seed + count):
            path = options.output / f"{name}-{seed}.json"
            if not path.exists():
                _run_row(name, seed, path, options.row_seconds)
                print(path.stem, json.loads(path.read_text()).get("seconds"), flush=True)
    from solver_table import write_table

    write_table(options.output, METHODS)
    return 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--output", type=Path, required=True, help="folder of the rows")
    parser.add_argument("--methods", nargs="*", help="only these")
    parser.add_argument("--seeds", type=int, default=99, help="at most so many seeds a method")
    parser.add_argument("--first-seed", type=int, default=0, help="of each method (0)")
    parser.add_argument("--row-seconds", type=float, default=400, help="limit of one solve (400)")
    parser.add_argument("--row", nargs=2, metavar=("METHOD", "SEED"), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def _run_row(name: str, seed: int, path: Path, limit: float) -> None:
    """Solve in a child process with one thread, within the limit."""
    environment = dict(os.environ)
    for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        environment[variable] = "1"
    command = [sys.executable, __file__, "--output", str(path.parent), "--row", name, str(seed)]
    try:
        # the child gets 60 s more to start and to recompute; it watches its own solve
        done = subprocess.run(
            command, env=environment, timeout=limit + 60, capture_output=True, text=True
        )
        failure = done.stderr.strip().splitlines()[-1:] if done.returncode else None
    except subprocess.TimeoutExpired:
        failure = [f"over {limit:.0f} s"]
    if failure is not None:
        row = {"method": name, "seed": seed, "failure": " ".join(failure), "limit": limit}
        write_atomically(path, json.dumps(row, indent=1).encode())


def _solve(name: str, seed: int, folder: Path) -> None:
    """Run one row and write its JSON; the clocks stand around the solve alone."""
    import resource

    from rivals import METHODS

    from ocp import datasets
    from ocp.controls import flatten
    from ocp.evaluation.rollout import logits, rollout
    from ocp.problem import Problem
    from ocp.versions import versions

    method = METHODS[name]
    inputs, labels = datasets.spirals(method.points_per_class)
    problem = Problem(
        inputs=inputs, labels=labels, n_classes=2, depth=method.depth, width=method.width
    )
    if name.startswith(("torch", "scipy", "ipopt", "fatrop")):
        _warm_up(name)
    wall, cpu = time.perf_counter(), time.process_time()
    controls, iterations, said = method.run(problem, seed, TOLERANCE)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    z = logits(problem, controls, rollout(problem, controls).X[-1])
    u = flatten(controls)
    row = {
        "method": name,
        "seed": seed,
        "points": problem.n_samples,
        "depth": problem.depth,
        "width": problem.width,
        "seconds": wall,
        "cpu_seconds": cpu,
        "iterations": iterations,
        "said": said,
        "memory_mb": memory,
        "right": int((z.argmax(axis=1) == labels).sum()),
        "u": u.tolist(),
        "versions": versions("casadi", "torch"),
        "host": _host(),
    }
    write_atomically(folder / f"{name}-{seed}.json", json.dumps(row).encode())
    if len(u) <= RECOMPUTED_UP_TO:
        from torch_objective import recomputed

        J, gradient, curvature = recomputed(problem, u)
        row |= {"objective": J, "grad_inf_norm": gradient, "min_curvature": curvature}
        write_atomically(folder / f"{name}-{seed}.json", json.dumps(row).encode())


def _warm_up(name: str) -> None:
    """Load libraries before the clock starts."""
    if name.startswith("torch"):
        import torch

        torch.set_num_threads(1)
    elif name.startswith("scipy"):
        import scipy.optimize  # noqa: F401
    else:
        import casadi  # noqa: F401


def _host() -> str:
    model = platform.processor() or platform.machine()
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    except OSError:
        pass
    return f"{model}, {os.cpu_count()} cores, {platform.system()}"


if __name__ == "__main__":
    sys.exit(main())
