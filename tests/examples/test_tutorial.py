"""The tutorial runs from the statement to the certificate, and says what it promises."""

import json
import os
import subprocess
import sys
from pathlib import Path

EXAMPLES = Path(__file__).parents[2] / "examples"
NOTEBOOK = json.loads((EXAMPLES / "tutorial.ipynb").read_text())


def sources():
    return ["".join(c["source"]) for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]


def test_every_cell_runs_in_order(tmp_path):
    script = tmp_path / "tutorial.py"
    script.write_text("\n".join(sources()))
    paths = os.pathsep.join(map(str, (EXAMPLES.parent, EXAMPLES)))
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": paths, "MPLBACKEND": "Agg"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for words in (
        "Strict local minimum",
        "passed       certificate.minimum",
        "there is a strict local minimiser",
        "failed: first_order.gradient",
        "training stopped early",
        "layer 0 - x_1: the step h is 0.505, the statement's 0.5 (+1.00%)",
        "exact: turnpike from layer",
        "accuracy 100.0%, 0 predictions changed",
    ):
        assert words in done.stdout, words


def test_the_stored_notebook_is_whole():
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    cells = [c for c in NOTEBOOK["cells"] if c["cell_type"] == "code"]
    assert [c["execution_count"] for c in cells] == list(range(1, len(cells) + 1))
    text = json.dumps(NOTEBOOK)
    assert "image/png" in text
    assert "/work" not in text and "/home" not in text
