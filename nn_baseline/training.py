"""Train the statement's objective: first-order methods, mini-batches, resumable to the last bit.

The sample order of an epoch is a pure function of (seed, epoch) and the learning rate one of the
step, so the state of a run is its parameters, its optimiser and a few counters; there is no
generator whose state could be lost.  With several processes (torchrun) each takes its part of
every batch, weighted so that the averaged gradient is that of one process.
"""

from __future__ import annotations

import dataclasses
import enum
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from . import checkpoint, diagnosis
from .distributed import Processes
from .evaluation import evaluate
from .model import Network
from .options import Options
from .start import make_optimizer, samples

DIAGNOSED_SAMPLES = 512
#: takes a record of the log
Record = Callable[[dict], None]


class Status(enum.Enum):
    """Why training stopped.  The value is the sentence shown to the user."""

    FINISHED = "All epochs are done."
    EARLY_STOPPED = "The objective has stopped falling."
    INTERRUPTED = "Interrupted; resume with the same options."
    DIVERGED = "The objective or its gradient is no longer finite; the last good state is kept."


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """Where a run is: for a progress line."""

    step: int
    total: int
    epoch: int
    objective: float
    seconds_left: float


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Result:
    """How training ended.

    objectives : J at the exact evaluations, oldest first
    epoch_means : mean over each epoch's batches of J at the parameters of the moment
    message : for DIVERGED, where and when
    """

    status: Status
    steps: int
    seconds: float
    objectives: tuple[float, ...]
    epoch_means: tuple[float, ...]
    findings: tuple[diagnosis.Finding, ...] = ()
    message: str = ""


@dataclass(slots=True)
class _Counters:
    """What a resumed run has to know beside parameters and optimiser."""

    epoch: int = 0
    batch: int = 0  # the next one within the epoch
    step: int = 0
    batch_sum: float = 0.0
    gradient_norm: float = 0.0
    best: float = math.inf
    waited: int = 0
    seconds: float = 0.0
    objectives: list[float] = field(default_factory=list)
    epoch_means: list[float] = field(default_factory=list)


def train(
    network: Network,
    options: Options,
    *,
    folder: Path | None = None,
    resume: bool = False,
    report: Callable[[Progress], None] | None = None,
    record: Record | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    processes: Processes | None = None,
    file_options: dict | None = None,
) -> Result:
    """Minimise J over the problem's samples, starting from the network, which is changed in place.

    folder : for the state to resume from, the training file and the log; None: nothing is written
    resume : continue from the folder's state; the numbers are those of a run never stopped
    report : called after every step
    record : called with every record that goes into the log
    should_stop : asked after every step, for a clean stop
    file_options : `test` and `reference` of `checkpoint.save_training`

    Raises
    ------
    ValueError : the batch is larger than the data; the state is of another problem or of other
        options (all that differ are listed)
    """
    run = Run(network, options, folder, processes or Processes.alone(), file_options or {})
    if resume:
        run.load()
    elif folder is not None and run.processes.first:
        folder.mkdir(parents=True, exist_ok=True)
        checkpoint.truncate_log(folder / checkpoint.LOG_FILE, -1)
    return run.loop(report, record, should_stop)


