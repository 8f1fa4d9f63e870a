"""Gradient checkpoints are switched off where they would hide the stacked states' gradient."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch.utils.checkpoint


class _Direct:
    """In place of torch's reentrant checkpoint: the function is called, nothing is run again."""

    @staticmethod
    def apply(function: Callable[..., Any], preserve: bool, *args: Any) -> Any:
        return function(*args)


@contextlib.contextmanager
def no_reentrant_checkpoint() -> Iterator[None]:
    """Call what torch's reentrant checkpoint would run without gradients, and again in backward.

    Around a bypassed block the second run would be of the block itself.
    """
    module: Any = torch.utils.checkpoint
    kept = module.CheckpointFunction
    module.CheckpointFunction = _Direct
    try:
        yield
    finally:
        module.CheckpointFunction = kept
