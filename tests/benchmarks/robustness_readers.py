"""Damage files of every kind that is read, and count how the readers take it.

    python tests/benchmarks/robustness_readers.py --files 5200 --seed 1

Each file is a good one with bytes turned, cut, doubled, spliced or made of what breaks parsers, or
a table of Hypothesis.  It is read in process: as samples, a refusal (ocp.exits.UNUSABLE_INPUT) or a
fault.  Each kind has a process of its own, so that a crash, a hang (10 s) and the peak of memory
are its own.  The tables of tests/benchmarks/robustness.md are what this prints.
"""

import argparse
import bz2
import contextlib
import gzip
import io
import json
import lzma
import os
import random
import resource
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
import tomli_w
from damaged_files import (
    DESCRIPTION,
    arff,
    arrays,
    damaged,
    damaged_header,
    damaged_members,
    damaged_text_of,
    idx,
    npy,
    parquet,
    points,
    tables,
    trace_file,
    training_file,
    zipped,
)

import ocp
import ocp.trace
from ocp import outputs
from ocp.exits import UNUSABLE_INPUT

LONGEST = 10
OPTIONS = (
    {"header": True}, {"header": False}, {"drop_missing": True}, {"label": 1}, {"label": "label"},
    {"separator": ";"}, {"separator": "\\"}, {"separator": "space"}, {"separator": "^"},
    {"decimal": ","}, {"drop": 1}, {"encoding": "latin-1"}, {"encoding": "utf-16"},
    {"encoding": "utf-7"}, {"standardise": True}, {"n_classes": 3},
)  # fmt: skip


class Hang(Exception):
    """A file took longer than LONGEST seconds."""


# --- kinds ------------------------------------------------------------------------------------


def table_of_hypothesis(count: int, seed: int):
    """Tables that Hypothesis makes: odd names, cells, separators and line ends."""
    import hypothesis
    from hypothesis import strategies as st

    odd = st.one_of(
        st.floats().map(repr), st.integers(-3, 3).map(str), st.text(max_size=6),
        st.sampled_from(["", "?", "NA", "1,5", '"', '"a', "0x1", "1e999", "true", "2020-01-01"]),
    )  # fmt: skip
    row = st.tuples(st.floats(-9, 9).map(repr), st.floats(-9, 9).map(repr), st.sampled_from("01"))
    free = st.lists(st.lists(odd, min_size=1, max_size=5), min_size=1, max_size=12)
    near = st.tuples(st.lists(st.tuples(odd, odd, odd), max_size=1), st.lists(row, min_size=3))
    table = st.tuples(
        st.one_of(free, near.map(lambda parts: [*parts[0], *parts[1]])),
        st.sampled_from([",", ";", "\t", " ", "|", ", ", "  "]),
        st.sampled_from(["\n", "\r\n", "\r", "\n\n"]),
    )
    found: list[bytes] = []

    @hypothesis.seed(seed)
    @hypothesis.settings(max_examples=count, database=None, deadline=None, phases=[
        hypothesis.Phase.generate], suppress_health_check=list(hypothesis.HealthCheck))  # fmt: skip
    @hypothesis.given(table)
    def collect(made):
        rows, mark, end = made
        found.append(end.join(mark.join(row) for row in rows).encode("utf-8", "surrogatepass"))

    collect()
    return found


