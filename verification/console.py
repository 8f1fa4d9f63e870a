"""How a report reaches the terminal: a table that is read in a minute, else plain lines."""

from __future__ import annotations

import contextlib
import math
import os
import re
from collections.abc import Callable, Iterator

from rich.table import Table
from rich.text import Text

from ocp.exits import printable
from ocp.terminal import console as console_for

from .report import Entry, Report, Verdict, headline, plain_table

_STYLES = {
    Verdict.PASSED: "green",
    Verdict.FAILED: "bold red",
    Verdict.INCONCLUSIVE: "yellow",
    Verdict.PROVED: "cyan",
    Verdict.VACUOUS: "dim",
    Verdict.NOT_APPLICABLE: "dim",
    Verdict.NOT_CHECKED: "dim",
}
_LATEX = {
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{c: "\\" + c for c in "{}$&#%_"},
    **{"<=": r"$\le$", ">=": r"$\ge$", "<": "$<$", ">": "$>$"},
}
#: outcomes whose sentence is printed under the table
_EXPLAINED = (Verdict.FAILED, Verdict.INCONCLUSIVE)


@contextlib.contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Yield a function that shows what is being checked; silent unless on a terminal."""
    console = console_for(stderr=True)
    if not console.is_terminal:
        yield lambda text: None
        return
    with console.status("reading") as status:
        yield lambda text: status.update(Text(printable(text)))


def show(report: Report, *outputs: str | os.PathLike | None) -> None:
    """Print the table on a terminal, one line an entry elsewhere; the headline comes last.

    outputs : what else is written; words go to standard error where it is standard output
    """
    console = console_for(*outputs)
    if not console.is_terminal:
        console.file.write(f"{plain_table(report)}\n{headline(report)}\n")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("outcome", "name"):
        table.add_column(name, no_wrap=True)
    for name in ("measured", "bound"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("where", no_wrap=True)
    for entry in report.entries:
        table.add_row(
            Text(entry.verdict.value, style=_STYLES.get(entry.verdict, "")),
            Text(entry.name),
            number(entry.measured),
            _bound(entry),
            Text(printable(entry.where), style="dim"),
        )
    console.print(table)
    for entry in report.entries:
        if entry.explanation and (entry.verdict in _EXPLAINED or math.isnan(entry.measured)):
            style = _STYLES.get(entry.verdict, "")
            text = Text(printable(f"{entry.name}: {entry.explanation}"), style=style)
            console.print(text, soft_wrap=True)
    style = {0: "bold green", 1: "bold red"}.get(report.exit_code, "bold yellow")
    console.print(Text(headline(report), style=style), soft_wrap=True)


def latex_text(report: Report) -> str:
    """Return the report as a LaTeX tabular."""
    rows = [
        " & ".join(
            _escape(printable(cell))
            for cell in (
                entry.verdict.value,
                entry.name,
                number(entry.measured),
                _bound(entry),
                entry.where,
            )
        )
        + r" \\"
        for entry in report.entries
    ]
    head = r"outcome & check & measured & bound & where \\ \hline"
    lines = [r"\begin{tabular}{llrrl}", head, *rows, r"\end{tabular}", f"% {headline(report)}"]
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Four significant digits; nothing for NaN."""
    return "" if math.isnan(value) else f"{value:.4g}"


def _bound(entry: Entry) -> str:
    return "" if math.isnan(entry.bound) else f"{entry.relation} {entry.bound:.4g}"


def _escape(text: str) -> str:
    return re.sub(r"[<>]=|[\\{}$&#%_~^<>]", lambda found: _LATEX[found[0]], text)
