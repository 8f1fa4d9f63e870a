"""The statement's activations in torch; derivatives at kinks follow the statement's conventions."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F

from ocp.activations import LEAKY_SLOPE, Activation

#: softplus is v itself to the last float64 bit beyond this; torch's default of 20 errs by 2e-9
_SOFTPLUS_LINEAR = 40.0

_PLAIN: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "tanh": torch.tanh,
    "softsign": F.softsign,
    "identity": lambda v: v,
    "relu": torch.relu,  # relu'(0) = 0
    "leaky_relu": lambda v: F.leaky_relu(v, LEAKY_SLOPE),  # leaky_relu'(0) = .01
    "gelu": F.gelu,  # the exact one, with erf
    "silu": F.silu,
}


def activation(sigma: Activation) -> Callable[[torch.Tensor], torch.Tensor]:
    """Return the torch function of one of the statement's activations."""
    if sigma.name in _PLAIN:
        return _PLAIN[sigma.name]
    if sigma.name == "sigmoid":
        return (lambda v: torch.sigmoid(v) - 0.5) if sigma.shifted else torch.sigmoid
    k = sigma.sharpness
    offset = math.log(2.0) / k if sigma.shifted else 0.0
    return lambda v: F.softplus(v, beta=k, threshold=_SOFTPLUS_LINEAR) - offset
