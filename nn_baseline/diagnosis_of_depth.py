"""The depth that was found, in sentences and in a figure."""

from __future__ import annotations

from typing import Any

from .growth_result import Grown
from .paired import difference


def sentences(found: Grown, tolerance: float) -> list[str]:
    """Say which depth is enough on validation data, what the next layer gains, and what J says."""
    stages, n = {s.depth: s for s in found.stages}, len(found.stages[0].right)
    here, said = stages[found.depth], []
    best = max(found.stages, key=lambda s: (s.accuracy, -s.depth))
    next_depth = min((k for k in stages if k > found.depth), default=None)
    layers = "1 layer is" if found.depth == 1 else f"{found.depth} layers are"
    if next_depth is None:
        said.append(f"{layers} the most that were tried: {_why_no_more(found)}")
    else:
        gained = difference(stages[next_depth].right, here.right)
        said.append(
            f"{layers} enough on validation data: {_ordinal(next_depth)} gains {gained}"
            f" of accuracy ({n} samples)"
        )
    if best.depth > found.depth:
        lost = difference(here.right, best.right)
        said.append(
            f"the most accurate of the depths tried is {best.depth}: {lost} lie between,"
            f" which hold {-tolerance:g} or more"
        )
    width = difference(here.right, here.right).high
    if width > tolerance:
        said.append(
            f"{n} validation samples cannot tell {tolerance:g} points: even equal predictions leave"
            f" {width:.2f}; more samples may ask for more layers"
        )
    said.append(
        f"the objective J uses {found.gain_depth}"
        f" layer{'s'[: found.gain_depth != 1]}: a layer counts there by its gain over idling, which"
        " is about J and not about accuracy"
    )
    return said


def _why_no_more(found: Grown) -> str:
    if not found.steps:
        return "deepest allows no more"
    last = found.steps[-1]
    return f"the last growth gained {last.gained} on validation data"


def _ordinal(k: int) -> str:
    names = {2: "second", 3: "third", 4: "fourth", 5: "fifth", 6: "sixth", 7: "seventh"}
    return f"the {names[k]}" if k in names else f"layer {k}"


def figure(curve: list[dict], history: list[dict], depth: int, ax: Any = None) -> Any:
    """Draw validation accuracy by depth with its intervals to the best, and the gain beside it.

    ax : matplotlib axes; None: new ones, of a figure that no window shows
    """
    if ax is None:
        from matplotlib.figure import Figure

        ax = Figure(figsize=(6, 3.5), layout="constrained").subplots()
    best = max(row["accuracy"] for row in curve)
    depths = [row["depth"] for row in curve]
    y = [100 * row["accuracy"] for row in curve]
    low = [max(0.0, v - (100 * best + row["low"])) for v, row in zip(y, curve, strict=True)]
    high = [max(0.0, 100 * best + row["high"] - v) for v, row in zip(y, curve, strict=True)]
    ax.errorbar(depths, y, yerr=[low, high], fmt="o-", capsize=3, label="validation accuracy")
    ax.axvline(depth, color="0.6", linestyle="--", label=f"depth found: {depth}")
    ax.set_xlabel("layers")
    ax.set_ylabel("accuracy [%]; bars: paired 95 % to the best")
    ax.set_xticks(depths)
    if history:
        other = ax.twinx()
        shares = [100 * step["gain"] / abs(step["idle"]) for step in history]
        places = [step["depth"] for step in history]
        other.bar(places, shares, width=0.3, alpha=0.3, color="C1", label="gain over idling")
        other.set_ylabel("gain over idling [% of J]")
        other.legend(loc="lower right")
    ax.legend(loc="upper left")
    return ax
