"""Standard against soft cross-entropy: at the last layer only, hard everywhere, soft everywhere.

Hard cross-entropy has no minimiser: without control weight the logits of an optimal network grow
for ever, and with it they go on growing as r -> 0 and as layers are added.  Soft cross-entropy at
every layer has minimisers, hence a turnpike.  Exact solutions (as r -> 0, each also carried to the
next r, and as N grows) and trained networks (digits) under four losses:

    terminal          beta = 0, p_d = 1     standard training
    terminal, soft    beta = 0, p_d = .9
    hard              beta = 1, p_d = 1     hard cross-entropy at every layer
    soft              beta = 1, p_d = .9    soft cross-entropy at every layer

    python examples/studies/losses.py            about 6 processor minutes; resumable
    python examples/studies/losses.py --quick    a small case: seconds

The parameter values are our choice.
"""

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import sys

import continuation_rows
import csv_tables
import pictures
import study
import trained

from ocp import exits

NAME = "losses"
LOSSES = {
    "terminal": {"beta": 0, "p_d": 1.0},
    "terminal, soft": {"beta": 0, "p_d": 0.9},
    "hard": {"beta": 1, "p_d": 1.0},
    "soft": {"beta": 1, "p_d": 0.9},
}
GROWTH = continuation_rows.GROWTH | {"append_scale": 1e-3}


def parse(arguments: list[str]) -> argparse.Namespace:
    options = study.parsed(study.parser(__doc__, NAME), arguments)
    options.data = {"data": "moons", "data_options": {"n_samples": 40, "noise": 0.1}}
    options.weights, options.deep = (1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6), 1e-3
    options.depth, options.depths = 20, (10, 20, 40, 80)
    options.seeds, options.image_seeds = (0, 1), (0, 1, 2)
    options.image_weights, options.image_depths = (1e-2, 1e-3, 1e-4, 1e-5), (10, 20, 40)
    options.image_r, options.image_depth, options.epochs, options.rows = 1e-3, 20, 20, None
    if options.quick:
        options.data["data_options"] = {"n_samples": 8}
        options.weights, options.depth, options.depths = (1e-2, 1e-3), 4, (2, 4)
        options.seeds, options.image_seeds, options.epochs, options.rows = (0,), (0,), 1, 200
        options.image_weights, options.image_depths, options.image_depth = (1e-3,), (2,), 2
    return options


def chains_of(options: argparse.Namespace, weights) -> list[dict]:
    return [
        options.data | of_loss | {"loss": loss, "r": r, "seed": seed, "growth": GROWTH}
        for loss, of_loss in LOSSES.items()
        for r in weights
        for seed in options.seeds
    ]


def tasks_of_images(options: argparse.Namespace) -> list[study.Task]:
    """As r falls at one depth, and as depth grows at one r."""
    pairs = [(r, options.image_depth) for r in options.image_weights]
    pairs += [
        (options.image_r, N) for N in options.image_depths if (options.image_r, N) not in pairs
    ]
    return [
        study.Task(
            part="trained",
            label=f"{loss.replace(', ', '_')}_{r}_{N}_{seed}",
            parameters={"data": "digits", "rows": options.rows, "optimizer": "adam", "seed": seed,
                        "loss": loss, "r": r, "depth": N, "epochs": options.epochs,
                        "statement": of_loss | {"activation": "tanh", "depth": N, "r": r}},
        )
        for seed in options.image_seeds
        for loss, of_loss in LOSSES.items()
        for r, N in dict.fromkeys(pairs)
    ]  # fmt: skip


def compute(options: argparse.Namespace, held: study.Study) -> None:
    """Compute all rows and write the tables."""
    found = continuation_rows.grown(
        held, "weights", chains_of(options, options.weights), (options.depth,)
    )
    falling = continuation_rows.carried(held, "weights", found, "r", sorted(options.weights))
    growing = continuation_rows.grown(
        held, "depths", chains_of(options, (options.deep,)), options.depths
    )
    ladders = continuation_rows.ladders(held, growing)
    images = held.rows(trained.train_row, tasks_of_images(options))
    held.table("weights", [csv_tables.flat(row) for row in falling])
    held.table("depths", [csv_tables.flat(row) for own in growing for row in own])
    held.table("ladders", [csv_tables.flat(row) for row in ladders])
    held.table("trained", [csv_tables.flat(row) for row in images])


def draw(tables: dict[str, list[dict]]) -> dict:
    """Norms and layers against r and against N: the lowest exact minimum above, medians over
    the seeds of trained networks below."""
    from matplotlib.figure import Figure

    for line in tables["trained"]:
        line["test_percent"] = 100 * line["test_accuracy"]
    figure = Figure(figsize=(7.4, 6.4), layout="constrained")
    axes = figure.subplots(3, 3)
    panels = (
        (axes[0, 0], "weights", "r", "logit_end", r"exact: mean $|P z_N|$"),
        (axes[0, 1], "weights", "r", "control_sum", r"exact: $h\,\sum_k |u_k|^2$"),
        (axes[0, 2], "weights", "r", "depth_used", "exact: depth used"),
        (axes[1, 0], "depths", "depth", "logit_end", r"exact: mean $|P z_N|$"),
        (axes[1, 1], "depths", "depth", "drift", r"exact: drift $|P(z_N - z_{N/2})|$"),
        (axes[1, 2], "depths", "depth", "depth_used", "exact: depth used"),
        (axes[2, 0], "trained", "r", "logit_max", "digits: largest logit"),
        (axes[2, 1], "trained", "r", "test_percent", "digits: test accuracy [%]"),
        (axes[2, 2], "trained", "depth", "entry", "digits: entry layer"),
    )
    for axis, part, x, column, title in panels:
        for i, loss in enumerate(LOSSES):
            own = [line for line in tables[part] if line["loss"] == loss]
            if part == "trained":
                fixed = "depth" if x == "r" else "r"
                usual = pictures.usual(own, fixed)
                own = [line for line in own if line[fixed] == usual]
            else:
                own = pictures.lowest(own, x)
            axis.plot(*pictures.curve(own, x, column), **pictures.style(i), label=loss)
        axis.set(title=title, xlabel="control weight $r$" if x == "r" else "depth $N$")
        if x == "r":
            axis.set_xscale("log")
            axis.invert_xaxis()
        else:
            pictures.depths(axis, sorted({line[x] for line in tables[part]}))
        if column in ("logit_end", "control_sum", "drift", "logit_max"):
            axis.set_yscale("log")
            pictures.plain_numbers(axis)
    for axis, part in ((axes[1, 2], "depths"), (axes[2, 2], "trained")):
        depths = sorted({line["depth"] for line in tables[part]})
        axis.plot(depths, depths, color="0.8", linewidth=3, label="all layers", zorder=0)
        axis.set_yscale("log")
        pictures.plain_numbers(axis)
    handles, labels = axes[1, 2].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=5)
    pictures.letters(axes.flat)
    return {NAME: figure}


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return study.conduct(NAME, options, compute, draw)


if __name__ == "__main__":
    sys.exit(exits.run(main))
