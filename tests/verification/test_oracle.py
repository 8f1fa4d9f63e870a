"""The oracle is right: float64 against sixty digits, derivatives against each other and J."""

import mpmath
import numpy as np
import oracle
import oracle_digits
import pytest
from problems import circles, random_problem

from ocp.activations import NAMES


def drawn(name: str, scheme: str, seed: int = 0):
    rng = np.random.default_rng([seed, NAMES.index(name)])
    problem = random_problem(rng, scheme, name)
    return problem, 0.5 * rng.standard_normal(sum(np.prod(s) for _, s in oracle.shapes(problem)))


@pytest.mark.parametrize("scheme", ["euler", "heun", "rk4"])
@pytest.mark.parametrize("name", NAMES)
def test_autograd_and_sixty_digits_agree(name, scheme):
    problem, u = drawn(name, scheme)
    assert np.array_equal(oracle.flat(problem, oracle.controls_of(problem, u)), u)
    J, g, H = oracle.derivatives(problem, u)
    with oracle_digits.digits():
        digits = oracle_digits.value_and_gradient(problem, u)
        # J by differences of itself, once more independent: the gradient along one direction
        d = np.random.default_rng(1).standard_normal(len(u))
        v, t = oracle_digits.vector(u), mpmath.mpf(10) ** -25
        w = t * oracle_digits.vector(d)
        ahead, behind = (oracle_digits.objective(problem, x) for x in (v + w, v - w))
        slope = (ahead - behind) / (2 * t)
        assert abs(slope - digits[1].dot(oracle_digits.vector(d))) < 1e-20 * (1 + abs(slope))
        column = (
            oracle_digits.value_and_gradient(problem, v + w)[1]
            - oracle_digits.value_and_gradient(problem, v - w)[1]
        ) / (2 * t)
    # errors grow with the logits, up to 1e3 here
    assert abs(J - float(digits[0])) <= 1e-13 * max(1.0, abs(J))
    assert np.abs(g - digits[1].astype(float)).max() <= 1e-12 * max(1.0, np.abs(g).max())
    assert np.abs(H @ d - column.astype(float)).max() <= 1e-9 * max(1.0, np.abs(H).max())


def test_the_costate_is_the_adjoint_of_its_own_equations():
    problem, u = drawn("tanh", "rk4")
    costate = oracle.costate(problem, u)
    scale = np.abs(costate).max()
    assert oracle.costate_residuals(problem, u, costate).max() <= 1e-13 * scale
    costate[0, 0, 0] += scale
    assert np.argmax(oracle.costate_residuals(problem, u, costate)) == 0


def test_polish_finds_sixty_digits():
    problem = circles(6, r=0.1, depth=2, width=2)
    u = oracle.minimise(problem, 0.3 * np.random.default_rng(0).standard_normal(12))
    with oracle_digits.digits():
        point, H, g = oracle_digits.polish(problem, u)
        assert g < mpmath.mpf(10) ** -55
        assert max(abs(float(a) - b) for a, b in zip(point, u, strict=True)) < 1e-12
        assert oracle_digits.eigenvalues(H)[0] > 1e-3
