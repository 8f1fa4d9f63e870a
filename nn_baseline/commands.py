"""What the commands do: read, call one function of this room, show a table."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import time
from pathlib import Path

import torch
from rich.console import Console

from ocp import description, files
from ocp.problem import Problem

from . import checkpoint, cropping, data, distributed
from . import export as exporting
from .evaluation import evaluate
from .fetch import fetch as fetch_files
from .initialisation import initial_lift, initial_readout
from .model import Network
from .options import Options
from .outputs import check_files, check_folder, write_json
from .start import available_device, samples, start_network
from .tables import crop_table, layer_table
from .training import Progress, Status
from .training import train as run_training

#: of a file's own claim; longer trainings have to be asked for
_MOST_EPOCHS = 1000
_EXIT = {
    Status.FINISHED: 0,
    Status.EARLY_STOPPED: 0,
    Status.DIVERGED: 1,
    Status.INTERRUPTED: 130,
}


def fetch(args: argparse.Namespace) -> int:
    fetch_files(args.name, Path(args.data_dir), Console(soft_wrap=True).print)
    return 0


def train(args: argparse.Namespace, defaults: dict, option_keys: tuple[str, ...]) -> int:
    check_folder(args.output, args.dataset)
    if args.threads < 0:
        raise ValueError(f"--threads is {args.threads}; wanted at least 0")
    if args.threads:
        torch.set_num_threads(args.threads)
    problem, file_options = _problem(args, defaults)
    given = {name: getattr(args, name) for name in option_keys}
    if args.batch_size is None:
        given["batch_size"] = _batch_size(problem.n_samples)
    options = Options(**given | {"device": distributed.local_device(args.device)})
    options.fits(problem.n_samples)
    group = distributed.Processes.join(available_device(options.device))
    network = start_network(problem, options)
    show = _Show(Console(soft_wrap=True), quiet=not group.first)
    stop = _stop_on_interrupt()
    try:
        result = run_training(
            network,
            options,
            folder=Path(args.output),
            resume=args.resume,
            report=show.progress,
            record=show.record,
            should_stop=stop,
            processes=group,
            file_options=file_options,
        )
    finally:
        distributed.leave()
    if group.first:
        show.end(result, Path(args.output))
        if result.status in (Status.FINISHED, Status.EARLY_STOPPED):
            _layer_tables(show.console, network, file_options["test"])
    return _EXIT[result.status]


def eval(args: argparse.Namespace) -> int:
    check_files(args)
    network, content = checkpoint.load_training(args.file, args.data)
    console = Console(soft_wrap=True)
    tables = _layer_tables(console, network, _held_out(content))
    write_json(args.json, tables)
    return 0


def crop(args: argparse.Namespace) -> int:
    check_files(args, "output")
    if not 0 <= args.threshold < 1:
        raise ValueError(f"--threshold is {args.threshold}; wanted at least 0 and below 1")
    for name in ("fine_tune", "fresh"):
        if (getattr(args, name) or 0) < 0:
            flag = "--" + name.replace("_", "-")
            raise ValueError(f"{flag} is {getattr(args, name)}; wanted at least 0 epochs")
    if args.lr is not None:
        Options(lr=args.lr)
    network, content = checkpoint.load_training(args.file, args.data, dtype=torch.float32)
    console = Console(soft_wrap=True)
    inputs, labels = samples(network)
    if args.fresh is None and (stored := _stored_options(content)) is not None:
        args.fresh = stored.epochs
    held_out = _held_out(content)
    shown = samples(network, *held_out) if held_out is not None else (inputs, labels)
    chosen = slice(0, 4096)  # for the greedy choice: training samples, never the test set
    N = network.problem.depth
    depths = list(dict.fromkeys(args.keep))
    depths = depths or sorted({max(1, N // 4), max(1, N // 2), max(1, 3 * N // 4)})
    for k in depths:
        cropping.prefix(network, k)  # refuses a depth that is not there before any work
    rows = [(f"threshold {args.threshold:g}", cropping.above_threshold(network, args.threshold))]
    for k in depths:
        rows.append((f"prefix {k}", cropping.prefix(network, k)))
        rows.append((f"best {k}", cropping.best(network, k, inputs[chosen], labels[chosen])))
    found = [cropping.compare(network, network, "full", range(N), *shown)]
    for kind, layers in rows:
        cut = cropping.keep(network, layers)
        found.append(cropping.compare(network, cut, kind, layers, *shown))
        if args.fine_tune:
            again = _again(content, args.fine_tune, args.lr or 1e-3)
            run_training(cut, again)
            found.append(cropping.compare(network, cut, f"{kind} + tuned", layers, *shown))
    if args.fresh is None:
        console.print("the file does not say for how many epochs it was trained: --fresh EPOCHS")
    for k in depths if args.fresh else []:
        epochs = cropping.equal_budget_epochs(network.problem, args.fresh, k)
        console.print(f"training a new network of depth {k} for {epochs} epochs", highlight=False)
        options = _again(content, epochs, args.lr)
        fresh = start_network(_fresh_problem(network.problem, k, args.lift), options)
        run_training(fresh, options)
        kind = f"fresh {k}, {epochs} epochs"
        found.append(cropping.compare(network, fresh, kind, range(k), *shown))
    name = "held-out" if held_out is not None else "training"
    console.print(crop_table(found, f"Crops of {args.file}, on {len(shown[1])} {name} samples"))
    write_json(args.json, [dataclasses.asdict(c) for c in found])
    if args.output:
        cut = cropping.keep(network, cropping.prefix(network, depths[0]))
        origin = {"options": {"cropped_from": content.sha256, "kept": depths[0]}}
        checkpoint.save_training(
            args.output, cut, origin=origin, test=held_out, reference=content.data
        )
        console.print(f"the first {depths[0]} layers are in {args.output}")
    return 0


def export(args: argparse.Namespace) -> int:
    check_files(args, "output")
    network, _ = checkpoint.load_training(args.file, args.data)
    sha256 = exporting.network_trace(args.output, network, *samples(network))
    Console(soft_wrap=True).print(f"stage trace {sha256[:12]} is in {args.output}")
    return 0


def _problem(args: argparse.Namespace, defaults: dict) -> tuple[Problem, dict]:
    """Return the problem, and what the training file is to hold beside it."""
    given = {name: getattr(args, name) for name in defaults if getattr(args, name) is not None}
    path = Path(args.dataset)
    if path.suffix in (".toml", ".json", ".safetensors") and path.exists():
        test, reference = None, None
        if path.suffix == ".safetensors":
            content = files.load(path)
            problem, test, reference = content.problem, _held_out(content), content.data
        else:
            problem = description.load(path)
        problem = problem.with_(**given) if given else problem
    else:
        dataset = data.load(args.dataset, args.data_dir)
        if args.split is not None:
            dataset = dataset.tuning_split(args.split)
        problem = problem_of(dataset, args, defaults | given)
        test, reference = dataset.test, None if args.embed else dataset.reference()
    return problem, {"test": None if args.no_held_out else test, "reference": reference}


def problem_of(dataset: data.Dataset, args: argparse.Namespace, statement: dict) -> Problem:
    """Return the problem of a data set and the statement's keys, with ends that fit."""
    n_in, width = dataset.inputs.shape[1], statement["width"]
    lift = args.lift
    if lift == "auto":
        lift = "padding" if width >= n_in and dataset.scale is None else "gaussian"
    lifted = lift != "padding"
    trained = args.trained
    if trained == "auto":
        trained = "layers,lift,readout" if lifted else "layers"
    values = dataset.inputs[:10_000]
    if dataset.scale is not None:
        values = values * dataset.scale + dataset.shift
    E, e = initial_lift(lift, width, values, args.seed)
    C, c = (None, None)
    if "readout" in trained:
        C, c = initial_readout(dataset.n_classes, width, args.seed)
    return Problem(
        **dataset.statement(),
        **statement,
        trained=tuple(trained.split(",")),
        lift_weight=E,
        lift_bias=e,
        readout_weight=C,
        readout_bias=c,
    )


