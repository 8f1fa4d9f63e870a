"""Training on disk: the state to resume from, and the training file that the other rooms read.

The state is one safetensors file (parameters, optimiser, counters), replaced atomically, so a
killed process finds either the old one or the new one.  Its structure is JSON in the metadata
with tensors by name: nothing is pickled, and nothing from a file is executed.
"""

from __future__ import annotations

import json
import math
import os

import numpy as np
import torch

from ocp import container, files
from ocp.atomic import write_atomically
from ocp.container import content_hash
from ocp.description import statement_of
from ocp.files import TrainingFile
from ocp.problem import END_PARTS, Problem

from .evaluation import objective_and_gradient
from .model import Network
from .start import samples

STATE_FORMAT = "training-state-2"
STATE_FILE, TRAINING_FILE, LOG_FILE = "state.safetensors", "checkpoint.safetensors", "log.jsonl"


def fingerprint(problem: Problem) -> dict:
    """Return what identifies a problem: the statement, and the sha256 of each of its arrays."""
    arrays = {name: getattr(problem, name) for name in ("inputs", "labels", *END_PARTS)}
    return {
        "statement": statement_of(problem),
        "arrays": {name: content_hash({}, {name: array}) for name, array in arrays.items()},
    }


def changes_of_problem(found: object, wanted: dict) -> list[str]:
    """Name what differs between a stored fingerprint and the wanted one.

    Raises
    ------
    ValueError : what was stored is no fingerprint
    """
    if not isinstance(found, dict) or set(found) != set(wanted):
        raise ValueError("the problem is no statement with arrays")
    theirs, ours = found["statement"], wanted["statement"]
    if not isinstance(theirs, dict) or not isinstance(found["arrays"], dict):
        raise ValueError("the problem is no statement with arrays")
    changes = [
        f"{key} was {theirs.get(key)!r}, is {ours.get(key)!r}"
        for key in sorted(set(theirs) | set(ours))
        if theirs.get(key) != ours.get(key)
    ]
    differ = [n for n, digest in wanted["arrays"].items() if found["arrays"].get(n) != digest]
    return changes + ([f"the numbers of {', '.join(differ)} differ"] if differ else [])


def save_state(path: str | os.PathLike, tree: dict) -> None:
    """Write a tree of dicts, lists, numbers, strings, None and tensors, atomically.

    Equal trees give equal bytes, whatever the order of their keys.
    """
    tensors: dict[str, np.ndarray] = {}
    structure = _pack(tree, tensors, "t")
    metadata = {"format": STATE_FORMAT, "structure": json.dumps(structure, allow_nan=True)}
    write_atomically(path, container.encoded(tensors, metadata))


def load_state(path: str | os.PathLike) -> dict:
    """Read what `save_state` wrote; tensors arrive on the CPU.

    Raises
    ------
    ValueError : the file is no training state, with the reason
    OSError : the file cannot be read
    """
    try:
        stored, metadata = container.read(path, framework="pt")
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None
    # cloned: a tensor inside the file's buffer has another alignment, and BLAS then adds in
    # another order; a resumed run would differ in the last bit
    tensors = {name: tensor.clone() for name, tensor in stored.items()}
    if metadata.get("format") != STATE_FORMAT or "structure" not in metadata:
        raise ValueError(
            f"{path}: the format is {metadata.get('format')!r}; wanted {STATE_FORMAT!r}"
        )
    try:
        tree = _unpack(json.loads(metadata["structure"]), tensors)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(f"{path}: the structure is damaged ({error})") from None
    if not isinstance(tree, dict):
        raise ValueError(f"{path}: the state is {type(tree).__name__}; wanted a dict")
    return tree


def save_training(
    path: str | os.PathLike,
    network: Network,
    *,
    origin: dict | None = None,
    test: tuple[np.ndarray, np.ndarray] | None = None,
    reference: dict | None = None,
    claim: bool = True,
) -> str:
    """Write the network as a training file and return its content hash.

    J and its gradient at what is stored are evaluated in float64 and claimed in "origin": one
    pass over the data.

    test : held-out inputs and labels, no part of J
    reference : {"name", "sha256", "rows"} to keep the samples in another file; see
        `ocp.files`; the file is then a few hundred kilobytes, whatever the data
    claim : False leaves J and its gradient out, where there is no time for that pass
    """
    test_inputs, test_labels = test if test is not None else (None, None)
    problem, u = network.problem, network.controls()
    claims: dict[str, float] = {}
    if claim:
        exact = Network(problem, u)
        J, largest = objective_and_gradient(exact, *samples(exact))
        claims = {"objective": J, "grad_inf_norm": largest}
        claims = {name: value for name, value in claims.items() if math.isfinite(value)}
    content = TrainingFile(
        problem=problem,
        controls=u,
        test_inputs=test_inputs,
        test_labels=test_labels,
        origin={"producer": "nn_baseline", "versions": {"torch": torch.__version__}}
        | claims
        | (origin or {}),
        data=reference,
    )
    return files.save(path, content)


def load_training(
    path: str | os.PathLike,
    data: str | os.PathLike | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> tuple[Network, TrainingFile]:
    """Return the network of a training file, trained or exactly solved, and the file's content."""
    content = files.load(path, data)
    network = Network(content.problem, content.controls, dtype=dtype, device=device)
    return network, content


def _pack(value: object, tensors: dict[str, np.ndarray], name: str) -> object:
    if isinstance(value, torch.Tensor):
        tensors[name] = value.detach().cpu().contiguous().numpy()
        return {"tensor": name}
    if isinstance(value, dict):
        items = sorted(value.items(), key=lambda item: (str(type(item[0])), item[0]))
        return {"dict": [[_pack(k, {}, ""), _pack(v, tensors, f"{name}.{k}")] for k, v in items]}
    if isinstance(value, (list, tuple)):
        return {"list": [_pack(v, tensors, f"{name}.{i}") for i, v in enumerate(value)]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"{name} is {type(value).__name__}; wanted numbers, strings and tensors")


def _unpack(value: object, tensors: dict[str, torch.Tensor]) -> object:
    if not isinstance(value, dict):
        if isinstance(value, list):
            raise ValueError("a bare list")
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "dict":
        found = {k: _unpack(v, tensors) for k, v in content}
        if len(found) != len(content):
            raise ValueError("a key comes twice")
        return found
    if kind == "list":
        return [_unpack(v, tensors) for v in content]
    raise ValueError(f"unknown node {kind!r}")
