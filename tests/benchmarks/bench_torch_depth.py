"""How deep must the network be?  One stage-cost run against fresh networks of every depth.

    python tests/benchmarks/bench_torch_depth.py run mnist --data-dir FOLDER
    python tests/benchmarks/bench_torch_depth.py table

`run` trains what is missing in torch_depth_NAME.csv beside this file, a row a run, so it may
be stopped at any time.  The configuration below was chosen on a 55000/5000 split of the training
set alone; here the networks are trained on the 55000, the depth is chosen on the 5000, and the
test set is looked at once, by the rows of the table.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch

from nn_baseline import crop, data
from nn_baseline.ends import initial_lift, initial_readout
from nn_baseline.evaluate import evaluate, final_logits
from nn_baseline.options import Options
from nn_baseline.start import samples, start_network
from nn_baseline.train import train
from ocp.problem import Problem

NAMES = ("mnist", "fashion")
DEPTH, EPOCHS, SEEDS = 20, 6, 5
STATEMENT = {
    "width": 64,
    "h": 0.5,
    "activation": "relu",
    "p_d": 0.9,
    "r": 1e-3,
    "gamma": 1.0,
    "trained": ("layers", "lift", "readout"),
}
OPTIONS = Options(
    lr=5e-3,
    schedule="cosine",
    epochs=EPOCHS,
    batch_size=128,
    dtype="float32",
    evaluate_every=0,
)
#: role -> (what differs from the statement, depths)
ROLES = {
    "stage": ({"beta": 1}, (DEPTH,)),
    "terminal": ({"beta": 0}, (DEPTH,)),
    "hard": ({"beta": 1, "p_d": 1.0}, (DEPTH,)),
    "fresh": ({"beta": 1}, (10, 5, 8, 6, 7, 4, 3)),
    "plain": ({"beta": 0}, (10, 5)),
}
FIELDS = (
    *("dataset", "role", "depth", "seed", "epochs", "multiply_adds", "cpu_seconds", "wall_seconds"),
    *("objective", "test", "validation", "flips", "logit_change", "data_cost", "control_norm"),
)
#: points of accuracy that are given away for a smaller depth
TOLERANCE = 0.2


def problem_of(split: data.Dataset, role: str, depth: int, seed: int) -> Problem:
    """Return the problem of one run."""
    E, e = initial_lift("gaussian", STATEMENT["width"], split.inputs, seed)
    C, c = initial_readout(split.n_classes, STATEMENT["width"], seed)
    return Problem(
        **split.statement(),
        **STATEMENT | ROLES[role][0],
        depth=depth,
        lift_weight=E,
        lift_bias=e,
        readout_weight=C,
        readout_bias=c,
    )


def run_one(full: data.Dataset, split: data.Dataset, role: str, depth: int, seed: int) -> dict:
    """Train one network; return its row: accuracies after every layer are those of its crops."""
    problem = problem_of(split, role, depth, seed)
    budget = problem.with_(depth=DEPTH)
    epochs = crop.equal_budget_epochs(budget, EPOCHS, depth)
    options = dataclasses.replace(OPTIONS, epochs=epochs, seed=seed)
    network = start_network(problem, options)
    cpu, wall = time.process_time(), time.monotonic()
    result = train(network, options)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
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
    join = lambda values: ";".join(f"{v:.6g}" for v in values)  # noqa: E731
    return {
        "dataset": full.name,
        "role": role,
        "depth": depth,
        "seed": seed,
        "epochs": epochs,
        "multiply_adds": epochs * crop.multiply_adds(problem) * problem.n_samples,
        "cpu_seconds": f"{cpu:.1f}",
        "wall_seconds": f"{wall:.1f}",
        "objective": f"{result.epoch_means[-1]:.6g}",
        "test": join(100 * test.accuracy),
        "validation": join(100 * validation.accuracy),
        "flips": join(flips),
        "logit_change": join(change),
        "data_cost": join(test.data_cost),
        "control_norm": join(test.control_norm),
    }


def run(args: argparse.Namespace) -> None:
    """Train what is missing, seed by seed, so that a partial table is balanced."""
    torch.set_num_threads(1)
    full = data.load(args.dataset, args.data_dir)
    split = full.tuning_split(55_000)
    roles = args.roles or list(ROLES)
    jobs = [
        (role, depth, seed)
        for seed in range(SEEDS)
        for role in roles
        for depth in ROLES[role][1]
        if not args.depths or depth in args.depths or depth == DEPTH
    ]
    for role, depth, seed in jobs:
        done = {(r["role"], r["depth"], r["seed"]) for r in rows(args.dataset)}
        if (role, str(depth), str(seed)) in done:
            continue
        row = run_one(full, split, role, depth, seed)
        with results(args.dataset).open("a", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            if not done:
                writer.writeheader()
            writer.writerow(row)
        last = row["test"].rsplit(";", 1)[-1]
        print(f"{args.dataset} {role} depth {depth} seed {seed}: {last} %", flush=True)


def results(name: str) -> Path:
    """Where the rows of a data set are kept."""
    return Path(__file__).with_name(f"torch_depth_{name}.csv")


def rows(name: str) -> list[dict]:
    """Return the committed rows of a data set."""
    if not results(name).exists():
        return []
    with results(name).open(newline="") as file:
        return list(csv.DictReader(file))


def curve(row: dict, name: str) -> np.ndarray:
    """One number a layer."""
    return np.array([float(v) for v in row[name].split(";")])


def interval(values: list[float]) -> str:
    """Mean and half the width of its 95 % interval (Student's t)."""
    t = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}.get(len(values))
    if t is None:
        return f"{np.mean(values):.2f}"
    return f"{np.mean(values):.2f} ± {t * np.std(values, ddof=1) / math.sqrt(len(values)):.2f}"


