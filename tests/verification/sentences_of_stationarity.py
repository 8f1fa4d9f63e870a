# ruff: noqa: E501 (a table)
"""What the checks statement, first_order, second_order and certificate say."""

import dataclasses

import numpy as np
from closed_forms import bowl, file_at, next_to_a_saddle, pair, statement, valley
from sentences import rows
from small_minima import small, solved
from zoo import claimed, minimum, widened

WIDE = {"width": 85}
NEARLY_FREE = {"r": 1.0, "lift": -1.0, "trained": ("layers", "lift"), "r_ends": 1e-16}
NONE = "no stationary point was found near"
UNKNOWN = "lie within the error band of zero: the Newton step is not known"
BAND = "least eigenvalue of the reduced Hessian and its error band"
KINKS = "2 pre-activations on kinks, first at layer 0, unit 0"
NULL = "a null direction, as r = 0 leaves them"
GIB = "the reduced Hessian has 7310 x 7310 entries, 0.4 GiB"


def overflow():
    return file_at(small(activation="identity"), A=1e200)


def slow():
    """Large, and enough samples that the clock of the processor sees a pass over them."""
    return bowl(r=1.0, inputs=np.zeros((20_000, 1)), labels=np.arange(20_000) % 2, **WIDE)


def softsign_saddle():
    """A minimum of softsign with a coordinate that nothing uses, and that leads down."""
    return claimed(*widened(*solved(activation="softsign")))


def origin(**stored):
    return lambda: dataclasses.replace(bowl(b=1.0, r=1.0), origin=stored, sha256="a" * 64)


def single(by=0.0):
    return lambda: dataclasses.replace(bowl(b=1.0 + by, r=1.0), float32=("A", "b"))


def ends(**keys):
    """A valley whose readout is trained."""
    content = valley(2.0, 0.0, r=0.0)
    problem, u = content.problem.with_(trained=("layers", "readout"), **keys), content.controls
    parts = {name: getattr(problem, name) for name in ("readout_weight", "readout_bias")}
    return dataclasses.replace(content, problem=problem, controls=dataclasses.replace(u, **parts))


STATEMENT = rows(
    "statement",
    ("no hash", "sha256", minimum, "the file stores no hash"),
    ("its hash", "sha256", origin(sha256="a" * 64), "statement and tensors are those that were hashed"),
    ("another hash", "sha256", origin(sha256="0" * 64), "stored 0000000000000000.., recomputed aaaaaaaaaaaaaaaa.."),
    ("no objective", "objective", origin(), "the file stores no objective; J = 0.618064207168"),
    ("an objective", "objective", origin(objective=0.5), "stored 0.5, recomputed 0.618064207168"),
    ("null for an objective", "objective", origin(objective=None), "stored null, no number, recomputed 0.618064207168"),
    ("no gradient norm", "gradient_norm", origin(), "the file stores none; |dJ/du|_inf = 0.5"),
    ("a gradient norm", "gradient_norm", origin(grad_inf_norm=0.25), "stored 0.25"),
    ("true for a gradient norm", "gradient_norm", origin(grad_inf_norm=True), "stored true, no number"),
    (
        "single precision", "precision", single(),
        "stored in single precision: A, b; half a unit in the last place of the controls moves the gradient by"
        " 3.0e-08, above the tolerance: export in float64 to pass first_order",
    ),
    (
        "single precision within the tolerance", "precision", single(),
        "stored in single precision: A, b; half a unit in the last place of the controls moves the gradient by"
        " 3.0e-08", {"tolerance": 1e-7},
    ),
    ("equal inputs", "caution", bowl, "samples 0 and 1 have equal lifted inputs and different labels: no control can separate them"),
    ("a blind readout", "caution", bowl, "the centred readout has rank 0, below n_classes - 1 = 1: no state attains the minimum of the loss for every class"),
    (
        "hard labels", "caution", lambda: bowl(p_d=1.0),
        "p_d = 1 is hard cross-entropy: its infimum is not attained, so minimiser sets, distances and dissipativity are not applicable",
    ),
    (
        "unshifted sigmoid", "caution", lambda: bowl(activation="sigmoid", shifted=False),
        "activation 'sigmoid' unshifted is not 0 at 0: u = 0 is no equilibrium, so dissipativity, turnpike and"
        " appending layers are not applicable",
    ),
)  # fmt: skip

