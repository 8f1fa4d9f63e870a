"""Types are checked as the settings in pyproject.toml say, and reach those who install us."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
#: the packages, each without an error
TYPED = ("ocp", "verification", "nn_baseline")


@pytest.mark.parametrize("package", TYPED)
def test_a_package_has_no_type_error(package):
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "-p", package],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("import ocp\nocp.sovle\n", "Module has no attribute"),
        ("import ocp\nocp.solve(3)\n", 'incompatible type "int"; expected "Problem"'),
        ("import nn_baseline\nnn_baseline.trian\n", "Module has no attribute"),
        (
            "import verification\nverification.assert_first_order(3)\n",
            'incompatible type "int"; expected "str | PathLike[Any]"',
        ),
        ("def f(x):\n    return x\n", "Function is missing a type annotation"),
        ("def f(x: int = None) -> int:\n    return x\n", "Incompatible default"),
    ],
)
def test_a_type_error_is_found(tmp_path, code, error):
    """The public names are seen by type checkers, and the settings hold."""
    (tmp_path / "wrong.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--config-file", ROOT / "pyproject.toml",
         "--cache-dir", ROOT / ".mypy_cache", tmp_path / "wrong.py"],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    assert error in done.stdout


@pytest.mark.parametrize("package", ["ocp", "nn_baseline", "verification"])
def test_the_types_ship(package):
    assert (ROOT / package / "py.typed").exists()
