"""The exact optimum and trained networks of one problem validate each other.

1. One exact solution, three programs: J, its gradient and the costate by the judge (NumPy), CasADi
   and PyTorch agree to 1e-12.
2. Ten networks trained with Adam end above the best known optimum; an exact solve started from
   each (polishing, all layers) shows how much of that is unfinished training and how much is the
   basin they are in.
3. Layer by layer, the trained networks and the exact optimum take the same turnpike, or do not.

    python examples/cross_validate.py               under three minutes on two cores
    python examples/cross_validate.py --steps 10000 --output long
    python examples/cross_validate.py --ladder      depths 5 .. 40, tanh and relu

Best known means the lowest value found by a multi-start; nothing here claims a global optimum.
The parameter values are our choice.
"""

import argparse
import json
import sys
import time
from concurrent.futures import Executor, ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from ocp import console as show
from ocp import datasets, files
from ocp.atomic import check_writable, write_atomically
from ocp.continuation import GrowthOptions, grow, smoothed_relu
from ocp.controls import Controls
from ocp.figures import CLASS_COLOURS, STYLE
from ocp.files import TrainingFile
from ocp.polish import polish as newton
from ocp.problem import Problem
from ocp.progress import silent
from ocp.solution import Solution, Status
from ocp.solvers import by_name
from verification import optima, path_comparison
from verification.crosscheck import crosscheck

LADDER = (5, 10, 20, 40)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--starts", type=int, default=12, help="starts of the exact solver (12)")
    add("--seeds", type=int, default=10, help="networks to train (10)")
    add("--steps", type=int, default=2500, help="steps of Adam, whole set (2500)")
    add("--lr", type=float, default=1e-2, help="Adam's rate, decayed on half a cosine (1e-2)")
    add("--workers", type=int, default=2, help="processes, one thread each (2)")
    add("--ladder", action="store_true", help="only the ladder of depths, tanh and relu")
    add("--output", type=Path, default=Path("output/cross_validate"))
    add("--quick", action="store_true", help="10 points a class, 6 layers: seconds, for a look")
    return parser.parse_args(arguments)


def statement(quick: bool, **changes) -> Problem:
    inputs, labels = datasets.spirals(10 if quick else 97)
    depth = 6 if quick else 20
    return Problem(inputs=inputs, labels=labels, n_classes=2, **({"depth": depth} | changes))


def exact_solver(problem: Problem, start: Controls, tolerance: float = 1e-8, report=silent):
    """An exact solve from a given start."""
    return by_name("structured", max_iterations=3000)(problem, start, tolerance, report)


def solve(problem: Problem, seed: int) -> Solution:
    """One start of the exact solver: depth growth, then Newton to rounding."""
    with threadpool_limits(1):
        found = grow(problem, exact_solver, seed=seed)
        return newton(problem, found.controls) if found.status is Status.SOLVED else found


def polish(problem: Problem, start: Controls) -> Controls:
    """An exact solve of all layers from a trained network, then Newton to rounding."""
    return newton(problem, exact_solver(problem, start).controls).controls


def train(problem: Problem, steps: int, lr: float, seed: int) -> Controls:
    """Adam on the whole set from random controls of standard deviation .5."""
    import torch

    from nn_baseline.options import Options
    from nn_baseline.start import start_network
    from nn_baseline.train import train
    from ocp.controls import random_start

    torch.set_num_threads(1)
    options = Options(epochs=steps, lr=lr, schedule="cosine", evaluate_every=0, seed=seed)
    start = random_start(problem, np.random.default_rng([seed, 1]))
    network = start_network(problem, options, start)
    train(network, options)
    return network.controls()


def judged(problem: Problem, controls: Controls, known: list[Controls]):
    """Polish one network and place it among the known optima, in a process of its own."""
    with threadpool_limits(1):
        return optima.gap(problem, controls, polish, known)


def three_programs(console: Console, problem: Problem, named: dict[str, Controls]) -> float:
    """Compare the judge, CasADi and PyTorch; return the largest relative difference."""
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
    console.print(table)
    return worst


def gap_table(gaps: list[optima.Gap]) -> Table:
    table = Table("seed", "J", "|g|", "above", "polished", "above", "moved", "optimum",
                  title="Adam above the best known J, before and after polishing")  # fmt: skip
    for seed, g in enumerate(gaps):
        which = f"{g.optimum}: {g.symmetry}" if g.optimum >= 0 else "another"
        which += ", the best" if g.fell_into_best else ""
        cells = (str(seed), f"{g.objective:.4f}", f"{g.gradient:.0e}", f"{g.above_best:.1%}",
                 f"{g.polished_objective:.4f}", f"{g.polished_above_best:.1%}",
                 f"{g.moved:.1f}", which)  # fmt: skip
        table.add_row(*cells)
    return table