FIRST_ORDER = rows(
    "first_order",
    ("overflow", "gradient", overflow, "the gradient is not finite: states or controls leave the floating-point range"),
    ("kinks of relu", "gradient", lambda: bowl(activation="relu"), f"{KINKS}; no descent found by evaluating J"),
    (
        "descent from kinks of leaky_relu", "gradient", lambda: valley(4.0, -1.0, activation="leaky_relu"),
        f"{KINKS}; J falls by ... along a step of length ..., evaluated (measured: decrease per unit of |step|_1)",
    ),
    (
        "a bowl, scaled", "scaled", lambda: bowl(b=1.0, r=1.0),
        "|g_k|_2 over the sum of the norms of its two terms, worst layer; largest |g_k|_2 = 5.0e-01 at layer 0",
    ),
    ("overflow, scaled", "scaled", overflow, "the gradient is not finite"),
    ("kinks, no Newton distance", "newton_distance", lambda: bowl(activation="relu"), f"no Hessian: {KINKS}"),
    ("overflow, no Newton distance", "newton_distance", overflow, "the gradient is not finite"),
    ("large", "newton_distance", lambda: bowl(b=1.0, r=1.0, **WIDE), GIB),
    (
        "large, the budget ended", "newton_distance", lambda: bowl(b=1e-9, r=1.0, **WIDE),
        f"{GIB}; the budget ended after 0 Hessian-vector products", {"budget": 0.0},
    ),
    (
        "long", "newton_distance",
        lambda: bowl(b=1.0, width=83, inputs=np.zeros((4200, 1)), labels=np.arange(4200) % 2),
        "the 6972 columns of the reduced Hessian cost 4e+12 operations",
    ),
    (
        "far within the tolerance", "newton_distance", lambda: bowl(b=2.0, r=1.0),
        f"{NONE}: one Newton step moves the controls by 2, more than 0.002", {"tolerance": 1.0},
    ),
    (
        "singular", "newton_distance", lambda: bowl(**NEARLY_FREE),
        f"{NONE}: 2 eigenvalues of the reduced Hessian {UNKNOWN}",
    ),
    (
        "singular, above the tolerance", "newton_distance", lambda: bowl(b=1.0, **NEARLY_FREE),
        f"2 eigenvalues of the reduced Hessian {UNKNOWN}",
    ),
    (
        "a flat tail", "newton_distance", lambda: valley(100.0, 2.0, b=1e3, r=1e-9, activation="identity"),
        f"{NONE}: one Newton step takes the gradient from ... to ..., not below a quarter: Newton's method does not contract",
        {"tolerance": 1e9},
    ),
    (
        "near", "newton_distance", lambda: bowl(b=1e-9, r=1.0),
        "a stationary point lies within about this distance: Newton's method contracts",
    ),
    ("not near", "newton_distance", lambda: bowl(b=1.0, r=1.0), "one Newton step; no statement this far from a stationary point"),
    ("no costate", "costate_terminal", bowl, "the file stores no costate"),
    ("no costate, recursion", "costate_recursion", bowl, "the file stores no costate"),
    (
        "a costate beside kinks", "costate_recursion",
        lambda: dataclasses.replace(bowl(activation="relu"), costate=np.zeros((2, 2, 1))),
        f"the costate is not unique: {KINKS}",
    ),
    (
        "a costate", "costate_terminal", lambda: dataclasses.replace(minimum(), costate=2 * minimum().costate),
        "6.2e-02 of the largest costate",
    ),
)  # fmt: skip

