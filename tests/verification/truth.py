"""What is true of a file, line by line, by the oracle; and where a report says otherwise.

A claim of a file is one of four: it holds (must not fail), is wrong (must not pass), is refuted
(must fail), or open (neither passed nor failed, as on kinks and exact null directions).  Lines
that print "proved" are recomputed; a finding that fails contradicts a theorem, hence is false.
"""

from __future__ import annotations

import collections
import dataclasses
import enum
import math
import re

import numpy as np
import oracle
import torch

from ocp.files import TrainingFile
from ocp.problem import Problem
from verification.report import Report, Verdict

TOLERANCE = 1e-8
EPS = np.finfo(float).eps


class Truth(enum.Enum):
    HOLDS = "holds"
    WRONG = "wrong"
    REFUTED = "refuted"
    OPEN = "open"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
    """What is known of a file by its making; None: ask the oracle.

    hash_holds : statement and tensors are those that were hashed
    near : a stationary point lies within 1e-3 max(1, |u|)
    strict : that point is a strict local minimum;  known_minimum : a local minimum on kinks
    flat : it has exact null directions, so neither strict nor shown to be none
    refused : no file of the format
    best : least J known for this statement
    """

    hash_holds: bool | None = True
    near: bool | None = None
    strict: bool | None = None
    known_minimum: bool = False
    flat: bool = False
    refused: bool = False
    best: float = math.inf


def within(value: float, bound: float, slack: float = 1e-3) -> Truth | None:
    """Whether value <= bound, None where rounding may decide."""
    if not math.isfinite(value) or value > bound * (1 + slack):
        return Truth.REFUTED
    return Truth.HOLDS if value <= bound * (1 - slack) else None


def truths(content: TrainingFile, facts: Facts) -> dict[str, Truth | None]:
    """The truth of every claim that the judge may make about one file."""
    problem, u = content.problem, oracle.flat(content.problem, content.controls)
    J, g, H = oracle.derivatives(problem, u)
    norm = float(np.abs(g).max())
    found: dict[str, Truth | None] = {
        "statement.sha256": {True: Truth.HOLDS, False: Truth.REFUTED}.get(facts.hash_holds),
        "statement.objective": _stored_objective(content, J),
        "statement.gradient_norm": _stored_norm(content, norm),
        **_geometry(problem, u),
    }
    kinked = on_kinks(problem, u)
    sharp = kinked and problem.sigma.kink == 1
    gradient = within(norm, TOLERANCE)
    if sharp:
        gradient = Truth.OPEN if facts.known_minimum else Truth.WRONG
    found["first_order.gradient"] = gradient
    if content.costate is not None and not sharp:
        found |= _costate(problem, u, content)
    near, strict = facts.near, facts.strict
    if gradient is Truth.HOLDS and near is None and strict is None:
        near, strict = _nearby(problem, u, g, H)
    found["first_order.newton_distance"] = {True: Truth.HOLDS, False: Truth.WRONG}.get(near)
    curvature = {True: Truth.HOLDS, False: Truth.WRONG}.get(strict)
    if gradient is Truth.REFUTED or near is False:
        curvature = Truth.WRONG
    elif facts.flat or (kinked and facts.known_minimum):
        curvature = Truth.OPEN
    elif kinked:
        curvature = Truth.WRONG
    found["second_order.curvature"] = curvature
    # a certificate may be given and may fail for the same reasons, kinked points aside
    found["certificate.minimum"] = Truth.OPEN if kinked and facts.known_minimum else curvature
    return found


def on_kinks(problem: Problem, u: np.ndarray) -> bool:
    if problem.sigma.smooth:
        return False
    v = np.abs(oracle.preactivations(problem, u))
    return bool(v.min() <= 1e-9 * (1 + v.max()))


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value) if abs(value) < 1e308 else math.nan


def _stored_objective(content: TrainingFile, J: float) -> Truth | None:
    if "objective" not in content.origin:
        return None
    tolerance = 1e-5 if content.float32 else 1e-10
    return within(abs(J - _number(content.origin["objective"])), tolerance * max(1.0, abs(J)))


def _stored_norm(content: TrainingFile, norm: float) -> Truth | None:
    if "grad_inf_norm" not in content.origin:
        return None
    stored = _number(content.origin["grad_inf_norm"])
    return within(norm, max(TOLERANCE, 10 * stored)) if stored >= 0 else Truth.REFUTED


