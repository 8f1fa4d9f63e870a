"""The least eigenvalue of a reduced Hessian that is too large to form, with error bounds.

Lanczos with full reorthogonalisation from a seeded random start q; one Hessian-vector product a
step.  With the Ritz values theta_1 <= .. <= theta_m, the least one's vector y, and the norms
beta_1 .. beta_m of what each step adds:

    theta_1 >= lambda_min                         always (a Rayleigh quotient)
    |theta_1 - lambda| <= |H y - theta_1 y|       for some eigenvalue lambda
    |c| prod_i (theta_i - lambda_min) <= prod_j beta_j        c = q . v, v its eigenvector

since prod beta_j = |p(H) q|, p the monic polynomial with zeros theta_i.  A start that is uniform on
the sphere has |c| <= t with probability at most t sqrt(2 d/pi), so the last line bounds lambda_min
below but for a probability that is named.  It needs no end of the iteration: a subspace that looks
invariant has not seen what the start hardly contains, and beta_m then counts as the tolerance.
Reference: Parlett, The Symmetric Eigenvalue Problem, SIAM 1998, sections 12.3 and 13.4 (minimality
of the characteristic polynomial of T_m); the density of c is that of a coordinate on the sphere.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import scipy.optimize

SEED = 20240611
#: probability granted to the random start of hardly containing the eigenvector
DELTA = 1e-6
#: memory of the basis
BASIS_BYTES = 512 * 2**20
#: a subspace is taken for invariant when the next vector is this small beside |H|
INVARIANT = 1e-12


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Ritz:
    """What m steps have found.

    least, largest : extreme Ritz values;  vector : of the least one, (d,)
    residual : |H y - theta y| of the least one
    below : the least eigenvalue is above least - below, but for a probability DELTA
    rounding : of a Ritz value, about
    """

    steps: int
    least: float
    largest: float
    residual: float
    below: float
    rounding: float
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
        tolerance = INVARIANT * max(np.abs(diagonal[: j + 1]).max(), off[: j + 1].max())
        invariant = off[j] <= tolerance
        if j + 1 == steps or invariant or (j + 1) % 10 == 0:
            ritz = _ritz(basis[: j + 1], diagonal[: j + 1], off[: j + 1], tolerance)
            if j + 1 == steps or invariant or enough(ritz):
                return ritz
        q = w / off[j]
        j += 1


def width_below(values: np.ndarray, off: np.ndarray, size: int, delta: float = DELTA) -> float:
    """How far below the least Ritz value the least eigenvalue may lie, but for probability delta.

    values : Ritz values, (m,), ascending;  off : beta_1 .. beta_m, (m,), beta_m > 0

    Solves prod_i (theta_i - theta_1 + x) = prod_j beta_j / t, t = delta sqrt(pi/(2 d)), for x.
    """
    share = delta * np.sqrt(np.pi / (2 * size))
    target = float(np.log(off).sum() - np.log(share))
    apart = values - values[0]

    def excess(log_x: float) -> float:
        return float(np.log(apart + np.exp(log_x)).sum()) - target

    high = target / len(values)  # every factor is at least x
    low = high - 600.0
    if excess(low) >= 0.0:
        return float(np.exp(low))
    return float(np.exp(scipy.optimize.brentq(excess, low, high + 1e-9, xtol=1e-6)) * (1 + 1e-5))


def _ritz(basis: np.ndarray, diagonal: np.ndarray, off: np.ndarray, tolerance: float) -> Ritz:
    steps, size = basis.shape
    values, vectors = scipy.linalg.eigh_tridiagonal(diagonal, off[:-1])
    least, largest = float(values[0]), float(values[-1])
    norm = max(abs(least), abs(largest))
    rounding = 10 * steps * np.finfo(float).eps * norm
    below = INVARIANT * norm
    if norm > 0 and steps < size:  # in the whole space no start misses anything
        below += width_below(values, np.append(off[:-1], max(off[-1], tolerance)), size)
    return Ritz(
        steps=steps,
        least=least,
        largest=largest,
        residual=float(off[-1] * abs(vectors[-1, 0])),
        below=below,
        rounding=float(rounding),
        vector=basis.T @ vectors[:, 0],
    )
