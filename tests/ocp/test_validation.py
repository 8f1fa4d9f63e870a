"""What every room shares about bad input: one sentence each, exit codes, recorded versions."""

import importlib.metadata
import math
import platform
import subprocess
import sys

import numpy as np
import pytest

from ocp import exits, validation
from ocp.versions import versions


@pytest.mark.parametrize(
    ("check", "value", "sentence"),
    [
        (lambda n, v: validation.integer(n, v, 2), 1, "x is 1; wanted an integer of at least 2"),
        (lambda n, v: validation.integer(n, v, 2), True, "x is True; wanted an integer"),
        (lambda n, v: validation.integer(n, v, 2), 2.0, "x is 2.0; wanted an integer"),
        (lambda n, v: validation.integer(n, v, 2), None, "x is None; wanted an integer"),
        (validation.number, "1", "x is '1'; wanted a number"),
        (validation.number, False, "x is False; wanted a number"),
        (lambda n, v: validation.integer(n, v, 1), 10**400, "x is above 2^63 - 1; wanted"),
        (validation.number, math.nan, "x is nan; wanted a finite number"),
        (validation.number, 10**400, "x is inf; wanted a finite number"),
        (validation.positive, 0, "x is 0.0; wanted a number above 0"),
        (validation.positive, math.inf, "x is inf; wanted a finite number"),
        (lambda n, v: validation.at_least(n, v, 1), 0.5, "x is 0.5; wanted a number of at least 1"),
        (
            lambda n, v: validation.at_least(n, v, 1, infinite=True),
            math.nan,
            "x is nan; wanted a finite number",
        ),
        (lambda n, v: validation.one_of(n, v, ["a", "b"]), "c", "x is 'c'; wanted one of a, b"),
        (validation.flag, True, "x is True; wanted 0 or 1"),
        (validation.flag, 2, "x is 2; wanted 0 or 1"),
        (validation.finite, np.array([[0.0, 1.0], [math.inf, 0.0]]), "x[1, 0] is inf; wanted"),
        (lambda n, v: validation.shape(n, v, (2,)), np.zeros(3), "x has shape (3,); wanted (2,)"),
        (lambda n, v: validation.shape(n, v, (2,)), None, "x has shape None; wanted (2,)"),
    ],
)
def test_a_refusal_names_what_was_found_and_what_was_wanted(check, value, sentence):
    with pytest.raises(ValueError) as error:
        check("x", value)
    assert sentence in str(error.value)


def test_what_fits_comes_back_as_a_plain_number():
    assert type(validation.integer("x", np.int64(3), 3)) is int
    assert type(validation.number("x", np.float32(0.5))) is float
    assert validation.positive("x", 2) == 2.0
    assert validation.at_least("x", math.inf, 1, infinite=True) == math.inf
    assert validation.flag("x", 1.0) == 1
    validation.finite("x", np.array([1, 2]))
    validation.classes(np.array([0, 2]), 3)


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (ValueError("h is 0;\n  wanted more"), exits.UNUSABLE, "who: h is 0; wanted more\n"),
        (FileNotFoundError(2, "No such file", "a.json"), exits.UNUSABLE, "who: a.json: No such"),
        (OSError("disk full"), exits.UNUSABLE, "who: disk full\n"),
        (MemoryError(), exits.UNUSABLE, "who: not enough memory (no reason given)\n"),
        (ImportError("install it"), exits.UNUSABLE, "who: install it\n"),
        (KeyboardInterrupt(), exits.INTERRUPTED, "interrupted\n"),
    ],
)
def test_what_a_user_can_cause_ends_in_one_line_and_a_code(capsys, error, code, said):
    def main():
        raise error

    assert exits.run(main, "who") == code
    text = capsys.readouterr().err
    assert text.startswith(said) and text.count("\n") == 1


def test_a_fault_of_the_code_is_not_hidden_unless_asked_for(capsys):
    def main():
        return 1 // 0

    with pytest.raises(ZeroDivisionError):
        exits.run(main)
    assert exits.run(main, "who", (ArithmeticError,)) == exits.UNUSABLE
    assert "leaves the range of floating point" in capsys.readouterr().err
    assert exits.run(lambda: exits.INCONCLUSIVE) == 3


def test_versions_name_what_is_not_installed():
    found = versions("safetensors", "no-such-distribution")
    assert list(found) == [
        *("python", "turnpike-ocp", "numpy", "scipy", "safetensors", "no-such-distribution")
    ]
    assert found["python"] == platform.python_version()
    assert found["numpy"] == np.__version__
    assert found["safetensors"] == importlib.metadata.version("safetensors")
    assert found["no-such-distribution"] == "not installed"


@pytest.mark.parametrize("room", ["ocp", "verification", "nn_baseline"])
def test_exit_codes_cost_the_help_nothing(room):
    code = f"import sys, {room}.__main__; assert 'numpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
