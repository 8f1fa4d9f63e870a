"""Remove the last blocks of a wrapped model: a plain model again, compared with the stage it is.

A trailing run in a ModuleList or Sequential is deleted, and the configuration's number of layers
set, so that a library's own save and load give equal logits.  Any other block is replaced by what
it does when idle: its state as it came, or its shortcut and the activation after it.  Parameters
that stay keep their names.
"""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .arguments import Call, as_call
from .examination import Examined
from .residual import Skip, probing, tolerance
from .wrapper import Wrapped

#: what libraries call the number of blocks
COUNTS = ("num_hidden_layers", "n_layer", "num_layers", "n_layers", "depth", "encoder_layers",
          "num_decoder_layers", "decoder_layers")  # fmt: skip
KEEP = "save the state dict, a library's own load would build another model"
#: what a model raises that needs a block which is no longer there
MISFITS = (IndexError, KeyError, AttributeError, RuntimeError, TypeError, ValueError)


class Passing(nn.Module):
    """In place of a block that leaves its state as it is; takes what the block takes.

    parts : of the tuple that the block returns; 0 where it returns the state alone
    """

    def __init__(self, parts: int = 0) -> None:
        super().__init__()
        self.parts = parts

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The state, and nothing beside it."""
        x = args[0] if args else next(v for v in kwargs.values() if isinstance(v, Tensor))
        return x if not self.parts else (x, *[None] * (self.parts - 1))


class Shortcut(nn.Module):
    """In place of a block that changes its state's shape: its shortcut and what follows it."""

    def __init__(self, block: nn.Module, skip: Skip) -> None:
        super().__init__()
        self.path, self.activation = skip.path, skip.activation
        parent: nn.Module = self
        *outer, name = skip.path.split(".")
        for step in outer:
            inner = nn.Module()
            parent.add_module(step, inner)
            parent = inner
        parent.add_module(name, block.get_submodule(skip.path))

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The block's answer when all its other parameters are zero."""
        y = self.get_submodule(self.path)(x)
        return y if self.activation is None else self.activation(y)


class NamedRest(nn.Module):
    """In place of a block whose skip the user has named: the submodules that the skip reads."""

    def __init__(self, block: nn.Module, skip: Skip) -> None:
        super().__init__()
        self.named = skip.named
        for name, _ in list(block.named_parameters()):
            if name not in skip.parameters:
                path, _, own = name.rpartition(".")
                setattr(block.get_submodule(path), own, None)
        self._modules = block._modules
        self._parameters = block._parameters

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """The user's skip of the state."""
        assert self.named is not None
        return self.named(self, x)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class CroppedModel:
    """A model without its last blocks, and what that changed.

    model : a module of its own, without a trace of the wrapper, in eval mode
    kept, depth : number of blocks that stay, and of all
    deleted, replaced : blocks that are gone, and those that became their skip
    parameters : before and after;  milliseconds : median of one call on the first samples, too
    recalibrated : whether running statistics were computed again
    configured : whether a library's own load would build this model: its configuration, if there is
        one, says how many blocks there are
    """

    model: nn.Module
    kept: int
    depth: int
    deleted: tuple[int, ...]
    replaced: tuple[int, ...]
    parameters: tuple[int, int]
    milliseconds: tuple[float, float]
    recalibrated: bool
    configured: bool

    def __str__(self) -> str:
        one, two = self.parameters
        fast, faster = self.milliseconds
        return (
            f"{self.kept} of {self.depth} blocks kept, {len(self.deleted)} deleted,"
            f" {len(self.replaced)} replaced by their skip; parameters {one} -> {two};"
            f" {fast:.2f} -> {faster:.2f} ms; running statistics"
            f" {'recalibrated' if self.recalibrated else 'as trained'}"
            + ("" if self.configured else "; its configuration does not describe it: " + KEEP)
        )


