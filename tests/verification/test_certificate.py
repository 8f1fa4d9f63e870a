"""The certificate: what it proves, that the enclosures enclose, and that nothing false passes."""

import json
import math

import mpmath
import numpy as np
import pytest
from small_minima import minimise, small, solved

from ocp import activations, assembly, controls, datasets, rollout
from ocp.controls import flatten, unflatten
from ocp.files import TrainingFile
from ocp.problem import SCHEMES, Problem
from verification import ball_hessian, ball_model, balls, certificate, krawczyk, report
from verification.certificate import Outcome, certify, certify_minimum

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


# ------------------------------------------------------------------ the ball model itself


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
    from verification.ball_activations import ContainsKink, derivatives

    shiftable = name in activations.SHIFTABLE
    sigma = activations.Activation(name, shiftable, 3.0 if name == "softplus" else 1.0)
    with mpmath.workdps(60):
        exact = _mp_activation(sigma)
        for middle in (-40.0, -3.0, -0.2, 0.3, 2.0, 30.0):
            ball = balls.ball(balls.exact(np.array([middle])), 1e-3)
            with balls.precision(100):
                found = derivatives(sigma, ball, 2)
            for t in (-1, -0.5, 0, 0.7, 1):
                v = mpmath.mpf(middle) + mpmath.mpf(t) / 1000
                for order in range(3):
                    value = mpmath.diff(exact, v, order) if order else exact(v)
                    if name in ("relu", "leaky_relu") and order == 2:
                        value = mpmath.mpf(0)
                    error = mpmath.mpf(10) ** (-15 if order else -40)
                    assert _inside(found[order][0], value, error)
    around = balls.ball(balls.exact(np.array([0.0])), 1e-9)
    if name in ("relu", "leaky_relu", "softsign"):
        with pytest.raises(ContainsKink):
            derivatives(sigma, around, 2)
    else:
        assert all(x[0].is_finite() for x in derivatives(sigma, around, 2))


def _mp_activation(sigma):
    v0 = lambda f: lambda v: f(v) - (f(mpmath.mpf(0)) if sigma.shifted else 0)  # noqa: E731
    logistic = lambda v: 1 / (1 + mpmath.exp(-v))  # noqa: E731
    k = mpmath.mpf(sigma.sharpness)
    return {
        "tanh": mpmath.tanh,
        "softsign": lambda v: v / (1 + abs(v)),
        "identity": lambda v: +v,
        "relu": lambda v: max(v, mpmath.mpf(0)),
        "leaky_relu": lambda v: v if v > 0 else v * mpmath.mpf("0.01"),
        "gelu": lambda v: v * mpmath.ncdf(v),
        "silu": lambda v: v * logistic(v),
        "sigmoid": v0(logistic),
        "softplus": v0(lambda v: mpmath.log1p(mpmath.exp(k * v)) / k),
    }[sigma.name]


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


# ------------------------------------------------------------------ the certificate


def test_a_minimum_is_certified_with_distance_radius_curvature_and_objective():
    problem, u = solved()
    found = certify_minimum(problem, flatten(u))
    assert found.outcome is Outcome.MINIMUM, found.reason
    H = assembly.assembled_hessian(problem, u)
    least = np.linalg.eigvalsh(H)[0]
    newton = np.linalg.solve(H, rollout.gradient(problem, u)[0])
    # float64 knows the minimiser to |g|/lambda_min, about 1e-14 here
    assert found.distance < 1e-10 and found.distance >= 0.3 * np.abs(newton).max()
    assert 0 < found.min_curvature <= least * (1 + 1e-6)
    assert found.distance <= found.distance_2 <= found.distance * math.sqrt(len(H)) * 1.001
    assert found.objective_upper - found.objective_lower < 1e-15
    assert found.objective_lower <= float(rollout.objective(problem, u)) + 1e-14
    assert 0 < found.rho < 1 and found.dominance > 0.99 and found.bits == 128
    assert found.grad_lower <= np.abs(rollout.gradient(problem, u)[0]).max() + 1e-14


