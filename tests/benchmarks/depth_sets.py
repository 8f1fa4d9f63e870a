"""The eight sets of the benchmark of growing depth: training, validation and test samples.

What is tuned sees training and validation samples only.  Inputs are standardised by the training
samples; images are bytes divided by 255.
"""

from dataclasses import dataclass

import numpy as np

from nn_baseline import data
from nn_baseline.initialisation import problem_of
from ocp import datasets
from ocp.lift import Standardisation
from ocp.problem import Problem
from ocp.samples import Dataset

Samples = tuple[np.ndarray, np.ndarray]
#: width of the state; steps of a phase; fraction for validation.  Our choices, made on seeds from
#: 1000 on, which no row uses
WIDTH = {"digits": 32, "mnist": 64, "fashion": 64, "spirals": 8, "checkerboard": 8}
NAMES = ("spirals", "checkerboard", "moons", "wine", "cancer", "digits", "mnist", "fashion")
#: without a test set of their own: repeated splits
TABULAR = ("cancer", "wine")
IMAGES = ("mnist", "fashion")
N_TEST = 4000


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Set:
    """One set under one seed, which draws samples where they are made and splits otherwise."""

    problem: Problem
    validation: Samples
    test: Samples


def checkerboard(n: int, rng: np.random.Generator) -> Samples:
    """Four by four squares of [-1, 1]^2; two of a hundred labels are wrong."""
    x = rng.uniform(-1.0, 1.0, (n, 2))
    cell = np.floor((x + 1.0) * 2.0).astype(int)
    return x, np.where(rng.random(n) < 0.02, 1 - cell.sum(axis=1) % 2, cell.sum(axis=1) % 2)


def noisy_spirals(n: int, rng: np.random.Generator) -> Samples:
    """Two spirals of n/2 points each, with noise of standard deviation 0.03."""
    x, y = datasets.spirals(n // 2)
    return x + 0.03 * rng.standard_normal(x.shape), y


def moons(n: int, rng: np.random.Generator) -> Samples:
    return datasets.moons(n, noise=0.2, seed=int(rng.integers(2**31)))


_MADE = {"moons": moons, "spirals": noisy_spirals, "checkerboard": checkerboard}


def load(name: str, seed: int, folder: str | None, quick: bool = False) -> Set:
    """Return a set; `folder` holds one with the IDX files of mnist and fashion each."""
    rng = np.random.default_rng([20260, seed])
    scale = None
    if name in _MADE:
        inputs, labels = _MADE[name](200 if quick else 1000, rng)
        test = _MADE[name](N_TEST, rng)
    elif name in TABULAR:
        inputs, labels = _table(name)
        inputs, labels, test = _split(inputs, labels, 0.2, rng)
    else:
        dataset = data.load(name, f"{folder}/{name}" if name in IMAGES else None)
        inputs, labels, scale, test = dataset.inputs, dataset.labels, dataset.scale, dataset.test
        if quick:
            inputs, labels = inputs[:300], labels[:300]
    share = min(0.2, 10_000 / len(labels))
    inputs, labels, validation = _split(inputs, labels, share, rng)
    if scale is None:
        standard = Standardisation.of(inputs)
        inputs = standard(inputs)
        validation, test = ((standard(x), y) for x, y in (validation, test))
    made = Dataset(
        name=name,
        inputs=inputs,
        labels=labels,
        n_classes=int(labels.max()) + 1,
        scale=scale,
        shift=None if scale is None else 0.0,
    )
    problem = problem_of(
        made,
        depth=1,
        width=WIDTH.get(name, min(64, max(16, inputs.shape[1]))),
        trained=("layers", "lift", "readout"),
        seed=seed,
        r=1e-4,
    )
    return Set(problem=problem, validation=validation, test=test)


def _table(name: str) -> Samples:
    from sklearn.datasets import load_breast_cancer, load_wine

    x, y = (load_breast_cancer if name == "cancer" else load_wine)(return_X_y=True)
    return x, y.astype(np.int64)


def _split(
    inputs: np.ndarray, labels: np.ndarray, share: float, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, Samples]:
    """A share of each class apart."""
    apart = np.zeros(len(labels), bool)
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        apart[members[: round(share * len(members))]] = True
    mixed = rng.permutation(np.flatnonzero(~apart))
    return inputs[mixed], labels[mixed], (inputs[apart], labels[apart])
