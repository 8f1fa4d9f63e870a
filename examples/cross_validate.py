"""The exact optimum and trained networks of one problem validate each other.

1. One exact solution, three programs: J, its gradient and the costate by the judge (NumPy), CasADi
   and PyTorch agree to 1e-12.
2. Ten networks trained with Adam end above the best known optimum; an exact solve started from
   each (polishing, all layers) shows how much of that is unfinished training and how much is the
   basin they are in.
3. Layer by layer, the trained networks and the exact optimum take the same turnpike, or do not.

    python examples/cross_validate.py               under three minutes on two cores
    python examples/cross_validate.py --steps 30000 --output long

`path_ladder.py` compares paths over a ladder of depths, tanh and relu.  Both sides start from
random controls of standard deviation .1, as `spirals_ocp.py` does.
Best known means the lowest value found by a multi-start; nothing here claims a global optimum.
The parameter values are our choice.
"""

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import json
import resource
import sys
import time
from concurrent.futures import Executor, Future, ProcessPoolExecutor, as_completed
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import ocp
from ocp import (
    Controls,
    GrowthOptions,
    Problem,
    Solution,
    Status,
    TrainingFile,
    datasets,
    exits,
    figures,
    grow,
    silent,
    solver_by_name,
)
from ocp import polish as newton
from ocp.atomic import write_atomically
from ocp.outputs import check_folder
from ocp.terminal import console as console_for
from verification.crosscheck import crosscheck, optima
from verification.crosscheck import paths as path_comparison

#: standard deviation of the random controls that both sides start from
START_SCALE = 0.1


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--starts", type=int, default=12, help="starts of the exact solver (12)")
    add("--seeds", type=int, default=10, help="networks to train (10)")
    add("--steps", type=int, default=8000, help="steps of Adam, whole set (8000)")
    add("--lr", type=float, default=3e-2, help="Adam's rate, decayed on half a cosine (3e-2)")
    add("--workers", type=int, default=2, help="processes, one thread each (2)")
    add("--output", type=Path, default=Path("output/cross_validate"))
    add("--quick", action="store_true", help="10 points a class, 6 layers: seconds, for a look")
    options = parser.parse_args(arguments)
    if options.quick:  # what is given holds all the same
        parser.set_defaults(starts=2, seeds=2, steps=200)
        options = parser.parse_args(arguments)
    for name in ("starts", "seeds", "steps", "workers"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} is {getattr(options, name)}; wanted at least 1")
    return options


def statement(quick: bool, **changes) -> Problem:
    inputs, labels = datasets.spirals(10 if quick else 97)
    depth = 6 if quick else 20
    return Problem(inputs=inputs, labels=labels, n_classes=2, **({"depth": depth} | changes))


def exact_solver(problem: Problem, start: Controls, tolerance: float = 1e-8, report=silent):
    """An exact solve from a given start."""
    return solver_by_name("structured", max_iterations=3000)(problem, start, tolerance, report)


def solve(problem: Problem, seed: int) -> Solution:
    """One start of the exact solver, as `spirals_ocp.py` makes it, then Newton to rounding."""
    options = GrowthOptions(start_scale=START_SCALE, trials=4)
    with threadpool_limits(1):
        found = grow(problem, exact_solver, seed=seed, options=options)
        return newton(problem, found.controls) if found.status is Status.SOLVED else found


def polish(problem: Problem, start: Controls) -> Controls:
    """An exact solve of all layers from a trained network, then Newton to rounding."""
    return newton(problem, exact_solver(problem, start).controls).controls


def train(problem: Problem, steps: int, lr: float, seed: int) -> Controls:
    """Adam on the whole set from random controls."""
    import torch

    import nn_baseline
    from ocp import random_start

    torch.set_num_threads(1)
    options = nn_baseline.Options(
        epochs=steps, lr=lr, schedule="cosine", evaluate_every=0, seed=seed
    )
    start = random_start(problem, np.random.default_rng([seed, 1]), START_SCALE)
    network = nn_baseline.start_network(problem, options, start)
    nn_baseline.train(network, options)
    return network.controls()


def judged(problem: Problem, controls: Controls, known: list[Controls]):
    """Polish one network and place it among the known optima, in a process of its own."""
    with threadpool_limits(1):
        return optima.gap(problem, controls, polish, known)


