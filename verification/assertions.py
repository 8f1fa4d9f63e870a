"""`assert_*` twins of the checks, for other people's test suites.

Each runs one check on one or several files and raises VerificationError, an AssertionError, with
the table unless no line failed and none stayed undecided.  They return the report.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

from .api import verify
from .report import (
    DECIDED,
    Report,
    Verdict,
    VerificationError,
    headline,
    plain_table,
)


def assert_verified(*files: object, **options: object) -> Report:
    """Raise unless every claim about the files passes."""
    return verify(*files, **options).require()


def _twin(check: str) -> Callable[..., Report]:
    @functools.wraps(assert_verified)
    def twin(*files: object, **options: object) -> Report:
        if check == "certificate":
            options.setdefault("certify", True)
        report = verify(*files, only=(check,), **options)
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

    twin.__name__ = twin.__qualname__ = f"assert_{check}"
    twin.__doc__ = f"Raise unless the check {check!r} applies and nothing in it fails or is open."
    return twin


assert_statement = _twin("statement")
assert_first_order = _twin("first_order")
assert_second_order = _twin("second_order")
assert_geometry = _twin("geometry")
assert_dissipativity = _twin("dissipativity")
assert_turnpike = _twin("turnpike")
assert_depth = _twin("depth")
assert_certificate = _twin("certificate")
