"""Control weight r, terminal weight gamma, step h: where a turnpike is seen, where none is.

r buys small controls with fit: too large and nothing moves, too small and the controls grow.
gamma pays the last layer alone: too large and samples leave the turnpike at the end.  h sets how
far a layer may move.  Each is varied alone around the default, then r against p_d on a map; every
exact solution is judged, and the judge's diagnosis names what went wrong.  The lowest minimum of
each value of r or gamma is carried to its neighbours, which it often beats.

    python examples/studies/weights.py            about 10 processor minutes; resumable
    python examples/studies/weights.py --quick    a small case: seconds

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

from ocp import exits

NAME = "weights"
GROWTH = continuation_rows.GROWTH | {"append_scale": 1e-3}
DEFAULT = {"p_d": 0.9, "r": 1e-3, "gamma": 1.0, "h": 0.5}


def parse(arguments: list[str]) -> argparse.Namespace:
    options = study.parsed(study.parser(__doc__, NAME), arguments)
    options.data = {"data": "spirals", "data_options": {"points_per_class": 24}}
    options.depth, options.seeds = 20, (0, 1, 2)
    options.sweeps = {
        "r": (1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0),
        "gamma": (0.0, 0.1, 1.0, 10.0, 100.0, 1000.0),
        "h": (0.1, 0.25, 0.5, 1.0, 2.0),
    }
    options.map = ((1e-5, 1e-4, 1e-3, 1e-2, 3e-2, 1e-1),
                   (0.55, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999))  # fmt: skip
    if options.quick:
        options.data["data_options"] = {"points_per_class": 4}
        options.depth, options.seeds = 4, (0,)
        options.sweeps, options.map = {"r": (1e-3, 1.0), "gamma": (10.0,)}, ((1e-2,), (0.7, 0.9))
    return options


def seen(row: dict, depth: int) -> str:
    """Name what an exact solution shows: fixed criteria, one word."""
    fitted = row["right"] == row["samples"]
    # settled before the last layers, and not only because nothing was learnt
    turnpike = row["entry"] <= 0.8 * depth and row["data_cost_end"] <= row["g_mis"] / 10
    if turnpike:
        return "turnpike" if fitted else "turnpike, samples wrong"
    return "fitted only" if fitted else "neither"


def chains_of(options: argparse.Namespace, points: list[dict]) -> list[dict]:
    return [
        options.data | DEFAULT | point | {"seed": seed, "growth": GROWTH}
        for point in points
        for seed in options.seeds
    ]


def lines_of(rows: list[dict], depth: int) -> list[dict]:
    return [csv_tables.flat(row) | {"seen": seen(row["result"], depth)} for row in rows]


def compute(options: argparse.Namespace, held: study.Study) -> None:
    """Compute all rows and write the tables."""
    for name, values in options.sweeps.items():
        points = chains_of(options, [{name: value} for value in values])
        found = continuation_rows.grown(held, name, points, (options.depth,))
        rows = [own[-1] for own in found]
        if name != "h":  # another h makes other states of the same controls
            rows = continuation_rows.carried(held, name, found, name, values)
        held.table(name, lines_of(rows, options.depth))
    weights, targets = options.map
    points = chains_of(options, [{"r": r, "p_d": p} for r in weights for p in targets])
    found = continuation_rows.grown(held, "map", points, (options.depth,))
    rows = continuation_rows.carried(held, "map", found, "r", weights)
    held.table("map", lines_of(rows, options.depth))


def draw(tables: dict[str, list[dict]]) -> dict:
    """The three sweeps, and the map of r against p_d."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    sweeps = [name for name in ("r", "gamma", "h") if name in tables]
    figure = Figure(figsize=(7.4, 6.6), layout="constrained")
    grid = figure.add_gridspec(3, 3, height_ratios=[1, 1, 1.5])
    axes = []
    names = {"r": "control weight $r$", "gamma": r"terminal weight $\gamma$", "h": "step $h$"}
    for i, curves in enumerate((
        (("control_max", r"largest $|u_k|$"), ("data_cost_end", "$F(x_N)$")),
        (("entry", "entry layer"), ("depth_used", "depth used"), ("off", "outside the tube 1/2")),
    )):  # fmt: skip
        for j, name in enumerate(sweeps):
            axis = figure.add_subplot(grid[i, j])
            for k, (column, label) in enumerate(curves):
                style = pictures.style(k + 2 * i)
                lowest = pictures.lowest(tables[name], name)
                axis.plot(*pictures.curve(lowest, name, column), **style, label=label)
            if name == "gamma":
                axis.set_xscale("symlog", linthresh=0.1)
                axis.set_xticks((0, 1, 100), ("0", "1", "100"))
            else:
                axis.set_xscale("log")
            if i == 0:
                axis.set_yscale("log")
            else:
                axis.yaxis.set_major_locator(MaxNLocator(5, integer=True))
            if j == len(sweeps) - 1:
                axis.set_ylim(top=axis.get_ylim()[1] * (3000 if i == 0 else 1.6))
                axis.legend(fontsize=6, loc="upper right")
            title = r"largest $|u_k|$ and $F(x_N)$" if i == 0 else "layers"
            axis.set(xlabel=names[name], title=title)
            axes.append(axis)
    axes.append(chart(figure.add_subplot(grid[2, :]), tables["map"]))
    pictures.letters(axes)
    return {NAME: figure}


def chart(axis, lines: list[dict]):
    """What is seen at each r and p_d, in the lowest minimum found; depth used beside it."""
    marks = (("turnpike", "o", "#0072B2"), ("turnpike, samples wrong", "s", "#56B4E9"),
             ("fitted only", "^", "#E69F00"), ("neither", "x", "#000000"))  # fmt: skip
    best = pictures.lowest(lines, "r", "p_d")
    for name, marker, colour in marks:
        own = [line for line in best if line["seen"] == name]
        if not own:
            continue
        axis.plot([line["p_d"] for line in own], [line["r"] for line in own], marker,
                  color=colour, markersize=8, label=name)  # fmt: skip
    for line in best:
        axis.annotate(str(line["depth_used"]), (line["p_d"], line["r"]), xytext=(7, -2), fontsize=6,
                      textcoords="offset points")  # fmt: skip
    pictures.targets(axis, [line["p_d"] for line in lines])
    shown = sorted({line["p_d"] for line in lines})
    axis.set_xticks(shown, [f"{p:g}" for p in shown])
    axis.set_yscale("log")
    axis.margins(0.08)
    axis.set(
        xlabel="$p_d$",
        ylabel="control weight $r$",
        title="seen in the lowest minimum found; the number: depth used",
    )
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return axis


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return study.conduct(NAME, options, compute, draw)


if __name__ == "__main__":
    sys.exit(exits.run(main))
