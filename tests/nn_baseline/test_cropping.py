"""Removing layers: what is kept is the network that it says, and the numbers are right."""

import numpy as np
import pytest
import torch

from nn_baseline import cropping
from nn_baseline.evaluation import control_norms, evaluate, is_right, turnpike_entry
from nn_baseline.model import Network
from ocp import loss
from ocp.evaluation import depth, rollout


def arranged(make_problem, seed=1):
    problem, u = make_problem(seed)
    problem = problem.with_(depth=5)
    rng = np.random.default_rng(0)
    from ocp import controls

    u = controls.random_start(problem, rng, 0.3)
    network = Network(problem, u)
    return problem, u, network, torch.tensor(problem.inputs), torch.tensor(problem.labels)


@pytest.mark.parametrize("seed", range(6))
def test_a_prefix_is_the_state_after_its_layers(make_problem, seed):
    problem, u, network, x, y = arranged(make_problem, seed)
    cut = cropping.keep(network, cropping.prefix(network, 3))
    X = rollout.rollout(problem, u).X
    z = rollout.logits(problem, u, X)
    found = cropping.compare(network, cut, "prefix", (0, 1, 2), x, y)
    assert found.logit_change == pytest.approx(np.abs(z[3] - z[-1]).max(), abs=1e-12)
    assert found.flipped == (z[3].argmax(1) != z[-1].argmax(1)).sum()
    assert found.accuracy == loss.is_right(z[3], problem.labels).mean()
    assert found.lost_accuracy == pytest.approx(
        loss.is_right(z[-1], problem.labels).mean() - found.accuracy
    )


def test_all_layers_kept_change_nothing(make_problem):
    _, _, network, x, y = arranged(make_problem)
    found = cropping.compare(network, cropping.keep(network, range(5)), "all", range(5), x, y)
    assert found.logit_change == 0 and found.flipped == 0 and found.lost_accuracy == 0


def test_the_threshold_drops_idle_layers_and_never_all(make_problem):
    _, _, network, _, _ = arranged(make_problem)
    with torch.no_grad():
        for name in ("A", "b"):
            getattr(network, name)[1].zero_()
            getattr(network, name)[3].mul_(1e-6)
    assert cropping.above_threshold(network, 0.01) == (0, 2, 4)
    assert len(cropping.above_threshold(network, 2.0)) == 1


def test_the_best_layers_are_found_where_the_others_idle(make_problem):
    _, _, network, x, y = arranged(make_problem)
    with torch.no_grad():
        for k in (0, 3):
            network.A[k].zero_()
            network.b[k].zero_()
    y = network.logits(network.states(x)[-1]).argmax(dim=1)  # what the working layers predict
    kept = cropping.best(network, 3, x, y)
    cut = cropping.keep(network, kept)
    cost = lambda net: net.data_costs(net.states(x)[-1:], y).item()  # noqa: E731
    assert cost(cut) <= cost(network) + 1e-12


def test_the_greedy_choice_of_one_removal_is_the_best_of_all(make_problem):
    _, _, network, x, y = arranged(make_problem, 3)
    kept = cropping.best(network, 4, x, y)
    costs = {}
    for out in range(5):
        layers = [k for k in range(5) if k != out]
        cut = cropping.keep(network, layers)
        costs[tuple(layers)] = cut.data_costs(cut.states(x)[-1:], y).item()
    assert costs[kept] == min(costs.values())


def test_depths_outside_the_network_are_refused(make_problem):
    _, _, network, x, y = arranged(make_problem)
    for k in (0, 6):
        with pytest.raises(ValueError, match=r"wanted 1\.\.5"):
            cropping.prefix(network, k)
        with pytest.raises(ValueError, match=r"wanted 1\.\.5"):
            cropping.best(network, k, x, y)
    with pytest.raises(ValueError, match="at least one"):
        cropping.keep(network, [])


def test_costs_are_counted_as_written_out(make_problem):
    problem, _ = make_problem(1)  # heun, single: two matrix products a layer
    n, n_in, n_c, N = problem.width, problem.inputs.shape[1], problem.n_classes, problem.depth
    assert cropping.multiply_adds(problem) == n * n_in + 2 * N * n * n + n_c * n
    assert cropping.parameters(problem) == N * (n * n + n) + n * n_in + n + n_c * n + n_c
    shallow = cropping.equal_budget_epochs(problem.with_(depth=20), 10, 5)
    full = cropping.multiply_adds(problem, 20) * 10
    assert abs(shallow * cropping.multiply_adds(problem, 5) - full) <= cropping.multiply_adds(
        problem, 5
    )


@pytest.mark.parametrize("seed", range(12))
def test_the_layer_table_is_the_references(make_problem, seed):
    problem, u = make_problem(seed)
    layers = evaluate(
        Network(problem, u), torch.tensor(problem.inputs), torch.tensor(problem.labels)
    )
    trajectory = rollout.rollout(problem, u)
    z = rollout.logits(problem, u, trajectory.X)
    assert layers.objective == pytest.approx(rollout.objective(problem, u), abs=1e-12)
    assert layers.data_cost == pytest.approx(rollout.data_cost(problem, u, trajectory.X), abs=1e-12)
    assert layers.stage_cost == pytest.approx(
        rollout.layer_costs(problem, u, trajectory), abs=1e-12
    )
    assert layers.control_norm == pytest.approx(u.norms(), rel=1e-13)
    assert np.array_equal(layers.accuracy, loss.is_right(z, problem.labels).mean(axis=1))


@pytest.mark.parametrize("seed", range(0, 120, 3))
def test_the_entry_is_the_one_of_the_exact_room(make_problem, seed):
    problem, u = make_problem(seed)
    x, y = torch.tensor(problem.inputs), torch.tensor(problem.labels)
    found = evaluate(Network(problem, u), x, y).entry
    if depth.least_data_cost(problem, u) == 0.0:  # else the readout lacks rank, and l* is above 0
        assert found == depth.entry_layer(problem, u)


def test_a_tie_and_nan_are_no_right_answers():
    z = torch.tensor([[1.0, 1.0], [torch.nan, 0.0], [2.0, 1.0]])
    assert is_right(z, torch.tensor([0, 0, 0])).tolist() == [False, False, True]


def test_the_entry_is_where_the_data_cost_has_settled_for_good():
    F = np.array([1.0, 0.1, 0.5, 0.105, 0.1])
    assert turnpike_entry(F, 2, 0.9) == 3
    assert turnpike_entry(np.array([1.0, 0.5, 0.1]), 2, 0.9) == 2
    assert turnpike_entry(np.array([0.1, 0.1]), 2, 0.9) == 0
    assert turnpike_entry(np.array([np.nan, 0.1]), 2, 0.9) == 1


def test_norms_count_everything_in_a_layer(make_problem):
    problem, u = make_problem(4)
    assert problem.block == "double"
    assert control_norms(Network(problem, u)) == pytest.approx(u.norms(), rel=1e-13)
