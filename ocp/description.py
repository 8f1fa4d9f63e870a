"""A `Problem` as JSON or TOML: the statement's keys, and the data beside them.

[problem]                       any key of the statement; the others have their defaults
depth = 20
p_d = 0.9
[data]                          one of three
name = "spirals"                a generator of ocp.datasets, other keys are its arguments
file = "points.csv"             CSV, NPZ or NPY beside the description (ocp.data_files)
inputs = [[0.1, 0.2], ...]      inline, with labels = [0, ...]
[lift]                          optional: weight, bias
[readout]                       optional: weight, bias
"""

from __future__ import annotations

import inspect
import json
import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from . import data_files, datasets
from .atomic import write_atomically
from .problem import Problem

FORMAT = 1
REQUIRED = (
    *("n_classes", "depth", "width", "h", "scheme", "block"),
    *("activation", "shifted", "p_d", "r", "gamma", "beta"),
)
OPTIONAL = ("trained", "r_ends", "sharpness", "input_scale", "input_shift")
DEFAULTS = {"trained": ["layers"], "r_ends": 0.0, "sharpness": 1.0}
_SECTIONS = ("problem", "data", "lift", "readout")


def statement_of(problem: Problem) -> dict:
    """Return the JSON object stored under "problem" in a training file (no arrays)."""
    statement = {"format": FORMAT, **{key: getattr(problem, key) for key in REQUIRED}}
    for key in OPTIONAL:
        value = getattr(problem, key)
        value = list(value) if isinstance(value, tuple) else value
        if value is not None and value != DEFAULTS.get(key):
            statement[key] = value
    return statement


def problem_from_statement(statement: object, **arrays: Any) -> Problem:
    """Return the problem of a complete statement; refuse unknown, missing and future keys.

    arrays : inputs, labels and, where given, the four tensors of lift and readout
    """
    if not isinstance(statement, dict):
        raise ValueError(f'"problem" is {type(statement).__name__}; wanted a JSON object')
    check_format(statement)
    keys = _known_keys({k: v for k, v in statement.items() if k != "format"}, '"problem"')
    for key in REQUIRED:
        if key not in keys:
            raise ValueError(f'"problem" lacks the key {key!r}; wanted {", ".join(REQUIRED)}')
    return Problem(**keys, **arrays)


def check_format(statement: dict) -> None:
    """Raise ValueError unless "format" is the version that this code reads."""
    found = statement.get("format")
    if isinstance(found, bool) or found != FORMAT:
        newer = " (written by a newer version)" if isinstance(found, int) and found > FORMAT else ""
        raise ValueError(f'"problem" has format {found!r}{newer}; wanted {FORMAT}')


def describe(problem: Problem) -> dict:
    """Return the complete description, data and ends inline; `from_description` inverts it."""
    statement = statement_of(problem)
    del statement["format"]
    return {
        "problem": statement,
        "data": {"inputs": problem.inputs.tolist(), "labels": problem.labels.tolist()},
        **{
            end: {part: getattr(problem, f"{end}_{part}").tolist() for part in ("weight", "bias")}
            for end in ("lift", "readout")
        },
    }


def from_description(description: dict, folder: Path = Path()) -> Problem:
    """Return the problem of a description; `folder` is where relative data files are looked for."""
    unknown = sorted(set(description) - set(_SECTIONS))
    if unknown:
        raise ValueError(f"unknown section {unknown[0]!r}; wanted {', '.join(_SECTIONS)}")
    for section, content in description.items():
        if not isinstance(content, dict):
            raise ValueError(f"section {section!r} is {content!r}; wanted a table")
    statement = _known_keys(description.get("problem", {}), "section 'problem'")
    inputs, labels = _data(description.get("data", {"name": "spirals"}), folder)
    if "input_scale" in statement or "input_shift" in statement:
        inputs = _bytes(inputs)
    if "n_classes" not in statement and len(labels):
        statement["n_classes"] = max(2, int(labels.max()) + 1)
    for end in ("lift", "readout"):
        for part, value in description.get(end, {}).items():
            if part not in ("weight", "bias"):
                raise ValueError(f"unknown key {part!r} in section {end!r}; wanted weight, bias")
            statement[f"{end}_{part}"] = _array(f"{end}.{part}", value)
    return Problem(inputs=inputs, labels=labels, **statement)


