"""The oracle: J, its gradient, Hessian and costates by torch autograd, in float64.

Written from the statement alone; nothing of the judge, and of `ocp` only what a file says.
`oracle_digits` is the same in sixty digits.
"""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy.optimize
import torch

from ocp.controls import Controls
from ocp.problem import Problem

#: by scheme: where stage s starts from stage s - 1, and the weights of the stages
NODES = {"euler": (0.0,), "heun": (0.0, 1.0), "rk4": (0.0, 0.5, 0.5, 1.0)}
WEIGHTS = {"euler": (1,), "heun": (1 / 2, 1 / 2), "rk4": (1 / 6, 1 / 3, 1 / 3, 1 / 6)}
SQRT2 = math.sqrt(2.0)

torch.set_num_threads(1)


def sigma(problem: Problem, v: torch.Tensor) -> torch.Tensor:
    """The activation of the statement; slopes at kinks: relu 0, leaky_relu .01."""
    k, shift = problem.sharpness, bool(problem.shifted)
    match problem.activation:
        case "tanh":
            return torch.tanh(v)
        case "softsign":
            return v / (1 + torch.abs(v))
        case "identity":
            return v
        case "relu":
            return torch.where(v > 0, v, 0 * v)
        case "leaky_relu":
            return torch.where(v > 0, v, 0.01 * v)
        case "gelu":
            return v * (1 + torch.erf(v / SQRT2)) / 2
        case "silu":
            return v * torch.sigmoid(v)
        case "sigmoid":
            return torch.sigmoid(v) - (0.5 if shift else 0.0)
        case "softplus":
            zero = torch.zeros((), dtype=torch.float64)
            return (torch.logaddexp(k * v, zero) - (math.log(2) if shift else 0.0)) / k
    raise ValueError(problem.activation)


def shapes(problem: Problem) -> list[tuple[str, tuple[int, ...]]]:
    """The flat order: name and shape of every block of decision variables."""
    n, n_c, n_in = problem.width, problem.n_classes, problem.inputs.shape[1]
    layer = [("A", (n, n)), ("b", (n,))] + ([("W", (n, n))] if problem.block == "double" else [])
    found = layer * problem.depth
    if "lift" in problem.trained:
        found += [("E", (n, n_in)), ("e", (n,))]
    if "readout" in problem.trained:
        found += [("C", (n_c, n)), ("c", (n_c,))]
    return found


def split(problem: Problem, u) -> dict[str, list]:
    """The blocks of a flat vector by name, those of the layers one a layer; ends filled in."""
    found: dict[str, list] = {}
    start = 0
    for name, shape in shapes(problem):
        size = math.prod(shape)
        found.setdefault(name, []).append(u[start : start + size].reshape(shape))
        start += size
    assert start == len(u)
    fixed = (problem.lift_weight, problem.lift_bias, problem.readout_weight, problem.readout_bias)
    for name, value in zip("EeCc", fixed, strict=True):
        found.setdefault(name, [value])
    return found


def flat(problem: Problem, controls: Controls) -> np.ndarray:
    """The flat vector of the controls of a file."""
    ends = {"E": "lift_weight", "e": "lift_bias", "C": "readout_weight", "c": "readout_bias"}
    k, blocks = 0, []
    for name, _ in shapes(problem):
        if name in ends:
            blocks.append(getattr(controls, ends[name]))
        else:
            blocks.append(getattr(controls, name)[k])
            k += name == ("W" if problem.block == "double" else "b")
    return np.concatenate([np.ravel(block) for block in blocks])


def controls_of(problem: Problem, u: np.ndarray) -> Controls:
    """The controls of a flat vector."""
    found = split(problem, np.asarray(u, dtype=float))
    ends = {"lift_weight": "E", "lift_bias": "e", "readout_weight": "C", "readout_bias": "c"}
    trained = {
        k: np.array(found[v][0]) for k, v in ends.items() if k.split("_")[0] in problem.trained
    }
    W = np.stack(found["W"]) if "W" in found else None
    return Controls(A=np.stack(found["A"]), b=np.stack(found["b"]), W=W, **trained)


def targets(problem: Problem) -> np.ndarray:
    """q(y_i), (n_d, n_c)."""
    q = np.full(
        (len(problem.labels), problem.n_classes), (1 - problem.p_d) / (problem.n_classes - 1)
    )
    q[np.arange(len(q)), problem.labels] = problem.p_d
    return q


@dataclasses.dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Run:
    """One forward pass: J; X, one (n_d, n) a layer; pre-activations; logits; F by layer; l."""

    J: torch.Tensor
    X: list[torch.Tensor]
    V: torch.Tensor
    logits: torch.Tensor
    layer_cost: torch.Tensor


def layer(problem: Problem, found: dict, k: int, x: torch.Tensor, F):
    """One layer: (x_{k+1}, quadrature of F over the stages, pre-activations)."""
    A, b = found["A"][k], found["b"][k]
    W = found["W"][k] if "W" in found else None
    slope, moved, data, V = None, 0.0, 0.0, []
    for a, w in zip(NODES[problem.scheme], WEIGHTS[problem.scheme], strict=True):
        point = x if slope is None else x + a * problem.h * slope
        v = point @ A.T + b
        slope = sigma(problem, v)
        if W is not None:
            slope = slope @ W.T
        V.append(v)
        moved = moved + w * slope
        if problem.beta:
            data = data + w * F(point)
    return x + problem.h * moved, data, V


