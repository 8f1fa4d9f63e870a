"""Two runs of a model's own forward: one records the blocks' states, one answers for all of them.

In the first run a recorder stands in each block's place, keeps the state that the block is called
with, and calls it.  In the second the recorders bypass the blocks: the states that were recorded
join the stack at their place, pass the skips that come after, and leave the last block together,
so that final norm, pooling and classifier are the model's own.  What lies between two blocks is run
on the stack, too.  Between calls nothing of this is left in the model.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from .arguments import Call
from .checkpoints import no_reentrant_checkpoint
from .residual import Skip, state_of_answer, state_of_call

OFF, RECORD, REPLAY = "off", "record", "replay"
HIDDEN = (
    "runs with gradients switched off around it: within torch.no_grad(), or in a checkpoint that is"
    " not torch's, so that the stacked states would get none"
)


class Tape:
    """Owns what one pair of runs has recorded.

    states : x_k, the state that block k is called with;  last : x_N, what the last one returns
    outputs : what each block returns;  between : whether the model does something to the state
        between block k - 1 and block k;  calls : the blocks' arguments, where asked for
    """

    def __init__(self, depth: int, batch_dim: int) -> None:
        self.depth, self.batch_dim, self.mode = depth, batch_dim, OFF
        #: blocks that write into their input, found on the first batch
        self.writes: frozenset[int] = frozenset()
        self.clear()

    @torch.compiler.disable
    def clear(self) -> None:
        """Forget what was recorded."""
        self.mode = OFF
        self.states: list[Tensor] = []
        self.outputs: list[Tensor] = []
        self.between: list[bool] = []
        self.calls: list[Call] = []
        self.keep_calls = False
        self.answers: list[Any] = []
        self._watched: list[tuple[Tensor, int]] = []
        self._left: tuple[Tensor, int] | None = None
        self.skips: Sequence[Skip] = ()
        self.stages: Sequence[int] = ()
        self._pending: list[Tensor] = []
        self._there = self._replayed = 0
        self._grad = False

    @torch.compiler.disable
    def start_record(self, keep_calls: bool) -> None:
        """Get ready for the first run."""
        self.clear()
        self.mode, self.keep_calls, self._grad = RECORD, keep_calls, torch.is_grad_enabled()

    @torch.compiler.disable
    def before_block(self, k: int, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Keep the state that a block is called with."""
        self._in_order(k, len(self.states))
        _, x = state_of_call(args, kwargs, k)
        if x.is_inference():
            raise ValueError("the model runs in inference mode; wanted torch.no_grad()")
        if k and torch.is_grad_enabled() != self._grad and not x.requires_grad:
            raise ValueError(f"block {k} {HIDDEN}")
        self.between.append(self._left is None or not _same(self._left, x))
        with torch.set_grad_enabled(self._grad):  # off within a reentrant checkpoint
            kept = x.clone() if self.keep_calls or k in self.writes else x
        if self.keep_calls:
            self.calls.append(Call(args=args, kwargs=kwargs).copied())
        self.states.append(kept)
        self._watched.append((x if self.keep_calls else kept, x._version))

    @torch.compiler.disable
    def after_block(
        self, k: int, args: tuple[Any, ...], kwargs: dict[str, Any], answer: Any
    ) -> None:
        """Keep what a block returned."""
        y = state_of_answer(answer, k)
        # without gradients it costs little to keep it from what is written into it later
        self.outputs.append(y if self._grad else y.clone())
        self.answers.append(_with_sources(answer, args, kwargs))
        self._left = (y, y._version)

    @torch.compiler.disable
    def recorded(self) -> None:
        """Raise ValueError unless each block ran once and the states are as they were."""
        if len(self.states) < self.depth:
            raise ValueError(
                f"{len(self.states)} of {self.depth} blocks ran; wanted all of them, once each, in"
                " the order given (a model that was compiled and called before it was wrapped, or"
                " that keeps its blocks in a plain list too, does not call what stands for them)"
            )
        written = {k for k, (x, version) in enumerate(self._watched) if x._version != version}
        if self.keep_calls:
            self.writes = frozenset(written)
        elif written:
            raise ValueError(
                f"the state before block {min(written)} is written into; it was not on the first"
                " batch"
            )

    @torch.compiler.disable
    def start_replay(self, skips: Sequence[Skip], stages: Sequence[int]) -> None:
        """Get ready for the second run, with the states of these stages, ascending."""
        self.skips, self.stages, self._pending = skips, stages, []
        self._there = self._replayed = 0
        self.mode, self._grad = REPLAY, torch.is_grad_enabled()

    @torch.compiler.disable
    def replay(self, k: int, block: nn.Module, args: tuple[Any, ...], kwargs: dict) -> Any:
        """Answer for a block with what the skips leave of the recorded states."""
        self._in_order(k, self._replayed)
        self._replayed += 1
        if torch.is_grad_enabled() != self._grad:
            raise ValueError(f"block {k} {HIDDEN}")
        _, p = state_of_call(args, kwargs, k)
        d, x, n = self.batch_dim, self.states[k], len(self.stages)
        wanted = list(x.shape)
        wanted[d] *= n
        if list(p.shape) != wanted:
            raise ValueError(
                f"block {k} meets a state of shape {tuple(p.shape)} in the second run; wanted"
                f" {tuple(wanted)}, the first run's for {n} copies of the batch"
            )
        # a checkpoint around the block would run it again, as itself: nothing in here is forgotten
        with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t):
            y = self._passed(k, block, p, x)
        return _in_place_of(self.answers[k], y, args, kwargs, k, (d, x.shape[d], n))

    def _passed(self, k: int, block: nn.Module, p: Tensor, x: Tensor) -> Tensor:
        d, n, y = self.batch_dim, len(self.stages), self.outputs[k]
        if self.between[k] and self._pending:
            self._pending = [p.narrow(d, 0, self._there * x.shape[d])]
        if k in self.stages:
            self._pending.append(x)
            self._there += 1
        if self.skips[k].kind != "identity" and self._pending:
            stacked = torch.cat(self._pending, dim=d)
            self._pending = [self.skips[k].apply(block, stacked)]
        last = k == self.depth - 1
        if last and self.depth in self.stages:
            self._pending.append(y)
            self._there += 1
        if last or self.between[k + 1]:
            return self._whole(y, n)
        shape = list(y.shape)
        shape[d] *= n
        return y.new_zeros(()).expand(shape)  # only the next recorder sees it

    def _whole(self, y: Tensor, n: int) -> Tensor:
        """The stack, filled up to n copies of the batch with states that are replaced later."""
        missing = [y.detach()] * (n - self._there)
        return torch.cat([*self._pending, *missing], dim=self.batch_dim)

    @torch.compiler.disable
    def replayed(self) -> None:
        """Raise ValueError unless the second run went through all blocks."""
        if self._replayed < self.depth:
            raise ValueError(
                f"{self._replayed} of {self.depth} blocks ran in the second run, all in the first"
            )

    def _in_order(self, k: int, wanted: int) -> None:
        if k < wanted:
            raise ValueError(f"block {k} runs twice in one forward; wanted each block once")
        if k > wanted:
            raise ValueError(f"block {k} runs before block {wanted}; wanted them in order")


