"""Tables of a study as CSV files that read back to the last digit, and its figures."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import math
from collections.abc import Sequence
from pathlib import Path

from ocp.atomic import write_atomically


def flat(row: dict, without: Sequence[str] = ()) -> dict:
    """Return a row as one line of a table, without its seconds."""
    line = {"row": row["name"]} | row["parameters"] | row["result"]
    line = {name: value for name, value in line.items() if name not in without}
    return line | {"versions": ", ".join(f"{k} {v}" for k, v in row["versions"].items())}


def encode(lines: Sequence[dict]) -> str:
    """Return CSV: numbers to the last digit, lists joined by semicolons, nothing for None."""
    columns = list(dict.fromkeys(name for line in lines for name in line))
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns)
    for line in lines:
        writer.writerow([_cell(line.get(name)) for name in columns])
    return out.getvalue()


def read(path: Path) -> list[dict]:
    """Read what `encode` wrote: numbers, lists of numbers, text, None."""
    with path.open(newline="") as file:
        return [{k: _value(v) for k, v in line.items()} for line in csv.DictReader(file)]


def save_figure(figure, folder: Path, name: str) -> None:
    """Write a figure as PDF and PNG; equal tables give equal bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    for suffix, metadata in (("pdf", {"CreationDate": None}), ("png", {"Software": None})):
        buffer = io.BytesIO()
        figure.savefig(buffer, format=suffix, metadata=metadata)
        write_atomically(folder / f"{name}.{suffix}", buffer.getvalue())


def plain(value: object) -> object:
    """JSON values; NaN and infinity become None."""
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if hasattr(value, "tolist"):
        return plain(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def _cell(value: object) -> str:
    value = plain(value)
    if value is None:
        return ""
    if isinstance(value, list):
        return ";".join(_cell(v) for v in value) + (";" if len(value) < 2 else "")
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True)
    return repr(value) if isinstance(value, float) else str(value)


def _value(text: str) -> object:
    if text == "":
        return None
    if ";" in text:
        return [_value(part) for part in text.removesuffix(";").split(";")] if text != ";" else []
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            return kind(text)
    return {"True": True, "False": False}.get(text, text)