class Kinds:
    """name: how a file is made and read.  Each method returns (path, read)."""

    def __init__(self, rng: random.Random, folder: Path, count: int, seed: int) -> None:
        self.rng, self.folder, self.count, self.seed = rng, folder, count, seed
        self.goods: dict[str, object] = {}

    def good(self, name: str, make):
        if name not in self.goods:
            self.goods[name] = make()
        return self.goods[name]

    def _file(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path

    def _data(self, path: Path):
        options = self.rng.choice(OPTIONS) if self.rng.random() < 0.5 else {}
        return path, lambda: ocp.read_data(path, **options)

    def _table(self) -> bytes:
        all_ = self.good("tables", tables)
        return damaged(self.rng, self.rng.choice(all_), all_)

    def csv(self):
        return self._data(self._file("a.csv", self._table()))

    def hypothesis(self):
        made = self.good("made", lambda: table_of_hypothesis(self.count, self.seed))
        return self._data(self._file("h.csv", made[self.rng.randrange(len(made))]))

    def _packed(self, name: str, pack):
        inner = self._table() if self.rng.random() < 0.6 else self.rng.choice(tables())
        content = pack(inner)
        if self.rng.random() < 0.6:
            content = damaged(self.rng, content, [content])
        return self._data(self._file(name, content))

    def gzip(self):
        return self._packed("a.csv.gz", gzip.compress)

    def bzip2(self):
        return self._packed("a.csv.bz2", bz2.compress)

    def xz(self):
        return self._packed("a.csv.xz", lzma.compress)

    def zip(self):
        return self._packed("a.zip", zipped)

    def npz(self):
        content = self.good("npz", arrays)
        if self.rng.random() < 0.3:
            content = self.good("npzc", lambda: arrays(True))
        within = self.rng.random() < 0.6
        made = damaged_members(self.rng, content) if within else damaged(
            self.rng, content, [content])  # fmt: skip
        path = self._file("a.npz", made)
        return path, lambda: ocp.read_data(path)

    def npy(self):
        good = self.good("npy", lambda: npy(points()[0]))
        path = self._file("a.npy", damaged(self.rng, good, [good]))
        from ocp.data_files import read_inputs

        return path, (lambda: read_inputs(path)) if self.rng.random() < 0.7 else (
            lambda: ocp.read_data(path)
        )

    def idx(self):
        from ocp.idx_files import IDX_FILES

        images, labels = idx(np.arange(96).reshape(6, 4, 4)), idx(np.arange(6) % 2)
        folder = self.folder / "idx"
        folder.mkdir(exist_ok=True)
        hit = self.rng.randrange(4)
        for i, name in enumerate(IDX_FILES):
            content = labels if "labels" in name else images
            if self.rng.random() < 0.3:
                content = gzip.compress(content)
            if i == hit:
                content = damaged(self.rng, content, [images, labels])
            (folder / name).write_bytes(content)
        return folder, lambda: ocp.read_data(folder)

    def arff(self):
        good = self.good("arff", arff)
        return self._data(self._file("a.arff", damaged(self.rng, good, [good, *tables()[:2]])))

    def parquet(self):
        good = self.good("parquet", parquet)
        return self._data(self._file("a.parquet", damaged(self.rng, good, [good])))

    def _description(self, name: str, text: str):
        made = damaged_text_of(self.rng, text).encode("utf-8", "surrogatepass")
        if self.rng.random() < 0.5:
            made = damaged(self.rng, text.encode(), [text.encode()])
        path = self._file(name, made)

        def read():
            outputs.inputs_of(path)
            return ocp.load_problem(path)

        return path, read

    def toml(self):
        return self._description("a.toml", tomli_w.dumps(DESCRIPTION))

    def json(self):
        return self._description("a.json", json.dumps(DESCRIPTION))

    def _safetensors(self, name: str, good: bytes, read):
        header = self.rng.random() < 0.6
        made = damaged_header(self.rng, good) if header else damaged(self.rng, good, [good])
        path = self._file(name, made)
        return path, lambda: read(path)

    def training_file(self):
        good = self.good("training", lambda: training_file(self.folder))
        return self._safetensors("t.safetensors", good, ocp.load)

    def trace(self):
        good = self.good("trace", lambda: trace_file(self.folder))

        def read(path):
            ocp.trace.is_trace(path)
            return ocp.trace.load(path)

        return self._safetensors("trace.safetensors", good, read)

    def _trained(self) -> tuple[Path, list[str]]:
        """A training that has ended, which a resume reads, checks and leaves as it is."""
        from nn_baseline.__main__ import main

        table = self._file("train.csv", tables()[0])
        where = self.folder / "run"
        told = ["train", str(table), "--output", str(where), "--depth", "2", "--width", "3",
                "--epochs", "2", "--batch-size", "12"]  # fmt: skip
        with contextlib.redirect_stdout(io.StringIO()):
            assert main(told) == 0
        return where, [*told, "--resume"]

    def _resumed(self, name: str, damage):
        from nn_baseline.__main__ import main

        where, told = self.good("trained", self._trained)
        goods = self.good("files", lambda: {p.name: p.read_bytes() for p in where.iterdir()})
        for other, content in goods.items():
            (where / other).write_bytes(damage(content) if other == name else content)

        def read():
            if main(told) == 2:
                raise ValueError("refused")

        return where / name, read

    def training_state(self):
        return self._resumed(
            "state.safetensors",
            lambda content: (
                damaged_header(self.rng, content)
                if self.rng.random() < 0.6
                else damaged(self.rng, content, [content])
            ),
        )

    def training_log(self):
        return self._resumed("log.jsonl", lambda content: damaged(self.rng, content, [content]))


#: name: share of the files
SHARES = {
    "csv": 14, "hypothesis": 14, "gzip": 6, "bzip2": 4, "xz": 4, "zip": 6, "npz": 8, "npy": 5,
    "idx": 6, "arff": 5, "parquet": 5, "toml": 6, "json": 5, "training_file": 7, "trace": 4,
    "training_state": 4, "training_log": 2,
}  # fmt: skip


# --- counting ---------------------------------------------------------------------------------


def _alarm(*_):
    raise Hang


def campaign(kind: str, count: int, seed: int, keep: Path | None = None) -> dict:
    """Read so many damaged files of one kind; return the counts, and the faults in words."""
    rng = random.Random(f"{kind} {seed}")
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    longest = 0.0
    before = signal.signal(signal.SIGALRM, _alarm)
    with tempfile.TemporaryDirectory() as place, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        kinds = Kinds(rng, Path(place), count, seed)
        for i in range(count):
            path, read = getattr(kinds, kind)()
            start = time.perf_counter()
            signal.alarm(LONGEST)
            try:
                with (
                    contextlib.redirect_stdout(io.StringIO()),
                    contextlib.redirect_stderr(io.StringIO()),
                ):
                    read()
                outcome = "read"
            except UNUSABLE_INPUT as error:
                outcome = "refused"
                if not str(error).strip() or isinstance(error, RecursionError):
                    faults.append(f"{kind} {seed} {i}: in words: {error!r}"[:300])
            except Hang:
                outcome = "hang"
                faults.append(f"{kind} {seed} {i}: hang")
            except Exception as error:
                outcome = "traceback"
                faults.append(f"{kind} {seed} {i}: {type(error).__name__}: {error}"[:300])
            finally:
                signal.alarm(0)
            outcomes[outcome] += 1
            longest = max(longest, time.perf_counter() - start)
            if keep is not None and outcome in ("hang", "traceback") and path.is_file():
                keep.mkdir(exist_ok=True)
                (keep / f"{kind}-{seed}-{i}{path.suffix}").write_bytes(path.read_bytes())
    signal.signal(signal.SIGALRM, before)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"kind": kind, "outcomes": dict(outcomes), "faults": faults, "longest": longest,
            "peak": peak}  # fmt: skip


