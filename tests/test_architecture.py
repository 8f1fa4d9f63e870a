"""Arrows go one way: imports are read from the sources, and from what a fresh interpreter loads.

command_line -> continuation -> solvers -> evaluation -> the top of ocp
verification, nn_baseline -> the top of ocp, never a folder of it
"""

import ast
import functools
import importlib
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("ocp", "nn_baseline", "verification")
FILES = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path
    for room in ROOMS
    for path in sorted((ROOT / room).glob("**/*.py"))
}
#: the statement: all that the judge may share with the judged.  A new file is shared by its place
SHARED = {name for name in FILES if name.startswith("ocp.") and FILES[name].parent.name == "ocp"}
SHARED = {name for name in SHARED if FILES[name].name not in ("__main__.py", "__init__.py")}
#: the folders of ocp: each may import those before it
FOLDERS = ("evaluation", "solvers", "continuation", "command_line")
HEAVY = {"casadi", "torch", "matplotlib", "sklearn", "distributed", "pandas"}
#: the only files of ocp that load a framework when they are imported
FRAMEWORKS = {
    "ocp.solvers.multiple_shooting": {"casadi"},
    "ocp.solvers.ipopt": {"casadi"},
    "ocp.solvers.fatrop": {"casadi"},
    "ocp.command_line.figures": {"matplotlib"},
}


def rank(module: str) -> int:
    """0 for the top of ocp, then the place of the folder; __main__ may use all of them."""
    folder = module.split(".")[1] if "." in module else ""
    if folder == "__main__":
        return len(FOLDERS)
    return 1 + FOLDERS.index(folder) if folder in FOLDERS else 0


@functools.cache
def imported(module: str) -> frozenset[str]:
    """Absolute names of all that a file imports anywhere, within functions too.

    `from a import b` gives "a.b", whether b is a file or a name in one.
    """
    path, names = FILES[module], set()
    package = module.split(".") if path.name == "__init__.py" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = ".".join([*base, *filter(None, [node.module])])
            names |= {f"{base}.{alias.name}" for alias in node.names}
    return frozenset(names)


