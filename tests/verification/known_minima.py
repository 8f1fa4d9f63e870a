"""Minima for the zoo of known truth, one for each scheme, block, activation and trained ends.

Tiny: 5 to 8 samples, width 2 or 3, one or two layers; found by the oracle alone.
"""

from __future__ import annotations

import functools
import itertools

import numpy as np
import oracle
import scipy.optimize

from ocp.activations import NAMES, Activation
from ocp.controls import Controls
from ocp.problem import Problem

ENDS = (("layers",), ("layers", "lift"), ("layers", "readout"), ("layers", "lift", "readout"))
#: an activation that comes after the first nine is numbered last: seeds and files stay the same
CONFIGURATIONS = tuple(
    configuration
    for names in (NAMES[:9], NAMES[9:])
    for configuration in itertools.product(ENDS, names, ("single", "double"), oracle.NODES)
)
#: least relative curvature of a minimum that is called one
CLEAR = 1e-6
#: of the states that the classes of relu and leaky_relu problems ask for, in steps h
SHIFT = 3.0


def shuffled(seed: int = 0) -> list[int]:
    """All configurations in an order in which any stretch holds some of everything."""
    return [int(i) for i in np.random.default_rng(seed).permutation(len(CONFIGURATIONS))]


def problem_of(index: int, attempt: int = 0, **changes) -> Problem:
    """The problem of a configuration; what it leaves open is drawn with its seed."""
    trained, activation, block, scheme = CONFIGURATIONS[index % len(CONFIGURATIONS)]
    rng = np.random.default_rng([17, index, attempt])
    n_classes = 2 + index % 4
    width = 2 if n_classes < 4 or index % 3 else 3
    n_d = n_classes + 3
    sigma, kinked = Activation(activation), activation in ("relu", "leaky_relu")
    keys = {
        "inputs": rng.standard_normal((n_d, 2)),
        "labels": np.concatenate([np.arange(n_classes), rng.integers(0, n_classes, 3)]),
        "n_classes": n_classes,
        "depth": 1 if (width == 3 and block == "double") or kinked else 2,
        "width": width,
        "h": float(rng.uniform(0.3, 0.8)),
        "scheme": scheme,
        "block": block,
        "activation": activation,
        "shifted": bool(index % 3) if sigma.shiftable else None,
        "sharpness": float(rng.choice([1.0, 4.0])) if sigma.has_sharpness else 1.0,
        "p_d": 1.0 if index % 13 == 0 else float(rng.choice([0.8, 0.9, 0.97])),
        # ends that are dear and layers that are cheap: else the layers collapse to zero
        "r": float(rng.uniform(0.004, 0.02)) / (5 if len(trained) == 3 else 1),
        "gamma": float(rng.uniform(0.5, 2.0)),
        "beta": int(index % 5 > 0),
        "trained": trained,
        "r_ends": (0.0, 0.01, 0.05)[len(trained) - 1],
        "lift_weight": rng.standard_normal((width, 2)),
        "lift_bias": 0.5 * rng.standard_normal(width),
        "readout_weight": rng.standard_normal((n_classes, width)),
        "readout_bias": 0.3 * rng.standard_normal(n_classes),
    }
    if kinked:
        # classes that ask for a shift of all states: pre-activations are positive at the minimum
        middle = keys["inputs"].mean(axis=0) @ keys["lift_weight"].T + keys["lift_bias"]
        keys["readout_bias"] = -keys["readout_weight"] @ (middle + SHIFT * keys["h"])
    # to 2^-20: a common offset can be added exactly
    keys["readout_bias"] = np.round(keys["readout_bias"] * 2.0**20) / 2.0**20
    return Problem(**(keys | changes))


def n_decision(problem: Problem) -> int:
    return sum(int(np.prod(shape)) for _, shape in oracle.shapes(problem))


def symmetric(problem: Problem) -> bool:
    """Whether J is constant along rotations, of hidden coordinates or of the states.

    States: (W, A, E, e, C) -> (R W, A R', R E, R e, C R') keeps all norms, whatever sigma is.
    """
    ends = {"lift", "readout"} <= set(problem.trained)
    linear = problem.activation == "identity"
    return (problem.block == "double" and (linear or ends)) or (linear and ends)


def clear(problem: Problem, u: np.ndarray) -> bool:
    """Whether u is a strict local minimum, away from kinks, beyond doubt."""
    _, g, H = oracle.derivatives(problem, u)
    values = np.linalg.eigvalsh(H)
    if not np.abs(g).max() <= 1e-12:
        return False
    if not symmetric(problem) and values[0] < CLEAR * values[-1]:
        return False
    if symmetric(problem) and values[0] < -1e-10 * values[-1]:
        return False
    if Activation(problem.activation).smooth:
        return True
    v = np.abs(oracle.preactivations(problem, u))
    return bool(v.min() > 1e-3 * (1 + v.max()))


