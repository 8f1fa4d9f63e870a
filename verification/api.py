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
from ocp.versions import versions

from .checks import CHECKS, REGISTRY, Row, large_curvature
from .evaluation.subject import BUDGET, NO_STATES, Subject, TraceSubject, TrainingSubject
from .report import Entry, Report, not_applicable, not_checked

Content = TrainingFile | trace.Trace
Progress = Callable[[str], None]


def verify(
    *paths: str | os.PathLike,
    tolerance: float = 1e-8,
    certify: bool = False,
    data: str | os.PathLike | None = None,
    only: Iterable[str] = (),
    budget: float | None = None,
    progress: Progress = lambda text: None,
) -> Report:
    """Read the files and run the checks.

    tolerance : on the largest absolute entry of dJ/du, unscaled, at the rolled-out states
    certify : also the rigorous certificate, which takes longer and needs python-flint
    data : the file with the inputs, for training files that keep them by reference
    only : names from `CHECKS`; default all
    budget : passes over the data (one is a gradient) that Lanczos on a large file may use (35);
        refused where no file is large
    progress : called with one line before each check

    Raises
    ------
    ValueError, OSError : unusable input
    """
    contents = read(paths, data)
    if budget is not None:
        subjects = (TrainingSubject(c) for c in contents if isinstance(c, TrainingFile))
        if not any(subject.too_large for subject in subjects):
            raise ValueError("a budget was given, but no file is too large for its whole Hessian")
    return verify_content(
        contents,
        names=[os.fspath(path) for path in paths],
        tolerance=tolerance,
        certify=certify,
        only=only,
        budget=BUDGET if budget is None else budget,
        progress=progress,
    )


def read(paths: Sequence[str | os.PathLike], data: str | os.PathLike | None) -> list[Content]:
    """Load the files; those that keep their inputs elsewhere get `data`."""
    if not paths:
        raise ValueError("no file was given; wanted at least one training file")
    contents: list[Content] = []
    used = data is None
    for path in paths:
        if trace.is_trace(path):
            contents.append(trace.load(path))
            continue
        try:
            contents.append(training_files.load(path))
        except training_files.InputsElsewhere:
            if data is None:
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
    only = frozenset(only)
    chosen = selection(only, certify)
    names = list(names) or [f"file {i}" for i in range(len(contents))]
    several = len(contents) > 1
    share_pass = any(row.reads_gradient for row in chosen)
    subjects = [
        _subject(content, tolerance, certify, budget, share_pass, progress, only)
        for content in contents
    ]
    entries: list[Entry] = []
    for name, subject in zip(names, subjects, strict=True):
        spent = large_curvature.Spent()
        for row in chosen:
            progress(f"{name}: {row.name}" if several else row.name)
            with spent.on(row.name, subject):
                found = _run(row, subject, row.by_name and row.name in only)
            entries += [_at(entry, name) for entry in found] if several else found
        if isinstance(subject, TrainingSubject) and subject.pass_seconds > 0 and subject.too_large:
            line = spent.finding(subject)
            entries.append(_at(line, name) if several else line)
    if several and any(row.name == "turnpike" for row in chosen):
        progress("turnpike over all files")
        from .checks.across_depths import check_across_depths

        entries += check_across_depths(subjects, names)
    return Report(entries=tuple(entries), files=tuple(names))


def selection(only: Iterable[str], certify: bool) -> list[Row]:
    """Return the checks to run, in the order of the registry."""
    only = set(only)
    unknown = sorted(only - set(CHECKS))
    if unknown:
        raise ValueError(f"unknown check {unknown[0]!r}; wanted {', '.join(CHECKS)}")
    if certify and only:
        only.add("certificate")
    return [row for row in REGISTRY if not only or row.name in only]


def _subject(
    content: Content,
    tolerance: float,
    certify: bool,
    budget: float,
    share_pass: bool,
    progress: Progress,
    named: frozenset[str],
) -> Subject:
    if isinstance(content, trace.Trace):
        return TraceSubject(content, tolerance, certify)
    return TrainingSubject(content, tolerance, certify, budget, share_pass, progress, named)


def _run(row: Row, subject: Subject, asked: bool) -> list[Entry]:
    if row.on_request and not (subject.certify or asked):
        return [not_checked(row.name, "asked for with --certify", row.kind)]
    function = f"check_{row.name}"
    if isinstance(subject, TraceSubject):
        if not row.on_traces:
            return [not_applicable(row.name, NO_STATES, row.kind)]
        function = row.on_traces
    found = importlib.import_module(f".checks.{row.name}", __package__)
    return list(getattr(found, function)(subject))


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

    made_with = versions("safetensors", "python-flint")
    return json.dumps({**to_json(report), "versions": made_with}, indent=1, allow_nan=False)
