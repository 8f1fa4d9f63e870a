"""Train the statement's objective: first-order methods, mini-batches, resumable to the last bit.

The sample order of an epoch is a pure function of (seed, epoch) and the learning rate one of the
step, so the state of a run is its parameters, its optimiser and a few counters; there is no
generator whose state could be lost.  With several processes (torchrun) each takes its part of
every batch, weighted so that the averaged gradient is that of one process.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ocp import interrupts, run_folder

from . import checkpoint, diagnosis, state
from .distributed import Processes
from .evaluation import evaluate
from .model import Network
from .options import Options
from .result import Progress, Result, Status
from .start import make_optimizer, samples

DIAGNOSED_SAMPLES = 512
FILES = (checkpoint.STATE_FILE, checkpoint.TRAINING_FILE, checkpoint.LOG_FILE)
#: takes a record of the log
Record = Callable[[dict], None]


def train(
    network: Network,
    options: Options,
    *,
    folder: Path | None = None,
    resume: bool = False,
    extend: bool = False,
    report: Callable[[Progress], None] | None = None,
    record: Record | None = None,
    should_stop: Callable[[], bool] = lambda: False,
    processes: Processes | None = None,
    file_options: dict | None = None,
    facts: dict | None = None,
    source: dict | None = None,
    training_file: bool = True,
) -> Result:
    """Minimise J over the problem's samples, starting from the network, which is changed in place.

    folder : for the state to resume from, the training file and the log; None: nothing is written.
        It is this run's own until its end
    resume : continue from the folder's state; the numbers, and the files but for the seconds in
        them, are those of a run never stopped.  A run that has ended is left as it is
    extend : resume for more epochs than were asked for first; a constant schedule allows it
    report : called after every step
    record : called with every record that goes into the log
    should_stop : asked after every step, for a clean stop; with a folder Ctrl-C is one, too
    file_options : `test` and `reference` of `checkpoint.save_training`
    facts, source : of `state.Identity`, JSON values by name
    training_file : False leaves it out, where this is one of several trainings in a row

    Raises
    ------
    ValueError : the batch is larger than the data; the folder is in use, or holds a training and
        is not to be resumed; the state is damaged, of another problem or of other options (all
        that differ are listed)
    """
    written = (file_options or {}) if training_file else None
    run = Run(network, options, folder, processes or Processes.alone(), written)
    if folder is None:
        if resume or extend:
            raise ValueError("resume was asked for without a folder")
        return run.loop(report, record, should_stop)
    run.identify(facts or {}, source or {})
    resume = resume or extend
    if run.processes.first:  # before anything is made; the others would see what it makes
        check_use(folder, resume=resume)
    own = run_folder.claimed(folder) if run.processes.first else contextlib.nullcontext()
    # from here to the end of the block nothing is lost to Ctrl-C
    with own, interrupts.shielded():
        if run.processes.first:
            check_use(folder, resume=resume)  # what another run did meanwhile
        if resume:
            run.load(extend)
        else:
            run.save()  # so that a state is there before its log
        return run.ended() or run.loop(report, record, should_stop)


def check_use(folder: Path, *, resume: bool) -> None:
    """Raise ValueError where a new training would replace one, or where there is none to resume."""
    found = [name for name in FILES if (folder / name).exists()]
    if found and not resume:
        raise ValueError(
            f"{folder} holds a training ({', '.join(found)}); wanted --resume to go on with it,"
            " --extend EPOCHS for more epochs, or another folder"
        )
    if resume and checkpoint.STATE_FILE not in found:
        path = folder / checkpoint.STATE_FILE
        raise ValueError(f"{path} is not there; wanted the state of an earlier training")


class Run:
    """Owns the optimiser, the counters and the files of one training; `train` runs it."""

    def __init__(
        self,
        network: Network,
        options: Options,
        folder: Path | None,
        processes: Processes,
        file_options: dict | None,
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
        self.counters = state.Counters()
        self.saved = time.monotonic()
        # Ctrl-C may break off an evaluation, not a step; several processes stop together instead
        alone = folder is not None and processes.count == 1
        self.opened = interrupts.opened if alone else contextlib.nullcontext

    def identify(self, facts: dict, source: dict) -> None:
        """Note whose state it is."""
        problem = checkpoint.fingerprint(self.network.problem)
        facts = facts | {"processes": self.processes.count}
        self.identity = state.Identity(problem=problem, facts=facts, source=source)

    def load(self, extend: bool) -> None:
        """Continue from the folder's state."""
        if self.folder is None:
            return
        batches = len(self.edges) - 1
        self.counters = state.load(
            self.folder / checkpoint.STATE_FILE, self.network, self.optimizer, self.options,
            self.identity, batches, extend=extend,
        )  # fmt: skip
        if self.processes.first:
            log = self.folder / checkpoint.LOG_FILE
            state.bring_log_in_step(log, self.counters, self.options, batches)

    def ended(self) -> Result | None:
        """Return how the run ended that was loaded; None: it goes on."""
        c, options = self.counters, self.options
        if not (c.done(options) or (c.tired(options) and c.batch == 0)):
            return None
        status = Status.FINISHED if c.done(options) else Status.EARLY_STOPPED
        if self.folder is not None and not (self.folder / checkpoint.TRAINING_FILE).exists():
            self.save_training(status)
        return self.result(status, "Nothing was left to do.")

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
                try:
                    value, norm = self.step(order)
                except KeyboardInterrupt:
                    return self.interrupted()
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
                if self.processes.any(should_stop() or interrupts.take()):
                    return self.finish(Status.INTERRUPTED)
                if time.monotonic() - self.saved > self.options.checkpoint_seconds:
                    self.save()
            try:
                self.end_epoch(record)
            except KeyboardInterrupt:
                return self.interrupted()
            if c.tired(self.options):
                return self.finish(Status.EARLY_STOPPED)
        return self.finish(Status.FINISHED)

    def interrupted(self) -> Result:
        """End at a Ctrl-C that broke off an evaluation: all is as it was before it."""
        if self.folder is None:
            raise KeyboardInterrupt
        return self.finish(Status.INTERRUPTED)

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
            kept = copy.deepcopy(self.optimizer.state_dict()) if self.folder is not None else {}
            try:
                with self.opened():
                    value = self.optimizer.step(lambda: float(closure()))
            except KeyboardInterrupt:
                if kept:
                    torch._foreach_copy_(here, before)
                    self.optimizer.load_state_dict(kept)
                raise
            norm = self.gradient_norm()
            if not all(bool(torch.isfinite(p).all()) for p in self.parameters):
                norm = norm * torch.nan
            if math.isfinite(value + float(norm)):
                torch._foreach_copy_(self.good, before)
            return value, float(norm)
        with self.opened():
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

    def end_epoch(self, record: Record | None) -> None:
        """Evaluate where it is due and record the epoch; a Ctrl-C in it leaves all undone."""
        c, options = self.counters, self.options
        layers = None
        if options.evaluate_every and (c.epoch + 1) % options.evaluate_every == 0:
            with self.opened():
                layers = evaluate(self.network, self.inputs, self.labels)
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
        if layers is not None:
            c.evaluated(layers.objective, options.min_fall)
            entry |= {
                "objective": layers.objective,
                "accuracy": float(layers.accuracy[-1]),
                "entry": layers.entry,
            }
        self.write(entry, record)

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
        """Write all; the state last, so that one that has ended has its training file beside it."""
        if status is Status.INTERRUPTED:
            self.save()
            self.save_training(status, claim=False)
        else:
            self.save_training(status)
            self.save()
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
        """Write the state, from which training resumes; one that could not be read again is not."""
        self.saved, c = time.monotonic(), self.counters
        if self.folder is None or not self.processes.first:
            return
        if all(math.isfinite(value) for value in c.objectives[-1:]):
            path = self.folder / checkpoint.STATE_FILE
            state.save(path, self.network, self.optimizer, c, self.options, self.identity)

    def save_training(self, status: Status, *, claim: bool = True) -> None:
        """Write the training file that the other rooms read; its claims cost a pass."""
        if self.folder is None or self.file_options is None or not self.processes.first:
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
            claim=claim,
            **self.file_options,
        )
