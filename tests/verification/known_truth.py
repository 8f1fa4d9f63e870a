"""The zoo of known truth: files whose every claim is known by their making.

`zoo(count)` lists (kind, configuration) pairs; `make` writes one and returns its facts.  All seeds
are fixed, so the k-th file is always the same.
"""

from __future__ import annotations

import math

import known_edits  # noqa: F401  (registers its kinds)
import known_minima
import known_points  # noqa: F401
from known_files import KINDS, claimed, make

__all__ = ["KINDS", "claimed", "few", "make", "zoo"]


def zoo(count: int) -> list[tuple[str, int]]:
    """Every kind in turn, each on the next configuration of a shuffled list."""
    order, names = known_minima.shuffled(), list(KINDS)
    # a step after each common multiple of the two lengths: else those with a common factor would
    # never meet in all pairs
    turn = math.lcm(len(names), len(order))
    return [(names[i % len(names)], order[(i + i // turn) % len(order)]) for i in range(count)]


#: configurations whose minima, and those whose tuned embeddings, take a fraction of a second
QUICK = (50, 140, 3, 19, 145, 8, 155, 97, 0, 175, 35, 26, 65)
TUNED = (0, 50, 140, 145, 155)


def few(count: int) -> list[tuple[str, int]]:
    """Every kind in turn on configurations that are quickly solved."""
    names = [name for name in KINDS if name != "tuned_embedding_again"]
    return [
        (name, TUNED[i % len(TUNED)] if name in ("tuned_embedding", "nearly_singular") else index)
        for i, (name, index) in enumerate(
            (names[i % len(names)], QUICK[i % len(QUICK)]) for i in range(count)
        )
    ]
