"""The proof by midpoint-radius matrices: it agrees with the one in balls, and its steps hold."""

import math

import numpy as np
import pytest
from closed_forms import bowl, pair, valley
from small_minima import solved
from zoo import curvature_at

from ocp.controls import flatten
from ocp.evaluation.assembly import assembled_hessian
from verification.balls import arithmetic as balls
from verification.balls import by_balls, by_matrices, midrad
from verification.balls.activations import ContainsKink
from verification.balls.midrad import MidRad
from verification.balls.proof import Outcome
from verification.checks.certificate import certify_minimum

flint = pytest.importorskip("flint")


def both(problem, u, bits=128):
    """The certificates by matrices and by balls."""
    with balls.precision(bits):
        by_floats = by_matrices.attempt(problem, u, bits, lambda text: None)
        return by_floats, by_balls.attempt(problem, u, bits, lambda text: None)[0]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"scheme": "heun", "activation": "gelu"},
        {"scheme": "rk4", "activation": "softplus", "depth": 2},
        {"block": "double", "activation": "silu", "depth": 2},
        {"activation": "sigmoid", "trained": ("layers", "readout"), "r_ends": 0.05},
        {"trained": ("layers", "lift", "readout"), "r_ends": 0.05, "beta": 0},
        {"p_d": 1.0},
    ],
    ids=lambda c: "-".join(str(v) for v in c.values()),
)
def test_both_ways_prove_the_same_minimum(changes):
    problem, u = solved(**changes)
    stored = flatten(u) + 1e-10 * np.random.default_rng(0).standard_normal(problem.n_decision)
    found, oracle = both(problem, stored)
    assert found.outcome is oracle.outcome is Outcome.MINIMUM, found.reason
    # both distances bound that of the one minimiser, with errors far below it
    assert found.distance == pytest.approx(oracle.distance, rel=1e-6)
    assert found.distance_2 == pytest.approx(oracle.distance_2, rel=1e-6)
    assert (found.grad_lower, found.grad_upper) == (oracle.grad_lower, oracle.grad_upper)
    assert max(found.objective_lower, oracle.objective_lower) <= min(
        found.objective_upper, oracle.objective_upper
    )
    with balls.precision(200):
        inner = [flint.arb(c.objective_digits.strip("[]")) for c in (found, oracle)]
        assert inner[0].overlaps(inner[1])
        assert balls.upper(inner[0].rad()) < 1e-20
    least = np.linalg.eigvalsh(assembled_hessian(problem, u))[0]
    for c in (found, oracle):
        assert 1e-2 * least < c.min_curvature <= least * (1 + 1e-6)
        assert 0.9 < c.dominance <= 1.0
        assert 0.0 < c.rho < 1.0
    assert found.radius > 1e-2 * oracle.radius


@pytest.mark.parametrize("least", [-1e-6, 1e-6])
def test_one_eigenvalue_of_1e_6_decides(least):
    problem, u = curvature_at(least)
    for found in both(problem, flatten(u)):
        assert found.outcome is (Outcome.MINIMUM if least > 0 else Outcome.SADDLE), found.reason
        if least < 0:
            assert 2 * least < found.curvature_witness < 0.5 * least


def test_a_saddle_is_proved_and_what_floats_cannot_tell_is_left_to_balls():
    content = pair(4.0, r=0.5)
    found, _ = both(content.problem, flatten(content.controls))
    assert found.outcome is Outcome.SADDLE
    assert -0.25 <= found.curvature_witness == pytest.approx(-0.25, rel=1e-3)
    flat = pair(4.0, r=1.0)  # least curvature -1e-17
    found, oracle = both(flat.problem, flatten(flat.controls))
    assert (found.outcome, oracle.outcome) == (Outcome.UNDECIDED, Outcome.SADDLE)
    assert certify_minimum(flat.problem, flatten(flat.controls)).outcome is Outcome.SADDLE


@pytest.mark.parametrize(
    "content",
    [
        valley(2.0, 0.0, width=2, activation="identity", r=0.0),
        valley(2.0, 0.0, width=2, activation="identity", r=1e-17),
        valley(1e160, 0.0),
        valley(1e3, 2.5, r=1e-8, activation="identity"),
    ],
    ids=["null direction", "nearly one", "overflow", "no convergence"],
)
def test_degenerate_points_are_refused(content):
    found, _ = both(content.problem, flatten(content.controls))
    assert found.outcome is Outcome.UNDECIDED and found.reason
    assert math.isnan(found.min_curvature)


def test_a_kink_in_the_box_is_refused():
    content = bowl(activation="relu")
    with pytest.raises(ContainsKink) as kink, balls.precision(128):
        by_matrices.attempt(content.problem, flatten(content.controls), 128, lambda text: None)
    assert kink.value.index == (0, 0, 0)


