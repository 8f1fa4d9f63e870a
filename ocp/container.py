"""Named arrays and metadata in one safetensors file: the one reader, the writer, the content hash.

Files are data: nothing is ever unpickled or executed.  What the arrays and the metadata mean is
the business of `ocp.files` and `ocp.trace`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy

from .atomic import write_atomically
from .description import loads_json
from .validation import finite

#: a header beyond this is an attack or an accident; the largest real one is a few kilobytes
MAX_HEADER = 10_000_000
_DTYPES = {"F64": "<f8", "F32": "<f4", "I64": "<i8", "U8": "|u1"}


def read(
    path: str | os.PathLike,
    types: Mapping[str, tuple[str, ...]] | None = None,
    framework: str = "numpy",
) -> tuple[dict[str, Any], dict[str, str]]:
    """Return the tensors by name and the metadata.

    types : the names that may occur and the types of each ("F64", "I64", ...); their numbers must
        be finite.  None: any name, any type, any number

    Raises
    ------
    ValueError : no complete safetensors file, or a tensor that `types` does not allow
    OSError : the file cannot be read
    """
    path = Path(path)
    _refuse_absurd_header(path)
    tensors = {}
    try:
        with safetensors.safe_open(path, framework=framework) as file:
            metadata = file.metadata() or {}
            for name in file.keys():  # noqa: SIM118 (no mapping)
                if types is not None:
                    _check_type(name, file.get_slice(name).get_dtype(), types)
                tensors[name] = file.get_tensor(name)
    except safetensors.SafetensorError as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"not a complete safetensors file ({reason})") from None
    if types is not None:
        for name, array in tensors.items():
            finite(f"tensor {name!r}", array)
    return tensors, metadata


def header(path: str | os.PathLike) -> dict:
    """Return the header of what may be any file.

    Raises
    ------
    ValueError, OSError : it has none
    """
    with open(path, "rb") as file:
        size = int.from_bytes(file.read(8), "little")
        text = file.read(size) if 0 < size <= MAX_HEADER else b"null"
    try:
        found = json.loads(text)
    except RecursionError:
        raise ValueError("the header is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("the file does not begin like a safetensors file")
    return found


def write(
    path: str | os.PathLike,
    statement: dict,
    origin: dict,
    arrays: Mapping[str, np.ndarray],
    types: Mapping[str, tuple[str, ...]],
) -> str:
    """Write arrays with the metadata "problem" and "origin" atomically; return the content hash.

    types : as in `read`; each array is stored as the first of its types, bytes as bytes

    Raises
    ------
    ValueError : a number is not finite
    OSError : the folder is not writable; nothing is left behind
    """
    tensors = {name: _stored(name, array, types[name]) for name, array in arrays.items()}
    sha256 = content_hash(statement, tensors)
    metadata = {
        "problem": canonical_json(statement),
        "origin": canonical_json({**origin, "sha256": sha256}),
    }
    write_atomically(path, encoded(tensors, metadata))
    return sha256


def encoded(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> bytes:
    """Return the bytes of a file; equal content gives equal bytes.

    tensors : in C order and little-endian, of types that `read` knows
    """
    plain = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
    # a scalar stays one: ascontiguousarray gives it an axis
    plain = {name: array.reshape(tensors[name].shape) for name, array in plain.items()}
    return _ordered_header(safetensors.numpy.save(plain, dict(metadata)))


def json_object(metadata: dict[str, str], key: str) -> dict:
    """Return the object that is stored as JSON under a key of the metadata."""
    if key not in metadata:
        raise ValueError(f'the metadata lack the key "{key}"; wanted it as JSON')
    try:
        found = loads_json(metadata[key])
    except ValueError as error:
        raise ValueError(f'"{key}" is no valid JSON: {error}') from None
    if not isinstance(found, dict):
        raise ValueError(f'"{key}" is {type(found).__name__}; wanted a JSON object')
    return found


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


def _refuse_absurd_header(path: Path) -> None:
    """Raise ValueError on a header length that cannot be, before anything is allocated."""
    with path.open("rb") as file:  # the plain reason (missing, a folder, no permission) comes here
        start = file.read(8)
        size = os.fstat(file.fileno()).st_size
    length = int.from_bytes(start, "little")
    if len(start) < 8 or length > min(MAX_HEADER, size - 8):
        raise ValueError(
            f"not a complete safetensors file (a header of {length} bytes is announced in a file"
            f" of {size})"
        )


def _check_type(name: str, dtype: str, types: Mapping[str, tuple[str, ...]]) -> None:
    if name not in types:
        raise ValueError(f"unknown tensor {name!r}; wanted {', '.join(types)}")
    if dtype not in types[name]:
        raise ValueError(f"tensor {name!r} has type {dtype}; wanted {' or '.join(types[name])}")


def _stored(name: str, array: np.ndarray, types: tuple[str, ...]) -> np.ndarray:
    """C order and little-endian: safetensors scrambles any other buffer without an error."""
    as_bytes = array.dtype == np.uint8 and "U8" in types
    array = np.ascontiguousarray(array, _DTYPES["U8" if as_bytes else types[0]])
    finite(name, array)
    return array


def _ordered_header(content: bytes) -> bytes:
    """Sort the header's keys: the library leaves their order to chance, and equal content should
    give equal bytes.  Data offsets count from the end of the header, so they stay right."""
    size = int.from_bytes(content[:8], "little")
    found = canonical_json(json.loads(content[8 : 8 + size])).encode()
    found += b" " * (-len(found) % 8)
    return len(found).to_bytes(8, "little") + found + content[8 + size :]


def json_values(value: Any) -> Any:
    """Return plain JSON values: NaN and infinity as null, arrays as lists."""
    if isinstance(value, dict):
        return {k: json_values(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return json_values(value.tolist())
    if isinstance(value, (list, tuple)):
        return [json_values(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    if isinstance(value, np.integer):
        return int(value)
    return value
