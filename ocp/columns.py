"""What each column of a table is: an index, an input, the label; refused where it is not clear."""

from __future__ import annotations

import hashlib
import itertools
import re
from dataclasses import dataclass

import numpy as np

from . import labels as labelling
from .table_layout import LABEL_NAMES, LEAST_ROWS, number
from .text_tables import Table

#: so many rows are 1, 2, 3, ... in any order, or all different, by more than chance
_MANY_ROWS = 10
#: names of columns that tell one row from another
_IDENTIFIER = re.compile(
    r"((?s:.*)[\W_])?(id|ids|idx|index|uuid|rowid|row|rownum|row_?number|nr|no)|(?-i:.*[a-z]I[Dd])",
    re.IGNORECASE,
)
_DATE = re.compile(r"\d{4}[-/.]\d{1,2}[-/.]\d{1,2}([ T].*)?|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}([ T].*)?")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Roles:
    """A table taken apart.

    inputs : (n, n_in) float64;  columns : their names;  labels : (n,) as `labels.column` gives it
    label_column : as it is called;  said, cautions : sentences on what was done
    """

    inputs: np.ndarray
    columns: tuple[str, ...]
    labels: np.ndarray
    label_column: str
    said: tuple[str, ...]
    cautions: tuple[str, ...]


def apart(
    table: Table,
    *,
    label: str | int | None = None,
    drop: tuple[str, ...] = (),
    keep: tuple[str, ...] = (),
    drop_missing: bool = False,
    n_classes: int | None = None,
) -> Roles:
    """Return inputs and labels of a table.

    label : name or number (from 1 on) of the label's column; None: the header's word for it, else
        the last column, if it can be one
    drop : columns to leave out;  keep : inputs that look like row numbers and are none
    drop_missing : leave out rows with holes, which are refused otherwise

    Raises
    ------
    ValueError : line, column, what was found, what was wanted and the option that helps
    """
    said: list[str] = []
    dropped = [_find(table, name, "drop") for name in drop]
    kept = {_find(table, name, "keep") for name in keep}
    named = None if label is None else _find(table, label, "label")
    if named in dropped:
        raise ValueError(f"{table.shown(named)} is both label and drop; wanted one of them")
    for j in kept.intersection(dropped):
        raise ValueError(f"{table.shown(j)} is both drop and keep; wanted one of them")
    rest = [j for j in range(len(table.columns)) if j not in dropped]
    if dropped:
        said.append(f"left out: {', '.join(table.shown(j) for j in dict.fromkeys(dropped))}")
    rest = _without_empty(table, rest, named, kept, said)
    if named is None or rest[:1] != [named]:
        rest = _without_index(table, rest, kept, said)
    at = named if named is not None else _guess(table, rest)
    inputs = [j for j in rest if j != at]
    if at not in rest or not inputs:
        raise ValueError(
            f"there {'is one column' if len(rest) < 2 else 'are no inputs'}; wanted coordinates"
            " and a label in each row (--separator, if the cells are not told apart)"
        )
    refuse_text(table, inputs)
    rows = _whole_rows(table, [*inputs, at], drop_missing, said)
    values = _values(table, inputs, rows)
    labels = labelling.column(_label_cells(table, at, rows), table.shown(at))
    if named is None:
        _refuse_no_classes(table, at, labels, n_classes)
    for j in inputs:
        if j not in kept and _row_numbers(table.columns[j], table, j):
            name = table.name(j)
            raise ValueError(
                f"{table.shown(j)} numbers the rows; wanted an input: --drop {name} leaves it out,"
                f" --keep {name} takes it as it is"
            )
    return Roles(
        inputs=values,
        columns=tuple(table.name(j) for j in inputs),
        labels=labels,
        label_column=table.name(at),
        said=tuple(said),
        cautions=(*_one_hot_caution(table, [*inputs, at], rows),
                  *_identifier_caution(table, [j for j in inputs if j not in kept]),
                  *labelling.alike(labels, table.shown(at)),
                  *labelling.few_a_class(labels, table.shown(at))),
    )  # fmt: skip


def _find(table: Table, name: str | int, option: str) -> int:
    """The position of a column given by name, or by number from 1 on."""
    width = len(table.columns)
    if table.names is not None and str(name) in table.names:
        found = [j for j in range(width) if table.names[j] == str(name)]
        if len(found) > 1:
            raise ValueError(f"{option} is {name!r}, the name of {len(found)} columns; wanted one")
        return found[0]
    text = str(name)
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= width:
        return int(text) - 1
    shown = ", ".join(repr(n) for n in table.names[:12]) if table.names else f"1 to {width}"
    more = ", ..." if table.names and width > 12 else ""
    raise ValueError(f"{option} is {str(name)!r}, no column; wanted one of {shown}{more}")


