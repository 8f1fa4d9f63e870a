"""Where a command writes: refused before any work if it cannot be, or must not be, written."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from ocp.atomic import check_writable, write_atomically

from . import checkpoint


def check_files(args: argparse.Namespace, *written: str) -> None:
    """Refuse, before any work, outputs that would replace an input or cannot be written."""
    named = {"the input": args.file, "--data": args.data}
    taken = {Path(path).resolve(): name for name, path in named.items() if path}
    for name in (*written, "json"):
        path = getattr(args, name)
        if path is None:
            continue
        place = Path(path).resolve()
        if place in taken:
            raise ValueError(f"--{name} is {path}, which is {taken[place]}; wanted another file")
        if not path or place.is_dir():
            raise ValueError(f"--{name} is {path!r}, a folder; wanted a file")
        if not place.parent.is_dir():
            raise ValueError(f"--{name} is {path}, but there is no folder {place.parent}")
        check_writable(place.parent)
        taken[place] = f"--{name}"


def check_folder(output: str, source: str) -> None:
    """Refuse, before any work, a folder that cannot be made or that holds what is trained on."""
    if not output:
        raise ValueError("--output is empty; wanted a folder")
    folder = Path(output)
    if source and (folder / checkpoint.TRAINING_FILE).resolve() == Path(source).resolve():
        raise ValueError(
            f"--output {folder} holds {source} itself, which training would replace;"
            " wanted another folder"
        )
    there = next(p for p in (folder, *folder.absolute().parents) if p.exists())
    if not there.is_dir():
        raise ValueError(f"--output is {folder}, but {there} is a file; wanted a folder")
    check_writable(there)


def write_json(path: str | None, content: object) -> None:
    if path is not None:
        write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
