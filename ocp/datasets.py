"""Small data sets for exact training: inputs (n_d, n_in) float64 and labels (n_d,)."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .validation import at_least, integer

Data = tuple[np.ndarray, np.ndarray]
SPIRAL_POINTS = 97


def spirals(points_per_class: int = SPIRAL_POINTS) -> Data:
    """The classic two-spirals benchmark, 97 points a class, scaled to the unit disc.

    For i = 0..96: angle i pi/16, radius 6.5 (104 - i)/104, class 0 at (radius sin, radius cos),
    class 1 at its negative; divided by 6.5.  Fewer points thin the spirals out, more make them
    denser.  Source: Lang and Witbrock, "Learning to tell two spirals apart", 1988.
    """
    m = integer("points_per_class", points_per_class, 1)
    i = np.linspace(0.0, SPIRAL_POINTS - 1, m)
    if m <= SPIRAL_POINTS:
        i = np.rint(i)
    angle, radius = i * np.pi / 16.0, 6.5 * (104.0 - i) / 104.0
    arm = np.stack([radius * np.sin(angle), radius * np.cos(angle)], axis=1) / 6.5
    return np.concatenate([arm, -arm]), np.repeat(np.arange(2), m)


def circles(
    n_samples: int = 100,
    n_classes: int = 2,
    noise: float = 0.0,
    imbalance: float = 0.0,
    seed: int = 0,
) -> Data:
    """Concentric circles, class c at radius (c + 1)/n_c, with Gaussian noise on the coordinates.

    imbalance : in [0, 1), class c holds a share proportional to (1 - imbalance)^c
    """
    rng = np.random.default_rng(integer("seed", seed, 0))
    labels = _labels(n_samples, n_classes, imbalance)
    angle = np.empty(n_samples)
    for c in range(n_classes):
        members = np.flatnonzero(labels == c)
        angle[members] = 2 * np.pi * np.arange(len(members)) / len(members) + c
    radius = (labels + 1.0) / n_classes
    points = radius[:, None] * np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return points + at_least("noise", noise, 0) * rng.standard_normal(points.shape), labels


def blobs(
    n_samples: int = 100,
    n_classes: int = 3,
    noise: float = 0.25,
    imbalance: float = 0.0,
    seed: int = 0,
) -> Data:
    """Gaussian blobs of standard deviation `noise` around n_c points on the unit circle."""
    rng = np.random.default_rng(integer("seed", seed, 0))
    labels = _labels(n_samples, n_classes, imbalance)
    angle = 2 * np.pi * labels / n_classes
    centres = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    return centres + at_least("noise", noise, 0) * rng.standard_normal(centres.shape), labels


def moons(n_samples: int = 100, noise: float = 0.1, imbalance: float = 0.0, seed: int = 0) -> Data:
    """Two interleaved half circles, centred, with Gaussian noise."""
    rng = np.random.default_rng(integer("seed", seed, 0))
    labels = _labels(n_samples, 2, imbalance)
    points = np.empty((n_samples, 2))
    for c, (sign, centre) in enumerate([(1.0, (-0.5, -0.25)), (-1.0, (0.5, 0.25))]):
        members = np.flatnonzero(labels == c)
        t = np.linspace(0.0, np.pi, len(members))
        points[members] = sign * np.stack([np.cos(t), np.sin(t)], axis=1) + centre
    return points + at_least("noise", noise, 0) * rng.standard_normal(points.shape), labels


def xor(n_samples: int = 100, noise: float = 0.15, imbalance: float = 0.0, seed: int = 0) -> Data:
    """Gaussian clouds at (+-1, +-1); the class is the sign of the product of the coordinates."""
    rng = np.random.default_rng(integer("seed", seed, 0))
    labels = _labels(n_samples, 2, imbalance)
    sign = np.where(np.arange(n_samples) % 2 == 0, 1.0, -1.0)
    centres = np.stack([sign, np.where(labels == 0, sign, -sign)], axis=1)
    return centres + at_least("noise", noise, 0) * rng.standard_normal(centres.shape), labels


#: name -> generator; the keyword arguments are the keys of a problem description's data section
GENERATORS: dict[str, Callable[..., Data]] = {
    "spirals": spirals,
    "circles": circles,
    "blobs": blobs,
    "moons": moons,
    "xor": xor,
}


def _labels(n_samples: int, n_classes: int, imbalance: float) -> np.ndarray:
    """Labels sorted by class, every class present, shares proportional to (1 - imbalance)^c."""
    integer("n_classes", n_classes, 2)
    integer("n_samples", n_samples, n_classes)
    if at_least("imbalance", imbalance, 0) >= 1.0:
        raise ValueError(f"imbalance is {imbalance!r}; wanted a number in [0, 1)")
    share = (1.0 - imbalance) ** np.arange(n_classes)
    edges = np.rint(np.cumsum(share / share.sum()) * (n_samples - n_classes)).astype(int)
    counts = np.diff(edges, prepend=0) + 1
    return np.repeat(np.arange(n_classes), counts)
