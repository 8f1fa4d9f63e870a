"""The soft cross-entropy of stacked logits, over the targets that count."""

from __future__ import annotations

import torch
from torch import Tensor

from ..model import soft_cross_entropy


@torch.compiler.disable
def check_labels(labels: Tensor, z: Tensor, ignore_index: int) -> None:
    """Raise ValueError unless there is a class for every logit vector, or `ignore_index`.

    z : logits, (stages, ..., n_c)
    """
    wanted, n_classes = tuple(z.shape[1:-1]), z.shape[-1]
    if tuple(labels.shape) != wanted:
        raise ValueError(
            f"labels have shape {tuple(labels.shape)}; wanted {wanted}, that of the logits without"
            f" their last dimension, which holds {n_classes} classes"
        )
    if labels.dtype != torch.int64:
        raise ValueError(f"labels have type {labels.dtype}; wanted int64 classes")
    if n_classes < 2:
        raise ValueError(f"the logits have {n_classes} classes; wanted at least 2")
    counted = labels[labels != ignore_index]
    if not counted.numel():
        raise ValueError(f"all labels are {ignore_index}, which is ignored; wanted one that counts")
    low, high = int(counted.min()), int(counted.max())
    if low < 0 or high >= n_classes:
        raise ValueError(
            f"labels hold {low if low < 0 else high}; wanted 0..{n_classes - 1}, or {ignore_index}"
            " to be ignored"
        )


def data_costs(z: Tensor, labels: Tensor, p_d: float, ignore_index: int) -> Tensor:
    """F at every stage, (stages,): the mean over the targets that are not ignored.

    In single precision at least, whatever autocast says.
    """
    with torch.autocast(z.device.type, enabled=False):
        counted = labels != ignore_index
        if bool(counted.all()):
            flat, y = z.flatten(1, -2), labels.flatten()
        else:
            flat, y = z[:, counted], labels[counted]
        if flat.dtype not in (torch.float32, torch.float64):
            flat = flat.float()
        return soft_cross_entropy(flat, y, p_d).mean(dim=-1)