def _geometry(problem: Problem, u: np.ndarray) -> dict[str, Truth | None]:
    C = oracle.split(problem, u)["C"][0]
    values = np.linalg.svd(C - C.mean(axis=0), compute_uv=False)
    wanted = problem.n_classes - 1
    full = len(values) >= wanted and values[wanted - 1] > 1e-7 * values[0] > 0
    rank = Truth.HOLDS if full else Truth.WRONG
    return {
        "geometry.rank": rank,
        "geometry.minimisers": rank if problem.p_d < 1 else Truth.WRONG,
    }


def _costate(problem: Problem, u: np.ndarray, content: TrainingFile) -> dict[str, Truth | None]:
    residuals = oracle.costate_residuals(problem, u, content.costate)
    largest = float(np.abs(oracle.costate(problem, u)).max())
    bound = max(min(TOLERANCE, 1e-3 * largest), 1e-4 * largest * bool(content.float32))
    judged = lambda value: within(float(value), bound, slack=0.5)  # noqa: E731
    return {
        "first_order.costate_terminal": judged(residuals[-1]),
        "first_order.costate_recursion": judged(residuals[:-1].max()),
    }


def _nearby(problem: Problem, u: np.ndarray, g: np.ndarray, H: np.ndarray):
    """(near, strict) by Newton's method, None where the Hessian is nearly singular."""
    values = np.linalg.eigvalsh(H)
    if np.abs(values).min() <= 1e-9 * np.abs(values).max():
        return None, None
    point = oracle.newton(problem, u)
    values = np.linalg.eigvalsh(oracle.derivatives(problem, point)[2])
    if np.abs(values).min() <= 1e-9 * np.abs(values).max():
        return None, None
    close = np.abs(point - u).max() <= 1e-4 * max(1.0, np.abs(u).max())
    if not close or np.abs(oracle.gradient(problem, point)).max() > 1e-12:
        return None, None
    return True, bool(values[0] > 0)


# where a report says otherwise


def faults(report: Report, content: TrainingFile, facts: Facts) -> list[str]:
    """Every line that is false: one sentence each, beginning with its kind."""
    wanted = truths(content, facts)
    found = []
    for entry in report.entries:
        truth, verdict = wanted.get(entry.name), entry.verdict
        claim = entry.kind == "claim"
        line = f"{entry.name} {verdict.value}: {entry.explanation}"
        if verdict is Verdict.PASSED and truth in (Truth.WRONG, Truth.REFUTED, Truth.OPEN):
            found.append(f"false passed: {line}")
        if verdict is Verdict.FAILED and (truth in (Truth.HOLDS, Truth.OPEN) or not claim):
            found.append(f"false failed: {line}")
        if truth is Truth.REFUTED and claim and verdict not in (
            Verdict.FAILED, Verdict.NOT_APPLICABLE, Verdict.NOT_CHECKED,
        ):  # fmt: skip
            found.append(f"not failed: {line}")
        known = not (math.isnan(entry.measured) or math.isnan(entry.bound))
        upper = entry.relation == "<=" and known
        if verdict is Verdict.PROVED and upper and not entry.measured <= entry.bound:
            found.append(f"false proved: {line}")
    strict = [e for e in report.entries if e.name == "second_order.curvature"]
    passes = all(
        e.verdict is Verdict.PASSED for e in report.entries if e.name == "first_order.gradient"
    )
    if strict and strict[0].verdict is Verdict.PASSED and not passes:
        found.append("false passed: curvature without a gradient that passes")
    return found + [f"false proved: {text}" for text in false_proofs(report, content, facts)]


