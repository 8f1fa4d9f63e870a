"""Boxes of controls and enclosures of the Hessian over them: what the tests of both share.

    python tests/verification/boxes.py --points 120000

samples that many points of boxes, over all activations, schemes, blocks and ends, and prints how
many of their Hessians (floats, by the other room's assembly) leave the enclosure: none.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections.abc import Iterator

import numpy as np

from ocp import activations, controls
from ocp.controls import flatten, unflatten
from ocp.evaluation import assembly
from ocp.problem import BLOCKS, SCHEMES, Problem
from verification.balls import arithmetic as balls
from verification.balls import midrad, midrad_hessian
from verification.balls.activations import ContainsKink
from verification.balls.midrad import MidRad
from verification.balls.model import ball_model

ENDS = (("layers",), ("layers", "lift", "readout"))
KINDS = list(itertools.product(activations.NAMES, SCHEMES, BLOCKS, ENDS))
RADII = (1e-12, 1e-6, 1e-3, 3e-2)


def problem_of(rng, activation: str, scheme: str, block: str, trained, **changes) -> Problem:
    """Three samples in the plane, two layers of width 2, three classes."""
    keys = {
        "inputs": rng.standard_normal((3, 2)),
        "labels": np.array([0, 1, 2]),
        "n_classes": 3,
        "depth": 2,
        "width": 2,
        "p_d": 0.8,
        "r": 0.01,
        "r_ends": 0.1 if len(trained) > 1 else 0.0,
        "readout_weight": rng.standard_normal((3, 2)),
        "readout_bias": rng.standard_normal(3),
        "beta": int(rng.integers(2)),
        "sharpness": 3.0 if activation == "softplus" else 1.0,
    }
    keys |= {"scheme": scheme, "block": block, "activation": activation, "trained": trained}
    return Problem(**(keys | changes))


def box_of(rng, problem: Problem, radius: float) -> tuple[np.ndarray, np.ndarray]:
    """A random centre and half sides between radius/10 and radius."""
    u = flatten(controls.random_start(problem, rng, 0.7))
    return u, radius * rng.uniform(0.1, 1.0, len(u))


def enclosure(problem: Problem, u: np.ndarray, radius: np.ndarray) -> MidRad:
    with balls.precision(128):
        model = midrad_hessian.statement(ball_model(problem))
        box = midrad.around(balls.exact(u), radius)
    return midrad_hessian.hessian(model, box)


def points_of(rng, u: np.ndarray, radius: np.ndarray, count: int) -> Iterator[np.ndarray]:
    """Corners, points on faces, and points inside, in turn."""
    for i in range(count):
        step = rng.uniform(-1, 1, len(u))
        if i % 3 == 0:
            step = np.sign(step)
        elif i % 3 == 1:
            step = np.clip(2 * step, -1, 1)
        yield u + 0.999999 * radius * step  # rounding must not leave the box


def leaving(problem: Problem, found: MidRad, points: Iterator[np.ndarray]) -> int:
    """How many float Hessians leave the enclosure by more than their own rounding."""
    room = 1e-13 * (1 + np.abs(found.mid).max())
    out = 0
    for point in points:
        H = assembly.assembled_hessian(problem, unflatten(problem, point))
        out += not (np.abs(H - found.mid) <= found.rad + room).all()
    return out


def sampled(kinds, points: int, seed: int) -> tuple[int, int, int]:
    """(points, boxes, points that leave) with `points` for each of the boxes of each kind."""
    rng = np.random.default_rng(seed)
    tried = boxes = out = 0
    for kind in kinds:
        for radius in RADII:
            problem = problem_of(rng, *kind)
            u, half = box_of(rng, problem, radius)
            try:
                found = enclosure(problem, u, half)
            except ContainsKink:
                continue
            out += leaving(problem, found, points_of(rng, u, half, points))
            tried, boxes = tried + points, boxes + 1
    return tried, boxes, out


def main() -> int:
    parse = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parse.add_argument("--points", type=int, default=120_000)
    parse.add_argument("--seed", type=int, default=0)
    options = parse.parse_args()
    each = -(-options.points // (len(KINDS) * len(RADII)))
    tried, boxes, out = sampled(KINDS, each, options.seed)
    print(
        f"{tried} points of {boxes} boxes, {len(KINDS)} kinds, seed {options.seed}: {out} outside"
    )
    return 1 if out else 0


if __name__ == "__main__":
    sys.exit(main())
