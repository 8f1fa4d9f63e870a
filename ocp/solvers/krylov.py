"""Trust-region steps from Hessian-vector products alone: truncated conjugate gradients.

For problems whose dense Hessian would not fit.  The iteration minimises the model over growing
Krylov spaces, preconditioned by the quadratic penalty (for idle layers that is nearly the whole
Hessian, so they cost nothing), and stops at the boundary or at negative curvature, which it
follows to the boundary.

Reference: Steihaug, "The conjugate gradient method and trust regions in large scale
optimization", SIAM J. Numer. Anal. 20, 1983.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.sparse.linalg import ArpackNoConvergence, LinearOperator, eigsh

from ..controls import Controls
from ..evaluation.hessian_products import hessian_product
from ..problem import Problem
from .clock import Tick, never
from .trust_region import Step

#: products in one step
MAX_PRODUCTS = 300


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Products:
    """The quadratic model g's + s'Hs/2 with H known by its products; `tick` before each."""

    problem: Problem
    controls: Controls
    g: np.ndarray
    tick: Tick = never

    def product(self, v: np.ndarray) -> np.ndarray:
        self.tick()
        return hessian_product(self.problem, self.controls, v[None])[0]

    def step(self, radius: float, shift: float = 0.0) -> Step:
        """Return an approximate minimiser in the ball; at g = 0 the lowest direction found."""
        del shift  # the multiplier of the last step is of no use here
        size = float(np.linalg.norm(self.g))
        floor = np.finfo(float).eps * max(1.0, float(np.linalg.norm(self.g, np.inf)))
        if size > floor:
            s, Hs = truncated_conjugate_gradients(
                self.product, self.g, radius, min(0.1, np.sqrt(size)) * size
            )
        else:
            s = np.zeros_like(self.g)
            Hs = s
        if -float(self.g @ s + 0.5 * (s @ Hs)) <= floor * size or size <= floor:
            z = self.lowest()[1]
            s = -np.copysign(radius, float(self.g @ z) or 1.0) * z
            Hs = self.product(s)
        length = float(np.linalg.norm(s))
        return Step(
            s=s,
            shift=0.0,
            predicted=-float(self.g @ s + 0.5 * (s @ Hs)),
            length=length,
            boundary=length > 0.99 * radius,
        )

    def convex(self) -> bool:
        return self.lowest()[0] > 0.0

    def lowest(self) -> tuple[float, np.ndarray]:
        """Return the least eigenvalue and its vector by Lanczos; its best estimate on failure."""
        d = len(self.g)
        H = LinearOperator((d, d), matvec=lambda v: self.product(v.ravel()), dtype=float)
        start = np.random.default_rng(0).standard_normal(d)
        try:
            values, vectors = eigsh(H, k=1, which="SA", v0=start, tol=1e-3, maxiter=50)
        except ArpackNoConvergence as failure:
            if not len(failure.eigenvalues):
                start /= np.linalg.norm(start)
                return float(start @ self.product(start)), start
            values, vectors = failure.eigenvalues, failure.eigenvectors
        return float(values[0]), vectors[:, 0]


def truncated_conjugate_gradients(
    product: Callable[[np.ndarray], np.ndarray], g: np.ndarray, radius: float, tolerance: float
) -> tuple[np.ndarray, np.ndarray]:
    """Return s in the ball and H s, with |H s + g| <= tolerance unless the ball or a direction
    of negative curvature ended the iteration.

    product : v -> H v;  g : (d,)
    """
    s, Hs = np.zeros_like(g), np.zeros_like(g)
    r, p = g.copy(), -g
    rr = float(r @ r)
    for _ in range(MAX_PRODUCTS):
        Hp = product(p)
        bend = float(p @ Hp)
        alpha = rr / bend if bend > 0.0 else np.inf
        if bend <= 0.0 or np.linalg.norm(s + alpha * p) >= radius:
            t = _to_boundary(s, p, radius)
            return s + t * p, Hs + t * Hp
        s, Hs, r = s + alpha * p, Hs + alpha * Hp, r + alpha * Hp
        new = float(r @ r)
        if np.sqrt(new) <= tolerance:
            break
        p, rr = -r + (new / rr) * p, new
    return s, Hs


def _to_boundary(s: np.ndarray, p: np.ndarray, radius: float) -> float:
    """The positive t with |s + t p| = radius."""
    a, b = float(p @ p), float(s @ p)
    c = (radius - np.linalg.norm(s)) * (radius + np.linalg.norm(s))
    root = np.sqrt(b * b + a * c)
    return c / (b + root) if b > 0 else (root - b) / a