def test_the_minimiser_found_in_80_digits_lies_within_the_distance_and_the_interval():
    # Newton's method in mpmath-free high precision: ball midpoints at 300 bits, no Krawczyk
    problem, u = solved()
    stored = flatten(u) + 1e-9 * np.random.default_rng(3).standard_normal(problem.n_decision)
    found = certify_minimum(problem, stored)
    assert found.outcome is Outcome.MINIMUM, found.reason
    with balls.precision(300):
        model, x = ball_model.ball_model(problem), balls.exact(stored)
        inverse = np.linalg.inv(assembly.assembled_hessian(problem, u))
        for _ in range(60):
            g = ball_model.gradient(model, x)
            x = balls.mid(x - balls.matmul(balls.exact(inverse), balls.mid(g)[:, None])[:, 0])
        assert balls.magnitude(ball_model.gradient(model, x)).max() < 1e-60
        away = balls.magnitude(x - balls.exact(stored))
        J = ball_model.objective(model, x)
        inner = flint.arb(found.objective_digits.strip("[]"))
    assert away.max() <= found.distance <= away.max() * (1 + 1e-6) + 1e-30
    assert np.linalg.norm(away) <= found.distance_2
    assert inner.overlaps(J)
    assert found.objective_lower <= balls.upper(J) and balls.lower(J) <= found.objective_upper


@pytest.mark.parametrize(
    "changes",
    [
        {"scheme": "heun", "activation": "gelu"},
        {"scheme": "rk4", "activation": "softplus", "depth": 2},
        {"block": "double", "activation": "silu", "depth": 2},
        {"activation": "sigmoid", "trained": ("layers", "readout"), "r_ends": 0.05},
        {"trained": ("layers", "lift"), "r_ends": 0.05, "beta": 0},
        {"p_d": 1.0},
    ],
    ids=lambda c: "-".join(str(v) for v in c.values()),
)
def test_every_scheme_block_end_and_activation_can_be_certified(changes):
    problem, u = solved(**changes)
    least = np.linalg.eigvalsh(assembly.assembled_hessian(problem, u))[0]
    found = certify_minimum(problem, flatten(u))
    if least > 1e-8:
        assert found.outcome is Outcome.MINIMUM, found.reason
        assert found.min_curvature <= least * (1 + 1e-6)
    else:
        assert found.outcome is not Outcome.MINIMUM


def test_a_saddle_with_gradient_of_rounding_is_proved_to_be_no_minimum():
    # block double: u = 0 is stationary for any data, and W sigma(b) is a product of two unknowns
    problem = small(block="double", depth=2)
    u = flatten(controls.zeros(problem))
    assert np.abs(rollout.gradient(problem, unflatten(problem, u))[0]).max() < 1e-15
    least = np.linalg.eigvalsh(assembly.assembled_hessian(problem, unflatten(problem, u)))[0]
    assert least < -1e-4
    found = certify_minimum(problem, u)
    assert found.outcome is Outcome.SADDLE, found.reason
    assert least * 1.01 <= found.curvature_witness < 0
    (line,) = certify(_file(problem, u))
    assert line.verdict is report.Verdict.FAILED and line.kind == "claim"


def test_a_minimum_inside_an_unused_coordinate_is_not_certified_as_one():
    inner, start = solved(r=1e-3)
    problem = small(r=1e-3, width=3)
    A, b = np.zeros((4, 3, 3)), np.zeros((4, 3))
    A[:, :2, :2], b[:, :2] = start.A, start.b
    u = controls.Controls(A=A, b=b)
    H = assembly.assembled_hessian(problem, u)
    found = certify_minimum(problem, flatten(u))
    if np.linalg.eigvalsh(H)[0] < -1e-9:
        assert found.outcome is Outcome.SADDLE
    else:
        assert found.outcome is Outcome.MINIMUM
    assert float(rollout.objective(problem, u)) == pytest.approx(
        float(rollout.objective(inner, start)), abs=1e-14
    )


