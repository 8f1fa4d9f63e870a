"""`import ocp` offers what users need, and loads it when it is asked for."""

import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import problems
import pytest

import ocp
from ocp import description
from ocp.__main__ import main

ROOT = Path(__file__).parents[2]
NAMES = [
    *("Problem", "Controls", "datasets", "load_problem", "TrainingFile", "load", "save"),
    *("read_data", "Dataset"),
    *(
        "solve",
        "search",
        "SearchOptions",
        "grow",
        "GrowthOptions",
        "grow_by_gain",
        "GainOptions",
        "smoothed_relu",
    ),
    *("multistart", "polish", "Solution", "Status", "SolveError"),
    *("objective", "layer_table", "depth_used", "entry_layer", "idle_from"),
    # what studies compose: starts, solvers by name, parts of growth, values and derivatives
    *("flatten", "unflatten", "random_start", "near_zero", "SOLVERS", "solver_by_name", "silent"),
    *("default_depths", "extend", "escape", "polished", "assess"),
    *("rollout", "logits", "reduced_hessian"),
    *("multiple_shooting", "single_shooting", "console", "figures"),
]
#: they load a framework
HEAVY = ("figures", "multiple_shooting", "single_shooting")


def test_the_public_names_are_these():
    assert sorted(ocp.__all__) == sorted(NAMES)
    assert dir(ocp) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_says_what_it_is(name):
    value = getattr(ocp, name)
    assert value.__doc__
    assert callable(value) or isinstance(value, (ModuleType, tuple))


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'sovle'"):
        ocp.sovle  # noqa: B018


def test_a_fresh_import_loads_nothing_and_a_solve_no_framework():
    code = (
        "import sys, ocp; dir(ocp); ocp.__all__\n"
        "heavy = {'casadi', 'torch', 'matplotlib', 'pandas'}\n"
        "assert not {'numpy', 'scipy', 'rich', *heavy} & set(sys.modules)\n"
        "for name in ocp.__all__:\n"
        f"    if name not in {HEAVY}:\n"
        "        getattr(ocp, name)\n"
        "assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_solve_is_what_the_command_line_does(tmp_path):
    problem = problems.spirals(points_per_class=4, depth=4)
    description.save(tmp_path / "p.toml", problem)
    out = tmp_path / "a.safetensors"
    assert main(["solve", str(tmp_path / "p.toml"), "--seed", "3", "--output", str(out)]) == 0
    solution = ocp.solve(problem, seed=3)
    assert np.array_equal(solution.controls.A, ocp.load(out).controls.A)


@pytest.mark.parametrize("verb", [ocp.grow, ocp.grow_by_gain, ocp.smoothed_relu])
def test_a_solver_is_a_name_or_a_callable(verb):
    problem = problems.blobs(2, 6, depth=2, activation="relu", r=1e-2)
    extra = {"depth": 2} if verb is ocp.grow_by_gain else {}
    with pytest.raises(ValueError, match="solver is 'simplex'; wanted one of structured"):
        verb(problem, "simplex", **extra)

    class Called(Exception):
        pass

    def raises(problem, start, tolerance, report):
        raise Called

    with pytest.raises(Called):
        verb(problem, raises, **extra)


def test_the_readme_solves_your_own_problem(tmp_path, monkeypatch, capsys):
    readme = (ROOT / "README.md").read_text()
    (snippet,) = re.findall(r"```python\n(import ocp\n.*?)```", readme, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    exec(snippet, {})
    value, used = capsys.readouterr().out.split()
    stored = ocp.load("solution.safetensors")
    assert float(ocp.objective(stored.problem, stored.controls)) == pytest.approx(float(value))
    assert 0 < int(used) <= 12