class _Show:
    """Prints records as lines, and a progress line where the output is a terminal."""

    def __init__(self, console: Console, quiet: bool) -> None:
        self.console, self.quiet, self.last = console, quiet, time.monotonic()

    def progress(self, p: Progress) -> None:
        now = time.monotonic()
        # a terminal's line moves every half second; a log file gets one every half minute
        if self.quiet or now - self.last < (0.5 if self.console.is_terminal else 30.0):
            return
        self.last = now
        line = (
            f"step {p.step}/{p.total}  epoch {p.epoch}  objective {p.objective:.5g}"
            f"  about {p.seconds_left:.0f} s left"
        )
        self.console.print(line, end="\r" if self.console.is_terminal else "\n")

    def record(self, entry: dict) -> None:
        if not self.quiet and "epoch_mean" in entry:
            parts = [f"epoch {entry['epoch']}", f"mean objective {entry['epoch_mean']:.6g}"]
            if "objective" in entry:
                parts.append(f"objective {entry['objective']:.6g}")
                parts.append(f"accuracy {100 * entry['accuracy']:.2f} %")
                if entry["entry"]:
                    parts.append(f"data cost at rest from layer {entry['entry']}")
            self.console.print("  ".join(parts), highlight=False)

    def end(self, result, folder: Path) -> None:
        self.console.print(f"{result.status.value} {result.message}".rstrip(), highlight=False)
        for finding in result.findings:
            self.console.print(f"{finding.message}: {finding.hint}", highlight=False)
        self.console.print(f"{result.steps} steps, {result.seconds:.1f} s; files in {folder}")


