"""Rows of a study: computed once each on any executor, kept one by one, then tables and figures.

A row is what a function makes of a dictionary of parameters; its name holds their hash.  Finished
rows are written whole, each to a file of its own, and never computed again: an interrupted study
goes on where it was, and the tables do not depend on the number of workers or on their order.
Seconds differ from run to run, so they stay out of the tables and go to a summary of their own.

    rows/NAME.json              parameters, results, versions and seconds of one row, and the
                                sha256 of the files beside it
    rows/NAME.FILE              what else the row made: its training file, its report
    STUDY_PART.csv              one line a row; figures are drawn from these tables alone
    STUDY_common.json           what is the same in all lines of a table: options, versions
    STUDY_cost.json             how many rows, how many processor seconds
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import csv_tables
import executors
import study_rows
from study_rows import Task

from ocp import interrupts, run_folder, temporary
from ocp.atomic import write_atomically
from ocp.outputs import check_folder

#: columns that a table keeps even where all its lines agree
KEPT = ("row", "seed", "J", "status", "exit_code")
Files = dict[str, bytes]
#: (parameters, files of earlier rows) -> (results, files)
Compute = Callable[[dict, Files], tuple[dict, Files]]


class OutOfTime(Exception):
    """The minutes are over; what has been finished is kept."""


def parser(description: str, name: str) -> argparse.ArgumentParser:
    """Return the options that all studies have."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = made.add_argument
    add("--output", type=Path, default=Path("output") / name, help="folder of rows and tables")
    add("--workers", type=int, default=2, help="processes, one thread each (2)")
    add("--cluster", metavar="ADDRESS", help="Dask scheduler, or 'local' for one of --workers")
    add("--minutes", type=float, default=math.inf, help="stop then; the same command goes on")
    add("--from-tables", type=Path, metavar="DIR", help="compute nothing, draw from these tables")
    add("--quick", action="store_true", help="a small case of every part: seconds")
    return made


def parsed(
    made: argparse.ArgumentParser, arguments: Sequence[str], **quick: object
) -> argparse.Namespace:
    """Return the options; refuse those that would be ignored.

    quick : defaults under --quick, which overrides nothing that was given
    """
    options = made.parse_args(arguments)
    names = list(vars(options))
    found = made.parse_args(arguments, argparse.Namespace(**dict.fromkeys(names)))
    given = [name for name in names if getattr(found, name) is not None]
    if options.from_tables is not None:
        for name in given:
            if name not in ("from_tables", "output"):
                option = f"--{name.replace('_', '-')}"
                raise ValueError(f"{option} is given with --from-tables, which computes nothing")
    if "workers" in given and options.cluster not in (None, "local"):
        raise ValueError("--workers is given with --cluster, whose workers are there already")
    if options.quick:
        made.set_defaults(**quick)
        options = made.parse_args(arguments)
    return options