@pytest.mark.parametrize("least_wanted", [-1e-6, 1e-6])
def test_one_eigenvalue_of_minus_1e_6_decides(least_wanted, monkeypatch):
    # J plus a quadratic about the minimum that moves the least eigenvalue to the wanted value
    problem, u = solved()
    values, vectors = np.linalg.eigh(assembly.assembled_hessian(problem, u))
    bend = (least_wanted - values[0]) * np.outer(vectors[:, 0], vectors[:, 0])
    hessian, slope, here = balls.exact(bend), ball_model.gradient, balls.exact(flatten(u))
    both = ball_hessian.gradient_and_hessian
    extra = lambda box: balls.matmul(hessian, (box - here)[:, None])[:, 0]  # noqa: E731

    def bent(model, box, progress=None):
        g, H = both(model, box, progress)
        return g + extra(box), H + hessian

    for module in (certificate, krawczyk):
        monkeypatch.setattr(module, "gradient_and_hessian", bent)
        monkeypatch.setattr(module, "gradient", lambda model, box: slope(model, box) + extra(box))
    found = certify_minimum(problem, flatten(u))
    wanted = Outcome.MINIMUM if least_wanted > 0 else Outcome.SADDLE
    assert found.outcome is wanted, found.reason


def test_a_wrong_point_is_not_applicable_and_never_passes():
    problem, u = solved()
    moved = flatten(u)
    moved[3] += 1e-5
    (line,) = certify(_file(problem, moved))
    assert line.verdict is report.Verdict.NOT_APPLICABLE and "not stationary" in line.message
    # asked for at any tolerance, the distance tells
    found = certify_minimum(problem, moved)
    assert found.outcome is Outcome.MINIMUM and found.distance >= 0.99e-5
    random = flatten(controls.random_start(problem, np.random.default_rng(0)))
    assert certify_minimum(problem, random).outcome is Outcome.UNDECIDED


def test_null_directions_are_not_certified_and_named():
    problem = small(r=0.0)
    _, u = solved(r=1e-2)
    point = minimise(problem, u)
    found = certify_minimum(problem, flatten(point))
    assert found.outcome is Outcome.UNDECIDED and "null direction" in found.reason
    lines = certify(_file(problem, flatten(point)), tol=1e-3)
    assert lines[0].verdict is report.Verdict.INCONCLUSIVE
    # exactly singular, exactly stationary: no data cost, no r in the idle directions
    idle = small(r=0.0, activation="identity", labels=np.arange(12) % 2, inputs=np.zeros((12, 2)))
    found = certify_minimum(idle, flatten(controls.zeros(idle)))
    assert found.outcome is Outcome.UNDECIDED and "singular" in found.reason


def test_more_bits_are_taken_when_the_curvature_is_small():
    # one layer, sigma = identity, convex in u: curvature h r alone in the idle directions
    inputs = np.array([[1.0], [-1.0]])
    problem = Problem(
        inputs=inputs,
        labels=np.array([0, 1]),
        n_classes=2,
        depth=1,
        width=2,
        r=1e-13,
        activation="identity",
    )
    u = minimise(problem, controls.random_start(problem, np.random.default_rng(1)))
    found = certify_minimum(problem, flatten(u), bits=64)
    least = np.linalg.eigvalsh(assembly.assembled_hessian(problem, u))[0]
    assert least < 1e-12
    assert found.outcome is not Outcome.SADDLE
    if found.outcome is Outcome.MINIMUM:
        assert 0 < found.min_curvature < 1e-12


def test_boxes_that_contain_a_kink_are_refused():
    inputs, labels = datasets.circles(6)
    problem = Problem(
        inputs=inputs, labels=labels, n_classes=2, depth=2, width=2, activation="relu"
    )
    u = flatten(controls.zeros(problem))  # every pre-activation is 0
    found = certify_minimum(problem, u)
    assert found.outcome is Outcome.UNDECIDED
    assert "kink: layer 0, sample 0, unit 0" in found.reason
    (line,) = certify(_file(problem, u), tol=1.0)
    assert line.verdict is report.Verdict.INCONCLUSIVE
    # the same for softsign, whose second derivative jumps
    soft = problem.with_(activation="softsign")
    assert "kink" in certify_minimum(soft, u).reason


