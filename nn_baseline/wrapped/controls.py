"""What the control term weighs: all parameters of a block but its shortcut's; all others as ends.

A weight that a normalisation follows is a free scale: the block does the same for every scale of
it.  Before a BatchNorm with running statistics the norm of the *folded* map says what it does;
before other norms nothing does, and no idleness is read off such a block's norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.conv import _ConvNd

from .arguments import Call
from .residual import Skip

NORMS = (_BatchNorm, nn.GroupNorm, nn.LayerNorm, nn.InstanceNorm2d, nn.RMSNorm)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Weighed:
    """The parameters by what weighs them, each once.

    blocks : of each block, its shortcut's left out;  ends : all others, of stem, shortcuts, head
    """

    blocks: list[list[nn.Parameter]]
    ends: list[nn.Parameter]


def weighed(model: nn.Module, blocks: Sequence[nn.Module], skips: Sequence[Skip]) -> Weighed:
    """Sort a model's parameters.

    Raises
    ------
    ValueError : a parameter of a block lies elsewhere too: it could not idle with its block
    """
    owner: dict[int, int] = {}
    within: list[list[nn.Parameter]] = []
    for k, (block, skip) in enumerate(zip(blocks, skips, strict=True)):
        own = [p for name, p in block.named_parameters() if name not in skip.parameters]
        within.append(own)
        for p in own:
            if id(p) in owner:
                raise ValueError(f"blocks {owner[id(p)]} and {k} share a parameter")
            owner[id(p)] = k
    inside = {id(module) for block in blocks for module in block.modules()}
    ends: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, found in module.named_parameters(recurse=False):
            if id(module) not in inside and id(found) in owner:
                raise ValueError(f"block {owner[id(found)]} shares its {name!r} with the ends")
            if id(found) not in owner:
                ends[id(found)] = found
    return Weighed(blocks=within, ends=list(ends.values()))


def squares(parameters: Sequence[nn.Parameter]) -> Tensor:
    """Sum of squares over parameters, in single precision at least."""
    if not parameters:
        return torch.zeros(())
    wide = [p if p.dtype in (torch.float32, torch.float64) else p.float() for p in parameters]
    return torch.stack([p.square().sum() for p in wide]).sum()


def norms(found: Weighed) -> Tensor:
    """|u_k| of every block, (N,), float64."""
    sums = [sum(float(_square(p)) for p in own) for own in found.blocks]
    return torch.tensor(sums, dtype=torch.float64).sqrt()


def ends_norm(found: Weighed) -> float:
    """Norm of the ends that are trained."""
    with torch.no_grad():
        return float(sum(float(_square(p)) for p in found.ends if p.requires_grad)) ** 0.5


def folded_norm(block: nn.Module, call: Call, skip: Skip) -> float | None:
    """Norm of a block with every BatchNorm folded into the map before it, in eval mode.

    None where no weight is followed by a normalisation, so that the norm itself says what the block
    does; NaN where one is followed by a norm that cannot be folded.
    """
    made: dict[int, nn.Module] = {}
    pairs: list[tuple[nn.Module, nn.Module]] = []
    alive: list[Any] = []  # an id is unique only as long as its tensor lives
    inner = [(p, m) for p, m in block.named_modules() if p and not next(m.children(), None)]

    def note(module: nn.Module, args: tuple[Any, ...], answer: Any) -> None:
        alive.extend([args, answer])
        if isinstance(module, NORMS) and args and id(args[0]) in made:
            pairs.append((made[id(args[0])], module))
        if isinstance(module, _ConvNd | nn.Linear) and isinstance(answer, Tensor):
            made[id(answer)] = module

    shortcut = f"{skip.path}." if skip.path else "\0"
    own = [m for p, m in inner if not p.startswith(shortcut) and p != skip.path]
    hooks = [m.register_forward_hook(note) for m in own]
    try:
        call.copied().of(block)
    finally:
        for hook in hooks:
            hook.remove()
    if not pairs:
        return None
    total = 0.0
    done: set[int] = set()
    for module, norm in pairs:
        if not isinstance(norm, _BatchNorm) or norm.running_var is None:
            return float("nan")
        total += _folded_square(module, norm)
        done |= {id(p) for m in (module, norm) for p in m.parameters()}
    for name, p in block.named_parameters():
        if name not in skip.parameters and id(p) not in done:
            total += float(_square(p))
    return total**0.5


def _folded_square(module: nn.Module, norm: _BatchNorm) -> float:
    assert norm.running_var is not None and norm.running_mean is not None
    scale = (norm.running_var.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    weight = module.get_parameter("weight").double()
    transposed = isinstance(module, _ConvNd) and module.transposed
    by_channel = weight.transpose(0, 1) if transposed else weight
    shape = [-1] + [1] * (weight.ndim - 1)
    bias = -norm.running_mean.double() * scale
    if getattr(module, "bias", None) is not None:
        bias = bias + module.get_parameter("bias").double() * scale
    if norm.bias is not None:
        bias = bias + norm.bias.double()
    return float((by_channel * scale.view(shape)).square().sum() + bias.square().sum())


def _square(p: Tensor) -> Tensor:
    return p.detach().double().square().sum()
