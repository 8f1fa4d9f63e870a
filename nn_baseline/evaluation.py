"""A trained network layer by layer: costs, accuracy, control norms, where the turnpike begins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ocp import loss

from .model import LAYER_PARTS, Network, soft_cross_entropy

CHUNK = 2048


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Layers:
    """What a set of samples shows of every layer.

    objective : J over these samples
    data_cost : F(x_k), (N+1,)
    accuracy : share of samples whose true logit is strictly the largest at x_k, (N+1,)
    control_norm : |u_k|, (N,)
    stage_cost : l_k, (N,)
    entry : first layer of the turnpike; N where the data cost has not settled
    right_by_class : samples of each class that are right at the end, (n_c,)
    """

    objective: float
    data_cost: np.ndarray
    accuracy: np.ndarray
    control_norm: np.ndarray
    stage_cost: np.ndarray
    entry: int
    right_by_class: np.ndarray


def chunks(inputs: Tensor, labels: Tensor, size: int = CHUNK) -> Iterator[tuple[Tensor, Tensor]]:
    """Cut the samples so that the states of all layers fit into memory."""
    return zip(inputs.split(size), labels.split(size), strict=True)


@torch.no_grad()
def evaluate(network: Network, inputs: Tensor, labels: Tensor) -> Layers:
    """Evaluate every layer over the samples."""
    problem = network.problem
    N = problem.depth
    sums = torch.zeros(N + 1, dtype=torch.float64)
    right = torch.zeros(N + 1, dtype=torch.float64)
    stages = torch.zeros(N, dtype=torch.float64)
    by_class = torch.zeros(problem.n_classes, dtype=torch.int64)
    w = torch.tensor(network.weights, dtype=torch.float64)
    for x, y in chunks(inputs, labels):
        path = network.path(x)
        z = network.logits(torch.stack(path.states))
        g = soft_cross_entropy(z, y, problem.p_d)
        sums += g.double().sum(dim=1).cpu()
        correct = is_right(z, y)
        right += correct.double().sum(dim=1).cpu()
        by_class += torch.bincount(y[correct[-1]], minlength=problem.n_classes).cpu()
        points = g[:-1] if len(w) == 1 else _costs(network, path.stages, y)
        stages += points.double().sum(dim=1).cpu().view(N, len(w)) @ w
    m = len(labels)
    F, norms = (sums / m).numpy(), control_norms(network)
    stage_cost = problem.beta * (stages / m).numpy() + 0.5 * problem.r * norms**2
    objective = problem.h * stage_cost.sum() + problem.gamma * F[-1] + _ends_penalty(network)
    return Layers(
        objective=float(objective),
        data_cost=F,
        accuracy=(right / m).numpy(),
        control_norm=norms,
        stage_cost=stage_cost,
        entry=turnpike_entry(F, problem.n_classes, problem.p_d),
        right_by_class=by_class.numpy(),
    )


def objective_and_gradient(
    network: Network, inputs: Tensor, labels: Tensor, size: int = CHUNK
) -> tuple[float, float]:
    """Return J over the samples and the largest absolute entry of its gradient, chunk by chunk."""
    network.zero_grad()
    J = network.penalty()
    J.backward()
    total = J.detach()
    for x, y in chunks(inputs, labels, size):
        # every chunk's objective holds the penalty, which is counted already
        data = network(x, y, len(y) / len(labels)) - network.penalty()
        data.backward()
        total = total + data.detach()
    largest = float(np.abs(network.gradient()).max())
    network.zero_grad()
    return float(total), largest


def control_norms(network: Network) -> np.ndarray:
    """|u_k|, the Euclidean norm of everything in layer k, (N,)."""
    parts = [getattr(network, p) for p in LAYER_PARTS if getattr(network, p) is not None]
    squares = sum(p.detach().double().square().flatten(1).sum(dim=1) for p in parts)
    return squares.sqrt().cpu().numpy()


def turnpike_entry(F: np.ndarray, n_classes: int, p_d: float, lowest: float = 0.0) -> int:
    """Return the first k with F(x_j) - l* <= 1.1 (F(x_N) - l*) + 1e-3 g_mis for all j >= k.

    lowest : l*, above 0 only where the centred readout has a rank below n_classes - 1
    """
    bound = 1.1 * (F[-1] - lowest) + 1e-3 * loss.misclassification_threshold(n_classes, p_d)
    outside = np.flatnonzero(~(F - lowest <= bound))
    return int(outside[-1]) + 1 if len(outside) else 0


def is_right(z: Tensor, labels: Tensor) -> Tensor:
    """Whether the true logit is strictly the largest, (..., batch), for z (..., batch, n_c)."""
    index = labels.expand(z.shape[:-1])[..., None]
    true = z.gather(-1, index)[..., 0]
    others = z.scatter(-1, index, -torch.inf).amax(dim=-1)
    return true > others


def right(network: Network, inputs: Tensor, labels: Tensor) -> np.ndarray:
    """Which of the samples the network classifies right, (n,) bool."""
    return is_right(final_logits(network, inputs), labels.cpu()).numpy()


@torch.no_grad()
def layer_logits(network: Network, inputs: Tensor) -> Tensor:
    """z_k = C x_k + c of every layer, (N+1, n, n_c), on the CPU in float64."""
    parts = [network.logits(network.states(x)).double().cpu() for x in inputs.split(CHUNK)]
    return torch.cat(parts, dim=1)


@torch.no_grad()
def final_logits(network: Network, inputs: Tensor) -> Tensor:
    """z_N = C x_N + c, (n, n_c), on the CPU in float64."""
    ends = (network.path(x).states[-1] for x in inputs.split(CHUNK))
    return torch.cat([network.logits(x).double().cpu() for x in ends])


def _costs(network: Network, points: list[Tensor], labels: Tensor) -> Tensor:
    """g at every stage point, (N S, batch)."""
    z = network.logits(torch.stack(points))
    return soft_cross_entropy(z, labels, network.problem.p_d)


def _ends_penalty(network: Network) -> float:
    trained = (getattr(network, part) for part in network.problem.trained_parts)
    return 0.5 * network.problem.r_ends * sum(float(p.double().square().sum()) for p in trained)