def table(_: argparse.Namespace) -> None:
    """Print the tables of every data set in the results."""
    for name in NAMES:
        if rows(name):
            print("\n".join(lines_of(name, rows(name))))


def lines_of(name: str, found: list[dict]) -> list[str]:
    """Return the Markdown tables of one data set."""
    by = lambda role, depth: [  # noqa: E731
        r for r in found if r["role"] == role and int(r["depth"]) == depth
    ]
    stage = by("stage", DEPTH)
    out = [f"\n### {name}: test accuracy [%], mean and 95 % interval over seeds\n"]
    out += ["| depth 20, 6 epochs | seeds | accuracy | CPU seconds a run |", "|---|---|---|---|"]
    labels = {"stage": "stage cost", "terminal": "terminal loss only", "hard": "hard, every layer"}
    for role, label in labels.items():
        runs = by(role, DEPTH)
        if runs:
            last = interval([curve(r, "test")[-1] for r in runs])
            cpu = np.mean([float(r["cpu_seconds"]) for r in runs])
            out.append(f"| {label} | {len(runs)} | {last} | {cpu:.0f} |")
    out += [
        "\n| layers | stage cost, cropped | lost | flipped of 10000 | max abs change of logits"
        " | terminal only, cropped | fresh, stage cost | fresh, terminal only |",
        "|---|---|---|---|---|---|---|---|",
    ]
    terminal = by("terminal", DEPTH)
    for k in (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 15, DEPTH):
        cut = [curve(r, "test") for r in stage]
        cells = [
            str(k),
            interval([c[k] for c in cut]),
            interval([c[-1] - c[k] for c in cut]),
            f"{np.mean([curve(r, 'flips')[k] for r in stage]):.0f}",
            f"{np.mean([curve(r, 'logit_change')[k] for r in stage]):.2g}",
            interval([curve(r, "test")[k] for r in terminal]) if terminal else "",
        ]
        for role in ("fresh", "plain"):
            runs = by(role, k)
            cells.append(interval([curve(r, "test")[-1] for r in runs]) if runs else "")
        out.append(f"| {' | '.join(cells)} |")
    return [*out, "", *depth_lines(stage, found)]


def depth_lines(stage: list[dict], found: list[dict]) -> list[str]:
    """Return what one stage-cost run finds, and what training every depth finds."""
    chosen = [chosen_depth(curve(r, "validation")) for r in stage]
    means = {}
    for depth in sorted({int(r["depth"]) for r in found if r["role"] == "fresh"}):
        runs = [r for r in found if r["role"] == "fresh" and int(r["depth"]) == depth]
        means[depth] = float(np.mean([curve(r, "test")[-1] for r in runs]))
    means[DEPTH] = float(np.mean([curve(r, "test")[-1] for r in stage]))
    best = max(means.values())
    smallest = min(depth for depth, mean in means.items() if mean >= best - TOLERANCE)
    return [
        f"Depth that one stage-cost run finds on the 5000 held-out training samples (the smallest"
        f" prefix within {TOLERANCE} points of the whole): {', '.join(map(str, chosen))} by seed.",
        f"Smallest depth whose fresh mean is within {TOLERANCE} points of the best mean"
        f" ({best:.2f} %): {smallest}.",
    ]


def chosen_depth(accuracy: np.ndarray) -> int:
    """The smallest k >= 1 from which on no prefix loses more than the tolerance."""
    short = np.flatnonzero(accuracy < accuracy[-1] - TOLERANCE)
    return max(1, int(short[-1]) + 1) if len(short) else 1


def main() -> None:
    """Run or show."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    c = commands.add_parser("run", help="train what is missing")
    c.add_argument("dataset", choices=NAMES)
    c.add_argument("--data-dir", required=True)
    c.add_argument("--roles", nargs="+", choices=ROLES, default=[])
    c.add_argument("--depths", type=int, nargs="+", default=[], help="of fresh and plain")
    c.set_defaults(do=run)
    commands.add_parser("table", help="print the tables").set_defaults(do=table)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
