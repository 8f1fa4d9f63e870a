"""Do other networks than dense ones show idle blocks when the loss stands at every block?

A convolutional network of one width, a vision transformer and a residual network of three stages
with BatchNorm, each trained in these arms, hard (p_d = 1) and soft (p_d = .9) targets:

    stage       the loss at every block and r
    stage_r0    the loss at every block, r = 0
    terminal    the loss at the last block only, the same r
    fresh       terminal, with fewer blocks and as many passes over blocks as the stage network had

The learning rate is the best of three for `terminal`, and r the largest on a grid whose validation
accuracy is within half a point of the best, both one choice an architecture, on a seed that is not
reported.  How many blocks a crop keeps is chosen on validation samples, what it loses is measured
on the test samples, paired.  Running statistics are never recalibrated here.

    python examples/studies/architectures.py --data fashion --data-dir DIR     hours; resumable
    python examples/studies/architectures.py --quick                           digits, seconds

The parameter values are our choice.
"""

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import sys

import architecture_rows
import csv_tables
import pictures
import study

from ocp import exits

NAME = "architectures"
ARMS = {
    "stage": {"beta": 1},
    "stage_r0": {"beta": 1, "r": 0.0},
    "terminal": {"beta": 0},
}
TARGETS = {"hard": 1.0, "soft": 0.9}
WIDTHS = {"conv": 24, "vit": 48, "resnet": 12}
#: of the choices, never reported
CHOOSING_SEED = 100
WITHIN = 0.005


def parse(arguments: list[str]) -> argparse.Namespace:
    made = study.parser(__doc__, NAME)
    made.add_argument("--data", default="fashion", choices=("fashion", "mnist", "digits"))
    made.add_argument("--data-dir", help="folder with the IDX files of the images")
    options = study.parsed(made, arguments, data="digits")
    options.architectures, options.depths = ("conv", "vit", "resnet"), (6, 12, 24)
    options.fresh, options.seeds = (1, 2, 3, 4, 6, 8), (0, 1, 2)
    options.rates = (3e-4, 1e-3, 3e-3)
    options.weights = (1e-3, 3e-3, 1e-2, 3e-2, 1e-1)
    options.sizes = {"train": 8000, "validation": 2000, "batch": 64, "most_epochs": 60}
    options.widths, options.targets = WIDTHS, TARGETS
    if options.data == "digits":
        options.sizes |= {"train": 1137, "validation": 300}
    if options.quick:
        options.depths, options.fresh, options.seeds = (3,), (1,), (0,)
        options.rates, options.weights = (3e-3,), (1e-3, 1e-2)
        options.sizes = {"train": 128, "validation": 100, "batch": 64, "most_epochs": 2}
        options.widths, options.targets = dict.fromkeys(WIDTHS, 8), {"soft": 0.9}
    return options


def task(options: argparse.Namespace, part: str, name: str, **parameters: object) -> study.Task:
    """One network; what is the same for all stands here."""
    known = {"data": options.data, "architecture": name, "width": options.widths[name]}
    if options.data_dir is not None:
        known["data_dir"] = str(options.data_dir)
    label = "_".join(str(parameters[k]) for k in ("arm", "target", "depth", "seed"))
    return study.Task(
        part=part, label=f"{name}_{label}", parameters=known | options.sizes | parameters
    )


