"""What a training says: while it runs, why it stopped, and how it ended."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from . import diagnosis


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
