"""What the studies share of trained networks: images, a run of Adam, its layers and its judge."""

from __future__ import annotations

import dataclasses

import exact
import numpy as np

from ocp.problem import Problem

#: the network and the training of all studies: our choice, not tuned on the held-out samples
STATEMENT = {"width": 32, "h": 0.5, "p_d": 0.9, "r": 1e-3, "gamma": 1.0, "beta": 1,
             "trained": ["layers", "lift", "readout"]}  # fmt: skip
TRAINING = {"lr": 5e-3, "schedule": "cosine", "batch_size": 128, "dtype": "float32",
            "evaluate_every": 0}  # fmt: skip
#: no first or second order: a trained network is no stationary point, as the diagnosis says
CHECKS = ("statement", "geometry", "turnpike", "diagnosis")


def problem_of(parameters: dict) -> tuple[Problem, tuple[np.ndarray, np.ndarray]]:
    """Return the problem that a row states, and the held-out samples."""
    from nn_baseline import data
    from nn_baseline.initialisation import initial_lift, initial_readout

    found = data.load(parameters["data"])
    rows = slice(0, parameters.get("rows"))
    found = dataclasses.replace(found, inputs=found.inputs[rows], labels=found.labels[rows])
    statement = STATEMENT | parameters["statement"]
    n, seed = statement["width"], parameters["seed"]
    E, e = initial_lift("gaussian", n, found.inputs, seed)
    C, c = initial_readout(found.n_classes, n, seed)
    statement["trained"] = tuple(statement["trained"])
    problem = Problem(
        **found.statement(),
        **statement,
        lift_weight=E,
        lift_bias=e,
        readout_weight=C,
        readout_bias=c,
    )
    return problem, found.test


def train_row(parameters: dict, given: dict[str, bytes]) -> tuple[dict, dict[str, bytes]]:
    """Train one network; accuracies after every layer are those of its crops."""
    import torch

    from nn_baseline import cropping
    from nn_baseline.evaluation import evaluate, final_logits
    from nn_baseline.options import Options
    from nn_baseline.start import samples, start_network
    from nn_baseline.training import train
    from ocp.files import TrainingFile

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
    z = final_logits(network, x)
    flips = []
    with torch.no_grad():
        for at in network.logits(network.states(x)).double():
            flips.append(int((at.argmax(1) != z.argmax(1)).sum()))
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
