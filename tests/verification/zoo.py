"""The zoo of files: what each one is, and what the judge must say of it.

A row of the table: exit code, then one word a check, one letter a line in the order printed:
P passed, F failed, I inconclusive, n not applicable, - not checked, T proved, V vacuous,
O observed.  The lines are

statement      sha256, objective, gradient_norm [, precision] [, cautions]
first_order    gradient, scaled, newton_distance, costate_terminal, costate_recursion
second_order   curvature, routes, finite_differences, inertia, licq; or curvature, licq
geometry       rank, minimisers [, conditioning, class_distance, least_cost, conflicts]
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from pathlib import Path

import numpy as np
import safetensors.numpy
import scipy.optimize
from small_minima import minimise, solved

from ocp import files
from ocp.controls import Controls, flatten, unflatten
from ocp.evaluation.assembly import assembled_hessian
from ocp.evaluation.rollout import gradient, objective
from ocp.files import TrainingFile
from ocp.problem import Problem


@dataclasses.dataclass(frozen=True, kw_only=True)
class Specimen:
    """One file of the zoo: how to write it and the verdicts per check."""

    name: str
    write: Callable[[Path], None]
    exit_code: int
    letters: dict[str, str]
    says: str = ""


SPECIMENS: list[Specimen] = []


def specimen(exit_code: int, says: str = "", **letters: str):
    """Register the decorated function: it returns a TrainingFile, or writes the path itself."""

    def register(build):
        def write(path: Path) -> None:
            content = build(path) if build.__code__.co_argcount else build()
            if isinstance(content, TrainingFile):
                files.save(path, content)

        SPECIMENS.append(
            Specimen(
                name=build.__name__, write=write, exit_code=exit_code, letters=letters, says=says
            )
        )
        return build

    return register


def claimed(problem: Problem, u: Controls, **changes) -> TrainingFile:
    """A file that claims what is true of it, costate included."""
    g, costate = gradient(problem, u)
    origin = {"objective": float(objective(problem, u)), "grad_inf_norm": float(np.abs(g).max())}
    keys = {"problem": problem, "controls": u, "costate": costate, "origin": origin}
    return TrainingFile(**(keys | changes))


def minimum(**changes) -> TrainingFile:
    return claimed(*solved(**changes))


def widened(problem: Problem, u: Controls) -> tuple[Problem, Controls]:
    """The same network inside a state space with one more, unused coordinate."""
    n, N = problem.width, problem.depth
    wide = problem.with_(
        width=n + 1,
        lift_weight=np.vstack([problem.lift_weight, np.zeros((1, problem.inputs.shape[1]))]),
        lift_bias=np.append(problem.lift_bias, 0.0),
        readout_weight=np.hstack([problem.readout_weight, np.zeros((problem.n_classes, 1))]),
    )
    A, b = np.zeros((N, n + 1, n + 1)), np.zeros((N, n + 1))
    A[:, :n, :n], b[:, :n] = u.A, u.b
    return wide, Controls(A=A, b=b)


def moved(content: TrainingFile, index: int, by: float) -> TrainingFile:
    """Move one decision variable and let the file claim what is then true."""
    u = flatten(content.controls)
    u[index] += by
    return claimed(content.problem, unflatten(content.problem, u))


def edited(path: Path, content: TrainingFile, metadata=None, tensors=None) -> None:
    """Save and then change the file behind the writer's back."""
    files.save(path, content)
    with safetensors.safe_open(path, framework="numpy") as file:
        meta = file.metadata()
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    for key, (old, new) in (metadata or {}).items():
        assert old in meta[key]
        meta[key] = meta[key].replace(old, new)
    for name, change in (tensors or {}).items():
        stored[name] = np.ascontiguousarray(change(stored[name]))
    path.write_bytes(safetensors.numpy.save(stored, meta))


@functools.cache
def curvature_at(eigenvalue: float) -> tuple[Problem, Controls]:
    """A stationary point in an unused coordinate whose least eigenvalue is as wanted.

    The eigenvalue grows with r, from -.025 at r = .05 to .017 at r = .1.
    """

    def point(r: float):
        problem, u = solved(r=0.05)
        problem = problem.with_(r=r)
        return widened(problem, minimise(problem, u))

    def least(r: float) -> float:
        return float(np.linalg.eigvalsh(assembled_hessian(*point(r)))[0])

    r = scipy.optimize.brentq(lambda r: least(r) - eigenvalue, 0.05, 0.1, xtol=1e-14, rtol=1e-13)
    return point(r)
