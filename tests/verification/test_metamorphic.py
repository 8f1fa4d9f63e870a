"""What keeps the truth keeps the verdicts; what destroys it never passes."""

import dataclasses
import functools
import tempfile
from pathlib import Path

import known_minima
import known_truth
import numpy as np
import oracle
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from transformations import DESTROY, KEEP

from ocp import files
from ocp.files import TrainingFile
from verification import api
from verification.report import DECIDED, Verdict

KINDS = (
    "minimum", "soft_nudge", "stiff_nudge", "far_along_the_valley", "embedded", "untrained",
    "tiny_weights", "dead_units", "edited_costate", "idle_layer", "tuned_embedding",
    "nothing_to_read",
)  # fmt: skip
#: those of which something true can be destroyed
TRUE = ("minimum", "soft_nudge", "embedded", "tuned_embedding", "nothing_to_read")
CHECKS = ("statement", "first_order", "second_order", "geometry", "dissipativity", "turnpike",
          "depth", "gap")  # fmt: skip
POOL = 120
ORDER = known_minima.shuffled(seed=1)
FEW, MANY = 20, 1100

seeds = st.integers(0, 2**32 - 1)
often = functools.partial(
    settings, deadline=None, derandomize=True, database=None,
    suppress_health_check=list(HealthCheck),
)  # fmt: skip


@functools.cache
def specimen(i: int) -> TrainingFile:
    """The i-th file of the pool, with a bias that a common offset can be added to exactly."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.safetensors"
        known_truth.make(path, KINDS[i % len(KINDS)], ORDER[i])
        return files.load(path)


def verdicts(content: TrainingFile, check: str) -> dict[str, Verdict]:
    """By line; lines that come in numbers, or name what they found, are left out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file.safetensors"
        files.save(path, content)
        report = api.verify(path, only=[check])
    return {e.name: e.verdict for e in report.entries if e.name != "statement.caution"}


def kept(i: int, which: int, seed: int, check: str) -> bool:
    """Compare one pair; False where the transformation does not apply."""
    content = specimen(i)
    changed = KEEP[which](content, np.random.default_rng(seed))
    if changed is None:
        return False
    u, v = (oracle.flat(c.problem, c.controls) for c in (content, changed))
    J = oracle.objective(content.problem, u)
    assert abs(oracle.objective(changed.problem, v) - J) <= 1e-12 * max(1.0, abs(J))
    assert verdicts(changed, check) == verdicts(content, check), (i, KEEP[which].__name__, seed)
    return True


def destroyed(i: int, which: int, seed: int) -> bool:
    """Judge one file of which something is no longer true."""
    found = DESTROY[which](specimen(i), np.random.default_rng(seed))
    if found is None:
        return False
    changed, lines = found
    for check in sorted({line.partition(".")[0] for line in lines}):
        said = verdicts(changed, check)
        for line in lines:
            if line in said:
                assert said[line] is not Verdict.PASSED, (i, DESTROY[which].__name__, seed, line)
    return True


def pairs(count: int, pool: int):
    """Run `count` examples of each kind and return how many pairs were compared."""
    compared = {"kept": 0, "destroyed": 0}
    true = [i for i in range(pool) if KINDS[i % len(KINDS)] in TRUE]

    @often(max_examples=count)
    @given(st.integers(0, pool - 1), st.integers(0, len(KEEP) - 1), seeds, st.sampled_from(CHECKS))
    def keeps(i, which, seed, check):
        # what does not apply here gives way to what always does
        compared["kept"] += kept(i, which, seed, check) or kept(i, 1 + which % 4, seed, check)

    @often(max_examples=count)
    @given(st.sampled_from(true), st.integers(0, len(DESTROY) - 1), seeds)
    def destroys(i, which, seed):
        compared["destroyed"] += destroyed(i, which, seed) or destroyed(i, 0, seed)

    keeps()
    destroys()
    return compared


def test_a_few_pairs():
    compared = pairs(FEW, pool=len(KINDS))
    assert min(compared.values()) > FEW / 2


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_thousands_of_pairs():
    compared = pairs(MANY, POOL)
    print(f"\npairs compared: {compared}")
    assert sum(compared.values()) >= 2000


# sets over depths: order and names


@functools.cache
def depths(seed: int) -> tuple[TrainingFile, ...]:
    """Minima of one problem at depths 2, 4 and 8, each found by itself."""
    found = []
    for depth in (2, 4, 8):
        problem = known_minima.problem_of(0, seed, depth=depth, p_d=0.9, beta=1, r=2e-3)
        rng = np.random.default_rng([seed, depth])
        u = oracle.minimise(problem, 0.5 * rng.standard_normal(known_minima.n_decision(problem)))
        found.append(known_truth.claimed(problem, u))
    return tuple(found)


def across(folder: Path, contents, names) -> dict[str, list[str]]:
    for name, content in zip(names, contents, strict=True):
        files.save(folder / name, content)
    report = api.verify(*(folder / name for name in names), only=["turnpike"])
    said: dict[str, list[str]] = {}
    for entry in report.entries:
        said.setdefault(entry.name, []).append(entry.verdict.value)
    return {name: sorted(values) for name, values in said.items()}


def padded(content: TrainingFile, by: int) -> TrainingFile:
    u, n = content.controls, content.problem.width
    u = dataclasses.replace(
        u, A=np.concatenate([u.A, np.zeros((by, n, n))]), b=np.concatenate([u.b, np.zeros((by, n))])
    )
    problem = content.problem.with_(depth=content.problem.depth + by)
    return known_truth.claimed(problem, oracle.flat(problem, u))


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2, 3))])
def test_sets_over_depths(seed, tmp_path):
    contents, rng = depths(seed), np.random.default_rng(seed)
    said = across(tmp_path, contents, ["a", "b", "c"])
    assert "turnpike.across_depths" in said
    for k in range(4):
        order = rng.permutation(3)
        names = [f"{name}{k}" for name in rng.permutation(["z", "-x", "é"])]
        assert across(tmp_path, [contents[i] for i in order], names) == said
    samples = np.random.default_rng(k)
    turned = [permuted(content, samples.bit_generator.state) for content in contents]
    assert across(tmp_path, turned, ["d", "e", "f"]) == said
    # copies, crops and other problems are no depths
    for others in (
        [contents[0], padded(contents[0], 2), padded(contents[0], 6)],
        [contents[1], padded(contents[1], 4), padded(contents[1], 12)],
        [contents[0], contents[1], padded(contents[1], 4)],
        [contents[0], contents[1], restated(contents[2], p_d=0.91)],
        [contents[0], contents[1], restated(contents[2], r=2.1e-3)],
        [contents[0], contents[1], nudged(contents[2])],
    ):
        verdict = across(tmp_path, others, ["g", "h", "i"])["turnpike.across_depths"]
        assert verdict != [Verdict.PASSED.value]


def permuted(content: TrainingFile, state: dict) -> TrainingFile:
    """The same order for every file of a set."""
    rng = np.random.default_rng()
    rng.bit_generator.state = state
    return KEEP[1](content, rng)


def restated(content: TrainingFile, **changes) -> TrainingFile:
    return dataclasses.replace(content, problem=content.problem.with_(**changes))


def nudged(content: TrainingFile) -> TrainingFile:
    u = oracle.flat(content.problem, content.controls)
    return known_truth.claimed(content.problem, u + 1e-4)


def test_the_reports_compared_hold_claims():
    assert {v for v in verdicts(specimen(0), "first_order").values()} & set(DECIDED)