def test_relu_away_from_kinks_is_certified():
    # the bias keeps the pre-activations of one active layer off the kink; beta = 0, gamma = 1
    inputs = np.array([[2.0, 1.0], [1.0, 2.0]])
    problem = Problem(
        inputs=inputs,
        labels=np.array([0, 1]),
        n_classes=2,
        depth=1,
        width=2,
        beta=0,
        activation="leaky_relu",
        r=0.1,
    )
    start = controls.Controls(A=np.array([[[1.0, 0.2], [-0.2, 1.0]]]), b=np.ones((1, 2)))
    u = minimise(problem, start)
    found = certify_minimum(problem, flatten(u))
    gradient = np.abs(rollout.gradient(problem, u)[0]).max()
    assert (found.outcome is Outcome.MINIMUM) == (gradient < 1e-9), (found.reason, gradient)


def test_overflow_is_no_certificate():
    problem = small(activation="identity")
    u = np.full(problem.n_decision, 1e200)
    lines = certify(_file(problem, u))
    assert all(line.verdict is not report.Verdict.PASSED for line in lines)
    assert certify_minimum(problem, u).outcome is Outcome.UNDECIDED


def test_large_problems_are_refused_with_a_sentence():
    problem = small(depth=200, width=3)
    (line,) = certify(_file(problem, flatten(controls.zeros(problem))))
    assert line.verdict is report.Verdict.NOT_CHECKED and "2400" in line.message


def test_without_flint_a_clear_sentence(monkeypatch):
    monkeypatch.setattr(balls, "available", lambda: False)
    problem, u = solved()
    with pytest.raises(ValueError, match=r"python-flint.*certify"):
        certify(_file(problem, flatten(u)))


def test_progress_is_told_and_the_lines_are_json():
    problem, u = solved()
    told: list[str] = []
    lines = certify(_file(problem, flatten(u)), progress=told.append)
    assert told and all(text.startswith("certificate: ") for text in told)
    assert [line.name for line in lines] == [
        "certificate.minimum",
        "certificate.contraction",
        "certificate.curvature",
        "certificate.objective",
    ]
    made = report.Report(entries=lines)
    assert made.verdict is report.Verdict.PASSED
    assert "global" not in json.dumps(report.to_json(made))


# ------------------------------------------------------------------ the steps of the test


def test_outward_conversions_never_cut():
    rng = np.random.default_rng(0)
    with balls.precision(200):
        for value in rng.standard_normal(200):
            x = flint.arb(value) / 3
            third = flint.arb(balls.upper(x)), flint.arb(balls.lower(x))
            assert third[0] > x and third[1] < x
            assert flint.arb(float(balls.magnitude(np.array([x], dtype=object))[0])) > abs(x)
        tiny = flint.arb(2) ** -3000
        assert balls.upper(tiny) > 0 and balls.lower(tiny) <= 0
        huge = flint.arb(2) ** 3000
        assert balls.upper(huge) == math.inf and balls.lower(huge) < math.inf
    assert math.isnan(balls.upper(flint.arb("nan"))) and math.isnan(balls.lower(flint.arb("nan")))


def test_gershgorin_bounds_and_never_accepts_an_indefinite_matrix():
    rng = np.random.default_rng(4)
    for trial in range(20):
        Q, _ = np.linalg.qr(rng.standard_normal((12, 12)))
        values = 10.0 ** rng.uniform(-6, 3, 12)
        if trial % 2:
            values[0] *= -1
        M = Q @ np.diag(values) @ Q.T
        M = 0.5 * (M + M.T)
        margin = krawczyk.gershgorin(balls.exact(M), M)
        assert (margin > 0) == (trial % 2 == 0)
    # a Cholesky factor of another matrix proves nothing false
    assert krawczyk.gershgorin(balls.exact(-np.eye(3)), np.eye(3)) < 0
    wide = balls.ball(balls.exact(np.eye(3)), 0.6)
    assert krawczyk.gershgorin(wide, np.eye(3)) < 0


