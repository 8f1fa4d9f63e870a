"""Where the lift x_0 = E s + e comes from: zero padding, a Gaussian matrix, principal axes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .validation import integer, one_of

LIFTS = ("zeros", "gaussian", "principal")
#: axes, means and deviations are those of so many samples at most
MOST_SAMPLES = 10_000
#: a column whose values differ by less, relative to their size, has no spread
_NO_SPREAD = 1e-12
_COLUMNS = 64


@dataclass(frozen=True, slots=True, eq=False)
class Standardisation:
    """s -> (s - mean) / deviation, column by column; (n_in,) each.

    flat : columns without spread, which are only centred, (n_in,) bool
    """

    mean: np.ndarray
    deviation: np.ndarray
    flat: np.ndarray

    @classmethod
    def of(
        cls, inputs: np.ndarray, scale: float | None = None, shift: float | None = None
    ) -> Standardisation:
        """Mean and standard deviation of the columns of inputs (n_d, n_in), or of scaled bytes."""
        n_in = inputs.shape[1]
        mean, deviation, flat = np.empty(n_in), np.empty(n_in), np.empty(n_in, bool)
        for j in range(0, n_in, _COLUMNS):  # images as float64 could fill the memory
            block = slice(j, j + _COLUMNS)
            values = inputs[:, block].astype(np.float64)
            if scale is not None:
                values = scale * values + (shift or 0.0)
            largest = np.abs(values).max(axis=0)
            size = np.where(largest > 0, largest, 1.0)  # squares of 1e200 would overflow
            mean[block] = (values / size).mean(axis=0) * size
            deviation[block] = ((values - mean[block]) / size).std(axis=0) * size
            flat[block] = deviation[block] <= _NO_SPREAD * largest
        return cls(mean, np.where(flat, 1.0, deviation), flat)

    def __call__(self, inputs: np.ndarray) -> np.ndarray:
        return (inputs - self.mean) / self.deviation

    def folded(self, weight: np.ndarray, bias: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return E, e that do to the samples what weight and bias do to standardised ones."""
        E = weight / self.deviation
        return E, bias - E @ self.mean


def lift(kind: str, width: int, inputs: np.ndarray, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return E (width, n_in) and e (width,).

    zeros : the identity, padded with zeros, for width >= n_in
    gaussian : entries of variance 1/n_in, so that |E s| / sqrt(width) is the rms of the inputs
    principal : the leading principal axes of the inputs, centred and of unit variance on average

    inputs : (n, n_in) as numbers; only "principal" looks at them

    Raises
    ------
    ValueError : an unknown kind; zeros with a width below n_in
    """
    n_in = inputs.shape[1]
    integer("width", width, 1)
    one_of("lift", kind, LIFTS)
    if kind == "zeros":
        if width < n_in:
            raise ValueError(
                f"width is {width} but inputs have {n_in} coordinates; the lift of zeros wants"
                f' width >= {n_in}: give lift = "principal" or "gaussian"'
            )
        return np.eye(width, n_in), np.zeros(width)
    if kind == "gaussian":
        rng = np.random.default_rng([seed, 1])  # not the stream of the layers' start
        return rng.standard_normal((width, n_in)) / np.sqrt(n_in), np.zeros(width)
    few = inputs[:MOST_SAMPLES]
    mean = few.mean(axis=0)
    variances, axes = np.linalg.eigh(np.atleast_2d(np.cov(few.T, bias=len(few) == 1)))
    kept = min(width, n_in)
    axes = axes[:, ::-1][:, :kept].T
    # an axis has two directions: the one whose largest entry is positive
    largest = np.abs(axes).argmax(axis=1)
    axes = axes * np.where(axes[np.arange(kept), largest] < 0, -1.0, 1.0)[:, None]
    E = np.zeros((width, n_in))
    spread = max(float(variances[-kept:].mean()), np.finfo(float).tiny)
    E[:kept] = axes / np.sqrt(spread)
    return E, -E @ mean
