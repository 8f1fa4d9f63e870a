"""How deep must the network be?  One stage-cost run against fresh networks of every depth.

    python tests/benchmarks/bench_torch_depth.py run mnist --data-dir FOLDER
    python tests/benchmarks/bench_torch_depth.py table
    python tests/benchmarks/bench_torch_depth.py figure --output FILE.png

`run` trains what is missing in torch_depth_NAME.csv beside this file, a row a run, so it may be
stopped at any time.  The configurations below were chosen by `tune_torch_depth.py` on a split of
the training set; here networks are trained on its first 55000 images with seeds that the tuning
did not use, the depth is read off the other 5000, and the test set is looked at once, by the rows.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch_depth_networks import (
    DEPTH,
    TRAINED,
    WIDTH,
    Configuration,
    chosen_depth,
    curve,
    joined,
    problem_of,
    trained_network,
)

from nn_baseline import data, evaluate, samples
from nn_baseline.evaluation import final_logits

NAMES = ("mnist", "fashion")
TITLES = {"mnist": "MNIST", "fashion": "Fashion-MNIST"}
SEEDS = range(100, 105)
#: what the tuning chose, by data set: for the deep network, and for the plain shallow one
_DEEP = Configuration(lift="principal", h=1.0, r=1e-4)
CHOSEN = {
    "mnist": {"deep": _DEEP, "plain": Configuration(r=1e-4)},
    "fashion": {"deep": _DEEP, "plain": Configuration(r=1e-4)},
}
#: role -> (whose configuration, what differs from its statement)
ROLES = {
    "stage": ("deep", {"beta": 1}),
    "terminal": ("deep", {"beta": 0, "gamma": 1.0}),
    "hard": ("deep", {"beta": 1, "p_d": 1.0}),
    "fresh": ("deep", {"beta": 1}),
    "plain": ("plain", {"beta": 0, "gamma": 1.0}),
}
#: what is trained, in an order in which an unfinished table says most
RUNS = (
    (("stage", DEPTH), ("fresh", 10), ("fresh", 6), ("fresh", 5), ("fresh", 4)),
    (("plain", 6), ("fresh", 8), ("terminal", DEPTH), ("hard", DEPTH)),
    (("fresh", 3), ("fresh", 7), ("plain", 10)),
)
LABELS = {
    "stage": "stage cost",
    "terminal": "terminal loss only",
    "hard": "hard cross-entropy at every layer",
    "fresh": "fresh, stage cost",
    "plain": "plain shallow net",
}
FIELDS = (
    *("dataset", "role", "depth", "seed", "epochs", "multiply_adds", "cpu_seconds", "wall_seconds"),
    *("objective", "test", "validation", "flips", "logit_change", "data_cost", "control_norm"),
)
#: points of accuracy that are given away for a smaller depth
TOLERANCE = 0.2
#: quantiles of Student's t for 95 %, by the number of values
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}


def run_one(full: data.Dataset, split: data.Dataset, role: str, depth: int, seed: int) -> dict:
    """Train one network; return its row: accuracies after every layer are those of its crops."""
    whose, changes = ROLES[role]
    configuration = CHOSEN[full.name][whose]
    problem = problem_of(split, configuration, depth, seed, **changes)
    network, took = trained_network(problem, configuration, seed)
    tx, ty = samples(network, *full.test)
    test = evaluate(network, tx, ty)
    validation = evaluate(network, *samples(network, *split.test))
    z_full = final_logits(network, tx)
    flips, change = [], []
    with torch.no_grad():
        states = torch.cat([network.states(x) for x in tx.split(2000)], dim=1)
        for z in network.logits(states).double():
            flips.append(int((z.argmax(1) != z_full.argmax(1)).sum()))
            change.append(float((z - z_full).abs().max()))
    return {
        "dataset": full.name,
        "role": role,
        "depth": depth,
        "seed": seed,
        **took,
        "test": joined(100 * test.accuracy),
        "validation": joined(100 * validation.accuracy),
        "flips": joined(flips),
        "logit_change": joined(change),
        "data_cost": joined(test.data_cost),
        "control_norm": joined(test.control_norm),
    }


def run(args: argparse.Namespace) -> None:
    """Train what is missing until the time is up."""
    torch.set_num_threads(1)
    full = data.load(args.dataset, args.data_dir)
    split = full.tuning_split(TRAINED)
    until = time.monotonic() + 60 * args.minutes
    for role, depth, seed in ((*what, seed) for part in RUNS for seed in SEEDS for what in part):
        done = {(r["role"], r["depth"], r["seed"]) for r in rows(args.dataset)}
        if (role, str(depth), str(seed)) in done:
            continue
        if time.monotonic() > until:
            print("time is up; run again for the rest", flush=True)
            return
        row = run_one(full, split, role, depth, seed)
        with results(args.dataset).open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            if not done:
                writer.writeheader()
            writer.writerow(row)
        print(f"{args.dataset} {role} depth {depth} seed {seed} is done", flush=True)
    print(f"{args.dataset}: every row is there", flush=True)


def results(name: str) -> Path:
    """Where the rows of a data set are kept."""
    return Path(__file__).with_name(f"torch_depth_{name}.csv")


def rows(name: str) -> list[dict]:
    """Return the committed rows of a data set."""
    if not results(name).exists():
        return []
    with results(name).open(newline="") as file:
        return list(csv.DictReader(file))


def of(found: list[dict], role: str, depth: int) -> list[dict]:
    """Return the rows of a role at a depth, by seed."""
    mine = [r for r in found if r["role"] == role and int(r["depth"]) == depth]
    return sorted(mine, key=lambda r: int(r["seed"]))


def half_width(values: list[float]) -> float:
    """Half the width of the 95 % interval of the mean (Student's t)."""
    if len(values) not in T_95:
        return math.nan
    return T_95[len(values)] * float(np.std(values, ddof=1)) / math.sqrt(len(values))


def interval(values: list[float]) -> str:
    """Mean and 95 % interval."""
    spread = half_width(values)
    return f"{np.mean(values):.2f}" + ("" if math.isnan(spread) else f" ± {spread:.2f}")


def table(_: argparse.Namespace) -> None:
    """Print the tables of every data set in the results."""
    for name in NAMES:
        if rows(name):
            print("\n".join(lines_of(name, rows(name))))


def lines_of(name: str, found: list[dict]) -> list[str]:
    """Return the Markdown tables of one data set."""
    stage, terminal = of(found, "stage", DEPTH), of(found, "terminal", DEPTH)
    out = [
        f"\n### {name}: test accuracy [%], mean and 95 % interval over seeds\n",
        f"| {DEPTH} layers | seeds | accuracy | CPU seconds a run |",
        "|---|---|---|---|",
    ]
    for role in ("stage", "terminal", "hard"):
        runs = of(found, role, DEPTH)
        if runs:
            last = interval([curve(r, "test")[-1] for r in runs])
            cpu = np.mean([float(r["cpu_seconds"]) for r in runs])
            out.append(f"| {LABELS[role]} | {len(runs)} | {last} | {cpu:.0f} |")
    out += [
        "\n| layers | stage cost, cropped | lost | flipped of 10000 | max abs change of logits"
        " | fresh, stage cost | cropped minus fresh | plain shallow net"
        " | terminal only, cropped |",
        "|" + "---|" * 9,
    ]
    for k in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, DEPTH):
        cut = [curve(r, "test") for r in stage]
        fresh, plain = of(found, "fresh", k), of(found, "plain", k)
        cells = [
            str(k),
            interval([c[k] for c in cut]),
            interval([c[-1] - c[k] for c in cut]),
            f"{np.mean([curve(r, 'flips')[k] for r in stage]):.0f}",
            f"{np.mean([curve(r, 'logit_change')[k] for r in stage]):.2g}",
            interval([curve(r, "test")[-1] for r in fresh]) if fresh else "",
            interval(differences(stage, fresh, k)) if fresh else "",
            interval([curve(r, "test")[-1] for r in plain]) if plain else "",
            interval([curve(r, "test")[k] for r in terminal]) if terminal else "",
        ]
        out.append(f"| {' | '.join(cells)} |")
    return [*out, "", *depth_lines(stage, found)]


