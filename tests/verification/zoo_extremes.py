"""Specimens at the edge of double precision: tiny cost weights, flat targets, odd metadata."""

import numpy as np
from small_minima import small, solved
from zoo import claimed, specimen
from zoo_specimens import GOOD, UNTRAINED

from ocp import controls as containers


def faint(**changes):
    return small(beta=0, gamma=1e-12, r=1e-13, **changes)


@specimen(
    3,
    says="one Newton step moves the controls",
    **(GOOD | {"first_order": "POIPP", "second_order": "IOOOT"}),
)
def tiny_weights_and_random_controls():
    problem = faint()
    return claimed(problem, containers.random_start(problem, np.random.default_rng(0), 0.5))


@specimen(0, **GOOD)
def a_minimum_with_tiny_weights():
    problem, u = solved(beta=0, r=0.1)
    return claimed(problem.with_(gamma=1e-12, r=1e-13), u)


@specimen(1, **UNTRAINED)
def nearly_uniform_targets():
    problem = small(p_d=0.5000001)
    return claimed(problem, containers.random_start(problem, np.random.default_rng(0), 0.5))


@specimen(1, **UNTRAINED)
def uniform_targets_but_for_the_last_bit():
    problem = small(p_d=float(np.nextafter(0.5, 1.0)))
    return claimed(problem, containers.random_start(problem, np.random.default_rng(0), 0.5))


@specimen(1, says="stored null, no number", **(GOOD | {"statement": "PFn"}))
def stored_objective_null():
    return claimed(*solved(), origin={"objective": None})


@specimen(1, says="stored true, no number", **(GOOD | {"statement": "PnF"}))
def stored_gradient_norm_true():
    return claimed(*solved(), origin={"grad_inf_norm": True})
