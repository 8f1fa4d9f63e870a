"""The least eigenvalue of the reduced Hessian with its error band, by two exact routes.

    band  10 d eps |H|_2 + |H_assembled - H_by_products|_2

`by_eigenvalues` takes all eigenvalues and all d products and is the reference.  `by_factorisation`
asks less and bounds from above: a Cholesky factorisation of H - band I proves that all eigenvalues
exceed the band, Lanczos on the inverse finds the least of them, and the second norm comes from
products with 8 Gaussian vectors: with probability 1 - 1e-8 over them,

    |E|_2 <= 10 sqrt(2/pi) max_i |E w_i|      (Halko, Martinsson and Tropp 2011, lemma 4.1).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import scipy.linalg
from scipy.sparse.linalg import LinearOperator, eigsh

from ..controls import Controls
from ..evaluation.assembly import assembled_hessian
from ..evaluation.hessian_products import hessian_product, reduced_hessian
from ..problem import Problem
from .trust_region import factorise, solve_with

#: up to this d all eigenvalues are taken: 40 ms
EIGENVALUES_UP_TO = 500
PROBES = 8
#: doubles in one chunk of tangent directions
PROBE_DOUBLES = 1 << 23


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Curvature:
    """Facts about one reduced Hessian.

    least, vector : least eigenvalue and its eigenvector, (d,)
    band : how far `least` may be from the truth
    solve : g -> H^-1 g
    """

    least: float
    vector: np.ndarray
    band: float
    solve: Callable[[np.ndarray], np.ndarray]


def by_eigenvalues(problem: Problem, controls: Controls) -> Curvature:
    """All eigenvalues, and all columns of the Hessian by both routes."""
    H = assembled_hessian(problem, controls)
    by_products = reduced_hessian(problem, controls)
    difference = scipy.linalg.norm(H - 0.5 * (by_products + by_products.T), 2)
    return _from_eigenvalues(H, float(difference))


def by_factorisation(problem: Problem, controls: Controls) -> Curvature:
    """The same facts at a fraction of the price; the band is an upper bound of the reference's."""
    H = assembled_hessian(problem, controls)
    difference = _norm_of_difference(problem, controls, H)
    d = len(H)
    if d <= EIGENVALUES_UP_TO:
        return _from_eigenvalues(H, difference)
    norm = float(np.abs(H).sum(axis=1).max())  # >= |H|_2
    band = 10 * d * np.finfo(float).eps * norm + difference
    L = factorise(H, 0.0)
    if L is None or factorise(H, -band) is None:
        return _from_eigenvalues(H, difference)
    inverse = LinearOperator((d, d), matvec=lambda v: solve_with(L, v), dtype=float)
    start = np.random.default_rng(0).standard_normal(d)
    _, vectors = eigsh(inverse, k=1, which="LA", v0=start)
    vector = vectors[:, 0]
    # a Rayleigh quotient bounds the least eigenvalue from above, the factorisation from below
    least = float(vector @ (H @ vector))
    return Curvature(least=least, vector=vector, band=band, solve=lambda g: solve_with(L, g))


def _from_eigenvalues(H: np.ndarray, difference: float) -> Curvature:
    values, vectors = scipy.linalg.eigh(H)
    norm = max(abs(values[0]), abs(values[-1]))
    band = 10 * len(H) * np.finfo(float).eps * norm + difference
    return Curvature(
        least=float(values[0]),
        vector=vectors[:, 0],
        band=float(band),
        solve=lambda g: vectors @ ((vectors.T @ g) / values),
    )


def _norm_of_difference(problem: Problem, controls: Controls, H: np.ndarray) -> float:
    """An upper bound of |H - H_by_products|_2 from Gaussian probes of a fixed seed."""
    probes = np.random.default_rng(0).standard_normal((PROBES, len(H)))
    tangent = problem.depth * problem.n_samples * problem.width
    chunk = max(1, min(PROBES, PROBE_DOUBLES // (4 * tangent)))
    largest = 0.0
    for start in range(0, PROBES, chunk):
        part = probes[start : start + chunk]
        error = part @ H - hessian_product(problem, controls, part)
        largest = max(largest, float(np.sqrt((error**2).sum(axis=1)).max()))
    return 10.0 * float(np.sqrt(2.0 / np.pi)) * largest
