"""Arrows go one way: each module is imported in a fresh interpreter and sys.modules is read."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("ocp", "nn_baseline", "verification")
MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for room in ROOMS
    for path in (ROOT / room).glob("**/*.py")
)
#: the statement and its container: all that the judge may share with the judged
SHARED = {
    *("ocp", "ocp.problem", "ocp.activations", "ocp.loss", "ocp.files", "ocp.datasets"),
    *("ocp.controls", "ocp.description", "ocp.data_files", "ocp.atomic", "ocp.trace"),
}
NUMPY_ONLY = SHARED | {
    *("ocp.evaluation.rollout", "ocp.evaluation.assembly", "ocp.evaluation.depth"),
    *("ocp.solvers.optimality", "ocp.solvers.solution"),
}
#: the methods of ocp, one level below the statement
METHODS = ("ocp.evaluation", "ocp.solvers", "ocp.continuation", "ocp.command_line")
HEAVY = ("casadi", "torch", "matplotlib", "sklearn", "distributed", "pandas")


def loaded_by(module: str) -> set[str]:
    code = f"import sys, {module}; print('\\n'.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("verification")])
def test_the_judge_shares_the_statement_and_never_the_method(module):
    loaded = loaded_by(module)
    assert not loaded & {"casadi", "torch"}
    assert {m for m in loaded if m.split(".")[0] in ("ocp", "nn_baseline")} <= SHARED


@pytest.mark.parametrize("module", sorted(NUMPY_ONLY & set(MODULES)))
def test_the_statement_and_the_reference_load_nothing_heavy(module):
    loaded = loaded_by(module)
    assert not loaded & set(HEAVY)
    if module in SHARED:
        assert {m for m in loaded if m.startswith("ocp")} <= SHARED


def test_the_rooms_themselves_load_nothing_heavy():
    for room in ROOMS:
        assert not loaded_by(room) & set(HEAVY)


def imported(path: Path) -> set[str]:
    """Names of the rooms that a file imports anywhere, within functions too."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def test_lazy_imports_keep_to_the_arrows_too():
    forbidden = {
        "ocp": ("nn_baseline", "verification"),
        "nn_baseline": ("verification", "casadi", *METHODS),
        "verification": ("nn_baseline", "casadi", "torch", *METHODS),
    }
    for room, names in forbidden.items():
        for path in (ROOT / room).glob("**/*.py"):
            found = {n for n in imported(path) for f in names if n == f or n.startswith(f + ".")}
            assert not found, f"{path.name} imports {found}"


def test_no_module_imports_in_a_circle_and_packages_import_relatively():
    for room in ROOMS:
        for path in (ROOT / room).glob("**/*.py"):
            absolute = {n for n in imported(path) if n.split(".")[0] == room}
            assert not absolute, f"{path} imports its own room absolutely: {absolute}"


@pytest.mark.parametrize("room", ROOMS)
def test_the_names_resolve_to_this_repository(room):
    assert Path(importlib.import_module(room).__path__[0]).resolve() == (ROOT / room).resolve()


def test_nothing_generic_and_nothing_huge():
    for room in ROOMS:
        for path in (ROOT / room).glob("**/*.py"):
            assert path.stem not in ("utils", "util", "common", "core", "helpers", "misc")
            assert len(path.read_text().splitlines()) <= 420, path
