"""The one reader of people's data: tables, arrays, folders of images.  Never unpickles.

CSV and its relatives        any separator, decimal mark, encoding, compression; header or none
Parquet, ARFF                columns with names
NPZ, a mapping               arrays under their usual names, a held-out part among them or not
DataFrame, (X, y)            from Python
a folder of IDX files        as MNIST's, EMNIST's and torchvision's lie there

What is not clear is refused, with the option that says how it is meant; what was done is said in
`Dataset.says`.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import columns, frames, idx_files, text_tables
from . import labels as labelling
from .array_files import INPUT_KEYS, NPY, as_inputs, from_mapping, is_npz, npy, npz
from .data_options import DataOptions
from .idx_files import read_idx
from .samples import Dataset
from .text_tables import Layout, Table
from .validation import integer

#: how other formats begin, and the way out
_FOREIGN = (
    (b"\x89HDF", "an HDF5 file", "h5py reads it: save the arrays with numpy.savez"),
    (b"\x80", "a pickle", "pickles are never read: save the arrays with numpy.savez"),
    (b"MATLAB", "a MAT file", "scipy.io.loadmat reads it: save the arrays with numpy.savez"),
    (b"\xd0\xcf\x11\xe0", "an old Excel file", "save it as CSV"),
    (b"SQLite format", "a database", "export the table as CSV"),
    (b"\x28\xb5\x2f\xfd", "compressed with zstandard", "decompress it, or use gzip or xz"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it, or use gzip, xz or zip"),
    (b"Rar!", "a RAR archive", "unpack it, or use gzip, xz or zip"),
)


def read(
    source: object,
    *,
    options: DataOptions | None = None,
    n_classes: int | None = None,
    **given: Any,
) -> Dataset:
    """Return the samples of a file, a folder, a DataFrame, (inputs, labels) or a mapping of arrays.

    options, given : see `ocp.data_options.DataOptions`
    n_classes : labels in 0..n_classes - 1 are then not mapped

    Raises
    ------
    ValueError : one sentence with file, line and column, what was found, what was wanted and the
        option that helps
    OSError : the file cannot be read
    """
    options = options or DataOptions()
    if given:
        told = {**dataclasses.asdict(options), **given}
        options = DataOptions.of(told, "the reader's options")
    if n_classes is not None:
        n_classes = integer("n_classes", n_classes, 2)
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        try:
            if path.is_dir():
                _only_arrays(options)
                return _idx_folder(path, options, n_classes)
            return _file(path, options, n_classes)
        except ValueError as error:
            text = str(error)
            shown = text if text.startswith(str(path)) else f"{path}: {text}"
            raise ValueError(shown) from None
    if isinstance(source, Mapping):
        _only_arrays(options)
        return from_mapping("the mapping", dict(source), options, n_classes)
    if hasattr(source, "columns") and hasattr(source, "iloc"):
        _no_layout(options)
        return _table("the DataFrame", frames.table(source), options, n_classes)
    if isinstance(source, (tuple, list)) and len(source) == 2:
        _only_arrays(options)
        return _pair(source[0], source[1], options, n_classes)
    raise ValueError(
        f"the data are {type(source).__name__}; wanted a path, a DataFrame, a pair (inputs, labels)"
        " or a mapping of arrays"
    )


def read_inputs(path: str | os.PathLike) -> np.ndarray:
    """Return the inputs alone, (rows, n_in), of an NPZ, NPY, CSV or IDX file."""
    path = Path(path)
    start = _start(path)
    if start.startswith(NPY):
        array = npy(path.read_bytes(), str(path))
    elif idx_files.is_idx(start) or (
        start[:2] == b"\x1f\x8b" and path.suffixes[-1:] == [".gz"] and (".csv" not in path.suffixes)
    ):
        array = read_idx(path)
    elif is_npz(path, start):
        arrays = npz(path)
        found = [name for name in arrays if name.lower() in INPUT_KEYS]
        if len(found) != 1:
            raise ValueError(f"{path} holds {sorted(arrays)}; wanted inputs")
        array = arrays[found[0]]
    else:
        return read(path).inputs
    if not array.ndim:
        raise ValueError(f"{path} holds one number; wanted inputs, one row a sample")
    return array.reshape(len(array), -1)


def sha256_of(path: str | os.PathLike) -> str:
    """Return the sha256 of the uncompressed content."""
    digest = hashlib.sha256()
    for piece in idx_files.content_chunks(path):
        digest.update(piece)
    return digest.hexdigest()


# --- files ------------------------------------------------------------------------------------


def _start(path: Path) -> bytes:
    with path.open("rb") as file:
        return file.read(512)


def _file(path: Path, options: DataOptions, n_classes: int | None) -> Dataset:
    start = _start(path)
    if start.startswith(NPY):
        shape = npy(path.read_bytes(), str(path)).shape
        raise ValueError(
            f"{path} is a single array of shape {shape}, without labels; wanted inputs and labels:"
            " numpy.savez('data.npz', inputs=..., labels=...)"
        )
    if idx_files.is_idx(start):
        raise ValueError(f"{path} is one IDX file; wanted the folder with images and labels")
    text = start.removeprefix(b"\xef\xbb\xbf").lstrip()
    if text.startswith((b"{", b"<")) or start[257:262] == b"ustar":
        what = "JSON" if text.startswith(b"{") else "HTML or XML" if text[:1] == b"<" else "tar"
        raise ValueError(f"{path} is {what}, no table of text; save the table in it as CSV")
    for magic, what, way in _FOREIGN:
        if start.startswith(magic):
            raise ValueError(f"{path} is {what}; {way}")
    if is_npz(path, start):
        _only_arrays(options)
        return from_mapping(str(path), npz(path), options, n_classes)
    if start.startswith(b"PAR1"):
        _no_layout(options)
        return _table(str(path), frames.parquet(path), options, n_classes)
    if frames.is_arff(path, start):
        _no_layout(options, "encoding")
        return _table(str(path), frames.arff(path, options.encoding), options, n_classes)
    table = text_tables.read(path, Layout(**options.layout()))
    return _table(str(path), table, options, n_classes)


def _no_layout(options: DataOptions, *taken: str) -> None:
    """Raise ValueError at an option of text tables that would be ignored."""
    for name, value in options.layout().items():
        if value is not None and name not in taken:
            raise ValueError(
                f"{name} is {value!r}, but the table is no CSV and has its own; wanted it left out"
            )


def _only_arrays(options: DataOptions) -> None:
    """Raise ValueError at an option that only a table has, and that would be ignored."""
    for name in ("label", "separator", "decimal", "encoding", "header", "drop", "keep"):
        if getattr(options, name) not in (None, ()):
            raise ValueError(
                f"{name} is {getattr(options, name)!r}, but the data are arrays, not a table;"
                " wanted it left out"
            )


# --- tables and arrays ------------------------------------------------------------------------


def _table(name: str, table: Table, options: DataOptions, n_classes: int | None) -> Dataset:
    roles = columns.apart(
        table,
        label=options.label,
        drop=options.drop,
        keep=options.keep,
        drop_missing=options.drop_missing,
        n_classes=n_classes,
    )
    found = labelling.classes(roles.labels, None, n_classes)
    return Dataset(
        name=name,
        inputs=roles.inputs,
        labels=found.labels,
        n_classes=found.n_classes,
        classes=found.names if found.mapped else None,
        columns=roles.columns,
        label_column=roles.label_column,
        standardise=options.standardise,
        said=(*table.said, *roles.said),
        cautions=roles.cautions,
    )


def _pair(X: object, y: object, options: DataOptions, n_classes: int | None) -> Dataset:
    names = None
    if hasattr(X, "columns") and hasattr(X, "iloc"):
        table = frames.table(X)
        names = table.names
        columns.refuse_text(table, list(range(len(table.columns))))
        X = np.column_stack([columns.numbers(column) for column in table.columns])
    dataset = from_mapping("the pair", {"inputs": X, "labels": y}, options, n_classes)
    if names is None:
        return dataset
    return dataclasses.replace(dataset, columns=names)


def _idx_folder(folder: Path, options: DataOptions, n_classes: int | None) -> Dataset:
    return idx_dataset(folder.name, idx_files.four_files(folder), options, n_classes)


def idx_dataset(
    name: str,
    paths: tuple[Path, Path, Path, Path],
    options: DataOptions | None = None,
    n_classes: int | None = None,
) -> Dataset:
    """Return the data set of four IDX files: training images and labels, test images and labels."""
    x, y, tx, ty = map(read_idx, paths)
    for what, images, labels in (("training", x, y), ("test", tx, ty)):
        if images.ndim < 2 or labels.shape != (len(images),):
            raise ValueError(
                f"{paths[0].parent}: {what} images and labels have shapes {images.shape} and"
                f" {labels.shape}; wanted (n, ...) and (n,)"
            )
    if not y.size or not ty.size:
        raise ValueError(f"{paths[0].parent}: there are no labels; wanted samples in both parts")
    bytes_ = x.dtype == np.uint8
    if bytes_ != (tx.dtype == np.uint8):
        raise ValueError(f"{paths[2]} holds {tx.dtype} beside {x.dtype}; wanted one type")
    found = labelling.classes(labelling.column(y), labelling.column(ty), n_classes)
    return Dataset(
        name=name,
        inputs=as_inputs(x, "the images"),
        labels=found.labels,
        test_inputs=as_inputs(tx, "the test images"),
        test_labels=found.test_labels,
        n_classes=found.n_classes,
        scale=1 / 255 if bytes_ else None,
        shift=0.0 if bytes_ else None,
        classes=found.names if found.mapped else None,
        standardise=bool(options and options.standardise),
        inputs_file=paths[0],
    )
