"""The layout of a text table: separator, decimal mark and header, as given or as they look."""

from __future__ import annotations

import codecs
import csv
import itertools
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: cells that stand for nothing
MISSING = frozenset(
    ("", "?", "na", "n/a", "#n/a", "#na", "<na>", "nan", "-nan", "null", "none", "nil", "1.#qnan")
)
#: headers that say "the label is here"; "y" only where it cannot be a coordinate
LABEL_NAMES = frozenset(
    ("label", "labels", "class", "classes", "target", "targets", "category", "class_label",
     "classlabel", "outcome", "y")
)  # fmt: skip
SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "space": " ", "bar": "|"}
#: fewer rows can look like anything by chance
LEAST_ROWS = 5
#: so many records tell the layout
LOOKED_AT = 60
_NUMBER = re.compile(
    r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,5})?|[+-]?inf(inity)?", re.ASCII | re.IGNORECASE
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """How a text becomes a table; None: found by looking.

    separator : one character, or comma, semicolon, tab, space or bar
    decimal : "." or ","
    encoding : a name that Python knows
    header : whether the first line holds names
    """

    separator: str | None = None
    decimal: str | None = None
    encoding: str | None = None
    header: bool | None = None

    def __post_init__(self) -> None:
        found = self.separator
        if found is not None:
            if not isinstance(found, str):
                raise ValueError(f"separator is {found!r}; wanted one character or its name")
            mark = SEPARATORS.get(found, "\t" if found == r"\t" else found)
            if len(mark) != 1 or mark.isalnum() or mark in "\"'.+-\n\r":
                raise ValueError(
                    f"separator is {found!r}; wanted one character, or {', '.join(SEPARATORS)}"
                )
            object.__setattr__(self, "separator", mark)
        if self.decimal not in (None, ".", ","):
            raise ValueError(f"decimal is {self.decimal!r}; wanted '.' or ','")
        if self.decimal == "," == self.separator:
            raise ValueError("separator and decimal are both ','; wanted two different marks")
        if self.encoding is not None:
            try:
                codecs.lookup(self.encoding)
                "".encode(self.encoding)
            except (LookupError, TypeError, ValueError):
                raise ValueError(
                    f"encoding is {self.encoding!r}; wanted one that Python knows, such as utf-8,"
                    " utf-16, cp1252 or latin-1"
                ) from None
        if self.header not in (None, True, False):
            raise ValueError(f"header is {self.header!r}; wanted true or false")


def records(
    lines: Iterator[str] | IO[str], separator: str, before: int = 0
) -> Iterator[tuple[int, list[str]]]:
    """Yield (number of the last line, cells) of each record with anything in it."""
    if separator == " ":
        lines = (re.sub(r"[ \t\f\v]+", " ", line).strip(" ") for line in lines)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True)
    try:
        for cells in reader:
            if len(cells) > 1 or (cells and cells[0].strip()):
                yield reader.line_num + before, cells
    except csv.Error as error:
        raise ValueError(
            f"line {reader.line_num + before} is no row of a table ({error})"
        ) from None


def number(cell: str, decimal: str = ".") -> bool:
    """Whether a cell holds a number."""
    cell = cell.strip()
    if decimal == ",":
        cell = "x" if "." in cell else cell.replace(",", ".", 1)
    return _NUMBER.fullmatch(cell) is not None


def missing(cell: str) -> bool:
    """Whether a cell stands for nothing."""
    return cell.strip().lower() in MISSING


def thousands(rows: list[list[str]]) -> str:
    """A cell of a table with decimal commas in which every comma could as well mark thousands:
    "1,200" and no "0,5"; else nothing."""
    cells = [cell.strip() for row in rows for cell in row if "," in cell and number(cell, ",")]
    if cells and all(re.fullmatch(r"[+-]?[1-9]\d{0,2},\d{3}", cell) for cell in cells):
        return cells[0]
    return ""


def marks(lines: list[str], layout: Layout) -> tuple[str, str]:
    """Return the separator and the decimal mark under which most cells are numbers."""
    candidates = [layout.separator] if layout.separator else list(SEPARATORS.values())
    best: tuple[tuple[float, float, int], str, str] | None = None
    for rank, separator in enumerate(candidates):
        rows = _rows(lines, separator)
        for decimal in (".", ","):
            if decimal == separator or layout.decimal not in (None, decimal):
                continue
            score = (*_score(rows, decimal), -rank)
            if best is None or score > best[0]:
                best = score, separator, decimal
    if best is None:
        raise AssertionError("a layout whose separator is its decimal mark is refused when made")
    return best[1], best[2]