@functools.cache
def loaded() -> dict[str, set[str]]:
    """What importing each module alone loads: one fork each of an interpreter with NumPy, SciPy."""
    code = (
        "import importlib, json, os, sys\n"
        "import numpy, scipy.linalg, scipy.special, scipy.sparse.linalg\n"
        "for name in json.loads(sys.argv[1]):\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        importlib.import_module(name)\n"
        "        print(json.dumps([name, list(sys.modules)]), flush=True)\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0, name\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, json.dumps(list(FILES))],
        cwd=ROOT, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return {name: set(found) for name, found in map(json.loads, done.stdout.splitlines())}


def ours(module: str) -> set[str]:
    return {name for name in loaded()[module] if name.split(".")[0] in ROOMS}


def test_the_listing_sees_the_rooms():
    assert {"ocp.problem", "ocp.controls", "ocp.files"} <= SHARED
    assert {rank(name) for name in FILES if name.startswith("ocp")} == set(range(len(FOLDERS) + 1))
    folders = {path.parent.name for path in FILES.values() if path.parent.parent == ROOT / "ocp"}
    assert folders == set(FOLDERS)
    assert loaded().keys() == FILES.keys()


@pytest.mark.parametrize("module", [m for m in FILES if m.startswith("ocp.")])
def test_within_ocp_arrows_go_from_the_command_line_down_to_the_statement(module):
    for name in imported(module):
        if name.split(".")[0] == "ocp":
            assert rank(name) <= rank(module), f"{module} imports {name}"
    assert all(rank(name) <= rank(module) for name in ours(module) if name != "ocp.__main__")
    assert {name.split(".")[0] for name in ours(module)} == {"ocp"}
    assert loaded()[module] & HEAVY == FRAMEWORKS.get(module, set())


@pytest.mark.parametrize("module", [m for m in FILES if not m.startswith("ocp")])
def test_the_judge_and_the_baseline_share_the_statement_and_never_a_method(module):
    room = module.split(".")[0]
    for name in imported(module):
        first, *rest = name.split(".")
        assert first not in {*ROOMS, "casadi"} - {room, "ocp"}, f"{module} imports {name}"
        if first == "ocp":
            # a bare `import ocp`, or a public name of it, would reach the methods lazily
            assert rest and f"ocp.{rest[0]}" in SHARED, f"{module} imports {name}"
        if room == "verification":
            assert first != "torch", f"{module} imports {name}"
    assert {name for name in ours(module) if name.split(".")[0] != room} <= SHARED | {"ocp"}
    assert not loaded()[module] & {"casadi"}
    assert room != "verification" or not loaded()[module] & HEAVY


@pytest.mark.parametrize("room", ROOMS)
def test_the_rooms_themselves_load_nothing_heavy(room):
    assert not loaded()[room] & HEAVY
    assert room != "ocp" or ours(room) == {"ocp"}


def test_packages_import_themselves_relatively():
    for module, path in FILES.items():
        for node in ast.walk(ast.parse(path.read_text())):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and not node.level:
                names = [node.module]
            own = [name for name in names if name.split(".")[0] == module.split(".")[0]]
            assert not own, f"{module} imports its own room absolutely: {own}"


@pytest.mark.parametrize("room", ROOMS)
def test_the_names_resolve_to_this_repository(room):
    assert Path(importlib.import_module(room).__path__[0]).resolve() == (ROOT / room).resolve()


def test_nothing_generic_nothing_huge_and_depth_two_at_most():
    for module, path in FILES.items():
        assert path.stem not in ("utils", "util", "common", "core", "helpers", "misc")
        assert len(path.read_text().splitlines()) <= 420, path
        assert len(path.relative_to(ROOT).parts) <= 3, module


PUBLIC = {room: set(importlib.import_module(room).__all__) for room in ROOMS}
#: public names that are modules, of which users may import the parts
PUBLIC_MODULES = {"verification.crosscheck", "nn_baseline.cropping", "nn_baseline.data"}


def code_for_users() -> dict[str, str]:
    """What users copy from: examples, studies, the cells of notebooks, Python blocks of texts."""
    found = {}
    for path in sorted((ROOT / "examples").rglob("*")):
        if path.suffix == ".py":
            found[path.name] = path.read_text()
        elif path.suffix == ".ipynb" and "checkpoint" not in path.name:
            cells = json.loads(path.read_text())["cells"]
            code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
            found[path.name] = re.sub(r"^\s*[%!].*$", "", "\n".join(code), flags=re.M)
    texts = [*ROOT.glob("*.md"), *(ROOT / "examples").rglob("*.md"), *ROOT.glob("docs/**/*.md")]
    for path in sorted(texts):
        blocks = re.findall(r"```python\n(.*?)```", path.read_text(), flags=re.S)
        place = path.relative_to(ROOT)
        found |= {f"{place}[{i}]": code for i, code in enumerate(blocks)}
    return found


def not_public(code: str) -> list[str]:
    """What the code takes from a room that is neither a name of its __all__ nor of the statement.

    A folder inside a room is never named, by an import or by an attribute of the room; of a module
    that is public, what it imports for itself is not.
    """
    wrong, rooms = [], {}
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.ImportFrom) and node.module:
            taken = [(node.module, alias.name) for alias in node.names]
        elif isinstance(node, ast.Import):
            taken = [alias.name.rpartition(".")[::2] for alias in node.names]
            rooms |= {a.asname or a.name: a.name for a in node.names if a.name in ROOMS}
        else:
            continue
        wrong += [f"{module}.{name}" for module, name in taken if not _public(module, name)]
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            room = rooms.get(node.value.id)
            if room and not _public(room, node.attr):
                wrong.append(f"{room}.{node.attr}")
    return wrong


def _public(module: str, name: str) -> bool:
    room = module.split(".")[0]
    if room not in ROOMS:
        return True
    if module == room:
        return name in PUBLIC[room] or f"{room}.{name}" in SHARED
    if module not in PUBLIC_MODULES | SHARED or name.startswith("_"):
        return False
    if f"{module}.{name}" in FILES:
        return True
    value = getattr(importlib.import_module(module), name, None)
    home = getattr(value, "__module__", module)  # a constant has none
    return value is not None and not isinstance(value, ModuleType) and home.startswith(module)


@pytest.mark.parametrize(("name", "code"), code_for_users().items(), ids=lambda v: str(v)[:40])
def test_users_see_public_names_only(name, code):
    """Names of a room's __all__, or files at the top of ocp: what the rooms share."""
    assert not not_public(code)


@pytest.mark.parametrize(
    ("code", "wrong"),
    [
        ("from ocp.solvers import newton", True),
        ("from ocp.solvers.newton import polish", True),
        ("import ocp.continuation.growth", True),
        ("import ocp as o\no.evaluation.rollout", True),
        ("def f():\n    from verification.checks import first_order", True),
        ("import verification\nverification.evaluation.alpha.tight(1)", True),
        ("from verification.crosscheck import Verdict", True),
        ("from ocp.files import _load", True),
        ("from ocp.controls import Problem", True),
        ("from ocp.files import dataclass", True),
        ("from ocp.files import container", True),
        ("from ocp.files import lod", True),
        ("from nn_baseline.model import Network", True),
        ("from ocp import Problem, exits\nfrom ocp.atomic import write_atomically", False),
        ("import verification\nverification.verify", False),
        ("from verification.crosscheck import Evaluation, optima", False),
        ("import numpy.linalg\nfrom matplotlib.figure import Figure", False),
    ],
)
def test_what_is_not_public_is_seen(code, wrong):
    assert bool(not_public(code)) == wrong
