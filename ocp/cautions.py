"""What is allowed in a problem but limits what can be concluded, or what can be learnt."""

from __future__ import annotations

import numpy as np

from .problem import Problem

#: above these the inputs' size decides what is learnt; our choice
SPREAD, LARGEST = 1e3, 100.0


def cautions(problem: Problem) -> tuple[str, ...]:
    """Return the sentences, the root cause of a bad outcome first."""
    lifted = problem.input_values @ problem.lift_weight.T + problem.lift_bias
    found = [*_ranges(lifted), *_duplicates(problem, lifted)]
    n_c = problem.n_classes
    centred = problem.readout_weight - problem.readout_weight.mean(axis=0)
    rank = np.linalg.matrix_rank(centred)
    if rank < n_c - 1:
        found.append(
            f"the centred readout has rank {rank}, below n_classes - 1 = {n_c - 1}:"
            " no state attains the minimum of the loss for every class"
        )
    if problem.p_d == 1.0:
        found.append(
            "p_d = 1 is hard cross-entropy: its infimum is not attained, so minimiser sets,"
            " distances and dissipativity are not applicable"
        )
    if problem.block == "single" and not problem.sigma.zero_at_zero:
        found.append(
            f"activation {problem.activation!r} unshifted is not 0 at 0: u = 0 is no equilibrium,"
            " so dissipativity, turnpike and appending layers are not applicable"
        )
    return tuple(found)


def ranges(problem: Problem) -> str:
    """Return the sentence on inputs of very different or very large size; "" where they are not."""
    lifted = problem.input_values @ problem.lift_weight.T + problem.lift_bias
    return next(iter(_ranges(lifted)), "")


def _ranges(lifted: np.ndarray) -> list[str]:
    with np.errstate(over="ignore", invalid="ignore"):
        deviation = lifted.std(axis=0)
        largest = float(np.abs(lifted).max())
    # what is zero but for rounding has no spread
    spread = deviation[deviation > 1e-13 * largest]
    found = []
    if largest > LARGEST:
        found.append(f"the coordinates of x_0 reach {largest:.3g}")
    if len(spread) and spread.max() > SPREAD * spread.min():
        found.append(
            f"{'their' if found else 'the coordinates of x_0 have'} standard deviations"
            f" {'are ' if found else ''}from {spread.min():.2g} to {spread.max():.2g}"
        )
    if not found:
        return []
    return [
        f"{' and '.join(found)}: the layers see little of the small ones and saturate on the large"
        " ones; standardise the inputs (--standardise; standardise = true in [data])"
    ]


def _duplicates(problem: Problem, lifted: np.ndarray) -> list[str]:
    """Name equal lifted inputs with different labels: no shared control separates them."""
    _, group = np.unique(lifted, axis=0, return_inverse=True)
    order = np.argsort(group.ravel(), kind="stable")
    edges = np.flatnonzero(np.diff(group.ravel()[order])) + 1
    pairs = []
    for members in np.split(order, edges):
        different = members[problem.labels[members] != problem.labels[members[0]]]
        if len(different):
            pairs.append((int(members[0]), int(different[0])))
    if not pairs:
        return []
    shown = ", ".join(f"{i} and {j}" for i, j in sorted(pairs)[:5])
    more = f" and {len(pairs) - 5} more" if len(pairs) > 5 else ""
    return [
        f"samples {shown}{more} have equal lifted inputs and different labels:"
        " no control can separate them"
    ]
