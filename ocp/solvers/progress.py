"""What a solver tells while it works.  Solvers report; only the command lines print."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """One message: where the solver is, or a sentence on a decision that it took."""

    depth: int
    iteration: int = 0
    objective: float = float("nan")
    residual: float = float("nan")
    seconds: float = 0.0
    message: str = ""


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """Report to nobody."""