def _empty(column: np.ndarray) -> bool:
    if column.dtype.kind == "f":
        return bool(np.isnan(column).all())
    return column.dtype == object and all(cell is None for cell in column)


def _without_empty(
    table: Table, rest: list[int], named: int | None, kept: set[int], said: list[str]
) -> list[int]:
    """Leave out columns without a name and without a cell, as a comma at the end makes one."""
    found = []
    for j in rest:
        nameless = table.names is None or not table.names[j]
        if j != named and j not in kept and nameless and _empty(table.columns[j]):
            said.append(f"left out: column {j + 1}, which is empty")
        else:
            found.append(j)
    return found


def _without_index(table: Table, rest: list[int], kept: set[int], said: list[str]) -> list[int]:
    """Leave out first columns that are a nameless index of the rows; each saving may add one."""
    while table.names is not None and len(rest) > 2 and rest[0] not in kept:
        name, column = table.names[rest[0]], table.columns[rest[0]]
        nameless = name == "" or name.startswith("Unnamed: ")
        # text: names of rows, as R writes them
        text = column.dtype == object and all(cell is not None for cell in column)
        if not nameless or not (text or column.dtype.kind == "i"):
            break
        if len(set(column)) < len(column):
            break
        said.append(f"left out: column {rest[0] + 1}, the index of the rows")
        rest = rest[1:]
    return rest


def _guess(table: Table, rest: list[int]) -> int:
    """The position of the label: where the header says so, else the last column."""
    if not rest:
        raise ValueError("no column is left; wanted coordinates and a label in each row")
    if table.names is None:
        return rest[-1]
    names = {j: table.names[j].strip().lower() for j in rest}
    found = [j for j in rest if names[j] in LABEL_NAMES]
    if "x" in names.values():  # x and y are coordinates, unless y is the last of all
        found = [j for j in found if names[j] != "y" or j == rest[-1]]
    if len(found) > 1:
        without_y = [j for j in found if names[j] != "y"]
        found = without_y if len(without_y) == 1 else found
    if len(found) > 1:
        shown = ", ".join(table.shown(j) for j in found)
        raise ValueError(f"{shown} could all be the label; name one with --label")
    return found[0] if found else rest[-1]


def refuse_text(table: Table, inputs: list[int]) -> None:
    """Raise ValueError at the first cell of an input that is no number."""
    for j in inputs:
        column = table.columns[j]
        if column.dtype != object:
            continue
        wrong = ((row, c) for row, c in enumerate(column) if c is not None and not number(c))
        found = list(itertools.islice(wrong, 1000))
        if not found or _truth_values(column):
            continue
        # where commas are decimal, what is a number with one is not what is wrong
        row, cell = next((pair for pair in found if not number(pair[1], ",")), found[0])
        way = (
            f"--label {table.name(j)} if it is the class, --drop {table.name(j)} if it is no input"
        )
        if re.fullmatch(r"\d+:\S+", cell):
            way = "the svmlight format? sklearn.datasets.load_svmlight_file gives (X, y)"
        raise ValueError(
            f"{table.line(row)}, {table.shown(j)}: found {cell[:60]!r}; wanted a number ({way})"
        )


def _truth_values(column: np.ndarray) -> bool:
    """Whether text is True and False, beside holes."""
    return all(cell in (None, "True", "False") for cell in column)


def numbers(column: np.ndarray) -> np.ndarray:
    """A column that `refuse_text` lets through, as float64."""
    if column.dtype != object:
        return column.astype(np.float64)
    if _truth_values(column):
        return np.array([np.nan if cell is None else cell == "True" for cell in column], float)
    return np.array([float(cell or "nan") for cell in column])


def _whole_rows(table: Table, used: list[int], drop_missing: bool, said: list[str]) -> np.ndarray:
    """Return which rows have no hole; refuse holes, or leave such rows out."""
    whole = np.ones(len(table.columns[used[0]]), bool)
    first: tuple[int, int] | None = None
    for j in used:
        column = table.columns[j]
        if column.dtype.kind == "f":
            holes = np.isnan(column)
        elif column.dtype == object:
            holes = np.array([cell is None for cell in column])
        else:
            continue
        if holes.any():
            row = int(holes.argmax())
            first = min(first, (row, j)) if first else (row, j)
            whole &= ~holes
    if first is None:
        return whole
    count = int((~whole).sum())
    if not drop_missing:
        row, j = first
        raise ValueError(
            f"{table.line(row)}, {table.shown(j)}: found no value; wanted one in every cell"
            f" (--drop-missing leaves out such rows: {count} of {len(whole)})"
        )
    said.append(f"{count} row{'s'[: count > 1]} with holes left out")
    if not whole.any():
        raise ValueError("every row has a hole; wanted samples")
    return whole


