"""The command line: python -m nn_baseline {fetch,train,depth,eval,crop,export} ..."""

from __future__ import annotations

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import sys

from ocp import data_options, exits, outputs

_PROBLEM = {  # the keys of the statement that the command line sets, with its defaults
    "depth": (int, 20, "N, number of layers"),
    "width": (int, 64, "n, dimension of the state"),
    "h": (float, 0.5, "step of a layer"),
    "scheme": (str, "euler", "euler, heun or rk4"),
    "block": (str, "single", "single or double"),
    "activation": (str, "tanh", "tanh, relu, gelu, ..."),
    "p_d": (float, 0.9, "probability of the true class in the soft target"),
    "r": (float, 1e-3, "control weight"),
    "gamma": (float, 1.0, "weight of the terminal data cost"),
    "beta": (int, 1, "1: a loss at every layer; 0: at the end alone"),
    "r_ends": (float, 0.0, "weight on a trained lift and readout"),
}
_OPTIONS = {  # the fields of nn_baseline.options.Options
    "optimizer": (str, "adam", "adam, adamw, sgd or lbfgs"),
    "lr": (float, 1e-3, "learning rate"),
    "schedule": (str, "cosine", "constant, linear or cosine"),
    "lr_end": (float, 0.01, "last learning rate as a fraction of the first"),
    "warmup": (int, 0, "steps"),
    "momentum": (float, 0.0, "sgd only"),
    "decoupled_decay": (float, 0.0, "adamw only; no part of the objective"),
    "epochs": (int, None, "passes over the samples [10]"),
    "batch_size": (int, None, "0: the whole set; by default 128, below 1000 samples the whole set"),
    "clip": (float, 0.0, "largest gradient norm; 0: none"),
    "patience": (int, 0, "evaluations without a fall before stopping; 0: never stop"),
    "min_fall": (float, 1e-6, "relative fall of the objective that counts"),
    "evaluate_every": (int, 1, "epochs between exact evaluations"),
    "init_scale": (float, 1e-2, "standard deviation of the start"),
    "seed": (int, 0, "of the start and of the sample order"),
    "dtype": (str, "float32", "float32 or float64"),
    "device": (str, "cpu", "cpu or cuda"),
    "checkpoint_seconds": (float, 60.0, "at most so much work is lost"),
}

_GROWTH = {  # parameters of nn_baseline.TurnpikeClassifier, which has the defaults
    "width": (int, "n, dimension of the state [the inputs, between 16 and 64]"),
    "deepest": (int, "layers at most [12]"),
    "h": (float, "step of a layer [0.5]"),
    "scheme": (str, "euler, heun or rk4 [euler]"),
    "block": (str, "single or double [single]"),
    "activation": (str, "tanh, relu, gelu, ... [tanh]"),
    "p_d": (float, "probability of the true class in the soft target [0.9]"),
    "r": (float, "control weight [1e-4]"),
    "beta": (int, "1: a loss at every layer; 0: at the end alone [1]"),
    "phase_epochs": (int, "passes after each growth [about 1000 steps]"),
    "final_epochs": (int, "passes of the annealing [three phases]"),
    "optimizer": (str, "adam, adamw, sgd or lbfgs [adam]"),
    "lr": (float, "learning rate [0.01; from 10,000 samples on 0.003]"),
    "batch_size": (int, "0: the whole set [128]"),
    "worth": (float, "share of J that a layer has to gain over idling [0.002]"),
    "patience": (int, "growths without more accuracy; 0: J alone decides [1]"),
    "tolerance": (float, "points of accuracy that do not count [0.2]"),
    "append": (str, "new layers: random or 'near zero' [random]"),
    "validation_fraction": (float, "share of the samples that chooses the depth [0.2]"),
    "dtype": (str, "float32 or float64 [float32]"),
    "device": (str, "cpu or cuda [cpu]"),
}