SECOND_ORDER = rows(
    "second_order",
    ("not stationary", "curvature", lambda: bowl(b=1.0, r=1.0), "not stationary: 0.5 > 1e-08 (first_order.gradient)"),
    ("kinks decide no curvature", "curvature", lambda: bowl(activation="relu"), f"{KINKS}; no descent found by evaluating J"),
    ("a minimum", "curvature", minimum, BAND),
    (
        "a saddle", "curvature", lambda: pair(4.0, r=0.5),
        "not a minimum: J falls by 2.32e-02 along the eigenvector, step 5.0e-01, evaluated; restart from there",
    ),
    (
        "a saddle too flat for J", "curvature", lambda: pair(4.0, r=1.0 - 2e-14),
        f"the curvature is negative but no decrease of J could be evaluated; {BAND}",
    ),
    (
        "descent from kinks of softsign", "curvature", softsign_saddle,
        "... pre-activations on kinks, first at layer 0, unit 2; J falls by ... along a step of length ..., evaluated"
        " (measured: minus the decrease per unit)",
    ),
    (
        "a guard that disagrees, before null directions", "curvature", lambda: valley(1e5, 0.5, b=1.0, r=0.0),
        f"finite differences of the gradient disagree with the reduced Hessian; {BAND}", {"tolerance": 1e5},
    ),
    (
        "null directions, before eigenvalues in the band", "curvature", ends,
        "exact null directions: r = 0: the states at layer 0 and 1 are linearly dependent (1); r_ends = 0: the same row"
        f" added to every row of the readout (2); {BAND}",
    ),
    (
        "eigenvalues in the band, before far", "curvature",
        lambda: bowl(b=1.0, r=1.0, lift=0.0, trained=("layers", "lift"), r_ends=1e-16),
        f"2 eigenvalues lie within the error band of zero; --certify may decide; {BAND}", {"tolerance": 1.0},
    ),
    (
        "one eigenvalue just below zero", "curvature", lambda: pair(4.0, r=1.0 - 4e-15),
        f"1 eigenvalues lie within the error band of zero; --certify may decide; {BAND}",
    ),
    (
        "many eigenvalues in the band", "curvature",
        lambda: bowl(b=1.0, r=1.0, lift=0.0, trained=("layers", "lift"), r_ends=1e-16, width=32),
        f"64 eigenvalues lie within the error band of zero; --certify may decide; {BAND}", {"tolerance": 1.0},
    ),
    (
        "far, before Newton's step", "curvature", lambda: bowl(b=1.0, r=1.0),
        f"not near a stationary point: one Newton step moves the controls by 1, more than 0.001; {BAND}", {"tolerance": 1.0},
    ),
    (
        "a Newton step that overshoots", "curvature", lambda: valley(1e3, 2.5, b=100.0, activation="identity", r=1e-6),
        "not near a stationary point: one Newton step takes the gradient from 2.1e+02 to 2.4e+02, not below a quarter:"
        f" Newton's method does not contract; {BAND}", {"tolerance": 213.0},
    ),
    (
        "a Newton step to negative curvature", "curvature", lambda: next_to_a_saddle(-2e-9),
        f"after one Newton step the least eigenvalue is -5e-10; {BAND}",
    ),
    (
        "routes", "routes", lambda: bowl(r=1.0),
        "spectral norm of the difference of two exact routes (condensing; products); the largest eigenvalue is 0.5",
    ),
    (
        "guard", "finite_differences", bowl,
        "central differences of the gradient, 2 directions of seed 20240513 and the least eigenvector; a guard only",
    ),
    ("guard at a kink", "finite_differences", lambda: bowl(b=1e-6, r=1e-3, activation="relu"), "a kink lies within the difference step"),
    (
        "inertia", "inertia", lambda: pair(4.0, r=0.5),
        "full KKT matrix: (4, 3, 0) positive, negative and undecided eigenvalues by Haynsworth; reduced: (2, 1, 0)",
    ),
    (
        "qualification", "licq", bowl,
        "constraint gradients are independent at every point: the state Jacobian is unit block lower triangular, its"
        " determinant is 1",
    ),
    (
        "large without a budget", "curvature", lambda: bowl(**WIDE),
        f"{GIB}; Lanczos wants --budget of 8 passes or more", {"budget": 7.9},
    ),
    (
        "large, not stationary, without a budget", "lanczos", lambda: bowl(b=1.0, **WIDE),
        f"{GIB}; Lanczos wants --budget of 8 passes or more", {"budget": 0.0},
    ),
    (
        "large, budget ended", "curvature", lambda: valley(9.0, 0.0, r=1e-3, **WIDE),
        "the budget of 10.9 passes ended after 1 Lanczos steps; 1 Lanczos steps, seed ...", {"budget": 10.9},
    ),
    (
        "large, by Lanczos", "lanczos", lambda: bowl(r=1.0, **WIDE),
        "1 Lanczos steps, seed ...: an eigenvalue within ... of 5.000e-01; the least one in [..., ...] but for a"
        " probability of ... over the start; the largest at least 5.000e-01", {"budget": 8.0},
    ),
)  # fmt: skip

COST = [
    dataclasses.replace(row, line="cost.passes")
    for row in rows(
        "second_order",
        (
            "what a large file costs", "", slow,
            "gradient passes without Lanczos, in processor time (second_order ...); counted: ... forward, ... backward;"
            " Lanczos ... of a budget of 8, ... a step; a pass takes ... s", {"budget": 8.0},
        ),
        (
            "what a large file costs without Lanczos", "", slow,
            "gradient passes without Lanczos, in processor time (second_order ...); counted: 1.0 forward, 1.0 backward; a"
            " pass takes ... s", {"budget": 0.0},
        ),
    )
]  # fmt: skip

