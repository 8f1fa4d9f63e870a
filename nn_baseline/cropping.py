"""Remove layers from a trained network and say what that costs and saves.

Three ways to choose the layers that stay: a prefix, all above a share of the largest control
norm, or the best k by greedy elimination.  A cropped network is a network of the same statement
with a smaller depth: it can be saved, judged and trained on like any other.
"""

from __future__ import annotations

import dataclasses
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ocp.problem import SCHEMES, Problem

from .evaluation import chunks, control_norms, final_logits, is_right
from .model import Network, soft_cross_entropy


@dataclass(frozen=True, slots=True, kw_only=True)
class Crop:
    """What a network with fewer layers does, beside the full one on the same samples.

    layers : the layers of the full network that were kept
    logit_change : largest |z - z_full| over samples and classes
    flipped : number of samples whose prediction changed
    accuracy : share of samples classified right, and the full network's minus this
    multiply_adds, parameters : of one evaluation, of the network
    latency : median seconds of one evaluation of `batch` samples
    """

    kind: str
    layers: tuple[int, ...]
    logit_change: float
    flipped: int
    samples: int
    accuracy: float
    lost_accuracy: float
    multiply_adds: int
    parameters: int
    latency: float
    batch: int


def prefix(network: Network, k: int) -> tuple[int, ...]:
    """Keep the first k layers."""
    _check_depth(network, k)
    return tuple(range(k))


def above_threshold(network: Network, share: float) -> tuple[int, ...]:
    """Keep the layers with |u_k| above a share of the largest; the largest stays in any case."""
    norms = control_norms(network)
    kept = tuple(int(k) for k in range(len(norms)) if norms[k] > share * norms.max())
    return kept or (int(norms.argmax()),)


def best(network: Network, k: int, inputs: Tensor, labels: Tensor) -> tuple[int, ...]:
    """Keep k layers: remove one at a time, each time the one that raises F(x_N) least.

    Greedy, so not the best of all subsets; take training samples, never the test set.
    """
    *_, kept = greedy(network, k, inputs, labels)
    return kept


def greedy(network: Network, k: int, inputs: Tensor, labels: Tensor) -> Iterator[tuple[int, ...]]:
    """Yield what `best` keeps of all layers, of one less, .. and of k: each within the last."""
    _check_depth(network, k)
    kept = tuple(range(network.problem.depth))
    yield kept
    while len(kept) > k:
        candidates = [kept[:i] + kept[i + 1 :] for i in range(len(kept))]
        kept = min(candidates, key=lambda layers: _terminal_cost(network, layers, inputs, labels))
        yield kept


def keep(network: Network, layers: Sequence[int]) -> Network:
    """Return a network with only these layers, in their order; parameters are copied."""
    if not layers:
        raise ValueError("no layer is to be kept; wanted at least one")
    u = network.controls()
    index = list(layers)
    cut = dataclasses.replace(u, A=u.A[index], b=u.b[index], W=None if u.W is None else u.W[index])
    problem = network.problem.with_(depth=len(index))
    return Network(problem, cut, dtype=network.A.dtype, device=network.A.device)


def compare(
    full: Network,
    cropped: Network,
    kind: str,
    layers: Sequence[int],
    inputs: Tensor,
    labels: Tensor,
) -> Crop:
    """Evaluate both networks on the samples."""
    z_full, z = final_logits(full, inputs), final_logits(cropped, inputs)
    y = labels.cpu()
    right = is_right(z, y).double().mean().item()
    batch = min(256, len(labels))
    return Crop(
        kind=kind,
        layers=tuple(layers),
        logit_change=float((z - z_full).abs().max()),
        flipped=int((z.argmax(dim=1) != z_full.argmax(dim=1)).sum()),
        samples=len(labels),
        accuracy=right,
        lost_accuracy=is_right(z_full, y).double().mean().item() - right,
        multiply_adds=multiply_adds(cropped.problem),
        parameters=parameters(cropped.problem),
        latency=latency(cropped, inputs[:batch]),
        batch=batch,
    )


def multiply_adds(problem: Problem, depth: int | None = None) -> int:
    """Multiplications of weights with states in one evaluation of one sample."""
    n, n_in = problem.width, problem.inputs.shape[1]
    stages = len(SCHEMES[problem.scheme][0]) * (2 if problem.block == "double" else 1)
    N = problem.depth if depth is None else depth
    return n * n_in + N * stages * n * n + problem.n_classes * n


def parameters(problem: Problem) -> int:
    """Numbers that an evaluation reads, fixed ends included."""
    n, n_in = problem.width, problem.inputs.shape[1]
    return problem.depth * problem.layer_size + n * n_in + n + problem.n_classes * (n + 1)


def equal_budget_epochs(problem: Problem, epochs: int, depth: int) -> int:
    """Return the epochs at another depth that cost as many multiply-adds as `epochs` here."""
    return max(1, round(epochs * multiply_adds(problem) / multiply_adds(problem, depth)))


@torch.no_grad()
def latency(network: Network, inputs: Tensor, repeats: int = 15) -> float:
    """Median seconds from samples to logits."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        z = network.logits(network.path(inputs).states[-1])
        float(z[0, 0])  # waits for a device that works ahead
        times.append(time.perf_counter() - start)
    return statistics.median(times)


@torch.no_grad()
def _terminal_cost(
    network: Network, layers: Sequence[int], inputs: Tensor, labels: Tensor
) -> float:
    """F(x_N) of the network with only these layers."""
    total = 0.0
    W = network.W
    for s, y in chunks(inputs, labels):
        x = network.lift(s)
        for k in layers:
            x = network.layer(x, network.A[k], network.b[k], None if W is None else W[k])
        g = soft_cross_entropy(network.logits(x), y, network.problem.p_d)
        total += float(g.double().sum())
    return total / len(labels)


def _check_depth(network: Network, k: int) -> None:
    N = network.problem.depth
    if not 1 <= k <= N:
        raise ValueError(f"{k} layers are to be kept; wanted 1..{N}")
