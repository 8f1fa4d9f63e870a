"""Files as people have them: what is said of each layout, or the sentence that refuses it."""

import bz2
import gzip
import io
import lzma
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

TWO = "24 samples, 2 inputs (columns 1, 2), label column 3, classes 0 (12), 1 (12)"
NAMED = "24 samples, 2 inputs (x1, x2), label column label, classes 0 (12), 1 (12)"
ARRAYS = "24 samples, 2 inputs, classes 0 (12), 1 (12)"


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file, how it is read and what comes of it.

    says : clauses of the line that is printed;  refused : words of the sentence, instead
    names : of the classes, where labels are mapped;  cautions : words of the warnings
    """

    file: str
    write: Callable[[Path], object]
    says: tuple[str, ...] = ()
    refused: tuple[str, ...] = ()
    names: tuple[str, ...] | None = None
    cautions: tuple[str, ...] = ()
    options: dict = field(default_factory=dict)
    labels: Callable[[], np.ndarray] | None = None


def points(n: int = 24, classes: int = 2) -> tuple[np.ndarray, np.ndarray]:
    """Points to four digits, and labels 0, 1, .., in turn."""
    rng = np.random.default_rng(7)
    labels = np.arange(n) % classes
    angle = 2 * np.pi * (labels + 0.3 * rng.random(n)) / classes
    return np.round(np.column_stack([np.cos(angle), np.sin(angle)]) * 1.1, 4), labels


def rows(x: np.ndarray, y: object, separator: str = ",") -> list[str]:
    return [
        separator.join([*(repr(float(v)) for v in row), str(label)])
        for row, label in zip(x, list(y), strict=True)
    ]


def text(*lines: str, end: str = "\n", encoding: str = "utf-8") -> Callable[[Path], object]:
    return lambda path: path.write_bytes((end.join(lines) + end).encode(encoding))


def plain(labels: object = None, header: str | None = None, separator: str = ",", **how):
    x, y = points()
    lines = rows(x, y if labels is None else labels, separator)
    return text(*([] if header is None else [header]), *lines, **how)


def npz(**arrays: np.ndarray) -> Callable[[Path], object]:
    return lambda path: np.savez(path, **arrays)


def idx(array: np.ndarray) -> bytes:
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + (
        array.astype(np.uint8).tobytes()
    )  # fmt: skip


def folder(
    names: tuple[str, ...],
    first: int = 0,
    packed: bool = False,
    nest: str = "",
    damaged: bool = False,
) -> Callable[[Path], object]:
    """Four IDX files; labels count from `first`; in folders of their own name where nested."""

    def write(path: Path) -> None:
        rng = np.random.default_rng(0)
        for i, name in enumerate(names):
            n = 12 if i < 2 else 6
            array = rng.integers(0, 256, (n, 2, 2)) if i % 2 == 0 else np.arange(n) % 3 + first
            place = path / nest.format(name) if nest else path
            place.mkdir(parents=True, exist_ok=True)
            content = gzip.compress(idx(array)) if packed else idx(array)
            if damaged:
                content = content[:12] + b"\xff" * 6 + content[18:]
            (place / (name + ".gz" * packed)).write_bytes(content)

    return write


def packed(compress: Callable[[bytes], bytes]) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(compress(("\n".join(rows(*points())) + "\n").encode()))


def zipped(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("points.csv", "\n".join(rows(*points())))


def _with(line: int, cells: str) -> Callable[[Path], object]:
    lines = rows(*points())
    lines.insert(line - 1, cells)
    return text(*lines)


def broken(change: Callable[[bytearray], None], **members: bytes) -> Callable[[Path], object]:
    """An NPZ archive with one thing wrong."""

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, array in (("inputs", X), ("labels", Y)):
                buffer = io.BytesIO()
                np.save(buffer, array)
                archive.writestr(f"{name}.npy", members.get(name, buffer.getvalue()))
        content = bytearray(path.read_bytes())
        change(content)
        path.write_bytes(content)

    return write


def _other_method(content: bytearray) -> None:
    """Say that the members are compressed by a method that nobody has, 99."""
    for magic, at in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        start = content.find(magic)
        while start >= 0:
            content[start + at : start + at + 2] = b"\x63\0"
            start = content.find(magic, start + 4)


def _damage(content: bytearray) -> None:
    start = content.find(b".npy") + 4
    content[start : start + 6] = b"\xff" * 6


def _measured() -> list[str]:
    rng = np.random.default_rng(3)
    return [f"{i % 3 + 1},{10 + 3 * rng.random():.2f},{300 + 41 * i}" for i in range(24)]


X, Y = points()
X3, Y3 = points(classes=3)
IRIS = ("Iris-setosa", "Iris-versicolor", "Iris-virginica")
SPECIES = [IRIS[c] for c in Y3]
MNIST = ("train-images-idx3-ubyte", "train-labels-idx1-ubyte",
         "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte")  # fmt: skip
IMAGES = ("12 samples, 4 inputs", "6 samples held out", "bytes scaled by 1/255")
LETTERS = tuple(name.replace("t10k", "test") for name in MNIST)
EMNIST = tuple(f"emnist-letters-{name}" for name in LETTERS)
DOTS = tuple(name.replace("-idx", ".idx") for name in MNIST)
ONE_HOT = np.eye(3)[Y3]
LATIN = "größe,höhe,klasse"

CASES = [
    Case(file="plain.csv", write=plain(), says=(TWO,)),
    Case(file="header.csv", write=plain(header="x1,x2,label"), says=(NAMED,)),
    Case(file="crlf.csv", write=plain(header="x1,x2,label", end="\r\n"), says=(NAMED,)),
    Case(file="bom_header.csv", says=(NAMED,),
         write=plain(header="x1,x2,label", encoding="utf-8-sig")),
    Case(file="bom.csv", write=plain(encoding="utf-8-sig"), says=(TWO,)),
    Case(file="UPPER.CSV", write=plain(), says=(TWO,)),
    Case(file="float_labels.csv", write=plain([f"{c}.0" for c in Y]), says=(TWO,)),
    Case(
        file="quoted.csv",
        write=text(*(",".join(f'"{cell}"' for cell in r.split(",")) for r in rows(X, Y))),
        says=(TWO,),
    ),
    Case(file="points.csv.gz", write=packed(gzip.compress),
         says=(TWO, "unpacked from gzip", "separator comma, decimal point")),
    Case(file="points.csv.bz2", write=packed(bz2.compress), says=(TWO, "unpacked from bzip2")),
    Case(file="points.csv.xz", write=packed(lzma.compress), says=(TWO, "unpacked from xz")),
    Case(file="points.zip", write=zipped, says=(TWO, "unpacked from zip")),
    Case(file="tab.tsv", write=plain(separator="\t"), says=(TWO, "separator tab, decimal point")),
    Case(file="space.txt", write=plain(separator="  "), says=(TWO, "separator space")),
    Case(file="semicolon.csv", write=plain(header="x1;x2;label", separator=";"),
         says=(NAMED, "separator semicolon, decimal point")),
    Case(
        file="decimal_comma.csv",
        write=text("x1;x2;label", *(r.replace(".", ",") for r in rows(X, Y, ";"))),
        says=(NAMED, "separator semicolon, decimal comma"),
    ),
    Case(file="utf16.csv", write=plain(encoding="utf-16"), says=(TWO, "encoding utf-16")),
    Case(file="latin1.csv", write=plain(header=LATIN, encoding="latin-1"),
         refused=("utf-8", "--encoding")),
    Case(file="latin1_told.csv", write=plain(header=LATIN, encoding="latin-1"),
         options={"encoding": "latin-1"}, says=("2 inputs (größe, höhe), label column klasse",)),
    Case(file="numeric_header.csv", write=plain(header="0,1,2"),
         says=("24 samples, 2 inputs (columns 0, 1), label column 2", "line 1 taken for column")),
    Case(
        file="pandas_index.csv",
        write=text(",0,1,2", *(f"{i},{r}" for i, r in enumerate(rows(X, Y)))),
        says=("24 samples, 2 inputs (columns 0, 1), label column 2", "left out: column 1"),
    ),
    Case(
        file="unnamed_index.csv",
        write=text("Unnamed: 0,x1,x2,label", *(f"{i},{r}" for i, r in enumerate(rows(X, Y)))),
        says=(NAMED, "left out: column 1, the index"),
    ),
    Case(
        file="id.csv",
        write=text("Id,x1,x2,Species", *(f"{i + 1},{r}" for i, r in enumerate(rows(X3, Y3)))),
        refused=("column 'Id' numbers the rows", "--drop Id", "--keep Id"),
    ),
    Case(
        file="id_dropped.csv",
        write=text("Id,x1,x2,Species", *(f"{i + 1},{r}" for i, r in enumerate(rows(X3, Y3)))),
        options={"drop": ["Id"]},
        says=("2 inputs (x1, x2), label column Species", "left out: column 'Id'"),
    ),
    Case(
        file="id_kept.csv",
        write=text("Id,x1,x2,Species", *(f"{i + 1},{r}" for i, r in enumerate(rows(X3, Y3)))),
        options={"keep": ["Id"]},
        says=("3 inputs (Id, x1, x2), label column Species",),
    ),
    Case(
        file="label_first.csv",
        write=text("label,x1,x2", *(f"{c},{a},{b}" for (a, b), c in zip(X, Y, strict=True))),
        says=(NAMED,),
        labels=lambda: Y,
    ),
    Case(file="label_first_ints.csv", write=text(*_measured()),
         refused=("column 3 has 24 different values in 24 rows", "--label")),
    Case(file="label_first_told.csv", write=text(*_measured()), options={"label": "1"},
         says=("2 inputs (columns 2, 3), label column 1",), names=("1", "2", "3")),
    Case(file="one_based.csv", write=text(*rows(X3, Y3 + 1)), names=("1", "2", "3"),
         says=("classes 1 (8), 2 (8), 3 (8)", "labels mapped: 1 -> 0, 2 -> 1, 3 -> 2")),
    Case(file="plus_minus.csv", write=plain(2 * Y - 1), names=("-1", "1"), labels=lambda: Y,
         says=("classes -1 (12), 1 (12)", "labels mapped: -1 -> 0, 1 -> 1")),
    Case(file="bool.csv", write=plain([bool(c) for c in Y]), names=("False", "True"),
         says=("labels mapped: False -> 0, True -> 1",), labels=lambda: Y),
    Case(file="iris.data", write=text(*rows(X3, SPECIES)), names=IRIS, labels=lambda: Y3,
         says=("classes Iris-setosa (8), Iris-versicolor (8), Iris-virginica (8)",)),
    Case(file="sonar.csv", write=plain(["RM"[c] for c in Y]), names=("M", "R"),
         labels=lambda: 1 - Y, says=("labels mapped: M -> 0, R -> 1",)),
    Case(file="year.csv", write=plain(2019 + Y), names=("2019", "2020"), labels=lambda: Y,
         says=("classes 2019 (12), 2020 (12)",)),
    Case(
        file="onehot.csv",
        write=text("x1,x2,c0,c1,c2", *(f"{a},{b},{r[0]:g},{r[1]:g},{r[2]:g}"
                                       for (a, b), r in zip(X3, ONE_HOT, strict=True))),
        says=("label column c2",),
        cautions=("columns c0 to c2 sum to 1 in every row",),
    ),
    Case(file="timestamp.csv", write=plain(1_700_000_000 + np.arange(24)),
         refused=("column 3 has 24 different values in 24 rows: an identifier", "--label")),
    Case(file="regression.csv", write=plain(np.round(X.sum(axis=1), 3)),
         refused=("a regression target", "--label")),
    Case(file="missing_first.csv", write=_with(1, "0.5,?,0"),
         refused=("line 1, column 2", "--drop-missing")),
    Case(file="missing_later.csv", write=_with(4, "0.5,,0"),
         refused=("line 4, column 2", "--drop-missing")),
    Case(file="missing_dropped.csv", write=_with(4, "0.5,,0"), options={"drop_missing": True},
         says=(TWO, "1 row with holes left out")),
    Case(file="nan_label.csv", write=_with(4, "0.5,.1,nan"),
         refused=("line 4, column 3", "--drop-missing")),
    Case(file="text_cell.csv", write=_with(7, "0.5,abc,0"),
         refused=("line 7, column 2: found 'abc'; wanted a number", "--drop 2")),
    Case(file="ragged.csv", write=_with(5, "0.5,1.0,2.0,0"),
         refused=("line 5 has 4 cells; wanted 3",)),
    Case(file="short.csv", write=_with(5, "0.5,0"), refused=("line 5 has 2 cells; wanted 3",)),
    Case(file="trailing.csv", write=text(*(f"{r}," for r in rows(X, Y))),
         says=(TWO, "left out: column 4, which is empty")),
    Case(file="one_class.csv", write=plain(["a"] * 24), refused=("all labels are a",)),
    Case(
        file="data.arff",
        write=text("@relation s", "@attribute x1 numeric", "@attribute x2 numeric",
                   "@attribute label {0,1}", "@data", *rows(X, Y)),
        says=(NAMED,),
    ),
    Case(file="Xy.npz", write=npz(X=X, y=Y), says=("24 samples, 2 inputs, label column y",)),
    Case(file="keras.npz", write=npz(x_train=X, y_train=Y, x_test=X[:4], y_test=Y[:4]),
         says=("24 samples, 2 inputs, label column y_train", "4 samples held out")),
    Case(file="ok.npz", write=npz(inputs=X, labels=Y), says=(ARRAYS,)),
    Case(file="column.npz", write=npz(inputs=X, labels=Y[:, None]), says=(ARRAYS,)),
    Case(file="onehot.npz", write=npz(inputs=X3, labels=ONE_HOT), labels=lambda: Y3,
         says=("classes 0 (8), 1 (8), 2 (8)",)),
    Case(file="one_based.npz", write=npz(inputs=X3, labels=Y3 + 1), names=("1", "2", "3"),
         says=("labels mapped: 1 -> 0",), labels=lambda: Y3),
    Case(file="bool.npz", write=npz(inputs=X, labels=Y == 1), names=("False", "True"),
         says=("labels mapped: False -> 0",), labels=lambda: Y),
    Case(file="str.npz", write=npz(inputs=X, labels=np.array(["b", "a"])[Y]), names=("a", "b"),
         says=("labels mapped: a -> 0, b -> 1",), labels=lambda: 1 - Y),
    Case(file="images.npz", says=("24 samples, 4 inputs", "bytes scaled by 1/255"),
         write=npz(inputs=(np.arange(96) * 2).reshape(24, 2, 2).astype(np.uint8), labels=Y)),
    Case(file="object.npz", write=npz(inputs=X, labels=np.array([*"ab" * 12], dtype=object)),
         refused=("pickled objects are never read",)),
    Case(file="X.npy", write=lambda path: np.save(path, X),
         refused=("single array of shape (24, 2), without labels", "numpy.savez")),
    Case(file="test_bytes.npz", refused=("test inputs are uint8 beside inputs of float64",),
         write=npz(inputs=X, labels=Y, test_inputs=np.zeros((2, 2), np.uint8), test_labels=Y[:2])),
    Case(file="deflate.npz", write=broken(_damage), refused=("is no plain NumPy file",)),
    Case(file="m99.npz", write=broken(_other_method), refused=("is no plain NumPy file",)),
    Case(file="no_array.npz", write=broken(lambda c: None, inputs=b"text"),
         refused=("inputs is no plain NumPy file",)),
    Case(file="header_cut.npz", refused=("inputs is no plain NumPy file",),
         write=broken(lambda c: None, inputs=b"\x93NUMPY\x01\0\x76\0{'descr': '<f8', 'fort")),
    Case(file="labels0d.npz", write=npz(inputs=X, labels=np.array(1)), refused=("shape ()",)),
    Case(file="damaged", write=folder(MNIST, packed=True, damaged=True),
         refused=("train-images-idx3-ubyte.gz is a broken gzip file",)),
    Case(file="mnist", write=folder(MNIST), says=IMAGES),
    Case(file="gz", write=folder(MNIST, packed=True), says=IMAGES),
    Case(file="dots", write=folder(DOTS), says=IMAGES),
    Case(file="beside", write=folder(MNIST, nest="{}"), says=IMAGES),
    Case(file="root", write=folder(MNIST, nest="MNIST/raw"), says=IMAGES),
    Case(file="letters", write=folder(EMNIST, first=1), names=("1", "2", "3"),
         says=(*IMAGES, "labels mapped: 1 -> 0")),
]  # fmt: skip