def crop(wrapped: Wrapped, k: int, recalibrate: Iterable[Any] | None = None) -> CroppedModel:
    """Return the model with its first k blocks.

    recalibrate : batches of inputs on which running statistics are computed again; without it they
        are those of the whole network, and so are all figures of stages

    Raises
    ------
    ValueError : k out of range, or the cropped model does not answer as its stage did
    """
    facts, N = wrapped.facts, wrapped.depth
    if not 0 <= k <= N:
        raise ValueError(f"{k} blocks are to be kept; wanted 0..{N}")
    wanted = stage(wrapped, k)
    model, deleted = _deleted(wrapped, facts, k)
    replaced = _replace(model, wrapped, facts, k, set(deleted))
    if deleted and not _answers(model, facts, wanted):
        # the model counts its blocks in some other way: none is deleted
        model, deleted = copy.deepcopy(wrapped.model), ()
        replaced = _replace(model, wrapped, facts, k, set())
    try:
        error = _error(model, facts, wanted)
    except MISFITS as misfit:
        raise ValueError(
            f"the model does not run with {k} of its {N} blocks: {str(misfit).splitlines()[0]}"
        ) from None
    if not error <= tolerance(wanted):
        raise ValueError(
            f"the model with {k} of {N} blocks differs from stage {k} by {error:.3g} of its largest"
            " logit; nothing is returned"
        )
    if recalibrate is not None:
        recalibrate_statistics(model, recalibrate)
    model.eval()
    return CroppedModel(
        model=model,
        kept=k,
        depth=N,
        deleted=tuple(deleted),
        replaced=tuple(replaced),
        parameters=(count(wrapped.model), count(model)),
        milliseconds=(milliseconds(wrapped.model, facts.sample), milliseconds(model, facts.sample)),
        recalibrated=recalibrate is not None,
        configured=_is_configured(model),
    )


def stage(wrapped: Wrapped, k: int) -> Tensor:
    """Logits of stage k on the samples that were kept, in eval mode."""
    sample = wrapped.facts.sample
    with probing(wrapped.model):
        return wrapped.stage_logits(*sample.args, **sample.kwargs)[k]


def count(model: nn.Module) -> int:
    """Number of parameters, shared ones once."""
    return sum(p.numel() for p in model.parameters())


def milliseconds(model: nn.Module, call: Call, repeats: int = 11) -> float:
    """Median time of one call in eval mode."""
    times = []
    with probing(model):
        for _ in range(repeats):
            start = time.perf_counter()
            call.of(model)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            times.append(time.perf_counter() - start)
    return 1e3 * statistics.median(times)


def recalibrate_statistics(model: nn.Module, batches: Iterable[Any]) -> None:
    """Compute the running statistics of every BatchNorm anew, as the mean over these batches.

    Raises
    ------
    ValueError : there is no BatchNorm with running statistics, or no batch
    """
    found = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not found:
        raise ValueError("the model has no BatchNorm; there is nothing to recalibrate")
    flags = [(m, m.training) for m in model.modules()]
    momenta = [m.momentum for m in found]
    seen = 0
    try:
        model.eval()
        for m in found:
            m.reset_running_stats()
            m.momentum, m.training = None, True  # a plain mean over the batches
        with torch.no_grad():
            for batch in batches:
                as_call(batch).of(model)
                seen += 1
    finally:
        for m, momentum in zip(found, momenta, strict=True):
            m.momentum = momentum
        for module, flag in flags:
            module.training = flag
    if not seen:
        raise ValueError("no batch is given to recalibrate the running statistics on")


def _deleted(wrapped: Wrapped, facts: Examined, k: int) -> tuple[nn.Module, tuple[int, ...]]:
    """A copy without the blocks that are a trailing run of their container, and their numbers."""
    gone: list[int] = []
    for container, _ in _containers(wrapped):
        inside = list(container._modules.values())
        numbers = [_number(wrapped, m) for m in inside]
        keep = len(inside)
        while keep and numbers[keep - 1] is not None:
            j = numbers[keep - 1]
            assert j is not None
            plain = facts.skips[j].kind == "identity" and not facts.between[j]
            if j < k or not plain:
                break
            keep -= 1
        gone += [j for j in numbers[keep:] if j is not None]
    model = copy.deepcopy(wrapped.model)
    if not gone:
        return model, ()
    for (container, _), (twin, _) in zip(_containers(wrapped), _twins(wrapped, model), strict=True):
        names = [name for name, m in container._modules.items() if _number(wrapped, m) in set(gone)]
        for name in names:
            del twin._modules[name]
        before = sum(_number(wrapped, m) is not None for m in container._modules.values())
        if names and before == wrapped.depth:  # a count of one stage is no count of all
            _set_counts(model, before, before - len(names))
    return model, tuple(sorted(gone))


