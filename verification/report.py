"""What a check returns and how a report adds up: claims carry verdicts, findings inform.

    claim      an inequality that can fail            `Check`
    finding    a theorem, an observation, a bound     `Finding`; fails only on a contradiction

Both may also be not applicable (the message says why) or not checked; neither has weight.
"""

from __future__ import annotations

import decimal
import enum
import math
import operator
from collections.abc import Iterable
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import NamedTuple

from ocp import exits


class Verdict(enum.Enum):
    """Outcome of one line; the value is the word that the user reads."""

    PASSED = "passed"
    FAILED = "failed"
    #: applies, could not be decided
    INCONCLUSIVE = "inconclusive"
    #: the hypotheses do not hold for this file; the message says which
    NOT_APPLICABLE = "not applicable"
    NOT_CHECKED = "not checked"
    #: a theorem, or a proof carried out; no verdict on the network
    PROVED = "proved"
    #: a theorem whose bound is infinite or not below the trivial maximum
    VACUOUS = "vacuous"
    #: a fact about this file that nothing is concluded from
    OBSERVED = "observed"


#: the outcomes of a claim that was evaluated
DECIDED = (Verdict.PASSED, Verdict.FAILED, Verdict.INCONCLUSIVE)
_RELATIONS = {"<=": operator.le, "<": operator.lt, ">=": operator.ge, ">": operator.gt}
NAN = float("nan")
#: relative rounding of sums in float64, granted where nothing is concluded
ROUNDING = 1e-9


#: the claim that the file is the one that was hashed: it says nothing about the network
HASH = "statement.sha256"


class VerificationError(AssertionError):
    """A report did not end as the caller required; the text is its table."""


