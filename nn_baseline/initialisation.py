"""Where a trained lift and readout start, for inputs that do not fit the default zero padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from ocp.problem import TRAINABLE, Problem
from ocp.validation import integer, one_of

from .data import Dataset

LIFTS = ("padding", "gaussian", "principal")
#: principal axes are those of so many samples
_MOST_SAMPLES = 10_000


def problem_of(
    dataset: Dataset,
    *,
    width: int,
    lift: str = "auto",
    trained: tuple[str, ...] | None = None,
    seed: int = 0,
    **statement: Any,
) -> Problem:
    """Return the problem of a data set, with ends that fit it.

    lift : "padding", "gaussian" or "principal"; auto: padding where the width takes numbers as they
        are, else gaussian
    trained : parts; None: the layers, and both ends unless the inputs are padded
    seed : of the ends
    statement : other keys of `ocp.problem.Problem`: depth, h, p_d, r, ...

    Raises
    ------
    ValueError : unknown lift, or what the statement refuses
    """
    if lift == "auto":
        fits = width >= dataset.inputs.shape[1] and dataset.scale is None
        lift = "padding" if fits else "gaussian"
    if trained is None:
        trained = ("layers",) if lift == "padding" else TRAINABLE
    # all samples as float64 could fill the memory
    values = dataset.inputs[:_MOST_SAMPLES]
    if dataset.scale is not None:
        values = values * dataset.scale + (dataset.shift or 0.0)
    E, e = initial_lift(lift, width, values, seed)
    C, c = initial_readout(dataset.n_classes, width, seed) if "readout" in trained else (None, None)
    return Problem(
        **dataset.statement(),
        **statement,
        width=width,
        trained=trained,
        lift_weight=E,
        lift_bias=e,
        readout_weight=C,
        readout_bias=c,
    )


def at_depth(problem: Problem, depth: int, lift: str = "gaussian") -> Problem:
    """Return the same problem at another depth, with trained ends back at a start of their own."""
    changes: dict[str, Any] = {"depth": depth}
    if "lift" in problem.trained:
        E, e = initial_lift(lift, problem.width, problem.input_rows(slice(_MOST_SAMPLES)))
        changes |= {"lift_weight": E, "lift_bias": e}
    if "readout" in problem.trained:
        C, c = initial_readout(problem.n_classes, problem.width)
        changes |= {"readout_weight": C, "readout_bias": c}
    return problem.with_(**changes)


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
    integer("width", width, 1)
    one_of("lift", kind, LIFTS)
    if kind == "padding":
        return None, None
    rng = np.random.default_rng([seed, 1])  # not the stream of the layers' start
    if kind == "gaussian":
        return rng.standard_normal((width, n_in)) / np.sqrt(n_in), np.zeros(width)
    mean = inputs.mean(axis=0)
    variances, axes = np.linalg.eigh(np.cov(inputs.T))
    kept = min(width, n_in)
    E = np.zeros((width, n_in))
    E[:kept] = axes[:, ::-1][:, :kept].T / np.sqrt(variances[-kept:].mean())
    return E, -E @ mean


def initial_readout(n_classes: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a Gaussian C (n_c, width) with rows of expected norm 1, and c = 0.

    The default eye(n_c, width) is as good when the readout is fixed; a trained one starts better
    from a matrix that reads every coordinate.
    """
    rng = np.random.default_rng([seed, 2])
    return rng.standard_normal((n_classes, width)) / np.sqrt(width), np.zeros(n_classes)
