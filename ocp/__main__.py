"""Solve small training problems exactly: python -m ocp {solve,polish,grow,multistart} ..."""

from __future__ import annotations

from . import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import sys
from pathlib import Path

from . import data_options, exits, outputs

DESCRIPTION = """Solve small training problems exactly, as optimal control problems.

PROBLEM is a .toml or .json description (see ocp/description.py), or a file of data (CSV, Parquet,
ARFF, NPZ, a folder of IDX files) for the statement's defaults; FILE is a training file
(.safetensors) with a problem, samples and controls.  Exit code 0: a strict local minimum was
found; 1: something else was found and written, with its status; 2: unusable input, nothing was
written; 130: interrupted, the best point so far was written (143: by SIGTERM).
"""


def parser() -> argparse.ArgumentParser:
    """Return the parser; nothing heavy is imported for it."""
    main = exits.Parser(
        prog="python -m ocp",
        description=DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = main.add_subparsers(
        dest="verb", required=True, metavar="{solve,polish,grow,multistart}"
    )

    solve = verbs.add_parser("solve", help="solve a problem, by a search unless told otherwise")
    solve.add_argument("source", type=Path, metavar="PROBLEM|FILE")
    start = solve.add_mutually_exclusive_group()
    start.add_argument("--cold", action="store_true", help="random start at full depth, no growth")
    start.add_argument(
        "--warm", action="store_true", help="start from FILE's controls (and its costate)"
    )
    solve.add_argument(
        "--effort",
        help="quick, standard (default) or thorough: how long to search for a low optimum",
    )
    solve.add_argument(
        "--seconds", type=float, help="instead of an effort: about how long to search"
    )
    solve.add_argument(
        "--trials",
        type=int,
        help="no search, but growth: the best of so many starts at the first two depths goes on",
    )
    _seed(solve)
    _solver_arguments(solve)
    data_options.add_arguments(solve)

    polish = verbs.add_parser("polish", help="solve from FILE's controls, then Newton to rounding")
    polish.add_argument("source", type=Path, metavar="FILE")
    _solver_arguments(polish)

    grow = verbs.add_parser("grow", help="append layers to FILE's solution and solve again")
    grow.add_argument("source", type=Path, metavar="FILE")
    grow.add_argument(
        "--depth",
        type=_depth,
        required=True,
        metavar="N|auto",
        help="depth to grow to; auto: until more layers do not pay over idling",
    )
    _seed(grow)
    _solver_arguments(grow)

    many = verbs.add_parser("multistart", help="solve from many starts; keep all distinct minima")
    many.add_argument("source", type=Path, metavar="PROBLEM|FILE")
    many.add_argument("--starts", type=int, required=True, help="number of seeds, from --seed on")
    many.add_argument("--seed", type=int, default=0, help="first seed (0)")
    many.add_argument("--workers", type=int, help="processes on this machine (1)")
    many.add_argument("--scheduler", help="address of a Dask scheduler instead of own processes")
    many.add_argument("--solver", default="structured", help="structured, ipopt or fatrop")
    many.add_argument("--tolerance", type=float, default=1e-8, help="on max|dJ/du| (1e-8)")
    many.add_argument("--data", type=Path, help="file with the inputs, where FILE refers to one")
    many.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="folder; a rerun goes on there"
    )
    data_options.add_arguments(many)
    return main


def _depth(text: str) -> int | None:
    """A whole number, or None for "auto"."""
    return None if text == "auto" else int(text)


def _seed(verb: argparse.ArgumentParser) -> None:
    verb.add_argument("--seed", type=int, help="seed of random controls (0)")


def _solver_arguments(verb: argparse.ArgumentParser) -> None:
    verb.add_argument(
        "--output", type=outputs.path, required=True, help="training file to write; -: stdout"
    )
    verb.add_argument("--data", type=Path, help="file with the inputs, where FILE refers to one")
    verb.add_argument("--solver", default=None, help="structured (default), ipopt or fatrop")
    verb.add_argument("--tolerance", type=float, default=1e-8, help="on max|dJ/du| (1e-8)")
    verb.add_argument(
        "--max-iterations",
        type=int,
        default=3000,
        help="in each solve, of a search in the last (3000)",
    )
    verb.add_argument("--max-seconds", type=float, default=3600, help="in each solve (3600)")
    verb.add_argument(
        "--option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="an option in the solver's own words, e.g. mumps_pivot_order=5; repeatable",
    )
    verb.add_argument(
        "--json", type=outputs.path, help="also write the solve report as JSON; -: stdout"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run one verb and return the exit code."""

    def execute() -> int:
        options = parser().parse_args(arguments)
        from .command_line import verbs

        return verbs.execute(options)

    return exits.run(execute)


if __name__ == "__main__":
    sys.exit(main())