def test_the_defect_bounds_the_norm_of_i_minus_bh():
    rng = np.random.default_rng(6)
    H = rng.standard_normal((8, 8))
    B = np.linalg.inv(H)
    wide = krawczyk.defect_of(balls.exact(B), balls.ball(balls.exact(H), 1e-6))
    for _ in range(50):
        moved = H + 1e-6 * rng.uniform(-1, 1, H.shape)
        assert (np.abs(np.eye(8) - B @ moved) <= wide + 1e-12).all()


def test_no_box_is_found_where_the_hessian_is_too_wide_or_the_step_too_long(monkeypatch):
    d = 4
    centre, eye = balls.zeros(d), balls.exact(np.eye(d))
    # H(U) = 2 I + |u| (random): B = I/2 contracts on small boxes alone
    spread = {"wide": 1e3}

    def quadratic(model, box, progress=None):
        radius = balls.magnitude(box).max()
        return box, balls.ball(2.0 * eye, spread["wide"] * radius)

    monkeypatch.setattr(krawczyk, "gradient_and_hessian", quadratic)
    w, tau, rho, _ = krawczyk.widest_box(None, centre, 0.5 * eye, np.full(d, 1e-9), None)
    # |I - BH| = spread R/2 in every entry: rho = d spread tau/2
    assert rho == pytest.approx(d * 1e3 * tau / 2, rel=1e-6) and rho < 1.0
    assert (1e-9 + rho * tau * w < tau * w).all()
    # the Newton step must fit: it is longer than any box on which H contracts
    assert krawczyk.widest_box(None, centre, 0.5 * eye, np.full(d, 1e-2), None) is None
    # a Hessian that is wide on the smallest box contracts nowhere
    monkeypatch.setattr(
        krawczyk, "gradient_and_hessian", lambda *a: (centre, balls.ball(2.0 * eye, 0.6))
    )
    assert krawczyk.widest_box(None, centre, 0.5 * eye, np.full(d, 1e-30), None) is None
    unbounded = balls.apply(lambda x: x + flint.arb("nan"), eye)
    monkeypatch.setattr(krawczyk, "gradient_and_hessian", lambda *a: (centre, unbounded))
    assert krawczyk.widest_box(None, centre, 0.5 * eye, np.full(d, 1e-30), None) is None


def test_the_error_bound_holds_for_the_zero_of_a_perturbed_linear_map():
    rng = np.random.default_rng(12)
    for _ in range(200):
        w = rng.uniform(0.1, 1.0, 5)
        M = rng.standard_normal((5, 5))
        rho = float(rng.uniform(0.1, 0.9))
        M *= rho / (np.abs(M) @ w / w).max()
        step = rng.standard_normal(5)
        error = np.linalg.solve(np.eye(5) - M, step)
        bound = krawczyk.error_bound(np.abs(step), rho, w)
        assert (np.abs(error) <= bound).all()
    # attained: everything in one direction
    assert krawczyk.error_bound(np.ones(1), 0.75, np.ones(1))[0] == pytest.approx(4.0)


def test_the_curvature_bound_holds_and_is_attained():
    rng = np.random.default_rng(13)
    for _ in range(100):
        Q, _ = np.linalg.qr(rng.standard_normal((6, 6)))
        H = Q @ np.diag(10.0 ** rng.uniform(-3, 3, 6)) @ Q.T
        B = np.linalg.inv(H) * (1 + 0.05 * rng.uniform(-1, 1, H.shape))
        w = rng.uniform(0.1, 1.0, 6)
        rho = float((np.abs(np.eye(6) - B @ H) @ w / w).max())
        if rho < 1:
            bound = krawczyk.curvature_bound(np.abs(B), rho, w)
            assert 0 < bound <= np.linalg.eigvalsh(H)[0]
    # H = diag(2, 1.5) against B = I/2: rho = 1/4 and the bound is the least eigenvalue itself
    assert krawczyk.curvature_bound(np.eye(2) / 2, 0.25, np.ones(2)) == pytest.approx(1.5)


