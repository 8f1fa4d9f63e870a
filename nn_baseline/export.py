"""From any torch network to the files that the other rooms read.

`stage_trace` takes any stack of blocks (convolutions, attention: only logits and norms are
stored); `dense_network` takes blocks that are the statement's layers and returns the statement's
network, after checking on the samples that it does the same.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from ocp import trace
from ocp.controls import zeros
from ocp.problem import Problem
from ocp.trace import Trace

from .evaluation import CHUNK, control_norms, layer_logits
from .model import Network

ORIGIN = {"producer": "nn_baseline"}


@torch.no_grad()
def stage_trace(
    path: str | os.PathLike,
    blocks: Sequence[nn.Module],
    readout: Callable[[Tensor], Tensor],
    inputs: Tensor,
    labels: Tensor,
    *,
    n_classes: int,
    p_d: float,
    r: float,
    lift: Callable[[Tensor], Tensor] | None = None,
    h: float = 1.0,
    gamma: float = 1.0,
    beta: int = 1,
) -> str:
    """Write logits before the first and after every block, and the blocks' norms.

    blocks : each maps a state to the next one, its skip connection included
    readout : from a state to logits, (batch, n_c); pooling and normalisation belong here
    lift : from inputs to the first state
    h : factor of a layer in the objective

    Returns the content hash.  Put the modules into eval mode first.
    """
    logits = []
    for s in inputs.split(CHUNK):
        x = s if lift is None else lift(s)
        z = [readout(x)]
        for block in blocks:
            x = block(x)
            z.append(readout(x))
        logits.append(torch.stack(z))
    norms = [
        float(torch.stack([p.double().square().sum() for p in block.parameters()]).sum().sqrt())
        for block in blocks
    ]
    content = Trace(
        logits=torch.cat(logits, dim=1).double().cpu().numpy(),
        control_norm=np.array(norms),
        labels=labels.cpu().numpy(),
        n_classes=n_classes,
        depth=len(blocks),
        h=h,
        p_d=p_d,
        r=r,
        gamma=gamma,
        beta=beta,
        origin=ORIGIN,
    )
    return trace.save(path, content)


def network_trace(path: str | os.PathLike, network: Network, inputs: Tensor, labels: Tensor) -> str:
    """Write the stage trace of one of the statement's networks."""
    problem = network.problem
    content = Trace(
        logits=layer_logits(network, inputs).numpy(),
        control_norm=control_norms(network),
        labels=labels.cpu().numpy(),
        n_classes=problem.n_classes,
        depth=problem.depth,
        h=problem.h,
        p_d=problem.p_d,
        r=problem.r,
        gamma=problem.gamma,
        beta=problem.beta,
        origin=ORIGIN,
    )
    return trace.save(path, content)


@torch.no_grad()
def dense_network(
    blocks: Sequence[nn.Module],
    readout: nn.Linear,
    inputs: np.ndarray,
    labels: np.ndarray,
    *,
    activation: str,
    n_classes: int,
    p_d: float,
    r: float,
    lift: nn.Linear | None = None,
    h: float = 1.0,
    gamma: float = 1.0,
    beta: int = 1,
    trained: tuple[str, ...] = ("layers",),
    r_ends: float = 0.0,
) -> Network:
    """Return the statement's network that does what these dense residual blocks do.

    blocks : x + h sigma(A x + b), one nn.Linear each, or x + h W sigma(A x + b), two, the second
        without a bias
    lift, readout : nn.Linear; without a lift inputs are padded with zeros
    trained : add "lift" and "readout" if they were trained with the layers

    Raises
    ------
    ValueError : a block has other linear maps, or does something else to the samples
    """
    linears = [[m for m in block.modules() if isinstance(m, nn.Linear)] for block in blocks]
    double = len(linears[0]) == 2
    for k, maps in enumerate(linears):
        fits = len(maps) == 1 + double and not (double and maps[1].bias is not None)
        if not fits:
            raise ValueError(
                f"block {k} has {len(maps)} linear maps{' and a second bias' if double else ''};"
                " wanted one in every block, or two of which the second has no bias"
                " (other blocks: stage_trace)"
            )
    weights = lambda i: np.stack([_array(maps[i].weight) for maps in linears])  # noqa: E731
    A, b = weights(0), np.stack([_bias(maps[0]) for maps in linears])
    problem = Problem(
        inputs=inputs,
        labels=labels,
        n_classes=n_classes,
        depth=len(blocks),
        width=A.shape[1],
        h=h,
        block="double" if double else "single",
        activation=activation,
        shifted=False,
        p_d=p_d,
        r=r,
        gamma=gamma,
        beta=beta,
        trained=trained,
        r_ends=r_ends,
        lift_weight=None if lift is None else _array(lift.weight),
        lift_bias=None if lift is None else _bias(lift),
        readout_weight=_array(readout.weight),
        readout_bias=_bias(readout),
    )
    # trained ends are those of the problem
    u = dataclasses.replace(zeros(problem), A=A, b=b, W=weights(1) if double else None)
    network = Network(problem, u)
    _compare(network, blocks)
    return network


def _compare(network: Network, blocks: Sequence[nn.Module]) -> None:
    """Raise ValueError unless every block moves the samples as the statement's layer does."""
    parameter = next(blocks[0].parameters())
    X = network.states(torch.tensor(network.problem.input_values[:CHUNK]))
    tolerance = 1e3 * torch.finfo(parameter.dtype).eps * max(1.0, float(X.abs().max()))
    for k, block in enumerate(blocks):
        x = X[k].to(parameter.dtype).to(parameter.device)
        error = float((block(x).double().cpu() - X[k + 1]).abs().max())
        if not error <= tolerance:
            raise ValueError(
                f"block {k} of the module differs from the statement's layer by {error:.3g} on the"
                f" samples (rounding explains {tolerance:.1g}): is h, the activation or the order"
                " of its operations another?"
            )


def _array(value: Tensor) -> np.ndarray:
    return value.detach().cpu().numpy().astype(np.float64)


def _bias(linear: nn.Linear) -> np.ndarray:
    return np.zeros(linear.out_features) if linear.bias is None else _array(linear.bias)