def load(path: str | os.PathLike) -> Problem:
    """Read a problem from a .toml or .json description."""
    path = Path(path)
    text = path.read_bytes()
    description: object
    try:
        if path.suffix == ".toml":
            description = tomllib.loads(text.decode())
        elif path.suffix == ".json":
            description = loads_json(text.decode())
        else:
            raise ValueError(f"the suffix is {path.suffix!r}; wanted .toml or .json")
        if not isinstance(description, dict):
            raise ValueError(f"found {type(description).__name__}; wanted an object")
        return from_description(description, path.parent)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None


def save(path: str | os.PathLike, problem: Problem) -> None:
    """Write the complete description as .toml or .json, atomically."""
    path = Path(path)
    if path.suffix == ".toml":
        text = tomli_w.dumps(describe(problem))
    elif path.suffix == ".json":
        text = json.dumps(describe(problem), indent=1)
    else:
        raise ValueError(f"{path}: the suffix is {path.suffix!r}; wanted .toml or .json")
    write_atomically(path, text.encode())


def loads_json(text: str) -> object:
    """Parse JSON; refuse NaN, Infinity and keys given twice, which json.loads lets through."""

    def refuse(constant: str) -> None:
        raise ValueError(f"the JSON holds {constant}; wanted finite numbers")

    def unique(pairs: list[tuple[str, object]]) -> dict:
        found: dict[str, object] = {}
        for key, value in pairs:
            if key in found:
                raise ValueError(f"the JSON holds the key {key!r} twice; wanted each once")
            found[key] = value
        return found

    try:
        return json.loads(text, parse_constant=refuse, object_pairs_hook=unique)
    except RecursionError:
        raise ValueError("the JSON is nested too deeply") from None


def _known_keys(statement: dict, where: str) -> dict:
    for key in statement:
        if key not in REQUIRED + OPTIONAL:
            raise ValueError(
                f"unknown key {key!r} in {where}; wanted {', '.join(REQUIRED + OPTIONAL)}"
            )
    statement = dict(statement)
    if "trained" in statement:
        if not isinstance(statement["trained"], list):
            raise ValueError(f"trained is {statement['trained']!r}; wanted a list of names")
        statement["trained"] = tuple(statement["trained"])
    return statement


def _data(section: dict, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    given = [key for key in ("name", "file", "inputs") if key in section]
    if len(given) != 1:
        raise ValueError(
            f"section 'data' gives {given or 'nothing'}; wanted one of name, file, inputs"
        )
    arguments = {key: value for key, value in section.items() if key != given[0]}
    if given == ["inputs"]:
        if set(arguments) != {"labels"}:
            raise ValueError(f"beside inputs section 'data' has {sorted(arguments)}; wanted labels")
        return _array("inputs", section["inputs"]), _array("labels", section["labels"])
    if given == ["file"]:
        if arguments or not isinstance(section["file"], str):
            raise ValueError(f"section 'data' is {section!r}; wanted file = \"NAME\" alone")
        return data_files.read(folder / section["file"])
    name = section["name"]
    if name not in datasets.GENERATORS:
        raise ValueError(
            f"unknown dataset {name!r}; wanted one of {', '.join(datasets.GENERATORS)}"
        )
    generator = datasets.GENERATORS[name]
    names = tuple(inspect.signature(generator).parameters)
    for key in arguments:
        if key not in names:
            raise ValueError(f"unknown key {key!r} for dataset {name!r}; wanted {', '.join(names)}")
    return generator(**arguments)


def _array(name: str, value: object) -> np.ndarray:
    try:
        array = np.array(value)
    except ValueError:
        raise ValueError(f"{name} has rows of different lengths; wanted a rectangle") from None
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} has type {array.dtype}; wanted numbers")
    return array


def _bytes(inputs: np.ndarray) -> np.ndarray:
    if inputs.dtype.kind not in "iu" or inputs.min() < 0 or inputs.max() > 255:
        raise ValueError("input_scale is given but inputs are not integers in 0..255")
    return inputs.astype(np.uint8)
