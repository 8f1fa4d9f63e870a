"""The console of all commands: what it prints is data, never markup, emoji codes or escapes."""

from __future__ import annotations

import os
from typing import Any

from rich.console import Console
from rich.text import Text

from .exits import printable
from .outputs import to_stdout


class PlainConsole(Console):
    """A console whose strings are shown as they are, control characters escaped."""

    def render_str(self, text: str, **options: Any) -> Text:
        return super().render_str(printable(text), **options)


def console(*outputs: str | os.PathLike | None, soft_wrap: bool = False, **options: Any) -> Console:
    """Return a console for words; on standard error where one of the outputs is standard output.

    outputs : what the command writes
    """
    stderr = options.pop("stderr", False) or to_stdout(*outputs)
    return PlainConsole(
        stderr=stderr, markup=False, emoji=False, highlight=False, soft_wrap=soft_wrap, **options
    )