class Study:
    """Owns the output folder of one study and the executor that its rows run on."""

    def __init__(self, name: str, options: argparse.Namespace, console) -> None:
        if options.workers < 1:
            raise ValueError(f"--workers is {options.workers}; wanted at least 1")
        if not options.minutes > 0:
            raise ValueError(f"--minutes is {options.minutes}; wanted more than 0")
        self.name, self.console, self.folder = name, console, options.output
        self.deadline = time.monotonic() + 60 * options.minutes
        self.workers, self.cluster = options.workers, options.cluster
        self.rows_folder = self.folder / "rows"
        self.seen: dict[str, dict] = {}
        self.common: dict[str, dict] = {}
        self.tables: dict[str, bytes] = {}
        self._executor: concurrent.futures.Executor | None = None
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Study:
        names = [f"{self.name}_{record}.json" for record in ("common", "cost")]
        run_folder.check("--output", self.folder, names)
        with contextlib.ExitStack() as stack:
            stack.enter_context(run_folder.claimed(self.folder))
            check_folder("--output", self.rows_folder, ["row.json"])
            self.rows_folder.mkdir(exist_ok=True)
            temporary.remove_stale(self.rows_folder)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error) -> None:
        self._stack.__exit__(*error)

    def rows(self, compute: Compute, tasks: Sequence[Task]) -> list[dict]:
        """Return the rows of all tasks, in their order, computing those that are not there.

        Raises
        ------
        ValueError : some rows could not be computed (the others are kept), or one is damaged
        OutOfTime, KeyboardInterrupt : finished rows are kept
        """
        kept = {task.name for task in tasks if study_rows.is_done(self.rows_folder, task)}
        todo = [task for task in tasks if task.name not in kept]
        failures: list[str] = []
        done, begun = len(tasks) - len(todo), time.monotonic()
        for task, outcome in self._outcomes(compute, todo):
            if isinstance(outcome, Exception):
                failures.append(f"{task.name}: {outcome}")
                self._say(f"{failures[-1]}")
                continue
            row, produced = outcome
            with interrupts.shielded():
                for file, content in produced.items():
                    write_atomically(self.rows_folder / f"{task.name}.{file}", content)
                write_atomically(study_rows.path_of(self.rows_folder, task), study_rows.encode(row))
            done += 1
            left = (time.monotonic() - begun) / (done + len(todo) - len(tasks))
            self._say(
                f"{task.part} {done} of {len(tasks)}: {task.label}, {row['cpu_seconds']:.1f} s,"
                f" about {left * (len(tasks) - done) / 60:.1f} min left in this part"
            )
        if failures:
            more = f" and {len(failures) - 1} more" if len(failures) > 1 else ""
            raise ValueError(f"row {failures[0]}{more}; the finished rows are kept")
        found = [study_rows.read(self.rows_folder, task) for task in tasks]
        self.seen.update({row["name"]: row for row in found})
        return found

    def table(self, part: str, lines: Sequence[dict]) -> None:
        """Make STUDY_PART.csv; what is the same in all of many lines goes to the record."""
        constant, first = {}, lines[0] if len(lines) >= 3 else {}
        for name, value in first.items():
            if name not in KEPT and all(line.get(name, line) == value for line in lines):
                constant[name] = value
        lines = [{k: v for k, v in line.items() if k not in constant} for line in lines]
        self.common[part] = csv_tables.plain(constant)
        self.tables[part] = csv_tables.encode(lines).encode()

    def write(self) -> None:
        """Write all tables, what the rows of each have in common, and what they cost.

        The record names the tables that belong together and comes last.
        """
        (self.folder / f"{self.name}_common.json").unlink(missing_ok=True)
        for part, content in self.tables.items():
            write_atomically(self.folder / f"{self.name}_{part}.csv", content)
        parts: dict[str, dict] = {}
        for row in self.seen.values():
            part = parts.setdefault(row["part"], {"rows": 0, "cpu_seconds": 0.0})
            part["rows"] += 1
            part["cpu_seconds"] = round(part["cpu_seconds"] + row["cpu_seconds"], 2)
        total = round(sum(part["cpu_seconds"] for part in parts.values()) / 60, 1)
        for name, record in (
            ("cost", {"cpu_minutes": total, "parts": parts}),
            ("common", self.common),
        ):
            text = json.dumps(record, indent=1, sort_keys=True) + "\n"
            write_atomically(self.folder / f"{self.name}_{name}.json", text.encode())

    def _outcomes(self, compute: Compute, todo: Sequence[Task]) -> Iterator[tuple[Task, object]]:
        if not todo:
            return
        if self.workers == 1 and not self.cluster:
            for task in todo:
                self._check_time()
                yield task, _attempt(compute, task, self._given(task))
            return
        if self._executor is None:
            self._executor = self._stack.enter_context(
                executors.started(self.workers, self.cluster)
            )
        futures: dict[concurrent.futures.Future, Task] = {}
        try:
            yield from self._finished(self._executor, compute, todo, futures)
        except concurrent.futures.BrokenExecutor:
            raise OSError(
                "a worker died; finished rows are kept, the same command goes on"
            ) from None
        except concurrent.futures.CancelledError:
            raise OSError(
                "the cluster was lost; finished rows are kept, the same command goes on"
            ) from None
        except OutOfTime:
            for future in concurrent.futures.as_completed(futures):
                yield futures[future], future.result()
            raise
        except KeyboardInterrupt:
            for future in list(futures):  # what is there already is kept
                if not future.cancel() and future.done() and future.exception() is None:
                    yield futures.pop(future), future.result()
            raise

    def _finished(
        self,
        executor: concurrent.futures.Executor,
        compute: Compute,
        todo: Sequence[Task],
        futures: dict[concurrent.futures.Future, Task],
    ) -> Iterator[tuple[Task, object]]:
        """Submit the tasks and yield them as they end; `futures` holds those under way."""
        waiting = iter(todo)
        while True:
            # few at a time: what was submitted is what is lost when time is over
            while len(futures) < 2 * self._width() and (task := next(waiting, None)):
                self._check_time()
                given = self._given(task)
                futures[executor.submit(_attempt, compute, task, given)] = task
            if not futures:
                return
            finished, _ = concurrent.futures.wait(
                futures, return_when=concurrent.futures.FIRST_COMPLETED
            )
            for future in finished:
                yield futures.pop(future), future.result()

    def _width(self) -> int:
        return self.workers if not self.cluster or self.cluster == "local" else 256

    def _given(self, task: Task) -> Files:
        return {name: (self.rows_folder / file).read_bytes() for name, file in task.given.items()}

    def _check_time(self) -> None:
        if time.monotonic() > self.deadline:
            raise OutOfTime

    def _say(self, text: str) -> None:
        self.console.print(text, soft_wrap=True)


