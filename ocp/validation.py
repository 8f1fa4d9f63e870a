"""What is given is checked here: one sentence with the name, what was found and what was wanted."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

#: what an int64 holds; beyond it arithmetic with floats may fail
MOST = 2**63 - 1
_INTEGERS = (int, np.integer)
_REALS = (int, float, np.integer, np.floating)


def integer(name: str, value: object, least: int) -> int:
    """Return the whole number, or raise ValueError unless it is one and not below `least`."""
    if isinstance(value, bool) or not isinstance(value, _INTEGERS) or value < least:
        raise ValueError(f"{name} is {value!r}; wanted an integer of at least {least}")
    if value > MOST:
        raise ValueError(f"{name} is above 2^63 - 1; wanted an integer of at least {least}")
    return int(value)


def number(name: str, value: object, *, infinite: bool = False) -> float:
    """Return the number as a float, or raise ValueError unless it is one and finite.

    infinite : infinity will do as well, NaN will not
    """
    if isinstance(value, bool) or not isinstance(value, _REALS):
        raise ValueError(f"{name} is {value!r}; wanted a number")
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if not math.isfinite(found) and not (infinite and math.isinf(found)):
        raise ValueError(f"{name} is {found}; wanted a finite number")
    return found


def positive(name: str, value: object) -> float:
    """Return the finite number above 0, or raise ValueError."""
    found = number(name, value)
    if found <= 0:
        raise ValueError(f"{name} is {found}; wanted a number above 0")
    return found


def at_least(name: str, value: object, least: float, *, infinite: bool = False) -> float:
    """Return the finite (or infinite) number, or raise ValueError if it is below `least`."""
    found = number(name, value, infinite=infinite)
    if found < least:
        raise ValueError(f"{name} is {found}; wanted a number of at least {least:g}")
    return found


def one_of(name: str, value: object, known: Iterable[str]) -> str:
    """Return the word, or raise ValueError unless it is one of the known ones."""
    known = tuple(known)
    if value not in known:
        raise ValueError(f"{name} is {value!r}; wanted one of {', '.join(known)}")
    return str(value)


def soft_probability(n_classes: int, p_d: float) -> None:
    """Raise ValueError unless the true class is the likeliest in the soft target."""
    if not 1.0 / n_classes < p_d <= 1.0:
        raise ValueError(f"p_d is {p_d}; wanted 1/n_classes = {1 / n_classes:.6g} < p_d <= 1")


def some_data_cost(beta: int, gamma: float) -> None:
    """Raise ValueError where no layer and no end has a data cost."""
    if beta == 0 and gamma == 0:
        raise ValueError("beta and gamma are both 0; wanted a data cost in at least one place")


def flag(name: str, value: object) -> int:
    """Return 0 or 1, or raise ValueError."""
    if isinstance(value, bool) or value not in (0, 1):
        raise ValueError(f"{name} is {value!r}; wanted 0 or 1")
    return int(value)


def shape(name: str, array: np.ndarray | None, wanted: tuple[int, ...] | None) -> None:
    """Raise ValueError unless the array has the shape; None stands for no array."""
    found = None if array is None else np.shape(array)
    if found != wanted:
        raise ValueError(f"{name} has shape {found}; wanted {wanted}")


def finite(name: str, array: np.ndarray) -> None:
    """Raise ValueError and name the first entry that is NaN or infinite."""
    if array.dtype.kind not in "biu" and not np.isfinite(array).all():
        at = tuple(int(i) for i in np.argwhere(~np.isfinite(array))[0])
        raise ValueError(f"{name}{list(at)} is {array[at]}; wanted finite numbers")


def classes(labels: np.ndarray, n_classes: int) -> None:
    """Raise ValueError unless the labels are 0..n_classes - 1 and at least two of them occur."""
    outside = np.flatnonzero((labels < 0) | (labels >= n_classes))
    if len(outside):
        i = outside[0]
        raise ValueError(f"labels[{i}] is {labels[i]}; wanted a class in 0..{n_classes - 1}")
    if len(np.unique(labels)) < 2:
        raise ValueError(f"all labels are {labels[0]}; wanted samples of at least two classes")


def names(name: str, value: object, count: int) -> tuple[str, ...]:
    """Return `count` names, or raise ValueError unless the value is a list of so many texts."""
    if (
        not isinstance(value, (list, tuple))
        or len(value) != count
        or not all(isinstance(item, str) for item in value)
    ):
        raise ValueError(f"{name} is {value!r}; wanted a list of {count} texts")
    return tuple(value)
