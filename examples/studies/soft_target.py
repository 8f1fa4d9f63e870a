"""How soft must the target be?  p_d from 1/n_c + .02 to .999, for two and for ten classes.

The theory has a price at both ends: p_d -> 1/n_c moves the classes' minimisers together, p_d -> 1
takes curvature and slope of alpha to zero, linearly.  Both are formulas; what optimal networks
make of them is measured here: turnpike, depth, accuracy, slack, available storage, conditioning
of the reduced Hessian; and the values of p_d between which each property is there.

    python examples/studies/soft_target.py            about 20 processor minutes; resumable
    python examples/studies/soft_target.py --quick    a small case: seconds

The parameter values are our choice.
"""

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import math
import sys

import continuation_rows
import csv_tables
import exact
import numpy as np
import pictures
import study

from ocp import exits
from ocp.loss import off_target

NAME = "soft_target"
CASES = {
    "two": {"data": "spirals", "data_options": {"points_per_class": 24}, "width": 3},
    "ten": {"data": "blobs", "data_options": {"n_samples": 50, "n_classes": 10, "noise": 0.05},
            "width": 10},
}  # fmt: skip
VALUES = {
    "two": (0.52, 0.55, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999),
    "ten": (0.12, 0.15, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999),
}
GROWTH = continuation_rows.GROWTH | {"append_scale": 1e-6}


def parse(arguments: list[str]) -> argparse.Namespace:
    options = study.parsed(study.parser(__doc__, NAME), arguments)
    options.cases, options.values = CASES, VALUES
    options.depths, options.seeds = (
        {"two": (10, 20, 40), "ten": (4, 8, 16)},
        {"two": (0, 1, 2), "ten": (0, 1)},
    )
    if options.quick:
        small = {"data": "blobs", "data_options": {"n_samples": 9, "n_classes": 3}, "width": 3}
        options.cases, options.values = {"ten": small}, {"ten": (0.4, 0.9)}
        options.depths, options.seeds = {"ten": (2, 4)}, {"ten": (0,)}
    return options


def geometry(n_classes: int, p: float) -> dict:
    """What the formulas say of a soft target: no network is involved."""
    from ocp.loss import misclassification_threshold
    from verification import alpha as lower_bound

    eps = off_target(n_classes, p)
    boundary = math.log(p / eps) / math.sqrt(2)
    at = lower_bound.tight(np.array([boundary / 2]), n_classes, p)[0]
    return {
        "p_d": p,
        "n_classes": n_classes,
        "eps": eps,
        "boundary_distance": boundary,
        "class_distance": 2 * boundary,
        # exact for two classes; eps and eps sqrt(n_c/(n_c - 1)) for more
        "alpha_curvature": 2 * p * eps if n_classes == 2 else eps,
        "alpha_slope": eps * math.sqrt(n_classes / (n_classes - 1)),
        "alpha_at_half_boundary": float(at),
        "g_mis": misclassification_threshold(n_classes, p),
    }


def chains_of(options: argparse.Namespace, case: str) -> list[dict]:
    return [
        options.cases[case]
        | {"p_d": p, "seed": seed, "growth": GROWTH, "slack_at": options.depths[case][-1]}
        for p in options.values[case]
        for seed in options.seeds[case]
    ]


def best_of_seeds(found: list[list[dict]]) -> dict[float, list[dict]]:
    """For each p_d the chain whose deepest minimum is lowest; one that is none comes last."""
    best: dict[float, list[dict]] = {}
    rank = lambda own: (own[-1]["result"]["status"] != "SOLVED", own[-1]["result"]["J"])  # noqa: E731
    for own in found:
        p = own[0]["parameters"]["p_d"]
        if p not in best or rank(own) < rank(best[p]):
            best[p] = own
    return best


#: property -> does a row (the deepest of its chain), with its ladder, have it?  None: undecided
PROPERTIES = {
    "strict minimum, judged": lambda r, c: r["exit_code"] == 0,
    "all samples right": lambda r, c: r["right"] == r["samples"],
    "turnpike over the depths": lambda r, c: {"passed": True, "failed": False}.get(c["turnpike"]),
    "data cost settles": lambda r, c: r["entry"] < r["depth"],
    "last layers idle": lambda r, c: r["idle_from"] < r["depth"],
    "tube bound says something": lambda r, c: r["off_bound_is"] in ("proved", "observed"),
    "misclassification bound says something": lambda r, c: r["wrong_bound"] < r["depth"],
    "slack is nonnegative": lambda r, c: r["trajectory_is"] in ("proved", "observed"),
    "storage 0 at the tight rate, not 5 % above": lambda r, c: (
        abs(r["available_storage"]) < 1e-12 < 1e-9 < r["available_storage_above"]
    ),
    "condition number below 1e8": lambda r, c: (
        None if "condition" not in r else 0 < r["condition"] < 1e8
    ),
}


