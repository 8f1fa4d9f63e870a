"""Gradient, costate and both Hessians against the reference, differences and a full KKT matrix."""

import itertools

import numpy as np
import problems
import pytest
from small_minima import small, solved

from ocp import controls as containers
from ocp.controls import Controls, flatten, unflatten
from ocp.evaluation import hessian_products, rollout
from verification.evaluation import adjoint, hessian, states

KINDS = list(itertools.product(("euler", "heun", "rk4"), ("single", "double")))


@pytest.mark.parametrize("seed", range(40))
def test_everything_agrees_with_the_reference_on_random_problems(seed):
    rng = np.random.default_rng(seed)
    scheme = ("euler", "heun", "rk4")[seed % 3]
    activation = ("tanh", "softsign", "gelu", "silu", "sigmoid", "softplus", "relu")[seed % 7]
    problem = problems.random_problem(rng, scheme, activation)
    u = containers.random_start(problem, rng, 0.5)
    J = float(rollout.objective(problem, u))
    g, costate = rollout.gradient(problem, u)
    H = hessian_products.reduced_hessian(problem, u)
    close = lambda a, b: np.testing.assert_allclose(  # noqa: E731
        a, b, rtol=1e-11, atol=1e-11 * max(1.0, np.abs(b).max())
    )
    close(states.objective(problem, u), J)
    close(states.survey(problem, u).objective, J)
    close(adjoint.gradient(problem, u)[0], g)
    close(hessian.by_condensing(problem, u), H)
    close(hessian.by_products(problem, u), H)
    batch = next(states.batches(problem))
    run = states.propagate(problem, u, batch)
    close(adjoint.multipliers(problem, u, batch, run).costate, costate)
    close(adjoint.multipliers(problem, u, batch, run, costate).costate, costate)


@pytest.mark.parametrize(("scheme", "block"), KINDS)
def test_batches_change_nothing(scheme, block, monkeypatch):
    problem = small(scheme=scheme, block=block, trained=("layers", "lift", "readout"))
    u = containers.random_start(problem, np.random.default_rng(0), 0.5)
    whole = states.survey(problem, u), adjoint.gradient(problem, u)[0]
    H = hessian.by_condensing(problem, u)
    monkeypatch.setattr(states, "BATCH_BYTES", 2000)
    monkeypatch.setattr(hessian, "TANGENT_BYTES", 8000)
    assert len(list(states.batches(problem))) >= 2
    parts = states.survey(problem, u), adjoint.gradient(problem, u)[0]
    for name in ("objective", "layer_cost", "data_cost", "g", "final_logits", "saturated"):
        np.testing.assert_allclose(getattr(parts[0], name), getattr(whole[0], name), rtol=1e-13)
    np.testing.assert_allclose(parts[1], whole[1], atol=1e-14)
    np.testing.assert_allclose(hessian.by_condensing(problem, u), H, atol=1e-13)
    np.testing.assert_allclose(hessian.by_products(problem, u), H, atol=1e-13)


@pytest.mark.parametrize(("scheme", "block"), KINDS)
def test_the_costate_is_the_derivative_of_the_cost_to_go(scheme, block):
    """Central differences of the tail's cost in its own initial state: error about 1e-10."""
    problem = small(scheme=scheme, block=block)
    u = containers.random_start(problem, np.random.default_rng(1), 0.5)
    batch = next(states.batches(problem))
    run = states.propagate(problem, u, batch)
    costate = adjoint.multipliers(problem, u, batch, run).costate
    for k, i, j in [(0, 0, 0), (1, 3, 1), (2, 11, 0), (3, 5, 1)]:
        tail = u.layers(k, problem.depth)

        def cost_to_go(shift, k=k, i=i, j=j, tail=tail):
            x = run.X[k].copy()
            x[i, j] += shift
            return states.objective(problem.with_(inputs=x, depth=problem.depth - k), tail)

        step = 1e-5
        difference = (cost_to_go(step) - cost_to_go(-step)) / (2 * step)
        assert costate[k, i, j] == pytest.approx(difference, abs=2e-10)


def test_inertia_of_the_full_kkt_matrix_is_that_of_haynsworth():
    """The Lagrangian's second differences in states, controls and multipliers, all variables."""
    for problem, u, negative in (
        (*solved(depth=2, n_classes=2), 0),
        (*saddle(), 1),
    ):
        H = hessian.spectrum(problem, u)
        minus = int((H.eigenvalues < -H.band).sum())
        assert minus >= negative
        K = _full_kkt(problem, u)
        n_states = problem.depth * problem.width * problem.n_samples
        values = np.linalg.eigvalsh(K)
        assert np.abs(values).min() > 1e-5
        assert int((values < 0).sum()) == n_states + minus


