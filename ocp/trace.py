"""The stage trace: what other architectures export to be judged (format "trace-1").

Tensors `logits` (N+1, n_d, n_c), layer 0 before the first block; `control_norm` (N,), the
Euclidean norm of all that r weighs in a block; `labels` (n_d,).  Metadata "problem" with n_classes,
depth, h, p_d, r, gamma, beta.  Layer costs are the Euler sums of these.
"""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from . import container, validation

FORMAT = "trace-1"
_TYPES = {"logits": ("F64", "F32"), "control_norm": ("F64", "F32"), "labels": ("I64",)}
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
    tensors = {name: np.asarray(getattr(trace, name)) for name in _TYPES}
    _check_tensors(tensors, numbers)
    statement = {"format": FORMAT, **numbers}
    return container.write(path, statement, trace.origin, tensors, _TYPES)


def _load(path: Path) -> Trace:
    tensors, metadata = container.read(path, _TYPES)
    for name in _TYPES:
        if name not in tensors:
            raise ValueError(f"tensor {name!r} is missing")
    statement = container.json_object(metadata, "problem")
    origin = container.json_object(metadata, "origin") if "origin" in metadata else {}
    numbers = _numbers({key: value for key, value in statement.items() if key != "format"})
    _check_tensors(tensors, numbers)
    sha256 = container.content_hash(statement, tensors)
    float32 = tuple(sorted(k for k, v in tensors.items() if v.dtype == np.float32))
    for name in ("logits", "control_norm"):
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
    if tensors["control_norm"].min() < 0:
        raise ValueError("tensor 'control_norm' has a negative entry; wanted norms")
    validation.classes(labels, n_c)