def kept(case: str, best: dict[float, list[dict]], ladders: dict[str, dict]) -> list[dict]:
    """Where on the grid of p_d each property is there, and where it is lost."""
    lines = []
    for name, holds in PROPERTIES.items():
        there = {}
        for p, own in sorted(best.items()):
            row = own[-1]["result"] | {"depth": own[-1]["parameters"]["depth"]}
            there[p] = holds(row, ladders[own[-1]["name"]]["result"])
        yes = [p for p, has in there.items() if has]
        lines.append(
            {
                "case": case,
                "property": name,
                "least_p_d": min(yes, default=None),
                "largest_p_d": max(yes, default=None),
                "holds_at": yes,
                "lost_at": [p for p, has in there.items() if has is False],
            }
        )
    return lines


def compute(options: argparse.Namespace, held: study.Study) -> None:
    """Compute all rows and write the tables."""
    facts, lines, properties, together = [], [], [], []
    for case in options.cases:
        found = continuation_rows.grown(held, case, chains_of(options, case), options.depths[case])
        ladders = continuation_rows.ladders(held, found, f"{case}_ladders")
        n_classes = exact.problem_of(found[0][0]["parameters"]).n_classes
        facts += [{"case": case} | geometry(n_classes, p) for p in options.values[case]]
        by_deepest = {own[-1]["name"]: ladder for own, ladder in zip(found, ladders, strict=True)}
        properties += kept(case, best_of_seeds(found), by_deepest)
        lines += [{"case": case} | csv_tables.flat(row) for own in found for row in own]
        together += [{"case": case} | csv_tables.flat(row) for row in ladders]
    held.table("geometry", facts)
    held.table("exact", lines)
    held.table("ladders", together)
    held.table("properties", properties)


def draw(tables: dict[str, list[dict]]) -> dict:
    """Formulas, turnpike and conditioning against p_d, and where each property is there."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    cases = list(dict.fromkeys(line["case"] for line in tables["exact"]))
    figure = Figure(figsize=(7.4, 2.1 * len(cases) + 2.5), layout="constrained")
    upper, lower = figure.subfigures(2, 1, height_ratios=[2.1 * len(cases), 2.5])
    panels_of = upper.subplots(len(cases), 3, squeeze=False)
    axes = []
    for i, case in enumerate(cases):
        own = [line for line in tables["exact"] if line["case"] == case]
        deepest = max(line["depth"] for line in own)
        own = pictures.lowest([line for line in own if line["depth"] == deepest], "p_d")
        facts = [line for line in tables["geometry"] if line["case"] == case]
        row = panels_of[i]
        axes += list(row)
        title = f"{facts[0]['n_classes']} classes"
        panels = (
            (row[0], facts, f"{title}: formulas",
             (("boundary_distance", "distance to the boundary"),
              ("alpha_curvature", r"curvature of $\alpha$ at 0"),
              ("alpha_slope", r"slope of $\alpha$ far away"))),
            (row[1], own, f"{title}, N = {deepest}: layers",
             (("entry", "entry layer"), ("depth_used", "depth used"),
              ("off", "outside the tube 1/2"))),
            (row[2], own, f"{title}: reduced Hessian",
             (("largest_curvature", "largest eigenvalue"), ("curvature", "least eigenvalue"),
              ("data_cost_end", "$F(x_N)$"))),
        )  # fmt: skip
        for axis, lines, name, curves in panels:
            for k, (column, label) in enumerate(curves):
                axis.plot(*pictures.curve(lines, "p_d", column), **pictures.style(k), label=label)
            pictures.targets(axis, [line["p_d"] for line in lines])
            axis.set(title=name, xlabel="$p_d$")
            if i == 0:
                axis.legend(fontsize=6, loc="lower left" if axis is row[0] else "upper right")
        row[0].set_yscale("log")
        row[0].set_ylim(bottom=row[0].get_ylim()[0] / 50)
        row[1].yaxis.set_major_locator(MaxNLocator(6, integer=True))
        row[2].set_yscale("log")
    axes += [strips(lower.subplots(), tables["properties"], cases)]
    pictures.letters(axes)
    return {NAME: figure}


def strips(axis, lines: list[dict], cases: list[str]):
    """Filled: the property is there at this p_d; hollow: it is not."""
    names = list(dict.fromkeys(line["property"] for line in lines))
    for line in lines:
        i, k = cases.index(line["case"]), names.index(line["property"])
        style = pictures.style(i)
        for values, fill in ((line["holds_at"], "full"), (line["lost_at"], "none")):
            values = values if isinstance(values, list) else [values] * (values is not None)
            label = f"{line['case']} classes" if k == 0 and fill == "full" else None
            axis.plot(values, [-k - 0.3 * i + 0.15] * len(values), color=style["color"],
                      marker=style["marker"], markersize=4, linestyle="none", fillstyle=fill,
                      label=label)  # fmt: skip
    pictures.targets(axis, (0.1, 0.999))
    axis.set_yticks([-k for k in range(len(names))], names)
    axis.set(
        xlabel="$p_d$", title="filled: it is so at this $p_d$; hollow: it is not; none: undecided"
    )
    axis.legend(loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize=6)
    return axis


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return study.conduct(NAME, options, compute, draw)


if __name__ == "__main__":
    sys.exit(exits.run(main))
