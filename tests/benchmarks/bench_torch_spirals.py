"""Adam against the exact solvers on the default spirals: how far above the best value it ends.

    python tests/benchmarks/bench_torch_spirals.py tune
    python tests/benchmarks/bench_torch_spirals.py run
    python tests/benchmarks/bench_torch_spirals.py table --best SOLUTION.safetensors

Starts are trained side by side as one batched network (Adam acts entry by entry, and gradients
are clipped start by start, so each goes its own way).  Two ways: all 20 layers from the start, and
depth grown from 5 layers with nearly-zero layers appended, for the same number of steps in all.
`tune` compares learning rates and starts on 8 seeds from 1000 on; `run` trains 20 starts of seeds
0..19 with what it chose.  Every value in the tables is the NumPy reference's.  Both do what is
missing in torch_spirals_tuning.csv and torch_spirals.csv, and may be stopped.
"""

from __future__ import annotations

import argparse
import csv
import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nn_baseline import Options
from ocp import controls, datasets, files, loss
from ocp.evaluation import rollout
from ocp.problem import Problem

RESULTS = Path(__file__).with_name("torch_spirals.csv")
TUNING = Path(__file__).with_name("torch_spirals_tuning.csv")
GROWN = (5, 8, 11, 14, 17, 20)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """How to train: `grow` says whether the depth grows, `share` how many steps that takes."""

    grow: bool
    lr: float
    scale: float
    steps: int
    clip: float = 1.0
    share: float = 0.5
    appended: float = 1e-2

    def stages(self) -> list[tuple[int, int]]:
        """(depth, steps) one after another; together `steps`."""
        if not self.grow:
            return [(GROWN[-1], self.steps)]
        each = int(self.share * self.steps / (len(GROWN) - 1))
        early = [(depth, each) for depth in GROWN[:-1]]
        return [*early, (GROWN[-1], self.steps - each * len(early))]


TUNED = [
    Way(grow=grow, lr=lr, scale=scale, steps=3000)
    for grow, lr, scale in [
        *itertools.product((False, True), (1e-2, 3e-2, 1e-1), (0.1, 0.3)),
        *itertools.product((False,), (2e-1,), (0.1, 0.3)),
        *itertools.product((True,), (2e-1, 4e-1), (0.1,)),
    ]
] + [
    Way(grow=True, lr=1e-1, scale=0.1, steps=3000, share=0.8),
    Way(grow=True, lr=1e-1, scale=0.1, steps=3000, appended=0.1),
    Way(grow=True, lr=1e-1, scale=0.1, steps=3000, clip=10.0),
    Way(grow=False, lr=1e-1, scale=0.3, steps=3000, clip=10.0),
]
KEY = ("grow", "lr", "scale", "steps", "clip", "share", "appended")
#: what the tuning chose, with the steps that the table is about
CHOSEN = {
    "20 layers from the start": Way(grow=False, lr=1e-1, scale=0.3, steps=20_000),
    "depth grown": Way(grow=True, lr=1e-1, scale=0.1, steps=20_000),
    "depth grown, larger steps": Way(grow=True, lr=2e-1, scale=0.1, steps=20_000),
}


def train(problem: Problem, way: Way, seeds: range) -> tuple[list[controls.Controls], float]:
    """Train one network a seed; return their controls and the processor seconds."""
    cpu, A, b = time.process_time(), None, None
    for depth, steps in way.stages():
        shallow = problem.with_(depth=depth)
        starts = [
            controls.near_zero(shallow, np.random.default_rng(seed), way.scale) for seed in seeds
        ]
        fresh = [torch.tensor(np.stack([getattr(u, part) for u in starts])) for part in "Ab"]
        if A is not None:  # (starts, N, ...): keep the layers, append nearly idle ones
            fresh = [
                torch.cat([kept, way.appended / way.scale * new[:, kept.shape[1] :]], dim=1)
                for kept, new in zip((A, b), fresh, strict=True)
            ]
        A, b = descend(shallow, *fresh, way, steps)
    found = [
        controls.Controls(A=one.numpy().copy(), b=two.numpy().copy())
        for one, two in zip(A, b, strict=True)
    ]
    return found, time.process_time() - cpu


