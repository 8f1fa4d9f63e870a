"""A plain torch residual network, trained by its own loop, becomes a file that can be verified.

Nothing of this project is needed to train it.  The last ten lines of `main` hand its blocks and
its readout over; every block is compared with the statement's layer on the samples first.

    x + h sigma(A x + b)   ->   layer (A, b) of the training file, then
    python -m verification output/export/yours.safetensors
"""

from __future__ import annotations

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import sys
from pathlib import Path

import torch
from torch import nn

import nn_baseline
from ocp import datasets, exits
from ocp.outputs import check_folder
from ocp.terminal import console


class Residual(nn.Module):
    """x + h tanh(A x + b)."""

    def __init__(self, width: int, h: float) -> None:
        super().__init__()
        self.linear, self.h = nn.Linear(width, width), h

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.h * torch.tanh(self.linear(x))


def main() -> int:
    args = arguments()
    names = ("yours.safetensors", "trace.safetensors")
    check_folder("--output", args.output, names)
    torch.manual_seed(0)
    inputs, labels = datasets.moons(200)
    x, y = torch.tensor(inputs, dtype=torch.float32), torch.tensor(labels)
    h = 0.5
    model = nn.Sequential(nn.Linear(2, 8), *[Residual(8, h) for _ in range(6)], nn.Linear(8, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, weight_decay=1e-3)
    for _ in range(20 if args.quick else 500):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    right = (model(x).argmax(dim=1) == y).double().mean()

    lift, *blocks, readout = model
    network = nn_baseline.dense_network(
        blocks, readout, inputs, labels, lift=lift, h=h, activation="tanh",
        n_classes=2, p_d=0.9, r=1e-3, beta=0, trained=("layers", "lift", "readout"), r_ends=1e-3,
    )  # fmt: skip
    args.output.mkdir(parents=True, exist_ok=True)
    nn_baseline.save_training(args.output / "yours.safetensors", network)
    nn_baseline.stage_trace(
        args.output / "trace.safetensors", blocks, readout, x, y,
        lift=lift, h=h, n_classes=2, p_d=0.9, r=1e-3, beta=0,
    )  # fmt: skip
    words = console(soft_wrap=True)
    words.print(f"trained to an accuracy of {100 * right:.1f} %")
    words.print(f"{args.output}/yours.safetensors: the whole network")
    words.print(f"{args.output}/trace.safetensors: logits and norms only, for blocks of any kind")
    return exits.OK


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("output/export"))
    parser.add_argument("--quick", action="store_true", help="a few steps of training")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(exits.run(main))
