"""A problem that is too large for the dense method says so, with an estimate, before it starts."""

import numpy as np
import pytest
from problems import spirals

from ocp import solvers
from ocp.__main__ import main
from ocp.continuation import by_effort
from ocp.solvers import size

WIDE = "[problem]\ndepth = 200\nwidth = 64\n[data]\nname = 'moons'\nn_samples = 6\n"


def test_the_estimate_grows_as_it_is_derived():
    one, two = spirals(4, depth=5), spirals(4, depth=10)
    for solver in solvers.NAMES:
        assert size.memory(two, solver) >= 3.9 * size.memory(one, solver) or solver == "fatrop"
        assert size.seconds(two, solver) > 3.9 * size.seconds(one, solver)
    # fatrop's stages hold the states of all samples
    assert size.memory(spirals(5000, depth=5), "fatrop") > 10 * size.memory(one, "fatrop")
    assert 2**20 < size.available() < 2**50


@pytest.mark.parametrize(
    "line",
    ["solve p.toml --output o", "solve p.toml --output o --cold --solver ipopt",
     "multistart p.toml --starts 2 --output o"],
)  # fmt: skip
def test_what_no_memory_can_hold_is_refused_before_the_work(tmp_path, monkeypatch, capsys, line):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "p.toml").write_text(WIDE)
    assert main(line.split()) == 2
    said = capsys.readouterr().err
    assert "832000 variables (depth 200, width 64)" in said and "GiB" in said and " h " in said
    assert "nn_baseline train" in said and len(said.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["p.toml"]


def test_growth_counts_the_depth_it_grows_to(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = WIDE.replace("200", "2").replace("64", "2")
    (tmp_path / "p.toml").write_text(text)
    assert main(["solve", "p.toml", "--output", "a"]) in (0, 1)
    capsys.readouterr()
    assert main(["grow", "a", "--depth", "1000000", "--output", "b"]) == 2
    assert "depth 1000000" in capsys.readouterr().err and not (tmp_path / "b").exists()


def test_workers_share_the_memory(monkeypatch):
    problem = spirals(4, depth=5)
    monkeypatch.setattr(size, "available", lambda: 1.5 * size.memory(problem))
    assert size.check_size(problem) == ""
    with pytest.raises(ValueError, match="by 2 workers"):
        size.check_size(problem, workers=2)
    monkeypatch.setattr(size, "available", lambda: 0.5 * size.memory(problem))
    with pytest.raises(ValueError, match="GiB"):
        by_effort.solve(problem)


def test_what_takes_long_is_a_caution_and_goes_on(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(size, "SPEED", 1.0)
    (tmp_path / "p.toml").write_text(WIDE.replace("200", "2").replace("64", "2"))
    assert main(["solve", "p.toml", "--output", "a"]) in (0, 1)
    said = capsys.readouterr().err
    assert (
        "warning: 12 variables (depth 2, width 2): each judgement" in said and "takes about" in said
    )
    assert (tmp_path / "a").exists() and np.isfinite(size.seconds(spirals(4)))
