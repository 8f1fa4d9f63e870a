"""IDX files, the format of MNIST: one array each, and the folders of four that people have."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import os
import re
import struct
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from .text_tables import DAMAGED, MOST_BYTES

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_IDX_TYPES = {8: ">u1", 9: ">i1", 11: ">i2", 12: ">i4", 13: ">f4", 14: ">f8"}
_GZIP = b"\x1f\x8b"
#: prefix (of EMNIST's sets), part, content
_NAMED = re.compile(
    r"(?P<set>.*?)[-_.]?(?P<part>train|test|t10k)[-_.](?P<what>images|labels)[-_.]idx\d[-_.]ubyte"
    r"(\.gz)?",
    re.IGNORECASE,
)


def is_idx(start: bytes) -> bool:
    """Whether a file that begins so is an IDX file."""
    return len(start) >= 4 and start[:2] == b"\0\0" and start[2] in _IDX_TYPES


def read_idx(path: str | os.PathLike) -> np.ndarray:
    """Return the array of an IDX file, gzipped or not."""
    path = Path(path)
    with path.open("rb") as file:
        zipped = file.read(2) == _GZIP
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if zipped else file
        try:
            start = stream.read(4)
            if not is_idx(start):
                raise ValueError(
                    f"{path} does not begin like an IDX file; wanted IDX, NPZ, NPY or CSV"
                )
            n_dimensions, dtype = start[3], np.dtype(_IDX_TYPES[start[2]])
            sizes = stream.read(4 * n_dimensions)
            if len(sizes) < 4 * n_dimensions:
                raise ValueError(
                    f"{path} ends within its header; wanted {4 + 4 * n_dimensions} bytes"
                )
            shape = struct.unpack(f">{n_dimensions}I", sizes)
            wanted = dtype.itemsize * int(np.prod(shape, dtype=object))
            if wanted > MOST_BYTES:
                raise ValueError(
                    f"{path} announces shape {shape}; wanted at most {MOST_BYTES >> 30} GiB"
                )
            # one byte more tells a file that is too long, whatever an archive would go on to hold
            content = _read(stream, wanted + 1)
        except DAMAGED as error:
            raise ValueError(f"{path} is a broken gzip file: {error}") from None
    if len(content) != wanted:
        found = f"more than {wanted}" if len(content) > wanted else f"{len(content)}"
        raise ValueError(f"{path} holds {found} bytes of data; wanted {wanted} for shape {shape}")
    return np.frombuffer(content, dtype).reshape(shape).astype(dtype.newbyteorder("="))


def _read(stream: object, count: int) -> bytes:
    """Up to count bytes, in pieces: what is announced is not allocated before it is there."""
    pieces, left = [], count
    while left:
        piece = stream.read(min(left, 1 << 20))  # type: ignore[attr-defined]
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def content_chunks(path: str | os.PathLike) -> Iterator[bytes]:
    """Yield the file's content, uncompressed if it is gzipped."""
    count = 0
    with open(path, "rb") as file:
        zipped = file.read(2) == _GZIP
        file.seek(0)
        stream = gzip.GzipFile(fileobj=file) if zipped else file
        try:
            while piece := stream.read(1 << 20):
                count += len(piece)
                if count > MOST_BYTES:
                    raise ValueError(f"{path} holds more than {MOST_BYTES >> 30} GiB; wanted less")
                yield piece
        except DAMAGED as error:
            raise ValueError(f"{path} is a broken gzip file: {error}") from None


def check_md5(path: Path, wanted: str) -> None:
    """Raise ValueError unless the uncompressed content has this md5."""
    digest = hashlib.md5()
    for piece in content_chunks(path):
        digest.update(piece)
    if digest.hexdigest() != wanted:
        raise ValueError(f"{path} has md5 {digest.hexdigest()}; wanted {wanted}")


def idx_path(folder: Path, file: str) -> Path | None:
    """Return where an IDX file lies, gzipped or not, with "-" or "." before "idx", in a folder of
    its own name or not."""
    for name in (file, file.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            path = folder / (name + suffix)
            for found in (path, path / path.name, path / name):
                if found.is_file():
                    return found
    return None


def four_files(folder: Path) -> tuple[Path, Path, Path, Path]:
    """Return training images and labels, test images and labels of a folder as people unpack them.

    Looked at: the folder, folders in it named as their file, "raw" in it, and as torchvision
    nests them, SET/raw; names as MNIST's, with dots, or behind a prefix, as EMNIST's.

    Raises
    ------
    ValueError : a file that is missing, or several sets
    """
    nests = [folder, folder / "raw", *sorted(p for p in folder.glob("*/raw") if p.is_dir())]
    found = [sets for sets in map(_sets, nests) if sets]
    names = [
        (nest, name) for nest, sets in zip(nests, map(_sets, nests), strict=True) for name in sets
    ]
    if len(names) > 1:
        shown = ", ".join(str(nest / name) if name else str(nest) for nest, name in names[:6])
        raise ValueError(
            f"{folder} holds {len(names)} sets of IDX files ({shown}); wanted one: give its folder"
            " or leave one set in it"
        )
    parts = next(iter(found[0].values())) if found else {}
    wanted = [(part, what) for part in ("train", "test") for what in ("images", "labels")]
    for i, key in enumerate(wanted):
        if key not in parts:
            raise ValueError(f"{folder} has no {IDX_FILES[i]} (nor {IDX_FILES[i]}.gz)")
    first, second, third, fourth = (parts[key] for key in wanted)
    return first, second, third, fourth


def _sets(folder: Path) -> dict[str, dict[tuple[str, str], Path]]:
    """Sets by their prefix; within a set the files by (part, content)."""
    if not folder.is_dir():
        return {}
    found: dict[str, dict[tuple[str, str], Path]] = {}
    # a plain file goes before its archive
    for path in sorted(itertools.islice(folder.iterdir(), 10_000), key=lambda p: (p.suffix, p)):
        match = _NAMED.fullmatch(path.name)
        if not match:
            continue
        part = "train" if match["part"].lower() == "train" else "test"
        inner = [path] if path.is_file() else [p for p in path.glob("*") if p.is_file()]
        inner = [p for p in inner if p == path or _NAMED.fullmatch(p.name)]
        if inner:
            own = found.setdefault(match["set"].lower(), {})
            own.setdefault((part, match["what"].lower()), inner[0])
    return found
