# ruff: noqa: E501 (a sentence stays in one piece)
"""What the check global_minimum says."""

from __future__ import annotations

import numpy as np
from closed_forms import bowl
from sentences import rows
from tiny_problems import LOCAL, LOWEST, PAIR, at, flow, minimum, tiny, twins

from ocp.controls import flatten


def moved():
    content = minimum(LOWEST)
    return at(content.problem, flatten(content.controls) + 0.01)


def unlike_twins():
    inputs = np.array([[np.nextafter(-1.5, 0)], [-0.6], [0.6], [1.5]])
    return at(twins(2, inputs=inputs), flatten(minimum(PAIR).controls))


def many():
    problem = twins(2)
    inputs, labels = np.tile(problem.inputs, (250, 1)), np.tile(problem.labels, 250)
    return at(twins(2, inputs=inputs, labels=labels), flatten(minimum(PAIR).controls))


#: as `--certify` alone runs it
CERTIFY = {"certify": True, "only": ()}
ONE = "1 place can hold a global minimiser, with exactly one stationary point"
TWO = "2 places can hold a global minimiser, with exactly one stationary point each"
ROWS = rows(
    "global_minimum",
    (
        "the least value", "value", lambda: minimum(LOWEST),
        "V_N, the least J over all controls, is in [1.20005282917, 1.20005282918]; ... boxes of |u_j| <= ... were looked at",
    ),
    ("one place", "minimisers", lambda: minimum(LOWEST), ONE),
    ("two places", "minimisers", unlike_twins, TWO),
    ("two mirrored places", "minimisers", lambda: minimum(PAIR), f"{TWO}; b -> -b, which leaves J as it is, takes them to each other: both hold one"),
    (
        "too much for seconds", "minimisers", many,
        "... can hold a global minimiser, ... undecided (the limit of work was reached): [...; --only global_minimum looks further", CERTIFY,
    ),
    ("above the least value", "gap", lambda: minimum(LOCAL), "J of the stored controls is above V_N by a number in [0.00426, 0.00427]"),
    ("a global one", "stored_is_global", lambda: minimum(LOWEST), "the only global minimiser lies within ... of the stored controls"),
    ("one of two global ones", "stored_is_global", lambda: minimum(PAIR), "one of the two global minimisers lies within ... of the stored controls"),
    (
        "perhaps a global one", "stored_is_global", unlike_twins,
        "a strict local minimiser lies within ... of the stored controls, alone in one of the 2 places that can hold a global one; which of them do is undecided",
    ),
    ("perhaps a global one, or not", "stored_is_global", many, "neither proved to be next to a global minimiser nor proved not to be", CERTIFY),
    (
        "a local one", "stored_is_not_global", lambda: minimum(LOCAL),
        "NOT global: the strict local minimiser within ... of the stored controls has a J of at least 0.00426 above V_N",
    ),
    (
        "none at all", "stored_is_not_global", moved,
        "NOT global: J of the stored controls is at least ... above V_N; no local minimum is proved next to them",
    ),
    ("no global search of width 2", "", lambda: bowl(width=2), "width is 2; a global proof is for width 1"),
    ("no global search of four layers", "", lambda: at(tiny(4), np.zeros(8)), "4 layers; a global minimum is searched for up to 3"),
    (
        "no global search of many samples", "",
        lambda: at(tiny(inputs=np.zeros((1001, 1)), labels=np.arange(1001) % 2), [0.0, 0.0]), "1001 samples; a global minimum is searched for up to 1000",
    ),
    ("no global search from infinity", "", lambda: at(tiny(), [1e200, 0.0]), "J at the stored controls is inf; wanted a finite number"),
    ("no global search of a large cube", "", lambda: bowl(r=1e-30, A=1.0), "the cube to be searched is |u_j| <= ...; wanted at most 1e+06"),
    ("three layers", "", lambda: at(flow(3), np.zeros(6)), "3 layers, some minutes: asked for with --only global_minimum", CERTIFY),
)  # fmt: skip
