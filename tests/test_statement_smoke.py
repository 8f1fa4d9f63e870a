import numpy as np

from ocp import controls, datasets, files, rollout
from ocp.problem import Problem


def test_a_random_spirals_network_survives_the_file(tmp_path):
    inputs, labels = datasets.spirals(5)
    problem = Problem(inputs=inputs, labels=labels, n_classes=2, depth=3)
    u = controls.random_start(problem, np.random.default_rng(0))
    files.save(tmp_path / "a.safetensors", files.TrainingFile(problem=problem, controls=u))
    back = files.load(tmp_path / "a.safetensors")
    assert rollout.objective(back.problem, back.controls) == rollout.objective(problem, u)
