"""The torch model against the NumPy reference: the same statement, written twice."""

import numpy as np
import pytest
import torch
import torchdiffeq

from nn_baseline.model import Network, soft_cross_entropy
from ocp import controls, loss
from ocp.activations import NAMES
from ocp.evaluation import rollout

# Both sides round each of a few hundred operations to 1.1e-16 of values of order 1..100.
TOLERANCE = 1e-12


def tensors(problem):
    # torch wants memory that it may write to; the statement's arrays are read-only
    return torch.tensor(problem.inputs), torch.tensor(problem.labels)


def distance(found, wanted):
    """Largest difference relative to max(1, largest entry)."""
    found = found.detach().numpy() if isinstance(found, torch.Tensor) else found
    return np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max())


def differences(network, problem, u):
    """Objective, states, gradient and costate against the reference."""
    inputs, labels = tensors(problem)
    trajectory = rollout.rollout(problem, u, order=1)
    gradient, costate = rollout.gradient(problem, u, trajectory)
    network.zero_grad()
    J = network(inputs, labels)
    J.backward()
    return {
        "objective": distance(J, rollout.objective(problem, u, trajectory)),
        "states": distance(network.states(inputs), trajectory.X),
        "gradient": distance(network.gradient(), gradient),
        "costate": distance(network.costate(inputs, labels), costate),
    }


@pytest.mark.parametrize("seed", range(200))
def test_objective_states_gradient_and_costate_are_the_references(make_problem, seed):
    problem, u = make_problem(seed)
    found = differences(Network(problem, u), problem, u)
    assert max(found.values()) <= TOLERANCE, found


def test_the_200_problems_cover_every_scheme_block_activation_and_trained_end(make_problem):
    problems = [make_problem(seed)[0] for seed in range(200)]
    kinds = {(p.scheme, p.block, p.activation) for p in problems}
    assert len(kinds) == 3 * 2 * len(NAMES)
    assert len({p.trained for p in problems}) == 4
    assert {p.beta for p in problems} == {0, 1}
    assert any(p.p_d == 1.0 for p in problems)
    assert any(p.inputs.dtype == np.uint8 for p in problems)


@pytest.mark.parametrize("broken", ["h", "bias", "temperature", "p_d", "scheme", "quadrature"])
def test_a_model_with_one_ingredient_wrong_is_told_apart(make_problem, broken):
    problem, u = make_problem(1)  # heun, single, tanh
    assert problem.beta == 1
    network = Network(problem, u)
    if broken == "h":
        network.problem = problem.with_(h=problem.h * 1.01)
    elif broken == "bias":
        network.b.data.zero_()
    elif broken == "temperature":
        network.readout_weight.data.mul_(0.99)
    elif broken == "p_d":
        network.problem = problem.with_(p_d=0.5 * (problem.p_d + 1 / problem.n_classes))
    elif broken == "scheme":
        network.nodes, network.weights = (0.0, 0.5), (0.0, 1.0)  # the midpoint rule
    else:
        network.weights = (0.6, 0.4)
    found = differences(network, problem, u)
    assert found["objective"] > 1e-4, found


@pytest.mark.parametrize("seed", range(12))
def test_the_fused_loss_equals_the_loss_written_out(make_problem, seed):
    problem, u = make_problem(seed)
    network = Network(problem, u)
    inputs, labels = tensors(problem)
    costs = network.data_costs(network.costed(network.path(inputs)), labels)
    J = costs @ costs.new_tensor(network.cost_weights()) + network.penalty()
    J.backward()
    plain = network.gradient()
    network.zero_grad()
    fused = network(inputs, labels)
    fused.backward()
    assert abs(fused.item() - J.item()) <= TOLERANCE * max(1, abs(J.item()))
    assert distance(network.gradient(), plain) <= TOLERANCE


def test_soft_cross_entropy_is_the_statements_also_for_large_logits():
    rng = np.random.default_rng(0)
    z, y = 300 * rng.standard_normal((4, 7, 5)), rng.integers(0, 5, 7)
    for p_d in (0.3, 0.9, 1.0):
        found = soft_cross_entropy(torch.tensor(z), torch.tensor(y), p_d)
        assert distance(found, loss.soft_cross_entropy(z, loss.soft_target(y, 5, p_d))) <= 1e-13


