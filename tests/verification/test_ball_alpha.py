"""The proved bound of alpha: never above the loss, near the tight one, refuted if raised."""

import numpy as np
import pytest
from small_minima import small

from ocp import controls
from ocp.files import TrainingFile
from verification import report
from verification.balls import alpha as ball_alpha
from verification.evaluation import alpha

pytest.importorskip("flint")
CASES = [(2, 0.9), (3, 0.34), (3, 0.9), (10, 0.9), (10, 0.11), (100, 0.5), (100, 0.999)]


@pytest.fixture(scope="module", params=CASES, ids=str)
def found(request):
    return ball_alpha.certify_alpha(*request.param, nodes=np.geomspace(0.02, 120.0, 25))


def g_on(w: np.ndarray, n_c: int, p: float) -> np.ndarray:
    """g at logits log q + w, entry 0 the true class, w already centred."""
    q = np.full(n_c, (1 - p) / (n_c - 1))
    q[0] = p
    top = w.max(axis=1, keepdims=True)
    return np.log(np.exp(w - top) @ q) + top[:, 0] - w @ q


def directions(rng, count: int, n_c: int) -> np.ndarray:
    """Random, one lowered logit, two-valued, few-logit directions, of length one, centred."""
    w = rng.standard_normal((count, n_c))
    kind = rng.integers(4, size=count)
    w[kind == 1] = 0.0
    w[kind == 1, 0] = rng.uniform(0, 2, (kind == 1).sum())
    at = rng.integers(1, n_c, (kind == 1).sum())
    w[np.flatnonzero(kind == 1), at] -= rng.uniform(0, 2, (kind == 1).sum())
    w[kind == 2] = rng.random(((kind == 2).sum(), n_c)) < rng.random(((kind == 2).sum(), 1))
    w[kind == 3, 2:] *= 1e-3
    w -= w.mean(axis=1, keepdims=True)
    length = np.linalg.norm(w, axis=1, keepdims=True)
    keep = length[:, 0] > 1e-9
    return w[keep] / length[keep]


def test_no_logits_lie_below_the_proved_bound(found):
    rng = np.random.default_rng(8)
    unit = directions(rng, 40_000 if found.n_classes < 100 else 4_000, found.n_classes)
    for s in (*10.0 ** rng.uniform(-2, 2.3, 12), *found.nodes[[0, 7, 24]], 0.01, 500.0):
        g = g_on(s * unit, found.n_classes, found.p_d)
        # float64 rounding of g: a few units of its terms, of size 1 + s
        assert (g >= found.lower_bound(float(s)) - 1e-15 * (1 + s)).all()


def test_the_bound_is_within_a_few_units_of_the_tight_one_at_its_nodes(found):
    tight = alpha.tight(found.nodes, found.n_classes, found.p_d)
    rounding = 1e-12 * (1 + found.nodes)
    assert (found.values <= tight + rounding).all()
    assert (found.values >= tight * (1 - 1.1e-5) - rounding).all()


def test_between_the_nodes_it_is_monotone_in_slope_and_below_the_tight_one(found):
    for s in np.geomspace(1e-3, 300, 60):
        bound = found.lower_bound(float(s))
        tight = float(alpha.tight(np.array([s]), found.n_classes, found.p_d)[0])
        assert bound <= tight + 1e-12 * (1 + s)
        if s > 1e-2:
            assert bound >= 0.6 * tight
    assert found.lower_bound(0.0) == 0.0
    with pytest.raises(ValueError, match="at least 0"):
        found.lower_bound(float("nan"))


def test_a_bound_five_percent_higher_is_refuted_by_the_tight_direction(found):
    for s in found.nodes[[3, 12, 20]]:
        w = alpha.tight_direction(float(s), found.n_classes, found.p_d)[None]
        assert g_on(w, found.n_classes, found.p_d)[0] < 1.05 * found.lower_bound(float(s))


def test_the_reference_values_for_ten_classes():
    # distances are known to three digits only, hence the half unit in their last one
    found = ball_alpha.certify_alpha(10, 0.9, nodes=(0.8325, 3.395, 56.45))
    assert (found.values >= [3.0619e-3, 2.8392e-2, 0.64894]).all()
    found = ball_alpha.certify_alpha(10, 0.9, nodes=(0.8315, 3.385, 56.35))
    assert (found.values <= [3.08e-3, 2.8392e-2, 0.64894]).all()


def test_the_reduction_to_one_angle_equals_a_search_over_the_whole_sphere():
    from scipy.optimize import minimize

    n_c, p, rng = 4, 0.6, np.random.default_rng(1)
    nodes = (0.3, 2.0, 9.0)
    found = ball_alpha.certify_alpha(n_c, p, nodes=nodes)
    for s, value in zip(nodes, found.values, strict=True):

        def on_sphere(v, s=s):
            w = v - v.mean()
            return g_on((s * w / np.linalg.norm(w))[None], n_c, p)[0]

        best = min(
            minimize(on_sphere, rng.standard_normal(n_c), method="Nelder-Mead",
                     options={"xatol": 1e-10, "fatol": 1e-14, "maxiter": 4000}).fun
            for _ in range(12)
        )  # fmt: skip
        assert value <= best + 1e-13
        assert value == pytest.approx(best, rel=3e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((1, 0.9), "n_classes is 1"), ((2, 0.5), "p_d is 0.5"), ((2, 1.0), "p_d is 1")],
)
def test_targets_without_a_minimum_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        ball_alpha.certify_alpha(*arguments)
    with pytest.raises(ValueError, match="ascending"):
        ball_alpha.certify_alpha(3, 0.9, nodes=(1.0, 1.0))


def test_the_line_is_proved_and_fails_where_the_bound_contradicts_the_loss(monkeypatch):
    problem = small()
    file = TrainingFile(problem=problem, controls=controls.zeros(problem))
    (line,) = ball_alpha.check_alpha(file)
    assert line.verdict is report.Verdict.PROVED and line.name == "dissipativity.certified"
    true = ball_alpha._least
    monkeypatch.setattr(ball_alpha, "_least", lambda *a: 1.05 * true(*a))
    (line,) = ball_alpha.check_alpha(file)
    assert line.verdict is report.Verdict.FAILED and "CONTRADICTS" in line.message
    hard = problem.with_(p_d=1.0)
    (line,) = ball_alpha.check_alpha(TrainingFile(problem=hard, controls=controls.zeros(hard)))
    assert line.verdict is report.Verdict.NOT_APPLICABLE


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=str)
def test_attacked_with_ten_million_points(case):
    n_c, p = case
    bound = ball_alpha.certify_alpha(n_c, p)
    rng = np.random.default_rng(77)
    done, chunk = 0, max(2_000_000 // n_c, 10_000)
    while done < 10_000_000:
        unit = directions(rng, chunk, n_c)
        # few distances a chunk: the bound is evaluated once for each
        for s in 10.0 ** rng.uniform(-3, 2.5, 5):
            g = g_on(s * unit, n_c, p)
            assert (g >= bound.lower_bound(float(s)) - 1e-15 * (1 + s)).all()
            done += len(unit)


@pytest.mark.parametrize(("n_c", "p"), [(1, 0.9), (2, 0.5), (2, 1.0), (2, 1.5), (3, float("nan"))])
def test_targets_that_are_none_are_refused(n_c, p):
    with pytest.raises(ValueError, match=f"n_classes is {n_c} and p_d is {p}; wanted"):
        ball_alpha.certify_alpha(n_c, p)
