"""What the studies share of trained networks: images, a run of Adam, its layers and its judge."""

from __future__ import annotations

import dataclasses

import exact
import numpy as np

import nn_baseline
from ocp import Problem

#: the network and the training of all studies: our choice, not tuned on the held-out samples
STATEMENT = {"width": 32, "h": 0.5, "p_d": 0.9, "r": 1e-3, "gamma": 1.0, "beta": 1,
             "trained": ["layers", "lift", "readout"]}  # fmt: skip
TRAINING = {"lr": 5e-3, "schedule": "cosine", "batch_size": 128, "dtype": "float32",
            "evaluate_every": 0}  # fmt: skip
#: no first or second order: a trained network is no stationary point, as the diagnosis says
CHECKS = ("statement", "geometry", "turnpike", "diagnosis")


def problem_of(parameters: dict) -> tuple[Problem, tuple[np.ndarray, np.ndarray]]:
    """Return the problem that a row states, and the held-out samples."""
    found = nn_baseline.data.load(parameters["data"])
    rows = slice(0, parameters.get("rows"))
    found = dataclasses.replace(found, inputs=found.inputs[rows], labels=found.labels[rows])
    statement = STATEMENT | parameters["statement"]
    statement["trained"] = tuple(statement["trained"])
    problem = nn_baseline.problem_of(found, lift="gaussian", seed=parameters["seed"], **statement)
    return problem, found.test


def train_row(parameters: dict, given: dict[str, bytes]) -> tuple[dict, dict[str, bytes]]:
    """Train one network; accuracies after every layer are those of its crops."""
    import torch

    from nn_baseline import Options, cropping, evaluate, samples, start_network, train
    from ocp import TrainingFile

    torch.set_num_threads(1)
    problem, test = problem_of(parameters)
    epochs = parameters["epochs"]
    if "budget_depth" in parameters:  # as many multiply-adds as a network of that depth
        whole = problem.with_(depth=parameters["budget_depth"])
        epochs = cropping.equal_budget_epochs(whole, epochs, problem.depth)
    options = Options(seed=parameters["seed"], epochs=epochs, **TRAINING)
    network = start_network(problem, options)
    ended = train(network, options)
    own, held = evaluate(network, *samples(network)), evaluate(network, *samples(network, *test))
    x, _ = samples(network, *test)
    with torch.no_grad():
        X = network.states(x)
        z, layers = network.logits(X[-1]).double(), network.logits(X).double()
    flips = (layers.argmax(dim=-1) != z.argmax(dim=-1)).sum(dim=-1).tolist()
    content = TrainingFile(problem=problem, controls=network.controls(), origin={})
    facts, produced = exact.judged(content, only=CHECKS)
    told = exact.lines_of(produced[exact.REPORT])
    distance = told.get("diagnosis.not_converged", {}).get("measured")
    wide = np.abs(network.controls().readout_weight).max()
    result = {
        "status": ended.status.name,
        "epochs_run": epochs,
        "J": own.objective,
        "entry": own.entry,
        "train_accuracy": own.accuracy[-1],
        "test_accuracy": held.accuracy[-1],
        "test_after": np.round(held.accuracy, 6),
        "train_after": np.round(own.accuracy, 6),
        "flips": flips,
        "data_cost": np.round(own.data_cost, 8),
        "control_norm": np.round(own.control_norm, 8),
        "control_sum": float(problem.h * (own.control_norm**2).sum()),
        "readout_max": float(wide),
        "logit_max": float(z.abs().max()),
    }
    return result | facts | {"gradient": distance}, {}
