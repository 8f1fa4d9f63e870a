"""The frame of the zoo of known truth: kinds of files, how one is written, what it starts from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import known_minima
import numpy as np
import oracle
import safetensors
import safetensors.numpy
from truth import Facts

from ocp import files
from ocp.files import TrainingFile
from ocp.problem import Problem


@dataclasses.dataclass(frozen=True, kw_only=True)
class Case:
    """A file in the making: what is saved, what is edited behind the writer's back, the facts."""

    content: TrainingFile
    facts: Facts
    metadata: Callable[[dict], None] | None = None
    tensors: Callable[[dict], None] | None = None


Kind = Callable[[int], Case | None]
KINDS: dict[str, Kind] = {}


def kind(function: Kind) -> Kind:
    """Register a kind; it returns None where a configuration has no such file."""
    KINDS[function.__name__] = function
    return function


#: kinds that every configuration has, for those that lack the one whose turn it is
ALWAYS = ("edited_costate", "edited_origin", "edited_tensor", "idle_layer", "dead_units",
          "edited_statement", "untrained")  # fmt: skip


def make(path: Path, name: str, index: int) -> tuple[str, Facts]:
    """Write one file and return its kind: another one where the configuration has no such file."""
    case = KINDS[name](index)
    if case is None:
        name = ALWAYS[index % len(ALWAYS)]
        case = KINDS[name](index)
    assert case is not None
    files.save(path, case.content)
    if case.metadata or case.tensors:
        with safetensors.safe_open(path, framework="numpy") as file:
            meta = {key: json.loads(text) for key, text in file.metadata().items()}
            stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        if case.metadata:
            case.metadata(meta)
        if case.tensors:
            case.tensors(stored)
        text = {key: json.dumps(value, sort_keys=True) for key, value in meta.items()}
        stored = {key: np.ascontiguousarray(value) for key, value in stored.items()}
        path.write_bytes(safetensors.numpy.save(stored, text))
    return name, case.facts


def claimed(problem: Problem, u: np.ndarray, **changes) -> TrainingFile:
    """A file that claims what the oracle finds."""
    J, g = oracle.value_and_gradient(problem, u)
    origin = {"objective": J, "grad_inf_norm": float(np.abs(g).max()), "producer": "oracle"}
    keys = {
        "problem": problem,
        "controls": oracle.controls_of(problem, u),
        "costate": oracle.costate(problem, u),
        "origin": origin,
        "test_inputs": problem.input_values[:2] + 0.1,
        "test_labels": problem.labels[:2],
    }
    return TrainingFile(**(keys | changes))


def solved(index: int) -> tuple[Problem, np.ndarray, Facts] | None:
    found = known_minima.minimum(index)
    if found is None:
        return None
    problem, u = found
    # where the layers are zero a rotation moves nothing
    values = np.linalg.eigvalsh(oracle.derivatives(problem, u)[2])
    flat = known_minima.symmetric(problem) and bool(values[0] < 1e-9 * values[-1])
    facts = Facts(near=True, strict=None if flat else True, flat=flat,
                  best=oracle.objective(problem, u))  # fmt: skip
    return problem, u, facts


def random_controls(index: int) -> tuple[Problem, np.ndarray]:
    problem = known_minima.problem_of(index)
    rng = np.random.default_rng([3, index])
    return problem, 0.5 * rng.standard_normal(known_minima.n_decision(problem))


def base_of(index: int) -> tuple[Problem, np.ndarray, Facts]:
    """A minimum, or random controls where the configuration has none."""
    found = solved(index)
    if found is not None:
        return found
    return *random_controls(index), Facts()
