"""Adam against the exact solvers on the default spirals: how far above the best value it ends.

    python tests/benchmarks/bench_torch_spirals.py --best SOLUTION.safetensors

Twenty starts are trained side by side as one batched network (Adam acts entry by entry, so each
goes its own way); the table lists where they end, sorted, and the gap to the exact solution.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np
import torch

from nn_baseline.evaluate import is_right
from nn_baseline.model import Network
from nn_baseline.options import Options
from ocp import controls, datasets, files, rollout
from ocp.problem import Problem

RESULTS = Path(__file__).with_name("torch_spirals.csv")


def objectives(network: Network, parts: dict, x, y) -> torch.Tensor:
    """J of every start, (starts,): the network's own code under vmap."""

    def one(values):
        return torch.func.functional_call(network, values, (x, y))

    return torch.func.vmap(one)(parts)


class Written(Network):
    """The network with the loss written out: vmap does not enter a custom autograd function."""

    def forward(self, inputs, labels, share=1.0):
        costs = self.data_costs(self.costed(self.path(inputs)), labels)
        return costs @ costs.new_tensor(self.cost_weights()) + self.penalty()


def main() -> None:
    args = arguments()
    torch.set_num_threads(1)
    inputs, labels = datasets.spirals()
    problem = Problem(inputs=inputs, labels=labels, n_classes=2)
    x, y = torch.tensor(inputs), torch.tensor(labels)
    networks = [Written(problem, seed=s, scale=args.scale) for s in range(args.starts)]
    parts, _ = torch.func.stack_module_state(networks)
    adam = torch.optim.Adam(list(parts.values()), lr=args.lr, fused=True)
    rate = Options(lr=args.lr, schedule="cosine", lr_end=1e-3, warmup=100)
    cpu = time.process_time()
    for step in range(args.steps):
        adam.param_groups[0]["lr"] = rate.learning_rate(step, args.steps)
        adam.zero_grad(set_to_none=True)
        J = objectives(networks[0], parts, x, y)
        J.sum().backward()
        # a start far from the others must not be slowed by them: each gradient on its own
        for p in parts.values():
            norm = p.grad.flatten(1).norm(dim=1).clamp(min=args.clip) / args.clip
            p.grad /= norm.view(-1, *[1] * (p.ndim - 1))
        adam.step()
        if step % 1000 == 0:
            best, middle = float(J.min()), float(J.median())
            print(f"step {step}: best {best:.6f} median {middle:.6f}", flush=True)
    cpu = time.process_time() - cpu
    report(args, problem, parts, cpu, x, y)


def report(args, problem, parts, cpu, x, y) -> None:
    """Write the table; every value is that of the NumPy reference."""
    best = files.load(args.best)
    wanted = float(rollout.objective(best.problem, best.controls))
    found = []
    for s in range(args.starts):
        u = controls.Controls(**{k: v[s].detach().numpy().copy() for k, v in parts.items()})
        gradient, _ = rollout.gradient(problem, u)
        z = rollout.logits(problem, u, rollout.rollout(problem, u).X[-1])
        right = is_right(torch.tensor(z), y).double().mean()
        found.append(
            {
                "seed": s,
                "objective": float(rollout.objective(problem, u)),
                "gradient": float(np.abs(gradient).max()),
                "accuracy": float(right),
            }
        )
    found.sort(key=lambda row: row["objective"])
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*found[0], "gap_percent", "steps", "lr", "scale"])
        writer.writeheader()
        for row in found:
            gap = 100 * (row["objective"] / wanted - 1)
            more = {"gap_percent": gap, "steps": args.steps, "lr": args.lr, "scale": args.scale}
            writer.writerow(row | more)
    values = [row["objective"] for row in found]
    print(f"exact {wanted:.10g}; {args.steps} steps of {args.starts} starts in {cpu:.0f} s CPU")
    print(
        f"Adam: best {values[0]:.6f} ({100 * (values[0] / wanted - 1):+.2f} %),"
        f" median {np.median(values):.6f}, worst {values[-1]:.6f};"
        f" {sum(v <= 1.01 * wanted for v in values)} of {args.starts} within 1 %"
    )
    if not math.isfinite(values[0]):
        raise SystemExit(1)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--best", required=True, help="training file of the best exact solution")
    parser.add_argument("--starts", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--lr", type=float, default=2e-2)
    parser.add_argument("--scale", type=float, default=0.3, help="standard deviation of the start")
    parser.add_argument("--clip", type=float, default=1.0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