def three_programs(problem: Problem, named: dict[str, Controls]) -> tuple[Table, float]:
    """Compare the judge, CasADi and PyTorch; return a table and the largest relative difference."""
    from evaluations import by_casadi, by_torch

    table = Table("network", "program", "objective", "gradient", "costate", "largest |dJ/du|",
                  title="relative difference to the judge's own evaluation")  # fmt: skip
    worst = 0.0
    for name, controls in named.items():
        found = [by_casadi(problem, controls), by_torch(problem, controls)]
        report = crosscheck(problem, controls, found).require()
        for other in found:
            lines = [report.named(f"crosscheck.{other.name}.{q}").measured
                     for q in ("objective", "gradient", "costate")]  # fmt: skip
            worst = max(worst, *lines)
            table.add_row(name, other.name, *(f"{x:.1e}" for x in lines),
                          f"{np.abs(other.gradient).max():.1e}")  # fmt: skip
    return table, worst


def gap_table(gaps: list[optima.Gap]) -> Table:
    table = Table("seed", "J", "|g|", "above", "polished", "above", "moved", "nearest", "optimum",
                  title="Adam above the best known J, before and after polishing")  # fmt: skip
    for seed, g in enumerate(gaps):
        which = f"{g.optimum}: {g.symmetry}" if g.optimum >= 0 else "another"
        which += ", the best" if g.fell_into_best else ""
        cells = (str(seed), f"{g.objective:.4f}", f"{g.gradient:.0e}", f"{g.above_best:.1%}",
                 f"{g.polished_objective:.4f}", f"{g.polished_above_best:.1%}",
                 f"{g.moved:.1f}", f"{g.separation:.1e}", which)  # fmt: skip
        table.add_row(*cells)
    return table


def draw(best, trained, polished, names=("exact, best known", "trained", "trained, polished")):
    """Stage cost, control norm and distance by layer, on one figure."""
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots(1, 3)
    blue, red = figures.CLASS_COLOURS[:2]
    groups = (
        ([best], names[0], {"color": blue, "linewidth": 1.8}, "o"),
        (
            trained,
            names[1],
            {"color": red, "linewidth": 0.9, "linestyle": ":"},
            "s",
        ),
        (polished, names[2], {"color": "0.55", "linewidth": 0.7}, "^"),
    )
    for paths, label, style, marker in groups[::-1]:
        for j, p in enumerate(paths):
            axes[0].semilogy(p.stage_cost, **style)
            axes[1].semilogy(p.control_norm, **style)
            # the label's line shows the marker of the entry layer
            axes[1].plot([], [], marker=marker, markersize=3, label=None if j else label, **style)
            axes[2].semilogy(p.distance, **style)
            if p.entry < len(p.distance):
                axes[2].plot(p.entry, p.distance[p.entry], marker, markersize=3.5,
                             color=style["color"])  # fmt: skip
    for axis, title in zip(axes, ("stage cost $l_k$", "control norm $|u_k|$",
                                  "distance (mark: entry layer)"),
                           strict=True):  # fmt: skip
        axis.set(xlabel="layer $k$", title=title)
    axes[1].set_ylim(bottom=max(1e-6, 0.5 * best.control_norm.min()))
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    figure.savefig(folder / f"{name}.png")


def gathered(console: Console, what: str, jobs: list[Future]) -> list:
    """Wait for the jobs, saying how many are done."""
    for done, _ in enumerate(as_completed(jobs), start=1):
        if done % 4 == 0 or done == len(jobs):
            console.print(f"{what}: {done} of {len(jobs)}")
    return [job.result() for job in jobs]


def compute(options: argparse.Namespace, console: Console, pool: Executor, problem: Problem):
    """Return the distinct optima with how often each was found, networks, gaps, polished ones."""
    submit = lambda function, seeds: [pool.submit(function, seed) for seed in range(seeds)]  # noqa: E731
    solving = submit(partial(solve, problem), options.starts)
    training = submit(partial(train, problem, options.steps, options.lr), options.seeds)
    starts = [s for s in gathered(console, "exact starts", solving) if s.status is Status.SOLVED]
    if not starts:
        raise ValueError("no start of the exact solver was SOLVED; wanted at least one")
    groups = optima.distinct(problem, [s.controls for s in starts])
    known = [(starts[members[0]], len(members)) for members in groups]
    console.print(
        f"exact: {len(starts)} of {options.starts} starts solved, {len(known)} distinct optima"
        f" up to symmetry, best J = {known[0][0].report.objective:.6f}"
    )
    networks = gathered(console, "networks trained", training)
    judge = partial(judged, problem, known=[solution.controls for solution, _ in known])
    results = gathered(console, "networks polished", [pool.submit(judge, u) for u in networks])
    return known, networks, [found for found, _ in results], [u for _, u in results]


