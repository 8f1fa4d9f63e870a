"""The judge's quick tests, run on one mutant at a time in forked processes.

Which test executes which line is measured once (coverage's contexts).  A mutant then meets the
tests that execute its statement, those first that killed the most mutants of its file, and, if it
outlives them, the tests that may execute it unseen.
"""

from __future__ import annotations

import ast
import hashlib
import json
import math
import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

TESTS = Path("tests") / "verification"
#: every test may take this much processor time, and this many times what it takes unmutated
LEAST_SECONDS, TIMES = 5.0, 4.0


class Recorder:
    """A pytest plugin: runs the wanted tests in the wanted order and times each of them.

    wanted : test identifiers in order; None: all
    limits : processor seconds a test may take; a signal is raised beyond them
    enter : called with the name of each test before it runs
    """

    def __init__(self, wanted=None, limits=None, enter: Callable = lambda name: None):
        self.wanted, self.limits, self.enter = wanted, limits, enter
        self.seconds: dict[str, float] = {}
        self.failures: list[str] = []
        self.current, self.start = "", 0.0

    def pytest_collection_modifyitems(self, items):
        if self.wanted is not None:
            rank = {name: i for i, name in enumerate(self.wanted)}
            items[:] = sorted((i for i in items if i.nodeid in rank), key=lambda i: rank[i.nodeid])

    def pytest_runtest_logstart(self, nodeid):
        self.current, self.start = nodeid, time.process_time()
        self.enter(nodeid)
        if self.limits is not None:
            signal.setitimer(signal.ITIMER_PROF, self.limits.get(nodeid, LEAST_SECONDS))

    def pytest_runtest_logfinish(self, nodeid):
        self.seconds[nodeid] = time.process_time() - self.start

    def pytest_runtest_logreport(self, report):
        if report.failed:
            self.failures.append(report.nodeid)

    def pytest_collectreport(self, report):
        if report.failed:
            self.failures.append(f"{report.nodeid} (import)")


def warm(folder: Path) -> None:
    """Load what every test needs, the zoo's solved problems included, but nothing of the judge."""
    os.chdir(folder)
    sys.path[:0] = [str(folder), str(folder / "tests"), str(folder / TESTS)]
    import flint  # noqa: F401
    import mpmath  # noqa: F401
    import scipy.stats  # noqa: F401
    import zoo
    import zoo_specimens  # noqa: F401

    for specimen in zoo.SPECIMENS:
        specimen.write(folder / "specimen")
    judge = [name for name in sys.modules if name.partition(".")[0] == "verification"]
    assert not judge, judge


