"""The stage trace: what other architectures export to be judged (format "trace-1").

Tensors `logits` (N+1, n_d, n_c), layer 0 before the first block; `control_norm` (N,), the
Euclidean norm of all that r weighs in a block; `labels` (n_d,).  Optional: `relative_update` and
`direction_change` (N,), |f|/|x| and 1 - cos of a state before and after a block, mean over samples;
`ends_norm` (1,): J has (r/2) ends_norm^2 more for what lies before, between and after the blocks.
Metadata "problem" with n_classes, depth, h, p_d, r, gamma, beta.  Layer costs are the Euler sums.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import container, validation

FORMAT = "trace-1"
_FLOATS = ("F64", "F32")
_REQUIRED = {"logits": _FLOATS, "control_norm": _FLOATS, "labels": ("I64",)}
_OPTIONAL = {"relative_update": _FLOATS, "direction_change": _FLOATS, "ends_norm": _FLOATS}
_TYPES = _REQUIRED | _OPTIONAL
_KEYS = ("n_classes", "depth", "h", "p_d", "r", "gamma", "beta")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Trace:
    """A stage trace; shapes as in the module's text.

    float32 : names of tensors stored in single precision;  sha256 : recomputed on reading
    """

    logits: np.ndarray
    control_norm: np.ndarray
    labels: np.ndarray
    n_classes: int
    depth: int
    h: float
    p_d: float
    r: float
    gamma: float
    beta: int
    relative_update: np.ndarray | None = None
    direction_change: np.ndarray | None = None
    ends_norm: np.ndarray | None = None
    origin: dict = field(default_factory=dict)
    float32: tuple[str, ...] = ()
    sha256: str = ""


def is_trace(path: str | os.PathLike) -> bool:
    """Whether the file is a safetensors file that calls itself a trace; anything else is not."""
    try:
        statement = json.loads(container.header(path)["__metadata__"]["problem"])
        return isinstance(statement, dict) and statement.get("format") == FORMAT
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def load(path: str | os.PathLike) -> Trace:
    """Read and validate a trace.

    Raises
    ------
    ValueError : one sentence naming the file, the tensor or key, what was found and wanted
    OSError : the file cannot be read
    """
    try:
        return _load(Path(path))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def save(path: str | os.PathLike, trace: Trace) -> str:
    """Write a trace atomically and return the content hash; what cannot be read is not written.

    Raises
    ------
    ValueError : shapes that do not fit, numbers that are not finite or out of range
    OSError : the folder is not writable; nothing is left behind
    """
    numbers = _numbers({key: getattr(trace, key) for key in _KEYS})
    given = {name: getattr(trace, name) for name in _TYPES}
    tensors = {name: np.asarray(value) for name, value in given.items() if value is not None}
    _check_tensors(tensors, numbers)
    statement = {"format": FORMAT, **numbers}
    return container.write(path, statement, trace.origin, tensors, _TYPES)


def _load(path: Path) -> Trace:
    tensors, metadata = container.read(path, _TYPES)
    for name in _REQUIRED:
        if name not in tensors:
            raise ValueError(f"tensor {name!r} is missing")
    statement = container.json_object(metadata, "problem")
    origin = container.json_object(metadata, "origin") if "origin" in metadata else {}
    numbers = _numbers({key: value for key, value in statement.items() if key != "format"})
    _check_tensors(tensors, numbers)
    sha256 = container.content_hash(statement, tensors)
    float32 = tuple(sorted(k for k, v in tensors.items() if v.dtype == np.float32))
    for name in tensors:
        if name != "labels":
            tensors[name] = tensors[name].astype(np.float64)
    return Trace(**tensors, **numbers, origin=origin, float32=float32, sha256=sha256)


def _numbers(statement: dict) -> dict:
    """Return the numbers of the statement, each validated."""
    for key in statement:
        if key not in _KEYS:
            raise ValueError(f'unknown key {key!r} in "problem"; wanted {", ".join(_KEYS)}')
    given = {key: statement.get(key) for key in _KEYS}
    n_classes = validation.integer("n_classes", given["n_classes"], 2)
    p_d, gamma = (validation.number(key, given[key]) for key in ("p_d", "gamma"))
    beta = validation.flag("beta", validation.integer("beta", given["beta"], 0))
    validation.soft_probability(n_classes, p_d)
    validation.some_data_cost(beta, gamma)
    return {
        "n_classes": n_classes,
        "depth": validation.integer("depth", given["depth"], 1),
        "h": validation.positive("h", given["h"]),
        "p_d": p_d,
        "r": validation.at_least("r", given["r"], 0),
        "gamma": validation.at_least("gamma", gamma, 0),
        "beta": beta,
    }


def _check_tensors(tensors: dict[str, np.ndarray], numbers: dict) -> None:
    N, n_c, labels = numbers["depth"], numbers["n_classes"], tensors["labels"]
    if labels.ndim != 1 or not len(labels) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"tensor 'labels' has shape {labels.shape} and type {labels.dtype};"
            " wanted integers, (n_d,)"
        )
    for name, shape in (("logits", (N + 1, len(labels), n_c)), ("control_norm", (N,))):
        validation.shape(f"tensor {name!r}", tensors[name], shape)
    for name, size in (("relative_update", N), ("direction_change", N), ("ends_norm", 1)):
        if name in tensors:
            validation.shape(f"tensor {name!r}", tensors[name], (size,))
    for name in ("control_norm", "relative_update", "direction_change", "ends_norm"):
        if name in tensors and tensors[name].min() < 0:
            raise ValueError(f"tensor {name!r} has a negative entry; wanted norms or ratios")
    if "direction_change" in tensors and tensors["direction_change"].max() > 2.0 + 1e-6:
        raise ValueError("tensor 'direction_change' has an entry above 2; wanted 1 - cos")
    validation.classes(labels, n_c)