def parser() -> argparse.ArgumentParser:
    """Return the parser; nothing heavy is imported for it."""
    p = exits.Parser(prog="python -m nn_baseline", description=__doc__)
    commands = p.add_subparsers(dest="command", required=True)

    c = commands.add_parser("fetch", help="download an image set, saying what and from where")
    c.add_argument("name", help="mnist or fashion")
    c.add_argument("--data-dir", required=True, help="folder for the four files")

    c = commands.add_parser("train", help="train a network on the statement's objective")
    c.add_argument(
        "dataset",
        help="a name, a folder of IDX files, a table (CSV, Parquet, ARFF) or arrays (NPZ); or a"
        " problem: .toml, .json, or a training file, whose statement the flags below then change",
    )
    c.add_argument("--data-dir", help="folder with the files of mnist or fashion")
    c.add_argument("--output", required=True, help="folder for state, training file and log")
    c.add_argument(
        "--resume",
        action="store_true",
        help="continue the training in --output, with the same options; one that has ended stays"
        " as it is",
    )
    c.add_argument(
        "--extend",
        type=int,
        metavar="EPOCHS",
        help="continue it until so many epochs are done in all; for a constant schedule, where the"
        " result is that of a training for so many",
    )
    c.add_argument("--split", type=int, help="train on the first SPLIT samples, hold out the rest")
    c.add_argument("--lift", help="zeros, gaussian, principal or auto [auto]")
    c.add_argument("--trained", help="e.g. layers,lift,readout; auto: all if lifted [auto]")
    c.add_argument(
        "--embed", action="store_true", help="store the images of an IDX set in the file"
    )
    c.add_argument("--no-held-out", action="store_true", help="leave the held-out samples out")
    c.add_argument("--threads", type=int, default=0, help="CPU threads; 0: as torch decides")
    for name, (kind, default, text) in {**_PROBLEM, **_OPTIONS}.items():
        flag = "--" + name.replace("_", "-")
        shown = text if default is None else f"{text} [{default}]"
        # what is not given leaves a problem file's value as it is, and is never refused
        c.add_argument(flag, type=kind, help=shown)
    data_options.add_arguments(c)

    c = commands.add_parser("depth", help="find the depth that the data need, while training")
    c.add_argument(
        "dataset", help="a name, a folder of IDX files, a table (CSV, Parquet, ARFF), arrays (NPZ)"
    )
    c.add_argument("--data-dir", help="folder with the files of mnist or fashion")
    c.add_argument("--output", required=True, help="folder for networks, figure and numbers")
    c.add_argument("--resume", action="store_true", help="go on with the growth in --output")
    c.add_argument(
        "--fresh", action="store_true", help="train a fresh network of that depth beside it"
    )
    c.add_argument("--threads", type=int, default=0, help="CPU threads; 0: as torch decides")
    c.add_argument("--seed", type=int, default=0, help="of start, order and split [0]")
    for name, (kind, shown) in _GROWTH.items():
        c.add_argument("--" + name.replace("_", "-"), type=kind, help=shown)
    data_options.add_arguments(c)

    c = commands.add_parser("eval", help="show a training file layer by layer")
    _file(c)

    c = commands.add_parser("crop", help="remove layers and say what it costs and saves")
    _file(c)
    c.add_argument("--keep", type=int, nargs="+", default=[], help="depths to keep")
    c.add_argument("--threshold", type=float, default=0.1, help="share of the largest norm [0.1]")
    c.add_argument("--fine-tune", type=int, default=0, help="epochs of further training")
    c.add_argument("--lr", type=float, default=None, help="for --fine-tune and --fresh")
    c.add_argument(
        "--fresh",
        type=int,
        nargs="?",
        const=True,  # as the file names them
        default=0,
        metavar="EPOCHS",
        help="beside each depth stands a new network, trained for the multiply-adds of so many"
        " epochs of the full one; without a number those that the file names [none]",
    )
    c.add_argument(
        "--lift",
        choices=("gaussian", "principal"),
        help="a trained lift's start in the new networks [gaussian]",
    )
    c.add_argument(
        "--lose",
        type=float,
        metavar="POINTS",
        help="write the fewest layers that lose at most so many points of accuracy on the"
        " validation samples, instead of the first depth of --keep",
    )
    c.add_argument(
        "--pick",
        choices=("prefix", "best"),
        default="prefix",
        help="of k layers: the first, or those whose removal costs least [prefix]",
    )
    c.add_argument(
        "--validation",
        metavar="DATA",
        help="samples that choose the layers; by default the training samples",
    )
    c.add_argument(
        "--output",
        type=outputs.path,
        help="write the network of the layers kept, for torch alone (residual.py beside it)",
    )
    c.add_argument(
        "--with-samples",
        action="store_true",
        help="write it as a training file instead, which holds the samples, for the judge",
    )

    c = commands.add_parser("export", help="write the stage trace of a training file")
    _file(c, numbers=False)
    c.add_argument("--output", type=outputs.path, required=True, help="the trace, *.safetensors")
    return p


def _file(c: argparse.ArgumentParser, *, numbers: bool = True) -> None:
    c.add_argument("file", help="a training file")
    c.add_argument("--data", help="the file with its inputs, where it keeps them by reference")
    if numbers:
        c.add_argument(
            "--json", type=outputs.path, help="write the numbers here as well; -: stdout"
        )


def main(arguments: list[str] | None = None) -> int:
    """Run one command; return its exit code."""
    prefix = " ".join(["nn_baseline", *(sys.argv[1:] if arguments is None else arguments)[:1]])
    return exits.run(lambda: _run(parser().parse_args(arguments)), prefix)


def _run(args: argparse.Namespace) -> int:
    from . import commands, depth_command

    try:
        if args.command == "depth":
            return depth_command.depth(args)
        if args.command == "train":
            defaults = {name: default for name, (_, default, _) in _PROBLEM.items()}
            given = {name for name, value in vars(args).items() if value not in (None, False)}
            for name, (_, default, _) in _OPTIONS.items():
                if getattr(args, name) is None:
                    setattr(args, name, default)
            return commands.train(args, defaults, tuple(_OPTIONS), given)
        return getattr(commands, args.command)(args)
    except RuntimeError as error:  # torch has no exceptions of its own for these on a CPU
        text = " ".join(str(error).split())
        if "allocate" in text or "out of memory" in text:
            raise MemoryError(text[:200]) from None
        if "overflow" in text:
            raise ValueError(f"a number is too large for the dtype ({text[:200]})") from None
        raise


if __name__ == "__main__":
    sys.exit(main())