def in_a_process(kind: str, count: int, seed: int, keep: Path | None) -> dict:
    told = [sys.executable, __file__, "--kind", kind, "--files", str(count), "--seed", str(seed)]
    told += [] if keep is None else ["--keep", str(keep)]
    done = subprocess.run(told, capture_output=True, text=True, env=os.environ)
    if done.returncode:
        last = done.stderr.strip().splitlines()[-1:] or [""]
        fault = f"{kind} {seed}: the process ended with {done.returncode}: {last[0]}"
        return {"kind": kind, "outcomes": {"crash": 1}, "longest": 0.0, "peak": 0.0,
                "faults": [fault]}  # fmt: skip
    return json.loads(done.stdout)


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--files", type=int, default=5200)
    parse.add_argument("--seed", type=int, default=1)
    parse.add_argument("--kind", choices=SHARES, help="this alone, in this process, as JSON")
    parse.add_argument("--keep", type=Path, help="folder for the files that were not taken well")
    options = parse.parse_args()
    if options.kind:
        print(json.dumps(campaign(options.kind, options.files, options.seed, options.keep)))
        return 0
    shares = sum(SHARES.values())
    names = ("read", "refused", "traceback", "hang", "crash")
    print(f"| kind | files | {' | '.join(names)} | longest, s | peak, MB |")
    print("|---|---|" + "---|" * (len(names) + 2))
    total: Counter[str] = Counter()
    faults, longest, peak = [], 0.0, 0.0
    for kind, share in SHARES.items():
        found = in_a_process(kind, -(-options.files * share // shares), options.seed, options.keep)
        counts = found["outcomes"]
        total.update(counts)
        faults += found["faults"]
        longest, peak = max(longest, found["longest"]), max(peak, found["peak"])
        cells = " | ".join(str(counts.get(name, 0)) for name in names)
        print(f"| {kind} | {sum(counts.values())} | {cells} | {found['longest']:.2f} |"
              f" {found['peak']:.0f} |", flush=True)  # fmt: skip
    cells = " | ".join(f"**{total[name]}**" for name in names)
    print(f"| all | **{total.total()}** | {cells} | {longest:.2f} | {peak:.0f} |")
    print(*faults, sep="\n", file=sys.stderr)
    return int(bool(total["traceback"] + total["hang"] + total["crash"]))


if __name__ == "__main__":
    sys.exit(main())
