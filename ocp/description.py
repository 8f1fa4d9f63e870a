"""A `Problem` as JSON or TOML: the statement's keys, and the data beside them.

lift = "principal"              or "gaussian" or "zeros" (also a key of [problem])
[problem]                       any key of the statement; the others have their defaults
depth = 20
p_d = 0.9
[data]                          one of three
name = "spirals"                a generator of ocp.datasets, other keys are its arguments
file = "points.csv"             a file or folder beside the description (ocp.data_files); the keys
label = "species"                 of ocp.data_options say how it is read
inputs = [[0.1, 0.2], ...]      inline, with labels = [0, ...]; classes and columns name them
standardise = true              with each of the three
[lift]                          optional, instead of the word: weight, bias
[readout]                       optional: weight, bias
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from . import data_files, datasets
from .atomic import write_atomically
from .data_options import DataOptions, refuse
from .problem import Problem
from .samples import WIDTH, Dataset
from .validation import classes, integer, number
from .validation import names as validation_names

FORMAT = 1
REQUIRED = (
    *("n_classes", "depth", "width", "h", "scheme", "block"),
    *("activation", "shifted", "p_d", "r", "gamma", "beta"),
)
OPTIONAL = ("trained", "r_ends", "sharpness", "input_scale", "input_shift")
DEFAULTS = {"trained": ["layers"], "r_ends": 0.0, "sharpness": 1.0}
_LONG_KEY = re.compile(r"""(?<![\w-])(("[^"\n]*"|'[^'\n]*'|[\w-]+)[ \t]*\.[ \t]*){50}""")
_SECTIONS = ("problem", "data", "lift", "readout")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Described:
    """A problem, and the samples that it was made of with what was said of them.

    note : what was decided beside
    """

    problem: Problem
    dataset: Dataset
    note: str = ""

    @property
    def says(self) -> str:
        """What was read, in one line."""
        return self.dataset.says + self.note if self.dataset.says else ""


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
    data: dict[str, Any] = {"inputs": problem.inputs.tolist(), "labels": problem.labels.tolist()}
    if problem.class_names is not None:
        data["classes"] = list(problem.class_names)
    if problem.column_names is not None:
        data["columns"] = list(problem.column_names)
    return {
        "problem": statement,
        "data": data,
        **{
            end: {part: getattr(problem, f"{end}_{part}").tolist() for part in ("weight", "bias")}
            for end in ("lift", "readout")
        },
    }