def _stop_on_interrupt():
    """Turn the first Ctrl-C into a clean stop; the second one ends the process."""
    asked = []

    def handle(signum, frame) -> None:
        if asked:
            raise KeyboardInterrupt
        asked.append(signum)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, handle)
    return lambda: bool(asked)


def _layer_tables(console: Console, network: Network, test) -> dict:
    shown = {"training": evaluate(network, *samples(network))}
    if test is not None:
        shown["held-out"] = evaluate(network, *samples(network, *test))
    console.print(layer_table(shown))
    for name, layers in shown.items():
        console.print(
            f"{name}: objective {layers.objective:.8g}, accuracy"
            f" {100 * layers.accuracy[-1]:.2f} %, turnpike from layer {layers.entry}",
            highlight=False,
        )
    return {
        name: {k: getattr(v, "tolist", lambda v=v: v)() for k, v in dataclasses.asdict(l).items()}
        for name, l in shown.items()
    }


def _batch_size(n_samples: int) -> int:
    return 128 if n_samples >= 1000 else 0


def _stored_options(content) -> Options | None:
    """Return the options that a file was trained with, if it names them; they are not trusted."""
    stored = content.origin.get("options")
    if not isinstance(stored, dict) or "epochs" not in stored:
        return None
    try:
        options = Options(**{k: v for k, v in stored.items() if k in Options.__slots__})
        options.fits(content.problem.n_samples)
    except (ValueError, TypeError):
        return None
    return options if options.epochs <= _MOST_EPOCHS else None


def _again(content, epochs: int, lr: float | None) -> Options:
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


def _fresh_problem(problem: Problem, depth: int, lift: str) -> Problem:
    """The same problem at another depth, with trained ends back at a start of their own."""
    changes: dict = {"depth": depth}
    if "lift" in problem.trained:
        values = problem.inputs[:10_000]
        if values.dtype.kind == "u":
            values = values * problem.input_scale + problem.input_shift
        E, e = initial_lift(lift, problem.width, values)
        changes |= {"lift_weight": E, "lift_bias": e}
    if "readout" in problem.trained:
        C, c = initial_readout(problem.n_classes, problem.width)
        changes |= {"readout_weight": C, "readout_bias": c}
    return problem.with_(**changes)


def _held_out(content) -> tuple | None:
    return None if content.test_inputs is None else (content.test_inputs, content.test_labels)
