"""What is wrong with a training run, layer by layer, each with the next step to take."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from .evaluation import evaluate
from .model import LAYER_PARTS, Network

#: a unit is idle where its derivative stays below this on every sample
_FLAT = 1e-3
#: share of a layer's units beyond which it is worth a line
_MANY = 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One sentence on what was seen, one on what to try; `bad` where it needs attention."""

    name: str
    message: str
    hint: str
    bad: bool = True


def diagnose(
    network: Network, inputs: Tensor, labels: Tensor, objectives: list[float], min_fall: float
) -> list[Finding]:
    """Look at a trained or training network on a few hundred samples.

    objectives : J at the evaluations so far, oldest first
    min_fall : relative fall of J that counts as one
    """
    found = []
    if len(objectives) >= 3:
        then, now = objectives[-3], objectives[-1]
        if not now < then - min_fall * abs(then):
            found.append(
                Finding(
                    name="not falling",
                    message=f"J went from {then:.6g} to {now:.6g} over two evaluations",
                    hint="lower lr or let the schedule end lower; if J was never low, raise"
                    " init_scale or the step h",
                )
            )
    layers = evaluate(network, inputs, labels)
    N = network.problem.depth
    learnt = layers.data_cost[-1] < 0.9 * layers.data_cost[0]
    # behind the entry of the turnpike idle layers are what the stage cost is for
    working = layers.entry if learnt and network.problem.beta else N
    found += _flat_layers(network, inputs, working)
    if network.problem.beta == 0:
        return found
    if not learnt:
        found.append(
            Finding(
                name="nothing learnt",
                message=f"the data cost is {layers.data_cost[0]:.3g} before the first layer and"
                f" {layers.data_cost[-1]:.3g} after the last",
                hint="train longer, raise lr or init_scale, or lower r",
            )
        )
    elif layers.entry == N:
        found.append(
            Finding(
                name="no turnpike",
                message=f"the data cost still moves in the last of {N} layers",
                hint="train longer, add layers, or lower r so that earlier layers may work harder",
                bad=False,
            )
        )
    else:
        found.append(
            Finding(
                name="turnpike",
                message=f"the data cost has settled from layer {layers.entry} of {N} on",
                hint=f"try cropping at {max(1, layers.entry)}",
                bad=False,
            )
        )
    return found


@torch.no_grad()
def _flat_layers(network: Network, inputs: Tensor, working: int) -> list[Finding]:
    """Name layers, of the first `working`, most of whose units have no slope on any sample."""
    stages = network.path(inputs).stages[:: len(network.weights)]
    shares = []
    for X, A, b in zip(stages, network.A, network.b, strict=True):
        shares.append((_slope(network, X @ A.T + b) < _FLAT).all(dim=0).double().mean().item())
    flat = [k for k, share in enumerate(shares[:working]) if share > _MANY]
    if not flat:
        return []
    shown = ", ".join(str(k) for k in flat[:10]) + (" and more" if len(flat) > 10 else "")
    kind = "saturated" if network.problem.sigma.bounded else "dead"
    return [
        Finding(
            name=f"{kind} layers",
            message=f"in layers {shown} more than half of the units have no slope on any sample",
            hint="lower lr and restart from a smaller init_scale, or raise r",
        )
    ]


def _slope(network: Network, v: Tensor) -> Tensor:
    """|sigma'(v)|, by autograd so that every activation follows its own convention."""
    with torch.enable_grad():
        v = v.detach().requires_grad_()
        (slope,) = torch.autograd.grad(network.sigma(v).sum(), v)
    return slope.abs()


def first_bad_layer(network: Network, inputs: Tensor, labels: Tensor) -> str:
    """Say where the first number that is not finite appears."""
    with torch.no_grad():
        states = network.path(inputs).states
    for k, x in enumerate(states):
        if not torch.isfinite(x).all():
            return "in the lift" if k == 0 else f"in layer {k - 1}"
    network.zero_grad()
    network(inputs, labels).backward()
    bad = [
        k
        for name, p in network.named_parameters()
        if name in LAYER_PARTS
        for k in range(len(p))
        if p.grad is not None and not torch.isfinite(p.grad[k]).all()
    ]
    # back-propagation meets the last layer first
    return f"in the gradient of layer {max(bad)}" if bad else "in the loss"
