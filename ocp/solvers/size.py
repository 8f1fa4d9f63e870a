"""What a problem asks of the machine, told before the work.

Whatever moves the controls, whether a point is a minimum is decided by the dense reduced Hessian,
(d, d) for d variables: copies of it are the memory, its factorisations the time.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from ..problem import Problem

#: copies of the Hessian that live at once, measured at d = 1440 to 6528: 4.2 by factorisation
#: (structured), 5.3 by eigenvalues
COPIES = {"structured": 4.5}
COPIES_OTHERWISE = 5.5
#: operations a second on one core, measured there: within a factor of three
SPEED = 1e10
#: a judgement that takes longer is announced, in seconds
LONG = 60.0
GIB = 2.0**30


def memory(problem: Problem, solver: str = "structured") -> float:
    """Return the bytes that a solve needs at least."""
    d = problem.n_decision
    dense = COPIES.get(solver, COPIES_OTHERWISE) * 8.0 * d * d
    if solver != "fatrop":
        return dense
    # a stage is the states of all samples: dense dynamics and a dense Hessian of each
    stage = float(problem.width * problem.n_samples)
    return max(dense, 2.0 * 8.0 * problem.depth * stage * stage)


def seconds(problem: Problem, solver: str = "structured") -> float:
    """Return about how long one judgement takes: assemblies, and factorisations or eigenvalues."""
    d = float(problem.n_decision)
    assembly = 2.0 * problem.n_samples * problem.width * d * d
    work = assembly + d**3 if solver == "structured" else 3.0 * assembly + 20.0 * d**3
    return work / SPEED


def available() -> float:
    """Return the bytes that this process may take; infinity where the system does not say."""
    found = [float("inf")]
    with contextlib.suppress(OSError, ValueError):
        lines = Path("/proc/meminfo").read_text().splitlines()
        found += [1024.0 * int(s.split()[1]) for s in lines if s.startswith("MemAvailable:")]
    for limit in ("memory.max", "memory/memory.limit_in_bytes"):  # of a container
        try:
            found.append(float(Path("/sys/fs/cgroup", limit).read_text()))
        except (OSError, ValueError):  # "max" is no number
            continue
    if len(found) == 1 and hasattr(os, "sysconf"):
        with contextlib.suppress(OSError, ValueError):
            found.append(float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")))
    return min(found)


def check_size(problem: Problem, solver: str = "structured", workers: int = 1) -> str:
    """Return a caution on how long one judgement takes, or "".

    workers : solves at the same time on this machine

    Raises
    ------
    ValueError : the memory is not there
    """
    needed, there = workers * memory(problem, solver), available()
    d, each = problem.n_decision, seconds(problem, solver)
    at_once = f" by {workers} workers" if workers > 1 else ""
    what = f"{d} variables (depth {problem.depth}, width {problem.width})"
    if needed > there:
        raise ValueError(
            f"{what} and {problem.n_samples} samples want about {needed / GIB:.1f} GiB of"
            f" memory{at_once}, of which {there / GIB:.1f} GiB are free, and {_time(each)} for each"
            " judgement by the dense reduced Hessian; lower width or depth, or train the network"
            " instead (python -m nn_baseline train)"
        )
    if each <= LONG:
        return ""
    return (
        f"{what}: each judgement by the dense reduced Hessian takes about {_time(each)} and"
        f" {memory(problem, solver) / GIB:.1f} GiB, at least one is needed for a solution"
    )


def _time(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 1):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
