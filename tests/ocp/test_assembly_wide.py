"""The Hessian of wide layers against products with directions and against the general assembly."""

import numpy as np
import pytest

from ocp import Problem, datasets
from ocp.controls import random_start
from ocp.evaluation import assembly, assembly_wide
from ocp.evaluation.hessian_products import reduced_hessian

ENDS = [(), ("lift",), ("readout",), ("lift", "readout")]


def wide(ends=(), *, classes=3, samples=23, **changes):
    inputs, labels = datasets.blobs(samples, n_classes=classes, seed=3)
    trained = ("layers", *ends)
    weights = {"r_ends": 1e-2} if ends else {}
    return Problem(
        inputs=inputs, labels=labels, n_classes=classes,
        **({"depth": 4, "width": 6, "trained": trained} | weights | changes),
    )  # fmt: skip


@pytest.mark.parametrize("ends", ENDS, ids=" ".join)
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"beta": 0, "activation": "silu"},
        {"depth": 1, "activation": "sigmoid"},
        {"depth": 2, "width": 7, "gamma": 0.0},
        {"classes": 2, "activation": "softplus", "sharpness": 3.0},
    ],
    ids=str,
)
def test_it_is_the_hessian_by_products(ends, changes):
    problem = wide(ends, **changes)
    assert assembly_wide.applies(problem)
    u = random_start(problem, np.random.default_rng(1), 0.7)
    H, products = assembly.assembled_hessian(problem, u), reduced_hessian(problem, u)
    assert np.array_equal(H, H.T)
    # sums of some hundred terms: a few dozen roundings of the largest entry
    np.testing.assert_allclose(H, products, atol=1e-13 * np.abs(H).max(), rtol=0)


@pytest.mark.parametrize("ends", ENDS, ids=" ".join)
def test_chunks_of_samples_change_nothing_but_roundings(ends, monkeypatch):
    problem = wide(ends)
    u = random_start(problem, np.random.default_rng(2), 0.7)
    whole = assembly.assembled_hessian(problem, u)
    monkeypatch.setattr(assembly_wide, "CHUNK_SAMPLES", 4)
    monkeypatch.setattr(assembly_wide, "CHUNK_DOUBLES", 1)
    chunked = assembly.assembled_hessian(problem, u)
    np.testing.assert_allclose(chunked, whole, atol=1e-14 * np.abs(whole).max(), rtol=0)


@pytest.mark.parametrize("ends", ENDS, ids=" ".join)
def test_it_is_the_general_assembly_for_ill_scaled_data(ends, monkeypatch):
    problem = wide(ends)
    scale = np.array([1e3, 1e-3])
    problem = problem.with_(inputs=problem.inputs * scale, lift_weight=np.eye(6, 2) / scale)
    u = random_start(problem, np.random.default_rng(4), 2.0)
    if "lift" in ends:
        assert u.lift_weight is not None
    H = assembly.assembled_hessian(problem, u)
    monkeypatch.setattr(assembly_wide, "applies", lambda problem: False)
    general = assembly.assembled_hessian(problem, u)
    size = np.sqrt(np.abs(general).max(axis=0))
    # relative to the largest entry of each row and column: a block is not hidden by a larger one
    np.testing.assert_allclose(H / np.outer(size, size), general / np.outer(size, size), atol=1e-12)


def test_narrow_layers_other_schemes_and_blocks_have_another_assembly():
    for changes in ({"width": 5}, {"scheme": "heun"}, {"block": "double"}):
        assert not assembly_wide.applies(wide(**changes))
