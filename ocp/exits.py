"""How the command lines end: their exit codes, and one sentence instead of a traceback.

A standard output that nobody reads any more costs nothing: the words are dropped, the result is
written, and the exit code is the command's own (what was computed is as true as before; that the
words were lost is said on standard error, unless the reader left, as `head` does).
"""

from __future__ import annotations

import argparse
import contextlib
import errno
import io
import os
import select
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn, TextIO

from . import interrupts

#: done, and all is as wanted
OK = 0
#: done, but a claim failed, or what was found is no strict local minimum
FAILED = 1
#: unusable input, usage, or not enough memory
UNUSABLE = 2
#: no claim failed, but one is inconclusive, or none was evaluated
INCONCLUSIVE = 3
#: ended by Ctrl-C: 128 and the number of the signal; `run` returns 143 after SIGTERM
INTERRUPTED = 130
#: what a user can cause, hence no fault of the code; ImportError: an extra is not installed;
#: RecursionError: a text nested beyond what a parser follows
UNUSABLE_INPUT = (ValueError, OSError, MemoryError, ImportError, RecursionError)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one sentence, escaped; the usage is for --help."""

    def error(self, message: str) -> NoReturn:
        said = printable(f"{self.prog}: {message}; --help shows the usage")
        self.exit(UNUSABLE, f"{said}\n")


def run(
    main: Callable[[], int],
    prefix: str = "error",
    refuse: tuple[type[Exception], ...] = UNUSABLE_INPUT,
) -> int:
    """Call main and return its code; what is in `refuse` becomes one sentence on stderr."""
    with _streams_that_may_die():
        try:
            interrupts.begin()
            try:
                code = main()
            finally:
                interrupts.end()
            return interrupts.exit_code() if code == INTERRUPTED else code
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return interrupts.exit_code()
        except refuse as error:
            return unusable(sentence(error), prefix)


def unusable(text: str, prefix: str = "error") -> int:
    """Say on stderr why nothing was done; return the code for it."""
    print(printable(f"{prefix}: {text}"), file=sys.stderr)
    return UNUSABLE


def sentence(error: Exception) -> str:
    """Return in one line what an exception says to the user, as `printable` shows it."""
    if isinstance(error, OSError) and error.filename is not None:
        return printable(f"{os.fsdecode(error.filename)}: {error.strerror}")
    text = printable(" ".join(str(error).split()))
    if isinstance(error, MemoryError):
        return f"not enough memory ({text or 'no reason given'})"
    if isinstance(error, RecursionError):
        return f"the input is nested too deeply ({text})"
    if isinstance(error, ArithmeticError):
        return f"a number leaves the range of floating point ({text})"
    return text


def printable(text: str) -> str:
    r"""Return text from a file, a name or an error as it may be shown: nothing in it can move a
    cursor, colour a line or fail to be encoded.

    Control and format characters, line ends, lone surrogates: "\x1b", "\u202e", "\udc80".
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _is_standard(stream: TextIO | None, number: int) -> bool:
    try:
        return stream is None or stream.fileno() == number
    except (OSError, ValueError, AttributeError):
        return False


class _Mortal(io.FileIO):
    """An open descriptor; after the first write that fails, what is written goes nowhere."""

    cause: OSError | None = None

    def write(self, content: Any, /) -> int:
        try:
            while self.cause is None:
                written = super().write(content)
                if written is not None:
                    return written
                select.select([], [self], [])  # somebody made it non-blocking, and it is full
        except OSError as error:
            self.cause = error
        return len(content)


@contextlib.contextmanager
def _streams_that_may_die() -> Iterator[None]:
    """Let standard output and standard error drop what they cannot take, and escape what their
    encoding has no sign for; streams that somebody put in their place (a test) stay."""
    for number in (0, 1, 2):  # else a file that is opened later becomes standard output
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest number that is free, hence this one
    before = sys.stdout, sys.stderr
    mortals = []
    for name, number in (("stdout", 1), ("stderr", 2)):
        stream: TextIO | None = getattr(sys, name)
        if stream is not getattr(sys, f"__{name}__") or not _is_standard(stream, number):
            continue
        with contextlib.suppress(OSError, AttributeError):
            stream.flush()
        mortal = _Mortal(number, "wb", closefd=False)
        mortals.append(mortal)
        encoding = getattr(stream, "encoding", None) or "utf-8"
        setattr(
            sys,
            name,
            io.TextIOWrapper(
                io.BufferedWriter(mortal), encoding, "backslashreplace", line_buffering=True
            ),
        )
    try:
        yield
    finally:
        ours = sys.stdout, sys.stderr
        for stream in ours:
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        if mortals and ours[0] is not before[0]:
            cause = mortals[0].cause
            if cause is not None and cause.errno not in (errno.EPIPE, errno.EBADF):
                print(f"standard output: {cause.strerror}", file=sys.stderr, flush=True)
        sys.stdout, sys.stderr = before
