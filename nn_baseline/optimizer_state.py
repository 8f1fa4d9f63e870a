"""The state of an optimiser from a file, compared with that of one that has taken a step."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ocp.validation import integer

from .options import Options
from .start import make_optimizer

#: what lbfgs makes when it first needs it
_LATER = {"al"}


def check_optimizer(
    found: object, optimizer: torch.optim.Optimizer, options: Options, steps: int
) -> None:
    """Raise ValueError unless the optimiser could have this state after so many steps."""
    if not isinstance(found, dict) or set(found) != {"state", "param_groups"}:
        raise ValueError("the optimiser's state is not state and param_groups")
    _check_groups(found["param_groups"], optimizer.state_dict()["param_groups"])
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    template = _after_one_step(parameters, options) if steps else {}
    state = found["state"]
    if not isinstance(state, dict) or set(state) != set(template):
        raise ValueError("the optimiser's state is not that of these parameters")
    total = sum(p.numel() for p in parameters)
    for i, like in template.items():
        here = state[i]
        if not isinstance(here, dict) or not set(here) <= set(like) | _LATER:
            raise ValueError(f"the optimiser's state of parameter {i} has other keys")
        # lbfgs that stood still at once has counted, and no more
        if set(like) - _LATER - set(here) and here.get("n_iter") != 0:
            raise ValueError(f"the optimiser's state of parameter {i} lacks keys")
        for name, value in here.items():
            _check_value(name, value, like.get(name, []), total)
        if isinstance(here.get("step"), Tensor) and float(here["step"]) != steps:
            raise ValueError(f"the optimiser has taken {float(here['step'])} steps of {steps}")


def _check_groups(found: object, wanted: list[dict]) -> None:
    if not isinstance(found, list) or len(found) != len(wanted):
        raise ValueError("the optimiser's groups are not those of these parameters")
    for group, like in zip(found, wanted, strict=True):
        if not isinstance(group, dict) or set(group) != set(like):
            raise ValueError("the optimiser's options have other keys")
        for name, value in like.items():
            theirs = list(group[name]) if isinstance(value, tuple) else group[name]
            ours = list(value) if isinstance(value, tuple) else value
            if name == "lr":  # set anew before each step
                continue
            if type(theirs) is not type(ours) or theirs != ours:
                raise ValueError(f"the optimiser's {name} is {theirs!r}; wanted {ours!r}")


def _check_value(name: str, value: object, like: object, total: int) -> None:
    """Types, shapes and finiteness as in the template; its lists may be longer or shorter."""
    if isinstance(value, list) and isinstance(like, list):
        for one in value:
            if one is not None:
                vector = isinstance(one, Tensor) and one.shape == (total,)
                _check_value(name, one, one if vector else 0.0, total)
        return
    if isinstance(value, Tensor):
        scalar = value.ndim == 0 and not isinstance(like, list)
        same = isinstance(like, Tensor) and value.shape == like.shape and value.dtype == like.dtype
        if not (same or (scalar and not isinstance(like, Tensor))):
            raise ValueError(f"the optimiser's {name} has shape {tuple(value.shape)}")
        if not bool(torch.isfinite(value).all()):
            raise ValueError(f"the optimiser's {name} is not finite")
        return
    if value is None and like is None:
        return
    if isinstance(like, int) and not isinstance(like, bool):
        integer(name, value, 0)
        return
    scalar_like = isinstance(like, float) or (isinstance(like, Tensor) and like.ndim == 0)
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not (scalar_like and known and math.isfinite(float(value))):  # type: ignore[arg-type]
        raise ValueError(f"the optimiser's {name} is {value!r:.60}")


def _after_one_step(parameters: list[Tensor], options: Options) -> dict:
    """Return the state of a fresh optimiser on parameters like these, after a step."""
    stand_ins = [torch.zeros_like(p, requires_grad=True) for p in parameters]
    optimizer = make_optimizer(stand_ins, options)

    def closure() -> float:
        optimizer.zero_grad(set_to_none=True)
        # curved differently in each coordinate, so that lbfgs does not end after a step
        J = sum(((p - 1.0) ** 2 * torch.linspace(1, 9, p.numel()).view_as(p).to(p)).sum()
                for p in stand_ins)  # fmt: skip
        J.backward()  # type: ignore[union-attr]
        return float(J.detach())  # type: ignore[union-attr]

    if options.optimizer != "lbfgs":
        closure()
        optimizer.step()
    else:
        optimizer.step(closure)
    return optimizer.state_dict()["state"]
