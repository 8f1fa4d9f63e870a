"""The least eigenvalue of a reduced Hessian that is too large to form, with error bounds.

Lanczos with full reorthogonalisation from a seeded random start; one Hessian-vector product a
step.  With the Ritz pair (theta, y) of least theta after m steps:

    theta >= lambda_min                       always (a Rayleigh quotient)
    |theta - lambda| <= |H y - theta y|       for some eigenvalue lambda
    theta - lambda_min <= eps W/(1 - 2 eps),  eps = (log(1.648 sqrt(d)/delta) / (2m - 1))^2

the last with probability at least 1 - 2 delta over the start, W the spread of the Ritz values.
So negative curvature is shown, positive curvature holds but for the probability named.
Reference: Kuczynski and Wozniakowski, Estimating the largest eigenvalue by the power and Lanczos
algorithms with a random start, SIAM J. Matrix Anal. Appl. 13 (1992), theorem 4.2.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg

SEED = 20240611
#: probability granted to the random start of being orthogonal to what matters
DELTA = 1e-6
#: memory of the basis
BASIS_BYTES = 512 * 2**20
#: a subspace is invariant when the next vector is this small beside the largest Ritz value
INVARIANT = 1e-12


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Ritz:
    """What m steps have found.

    least, largest : extreme Ritz values;  vector : of the least one, (d,)
    residual : |H y - theta y| of the least one
    below : the least eigenvalue is above least - below, with probability 1 - 2 DELTA
    rounding : of a Ritz value, about;  exhausted : the subspace is invariant, the spectrum complete
    """

    steps: int
    least: float
    largest: float
    residual: float
    below: float
    rounding: float
    exhausted: bool
    vector: np.ndarray

    @property
    def interval(self) -> tuple[float, float]:
        """Where the least eigenvalue lies."""
        return self.least - self.below - self.rounding, self.least + self.rounding


def least_eigenvalue(
    product: Callable[[np.ndarray], np.ndarray],
    size: int,
    steps: int,
    *,
    seed: int = SEED,
    enough: Callable[[Ritz], bool] = lambda ritz: False,
) -> Ritz:
    """Run at most `steps` Lanczos steps on the symmetric map `product`, (d,) -> (d,).

    enough : asked after 10, 20, ... steps whether to stop

    Raises
    ------
    ValueError : steps is not at least 1
    FloatingPointError : a product is not finite
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}; wanted at least 1")
    steps = min(steps, size, max(2, int(BASIS_BYTES // (8 * size))))
    rng = np.random.default_rng(seed)
    q = rng.standard_normal(size)
    q /= np.linalg.norm(q)
    basis = np.empty((steps, size))
    diagonal, off = np.empty(steps), np.empty(steps)
    j = 0
    while True:
        basis[j] = q
        w = product(q)
        if not np.isfinite(w).all():
            raise FloatingPointError("a Hessian-vector product has entries that are not finite")
        diagonal[j] = w @ q
        for _ in range(2):  # twice is enough (Parlett): orthogonal to rounding
            w = w - basis[: j + 1].T @ (basis[: j + 1] @ w)
        off[j] = np.linalg.norm(w)
        invariant = off[j] <= INVARIANT * max(np.abs(diagonal[: j + 1]).max(), off[: j + 1].max())
        if j + 1 == steps or invariant or (j + 1) % 10 == 0:
            ritz = _ritz(basis[: j + 1], diagonal[: j + 1], off[: j + 1], size, invariant)
            if j + 1 == steps or invariant or enough(ritz):
                return ritz
        q = w / off[j]
        j += 1


def failure_width(steps: int, size: int, delta: float = DELTA) -> float:
    """eps of the bound: the error of an extreme Ritz value relative to the spread."""
    return float((np.log(1.648 * np.sqrt(size) / delta) / (2 * steps - 1)) ** 2)


def _ritz(
    basis: np.ndarray, diagonal: np.ndarray, off: np.ndarray, size: int, invariant: bool
) -> Ritz:
    steps = len(diagonal)
    values, vectors = scipy.linalg.eigh_tridiagonal(diagonal, off[:-1])
    least, largest = float(values[0]), float(values[-1])
    exhausted = bool(invariant) or steps == size
    residual = 0.0 if exhausted else float(off[-1] * abs(vectors[-1, 0]))
    eps = failure_width(steps, size)
    below = float("inf") if eps >= 0.5 else eps * (largest - least) / (1 - 2 * eps)
    rounding = 10 * steps * np.finfo(float).eps * max(abs(least), abs(largest))
    return Ritz(
        steps=steps,
        least=least,
        largest=largest,
        residual=residual,
        below=0.0 if exhausted else below,
        rounding=float(rounding),
        exhausted=exhausted,
        vector=basis.T @ vectors[:, 0],
    )
