"""verify(): run the checks on one or several training files and return the report."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import json
import os
from collections.abc import Callable, Iterable, Sequence

import numpy as np

from ocp import files as training_files
from ocp import trace
from ocp.files import TrainingFile

from .checks import CHECKS, large_curvature
from .checks.traces import TraceSubject, check_trace
from .evaluation.subject import BUDGET, TrainingSubject
from .report import Entry, Report, not_checked

#: check -> (module, function); modules are loaded when their check runs
_OF_ONE_FILE = {
    "statement": ("checks.statement", "check_statement"),
    "first_order": ("checks.first_order", "check_first_order"),
    "second_order": ("checks.second_order", "check_second_order"),
    "geometry": ("checks.geometry", "check_geometry"),
    "dissipativity": ("checks.dissipativity", "check_dissipativity"),
    "turnpike": ("checks.turnpike", "check_turnpike"),
    "depth": ("checks.depth", "check_depth"),
    "diagnosis": ("checks.diagnosis", "check_diagnosis"),
}
#: the same for checks that take the file and evaluate it in their own arithmetic
_OWN_ARITHMETIC = {
    "reachability": ("checks.reachability", "check_reachability"),
    "certificate": ("checks.certificate", "certify"),
    "gap": ("evaluation.lower_bound", "check_gap"),
}
#: checks that need the gradient: with them the survey costs no forward pass of its own
_READ_THE_GRADIENT = {"statement", "first_order", "second_order", "diagnosis"}
Content = TrainingFile | trace.Trace
Progress = Callable[[str], None]


def verify(
    *paths: str | os.PathLike,
    tolerance: float = 1e-8,
    certify: bool = False,
    data: str | os.PathLike | None = None,
    only: Iterable[str] = (),
    budget: float = BUDGET,
    progress: Progress = lambda text: None,
) -> Report:
    """Read the files and run the checks.

    tolerance : on the largest absolute entry of dJ/du, unscaled, at the rolled-out states
    certify : also the rigorous certificate, which takes longer and needs python-flint
    data : the file with the inputs, for training files that keep them by reference
    only : names from `CHECKS`; default all
    budget : passes over the data (one is a gradient) that Lanczos on a large file may use
    progress : called with one line before each check

    Raises
    ------
    ValueError, OSError : unusable input
    """
    contents = read(paths, data)
    return verify_content(
        contents,
        names=[os.fspath(path) for path in paths],
        tolerance=tolerance,
        certify=certify,
        only=only,
        budget=budget,
        progress=progress,
    )


def read(paths: Sequence[str | os.PathLike], data: str | os.PathLike | None) -> list[Content]:
    """Load the files; those that keep their inputs elsewhere get `data`."""
    if not paths:
        raise ValueError("no file was given; wanted at least one training file")
    contents, used = [], data is None
    for path in paths:
        if trace.is_trace(path):
            contents.append(trace.load(path))
            continue
        try:
            contents.append(training_files.load(path))
        except ValueError as error:
            if data is None or "--data" not in str(error):
                raise
            contents.append(training_files.load(path, data))
            used = True
    if not used:
        raise ValueError("a data file was given, but no file keeps its inputs elsewhere")
    return contents


def verify_content(
    contents: Sequence[Content],
    names: Sequence[str] = (),
    tolerance: float = 1e-8,
    certify: bool = False,
    only: Iterable[str] = (),
    budget: float = BUDGET,
    progress: Progress = lambda text: None,
) -> Report:
    """Run the checks on training files that are in memory; see `verify`."""
    # overflow yields infinity and NaN, and no check passes on NaN
    with np.errstate(over="ignore", invalid="ignore"):
        return _verify(contents, names, tolerance, certify, only, budget, progress)


def _verify(
    contents: Sequence[Content],
    names: Sequence[str],
    tolerance: float,
    certify: bool,
    only: Iterable[str],
    budget: float,
    progress: Progress,
) -> Report:
    chosen = selection(only, certify)
    names = list(names) or [f"file {i}" for i in range(len(contents))]
    several = len(contents) > 1
    subjects = [_subject(content, tolerance, certify, budget) for content in contents]
    entries: list[Entry] = []
    for name, subject in zip(names, subjects, strict=True):
        subject.share_pass = not _READ_THE_GRADIENT.isdisjoint(chosen)
        spent = large_curvature.Spent(subject)
        for check in chosen:
            progress(f"{name}: {check}" if several else check)
            with spent.on(check):
                found = _run(check, subject, certify, progress)
            entries += [_at(entry, name) for entry in found] if several else found
        if subject.pass_seconds > 0 and subject.too_large:
            found = spent.finding()
            entries.append(_at(found, name) if several else found)
    if several and "turnpike" in chosen:
        progress("turnpike over all files")
        across = importlib.import_module(".checks.across_depths", __package__)
        entries += across.check_across_depths(subjects, names)
    return Report(entries=tuple(entries), files=tuple(names))


def selection(only: Iterable[str], certify: bool) -> list[str]:
    """Return the checks to run, in the order of the table."""
    only = set(only)
    unknown = sorted(only - set(CHECKS))
    if unknown:
        raise ValueError(f"unknown check {unknown[0]!r}; wanted {', '.join(CHECKS)}")
    if certify and only:
        only.add("certificate")
    return [check for check in CHECKS if not only or check in only]


def _subject(content: Content, tolerance: float, certify: bool, budget: float) -> TrainingSubject:
    kind = TraceSubject if isinstance(content, trace.Trace) else TrainingSubject
    return kind(content, tolerance, certify, budget)


def _run(check: str, subject: TrainingSubject, certify: bool, progress: Progress) -> list[Entry]:
    if check == "certificate" and not certify:
        return [not_checked("certificate", "asked for with --certify", "claim")]
    if isinstance(subject, TraceSubject):
        return check_trace(check, subject)
    of_one_file = check in _OF_ONE_FILE
    module, function = (_OF_ONE_FILE if of_one_file else _OWN_ARITHMETIC)[check]
    try:
        found = importlib.import_module(f".{module}", __package__)
    except ModuleNotFoundError as error:
        if error.name != f"{__package__}.{module}":
            raise
        return [not_checked(check, "not available in this version")]
    if of_one_file:
        return list(getattr(found, function)(subject))
    options = {
        "certificate": {"tol": subject.tolerance, "progress": progress},
        "reachability": {"subject": subject},
    }
    return list(getattr(found, function)(subject.content, **options.get(check, {})))


def require_certify_extra() -> None:
    """Raise ValueError unless python-flint is installed."""
    if importlib.util.find_spec("flint") is None:
        raise ValueError("--certify needs python-flint: pip install 'turnpike-ocp[certify]'")


def _at(entry: Entry, name: str) -> Entry:
    """Put the file's name before the place, for reports on several files."""
    where = f"{name}: {entry.where}" if entry.where else name
    return dataclasses.replace(entry, where=where)


def json_text(report: Report) -> str:
    """Return the report as JSON with the versions it was made with."""
    from .report import to_json
    from .versions import versions

    return json.dumps({**to_json(report), "versions": versions()}, indent=1, allow_nan=False)
