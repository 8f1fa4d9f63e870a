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
import safetensors.numpy
import torch
from torch import Tensor, nn

from ocp.atomic import write_atomically
from ocp.controls import zeros
from ocp.files import canonical_json, content_hash
from ocp.problem import Problem

from .evaluation import CHUNK, control_norms, layer_logits
from .model import Network

TRACE_FORMAT = "trace-1"


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
    return write_trace(
        path,
        torch.cat(logits, dim=1).double().cpu().numpy(),
        np.array(norms),
        labels.cpu().numpy(),
        n_classes=n_classes,
        h=h,
        p_d=p_d,
        r=r,
        gamma=gamma,
        beta=beta,
    )


def network_trace(path: str | os.PathLike, network: Network, inputs: Tensor, labels: Tensor) -> str:
    """Write the stage trace of one of the statement's networks."""
    problem = network.problem
    return write_trace(
        path,
        layer_logits(network, inputs).numpy(),
        control_norms(network),
        labels.cpu().numpy(),
        n_classes=problem.n_classes,
        h=problem.h,
        p_d=problem.p_d,
        r=problem.r,
        gamma=problem.gamma,
        beta=problem.beta,
    )


def write_trace(
    path: str | os.PathLike,
    logits: np.ndarray,
    control_norm: np.ndarray,
    labels: np.ndarray,
    *,
    n_classes: int,
    h: float,
    p_d: float,
    r: float,
    gamma: float,
    beta: int,
) -> str:
    """Write a stage trace: logits (N+1, n_d, n_c), control_norm (N,), labels (n_d,).

    Raises
    ------
    ValueError : shapes that do not fit, numbers that are not finite, labels out of range
    """
    N = len(control_norm)
    if N < 1 or logits.shape != (N + 1, len(labels), n_classes):
        raise ValueError(
            f"logits have shape {logits.shape} with {N} norms and {len(labels)} labels;"
            f" wanted ({N + 1}, {len(labels)}, {n_classes})"
        )
    for name, array in (("logits", logits), ("control_norm", control_norm)):
        if not np.isfinite(array).all():
            at = [int(i) for i in np.argwhere(~np.isfinite(array))[0]]
            raise ValueError(f"{name}{at} is {array[tuple(at)]}; wanted finite numbers")
    if labels.min() < 0 or labels.max() >= n_classes:
        raise ValueError(
            f"labels run from {labels.min()} to {labels.max()}; wanted 0..{n_classes - 1}"
        )
    if not 1 / n_classes < p_d <= 1:
        raise ValueError(f"p_d is {p_d}; wanted 1/n_classes = {1 / n_classes:.6g} < p_d <= 1")
    statement = {
        "format": TRACE_FORMAT,
        "n_classes": int(n_classes),
        "depth": N,
        "h": float(h),
        "p_d": float(p_d),
        "r": float(r),
        "gamma": float(gamma),
        "beta": int(beta),
    }
    tensors = {
        "logits": np.ascontiguousarray(logits, "<f8"),
        "control_norm": np.ascontiguousarray(control_norm, "<f8"),
        "labels": np.ascontiguousarray(labels, "<i8"),
    }
    sha256 = content_hash(statement, tensors)
    origin = {"producer": "nn_baseline", "sha256": sha256}
    metadata = {"problem": canonical_json(statement), "origin": canonical_json(origin)}
    write_atomically(path, safetensors.numpy.save(tensors, metadata))
    return sha256


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
