"""The batched Adam of the spirals benchmark minimises the statement's objective."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ocp import controls, datasets
from ocp.evaluation import rollout
from ocp.problem import Problem

FOLDER = str(Path(__file__).parents[1] / "benchmarks")


@pytest.fixture
def study(monkeypatch):
    monkeypatch.syspath_prepend(FOLDER)
    import bench_torch_spirals

    return bench_torch_spirals


@pytest.fixture
def problem():
    inputs, labels = datasets.spirals(7)
    return Problem(inputs=inputs, labels=labels, n_classes=2, depth=5, gamma=0.7, r=0.01)


def test_its_objectives_and_gradients_are_the_references(study, problem):
    starts = [controls.random_start(problem, np.random.default_rng(s)) for s in range(4)]
    A, b = (torch.tensor(np.stack([getattr(u, p) for u in starts])) for p in "Ab")
    J = study.objectives(problem, A.requires_grad_(), b.requires_grad_())
    J.sum().backward()
    for s, u in enumerate(starts):
        assert abs(J[s].item() - float(rollout.objective(problem, u))) <= 1e-12
        gradient = controls.Controls(A=A.grad[s].numpy(), b=b.grad[s].numpy())
        reference, _ = rollout.gradient(problem, u)
        assert np.abs(controls.flatten(gradient) - reference).max() <= 1e-12


@pytest.mark.parametrize("grow", [False, True])
def test_starts_train_on_their_own_and_every_step_is_counted(study, monkeypatch, grow):
    monkeypatch.setattr(study, "GROWN", (2, 3, 5))
    way = study.Way(grow=grow, lr=3e-2, scale=0.3, steps=40)
    assert sum(steps for _, steps in way.stages()) == 40
    inputs, labels = datasets.spirals(7)
    problem = Problem(inputs=inputs, labels=labels, n_classes=2, depth=5)
    three, _ = study.train(problem, way, range(5, 8))
    alone, _ = study.train(problem, way, range(6, 7))
    assert controls.flatten(three[1]) == pytest.approx(controls.flatten(alone[0]), abs=1e-12)
    start = controls.near_zero(problem, np.random.default_rng(6), 0.3)
    assert rollout.objective(problem, alone[0]) < rollout.objective(problem, start) - 0.1