def test_equal_mini_batches_average_to_the_objective(make_problem):
    problem, u = make_problem(2)
    problem = problem.with_(
        inputs=np.tile(problem.inputs, (3, 1)), labels=np.tile(problem.labels, 3)
    )
    rng = np.random.default_rng(0)
    order = rng.permutation(problem.n_samples)
    network = Network(problem, u)
    inputs, labels = tensors(problem)
    parts = [network(inputs[part], labels[part]).item() for part in np.split(order, 3)]
    assert np.mean(parts) == pytest.approx(rollout.objective(problem, u), abs=1e-12)


def test_shares_of_unequal_processes_average_to_the_objective(make_problem):
    problem, u = make_problem(4)
    network = Network(problem, u)
    inputs, labels = tensors(problem)
    B, cut = problem.n_samples, 1
    parts = [
        network(inputs[part], labels[part], share=2 * len(labels[part]) / B).item()
        for part in (slice(0, cut), slice(cut, B))
    ]
    assert np.mean(parts) == pytest.approx(rollout.objective(problem, u), abs=1e-12)


@pytest.mark.parametrize(("scheme", "method"), [("euler", "euler"), ("heun", "heun2")])
@pytest.mark.parametrize("seed", range(0, 24, 3))
def test_torchdiffeq_takes_the_same_steps(make_problem, scheme, method, seed):
    problem, u = make_problem(seed)
    problem = problem.with_(scheme=scheme)
    network = Network(problem, u)
    inputs, _ = tensors(problem)
    X = network.states(inputs)
    span = torch.tensor([0.0, problem.h], dtype=torch.float64)
    x = X[0]
    for k in range(problem.depth):

        def field(t, x, k=k):
            K = network.sigma(x @ network.A[k].T + network.b[k])
            return K if network.W is None else K @ network.W[k].T

        x = torchdiffeq.odeint(field, x, span, method=method)[-1]
        assert distance(X[k + 1], x.detach().numpy()) <= TOLERANCE


def test_float32_agrees_to_its_precision(make_problem):
    for seed in range(12):
        problem, u = make_problem(seed)
        network = Network(problem, u, dtype=torch.float32)
        inputs, labels = tensors(problem)
        inputs = inputs if inputs.dtype == torch.uint8 else inputs.float()
        J = network(inputs, labels)
        assert J.dtype == torch.float32
        # a few hundred roundings of 6e-8
        assert J.item() == pytest.approx(float(rollout.objective(problem, u)), rel=2e-5)


def test_the_default_start_is_near_zero_with_a_bias_that_is_not(make_problem):
    problem, _ = make_problem(1)
    network = Network(problem, scale=1e-2, seed=3)
    assert (network.b != 0).all() and network.b.abs().max() < 0.1
    again = Network(problem, scale=1e-2, seed=3)
    assert torch.equal(network.A, again.A)
    assert not torch.equal(network.A, Network(problem, scale=1e-2, seed=4).A)


def test_controls_come_back_bit_for_bit(make_problem):
    for seed in range(12):
        problem, u = make_problem(seed)
        back = Network(problem, u).controls()
        assert np.array_equal(controls.flatten(back), controls.flatten(u))


def test_controls_of_another_problem_are_refused(make_problem):
    problem, u = make_problem(1)
    with pytest.raises(ValueError, match="wanted"):
        Network(problem.with_(depth=problem.depth + 1), u)


@pytest.mark.parametrize("seed", range(12))
def test_nothing_is_created_on_a_hard_wired_device(make_problem, seed):
    """On the meta device an operation that mixes in a CPU tensor raises."""
    problem, u = make_problem(seed)
    network = Network(problem, u, device="meta")
    inputs, labels = (t.to("meta") for t in tensors(problem))
    J = network(inputs, labels)
    J.backward()
    assert J.device.type == "meta"
    assert all(p.grad.device.type == "meta" for p in network.parameters())
    assert network.states(inputs).device.type == "meta"


def test_bytes_without_a_scale_and_a_gradient_before_its_pass_are_refused(make_problem):
    network = Network(make_problem(1)[0])
    with pytest.raises(ValueError, match="inputs are bytes"):
        network.lift(torch.zeros(2, network.lift_weight.shape[1], dtype=torch.uint8))
    with pytest.raises(ValueError, match="A has no gradient"):
        network.gradient()
