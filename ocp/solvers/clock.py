"""Limits of time that hold inside an iteration, and work that can be ended from outside."""

from __future__ import annotations

import contextlib
import ctypes
import math
import os
import select
import signal
import sys
import time
import warnings
from collections.abc import Callable

from .. import interrupts

#: called now and then by whatever may take long; raises `OutOfTime`
Tick = Callable[[], None]


class OutOfTime(Exception):
    """The limit on seconds has passed within a step."""


def never() -> None:
    """Take all the time there is."""


def until(end: float) -> Tick:
    """Return a tick that raises once `time.perf_counter()` has passed `end`."""

    def tick() -> None:
        if time.perf_counter() > end:
            raise OutOfTime

    return tick


def in_child(work: Callable[[], bytes], seconds: float = math.inf) -> bytes:
    """Return what `work` returns in a forked process, which is ended when time is over.

    For libraries that can be told to stop by nobody, or that end the process that uses them.  What
    they print goes nowhere.  Without `os.fork` (Windows) the work is done here, without a limit.

    Raises
    ------
    OutOfTime : after `seconds`
    RuntimeError : the text of what `work` raised, or how the process died
    """
    if not hasattr(os, "fork"):
        return work()
    reading, writing = os.pipe()
    with warnings.catch_warnings():
        # the child touches no lock of another thread: it computes, writes to the pipe and leaves
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        _work_and_leave(work, reading, writing, seconds)
    os.close(writing)
    try:
        with interrupts.opened():
            answer = _all_of(reading, time.monotonic() + seconds)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        child = 0
    finally:  # out of time, or Ctrl-C
        os.close(reading)
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
    if code > 0:
        raise RuntimeError(answer.decode(errors="replace"))
    if code < 0:
        raise RuntimeError(f"the process was ended by {signal.Signals(-code).name}")
    return answer


def _all_of(reading: int, end: float) -> bytes:
    parts: list[bytes] = []
    while True:
        left = end - time.monotonic()
        if left <= 0 or not select.select([reading], [], [], min(left, 3600.0))[0]:
            if time.monotonic() >= end:
                raise OutOfTime
            continue
        part = os.read(reading, 1 << 20)
        if not part:
            return b"".join(parts)
        parts.append(part)


def _end_with_parent() -> None:
    """Have Linux end this process when the parent is killed: it holds the parent's locks."""
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _work_and_leave(work: Callable[[], bytes], reading: int, writing: int, seconds: float) -> None:
    """The child: no handler, exit hook or buffer of the parent runs in it."""
    code = 1
    try:
        os.close(reading)
        _end_with_parent()
        # the parent answers Ctrl-C; should it be gone, the alarm still ends this process
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        if seconds < 1e9:
            signal.setitimer(signal.ITIMER_REAL, seconds + 1.0)
        nowhere = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nowhere, number)
        sys.stdout = sys.stderr = os.fdopen(nowhere, "w")  # CasADi prints through these
        try:
            answer, done = work(), 0
        except BaseException as error:
            answer, done = str(error).encode(errors="replace"), 1
        left = memoryview(answer)
        while left:
            left = left[os.write(writing, left) :]
        code = done
    finally:
        os._exit(code)
