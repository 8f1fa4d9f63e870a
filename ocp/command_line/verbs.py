"""What the verbs of `python -m ocp` do."""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from .. import (
    data_files,
    data_options,
    description,
    exits,
    files,
    interrupts,
    run_folder,
    solvers,
    workers,
)
from ..atomic import write_atomically
from ..continuation import by_effort, growth_by_gain
from ..continuation import growth as continuation
from ..continuation.multistart import BEST, PROBLEM, TABLE, multistart
from ..continuation.search_options import SearchOptions
from ..controls import Controls, random_start
from ..data_options import DataOptions
from ..evaluation.depth import idle_from, layer_table
from ..outputs import check_outputs, inputs_of
from ..problem import Problem
from ..solvers.newton import polish
from ..solvers.progress import Report
from ..solvers.size import check_size
from ..solvers.solution import Solution, Status, interrupted
from ..terminal import console as console_for
from . import console as show


def execute(options: argparse.Namespace) -> int:
    """Do what the verb says; return the exit code."""
    if options.verb == "multistart":
        return _multistart(options)
    with interrupts.shielded():  # what was solved is written, whenever Ctrl-C comes
        return _one_solution(options)


def _one_solution(options: argparse.Namespace) -> int:
    """Read, check that the outputs can be written, solve, write, print; return the exit code."""
    _check(options)
    with interrupts.opened():
        content, says = _read(options)
    outputs = {"--output": options.output, "--json": options.json}
    check_outputs(outputs, inputs_of(options.source, options.data))
    wanted = content.problem
    if options.verb == "grow" and options.depth is not None:
        wanted = wanted.with_(depth=max(options.depth, wanted.depth))
    caution = check_size(wanted, options.solver or solvers.DEFAULT)
    console = console_for(*outputs.values())
    show.print_read(console, says)
    show.print_cautions(content.problem, caution)
    verb = {"solve": _solve, "polish": _polish, "grow": _grow}[options.verb]
    # a number out of range ends as a status, not as a warning with a line of source
    with threadpool_limits(1), np.errstate(all="ignore"):
        # what a solver prints itself (IPOPT's print_level) is words, too
        with contextlib.redirect_stdout(console.file), show.reporting(console) as report:
            solution = verb(options, content, report)
        test = {"test_inputs": content.test_inputs, "test_labels": content.test_labels}
        files.save(options.output, solution.to_file(**test, data=content.data))
        if options.json:
            text = json.dumps(solution.report.to_json(), indent=1)
            write_atomically(options.json, text.encode())
        layers = layer_table(solution.problem, solution.controls)
    show.print_layers(console, layers, idle_from(solution.controls))
    show.print_summary(console, solution)
    console.print(f"written to {options.output}")
    if solution.status is Status.INTERRUPTED:
        return exits.INTERRUPTED
    return exits.OK if solution.status is Status.SOLVED else exits.FAILED


def _check(options: argparse.Namespace) -> None:
    """Refuse option values that no solve could use."""
    _check_start(options)
    if options.max_iterations < 1:
        raise ValueError(f"--max-iterations is {options.max_iterations}; wanted at least 1")
    if not options.max_seconds >= 1:
        raise ValueError(f"--max-seconds is {options.max_seconds}; wanted at least 1")
    given = {name: getattr(options, name, None) for name in ("seed", "trials", "effort", "seconds")}
    budget = ("effort", "seconds")
    unused = (("warm", tuple(given)), ("cold", ("trials", *budget)), ("trials", budget))
    for start, ignored in (*unused, ("seconds", ("effort",))):
        # not by truth: 0 trials were given, too
        if getattr(options, start, None) not in (None, False):
            for name in ignored:
                if given[name] is not None:
                    raise ValueError(f"--{name} is given with --{start}, which does not use it")
    for name in budget if options.solver not in (None, solvers.DEFAULT) else ():
        if given[name] is not None:
            raise ValueError(f"--{name} is given with --solver {options.solver}, which grows")
    if options.verb == "solve":
        SearchOptions(effort=given["effort"] or "standard", seconds=given["seconds"])
    options.seed = given["seed"] or 0
    if options.seed < 0:
        raise ValueError(f"--seed is {options.seed}; wanted at least 0")
    if given["trials"] is not None and given["trials"] < 1:
        raise ValueError(f"--trials is {given['trials']}; wanted at least 1")
    _solver(options)  # refuses options that the solver does not take


def _check_start(options: argparse.Namespace) -> None:
    """What all verbs have."""
    if options.solver not in (None, *solvers.NAMES):
        raise ValueError(f"solver is {options.solver!r}; wanted one of {', '.join(solvers.NAMES)}")
    if not (np.isfinite(options.tolerance) and options.tolerance > 0):
        raise ValueError(f"tolerance is {options.tolerance}; wanted a number above 0")


def _read(options: argparse.Namespace) -> tuple[files.TrainingFile, str]:
    """Return what is to be solved, and what was read of people's data."""
    source: Path = options.source
    told = data_options.given(options) if options.verb in ("solve", "multistart") else {}
    if source.suffix == ".safetensors" or options.verb not in ("solve", "multistart"):
        data_options.refuse(told, "a training file holds its samples")
        return files.load(source, data=options.data), ""
    if getattr(options, "warm", False):
        raise ValueError(f"--warm wants a training file (.safetensors); {source} is none")
    if options.data is not None:
        raise ValueError("--data is given, but only a training file keeps its inputs elsewhere")
    if source.suffix in (".toml", ".json"):
        described = description.read(source, told)
        problem, dataset, says = described.problem, described.dataset, described.says
    else:
        dataset = data_files.read(source, options=DataOptions.of(told, "the options"))
        problem, says = dataset.problem(), dataset.says
    for sentence in dataset.cautions:
        show.print_caution(sentence)
    content = files.TrainingFile(
        problem=problem,
        controls=_no_controls(problem),
        test_inputs=dataset.test_inputs,
        test_labels=dataset.test_labels,
    )
    return content, says


