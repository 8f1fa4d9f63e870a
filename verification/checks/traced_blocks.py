"""What a stage trace says of its blocks, where it says more than their norms: findings only.

Idle is said of trailing blocks whose norm is at most 5 % of the largest and whose relative update,
|f(x)|/|x| in the mean over samples, is at most 1 %.  Norms alone do not say it: a weight before a
normalisation is a free scale.
"""

from __future__ import annotations

import numpy as np

from ..evaluation.subject import TraceSubject
from ..report import Entry, Finding, Verdict, not_applicable

#: of the largest norm, and of the state
IDLE_NORM, IDLE_UPDATE = 0.05, 0.01


def blocks_of_trace(subject: TraceSubject) -> list[Entry]:
    """Return the lines on idle blocks, on what the blocks do to their states, and on the ends."""
    trace = subject.content
    updates, turns = trace.relative_update, trace.direction_change
    lines: list[Entry] = [_idle(trace.control_norm, updates)]
    for name, values, what in (
        ("depth.relative_update", updates, "largest |f(x)|/|x| of a block, mean over samples"),
        ("depth.direction_change", turns, "largest 1 - cos of a block's state before and after"),
    ):
        if values is not None:
            k = int(values.argmax())
            lines.append(
                Finding(
                    name=name,
                    verdict=Verdict.OBSERVED,
                    measured=float(values[k]),
                    where=f"layer {k}",
                    message=f"{what}; of the last block {values[-1]:.3g}, as the file says",
                )
            )
    if trace.ends_norm is not None:
        lines.append(
            Finding(
                name="depth.ends_norm",
                verdict=Verdict.OBSERVED,
                measured=float(trace.ends_norm[0]),
                message=f"norm of stem, shortcuts and head: they add {subject.said_ends_cost:.4g}"
                " to J, as the file says",
            )
        )
    return lines


def _idle(norms: np.ndarray, updates: np.ndarray | None) -> Entry:
    name, N = "depth.idle_blocks", len(norms)
    if updates is None:
        return not_applicable(name, "no relative_update is in the trace; norms alone say little")
    idle = (norms <= IDLE_NORM * norms.max()) & (updates <= IDLE_UPDATE)
    busy = np.flatnonzero(~idle)
    first = int(busy[-1]) + 1 if len(busy) else 0
    return Finding(
        name=name,
        verdict=Verdict.OBSERVED,
        measured=float(N - first),
        bound=float(N),
        where=f"layer {first}",
        message=f"last blocks whose norm is at most {100 * IDLE_NORM:.0f} % of the largest and"
        f" whose relative update is at most {100 * IDLE_UPDATE:.0f} %, as the file says",
    )
