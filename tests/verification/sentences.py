"""A row of the table of sentences: a file, the line it is judged by, and what that line says."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import verification
from ocp.files import TrainingFile
from ocp.trace import Trace
from verification.report import Entry

Content = TrainingFile | Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One sentence that a user may read.

    name : what the file is, one of a kind
    content : makes the file, or several
    only : the check;  line : the name of its line, "check.line"
    says : the whole explanation of the line; "..." stands for any text
    options : of `verification.verify_content`
    """

    name: str
    content: Callable[[], Content | Sequence[Content]]
    only: str
    line: str
    says: str
    options: dict = field(default_factory=dict)


def rows(check: str, *table: tuple) -> list[Row]:
    """Rows of one check from (name, line without the check, content, says[, options])."""
    return [
        Row(
            name=name,
            content=content,
            only=check,
            line=f"{check}.{line}" if line else check,
            says=says,
            options=dict(*options),
        )
        for name, line, content, says, *options in table
    ]


def said(row: Row) -> list[str]:
    """Return what the lines of that name say."""
    made = row.content()
    contents = [made] if isinstance(made, (TrainingFile, Trace)) else list(made)
    options = {"only": (row.only,)} | row.options
    report = verification.verify_content(contents, **options)
    return [entry.explanation for entry in report.entries if entry.name == row.line]


def is_said(row: Row, found: list[str]) -> bool:
    """Whether one of the explanations is the sentence of the row."""
    wanted = ".*".join(re.escape(part) for part in row.says.split("..."))
    return any(re.fullmatch(wanted, text, re.DOTALL) for text in found)


def numbers(entry: Entry) -> list[float]:
    """The numbers that the message of a line names, in order."""
    found = re.findall(r"(?<![\w.])-?\d[\d.]*(?:e[-+]\d+)?", entry.message)
    return [float(text) for text in found]
