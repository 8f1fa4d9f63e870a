"""What a residual block is, and what remains of it when it idles: its skip.

A block is residual if, with all its parameters but the shortcut's at zero, it returns its recorded
input, or its shortcut of it with the activation that follows.  That is tried on the block itself,
in eval mode, never read off its name.  A block after which comes a normalisation of its own
(post-norm) then returns a constant: it has no skip unless the user names one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .arguments import Call
from .checkpoints import no_reentrant_checkpoint

#: user's skip: (block, state) -> what the idle block returns
NamedSkip = Callable[[nn.Module, Tensor], Tensor]
#: what may follow the sum of shortcut and residual
ACTIVATIONS: tuple[Callable[[Tensor], Tensor] | None, ...] = (
    *(None, F.relu, F.gelu, F.silu, F.leaky_relu, F.elu, torch.tanh, F.relu6, F.hardswish),
)
#: words in the name of a shortcut, where several children could be one
WORDS = ("shortcut", "downsample", "skip", "identity", "proj")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Skip:
    """What an idle block does to its state.

    kind : "identity"; "child", the block's own submodule `path` and the activation after it; or
        "named", the user's function
    parameters : names of the block's parameters that belong to the skip, so not to the control
    """

    kind: str
    path: str = ""
    activation: Callable[[Tensor], Tensor] | None = None
    named: NamedSkip | None = None
    parameters: frozenset[str] = field(default_factory=frozenset)

    def apply(self, block: nn.Module, x: Tensor) -> Tensor:
        """The state after the idle block."""
        if self.kind == "identity":
            return x
        if self.named is not None:
            return self.named(block, x)
        y = block.get_submodule(self.path)(x)
        return y if self.activation is None else self.activation(y)


def state_of_call(args: Sequence[Any], kwargs: dict[str, Any], k: int) -> tuple[str | int, Tensor]:
    """Where a block's state is among its arguments, and the state.

    Raises
    ------
    ValueError : the block is not called with a state
    """
    if args:
        if isinstance(args[0], Tensor):
            return 0, args[0]
        raise ValueError(
            f"block {k} is called with a {type(args[0]).__name__} first; wanted one tensor"
        )
    names = [name for name, value in kwargs.items() if isinstance(value, Tensor)]
    for name in ("hidden_states", "x", "input", *names[:1]):
        if name in names:
            return name, kwargs[name]
    raise ValueError(f"block {k} is called without a tensor")


def state_of_answer(answer: Any, k: int) -> Tensor:
    """The state in what a block returns: the tensor, or the first of a tuple.

    Raises
    ------
    ValueError : anything else
    """
    first = answer[0] if type(answer) in (tuple, list) and answer else answer
    if not isinstance(first, Tensor):
        raise ValueError(
            f"block {k} returns a {type(answer).__name__}; wanted a tensor, or a tuple that begins"
            " with one"
        )
    return first


def find_skip(
    block: nn.Module, call: Call, x: Tensor, y: Tensor, k: int, named: NamedSkip | None
) -> Skip:
    """Find what a block leaves of its state when it idles.

    call, x, y : a recorded call of the block, the state in it and the state that came out; in eval
        mode, without gradients

    Raises
    ------
    ValueError : the block is not residual, or the named skip is not what remains of it
    """
    if named is not None:
        return _checked_named(block, call, x, k, named)
    nothing = _zeroed(block, call, frozenset(), k)
    if nothing.shape == x.shape and _near(nothing, x):
        return Skip(kind="identity")
    fitting = _fitting_children(block, call, x, k)
    if len(fitting) > 1:
        named_so = [s for s in fitting if any(w in s.path.lower() for w in WORDS)]
        fitting = named_so if len(named_so) == 1 else fitting
    if len(fitting) > 1:
        paths = ", ".join(skip.path for skip in fitting)
        raise ValueError(
            f"block {k} has several submodules that could be its shortcut ({paths}); name it with"
            " skip="
        )
    if fitting:
        return fitting[0]
    raise ValueError(_why_not(nothing, x, y, k))


@contextlib.contextmanager
def probing(module: nn.Module) -> Iterator[None]:
    """Eval mode, no gradients, no autocast, nothing compiled; all as before afterwards."""
    modules = list(module.modules())
    flags = [m.training for m in modules]
    compiled = [m.__dict__.pop("_compiled_call_impl", None) for m in modules]
    device = next((p.device.type for p in module.parameters()), "cpu")
    try:
        for m in modules:
            m.training = False
        with no_reentrant_checkpoint(), torch.no_grad(), torch.autocast(device, enabled=False):
            yield
    finally:
        for m, flag, call in zip(modules, flags, compiled, strict=True):
            m.training = flag
            if call is not None:
                m.__dict__["_compiled_call_impl"] = call


def tolerance(value: Tensor) -> float:
    """How much two orders of summation may differ, relative to the largest entry."""
    eps = torch.finfo(value.dtype).eps
    # half precisions keep few digits: eight rounding errors are all that is left to compare
    return 1024 * eps if eps < 1e-5 else 8 * eps


def _near(one: Tensor, two: Tensor) -> bool:
    """Equal up to rounding; NaN is near nothing."""
    if one.shape != two.shape:
        return False
    scale = float(two.abs().max()) if two.numel() else 0.0
    return float((one - two).abs().max()) <= tolerance(two) * scale


def _zeroed(
    block: nn.Module, call: Call, kept: frozenset[str], k: int, scale: float = 0.0
) -> Tensor:
    """The state after the block with all parameters but the kept ones at zero, or drawn anew."""
    draw = torch.Generator().manual_seed(0)  # the program's own random numbers stay as they are
    values = {
        name: p.detach() if name in kept else _drawn(p, scale, draw)
        for name, p in block.named_parameters()
    }
    fresh = call.copied()  # a block may write into its input
    return state_of_answer(functional_call(block, values, fresh.args, fresh.kwargs), k)


def _fitting_children(block: nn.Module, call: Call, x: Tensor, k: int) -> list[Skip]:
    """Submodules that are called with the state itself and whose answer is all that remains."""
    called: list[str] = []
    fresh = call.copied()
    _, state = state_of_call(fresh.args, fresh.kwargs, k)

    def noting(path: str) -> Callable[..., None]:
        def note(module: nn.Module, args: tuple[Any, ...]) -> None:
            if args and args[0] is state and path not in called:
                called.append(path)

        return note

    hooks = [m.register_forward_pre_hook(noting(p)) for p, m in block.named_modules() if p]
    try:
        fresh.of(block)
    finally:
        for hook in hooks:
            hook.remove()
    found: list[Skip] = []
    for path in called:
        if any(path.startswith(f"{outer.path}.") for outer in found):
            continue
        child = block.get_submodule(path)
        kept = frozenset(f"{path}.{name}" for name, _ in child.named_parameters())
        answer, left = child(x.clone()), _zeroed(block, call, kept, k)
        if not isinstance(answer, Tensor):
            continue
        for activation in ACTIVATIONS:
            expected = answer if activation is None else activation(answer)
            if float(expected.abs().max()) > 0 and _near(left, expected):
                if _near(_zeroed(block, call, kept, k, 1.0), expected):
                    break  # nothing is added to it: a plain layer, no shortcut
                found.append(Skip(kind="child", path=path, activation=activation, parameters=kept))
                break
    return found


def _drawn(p: Tensor, scale: float, draw: torch.Generator) -> Tensor:
    if not scale:
        return torch.zeros_like(p)
    return torch.randn(p.shape, generator=draw).mul_(scale).to(p)


def _checked_named(block: nn.Module, call: Call, x: Tensor, k: int, named: NamedSkip) -> Skip:
    """The user's skip, with the parameters that it reads; refused where the block does not fit."""
    own = dict(block.named_parameters())
    names, values = list(own), list(own.values())
    required = [p.requires_grad for p in values]
    try:
        with torch.enable_grad():
            for p in values:
                p.requires_grad_(True)
            left = named(block, x.detach().clone())
            grads: list[Tensor | None] = [None] * len(values)
            if left.requires_grad:
                grads = list(torch.autograd.grad(left.sum(), values, allow_unused=True))
    finally:
        for p, flag in zip(values, required, strict=True):
            p.requires_grad_(flag)
    kept = frozenset(n for n, g in zip(names, grads, strict=True) if g is not None)
    zeroed, left = _zeroed(block, call, kept, k), left.detach()
    if not _near(zeroed, left):
        raise ValueError(
            f"block {k} with all its parameters but those of the named skip at zero does not return"
            f" what the skip does: {_difference(zeroed, left)}"
        )
    if left.shape == x.shape and torch.equal(left, x) and not kept:
        return Skip(kind="identity")
    return Skip(kind="named", named=named, parameters=kept)


def _why_not(zeroed: Tensor, x: Tensor, y: Tensor, k: int) -> str:
    said = f"block {k} is no residual block: with all its parameters at zero it returns"
    if not bool(zeroed.isfinite().all()):
        return f"{said} numbers that are not finite; name what remains of it with skip="
    if float(zeroed.abs().max()) == 0.0:
        return (
            f"{said} 0, not its input, and no submodule of it is a shortcut: a norm comes after the"
            " sum (post-norm) or there is no skip connection; name it with skip="
        )
    if y.shape != x.shape:
        return (
            f"block {k} changes the state from {tuple(x.shape)} to {tuple(y.shape)}, and no"
            " submodule of it is its shortcut; name it with skip="
        )
    return f"{said} not its input: {_difference(zeroed, x)}; name what remains of it with skip="


def _difference(one: Tensor, two: Tensor) -> str:
    if one.shape != two.shape:
        return f"shape {tuple(one.shape)} against {tuple(two.shape)}"
    scale = float(two.abs().max())
    return f"largest difference {float((one - two).abs().max()):.3g}, largest entry {scale:.3g}"