def test_balls_decide_where_this_machine_does_not_round_to_nearest(monkeypatch):
    monkeypatch.setattr(midrad, "rounds_as_proved", lambda: False)
    monkeypatch.setattr(by_matrices, "attempt", None)
    content = bowl(r=0.75)
    found = certify_minimum(content.problem, flatten(content.controls))
    assert found.outcome is Outcome.MINIMUM


# --- the steps ----------------------------------------------------------------------------------


def boxed(mid, rad) -> MidRad:
    return MidRad(np.asarray(mid, dtype=float), np.broadcast_to(rad, np.shape(mid)).copy())


def test_gershgorin_never_accepts_a_box_with_an_indefinite_matrix():
    rng = np.random.default_rng(4)
    for trial in range(30):
        Q, _ = np.linalg.qr(rng.standard_normal((12, 12)))
        values = 10.0 ** rng.uniform(-6, 3, 12)
        if trial % 3 == 1:
            values[0] *= -1
        M = Q @ np.diag(values) @ Q.T
        M = 0.5 * (M + M.T)
        margin = by_matrices.gershgorin(boxed(M, 0.0))
        assert (margin > 0) == (trial % 3 != 1)
        assert margin <= 1.0
        # the box reaches a singular matrix
        assert by_matrices.gershgorin(boxed(M, np.abs(values).min())) <= 0
    assert by_matrices.gershgorin(boxed(np.eye(3), 0.6)) < 0
    assert by_matrices.gershgorin(boxed(np.full((2, 2), np.nan), 0.0)) == -math.inf
    # a factor that overflows: LAPACK returns nan and no error
    flat = 5e-224 * np.eye(6)
    flat[0, 2] = flat[2, 0] = 7e198
    flat[3, 5] = flat[5, 3] = 7e98
    with np.errstate(all="ignore"):
        assert by_matrices.gershgorin(boxed(flat, 0.0)) == -math.inf


def test_the_defect_bounds_every_matrix_of_the_box():
    rng = np.random.default_rng(6)
    H = rng.standard_normal((8, 8))
    B = by_matrices.inverse(H)
    wide = by_matrices.defect_of(B, boxed(H, 1e-6))
    sizes = [np.abs(np.eye(8) - B @ (H + 1e-6 * rng.choice([-1, 1], H.shape))) for _ in range(400)]
    assert (np.max(sizes, axis=0) <= wide + 1e-12).all()
    # attained by the worst signs, entry by entry
    assert np.allclose(
        wide, np.abs(np.eye(8) - B @ H) + 1e-6 * np.abs(B).sum(1)[:, None], rtol=1e-6
    )
    assert (by_matrices.defect_of(B, boxed(np.full((8, 8), np.nan), 0.0)) == np.inf).all()
    assert by_matrices.inverse(np.zeros((2, 2))) is None
    assert by_matrices.inverse(np.full((2, 2), np.inf)) is None


def quadratic(spread: float, kink: float = math.inf, floor: float = 0.0):
    """H(U) = 2 I + spread times the half side, in every entry; a kink from a half side on."""

    def hessian(model, box, told):
        if box.rad.max() >= kink:
            raise ContainsKink((0, 0, 0))
        d = len(box.mid)
        return boxed(2.0 * np.eye(d), floor + spread * box.rad.max())

    return hessian


def widest(newton: float, thin: float = 0.0, d: int = 4):
    eye, centre = np.eye(d), balls.zeros(d)
    defect = np.full((d, d), thin)
    return by_matrices.widest_box(
        None, centre, 0.5 * eye, defect, np.full(d, newton), lambda done: None
    )


def test_the_box_is_as_wide_as_contraction_allows(monkeypatch):
    monkeypatch.setattr(by_matrices, "hessian", quadratic(1e3))
    w, tau, rho, _ = widest(1e-9)
    # |I - BH| = spread R/2 in every entry: rho = d spread tau/2
    assert rho == pytest.approx(4 * 1e3 * tau / 2, rel=1e-6) and 0.05 < rho < 1.0
    assert (1e-9 + rho * tau * w < tau * w).all()
    # the Newton step must fit: it is longer than any box on which H contracts
    assert widest(1e-2) is None
    # wide wherever one looks
    monkeypatch.setattr(by_matrices, "hessian", quadratic(0.0, floor=0.6))
    assert widest(1e-30, thin=0.3) is None
    monkeypatch.setattr(by_matrices, "hessian", quadratic(math.nan))
    assert widest(1e-30) is None


def test_a_box_stays_off_a_kink(monkeypatch):
    for kink in (1e-6, 1e-13, 1e-15):
        monkeypatch.setattr(by_matrices, "hessian", quadratic(1e-3, kink=kink))
        found = widest(1e-20)
        assert found is not None and (found[0] * found[1]).max() < kink
    monkeypatch.setattr(by_matrices, "hessian", quadratic(1e-3, kink=0.0))
    assert widest(1e-20) is None
