"""The ball model: its enclosures contain the reference values, to sixty digits."""

import mpmath
import numpy as np
import oracle_digits
import pytest

from ocp import activations, controls
from ocp.controls import flatten, unflatten
from ocp.evaluation import assembly, rollout
from ocp.problem import SCHEMES, Problem
from verification.balls import (
    arithmetic as balls,
)
from verification.balls import (
    hessian as ball_hessian,
)
from verification.balls import (
    model as ball_model,
)

flint = pytest.importorskip("flint")


def wrong_by(found: np.ndarray, exact: np.ndarray) -> float:
    return float(np.abs(balls.nearest(found) - exact).max() / (1 + np.abs(exact).max()))


def some_problem(rng, **changes) -> Problem:
    keys = {
        "inputs": rng.standard_normal((4, 2)),
        "labels": np.array([0, 1, 0, 1]),
        "n_classes": 3,
        "depth": 3,
        "width": 3,
        "p_d": 0.8,
        "r": 0.01,
        "readout_weight": rng.standard_normal((3, 3)),
        "readout_bias": rng.standard_normal(3),
        "lift_bias": rng.standard_normal(3),
    }
    return Problem(**(keys | changes))


@pytest.mark.parametrize("activation", activations.NAMES)
@pytest.mark.parametrize(
    ("scheme", "block"), [(s, b) for s in SCHEMES for b in ("single", "double")]
)
def test_objective_gradient_and_hessian_equal_the_float_reference(scheme, block, activation):
    # two implementations in two arithmetics; float64 rounding is all that separates them
    rng = np.random.default_rng(5)
    for trained in (("layers",), ("layers", "lift", "readout")):
        problem = some_problem(
            rng,
            scheme=scheme,
            block=block,
            activation=activation,
            trained=trained,
            r_ends=0.1 if len(trained) > 1 else 0.0,
            beta=int(rng.integers(2)),
        )
        u = controls.random_start(problem, rng)
        with balls.precision(128):
            model, thin = ball_model.ball_model(problem), balls.exact(flatten(u))
            J = ball_model.objective(model, thin)
            g, H = ball_hessian.gradient_and_hessian(model, thin)
            g_alone = ball_model.gradient(model, thin)
        assert float(J.mid()) == pytest.approx(float(rollout.objective(problem, u)), rel=1e-13)
        assert wrong_by(g, rollout.gradient(problem, u)[0]) < 1e-13
        assert wrong_by(g_alone, rollout.gradient(problem, u)[0]) < 1e-13
        assert wrong_by(H, assembly.assembled_hessian(problem, u)) < 1e-13
        # leaky_relu: the ball holds both .01 and its nearest float, 2e-19 apart
        assert balls.magnitude(H - balls.mid(H)).max() < (
            1e-30 if activation != "leaky_relu" else 1e-15
        )


@pytest.mark.parametrize(
    ("scheme", "block", "activation"),
    [("euler", "single", "tanh"), ("heun", "double", "gelu"), ("rk4", "single", "softplus")],
)
def test_hessians_at_random_points_of_a_box_lie_in_its_enclosure(scheme, block, activation):
    rng = np.random.default_rng(11)
    problem = some_problem(
        rng, scheme=scheme, block=block, activation=activation, trained=("layers", "readout")
    )
    u, radius = flatten(controls.random_start(problem, rng)), 1e-4
    with balls.precision(64):
        model = ball_model.ball_model(problem)
        box = balls.ball(balls.exact(u), radius)
        J = ball_model.objective(model, box)
        g, H = ball_hessian.gradient_and_hessian(model, box)
    low = lambda b: np.array([balls.lower(x) for x in b.ravel()]).reshape(b.shape)  # noqa: E731
    high = lambda b: np.array([balls.upper(x) for x in b.ravel()]).reshape(b.shape)  # noqa: E731
    for trial in range(60):
        # corners are the extreme points; the rest lies inside
        step = rng.choice([-1.0, 1.0], len(u)) if trial % 2 else rng.uniform(-1, 1, len(u))
        at = unflatten(problem, u + radius * step)
        H_here = assembly.assembled_hessian(problem, at)
        g_here, J_here = rollout.gradient(problem, at)[0], float(rollout.objective(problem, at))
        room = 1e-12  # float64 rounding of the sampled values
        assert (H_here >= low(H) - room).all() and (H_here <= high(H) + room).all()
        assert (g_here >= low(g) - room).all() and (g_here <= high(g) + room).all()
        assert balls.lower(J) - room <= J_here <= balls.upper(J) + room


@pytest.mark.parametrize("name", activations.NAMES)
def test_activation_balls_contain_values_of_sixty_digits(name):
    from verification.balls.activations import ContainsKink, derivatives

    plain = activations.Activation(name)
    sigma = activations.Activation(name, plain.shiftable, 3.0 if plain.has_sharpness else 1.0)
    with mpmath.workdps(60):
        exact = lambda v: oracle_digits.sigma(sigma, v)[0]  # noqa: E731
        for middle in (-40.0, -3.0, -0.2, 0.3, 2.0, 30.0):
            ball = balls.ball(balls.exact(np.array([middle])), 1e-3)
            with balls.precision(100):
                found = derivatives(sigma, ball, 2)
            for t in (-1, -0.5, 0, 0.7, 1):
                v = mpmath.mpf(middle) + mpmath.mpf(t) / 1000
                for order in range(3):
                    value = mpmath.diff(exact, v, order) if order else exact(v)
                    if plain.piecewise_linear and order == 2:
                        value = mpmath.mpf(0)
                    error = mpmath.mpf(10) ** (-15 if order else -40)
                    assert _inside(found[order][0], value, error)
    around = balls.ball(balls.exact(np.array([0.0])), 1e-9)
    if plain.kink:
        with pytest.raises(ContainsKink):
            derivatives(sigma, around, 2)
    else:
        assert all(x[0].is_finite() for x in derivatives(sigma, around, 2))


