"""The networks of the depth study: one configuration, trained in several ways at any depth."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import numpy as np

import nn_baseline
from nn_baseline import Network, Options, cropping, data, evaluate, samples, start_network, train
from ocp.problem import Problem

#: samples of the training set that are trained on; the other 5000 are held out
TRAINED = 55_000
DEPTH, WIDTH = 20, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """What is tuned.  `epochs` is for depth 20; shallower networks get as many multiply-adds."""

    h: float = 0.5
    activation: str = "relu"
    p_d: float = 0.9
    r: float = 1e-3
    gamma: float = 1.0
    r_ends: float = 0.0
    lr: float = 5e-3
    init_scale: float = 1e-2
    lift: str = "gaussian"
    batch_size: int = 128
    epochs: int = 6

    def name(self) -> str:
        """What differs from the defaults, in the order of the fields; "base" if nothing does."""
        changed = [
            f"{field.name}={getattr(self, field.name):{'g' if field.type == 'float' else ''}}"
            for field in dataclasses.fields(self)
            if getattr(self, field.name) != field.default
        ]
        return " ".join(changed) or "base"


def problem_of(
    split: data.Dataset, configuration: Configuration, depth: int, seed: int, **changes
) -> Problem:
    """Return the problem of one network; `changes` are made to the statement."""
    statement = {
        name: getattr(configuration, name)
        for name in ("h", "activation", "p_d", "r", "gamma", "r_ends")
    }
    given = statement | changes
    return nn_baseline.problem_of(
        split, lift=configuration.lift, seed=seed, depth=depth, width=WIDTH, **given
    )


def trained_network(
    problem: Problem, configuration: Configuration, seed: int
) -> tuple[Network, dict]:
    """Train from scratch for the multiply-adds of a network of depth 20; say what it took."""
    whole = problem.with_(depth=DEPTH)
    epochs = cropping.equal_budget_epochs(whole, configuration.epochs, problem.depth)
    options = Options(
        lr=configuration.lr,
        schedule="cosine",
        epochs=epochs,
        batch_size=configuration.batch_size,
        init_scale=configuration.init_scale,
        dtype="float32",
        evaluate_every=0,
        seed=seed,
    )
    network = start_network(problem, options)
    cpu, wall = time.process_time(), time.monotonic()
    result = train(network, options)
    cpu, wall = time.process_time() - cpu, time.monotonic() - wall
    return network, {
        "epochs": epochs,
        "multiply_adds": epochs * cropping.multiply_adds(problem) * problem.n_samples,
        "cpu_seconds": f"{cpu:.1f}",
        "wall_seconds": f"{wall:.1f}",
        "objective": f"{result.epoch_means[-1]:.6g}",
    }


def accuracies(network: Network, pair: tuple) -> np.ndarray:
    """Accuracy [%] after every layer: those of the prefix crops."""
    return 100 * evaluate(network, *samples(network, *pair)).accuracy


def chosen_depth(accuracy: np.ndarray, tolerance: float) -> int:
    """Return the smallest k >= 1 from which on no prefix loses more than the tolerance."""
    short = np.flatnonzero(accuracy < accuracy[-1] - tolerance)
    return max(1, int(short[-1]) + 1) if len(short) else 1


def joined(values) -> str:
    """One cell for a curve."""
    return ";".join(f"{v:.6g}" for v in values)


def curve(row: dict, name: str) -> np.ndarray:
    """A curve out of its cell."""
    return np.array([float(v) for v in row[name].split(";")])
