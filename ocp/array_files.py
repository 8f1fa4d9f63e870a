"""Arrays as data: NPZ archives and mappings, under the names that people give them."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from . import labels as labelling
from .data_options import DataOptions
from .samples import Dataset
from .text_tables import DAMAGED, MOST_BYTES

INPUT_KEYS = ("inputs", "x", "data", "features", "images", "samples")
LABEL_KEYS = ("labels", "y", "target", "targets", "label", "classes")
#: further names that a mapping of scikit-learn's or a careful writer holds
_NAMES_OF = {"classes": ("class_names", "target_names"), "columns": ("columns", "feature_names")}
_PART = re.compile(r"(train|test|val|valid|validation)_(.+)|(.+)_(train|test|val|valid|validation)")
NPY = b"\x93NUMPY"


def from_mapping(
    name: str, arrays: Mapping[str, Any], options: DataOptions, n_classes: int | None
) -> Dataset:
    parts, rest = _parts(name, arrays)
    said: list[str] = []
    X, y = (as_array(arrays[key], key) for key in parts["train"])
    X, y = as_inputs(X, "inputs"), labelling.column(y, "labels")
    test_X, test_y = None, None
    if "test" in parts:
        test_X, test_y = (as_array(arrays[key], key) for key in parts["test"])
        test_X = as_inputs(test_X, "the test inputs")
        test_y = labelling.column(test_y, "the test labels")
        if (test_X.dtype == np.uint8) != (X.dtype == np.uint8):
            raise ValueError(
                f"the test inputs are {test_X.dtype} beside inputs of {X.dtype}; wanted bytes in"
                " both parts, or in neither"
            )
    for what, x, labels in (("", X, y), ("test ", test_X, test_y)):
        if x is None or labels is None:
            continue
        for i in labelling.fractions(labels)[:1]:
            raise ValueError(
                f"{what}labels[{i}] is {labels[i]}; wanted classes: whole numbers, text, booleans"
            )
        if len(x) != len(labels):
            raise ValueError(
                f"there are {len(x)} {what}inputs and {len(labels)} {what}labels; wanted one label"
                " a sample"
            )
    X, y = _without_holes(X, y, "", options, said)
    if test_X is not None and test_y is not None:
        test_X, test_y = _without_holes(test_X, test_y, "test ", options, said)
    left = [key for key in rest if key not in {k for ks in _NAMES_OF.values() for k in ks}]
    if left:
        said.append(f"left out: {', '.join(left[:6])}{', ...' if len(left) > 6 else ''}")
    found = labelling.classes(y, test_y, n_classes)
    names = found.names if found.mapped else _names(arrays, "classes", found.n_classes)
    bytes_ = X.dtype == np.uint8
    return Dataset(
        name=name,
        inputs=X,
        labels=found.labels,
        n_classes=found.n_classes,
        test_inputs=test_X,
        test_labels=found.test_labels,
        scale=1 / 255 if bytes_ else None,
        shift=0.0 if bytes_ else None,
        classes=names,
        columns=_names(arrays, "columns", X.shape[1]),
        label_column="" if parts["train"][1] == "labels" else parts["train"][1],
        standardise=options.standardise,
        said=tuple(said),
        cautions=labelling.few_a_class(y, "the label"),
    )


def _parts(name: str, arrays: Mapping[str, Any]) -> tuple[dict[str, tuple[str, str]], list[str]]:
    """Which arrays are inputs and labels of the training and the held-out part, and the others."""
    found: dict[tuple[str, str], list[str]] = {}
    rest = []
    for key in arrays:
        match = _PART.fullmatch(str(key).lower())
        part, word = "train", str(key).lower()
        if match:
            part, word = (match[1], match[2]) if match[1] else (match[4], match[3])
        role = "inputs" if word in INPUT_KEYS else "labels" if word in LABEL_KEYS else ""
        if not role or part not in ("train", "test"):
            rest.append(str(key))
        else:
            found.setdefault((part, role), []).append(str(key))
    if found.get(("train", "labels"), [])[1:] == ["classes"]:  # names beside labels
        rest.append(found["train", "labels"].pop())
    parts: dict[str, tuple[str, str]] = {}
    for part in ("train", "test"):
        both = [found.get((part, role), []) for role in ("inputs", "labels")]
        for role, keys in zip(("inputs", "labels"), both, strict=True):
            if len(keys) > 1:
                raise ValueError(
                    f"{name}: {' and '.join(keys)} could both be the {role}; wanted one"
                )
        if all(both):
            parts[part] = (both[0][0], both[1][0])
        elif part == "train" or any(both):
            prefix = "" if part == "train" else "test_"
            missing = [r for r, keys in zip(("inputs", "labels"), both, strict=True) if not keys]
            raise ValueError(
                f"{name} holds {', '.join(sorted(map(str, arrays))[:8]) or 'nothing'}; wanted"
                f" {prefix}{f' and {prefix}'.join(missing)} (or X and y, x_train and y_train, data"
                " and target)"
            )
    return parts, rest


def _names(arrays: Mapping[str, Any], kind: str, count: int) -> tuple[str, ...] | None:
    """Names of classes or columns that lie beside the arrays, where there is one for each."""
    for key in _NAMES_OF[kind]:
        if key in arrays:
            found = np.asarray(arrays[key])
            if found.shape == (count,) and found.dtype.kind in "US":
                text = (
                    np.char.decode(found, "utf-8", "replace") if found.dtype.kind == "S" else found
                )
                return tuple(str(item) for item in text)
    return None


def as_array(value: Any, what: str) -> np.ndarray:
    """As an array what people have for one: lists, tensors (detached), sparse and masked arrays
    (what is masked is a hole)."""
    if isinstance(value, np.ndarray) and type(value) is np.ndarray:
        return value
    try:
        if hasattr(value, "toarray"):
            value = value.toarray()
        if hasattr(value, "detach"):
            value = value.detach().cpu()
            value = value.double() if value.is_floating_point() else value
        if isinstance(value, np.ma.MaskedArray):
            holes = np.ma.getmaskarray(value)
            filled = np.ma.filled(value.astype(np.float64), np.nan) if holes.any() else value.data
            return np.asarray(filled)
        return np.asarray(value)
    except (TypeError, ValueError, RuntimeError, AttributeError) as error:
        raise ValueError(f"{what} are {type(value).__name__}, no array ({short(error)})") from None


def as_inputs(X: np.ndarray, what: str) -> np.ndarray:
    """As (n, n_in): bytes as they are, other numbers as float64."""
    if X.dtype.kind not in "biuf":
        raise ValueError(f"{what} have type {X.dtype}; wanted numbers")
    if not X.ndim or not X.size:
        raise ValueError(f"{what} have shape {X.shape}; wanted one row a sample")
    X = X.reshape(len(X), -1)
    return X if X.dtype == np.uint8 else X.astype(np.float64)


def _without_holes(
    X: np.ndarray, y: np.ndarray, what: str, options: DataOptions, said: list[str]
) -> tuple[np.ndarray, np.ndarray]:
    if X.dtype == np.uint8:
        return X, y
    infinite = np.argwhere(np.isinf(X))
    if len(infinite):
        i, j = infinite[0]
        raise ValueError(f"{what}inputs[{i}, {j}] is {X[i, j]}; wanted finite numbers")
    whole = ~np.isnan(X).any(axis=1)
    if whole.all():
        return X, y
    if not options.drop_missing:
        i, j = np.argwhere(np.isnan(X))[0]
        raise ValueError(
            f"{what}inputs[{i}, {j}] is nan; wanted a number (--drop-missing leaves out such rows:"
            f" {int((~whole).sum())} of {len(X)})"
        )
    count = int((~whole).sum())
    if count == len(X):
        raise ValueError(f"every {what}row has a hole; wanted samples")
    said.append(f"{count} {what}row{'s'[: count > 1]} with holes left out")
    return X[whole], y[whole]


def is_npz(path: Path, start: bytes) -> bool:
    """Whether a zip archive is one of arrays; a spreadsheet is refused."""
    if not start.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        if path.suffix.lower() == ".npz":
            raise ValueError(f"{path} is no plain NumPy file: it is no archive of arrays")
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
    except DAMAGED as error:
        raise ValueError(f"{path} is a damaged archive ({error})") from None
    if "[Content_Types].xml" in names:
        raise ValueError(f"{path} is a spreadsheet; save it as CSV")
    arrays = bool(names) and all(name.endswith(".npy") for name in names)
    return arrays or path.suffix.lower() == ".npz"


# --- NumPy's files ----------------------------------------------------------------------------


def npz(path: Path) -> dict[str, np.ndarray]:
    found: dict[str, np.ndarray] = {}
    try:
        with zipfile.ZipFile(path) as archive:
            total = 0
            for member in archive.infolist():
                if not member.filename.endswith(".npy"):
                    raise ValueError(
                        f"{path} is no plain NumPy file: member {member.filename!r} is no array"
                    )
                total += member.file_size
                if total > MOST_BYTES:
                    raise ValueError(f"{path} holds more than {MOST_BYTES >> 30} GiB; wanted less")
                with archive.open(member) as file:
                    content = file.read(member.file_size + 1)
                name = member.filename.removesuffix(".npy")
                if name in found:
                    raise ValueError(f"{path} holds {name!r} twice; wanted each array once")
                found[name] = npy(content, f"{path}: {name}")
    except (*DAMAGED, RuntimeError) as error:
        raise ValueError(f"{path} is no plain NumPy file: {short(error)}") from None
    return found


def npy(content: bytes, what: str) -> np.ndarray:
    """Return the array of an NPY file; what its header announces has to be there."""
    file = io.BytesIO(content)
    try:
        version = np.lib.format.read_magic(file)
        header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if header is None:
            raise ValueError(f"it is of version {version}")
        shape, fortran, dtype = header(file)
    except Exception as error:  # the header is Python source, and NumPy lets its errors through
        raise ValueError(f"{what} is no plain NumPy file ({short(error)})") from None
    if dtype.hasobject:
        raise ValueError(
            f"{what} is no plain NumPy file: wanted numbers alone; pickled objects are never read"
        )
    start = file.tell()
    size = dtype.itemsize * int(np.prod(shape, dtype=object))
    if len(content) - start != size:
        raise ValueError(
            f"{what} holds {len(content) - start} bytes of data; wanted {size} for shape {shape}"
        )
    if not dtype.itemsize:
        raise ValueError(f"{what} has type {dtype}; wanted numbers or text")
    array = np.frombuffer(content, dtype, offset=start)
    array = array.reshape(shape[::-1]).T if fortran else array.reshape(shape)
    if dtype.byteorder not in "=|" and dtype.fields is None:
        array = array.astype(dtype.newbyteorder("="))
    return array


def short(error: Exception) -> str:
    """What a library says of a file, in one line that is not too long."""
    return " ".join(str(error).split())[:160] or type(error).__name__
