"""`depth`: read the data, grow, say which depth they need and why, write what can be used."""

from __future__ import annotations

import argparse
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from ocp import data_options, exits, run_folder
from ocp.atomic import write_atomically
from ocp.container import json_values
from ocp.data_options import DataOptions
from ocp.outputs import inputs_of
from ocp.samples import Dataset
from ocp.terminal import console
from ocp.validation import integer

from . import data, deployment, growth_log
from .growth_result import Step
from .paired import difference
from .result import Progress
from .tables import TrainingLines

TRAINING_FILE, FIGURE_FILE, NUMBERS_FILE = "training.safetensors", "depth.png", "depth.json"
GROWTH_FOLDER = "growth"
#: what the estimator is told by the flag of the same name
PARAMETERS = (
    *("width", "deepest", "h", "activation", "scheme", "block", "p_d", "r", "beta"),
    *("phase_epochs", "final_epochs", "optimizer", "lr", "batch_size", "worth", "patience"),
    *("tolerance", "append", "validation_fraction", "device", "dtype"),
)


def depth(args: argparse.Namespace) -> int:
    """Run the command; return its exit code."""
    folder = Path(args.output)
    _check(args, folder)
    try:
        from .classifier import TurnpikeClassifier
    except ImportError as error:
        raise ValueError(str(error)) from None
    if integer("--threads", args.threads, 0):
        torch.set_num_threads(args.threads)
    told = DataOptions.of(data_options.given(args), "the options")
    dataset = data.load(args.dataset, args.data_dir, told)
    for sentence in dataset.cautions:
        print(exits.printable(f"warning: {sentence}"), file=sys.stderr)
    words = console(soft_wrap=True)
    if dataset.says:
        words.print(f"read {dataset.says}")
    X, y = dataset.inputs, _names(dataset)[dataset.labels]
    given = {name: getattr(args, name) for name in PARAMETERS if getattr(args, name) is not None}
    classifier = TurnpikeClassifier(**given, random_state=args.seed)
    lines = _Lines(words)
    classifier.fit(
        X,
        y,
        folder=folder / GROWTH_FOLDER,
        resume=args.resume,
        report=lines.progress,
        record=lines.growth,
    )
    fresh = _fresh(classifier, X, y, words) if args.fresh else None
    numbers = _numbers(classifier, dataset, fresh)
    written = _write(folder, classifier, numbers)
    _show(words, classifier, numbers)
    for sentence in written:
        words.print(sentence)
    return exits.OK


def _check(args: argparse.Namespace, folder: Path) -> None:
    """Refuse, before any work, what cannot be written or would be ignored."""
    if args.data_dir is not None and args.dataset not in data.MD5:
        raise ValueError(f"--data-dir is given, but {args.dataset} needs no folder")
    if not args.resume:
        growth_log.refuse_held(folder / GROWTH_FOLDER)
    run_folder.check("--output", folder, FILES, inputs_of(args.dataset))


FILES = (
    *(TRAINING_FILE, FIGURE_FILE, NUMBERS_FILE),
    *(
        deployment.STATE_FILE,
        deployment.SOURCE_FILE,
        deployment.EXPORTED_FILE,
        deployment.ONNX_FILE,
    ),
)


def _names(dataset: Dataset) -> np.ndarray:
    if dataset.classes is None:
        return np.arange(dataset.n_classes)
    return np.array(dataset.classes)


def _fresh(classifier: Any, X: np.ndarray, y: np.ndarray, words: Console) -> Any:
    """Train a network of the depth found from a start of its own, for the whole growth's work."""
    from sklearn.base import clone

    epochs = max(2, round(classifier.work_ / classifier.depth_))
    words.print(f"training a fresh network of depth {classifier.depth_} for {epochs} epochs")
    first = epochs // 4
    return (
        clone(classifier)
        .set_params(
            shallowest=classifier.depth_,
            deepest=classifier.depth_,
            phase_epochs=first,
            final_epochs=epochs - first,
        )
        .fit(X, y)
    )


