"""Many starts on any executor, resumable from a folder; the best strict minimum is the answer.

Each seed is one task: it solves by depth growth.  Its training file and then its record, which
holds the file's hash, are written into the folder whole.  What is there is not solved again, so an
interrupted run goes on, and equal seeds give equal files whatever the number of workers.  The
folder is one run's at a time, and nobody else writes there.

Training problems have many local minima: the table keeps all distinct ones, and "best" means the
best found, never the global optimum.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from .. import description, files, interrupts, run_folder
from ..atomic import write_atomically
from ..evaluation.depth import depth_used
from ..files import TrainingFile
from ..problem import Problem
from ..solvers import DEFAULT, as_solver
from ..solvers.progress import Progress, Report, silent
from ..solvers.solution import Status
from ..validation import at_least, integer, number, one_of
from .growth import GrowthOptions, grow

#: solved minima whose objectives differ by less, relatively, count as one
SAME = 1e-9
PROBLEM, TABLE, BEST = "problem.json", "table.md", "best.safetensors"


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """What became of one seed; NaN-free, as read from its record.

    sha256 : of the bytes of its training file
    """

    seed: int
    status: str
    objective: float | None
    grad_inf_norm: float | None
    min_curvature: float | None
    depth_used: int | None
    iterations: int
    seconds: float
    message: str = ""
    sha256: str = ""

    def __post_init__(self) -> None:
        integer("seed", self.seed, 0)
        one_of("status", self.status, Status.__members__)
        for name in ("objective", "min_curvature"):
            if getattr(self, name) is not None or self.solved:
                number(name, getattr(self, name))
        if self.grad_inf_norm is not None or self.solved:
            at_least("grad_inf_norm", self.grad_inf_norm, 0)
        if self.depth_used is not None:
            integer("depth_used", self.depth_used, 0)
        integer("iterations", self.iterations, 0)
        at_least("seconds", self.seconds, 0)
        if not isinstance(self.message, str):
            raise ValueError(f"message is {self.message!r}; wanted a text")
        if not re.fullmatch("([0-9a-f]{64})?", str(self.sha256)):
            raise ValueError(f"sha256 is {self.sha256!r}; wanted 64 hexadecimal digits")

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

    The folder then holds the table and the best strict minimum, too.

    solver : its name; the folder and the workers know it by that
    executor : any `concurrent.futures.Executor`; None solves one after the other here
    folder : made if it is missing; refused if it holds runs of another problem, or is in use

    Raises
    ------
    ValueError : the folder belongs to another problem or other options; what is there is damaged
    OSError : a worker died; what was finished is kept
    KeyboardInterrupt : after what has been finished was kept; the same call goes on from there
    """
    folder, options = Path(folder), options or GrowthOptions()
    seeds = [integer("seed", seed, 0) for seed in dict.fromkeys(seeds)]
    as_solver(solver)
    with run_folder.claimed(folder):
        _claim(folder, problem, solver, options)
        open_seeds = [seed for seed in seeds if not _is_done(folder, seed)]
        done = len(seeds) - len(open_seeds)
        for start in _solved(problem, open_seeds, folder, solver, options, executor):
            done += 1
            _tell(report, problem, start, done, len(seeds))
        found = collect(folder, seeds)
        with interrupts.shielded():
            made = {TABLE: table(found).encode()}
            if found.best is not None:
                made[BEST] = solution_path(folder, found.best.seed).read_bytes()
            for name, content in made.items():
                if not (folder / name).exists() or (folder / name).read_bytes() != content:
                    write_atomically(folder / name, content)
    return found


def _solved(
    problem: Problem,
    seeds: list[int],
    folder: Path,
    solver: str,
    options: GrowthOptions,
    executor: concurrent.futures.Executor | None,
) -> Iterator[Start]:
    """Solve from the seeds, keep each as soon as it is there, and yield it."""
    if executor is None:
        for seed in seeds:
            yield _keep(folder, *solve_seed(problem, seed, solver, options))
        return
    waiting = {executor.submit(solve_seed, problem, seed, solver, options) for seed in seeds}
    try:
        for future in concurrent.futures.as_completed(set(waiting)):
            waiting.discard(future)
            yield _keep(folder, *future.result())
    except BaseException as error:
        with interrupts.shielded():
            for future in waiting:
                if not future.cancel() and future.done() and future.exception() is None:
                    _keep(folder, *future.result())
        broken = (concurrent.futures.BrokenExecutor, concurrent.futures.CancelledError)
        if isinstance(error, broken):
            raise OSError(
                "a worker died; the finished starts are kept, the same command goes on"
            ) from None
        raise


