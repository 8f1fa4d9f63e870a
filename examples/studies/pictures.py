"""What the figures of the studies share: lines that differ in colour, marker and dash."""

from __future__ import annotations

from collections.abc import Sequence

MARKERS, DASHES = "os^Dv", ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)))


def style(i: int, dash: object = None, size: float = 3.2) -> dict:
    """Return the i-th line style."""
    return {
        "color": ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000")[i % 5],
        "marker": MARKERS[i % 5],
        "linestyle": DASHES[i % 5] if dash is None else dash,
        "markersize": size,
        "linewidth": 1.0,
    }


def letters(axes: Sequence) -> None:
    """Put (a), (b), ... before the titles."""
    for axis, letter in zip(axes, "abcdefghijkl", strict=False):
        title = axis.get_title()
        axis.set_title("")
        axis.set_title(f"({letter}) {title}".strip(), loc="left")


def depths(axis, values: Sequence[int]) -> None:
    """A logarithmic axis of depths with plain numbers."""
    axis.set_xscale("log")
    axis.set_xticks(list(values), [str(v) for v in values])
    axis.minorticks_off()


def plain_numbers(axis) -> None:
    """1, 10, 100 on a logarithmic axis of values that span two decades or so."""
    from matplotlib.ticker import FormatStrFormatter, LogLocator, NullFormatter

    low, high = axis.get_ylim()
    if high / low > 1e3:
        return
    axis.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axis.yaxis.set_minor_formatter(NullFormatter())


def targets(axis, values: Sequence[float]) -> None:
    """An axis of p_d that is wide at both ends."""
    axis.set_xscale("logit")
    ticks = (0.1, 0.2, 0.5, 0.9, 0.99, 0.999) if min(values) < 0.5 else (0.5, 0.7, 0.9, 0.99, 0.999)
    shown = [p for p in ticks if min(values) <= p <= max(values)]
    axis.set_xticks(shown or list(values)[:1], [f"{p:g}" for p in shown or list(values)[:1]])
    axis.xaxis.set_minor_formatter("")


def median(values: Sequence[float | None]) -> float:
    """The median of what is there; NaN of nothing."""
    import numpy as np

    there = [v for v in values if v is not None]
    return float(np.median(there)) if there else float("nan")


def usual(lines: Sequence[dict], name: str) -> object:
    """The value that most lines have."""
    values = [line[name] for line in lines]
    return max(values, key=values.count)


def curve(lines: Sequence[dict], x: str, y: str) -> tuple[list, list]:
    """Return the values of x and the medians of y over the lines with that x."""
    xs = sorted({line[x] for line in lines})
    return xs, [median([line.get(y) for line in lines if line[x] == v]) for v in xs]


def lowest(lines: Sequence[dict], *names: str) -> list[dict]:
    """Return the strict minimum of lowest objective at each value of the columns `names`."""
    found: dict[tuple, dict] = {}
    for line in lines:
        if line["status"] != "SOLVED":
            continue
        key = tuple(line[name] for name in names)
        if key not in found or line["J"] < found[key]["J"]:
            found[key] = line
    return list(found.values())