def _no_controls(problem: Problem) -> Controls:
    return random_start(problem, np.random.default_rng(0), 0.0)


def _solver(options: argparse.Namespace, costate: np.ndarray | None = None) -> continuation.Solver:
    chosen: dict[str, object] = {}
    for item in options.option:
        name, separator, value = item.partition("=")
        if not separator or not name:
            raise ValueError(f"--option is {item!r}; wanted NAME=VALUE")
        chosen[name] = _literal(value)
    return solvers.by_name(
        options.solver or solvers.DEFAULT,
        max_iterations=options.max_iterations,
        max_seconds=options.max_seconds,
        options=chosen,
        costate=costate,
    )


def _literal(value: str) -> object:
    """An int or a float if the text is one, else the text."""
    for kind in (int, float):
        try:
            return kind(value)
        except ValueError:
            continue
    return value


def _solve(options: argparse.Namespace, content: files.TrainingFile, report: Report) -> Solution:
    problem = content.problem
    if options.warm:
        solver = _solver(options, content.costate)
        return solver(problem, content.controls, options.tolerance, report)
    solver = _solver(options)
    if not options.cold and options.trials is None and options.solver in (None, solvers.DEFAULT):
        wanted = SearchOptions(
            effort=options.effort or "standard",
            seconds=options.seconds,
            tolerance=options.tolerance,
        )
        return by_effort.lowest(problem, solver, seed=options.seed, options=wanted, report=report)
    depths = (problem.depth,) if options.cold else None
    growth = continuation.GrowthOptions(
        tolerance=options.tolerance,
        depths=depths,
        start_scale=0.5 if options.cold else 0.1,
        trials=1 if options.cold else options.trials or 4,
    )
    return continuation.grow(problem, solver, seed=options.seed, options=growth, report=report)


def _polish(options: argparse.Namespace, content: files.TrainingFile, report: Report) -> Solution:
    """Newton first; where the point is not close enough for that, the solver and then Newton."""
    solution = polish(content.problem, content.controls)
    if solution.status is Status.INTERRUPTED:
        return solution
    if solution.report.grad_inf_norm > options.tolerance:
        solver = _solver(options)
        solution = solver(content.problem, content.controls, options.tolerance, report)
        if solution.status is Status.SOLVED:
            closer = polish(content.problem, solution.controls)
            if closer.status is Status.INTERRUPTED:
                return interrupted(solution)
            if closer.report.grad_inf_norm <= solution.report.grad_inf_norm:
                solution = closer
    if solution.status is Status.NOT_STATIONARY and (
        solution.report.grad_inf_norm <= options.tolerance
    ):
        # the rounding floor is above Newton's own target but within the tolerance asked
        solution = polish(content.problem, solution.controls, tolerance=options.tolerance)
    return solution


def _grow(options: argparse.Namespace, content: files.TrainingFile, report: Report) -> Solution:
    shallow, depth = content.problem.depth, options.depth
    if depth is not None and depth <= shallow:
        raise ValueError(f"--depth is {depth}; wanted more than the file's {shallow}, or auto")
    growth = continuation.GrowthOptions(tolerance=options.tolerance, append_scale=1e-6)
    solution, _ = growth_by_gain.grow_by_gain(
        content.problem,
        _solver(options),
        depth=depth,
        seed=options.seed,
        start=content.controls,
        options=growth_by_gain.GainOptions(growth=growth),
        report=report,
    )
    return solution


def _multistart(options: argparse.Namespace) -> int:
    """Solve from all seeds, write the table and the best solution; return the exit code."""
    if options.workers is not None and options.scheduler:
        raise ValueError("--workers is given with --scheduler, whose workers are there already")
    options.workers = 1 if options.workers is None else options.workers
    for name, least in (("starts", 1), ("workers", 1), ("seed", 0)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name} is {getattr(options, name)}; wanted at least {least}")
    _check_start(options)
    solvers.by_name(options.solver)
    growth = continuation.GrowthOptions(tolerance=options.tolerance)
    content, says = _read(options)
    problem = content.problem
    seeds = range(options.seed, options.seed + options.starts)
    written = [*(f"seed_{seed}.{kind}" for seed in seeds for kind in ("json", "safetensors"))]
    written += [PROBLEM, TABLE, BEST]
    run_folder.check("--output", options.output, written, inputs_of(options.source, options.data))
    at_once = 1 if options.scheduler else min(options.workers, options.starts)
    console = console_for()
    caution = check_size(problem, options.solver, at_once)
    show.print_read(console, says)
    show.print_cautions(problem, caution)
    with _executor(options) as executor, show.reporting(console) as report:
        found = multistart(
            problem,
            seeds,
            options.output,
            solver=options.solver,
            options=growth,
            executor=executor,
            report=report,
        )
    solved = sum(start.solved for start in found.starts)
    console.print(
        f"{solved} of {options.starts} starts SOLVED, {len(found.optima)} distinct minima"
    )
    if found.best is None:
        return exits.FAILED
    console.print(f"best found: J = {found.best.objective:.10f} (seed {found.best.seed})")
    console.print(f"written to {options.output}: {BEST}, {TABLE}")
    return exits.OK


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
        with workers.pool(options.workers) as pool:
            yield pool
    else:
        yield None
