"""`assert_*` twins of the checks, for other people's test suites: one for each row of the registry.

    assert_first_order("solution.safetensors", tolerance=1e-10)

Each runs one check on one or several files and raises VerificationError, an AssertionError, with
the table unless no line failed and none stayed undecided.  They return the report.
"""

from __future__ import annotations

import os
from typing import Protocol

from .api import verify
from .checks import REGISTRY, Row
from .report import DECIDED, Report, Verdict, VerificationError, headline, plain_table


class Assertion(Protocol):
    """An `assert_*` function: files, and the options of `verification.verify`."""

    def __call__(
        self,
        *files: str | os.PathLike,
        tolerance: float = ...,
        data: str | os.PathLike | None = ...,
        budget: float = ...,
    ) -> Report: ...


def assert_verified(
    *files: str | os.PathLike,
    tolerance: float = 1e-8,
    certify: bool = False,
    data: str | os.PathLike | None = None,
) -> Report:
    """Raise unless every claim about the files passes; the options are those of `verify`."""
    return verify(*files, tolerance=tolerance, certify=certify, data=data).require()


def _twin(row: Row) -> Assertion:
    def twin(
        *files: str | os.PathLike,
        tolerance: float = 1e-8,
        data: str | os.PathLike | None = None,
        budget: float = 35.0,
    ) -> Report:
        report = verify(
            *files,
            tolerance=tolerance,
            certify=row.on_request,
            data=data,
            only=(row.name,),
            budget=budget,
        )
        # Where a check makes claims one must have been evaluated, else (dissipativity, depth) a
        # finding: a check that checked nothing fails.
        evaluated = [
            e
            for e in report.claims or report.entries
            if e.verdict not in (Verdict.NOT_APPLICABLE, Verdict.NOT_CHECKED)
        ]
        bad = [
            e
            for e in report.entries
            if e.verdict in DECIDED[1:] and (e.kind == "claim" or e.verdict is Verdict.FAILED)
        ]
        if bad or not evaluated:
            raise VerificationError(f"{headline(report)}\n{plain_table(report)}")
        return report

    twin.__name__ = twin.__qualname__ = f"assert_{row.name}"
    twin.__doc__ = (
        f"Raise unless the check {row.name!r} applies and nothing in it fails or is open.\n\n"
        f"It answers: {row.asks}\n\nfiles, tolerance, data, budget : as in `verification.verify`"
    )
    return twin


TWINS = {f"assert_{row.name}": _twin(row) for row in REGISTRY}


def __getattr__(name: str) -> Assertion:
    if name in TWINS:
        return TWINS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
