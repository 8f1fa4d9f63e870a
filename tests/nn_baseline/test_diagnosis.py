"""Each diagnosis is made where it is due, and not where it is not."""

import numpy as np
import torch

from nn_baseline.diagnosis import diagnose, first_bad_layer
from nn_baseline.model import Network
from ocp import controls, datasets
from ocp.problem import Problem


def names(network, objectives=(3.0, 2.0, 1.0)):
    problem = network.problem
    x, y = torch.tensor(problem.inputs), torch.tensor(problem.labels)
    return {f.name: f for f in diagnose(network, x, y, list(objectives), 1e-6)}


def network_of(scale=0.1, **given):
    inputs, labels = datasets.spirals(20)
    problem = Problem(inputs=inputs, labels=labels, n_classes=2, **{"depth": 6} | given)
    return Network(problem, scale=scale)


def test_a_loss_that_rests_or_rises_is_named_and_one_that_falls_is_not():
    network = network_of()
    assert "not falling" not in names(network, (3.0, 2.0, 1.0))
    assert "not falling" in names(network, (1.0, 1.0, 1.0))
    assert "not falling" in names(network, (1.0, 0.9, 1.1))
    assert "not falling" in names(network, (1.0, np.nan, np.nan))
    assert "lr" in names(network, (1.0, 1.0, 1.0))["not falling"].hint


def test_saturated_layers_are_named():
    network = network_of()
    assert "saturated layers" not in names(network)
    with torch.no_grad():
        network.b[2].fill_(50.0)
    found = names(network)["saturated layers"]
    assert "layers 2 " in found.message and found.bad


def test_dead_layers_are_named():
    network = network_of(activation="relu")
    with torch.no_grad():
        network.b[1].fill_(-50.0)
        network.b[4].fill_(-50.0)
    assert "layers 1, 4 " in names(network)["dead layers"].message


def test_an_untrained_network_has_learnt_nothing_and_has_no_turnpike():
    found = names(network_of(scale=1e-3))
    assert "nothing learnt" in found and "turnpike" not in found


def staircase(layers, depth=8):
    """Two points that move apart for some layers and then rest."""
    problem = Problem(
        inputs=np.array([[1.0, 0.0], [0.0, 1.0]]),
        labels=[0, 1],
        n_classes=2,
        depth=depth,
        width=2,
        h=0.25,
        p_d=0.9,
    )
    u = controls.zeros(problem)
    u.A[:layers] = [[1.0, -1.0], [-1.0, 1.0]]
    return Network(problem, u)


def test_the_turnpike_begins_where_the_data_cost_rests():
    found = names(staircase(3))["turnpike"]
    assert "from layer 3 of 8" in found.message and "cropping at 3" in found.hint
    assert "no turnpike" in names(staircase(3, depth=3))


def test_layers_that_idle_on_the_turnpike_are_not_called_dead():
    network = staircase(3)
    with torch.no_grad():
        network.b[6].fill_(50.0)
    before = names(staircase(3))
    assert "saturated layers" not in before and "turnpike" in before
    # layer 6 moves both coordinates alike, so the data cost rests although it saturates
    found = names(network)
    assert "turnpike" in found and "saturated layers" not in found
    with torch.no_grad():
        network.b[1].fill_(50.0)
    assert "layers 1 " in names(network)["saturated layers"].message


def test_the_standard_training_is_not_asked_for_a_turnpike():
    found = names(network_of(beta=0))
    assert not {"turnpike", "no turnpike", "nothing learnt"} & set(found)


def test_the_first_layer_with_a_number_that_is_not_finite_is_found():
    network = network_of(activation="identity", depth=4)
    x, y = torch.tensor(network.problem.inputs), torch.tensor(network.problem.labels)
    with torch.no_grad():
        network.A[2, 0, 0] = torch.inf
    assert first_bad_layer(network, x, y) == "in layer 2"
    with torch.no_grad():
        network.A[2, 0, 0] = 0.0
        network.readout_bias[0] = torch.nan
    assert "gradient of layer" in first_bad_layer(network, x, y)
