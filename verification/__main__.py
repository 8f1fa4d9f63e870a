"""The command line: python -m verification FILE..."""

from __future__ import annotations

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import os
import sys

from ocp import exits, outputs

from .checks import CHECKS, REGISTRY

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")  # before NumPy: more threads only slow small matrices down

#: which checks read an option: with none of them under --only it would be ignored
READERS = {
    "tol": {"statement", "first_order", "second_order", "certificate", "diagnosis"},
    "budget": {"first_order", "second_order", "diagnosis"},
}
EPILOG = """\
checks:
{checks}

exit codes: 0 every claim that applies passed; 1 a claim failed; 2 unusable input or usage;
3 none failed, one is inconclusive, or no claim was evaluated; 130 interrupted
""".format(checks="\n".join(f"  {row.name:14s} {row.asks}" for row in REGISTRY))


def parser() -> argparse.ArgumentParser:
    """Return the argument parser; nothing heavy is imported for it."""
    parse = exits.Parser(
        prog="python -m verification",
        description="Say what is true of a training file: statement, first and second order,"
        " geometry, dissipativity, turnpike, depth.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parse.add_argument("files", nargs="*", metavar="FILE", help="training file (*.safetensors)")
    parse.add_argument(
        "--json", type=outputs.path, metavar="OUT", help="write the report as JSON; -: stdout"
    )
    parse.add_argument(
        "--latex", type=outputs.path, metavar="OUT", help="write it as a LaTeX table; -: stdout"
    )
    parse.add_argument(
        "--certify", action="store_true", help="prove the minimum in ball arithmetic (python-flint)"
    )
    parse.add_argument(
        "--tol",
        type=float,
        metavar="T",
        help="on the largest absolute entry of the gradient of J (default 1e-8)",
    )
    parse.add_argument("--data", metavar="FILE", help="inputs of files that keep them by reference")
    parse.add_argument(
        "--budget",
        type=float,
        metavar="PASSES",
        help="gradient passes over the data for the curvature of a large file (default 35)",
    )
    parse.add_argument(
        "--only", nargs="+", action="extend", default=[], metavar="CHECK", help="run these alone"
    )
    return parse


def main(arguments: list[str] | None = None) -> int:
    """Run the command and return its exit code."""
    refuse = (*exits.UNUSABLE_INPUT, ArithmeticError)
    return exits.run(lambda: _run(parser().parse_args(arguments)), "verification", refuse)


def _run(options: argparse.Namespace) -> int:
    # "--only depth FILE": what follows the names and is no name is a file
    files = options.files + [name for name in options.only if _looks_like_a_file(name)]
    only = [name for name in options.only if not _looks_like_a_file(name)]
    for name in only:
        if name not in CHECKS:
            raise ValueError(f"unknown check {name!r}; wanted {', '.join(CHECKS)}")
    certified = ["certificate"] if options.certify else []
    if not files:
        raise ValueError("no FILE was given; wanted at least one training file")
    if options.tol is not None and not 0.0 < options.tol < float("inf"):
        raise ValueError(f"--tol is {options.tol}; wanted a finite number above 0")
    if options.budget is not None and not options.budget >= 0.0:
        raise ValueError(f"--budget is {options.budget}; wanted a number of passes of at least 0")
    for name, readers in READERS.items():
        if getattr(options, name) is not None and only and not readers & {*only, *certified}:
            raise ValueError(f"--{name} is given, but no check of --only reads it")
    return _judge(files, only, options)


def _looks_like_a_file(name: str) -> bool:
    return name not in CHECKS and (os.path.exists(name) or "." in name or os.sep in name)


def _judge(files: list[str], only: list[str], options: argparse.Namespace) -> int:
    from ocp.atomic import write_atomically

    from . import api, console

    if options.certify:
        api.require_certify_extra()
    written = {"--json": options.json, "--latex": options.latex}
    read = {f"the file {name}": name for name in files}
    outputs.check_outputs(written, {**read, "--data": options.data})
    with console.progress() as tell:
        report = api.verify(
            *files,
            tolerance=1e-8 if options.tol is None else options.tol,
            certify=options.certify,
            data=options.data,
            only=only,
            budget=options.budget,
            progress=tell,
        )
    if options.json:
        write_atomically(options.json, api.json_text(report).encode())
    if options.latex:
        write_atomically(options.latex, console.latex_text(report).encode())
    console.show(report, *written.values())
    return report.exit_code


if __name__ == "__main__":
    sys.exit(main())