def _numbers(classifier: Any, dataset: Dataset, fresh: Any) -> dict:
    found = {
        "depth": classifier.depth_,
        "gain_depth": classifier.gain_depth_,
        "sentences": classifier.diagnosis_.splitlines(),
        "curve": classifier.depth_curve_,
        "growths": classifier.history_,
        "classes": [str(name) for name in classifier.classes_],
        "validation_accuracy": classifier.validation_score_,
        "work": classifier.work_,
    }
    held_out = dataset.test
    if held_out is not None:
        names = _names(dataset)[held_out[1]]
        found["test_accuracy"] = float((classifier.predict(held_out[0]) == names).mean())
    if fresh is not None:
        gained = difference(classifier.right_, fresh.right_)
        found["fresh"] = {
            "validation_accuracy": fresh.validation_score_,
            "grown_minus_fresh": [gained.points, gained.low, gained.high],
        }
    return found


def _write(folder: Path, classifier: Any, numbers: dict) -> list[str]:
    """Write all; return a sentence for each file."""
    network = classifier.network_
    classifier.save_training(folder / TRAINING_FILE)
    deployment.write_plain(folder, network)
    deployment.write_exported(folder / deployment.EXPORTED_FILE, network)
    onnx = deployment.can_write_onnx()
    if onnx:
        deployment.write_onnx(folder / deployment.ONNX_FILE, network)
    picture = io.BytesIO()
    classifier.plot_depth().figure.savefig(picture, format="png", dpi=150)
    write_atomically(folder / FIGURE_FILE, picture.getvalue())
    text = json.dumps(json_values(numbers), indent=1, allow_nan=False) + "\n"
    write_atomically(folder / NUMBERS_FILE, text.encode())
    return [
        f"{folder / deployment.ONNX_FILE}: for onnxruntime; input `inputs`, output `logits`"
        if onnx
        else "no ONNX file: the extra `onnx` is not installed",
        f"{folder / deployment.STATE_FILE} with {deployment.SOURCE_FILE}: for torch alone",
        f"{folder / deployment.EXPORTED_FILE}: for torch.export.load",
        f"{folder / TRAINING_FILE}: for the judge, with the training samples",
        f"{folder / FIGURE_FILE}, {folder / NUMBERS_FILE}: the depth curve",
    ]


class _Lines:
    """Says where a growth is."""

    def __init__(self, words: Console) -> None:
        self.words, self.steps = words, TrainingLines(words, quiet=False)

    def progress(self, name: str, progress: Progress) -> None:
        self.steps.progress(progress)

    def growth(self, step: Step) -> None:
        share = step.gain / abs(step.idle)
        kept = "kept" if step.kept else "not worth it: undone"
        self.words.print(
            f"{step.depth} layers: J gains {100 * share:.2f} % over idling, validation accuracy"
            f" {step.gained}; {kept}"
        )


def _show(words: Console, classifier: Any, numbers: dict) -> None:
    table = Table(title="Depth curve, on validation data before annealing")
    for heading in ("layers", "accuracy [%]", "to the best [points]", "loss", "multiply-adds"):
        table.add_column(heading, justify="right")
    for row in classifier.depth_curve_:
        mark = " *" if row["depth"] == classifier.depth_ else ""
        table.add_row(
            f"{row['depth']}{mark}",
            f"{100 * row['accuracy']:.2f}",
            f"{row['points']:+.2f} [{row['low']:+.2f}, {row['high']:+.2f}]",
            f"{row['loss']:.4f}",
            str(row["multiply_adds"]),
        )
    words.print(table)
    for sentence in numbers["sentences"]:
        words.print(sentence)
    words.print(
        f"annealed at depth {classifier.depth_}: {100 * numbers['validation_accuracy']:.2f} % on"
        " the validation samples, which have chosen the depth"
    )
    if "fresh" in numbers:
        points, low, high = numbers["fresh"]["grown_minus_fresh"]
        words.print(
            "a fresh network of this depth, for the same work:"
            f" {100 * numbers['fresh']['validation_accuracy']:.2f} %; grown minus fresh"
            f" {points:+.2f} points [{low:+.2f}, {high:+.2f}]"
        )
    if "test_accuracy" in numbers:
        words.print(f"on the held-out samples: {100 * numbers['test_accuracy']:.2f} %")
