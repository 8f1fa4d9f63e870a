"""How people's data are to be read: in [data] of TOML, on every command line, in Python.

Nothing heavy is imported here: the parsers of the command lines are made of it.
"""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class DataOptions:
    """What the reader is told; None and () leave it to what the file says.

    label : name or number (from 1 on) of the label's column
    separator : one character, or comma, semicolon, tab, space, bar
    decimal : "." or ","
    encoding : such as utf-8 (default), utf-16, cp1252, latin-1
    header : whether the first line holds names
    drop : columns to leave out;  keep : inputs that only look like row numbers
    drop_missing : leave out rows with holes
    standardise : centre the inputs' columns and scale them to unit deviation, within the lift
    """

    label: str | int | None = None
    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    header: bool | None = None
    drop: tuple[str, ...] = ()
    keep: tuple[str, ...] = ()
    drop_missing: bool = False
    standardise: bool = False

    def __post_init__(self) -> None:
        if self.label is not None and (
            isinstance(self.label, bool) or not isinstance(self.label, (str, int))
        ):
            raise ValueError(f"label is {self.label!r}; wanted the name or number of a column")
        for name in ("separator", "decimal", "encoding"):
            if not isinstance(getattr(self, name), (str, type(None))):
                raise ValueError(f"{name} is {getattr(self, name)!r}; wanted text")
        for name in ("drop", "keep"):
            given = getattr(self, name)
            given = [given] if isinstance(given, (str, int)) else given
            wanted = isinstance(given, (list, tuple)) and all(
                isinstance(item, (str, int)) and not isinstance(item, bool) for item in given
            )
            if not wanted:
                raise ValueError(f"{name} is {given!r}; wanted a list of columns")
            object.__setattr__(self, name, tuple(str(item) for item in given))
        for name, known in (
            ("header", (None, True, False)),
            *((flag, (True, False)) for flag in ("drop_missing", "standardise")),
        ):
            if not any(getattr(self, name) is value for value in known):
                raise ValueError(f"{name} is {getattr(self, name)!r}; wanted true or false")

    @classmethod
    def of(cls, given: Mapping[str, Any], where: str) -> DataOptions:
        """Return the options of a mapping whose keys may be spelt with - or _.

        Raises
        ------
        ValueError : an unknown key, or a value of the wrong kind
        """
        names = [field.name for field in dataclasses.fields(cls)]
        found: dict[str, Any] = {}
        for key, value in given.items():
            name = key.replace("-", "_")
            if name == "no_header" and value is True:
                name, value = "header", False
            if name not in names:
                raise ValueError(f"unknown key {key!r} in {where}; wanted {', '.join(names)}")
            if name in found:
                raise ValueError(f"{key!r} is given twice in {where}; wanted it once")
            found[name] = value
        return cls(**found)

    def layout(self) -> dict[str, Any]:
        """The options that only a text table has."""
        names = ("separator", "decimal", "encoding", "header")
        return {name: getattr(self, name) for name in names}

    def replaced(self, given: Mapping[str, Any]) -> DataOptions:
        """Return the options with those of a command line in their place."""
        return dataclasses.replace(self, **given)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the reader's options to a command."""
    group = parser.add_argument_group(
        "reading of data", "for CSV and other tables; what is left out is found by looking"
    )
    group.add_argument("--label", metavar="COLUMN", help="name or number of the label's column")
    group.add_argument("--separator", metavar="MARK", help="comma, semicolon, tab, space or a mark")
    group.add_argument("--decimal", metavar="MARK", help="decimal mark: . or ,")
    group.add_argument("--encoding", metavar="NAME", help="such as utf-8, utf-16, cp1252, latin-1")
    either = group.add_mutually_exclusive_group()
    either.add_argument(
        "--header", action="store_true", default=None, help="the first line holds names"
    )
    either.add_argument(
        "--no-header", dest="header", action="store_false", default=None, help="it is a sample"
    )
    for name, text in (
        ("--drop", "columns to leave out"),
        ("--keep", "inputs that only look like row numbers"),
    ):
        group.add_argument(name, nargs="+", action="extend", metavar="COLUMN", help=text)
    group.add_argument(
        "--drop-missing", action="store_true", default=None, help="leave out rows with holes"
    )
    group.add_argument(
        "--standardise",
        action="store_true",
        default=None,
        help="centre the inputs' columns and scale them, within the lift",
    )


def given(namespace: argparse.Namespace) -> dict[str, Any]:
    """Return those of the reader's options that the command line gives."""
    names = [field.name for field in dataclasses.fields(DataOptions)]
    found = {name: getattr(namespace, name) for name in names}
    return {name: value for name, value in found.items() if value is not None}


def refuse(found: Mapping[str, Any], reason: str) -> None:
    """Raise ValueError if an option was given that would be ignored."""
    for name, value in found.items():
        flag = "no-header" if name == "header" and value is False else name.replace("_", "-")
        raise ValueError(f"--{flag} is given, but {reason}; wanted it left out")