def _file(problem: Problem, u: np.ndarray) -> TrainingFile:
    return TrainingFile(problem=problem, controls=unflatten(problem, u))


@pytest.mark.slow
def test_the_default_spirals_are_certified():
    from ocp import continuation, solvers

    inputs, labels = datasets.spirals()
    problem = Problem(inputs=inputs, labels=labels, n_classes=2)
    solution = continuation.grow(problem, solvers.by_name("structured"), seed=0)
    u = flatten(solution.controls)
    assert len(u) == 240
    found = certify_minimum(problem, u)
    assert found.outcome is Outcome.MINIMUM, found.reason
    least = np.linalg.eigvalsh(assembly.assembled_hessian(problem, solution.controls))[0]
    assert 0.1 * least < found.min_curvature <= least * (1 + 1e-6)
    # the stored gradient is about 1e-9, the least curvature 1e-4; the box depends on the minimum
    assert found.distance < 1e-6 and found.radius > 0
    assert found.objective_lower - 1e-12 <= float(rollout.objective(problem, solution.controls))


def test_a_box_is_kept_only_where_the_newton_step_and_the_defect_fit_into_it(monkeypatch):
    monkeypatch.setattr(krawczyk, "_hessian_over", lambda *_: np.zeros((2, 2)))
    monkeypatch.setattr(krawczyk, "defect_of", lambda *_: 0.5 * np.eye(2))
    first = 0.3 * 2.0**-60 / 0.5  # radius of the first box that is tried, weights 1
    for share, kept in ((0.4, True), (0.7, False)):
        newton = np.full(2, share * first)
        found = krawczyk.widest_box(None, np.zeros(2), None, newton, None)
        assert (found is not None) is kept


def test_a_minimum_with_hard_labels_is_certified():
    problem = small(p_d=1.0)
    u = minimise(problem, controls.random_start(problem, np.random.default_rng(0), 0.5))
    found = certify_minimum(problem, flatten(u))
    assert found.outcome is Outcome.MINIMUM, found.reason
    J = float(rollout.objective(problem, u))
    assert found.objective_lower - 1e-14 <= J <= found.objective_upper + 1e-14
    assert found.objective_upper - found.objective_lower < 1e-15


@pytest.mark.parametrize(("growth", "calls_most"), [(1.0, 40), (3.0, 3)])
def test_newton_steps_that_do_not_shrink_are_said_to(monkeypatch, growth, calls_most):
    model = ball_model.ball_model(small())
    d, calls = model.problem.n_decision, []

    def growing(*_):
        calls.append(1)
        return balls.exact(np.full(d, 1e-3 * growth ** len(calls)))

    monkeypatch.setattr(krawczyk, "gradient", growing)
    monkeypatch.setattr(krawczyk, "gradient_and_hessian", lambda *_: (None, balls.exact(np.eye(d))))
    _, reason = krawczyk.polish(model, balls.exact(np.zeros(d)), balls.exact(np.eye(d)), 128)
    assert "do not shrink" in reason
    # steps that grow are given up at once, others after a dozen
    assert len(calls) <= calls_most


def test_why_the_polish_fails_is_said_unless_the_hessian_is_flat(monkeypatch):
    monkeypatch.setattr(certificate, "polish", lambda model, u, H, bits: (u, "the steps wander"))
    problem, u = solved()
    assert certify_minimum(problem, flatten(u)).reason == "the steps wander"
    problem, u = solved(r=0.0)
    assert certify_minimum(problem, flatten(u)).reason != "the steps wander"


def test_newton_steps_of_rounding_size_end_the_polish(monkeypatch):
    model = ball_model.ball_model(small())
    d = model.problem.n_decision
    monkeypatch.setattr(krawczyk, "gradient", lambda *_: balls.exact(np.full(d, 2.0**-70)))
    centre, reason = krawczyk.polish(model, balls.exact(np.zeros(d)), balls.exact(np.eye(d)), 128)
    assert reason == ""
    assert float(balls.magnitude(centre).max()) <= 2 * 2.0**-70
