"""Optimal networks leave the turnpike for a number of layers that does not grow with depth.

    (1/n_d) #{(i, k): dist_z(x_k^i) > e}  <=  J'/(w_1 h alpha(e))        for every N, beta = 1

Exact: five toy sets, tanh and silu, each grown from 3 and from 8 to 100 layers; every minimum is
judged, and each ladder of depths as a whole.  Trained: digits and 5000 MNIST images, tanh and relu.
Then the layers behind the turnpike's entry are removed, beside a fresh network of that depth.

    python examples/studies/depth.py            about 15 processor minutes; resumable
    python examples/studies/depth.py --quick    a small case: seconds

The parameter values are our choice.
"""

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import sys

import continuation_rows
import csv_tables
import exact
import numpy as np
import pictures
import study
import study_rows
import trained

from ocp import exits

NAME = "depth"
SETS = {
    "spirals": {"points_per_class": 24},
    "circles": {"n_samples": 40, "noise": 0.05},
    "moons": {"n_samples": 40, "noise": 0.1},
    "xor": {"n_samples": 40, "noise": 0.15},
    "blobs": {"n_samples": 42, "n_classes": 3, "noise": 0.25},
}
GROWTH = continuation_rows.GROWTH | {"append_scale": 1e-6}


def parse(arguments: list[str]) -> argparse.Namespace:
    made = study.parser(__doc__, NAME)
    options = study.parsed(made, arguments)
    options.sets, options.activations = dict(SETS), ("tanh", "silu")
    options.depths, options.seeds, options.later = (3, 5, 8, 12, 20, 30, 50, 100), (0, 1), 8
    options.images, options.image_activations = ("digits", "mnist5k"), ("tanh", "relu")
    options.image_depths, options.image_seeds = (3, 5, 10, 20, 50), (0, 1)
    options.epochs, options.rows, options.crop_at = 20, None, 20
    if options.quick:
        options.sets = {"blobs": {"n_samples": 9, "n_classes": 3}}
        options.activations, options.depths, options.seeds = ("tanh",), (2, 4, 8), (0,)
        options.later = 4
        options.images, options.image_activations = ("digits",), ("tanh",)
        options.image_depths, options.image_seeds = (2, 4), (0,)
        options.epochs, options.rows, options.crop_at = 1, 200, 4
    return options


# --- rows ---------------------------------------------------------------------------------------


def crop(parameters: dict, given: study.Files) -> tuple[dict, study.Files]:
    """Remove the layers behind the depth used; solve a fresh network of the depth left.

    Beside the depth used stands what the judge can prove of it: steering and the depth bound.
    """
    import ocp
    from ocp import loss
    from verification import verify_content

    whole = exact.load(given["whole"])
    problem, u = whole.problem, whole.controls
    k = max(1, ocp.depth_used(problem, u))
    small = problem.with_(depth=k)
    after = lambda p, v: ocp.logits(p, v, ocp.rollout(p, v).X[-1])  # noqa: E731
    z, cut = after(problem, u), after(small, u.layers(0, k))
    growth = ocp.GrowthOptions(**parameters["growth"])
    found = ocp.grow(small, seed=parameters["seed"], options=growth)
    result, produced = exact.solved_row(found)
    report = verify_content([whole], names=["whole"], only=("reachability",))
    steering, bound = (report.named(f"reachability.{name}") for name in ("steering", "depth"))
    own = {
        "steering": steering.verdict.value,
        "steering_says": steering.explanation.replace(";", ","),
        "depth_bound": bound.bound,
        "depth_bound_is": bound.verdict.value,
        "depth_left": k,
        "cropped_J": float(ocp.objective(small, u.layers(0, k))),
        "cropped_right": int(loss.is_right(cut, problem.labels).sum()),
        "flips": int((cut.argmax(axis=-1) != z.argmax(axis=-1)).sum()),
        "logit_change": float(np.abs(cut - z).max()),
    }
    names = ("status", "J", "right", "samples", "exit_code", "gradient", "curvature")
    return own | {name: result[name] for name in names}, produced


# --- the study ----------------------------------------------------------------------------------


def chains_of(options: argparse.Namespace) -> list[dict]:
    return [
        {"data": data, "data_options": of_data, "activation": activation, "seed": seed,
         "growth": GROWTH}
        for data, of_data in options.sets.items()
        for activation in options.activations
        for seed in options.seeds
    ]  # fmt: skip


