"""Random problems of every kind, for comparing two independent implementations."""

import numpy as np
import pytest

from ocp import controls
from ocp.activations import NAMES, Activation
from ocp.problem import Problem


def random_problem(seed: int) -> tuple[Problem, controls.Controls]:
    """Return a random problem and controls; the first seeds cover scheme x block x activation."""
    rng = np.random.default_rng(seed)
    scheme = ("euler", "heun", "rk4")[seed % 3]
    block = ("single", "double")[seed // 3 % 2]
    activation = NAMES[seed // 6 % len(NAMES)]
    n_classes, n_in, n_samples = (int(rng.integers(*r)) for r in ((2, 6), (1, 5), (3, 12)))
    width = int(rng.integers(max(n_in, 2), 7))
    beta = int(rng.random() < 0.8)
    trained = ("layers", *(t for t in ("lift", "readout") if rng.random() < 0.4))
    labels = rng.permutation(np.arange(n_samples) % n_classes)
    given = {
        "n_classes": n_classes,
        "depth": int(rng.integers(1, 7)),
        "width": width,
        "h": rng.uniform(0.05, 1.0),
        "scheme": scheme,
        "block": block,
        "activation": activation,
        "p_d": 1.0 if rng.random() < 0.1 else rng.uniform(1 / n_classes + 0.01, 1.0),
        "r": rng.choice([0.0, 1e-3, 0.7]),
        "gamma": rng.uniform(0.1, 2.0) if beta == 0 or rng.random() < 0.8 else 0.0,
        "beta": beta,
        "trained": trained,
        "r_ends": 0.3 if len(trained) > 1 and rng.random() < 0.5 else 0.0,
    }
    if Activation(activation).shiftable:
        given["shifted"] = bool(rng.random() < 0.7)
    if Activation(activation).has_sharpness:
        given["sharpness"] = float(rng.choice([1.0, 10.0, 300.0]))
    if rng.random() < 0.6:
        given["readout_weight"] = rng.standard_normal((n_classes, width))
        given["readout_bias"] = rng.standard_normal(n_classes)
        given["lift_weight"] = rng.standard_normal((width, n_in))
        given["lift_bias"] = rng.standard_normal(width)
    if rng.random() < 0.2:
        inputs = rng.integers(0, 256, (n_samples, n_in), dtype=np.uint8)
        given |= {"input_scale": 1 / 127.5, "input_shift": -1.0}
    else:
        inputs = rng.standard_normal((n_samples, n_in))
    problem = Problem(inputs=inputs, labels=labels, **given)
    return problem, controls.random_start(problem, rng, scale=rng.uniform(0.05, 1.0))


@pytest.fixture(scope="session")
def make_problem():
    """Give tests the generator of random problems."""
    return random_problem