CERTIFY = {"certify": True}
CERTIFICATE = rows(
    "certificate",
    ("not asked for", "", bowl, "asked for with --certify"),
    (
        "proved", "minimum", lambda: bowl(b=1e-9, r=1.0),
        "there is a strict local minimiser, the only stationary point within 0.26 of the polished controls, at distance"
        " <= 1e-09 from the stored controls, with objective in [0.3680642071684971186988684 +/- ...] (128 bits; local,"
        " nothing is said of other minima)", CERTIFY,
    ),
    ("contraction", "contraction", bowl, "weighted norm of I - B H over the box", CERTIFY),
    ("curvature", "curvature", bowl, "lower bound of the least eigenvalue of the Hessian on the box", CERTIFY),
    ("objective", "objective", bowl, "the objective of the minimiser lies between", CERTIFY),
    (
        "a proved saddle", "minimum", lambda: pair(4.0, r=0.5),
        "the stationary point next to the stored controls is proved to be no minimum: curvature <= -0.25 along a"
        " direction, at distance <= ...", CERTIFY,
    ),
    (
        "a proved minimum that is not next to the file", "minimum", lambda: bowl(b=0.01, r=1e-9),
        "a stationary point is certified, but only within 0.01 of the stored controls; next to them means 0.001: polish the file", CERTIFY,
    ),
    (
        "too large to certify", "minimum", lambda: bowl(depth=6000),
        "12000 decision variables and 2 samples in 6000 layers: a proof would take about 28.8 min and 14.0 GiB; tried up"
        " to 30 min and 8 GiB", CERTIFY,
    ),
    (
        "not stationary, certified", "minimum", lambda: bowl(b=1.0, r=1.0),
        "not stationary: the largest gradient entry is at least 0.5 > 1e-08", CERTIFY,
    ),
    ("overflow in balls", "minimum", overflow, "the ball of the gradient is unbounded: the states overflow", CERTIFY),
    (
        "a Hessian beyond floats", "minimum", lambda: valley(1e160, 0.0),
        "not certified: the ball of the gradient or of the Hessian is unbounded", CERTIFY | {"tolerance": 1e300},
    ),
    (
        "a ball around a kink", "minimum",
        lambda: file_at(
            statement(
                inputs=[[1.0], [3.0]], depth=2, width=2, activation="relu",
                lift_weight=[[1.0], [1.0]], lift_bias=[0.0, 0.25],
            ),
            A=[np.zeros((2, 2)), [[0.0, 0.0], [0.0, -1.0]]], b=[[1.0, 1.0], [1.0, 3.75]],
        ),
        "not certified: a pre-activation may lie on a kink: layer 1, sample 1, unit 1", CERTIFY | {"tolerance": 10.0},
    ),
    (
        "no contraction", "minimum", lambda: valley(2.0, 1e-25, b=-1e-26, r=0.5, activation="leaky_relu"),
        "not certified: no box was found on which I - B H contracts", CERTIFY,
    ),
    (
        "a null direction", "minimum", lambda: valley(2.0, 0.0, width=2, activation="identity", r=0.0),
        "not certified: the Hessian cannot be told from a singular one (least eigenvalue about 0, its direction is"
        f" largest in layer 0, A[0,0]): {NULL}", CERTIFY,
    ),
    (
        "too flat for 512 bits", "minimum", lambda: valley(2.0, 0.0, width=2, activation="identity", r=1e-160),
        "not certified: the Hessian cannot be told from a singular one (least eigenvalue about 5e-161, its direction is"
        f" largest in layer 0, A[0,0]): {NULL}", CERTIFY,
    ),
    (
        "definiteness left open", "minimum", lambda: valley(2.0, 0.0, width=2, activation="identity", r=1e-17),
        "not certified: a unique stationary point is proved, but not that its Hessian is positive definite", CERTIFY,
    ),
    (
        "steps that do not shrink", "minimum", lambda: valley(1e3, 2.5, r=4e-9, activation="identity"),
        "not certified: the Newton steps do not shrink (0.012, .., ...)", CERTIFY | {"tolerance": 1e3},
    ),
    (
        "steps that do not shrink, nearly flat", "minimum", lambda: valley(1e3, 2.5, r=3e-9, activation="identity"),
        "not certified: the Hessian cannot be told from a singular one (least eigenvalue about 1.5e-09, its direction is"
        f" largest in layer 0, A[0,0]): {NULL}", CERTIFY | {"tolerance": 1e3},
    ),
)  # fmt: skip

ROWS = [*STATEMENT, *FIRST_ORDER, *SECOND_ORDER, *COST, *CERTIFICATE]
