"""Other problems in the neighbourhood of one: what is solved there is a start for the original.

A random change of the controls is undone by the next descent, or ends high: of 36 children of
minima of the spirals at depth 8, 2 to 8 got lower.  A few steps downhill on *another* objective
move the controls where the data and the dynamics let them: with other weights 12 to 21 of 36 got
lower, with half of the samples 16.
"""

from __future__ import annotations

import numpy as np

from ..problem import Problem

#: of these a random one is changed
KINDS = ("samples", "samples", "r", "r", "gamma", "p_d")
#: share of the samples that stays, at least and at most
SHARES = (0.3, 0.7)
#: factors of r and gamma, at least and at most, logarithmically uniform
FACTORS = (0.2, 10.0)
#: factors of 1 - p_d
HARDER = (0.05, 0.1, 0.3)


def variant(problem: Problem, rng: np.random.Generator) -> Problem:
    """Return the problem with fewer samples, or with another r, gamma or p_d, at random."""
    kind = str(rng.choice(KINDS))
    if kind == "samples":
        count = max(1, int(problem.n_samples * rng.uniform(*SHARES)))
        kept = np.sort(rng.permutation(problem.n_samples)[:count])
        return problem.with_(inputs=problem.inputs[kept], labels=problem.labels[kept])
    if kind == "p_d":
        return problem.with_(p_d=1.0 - float(rng.choice(HARDER)) * (1.0 - problem.p_d))
    factor = float(np.exp(rng.uniform(*np.log(FACTORS))))
    if kind == "r":
        return problem.with_(r=factor * problem.r)
    return problem.with_(gamma=factor * problem.gamma)
