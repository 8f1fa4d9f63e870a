"""What is allowed in a problem but limits what can be concluded, or what can be learnt."""

from __future__ import annotations

import numpy as np

from .problem import Problem

#: above these the inputs' size decides what is learnt; our choice
SPREAD, LARGEST = 1e3, 100.0
_SHOWN, _ROWS = 10, 4096


def cautions(problem: Problem) -> tuple[str, ...]:
    """Return the sentences, the root cause of a bad outcome first."""
    lifted = _lifted(problem)
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
    return next(iter(_ranges(_lifted(problem))), "")


def outcome(problem: Problem, right: np.ndarray, *, settled: bool) -> str:
    """Return in one line what is wrong with an outcome and the next step, root cause first; or "".

    right : how many samples of each class the network has right, (n_c,)
    settled : whether the data cost is at rest before the last layer
    """
    n, found = problem.n_samples, int(right.sum())
    if found == n:
        return ""
    largest = int(np.bincount(problem.labels).max())
    wide = ranges(problem)
    if found <= largest:
        text = f"right are {found} of {n} samples, no more than the largest class has ({largest})"
        if wide:
            return f"{text}: {wide}"
        return f"{text}: lower r, give more layers or width, or start anew from another seed"
    text = f"{n - found} of {n} samples are wrong (right {by_class(problem, right)})"
    if wide:
        return f"{text}: {wide}"
    if problem.beta and not settled:
        return f"{text} and the data cost still moves in the last layer: grow the depth"
    return f"{text} though the data cost has settled: lower r, or start anew from another seed"


def by_class(problem: Problem, right: np.ndarray) -> str:
    """Say how many samples of each class are right, (n_c,); of many classes the worst ones."""
    totals = np.bincount(problem.labels, minlength=problem.n_classes)
    order = np.arange(problem.n_classes)
    if problem.n_classes > _SHOWN:
        order = np.argsort(right - totals, kind="stable")[:_SHOWN]
    parts = [f"{problem.classes[c]}: {int(right[c])} of {totals[c]}" for c in order]
    return f"by class {', '.join(parts)}" + ", ..." * (problem.n_classes > _SHOWN)


def _lifted(problem: Problem) -> np.ndarray:
    """x_0 of all samples, (n_d, n); images as float64 all at once could fill the memory."""
    x = np.empty((problem.n_samples, problem.width))
    for i in range(0, len(x), _ROWS):
        rows = slice(i, i + _ROWS)
        x[rows] = problem.input_rows(rows) @ problem.lift_weight.T + problem.lift_bias
    return x


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
