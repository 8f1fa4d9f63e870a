"""What a training starts from: a network on its device, the samples beside it, an optimiser."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ocp.controls import Controls
from ocp.problem import Problem

from .model import Network
from .options import Options


def start_network(problem: Problem, options: Options, controls: Controls | None = None) -> Network:
    """Return the network that the options describe, near zero unless controls are given.

    Raises
    ------
    ValueError : the device is not there
    """
    return Network(
        problem,
        controls,
        dtype=getattr(torch, options.dtype),
        device=available_device(options.device),
        scale=options.init_scale,
        seed=options.seed,
    )


def available_device(name: str) -> torch.device:
    """Return the device, or raise ValueError with what is there instead."""
    try:
        device = torch.device(name)
    except RuntimeError:
        raise ValueError(f"device is {name!r}; wanted cpu, cuda or cuda:INDEX") from None
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"device is {name!r}; wanted cpu, cuda or cuda:INDEX")
    if device.type == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if (device.index or 0) >= count:
            raise ValueError(f"device is {name!r} but {count} CUDA devices are there; try cpu")
    return device


def samples(
    network: Network, inputs: np.ndarray | None = None, labels: np.ndarray | None = None
) -> tuple[Tensor, Tensor]:
    """Return samples (default: the problem's) as tensors on the network's device; bytes stay."""
    inputs = network.problem.inputs if inputs is None else inputs
    labels = network.problem.labels if labels is None else labels
    device = network.A.device
    x = torch.tensor(inputs, device=device)
    if x.dtype != torch.uint8:
        x = x.to(network.A.dtype)
    return x, torch.tensor(labels, dtype=torch.int64, device=device)


def make_optimizer(parameters: list[Tensor], options: Options) -> torch.optim.Optimizer:
    """Return the optimiser; its learning rate is set before every step."""
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, lr=options.lr, momentum=options.momentum)
    if options.optimizer == "lbfgs":
        return torch.optim.LBFGS(
            parameters,
            lr=options.lr,
            history_size=50,
            tolerance_grad=0.0,
            tolerance_change=0.0,
            line_search_fn="strong_wolfe",
        )
    if options.optimizer == "adam":
        return torch.optim.Adam(parameters, lr=options.lr, fused=True)
    return torch.optim.AdamW(
        parameters, lr=options.lr, weight_decay=options.decoupled_decay, fused=True
    )
