"""Available storage and required supply, by optimisation over controls.

Available storage of a rate a(.) from the state x:  sup over N, u of sum_k h (a(x_k) - l_k + l*).
With the tight alpha* it is 0.  With 1.05 alpha* the choice u = 0 already collects
0.05 alpha* h N, so it has no bound: that rate is refuted.  One sample, off its minimiser in a
direction in which alpha* is attained; u is then improved by descent from u = 0.

Required supply of a state x:  inf over paths from a minimiser to x of sum_k h (l_k - a(x_k)).
An upper bound is given by the straight path whose controls are solved for (A = 0).
"""

from __future__ import annotations

import math
from functools import cached_property

import numpy as np
import scipy.optimize

from ocp import loss
from ocp.problem import SCHEMES

from ..report import Entry, Finding, Verdict, not_applicable, theorem
from . import alpha
from .minimisers import log_mean_exp
from .subject import TrainingSubject

DEPTHS = (1, 5, 10, 20)
EXCESS = 1.05
#: least distance of the sample from its minimiser; log(p/eps)/sqrt2, the decision boundary, if
#: that is more.  Nearer than this alpha* drowns in rounding, which says nothing of the rate.
START = 1.0
LARGEST_WIDTH = 8
#: lengths of the straight paths that are tried
LAYERS = (1, 2, 4, 8, 16, 32)


def check_storage(subject: TrainingSubject) -> list[Entry]:
    """Return the lines on available storage, both rates, and on the required supply."""
    problem, minimisers = subject.problem, subject.minimisers
    names = ("available_storage", "available_storage_above", "required_supply")
    names = tuple(f"dissipativity.{name}" for name in names)
    if not minimisers.full_rank or minimisers.conflicts:
        why = "the tight rate is that of the plain soft target"
        return [not_applicable(name, why) for name in names]
    model = OneSample(problem, minimisers)
    optimise = problem.width <= LARGEST_WIDTH
    tight = max(model.collected(1.0, N, optimise) for N in DEPTHS)
    above = [model.collected(EXCESS, N, optimise) for N in DEPTHS]
    idle = (EXCESS - 1) * model.rate(model.start)
    least = [problem.h * N * idle for N in DEPTHS]
    grows = all(a >= 0.999 * b for a, b in zip(above, least, strict=True)) and idle > 0
    listed = ", ".join(f"{a:.3g}" for a in above)
    how = "descent from u = 0" if optimise else "u = 0 alone, the width is above 8"
    return [
        theorem(
            names[0],
            tight,
            1e-9 * max(1.0, DEPTHS[-1] * problem.h),
            math.inf,
            message=f"largest storage found with the tight rate, N = {DEPTHS}, {how}; theorem: 0",
        ),
        Finding(
            name=names[1],
            verdict=Verdict.PROVED if grows else Verdict.FAILED,
            measured=above[-1],
            message=f"a rate 5 % above the tight one is refuted: storage {listed} at N ="
            f" {DEPTHS}, at least {idle * problem.h:.3g} for each further layer",
        ),
        _required(subject, model),
    ]


class OneSample:
    """One sample of class 0 with the file's dynamics and readout, off M_0 in a tight direction."""

    def __init__(self, problem, minimisers) -> None:
        self.problem, self.C, self.c = problem, minimisers.C, minimisers.c
        self.q = loss.soft_target(np.array([0]), problem.n_classes, problem.p_d)[0]
        boundary = np.log(problem.p_d * (problem.n_classes - 1) / (1 - problem.p_d)) / np.sqrt(2)
        w = alpha.tight_direction(max(START, boundary), problem.n_classes, problem.p_d)
        goal = np.log(self.q) - self.c
        self.pinv = np.linalg.pinv(minimisers.PC)
        self.rest = self.pinv @ (goal - goal.mean())  # a point of M_0
        self.start = self.rest + self.pinv @ w
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

    def supply(self, u: np.ndarray, N: int, factor: float, rate) -> np.ndarray:
        """sum_k h (factor * rate - l) for controls u (..., N, m); rows at once."""
        problem, n = self.problem, self.problem.width
        nodes, weights = SCHEMES[problem.scheme]
        lead = u.shape[:-2]
        x = np.broadcast_to(self.start, (*lead, n))
        total = -0.5 * problem.r * problem.h * (u**2).sum(axis=(-1, -2))
        for k in range(N):
            A = u[..., k, : n * n].reshape(*lead, n, n)
            b = u[..., k, n * n : n * n + n]
            K, step = np.zeros_like(x), 0.0
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
            n, double = self.problem.width, self.problem.block == "double"
            zero = np.zeros((1, (2 if double else 1) * n * n + n))
            self._idles[factor] = float(self.supply(zero, 1, factor, self.rate))
        return self._idles[factor]

    def collected(self, factor: float, N: int, optimise: bool) -> float:
        """Return the largest supply found in N layers; 0 for stopping at once is always there."""
        n, double = self.problem.width, self.problem.block == "double"
        m = (2 if double else 1) * n * n + n
        # u = 0 keeps the state: every layer collects the same
        best = N * self._idle(factor)
        if optimise:
            shape = (N, m)
            step = 1e-6 * np.eye(N * m).reshape(N * m, N, m)

            def negative(flat):
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


def _required(subject: TrainingSubject, model: OneSample) -> Finding:
    """Upper bound of the required supply of the off-minimiser state, along a straight path."""
    name, problem = "dissipativity.required_supply", subject.problem
    if problem.activation not in ("tanh", "softsign", "identity") or problem.block == "double":
        return not_applicable(name, "the straight path is solved for tanh, softsign and identity")
    inverse = {"tanh": np.arctanh, "softsign": lambda y: y / (1 - np.abs(y)), "identity": np.array}
    jump = model.start - model.rest
    best, layers = math.inf, 0
    for M in LAYERS:
        slope = jump / (problem.h * M)
        if problem.activation != "identity" and np.abs(slope).max() >= 0.95:
            continue
        b = inverse[problem.activation](slope)
        u = np.zeros((M, problem.width**2 + problem.width))
        u[:, problem.width**2 :] = b
        backwards = OneSample.__new__(OneSample)
        backwards.__dict__ = {**model.__dict__, "start": model.rest}
        cost = -float(backwards.supply(u, M, 1.0, backwards.rate))
        if cost < best:
            best, layers = cost, M
    if not math.isfinite(best):
        return not_applicable(
            name, f"{LAYERS[-1]} layers do not reach the state on a straight path"
        )
    verdict = Verdict.OBSERVED if best >= -1e-9 else Verdict.FAILED
    return Finding(
        name=name,
        verdict=verdict,
        measured=best,
        message=f"upper bound from a minimiser to a state at distance"
        f" {float(model.distance(model.start)):.3g}, straight path of {layers} layers, one sample,"
        " supply less the tight rate; it is never below 0",
    )
