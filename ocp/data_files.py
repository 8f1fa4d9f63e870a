"""The user's own samples: inputs and labels from CSV, NPZ or IDX files.  Never unpickles."""

from __future__ import annotations

import gzip
import hashlib
import os
import struct
import zipfile
from pathlib import Path
from typing import Any

import numpy as np

_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}


def read(path: str | os.PathLike) -> tuple[np.ndarray, np.ndarray]:
    """Return inputs (n_d, n_in) and labels (n_d,) of a labelled data file.

    NPZ : arrays "inputs" and "labels".  CSV : one sample a row, numbers separated by commas, the
    label in the last column; a first line that is not numeric is taken as the header.
    """
    path = Path(path)
    if path.suffix == ".npz":
        arrays = _npz(path)
        for name in ("inputs", "labels"):
            if name not in arrays:
                raise ValueError(f"{path} holds {sorted(arrays)}; wanted inputs and labels")
        inputs = arrays["inputs"]
        return inputs.reshape(len(inputs), -1) if inputs.ndim > 2 else inputs, arrays["labels"]
    if path.suffix == ".csv":
        table = _csv(path)
        if table.shape[1] < 2:
            raise ValueError(f"{path} has one column; wanted coordinates and a label in each row")
        labels = table[:, -1]
        whole = labels == np.rint(labels)
        if not whole.all():
            row = int(np.flatnonzero(~whole)[0])
            raise ValueError(
                f"{path}: the label of sample {row} is {labels[row]}; wanted an integer"
            )
        return table[:, :-1], labels.astype(np.int64)
    raise ValueError(f"{path} has the suffix {path.suffix!r}; wanted .csv or .npz")


def read_inputs(path: str | os.PathLike) -> np.ndarray:
    """Return the inputs alone, (rows, n_in), of an NPZ ("inputs"), NPY, CSV or IDX file."""
    path = Path(path)
    if path.suffix == ".csv":
        return read(path)[0]
    if path.suffix == ".npz":
        arrays = _npz(path)
        if "inputs" not in arrays:
            raise ValueError(f"{path} holds {sorted(arrays)}; wanted inputs")
        array = arrays["inputs"]
    elif path.suffix == ".npy":
        array = _numpy_load(path)
    else:
        array = read_idx(path)
    return array.reshape(len(array), -1)


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """Return the array of an IDX file (the format of MNIST), gzipped or not."""
    path = Path(path)
    content = raw_bytes(path)
    if len(content) < 4 or content[:2] != b"\0\0" or content[2] not in _IDX_TYPES:
        raise ValueError(f"{path} does not begin like an IDX file; wanted IDX, NPZ, NPY or CSV")
    n_dimensions, dtype = content[3], np.dtype(_IDX_TYPES[content[2]])
    start = 4 + 4 * n_dimensions
    if len(content) < start:
        raise ValueError(f"{path} ends within its header; wanted {start} bytes")
    shape = struct.unpack(f">{n_dimensions}I", content[4:start])
    wanted = start + dtype.itemsize * int(np.prod(shape, dtype=object))
    if len(content) != wanted:
        raise ValueError(f"{path} has {len(content)} bytes; wanted {wanted} for shape {shape}")
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="))


def raw_bytes(path: str | os.PathLike) -> bytes:
    """Return the file's content, uncompressed if it is gzipped."""
    content = Path(path).read_bytes()
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        return gzip.decompress(content)
    except (OSError, EOFError) as error:
        raise ValueError(f"{path} is a broken gzip file: {error}") from None


def sha256_of(path: str | os.PathLike) -> str:
    """Return the sha256 of the uncompressed content."""
    return hashlib.sha256(raw_bytes(path)).hexdigest()


def _numpy_load(path: Path) -> Any:
    try:
        return np.load(path, allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise _no_numpy_file(path, error) from None


def _no_numpy_file(path: Path, error: Exception) -> ValueError:
    # NumPy's own ValueError advises to unpickle the file
    damaged = isinstance(error, (EOFError, zipfile.BadZipFile))
    reason = error if damaged else "wanted numbers alone; pickled objects are never read"
    return ValueError(f"{path} is no plain NumPy file: {reason}")


def _npz(path: Path) -> dict[str, np.ndarray]:
    archive = _numpy_load(path)
    if isinstance(archive, np.ndarray):
        raise ValueError(f"{path} is a single array; wanted an NPZ archive")
    with archive:
        try:
            return {name: archive[name] for name in archive.files}
        except (ValueError, zipfile.BadZipFile) as error:
            raise _no_numpy_file(path, error) from None


def _csv(path: Path) -> np.ndarray:
    try:
        lines = [line for line in path.read_text().splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is no text file ({error.reason}); wanted CSV") from None
    if not lines:
        raise ValueError(f"{path} is empty; wanted one sample a row")
    try:
        [float(cell) for cell in lines[0].split(",")]
    except ValueError:
        lines = lines[1:]
    rows = []
    for number, line in enumerate(lines):
        try:
            rows.append([float(cell) for cell in line.split(",")])
        except ValueError:
            raise ValueError(f"{path}: sample {number} is {line[:60]!r}; wanted numbers") from None
        if len(rows[-1]) != len(rows[0]):
            raise ValueError(
                f"{path}: sample {number} has {len(rows[-1])} columns; wanted {len(rows[0])}"
            )
    if not rows:
        raise ValueError(f"{path} has a header and no sample; wanted one sample a row")
    return np.array(rows)
