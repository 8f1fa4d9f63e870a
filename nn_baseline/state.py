"""What a training resumes from: one file, written whole and read with suspicion, and its log.

The state is the truth: the log is brought in step with it, so it has every epoch once.  What
follows from other things is not stored but recomputed, and what is stored twice must agree.
"""

from __future__ import annotations

import dataclasses
import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from ocp.atomic import write_atomically
from ocp.description import loads_json
from ocp.validation import at_least, integer, number

from . import checkpoint
from .model import Network
from .optimizer_state import check_optimizer
from .options import Options

_PARTS = ("parameters", "optimizer", "counters", "options", "problem", "facts", "source")
_OF_AN_EPOCH = ("step", "epoch", "epoch_mean", "gradient_norm", "lr", "seconds")
_OF_AN_EVALUATION = ("objective", "accuracy", "entry")


@dataclass(slots=True)
class Counters:
    """What a resumed run has to know beside parameters and optimiser.

    batch : the next one within the epoch; the number of batches where only its end is left
    batch_sum : of J over the batches of the epoch so far
    best, waited : of the objectives, for patience; they follow from those and are not stored
    """

    epoch: int = 0
    batch: int = 0
    step: int = 0
    batch_sum: float = 0.0
    gradient_norm: float = 0.0
    seconds: float = 0.0
    objectives: list[float] = field(default_factory=list)
    epoch_means: list[float] = field(default_factory=list)
    best: float = math.inf
    waited: int = 0

    def evaluated(self, J: float, min_fall: float) -> None:
        """Note an exact evaluation."""
        bound = self.best - min_fall * abs(self.best) if self.objectives else math.inf
        self.objectives.append(J)
        self.best, self.waited = (J, 0) if bound > J else (self.best, self.waited + 1)

    def done(self, options: Options) -> bool:
        """Whether all epochs are done."""
        return self.epoch >= options.epochs and self.batch == 0

    def tired(self, options: Options) -> bool:
        """Whether the objective has stopped falling."""
        return bool(options.patience) and self.waited >= options.patience

    def stored(self) -> dict:
        content = dataclasses.asdict(self)
        return {name: value for name, value in content.items() if name not in ("best", "waited")}


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Identity:
    """Whose state it is.

    problem : `checkpoint.fingerprint`
    facts : what else the numbers and the files depend on; a resumed run must have the same
    source : where the problem comes from; named only where the problem differs
    """

    problem: dict
    facts: dict
    source: dict

    def changes(self, tree: dict) -> list[str]:
        """Name what differs in a state."""
        changes = checkpoint.changes_of_problem(tree["problem"], self.problem)
        if changes:
            changes += _differences(tree["source"], self.source)
        return changes + _differences(tree["facts"], self.facts)


def save(
    path: Path,
    network: Network,
    optimizer: torch.optim.Optimizer,
    counters: Counters,
    options: Options,
    identity: Identity,
) -> None:
    """Write the state, after the log it belongs to has reached the disk."""
    log = path.parent / checkpoint.LOG_FILE
    if log.exists():
        with log.open("rb") as file:
            os.fsync(file.fileno())
    tree = {
        "parameters": {n: p.detach() for n, p in network.named_parameters()},
        "optimizer": optimizer.state_dict(),
        "counters": counters.stored(),
        "options": dataclasses.asdict(options),
        **dataclasses.asdict(identity),
    }
    checkpoint.save_state(path, tree)


def load(
    path: Path,
    network: Network,
    optimizer: torch.optim.Optimizer,
    options: Options,
    identity: Identity,
    batches: int,
    *,
    extend: bool,
) -> Counters:
    """Put a state into network and optimiser, which are untouched if it is refused.

    extend : more epochs than were asked for first

    Raises
    ------
    ValueError : what is damaged, or all that differs, one by one
    OSError : the file cannot be read
    """
    tree = checkpoint.load_state(path)
    if set(tree) != set(_PARTS):
        found = sorted(map(str, tree))
        raise ValueError(f"{path}: the state has {found}; wanted {sorted(_PARTS)}")
    try:
        stored = _stored_options(tree["options"])
        for name in ("facts", "source", "parameters"):
            if not isinstance(tree[name], dict):
                raise ValueError(f"{name} is {type(tree[name]).__name__}; wanted names with values")
        changes = identity.changes(tree) + options.changes(stored, extend=extend)
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path}: the state is damaged ({error})") from None
    if changes:
        raise ValueError(f"{path} is of another training: {'; '.join(changes)}")
    try:
        counters = _counters(tree["counters"], stored, batches)
        mine = dict(network.named_parameters())
        _check_parameters(tree["parameters"], mine)
        check_optimizer(tree["optimizer"], optimizer, stored, counters.step)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(f"{path}: the state is damaged ({error})") from None
    if extend and options.epochs < counters.epoch:
        raise ValueError(f"extend is {options.epochs}, but {counters.epoch} epochs are done")
    with torch.no_grad():
        for name, p in mine.items():
            p.copy_(tree["parameters"][name])
    optimizer.load_state_dict(tree["optimizer"])
    return counters