class Recorder(nn.Module):
    """Stands in a block's place while a run is under way; attributes are the block's."""

    def __init__(self, block: nn.Module, k: int, tape: Tape) -> None:
        super().__init__()
        # not registered: the model's parameters keep their names
        self.__dict__["of"] = (block, k, tape)
        self.training = block.training

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["of"][0], name)

    @torch.compiler.disable(recursive=False)
    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Record, bypass, or, when a checkpoint runs it again during backward, just call."""
        block, k, tape = self.__dict__["of"]
        if tape.mode == RECORD:
            tape.before_block(k, args, kwargs)
            answer = block(*args, **kwargs)
            tape.after_block(k, args, kwargs, answer)
            return answer
        if tape.mode == REPLAY:
            return tape.replay(k, block, args, kwargs)
        return block(*args, **kwargs)


class Runs:
    """Owns the recorders of one model and puts them in the blocks' places for a run.

    Raises
    ------
    ValueError : blocks that are not, or not each once, submodules of the model
    """

    def __init__(self, model: nn.Module, blocks: Sequence[nn.Module], batch_dim: int) -> None:
        self.tape = Tape(len(blocks), batch_dim)
        self.model = [model]  # in a list: the owner registers the model, not this
        self.recorders = [Recorder(block, k, self.tape) for k, block in enumerate(blocks)]
        self.places = _places(model, blocks)

    @torch.compiler.disable(recursive=False)
    def first(self, call: Call, keep_calls: bool = False) -> Any:
        """The model's own answer; the tape then holds the states."""
        self.tape.start_record(keep_calls)
        with self._in_place():
            answer = call.of(self.model[0])
        self.tape.recorded()
        return answer

    @torch.compiler.disable(recursive=False)
    def second(self, call: Call, skips: Sequence[Skip], stages: Sequence[int]) -> Any:
        """The model's answer for the stacked states of these stages, call being repeated."""
        self.tape.start_replay(skips, stages)
        # the statistics first: recorders hide those of the shortcuts
        with no_reentrant_checkpoint(), _statistics_kept(self.model[0]), self._in_place():
            answer = call.of(self.model[0])
        self.tape.replayed()
        return answer

    @torch.compiler.disable
    def passed(self, skips: Sequence[Skip], stages: Sequence[int]) -> Tensor:
        """The stacked states of these stages behind all later skips, without running the model."""
        tape, pending = self.tape, []
        for k, skip in enumerate(skips):
            if k in stages:
                pending.append(tape.states[k])
            if skip.kind != "identity" and pending:
                block = self.recorders[k].__dict__["of"][0]
                pending = [skip.apply(block, torch.cat(pending, dim=tape.batch_dim))]
        if tape.depth in stages:
            pending.append(tape.outputs[-1])
        return torch.cat(pending, dim=tape.batch_dim)

    @contextlib.contextmanager
    def _in_place(self) -> Iterator[None]:
        for parent, name, k in self.places:
            block = self.recorders[k].__dict__["of"][0]
            if parent._modules.get(name) is not block:
                raise ValueError(f"block {k} is no longer where it was when it was wrapped")
        try:
            for parent, name, k in self.places:
                self.recorders[k].training = self.recorders[k].__dict__["of"][0].training
                parent._modules[name] = self.recorders[k]
            yield
        finally:
            for parent, name, k in self.places:
                parent._modules[name] = self.recorders[k].__dict__["of"][0]
            self.tape.mode = OFF


