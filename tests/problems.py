"""The zoo: small problems with known properties, shared by the tests of all rooms."""

from __future__ import annotations

import numpy as np

from ocp import datasets
from ocp.activations import NAMES, Activation
from ocp.problem import Problem

#: activations that complex steps and CasADi's derivatives follow everywhere
SMOOTH = tuple(name for name in NAMES if Activation(name).smooth)


def spirals(points_per_class: int = 12, **changes) -> Problem:
    """Thinned spirals; the defaults solve in about a second."""
    inputs, labels = datasets.spirals(points_per_class)
    return Problem(inputs=inputs, labels=labels, n_classes=2, **{"depth": 5, **changes})


def circles(n_samples: int = 12, **changes) -> Problem:
    """Two circles: u = 0 and everything in an unused coordinate are saddles."""
    inputs, labels = datasets.circles(n_samples, 2)
    return Problem(inputs=inputs, labels=labels, n_classes=2, **{"depth": 4, **changes})


def blobs(n_classes: int = 3, n_samples: int = 9, **changes) -> Problem:
    """A few points around each of n_classes centres."""
    inputs, labels = datasets.blobs(n_samples, n_classes, seed=1)
    return Problem(inputs=inputs, labels=labels, n_classes=n_classes, **{"depth": 3, **changes})


def random_problem(rng: np.random.Generator, scheme: str, activation: str) -> Problem:
    """A random problem: widths 1..6, classes 2..5, logits up to 1e3, all blocks and ends."""
    n_classes = int(rng.integers(2, 6))
    n, n_in = int(rng.integers(1, 7)), int(rng.integers(1, 4))
    n_d = int(rng.integers(n_classes, 9))
    readout = rng.standard_normal((n_classes, n)) * 10.0 ** rng.uniform(-1, 3)
    ends = rng.integers(4)
    trained = ("layers",) + (("lift",) if ends & 1 else ()) + (("readout",) if ends & 2 else ())
    sigma = Activation(activation)
    return Problem(
        inputs=rng.standard_normal((n_d, n_in)),
        labels=np.concatenate([[0, 1], rng.integers(0, n_classes, n_d - 2)]),
        n_classes=n_classes,
        depth=int(rng.integers(1, 4)),
        width=n,
        h=float(rng.uniform(0.05, 0.8)),
        scheme=scheme,
        block="double" if rng.integers(2) else "single",
        activation=activation,
        shifted=bool(rng.integers(2)) if sigma.shiftable else None,
        sharpness=float(rng.uniform(0.5, 20)) if sigma.has_sharpness else 1.0,
        p_d=1.0 if rng.integers(8) == 0 else float(rng.uniform(1 / n_classes + 0.01, 0.999)),
        r=10.0 ** rng.uniform(-4, 0),
        gamma=float(rng.uniform(0.1, 2)),
        beta=int(rng.integers(4) > 0),
        trained=trained,
        r_ends=0.01 if ends else 0.0,
        lift_weight=rng.standard_normal((n, n_in)),
        lift_bias=rng.standard_normal(n),
        readout_weight=readout,
        readout_bias=rng.standard_normal(n_classes),
    )
