"""The stage trace: what other architectures export to be judged (format "trace-1").

Tensors `logits` (N+1, n_d, n_c), layer 0 before the first block; `control_norm` (N,), the
Euclidean norm of all that r weighs in a block; `labels` (n_d,).  Metadata "problem" with n_classes,
depth, h, p_d, r, gamma, beta.  Layer costs are the Euler sums of these.
"""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import safetensors

from .description import loads_json
from .files import content_hash

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
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size)) if 0 < size < 2**26 else {}
        statement = json.loads(header["__metadata__"]["problem"])
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


def _load(path: Path) -> Trace:
    with path.open("rb"):  # the plain reason (missing, a folder, no permission) comes from here
        pass
    tensors = {}
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (no mapping)
                dtype = file.get_slice(name).get_dtype()
                if name not in _TYPES:
                    raise ValueError(f"unknown tensor {name!r}; wanted {', '.join(_TYPES)}")
                if dtype not in _TYPES[name]:
                    wanted = " or ".join(_TYPES[name])
                    raise ValueError(f"tensor {name!r} has type {dtype}; wanted {wanted}")
                tensors[name] = file.get_tensor(name)
    except safetensors.SafetensorError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"not a complete safetensors file ({reason})") from None
    for name in _TYPES:
        if name not in tensors:
            raise ValueError(f"tensor {name!r} is missing")
    statement = loads_json(metadata["problem"])
    if not isinstance(statement, dict):
        raise ValueError(f'"problem" is {type(statement).__name__}; wanted a JSON object')
    origin = loads_json(metadata.get("origin", "{}"))
    if not isinstance(origin, dict):
        raise ValueError(f'"origin" is {type(origin).__name__}; wanted a JSON object')
    numbers = _numbers(statement)
    _check_shapes(tensors, numbers)
    sha256 = content_hash(statement, tensors)
    float32 = tuple(sorted(k for k, v in tensors.items() if v.dtype == np.float32))
    for name in ("logits", "control_norm"):
        tensors[name] = tensors[name].astype(np.float64)
    return Trace(**tensors, **numbers, origin=origin, float32=float32, sha256=sha256)


def _numbers(statement: dict) -> dict:
    for key in statement:
        if key not in (*_KEYS, "format"):
            raise ValueError(f'unknown key {key!r} in "problem"; wanted {", ".join(_KEYS)}')
    numbers = {}
    for key in _KEYS:
        value = statement.get(key)
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise ValueError(f"{key} is {value!r}; wanted a number")
        if key in ("n_classes", "depth", "beta"):
            if not isinstance(value, int):
                raise ValueError(f"{key} is {value!r}; wanted an integer")
        elif not math.isfinite(value):
            raise ValueError(f"{key} is {value}; wanted a finite number")
        numbers[key] = value if key in ("n_classes", "depth", "beta") else float(value)
    n_c = numbers["n_classes"]
    for key, holds, wanted in (
        ("n_classes", n_c >= 2, "at least 2"),
        ("depth", numbers["depth"] >= 1, "at least 1"),
        ("h", numbers["h"] > 0, "a number above 0"),
        ("r", numbers["r"] >= 0, "at least 0"),
        ("gamma", numbers["gamma"] >= 0, "at least 0"),
        ("beta", numbers["beta"] in (0, 1), "0 or 1"),
        ("p_d", n_c >= 2 and 1 / n_c < numbers["p_d"] <= 1, "1/n_classes < p_d <= 1"),
        ("gamma", numbers["beta"] or numbers["gamma"], "above 0 where beta is 0"),
    ):
        if not holds:
            raise ValueError(f"{key} is {numbers[key]}; wanted {wanted}")
    return numbers


def _check_shapes(tensors: dict[str, np.ndarray], numbers: dict) -> None:
    N, n_c, labels = numbers["depth"], numbers["n_classes"], tensors["labels"]
    if labels.ndim != 1 or not len(labels):
        raise ValueError(f"tensor 'labels' has shape {labels.shape}; wanted (n_d,)")
    for name, shape in (("logits", (N + 1, len(labels), n_c)), ("control_norm", (N,))):
        if tensors[name].shape != shape:
            raise ValueError(f"tensor {name!r} has shape {tensors[name].shape}; wanted {shape}")
        bad = np.argwhere(~np.isfinite(tensors[name]))
        if len(bad):
            at = [int(i) for i in bad[0]]
            value = tensors[name][tuple(at)]
            raise ValueError(f"tensor {name!r}{at} is {value}; wanted finite numbers")
    if tensors["control_norm"].min() < 0:
        raise ValueError("tensor 'control_norm' has a negative entry; wanted norms")
    if labels.min() < 0 or labels.max() >= n_c:
        raise ValueError(f"labels leave 0..{n_c - 1}")
    if len(np.unique(labels)) < 2:
        raise ValueError(f"all labels are {labels[0]}; wanted samples of at least two classes")
