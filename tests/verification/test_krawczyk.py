"""The steps of Krawczyk's test: each bound holds and is attained, and no false box is kept."""

import math

import numpy as np
import pytest
from small_minima import small

from verification.balls import arithmetic as balls
from verification.balls import krawczyk
from verification.balls.model import ball_model

flint = pytest.importorskip("flint")


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
    # a factor that overflows: LAPACK returns nan and no error
    flat = 5e-224 * np.eye(6)
    flat[0, 2] = flat[2, 0] = 7e198
    flat[3, 5] = flat[5, 3] = 7e98
    assert krawczyk.gershgorin(balls.exact(flat), flat) == -math.inf


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


def test_a_box_is_kept_only_where_the_newton_step_and_the_defect_fit_into_it(monkeypatch):
    monkeypatch.setattr(krawczyk, "_hessian_over", lambda *_: np.zeros((2, 2)))
    monkeypatch.setattr(krawczyk, "defect_of", lambda *_: 0.5 * np.eye(2))
    first = 0.3 * 2.0**-60 / 0.5  # radius of the first box that is tried, weights 1
    for share, kept in ((0.4, True), (0.7, False)):
        newton = np.full(2, share * first)
        found = krawczyk.widest_box(None, np.zeros(2), None, newton, None)
        assert (found is not None) is kept


@pytest.mark.parametrize(("growth", "calls_most"), [(1.0, 40), (3.0, 3)])
def test_newton_steps_that_do_not_shrink_are_said_to(monkeypatch, growth, calls_most):
    model = ball_model(small())
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


def test_newton_steps_of_rounding_size_end_the_polish(monkeypatch):
    model = ball_model(small())
    d = model.problem.n_decision
    monkeypatch.setattr(krawczyk, "gradient", lambda *_: balls.exact(np.full(d, 2.0**-70)))
    centre, reason = krawczyk.polish(model, balls.exact(np.zeros(d)), balls.exact(np.eye(d)), 128)
    assert reason == ""
    assert float(balls.magnitude(centre).max()) <= 2 * 2.0**-70
