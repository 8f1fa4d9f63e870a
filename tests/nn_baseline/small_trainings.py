"""Small trainings, and what the tests of training look at in them."""

import json

import torch

from nn_baseline import checkpoint
from nn_baseline.start import start_network
from nn_baseline.training import train
from ocp import controls, datasets
from ocp.problem import Problem

torch.set_num_threads(1)

OPTIMIZERS = [
    {"optimizer": "adam", "lr": 1e-2},
    {"optimizer": "adamw", "lr": 1e-2, "decoupled_decay": 0.1},
    {"optimizer": "sgd", "lr": 1e-1, "momentum": 0.9},
    {"optimizer": "lbfgs", "lr": 1.0},
]


def spirals(points=8, **given):
    inputs, labels = datasets.spirals(points)
    return Problem(inputs=inputs, labels=labels, n_classes=2, **{"depth": 4, **given})


def run(problem, options, **kwargs):
    network = start_network(problem, options)
    return network, train(network, options, **kwargs)


def parameters(network):
    return controls.flatten(network.controls())


class StopAfter:
    """Asks to stop after a number of steps."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self):
        self.left -= 1
        return self.left == 0


def log(folder):
    lines = (folder / checkpoint.LOG_FILE).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [{k: v for k, v in r.items() if k != "seconds"} for r in records]
