"""What the command lines show: progress, the table of layers, a summary."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Iterator

import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..evaluation.depth import LayerTable, depth_used, entry_layer, idle_from
from ..exits import printable
from ..problem import Problem
from ..solvers.progress import Progress, Report
from ..solvers.solution import Solution


@contextlib.contextmanager
def reporting(console: Console, every: float = 2.0) -> Iterator[Report]:
    """Give a progress report: one updating line on a terminal, else a plain line now and then."""
    status = console.status("starting") if console.is_terminal else None
    last = time.monotonic()

    def report(progress: Progress) -> None:
        nonlocal last
        line = (
            f"depth {progress.depth:3d}  iteration {progress.iteration:4d}"
            f"  objective {progress.objective:.6f}"
        )
        if np.isfinite(progress.residual):
            line += f"  gradient {progress.residual:.1e}"
        if progress.message:
            console.print(f"depth {progress.depth}: {progress.message}")
        elif status is not None:
            status.update(Text(line))
        elif time.monotonic() - last > every:
            last = time.monotonic()
            console.print(line)

    with status or contextlib.nullcontext():
        yield report


def print_cautions(problem: Problem, *more: str) -> None:
    """Print what is allowed but limits what can be concluded, or takes long, to stderr."""
    for sentence in filter(None, [*problem.cautions(), *more]):
        print(printable(f"warning: {sentence}"), file=sys.stderr)


def print_layers(console: Console, table: LayerTable, idle: int) -> None:
    """Print the table of layers; idle ones are marked."""
    out = Table(title="Layer by layer", title_justify="left")
    for name in (
        "k", "F(x_k)", "cost l_k", "|u_k|", "dist to M_y", "right [%]", "",
    ):  # fmt: skip
        out.add_column(name, justify="right")
    N = len(table.stage_cost)
    for k in range(N + 1):
        out.add_row(
            str(k),
            f"{table.data_cost[k]:.3e}",
            f"{table.stage_cost[k]:.3e}" if k < N else "",
            f"{table.control_norm[k]:.3e}" if k < N else "",
            f"{table.distance[k]:.3f}",
            f"{100 * table.accuracy[k]:.1f}",
            "idle" if idle <= k < N else ("end" if k == N else ""),
        )
    console.print(out)


def print_summary(console: Console, solution: Solution) -> None:
    """Print status, objective, residuals, curvature, depth and effort."""
    problem, controls, report = solution.problem, solution.controls, solution.report
    idle = idle_from(controls)
    layers = (
        f"from layer {idle} on |u_k| < 1 % of the largest"
        if idle < problem.depth
        else "no layer idles"
    )
    lines = [
        ("status", f"{report.status.name}: {report.status.value}"),
        ("objective J", f"{report.objective:.10f}"),
        ("gradient max|dJ/du|", f"{report.grad_inf_norm:.1e}   at the rolled-out states"),
        ("KKT residual", f"{report.kkt_residual:.1e}   of the solver's own states, multipliers"),
        (
            "least curvature",
            f"{report.min_curvature:.3e}   error band {report.curvature_band:.1e}",
        ),
        ("Newton distance", f"{report.newton_distance:.1e}   |H^-1 g|, to the exact minimiser"),
        ("idle layers", layers),
        ("entry layer", f"{entry_layer(problem, controls)}   F(x_k) stays near its final value"),
        (
            "depth used",
            f"{depth_used(problem, controls)} of {problem.depth}"
            "   idling the rest changes J by at most 1 %, flips nothing",
        ),
        ("iterations", f"{report.iterations}   by {report.method}"),
        ("seconds", f"{report.seconds:.1f}"),
    ]
    if not np.isfinite(report.kkt_residual):
        del lines[3]
    if report.message:
        lines.append(("note", report.message))
    width = max(len(name) for name, _ in lines)
    for name, value in lines:
        console.print(f"{name:<{width}}  {value}", soft_wrap=True)