def _values(table: Table, inputs: list[int], rows: np.ndarray) -> np.ndarray:
    values = np.empty((int(rows.sum()), len(inputs)))
    for i, j in enumerate(inputs):
        column = table.columns[j]
        own = numbers(column)
        values[:, i] = own[rows]
        if not np.isfinite(values[:, i]).all():
            row = int(np.flatnonzero(rows)[np.flatnonzero(~np.isfinite(values[:, i]))[0]])
            raise ValueError(
                f"{table.line(row)}, {table.shown(j)}: found {own[row]}; wanted a finite number"
            )
    return values


def _label_cells(table: Table, at: int, rows: np.ndarray) -> np.ndarray:
    cells = table.columns[at][rows]
    if cells.dtype == object and not all(isinstance(cell, str) for cell in cells):
        return np.array([str(cell) for cell in cells])
    if cells.dtype.kind == "f" and np.isinf(cells).any():
        row = int(np.flatnonzero(rows)[np.flatnonzero(np.isinf(cells))[0]])
        raise ValueError(f"{table.line(row)}, {table.shown(at)}: found inf; wanted a class")
    return cells


def _refuse_no_classes(table: Table, at: int, labels: np.ndarray, n_classes: int | None) -> None:
    """A guessed label with more than two classes and more than half the samples is none."""
    seen = np.unique(labels)
    distinct = len(seen)
    if distinct == 1:
        raise ValueError(
            f"{table.shown(at)}, taken for the label, is {seen[0]} in every row: all labels are"
            f" {seen[0]}; wanted at least two classes (--label names another column)"
        )
    if labels.dtype.kind == "U" and all(_DATE.fullmatch(value) for value in seen):
        raise ValueError(
            f"{table.shown(at)} holds dates, no class; name the column of the classes with --label"
        )
    if n_classes is not None and distinct <= n_classes:
        return
    if not labelling.identifiers(labels):
        return
    kind = "a regression target" if labelling.regression_target(labels) else (
        "an identifier or a measurement"
    )  # fmt: skip
    raise ValueError(
        f"{table.shown(at)} has {distinct} different values in {len(labels)} rows: {kind}, no"
        " class; name the column of the classes with --label"
    )


def _row_numbers(column: np.ndarray, table: Table, j: int) -> bool:
    n = len(column)
    if n < LEAST_ROWS or column.dtype.kind not in "if":
        return False
    found = np.sort(column) if n >= _MANY_ROWS else column
    if found[0] in (0, 1) and np.array_equal(found - found[0], np.arange(n)):
        return True
    named = table.names is not None and _IDENTIFIER.fullmatch(table.names[j].strip())
    return bool(named) and column.dtype.kind == "i" and len(np.unique(column)) == n


def _identifier_caution(table: Table, inputs: list[int]) -> list[str]:
    """Name inputs that hold another whole number in every row."""
    found = []
    for j in inputs:
        column = table.columns[j]
        if column.dtype.kind == "i" and len(column) >= 2 * _MANY_ROWS:
            found += [j] * (len(np.unique(column)) == len(column))
    if not found:
        return []
    shown = ", ".join(table.shown(j) for j in found[:4]) + ", ..." * (len(found) > 4)
    return [
        f"{shown}: another whole number in every row, as identifiers and times have; --drop leaves"
        " such a column out, --keep takes it"
    ]


def _digest(array: np.ndarray) -> bytes:
    return hashlib.blake2b(array.tobytes(), digest_size=16).digest()


def _one_hot_caution(table: Table, used: list[int], rows: np.ndarray) -> list[str]:
    """Name neighbouring columns of zeros and ones of which exactly one is 1 in every row: three
    or more, or two of which one is the label."""
    at = used[-1]
    sums: dict[bytes, int] = {}  # by the sum of all before it, the column; within a run of such
    total, before = np.zeros(int(rows.sum()), np.int32), -2
    for j in sorted(used):
        column = table.columns[j]
        truth = column.dtype.kind == "b" or (column.dtype == object and _truth_values(column))
        own = numbers(column) if column.dtype == object and truth else column
        if not truth and not (own.dtype.kind in "if" and np.isin(own[rows], (0, 1)).all()):
            continue
        if j != before + 1:
            sums.clear()
        before = j
        sums[_digest(total)] = j
        total += own[rows].astype(np.int32)
        start = sums.get(_digest(total - 1), j)
        if j - start > 1 or (j - start == 1 and at in (start, j)):
            return [
                f"columns {table.name(start)} to {table.name(j)} sum to 1 in every row, as one-hot"
                f" classes do, and only {table.shown(at)} is the label: give the class as one"
                " column"
            ]
    return []