def from_description(
    description: dict,
    folder: Path = Path(),
    given: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Described:
    """Return what a description describes.

    folder : where relative data files are looked for
    given : reader's options that replace those of [data];  changes : keys of the statement
    """
    unknown = sorted(set(description) - set(_SECTIONS))
    if unknown:
        raise ValueError(f"unknown section {unknown[0]!r}; wanted {', '.join(_SECTIONS)}")
    for section, content in description.items():
        word = section == "lift" and isinstance(content, str)
        if not isinstance(content, dict) and not word:
            raise ValueError(f"section {section!r} is {content!r}; wanted a table")
    statement = {**description.get("problem", {}), **(changes or {})}
    lift = statement.pop("lift", None)
    if isinstance(description.get("lift"), str):
        if lift is not None:
            raise ValueError("lift is given twice; wanted it once")
        lift = description["lift"]
    if lift is not None and not isinstance(lift, str):
        raise ValueError(f"lift is {lift!r}; wanted zeros, gaussian or principal")
    statement = _known_keys(statement, "section 'problem'")
    n_classes = statement.pop("n_classes", None)
    if n_classes is not None:
        n_classes = integer("n_classes", n_classes, 2)
    section = description.get("data", {"name": "spirals"})
    dataset = _data(section, folder, n_classes, dict(given or {}))
    if "input_scale" in statement or "input_shift" in statement:
        dataset = dataclasses.replace(
            dataset,
            inputs=_bytes(dataset.inputs),
            scale=number("input_scale", statement.pop("input_scale", None)),
            shift=number("input_shift", statement.pop("input_shift", 0.0)),
        )
    for end in ("lift", "readout"):
        content = description.get(end, {})
        for part, value in content.items() if isinstance(content, dict) else ():
            if part not in ("weight", "bias"):
                raise ValueError(f"unknown key {part!r} in section {end!r}; wanted weight, bias")
            statement[f"{end}_{part}"] = _array(f"{end}.{part}", value)
    if "lift_bias" in statement and "lift_weight" not in statement and lift is not None:
        raise ValueError(f"lift is {lift!r} and a bias is given as well; wanted one of them")
    problem = dataset.problem(lift=lift, **statement)
    note = ""
    if "width" not in statement and problem.width != WIDTH:
        note = f"; width {problem.width}, as many as the inputs"
    return Described(problem=problem, dataset=dataset, note=note)


def load(path: str | os.PathLike) -> Problem:
    """Read a problem from a .toml or .json description."""
    return read(path).problem


def read(
    path: str | os.PathLike,
    given: Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
) -> Described:
    """Read a .toml or .json description with its data.

    given : options of the reader (`ocp.data_options`) in the place of those in [data]
    changes : keys of the statement in the place of those in [problem]

    Raises
    ------
    ValueError : one sentence that names the file
    OSError : the description or its data cannot be read
    """
    path = Path(path)
    text = path.read_bytes()
    description: object
    try:
        if path.suffix == ".toml":
            description = parse_toml(text.decode())
        elif path.suffix == ".json":
            description = loads_json(text.decode())
        else:
            raise ValueError(f"the suffix is {path.suffix!r}; wanted .toml or .json")
        if not isinstance(description, dict):
            raise ValueError(f"found {type(description).__name__}; wanted an object")
        return from_description(description, path.parent, given, changes)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None


def parse_toml(text: str) -> dict:
    """Parse TOML; refuse, as a ValueError, what would take the parser minutes or its stack."""
    if _LONG_KEY.search(text):  # tomllib takes the square of its length
        raise ValueError("a key of the TOML has more than 50 parts; wanted [problem], [data], ...")
    try:
        return tomllib.loads(text)
    except RecursionError:
        raise ValueError("the TOML is nested too deeply") from None


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


def _data(section: dict, folder: Path, n_classes: int | None, given: dict[str, Any]) -> Dataset:
    kinds = [key for key in ("name", "file", "inputs") if key in section]
    if len(kinds) != 1:
        raise ValueError(
            f"section 'data' gives {kinds or 'nothing'}; wanted one of name, file, inputs"
        )
    arguments = {key: value for key, value in section.items() if key != kinds[0]}
    if kinds == ["file"]:
        if not isinstance(section["file"], str):
            raise ValueError(f"file is {section['file']!r}; wanted the name of a file")
        options = DataOptions.of(arguments, "section 'data'").replaced(given)
        return data_files.read(folder / section["file"], options=options, n_classes=n_classes)
    standardise = arguments.pop("standardise", False)
    if not isinstance(standardise, bool):
        raise ValueError(f"standardise is {standardise!r}; wanted true or false")
    standardise = given.pop("standardise", standardise)
    refuse(given, "the data are no file")
    if kinds == ["inputs"]:
        names = {key: arguments.pop(key) for key in ("classes", "columns") if key in arguments}
        if set(arguments) != {"labels"}:
            raise ValueError(f"beside inputs section 'data' has {sorted(arguments)}; wanted labels")
        dataset = data_files.read(
            (_array("inputs", section["inputs"]), _array("labels", section["labels"], text=True)),
            n_classes=n_classes,
        )
        own, wide = names.get("classes"), names.get("columns")
        if own is not None:
            own = validation_names("classes", own, dataset.n_classes)
        if wide is not None:
            wide = validation_names("columns", wide, dataset.inputs.shape[1])
        own = dataset.classes if own is None else own
        return dataclasses.replace(dataset, standardise=standardise, classes=own, columns=wide)
    name = section["name"]
    if not isinstance(name, str) or name not in datasets.GENERATORS:
        raise ValueError(
            f"unknown dataset {name!r}; wanted one of {', '.join(datasets.GENERATORS)}"
        )
    generator = datasets.GENERATORS[name]
    keys = tuple(inspect.signature(generator).parameters)
    for key, value in arguments.items():
        if key not in keys:
            raise ValueError(f"unknown key {key!r} for dataset {name!r}; wanted {', '.join(keys)}")
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            raise ValueError(f"{key} is {value!r}; wanted a number")
    inputs, labels = generator(**arguments)
    count = max(2, int(labels.max()) + 1) if n_classes is None else n_classes
    classes(labels, count)
    return Dataset(
        name=name, inputs=inputs, labels=labels, n_classes=count, standardise=standardise
    )


def _array(name: str, value: object, text: bool = False) -> np.ndarray:
    try:
        array = np.array(value)
    except ValueError:
        raise ValueError(f"{name} has rows of different lengths; wanted a rectangle") from None
    if text and array.dtype.kind in "Ub" and array.ndim == 1:
        kinds = {type(item) for item in value} if isinstance(value, list) else set()
        if len(kinds) > 1:
            raise ValueError(f"{name} mixes text with other values; wanted one kind")
        return array
    if array.dtype.kind not in "fiu":
        raise ValueError(f"{name} has type {array.dtype}; wanted numbers")
    return array


def _bytes(inputs: np.ndarray) -> np.ndarray:
    if inputs.min() < 0 or inputs.max() > 255 or (inputs != np.rint(inputs)).any():
        raise ValueError("input_scale is given but inputs are not integers in 0..255")
    return inputs.astype(np.uint8)