def _containers(wrapped: Wrapped) -> list[tuple[nn.Module, str]]:
    """The lists and sequences that hold blocks, with their names."""
    return [
        (module, name)
        for name, module in wrapped.model.named_modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        and any(_number(wrapped, m) is not None for m in module._modules.values())
    ]


def _twins(wrapped: Wrapped, model: nn.Module) -> list[tuple[nn.Module, str]]:
    return [(model.get_submodule(name), name) for _, name in _containers(wrapped)]


def _number(wrapped: Wrapped, module: nn.Module | None) -> int | None:
    return next((i for i, block in enumerate(wrapped.blocks) if block is module), None)


def _is_configured(model: nn.Module) -> bool:
    """Whether the class and the configuration, if there is one, build a model of these tensors."""
    config = getattr(model, "config", None)
    if config is None:
        return True
    try:
        with torch.device("meta"):  # nothing is allocated, no random number is drawn
            fresh = type(model)(copy.deepcopy(config)).state_dict()
    except (*MISFITS, NotImplementedError, ZeroDivisionError):
        return False
    own = model.state_dict()
    return set(own) == set(fresh) and all(own[n].shape == fresh[n].shape for n in own)


def configurations(model: nn.Module) -> list[Any]:
    """The configurations from which a library would build the model again."""
    found = (getattr(m, "config", None) for m in model.modules())
    return list({id(c): c for c in found if c is not None}.values())


def _set_counts(model: nn.Module, before: int, after: int) -> None:
    """Set the number of layers in the configurations that state it, and cut lists a layer long."""
    for config in {
        id(c): c for c in (getattr(m, "config", None) for m in model.modules())
    }.values():
        if config is None:
            continue
        for name in COUNTS:
            value = getattr(config, name, None)
            if isinstance(value, int) and not isinstance(value, bool) and value == before:
                setattr(config, name, after)
        layer_types = getattr(config, "layer_types", None)
        if isinstance(layer_types, list) and len(layer_types) == before:
            config.layer_types = layer_types[:after]


def _replace(
    model: nn.Module, wrapped: Wrapped, facts: Examined, k: int, gone: set[int]
) -> list[int]:
    """Put their skips in the place of the blocks from k on that are still there."""
    replaced = []
    for parent_name, parent in wrapped.model.named_modules():
        for name, child in parent._modules.items():
            j = _number(wrapped, child)
            if j is None or j < k or j in gone:
                continue
            twin = model.get_submodule(parent_name)
            twin._modules[name] = _rest(wrapped, facts, j, twin._modules[name])
            replaced.append(j)
    return sorted(set(replaced))


def _rest(wrapped: Wrapped, facts: Examined, j: int, block: nn.Module | None) -> nn.Module:
    assert block is not None
    skip = facts.skips[j]
    if skip.kind == "child":
        return Shortcut(block, skip)
    if skip.kind == "named":
        return NamedRest(block, skip)
    form = facts.forms[j]
    return nn.Identity() if form.plain else Passing(form.parts)


def _answers(model: nn.Module, facts: Examined, wanted: Tensor) -> bool:
    try:
        return _error(model, facts, wanted) <= tolerance(wanted)
    except MISFITS:
        return False


def _error(model: nn.Module, facts: Examined, wanted: Tensor) -> float:
    """Largest difference to the logits of the stage, relative to the largest of these."""
    with probing(model):
        found = facts.logits_of(facts.sample.of(model))
    if found.shape != wanted.shape:
        raise ValueError(f"the cropped model gives {tuple(found.shape)}, not {tuple(wanted.shape)}")
    scale = max(float(wanted.abs().max()), torch.finfo(wanted.dtype).tiny)
    return float((found - wanted).abs().max()) / scale
