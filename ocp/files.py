"""The training file: one safetensors file for an exact solution or a PyTorch checkpoint.

Tensors A, b, W, readout.*, lift.*, inputs, labels, costate, test.*; metadata "problem" (the
statement) and "origin" (who made it; nothing in it is trusted).  Reading refuses, with one
sentence, whatever is not exactly this.  Files are data: nothing is ever unpickled or executed.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import container, data_files
from .controls import Controls, ends, validate
from .description import check_format, problem_from_statement, statement_of
from .problem import END_PARTS, Problem


def _stored_as(part: str) -> str:
    """The tensor's name of a part of an end: "lift.weight" for lift_weight."""
    return part.replace("_", ".")


_FLOATS = ("F64", "F32")
_TYPES = {
    **dict.fromkeys(("A", "b", "W"), _FLOATS),
    **{_stored_as(part): _FLOATS for part in END_PARTS},
    **{"inputs": (*_FLOATS, "U8"), "labels": ("I64",), "costate": _FLOATS},
    **{"test.inputs": (*_FLOATS, "U8"), "test.labels": ("I64",)},
}
_NEEDED = ("A", "b", *map(_stored_as, END_PARTS), "labels")


class InputsElsewhere(ValueError):
    """The file keeps its inputs in another file, which was not given."""


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class TrainingFile:
    """What a training file says.

    problem : the statement, with the samples
    controls : u, and trained ends
    costate : stored adjoint states, (N+1, n_d, n), or None; verified, never trusted
    test_inputs, test_labels : held-out samples or None, no part of J
    origin : free JSON on who made the file; "sha256" is set on saving
    data : {"name", "sha256", "rows"} where the inputs are kept in another file, else None
    float32 : names of tensors that were stored in single precision
    sha256 : content hash, recomputed on reading
    """

    problem: Problem
    controls: Controls
    costate: np.ndarray | None = None
    test_inputs: np.ndarray | None = None
    test_labels: np.ndarray | None = None
    origin: dict = field(default_factory=dict)
    data: dict | None = None
    float32: tuple[str, ...] = ()
    sha256: str = ""


def save(path: str | os.PathLike, content: TrainingFile) -> str:
    """Write atomically and return the content hash.

    Raises
    ------
    ValueError : the controls do not fit the problem, or something is not finite
    OSError : the folder is not writable; nothing is left behind
    """
    problem, controls = content.problem, content.controls
    validate(problem, controls)
    tensors: dict[str, np.ndarray | None] = {
        "A": controls.A,
        "b": controls.b,
        "W": controls.W,
        **dict(zip(map(_stored_as, END_PARTS), ends(problem, controls), strict=True)),
        "inputs": problem.inputs if content.data is None else None,
        "labels": problem.labels,
        "costate": content.costate,
        "test.inputs": content.test_inputs,
        "test.labels": content.test_labels,
    }
    stored = {name: np.asarray(value) for name, value in tensors.items() if value is not None}
    _check_optional(problem, stored)
    statement = statement_of(problem)
    if content.data is not None:
        statement["data"] = content.data
    return container.write(path, statement, content.origin, stored, _TYPES)


