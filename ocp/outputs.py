"""What a command is about to write: refused before any work if it cannot be, or is an input."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path

from .atomic import STDOUT, check_name, target
from .exits import printable

Paths = Mapping[str, "str | os.PathLike | None"]


def path(name: str) -> Path:
    """Return the path that an option names; "-" is standard output."""
    return STDOUT if name == "-" else Path(name)


def to_stdout(*paths: str | os.PathLike | None) -> bool:
    """Whether one of the outputs is standard output; the words then go to standard error."""
    return any(target(one) == 1 for one in paths if one is not None)


def check_outputs(outputs: Paths, inputs: Paths | None = None) -> None:
    """Refuse, before any work, outputs that cannot be written or that would replace an input.

    outputs, inputs : paths by what the user calls them ("--json"); None is not given.  Two names
        of one file (a symlink, a hard link) are the same file; pipes and devices may be shared,
        but for standard output, which holds one result

    Raises
    ------
    ValueError : one sentence
    OSError : the very name cannot be written
    """
    taken = {name: given for name, given in (inputs or {}).items() if given is not None}
    for name, output in outputs.items():
        if output is None:
            continue
        text = os.fspath(output)
        if not text or not _can_be_a_name(text):
            raise ValueError(f"{name} is {text!r}; wanted the name of a file")
        shown = printable(text)
        if os.path.isdir(text):
            raise ValueError(f"{name}: {shown} is a folder; wanted the name of a file")
        for other, there in taken.items():
            if _same(text, os.fspath(there)):
                raise ValueError(f"{name} is {shown}, which is {other}; wanted another file")
        folder = os.path.dirname(text) or "."
        if not os.path.isdir(folder):
            raise ValueError(f"{name} is {shown}, but there is no folder {folder}")
        check_name(text)
        taken[name] = output


def check_folder(
    name: str, folder: str | os.PathLike, files: Iterable[str], inputs: Paths | None = None
) -> None:
    """Refuse, before any work, a folder that cannot be made or cannot take the named files.

    Nothing is left behind: a folder that is missing is made and removed again.

    Raises
    ------
    ValueError, OSError : as `check_outputs`
    """
    text = os.fspath(folder)
    if not text or not _can_be_a_name(text):
        raise ValueError(f"{name} is {text!r}; wanted a folder")
    place = Path(text)
    missing = [one for one in (place, *place.absolute().parents) if not os.path.lexists(one)]
    there = next(one for one in (place, *place.absolute().parents) if os.path.lexists(one))
    if not there.is_dir():
        raise ValueError(f"{name} is {text}, but {there} is a file; wanted a folder")
    try:
        for one in reversed(missing):
            one.mkdir(exist_ok=True)
        check_outputs({f"{name} {file}": place / file for file in files}, inputs)
    finally:
        for one in missing:
            with contextlib.suppress(OSError):
                one.rmdir()


def inputs_of(source: str | os.PathLike, data: str | os.PathLike | None = None) -> dict:
    """Return the files that a command reads, by what the user calls them.

    source : a training file, a table, or a description, whose [data] may name files of its own
    data : what --data names
    """
    source = Path(source)
    found: dict[str, Path | None] = {
        "the input": source,
        "--data": None if data is None else Path(data),
    }
    section: object = {}
    try:
        if source.suffix == ".toml":
            from .description import parse_toml

            section = parse_toml(source.read_text()).get("data")
        elif source.suffix == ".json":
            section = json.loads(source.read_text()).get("data")
    except (OSError, ValueError, AttributeError, RecursionError):
        pass  # the reader says what is wrong with it
    for key, value in section.items() if isinstance(section, dict) else ():
        if isinstance(value, str) and _can_be_a_name(value):
            found[f"the {key} of [data] in {source.name}"] = source.parent / value
    return found


def _can_be_a_name(text: str) -> bool:
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def _same(one: str, other: str) -> bool:
    """Whether both names lead to one file that a write would change."""
    if not _can_be_a_name(other):
        return False
    places = target(one), target(other)
    if places[0] == places[1]:
        return isinstance(places[0], int) or not _shared(places[0])
    try:
        found = os.stat(one), os.stat(other)
    except OSError:
        return False
    return os.path.samestat(*found) and stat.S_ISREG(found[0].st_mode)


def _shared(place: str) -> bool:
    """Whether many may write there at once: what exists and is no regular file."""
    return os.path.exists(place) and not os.path.isfile(place)
