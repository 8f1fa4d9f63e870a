"""J(u) in PyTorch, written from the statement: euler, single block, tanh, fixed ends.

It shares nothing with the toolkit's evaluation but the statement, so that it can recompute the
gradient and the curvature of what the solvers return.
"""

from __future__ import annotations

import torch

from ocp.problem import Problem


def torch_objective(problem: Problem):
    """Return J as a function of the flat vector u, (d,) float64 tensor."""
    found = (problem.scheme, problem.block, problem.activation, problem.trained)
    if found != ("euler", "single", "tanh", ("layers",)):
        raise ValueError(f"the problem is {found}; wanted euler, single, tanh and fixed ends")
    N, n, h = problem.depth, problem.width, problem.h
    C, c = torch.tensor(problem.readout_weight), torch.tensor(problem.readout_bias)
    q = torch.tensor(problem.soft_targets)
    entropy = -torch.special.xlogy(q, q).sum(dim=1)
    E, e = torch.tensor(problem.lift_weight), torch.tensor(problem.lift_bias)
    x_0 = torch.tensor(problem.input_values) @ E.T + e

    def data_cost(x: torch.Tensor) -> torch.Tensor:
        z = x @ C.T + c
        return (torch.logsumexp(z, dim=1) - (q * z).sum(dim=1) - entropy).mean()

    def J(u: torch.Tensor) -> torch.Tensor:
        layers = u.reshape(N, n * n + n)
        x, cost = x_0, 0.5 * problem.r * h * (u * u).sum()
        for k in range(N):
            if problem.beta:
                cost = cost + h * data_cost(x)
            A, b = layers[k, : n * n].reshape(n, n), layers[k, n * n :]
            x = x + h * torch.tanh(x @ A.T + b)
        return cost + problem.gamma * data_cost(x)

    return J


def recomputed(problem: Problem, u, chunk: int = 16) -> tuple[float, float, float]:
    """Return J, max|dJ/du| and the least eigenvalue of d2J/du2 by automatic differentiation."""
    J = torch_objective(problem)
    u = torch.tensor(u, requires_grad=True)
    value = J(u)
    (g,) = torch.autograd.grad(value, u, create_graph=True)
    H = torch.empty(len(u), len(u), dtype=torch.float64)
    for i in range(len(u)):
        (H[i],) = torch.autograd.grad(g[i], u, retain_graph=True)
    least = torch.linalg.eigvalsh(0.5 * (H + H.T))[0]
    return float(value.detach()), float(g.detach().abs().max()), float(least)
