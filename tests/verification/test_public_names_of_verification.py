"""`import verification` offers what users need, and loads it when it is asked for."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import verification

ROOT = Path(__file__).parents[2]
NAMES = [
    *("verify", "verify_content", "json_text", "CHECKS", "assert_verified"),
    *("Report", "Check", "Finding", "Verdict", "VerificationError", "InconclusiveError"),
    # what studies compose
    *("crosscheck", "alpha", "Minimisers", "available_storage"),
    *(f"assert_{check}" for check in verification.CHECKS),
]


def test_the_public_names_are_these():
    assert sorted(verification.__all__) == sorted(NAMES) == dir(verification)


@pytest.mark.parametrize("name", NAMES)
def test_every_public_name_is_there_and_says_what_it_is(name):
    value = getattr(verification, name)
    assert value.__doc__
    assert callable(value) or isinstance(value, (ModuleType, tuple))


def test_what_is_not_there_is_an_attribute_error():
    for name in ("verfy", "assert_nothing"):
        with pytest.raises(AttributeError, match=f"no attribute '{name}'"):
            getattr(verification, name)


def test_a_fresh_import_loads_no_numerics_and_all_names_no_framework():
    code = (
        "import sys, verification; dir(verification); verification.__all__\n"
        "heavy = {'casadi', 'torch', 'matplotlib', 'sklearn', 'pandas'}\n"
        "assert not {'numpy', 'scipy', 'rich', *heavy} & set(sys.modules)\n"
        "for name in verification.__all__:\n"
        "    getattr(verification, name)\n"
        "assert not heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