def parts_of(problem: Problem, u: torch.Tensor):
    """The blocks of u as tensors, and F as a function of the state."""
    tensor = lambda v: torch.as_tensor(np.array(v) if isinstance(v, np.ndarray) else v)  # noqa: E731
    found = {name: [tensor(v) for v in blocks] for name, blocks in split(problem, u).items()}
    q = targets(problem)
    first = q[0][q[0] > 0]
    entropy, q = -float(first @ np.log(first)), torch.as_tensor(q)

    def F(x):
        z = x @ found["C"][0].T + found["c"][0]
        return (torch.logsumexp(z, 1) - (q * z).sum(1) - entropy).mean()

    return found, F


def run(problem: Problem, u: torch.Tensor) -> Run:
    """Roll out and sum up J."""
    found, F = parts_of(problem, u)
    x = torch.as_tensor(np.array(problem.input_values)) @ found["E"][0].T + found["e"][0]
    x = x + 0.0 * u[0]  # in the graph, for the costate
    X, V, costs = [x], [], []
    for k in range(problem.depth):
        x, data, v = layer(problem, found, k, x, F)
        square = sum((found[name][k] ** 2).sum() for name in "AbW" if name in found)
        costs.append(problem.beta * data + problem.r / 2 * square)
        X.append(x)
        V += v
    J = problem.h * sum(costs) + problem.gamma * F(x)
    for name, part in (("E", "lift"), ("e", "lift"), ("C", "readout"), ("c", "readout")):
        if part in problem.trained:
            J = J + problem.r_ends / 2 * (found[name][0] ** 2).sum()
    logits = torch.stack([y @ found["C"][0].T + found["c"][0] for y in X])
    return Run(J=J, X=X, V=torch.stack(V), logits=logits, layer_cost=torch.stack(costs))


def costate_residuals(problem: Problem, u: np.ndarray, stored: np.ndarray) -> np.ndarray:
    """What a stored costate lacks in each adjoint equation, the largest entry a layer, (N+1,)."""
    v = torch.tensor(u)
    found, F = parts_of(problem, v)
    with torch.no_grad():
        X = run(problem, v).X
    worst = []
    for k in range(problem.depth + 1):
        x = X[k].clone().requires_grad_(True)
        if k == problem.depth:
            value = problem.gamma * F(x)
        else:
            y, data, _ = layer(problem, found, k, x, F)
            value = problem.h * problem.beta * data + (torch.as_tensor(stored[k + 1]) * y).sum()
        wanted = torch.autograd.grad(value, x)[0].numpy()
        worst.append(np.abs(wanted - stored[k]).max())
    return np.array(worst)


def objective(problem: Problem, u: np.ndarray) -> float:
    with torch.no_grad():
        return float(run(problem, torch.tensor(u)).J)


def gradient(problem: Problem, u: np.ndarray) -> np.ndarray:
    v = torch.tensor(u, requires_grad=True)
    return torch.autograd.grad(run(problem, v).J, v)[0].numpy()


def value_and_gradient(problem: Problem, u: np.ndarray) -> tuple[float, np.ndarray]:
    v = torch.tensor(u, requires_grad=True)
    J = run(problem, v).J
    return float(J.detach()), torch.autograd.grad(J, v)[0].numpy()


def derivatives(problem: Problem, u: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
    """J, its gradient (d,) and Hessian (d, d)."""
    v = torch.tensor(u, requires_grad=True)
    J = run(problem, v).J
    (g,) = torch.autograd.grad(J, v, create_graph=True)
    rows = torch.eye(len(u), dtype=torch.float64)
    (H,) = torch.autograd.grad(g, v, rows, is_grads_batched=True)
    return float(J.detach()), g.detach().numpy(), (H + H.T).numpy() / 2


def costate(problem: Problem, u: np.ndarray) -> np.ndarray:
    """dJ/dx_k, (N+1, n_d, n)."""
    v = torch.tensor(u, requires_grad=True)
    found = run(problem, v)
    wanted = torch.autograd.grad(found.J, found.X, allow_unused=True)
    zero = torch.zeros_like(found.X[0])
    return np.stack([(zero if w is None else w).numpy() for w in wanted])


def preactivations(problem: Problem, u: np.ndarray) -> np.ndarray:
    """All pre-activations, (N stages, n_d, n)."""
    with torch.no_grad():
        return run(problem, torch.tensor(u)).V.numpy()


def least_eigenvalue(problem: Problem, u: np.ndarray) -> tuple[float, np.ndarray]:
    """The least eigenvalue of the Hessian and its vector."""
    values, vectors = np.linalg.eigh(derivatives(problem, u)[2])
    return float(values[0]), vectors[:, 0]


def newton(problem: Problem, u: np.ndarray, steps: int = 8) -> np.ndarray:
    """Newton steps for as long as the gradient falls."""
    _, g, H = derivatives(problem, u)
    for _ in range(steps):
        s = np.linalg.lstsq(H, g, rcond=1e-14)[0]
        _, g_new, H_new = derivatives(problem, u - s)
        if not np.abs(g_new).max() < np.abs(g).max():
            break
        u, g, H = u - s, g_new, H_new
    return u


def minimise(problem: Problem, u: np.ndarray, rounds: int = 4) -> np.ndarray:
    """A local minimum found by BFGS and Newton; leaves saddles along their eigenvector."""
    for _ in range(rounds):
        u = scipy.optimize.minimize(
            lambda v: value_and_gradient(problem, v), u, jac=True, method="BFGS",
            options={"gtol": 1e-7, "maxiter": 500},
        ).x  # fmt: skip
        u = newton(problem, u)
        least, vector = least_eigenvalue(problem, u)
        if least > -1e-10:
            break
        u = u + 1e-2 * vector
    return u
