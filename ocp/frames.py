"""Tables with columns of their own: DataFrames, Parquet, ARFF."""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np

from .array_files import short
from .table_layout import missing
from .text_tables import DAMAGED, PACKED, Table, opened

#: an ARFF file is read as a whole, and by lines of Python
MOST_TEXT = 1 << 28


def table(frame: Any) -> Table:
    """A pandas DataFrame as a table; its index is not a column."""
    if not len(frame) or not len(frame.columns):
        raise ValueError(f"the table has shape {frame.shape}; wanted samples")
    named = [str(name) for name in frame.index.names if name is not None]
    return Table(
        names=tuple(str(name) for name in frame.columns),
        columns=[_column(frame.iloc[:, j]) for j in range(frame.shape[1])],
        line=lambda row: f"row {row}",
        said=(f"left out: the index {', '.join(named)}",) if named else (),
    )


def _column(series: Any) -> np.ndarray:
    """As `Table` holds it; dates and what else is no number as text, which no input may be."""
    kind = getattr(series.dtype, "kind", "O")
    if kind in "iuf" and series.isna().any():
        return series.to_numpy("float64", na_value=np.nan)
    if kind == "i" or (kind == "u" and series.max() < 2**63):
        return series.to_numpy("int64")
    if kind == "f":
        return series.to_numpy("float64")
    cells = np.asarray(series.astype(object), dtype=object)
    if all(isinstance(cell, (bool, np.bool_)) for cell in cells):
        return cells.astype(bool)
    return as_text(cells, series.isna().to_numpy())


def as_text(cells: np.ndarray, holes: np.ndarray) -> np.ndarray:
    """Objects as text, None where there is a hole or text that stands for one."""
    found = np.array([str(cell).strip() for cell in cells], dtype=object)
    found[holes | np.array([missing(cell) for cell in found], bool)] = None
    return found


def parquet(path: Path) -> Table:
    import pandas

    try:
        frame = pandas.read_parquet(path)
    except ImportError:
        raise ValueError(
            f"{path} is a Parquet file, which wants pyarrow: install the extra `parquet`, or save"
            " the table as CSV"
        ) from None
    except MemoryError:
        raise
    except OSError as error:
        if error.filename is not None:
            raise
        raise ValueError(f"{path} is a damaged Parquet file ({short(error)})") from None
    except Exception as error:  # pyarrow's exceptions are of no common kind
        raise ValueError(f"{path} is a damaged Parquet file ({short(error)})") from None
    return table(frame)


def is_arff(path: Path, start: bytes) -> bool:
    """Whether a file is ARFF, which may be compressed; start : how it begins as it lies there."""
    if start.startswith(PACKED):
        try:
            with opened(path) as file:
                start = file.read(512)
        except (ValueError, *DAMAGED):
            return False  # the reader of tables says what is wrong with it
    text = start.decode("latin-1").lower().removeprefix("\xef\xbb\xbf")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("%")]
    relation = bool(lines) and lines[0].lstrip().startswith("@relation")
    return relation or path.suffix.lower() == ".arff"


def arff(path: Path, encoding: str | None = None) -> Table:
    """The table of an ARFF file of numbers and nominal attributes.

    Raises
    ------
    ValueError : another attribute, a damaged file, another encoding
    """
    from scipy.io import arff

    try:
        with opened(path) as file:
            content = file.read(MOST_TEXT + 1)
        if len(content) > MOST_TEXT:
            raise ValueError(f"it holds more than {MOST_TEXT >> 20} MiB")
        text = content.decode(encoding or "utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
        records, meta = arff.loadarff(io.StringIO(text))
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not written in {encoding or 'utf-8'} ({error.reason}); give --encoding,"
            " for example cp1252"
        ) from None
    except (arff.ArffError, NotImplementedError, ValueError, StopIteration, IndexError, KeyError,
            AttributeError, TypeError, OverflowError) as error:  # fmt: skip
        raise ValueError(
            f"{path} is no ARFF file of numbers and nominal attributes ({short(error)}); save it"
            " as CSV"
        ) from None
    except DAMAGED as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(f"{path} is a damaged archive ({error})") from None
    if not records.size:
        raise ValueError(f"{path} has a header and no sample; wanted one sample a row")
    found = []
    for name in meta.names():
        column = np.atleast_1d(records[name])
        if column.dtype.kind == "S":
            cells = np.array([cell.decode("utf-8", "replace") for cell in column], dtype=object)
            column = _as_numbers(as_text(cells, np.zeros(len(cells), bool)))
        elif column.dtype.kind == "M":
            column = as_text(column, np.isnat(column))
        found.append(column)
    return Table(
        names=tuple(meta.names()), columns=found, line=lambda row: f"sample {row + 1} after @data"
    )


def _as_numbers(cells: np.ndarray) -> np.ndarray:
    """Integers as int64 if all cells are such; else as they are."""
    if all(cell is not None and re.fullmatch(r"[+-]?\d{1,18}", cell) for cell in cells):
        return np.array([int(cell) for cell in cells])
    return cells
