"""A network on real images is trained to an exact, strict minimum, and it shows the turnpike.

    minimise   J = sum_{k=0}^{N-1} h [ F(x_k) + (r/2) |u_k|^2 ] + gamma F(x_N) + (r_ends/2) |C, c|^2
    subject to x_{k+1} = x_k + h tanh(A_k x_k + b_k),   x_0 = E s + e,   u_k = (A_k, b_k)

s are scikit-learn's 8 x 8 digits, E s + e their first n principal coordinates, F the mean soft
cross-entropy KL(q(y) || softmax(C x + c)); the layers and the readout (C, c) are free.  Training
stops where descent is slow; a solve stops where the gradient is 0 to 1e-8 and the Hessian positive
definite, and the judge can prove that a strict minimum lies there:

    python examples/digits_ocp.py                        a minute of one core
    python -m verification output/digits/solution.safetensors --certify

    python examples/digits_ocp.py --trials 4             twice the time, a lower J
    python examples/digits_ocp.py --width 16 --depth 6 --step 0.5
    python examples/digits_ocp.py --r 1e-3 --depth 14    larger controls, a longer way

Prints layer by layer what the network does, and how many images are right; writes the solution,
report.json and two figures: the layers, and what single held-out images go through.
The parameter values are our choice.  Theory: arXiv 2405.19013.
"""

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from rich.table import Table
from threadpoolctl import threadpool_limits

import ocp
from nn_baseline import data
from ocp import (
    GrowthOptions,
    Problem,
    Solution,
    Status,
    depth_used,
    exits,
    grow,
    layer_table,
    logits,
    rollout,
)
from ocp import console as show
from ocp.atomic import write_atomically
from ocp.lift import lift
from ocp.outputs import check_folder
from ocp.terminal import console as console_for

#: images in the second figure
SHOWN = 6
FILES = ("solution.safetensors", "report.json", "layers.png", "images.png")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--images", type=int, default=1437, help="training images (1437: all but the held-out 360)")
    add("--depth", type=int, default=10, help="number of layers N (10)")
    add("--width", type=int, default=10, help="dimension n of the state (10)")
    add("--step", type=float, default=1.0, help="step size h of a layer (1)")
    add("--r", type=float, default=1e-2, help="weight of the controls (1e-2)")
    add("--p-d", type=float, default=0.9, help="probability of the true class (0.9)")
    add("--seed", type=int, default=0, help="seed of the random starts (0)")
    add("--trials", type=int, default=2, help="candidates at each depth (2)")
    add("--output", type=Path, default=Path("output/digits"), help="folder for what is written")
    add("--quick", action="store_true", help="300 images, width 6, 3 layers: seconds, for a look")
    options = parser.parse_args(arguments)
    if options.quick:  # what is given holds all the same
        parser.set_defaults(images=300, depth=3, width=6)
        options = parser.parse_args(arguments)
    if not 10 <= options.images <= 1437:
        raise ValueError(f"--images is {options.images}; wanted 10 to 1437")
    if options.seed < 0:
        raise ValueError(f"--seed is {options.seed}; wanted at least 0")
    return options


def statement(options: argparse.Namespace, images: data.Dataset) -> Problem:
    """The problem on the first training images; bytes become numbers from 0 to 1."""
    inputs, labels = pixels(images.inputs), images.labels
    inputs, labels = inputs[: options.images], labels[: options.images]
    E, e = lift("principal", options.width, inputs)
    return Problem(
        inputs=inputs,
        labels=labels,
        n_classes=10,
        depth=options.depth,
        width=options.width,
        h=options.step,
        p_d=options.p_d,
        r=options.r,
        r_ends=1e-3,
        lift_weight=E,
        lift_bias=e,
        trained=("layers", "readout"),
    )


def pixels(images: np.ndarray) -> np.ndarray:
    return images / 16.0


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    console, images = console_for(), data.load("digits")
    problem, growth = statement(options, images), GrowthOptions(trials=options.trials)
    check_folder("--output", options.output, FILES)
    options.output.mkdir(parents=True, exist_ok=True)
    show.print_cautions(problem)
    with threadpool_limits(1), show.reporting(console) as report:
        solution = grow(problem, seed=options.seed, options=growth, report=report)
    test = pixels(images.test_inputs), images.test_labels
    content = solution.to_file(test_inputs=test[0], test_labels=test[1])
    ocp.save(options.output / FILES[0], content)
    held_out = problem.with_(inputs=test[0], labels=test[1])
    tables = [layer_table(p, solution.controls) for p in (problem, held_out)]
    right = [
        round(t.accuracy[-1] * p.n_samples)
        for t, p in zip(tables, (problem, held_out), strict=True)
    ]
    record = {
        **solution.report.to_json(),
        "right": right,
        "of": [problem.n_samples, held_out.n_samples],
        "depth_used": depth_used(problem, solution.controls),
        "layers": {name: getattr(tables[0], name).tolist() for name in tables[0].__slots__},
    }
    write_atomically(options.output / FILES[1], json.dumps(record, indent=1).encode())
    if solution.status is not Status.INTERRUPTED:  # and somebody waits for the prompt
        layers_figure(tables, options.output / FILES[2])
        images_figure(solution, held_out, options.output / FILES[3])
    console.print(layers_printed(*tables))
    show.print_summary(console, solution)
    for name, count, of in zip(("training", "held-out"), right, record["of"], strict=True):
        console.print(f"{name} images right  {count} of {of}")
    console.print(f"written to {options.output}: {', '.join(FILES)}")
    if solution.status is Status.INTERRUPTED:
        return exits.INTERRUPTED
    return exits.OK if solution.status is Status.SOLVED else exits.FAILED