def _inside(ball, value, error) -> bool:
    text = mpmath.nstr(value, 50)
    return bool(ball.overlaps(flint.arb(text, float(error))))


def _mp_objective(problem: Problem, u) -> mpmath.mpf:
    """J in 60 digits, straight from the statement, tanh and block single."""
    mp = mpmath.mpf
    nodes, weights = SCHEMES[problem.scheme]
    third = {1 / 3: mp(1) / 3, 1 / 6: mp(1) / 6}
    n, N, n_d = problem.width, problem.depth, problem.n_samples
    p = mp(problem.p_d)
    eps = (1 - p) / (problem.n_classes - 1)
    size = n * n + n

    def cost(x, y):
        z = [
            sum(mp(problem.readout_weight[j, l]) * x[l] for l in range(n))
            + mp(problem.readout_bias[j])
            for j in range(problem.n_classes)
        ]
        q = [p if j == y else eps for j in range(problem.n_classes)]
        total = mpmath.log(sum(mpmath.exp(v) for v in z))
        return (
            total
            - sum(a * b for a, b in zip(q, z, strict=True))
            + sum(a * mpmath.log(a) for a in q)
        )

    h, J = mp(problem.h), mp(0)
    for i in range(n_d):
        x = [
            sum(mp(a) * mp(s) for a, s in zip(row, problem.inputs[i], strict=True)) + mp(e)
            for row, e in zip(problem.lift_weight, problem.lift_bias, strict=True)
        ]
        y = problem.labels[i]
        for k in range(N):
            layer = u[k * size : (k + 1) * size]
            step, K = [mp(0)] * n, [mp(0)] * n
            for a, w in zip(nodes, weights, strict=True):
                X = [x[j] + h * mp(a) * K[j] for j in range(n)]
                K = [
                    mpmath.tanh(sum(layer[j * n + l] * X[l] for l in range(n)) + layer[n * n + j])
                    for j in range(n)
                ]
                w = third.get(w, mp(w))
                step = [step[j] + w * K[j] for j in range(n)]
                J += h * w * problem.beta * cost(X, y) / n_d
            x = [x[j] + h * step[j] for j in range(n)]
        J += mp(problem.gamma) * cost(x, y) / n_d
    return J + h * mp(problem.r) / 2 * sum(v * v for v in u)


@pytest.mark.parametrize("scheme", SCHEMES)
def test_the_interval_of_the_objective_contains_a_60_digit_evaluation_at_three_points(scheme):
    rng = np.random.default_rng(2)
    problem = some_problem(rng, scheme=scheme, p_d=0.7)
    u = flatten(controls.random_start(problem, rng))
    radius = 1e-9
    with mpmath.workdps(60):
        for bits, width in ((128, 0.0), (200, radius)):
            with balls.precision(bits):
                model = ball_model.ball_model(problem)
                J = ball_model.objective(model, balls.ball(balls.exact(u), width))
            for _ in range(3):
                step = [mpmath.mpf(t) * width for t in rng.uniform(-1, 1, len(u)).tolist()]
                point = [mpmath.mpf(v) + t for v, t in zip(u.tolist(), step, strict=True)]
                assert _inside(J, _mp_objective(problem, point), 1e-49)
        # and the enclosure is no wider than the arithmetic makes it
        with balls.precision(128):
            thin = ball_model.objective(ball_model.ball_model(problem), balls.exact(u))
        assert balls.upper(thin.rad()) < 1e-34


def test_one_minus_p_d_is_exact_and_not_its_rounding():
    problem = some_problem(np.random.default_rng(0), p_d=0.35, n_classes=3)
    with balls.precision(200):
        q = ball_model.ball_model(problem).targets[0]
        total = q[0] + q[1] + q[2] - 1
    assert total.contains(0) and balls.upper(abs(total)) < 1e-55


@pytest.mark.parametrize("radius", [0.0, 1e-25, 1e-6])
def test_softmax_contains_sixty_digits_however_it_is_summed(radius):
    # thin logits are taken relative to the largest, wide ones by their differences
    rng = np.random.default_rng(6)
    problem = some_problem(rng, n_classes=4, readout_weight=None, readout_bias=None, width=4,
                           lift_bias=None)  # fmt: skip
    z = np.array([[1.0, -2.0, 0.5, 30.0], [300.0, 299.0, -1e5, 1e-8], [7.0, 7.0, 7.0, 7.0]])
    with balls.precision(128), mpmath.workdps(60):
        model, C, c = ball_model.ball_model(problem), np.eye(4), np.zeros(4)
        box = balls.ball(balls.exact(z), radius)
        p = ball_model.softmax(model, balls.exact(C), balls.exact(c), box)
        for i, row in enumerate(z):
            for sign in (-1, 0, 1):
                at = [mpmath.mpf(v) for v in row]
                at[0] += sign * mpmath.mpf(radius)
                e = [mpmath.exp(v - max(at)) for v in at]
                for j, value in enumerate(e):
                    assert _inside(p[i, j], value / mpmath.fsum(e), 1e-50)
        wide = balls.magnitude(p - balls.mid(p)).max()
        assert wide < max(4 * radius, 1e-35)
