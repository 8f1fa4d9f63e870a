"""A residual network in plain torch, from a safetensors file: this file needs nothing else.

network = load("network.safetensors")   # an nn.Sequential of Linear and Residual
logits = network(inputs)                # (batch, n_in) -> (batch, n_classes)
"""

import json

import torch
import torch.nn.functional as F
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

ACTIVATIONS = {
    "tanh": torch.tanh,
    "softsign": F.softsign,
    "identity": torch.clone,
    "relu": torch.relu,
    "leaky_relu": F.leaky_relu,
    "gelu": F.gelu,
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
}


class Residual(nn.Module):
    """x + h sum_s w_s K_s with K_s = W sigma(A X_s + b), X_s = x + h a_s K_{s-1}; often s = 1."""

    def __init__(
        self,
        width: int,
        h: float,
        nodes: list[float],
        slopes: list[float],
        double: bool,
        activation: str,
        sharpness: float,
        offset: float,
    ) -> None:
        super().__init__()
        self.inner = nn.Linear(width, width)
        self.outer = nn.Linear(width, width, bias=False) if double else nn.Identity()
        self.h, self.steps = h, tuple(zip(nodes, slopes, strict=True))
        self.activation, self.sharpness, self.offset = activation, sharpness, offset

    def sigma(self, v: Tensor) -> Tensor:
        if self.activation == "softplus":
            return F.softplus(v, beta=self.sharpness, threshold=40.0) - self.offset
        value = ACTIVATIONS[self.activation](v)
        return value - self.offset if self.offset else value

    def forward(self, x: Tensor) -> Tensor:
        y, K = x, x
        for a, w in self.steps:
            K = self.outer(self.sigma(self.inner(x + self.h * a * K if a else x)))
            y = y + self.h * w * K
        return y


def build(n_in: int, n_classes: int, depth: int, width: int, **layer: object) -> nn.Sequential:
    """Return the network without its weights: lift, `depth` layers, readout."""
    layers = [Residual(width, **layer) for _ in range(depth)]  # type: ignore[arg-type]
    return nn.Sequential(nn.Linear(n_in, width), *layers, nn.Linear(width, n_classes))


def load(path: str) -> nn.Sequential:
    """Return the network of a file, with its weights; "classes" in its metadata has their names."""
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    weights = load_file(path)
    network = build(**json.loads(metadata["network"]))
    network.to(next(iter(weights.values())).dtype).load_state_dict(weights)
    return network.eval()