class Run:
    """Owns the optimiser, the counters and the files of one training; `train` runs it."""

    def __init__(
        self,
        network: Network,
        options: Options,
        folder: Path | None,
        processes: Processes,
        file_options: dict,
    ) -> None:
        n = network.problem.n_samples
        options.fits(n)
        self.network, self.options, self.folder = network, options, folder
        self.processes, self.file_options = processes, file_options
        self.model = processes.wrap(network)
        self.parameters: list[Tensor] = list(network.parameters())
        self.good = [p.detach().clone() for p in self.parameters]
        self.optimizer = make_optimizer(self.parameters, options)
        self.inputs, self.labels = samples(network)
        self.edges = options.batches(n)
        self.total = options.epochs * (len(self.edges) - 1)
        self.counters = _Counters()
        self.saved = time.monotonic()
        self.identity = checkpoint.fingerprint(network.problem) if folder is not None else {}

    def loop(
        self,
        report: Callable[[Progress], None] | None,
        record: Record | None,
        should_stop: Callable[[], bool],
    ) -> Result:
        c, started = self.counters, time.monotonic()
        before, first = c.seconds, c.step
        while c.epoch < self.options.epochs:
            order = self.order(c.epoch)
            while c.batch < len(self.edges) - 1:
                value, norm = self.step(order)
                if not math.isfinite(value + norm):
                    return self.diverged(record)
                c.batch_sum, c.gradient_norm = c.batch_sum + value, norm
                c.batch, c.step = c.batch + 1, c.step + 1
                c.seconds = before + time.monotonic() - started
                if report is not None:
                    speed = (time.monotonic() - started) / (c.step - first)
                    report(
                        Progress(
                            step=c.step,
                            total=self.total,
                            epoch=c.epoch,
                            objective=value,
                            seconds_left=speed * (self.total - c.step),
                        )
                    )
                if self.processes.any(should_stop()):
                    return self.finish(Status.INTERRUPTED)
                if time.monotonic() - self.saved > self.options.checkpoint_seconds:
                    self.save()
            if self.end_epoch(record):
                return self.finish(Status.EARLY_STOPPED)
        return self.finish(Status.FINISHED)

    def order(self, epoch: int) -> Tensor:
        """Return the sample order of an epoch."""
        n = len(self.labels)
        if len(self.edges) == 2:
            return torch.arange(n, device=self.labels.device)
        seed = (self.options.seed * 1_000_003 + epoch) % 2**63
        generator = torch.Generator().manual_seed(seed)
        return torch.randperm(n, generator=generator).to(self.labels.device)

    def step(self, order: Tensor) -> tuple[float, float]:
        """Take one step; return J over the batch before it and the gradient's norm."""
        c, options = self.counters, self.options
        batch = order[self.edges[c.batch] : self.edges[c.batch + 1]]
        mine = self.processes.part(batch)
        # batches differ by up to one sample: weighted so that the epoch's mean is J itself
        share = len(mine) * (len(self.edges) - 1) / len(self.labels) * self.processes.count
        whole = len(mine) == len(self.labels)
        x = self.inputs if whole else self.inputs[mine]
        y = self.labels if whole else self.labels[mine]
        for group in self.optimizer.param_groups:
            group["lr"] = options.learning_rate(c.step, self.total)
        here = [p.detach() for p in self.parameters]

        def closure() -> Tensor:
            self.optimizer.zero_grad(set_to_none=True)
            J = self.model(x, y, share)
            J.backward()
            return self.processes.mean(J.detach())

        if options.optimizer == "lbfgs":
            before = [p.clone() for p in here]
            value = self.optimizer.step(lambda: float(closure()))
            norm = self.gradient_norm()
            if not all(bool(torch.isfinite(p).all()) for p in self.parameters):
                norm = norm * torch.nan
            if math.isfinite(value + float(norm)):
                torch._foreach_copy_(self.good, before)
            return value, float(norm)
        J = closure()
        norm = self.gradient_norm()
        value, size = float(J), float(norm)
        if math.isfinite(value + size):
            torch._foreach_copy_(self.good, here)
            if options.clip:
                torch.nn.utils.clip_grads_with_norm_(self.parameters, options.clip, norm)
            self.optimizer.step()
        return value, size

    def gradient_norm(self) -> Tensor:
        """|dJ/du| over the batch, a scalar."""
        gradients = [p.grad for p in self.parameters if p.grad is not None]
        return torch.nn.utils.get_total_norm(gradients)

    def end_epoch(self, record: Record | None) -> bool:
        """Record the epoch; return whether to stop early."""
        c, options = self.counters, self.options
        mean = c.batch_sum / (len(self.edges) - 1)
        c.epoch_means.append(mean)
        c.epoch, c.batch, c.batch_sum = c.epoch + 1, 0, 0.0
        entry = {
            "step": c.step,
            "epoch": c.epoch,
            "epoch_mean": mean,
            "gradient_norm": c.gradient_norm,
            "lr": options.learning_rate(c.step - 1, self.total),
            "seconds": round(c.seconds, 3),
        }
        stop = False
        if options.evaluate_every and c.epoch % options.evaluate_every == 0:
            layers = evaluate(self.network, self.inputs, self.labels)
            J = layers.objective
            c.objectives.append(J)
            bound = c.best - options.min_fall * abs(c.best) if c.objectives[:-1] else math.inf
            fell = bound > J
            c.best, c.waited = (J, 0) if fell else (c.best, c.waited + 1)
            stop = bool(options.patience) and c.waited >= options.patience
            entry |= {
                "objective": J,
                "accuracy": float(layers.accuracy[-1]),
                "entry": layers.entry,
            }
        self.write(entry, record)
        return stop

    def write(self, entry: dict, record: Record | None) -> None:
        if record is not None and self.processes.first:
            record(entry)
        if self.folder is not None and self.processes.first:
            with (self.folder / checkpoint.LOG_FILE).open("a") as log:
                log.write(json.dumps(entry) + "\n")

    def diverged(self, record: Record | None) -> Result:
        """Return to the last parameters at which everything was finite, and say where it broke."""
        c, network = self.counters, self.network
        order = self.order(c.epoch)
        batch = order[self.edges[c.batch] : self.edges[c.batch + 1]]
        where = diagnosis.first_bad_layer(network, self.inputs[batch], self.labels[batch])
        with torch.no_grad():
            torch._foreach_copy_(self.parameters, self.good)
        message = (
            f"the objective or its gradient is not finite at step {c.step} (epoch {c.epoch}),"
            f" first {where}; kept the parameters before it: lower lr, or set clip"
        )
        self.write({"step": c.step, "epoch": c.epoch, "stopped": message}, record)
        # only the training file: resuming the state would walk into the same wall
        self.save_training(Status.DIVERGED)
        return self.result(Status.DIVERGED, message)

    def finish(self, status: Status) -> Result:
        self.save()
        self.save_training(status)
        return self.result(status)

    def result(self, status: Status, message: str = "") -> Result:
        c, few = self.counters, slice(0, DIAGNOSED_SAMPLES)
        findings = diagnosis.diagnose(
            self.network, self.inputs[few], self.labels[few], c.objectives, self.options.min_fall
        )
        return Result(
            status=status,
            steps=c.step,
            seconds=c.seconds,
            objectives=tuple(c.objectives),
            epoch_means=tuple(c.epoch_means),
            findings=tuple(findings),
            message=message,
        )

    def save(self) -> None:
        """Write the state, from which training resumes."""
        self.saved = time.monotonic()
        if self.folder is None or not self.processes.first:
            return
        tree = {
            "parameters": {n: p.detach() for n, p in self.network.named_parameters()},
            "optimizer": self.optimizer.state_dict(),
            "counters": dataclasses.asdict(self.counters),
            "options": dataclasses.asdict(self.options),
            "problem": self.identity,
        }
        checkpoint.save_state(self.folder / checkpoint.STATE_FILE, tree)

    def save_training(self, status: Status) -> None:
        """Write the training file that the other rooms read."""
        if self.folder is None or not self.processes.first:
            return
        origin = {
            "optimizer": self.options.optimizer,
            "seed": self.options.seed,
            "options": dataclasses.asdict(self.options),
            "status": status.name,
        }
        checkpoint.save_training(
            self.folder / checkpoint.TRAINING_FILE,
            self.network,
            origin=origin,
            **self.file_options,
        )

    def load(self) -> None:
        """Continue from the folder's state."""
        if self.folder is None:
            raise ValueError("resume was asked for without a folder")
        path = self.folder / checkpoint.STATE_FILE
        if not path.exists():
            raise ValueError(f"{path} is not there; wanted the state of an earlier training")
        tree = checkpoint.load_state(path)
        missing = sorted({"parameters", "optimizer", "counters", "options", "problem"} - set(tree))
        if missing:
            raise ValueError(f"{path}: the state lacks {', '.join(missing)}")
        checkpoint.check_same_problem(path, tree["problem"], self.identity)
        changes = self.options.changes(tree["options"])
        if changes:
            raise ValueError(f"{path}: the options have changed: {'; '.join(changes)}")
        mine = dict(self.network.named_parameters())
        for name, p in mine.items():
            stored = tree["parameters"].get(name)
            if stored is None or stored.shape != p.shape or stored.dtype != p.dtype:
                raise ValueError(f"{path}: parameter {name!r} does not fit the network")
            with torch.no_grad():
                p.copy_(stored)
        try:
            self.optimizer.load_state_dict(tree["optimizer"])
            self.counters = _Counters(**tree["counters"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path}: the state is damaged ({error})") from None
        if self.processes.first:
            checkpoint.truncate_log(self.folder / checkpoint.LOG_FILE, self.counters.step)