def forked(
    work: Callable[[int], dict], seconds: float = math.inf, bytecode: bool = False
) -> dict | None:
    """The dictionary that `work` returns in a forked process; None if it crashed.

    seconds : of processor time, so that a busy machine kills nothing
    bytecode : may the process store compiled files?
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        null = os.open(os.devnull, os.O_WRONLY)
        sys.dont_write_bytecode = not bytecode
        os.dup2(null, 1)
        os.dup2(null, 2)
        if math.isfinite(seconds):
            limit = math.ceil(time.process_time() + seconds)
            resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 5))
        try:
            os.write(writer, json.dumps(work(writer)).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as stream:
        text = stream.read()
    os.waitpid(child, 0)
    return json.loads(text) if text else None


def pytest_on(paths: list[str], recorder: Recorder, *more: str) -> None:
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:randomly", "-m", "not slow", *more]
    pytest.main([*options, *paths], plugins=[recorder])


def measured(folder: Path) -> dict:
    """Seconds of every quick test, and the tests that execute each line of the judge."""

    def lines_and_contexts(_) -> dict:
        import coverage

        watch = coverage.Coverage(data_file=None, include=[str(folder / "verification" / "*")])
        watch.start()
        watch.switch_context("import")
        recorder = Recorder(enter=watch.switch_context)
        pytest_on([str(TESTS)], recorder)
        watch.stop()
        data, lines = watch.get_data(), {}
        for path in data.measured_files():
            contexts = data.contexts_by_lineno(path)
            lines[Path(path).stem] = {
                line: [name for name in names if "::" in name] for line, names in contexts.items()
            }
        return {"lines": lines, "failures": recorder.failures}

    def seconds(_) -> dict:
        signal.signal(signal.SIGPROF, lambda *_: None)
        recorder = Recorder(limits={})
        pytest_on([str(TESTS)], recorder)
        return {"seconds": recorder.seconds, "failures": recorder.failures}

    found, plain = forked(lines_and_contexts, bytecode=True), forked(seconds)
    if found is None or plain is None:
        raise SystemExit("the tests crash without any mutation")
    # a test that fails here, beside timers and without being asked to, says nothing of a mutant
    shaky = sorted({*found["failures"], *plain["failures"]})
    kept = {name: s for name, s in plain["seconds"].items() if name not in shaky}
    print(f"{len(kept)} tests, {sum(kept.values()):.0f} s; left out: {shaky}", flush=True)
    return {"seconds": kept, "lines": found["lines"], "left_out": shaky}


def measured_once(folder: Path, store: Path) -> dict:
    """The same, kept in a file while neither the judge nor its tests change."""
    digest = hashlib.sha256()
    for path in sorted([*folder.glob("verification/**/*.py"), *folder.glob("tests/**/*.py")]):
        if not path.stem.startswith("mutation_"):
            digest.update(path.read_bytes())
    if store.exists():
        found = json.loads(store.read_text())
        if found["digest"] == digest.hexdigest():
            return found
    found = measured(folder) | {"digest": digest.hexdigest()}
    store.write_text(json.dumps(found))
    return found


def lines_of_statement(code: str, line: int) -> range | None:
    """The lines of the innermost statement; None if it is executed on import (or not at all)."""
    found = None
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.FunctionDef):
            for inner in ast.walk(node):
                body = getattr(inner, "body", None)
                end = body[0].lineno - 1 if isinstance(body, list) else None
                if isinstance(inner, ast.stmt) and inner is not node:
                    last = max(inner.lineno, end) if end is not None else inner.end_lineno
                    if inner.lineno <= line <= last:
                        found = range(inner.lineno, last + 1)
    return found


class Tests:
    """The quick tests of the judge in a copy of the repository."""

    def __init__(self, folder: Path, store: Path) -> None:
        self.folder = folder
        warm(folder)
        self.baseline = measured_once(folder, store)
        self.seconds = self.baseline["seconds"]
        self.limits = {name: LEAST_SECONDS + TIMES * s for name, s in self.seconds.items()}
        self.kills: dict[str, list[str]] = {}

    def covering(self, mutant: dict) -> list[str]:
        """Tests that execute the mutated statement, the most promising first."""
        by_line = self.baseline["lines"].get(mutant["file"], {})
        code = (self.folder / "verification" / "checks" / f"{mutant['file']}.py").read_text()
        lines = lines_of_statement(code, mutant["line"])
        tests = {
            name
            for line, names in by_line.items()
            if lines is None or int(line) in lines
            for name in names
        }
        kills = self.kills.get(mutant["file"], [])
        earlier = {name: kills.count(name) for name in set(kills)}
        tests &= set(self.seconds)
        return sorted(tests, key=lambda t: (-earlier.get(t, 0), self.seconds.get(t, 0.0), t))

    def others(self, first: list[str]) -> list[str]:
        """Tests that may meet the statement unseen: by a shared result or in another process."""
        files, covered = set(), {name.partition("::")[0] for name in first}
        for path in (self.folder / TESTS).glob("test_*.py"):
            text, name = path.read_text(), str(TESTS / path.name)
            shared = 'scope="module"' in text or "functools.cache" in text
            if "subprocess" in text or (shared and name in covered):
                files.add(name)
        known = set(first)
        return [n for n in self.seconds if n not in known and n.partition("::")[0] in files]

    def kill(self, mutant: dict) -> str:
        """What killed the mutant, or ""."""
        path = self.folder / "verification" / "checks" / f"{mutant['file']}.py"
        original, first = path.read_text(), self.covering(mutant)
        others = self.others(first)
        for compiled in (path.parent / "__pycache__").glob(f"{path.stem}.*"):
            compiled.unlink()
        path.write_text(mutant["code"])
        try:
            killer = self.run(first) or self.run(others)
        finally:
            path.write_text(original)
        if killer:
            self.kills.setdefault(mutant["file"], []).append(killer.rpartition(": ")[0])
        return killer

    def run(self, names: list[str]) -> str:
        """Run tests until one fails: which and how, or ""."""
        if not names:
            return ""
        paths = list(dict.fromkeys(name.partition("::")[0] for name in names))

        def work(out: int) -> dict:
            recorder = Recorder(names, self.limits)

            def late(*_):
                os.write(out, json.dumps({"killed": f"{recorder.current}: time"}).encode())
                os._exit(0)

            signal.signal(signal.SIGPROF, late)
            pytest_on(paths, recorder, "-x")
            signal.setitimer(signal.ITIMER_PROF, 0.0)
            if recorder.failures:
                return {"killed": f"{recorder.failures[0]}: failure"}
            missing = len(names) - len(recorder.seconds)
            return {"killed": f"{missing} tests did not run: crash" if missing else ""}

        total = 60.0 + sum(self.limits.get(name, LEAST_SECONDS) for name in names)
        found = forked(work, total)
        return "the process died: crash" if found is None else found["killed"]
