"""Processes of one's own that work: quiet at Ctrl-C, and gone when the one that began them is."""

from __future__ import annotations

import concurrent.futures
import contextlib
import multiprocessing
import multiprocessing.connection
import os
import signal
import threading
from collections.abc import Iterator


@contextlib.contextmanager
def pool(count: int) -> Iterator[concurrent.futures.ProcessPoolExecutor]:
    """Give so many processes; whatever ends the block early ends them at once.

    They take no notice of Ctrl-C, which a terminal sends to all: this process decides.  If it is
    killed they end by themselves.
    """
    context = multiprocessing.get_context("spawn")  # a fork would copy BLAS in mid-flight
    before = set(multiprocessing.active_children())
    executor = concurrent.futures.ProcessPoolExecutor(count, mp_context=context, initializer=_begin)
    try:
        with _interrupts_blocked():
            for _ in range(count):  # each task that finds none idle starts a process
                executor.submit(int)
        yield executor
    except BaseException:
        for worker in set(multiprocessing.active_children()) - before:
            worker.kill()
        executor.shutdown(wait=True, cancel_futures=True)
        raise
    executor.shutdown()


@contextlib.contextmanager
def _interrupts_blocked() -> Iterator[None]:
    """Processes begun here inherit a blocked SIGINT, from their first line on; here it waits."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    from multiprocessing import resource_tracker

    resource_tracker.ensure_running()  # its own start would unblock the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _begin() -> None:
    """Set up a worker."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)
