"""The figure of `path_ladder.py`: paths by layer for every depth, and entry layers by depth."""

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure


def draw(rungs) -> Figure:
    """Columns tanh and relu; rows stage cost, control norm, distance, entry layer by depth."""
    activations = list(dict.fromkeys(r.activation for r in rungs))
    figure = Figure(figsize=(6.8, 8.2), layout="constrained")
    axes = figure.subplots(4, len(activations), sharey="row")
    depths = sorted({r.depth for r in rungs})
    # dark to light, monotone in grey: shallow networks light, deep ones dark
    shades = dict(zip(depths, mpl.colormaps["cividis"](np.linspace(0.88, 0.0, len(depths))),
                      strict=True))  # fmt: skip
    rows = (("stage_cost", "stage cost $l_k$"), ("control_norm", "control norm $|u_k|$"),
            ("distance", "distance to $M_y$ (logits, rms)"))  # fmt: skip
    for column, activation in enumerate(activations):
        ladder = [r for r in rungs if r.activation == activation]
        for row, (quantity, label) in enumerate(rows):
            axis = axes[row, column]
            for r in ladder:
                for p, line, width in ((r.median, (0, (1.2, 1.2)), 1.1), (r.exact, "-", 1.5)):
                    value = getattr(p, quantity)
                    axis.semilogy(value, linestyle=line, linewidth=width, color=shades[r.depth])
                    if quantity == "distance" and p.entry <= p.depth:
                        marker = "o" if p is r.exact else "s"
                        face = shades[r.depth] if p is r.exact else "white"
                        style = {"color": shades[r.depth], "markerfacecolor": face}
                        axis.plot(
                            p.entry, value[p.entry], marker, markersize=4.5, zorder=5, **style
                        )
            axis.set(xlim=(-0.5, max(depths) + 0.5))
            if quantity == "control_norm":
                least = min(r.exact.control_norm.min() for r in rungs)
                axis.set_ylim(bottom=max(1e-6, 0.5 * least))
            if column == 0:
                axis.set_ylabel(label)
        axes[0, column].set_title(f"{activation}" if activation == "tanh" else
                                  "relu (exact: smoothed path, judged as relu)")  # fmt: skip
        axes[2, column].set_xlabel("layer $k$")
        _entries(axes[3, column], ladder, shades)
    axes[3, 0].set_ylabel("entry layer")
    handles = [mpl.lines.Line2D([], [], color=shades[N], linewidth=3, label=f"$N = {N}$")
               for N in depths]  # fmt: skip
    plain = {"color": "0.3", "markersize": 4.5}
    handles += [
        mpl.lines.Line2D([], [], marker="o", label="exact", **plain),
        mpl.lines.Line2D([], [], marker="s", markerfacecolor="white", linestyle=(0, (1.2, 1.2)),
                         label="Adam, median seed", **plain),
    ]  # fmt: skip
    figure.legend(handles=handles, loc="outside upper center", ncols=4)
    return figure


def _entries(axis, ladder, shades: dict) -> None:
    """Entry layer against depth; no turnpike (N + 1) lies on the line above the diagonal."""
    N = np.array([r.depth for r in ladder])
    axis.plot([0, N.max() + 1], [0, N.max() + 1], color="0.7", linewidth=0.8, zorder=0)
    axis.annotate("last layer", (0.6 * N.max(), 0.6 * N.max()), color="0.45", rotation=0,
                  ha="right", va="bottom")  # fmt: skip
    for r in ladder:
        for p in r.trained:
            axis.plot(r.depth, p.entry, "s", markersize=4.5, color=shades[r.depth],
                      markerfacecolor="white")  # fmt: skip
        axis.plot(r.depth, r.exact.entry, "o", markersize=5, color=shades[r.depth])
    axis.plot(N, [r.exact.entry for r in ladder], "-", color="0.5", linewidth=0.8, zorder=0)
    axis.set(xlabel="depth $N$ (all seeds of Adam)", xlim=(0, N.max() + 2), ylim=(0, N.max() + 2))
