"""Where a trained lift and readout start, for inputs that do not fit the default zero padding."""

from __future__ import annotations

import numpy as np

LIFTS = ("padding", "gaussian", "principal")


def initial_lift(
    kind: str, width: int, inputs: np.ndarray, seed: int = 0
) -> tuple[np.ndarray, np.ndarray] | tuple[None, None]:
    """Return E (width, n_in) and e (width,).

    padding : None, None: the statement's default, for width >= n_in
    gaussian : entries of variance 1/n_in, so that |E s| / sqrt(width) is the rms of the inputs
    principal : the leading principal axes of the inputs, centred and of unit variance on average

    inputs : (n, n_in) as numbers, only used by "principal"
    """
    n_in = inputs.shape[1]
    if width < 1:
        raise ValueError(f"width is {width}; wanted an integer of at least 1")
    if kind == "padding":
        return None, None
    rng = np.random.default_rng([seed, 1])  # not the stream of the layers' start
    if kind == "gaussian":
        return rng.standard_normal((width, n_in)) / np.sqrt(n_in), np.zeros(width)
    if kind == "principal":
        mean = inputs.mean(axis=0)
        variances, axes = np.linalg.eigh(np.cov(inputs.T))
        kept = min(width, n_in)
        E = np.zeros((width, n_in))
        E[:kept] = axes[:, ::-1][:, :kept].T / np.sqrt(variances[-kept:].mean())
        return E, -E @ mean
    raise ValueError(f"lift is {kind!r}; wanted one of {', '.join(LIFTS)}")


def initial_readout(n_classes: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a Gaussian C (n_c, width) with rows of expected norm 1, and c = 0.

    The default eye(n_c, width) is as good when the readout is fixed; a trained one starts better
    from a matrix that reads every coordinate.
    """
    rng = np.random.default_rng([seed, 2])
    return rng.standard_normal((n_classes, width)) / np.sqrt(width), np.zeros(n_classes)
