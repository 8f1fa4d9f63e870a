"""Good files of every kind that is read, and the ways in which they are damaged."""

import io
import json
import random
import re
import struct
import zipfile
from pathlib import Path

import numpy as np

import ocp
import ocp.trace

#: what breaks parsers, put anywhere
TOKENS = tuple(
    token.encode("utf-8", "surrogatepass")
    for token in (
        '"', "'", ",", ";", "\t", "\n", "\r", "\0", "\ufeff", "\x1b[31m", "\ud800", "nan", "inf",
        "-", "1e400", "1e-400", "9" * 400, "0x1p3", "1_0", "\u0663", "{}", "[" * 50, '"""', "#",
        "@data\n", "?", "true", "null", "\\", "%s", "=cmd|' /C calc'!A0", "a" * 5000, "\u202e", " ",
    )
)  # fmt: skip

# --- good files -------------------------------------------------------------------------------


def points(n: int = 24) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = np.round(rng.normal(size=(n, 2)), 3)
    return X, (X.sum(axis=1) > 0).astype(int)


def tables() -> list[bytes]:
    X, y = points()
    plain = [f"{a},{b},{c}" for (a, b), c in zip(X, y, strict=True)]
    named = ["x1,x2,label", *plain]
    found = [
        plain, named, [f"{i},{row}" for i, row in enumerate(named)],
        [row.replace(",", ";").replace(".", ",") for row in named],
        [row.replace(",", "\t") for row in named], [row.replace(",", "  ") for row in plain],
        [",".join(f'"{cell}"' for cell in row.split(",")) for row in named],
        ["# made here", *plain], ["sep=;", *(row.replace(",", ";") for row in named)],
        [row[:-1] + "ab"[int(row[-1])] for row in plain], ["0,1,2", *plain],
    ]  # fmt: skip
    texts = ["\n".join(rows) + "\n" for rows in found]
    return [*(text.encode() for text in texts), texts[1].replace("\n", "\r").encode(),
            texts[1].encode("utf-16"), b"\xef\xbb\xbf" + texts[1].encode()]  # fmt: skip


def zipped(content: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.csv", content)
    return file.getvalue()


def arrays(compressed: bool = False) -> bytes:
    X, y = points()
    file = io.BytesIO()
    (np.savez_compressed if compressed else np.savez)(file, inputs=X, labels=y, classes=["a", "b"])
    return file.getvalue()


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def idx(array: np.ndarray) -> bytes:
    sizes = struct.pack(f">{array.ndim}I", *array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.astype("u1").tobytes()


def arff() -> bytes:
    X, y = points()
    rows = [f"{a},{b},{'xy'[c]}" for (a, b), c in zip(X, y, strict=True)]
    head = ["@relation t", "@attribute a numeric", "@attribute 'b c' real", "@attribute k {x,y}"]
    return "\n".join(["% c", *head, "@data", *rows, ""]).encode()


def parquet() -> bytes:
    import pandas

    X, y = points()
    file = io.BytesIO()
    pandas.DataFrame({"a": X[:, 0], "b": X[:, 1], "label": y}).to_parquet(file)
    return file.getvalue()


def problem() -> ocp.Problem:
    X, _ = points(6)
    return ocp.Problem(inputs=X, labels=np.arange(6) % 2, n_classes=2, depth=2, width=3, h=0.5,
                       scheme="euler", block="single", activation="tanh", shifted=False, p_d=0.9,
                       r=1e-3, gamma=1.0, beta=1)  # fmt: skip


def training_file(folder: Path) -> bytes:
    path = folder / "good.safetensors"
    controls = ocp.Controls(A=np.ones((2, 3, 3)) / 4, b=np.ones((2, 3)) / 3)
    ocp.save(path, ocp.TrainingFile(problem=problem(), controls=controls))
    return path.read_bytes()


def trace_file(folder: Path) -> bytes:
    path = folder / "trace.safetensors"
    trace = ocp.trace.Trace(
        logits=np.ones((3, 6, 2)), control_norm=np.ones(2), labels=np.arange(6) % 2, n_classes=2,
        depth=2, h=0.5, p_d=0.9, r=1e-3, gamma=1.0, beta=1)  # fmt: skip
    ocp.trace.save(path, trace)
    return path.read_bytes()


DESCRIPTION = {
    "problem": {"depth": 2, "width": 3, "h": 0.5, "activation": "tanh", "trained": ["layers"]},
    "data": {"inputs": [[0.1, 0.2], [0.3, -0.4], [0.5, 0.5]], "labels": [0, 1, 0]},
    "readout": {"weight": [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], "bias": [0.0, 0.0]},
}


# --- damage -----------------------------------------------------------------------------------


def damaged(rng: random.Random, content: bytes, others: list[bytes]) -> bytes:
    """The content with one to four faults."""
    found = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        i, j = sorted(rng.randrange(len(found) + 1) for _ in range(2))
        j = min(j, i + rng.choice((1, 4, 40, 10**9)))
        fault = rng.randrange(9)
        if fault == 0 and found:
            found[min(i, len(found) - 1)] ^= 1 << rng.randrange(8)
        elif fault == 1:
            del found[i:j]
        elif fault == 2:
            found[i:i] = found[i:j] * rng.choice((1, 1, 50))
        elif fault == 3:
            found[i:j] = rng.choice(TOKENS)
        elif fault == 4:
            found[i:i] = rng.choice(TOKENS)
        elif fault == 5:
            del found[i:]
        elif fault == 6:
            found[i:j] = bytes(rng.choice((0, 255, 127)) for _ in range(j - i))
        elif fault == 7:
            found[i:j] = rng.randbytes(min(j - i, 64))
        else:
            other = rng.choice(others)
            found[i:] = other[rng.randrange(len(other) + 1) :]
        del found[200_000:]
    return bytes(found)


def damaged_text_of(rng: random.Random, text: str) -> str:
    """JSON or the like with another value, or another number, in one place."""
    places = list(re.finditer(r'-?\d+(\.\d+)?|"[^"]*"|\[|\{|true|null', text))
    place = rng.choice(places)
    values = ("null", "true", '"a"', "[]", "{}", "-1", "0", "1e308", "1e999", "9" * 400, "NaN",
              "1.5", "2147483648", '"\\ud800"', '"\\u001b[2J"', "[" * 3000,
              "18446744073709551616")  # fmt: skip
    return text[: place.start()] + rng.choice(values) + text[place.end() :]


def damaged_header(rng: random.Random, content: bytes) -> bytes:
    """A safetensors file whose header is another one, and as long as it says."""
    size = int.from_bytes(content[:8], "little")
    header = content[8 : 8 + size].decode()
    if rng.random() < 0.6:  # within the statement, which is JSON in JSON
        outer = json.loads(header)
        key = rng.choice(list(outer["__metadata__"]))
        outer["__metadata__"][key] = damaged_text_of(rng, outer["__metadata__"][key])
        header = json.dumps(outer)
    else:
        header = damaged_text_of(rng, header)
    new = header.encode("utf-8", "surrogatepass")
    return len(new).to_bytes(8, "little") + new + content[8 + size :]


def damaged_members(rng: random.Random, content: bytes) -> bytes:
    """An NPZ whose checksums are right and whose arrays are not."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(file, "w") as new:
        members = {name: old.read(name) for name in old.namelist()}
        hit = rng.choice(list(members))
        for name, member in members.items():
            member = damaged(rng, member, list(members.values())) if name == hit else member
            new.writestr(name, member)
    return file.getvalue()
