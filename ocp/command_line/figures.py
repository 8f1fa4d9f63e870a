"""Figures of a solution: features by layer, decision region, costs by layer, convergence.

Vector PDF and PNG.  Colours are Okabe and Ito's blue and orange families, which stay apart for
colour-blind readers; classes also differ by marker and lines by style, so that grey print works.
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from ..controls import Controls, ends
from ..evaluation.depth import LayerTable, idle_from, layer_table
from ..evaluation.rollout import logits, rollout
from ..problem import Problem
from ..solvers.solution import Iteration, Solution

CLASS_COLOURS = (
    *("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9"),
    *("#D55E00", "#999999", "#F0E442", "#000000", "#882255"),
)
CLASS_MARKERS = "o^sDvP*X<>"
STYLE = {
    "font.size": 8,
    "axes.titlesize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "legend.frameon": False,
    "figure.dpi": 200,
    "pdf.fonttype": 42,
}


def save_figures(solution: Solution, folder: Path, *, pdf: bool = False) -> list[Path]:
    """Write every figure that applies as PNG, and as PDF if wanted; return the paths."""
    problem, controls = solution.problem, solution.controls
    table = layer_table(problem, controls)
    with mpl.rc_context(STYLE):
        figures = {
            "features": features(problem, controls, solution.states),
            "layers": layers(problem, controls, table),
        }
        if problem.inputs.shape[1] == 2:
            figures["decision_region"] = decision_region(problem, controls)
        if solution.report.trace:
            figures["convergence"] = convergence(solution.report.trace)
        paths = []
        for name, figure in figures.items():
            # `savefig` would lay the figure out twice for each file: here it is done once
            figure.get_layout_engine().execute(figure)
            figure.set_layout_engine("none")
            paths.append(folder / f"{name}.png")
            FigureCanvasAgg(figure).print_png(paths[-1])
            if pdf:
                paths.append(folder / f"{name}.pdf")
                # no date in the file: the same solution gives the same bytes
                figure.savefig(paths[-1], metadata={"CreationDate": None})
    return paths


def features(problem: Problem, controls: Controls, X: np.ndarray, panels: int = 8) -> Figure:
    """The classes' features layer by layer, on the readout's most telling plane.

    Two classes: the logit difference against the direction of largest remaining spread; more
    classes: the two leading directions of the centred readout's row space.
    """
    shown = np.unique(np.rint(np.linspace(0, problem.depth, panels)).astype(int))
    plane, names = _plane(problem, controls, X)
    points = X @ plane.T
    columns = (len(shown) + 1) // 2
    figure = Figure(figsize=(1.75 * columns, 3.9), layout="constrained")
    axes = figure.subplots(2, columns, sharex=True, sharey=True, squeeze=False)
    for axis, k in zip(axes.flat, shown, strict=False):
        for c in range(problem.n_classes):
            members = problem.labels == c
            axis.plot(
                *points[k, members].T,
                linestyle="none",
                marker=CLASS_MARKERS[c % 10],
                color=CLASS_COLOURS[c % 10],
                markersize=2.8,
                markeredgecolor="black" if c else "none",
                markeredgewidth=0.25,
                label=class_label(problem, c),
            )
        axis.set_title(f"layer {k}" if k else "layer 0 (input)")
        if problem.n_classes == 2 and problem.p_d < 1:
            _mark_minimisers(axis, problem, controls)
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
    for axis in axes[-1]:
        axis.set_xlabel(names[0])
    for axis in axes[:, 0]:
        axis.set_ylabel(names[1])
    handles, labels = axes.flat[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper right", ncols=len(labels) + 1)
    return figure


def decision_region(problem: Problem, controls: Controls, points: int = 180) -> Figure:
    """Predicted class and its confidence over the input plane (two input coordinates)."""
    s = problem.input_values
    low, high = s.min(axis=0), s.max(axis=0)
    margin = 0.12 * (high - low).max()
    grid_x = np.linspace(low[0] - margin, high[0] + margin, points)
    grid_y = np.linspace(low[1] - margin, high[1] + margin, points)
    grid = np.stack(np.meshgrid(grid_x, grid_y), axis=-1).reshape(-1, 2)
    probe = problem.with_(
        inputs=grid,
        labels=np.arange(len(grid)) % 2,
        input_scale=None,
        input_shift=None,
    )
    z = logits(problem, controls, rollout(probe, controls).X[-1])
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    p = (p / p.sum(axis=-1, keepdims=True)).reshape(points, points, -1)
    figure = Figure(figsize=(4.2, 3.9), layout="constrained")
    axis = figure.subplots()
    palette = np.array([mpl.colors.to_rgb(c) for c in CLASS_COLOURS])
    winner = p.argmax(axis=-1)
    strength = 0.15 + 0.45 * (p.max(axis=-1) - 1 / problem.n_classes)[..., None]
    image = 1 - strength * (1 - palette[winner % 10])
    extent = (grid_x[0], grid_x[-1], grid_y[0], grid_y[-1])
    axis.imshow(image, origin="lower", extent=extent, interpolation="bilinear")
    if problem.n_classes == 2:
        axis.contour(grid_x, grid_y, p[..., 0] - p[..., 1], levels=[0.0], colors="0.2",
                     linewidths=0.8)  # fmt: skip
    for c in range(problem.n_classes):
        axis.plot(
            *s[problem.labels == c].T,
            linestyle="none",
            marker=CLASS_MARKERS[c % 10],
            color=CLASS_COLOURS[c % 10],
            markeredgecolor="black",
            markeredgewidth=0.3,
            markersize=3.5,
            label=class_label(problem, c),
        )
    columns = problem.column_names
    names = [plain(name) for name in columns] if columns else ["$s_1$", "$s_2$"]
    axis.set(xlabel=f"input {names[0]}", ylabel=f"input {names[1]}")
    axis.set_title("Predicted class and confidence")
    figure.legend(loc="outside lower center", ncols=problem.n_classes)
    return figure


def layers(problem: Problem, controls: Controls, table: LayerTable) -> Figure:
    """Stage cost, data cost and control norm by layer on a log scale, the turnpike shaded."""
    N, idle = problem.depth, idle_from(controls)
    figure = Figure(figsize=(5.2, 3.2), layout="constrained")
    axis = figure.subplots()
    if idle < N:
        axis.axvspan(idle - 0.5, N + 0.5, color="0.9", zorder=0)
        axis.text(
            (idle + N) / 2, 0.97, "turnpike:\nlayers idle", ha="center", va="top",
            transform=axis.get_xaxis_transform(), color="0.35",
        )  # fmt: skip
    tiny = np.finfo(float).tiny
    axis.semilogy(np.arange(N), np.maximum(table.control_norm, tiny), "^-", color=CLASS_COLOURS[1],
                  markersize=4, label=r"control norm $|u_k|$")  # fmt: skip
    axis.semilogy(np.arange(N), table.stage_cost, "o-", color=CLASS_COLOURS[0], markersize=4,
                  label=r"stage cost $\ell_k$")  # fmt: skip
    axis.semilogy(np.arange(N + 1), table.data_cost, "s--", color="0.3", markersize=3,
                  linewidth=0.9, label=r"data cost $F(x_k)$")  # fmt: skip
    low = max(min(table.stage_cost.min(), table.data_cost.min(), table.control_norm.min()), 1e-12)
    axis.set_ylim(bottom=low / 3)
    axis.set(xlabel="layer $k$", xlim=(-0.5, N + 0.5))
    axis.xaxis.get_major_locator().set_params(integer=True)
    figure.legend(loc="outside upper center", ncols=3)
    return figure


def convergence(trace: tuple[Iteration, ...]) -> Figure:
    """Residuals and objective over the iterations; vertical lines where the depth grows."""
    count = np.arange(len(trace))
    figure = Figure(figsize=(5.2, 4.0), layout="constrained")
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2, 1))
    floor = 1e-17
    for name, style, colour, label in (
        ("dual_infeasibility", "-", CLASS_COLOURS[0], "stationarity"),
        ("primal_infeasibility", "--", CLASS_COLOURS[1], "dynamics (primal)"),
    ):
        values = np.array([getattr(line, name) for line in trace])
        if np.isfinite(values).any() and (values > 0).any():
            top.semilogy(count, np.maximum(values, floor), style, color=colour, linewidth=1,
                         label=label)  # fmt: skip
    bottom.plot(count, [line.objective for line in trace], color="0.2", linewidth=1)
    depths = np.array([line.depth for line in trace])
    for at in np.flatnonzero(np.diff(depths, prepend=-1)):
        for axis in (top, bottom):
            axis.axvline(at, color="0.8", linewidth=0.8, zorder=0)
        bottom.text(at, 0.98, f"N={depths[at]}", transform=bottom.get_xaxis_transform(),
                    fontsize=6, va="top", ha="right", color="0.35", rotation=90)  # fmt: skip
    objective = np.array([line.objective for line in trace])
    finite = objective[np.isfinite(objective)]
    if len(finite):
        spread = np.quantile(finite, [0.02, 0.9])
        room = 0.15 * (spread[1] - spread[0]) + 1e-12
        bottom.set_ylim(spread[0] - room, spread[1] + 3 * room)
    top.set_ylabel("residual (solver's)")
    figure.legend(loc="outside upper center", ncols=2)
    bottom.set(xlabel="iteration, all depths", ylabel="objective $J$")
    return figure


def _plane(problem: Problem, controls: Controls, X: np.ndarray) -> tuple[np.ndarray, list[str]]:
    """Two orthonormal directions of the state space to look along, (2, n), and their names."""
    C = ends(problem, controls)[2]
    if problem.width == 1:
        return np.array([[1.0], [0.0]]), ["state $x_1$", ""]
    if problem.n_classes == 2:
        first = C[0] - C[1]
        first = first / (np.linalg.norm(first) or 1.0)
        spread = X.reshape(-1, problem.width)
        spread = spread - spread @ first[:, None] * first
        second = np.linalg.svd(spread - spread.mean(axis=0), full_matrices=False)[2][0]
        return np.stack([first, second]), [
            f"towards {class_label(problem, 0)}",
            "largest other spread",
        ]
    plane = np.linalg.svd(C - C.mean(axis=0))[2][:2]
    return plane, ["readout direction 1", "readout direction 2"]


def _mark_minimisers(axis: Axes, problem: Problem, controls: Controls) -> None:
    """Draw the two minimiser subspaces as vertical lines in the two-class plane."""
    _, _, C, c = ends(problem, controls)
    gap = np.linalg.norm(C[0] - C[1])
    if gap == 0:
        return
    log_ratio = np.log(problem.p_d / (1 - problem.p_d))
    for sign, style in ((1.0, ":"), (-1.0, "--")):
        position = (sign * log_ratio - (c[0] - c[1])) / gap
        axis.axvline(position, color="0.5", linestyle=style, linewidth=0.7, zorder=0)


def plain(name: str, most: int = 24) -> str:
    """A name from people's data as the text of a figure: no mathematics, nothing unprintable."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    shown = shown if len(shown) <= most else shown[: most - 3] + "..."
    return shown.replace("$", r"\$")


def class_label(problem: Problem, c: int) -> str:
    """What a class is called in a legend."""
    return plain(problem.class_names[c]) if problem.class_names else f"class {c}"