def layers_printed(training, held_out) -> Table:
    """Layer by layer, on the training images and on the others; costs are in nats."""
    out = Table(title="Layer by layer", title_justify="left")
    headings = (
        "layer k",
        "|u_k|",
        "l_k [nats]",
        "F(x_k) [nats]",
        "right [%]",
        "held-out right [%]",
    )
    for heading in headings:
        out.add_column(heading, justify="right")
    for k, F in enumerate(training.data_cost):
        inside = k < len(training.control_norm)
        out.add_row(
            str(k),
            f"{training.control_norm[k]:.3f}" if inside else "",
            f"{training.stage_cost[k]:.4f}" if inside else "",
            f"{F:.4f}",
            f"{100 * training.accuracy[k]:.2f}",
            f"{100 * held_out.accuracy[k]:.2f}",
        )
    return out


def layers_figure(tables: list, path: Path) -> None:
    """Control norm, data cost and accuracy against the layer: the turnpike."""
    import matplotlib.pyplot as plt

    training, held_out = tables
    k = np.arange(len(training.data_cost))
    figure, axes = plt.subplots(1, 3, figsize=(9.0, 2.8), layout="constrained")
    axes[0].bar(k[:-1], training.control_norm, color="#0072B2")
    for table, style, name in ((training, "o-", "training"), (held_out, "s--", "held-out")):
        colour = {"training": "#0072B2", "held-out": "#D55E00"}[name]
        axes[1].semilogy(k, table.data_cost, style, color=colour, label=name, markersize=4)
        axes[2].plot(k, 100 * table.accuracy, style, color=colour, label=name, markersize=4)
    titles = ("control norm $|u_k|$", "data cost $F(x_k)$ [nats]", "images right [%]")
    for axis, title in zip(axes, titles, strict=True):
        axis.set(xlabel="layer $k$", title=title, xticks=k[:: max(1, len(k) // 5)])
        axis.grid(alpha=0.3)
    axes[2].legend(loc="lower right")
    figure.savefig(path, dpi=130)
    plt.close(figure)


def images_figure(solution: Solution, held_out: Problem, path: Path) -> None:
    """Held-out images that were decided late or wrongly, and softmax(C x_k + c) by layer."""
    import matplotlib.pyplot as plt

    z = logits(held_out, solution.controls, rollout(held_out, solution.controls).X)
    p = np.exp(z - z.max(axis=-1, keepdims=True))
    p /= p.sum(axis=-1, keepdims=True)  # (N + 1, images, 10)
    answers = p.argmax(axis=-1)
    # from this layer on the answer stays
    changes = answers[1:] != answers[:-1]
    decided = (changes * np.arange(1, len(answers))[:, None]).max(axis=0)
    wrong = np.flatnonzero(answers[-1] != held_out.labels)[: SHOWN // 3]
    right = np.flatnonzero(answers[-1] == held_out.labels)
    # one that is clear from the start, then the ones that were decided last
    late = right[np.argsort(-decided[right], kind="stable")]
    chosen = [late[-1], *late[: SHOWN - 1 - len(wrong)], *wrong]
    figure, axes = plt.subplots(
        2, SHOWN, figsize=(9.0, 3.6), layout="constrained", height_ratios=(1, 1.5), squeeze=False
    )
    for (top, bottom), i in zip(axes.T, chosen, strict=True):
        label, answer = held_out.labels[i], answers[-1, i]
        top.imshow(held_out.inputs[i].reshape(8, 8), cmap="gray_r")
        said = f"from layer {decided[i]}" if answer == label else f"read as {answer}"
        top.set_title(f"a {label}, {said}", fontsize=9)
        top.set_axis_off()
        shown = bottom.imshow(p[:, i].T, cmap="viridis", vmin=0, vmax=1, aspect="auto")
        bottom.set(xlabel="layer $k$", yticks=range(10) if bottom is axes[1, 0] else [])
    axes[1, 0].set_ylabel("class")
    figure.colorbar(shown, ax=axes[1], label="probability")
    figure.savefig(path, dpi=130)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(exits.run(main))
