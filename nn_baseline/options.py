"""What training does, apart from the problem: one frozen, validated record."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

from ocp.validation import at_least, integer, one_of, positive

OPTIMIZERS = ("adam", "adamw", "sgd", "lbfgs")
SCHEDULES = ("constant", "linear", "cosine")
DTYPES = ("float32", "float64")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to train.

    Parameters
    ----------
    optimizer : adam, adamw, sgd or lbfgs (the last on the whole set only)
    lr : learning rate at its highest
    schedule : constant, or from lr down to lr_end by a line or half a cosine
    lr_end : as a fraction of lr
    warmup : steps over which lr rises from 0, on a line
    momentum : sgd only
    decoupled_decay : adamw only; no part of J: its fixed points solve another problem
    epochs : passes over the samples; for lbfgs calls of 20 iterations each
    batch_size : 0 for the whole set; batches are as equal as they can be
    clip : largest Euclidean norm of a step's gradient; 0 for no clipping
    patience : stop after so many evaluations without a fall of J by min_fall J; 0 for never
    evaluate_every : epochs between exact evaluations of J; 0 for the end only
    init_scale : standard deviation of the near-zero start
    seed : of the start and of the sample order
    dtype : float32 or float64
    device : "cpu", "cuda", "cuda:1", ...
    checkpoint_seconds : at most so much work is lost when the process is killed

    Raises
    ------
    ValueError : one sentence with what was found and what was wanted
    """

    optimizer: str = "adam"
    lr: float = 1e-3
    schedule: str = "constant"
    lr_end: float = 0.01
    warmup: int = 0
    momentum: float = 0.0
    decoupled_decay: float = 0.0
    epochs: int = 10
    batch_size: int = 0
    clip: float = 0.0
    patience: int = 0
    min_fall: float = 1e-6
    evaluate_every: int = 1
    init_scale: float = 1e-2
    seed: int = 0
    dtype: str = "float64"
    device: str = "cpu"
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, known in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("dtype", DTYPES),
        ):
            one_of(name, getattr(self, name), known)
        for name, least in (
            ("warmup", 0),
            ("epochs", 1),
            ("batch_size", 0),
            ("patience", 0),
            ("evaluate_every", 0),
            ("seed", 0),
        ):
            object.__setattr__(self, name, integer(name, getattr(self, name), least))
        object.__setattr__(self, "lr", positive("lr", self.lr))
        for name in (
            *("lr_end", "momentum", "decoupled_decay", "clip"),
            *("min_fall", "init_scale", "checkpoint_seconds"),
        ):
            object.__setattr__(self, name, at_least(name, getattr(self, name), 0))
        if self.lr_end > 1:
            raise ValueError(f"lr_end is {self.lr_end}; wanted a fraction of lr, at most 1")
        for name, wanted in (("momentum", "sgd"), ("decoupled_decay", "adamw")):
            if getattr(self, name) and self.optimizer != wanted:
                raise ValueError(
                    f"{name} is {getattr(self, name)} with optimizer {self.optimizer};"
                    f" only {wanted} has it"
                )
        if self.dtype == "float32" and self.lr > 3.4e38:
            raise ValueError(f"lr is {self.lr:g}, too large for the dtype float32")
        if self.optimizer == "lbfgs" and (self.clip or self.warmup or self.schedule != "constant"):
            raise ValueError(
                "lbfgs searches along lines; wanted clip 0, warmup 0 and a constant schedule"
            )
        if self.patience and not self.evaluate_every:
            raise ValueError("patience counts evaluations; wanted evaluate_every of at least 1")

    def fits(self, n_samples: int) -> None:
        """Raise ValueError unless a batch can be drawn from so many samples."""
        if self.batch_size > n_samples:
            raise ValueError(
                f"batch_size is {self.batch_size} but there are {n_samples} samples;"
                f" wanted at most {n_samples}, or 0 for all"
            )
        if self.optimizer == "lbfgs" and 0 < self.batch_size < n_samples:
            raise ValueError(
                f"batch_size is {self.batch_size} with lbfgs; wanted 0, the whole set,"
                " because its line search compares values of one function"
            )

    def batches(self, n_samples: int) -> list[int]:
        """Return the edges of an epoch's batches: sizes differ by at most one sample."""
        m = math.ceil(n_samples / self.batch_size) if self.batch_size else 1
        return [n_samples * i // m for i in range(m + 1)]

    def learning_rate(self, step: int, total: int) -> float:
        """Return the rate of step 0 .. total - 1: a pure function, so resuming needs no state."""
        if step < self.warmup:
            return self.lr * (step + 1) / self.warmup
        if self.schedule == "constant":
            return self.lr
        t = (step - self.warmup) / max(1, total - self.warmup)
        fall = t if self.schedule == "linear" else 0.5 * (1.0 - math.cos(math.pi * t))
        return self.lr * (1.0 - (1.0 - self.lr_end) * fall)

    def changes(self, other: Options, *, extend: bool = False) -> list[str]:
        """Name what differs from the options of a checkpoint; how often to save is free.

        extend : more epochs are asked for, which a constant schedule alone can give: its steps so
            far were the same whatever was to follow
        """
        mine, theirs = dataclasses.asdict(self), dataclasses.asdict(other)
        hints = {}
        if other.schedule == "constant":
            hints["epochs"] = f" (more epochs: extend {self.epochs})"
        elif extend:
            hints["epochs"] = (
                f" (schedule {other.schedule} ends with the epochs that were asked for first;"
                " only a constant one can be extended)"
            )
        free = {"checkpoint_seconds"} | ({"epochs"} if extend and self.can_extend(other) else set())
        return [
            f"{name} was {theirs[name]!r}, is {mine[name]!r}{hints.get(name, '')}"
            for name in mine
            if name not in free and theirs[name] != mine[name]
        ]

    def can_extend(self, other: Options) -> bool:
        """Whether a training with the other options can go on for more epochs."""
        return self.schedule == other.schedule == "constant"