def tasks_of_crops(options, rows: list[list[dict]]) -> list[study.Task]:
    """The lowest minimum of each set and activation, at one depth."""
    best: dict[tuple, dict] = {}
    for row in (row for found in rows for row in found):
        at = row["parameters"]["depth"] == options.crop_at
        if not at or row["result"]["status"] != "SOLVED":
            continue
        key = (row["parameters"]["data"], row["parameters"]["activation"])
        if key not in best or row["result"]["J"] < best[key]["result"]["J"]:
            best[key] = row
    return [
        study.Task(
            part="crops",
            label="_".join(key),
            parameters=dict(zip(("data", "activation"), key, strict=True))
            | {"whole_depth": options.crop_at, "whole_J": row["result"]["J"], "seed": 0,
               "whole_right": row["result"]["right"], "growth": GROWTH},
            given={"whole": study_rows.file_of(row, exact.SOLUTION)},
        )
        for key, row in best.items()
    ]  # fmt: skip


def tasks_of_images(options: argparse.Namespace) -> list[study.Task]:
    return [
        study.Task(
            part="trained",
            label=f"{data}_{activation}_{depth}_{seed}",
            parameters={"data": data, "rows": options.rows, "optimizer": "adam", "seed": seed,
                        "epochs": options.epochs, "activation": activation, "depth": depth,
                        "statement": {"activation": activation, "depth": depth}},
        )
        for seed in options.image_seeds
        for depth in options.image_depths
        for activation in options.image_activations
        for data in options.images
    ]  # fmt: skip


def tasks_of_fresh(options, rows: list[dict]) -> list[study.Task]:
    """As deep as the entry layer of the trained network, with the same multiply-adds."""
    tasks = []
    for row in rows:
        given, statement = row["parameters"], row["parameters"]["statement"]
        if statement["depth"] != options.crop_at:
            continue
        k = max(1, row["result"]["entry"])
        parameters = given | {
            "depth": k, "statement": statement | {"depth": k}, "budget_depth": options.crop_at,
            "cropped_accuracy": row["result"]["test_after"][k],
            "cropped_flips": row["result"]["flips"][k],
            "whole_accuracy": row["result"]["test_accuracy"],
        }  # fmt: skip
        label = f"{given['data']}_{statement['activation']}_{k}_{given['seed']}"
        tasks.append(study.Task(part="fresh", label=label, parameters=parameters))
    return tasks


def compute(options: argparse.Namespace, held: study.Study) -> None:
    """Compute all rows and write the tables."""
    rows = []
    for seed in options.seeds:  # the deepest, which cost most, from the first seed alone
        own = [chain for chain in chains_of(options) if chain["seed"] == seed]
        depths = options.depths if seed == options.seeds[0] else options.depths[:-1]
        rows += continuation_rows.grown(held, "exact", own, depths)
        # a network that was too shallow for its task may lead the deeper ones astray
        own = [chain | {"first_depth": options.later} for chain in own]
        rows += continuation_rows.grown(
            held, "exact", own, [N for N in depths if options.later <= N]
        )
    ladders = continuation_rows.ladders(held, rows)
    crops = held.rows(crop, tasks_of_crops(options, rows))
    images = held.rows(trained.train_row, tasks_of_images(options))
    fresh = held.rows(trained.train_row, tasks_of_fresh(options, images))
    held.table("exact", [csv_tables.flat(row) for found in rows for row in found])
    held.table("ladders", [csv_tables.flat(row) for row in ladders])
    held.table("crops", [csv_tables.flat(row) for row in crops])
    held.table("trained", [csv_tables.flat(row) for row in images])
    held.table("fresh", [csv_tables.flat(row) for row in fresh])


