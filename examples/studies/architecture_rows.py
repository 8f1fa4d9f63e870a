"""One network of the study of architectures: trained, looked at block by block, cropped."""

from __future__ import annotations

import architecture_models
import numpy as np
import torch
from torch import Tensor

import nn_baseline

#: training ends when J has fallen by less than this share over so many epochs
FALL, EPOCHS = 0.01, 5
ALLOWED = 0.3


def images(parameters: dict) -> tuple[list[tuple[Tensor, Tensor]], int, int]:
    """Training, validation and test samples (images, labels), the side, the number of classes."""
    found = nn_baseline.data.load(parameters["data"], parameters.get("data_dir"))
    x, y = np.asarray(found.inputs), np.asarray(found.labels)
    order = np.random.default_rng(20240520).permutation(len(x))  # our split, not the user's
    n, m = parameters["train"], parameters["validation"]
    side = round(x.shape[1] ** 0.5)
    test = found.test
    if test is None:
        raise ValueError(f"{parameters['data']} has no test samples")
    parts = [(x[order[:n]], y[order[:n]]), (x[order[n : n + m]], y[order[n : n + m]]), test]
    scale = np.abs(x[order[:n]].astype(float)).max()
    put = lambda a: torch.tensor(np.asarray(a, dtype=np.float32) / np.float32(scale))  # noqa: E731
    samples = [
        (put(s).view(-1, 1, side, side), torch.tensor(np.asarray(t)).long()) for s, t in parts
    ]
    return samples, side, int(y.max()) + 1


def train_row(parameters: dict, given: dict[str, bytes]) -> tuple[dict, dict[str, bytes]]:
    """Train one network until J settles, or for a number of epochs; its blocks and its crops."""
    torch.set_num_threads(1)
    (train, validation, test), side, n_classes = images(parameters)
    seed, N = parameters["seed"], parameters["depth"]
    name, width = parameters["architecture"], parameters["width"]
    model = architecture_models.network(name, N, width, n_classes, side, seed)
    wrapped = nn_baseline.wrap(
        model, model.blocks, r=parameters["r"], p_d=parameters["p_d"], beta=parameters["beta"]
    )
    wrapped.examined(train[0][:8])
    optimizer = torch.optim.Adam(wrapped.parameters(), lr=parameters["lr"])
    wrapped.check(optimizer)
    draw = torch.Generator().manual_seed(seed)
    costs: list[float] = []
    profiles: list[dict] = []
    exact = parameters.get("epochs")
    while len(costs) < (exact or parameters["most_epochs"]):
        costs.append(_epoch(wrapped, optimizer, train, parameters["batch"], draw))
        profiles.append(_profile(wrapped, validation))
        if exact is None and _settled(costs):
            break
    return _result(wrapped, costs, profiles, train, validation, test), {}


def _epoch(wrapped, optimizer, train, batch: int, draw: torch.Generator) -> float:
    """One pass over the samples; the mean of J over its steps."""
    wrapped.train()
    total, steps = 0.0, 0
    for rows in torch.randperm(len(train[0]), generator=draw).split(batch):
        if len(rows) < 2:  # BatchNorm needs two
            continue
        optimizer.zero_grad()
        J = wrapped(train[0][rows], labels=train[1][rows])
        J.backward()
        optimizer.step()
        total, steps = total + float(J.detach()), steps + 1
    return total / steps


def _settled(costs: list[float]) -> bool:
    return len(costs) > EPOCHS and costs[-1] > (1 - FALL) * costs[-1 - EPOCHS]


def batches(samples: tuple[Tensor, Tensor], size: int = 500) -> list[tuple[Tensor, Tensor]]:
    """The samples in batches of a few hundred."""
    x, y = samples
    return list(zip(x.split(size), y.split(size), strict=True))


def _profile(wrapped, samples) -> dict:
    """What the blocks do, in numbers that a table can hold."""
    wrapped.eval()
    report = nn_baseline.block_report(wrapped, batches(samples))
    size = np.where(report.free_scale, report.folded_norm, report.control_norm)
    return {
        "norms": size.tolist(),
        "updates": report.relative_update.tolist(),
        "accuracies": report.accuracy.tolist(),
        "last_norm": float(size[-1] / size.max()) if size.max() > 0 else 0.0,
        "idle_from": report.idle_from,
    }


def _result(wrapped, costs, profiles, train, validation, test) -> dict:
    wrapped.eval()
    end, half = profiles[-1], profiles[(len(profiles) - 1) // 2]
    chosen = nn_baseline.choose(nn_baseline.block_report(wrapped, batches(validation)), ALLOWED)
    held = nn_baseline.block_report(wrapped, batches(test))
    lost, (low, high) = held.lost(chosen.kept)
    cropped = nn_baseline.crop(wrapped, chosen.kept)
    crop_right = _right(cropped.model, test)
    return {
        "J": costs[-1],
        "epochs_run": len(costs),
        "settled": _settled(costs),
        "validation": end["accuracies"][-1],
        "test": float(held.accuracy[-1]),
        "kept": chosen.kept,
        "crop_test": crop_right,
        "lost": lost,
        "lost_low": low,
        "lost_high": high,
        "parameters": cropped.parameters[0],
        "crop_parameters": cropped.parameters[1],
        "recalibrated": cropped.recalibrated,
        "last_norm": end["last_norm"],
        "idle_from": end["idle_from"],
        "norms": np.round(end["norms"], 6).tolist(),
        "updates": np.round(end["updates"], 6).tolist(),
        "stages": np.round(held.accuracy, 6).tolist(),
        "half_last_norm": half["last_norm"],
        "half_idle_from": half["idle_from"],
        "half_norms": np.round(half["norms"], 6).tolist(),
    }


@torch.no_grad()
def _right(model, samples) -> float:
    """Accuracy of the cropped model by itself, the true logit strictly the largest."""
    right = 0
    for x, y in batches(samples):
        z = model(x)
        true = z.gather(1, y[:, None])
        right += int((true > z.scatter(1, y[:, None], -torch.inf).amax(1, True)).sum())
    return right / len(samples[1])
