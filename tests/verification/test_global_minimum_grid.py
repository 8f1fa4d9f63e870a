"""The grid and the polish find what is lower than a value that is too high, and nothing else."""

import sys
from pathlib import Path

import numpy as np
import oracle
import pytest
from tiny_problems import twins

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import global_minimum_grid as grids

HEAD = "data,beta,r,N,V_lower,V_upper,radius searched"


@pytest.fixture
def table(tmp_path, monkeypatch):
    monkeypatch.setattr(grids, "TABLE", tmp_path / "table.csv")
    monkeypatch.setattr(grids, "SIDES", {2: 101})
    monkeypatch.setattr(grids, "STARTS", 2)
    return grids.TABLE


@pytest.mark.parametrize(("lower", "code"), [("1.200052829173", 0), ("1.200052829174", 1)])
def test_what_is_lower_is_seen(table, capsys, lower, code):
    table.write_text(f"{HEAD}\ntwins,1,0.01,1,{lower},1.200052829175,10.1\n")
    assert grids.main() == code
    assert "1.20005282917345" in capsys.readouterr().out


@pytest.mark.parametrize("beta", [0, 1])
def test_the_objective_of_many_points_is_that_of_the_oracle(beta):
    problem = twins(2, beta=beta, readout_bias=np.array([0.5, 0.25]))
    u = np.random.default_rng(0).normal(size=(4, 5))
    wanted = [oracle.objective(problem, v) for v in u.T]
    assert np.abs(grids.values(problem, u) - wanted).max() < 1e-14
