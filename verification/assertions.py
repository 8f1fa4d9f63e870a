"""`assert_*` twins of the checks, for other people's test suites: one for each row of the registry.

    assert_first_order("solution.safetensors", tolerance=1e-10)

Each runs one check on one or several files, raises VerificationError, an AssertionError, with the
table, and returns the report else.  Of a check that makes claims, one must have been evaluated and
all must have passed; InconclusiveError, a VerificationError, tells an open claim from a failed one.
Of a check that has findings only, nothing may contradict a theorem.
"""

from __future__ import annotations

import os
from typing import Protocol

from .api import verify
from .checks import REGISTRY, Row
from .report import (
    InconclusiveError,
    Report,
    Verdict,
    VerificationError,
    headline,
    plain_table,
)

#: the outcomes of a finding that say something
EVALUATED = (Verdict.PROVED, Verdict.VACUOUS, Verdict.OBSERVED)


class Assertion(Protocol):
    """An `assert_*` function: files, and the options of `verification.verify`."""

    def __call__(
        self,
        *files: str | os.PathLike,
        tolerance: float = ...,
        data: str | os.PathLike | None = ...,
        budget: float | None = ...,
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
        budget: float | None = None,
    ) -> Report:
        report = verify(
            *files,
            tolerance=tolerance,
            certify=row.on_request and not row.by_name,
            data=data,
            only=(row.name,),
            budget=budget,
        )
        return _claims(report, row) if row.claims else _findings(report)

    twin.__name__ = twin.__qualname__ = f"assert_{row.name}"
    wanted = (
        "Raise unless a claim of this check was evaluated and all of them passed."
        if row.claims
        else "Raise on a contradiction to a theorem, and where nothing was evaluated.\n\n"
        "This check has findings only: that it does not raise asserts no property of the network."
    )
    if row.over_depths:
        wanted += "\n\nIts claim is about three or more depths: one file alone raises."
    twin.__doc__ = (
        f"{wanted}\n\nIt answers: {row.asks}\n\n"
        "files, tolerance, data, budget : as in `verification.verify`"
    )
    return twin


def _claims(report: Report, row: Row) -> Report:
    if row.over_depths and not report.about_the_network and report.verdict is not Verdict.FAILED:
        why = f"{row.name} makes its claim over files of three or more depths; none was evaluated"
        raise InconclusiveError(f"{why}\n{plain_table(report)}")
    return report.require()


def _findings(report: Report) -> Report:
    if report.verdict is Verdict.FAILED:
        raise VerificationError(f"{headline(report)}\n{plain_table(report)}")
    if not any(entry.verdict in EVALUATED for entry in report.entries):
        raise InconclusiveError(f"nothing was evaluated\n{plain_table(report)}")
    return report


TWINS = {f"assert_{row.name}": _twin(row) for row in REGISTRY}


def __getattr__(name: str) -> Assertion:
    if name in TWINS:
        return TWINS[name]
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
