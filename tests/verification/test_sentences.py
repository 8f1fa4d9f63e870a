"""Every sentence of the judge, once: a reworded message turns exactly one of these red.

The rows stand by check in `sentences_of_*.py`; what a line measures is tested elsewhere.
"""

import importlib
from pathlib import Path

import pytest
from sentences import is_said, said

MODULES = sorted(path.stem for path in Path(__file__).parent.glob("sentences_of_*.py"))
ROWS = [row for name in MODULES for row in importlib.import_module(name).ROWS]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_what_a_line_says(row):
    found = said(row)
    assert is_said(row, found), found


def test_no_row_stands_twice():
    assert len({row.name for row in ROWS}) == len(ROWS)
    assert len({(row.line, row.says) for row in ROWS}) == len(ROWS)
