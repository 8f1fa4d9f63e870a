"""A loss at every layer makes a 20-layer network do its work early: the other layers can go.

    J = sum_k h [ F(x_k) + (r/2) |u_k|^2 ] + gamma F(x_N)      the stage cost, beta = 1
    J = sum_k h         (r/2) |u_k|^2     + gamma F(x_N)      standard training, beta = 0

Both networks see the same images for as many epochs.  Printed are the stage cost, the control
norm and the accuracy after every layer, and what is left when layers are removed without any
further training; beside each crop stands a network of that depth trained from scratch for as
many multiplications as the deep one.

    python examples/mnist_turnpike.py                       5000 embedded images
    python examples/mnist_turnpike.py --data-dir FOLDER     all of MNIST (nn_baseline fetch)
"""

from __future__ import annotations

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import dataclasses
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from rich.table import Table

from nn_baseline import (
    Layers,
    Network,
    Options,
    cropping,
    data,
    evaluate,
    problem_of,
    samples,
    save_training,
    start_network,
    train,
)
from ocp import Problem, exits
from ocp.outputs import check_folder
from ocp.terminal import console

DEPTH, WIDTH = 20, 64


def main() -> int:
    args = arguments()
    torch.set_num_threads(args.threads)
    words = console(soft_wrap=True)
    check_folder("--output", args.output, ("checkpoint.safetensors", "mnist_turnpike.png"))
    args.output.mkdir(parents=True, exist_ok=True)
    images = data.load("mnist", args.data_dir) if args.data_dir else data.load("mnist5k")
    epochs = args.epochs or (2 if args.quick else 6 if args.data_dir else 40)

    networks, layers = {}, {}
    for name, beta in (("stage cost", 1), ("terminal loss only", 0)):
        problem = statement(images, DEPTH, beta, args)
        networks[name] = trained(problem, epochs, args.seed)
        layers[name] = evaluate(networks[name], *samples(networks[name], *images.test))
        words.print(layer_table(name, layers[name]))

    deep = networks["stage cost"]
    held_out = samples(deep, *images.test)
    found, beside = [cropping.compare(deep, deep, "full", range(DEPTH), *held_out)], {}
    for k in (10,) if args.quick else (3, 5, 8, 10):
        kept = cropping.prefix(deep, k)
        found.append(
            cropping.compare(deep, cropping.keep(deep, kept), f"first {k}", kept, *held_out)
        )
        shallow = cropping.equal_budget_epochs(deep.problem, epochs, k)
        fresh = trained(statement(images, k, 1, args), shallow, args.seed)
        found.append(cropping.compare(deep, fresh, f"fresh, {shallow} epochs", range(k), *held_out))
        beside[k] = found[-1].accuracy

    reference = None if args.embed else images.reference()
    save_training(
        args.output / "checkpoint.safetensors",
        deep,
        origin={"optimizer": "adam", "seed": args.seed},
        test=images.test,
        reference=reference,
    )
    figure(layers, beside, args.output / "mnist_turnpike.png")
    words.print(crop_table(found))
    words.print(f"checkpoint and figure are in {args.output}")
    return exits.OK


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="folder with the full MNIST files")
    parser.add_argument("--epochs", type=int, default=0, help="0: as the data set needs")
    parser.add_argument("--r", type=float, default=1e-3, help="control weight")
    parser.add_argument("--p-d", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--embed", action="store_true", help="keep all images in the checkpoint")
    parser.add_argument("--output", type=Path, default=Path("output/mnist"))
    parser.add_argument("--quick", action="store_true", help="a few epochs, one crop")
    args = parser.parse_args()
    for name, least in (("epochs", 0), ("threads", 1), ("seed", 0)):
        if getattr(args, name) < least:
            raise ValueError(f"--{name} is {getattr(args, name)}; wanted at least {least}")
    if args.embed and not args.data_dir:
        raise ValueError("--embed is given, but only the images of --data-dir are left outside")
    return args


def statement(images: data.Dataset, depth: int, beta: int, args: argparse.Namespace) -> Problem:
    """The problem: images lifted to 64 principal coordinates, relu layers of step 1."""
    return problem_of(
        images,
        lift="principal",
        seed=args.seed,
        depth=depth,
        width=WIDTH,
        h=1.0,
        activation="relu",
        p_d=args.p_d,
        r=args.r,
        beta=beta,
    )


def trained(problem: Problem, epochs: int, seed: int) -> Network:
    """Train with Adam from a start near u = 0."""
    options = Options(
        lr=5e-3 if problem.n_samples > 10_000 else 3e-3,
        schedule="cosine",
        epochs=epochs,
        batch_size=128 if problem.n_samples > 10_000 else 64,
        dtype="float32",
        evaluate_every=0,
        seed=seed,
    )
    network = start_network(problem, options)
    train(network, options)
    return network


def layer_table(name: str, layers: Layers) -> Table:
    """Layer by layer, on the held-out images."""
    table = Table(title=f"{name}, held-out images; turnpike from layer {layers.entry}")
    for heading in ("layer k", "|u_k|", "stage cost l_k", "data cost F(x_k)", "accuracy [%]"):
        table.add_column(heading, justify="right")
    for k, (F, accuracy) in enumerate(zip(layers.data_cost, layers.accuracy, strict=True)):
        inside = k < len(layers.control_norm)
        table.add_row(
            str(k),
            f"{layers.control_norm[k]:.3f}" if inside else "",
            f"{layers.stage_cost[k]:.4f}" if inside else "",
            f"{F:.4f}",
            f"{100 * accuracy:.2f}",
        )
    return table


def crop_table(found: list[cropping.Crop]) -> Table:
    """Crops of the stage-cost network, and fresh networks of their depth."""
    table = Table(title="layers removed, without further training")
    columns = ("network", "layers", "accuracy [%]", "flipped", "max |dz|", "ms for 256")
    for heading in columns:
        table.add_column(heading, justify="right")
    for c in map(dataclasses.asdict, found):
        table.add_row(
            c["kind"],
            str(len(c["layers"])),
            f"{100 * c['accuracy']:.2f}",
            f"{c['flipped']}/{c['samples']}",
            f"{c['logit_change']:.2f}",
            f"{1e3 * c['latency']:.2f}",
        )
    return table


def figure(layers: dict[str, Layers], beside: dict[int, float], path: Path) -> None:
    """Control norm, data cost and accuracy against the layer; accuracy of fresh networks."""
    fig, axes = plt.subplots(1, 3, figsize=(12, 3.6), layout="constrained")
    for name, l in layers.items():
        k = np.arange(len(l.data_cost))
        axes[0].plot(k[:-1], l.control_norm, ".-", label=name)
        axes[1].semilogy(k, l.data_cost, ".-", label=name)
        axes[2].plot(k, 100 * l.accuracy, ".-", label=name)
    for axis, title in zip(
        axes,
        ("control norm $|u_k|$", "data cost $F(x_k)$", "accuracy after layer k [%]"),
        strict=True,
    ):
        axis.set(xlabel="layer k", title=title, xticks=range(0, DEPTH + 1, 5))
        axis.grid(alpha=0.3)
    fresh = np.array(list(beside.values()))
    axes[2].plot(list(beside), 100 * fresh, "kx", label="fresh network of depth k")
    axes[2].legend(loc="lower right")
    fig.savefig(path, dpi=130)
    plt.close(fig)


if __name__ == "__main__":
    sys.exit(exits.run(main))