def _rows(lines: list[str], separator: str) -> list[list[str]]:
    try:
        return [c for _, c in itertools.islice(records(iter(lines), separator), LOOKED_AT)]
    except ValueError:
        return []


def _score(rows: list[list[str]], decimal: str) -> tuple[float, float]:
    """Share of rows as wide as most with more than one cell; then share of numbers."""
    if not rows:
        return (-1.0, 0.0)
    widths = [len(row) for row in rows]
    common = max(set(widths), key=widths.count)
    cells = [cell for row in rows[1:] or rows for cell in row]
    # "0,5;0,3;1" split at commas has as many cells in every row, and hardly a number among them
    good = sum(number(cell, decimal) or missing(cell) for cell in cells) / max(1, len(cells))
    alike = widths.count(common) / len(widths)
    return (round(alike * good, 6) if common > 1 else good / 1e3, float(decimal == "."))


def counts(cells: list[str]) -> bool:
    """Whether the cells are 0, 1, 2, ..., as pandas writes columns without names."""
    found = [cell.strip() for cell in cells]
    if found[0] == "" and len(found) > 2:  # the index has no name
        found = found[1:]
    return len(found) > 1 and found == [str(j) for j in range(len(found))]


def is_header(
    path: Path, rows: list[list[str]], decimal: str, given: bool | None, line: int
) -> int:
    """Whether the first line holds names; refuse where it could be either."""
    if given is not None:
        return int(given)
    first, rest = rows[0], rows[1:]
    numeric = [
        j
        for j in range(len(first))
        if sum(number(row[j], decimal) for row in rest if j < len(row)) > len(rest) / 2
    ]
    words = [j for j in numeric if not number(first[j], decimal) and not missing(first[j])]
    numbers = [j for j in numeric if number(first[j], decimal)]
    if not rest:
        return int(not any(number(cell, decimal) for cell in first))
    if counts(first) and len(first) > 2:
        inputs = [row[j] for row in rest for j in numeric[1:-1] or numeric if j < len(row)]
        nameless = first[0].strip() == ""
        if nameless or any(decimal in cell or "e" in cell.lower() for cell in inputs):
            return 1
        raise ValueError(
            f"{path}: line {line} is {','.join(first[:6])}...: column numbers or a sample;"
            " give --header or --no-header"
        )
    if words and not numbers:
        return 1
    if _names_the_label(first, rest):
        return 1
    if words:
        raise ValueError(
            f"{path}: line {line} holds words ({first[words[0]].strip()[:40]!r}) and numbers"
            f" ({first[numbers[0]].strip()[:40]!r}); give --header or --no-header"
        )
    if _stands_apart(first, rest, numeric, decimal):
        raise ValueError(
            f"{path}: line {line} is {','.join(cell.strip() for cell in first[:6])}: whole numbers"
            " above fractions, names or a sample; give --header or --no-header"
        )
    return 0


def _names_the_label(first: list[str], rest: list[list[str]]) -> bool:
    """Whether a cell of the first line is a word for the label that no other row has there:
    "2019,2020,label" above numbers."""
    for j, cell in enumerate(first):
        word = cell.strip().lower()
        if word in LABEL_NAMES - {"y"}:
            return all(row[j].strip().lower() != word for row in rest if j < len(row))
    return False


def _stands_apart(
    first: list[str], rest: list[list[str]], numeric: list[int], decimal: str
) -> bool:
    """Whether the first line holds whole numbers where all other rows have fractions, and at its
    end what no other row has: years as names, or a sample like no other."""
    last = len(first) - 1
    inputs = [j for j in numeric if j != last]
    if len(rest) < LEAST_ROWS or not inputs or not all(first[j].strip().isdigit() for j in inputs):
        return False
    cells = [row[j] for row in rest if len(row) > last for j in inputs]
    ends = {row[last].strip() for row in rest if len(row) > last}
    return first[last].strip() not in ends and all(
        decimal in cell or "e" in cell.lower() or missing(cell) for cell in cells
    )
