"""How the command lines end: their exit codes, and one sentence instead of a traceback."""

from __future__ import annotations

import sys
from collections.abc import Callable

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
#: what a user can cause, hence no fault of the code; ImportError: an extra is not installed
UNUSABLE_INPUT = (ValueError, OSError, MemoryError, ImportError)


def run(
    main: Callable[[], int],
    prefix: str = "error",
    refuse: tuple[type[Exception], ...] = UNUSABLE_INPUT,
) -> int:
    """Call main and return its code; what is in `refuse` becomes one sentence on stderr."""
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
    print(f"{prefix}: {text}", file=sys.stderr)
    return UNUSABLE


def sentence(error: Exception) -> str:
    """Return in one line what an exception says to the user."""
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"not enough memory ({text or 'no reason given'})"
    if isinstance(error, ArithmeticError):
        return f"a number leaves the range of floating point ({text})"
    return text
