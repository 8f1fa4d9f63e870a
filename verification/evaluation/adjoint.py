"""Multipliers of the full-space KKT system and the gradient of J(u), stage by stage.

With the stage points Y, the slopes K and the states x as variables and one multiplier each
(mu, kappa, lambda), the Lagrangian is stationary in Y, K and x when

    kappa_s = h w_s lambda_{k+1} + h a_{s+1} mu_{s+1}
    mu_s    = h w_s beta grad F(Y_s) + A_k' zeta_s,    zeta_s = sigma'(v_s) * [W_k'] kappa_s
    lambda_k = lambda_{k+1} + sum_s mu_s,              lambda_N = gamma grad F(x_N)

and what remains, dL/du, is the gradient of J.  lambda is the costate dJ/dx_k.
Reference: Hager, Runge-Kutta methods in optimal control, Numer. Math. 87 (2000).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from ocp import loss
from ocp.controls import Controls, ends, flatten, penalty_diagonal
from ocp.problem import SCHEMES, Problem

from .states import Batch, Pass, batches, count, logits, propagate


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Multipliers:
    """lambda (N+1, m, n) and the stages' kappa, zeta (N, S, m, n)."""

    costate: np.ndarray
    kappa: np.ndarray
    zeta: np.ndarray


def multipliers(
    problem: Problem,
    controls: Controls,
    batch: Batch,
    run: Pass,
    given: np.ndarray | None = None,
    sizes: bool = False,
) -> Multipliers:
    """Solve the transposed (unit triangular) system backwards.

    given : a costate (N+1, m, n) to be tested: entry k + 1 of it stands on the right-hand side of
        entry k, so what comes back differs from it by the residual, layer by layer
    sizes : the same with the absolute value of every term
    """
    of = _of(sizes)
    C, A = of(ends(problem, controls)[2]), of(controls.A)
    W = None if controls.W is None else of(controls.W)
    nodes, weights = SCHEMES[problem.scheme]
    h, N, S = problem.h, problem.depth, len(nodes)
    costate = np.empty_like(run.X)
    kappa, zeta = np.empty_like(run.Y), np.empty_like(run.Y)
    scale = 1.0 / problem.n_samples
    terminal = loss_slope(problem, controls, run.X[N], batch, sizes)
    costate[N] = (problem.gamma * scale) * (terminal @ C)
    for k in reversed(range(N)):
        lam, mu = (costate if given is None else given)[k + 1], np.zeros_like(costate[k])
        costate[k] = lam
        for s in reversed(range(S)):
            following = nodes[s + 1] if s + 1 < S else 0.0
            kappa[k, s] = h * (weights[s] * lam + following * mu)
            pulled = kappa[k, s] if W is None else kappa[k, s] @ W[k]
            zeta[k, s] = of(problem.sigma.derivatives(run.V[k, s], 1)[1]) * pulled
            mu = zeta[k, s] @ A[k]
            if problem.beta:
                slope = loss_slope(problem, controls, run.Y[k, s], batch, sizes)
                mu = mu + (h * weights[s] * scale) * (slope @ C)
            costate[k] = costate[k] + mu
    count(backward=N * len(batch.s))
    return Multipliers(costate=costate, kappa=kappa, zeta=zeta)


def gradient(problem: Problem, controls: Controls) -> tuple[np.ndarray, np.ndarray]:
    """Return dJ/du in the flat order and the part of it that the data cause, (d,) each."""
    whole, data, _ = gradient_and_costate_norms(problem, controls)
    return whole, data


def gradient_and_costate_norms(
    problem: Problem,
    controls: Controls,
    also: Callable[[Batch, Pass], None] = lambda batch, run: None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return `gradient` and, of the same pass, the norm of lambda_k over all samples, (N+1,).

    also : called with every batch and its states, for what else is to be read off this pass
    """
    data, squares = np.zeros(problem.n_decision), np.zeros(problem.depth + 1)
    for batch in batches(problem, copies=3):
        run = propagate(problem, controls, batch)
        found = multipliers(problem, controls, batch, run)
        data += collect(problem, controls, batch, run, found)
        squares += (found.costate**2).sum(axis=(1, 2))
        also(batch, run)
    return data + decay(problem, controls), data, np.sqrt(squares)


def decay(problem: Problem, controls: Controls) -> np.ndarray:
    """Gradient of the quadratic costs: h r u, and r_ends times trained ends, (d,)."""
    return penalty_diagonal(problem) * flatten(controls)


def gradient_size(problem: Problem, controls: Controls) -> float:
    """Largest entry of the gradient with the absolute value of every term in every sum.

    Rounding of the gradient is relative to it: softmax(z) - q, say, loses what the two share.
    """
    total = np.abs(decay(problem, controls))
    for batch in batches(problem, copies=3):
        run = propagate(problem, controls, batch)
        found = multipliers(problem, controls, batch, run, sizes=True)
        total += collect(problem, controls, batch, run, found, sizes=True)
    return float(total.max())


def collect(
    problem: Problem,
    controls: Controls,
    batch: Batch,
    run: Pass,
    found: Multipliers,
    sizes: bool = False,
) -> np.ndarray:
    """Derivative of the Lagrangian in the controls without the quadratic costs, (d,).

    sizes : with the absolute value of every term; `found` then holds sizes too
    """
    of = _of(sizes)
    kappa, zeta, scale = found.kappa, found.zeta, 1.0 / problem.n_samples
    Y, costate = of(run.Y), found.costate[0]
    parts = {
        "A": np.einsum("ksia,ksib->kab", zeta, Y, optimize=True),
        "b": zeta.sum(axis=(1, 2)),
    }
    if controls.W is not None:
        value = of(problem.sigma.derivatives(run.V, 0)[0])
        parts["W"] = np.einsum("ksia,ksib->kab", kappa, value, optimize=True)
    if controls.lift_weight is not None:
        parts["lift_weight"] = costate.T @ of(batch.s)
        parts["lift_bias"] = costate.sum(axis=0)
    if controls.readout_weight is not None:
        slope = problem.gamma * scale * loss_slope(problem, controls, run.X[-1], batch, sizes)
        weight, bias = slope.T @ of(run.X[-1]), slope.sum(axis=0)
        if problem.beta:
            w = problem.h * scale * np.array(SCHEMES[problem.scheme][1])
            slope = w[:, None, None] * loss_slope(problem, controls, run.Y, batch, sizes)
            weight = weight + np.einsum("ksia,ksib->ab", slope, Y, optimize=True)
            bias = bias + slope.sum(axis=(0, 1, 2))
        parts["readout_weight"], parts["readout_bias"] = weight, bias
    return flatten(Controls(**parts))


def loss_slope(
    problem: Problem, controls: Controls, X: np.ndarray, batch: Batch, sizes: bool = False
) -> np.ndarray:
    """dg/dz = softmax(z) - q at states X (..., m, n); (..., m, n_c).  With sizes their sum."""
    p = loss.softmax(logits(problem, controls, X))
    return p + batch.q if sizes else p - batch.q


def _of(sizes: bool) -> Callable[[np.ndarray], np.ndarray]:
    return np.abs if sizes else lambda term: term