def draw(tables: dict[str, list[dict]]) -> dict:
    """Counts, values and layers of exact networks above, of trained ones below."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.4, 5.4), layout="constrained")
    axes = figure.subplots(2, 3)
    exact_panels(axes[0], tables["exact"])
    trained_panels(axes[1], tables)
    pictures.letters(axes.flat)
    return {NAME: figure}


def exact_panels(axes, lines: list[dict]) -> None:
    """Layers off the turnpike with the bound, V_N, and the approach by layer."""
    depths = sorted({line["depth"] for line in lines})
    for i, data in enumerate(dict.fromkeys(line["data"] for line in lines)):
        for activation, dash in (("tanh", "-"), ("silu", "--")):
            own = [ln for ln in lines if ln["data"] == data and ln["activation"] == activation]
            if not own:
                continue
            best = sorted(pictures.lowest(own, "depth"), key=lambda ln: ln["depth"])
            own_depths = [ln["depth"] for ln in best]
            style = pictures.style(i, dash)
            label = data if activation == "tanh" else None
            axes[0].plot(own_depths, [ln["off"] for ln in best], **style, label=label)
            axes[1].plot(own_depths, [ln["J"] for ln in best], **style)
            deep = best[-1]
            costs = np.maximum(np.array(deep["data_cost"]), 1e-12)[
                : min(31, len(deep["data_cost"]))
            ]
            style |= {"markevery": 3}
            axes[2].semilogy(np.arange(len(costs)), costs, **style)
    worst = max(lines, key=lambda ln: ln["off_bound"] if ln["depth"] == depths[-1] else 0.0)
    axes[0].plot(depths, depths, color="0.7", linewidth=0.8, zorder=0)
    axes[0].axhline(worst["off_bound"], color="0.4", linewidth=0.8, linestyle=":")
    axes[0].text(depths[0], worst["off_bound"] * 1.1, f"largest bound ({worst['data']})",
                 fontsize=6, va="bottom", color="0.4")  # fmt: skip
    axes[0].text(depths[-3], depths[-3] * 0.55, "all layers", fontsize=6, color="0.5")
    axes[0].set(title="layers outside the tube", yscale="log", xlabel="depth $N$",
                ylim=(0.8, 3000))  # fmt: skip
    axes[1].set(title="$V_N$ (lowest of the chains)", yscale="log", xlabel="depth $N$")
    axes[1].set_yticks((0.2, 0.3, 0.5, 0.8, 1.2), ("0.2", "0.3", "0.5", "0.8", "1.2"))
    axes[2].set(title=f"$F(x_k)$ at N = {depths[-1]}", xlabel="layer $k$")
    for axis in axes[:2]:
        pictures.depths(axis, depths)
    axes[0].legend(fontsize=6, title="solid tanh, dashed silu", title_fontsize=6, ncols=2,
                   loc="upper left")  # fmt: skip


def trained_panels(axes, tables: dict[str, list[dict]]) -> None:
    """Layers off the turnpike; accuracy of crops; what a fresh network of that depth does."""
    lines = tables["trained"]
    depths = sorted({line["depth"] for line in lines})
    kinds = list(dict.fromkeys((line["data"], line["activation"]) for line in lines))
    crop_at = pictures.usual(tables["fresh"], "budget_depth")
    for i, kind in enumerate(kinds):
        own = [ln for ln in lines if (ln["data"], ln["activation"]) == kind]
        style = pictures.style(i, "-")
        dotted = {"marker": "", "linestyle": ":"}
        axes[0].plot(*pictures.curve(own, "depth", "entry"), **style, label=" ".join(kind))
        axes[0].plot(*pictures.curve(own, "depth", "off"), **style | dotted)
        after = [ln["test_after"] for ln in own if ln["depth"] == crop_at]
        axes[1].plot(100 * np.mean(after, axis=0), **style, markevery=2)
        fresh = [ln for ln in tables["fresh"] if (ln["data"], ln["activation"]) == kind]
        cropped = [100 * ln["cropped_accuracy"] for ln in fresh]
        anew = [100 * ln["test_accuracy"] for ln in fresh]
        axes[2].plot(cropped, anew, **style | {"linestyle": "none"})
    axes[0].plot(depths, depths, color="0.7", linewidth=0.8, zorder=0)
    axes[0].set(title="trained: entry layer", xlabel="depth $N$")
    pictures.depths(axes[0], depths)
    axes[0].legend(fontsize=6, title="dotted: outside the tube\ngrey: all layers", title_fontsize=6)
    axes[1].set(
        title=f"test [%] after k of {crop_at}, as in (d)", xlabel="layer $k$", ylim=(75, 100)
    )
    low, high = np.array([axes[2].get_xlim(), axes[2].get_ylim()]).T
    ends = [min(low), max(high)]
    axes[2].plot(ends, ends, color="0.7", linewidth=0.8, zorder=0)
    axes[2].set(title="test [%], same depth; grey: equal", xlabel="cropped at the entry layer",
                ylabel="fresh, same budget")  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return study.conduct(NAME, options, compute, draw)


if __name__ == "__main__":
    sys.exit(exits.run(main))
