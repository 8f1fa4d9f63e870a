"""The stage trace of a wrapped model, for the judge."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ocp import trace

from . import controls
from .arguments import as_call
from .losses import check_labels
from .residual import probing
from .wrapper import Wrapped


def write_trace(
    path: str | os.PathLike, wrapped: Wrapped, batches: Iterable[tuple[Any, Tensor]]
) -> str:
    """Write logits of all stages, norms and updates of all blocks; return the content hash.

    Of language models the targets that are not ignored are written, one row each.  `ends_norm` is
    what makes (r/2) ends_norm^2 the cost of stem, shortcuts and head; it is left out where r = 0
    and r_ends is not.

    Raises
    ------
    ValueError : the model is in train mode, no batch is given, or labels do not fit
    """
    if wrapped.training or any(m.training for m in wrapped.model.modules()):
        raise ValueError("the model is in train mode, in which a pass changes it; wanted eval()")
    logits, labels, moved = [], [], []
    for inputs, y in batches:
        call = as_call(inputs)
        wrapped.examined(*call.args, **call.kwargs)
        with probing(wrapped.model):
            z, update = wrapped.stages_and_updates(call)
        check_labels(y, z, wrapped.ignore_index)
        counted = y != wrapped.ignore_index
        logits.append(z[:, counted].double().cpu())
        labels.append(y[counted].cpu())
        moved.append(update.cpu())
    if not logits:
        raise ValueError("no batch is given; wanted pairs of inputs and labels")
    z, update = torch.cat(logits, dim=1), torch.cat(moved, dim=-1).mean(dim=-1)
    found = wrapped.facts.weighed
    content = trace.Trace(
        logits=z.numpy(),
        control_norm=controls.norms(found).cpu().numpy(),
        labels=torch.cat(labels).numpy(),
        n_classes=z.shape[-1],
        depth=wrapped.depth,
        h=wrapped.h,
        p_d=wrapped.p_d_of(z.shape[-1]),
        r=wrapped.r,
        gamma=wrapped.gamma,
        beta=wrapped.beta,
        relative_update=update[0].numpy(),
        direction_change=update[1].numpy(),
        ends_norm=_ends_norm(wrapped),
        origin={"producer": "nn_baseline", "r_ends": wrapped.r_ends},
    )
    return trace.save(path, content)


def _ends_norm(wrapped: Wrapped) -> np.ndarray | None:
    norm = controls.ends_norm(wrapped.facts.weighed)
    if wrapped.r_ends == 0:
        return np.zeros(1)
    if wrapped.r == 0:
        return None
    return np.array([norm * (wrapped.r_ends / wrapped.r) ** 0.5])