def bring_log_in_step(path: Path, counters: Counters, options: Options, batches: int) -> None:
    """Cut the log behind the state's epochs; where it is too short, write what the state knows.

    Raises
    ------
    ValueError : a whole line is not that epoch's
    """
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    kept = []
    for i in range(counters.epoch):
        if i >= len(lines) or not lines[i].endswith(b"\n"):
            lines = []  # lost with the power, or by hand
            kept.append((json.dumps(_known(counters, options, batches, i)) + "\n").encode())
            continue
        try:
            _check_line(lines[i], _known(counters, options, batches, i))
        except ValueError as error:
            raise ValueError(
                f"{path}: line {i + 1} is not the record of epoch {i + 1} of this training"
                f" ({error}); remove the file, and it is made again from the state"
            ) from None
        kept.append(lines[i])
    content = b"".join(kept)
    if content != (path.read_bytes() if path.exists() else b""):
        write_atomically(path, content)


def _known(counters: Counters, options: Options, batches: int, i: int) -> dict:
    """Return what the state knows of the record of an epoch, counted from 0."""
    step = (i + 1) * batches
    known = {
        "step": step,
        "epoch": i + 1,
        "epoch_mean": counters.epoch_means[i],
        "lr": options.learning_rate(step - 1, options.epochs * batches),
    }
    every = options.evaluate_every
    if every and (i + 1) % every == 0:
        known["objective"] = counters.objectives[(i + 1) // every - 1]
    return known


def _check_line(line: bytes, known: dict) -> None:
    record = loads_json(line.decode())
    if not isinstance(record, dict):
        raise ValueError("no object")
    evaluated = _OF_AN_EVALUATION if "objective" in known else ()
    # a record that was made again from the state has no more than what the state knows
    least, most = set(known), {*_OF_AN_EPOCH, *evaluated}
    if not least <= set(record) <= most:
        raise ValueError(f"its keys are {', '.join(record)}")
    for name, value in known.items():
        if isinstance(record[name], bool) or record[name] != value:
            raise ValueError(f"{name} is {record[name]!r}; wanted {value!r}")
    for name in ("gradient_norm", "seconds", "accuracy"):
        if name in record:
            at_least(name, record[name], 0)
    if record.get("entry") is not None:
        integer("entry", record["entry"], 0)


def _stored_options(found: object) -> Options:
    if not isinstance(found, dict):
        raise ValueError("options are missing")
    return Options(**found)


def _counters(found: object, options: Options, batches: int) -> Counters:
    """Return the counters of a state; every field is checked against the options."""
    names = set(Counters().stored())
    if not isinstance(found, dict) or set(found) != names:
        raise ValueError(f"the counters are not {', '.join(sorted(names))}")
    c = Counters()
    for name in ("epoch", "batch", "step"):
        setattr(c, name, integer(name, found[name], 0))
    for name in ("gradient_norm", "seconds"):
        setattr(c, name, at_least(name, found[name], 0))
    c.batch_sum = number("batch_sum", found["batch_sum"])
    if c.epoch > options.epochs or c.batch > batches or c.step != c.epoch * batches + c.batch:
        raise ValueError(f"step {c.step} is not batch {c.batch} of epoch {c.epoch}")
    every = options.evaluate_every
    counts = {"epoch_means": c.epoch, "objectives": c.epoch // every if every else 0}
    for name, count in counts.items():
        if not isinstance(found[name], list) or len(found[name]) != count:
            raise ValueError(f"{name} are not those of {c.epoch} epochs")
    c.epoch_means = [number("epoch_means", value) for value in found["epoch_means"]]
    for value in found["objectives"]:
        c.evaluated(number("objectives", value), options.min_fall)
    return c


def _check_parameters(found: dict, mine: Mapping[str, Tensor]) -> None:
    if set(found) != set(mine):
        raise ValueError(f"parameters are {sorted(map(str, found))}; wanted {sorted(mine)}")
    for name, p in mine.items():
        stored = found[name]
        if not isinstance(stored, Tensor) or stored.shape != p.shape or stored.dtype != p.dtype:
            raise ValueError(f"parameter {name!r} does not fit the network")
        if not bool(torch.isfinite(stored).all()):
            raise ValueError(f"parameter {name!r} is not finite")


def _differences(theirs: dict, ours: dict) -> list[str]:
    return [
        f"{key} was {theirs.get(key)!r}, is {ours.get(key)!r}"
        for key in sorted(set(theirs) | set(ours))
        if theirs.get(key) != ours.get(key)
    ]
