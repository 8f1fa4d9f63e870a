"""The training file: one safetensors file for an exact solution or a PyTorch checkpoint.

Tensors A, b, W, readout.*, lift.*, inputs, labels, costate, test.*; metadata "problem" (the
statement) and "origin" (who made it; nothing in it is trusted).  Reading refuses, with one
sentence, whatever is not exactly this.  Files are data: nothing is ever unpickled or executed.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from . import data_files
from .atomic import write_atomically
from .controls import Controls, ends, validate
from .description import (
    check_format,
    loads_json,
    problem_from_statement,
    statement_of,
)
from .problem import Problem

_KNOWN = (
    *("A", "b", "W", "readout.weight", "readout.bias", "lift.weight", "lift.bias"),
    *("inputs", "labels", "costate", "test.inputs", "test.labels"),
)
_NEEDED = ("A", "b", "readout.weight", "readout.bias", "lift.weight", "lift.bias", "labels")
_INTEGER = ("labels", "test.labels")
_DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "U8": "|u1"}


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
    E, e, C, c = ends(problem, controls)
    tensors: dict[str, np.ndarray | None] = {
        "A": controls.A,
        "b": controls.b,
        "W": controls.W,
        "readout.weight": C,
        "readout.bias": c,
        "lift.weight": E,
        "lift.bias": e,
        "inputs": problem.inputs if content.data is None else None,
        "labels": problem.labels,
        "costate": content.costate,
        "test.inputs": content.test_inputs,
        "test.labels": content.test_labels,
    }
    stored = {k: _contiguous(k, v) for k, v in tensors.items() if v is not None}
    _check_optional(problem, stored)
    statement = statement_of(problem)
    if content.data is not None:
        statement["data"] = content.data
    sha256 = content_hash(statement, stored)
    metadata = {
        "problem": canonical_json(statement),
        "origin": canonical_json({**content.origin, "sha256": sha256}),
    }
    write_atomically(path, _ordered_header(safetensors.numpy.save(stored, metadata)))
    return sha256


def load(path: str | os.PathLike, data: str | os.PathLike | None = None) -> TrainingFile:
    """Read and validate a training file.

    data : the file with the inputs, for files that keep them by reference

    Raises
    ------
    ValueError : one sentence naming the file, the tensor or key, what was found and wanted
    OSError : the file cannot be read
    """
    try:
        return _load(Path(path), data)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def content_hash(statement: dict, tensors: dict[str, np.ndarray]) -> str:
    """sha256 over the canonical JSON of the statement and then, tensor by tensor in the order of
    names, the canonical JSON of [name, dtype, shape] and the little-endian C-order bytes."""
    digest = hashlib.sha256(canonical_json(statement).encode())
    for name in sorted(tensors):
        array = tensors[name]
        dtype = next(k for k, v in _DTYPES.items() if np.dtype(v) == array.dtype)
        digest.update(canonical_json([name, dtype, list(array.shape)]).encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def canonical_json(value: object) -> str:
    """JSON with sorted keys and no spaces; NaN and infinity are refused."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def _ordered_header(content: bytes) -> bytes:
    """Sort the header's keys: the library leaves their order to chance, and equal content should
    give equal bytes.  Data offsets count from the end of the header, so they stay right."""
    size = int.from_bytes(content[:8], "little")
    header = canonical_json(json.loads(content[8 : 8 + size])).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + size :]


def _contiguous(name: str, array: np.ndarray) -> np.ndarray:
    """C order and little-endian: safetensors scrambles any other buffer without an error."""
    floating = "|u1" if array.dtype == np.uint8 else "<f8"
    dtype = "<i8" if name in _INTEGER else floating
    array = np.ascontiguousarray(array, dtype)
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        at = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
        raise ValueError(f"{name}{at} is {array[tuple(at)]}; wanted finite numbers")
    return array


def _load(path: Path, data: str | os.PathLike | None) -> TrainingFile:
    tensors, metadata = _read(path)
    if "problem" not in metadata:
        raise ValueError('the metadata lack the key "problem"; wanted the statement as JSON')
    statement = _json(metadata, "problem")
    if not isinstance(statement, dict):
        raise ValueError(f'"problem" is {type(statement).__name__}; wanted a JSON object')
    check_format(statement)
    origin = _json(metadata, "origin") if "origin" in metadata else {}
    if not isinstance(origin, dict):
        raise ValueError(f'"origin" is {type(origin).__name__}; wanted a JSON object')
    for name in tensors:
        if name not in _KNOWN:
            raise ValueError(f"unknown tensor {name!r}; wanted {', '.join(_KNOWN)}")
    for name in _NEEDED:
        if name not in tensors:
            raise ValueError(f"tensor {name!r} is missing")
    sha256 = content_hash(statement, tensors)
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
        **{
            f"{end}_{part}": tensors[f"{end}.{part}"]
            for end in ("lift", "readout")
            for part in ("weight", "bias")
        },
    )
    controls = Controls(
        A=tensors["A"],
        b=tensors["b"],
        W=tensors.get("W"),
        **{
            f"{end}_{part}": tensors[f"{end}.{part}"]
            for end in ("lift", "readout")
            for part in ("weight", "bias")
            if end in problem.trained
        },
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


def _read(path: Path) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    with path.open("rb"):  # the plain reason (missing, a folder, no permission) comes from here
        pass
    tensors = {}
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (no mapping)
                dtype = file.get_slice(name).get_dtype()
                allowed: tuple[str, ...] = ("I64",) if name in _INTEGER else ("F64", "F32")
                allowed += ("U8",) if name.endswith("inputs") else ()
                if name in _KNOWN and dtype not in allowed:
                    raise ValueError(
                        f"tensor {name!r} has type {dtype}; wanted {' or '.join(allowed)}"
                    )
                if dtype in _DTYPES:
                    tensors[name] = file.get_tensor(name)
                else:
                    raise ValueError(f"unknown tensor {name!r} of type {dtype}")
    except safetensors.SafetensorError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"not a complete safetensors file ({reason})") from None
    for name, array in tensors.items():
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            at = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
            raise ValueError(f"tensor {name!r}{at} is {array[tuple(at)]}; wanted finite numbers")
    return tensors, metadata


def _json(metadata: dict[str, str], key: str) -> object:
    try:
        return loads_json(metadata[key])
    except ValueError as error:
        raise ValueError(f'"{key}" is no valid JSON: {error}') from None


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
        raise ValueError(f"the inputs are kept in {reference['name']!r}; give that file as --data")
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
