"""What the commands show: tables layer by layer and crop by crop, and the lines of a training."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from ocp import cautions

from .cropping import Crop
from .evaluation import Layers, evaluate
from .model import Network
from .result import Progress, Result
from .start import samples

#: held-out inputs and labels
Samples = tuple[np.ndarray, np.ndarray]


def layers_of(network: Network, held_out: Samples | None) -> dict[str, Layers]:
    """Return the network layer by layer, by set of samples."""
    found = {"training": evaluate(network, *samples(network))}
    if held_out is not None:
        found["held-out"] = evaluate(network, *samples(network, *held_out))
    return found


def show_layers(console: Console, found: dict[str, Layers]) -> None:
    """Print what `layers_of` found."""
    console.print(layer_table(found))
    for name, layers in found.items():
        console.print(
            f"{name}: objective {layers.objective:.8g}, accuracy"
            f" {100 * layers.accuracy[-1]:.2f} %, turnpike from layer {layers.entry}"
        )


def outcome_of(network: Network, training: Layers) -> str:
    """What is wrong with the training samples' outcome, and the next step; or ""."""
    settled = training.entry < network.problem.depth
    return cautions.outcome(network.problem, training.right_by_class, settled=settled)


def layer_table(shown: dict[str, Layers]) -> Table:
    first = next(iter(shown.values()))
    table = Table(title="Layer by layer")
    for heading in ("layer k", "|u_k|", "stage cost l_k"):
        table.add_column(heading, justify="right")
    for name in shown:
        table.add_column(f"data cost, {name}", justify="right")
        table.add_column(f"accuracy, {name} [%]", justify="right")
    N = len(first.control_norm)
    for k in range(N + 1):
        own = (f"{first.control_norm[k]:.4g}", f"{first.stage_cost[k]:.5g}") if k < N else ("", "")
        cells = [
            text
            for layers in shown.values()
            for text in (f"{layers.data_cost[k]:.5g}", f"{100 * layers.accuracy[k]:.2f}")
        ]
        table.add_row(str(k), *own, *cells)
    return table


def crop_table(found: list[Crop], title: str) -> Table:
    full = found[0]
    # within 80 columns
    table = Table(title=title, box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 0, 0, 1))
    table.add_column("network", no_wrap=True)
    for heading in (
        *("layers", "flipped", "right [%]", "lost", "work saved"),
        f"ms for {full.batch}",
    ):
        table.add_column(heading, justify="right")
    for c in found:
        table.add_row(
            c.kind,
            str(len(c.layers)),
            f"{c.flipped}/{c.samples}",
            f"{100 * c.accuracy:.2f}",
            f"{100 * c.lost_accuracy:+.2f}",
            f"{100 * (1 - c.multiply_adds / full.multiply_adds):.0f} %",
            f"{1e3 * c.latency:.2f}",
        )
    return table


class TrainingLines:
    """Prints records as lines, and a progress line where the output is a terminal."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self.console, self.quiet, self.last = console, quiet, time.monotonic()

    def progress(self, p: Progress) -> None:
        now = time.monotonic()
        # a terminal's line moves every half second; a log file gets one every half minute
        if self.quiet or now - self.last < (0.5 if self.console.is_terminal else 30.0):
            return
        self.last = now
        line = (
            f"step {p.step}/{p.total}  epoch {p.epoch}  objective {p.objective:.5g}"
            f"  about {p.seconds_left:.0f} s left"
        )
        self.console.print(line, end="\r" if self.console.is_terminal else "\n")

    def record(self, entry: dict) -> None:
        if not self.quiet and "epoch_mean" in entry:
            parts = [f"epoch {entry['epoch']}", f"mean objective {entry['epoch_mean']:.6g}"]
            if "objective" in entry:
                parts.append(f"objective {entry['objective']:.6g}")
                parts.append(f"accuracy {100 * entry['accuracy']:.2f} %")
                if entry["entry"]:
                    parts.append(f"data cost at rest from layer {entry['entry']}")
            self.console.print("  ".join(parts))

    def end(self, result: Result, folder: Path) -> None:
        if self.quiet:
            return
        self.console.print(f"{result.status.value} {result.message}".rstrip())
        for finding in result.findings:
            self.console.print(f"{finding.message}: {finding.hint}")
        self.console.print(f"{result.steps} steps, {result.seconds:.1f} s; files in {folder}")