def differences(stage: list[dict], fresh: list[dict], k: int) -> list[float]:
    """Test accuracy of the crop at k minus that of the fresh network, seed by seed."""
    by_seed = {r["seed"]: curve(r, "test")[-1] for r in fresh}
    return [curve(r, "test")[k] - by_seed[r["seed"]] for r in stage if r["seed"] in by_seed]


def depth_lines(stage: list[dict], found: list[dict]) -> list[str]:
    """Return what one stage-cost run finds, and what training every depth finds."""
    chosen = [chosen_depth(curve(r, "validation"), TOLERANCE) for r in stage]
    means = {}
    for depth in sorted({int(r["depth"]) for r in found if r["role"] == "fresh"}):
        means[depth] = float(np.mean([curve(r, "test")[-1] for r in of(found, "fresh", depth)]))
    means[DEPTH] = float(np.mean([curve(r, "test")[-1] for r in stage]))
    best = max(means.values())
    smallest = min(depth for depth, mean in means.items() if mean >= best - TOLERANCE)
    within = sum(abs(k - smallest) <= 1 for k in chosen)
    visited = bisection(smallest)
    same_epochs = sum(work(k) for k in visited) / work(DEPTH)
    return [
        f"Depth that one stage-cost run finds on the 5000 held-out training samples (the smallest"
        f" prefix within {TOLERANCE} points of the whole): {', '.join(map(str, chosen))} by seed,"
        f" mean {np.mean(chosen):.1f}.",
        f"Smallest depth whose fresh mean is within {TOLERANCE} points of the best mean"
        f" ({best:.2f} %): {smallest}; {within} of {len(chosen)} seeds find it within one layer.",
        f"Training compute: a bisection that ends there trains depths"
        f" {', '.join(map(str, visited))}. The one run costs {1 / len(visited):.2f} of it with the"
        f" budget of every row above, {1 / same_epochs:.2f} if every depth is trained for the same"
        " epochs.",
    ]