def solve_seed(
    problem: Problem, seed: int, solver: str, options: GrowthOptions
) -> tuple[Start, TrainingFile]:
    """Solve from one seed, in a worker; it writes nothing."""
    with threadpool_limits(1):
        found = grow(problem, solver, seed=seed, options=options)
        used = depth_used(found.problem, found.controls)
    if found.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    record = found.report.to_json()
    own = ("seed", "status", "depth_used", "sha256")
    start = Start(
        seed=seed,
        status=found.status.name,
        depth_used=used,
        **{name: record[name] for name in Start.__slots__ if name not in own},
    )
    return start, found.to_file()


def collect(folder: str | os.PathLike, seeds: Iterable[int]) -> MultiStart:
    """Read the records of the seeds and group the strict minima by objective."""
    starts = tuple(_decode(_record(Path(folder), seed), seed) for seed in seeds)
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
    elif path.read_bytes() != text.encode():
        raise ValueError(
            f"{folder} holds the starts of another problem or of other options"
            f" ({'; '.join(_changes(path, json.loads(text)))}); wanted an empty folder or the same"
            " run"
        )


def _changes(path: Path, wanted: dict) -> list[str]:
    """Name what differs between a claim that was written down and the wanted one."""
    try:
        found = description.loads_json(path.read_text())
        theirs, ours = _flat(found), _flat(wanted)
    except (ValueError, AttributeError, RecursionError):
        return [f"{path.name} is damaged"]
    return [
        f"{key} was {theirs.get(key)!r:.60}, is {ours.get(key)!r:.60}"
        for key in sorted(set(theirs) | set(ours))
        if theirs.get(key) != ours.get(key)
    ] or [f"{path.name} is written in another way"]


def _flat(value: Any, name: str = "") -> dict:
    """The entries of nested tables by their last name."""
    if not isinstance(value, dict):
        return {name: value}
    return {k: v for key, inner in value.items() for k, v in _flat(inner, key).items()}


def _record(folder: Path, seed: int) -> Path:
    return folder / f"seed_{seed}.json"


def _keep(folder: Path, start: Start, content: TrainingFile) -> Start:
    """Write what became of a seed: the training file, then the record, with the file's hash."""
    path = solution_path(folder, start.seed)
    with interrupts.shielded():
        files.save(path, content)
        start = dataclasses.replace(start, sha256=_sha256(path))
        # the seconds differ from run to run, the training file must not: they are here alone
        text = json.dumps(dataclasses.asdict(start), indent=1)
        write_atomically(_record(folder, start.seed), text.encode())
    return start


def _is_done(folder: Path, seed: int) -> bool:
    """Whether a seed has its record and its training file, which must belong together."""
    record, path = _record(folder, seed), solution_path(folder, seed)
    if not record.exists():
        return False
    start = _decode(record, seed)
    if not path.exists():
        return False  # solved again
    if _sha256(path) != start.sha256:
        raise ValueError(
            f"{path} is not the training file that {record.name} tells of; remove both to solve"
            " again"
        )
    return True


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _decode(path: Path, seed: int) -> Start:
    """Read a record; every field is checked."""
    try:
        found = description.loads_json(path.read_text())
        if not isinstance(found, dict) or set(found) != set(Start.__slots__):
            raise ValueError(f"wanted the keys {', '.join(Start.__slots__)}")
        start = Start(**found)
        if start.seed != seed:
            raise ValueError(f"seed is {start.seed}")
    except (ValueError, TypeError, RecursionError) as error:
        raise ValueError(
            f"{path} is no record of a start ({error}); remove it to solve again"
        ) from None
    return start


def _tell(report: Report, problem: Problem, start: Start, done: int, total: int) -> None:
    value = "" if start.objective is None else f", J = {start.objective:.8f}"
    message = f"start {done} of {total}: seed {start.seed} {start.status}{value}"
    report(Progress(depth=problem.depth, message=message))