def draw(best, trained, polished, names=("exact, best known", "trained", "trained, polished")):
    """Stage cost, control norm and distance by layer, on one figure."""
    figure = Figure(figsize=(7.2, 2.6), layout="constrained")
    axes = figure.subplots(1, 3)
    groups = (([best], names[0], CLASS_COLOURS[0], 1.8), (trained, names[1], CLASS_COLOURS[1], 0.7),
              (polished, names[2], "0.5", 0.7))  # fmt: skip
    for paths, label, colour, width in groups[::-1]:
        for j, p in enumerate(paths):
            style = {"color": colour, "linewidth": width, "label": label if j == 0 else None}
            axes[0].semilogy(p.stage_cost, **style)
            axes[1].semilogy(np.maximum(p.control_norm, 1e-6), **style)
            axes[2].semilogy(p.distance, **style)
            if p.entry < len(p.distance):
                axes[2].plot(p.entry, p.distance[p.entry], "o", markersize=3, color=colour)
    for axis, title in zip(axes, ("stage cost $l_k$", "control norm $|u_k|$",
                                  "distance (dot: entry layer)"),
                           strict=True):  # fmt: skip
        axis.set(xlabel="layer $k$", title=title)
    axes[1].legend(loc="lower left")
    return figure


def save(figure: Figure, folder: Path, name: str) -> None:
    figure.savefig(folder / f"{name}.pdf", metadata={"CreationDate": None})
    figure.savefig(folder / f"{name}.png")


def validate(options: argparse.Namespace, console: Console, pool: Executor) -> dict:
    """Solve, train, compare and polish; returns the record that is written."""
    problem = statement(options.quick)
    begun = time.perf_counter()
    training = [pool.submit(train, problem, options.steps, options.lr, seed)
                for seed in range(options.seeds)]  # fmt: skip
    starts = [s for s in pool.map(partial(solve, problem), range(options.starts))
              if s.status is Status.SOLVED]  # fmt: skip
    if not starts:
        raise ValueError("no start of the exact solver was SOLVED; wanted at least one")
    groups = optima.distinct(problem, [s.controls for s in starts])
    known = [starts[members[0]].controls for members in groups]
    best = starts[groups[0][0]]
    console.print(f"exact: {len(starts)} of {options.starts} starts solved, {len(known)} distinct"
                  f" optima up to symmetry, best J = {best.report.objective:.6f}")  # fmt: skip
    networks = [future.result() for future in training]
    judge = partial(judged, problem, known=known)
    results = list(pool.map(judge, networks))
    gaps = [found for found, _ in results]
    worst = three_programs(console, problem, {"exact": best.controls, "Adam, seed 0": networks[0]})
    console.print(gap_table(gaps))
    files.save(options.output / "exact.safetensors", best.to_file())
    for seed, controls in enumerate(networks):
        content = TrainingFile(problem=problem, controls=controls, origin={
            "producer": "nn_baseline", "optimizer": "adam", "seed": seed})  # fmt: skip
        files.save(options.output / f"adam_{seed}.safetensors", content)
        if not options.quick:
            content = TrainingFile(problem=problem, controls=results[seed][1])
            files.save(options.output / f"adam_{seed}_polished.safetensors", content)
    path = lambda u: path_comparison.path("", TrainingFile(problem=problem, controls=u))  # noqa: E731
    exact = path(best.controls)
    trained, polished = [path(u) for u in networks], [path(u) for _, u in results]
    with mpl.rc_context(STYLE):
        save(draw(exact, trained, polished), options.output, "paths")
    before = np.array([g.above_best for g in gaps])
    after = np.array([g.polished_above_best for g in gaps])
    for name, gap in (("trained", before), ("polished", after)):
        console.print(f"above the best known J, {name}: {gap.min():.1%} to {gap.max():.1%}, median"
                      f" {np.median(gap):.1%}", highlight=False)  # fmt: skip
    console.print(f"turnpike entry: exact layer {exact.entry}, trained layers"
                  f" {sorted(p.entry for p in trained)}", highlight=False)  # fmt: skip
    keys = ("objective", "gradient", "polished_objective", "polished_gradient", "moved",
            "optimum", "best", "above_best", "polished_above_best", "fell_into_best")  # fmt: skip
    return {
        "steps": options.steps,
        "lr": options.lr,
        "best_objective": min(g.best for g in gaps),
        "optima": [starts[members[0]].report.objective for members in groups],
        "starts_at_each": [len(members) for members in groups],
        "largest_difference_of_three_programs": worst,
        "seeds": [{key: getattr(g, key) for key in keys} for g in gaps],
        "entry": {
            "exact": exact.entry,
            "trained": [p.entry for p in trained],
            "polished": [p.entry for p in polished],
        },
        "seconds": time.perf_counter() - begun,
    }


