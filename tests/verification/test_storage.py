"""Available storage: none at the tight rate, without bound for a rate 5 % above it."""

import numpy as np
import pytest
from small_minima import small, solved

from ocp import controls
from verification.evaluation import alpha, storage
from verification.evaluation.minimisers import Minimisers


def minimisers_of(problem):
    return Minimisers(problem, controls.zeros(problem))


@pytest.mark.parametrize("scheme", ["euler", "rk4"])
def test_storage_vanishes_for_the_tight_rate_and_grows_for_one_above_it(scheme):
    problem, _ = solved(scheme=scheme)
    minimisers = minimisers_of(problem)
    assert storage.available_storage(problem, minimisers).max() <= 1e-9
    found = storage.available_storage(problem, minimisers, 1.05, (1, 5, 20))
    model = storage.OneSample(problem, minimisers)
    # alpha* at the start, minimised over one angle on a grid of its own
    s = float(model.distance(model.start))
    tight = alpha.tight(np.array([s]), problem.n_classes, problem.p_d, angles=721)[0]
    idle = 0.05 * problem.h * tight * np.array([1, 5, 20])
    assert (found >= 0.999 * idle).all()
    for N, wanted in zip((1, 5, 20), idle, strict=True):
        assert model.collected(1.05, N, optimise=False) == pytest.approx(wanted, rel=1e-3)


def test_a_rate_below_the_tight_one_has_no_storage():
    problem, _ = solved()
    assert (storage.available_storage(problem, minimisers_of(problem), 0.95, (10,)) == 0.0).all()


def test_without_the_plain_soft_target_there_is_no_tight_rate():
    flat = small(readout_weight=np.ones((2, 2)))
    for problem in (flat, small(p_d=1.0)):
        with pytest.raises(ValueError, match="tight rate"):
            storage.available_storage(problem, minimisers_of(problem))
