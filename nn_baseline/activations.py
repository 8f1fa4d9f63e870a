"""The statement's activations in torch; derivatives at kinks follow the statement's conventions."""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F

from ocp.activations import LEAKY_SLOPE, Activation

Function = Callable[[torch.Tensor], torch.Tensor]
#: softplus is v itself to the last float64 bit beyond this; torch's default of 20 errs by 2e-9
_SOFTPLUS_LINEAR = 40.0

_PLAIN: dict[str, Function] = {
    "tanh": torch.tanh,
    "softsign": F.softsign,
    "identity": lambda v: v,
    "relu": torch.relu,  # relu'(0) = 0
    "leaky_relu": lambda v: F.leaky_relu(v, LEAKY_SLOPE),  # leaky_relu'(0) = .01
    "gelu": F.gelu,  # the exact one, with erf
    "silu": F.silu,
    "sigmoid": torch.sigmoid,
}
_SHARPENED: dict[str, Callable[[torch.Tensor, float], torch.Tensor]] = {
    "softplus": lambda v, k: F.softplus(v, beta=k, threshold=_SOFTPLUS_LINEAR),
}


def activation(sigma: Activation) -> Function:
    """Return the torch function of one of the statement's activations."""
    if sigma.has_sharpness:
        sharpened = _SHARPENED[sigma.name]
        return lambda v: sharpened(v, sigma.sharpness) - sigma.offset
    plain = _PLAIN[sigma.name]
    return (lambda v: plain(v) - sigma.offset) if sigma.shifted else plain