def saddle():
    from zoo import widened

    return widened(*solved(depth=2, n_classes=2))


def _full_kkt(problem, u):
    """[[W, J'], [J, 0]] of L = J(x, u) + lambda'(x_{k+1} - Phi), by differences of its gradient."""
    batch = next(states.batches(problem))
    X = states.propagate(problem, u, batch).X
    costate = rollout.gradient(problem, u)[1]
    N, n_d, n = problem.depth, problem.n_samples, problem.width
    sizes = (N * n_d * n, problem.n_decision, N * n_d * n)
    # L = J + sum (x_{k+1} - Phi)' mu with mu = -lambda at a stationary point
    w = np.concatenate([X[1:].ravel(), flatten(u), -costate[1:].ravel()])

    def gradient(w):
        x, v, mu = np.split(w, np.cumsum(sizes)[:-1])
        x = np.concatenate([X[:1], x.reshape(N, n_d, n)])
        mu, c = mu.reshape(N, n_d, n), unflatten(problem, v)
        dx, dA, db, residual = np.zeros_like(x), [], [], []
        for k in range(N):
            s = np.tanh(x[k] @ c.A[k].T + c.b[k])
            residual.append(x[k + 1] - x[k] - problem.h * s)
            zeta = -problem.h * (1 - s**2) * mu[k]
            dx[k] += _slope(problem, x[k]) * problem.h - mu[k] + zeta @ c.A[k]
            dx[k + 1] += mu[k]
            dA.append(zeta.T @ x[k] + problem.h * problem.r * c.A[k])
            db.append(zeta.sum(axis=0) + problem.h * problem.r * c.b[k])
        dx[N] += problem.gamma * _slope(problem, x[N])
        du = flatten(Controls(A=np.stack(dA), b=np.stack(db)))
        return np.concatenate([dx[1:].ravel(), du, np.concatenate(residual).ravel()])

    assert np.abs(gradient(w)).max() < 1e-9
    step = 1e-5
    K = np.stack(
        [(gradient(w + step * e) - gradient(w - step * e)) / (2 * step) for e in np.eye(len(w))]
    )
    return 0.5 * (K + K.T)


def _slope(problem, x):
    z = x @ problem.readout_weight.T + problem.readout_bias
    p = np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)
    return (p - problem.soft_targets) @ problem.readout_weight / problem.n_samples


def test_an_hessian_that_is_not_finite_is_refused():
    problem = small(activation="identity")
    u = Controls(A=np.full((4, 2, 2), 1e200), b=np.zeros((4, 2)))
    with np.errstate(all="ignore"), pytest.raises(FloatingPointError):
        hessian.spectrum(problem, u)


@pytest.mark.parametrize("scheme", ["euler", "rk4"])
def test_products_take_as_many_directions_at_once_as_the_memory_allows(monkeypatch, scheme):
    problem, u = solved(scheme=scheme)
    stages = {"euler": 1, "rk4": 4}[scheme]
    numbers = problem.n_samples * problem.width * problem.depth * stages * 3
    whole = hessian.by_products(problem, u)
    seen, tangent = [], hessian._tangent

    def counting(*arguments):
        seen.append(len(arguments[-1]))
        return tangent(*arguments)

    monkeypatch.setattr(hessian, "_tangent", counting)
    monkeypatch.setattr(hessian, "TANGENT_BYTES", 8 * numbers * 5)
    assert np.allclose(hessian.by_products(problem, u), whole, rtol=1e-13, atol=1e-16)
    d = problem.n_decision
    assert seen == [5] * (d // 5) + [d % 5] * (d % 5 > 0)


@pytest.mark.parametrize(("copies", "scheme", "stages"), [(1, "euler", 1), (2, "rk4", 4)])
def test_batches_take_as_many_samples_as_the_memory_allows(monkeypatch, copies, scheme, stages):
    problem = small(scheme=scheme)
    numbers = problem.depth * stages * (4 * 2 + 2 * 2) + 2  # states, logits; inputs
    monkeypatch.setattr(states, "BATCH_BYTES", 8 * copies * numbers * 6 - 1)
    found = list(states.batches(problem, copies=copies))
    assert [len(batch.s) for batch in found] == [5, 5, 2]
    assert np.array_equal(np.concatenate([batch.s for batch in found]), problem.inputs)
    assert np.array_equal(np.concatenate([batch.labels for batch in found]), problem.labels)
    assert [(batch.rows.start, batch.rows.stop) for batch in found] == [(0, 5), (5, 10), (10, 12)]
    monkeypatch.setattr(states, "BATCH_BYTES", 0)
    assert all(len(batch.s) == 1 for batch in states.batches(problem))
