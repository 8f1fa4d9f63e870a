"""What one implementation makes of a network: the numbers that a cross-check compares.

The implementation itself (PyTorch, CasADi, a child process) is the caller's: the judge is handed
values.  Objective and gradient suffice for a verdict; the inner quantities locate a disagreement.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ocp import loss
from ocp.controls import Controls
from ocp.problem import Problem

from ..evaluation import adjoint, states


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Evaluation:
    """Values at one (problem, controls); None where the implementation does not have them.

    name : of the implementation, as the report shall call it
    objective : J(u)
    gradient : dJ/du in the flat order of `ocp.controls`, (d,)
    costate : dJ/dx_k, (N+1, n_d, n), or without the one of x_0, (N, n_d, n)
    states : x_k, (N+1, n_d, n);  logits : C x_k + c, (N+1, n_d, n_c)
    losses : soft cross-entropy of every sample at every layer, (N+1, n_d)
    penalty : the quadratic costs, factor h included
    """

    name: str
    objective: float
    gradient: np.ndarray | None = None
    costate: np.ndarray | None = None
    states: np.ndarray | None = None
    logits: np.ndarray | None = None
    losses: np.ndarray | None = None
    penalty: float | None = None


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Own(Evaluation):
    """The judge's own evaluation: nothing is missing."""

    gradient: np.ndarray
    costate: np.ndarray
    states: np.ndarray
    logits: np.ndarray
    losses: np.ndarray
    penalty: float


def evaluate(problem: Problem, controls: Controls) -> Own:
    """Return the judge's own evaluation, with everything."""
    N, n_d = problem.depth, problem.n_samples
    X = np.empty((N + 1, n_d, problem.width))
    costate = np.empty_like(X)
    for batch in states.batches(problem, copies=3):
        run = states.propagate(problem, controls, batch)
        X[:, batch.rows] = run.X
        found = adjoint.multipliers(problem, controls, batch, run)
        costate[:, batch.rows] = found.costate
    z = states.statement_logits(problem, controls, X)
    return Own(
        name="judge",
        objective=states.objective(problem, controls),
        gradient=adjoint.gradient(problem, controls)[0],
        costate=costate,
        states=X,
        logits=z,
        losses=loss.soft_cross_entropy(z, problem.soft_targets),
        penalty=penalty(problem, controls),
    )


def penalty(problem: Problem, controls: Controls) -> float:
    """sum_k h (r/2)|u_k|^2 + (r_ends/2)|trained ends|^2."""
    layers = problem.h * float(states.regularisation(problem, controls).sum())
    return layers + states.ends_cost(problem, controls)