def choose(options: argparse.Namespace, held: study.Study, name: str) -> tuple[float, float, list]:
    """Learning rate and r of one architecture, and the rows that they were chosen from."""
    N = sorted(options.depths)[len(options.depths) // 2]
    fixed = {"depth": N, "seed": CHOOSING_SEED, "target": "soft", "p_d": 0.9}
    rates = [
        task(options, "choices", name, **fixed, arm="terminal", beta=0, r=0.0, lr=lr)
        for lr in options.rates
    ]
    found = held.rows(architecture_rows.train_row, rates)
    lr = max(found, key=lambda row: row["result"]["validation"])["parameters"]["lr"]
    weights = [
        task(options, "choices", name, **fixed, arm="stage", beta=1, r=r, lr=lr)
        for r in options.weights
    ]
    tried = held.rows(architecture_rows.train_row, weights)
    best = max(row["result"]["validation"] for row in tried)
    good = [row for row in tried if row["result"]["validation"] >= best - WITHIN]
    return lr, max(row["parameters"]["r"] for row in good), [*found, *tried]


def compute(options: argparse.Namespace, held: study.Study) -> None:
    """Compute all rows and write the tables."""
    choices: list[dict] = []
    deep: list[dict] = []
    fresh: list[dict] = []
    for name in options.architectures:
        lr, r, seen = choose(options, held, name)
        choices += seen
        tasks = [
            task(options, "deep", name, **({"r": r, "lr": lr} | of_arm), arm=arm, target=target,
                 p_d=p_d, depth=N, seed=seed)
            for N in options.depths
            for seed in options.seeds
            for target, p_d in options.targets.items()
            for arm, of_arm in ARMS.items()
        ]  # fmt: skip
        found = held.rows(architecture_rows.train_row, tasks)
        deep += found
        stages = [row for row in found if row["parameters"]["arm"] == "stage"]
        tasks = [
            _fresh(options, row, k)
            for row in stages
            for k in options.fresh
            if k < row["parameters"]["depth"]
        ]
        fresh += held.rows(architecture_rows.train_row, tasks)
    for part, rows in (("choices", choices), ("deep", deep), ("fresh", fresh)):
        held.table(part, [csv_tables.flat(row) for row in rows])


def _fresh(options: argparse.Namespace, row: dict, k: int) -> study.Task:
    """A network of k blocks with the budget of a stage network, counted in passes over blocks."""
    own = row["parameters"]
    epochs = max(1, round(row["result"]["epochs_run"] * own["depth"] / k))
    return task(
        options, "fresh", own["architecture"], r=own["r"], lr=own["lr"], p_d=own["p_d"],
        target=own["target"], seed=own["seed"], arm="fresh", beta=0, depth=k, epochs=epochs,
        of_depth=own["depth"],
    )  # fmt: skip


def draw(tables: dict[str, list[dict]]) -> dict:
    """Norms by block and test accuracy by stage, at the largest depth, soft targets, first seed."""
    from matplotlib.figure import Figure

    names = list(dict.fromkeys(line["architecture"] for line in tables["deep"]))
    figure = Figure(figsize=(7.4, 4.4), layout="constrained")
    axes = figure.subplots(2, len(names), squeeze=False)
    for column, name in enumerate(names):
        own = [e for e in tables["deep"] if e["architecture"] == name and e["target"] == "soft"]
        N = max(line["depth"] for line in own)
        seed = min(line["seed"] for line in own)
        for i, arm in enumerate(ARMS):
            line = next(e for e in own if (e["arm"], e["depth"], e["seed"]) == (arm, N, seed))
            norms, stages = line["norms"], line["stages"]
            axes[0, column].plot(range(len(norms)), norms, **pictures.style(i), label=arm)
            shown = [100 * v for v in stages]
            axes[1, column].plot(range(len(stages)), shown, **pictures.style(i))
        less = [e for e in tables["fresh"] if e["architecture"] == name and e["target"] == "soft"]
        less = [e for e in less if (e["of_depth"], e["seed"]) == (N, seed)]
        axes[1, column].plot(
            [e["depth"] for e in less], [100 * e["test"] for e in less],
            **pictures.style(3), label="fresh",
        )  # fmt: skip
        axes[0, column].set(title=f"{name}: norm of block", xlabel="block $k$", yscale="symlog")
        axes[1, column].set(title="test accuracy [%]", xlabel="blocks kept")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    more = axes[1, 0].get_legend_handles_labels()
    figure.legend(handles + more[0], labels + more[1], loc="outside upper center", ncols=4)
    pictures.letters(axes.flat)
    return {NAME: figure}


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return study.conduct(NAME, options, compute, draw)


if __name__ == "__main__":
    sys.exit(exits.run(main))
