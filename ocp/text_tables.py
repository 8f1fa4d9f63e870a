"""A table from text: separator, decimal mark, encoding and header are found, or as they are given.

pandas reads the cells (the smallest wheel of the libraries that do, 12 MB against polars' 40 and
duckdb's 25, and the one that users have); it is imported in the function that reads.  Where a
cell lies in the file is looked up by the csv module when a sentence needs it.
"""

from __future__ import annotations

import bz2
import codecs
import dataclasses
import gzip
import io
import itertools
import lzma
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from .table_layout import (
    LOOKED_AT,
    MISSING,
    SEPARATORS,
    Layout,
    counts,
    is_header,
    marks,
    number,
    records,
    thousands,
)

#: what is decompressed at most: an archive of a few kilobytes can announce terabytes
MOST_BYTES = 4 * 2**30
_NAMES = {mark: name for name, mark in SEPARATORS.items()}
_MARKS = ((codecs.BOM_UTF32_LE, "utf-32"), (codecs.BOM_UTF32_BE, "utf-32"),
          (codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"),
          (codecs.BOM_UTF16_BE, "utf-16"))  # fmt: skip
_OPENERS: tuple[tuple[bytes, str, Callable[..., Any]], ...] = (
    (b"\x1f\x8b", "gzip", gzip.open),
    (b"BZh", "bzip2", bz2.open),
    (b"\xfd7zXZ\0", "xz", lzma.open),
)
_ZIP = b"PK\x03\x04"
_PACKED = (*((magic, name) for magic, name, _ in _OPENERS), (_ZIP, "zip"))
PACKED = tuple(magic for magic, _ in _PACKED)
#: a damaged archive ends as one of these
DAMAGED = (OSError, EOFError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, NotImplementedError)
#: more take minutes: a table of another kind, or lines with other ends
MOST_COLUMNS = 1 << 16
#: characters that tell the layout; more where a line is longer, but not without an end
_PEEKED, _MOST_PEEKED = 1 << 16, 1 << 24


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Table:
    """Columns by position; what stands in a cell that is no number is text, or None.

    names : of the header, or None where there is none
    columns : int64, float64 (missing: NaN), bool, or object (text; missing: None), each (rows,)
    line : the line of the file that a row lies in
    said : how the table was read, for the line that is printed
    """

    names: tuple[str, ...] | None
    columns: list[np.ndarray]
    line: Callable[[int], str]
    said: tuple[str, ...] = ()

    def name(self, j: int) -> str:
        """The name of a column; without a header its number, from 1 on."""
        return str(j + 1) if self.names is None else self.names[j]

    def shown(self, j: int) -> str:
        """A column as a sentence names it."""
        return f"column {j + 1}" if self.names is None else f"column {self.names[j]!r}"


@dataclass(slots=True)
class _Text:
    """The file as text, opened anew for each look; bounded, whatever it is compressed with."""

    path: Path
    encoding: str
    skipped: int = 0  # lines of comments before the table
    separator: str = ","
    said: list[str] = field(default_factory=list)

    def open(self) -> io.TextIOWrapper:
        raw: Any = io.BufferedReader(_Bounded(opened(self.path), self.path))
        text = io.TextIOWrapper(raw, self.encoding, newline="")
        for _ in range(self.skipped):
            text.readline()
        return text

    def records(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the line's number and the cells of every record that is not blank."""
        with self.open() as text:
            yield from records(text, self.separator, self.skipped)


def read(path: Path, layout: Layout) -> Table:
    """Return the table in a text file.

    Raises
    ------
    ValueError : one sentence with line and column, what was found and which option helps
    OSError : the file cannot be read
    """
    try:
        return _read(path, layout)
    except UnicodeError as error:
        tried = layout.encoding or "utf-8"
        reason = getattr(error, "reason", error)
        if layout.encoding is None and _binary(path):
            raise ValueError(f"{path} is no text; wanted a table of numbers, NPZ or IDX") from None
        raise ValueError(
            f"{path} is not written in {tried} ({reason}); give --encoding, for example cp1252"
        ) from None
    except DAMAGED as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise ValueError(f"{path} is a damaged archive ({error})") from None


def _read(path: Path, layout: Layout) -> Table:
    text = _Text(path, layout.encoding or _encoding(path))
    with path.open("rb") as file:
        start = file.read(8)
    packed = [name for magic, name in _PACKED if start.startswith(magic)]
    text.said += [f"unpacked from {name}" for name in packed]
    if packed:
        with opened(path) as file:
            start = file.read(8)
        for name in (name for magic, name in _PACKED if start.startswith(magic)):
            raise ValueError(f"{path} holds a {name} archive in it; wanted it unpacked once")
    if text.encoding not in ("utf-8", "utf-8-sig"):
        text.said.append(f"encoding {text.encoding}")
    with text.open() as handle:
        peek, whole = _peek(handle)
    if "\0" in peek:
        raise ValueError(
            f"{path} holds NUL bytes: no text, or UTF-16 without its mark; wanted a table of"
            " numbers, NPZ or IDX (--encoding utf-16-le or utf-16-be, if it is text)"
        )
    layout, above = _before(text, peek, layout)
    first = text.skipped + 1
    lines = peek.splitlines(keepends=True)[text.skipped :]
    lines = lines if whole else lines[:-1] or lines
    if not any(line.strip() for line in lines):
        raise ValueError(f"{path} is empty; wanted one sample a row")
    text.separator, decimal = marks(lines, layout)
    if text.separator != "," or decimal != "." or layout.separator or len(text.said):
        mark = _NAMES.get(text.separator, repr(text.separator))
        text.said.append(f"separator {mark}, decimal {'comma' if decimal == ',' else 'point'}")
    looked = list(itertools.islice((c for _, c in records(iter(lines), text.separator)), LOOKED_AT))
    if decimal == "," != layout.decimal and (found := thousands(looked)):
        raise ValueError(
            f"{path} has cells like {found!r}: a decimal comma or thousands; give --decimal , or"
            " write thousands without a mark"
        )
    widest = max(map(len, looked), default=0)
    if not widest or widest > MOST_COLUMNS:
        found = f"has {widest} columns" if widest else "holds no cell"
        raise ValueError(f"{path} {found}; wanted one sample a row, at most {MOST_COLUMNS} columns")
    header = is_header(path, looked, decimal, layout.header, first)
    frame = _cells(text, decimal, header)
    left, frame = _without_blank_rows(frame, text.said)
    names = tuple(cell.strip() for cell in looked[0]) if header else None
    if names is None and layout.header is None and len(above) == frame.shape[1]:
        names = above
        text.said.append("names from the comment above the table")
    if names is not None and len(names) != frame.shape[1]:
        names = _one_more(text, names, frame)
    if header and layout.header is None and counts(looked[0]):
        text.said.append("line 1 taken for column numbers")
    columns = [_column(frame[j]) for j in frame.columns]
    return Table(
        names=names,
        columns=columns,
        line=lambda row: f"line {_line(text, int(left[row]) + header)}",
        said=tuple(text.said),
    )


# --- the file ---------------------------------------------------------------------------------


class _Bounded(io.RawIOBase):
    """Ends with a sentence where an archive holds more than anybody's table."""

    def __init__(self, inner: Any, path: Path) -> None:
        self.inner, self.path, self.count = inner, path, 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        found = self.inner.read(len(buffer))
        buffer[: len(found)] = found
        self.count += len(found)
        if self.count > MOST_BYTES:
            raise ValueError(f"{self.path} holds more than {MOST_BYTES >> 30} GiB; wanted less")
        return len(found)

    def close(self) -> None:
        self.inner.close()
        super().close()


def opened(path: str | os.PathLike) -> IO[bytes]:
    """Open a file for reading, through gzip, bzip2, xz or a zip archive of one member."""
    with open(path, "rb") as file:
        start = file.read(8)
    for magic, _, opener in _OPENERS:
        if start.startswith(magic):
            return opener(path)
    if not start.startswith(_ZIP):
        return open(path, "rb")
    with zipfile.ZipFile(path) as archive:  # the file stays open as long as its member does
        members = [m for m in archive.infolist() if not m.is_dir()]
        members = [m for m in members if not m.filename.startswith("__MACOSX")]
        if len(members) != 1:
            raise ValueError(f"{path} is an archive of {len(members)} files; wanted one table")
        if members[0].flag_bits & 1:
            raise ValueError(f"{path} is encrypted; wanted a plain archive")
        return archive.open(members[0])


def _encoding(path: Path) -> str:
    with opened(path) as file:
        start = file.read(4)
    return next((name for mark, name in _MARKS if start.startswith(mark)), "utf-8")


def _peek(handle: IO[str]) -> tuple[str, bool]:
    """Return the start of a text, with a few lines in it if they are not endless, and whether it
    is all."""
    pieces: list[str] = []
    ends = 0
    while ends < 8 and len(pieces) * _PEEKED < _MOST_PEEKED:
        piece = handle.read(_PEEKED)
        if not piece:
            return "".join(pieces), True
        pieces.append(piece)
        ends += piece.count("\n") or piece.count("\r")
    return "".join(pieces), not handle.read(1)


def _binary(path: Path) -> bool:
    """Whether the content begins with control characters, as no text does."""
    with opened(path) as file:
        start = file.read(512)
    return any(byte < 32 and byte not in b"\t\n\f\r\x1a" for byte in start)


def _before(text: _Text, start: str, layout: Layout) -> tuple[Layout, tuple[str, ...]]:
    """Leave out what stands before the table: Excel's line "sep=;", which names the separator,
    and lines that begin with #.  Return the layout, and the words of the last such line."""
    lines = start.splitlines()
    if lines and (found := re.fullmatch(r'"?sep=(\t|[^\w\s"])"?\s*', lines[0], re.IGNORECASE)):
        text.skipped = 1
        text.said.append("line 1 names the separator")
        if layout.separator is None:
            layout = dataclasses.replace(layout, separator=found[1])
    comments = 0
    while text.skipped < len(lines) and lines[text.skipped].lstrip().startswith("#"):
        text.skipped += 1
        comments += 1
    if not comments:
        return layout, ()
    text.said.append(f"{comments} comment line{'s'[: comments > 1]} left out")
    rest = [line for line in lines[text.skipped : text.skipped + LOOKED_AT] if line.strip()]
    separator, _ = marks(rest, layout) if rest else (",", ".")
    last = lines[text.skipped - 1].lstrip().lstrip("#")
    cells = next((cells for _, cells in records(iter([last]), separator)), [])
    named = all(cell.strip() and not number(cell) for cell in cells)
    return layout, tuple(cell.strip() for cell in cells) if named else ()


def _one_more(text: _Text, names: tuple[str, ...], frame: Any) -> tuple[str, ...]:
    """The names of a table whose rows have one cell more than its header: R writes row names so,
    and a comma at the end of each row makes an empty column."""
    if len(names) + 1 == frame.shape[1]:
        if frame.iloc[:, -1].isna().all():
            return (*names, "")
        if frame.iloc[:, 0].is_unique and frame.dtypes.iloc[0].kind != "f":
            return ("", *names)
    line = _line(text, 1)
    if len(names) == 1:
        raise ValueError(
            f"{text.path}: the first line is {names[0][:40]!r} but line {line} has"
            f" {frame.shape[1]} cells; wanted a header with one name a column, and no title above"
            " it (--separator, or --no-header)"
        )
    raise ValueError(
        f"{text.path}: the header has {len(names)} names but line {line} has {frame.shape[1]}"
        " cells; wanted one name a column (--separator, or --no-header)"
    )


def _line(text: _Text, record: int) -> int:
    found = next(itertools.islice(text.records(), record, None), None)
    return found[0] if found else record + 1


# --- the cells --------------------------------------------------------------------------------


def _cells(text: _Text, decimal: str, header: int) -> Any:
    import pandas

    marks = sorted({form(mark) for mark in MISSING for form in (str, str.upper, str.title)})
    with text.open() as handle:
        for _ in range(header):
            _skip_record(handle, text.separator)
        try:
            frame = pandas.read_csv(
                handle,
                sep=r"\s+" if text.separator == " " else text.separator,
                header=None,
                decimal=decimal,
                na_values=[*marks, "NaN", "N/A", "#N/A", "<NA>"],
                keep_default_na=False,
                skipinitialspace=True,
                low_memory=False,
            )
        except pandas.errors.EmptyDataError:
            frame = None
        except (pandas.errors.ParserError, OverflowError) as error:
            _refuse_ragged(text, header)
            if "EOF inside string" in str(error):
                raise ValueError(
                    f"{text.path}: a quote is opened and not closed to the end of the file; wanted"
                    " quotes in pairs"
                ) from None
            raise ValueError(f"{text.path}: {' '.join(str(error).split())}") from None
    if frame is None or not len(frame):
        raise ValueError(f"{text.path} has a header and no sample; wanted one sample a row")
    if frame.iloc[:, -1].isna().any():
        _refuse_ragged(text, header)
    return frame


def _skip_record(handle: IO[str], separator: str) -> None:
    """Move past the first record that is not blank; it may span lines where a cell is quoted."""
    next(records(iter(handle.readline, ""), separator))


def _refuse_ragged(text: _Text, header: int) -> None:
    """Raise ValueError at the first row that is wider or narrower than the first one."""
    wanted = None
    for line, cells in itertools.islice(text.records(), header, None):
        wanted = wanted or len(cells)
        if len(cells) != wanted:
            raise ValueError(
                f"{text.path}: line {line} has {len(cells)} cells; wanted {wanted} as in the rows"
                " before it (--separator, or quotes around text that holds one)"
            )


def _without_blank_rows(frame: Any, said: list[str]) -> tuple[np.ndarray, Any]:
    """Leave out rows of separators alone, as spreadsheets write them; return which are left."""
    blank = frame.isna().all(axis=1).to_numpy()
    left = np.flatnonzero(~blank)
    count = len(blank) - len(left)
    if not count or not len(left):  # nothing but holes: refused as such
        return np.arange(len(blank)), frame
    said.append(f"{count} empty row{'s'[: count > 1]} left out")
    frame = frame[~blank].reset_index(drop=True)
    for j in frame.columns:  # whole numbers were read as fractions because of the holes
        if (
            frame[j].dtype.kind == "f"
            and (frame[j] % 1 == 0).all()
            and (frame[j].abs() < 2**53).all()
        ):
            frame[j] = frame[j].astype(np.int64)
    return left, frame


def _column(series: Any) -> np.ndarray:
    """As int64, float64, bool, or text with None for what is missing."""
    kind = series.dtype.kind
    if kind == "i" or (kind == "u" and series.max() < 2**63):
        return series.to_numpy(np.int64)
    if kind == "f":
        return series.to_numpy(np.float64)
    if series.dtype.kind == "b":
        return series.to_numpy(bool)
    holes = series.isna().to_numpy()
    found = np.array([str(cell).strip() for cell in series], dtype=object)
    found[holes] = None
    return found