def bisection(smallest: int) -> list[int]:
    """Return the depths that a bisection trains: the full one, then halves of what is left."""
    below, enough, visited = 0, DEPTH, [DEPTH]
    while enough - below > 1:
        middle = (below + enough) // 2
        visited.append(middle)
        below, enough = (below, middle) if middle >= smallest else (middle, enough)
    return visited


def work(depth: int) -> int:
    """Multiply-adds of one evaluation of one 28 x 28 image."""
    return 784 * WIDTH + depth * WIDTH**2 + 10 * WIDTH


def figure(args: argparse.Namespace) -> None:
    """Draw accuracy against depth: crops of one run, fresh networks, plain ones."""
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, len(NAMES), figsize=(10, 4), layout="constrained")
    for axis, name in zip(axes, NAMES, strict=True):
        found = rows(name)
        cut = [curve(r, "test") for r in of(found, "stage", DEPTH)]
        k = np.arange(1, DEPTH + 1)
        mean = np.mean(cut, axis=0)[1:]
        spread = np.array([half_width([c[i] for c in cut]) for i in k])
        axis.plot(k, mean, "-", label="crops, stage cost")
        axis.fill_between(k, mean - spread, mean + spread, alpha=0.25, lw=0)
        for role, mark in (("fresh", "o"), ("plain", "s")):
            depths = sorted({int(r["depth"]) for r in found if r["role"] == role})
            values = [[curve(r, "test")[-1] for r in of(found, role, d)] for d in depths]
            axis.errorbar(
                np.array(depths) + {"fresh": 0.0, "plain": 0.15}[role],
                [np.mean(v) for v in values],
                [half_width(v) for v in values],
                fmt=mark,
                ms=4,
                capsize=2,
                label=LABELS[role],
            )
        terminal = np.mean([curve(r, "test") for r in of(found, "terminal", DEPTH)], axis=0)
        axis.plot(k, terminal[1:], ":", label="crops, terminal loss only (mean)")
        axis.set(xlabel="layers", title=TITLES[name], xticks=range(0, DEPTH + 1, 2))
        axis.set_ylim(mean[0] - 0.5, max(mean.max(), terminal.max()) + 0.6)
        axis.grid(alpha=0.3)
    axes[0].set_ylabel("test accuracy [%], mean and 95 % interval")
    handles, labels = axes[0].get_legend_handles_labels()
    fig.legend(handles, labels, loc="outside lower center", ncols=4)
    fig.savefig(args.output, dpi=130)


def main() -> None:
    """Run or show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    c = commands.add_parser("run", help="train what is missing")
    c.add_argument("dataset", choices=NAMES)
    c.add_argument("--data-dir", required=True)
    c.add_argument("--minutes", type=float, default=math.inf, help="begin no run after so many")
    c.set_defaults(do=run)
    commands.add_parser("table", help="print the tables").set_defaults(do=table)
    c = commands.add_parser("figure", help="draw accuracy against depth")
    c.add_argument("--output", required=True)
    c.set_defaults(do=figure)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
