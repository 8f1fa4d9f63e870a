"""A row on disk: its name, its file and the files that it made, read with suspicion."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path

from ocp.description import loads_json
from ocp.validation import at_least

#: of a row
FIELDS = (
    *("name", "part", "parameters", "given", "result", "versions", "files"),
    *("cpu_seconds", "wall_seconds"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One row to be computed.

    part : table that the row belongs to
    label : a few readable characters for the row's name
    parameters : JSON values; seeds and options among them
    given : name under which the function gets a file -> that file's name among the rows
    """

    part: str
    label: str
    parameters: dict
    given: dict[str, str] = field(default_factory=dict)

    @property
    def name(self) -> str:
        text = json.dumps([self.part, self.parameters, self.given], sort_keys=True)
        return f"{self.part}_{self.label}_{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def path_of(folder: Path, task: Task) -> Path:
    """Where a row lies."""
    return folder / f"{task.name}.json"


def file_of(row: dict, file: str) -> str:
    """Where a file that the row made lies among the rows."""
    return f"{row['name']}.{file}"


def is_done(folder: Path, task: Task) -> bool:
    """Whether a row and all its files are there, which must belong together."""
    if not path_of(folder, task).exists():
        return False
    for file, digest in read(folder, task)["files"].items():
        path = folder / f"{task.name}.{file}"
        if not path.exists():
            return False  # computed again
        if sha256(path.read_bytes()) != digest:
            raise ValueError(
                f"{path} is not what the row {task.name}.json made; remove both to compute it again"
            )
    return True


def read(folder: Path, task: Task) -> dict:
    """Read a row; every field is checked."""
    path = path_of(folder, task)
    wanted = json.loads(json.dumps([task.name, task.part, task.parameters, task.given]))
    try:
        row = loads_json(path.read_text())
        if not isinstance(row, dict) or tuple(row) != FIELDS:
            raise ValueError(f"wanted the fields {', '.join(FIELDS)}")
        if list(row.values())[: len(wanted)] != wanted:
            raise ValueError("it is another row")
        for name in ("result", "versions", "files"):
            if not isinstance(row[name], dict):
                raise ValueError(f"{name} is {type(row[name]).__name__}; wanted an object")
        for name in ("versions", "files"):
            if not all(isinstance(value, str) for value in row[name].values()):
                raise ValueError(f"{name} are no texts")
        if any("/" in file for file in row["files"]):
            raise ValueError("files are no names")
        for name in ("cpu_seconds", "wall_seconds"):
            at_least(name, row[name], 0)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is no row of this study ({error}); remove it") from None
    return row


def encode(row: dict) -> bytes:
    """The content of a row's file."""
    return (json.dumps(row, indent=1, allow_nan=False) + "\n").encode()


def sha256(content: bytes) -> str:
    """The digest under which a row knows its files."""
    return hashlib.sha256(content).hexdigest()
