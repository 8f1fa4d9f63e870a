"""Many starts on any executor, resumable from a folder; the best strict minimum is the answer.

Each seed is one task: it solves by depth growth and writes its training file and its record into
the folder, atomically.  What is there is not solved again, so an interrupted run goes on, and
equal seeds give equal files whatever the number of workers.

Training problems have many local minima: the table keeps all distinct ones, and "best" means the
best found, never the global optimum.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from threadpoolctl import threadpool_limits

from .. import description, files
from ..atomic import write_atomically
from ..evaluation.depth import depth_used
from ..problem import Problem
from ..solvers import DEFAULT
from ..solvers.progress import Progress, Report, silent
from ..solvers.solution import Status
from .growth import GrowthOptions, grow

#: solved minima whose objectives differ by less, relatively, count as one
SAME = 1e-9
PROBLEM = "problem.json"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What became of one seed; NaN-free, as read from its record."""

    seed: int
    status: str
    objective: float | None
    grad_inf_norm: float | None
    min_curvature: float | None
    depth_used: int | None
    iterations: int
    seconds: float
    message: str = ""

    @property
    def solved(self) -> bool:
        return self.status == Status.SOLVED.name


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class MultiStart:
    """All starts, and the distinct minima, best first, each with the seeds that found it."""

    starts: tuple[Start, ...]
    optima: tuple[tuple[Start, tuple[int, ...]], ...]

    @property
    def best(self) -> Start | None:
        """The best strict minimum found, or None."""
        return self.optima[0][0] if self.optima else None


def multistart(
    problem: Problem,
    seeds: Iterable[int],
    folder: str | os.PathLike,
    *,
    solver: str = DEFAULT,
    options: GrowthOptions | None = None,
    executor: concurrent.futures.Executor | None = None,
    report: Report = silent,
) -> MultiStart:
    """Solve from every seed and return what was found; see the module's text.

    solver : its name; the folder and the workers know it by that
    executor : any `concurrent.futures.Executor`; None solves one after the other here
    folder : made if it is missing; refused if it holds runs of another problem

    Raises
    ------
    ValueError : the folder belongs to another problem or other options
    KeyboardInterrupt : after what has been finished was kept; the same call goes on from there
    """
    folder, options = Path(folder), options or GrowthOptions()
    seeds = list(dict.fromkeys(seeds))
    folder.mkdir(parents=True, exist_ok=True)
    _claim(folder, problem, solver, options)
    open_seeds = [seed for seed in seeds if not _record(folder, seed).exists()]
    done = len(seeds) - len(open_seeds)
    if executor is None:
        for seed in open_seeds:
            start = solve_seed(problem, seed, solver, options, str(folder))
            done += 1
            _tell(report, problem, start, done, len(seeds))
    else:
        futures = {
            executor.submit(solve_seed, problem, seed, solver, options, str(folder)): seed
            for seed in open_seeds
        }
        try:
            for future in concurrent.futures.as_completed(futures):
                start = future.result()
                if not _record(folder, start.seed).exists():  # a worker on another machine
                    write_atomically(_record(folder, start.seed), _encode(start))
                done += 1
                _tell(report, problem, start, done, len(seeds))
        except KeyboardInterrupt:
            for future in futures:
                future.cancel()
            raise
    return collect(folder, seeds)


def solve_seed(
    problem: Problem, seed: int, solver: str, options: GrowthOptions, folder: str
) -> Start:
    """Solve from one seed and write `seed_K.safetensors` and `seed_K.json` into the folder."""
    with threadpool_limits(1):
        found = grow(problem, solver, seed=seed, options=options)
        used = depth_used(found.problem, found.controls)
    if found.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    record = found.report.to_json()
    start = Start(
        seed=seed,
        status=found.status.name,
        depth_used=used,
        **{
            name: record[name]
            for name in Start.__slots__
            if name not in ("seed", "status", "depth_used")
        },
    )
    # the seconds differ from run to run, the training file must not: they are in the record alone
    files.save(solution_path(folder, seed), found.to_file())
    write_atomically(_record(Path(folder), seed), _encode(start))
    return start


def collect(folder: str | os.PathLike, seeds: Iterable[int]) -> MultiStart:
    """Read the records of the seeds and group the strict minima by objective."""
    starts = tuple(_decode(_record(Path(folder), seed)) for seed in seeds)
    solved = [(s.objective, s.seed, s) for s in starts if s.solved and s.objective is not None]
    groups: list[tuple[float, Start, list[int]]] = []
    for J, seed, start in sorted(solved, key=lambda found: found[:2]):
        if groups and J - groups[-1][0] <= SAME * abs(J):
            groups[-1][2].append(seed)
        else:
            groups.append((J, start, [seed]))
    optima = tuple((best, tuple(seeds)) for _, best, seeds in groups)
    return MultiStart(starts=starts, optima=optima)


def table(found: MultiStart) -> str:
    """Return the distinct minima as a markdown table, best first, then what did not end well."""
    lines = [
        "| rank | objective | found by seeds | least curvature | max abs dJ/du | depth used | s |",
        "|---|---|---|---|---|---|---|",
    ]
    for rank, (start, seeds) in enumerate(found.optima, 1):
        lines.append(
            f"| {rank} | {start.objective:.10f} | {', '.join(map(str, seeds))}"
            f" | {start.min_curvature:.2e} | {start.grad_inf_norm:.1e}"
            f" | {start.depth_used} | {start.seconds:.1f} |"
        )
    for start in found.starts:
        if not start.solved:
            lines.append(f"| - | {start.status} | {start.seed} | | | | {start.seconds:.1f} |")
    return "\n".join(lines) + "\n"


def solution_path(folder: str | os.PathLike, seed: int) -> Path:
    """Where the training file of a seed lies."""
    return Path(folder) / f"seed_{seed}.safetensors"


def _claim(folder: Path, problem: Problem, solver: str, options: GrowthOptions) -> None:
    """Write down whose runs the folder holds, or refuse a folder of other runs."""
    claim = {
        "problem": description.describe(problem),
        "solver": solver,
        "growth": dataclasses.asdict(options),
    }
    text = json.dumps(claim, indent=1, sort_keys=True)
    path = folder / PROBLEM
    if not path.exists():
        write_atomically(path, text.encode())
    elif path.read_text() != text:
        raise ValueError(
            f"{folder} holds the starts of another problem or of other options;"
            " wanted an empty folder or the same run"
        )


def _record(folder: Path, seed: int) -> Path:
    return folder / f"seed_{seed}.json"


def _encode(start: Start) -> bytes:
    return json.dumps(dataclasses.asdict(start), indent=1).encode()


def _decode(path: Path) -> Start:
    try:
        return Start(**json.loads(path.read_text()))
    except (ValueError, TypeError):
        raise ValueError(f"{path} is no record of a start; remove it to solve again") from None


def _tell(report: Report, problem: Problem, start: Start, done: int, total: int) -> None:
    value = "" if start.objective is None else f", J = {start.objective:.8f}"
    message = f"start {done} of {total}: seed {start.seed} {start.status}{value}"
    report(Progress(depth=problem.depth, message=message))
