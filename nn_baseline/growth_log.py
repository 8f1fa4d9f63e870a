"""What a growth writes of itself: whose folder it is, and a line for each growth."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np

from ocp.atomic import write_atomically
from ocp.container import content_hash, json_values
from ocp.description import loads_json
from ocp.problem import Problem

from . import checkpoint
from .growth_plan import Plan
from .growth_result import Step

PLAN_FILE, LOG_FILE = "plan.json", "growth.jsonl"


def claim(
    folder: Path,
    problem: Problem,
    validation: tuple[np.ndarray, np.ndarray],
    plan: Plan,
    *,
    resume: bool,
) -> None:
    """Write whose growth this is, or compare with what is written there.

    Raises
    ------
    ValueError : the folder holds a growth and is not to be resumed, or another one (all that
        differs is listed); there is none to resume
    """
    path = folder / PLAN_FILE
    held_out = content_hash({}, {"inputs": validation[0], "labels": validation[1]})
    mine = {
        "plan": json_values(plan.stored()),
        "problem": json_values(checkpoint.fingerprint(problem.with_(depth=plan.first))),
        "validation": held_out,
    }
    if resume and not path.exists():
        raise ValueError(f"{path} is not there; wanted the folder of an earlier growth")
    if not resume:
        refuse_held(folder)
        text = json.dumps(mine, indent=1, sort_keys=True, allow_nan=False)
        write_atomically(path, (text + "\n").encode())
        return
    try:
        found = loads_json(path.read_text())
        if not isinstance(found, dict) or set(found) != set(mine):
            raise ValueError(f"wanted {', '.join(mine)}")
        changes = checkpoint.changes_of_problem(found["problem"], mine["problem"])
        changes += _changes_of_plan(found["plan"], mine["plan"])
    except (ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{path} is damaged ({error})") from None
    if found["validation"] != held_out:
        changes.append("the validation samples differ")
    if changes:
        raise ValueError(f"{path} is of another growth: {'; '.join(changes)}")


def refuse_held(folder: Path) -> None:
    """Raise ValueError if the folder holds a growth."""
    if (folder / PLAN_FILE).exists():
        raise ValueError(f"{folder} holds a growth; wanted --resume to go on with it, or another")


def _changes_of_plan(found: dict, wanted: dict) -> list[str]:
    return [
        f"{name} was {found.get(name)!r}, is {wanted.get(name)!r}"
        for name in sorted(set(found) | set(wanted))
        if found.get(name) != wanted.get(name)
    ]


class Log:
    """Writes the growths so far, one a line; a resumed growth writes the same lines again."""

    def __init__(self, folder: Path, also: Callable[[Step], None] | None) -> None:
        self.path, self.also, self.lines = folder / LOG_FILE, also, list[str]()

    def __call__(self, step: Step) -> None:
        line = json.dumps(json_values(dataclasses.asdict(step)), allow_nan=False)
        self.lines.append(line + "\n")
        write_atomically(self.path, "".join(self.lines).encode())
        if self.also is not None:
            self.also(step)
