"""What a loss at every layer costs, and what stacking the layers gains.

    python tests/benchmarks/bench_torch_throughput.py [--device cuda]

20 layers of width 64 on samples of MNIST's shape (bytes at random: speed does not read them).
Steps of `nn_baseline.train` with beta = 1 and beta = 0, and of the obvious loop: a module a layer,
readout and loss called after each.  All take turns step by step, in turned order, so that a busy
machine slows all of them alike; a round is `--steps` steps of each.  Process CPU time decides,
wall time stands beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import statistics
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nn_baseline import Options, start_network
from nn_baseline.distributed import Processes
from nn_baseline.initialisation import initial_lift, initial_readout
from nn_baseline.training import Run
from ocp.problem import Problem

RESULTS = Path(__file__).with_name("torch_throughput.json")
N, WIDTH, H, P_D, R = 20, 64, 0.5, 0.9, 1e-3


class Layer(nn.Module):
    """x + h tanh(A x + b)."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return x + H * torch.tanh(self.linear(x))


class Obvious(nn.Module):
    """The same objective as one writes it first (up to the constant entropy of the targets)."""

    def __init__(self) -> None:
        super().__init__()
        self.lift, self.readout = nn.Linear(784, WIDTH), nn.Linear(WIDTH, 10)
        self.layers = nn.ModuleList(Layer() for _ in range(N))
        self.loss = nn.CrossEntropyLoss(label_smoothing=(1 - P_D) * 10 / 9)

    def forward(self, x, y):
        x = self.lift(x)
        J = 0.0
        for layer in self.layers:
            norm = sum(p.square().sum() for p in layer.parameters())
            J = J + H * (self.loss(self.readout(x), y) + 0.5 * R * norm)
            x = layer(x)
        return J + self.loss(self.readout(x), y)


def ours(beta: int, trained: tuple[str, ...], args: argparse.Namespace, x, y):
    """Return a function that takes one training step."""
    E, e = initial_lift("gaussian", WIDTH, x)
    C, c = initial_readout(10, WIDTH)
    problem = Problem(
        **{"inputs": x, "labels": y, "n_classes": 10, "depth": N, "width": WIDTH, "h": H},
        **{"p_d": P_D, "r": R, "beta": beta, "trained": trained},
        **{"input_scale": 1 / 255, "input_shift": 0.0, "lift_weight": E, "lift_bias": e},
        **{"readout_weight": C, "readout_bias": c},
    )
    options = Options(
        epochs=1, batch_size=args.batch_size, dtype="float32", evaluate_every=0, device=args.device
    )
    # the loop of `train`, one step at a time
    run = Run(start_network(problem, options), options, None, Processes.alone(), {})
    order = run.order(0)

    def step() -> None:
        run.step(order)
        run.counters.batch = (run.counters.batch + 1) % (len(run.edges) - 1)

    return step


def obvious(args: argparse.Namespace, x, y):
    """Return a function that takes one step of the obvious loop."""
    model = Obvious().to(args.device)
    adam = torch.optim.Adam(model.parameters(), lr=1e-3)
    inputs = torch.tensor(x, device=args.device)
    labels = torch.tensor(y, device=args.device)
    batches = itertools.cycle(torch.randperm(len(y), device=args.device).split(args.batch_size))

    def step() -> None:
        batch = next(batches)
        adam.zero_grad()
        loss = model(inputs[batch].float() / 255, labels[batch])
        loss.backward()
        adam.step()
        loss.item()

    return step


def main() -> None:
    args = arguments()
    torch.set_num_threads(args.threads)
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (12_800, 784), dtype=np.uint8)
    y = rng.integers(0, 10, len(x))
    everything = ("layers", "lift", "readout")
    runs = {
        "stage cost": ours(1, everything, args, x, y),
        "terminal loss only": ours(0, everything, args, x, y),
        "stage cost, fixed readout": ours(1, everything[:2], args, x, y),
        "terminal loss only, fixed readout": ours(0, everything[:2], args, x, y),
        "obvious loop, stage cost": obvious(args, x, y),
    }
    rounds = [taken_in_turns(runs, args.steps) for _ in range(args.rounds + 1)][
        1:
    ]  # one to warm up
    epoch = 60_000 / args.batch_size / args.steps
    table = {
        name: {
            f"{clock}_seconds_per_epoch": round(
                epoch * statistics.median(r[name][clock] for r in rounds), 3
            )
            for clock in ("wall", "cpu")
        }
        for name in runs
    }

    def ratio(a: str, b: str) -> dict[str, float | list[float]]:
        """CPU time of a round over that of the same round: the median, and the middle half."""
        low, middle, high = statistics.quantiles([r[a]["cpu"] / r[b]["cpu"] for r in rounds], n=4)
        return {"median": round(middle, 3), "quartiles": [round(low, 3), round(high, 3)]}

    record = {
        "host": {
            "machine": platform.machine(),
            "torch": torch.__version__,
            "cores": os.cpu_count(),
            "load": round(os.getloadavg()[0], 1),
        },
        "options": vars(args) | {"layers": N, "width": WIDTH},
        "epoch_of_60000": table,
        "cpu_ratio_stage_to_terminal": ratio("stage cost", "terminal loss only"),
        "cpu_ratio_stage_to_terminal_fixed_readout": ratio(
            "stage cost, fixed readout", "terminal loss only, fixed readout"
        ),
        "cpu_ratio_obvious_to_stage": ratio("obvious loop, stage cost", "stage cost"),
    }
    print(json.dumps(record, indent=1))
    if args.write:
        RESULTS.write_text(json.dumps(record, indent=1) + "\n")


def taken_in_turns(runs: dict, steps: int) -> dict[str, dict[str, float]]:
    """Take so many steps of each, one after the other; return the seconds of each."""
    seconds = {name: {"wall": 0.0, "cpu": 0.0} for name in runs}
    for i in range(steps):
        # every other time backwards: what comes before a step is then as often the one as the other
        for name in list(runs)[:: 1 if i % 2 else -1]:
            wall, cpu = time.perf_counter(), time.process_time()
            runs[name]()
            seconds[name]["wall"] += time.perf_counter() - wall
            seconds[name]["cpu"] += time.process_time() - cpu
    return seconds


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="of each in a round")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--write", action="store_true", help=f"into {RESULTS.name}")
    return parser.parse_args()


if __name__ == "__main__":
    main()
