"""What is found out about a model on its first batch, in eval mode, before any figure is given.

The model's own answer is compared with that of a run with recorders in the blocks' places, and with
the last stage of the second run: a head that is not the model's own cannot pass.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from . import controls
from .arguments import Call, Samples, find_samples
from .recording import Runs
from .residual import NamedSkip, Skip, find_skip, probing, tolerance

#: samples that are kept to compare crops with
KEPT = 4
DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout)


@dataclass(frozen=True, slots=True, kw_only=True)
class Form:
    """How a block is called: plain with the state alone, returning it; parts of its tuple, or 0."""

    plain: bool
    parts: int


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Examined:
    """What a wrapped model is known to be.

    samples : where the samples lie in its arguments;  sample : the first few of them
    forms : how the blocks are called
    skips : what idle blocks do;  weighed : the parameters by their weight
    between : whether the model does something to the state before block k
    logits_dim : dimension of the logits that counts the samples
    head_dropout : a dropout module after the last block, or ""
    """

    samples: Samples
    sample: Call
    forms: list[Form]
    skips: list[Skip]
    weighed: controls.Weighed
    between: list[bool]
    to_logits: Callable[[Any], Tensor] | None
    logits_dim: int
    head_dropout: str

    def logits_of(self, answer: Any) -> Tensor:
        """The logits in what the model returns."""
        return logits_of(answer, self.to_logits)

    @torch.compiler.disable(recursive=False)
    def stacked(
        self,
        runs: Runs,
        call: Call,
        stages: Sequence[int],
        head: Callable[[Tensor], Tensor] | None,
        own: Tensor,
    ) -> Tensor:
        """Logits of the recorded states of these stages, (stages, ...) and the shape of `own`."""
        n = len(stages)
        if head is not None:
            z = head(runs.passed(self.skips, stages))
        else:
            repeated = self.samples.repeated(call, n)
            z = self.logits_of(runs.second(repeated, self.skips, stages))
        shape, d = list(own.shape), self.logits_dim
        shape[d] *= n
        if list(z.shape) != shape:
            raise ValueError(
                f"the logits of {n} stacked stages have shape {tuple(z.shape)}; wanted"
                f" {tuple(shape)}, {n} times the model's own"
            )
        return z.unflatten(d, (n, own.shape[d])).movedim(d, 0)


def examine(
    model: nn.Module,
    blocks: Sequence[nn.Module],
    runs: Runs,
    call: Call,
    *,
    skip: NamedSkip | None,
    head: Callable[[Tensor], Tensor] | None,
    to_logits: Callable[[Any], Tensor] | None,
    batch_dim: int,
) -> Examined:
    """Find out what the model is; see `Examined`.

    Raises
    ------
    ValueError : a block that is not residual, runs twice or not at all; a head that is not the
        model's; arguments that cannot be repeated
    """
    samples = find_samples(call, batch_dim)
    batch = samples.count(call)
    with probing(model):
        plain = logits_of(call.of(model), to_logits)
        if plain.ndim < 2 or not plain.is_floating_point():
            raise ValueError(
                f"the model's answer has shape {tuple(plain.shape)} and type {plain.dtype}; wanted"
                " logits, (batch, classes); name them with logits="
            )
        logits_dim = _logits_dim(plain, batch, batch_dim)
        try:
            dropout = _HeadDropout(model, blocks)
            with dropout:
                own = logits_of(runs.first(call, keep_calls=True), to_logits)
            _compare("a run with recorders in the blocks' places", own, plain)
            tape = runs.tape
            skips = [
                find_skip(block, tape.calls[k], tape.states[k], tape.outputs[k], k, skip)
                for k, block in enumerate(blocks)
            ]
            between = [False, *tape.between[1:]]
            if head is not None and any(between):
                raise ValueError(
                    f"the model does something to the state before block {between.index(True)},"
                    " which head= would leave out; leave head away"
                )
            found = Examined(
                samples=samples,
                sample=samples.first_rows(call, KEPT).mapped(lambda path, v: v.detach().clone()),
                forms=[_form(c, a) for c, a in zip(tape.calls, tape.answers, strict=True)],
                skips=skips,
                weighed=controls.weighed(model, blocks, skips),
                between=between,
                to_logits=to_logits,
                logits_dim=logits_dim,
                head_dropout=dropout.name,
            )
            stacked = found.stacked(runs, call, range(len(blocks) + 1), head, own)
            _compare("the last stage", stacked[-1], plain)
            if not bool(stacked.isfinite().all()):
                raise ValueError(
                    "the logits of some stage are not finite: does the model use what a block"
                    " returns beside its state?"
                )
        finally:
            runs.tape.clear()
    return found


def logits_of(answer: Any, to_logits: Callable[[Any], Tensor] | None) -> Tensor:
    """The logits in what a model returns.

    Raises
    ------
    ValueError : no logits are found
    """
    if to_logits is not None:
        answer = to_logits(answer)
    elif isinstance(answer, Mapping) and "logits" in answer:
        answer = answer["logits"]
    elif hasattr(answer, "logits"):
        answer = answer.logits
    elif type(answer) in (tuple, list) and len(answer) == 1:
        answer = answer[0]
    if not isinstance(answer, Tensor):
        raise ValueError(
            f"the model returns a {type(answer).__name__} without logits; name them with logits="
        )
    return answer


def _form(call: Call, answer: Any) -> Form:
    alone = len(call.args) == 1 and not call.kwargs
    return Form(plain=alone and answer is None, parts=0 if answer is None else 1 + len(answer[1]))


class _HeadDropout:
    """Listens during a run for a dropout module that is called after the last block."""

    def __init__(self, model: nn.Module, blocks: Sequence[nn.Module]) -> None:
        self.name, self._past, self._last = "", False, blocks[-1]
        inside = {id(m) for block in blocks for m in block.modules()}
        self._modules = [
            (name, m)
            for name, m in model.named_modules()
            if isinstance(m, DROPOUTS) and m.p > 0 and id(m) not in inside
        ]

    def __enter__(self) -> None:
        self._hooks = [self._last.register_forward_hook(self._passed)]
        for name, module in self._modules:
            self._hooks.append(module.register_forward_hook(self._noting(name)))

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _passed(self, *given: object) -> None:
        self._past = True

    def _noting(self, name: str) -> Callable[..., None]:
        def note(*given: object) -> None:
            if self._past:
                self.name = self.name or name

        return note


def _logits_dim(plain: Tensor, batch: int, batch_dim: int) -> int:
    """The dimension of the logits that counts the samples, or samples and positions together."""
    if batch_dim == 0:
        if plain.shape[0] % batch:
            raise ValueError(
                f"the logits have shape {tuple(plain.shape)}; wanted {batch} samples first"
            )
        return 0
    fitting = [d for d in range(plain.ndim - 1) if plain.shape[d] == batch]
    if len(fitting) != 1:
        raise ValueError(
            f"the logits have shape {tuple(plain.shape)}, of which {len(fitting)} dimensions have"
            f" the batch's {batch}; give the first batch another number of samples"
        )
    return fitting[0]


def _compare(what: str, found: Tensor, plain: Tensor) -> None:
    """Raise ValueError unless the logits are the model's own, up to rounding; NaN is not."""
    if found.shape != plain.shape:
        raise ValueError(
            f"{what} gives logits of shape {tuple(found.shape)}; the model itself"
            f" {tuple(plain.shape)}"
        )
    error, scale = float((found - plain).abs().max()), float(plain.abs().max())
    if not error <= tolerance(plain) * scale:
        raise ValueError(
            f"{what} differs from the model's own answer in eval mode by {error:.3g}, logits being"
            f" up to {scale:.3g}"
        )
