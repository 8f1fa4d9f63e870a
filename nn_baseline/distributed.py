"""One training on many processes: torchrun starts them, gloo or nccl joins their gradients."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn


def launched_first() -> bool:
    """Whether torchrun, if it started this process, gave it rank 0; known before any joining."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Processes:
    """Which process this is, of how many."""

    rank: int
    count: int

    @classmethod
    def alone(cls) -> Processes:
        """One process."""
        return cls(rank=0, count=1)

    @classmethod
    def join(cls, device: torch.device) -> Processes:
        """Join the group that torchrun describes in the environment; alone without one.

        The device of this process is then `local_device`.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls.alone()
        if not dist.is_initialized():
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
        return cls(rank=dist.get_rank(), count=dist.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def wrap(self, network: nn.Module) -> nn.Module:
        """Return a model whose backward pass averages gradients over the processes."""
        if self.count == 1:
            return network
        return nn.parallel.DistributedDataParallel(network)

    def part(self, batch: Tensor) -> Tensor:
        """Return this process's part of a batch of sample numbers."""
        if self.count == 1:
            return batch
        if len(batch) < self.count:
            raise ValueError(
                f"a batch has {len(batch)} samples for {self.count} processes;"
                " wanted at least one each"
            )
        n = len(batch)
        return batch[n * self.rank // self.count : n * (self.rank + 1) // self.count]

    def mean(self, value: Tensor) -> Tensor:
        """Return the mean of a scalar over the processes."""
        if self.count == 1:
            return value
        total = value.clone()
        dist.all_reduce(total)
        return total / self.count

    def any(self, flag: bool) -> bool:
        """Return whether the flag is set in any process."""
        if self.count == 1:
            return flag
        total = torch.tensor(float(flag))
        if dist.get_backend() == "nccl":
            total = total.cuda()
        dist.all_reduce(total)
        return bool(total > 0)


def local_device(name: str) -> str:
    """Return "cuda:LOCAL_RANK" for "cuda" under torchrun, else the name as it is."""
    if name == "cuda" and "LOCAL_RANK" in os.environ:
        return f"cuda:{os.environ['LOCAL_RANK']}"
    return name


def leave() -> None:
    """Leave the group, if one was joined.

    The wrapped model of `Processes.wrap` is in a cycle that holds the group; left to the end of
    the interpreter, gloo's threads are destroyed while they run, and the process aborts after it
    has done its work.
    """
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
        gc.collect()
