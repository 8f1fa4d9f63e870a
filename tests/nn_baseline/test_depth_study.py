"""The reading of the depth study: which depth a curve stands for, and its tables."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "bench_torch_depth.py"


@pytest.fixture(scope="module")
def study():
    sys.path.insert(0, str(FILE.parent))
    specification = importlib.util.spec_from_file_location("bench_torch_depth", FILE)
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    yield module
    sys.path.remove(str(FILE.parent))


def test_the_depth_is_the_first_from_which_no_prefix_loses_more(study):
    assert study.chosen_depth(np.array([90.0, 97.0, 97.9, 98.0, 98.0]), 0.2) == 2
    assert study.chosen_depth(np.array([90.0, 98.0, 97.0, 98.0]), 0.2) == 3
    assert study.chosen_depth(np.array([98.0, 98.0]), 0.2) == 1


@pytest.mark.parametrize("smallest", [1, 2, 5, 6, 13, 19, 20])
def test_the_bisection_ends_at_the_smallest_depth(study, smallest):
    visited = study.bisection(smallest)
    assert visited[0] == 20 and 5 <= len(visited) <= 6
    assert min(k for k in visited if k >= smallest) == smallest
    assert smallest == 1 or smallest - 1 in visited


def test_the_interval_is_students(study):
    # five numbers of standard deviation sqrt(2.5): 2.776 sqrt(2.5 / 5) = 1.963
    assert study.interval([1.0, 2.0, 3.0, 4.0, 5.0]) == "3.00 ± 1.96"
    assert study.interval([1.0]) == "1.00"


def row(role, depth, seed, test):
    layers = ";".join(f"{v:g}" for v in test)
    names = ("test", "validation", "flips", "logit_change", "data_cost", "control_norm")
    return {
        **{"dataset": "made up", "role": role, "depth": str(depth), "seed": str(seed)},
        **{"cpu_seconds": "10", "multiply_adds": "1e9", **dict.fromkeys(names, layers)},
    }


def test_the_tables_say_which_depth_is_enough(study):
    deep = np.minimum(98.0, 96.0 + 0.4 * np.arange(21))  # at rest from layer 5 on
    rows = []
    for seed in range(2):
        rows.append(row("stage", 20, seed, deep))
        rows.append(row("terminal", 20, seed, np.linspace(10, 98, 21)))
        for depth in (3, 4, 5, 10):
            rows.append(row("fresh", depth, seed, deep[: depth + 1] - 0.1))
    text = "\n".join(study.lines_of("made up", rows))
    assert "the whole): 5, 5 by seed" in text
    assert (
        "(98.00 %): 5; 2 of 2 seeds" in text
    )  # fresh networks: 97.9 at depths 5 and 10, 97.5 at 4
    assert "| 5 | 98.00 ± 0.00 | 0.00 ± 0.00 |" in text
    assert "98.00 ± 0.00 | 0.10 ± 0.00 |" not in text  # the fresh one is below, not equal
    assert "| 97.90 ± 0.00 | 0.10 ± 0.00 |" in text
    assert "trains depths 20, 10, 5, 2, 3, 4. The one run costs 0.17" in text


@pytest.mark.parametrize("name", ["mnist", "fashion"])
def test_the_committed_rows_make_tables(study, name):
    rows = study.rows(name)
    if not rows:
        pytest.skip(f"no rows of {name} are committed")
    text = "\n".join(study.lines_of(name, rows))
    assert "Depth that one stage-cost run finds" in text
    assert all(0 <= study.curve(r, "test")[-1] <= 100 for r in rows)
