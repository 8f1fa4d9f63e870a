"""Growing the depth costs seconds where a cold start at full depth costs minutes, and ends lower.

    gain of m more layers = J(idle extension) - J_{N+m} = J_N + m h F(x_N) - J_{N+m}

The value J_N itself rises with N, because every layer costs h F(x_k); what more layers are worth
is their gain over idling.  On the two spirals it falls below 1 % of J soon after the classes are
separated: from there on new layers idle, and growing on costs next to nothing.

    python examples/depth_growth.py             five depths, growth and cold starts: minutes
    python examples/depth_growth.py --quick     a thinned problem, three depths: seconds

Prints objective, depth used, iterations and processor seconds against N; writes
depth_growth.pdf/.png/.json.
"""

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

from ocp import (
    Problem,
    datasets,
    depth_used,
    exits,
    grow_by_gain,
    random_start,
    silent,
    solver_by_name,
)
from ocp.atomic import write_atomically
from ocp.outputs import check_folder
from ocp.terminal import console as console_for


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--depths", type=int, nargs="+", default=[5, 10, 20, 40, 100], help="depths N")
    add("--cold-up-to", type=int, default=40, help="largest depth of a cold start (40)")
    add("--seeds", type=int, default=3, help="random starts a depth; medians are shown (3)")
    add(
        "--output",
        type=Path,
        default=Path("output/depth_growth"),
        help="folder for what is written",
    )
    add("--quick", action="store_true", help="12 points a class, depths 3, 6, 12, one seed")
    options = parser.parse_args(arguments)
    if options.quick:  # what is given holds all the same
        parser.set_defaults(depths=[3, 6, 12], cold_up_to=12, seeds=1)
        options = parser.parse_args(arguments)
    if options.seeds < 1:
        raise ValueError(f"--seeds is {options.seeds}; wanted at least 1")
    if min(options.depths) < 1:
        raise ValueError(f"--depths are {options.depths}; wanted at least 1 each")
    return options


def solve(problem: Problem, way: str, seed: int) -> dict:
    """Solve by growth or cold and return one row."""
    solver = solver_by_name("structured", max_seconds=300)
    begun = time.process_time()  # one thread: what else runs on the machine does not count
    if way == "growth":
        found, _ = grow_by_gain(problem, solver, depth=problem.depth, seed=seed)
    else:
        start = random_start(problem, np.random.default_rng(seed))
        found = solver(problem, start, 1e-8, silent)
    return {
        "way": way,
        "depth": problem.depth,
        "seed": seed,
        "objective": found.report.objective,
        "depth_used": depth_used(found.problem, found.controls),
        "iterations": found.report.iterations,
        "seconds": time.process_time() - begun,
        "status": found.status.name,
    }


def medians(rows: list[dict], way: str) -> list[dict]:
    """One line a depth with the medians over the seeds."""
    lines = []
    for depth in sorted({r["depth"] for r in rows if r["way"] == way}):
        own = [r for r in rows if r["way"] == way and r["depth"] == depth]
        names = ("objective", "depth_used", "iterations", "seconds")
        line = {name: float(np.median([r[name] for r in own])) for name in names}
        solved = sum(r["status"] == "SOLVED" for r in own)
        lines.append({"depth": depth, "solved": f"{solved}/{len(own)}", **line})
    return lines


def print_table(console: Console, rows: list[dict]) -> None:
    out = Table(title="Medians over the seeds", title_justify="left")
    for name in ("N", "way", "solved", "objective J", "depth used", "iterations", "CPU s"):
        out.add_column(name, justify="right")
    for way in ("growth", "cold"):
        for line in medians(rows, way):
            out.add_row(
                str(line["depth"]),
                way,
                line["solved"],
                f"{line['objective']:.4f}",
                f"{line['depth_used']:.0f}",
                f"{line['iterations']:.0f}",
                f"{line['seconds']:.2f}",
            )
    console.print(out)


def save_figure(rows: list[dict], folder: Path) -> None:
    """Objective, depth used and seconds against N; markers differ, so grey print reads too."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(1, 3, figsize=(9.0, 2.8), constrained_layout=True)
    panels = (
        ("objective", "objective J"),
        ("depth_used", "depth used"),
        ("seconds", "CPU seconds"),
    )
    for axis, (name, label) in zip(axes, panels, strict=True):
        for way, style in (("growth", "o-"), ("cold", "s--")):
            lines = medians(rows, way)
            colour = {"growth": "#0072B2", "cold": "#D55E00"}[way]
            axis.plot(
                [line["depth"] for line in lines],
                [line[name] for line in lines],
                style,
                color=colour,
                label=way,
            )
        axis.set_xlabel("depth N")
        axis.set_ylabel(label)
        axis.set_xscale("log")
        axis.grid(alpha=0.3)
    axes[2].set_yscale("log")
    axes[0].legend()
    for suffix in ("pdf", "png"):
        figure.savefig(folder / f"depth_growth.{suffix}", dpi=200)
    plt.close(figure)


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    names = [f"depth_growth.{suffix}" for suffix in ("json", "pdf", "png")]
    check_folder("--output", options.output, names)
    options.output.mkdir(parents=True, exist_ok=True)
    inputs, labels = datasets.spirals(12 if options.quick else 97)
    console, rows = console_for(), []
    with threadpool_limits(1):
        for depth in options.depths:
            problem = Problem(inputs=inputs, labels=labels, n_classes=2, depth=depth)
            for way in ("growth", "cold") if depth <= options.cold_up_to else ("growth",):
                for seed in range(options.seeds):
                    rows.append(solve(problem, way, seed))
                    console.print(
                        f"N = {depth:3d}  {way:6s}  seed {seed}  {rows[-1]['status']}"
                        f"  J = {rows[-1]['objective']:.5f}  {rows[-1]['seconds']:.2f} s"
                    )
    text = json.dumps(rows, indent=1)
    write_atomically(options.output / "depth_growth.json", text.encode())
    save_figure(rows, options.output)
    print_table(console, rows)
    console.print(f"written to {options.output}: depth_growth.json/.pdf/.png")
    return exits.OK


if __name__ == "__main__":
    sys.exit(exits.run(main))
