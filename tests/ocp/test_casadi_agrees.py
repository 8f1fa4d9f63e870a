"""CasADi and NumPy, written independently, agree on 200 random problems; then on full KKT."""

import casadi as ca
import numpy as np
import pytest
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from problems import SMOOTH, random_problem

from ocp.controls import flatten, random_start
from ocp.evaluation.hessian_products import reduced_hessian
from ocp.evaluation.rollout import gradient, objective, rollout
from ocp.problem import SCHEMES
from ocp.solvers.multiple_shooting import multiple_shooting, single_shooting

PAIRS = [(s, a) for s in SCHEMES for a in SMOOTH]
EXAMPLES = 12  # a pair


def relative_error(found, wanted) -> float:
    return float(np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max()))


@pytest.mark.parametrize(("scheme", "activation"), PAIRS)
def test_objective_gradient_costate_and_hessian_agree(scheme, activation):
    drawn = []

    @seed(20240519)
    @settings(max_examples=EXAMPLES, deadline=None, database=None,
              suppress_health_check=list(HealthCheck))  # fmt: skip
    @given(st.integers(0, 2**32 - 1))
    def agree(number):
        rng = np.random.default_rng(number)
        problem = random_problem(rng, scheme, activation)
        controls = random_start(problem, rng)
        compare(problem, controls)
        drawn.append(number)

    agree()
    # else it would have checked nothing, or one problem again and again
    assert len(set(drawn)) >= 3


def compare(problem, controls) -> None:
    X = rollout(problem, controls).X
    J = objective(problem, controls)
    g, costate = gradient(problem, controls)
    H = reduced_hessian(problem, controls)
    # single shooting: objective, gradient and Hessian of J(u)
    program = single_shooting(problem)
    x, f = program.nlp["x"], program.nlp["f"]
    hessian, slope = ca.hessian(f, x)
    evaluate = ca.Function("J", [x], [f, slope, hessian])
    w = program.packing.pack(controls, X)
    value, slope, hessian = (np.array(v) for v in evaluate(w))
    order = program.packing.order()
    assert relative_error(value, J) <= 1e-12
    assert relative_error(slope.ravel()[order], g) <= 1e-12
    assert relative_error(hessian[np.ix_(order, order)], H) <= 1e-12
    # multiple shooting: feasible at the rollout, stationary in the states with lam_g = -costate
    program = multiple_shooting(problem)
    x, f, constraint = (program.nlp[key] for key in ("x", "f", "g"))
    multipliers = ca.MX.sym("lam_g", constraint.numel())
    lagrangian = f + ca.dot(multipliers, constraint)
    evaluate = ca.Function("L", [x, multipliers], [f, constraint, ca.gradient(lagrangian, x)])
    lam_g = program.packing.multipliers(costate)
    assert np.array_equal(program.packing.costate(lam_g), costate[1:])
    value, violation, slope = (
        np.array(v).ravel() for v in evaluate(program.packing.pack(controls, X), lam_g)
    )
    in_controls, in_states = program.packing.unpack(slope)
    assert relative_error(value, J) <= 1e-12
    assert relative_error(violation, 0 * violation) <= 1e-12 * max(1.0, np.abs(X).max())
    assert relative_error(flatten(in_controls), g) <= 1e-12
    # the wrong sign of the costate would leave twice the adjoint here
    scale = max(1.0, np.abs(costate).max())
    assert np.abs(in_states).max() <= 1e-12 * scale


def test_the_pairs_make_two_hundred_problems():
    assert len(PAIRS) * EXAMPLES >= 200


def test_kinked_activations_follow_the_conventions_in_casadi_too():
    from problems import spirals

    from ocp.solvers.multiple_shooting import activation

    v = ca.SX.sym("v")
    for name, value, slope in (("relu", 0.0, 0.0), ("leaky_relu", 0.0, 0.01), ("softsign", 0, 1)):
        problem = spirals(activation=name)
        sigma = activation(problem, v)
        second, first = ca.hessian(sigma, v)
        f = ca.Function("f", [v], [sigma, first, second])
        assert [float(o) for o in f(0.0)] == [value, slope, 0.0]
        for at in (-1.5, 0.3):
            expected = problem.sigma.derivatives(np.array(at), 2)
            assert np.allclose([float(o) for o in f(at)], [float(e) for e in expected], rtol=1e-14)