@functools.cache
def minimum(index: int) -> tuple[Problem, np.ndarray] | None:
    """A minimum of the configuration, or None where all attempts end on kinks or flat."""
    kinked = CONFIGURATIONS[index % len(CONFIGURATIONS)][1] in ("relu", "leaky_relu")
    for attempt in range(4):
        problem = problem_of(index, attempt)
        rng = np.random.default_rng([index, attempt])
        start = 0.5 * rng.standard_normal(n_decision(problem))
        if kinked:
            blocks = [
                np.full(s, SHIFT * (name == "b")).ravel() for name, s in oracle.shapes(problem)
            ]
            start = 0.3 * start + np.concatenate(blocks)
        u = within_a_piece(problem, start) if kinked else oracle.minimise(problem, start)
        if clear(problem, u):
            return problem, u
    return None


def within_a_piece(problem: Problem, u: np.ndarray) -> np.ndarray:
    """A few dozen steps of BFGS, then Newton: most end on kinks, some inside a linear piece."""
    u = scipy.optimize.minimize(
        lambda v: oracle.value_and_gradient(problem, v), u, jac=True, method="BFGS",
        options={"maxiter": 60},
    ).x  # fmt: skip
    return oracle.newton(problem, u)


def embed(problem: Problem, u: np.ndarray) -> tuple[Problem, np.ndarray, np.ndarray]:
    """The same network with one more, unused coordinate, and which variables are new.

    It is stationary there if it was, provided sigma(0) = 0; new and old variables do not mix.
    """
    n, n_c = problem.width, problem.n_classes
    wide = problem.with_(
        width=n + 1,
        lift_weight=np.vstack([problem.lift_weight, np.zeros((1, problem.inputs.shape[1]))]),
        lift_bias=np.append(problem.lift_bias, 0.0),
        readout_weight=np.hstack([problem.readout_weight, np.zeros((n_c, 1))]),
    )

    def grown(vector: np.ndarray) -> np.ndarray:
        found = oracle.split(problem, vector)
        ends = {"lift_weight": "E", "lift_bias": "e", "readout_weight": "C", "readout_bias": "c"}
        pad = lambda v, *by: np.pad(v, by)  # noqa: E731
        square = lambda blocks: np.stack([pad(v, (0, 1), (0, 1)) for v in blocks])  # noqa: E731
        grow = {
            "E": lambda v: pad(v, (0, 1), (0, 0)),
            "e": lambda v: pad(v, (0, 1)),
            "C": lambda v: pad(v, (0, 0), (0, 1)),
            "c": lambda v: v,
        }
        trained = {
            name: grow[short](found[short][0])
            for name, short in ends.items()
            if name.split("_")[0] in problem.trained
        }
        controls = Controls(
            A=square(found["A"]),
            b=np.stack([pad(v, (0, 1)) for v in found["b"]]),
            W=square(found["W"]) if "W" in found else None,
            **trained,
        )
        return oracle.flat(wide, controls)

    return wide, grown(u), grown(np.ones_like(u)) == 0


@functools.cache
def degenerate(index: int, eigenvalue: float) -> tuple[Problem, np.ndarray] | None:
    """An embedded minimum whose least eigenvalue is as wanted, tuned through r."""
    found = minimum(index)
    if found is None or symmetric(found[0]) or not found[0].sigma.zero_at_zero:
        return None
    problem, u = found
    if not problem.sigma.smooth:
        return None
    points: dict[float, np.ndarray] = {problem.r: u}

    def point(r: float) -> tuple[Problem, np.ndarray]:
        nearest = min(points, key=lambda s: abs(np.log(s / r)))
        changed = problem.with_(r=r)
        v = oracle.newton(changed, points[nearest])
        if not np.abs(oracle.gradient(changed, v)).max() <= 1e-12:
            v = oracle.minimise(changed, points[nearest], rounds=1)
        points[r] = v
        return changed, v

    def least(r: float) -> float:
        wide, v, new = embed(*point(r))
        H = oracle.derivatives(wide, v)[2]
        return float(np.linalg.eigvalsh(H[np.ix_(new, new)])[0]) - eigenvalue

    low = high = problem.r
    step = 0.8 if least(problem.r) > 0 else 1 / 0.8
    for _ in range(10):
        low, high = high, high * step
        if least(high) * least(low) <= 0:
            break
    else:
        return None
    r = scipy.optimize.brentq(least, *sorted((low, high)), xtol=1e-17, rtol=1e-15)
    problem, u = point(r)
    if not clear(problem, u):
        return None
    wide, v, new = embed(problem, u)
    H = oracle.derivatives(wide, v)[2]
    old = np.linalg.eigvalsh(H[np.ix_(~new, ~new)])[0]
    return (wide, v) if old > 10 * abs(eigenvalue) and abs(least(r)) < 1e-13 else None
