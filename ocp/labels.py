"""Labels of any kind as classes 0..n_c - 1: numbers in the order of their values, text by code
point, one-hot rows by their column.  The names are kept."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .validation import integer

#: more are identifiers or an accident, and their readout would fill the memory
MOST_CLASSES = 65_536


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Classes:
    """Labels of the training and, if there are any, of the held-out samples.

    labels, test_labels : (n,) int64 in 0..n_classes - 1
    names : of the classes as they stood in the source, (n_classes,)
    mapped : whether a name differs from its class number
    """

    labels: np.ndarray
    names: tuple[str, ...]
    mapped: bool
    test_labels: np.ndarray | None = None

    @property
    def n_classes(self) -> int:
        return len(self.names)


def column(array: object, what: str = "labels") -> np.ndarray:
    """Return labels (n,) as int64, finite float64 or str, from whatever array holds them.

    Booleans become the text False and True, bytes text; a column (n, 1) is flattened and one-hot
    rows (n, n_c) become class numbers.

    Raises
    ------
    ValueError : another shape or type, rows that are not one-hot
    """
    found = np.asarray(array)
    if found.ndim == 2 and found.shape[1] == 1:
        found = found[:, 0]
    if found.ndim == 2:
        return _one_hot(found, what)
    if found.ndim != 1 or not found.size:
        raise ValueError(f"{what} have shape {found.shape}; wanted one label a sample, (n_d,)")
    kind = found.dtype.kind
    if kind == "b":
        return np.where(found, "True", "False")
    if kind in "iu":
        if kind == "u" and found.max() > np.iinfo(np.int64).max:
            raise ValueError(f"{what} reach {found.max()}; wanted at most 2^63 - 1")
        return found.astype(np.int64)
    if kind == "f":
        found = found.astype(np.float64)
        if not np.isfinite(found).all():
            i = int(np.flatnonzero(~np.isfinite(found))[0])
            raise ValueError(f"{what}[{i}] is {found[i]}; wanted a class in every row")
        whole = found == np.rint(found)
        if whole.all() and np.abs(found).max() < 2**53:
            return found.astype(np.int64)
        return found
    if kind == "S":
        try:
            return _not_empty(np.char.decode(found, "utf-8"), what)
        except UnicodeDecodeError:
            raise ValueError(f"{what} are bytes that are no UTF-8 text; wanted text") from None
    if kind == "U":
        return _not_empty(found, what)
    if kind == "O" and all(isinstance(cell, str) for cell in found):
        return _not_empty(found.astype(str), what)
    if kind == "O" and all(isinstance(cell, (bool, np.bool_)) for cell in found):
        return np.where(found.astype(bool), "True", "False")
    raise ValueError(f"{what} have type {found.dtype}; wanted integers, text or booleans")


def _not_empty(found: np.ndarray, what: str) -> np.ndarray:
    if (empty := np.char.strip(found) == "").any():
        raise ValueError(f"{what}[{int(empty.argmax())}] is empty; wanted a class in every row")
    return found


def _one_hot(found: np.ndarray, what: str) -> np.ndarray:
    ones = found.dtype.kind in "biuf" and found.size and np.isin(found, (0, 1)).all()
    if found.ndim != 2 or not ones or not (found.sum(axis=1) == 1).all():
        raise ValueError(
            f"{what} have shape {found.shape} and are not one-hot; wanted one label a sample"
        )
    return found.argmax(axis=1).astype(np.int64)


def fractions(values: np.ndarray) -> np.ndarray:
    """Positions of labels, as `column` gives them, that are no whole numbers."""
    if values.dtype.kind != "f":
        return np.empty(0, int)
    return np.flatnonzero(values != np.rint(values))


def few_a_class(values: np.ndarray, what: str) -> tuple[str, ...]:
    """A caution where there are less than two samples a class."""
    if not identifiers(values):
        return ()
    return (f"{what} has {len(np.unique(values))} classes in {len(values)} rows: less than two"
            " samples a class",)  # fmt: skip


def alike(values: np.ndarray, what: str) -> tuple[str, ...]:
    """A caution where classes differ in case or in spaces around them alone."""
    if values.dtype.kind != "U":
        return ()
    seen: dict[str, str] = {}
    for value in map(str, np.unique(values)):
        other = seen.setdefault(value.strip().casefold(), value)
        if other != value:
            return (f"{what} has the classes {other!r} and {value!r}, which differ in case or"
                    " spaces alone",)  # fmt: skip
    return ()


def regression_target(values: np.ndarray) -> bool:
    """Whether the values are measurements: fractions, and most of them different."""
    if values.dtype.kind != "f" or (values == np.rint(values)).all():
        return False
    return _too_many(values)


def identifiers(values: np.ndarray) -> bool:
    """Whether there are more than two classes and more of them than half the samples."""
    return _too_many(values)


def _too_many(values: np.ndarray) -> bool:
    distinct = len(np.unique(values))
    return distinct > 2 and distinct > len(values) / 2


def classes(
    labels: np.ndarray, test_labels: np.ndarray | None = None, n_classes: int | None = None
) -> Classes:
    """Map labels, as `column` returns them, to classes.

    n_classes : given: labels in 0..n_classes - 1 stay as they are, absent classes included

    Raises
    ------
    ValueError : more classes than n_classes or than a readout can hold, numbers beside text
    """
    if n_classes is not None and integer("n_classes", n_classes, 2) > MOST_CLASSES:
        raise ValueError(f"n_classes is {n_classes}; wanted at most {MOST_CLASSES}")
    parts = [labels] if test_labels is None else [labels, test_labels]
    if len({part.dtype.kind == "U" for part in parts}) > 1:
        raise ValueError("the test labels are of another kind than the labels; wanted one kind")
    seen = np.unique(np.concatenate(parts))
    whole = seen.dtype.kind == "i"
    if n_classes is not None and whole and seen[0] >= 0 and seen[-1] < n_classes:
        names = tuple(str(c) for c in range(n_classes))
        return Classes(labels=labels, names=names, mapped=False, test_labels=test_labels)
    if len(seen) < 2 and n_classes is None:
        raise ValueError(f"all labels are {seen[0]}; wanted samples of at least two classes")
    if len(seen) > (n_classes or MOST_CLASSES):
        shown = ", ".join(str(value) for value in seen[:6])
        wanted = f"n_classes = {n_classes}" if n_classes else f"at most {MOST_CLASSES}"
        raise ValueError(f"the labels have {len(seen)} classes ({shown}, ...); wanted {wanted}")
    names = tuple(_name(value) for value in seen)
    if n_classes is not None:
        names += tuple(f"(absent {c})" for c in range(len(names), n_classes))
    index = [np.searchsorted(seen, part).astype(np.int64) for part in parts]
    return Classes(
        labels=index[0],
        names=names,
        mapped=names != tuple(str(c) for c in range(len(names))),
        test_labels=index[1] if len(index) > 1 else None,
    )


def _name(value: np.generic) -> str:
    if isinstance(value, np.floating) and value == np.rint(value):
        return str(int(value))
    return str(value)