def false_proofs(report: Report, content: TrainingFile, facts: Facts) -> list[str]:
    """Recompute the counts, and what they are bounded by, of the lines that say proved."""
    problem, u = content.problem, oracle.flat(content.problem, content.controls)
    with torch.no_grad():
        run = oracle.run(problem, torch.tensor(u))
    z, J = run.logits.numpy(), float(run.J)
    lines = {e.name: e for e in report.entries if e.verdict is Verdict.PROVED}
    found = []

    def compare(name: str, count: float, bound: float, close: bool) -> None:
        line = lines.get(name)
        if line is None or close:
            return
        if abs(line.measured - count) > 1e-9 * max(1.0, count):
            found.append(f"{name} counts {line.measured}, there are {count}")
        if not line.bound >= bound * (1 - 1e-9):
            found.append(f"{name} has the bound {line.bound}, it is {bound}")

    true = np.take_along_axis(z, problem.labels[None, :, None], axis=2)[..., 0]
    others = z.copy()
    np.put_along_axis(others, problem.labels[None, :, None], -np.inf, axis=2)
    margin = (true - others.max(axis=2))[:-1]
    n_c, p, h = problem.n_classes, problem.p_d, problem.h
    eps, w = (1 - p) / (n_c - 1), oracle.WEIGHTS[problem.scheme][0]
    g_mis = p * math.log(2 * p / (p + eps)) + (eps * math.log(2 * eps / (p + eps)) if eps else 0.0)
    close = bool((np.abs(margin) < 1e-9).any())
    compare("turnpike.misclassified", int((margin <= 0).sum()),
            problem.n_samples * J / (w * h * g_mis), close)  # fmt: skip
    repeated = len(np.unique(problem.input_values, axis=0)) < problem.n_samples
    if p < 1 and not repeated and _geometry(problem, u)["geometry.rank"] is Truth.HOLDS:
        ends = J - h * float(run.layer_cost.sum()) - problem.gamma * _data_cost(problem, z[-1])
        kept = J - max(ends, 0.0)
        for share, text in ((1 / 8, "1/8"), (1 / 2, "1/2")):
            cost, eta = run.layer_cost.numpy(), share * g_mis
            near = bool((np.abs(cost - eta) < 1e-9).any())
            compare(f"turnpike.level_{text}", int((cost > eta).sum()), kept / (h * eta), near)
        q = oracle.targets(problem)
        wanted = np.log(q) - np.log(q).mean(axis=1, keepdims=True)
        distance = np.linalg.norm(z - z.mean(axis=2, keepdims=True) - wanted, axis=2)[:-1]
        for share, text in ((1 / 8, "1/8"), (1 / 4, "1/4"), (1 / 2, "1/2")):
            e = share * math.log(p / eps) / math.sqrt(2)
            near = bool((np.abs(distance - e) < 1e-9).any())
            outside = float((distance > e).mean(axis=1).sum())
            compare(f"turnpike.tube_{text}", outside, kept / (w * h * alpha(e, n_c, p)), near)
    bound = lines.get("gap.lower_bound")
    if bound is not None and bound.measured > min(J, facts.best) * (1 + 1e-12) + 1e-13:
        found.append(f"gap.lower_bound {bound.measured} is above J = {min(J, facts.best)}")
    return found


def alpha(s: float, n_c: int, p: float) -> float:
    """The K-infinity lower bound of the loss: exact for two classes, else the closed form."""
    if n_c == 2:
        t = math.sqrt(2) * s
        return math.log(p + (1 - p) * math.exp(-t)) + (1 - p) * t
    eps, rho = (1 - p) / (n_c - 1), (n_c - 1) / n_c
    t = math.sqrt(rho) * s
    return eps / rho * (math.exp(-t) + t - 1)


def _data_cost(problem: Problem, z: np.ndarray) -> float:
    q = oracle.targets(problem)
    top = z.max(axis=1)
    lse = np.log(np.exp(z - top[:, None]).sum(axis=1)) + top
    positive = np.where(q > 0, q, 1.0)
    return float((lse - (q * z).sum(axis=1) + (q * np.log(positive)).sum(axis=1)).mean())


# tables


def reason_of(text: str) -> str:
    """An explanation without its numbers and places, to count alike ones."""
    text = re.sub(r"[-+]?\d[\d.e+-]*", "#", text.split(";")[0])
    return re.sub(r"(layer|sample|unit) #.*", r"\1 #", text)[:90]


@dataclasses.dataclass
class Tally:
    """Verdicts by kind, and why lines were inconclusive."""

    verdicts: collections.Counter = dataclasses.field(default_factory=collections.Counter)
    reasons: collections.Counter = dataclasses.field(default_factory=collections.Counter)

    def add(self, kind: str, report: Report | None) -> None:
        self.verdicts[kind, "refused" if report is None else report.verdict.value] += 1
        for entry in () if report is None else report.entries:
            if entry.verdict is Verdict.INCONCLUSIVE:
                self.reasons[entry.name, reason_of(entry.explanation)] += 1

    def count(self, verdict: str) -> int:
        return sum(n for (_, word), n in self.verdicts.items() if word == verdict)

    def table(self) -> str:
        columns = ("passed", "failed", "inconclusive", "refused")
        lines = [f"{'kind':32s}" + "".join(f"{c:>13s}" for c in columns)]
        for kind in sorted({kind for kind, _ in self.verdicts}):
            lines.append(f"{kind:32s}" + "".join(f"{self.verdicts[kind, c]:13d}" for c in columns))
        lines.append(f"{'all':32s}" + "".join(f"{self.count(c):13d}" for c in columns))
        lines.append("inconclusive lines by reason:")
        lines += [f"{n:5d} {name}: {why}" for (name, why), n in self.reasons.most_common()]
        return "\n".join(lines)
