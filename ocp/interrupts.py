"""Ctrl-C and SIGTERM: a command ends at once and without a traceback, and keeps what there is.

`python -m ocp` calls `listen` in its first lines.  From then on a signal

    while nothing has been begun, or while a module is being imported   ends the process
    in a `shielded` block                                               waits for the block's end
    else                                                                raises KeyboardInterrupt

A second one, half a second after the first or later, ends the process whatever it does: files are
written whole or not at all, so nothing is damaged.  Without `listen`, as in a notebook, signals
are Python's own affair, but for SIGINT in a `shielded` block.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from types import FrameType, TracebackType

#: a terminal and a launcher may both pass one Ctrl-C on: within so many seconds it is one
ONE_PRESS = 0.5


class Terminated(KeyboardInterrupt):
    """SIGTERM; whoever catches KeyboardInterrupt keeps what there is for this one too."""


class _State:
    """What the handler has to know; one for the process, as signals are."""

    listening = False
    working = False
    shield = False
    received = 0  # the last signal
    pending = 0  # the one that is still to be raised
    pressed = 0.0


_state = _State()


def listen() -> None:
    """Take SIGINT and SIGTERM over, but for one that is ignored, as behind nohup."""
    _state.listening = True
    for number in (signal.SIGINT, signal.SIGTERM):
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _handle)
    sys.unraisablehook = _raise_again


def begin() -> None:
    """From here on there may be something to keep: signals raise."""
    _state.working = True


def end() -> None:
    """All is done and said: a late Ctrl-C changes no exit code."""
    _state.working = False
    if _state.listening:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def exit_code() -> int:
    """Return 128 and the number of the signal that came: 143 for SIGTERM, else 130."""
    return 128 + (_state.received or signal.SIGINT)


def pending() -> bool:
    """Return whether a signal waits for the end of the shielded block."""
    return bool(_state.pending)


def take() -> bool:
    """Return whether one waits, and take it as answered: the block's end will not raise it."""
    found, _state.pending = bool(_state.pending), 0
    return found


class shielded:
    """A block within which no signal raises; what came is raised at its end.

    Only in the main thread, where signals are handled; elsewhere it does nothing.
    """

    _opens = False

    def __enter__(self) -> shielded:
        self._before, self._own = _state.shield, None
        self._main = threading.current_thread() is threading.main_thread()
        if not self._main:
            return self
        default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if default and not self._opens:
            _state.received = _state.pending = 0
            self._own = signal.signal(signal.SIGINT, _handle)
        try:
            _state.shield = not self._opens
            if self._opens:
                _raise_pending()
        except BaseException:
            _state.shield = self._before
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if not self._main:
            return
        _state.shield = self._before
        if self._own is not None:
            signal.signal(signal.SIGINT, self._own)
        if not self._before:
            _raise_pending()


class opened(shielded):
    """A block within a shielded one where signals raise again, its first line included."""

    _opens = True


def _handle(number: int, frame: FrameType | None) -> None:
    if _state.listening:  # else this is a shielded block of somebody's own program
        now, again = time.monotonic(), bool(_state.received)
        if again and now - _state.pressed < ONE_PRESS:
            return
        if again or not _state.working or _importing(frame):
            _leave(number)
        _state.pressed = now
    _state.received = number
    _state.pending = number
    if not _state.shield:
        _raise_pending()


def _raise_pending() -> None:
    number, _state.pending = _state.pending, 0
    if number:
        raise (Terminated if number == signal.SIGTERM else KeyboardInterrupt)


def _importing(frame: FrameType | None) -> bool:
    """Return whether an import is under way: extension modules half loaded swallow exceptions."""
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


def _raise_again(unraisable: sys.UnraisableHookArgs) -> None:
    """An interrupt that a destructor or a C callback swallowed comes again after it."""
    if isinstance(unraisable.exc_value, KeyboardInterrupt):
        number, _state.received = _state.received, 0
        main = threading.main_thread().ident
        if hasattr(signal, "pthread_kill") and main is not None:  # raised here, it were lost again
            threading.Timer(0.02, signal.pthread_kill, [main, number]).start()
    else:
        sys.__unraisablehook__(unraisable)


def _leave(number: int) -> None:
    """End without the interpreter's farewell, which prints tracebacks when interrupted again."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):  # closed, or it was flushing when the signal came
            stream.flush()
            if stream.isatty():  # a status line hides the cursor
                stream.write("\x1b[?25h")
                stream.flush()
    with contextlib.suppress(OSError):
        os.write(2, b"interrupted\n")
    if "multiprocessing" in sys.modules:
        with contextlib.suppress(Exception):
            for child in sys.modules["multiprocessing"].active_children():
                child.kill()
    os._exit(128 + number)