def rung(quick: bool, activation: str, steps: int, lr: float, depth: int):
    """One depth of the ladder: the exact optimum (relu: of softplus, sharpness 1000) and Adam."""
    problem = statement(quick, depth=depth, activation=activation)
    with threadpool_limits(1):
        if activation == "relu":
            *_, exact, _ = smoothed_relu(problem, exact_solver, options=GrowthOptions(escapes=8))
        else:
            exact = grow(problem, exact_solver, seed=0)
        trained = train(problem, steps, lr, 0)
        path = lambda p, u: path_comparison.path("", TrainingFile(problem=p, controls=u))  # noqa: E731
        return exact.status.name, path(exact.problem, exact.controls), path(problem, trained)


def ladder(options: argparse.Namespace, console: Console, pool: Executor) -> dict:
    """Depths 5 .. 40, exact against trained, tanh and relu."""
    depths = LADDER[:2] if options.quick else LADDER
    jobs = {(a, N): pool.submit(rung, options.quick, a, options.steps, options.lr, N)
            for N in depths[::-1] for a in ("tanh", "relu")}  # fmt: skip
    table = Table("activation", "N", "status", "J exact", "J trained", "entry exact", "trained",
                  "used exact", "trained")  # fmt: skip
    figure = Figure(figsize=(7.2, 4.6), layout="constrained")
    axes, record = figure.subplots(2, 3), []
    for row, activation in zip(axes, ("tanh", "relu"), strict=True):
        for j, N in enumerate(depths):
            status, exact, trained = jobs[activation, N].result()
            cells = (activation, N, status, exact.objective, trained.objective, exact.entry,
                     trained.entry, exact.used, trained.used)  # fmt: skip
            table.add_row(*(f"{c:.4f}" if isinstance(c, float) else str(c) for c in cells))
            record.append(dict(zip(("activation", "depth", "status", "exact", "trained",
                                    "entry_exact", "entry_trained", "used_exact", "used_trained"),
                                   cells, strict=True)))  # fmt: skip
            for p, line in ((exact, "-"), (trained, ":")):
                style = {"color": CLASS_COLOURS[j], "linestyle": line, "linewidth": 1.0}
                row[0].semilogy(p.stage_cost, **style, label=f"N = {N}" if line == "-" else None)
                row[1].semilogy(np.maximum(p.control_norm, 1e-6), **style)
                row[2].semilogy(p.distance, **style)
        for axis, title in zip(row, ("stage cost $l_k$", "control norm $|u_k|$", "distance"),
                               strict=True):  # fmt: skip
            axis.set(xlabel="layer $k$", title=f"{activation}: {title}")
    axes[0, 0].legend()
    console.print(table)
    console.print("lines: exact; dots: Adam. relu: exact means softplus of sharpness 1000")
    save(figure, options.output, "ladder")
    return {"steps": options.steps, "ladder": record}


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    for name in ("starts", "seeds", "steps", "workers"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} is {getattr(options, name)}; wanted at least 1")
    if options.quick:
        options.starts, options.seeds, options.steps = 2, 2, 200
    options.output.mkdir(parents=True, exist_ok=True)
    check_writable(options.output)
    console = Console(soft_wrap=True)
    with ProcessPoolExecutor(options.workers, mp_context=get_context("spawn")) as pool:
        if options.ladder:
            with mpl.rc_context(STYLE):
                record = ladder(options, console, pool)
        else:
            record = validate(options, console, pool)
    name = "ladder.json" if options.ladder else "cross_validate.json"
    write_atomically(options.output / name, json.dumps(record, indent=1).encode())
    console.print(f"written to {options.output}", highlight=False)
    return show.EXIT_OK


if __name__ == "__main__":
    sys.exit(show.run(main))
