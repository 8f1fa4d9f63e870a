"""Kinds of files that say what is not so: statement, origin, costate and tensors edited."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np
from known_files import Case, base_of, claimed, kind
from truth import Facts

from ocp.problem import Problem

REFUSED = {"format": 2, "n_classes": 7, "depth": 9, "width": 5, "unknown": 1, "input_scale": 1.0,
           "data": {"name": "x", "sha256": "0", "rows": 1}, "p_d": 1.5, "h": 0.0, "r": -1.0,
           "beta": 2, "gamma": "1", "trained": ["lift"], "scheme": "verlet", "r_ends": True,
           "activation": "softmax", "block": None, "shifted": 1, "sharpness": -1.0}  # fmt: skip


def replaced(problem: Problem, key: str):
    """Another admissible value of a key of the statement, or None."""
    ends = len(problem.trained) > 1
    match key:
        case "h" | "gamma" | "r":
            return getattr(problem, key) * 1.001
        case "p_d":
            return 0.85 if problem.p_d != 0.85 else 0.86
        case "beta":
            return 1 - problem.beta
        case "scheme":
            return "heun" if problem.scheme != "heun" else "euler"
        case "activation":
            plain = not problem.shifted and problem.sharpness == 1.0
            return ("tanh" if problem.activation != "tanh" else "silu") if plain else None
        case "shifted":
            return not problem.shifted if problem.sigma.shiftable else None
        case "sharpness":
            return problem.sharpness * 1.5 if problem.sigma.has_sharpness else None
        case "r_ends":
            return problem.r_ends * 1.01 if ends else None
        case "trained":
            return ["layers", "lift", "readout"] if ends and len(problem.trained) < 3 else None
    raise KeyError(key)


VALUES = ("h", "gamma", "r", "p_d", "beta", "scheme", "activation", "shifted", "sharpness",
          "r_ends", "trained")  # fmt: skip


@kind
def edited_statement(index: int) -> Case | None:
    problem, u, _ = base_of(index)
    key = VALUES[index % len(VALUES)]
    value = replaced(problem, key)
    if value is None:
        key, value = "p_d", replaced(problem, "p_d")
    return Case(
        content=claimed(problem, u),
        facts=Facts(hash_holds=False),
        metadata=lambda meta: meta["problem"].update({key: value}),
    )


@kind
def impossible_statement(index: int) -> Case | None:
    problem, u, _ = base_of(index)
    key = list(REFUSED)[index % len(REFUSED)]
    return Case(
        content=claimed(problem, u),
        facts=Facts(refused=True),
        metadata=lambda meta: meta["problem"].update({key: REFUSED[key]}),
    )


ORIGINS: tuple[tuple[str, Callable], ...] = (
    ("objective", lambda v: v + 1e-9 * max(1.0, abs(v))),
    ("objective", lambda v: v - 1e-3),
    ("objective", lambda v: v + 1e-12 * max(1.0, abs(v))),
    ("objective", lambda v: True),
    ("objective", lambda v: None),
    ("objective", lambda v: str(v)),
    ("objective", lambda v: 10**400),
    ("grad_inf_norm", lambda v: -1.0),
    ("grad_inf_norm", lambda v: 0.0),
    ("grad_inf_norm", lambda v: [v]),
    ("grad_inf_norm", lambda v: 1e300),
    ("producer", lambda v: "someone \x1b[31m else"),
    ("status", lambda v: "SOLVED"),
    ("sha256", lambda v: v[:-1]),
    ("sha256", lambda v: v.upper() if v.upper() != v else "0"),
    ("sha256", lambda v: 0),
    ("sha256", lambda v: "0" * 64),
)


@kind
def edited_origin(index: int) -> Case | None:
    problem, u, facts = base_of(index)
    key, change = ORIGINS[index % len(ORIGINS)]
    if key == "sha256":
        facts = dataclasses.replace(facts, hash_holds=False)
    return Case(
        content=claimed(problem, u),
        facts=facts,
        metadata=lambda meta: meta["origin"].update({key: change(meta["origin"].get(key))}),
    )


def _one_entry(costate: np.ndarray, layer: int, by: float) -> np.ndarray:
    costate = costate.copy()
    costate[layer, 1, 0] += by
    return costate


COSTATES: tuple[Callable, ...] = (
    lambda v: -v,
    lambda v: v * (1 + 1e-4),
    lambda v: _one_entry(v, 0, 1e-6),
    lambda v: _one_entry(v, -1, 1e-6),
    lambda v: _one_entry(v, -2, 1e-7),
    lambda v: 0 * v,
    lambda v: v[:, ::-1],
    lambda v: v * (1 + 1e-13),
    lambda v: np.roll(v, 1, axis=0),
)


@kind
def edited_costate(index: int) -> Case | None:
    problem, u, facts = base_of(index)
    content = claimed(problem, u)
    costate = np.ascontiguousarray(COSTATES[index % len(COSTATES)](content.costate))
    return Case(content=dataclasses.replace(content, costate=costate), facts=facts)


@kind
def edited_tensor(index: int) -> Case | None:
    """Data and controls changed behind the hash; test samples change the hash alone."""
    problem, u, facts = base_of(index)
    name, change = (
        ("test.inputs", lambda v: v + 1.0),
        ("test.labels", lambda v: (v + 1) % problem.n_classes),
        ("labels", lambda v: np.roll(v, 1)),
        ("inputs", lambda v: v + 1e-3),
        ("A", lambda v: v * (1 + 1e-4)),
        ("readout.bias", lambda v: v + np.arange(len(v)) * 1e-3),
        ("inputs", lambda v: v[::-1]),
    )[index % 7]
    if not name.startswith("test"):
        facts = Facts(hash_holds=False)
    return Case(
        content=claimed(problem, u),
        facts=dataclasses.replace(facts, hash_holds=False),
        tensors=lambda stored: stored.update({name: change(stored[name])}),
    )