def write_networks(folder: Path, exact: Solution, networks, polished) -> None:
    ocp.save(folder / "exact.safetensors", exact.to_file())
    for seed, (before, after) in enumerate(zip(networks, polished, strict=True)):
        origin = {"producer": "nn_baseline", "optimizer": "adam", "seed": seed}
        content = TrainingFile(problem=exact.problem, controls=before, origin=origin)
        ocp.save(folder / f"adam_{seed}.safetensors", content)
        content = TrainingFile(problem=exact.problem, controls=after)
        ocp.save(folder / f"adam_{seed}_polished.safetensors", content)


def validate(options: argparse.Namespace, console: Console, pool: Executor) -> dict:
    """Solve, train, compare and polish; returns the record that is written."""
    begun, problem = time.perf_counter(), statement(options.quick)
    known, networks, gaps, polished = compute(options, console, pool, problem)
    best = known[0][0]
    programs, worst = three_programs(problem, {"exact": best.controls, "Adam, seed 0": networks[0]})
    write_networks(options.output, best, networks, polished)
    path = lambda u: path_comparison.path("", TrainingFile(problem=problem, controls=u))  # noqa: E731
    exact, before, after = path(best.controls), [*map(path, networks)], [*map(path, polished)]
    with mpl.rc_context(figures.STYLE):
        save(draw(exact, before, after), options.output, "paths")
    for table in (programs, gap_table(gaps)):
        console.print(table)
    above = {
        "trained": [g.above_best for g in gaps],
        "polished": [g.polished_above_best for g in gaps],
    }
    summary = {name: np.quantile(gap, [0.0, 0.5, 1.0]).tolist() for name, gap in above.items()}
    for name, (least, median, largest) in summary.items():
        console.print(f"above the best known J, {name}: {least:.1%} to {largest:.1%}, median"
                      f" {median:.1%}")  # fmt: skip
    entry = {"exact": exact.entry, "trained": [p.entry for p in before],
             "polished": [p.entry for p in after]}  # fmt: skip
    console.print(
        f"turnpike entry of {problem.depth} layers: exact {exact.entry}, trained"
        f" {sorted(entry['trained'])}, polished {sorted(entry['polished'])}"
    )
    keys = (
        *("objective", "gradient", "polished_objective", "polished_gradient", "moved", "optimum"),
        *("separation", "best", "above_best", "polished_above_best", "fell_into_best"),
    )
    return {
        "steps": options.steps,
        "lr": options.lr,
        "start_scale": START_SCALE,
        "starts": options.starts,
        "best_objective": min(g.best for g in gaps),
        "optima": [solution.report.objective for solution, _ in known],
        "starts_at_each": [count for _, count in known],
        "largest_difference_of_three_programs": worst,
        "above_best_least_median_largest": summary,
        "seeds": [{key: getattr(g, key) for key in keys} for g in gaps],
        "entry": entry,
        "seconds": time.perf_counter() - begun,
    }


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    check_folder("--output", options.output, ("cross_validate.json", "exact.safetensors"))
    options.output.mkdir(parents=True, exist_ok=True)
    console = console_for(soft_wrap=True)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        record = validate(options, console, pool)
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    record["cpu_seconds"] = sum(r.ru_utime + r.ru_stime for r in used)
    content = json.dumps(record, indent=1).encode() + b"\n"
    write_atomically(options.output / "cross_validate.json", content)
    console.print(
        f"{record['seconds']:.0f} s, {record['cpu_seconds']:.0f} s of processor time in"
        f" {options.workers} processes"
    )
    console.print(f"written to {options.output}")
    return exits.OK


if __name__ == "__main__":
    sys.exit(exits.run(main))
