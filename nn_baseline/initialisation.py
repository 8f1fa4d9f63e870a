"""Where a trained lift and readout start, for inputs that do not fit the default zero padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from ocp.lift import LIFTS, MOST_SAMPLES
from ocp.lift import lift as initial_lift
from ocp.problem import TRAINABLE, Problem
from ocp.samples import Dataset
from ocp.validation import integer, one_of


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

    lift : "zeros", "gaussian" or "principal"; auto: zeros where the width takes numbers as they
        are, else gaussian
    trained : parts; None: the layers, and both ends unless the inputs are padded with zeros
    seed : of the ends
    statement : other keys of `ocp.problem.Problem`: depth, h, p_d, r, ...

    Raises
    ------
    ValueError : unknown lift, or what the statement refuses
    """
    integer("width", width, 1)
    n_in = dataset.inputs.shape[1]
    fits = width >= n_in and dataset.scale is None
    kind = one_of("lift", ("zeros" if fits else "gaussian") if lift == "auto" else lift, LIFTS)
    if trained is None:
        trained = ("layers",) if kind == "zeros" else TRAINABLE
    C, c = initial_readout(dataset.n_classes, width, seed) if "readout" in trained else (None, None)
    return dataset.problem(
        **statement,
        width=width,
        lift=None if kind == "zeros" else kind,
        seed=seed,
        trained=trained,
        readout_weight=C,
        readout_bias=c,
    )


def at_depth(problem: Problem, depth: int, lift: str = "gaussian") -> Problem:
    """Return the same problem at another depth, with trained ends back at a start of their own."""
    changes: dict[str, Any] = {"depth": depth}
    if "lift" in problem.trained:
        values = problem.input_rows(slice(MOST_SAMPLES))
        E, e = initial_lift(lift, problem.width, values)
        changes |= {"lift_weight": E, "lift_bias": e}
    if "readout" in problem.trained:
        C, c = initial_readout(problem.n_classes, problem.width)
        changes |= {"readout_weight": C, "readout_bias": c}
    return problem.with_(**changes)


def initial_readout(n_classes: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Return a Gaussian C (n_c, width) with rows of expected norm 1, and c = 0.

    The default eye(n_c, width) is as good when the readout is fixed; a trained one starts better
    from a matrix that reads every coordinate.
    """
    rng = np.random.default_rng([seed, 2])
    return rng.standard_normal((n_classes, width)) / np.sqrt(width), np.zeros(n_classes)
