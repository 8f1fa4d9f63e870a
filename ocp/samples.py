"""Samples with their labels: what was read, in one line, and the problem that is made of it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import lift as lifting
from .datasets import GENERATORS
from .labels import MOST_CLASSES
from .problem import Problem
from .validation import integer

#: the statement's default; without a width given, more inputs set it, up to WIDEST; our choice
WIDTH, WIDEST = 3, 16
_SHOWN = 8


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Dataset:
    """Samples with a held-out part, if there is one.

    inputs, test_inputs : (n, n_in) float64, or uint8 with value = scale * byte + shift
    labels, test_labels : (n,) int64 in 0..n_classes - 1
    classes : names of the classes, where they are not 0, 1, ...; columns : of the inputs
    label_column : where the labels were found
    standardise : whether problems are to standardise the inputs within the lift
    said : clauses on how the data were read;  cautions : what may not be as it was meant
    inputs_file : where the training inputs are one whole file, for keeping them by reference in a
        training file
    """

    name: str
    inputs: np.ndarray
    labels: np.ndarray
    n_classes: int
    test_inputs: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    scale: float | None = None
    shift: float | None = None
    inputs_file: Path | None = None
    classes: tuple[str, ...] | None = None
    columns: tuple[str, ...] | None = None
    label_column: str = ""
    standardise: bool = False
    said: tuple[str, ...] = ()
    cautions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Refuse, before any work, what no training file could hold at its end."""
        if self.n_classes > MOST_CLASSES:
            raise ValueError(
                f"{self.name}: a label is {self.n_classes - 1}; wanted class numbers from 0 on, at"
                f" most {MOST_CLASSES - 1}"
            )
        if (self.test_inputs is None) != (self.test_labels is None):
            raise ValueError(f"{self.name}: wanted both test_inputs and test_labels, or neither")
        parts = {"": (self.inputs, self.labels)}
        if self.test is not None:
            parts["test_"] = self.test
        for prefix, (x, y) in parts.items():
            if x.ndim != 2 or y.shape != x.shape[:1] or x.shape[1] != self.inputs.shape[1]:
                raise ValueError(
                    f"{self.name}: {prefix}inputs and {prefix}labels have shapes {x.shape} and"
                    f" {y.shape}; wanted one row a sample, as wide as inputs {self.inputs.shape},"
                    " and one label each"
                )
            if not x.size:
                raise ValueError(
                    f"{self.name}: {prefix}inputs have shape {x.shape}; wanted at least one row and"
                    " one column"
                )
            if x.dtype.kind not in "fiu" or not np.isfinite(x).all():
                raise ValueError(
                    f"{self.name}: {prefix}inputs are {x.dtype}; wanted finite numbers"
                )
            if (x.dtype == np.uint8 and self.scale is not None) != (self.scale is not None):
                raise ValueError(
                    f"{self.name}: {prefix}inputs are {x.dtype} beside bytes; wanted bytes in both"
                    " parts, or in neither"
                )
            if y.dtype.kind not in "iu" or y.min() < 0 or y.max() >= self.n_classes:
                raise ValueError(
                    f"{self.name}: {prefix}labels are {y.dtype} from {y.min()} to {y.max()};"
                    f" wanted integers in 0..{self.n_classes - 1}"
                )

    @property
    def test(self) -> tuple[np.ndarray, np.ndarray] | None:
        """The held-out samples as a pair."""
        if self.test_inputs is None or self.test_labels is None:
            return None
        return self.test_inputs, self.test_labels

    @property
    def says(self) -> str:
        """What was read, in one line; nothing of what was generated."""
        if self.name in GENERATORS:
            return ""
        names = self.classes or tuple(str(c) for c in range(self.n_classes))
        counts = np.bincount(self.labels, minlength=self.n_classes)
        n_in = self.inputs.shape[1]
        columns = ""
        if self.columns is not None:
            numbers = all(name.isdigit() for name in self.columns)
            columns = f" ({'columns ' * numbers}{_list(self.columns)})"
        label = f", label column {self.label_column}" if self.label_column else ""
        counted = [f"{name} ({count})" for name, count in zip(names, counts, strict=True)]
        parts = [
            f"{_many(len(self.labels), 'sample')}, {_many(n_in, 'input')}{columns}{label}, classes"
            f" {_list(counted)}"
        ]
        if self.test_labels is not None:
            parts.append(f"{_many(len(self.test_labels), 'sample')} held out")
        parts += self.said
        if self.scale is not None:
            parts.append(f"bytes scaled by 1/{1 / self.scale:g}")
        if self.classes is not None and self.classes != tuple(map(str, range(self.n_classes))):
            shown = [f"{name} -> {c}" for c, name in enumerate(self.classes)]
            parts.append(f"labels mapped: {_list(shown)}")
        if self.standardise:
            flat = int(lifting.Standardisation.of(self.inputs, self.scale, self.shift).flat.sum())
            centred = f" ({_many(flat, 'column')} without spread only centred)" if flat else ""
            parts.append(f"inputs standardised within the lift{centred}")
        return "; ".join(parts)

    def statement(self) -> dict[str, Any]:
        """Return the data part of a problem: keyword arguments of `ocp.problem.Problem`."""
        return {
            "inputs": self.inputs,
            "labels": self.labels,
            "n_classes": self.n_classes,
            "input_scale": self.scale,
            "input_shift": self.shift,
            "class_names": self.classes,
            "column_names": self.columns,
        }

    def problem(
        self,
        *,
        width: int | None = None,
        lift: str | None = None,
        seed: int = 0,
        **statement: Any,
    ) -> Problem:
        """Return the problem with these samples.

        width : None: 3, or as many as the inputs have coordinates
        lift : "zeros" (None), "gaussian" or "principal", after standardising where it was asked for
        seed : of a Gaussian lift
        statement : other keys of `ocp.problem.Problem`: depth, h, p_d, r, ...

        Raises
        ------
        ValueError : what the statement refuses; many inputs and no width
        """
        n_in = self.inputs.shape[1]
        if width is None:
            if n_in > WIDEST and "lift_weight" not in statement:
                raise ValueError(
                    f"there are {n_in} inputs and no width is given; wanted a width, and"
                    f' lift = "principal" or "gaussian" where it is below {n_in}'
                )
            given = statement.get("lift_weight")
            width = max(WIDTH, n_in) if given is None else len(given)
        width = integer("width", width, 1)
        E, e = self.lifted(lift, width, seed, statement.get("lift_weight"))
        if E is not None:
            bias = statement.get("lift_bias")
            statement["lift_weight"] = E
            statement["lift_bias"] = e if bias is None else e + np.asarray(bias)
        return Problem(**{**self.statement(), **statement, "width": width})

    def lifted(
        self, kind: str | None, width: int, seed: int = 0, weight: np.ndarray | None = None
    ) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
        """Return E and e of a lift, standardising within it; None, None: the statement's default.

        weight : a lift of the user's own, on standardised inputs where these are asked for
        """
        if weight is not None and kind is not None:
            raise ValueError(f"lift is {kind!r} and a weight is given as well; wanted one of them")
        if kind is None and not self.standardise:
            return None, None
        few = self.inputs[: lifting.MOST_SAMPLES]
        values = few if self.scale is None else self.scale * few + (self.shift or 0.0)
        if not self.standardise:
            return lifting.lift(kind or "zeros", width, values, seed)
        standard = lifting.Standardisation.of(self.inputs, self.scale, self.shift)
        if weight is not None:
            own = np.asarray(weight, np.float64)
            if own.ndim != 2 or own.shape[1] != len(standard.mean):
                raise ValueError(
                    f"lift_weight has shape {own.shape}; wanted ({width}, {len(standard.mean)})"
                )
            return standard.folded(own, np.zeros(len(own)))
        return standard.folded(*lifting.lift(kind or "zeros", width, standard(values), seed))

    def reference(self) -> dict | None:
        """Return the "data" entry of a training file, where the inputs are one file."""
        if self.inputs_file is None:
            return None
        from .data_files import sha256_of

        return {
            "name": self.inputs_file.name,
            "sha256": sha256_of(self.inputs_file),
            "rows": len(self.labels),
        }

    def tuning_split(self, n_train: int) -> Dataset:
        """Return the first n_train samples, the others of the *training* set as the held-out part.

        For choosing options: the test set is dropped, so it cannot be looked at.
        """
        if not 0 < n_train < len(self.labels):
            raise ValueError(
                f"a split at {n_train} was asked for; wanted 1..{len(self.labels) - 1}"
            )
        return dataclasses.replace(
            self,
            name=f"{self.name}, first {n_train} of the training set",
            inputs=self.inputs[:n_train],
            labels=self.labels[:n_train],
            test_inputs=self.inputs[n_train:],
            test_labels=self.labels[n_train:],
            inputs_file=None,
        )


def _many(count: int, word: str) -> str:
    return f"{count} {word}{'s'[: count != 1]}"


def _list(items: tuple[str, ...] | list[str]) -> str:
    """At most so many items: the first ones, and the last."""
    found = list(items)
    if len(found) > _SHOWN:
        found = [*found[: _SHOWN - 2], "...", found[-1]]
    return ", ".join(found)