def load(path: str | os.PathLike, data: str | os.PathLike | None = None) -> TrainingFile:
    """Read and validate a training file.

    data : the file with the inputs, for files that keep them by reference

    Raises
    ------
    ValueError : one sentence naming the file, the tensor or key, what was found and wanted;
        `InputsElsewhere` where `data` is needed
    OSError : the file cannot be read
    """
    try:
        return _load(Path(path), data)
    except InputsElsewhere as error:
        raise InputsElsewhere(f"{path}: {error}") from None
    except OverflowError as error:
        raise ValueError(f"{path}: a number is too large for float64 ({error})") from None
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _load(path: Path, data: str | os.PathLike | None) -> TrainingFile:
    tensors, metadata = container.read(path, _TYPES)
    if "problem" not in metadata:
        raise ValueError('the metadata lack the key "problem"; wanted the statement as JSON')
    statement = container.json_object(metadata, "problem")
    check_format(statement)
    origin = container.json_object(metadata, "origin") if "origin" in metadata else {}
    for name in _NEEDED:
        if name not in tensors:
            raise ValueError(f"tensor {name!r} is missing")
    sha256 = container.content_hash(statement, tensors)
    float32 = tuple(sorted(k for k, v in tensors.items() if v.dtype == np.float32))
    for name in float32:
        tensors[name] = tensors[name].astype(np.float64)
    reference = statement.pop("data", None)
    if reference is None:
        if data is not None:
            raise ValueError("a data file was given, but this file holds its inputs itself")
        if "inputs" not in tensors:
            raise ValueError("tensor 'inputs' is missing and \"problem\" has no key 'data'")
    elif "inputs" in tensors:
        raise ValueError("found both tensor 'inputs' and key 'data'; wanted one of them")
    else:
        tensors["inputs"] = _referenced(reference, data)
    problem = problem_from_statement(
        statement,
        inputs=tensors["inputs"],
        labels=tensors["labels"],
        **{part: tensors[_stored_as(part)] for part in END_PARTS},
    )
    controls = Controls(
        A=tensors["A"],
        b=tensors["b"],
        W=tensors.get("W"),
        **{part: tensors[_stored_as(part)] for part in problem.trained_parts},
    )
    validate(problem, controls)
    _check_optional(problem, tensors)
    return TrainingFile(
        problem=problem,
        controls=controls,
        costate=tensors.get("costate"),
        test_inputs=tensors.get("test.inputs"),
        test_labels=tensors.get("test.labels"),
        origin=origin,
        data=reference,
        float32=float32,
        sha256=sha256,
    )


def _check_optional(problem: Problem, tensors: dict[str, np.ndarray]) -> None:
    n_in = problem.inputs.shape[1]
    costate = tensors.get("costate")
    wanted = (problem.depth + 1, problem.n_samples, problem.width)
    if costate is not None and costate.shape != wanted:
        raise ValueError(f"tensor 'costate' has shape {costate.shape}; wanted {wanted}")
    given = [name for name in ("test.inputs", "test.labels") if name in tensors]
    if len(given) == 1:
        raise ValueError(f"found {given[0]!r} alone; wanted both test.inputs and test.labels")
    if given:
        x, y = tensors["test.inputs"], tensors["test.labels"]
        if x.ndim != 2 or x.shape[1] != n_in or y.shape != (len(x),):
            raise ValueError(
                f"test.inputs and test.labels have shapes {x.shape} and {y.shape};"
                f" wanted (m, {n_in}) and (m,)"
            )
        if x.dtype == np.uint8 and problem.input_scale is None:
            raise ValueError("test.inputs are bytes but the problem has no input_scale")
        if len(y) and not (y.min() >= 0 and y.max() < problem.n_classes):
            raise ValueError(f"test.labels leave 0..{problem.n_classes - 1}")


def _referenced(reference: object, path: str | os.PathLike | None) -> np.ndarray:
    """Return the inputs kept in another file, after checking that it is the right one."""
    wanted = {"name", "sha256", "rows"}
    if not isinstance(reference, dict) or set(reference) != wanted:
        raise ValueError(f'"data" is {reference!r}; wanted the keys {sorted(wanted)}')
    start, stop = row_range(reference["rows"])
    if path is None:
        where = reference["name"]
        raise InputsElsewhere(f"the inputs are kept in {where!r}; give that file as --data")
    found = data_files.sha256_of(path)
    if found != reference["sha256"]:
        raise ValueError(f"{path} has sha256 {found}; wanted {reference['sha256']}")
    inputs = data_files.read_inputs(path)
    if stop > len(inputs):
        raise ValueError(f"{path} has {len(inputs)} rows; wanted rows {start} to {stop}")
    return inputs[start:stop]


def row_range(rows: object) -> tuple[int, int]:
    """Return (start, stop) of "rows": a count, or [start, stop]."""
    pair = [0, rows] if isinstance(rows, int) else rows
    if (
        not isinstance(pair, list)
        or len(pair) != 2
        or not all(isinstance(i, int) and not isinstance(i, bool) for i in pair)
        or not 0 <= pair[0] < pair[1] < math.inf
    ):
        raise ValueError(f'"rows" of "data" is {rows!r}; wanted a count or [start, stop]')
    return pair[0], pair[1]