def _places(model: nn.Module, blocks: Sequence[nn.Module]) -> list[tuple[nn.Module, str, int]]:
    """Every place in the model at which a block is registered."""
    if not blocks:
        raise ValueError("no block is given; wanted at least one")
    index = {id(block): k for k, block in enumerate(blocks)}
    if len(index) < len(blocks):
        seen = [id(block) for block in blocks]
        twice = next(k for k in range(len(seen)) if seen[k] in seen[:k])
        raise ValueError(f"block {twice} is given twice; a block that runs twice has one control")
    found = [
        (parent, name, index[id(child)])
        for parent in model.modules()
        for name, child in parent._modules.items()
        if child is not None and id(child) in index
    ]
    missing = set(range(len(blocks))) - {k for _, _, k in found}
    if missing:
        raise ValueError(f"block {min(missing)} is no submodule of the model")
    for k, block in enumerate(blocks):
        for inner in block.modules():
            if inner is not block and id(inner) in index:
                raise ValueError(f"block {index[id(inner)]} lies within block {k}")
    return found


def _same(left: tuple[Tensor, int], x: Tensor) -> bool:
    """Whether a state is what the block before returned, untouched."""
    y, version = left
    return (
        y.data_ptr() == x.data_ptr()
        and y.shape == x.shape
        and y.stride() == x.stride()
        and y.dtype == x.dtype
        and x._version == version
    )


def _with_sources(answer: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """None for a tensor; of a tuple, for each part after the state, the argument that it is."""
    if isinstance(answer, Tensor):
        return None
    given: dict[str | int, Any] = dict(enumerate(args)) | kwargs
    parts = []
    for part in answer[1:]:
        source = next((n for n, v in given.items() if v is part and part is not None), None)
        parts.append((source, part))
    return type(answer), parts


def _in_place_of(
    recorded: Any,
    y: Tensor,
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    k: int,
    rows: tuple[int, int, int],
) -> Any:
    """What stands for a block's answer in the second run.

    Of a tuple's other parts, arguments that were handed through stay so; numbers that the block
    computed become NaN, so that a model that uses them is found out on the first batch.
    """
    if recorded is None:
        return y
    kind, parts = recorded
    given: dict[str | int, Any] = dict(enumerate(args)) | kwargs
    rest = []
    for source, part in parts:
        if source is not None:
            rest.append(given[source])
        elif isinstance(part, Tensor) and part.is_floating_point():
            d, batch, n = rows
            shape = list(part.shape)
            if part.ndim > d and shape[d] == batch:
                shape[d] *= n
            rest.append(part.new_full((), torch.nan).expand(shape))
        elif part is None:
            rest.append(None)
        else:
            raise ValueError(
                f"block {k} returns a {type(part).__name__} beside its state; wanted tensors of"
                " floating point or arguments that are handed through"
            )
    return kind((y, *rest))


@contextlib.contextmanager
def _statistics_kept(model: nn.Module) -> Iterator[None]:
    """Running statistics are moved by the first run alone, as they are without this wrapper."""
    kept: list[tuple[nn.Module, str, Tensor]] = []
    for module in model.modules():
        if isinstance(module, _NormBase) and module.training and module.track_running_stats:
            for name, value in module._buffers.items():
                if value is not None:
                    kept.append((module, name, value))
    try:
        for module, name, value in kept:
            module._buffers[name] = value.clone()
        yield
    finally:
        for module, name, value in kept:
            module._buffers[name] = value
