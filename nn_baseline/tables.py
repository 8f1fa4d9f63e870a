"""What the commands show: a network layer by layer, and its crops side by side."""

from __future__ import annotations

from rich.table import Table

from .cropping import Crop
from .evaluation import Layers


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
    table = Table(title=title)
    for heading in (
        *("network", "layers", "max |dz|", "flipped", "accuracy [%]", "lost [points]"),
        *("work saved [%]", "parameters saved [%]", f"ms for {full.batch}"),
    ):
        table.add_column(heading, justify="right")
    for c in found:
        table.add_row(
            c.kind,
            str(len(c.layers)),
            f"{c.logit_change:.3g}",
            f"{c.flipped}/{c.samples}",
            f"{100 * c.accuracy:.2f}",
            f"{100 * c.lost_accuracy:+.2f}",
            f"{100 * (1 - c.multiply_adds / full.multiply_adds):.0f}",
            f"{100 * (1 - c.parameters / full.parameters):.0f}",
            f"{1e3 * c.latency:.2f}",
        )
    return table
