"""Which layers a crop writes: so many, or as few as lose no more than was allowed.

They are chosen on validation samples, or on the training samples where none are given; never on
the test samples of a file.
"""

from __future__ import annotations

import argparse

import numpy as np
from torch import Tensor

from ocp.atomic import target
from ocp.files import TrainingFile
from ocp.validation import at_least

from . import checkpoint, cropping, data
from .deployment import SOURCE_FILE, deployed, source, write_source, write_weights
from .evaluation import right
from .model import Network
from .paired import difference
from .start import samples

#: the greedy choice looks at so many samples
_CHOSEN_ON = 4096


def check(args: argparse.Namespace) -> None:
    """Refuse what makes no sense or would be ignored, before the file is read."""
    if args.lose is not None:
        at_least("--lose", args.lose, 0)
    given = {"lose": args.lose is not None, "with_samples": args.with_samples}
    for name, there in given.items():
        if there and args.output is None:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} is given, but nothing is written without --output")
    if args.lose is not None and args.keep:
        raise ValueError("--lose is given with --keep, which says how many layers to write")
    if args.output is not None and not args.with_samples and target(args.output) not in (1, 2):
        place = args.output.parent / SOURCE_FILE
        if place.exists() and place.read_bytes() != source():
            raise ValueError(f"{place} is a file of another kind; wanted another folder")


def chosen_on(network: Network, validation: str | None) -> tuple[Tensor, Tensor]:
    """Return the samples that choose: of a file of the user's own, or the training samples.

    Raises
    ------
    ValueError : the file has other columns or classes than the network
    """
    if validation is None:
        x, y = samples(network)
        return x[:_CHOSEN_ON], y[:_CHOSEN_ON]
    problem, found = network.problem, data.load(validation)
    if found.inputs.shape[1] != problem.inputs.shape[1]:
        raise ValueError(
            f"--validation has {found.inputs.shape[1]} inputs; wanted {problem.inputs.shape[1]}"
        )
    labels = found.labels
    if problem.class_names is not None:
        there = found.classes or tuple(map(str, range(found.n_classes)))
        strange = [name for name in there if name not in problem.class_names]
        if strange:
            raise ValueError(f"--validation has the class {strange[0]}; the network has it not")
        labels = np.array([problem.class_names.index(name) for name in there])[labels]
    elif found.classes is not None or found.n_classes > problem.n_classes:
        raise ValueError(
            f"--validation has {found.n_classes} classes; wanted 0 to {problem.n_classes - 1}"
        )
    inputs = found.inputs
    if problem.input_scale is None and found.scale is not None:
        inputs = found.scale * inputs + (found.shift or 0.0)
    elif problem.input_scale is not None and found.scale is None:
        raise ValueError("--validation has numbers, but the network takes bytes")
    x, y = samples(network, inputs, labels)
    return x[:_CHOSEN_ON], y[:_CHOSEN_ON]


def choose(
    network: Network, k: int, pick: str, lose: float | None, inputs: Tensor, labels: Tensor
) -> tuple[tuple[int, ...], str]:
    """Return the layers to keep and a sentence on why.

    k : layers to keep, where `lose` is None
    lose : points of accuracy that may be lost; the fewest layers that lose no more are kept
    """

    N, full = network.problem.depth, right(network, inputs, labels)
    counts = [k] if lose is None else range(1, N + 1)  # all N lose nothing
    kept_of = {count: cropping.prefix(network, count) for count in counts}
    if pick == "best":  # each is the one before without a layer
        found = cropping.greedy(network, min(counts), inputs, labels)
        kept_of = {len(layers): layers for layers in found if len(layers) in kept_of}
    for count in counts:
        layers = kept_of[count]
        lost = difference(right(cropping.keep(network, layers), inputs, labels), full)
        if lose is None or -lost.points <= lose:
            break
    kept = f"{len(layers)} of {N} layers ({', '.join(map(str, layers))})"
    return layers, f"{kept}: {lost} to the full network on {len(labels)} samples"


def write(
    args: argparse.Namespace,
    network: Network,
    layers: tuple[int, ...],
    content: TrainingFile,
    held_out: tuple[np.ndarray, np.ndarray] | None,
) -> str:
    """Write the layers kept; return a sentence on where they are."""
    cut = cropping.keep(network, layers)
    if args.with_samples:
        origin = {"options": {"cropped_from": content.sha256, "kept": list(layers)}}
        checkpoint.save_training(
            args.output, cut, origin=origin, test=held_out, reference=content.data
        )
        return f"a training file with the samples is {args.output}"
    write_weights(args.output, deployed(cut))
    if target(args.output) in (1, 2):  # a standard stream has no folder
        return "the weights are on the standard stream"
    write_source(args.output.parent)
    return f"the network is {args.output}; {SOURCE_FILE} beside it loads it with torch alone"