class InconclusiveError(VerificationError):
    """Nothing failed, but what the caller required was left open or not evaluated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One claim, an inequality ``measured <= bound`` (or another relation).

    name : "check.line", where check is one of the names that --only takes
    undecidable : why the hypotheses do not hold, or the error band is too wide
    trivial : value that the measured quantity cannot exceed anyhow; a bound not below it says
        nothing (only for relations <= and <)
    where : "layer 7, sample 31"
    message : one sentence for the reader
    """

    name: str
    measured: float
    bound: float
    relation: str = "<="
    undecidable: str = ""
    trivial: float = math.inf
    where: str = ""
    message: str = ""
    kind = "claim"

    def __post_init__(self) -> None:
        if self.relation not in _RELATIONS:
            raise ValueError(f"relation is {self.relation!r}; wanted {', '.join(_RELATIONS)}")

    @property
    def verdict(self) -> Verdict:
        if self.undecidable:
            return Verdict.INCONCLUSIVE
        # NaN compares False, hence fails: a check never passes by accident.
        holds = _RELATIONS[self.relation](self.measured, self.bound)
        if not (holds and math.isfinite(self.measured)):
            return Verdict.FAILED
        upper = self.relation in ("<=", "<")
        informative = self.bound < self.trivial if upper else math.isfinite(self.bound)
        return Verdict.PASSED if informative else Verdict.VACUOUS

    @property
    def explanation(self) -> str:
        return "; ".join(part for part in (self.undecidable, self.message) if part)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line with a given outcome: theorems, observations, proofs that were carried out.

    verdict : PROVED, VACUOUS, OBSERVED; FAILED only on a contradiction with a theorem
    kind : "finding"; "claim" for a claim that was not evaluated, or a certificate
    """

    name: str
    verdict: Verdict
    measured: float = NAN
    bound: float = NAN
    relation: str = "<="
    where: str = ""
    message: str = ""
    kind: str = "finding"

    @property
    def explanation(self) -> str:
        return self.message


Entry = Check | Finding


def not_applicable(name: str, why: str, kind: str = "finding") -> Finding:
    """Return the line of a check whose hypotheses do not hold for this file."""
    return Finding(name=name, verdict=Verdict.NOT_APPLICABLE, message=why, kind=kind)


def not_checked(name: str, why: str, kind: str = "finding") -> Finding:
    """Return the line of a check that was not carried out."""
    return Finding(name=name, verdict=Verdict.NOT_CHECKED, message=why, kind=kind)


class Between(NamedTuple):
    """An exact number that lies between two known ones."""

    lower: float | Fraction
    upper: float | Fraction


def theorem(
    name: str, measured: Between, bound: Between, trivial: float = math.inf, **text: str
) -> Finding:
    """Return a theorem measured <= bound, both sides enclosed with outward rounding.

    A bound is printed by its upper end.  A violation, measured.lower > bound.upper, contradicts a
    theorem, hence means an error in this code or in the constant.  Vacuous where the bound is not
    below the trivial maximum; inconclusive where the enclosures overlap, as they do at equality.
    """
    ends = (*measured, *bound)
    message = text.pop("message", "")
    if any(math.isnan(end) for end in ends):
        verdict, message = Verdict.INCONCLUSIVE, f"an enclosure is unbounded: {message}"
    elif measured.lower > bound.upper:
        verdict, message = Verdict.FAILED, f"CONTRADICTS A THEOREM: {message}"
    elif not bound.upper < trivial:
        verdict = Verdict.VACUOUS
    elif measured.upper <= bound.lower:
        verdict = Verdict.PROVED
    else:
        verdict = Verdict.INCONCLUSIVE
        more = float(measured.upper) - float(bound.lower)
        message = f"undecided, the enclosures overlap by {more:.2g}: {message}"
    return Finding(
        name=name,
        verdict=verdict,
        measured=float(measured.upper),
        bound=float(bound.upper),
        message=message,
        **text,
    )


def printed(bound: float, up: bool, digits: int = 6) -> str:
    """Return a bound in as many digits, rounded to its own side."""
    if not math.isfinite(bound) or bound == 0.0:
        return f"{bound:.{digits}g}"
    context = decimal.Context(
        prec=digits, rounding=decimal.ROUND_CEILING if up else decimal.ROUND_FLOOR
    )
    return f"{context.create_decimal_from_float(bound):g}"


def in_floats(
    name: str, measured: float, bound: float, why: str, trivial: float = math.inf, **text: str
) -> Finding:
    """Return the same inequality as float64 finds it: observed, never proved nor contradicted.

    why : the reason that nothing is enclosed
    """
    message = text.pop("message", "")
    if not (math.isfinite(measured) and measured <= bound * (1.0 + ROUNDING)):
        verdict, message = (
            Verdict.INCONCLUSIVE,
            f"not so in float64, which decides nothing: {message}",
        )
    elif not bound < trivial:
        verdict = Verdict.VACUOUS
    else:
        verdict = Verdict.OBSERVED
    if verdict is not Verdict.VACUOUS:
        message = f"{message}; in float64, no proof: {why}"
    return Finding(
        name=name, verdict=verdict, measured=measured, bound=bound, message=message, **text
    )


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Report:
    """All lines about one or several files.

    entries : in the order of the table;  files : the paths that were read
    """

    entries: tuple[Entry, ...]
    files: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        raise TypeError("a report is neither true nor false; ask for .verdict or call .require()")

    @property
    def claims(self) -> tuple[Entry, ...]:
        return tuple(entry for entry in self.entries if entry.kind == "claim")

    @property
    def about_the_network(self) -> tuple[Entry, ...]:
        """The claims that were evaluated, without the stored hash."""
        return tuple(e for e in self.claims if e.verdict in DECIDED and e.name != HASH)

    @property
    def verdict(self) -> Verdict:
        """The worst: failed (a claim, or a contradiction), inconclusive, else passed.

        Where no claim about the network was evaluated the report is inconclusive.
        """
        if any(entry.verdict is Verdict.FAILED for entry in self.entries):
            return Verdict.FAILED
        decided = {entry.verdict for entry in self.about_the_network}
        return Verdict.PASSED if decided == {Verdict.PASSED} else Verdict.INCONCLUSIVE

    @property
    def exit_code(self) -> int:
        codes = {Verdict.FAILED: exits.FAILED, Verdict.INCONCLUSIVE: exits.INCONCLUSIVE}
        return codes.get(self.verdict, exits.OK)

    def counts(self) -> dict[Verdict, int]:
        """Return how many lines have each outcome."""
        return {v: sum(entry.verdict is v for entry in self.entries) for v in Verdict}

    def named(self, name: str) -> Entry:
        """Return the only line of that name."""
        found = [entry for entry in self.entries if entry.name == name]
        if len(found) != 1:
            raise KeyError(f"{len(found)} lines are named {name!r}; wanted one")
        return found[0]

    def select(self, checks: Iterable[str]) -> Report:
        """Return the report on the named checks alone."""
        keep = set(checks)
        return replace(self, entries=tuple(e for e in self.entries if check_of(e) in keep))

    def require(self) -> Report:
        """Return self if every claim passed, else raise with the table.

        Raises
        ------
        VerificationError : a claim failed, or a theorem is contradicted
        InconclusiveError : none failed, but one was left open, or none was evaluated
        """
        if self.verdict is Verdict.PASSED:
            return self
        kind = VerificationError if self.verdict is Verdict.FAILED else InconclusiveError
        raise kind(f"{headline(self)}\n{plain_table(self)}")


def check_of(entry: Entry) -> str:
    """Return which check a line belongs to."""
    return entry.name.partition(".")[0]


def headline(report: Report) -> str:
    """Return one line with the verdict and the count of every outcome."""
    counts = ", ".join(
        f"{n} {verdict.value}"
        for verdict, n in report.counts().items()
        if n or verdict in (*DECIDED, Verdict.NOT_APPLICABLE, Verdict.NOT_CHECKED)
    )
    nothing = "" if report.about_the_network else "; no claim about the network was evaluated"
    return f"{report.verdict.value.upper()}: {counts}{nothing}"


def plain_table(report: Report) -> str:
    """Return the lines as text, one a line; no line is cut."""
    lines = []
    for entry in report.entries:
        where = f" at {entry.where}" if entry.where else ""
        text = f": {entry.explanation}" if entry.explanation else ""
        lines.append(f"{entry.verdict.value:14s} {entry.name}  {inequality(entry)}{where}{text}")
    return "\n".join(exits.printable(line.rstrip()) for line in lines)


def inequality(entry: Entry) -> str:
    """Return "3.1e-10 <= 1e-08", the measured value alone, or nothing."""
    if math.isnan(entry.measured) and math.isnan(entry.bound):
        return ""
    if math.isnan(entry.bound):
        return f"{entry.measured:.4g}"
    if entry.verdict is Verdict.FAILED:
        return f"{entry.measured:.4g} (wanted {entry.relation} {entry.bound:.4g})"
    return f"{entry.measured:.4g} {entry.relation} {entry.bound:.4g}"


def to_json(report: Report) -> dict:
    """Return the machine-readable report, without versions; NaN and infinity become null."""
    number = lambda value: float(value) if math.isfinite(value) else None  # noqa: E731
    return {
        "format": 1,
        "files": list(report.files),
        "exit_code": report.exit_code,
        "checks": [
            {
                "name": entry.name,
                "kind": entry.kind,
                "verdict": entry.verdict.value,
                "measured": number(entry.measured),
                "bound": number(entry.bound),
                "where": entry.where,
                "message": entry.explanation,
            }
            for entry in report.entries
        ],
    }
