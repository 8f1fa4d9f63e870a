"""Soft targets give the cross-entropy a minimiser, and growth in every direction away from it.

    g_y(z) = KL(q(y) || softmax z),   q = p_d on the true class, (1 - p_d)/(n_c - 1) elsewhere

Hard cross-entropy falls for ever as the true logit grows: no minimiser, hence nothing that a
trajectory could stay near.  Soft cross-entropy grows in both directions, quadratically near its
minimiser like Huber's loss and linearly far away; in every direction it is bounded below by
alpha(distance), a K-infinity function.  That bound is what makes training strictly dissipative
(arXiv 2405.19013).

    python examples/soft_cross_entropy.py               a few seconds
    python examples/soft_cross_entropy.py --p-d 0.99 --n-classes 10

The parameter values are our choice.
"""

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib.figure import Figure
from rich.table import Table

from ocp import exits, figures
from ocp.loss import (
    misclassification_threshold,
    off_target,
    soft_cross_entropy,
    soft_target,
)
from ocp.outputs import check_folder
from ocp.terminal import console
from verification import alpha as lower_bound

DISTANCES = (0.1, 1.0, 10.0)


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-classes", type=int, default=2, help="number of classes (2)")
    parser.add_argument("--p-d", type=float, default=0.9, help="probability of the true class")
    parser.add_argument("--output", type=Path, default=Path("output/soft_cross_entropy"))
    parser.add_argument("--quick", action="store_true", help="a coarser curve")
    return parser.parse_args(arguments)


def minimiser_and_directions(n_classes: int, p_d: float) -> tuple[np.ndarray, ...]:
    """Centred logits of the minimiser for class 0, the unit direction in which the true logit
    grows, and the one in which g is least at unit distance."""
    log_q = np.log(soft_target(np.array([0]), n_classes, p_d)[0])
    true = np.eye(n_classes)[0] - 1 / n_classes
    flattest = lower_bound.tight_direction(1.0, n_classes, p_d)
    return log_q - log_q.mean(), true / np.linalg.norm(true), flattest


def draw(n_classes: int, p_d: float, points: int) -> Figure:
    """Losses along the true logit above, alpha and the loss over the distance below."""
    q = soft_target(np.array([0]), n_classes, p_d)[0]
    hard = soft_target(np.array([0]), n_classes, 1.0)[0]
    centre, direction, flattest = minimiser_and_directions(n_classes, p_d)
    t = np.linspace(-6, 12, points)
    z = centre + t[:, None] * direction
    curvature = (direction**2) @ q - (direction @ q) ** 2
    knee = 1.0
    huber = curvature * np.where(np.abs(t) < knee, t**2 / 2, knee * (np.abs(t) - knee / 2))
    figure = Figure(figsize=(5.2, 5.4), layout="constrained")
    top, bottom = figure.subplots(2, 1)
    top.plot(
        t, soft_cross_entropy(z, hard), "--", color=figures.CLASS_COLOURS[1], label="hard, $p_d=1$"
    )
    top.plot(
        t, soft_cross_entropy(z, q), color=figures.CLASS_COLOURS[0], label=f"soft, $p_d={p_d:g}$"
    )
    top.plot(t, huber, ":", color="0.3", label="Huber, same curvature")
    top.axvline(0, color="0.8", linewidth=0.8, zorder=0)
    top.set(xlabel="signed distance from the soft minimiser in the true logit",
            ylabel="loss", ylim=(-0.05, 3.0))  # fmt: skip
    top.legend()
    s = np.geomspace(1e-2, 1e2, max(points // 4, 20))
    bottom.loglog(s, lower_bound.tight(s, n_classes, p_d), color=figures.CLASS_COLOURS[0],
                  label=r"$\alpha^*$: least $g$ on the sphere (tight)")  # fmt: skip
    bottom.loglog(s, lower_bound.closed_form(s, n_classes, q.min()), "--", color="0.3",
                  label=r"$\alpha=(\varepsilon/\rho)\,\varphi(\sqrt{\rho}\,s)$")  # fmt: skip
    bottom.loglog(s, soft_cross_entropy(centre - s[:, None] * flattest, q), ":",
                  color=figures.CLASS_COLOURS[5], label="$g$ opposite to the flattest")  # fmt: skip
    bottom.axhline(misclassification_threshold(n_classes, p_d), color="0.7", linewidth=0.8)
    bottom.text(s[0], misclassification_threshold(n_classes, p_d), " below: classified right",
                fontsize=7, va="bottom", color="0.4")  # fmt: skip
    bottom.set(xlabel="distance $s$ of the centred logits from the minimiser", ylabel="loss")
    bottom.legend()
    return figure


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    n_classes, p_d = options.n_classes, options.p_d
    if n_classes < 2 or not 1 / n_classes < p_d < 1:
        raise ValueError(f"n_classes and p_d are {n_classes}, {p_d}; wanted 1/n_classes < p_d < 1")
    names = ("soft_cross_entropy.pdf", "soft_cross_entropy.png")
    check_folder("--output", options.output, names)
    options.output.mkdir(parents=True, exist_ok=True)
    eps = off_target(n_classes, p_d)
    table = Table("distance s", "alpha(s), closed form", "alpha*(s), tight", "ratio")
    for s in DISTANCES:
        low, least = (
            float(lower_bound.closed_form(s, n_classes, eps)),
            float(lower_bound.tight(s, n_classes, p_d)[0]),
        )
        table.add_row(f"{s:g}", f"{low:.6e}", f"{least:.6e}", f"{least / low:.4f}")
    slope = eps * np.sqrt(n_classes / (n_classes - 1))
    g_mis = misclassification_threshold(n_classes, p_d)
    with mpl.rc_context(figures.STYLE):
        figure = draw(n_classes, p_d, 200 if options.quick else 2000)
        figure.savefig(options.output / "soft_cross_entropy.pdf", metadata={"CreationDate": None})
        figure.savefig(options.output / "soft_cross_entropy.png")
    words = console()
    words.print(table)
    words.print(
        f"curvature of alpha at 0: {eps:.4g}   slope far away: {slope:.4g}"
        f"   classified right below g = {g_mis:.5f}"
    )
    words.print(f"written to {options.output}: soft_cross_entropy.pdf/.png")
    return exits.OK


if __name__ == "__main__":
    sys.exit(exits.run(main))
