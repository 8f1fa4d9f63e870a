"""What `python -m ocp multistart` does."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import multiprocessing
from collections.abc import Iterator

from rich.console import Console

from .. import description, files
from ..atomic import check_writable, write_atomically
from ..continuation.growth import GrowthOptions
from ..continuation.multistart import multistart, solution_path, table
from . import console as show


def execute(options: argparse.Namespace) -> int:
    """Solve from all seeds, write the table and the best solution; return the exit code."""
    for name in ("starts", "workers"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} is {getattr(options, name)}; wanted at least 1")
    source = options.source
    if source.suffix in (".toml", ".json"):
        problem = description.load(source)
    else:
        problem = files.load(source, data=options.data).problem
    show.print_cautions(problem)
    options.output.mkdir(parents=True, exist_ok=True)
    check_writable(options.output)
    console = Console()
    seeds = range(options.seed, options.seed + options.starts)
    with _executor(options) as executor, show.reporting(console) as report:
        found = multistart(
            problem,
            seeds,
            options.output,
            solver=options.solver,
            options=GrowthOptions(tolerance=options.tolerance),
            executor=executor,
            report=report,
        )
    write_atomically(options.output / "table.md", table(found).encode())
    solved = sum(start.solved for start in found.starts)
    console.print(
        f"{solved} of {options.starts} starts SOLVED, {len(found.optima)} distinct minima"
    )
    if found.best is None:
        return show.EXIT_NOT_SOLVED
    best = solution_path(options.output, found.best.seed)
    write_atomically(options.output / "best.safetensors", best.read_bytes())
    console.print(f"best found: J = {found.best.objective:.10f} (seed {found.best.seed})")
    console.print(f"written to {options.output}: best.safetensors, table.md", highlight=False)
    return show.EXIT_OK


@contextlib.contextmanager
def _executor(options: argparse.Namespace) -> Iterator[concurrent.futures.Executor | None]:
    """Dask's executor, own processes, or None for one worker here."""
    if options.scheduler:
        try:
            from distributed import Client
        except ImportError:
            raise ImportError(
                "--scheduler wants Dask: pip install 'turnpike-ocp[cluster]'"
            ) from None
        with Client(options.scheduler) as client:
            yield client.get_executor()
    elif options.workers > 1:
        context = multiprocessing.get_context("spawn")  # a fork would copy BLAS in mid-flight
        with concurrent.futures.ProcessPoolExecutor(options.workers, mp_context=context) as pool:
            yield pool
    else:
        yield None