def conduct(
    name: str,
    options: argparse.Namespace,
    compute: Callable[[argparse.Namespace, Study], None],
    draw: Callable[[dict[str, list[dict]]], dict],
) -> int:
    """Compute a study's rows and tables, then draw its figures from the tables; the exit code."""
    from ocp import exits
    from ocp.terminal import console as console_for

    console = console_for()
    tables, more = options.from_tables, ""
    with contextlib.ExitStack() as stack:
        if tables is None:
            tables, more = options.output, ", tables"
            try:
                held = stack.enter_context(Study(name, options, console))
                compute(options, held)
                held.write()
            except OutOfTime:
                console.print("time is over; the same command goes on from here")
                return exits.FAILED
            figures = drawn(name, tables, draw)
        else:
            figures = drawn(name, tables, draw)
            stack.enter_context(run_folder.claimed(options.output))
        for figure, made in figures.items():
            csv_tables.save_figure(made, options.output, figure)
    console.print(f"written to {options.output}: {', '.join(figures)} (PDF, PNG){more}")
    return exits.OK


def drawn(name: str, folder: Path, draw) -> dict:
    """Return the figures of a study by name, drawn from the tables in a folder."""
    import matplotlib as mpl

    from ocp import figures

    path = folder / f"{name}_common.json"
    if not path.exists():
        raise ValueError(f"{folder} holds no tables of the study {name}")
    try:  # only the tables that were written together with this record
        common = dict(json.loads(path.read_text()).items())
        tables = {}
        for part in common:
            path = folder / f"{name}_{part}.csv"
            tables[part] = [common[part] | line for line in csv_tables.read(path)]
            if not tables[part]:
                raise ValueError("no line")
    except (ValueError, TypeError, AttributeError, OSError) as error:
        raise ValueError(f"{path} is no table of the study {name}: {error}") from None
    try:
        with mpl.rc_context(figures.STYLE):
            return draw(tables)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise ValueError(
            f"{folder} holds no complete tables of the study {name}: {error!r}"
        ) from None


def _attempt(compute: Compute, task: Task, given: Files) -> tuple[dict, Files] | Exception:
    """Compute one row, in the worker; an error of this row alone is its outcome."""
    from threadpoolctl import threadpool_limits

    from ocp.versions import versions

    cpu, wall = time.process_time(), time.perf_counter()
    with threadpool_limits(1):
        try:
            result, produced = compute(task.parameters, given)
        except Exception as error:
            return RuntimeError(f"{type(error).__name__}: {error}")
    row = {
        "name": task.name,
        "part": task.part,
        "parameters": task.parameters,
        "given": task.given,
        "result": csv_tables.plain(result),
        "versions": versions("casadi", "torch", "python-flint"),
        "files": {name: study_rows.sha256(content) for name, content in sorted(produced.items())},
        "cpu_seconds": round(time.process_time() - cpu, 3),
        "wall_seconds": round(time.perf_counter() - wall, 3),
    }
    return row, produced
