"""What the commands do: read, refuse what cannot be written, call this room, show a table."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from pathlib import Path

import torch
from rich.console import Console

from ocp import data_options, description, exits, files, run_folder
from ocp.atomic import write_atomically
from ocp.container import json_values
from ocp.data_options import DataOptions
from ocp.files import TrainingFile
from ocp.outputs import check_outputs, inputs_of
from ocp.problem import Problem
from ocp.terminal import console
from ocp.validation import integer

from . import checkpoint, crop_choice, cropping, data, distributed
from . import export as exporting
from .fetch import fetch as fetch_files
from .initialisation import at_depth, problem_of
from .model import Network
from .options import Options
from .result import Status
from .start import available_device, samples, start_network
from .tables import (
    Samples,
    TrainingLines,
    crop_table,
    layers_of,
    outcome_of,
    show_layers,
)
from .training import FILES, check_use
from .training import train as run_training

#: of a file's own claim; longer trainings have to be asked for
_MOST_EPOCHS = 1000
_EXIT = {
    Status.FINISHED: exits.OK,
    Status.EARLY_STOPPED: exits.OK,
    Status.DIVERGED: exits.FAILED,
    Status.INTERRUPTED: exits.INTERRUPTED,
}


def fetch(args: argparse.Namespace) -> int:
    fetch_files(args.name, Path(args.data_dir), console(soft_wrap=True).print)
    return exits.OK


def train(
    args: argparse.Namespace, defaults: dict, option_keys: tuple[str, ...], given_names: set[str]
) -> int:
    _check_train(args, given_names)
    if distributed.launched_first():  # the others would try the same names at the same time
        _check_folder(args)
    extend = args.extend is not None
    if extend and args.epochs is not None:
        raise ValueError("--epochs is given with --extend, which says how many there shall be")
    if integer("--threads", args.threads, 0):
        torch.set_num_threads(args.threads)
    problem, file_options, says = _problem(args, defaults)
    given = {name: getattr(args, name) for name in option_keys}
    if args.batch_size is None:
        given["batch_size"] = _batch_size(problem.n_samples)
    given["epochs"] = args.extend if extend else 10 if args.epochs is None else args.epochs
    options = Options(**given | {"device": distributed.local_device(args.device)})
    options.fits(problem.n_samples)
    group = distributed.Processes.join(available_device(options.device))
    network = start_network(problem, options)
    words = console(soft_wrap=True)
    if says and group.first:
        words.print(f"read {says}")
    lines = TrainingLines(words, quiet=not group.first)
    try:
        result = run_training(
            network,
            options,
            folder=Path(args.output),
            resume=args.resume,
            extend=extend,
            report=lines.progress,
            record=lines.record,
            processes=group,
            file_options=file_options,
            facts={name: getattr(args, name) for name in ("embed", "no_held_out", "threads")},
            source={name: getattr(args, name) for name in ("dataset", "split", "lift", "trained")},
        )
    finally:
        distributed.leave()
    lines.end(result, Path(args.output))
    if group.first and result.status in (Status.FINISHED, Status.EARLY_STOPPED):
        found = layers_of(network, file_options["test"])
        show_layers(words, found)
        _caution((outcome_of(network, found["training"]),))
    return _EXIT[result.status]


def eval(args: argparse.Namespace) -> int:
    _check_files(args)
    network, content = checkpoint.load_training(args.file, args.data)
    found = layers_of(network, _held_out(content))
    _write_json(args.json, {name: dataclasses.asdict(layers) for name, layers in found.items()})
    show_layers(console(args.json, soft_wrap=True), found)
    return exits.OK


def crop(args: argparse.Namespace) -> int:
    _check_files(args, "output")
    _check_crop(args)
    network, content = checkpoint.load_training(args.file, args.data, dtype=torch.float32)
    if args.lift is not None and "lift" not in network.problem.trained:
        raise ValueError("--lift is given, but the lift of this file is not trained")
    words = console(args.json, args.output, soft_wrap=True)
    depths = _depths(network, args.keep)
    chosen_on = crop_choice.chosen_on(network, args.validation)
    held_out = _held_out(content)
    shown = samples(network, *held_out) if held_out is not None else samples(network)
    found = [cropping.compare(network, network, "full", range(network.problem.depth), *shown)]
    found += _crops(network, content, depths, args, shown, chosen_on)
    found += _fresh(network, content, depths, args, shown, words)
    sentences = []
    if args.output:
        layers, why = crop_choice.choose(network, depths[0], args.pick, args.lose, *chosen_on)
        sentences = [why, crop_choice.write(args, network, layers, content, held_out)]
        if args.validation is None:
            sentences.append("chosen on the training samples, which it knows: see --validation")
    _write_json(args.json, [dataclasses.asdict(c) for c in found])
    name = "held-out" if held_out is not None else "training"
    words.print(crop_table(found, f"Crops of {args.file}, on {len(shown[1])} {name} samples"))
    for sentence in sentences:
        words.print(sentence)
    return exits.OK


def export(args: argparse.Namespace) -> int:
    _check_files(args, "output")
    network, _ = checkpoint.load_training(args.file, args.data)
    sha256 = exporting.network_trace(args.output, network, *samples(network))
    console(args.output, soft_wrap=True).print(f"stage trace {sha256[:12]} is in {args.output}")
    return exits.OK


# --- train ------------------------------------------------------------------------------------


def _problem(args: argparse.Namespace, defaults: dict) -> tuple[Problem, dict, str]:
    """Return the problem, what the training file is to hold beside it, and what was read."""
    given = {name: getattr(args, name) for name in defaults if getattr(args, name) is not None}
    told = data_options.given(args)
    path = Path(args.dataset)
    test, reference, says = None, None, ""
    if _is_problem(path):
        if path.suffix == ".safetensors":
            data_options.refuse(told, "a training file holds its samples")
            content = files.load(path)
            problem, test, reference = content.problem, _held_out(content), content.data
            problem = problem.with_(**given) if given else problem
        else:
            described = description.read(path, told, given)
            problem, says = described.problem, described.says
            test = described.dataset.test
            _caution(described.dataset.cautions)
    else:
        dataset = data.load(args.dataset, args.data_dir, DataOptions.of(told, "the options"))
        _caution(dataset.cautions)
        if args.split is not None:
            dataset = dataset.tuning_split(args.split)
        trained = None if args.trained in (None, "auto") else tuple(args.trained.split(","))
        problem = problem_of(
            dataset, lift=args.lift or "auto", trained=trained, seed=args.seed, **defaults | given
        )
        test, reference, says = (
            dataset.test, None if args.embed else dataset.reference(), dataset.says
        )  # fmt: skip
    _caution(problem.cautions())
    test = None if args.no_held_out else test
    return problem, {"test": test, "reference": reference}, says


def _caution(sentences: tuple[str, ...]) -> None:
    for sentence in filter(None, sentences):
        print(exits.printable(f"warning: {sentence}"), file=sys.stderr)


def _is_problem(path: Path) -> bool:
    """Whether the samples come with a statement."""
    return path.suffix in (".toml", ".json", ".safetensors") and path.exists()


def _check_train(args: argparse.Namespace, given: set[str]) -> None:
    """Refuse what would be ignored."""
    path = Path(args.dataset)
    ignored = {}
    if _is_problem(path):
        why = f"{path.name} is a problem with samples of its own"
        ignored = dict.fromkeys(("split", "lift", "trained", "embed", "data_dir"), why)
        if path.suffix != ".safetensors":
            ignored["no_held_out"] = f"{path.name} holds no held-out samples"
    elif args.dataset not in ("mnist", "fashion"):
        ignored["data_dir"] = f"{args.dataset} needs no folder; mnist and fashion do"
    if args.schedule == "constant":
        ignored["lr_end"] = "the schedule is constant"
    if not args.patience:
        ignored["min_fall"] = "patience is 0: training never stops early"
    for name, why in ignored.items():
        if name in given:
            raise ValueError(f"--{name.replace('_', '-')} is given, but {why}")


def _batch_size(n_samples: int) -> int:
    return 128 if n_samples >= 1000 else 0


def _held_out(content: TrainingFile) -> Samples | None:
    if content.test_inputs is None or content.test_labels is None:
        return None
    return content.test_inputs, content.test_labels


# --- crop -------------------------------------------------------------------------------------


def _check_crop(args: argparse.Namespace) -> None:
    """Refuse numbers that make no sense before the file is read."""
    if not 0 <= args.threshold < 1:
        raise ValueError(f"--threshold is {args.threshold}; wanted at least 0 and below 1")
    for name, value in (("fine_tune", args.fine_tune), ("fresh", args.fresh)):
        if value is True:  # as the file names them
            continue
        flag = "--" + name.replace("_", "-")
        if value < 0:
            raise ValueError(f"{flag} is {value}; wanted at least 0 epochs")
        integer(flag, value, 0)
    if args.lr is not None:
        Options(lr=args.lr)
        if not args.fine_tune and args.fresh == 0:
            raise ValueError("--lr is given, but nothing is trained without --fine-tune or --fresh")
    if args.lift is not None and args.fresh == 0:
        raise ValueError("--lift is given, but without --fresh no new network is trained")
    crop_choice.check(args)


def _depths(network: Network, asked: list[int]) -> list[int]:
    """Return the depths to crop at; refuse one that is not there before any work."""
    N = network.problem.depth
    depths = list(dict.fromkeys(asked))
    depths = depths or sorted({max(1, N // 4), max(1, N // 2), max(1, 3 * N // 4)})
    for k in depths:
        cropping.prefix(network, k)
    return depths


def _crops(
    network: Network,
    content: TrainingFile,
    depths: list[int],
    args: argparse.Namespace,
    shown: tuple[torch.Tensor, torch.Tensor],
    chosen_on: tuple[torch.Tensor, torch.Tensor],
) -> list[cropping.Crop]:
    """Crop by norm and at each depth; beside each crop stands itself, trained on, if asked for."""
    rows = [(f"threshold {args.threshold:g}", cropping.above_threshold(network, args.threshold))]
    for k in depths:
        rows.append((f"prefix {k}", cropping.prefix(network, k)))
        rows.append((f"best {k}", cropping.best(network, k, *chosen_on)))
    found = []
    for kind, layers in rows:
        cut = cropping.keep(network, layers)
        found.append(cropping.compare(network, cut, kind, layers, *shown))
        if args.fine_tune:
            run_training(cut, _again(content, args.fine_tune, args.lr or 1e-3))
            found.append(cropping.compare(network, cut, f"{kind} + tuned", layers, *shown))
    return found


def _fresh(
    network: Network,
    content: TrainingFile,
    depths: list[int],
    args: argparse.Namespace,
    shown: tuple[torch.Tensor, torch.Tensor],
    words: Console,
) -> list[cropping.Crop]:
    """Train a new network of each depth for the multiply-adds that the full one took."""
    whole, stored = args.fresh, _stored_options(content)
    if whole is True:
        whole = 0 if stored is None else stored.epochs
        if stored is None:
            words.print("the file does not say for how many epochs it was trained: --fresh EPOCHS")
    found = []
    for k in depths if whole else []:
        epochs = cropping.equal_budget_epochs(network.problem, whole, k)
        words.print(f"training a new network of depth {k} for {epochs} epochs")
        options = _again(content, epochs, args.lr)
        fresh = start_network(at_depth(network.problem, k, args.lift or "gaussian"), options)
        run_training(fresh, options)
        kind = f"fresh {k}, {epochs} epochs"
        found.append(cropping.compare(network, fresh, kind, range(k), *shown))
    return found


def _stored_options(content: TrainingFile) -> Options | None:
    """Return the options that a file was trained with, if it names them; they are not trusted."""
    stored = content.origin.get("options")
    if not isinstance(stored, dict) or "epochs" not in stored:
        return None
    names = {field.name for field in dataclasses.fields(Options)}
    try:
        options = Options(**{k: v for k, v in stored.items() if k in names})
        options.fits(content.problem.n_samples)
    except (ValueError, TypeError):
        return None
    return options if options.epochs <= _MOST_EPOCHS else None


def _again(content: TrainingFile, epochs: int, lr: float | None) -> Options:
    """Return options to train with as the file's network was, for another number of epochs."""
    n = content.problem.n_samples
    options = _stored_options(content) or Options(
        lr=1e-3, schedule="cosine", batch_size=_batch_size(n)
    )
    return dataclasses.replace(
        options,
        epochs=epochs,
        lr=lr or options.lr,
        device="cpu",
        dtype="float32",
        evaluate_every=0,
        patience=0,
    )


# --- what is written --------------------------------------------------------------------------


def _write_json(path: Path | None, content: object) -> None:
    if path is not None:
        write_atomically(
            path, (json.dumps(json_values(content), indent=1, allow_nan=False) + "\n").encode()
        )


def _check_files(args: argparse.Namespace, *written: str) -> None:
    """Refuse, before any work, outputs that would replace an input or cannot be written."""
    outputs = {f"--{name}": getattr(args, name, None) for name in (*written, "json")}
    check_outputs(outputs, inputs_of(args.file, args.data))


def _check_folder(args: argparse.Namespace) -> None:
    """Refuse, before any work, a folder that cannot be made or that holds what is trained on."""
    resume = args.resume or args.extend is not None
    run_folder.check("--output", args.output, FILES, {} if resume else inputs_of(args.dataset))
    check_use(Path(args.output), resume=resume)
