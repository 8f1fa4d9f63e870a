"""What a model is called with: where the samples lie in it, and the same samples several times.

Tensors may lie in tuples, lists and mappings; anything else that could hide a tensor is refused,
because it could not be repeated for the stacked states.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

#: what is handed on as it is
PLAIN = (type(None), bool, int, float, str, torch.dtype, torch.device)
Path = tuple[str | int, ...]


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Call:
    """Arguments of one call of a model or of a block."""

    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def of(self, function: Callable[..., Any]) -> Any:
        """Call a function with them."""
        return function(*self.args, **self.kwargs)

    def mapped(self, change: Callable[[Path, Tensor], Tensor]) -> Call:
        """The same with every tensor changed.

        Raises
        ------
        ValueError : an argument is neither a tensor nor made of tensors and plain values
        """
        args = tuple(_mapped((i,), value, change) for i, value in enumerate(self.args))
        kwargs = {name: _mapped((name,), value, change) for name, value in self.kwargs.items()}
        return Call(args=args, kwargs=kwargs)

    def copied(self) -> Call:
        """A copy that shares nothing: caches and other objects are copied as a whole."""
        return Call(
            args=tuple(_copied(value) for value in self.args),
            kwargs={name: _copied(value) for name, value in self.kwargs.items()},
        )

    def tensors(self) -> dict[Path, Tensor]:
        """All tensors by where they lie."""
        found: dict[Path, Tensor] = {}

        def keep(path: Path, value: Tensor) -> Tensor:
            found[path] = value
            return value

        self.mapped(keep)
        return found


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Samples:
    """Where the samples lie: the dimension of each tensor that counts them, decided once.

    dims : dimension of the batch in the tensor at each path; None where it holds no samples
    first : path of the tensor that says how many samples there are
    """

    dims: dict[Path, int | None]
    first: Path

    @torch.compiler.disable
    def count(self, call: Call) -> int:
        """Number of samples.

        Raises
        ------
        ValueError : other tensors than in the first batch, or tensors with other counts
        """
        found = call.tensors()
        if set(found) != set(self.dims):
            odd = sorted(map(_name, set(found) ^ set(self.dims)))[0]
            raise ValueError(f"argument {odd} is there in one batch and not in another")
        dim = self.dims[self.first]
        assert dim is not None
        batch = found[self.first].shape[dim]
        for path, value in found.items():
            d = self.dims[path]
            if d is not None and (value.ndim <= d or value.shape[d] != batch):
                raise ValueError(
                    f"argument {_name(path)} has shape {tuple(value.shape)}; wanted {batch} samples"
                    f" in dimension {d}, where the first batch had them"
                )
        return batch

    @torch.compiler.disable
    def repeated(self, call: Call, times: int) -> Call:
        """The same samples `times` times, one copy of the whole batch after the other."""

        def repeat(path: Path, value: Tensor) -> Tensor:
            d = self.dims[path]
            return value if d is None else torch.cat([value] * times, dim=d)

        return call.mapped(repeat)

    def first_rows(self, call: Call, rows: int) -> Call:
        """The first samples only."""

        def cut(path: Path, value: Tensor) -> Tensor:
            d = self.dims[path]
            return value if d is None else value.narrow(d, 0, min(rows, value.shape[d]))

        return call.mapped(cut)


def find_samples(call: Call, batch_dim: int) -> Samples:
    """Decide from the first batch which tensors hold samples, and in which dimension.

    The first tensor with enough dimensions says how many there are.

    Raises
    ------
    ValueError : no tensor, fewer than two samples, or two dimensions that could count them
    """
    found = call.tensors()
    first = next((path for path, value in found.items() if value.ndim > batch_dim), None)
    if first is None:
        raise ValueError(f"the model is called without a tensor that has a dimension {batch_dim}")
    batch = found[first].shape[batch_dim]
    if batch < 2:
        raise ValueError(
            f"the first batch has {batch} sample{'s' * (batch != 1)}; wanted at least 2, so that"
            " tensors of samples can be told from others"
        )
    dims: dict[Path, int | None] = {}
    for path, value in found.items():
        sizes = [d for d in {0, batch_dim} if value.ndim > d and value.shape[d] == batch]
        if len(sizes) > 1:
            raise ValueError(
                f"argument {_name(path)} has shape {tuple(value.shape)}: both dimensions could"
                f" count the {batch} samples; give the first batch another number of samples"
            )
        dims[path] = sizes[0] if sizes else None
    return Samples(dims=dims, first=first)


def as_call(inputs: Any) -> Call:
    """What a loader yields as a call: a tensor, a tuple of arguments, or a mapping of keywords."""
    if isinstance(inputs, Mapping):
        return Call(args=(), kwargs=dict(inputs))
    return Call(args=tuple(inputs) if isinstance(inputs, tuple | list) else (inputs,), kwargs={})


def _mapped(path: Path, value: Any, change: Callable[[Path, Tensor], Tensor]) -> Any:
    if isinstance(value, Tensor):
        return change(path, value)
    if isinstance(value, PLAIN):
        return value
    if type(value) in (tuple, list):
        return type(value)(_mapped((*path, i), v, change) for i, v in enumerate(value))
    if isinstance(value, Mapping):
        return {key: _mapped((*path, key), v, change) for key, v in value.items()}
    raise ValueError(
        f"argument {_name(path)} is a {type(value).__name__}, which cannot be repeated for the"
        " stacked states; wanted tensors, plain values, or tuples, lists and mappings of them"
    )


def _copied(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.clone()
    if type(value) in (tuple, list):
        return type(value)(_copied(v) for v in value)
    return copy.deepcopy(value)


def _name(path: Path) -> str:
    return ".".join(map(str, path))
