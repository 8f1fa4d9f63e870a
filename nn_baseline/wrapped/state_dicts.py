"""State dicts as people have them, into a model that the user builds.

`.safetensors` files, and what torch.save wrote, read with weights_only: nothing in a file is ever
executed.  What is unambiguous is mapped and said; what is not is refused.
"""

from __future__ import annotations

import os
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch
from torch import Tensor, nn

#: under what training loops keep the weights within a checkpoint
ENTRIES = ("state_dict", "model_state_dict", "model", "module", "net")
#: what wrappers put before every name
PREFIXES = ("module.", "_orig_mod.", "model.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Loaded:
    """What was read.

    tensors : how many;  entry : the checkpoint's entry that held them, or ""
    prefix : what was taken off every name, or ""
    """

    tensors: int
    entry: str
    prefix: str

    def __str__(self) -> str:
        said = f"loaded {self.tensors} tensors"
        if self.entry:
            said += f" from the entry {self.entry!r}"
        return said + (f", without the prefix {self.prefix!r}" if self.prefix else "")


def load_state(model: nn.Module, path: str | os.PathLike) -> Loaded:
    """Load a saved state dict into a model, strictly.

    Raises
    ------
    ValueError : one sentence: no state dict, or names and shapes that are not the model's
    OSError : the file cannot be read
    """
    state, entry = _state(Path(path))
    own = model.state_dict()
    state, prefix = _without_prefix(state, own)
    missing = sorted(set(own) - set(state))
    unknown = sorted(set(state) - set(own))
    if missing or unknown:
        kind, names = ("lacks", missing) if missing else ("holds the unknown", unknown)
        raise ValueError(
            f"{path} {kind} {names[0]!r} ({len(missing)} missing, {len(unknown)} unknown of the"
            f" model's {len(own)}); wanted the state dict of the model that was given"
        )
    for name, value in own.items():
        if tuple(state[name].shape) != tuple(value.shape):
            raise ValueError(
                f"{path}: {name!r} has shape {tuple(state[name].shape)}; wanted"
                f" {tuple(value.shape)}, the model's"
            )
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise ValueError(f"{path}: {name!r} holds numbers that are not finite")
    model.load_state_dict(state)
    return Loaded(tensors=len(state), entry=entry, prefix=prefix)


def _state(path: Path) -> tuple[dict[str, Tensor], str]:
    if path.suffix == ".safetensors":
        try:
            return safetensors.torch.load_file(path), ""
        except safetensors.SafetensorError as error:
            raise ValueError(f"{path} is no safetensors file: {error}") from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that the file may not be read; it is read, or refused
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        raise ValueError(
            f"{path} holds more than tensors, which would have to be executed, or is no file of"
            " torch.save; wanted a state dict: torch.save(model.state_dict(), ...)"
        ) from None
    except (RuntimeError, EOFError, KeyError, IndexError, AttributeError, TypeError) as error:
        said = str(error).splitlines() or [type(error).__name__]
        raise ValueError(f"{path} is no file of torch.save: {said[0]}") from None
    return _found(content, path)


def _found(content: Any, path: Path) -> tuple[dict[str, Tensor], str]:
    """The state dict itself, or that in one of the usual entries."""
    if _is_state(content):
        return dict(content), ""
    if isinstance(content, Mapping):
        entries = [name for name in ENTRIES if _is_state(content.get(name))]
        if len(entries) == 1:
            return dict(content[entries[0]]), entries[0]
        if entries:
            raise ValueError(f"{path} holds several state dicts: {', '.join(entries)}; save one")
        keys = ", ".join(map(repr, list(content)[:4]))
        raise ValueError(f"{path} holds no state dict but {keys}; wanted names and tensors")
    raise ValueError(f"{path} holds a {type(content).__name__}; wanted a state dict")


def _is_state(content: Any) -> bool:
    return (
        isinstance(content, Mapping)
        and bool(content)
        and all(isinstance(k, str) and isinstance(v, Tensor) for k, v in content.items())
    )


def _without_prefix(
    state: dict[str, Tensor], own: dict[str, Tensor]
) -> tuple[dict[str, Tensor], str]:
    """Take off what DistributedDataParallel, torch.compile or a wrapper put before every name."""
    taken = ""
    while set(state) != set(own):
        prefix = next((p for p in PREFIXES if all(n.startswith(p) for n in state)), "")
        if not prefix or any(name.startswith(taken + prefix) for name in own):
            break
        state = {name.removeprefix(prefix): value for name, value in state.items()}
        taken += prefix
    return state, taken
