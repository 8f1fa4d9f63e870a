"""Available storage of a dissipation rate, by optimisation over controls: a theorem about alpha.

Available storage of a rate a(.) from the state x:  sup over N, u of sum_k h (a(x_k) - l_k + l*).
With the tight alpha* it is 0.  With 1.05 alpha* the choice u = 0 already collects
0.05 alpha* h N, so it has no bound: that rate is refuted, and no storage does better in x than a
constant.  One sample, off its minimiser in a direction in which alpha* is attained; u is then
improved by descent from u = 0.  Nothing of it depends on the controls of a file.
References: Willems, Arch. Rational Mech. Anal. 45 (1972); Gruene, Automatica 49 (2013).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property

import numpy as np
import scipy.optimize

from ocp import loss
from ocp.problem import SCHEMES, Problem

from . import alpha
from .minimisers import Minimisers, log_mean_exp

DEPTHS = (1, 5, 10, 20)
#: least distance of the sample from its minimiser; log(p/eps)/sqrt2, the decision boundary, if
#: that is more.  Nearer than this alpha* drowns in rounding, which says nothing of the rate.
START = 1.0
LARGEST_WIDTH = 8


def available_storage(
    problem: Problem,
    minimisers: Minimisers,
    factor: float = 1.0,
    depths: Sequence[int] = DEPTHS,
) -> np.ndarray:
    """Return the largest storage found for `factor` times the tight rate, one number a depth.

    factor : 1 for the tight rate, whose storage is 0; above 1 storage grows with the depth

    Raises
    ------
    ValueError : the tight rate is not that of these minimisers (rank-deficient readout, equal
        inputs with different labels, hard targets)
    """
    if minimisers.applicable or not minimisers.full_rank or minimisers.conflicts:
        raise ValueError("the tight rate is that of the plain soft target")
    model = OneSample(problem, minimisers)
    optimise = problem.width <= LARGEST_WIDTH
    return np.array([model.collected(factor, N, optimise) for N in depths])


class OneSample:
    """One sample of class 0 with the file's dynamics and readout, off M_0 in a tight direction."""

    def __init__(self, problem: Problem, minimisers: Minimisers) -> None:
        self.problem, self.C, self.c = problem, minimisers.C, minimisers.c
        self.q = loss.soft_target(np.array([0]), problem.n_classes, problem.p_d)[0]
        boundary = np.log(problem.p_d * (problem.n_classes - 1) / (1 - problem.p_d)) / np.sqrt(2)
        w = alpha.tight_direction(max(START, boundary), problem.n_classes, problem.p_d)
        goal = np.log(self.q) - self.c
        pinv = np.linalg.pinv(minimisers.PC)
        rest = pinv @ (goal - goal.mean())  # a point of M_0
        self.start = rest + pinv @ w
        self._idles: dict[float, float] = {}

    def distance(self, x: np.ndarray) -> np.ndarray:
        z = x @ self.C.T + self.c - np.log(self.q)
        return np.linalg.norm(z - z.mean(axis=-1, keepdims=True), axis=-1)

    def rate(self, x: np.ndarray) -> np.ndarray:
        """alpha*(dist_z(x)), evaluated, not interpolated."""
        s = np.atleast_1d(self.distance(x)).ravel()
        value = alpha.tight(s, self.problem.n_classes, self.problem.p_d, angles=181)
        return value.reshape(np.shape(x)[:-1]) if np.ndim(x) > 1 else value[0]

    @cached_property
    def _table(self) -> tuple[np.ndarray, np.ndarray]:
        size = np.linspace(0.0, 60.0, 1001) ** 2 / 60.0
        return size, alpha.tight(size, self.problem.n_classes, self.problem.p_d, angles=181)

    def quick_rate(self, x: np.ndarray) -> np.ndarray:
        """The same by interpolation, for the search; the result is evaluated with `rate`."""
        return np.interp(self.distance(x), *self._table)

    def supply(
        self, u: np.ndarray, N: int, factor: float, rate: Callable[[np.ndarray], np.ndarray]
    ) -> np.ndarray:
        """sum_k h (factor * rate - l) for controls u (..., N, m); rows at once."""
        problem, n = self.problem, self.problem.width
        nodes, weights = SCHEMES[problem.scheme]
        lead = u.shape[:-2]
        x = np.broadcast_to(self.start, (*lead, n))
        total = -0.5 * problem.r * problem.h * (u**2).sum(axis=(-1, -2))
        for k in range(N):
            A = u[..., k, : n * n].reshape(*lead, n, n)
            b = u[..., k, n * n : n * n + n]
            K, step = np.zeros_like(x), np.zeros_like(x)
            for a, w in zip(nodes, weights, strict=True):
                Y = x + problem.h * a * K
                # not g itself: it loses its digits near M_0
                g = log_mean_exp(Y @ self.C.T + self.c - np.log(self.q), self.q)
                total = total + problem.h * w * (factor * rate(Y) - g)
                K = problem.sigma((A @ Y[..., None])[..., 0] + b)
                if problem.block == "double":
                    K = (u[..., k, n * n + n :].reshape(*lead, n, n) @ K[..., None])[..., 0]
                step = step + w * K
            x = x + problem.h * step
        return total

    def _idle(self, factor: float) -> float:
        """What one layer collects with u = 0, computed once for each rate."""
        if factor not in self._idles:
            zero = np.zeros((1, self.problem.layer_size))
            self._idles[factor] = float(self.supply(zero, 1, factor, self.rate))
        return self._idles[factor]

    def collected(self, factor: float, N: int, optimise: bool) -> float:
        """Return the largest supply found in N layers; 0 for stopping at once is always there."""
        m = self.problem.layer_size
        # u = 0 keeps the state: every layer collects the same
        best = N * self._idle(factor)
        if optimise:
            shape = (N, m)
            step = 1e-6 * np.eye(N * m).reshape(N * m, N, m)

            def negative(flat: np.ndarray) -> tuple[float, np.ndarray]:
                u = flat.reshape(shape)
                both = self.supply(np.concatenate([u + step, u - step]), N, factor, self.quick_rate)
                value = self.supply(u, N, factor, self.quick_rate)
                slope = (both[: N * m] - both[N * m :]) / 2e-6
                return -float(value), -slope

            # u = 0 is stationary in b by symmetry: start beside it
            rng = np.random.default_rng(0)
            start = 0.1 * rng.standard_normal(N * m)
            found = scipy.optimize.minimize(
                negative, start, jac=True, method="L-BFGS-B", options={"maxiter": 15}
            )
            best = max(best, float(self.supply(found.x.reshape(shape), N, factor, self.rate)))
        return max(best, 0.0)