def descend(problem: Problem, A: Tensor, b: Tensor, way: Way, steps: int) -> tuple[Tensor, Tensor]:
    """Adam on all starts at once, each with its own clipping."""
    parts = [A.requires_grad_(), b.requires_grad_()]
    adam = torch.optim.Adam(parts, lr=way.lr, fused=True)
    rate = Options(lr=way.lr, schedule="cosine", lr_end=1e-3, warmup=min(100, steps // 10))
    for step in range(steps):
        adam.param_groups[0]["lr"] = rate.learning_rate(step, steps)
        adam.zero_grad(set_to_none=True)
        objectives(problem, A, b).sum().backward()
        squares = sum(p.grad.flatten(1).square().sum(dim=1) for p in parts)
        factor = way.clip / squares.sqrt().clamp(min=way.clip)
        for p in parts:
            p.grad *= factor.view(-1, *[1] * (p.ndim - 1))
        adam.step()
    return A.detach(), b.detach()


def objectives(problem: Problem, A: Tensor, b: Tensor) -> Tensor:
    """J of every start, (starts,), for euler, tanh, two classes and the default readout.

    Samples lie last, (starts, n, n_d): three coordinates last would waste most of a vector unit.
    """
    n, h = problem.width, problem.h
    lifted = problem.input_values @ problem.lift_weight.T + problem.lift_bias
    x = torch.tensor(lifted.T).expand(len(A), n, -1)
    states = [x]
    for A_k, b_k in zip(A.unbind(1), b.unbind(1), strict=True):
        x = torch.add(x, torch.tanh(torch.baddbmm(b_k[:, :, None], A_k, x)), alpha=h)
        states.append(x)
    q = torch.tensor(problem.soft_targets.T)
    X = torch.stack(states)
    margin = X[:, :, 1] - X[:, :, 0]
    entropy = -torch.special.xlogy(q, q).sum(dim=0)
    F = (torch.nn.functional.softplus(margin) - q[1] * margin - entropy).mean(dim=-1)
    weights = torch.tensor([h * problem.beta] * problem.depth + [problem.gamma], dtype=F.dtype)
    squares = A.square().sum(dim=(1, 2, 3)) + b.square().sum(dim=(1, 2))
    return weights @ F + 0.5 * h * problem.r * squares


def spirals() -> Problem:
    """The default problem of the main example."""
    inputs, labels = datasets.spirals()
    return Problem(inputs=inputs, labels=labels, n_classes=2)


def tune(_: argparse.Namespace) -> None:
    """Train what is missing of the tuning."""
    problem = spirals()
    for way in TUNED:
        key = {name: getattr(way, name) for name in KEY}
        done = [{k: r[k] for k in key} for r in read(TUNING)]
        if {k: str(v) for k, v in key.items()} in done:
            continue
        found, cpu = train(problem, way, range(1000, 1008))
        J = sorted(float(rollout.objective(problem, u)) for u in found)
        row = key | {"best": J[0], "median": float(np.median(J)), "cpu_seconds": round(cpu, 1)}
        append(TUNING, [row])
        print(row, flush=True)


def run(args: argparse.Namespace) -> None:
    """Train what is missing of the table."""
    problem = spirals()
    for name, way in CHOSEN.items():
        if any(r["way"] == name for r in read(RESULTS)):
            continue
        found, cpu = train(problem, way, range(args.starts))
        out = []
        for seed, u in enumerate(found):
            gradient, _ = rollout.gradient(problem, u)
            z = rollout.logits(problem, u, rollout.rollout(problem, u).X[-1])
            out.append(
                {
                    "way": name,
                    "seed": seed,
                    "objective": float(rollout.objective(problem, u)),
                    "gradient": float(np.abs(gradient).max()),
                    "accuracy": float(loss.is_right(z, problem.labels).mean()),
                    "steps": way.steps,
                    "lr": way.lr,
                    "scale": way.scale,
                    "cpu_seconds": round(cpu / args.starts, 1),
                }
            )
        append(RESULTS, out)
        print(f"{name}: {args.starts} starts, {cpu:.0f} CPU s", flush=True)


def table(args: argparse.Namespace) -> None:
    """Print the gap to the best exact solution, and the tuning."""
    best = files.load(args.best)
    wanted = float(rollout.objective(best.problem, best.controls))
    print(f"Best exact solution: {wanted:.10g}\n")
    print("| Adam | starts | best | gap | median | worst | within 1 % | all 194 right |", end="")
    print(" max abs gradient | CPU s a start |\n" + "|---" * 10 + "|")
    for name, way in CHOSEN.items():
        rows = [r for r in read(RESULTS) if r["way"] == name]
        if not rows:
            continue
        J = np.array([float(r["objective"]) for r in rows])
        gradients = [float(r["gradient"]) for r in rows]
        right = sum(float(r["accuracy"]) == 1.0 for r in rows)
        print(
            f"| {name}, {way.steps} steps | {len(J)} | {J.min():.6f} |"
            f" {100 * (J.min() / wanted - 1):+.2f} % | {np.median(J):.4f} | {J.max():.4f} |"
            f" {np.count_nonzero(J - 1.01 * wanted <= 0)} | {right} | {min(gradients):.0e} to"
            f" {max(gradients):.0e} | {rows[0]['cpu_seconds']} |"
        )
    print("\n| tuning: depth grown | lr | start | steps | clip | share | appended |", end="")
    print(" best of 8 | median | CPU s of 8 starts |\n" + "|---" * 10 + "|")
    for r in sorted(read(TUNING), key=lambda r: float(r["median"])):
        cells = [r[k] for k in KEY]
        cells += [f"{float(r[k]):.4f}" for k in ("best", "median")]
        print(f"| {' | '.join(cells)} | {r['cpu_seconds']} |")


def read(path: Path) -> list[dict]:
    """Return the rows of a table that may not be there yet."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def append(path: Path, rows: list[dict]) -> None:
    """Add rows, with a header to a new table."""
    with path.open("a", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        if file.tell() == 0:
            writer.writeheader()
        writer.writerows(rows)


def main() -> None:
    """Tune, run or show."""
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    commands.add_parser("tune", help="train what is missing").set_defaults(do=tune)
    c = commands.add_parser("run", help="train what is missing")
    c.add_argument("--starts", type=int, default=20)
    c.set_defaults(do=run)
    c = commands.add_parser("table", help="print the tables")
    c.add_argument("--best", required=True, help="training file of the best exact solution")
    c.set_defaults(do=table)
    args = parser.parse_args()
    args.do(args)


if __name__ == "__main__":
    main()
