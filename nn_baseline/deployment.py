"""A trained network for use: logits, predictions, and files that need nothing of this project.

The statement's network carries its problem, samples included; this one is only what an evaluation
needs, an nn.Sequential of a lift, residual layers and a readout.  Scaled bytes are folded into
the lift: it takes the raw values as numbers.
"""

from __future__ import annotations

import importlib.util
import inspect
import io
import json
import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ocp import container
from ocp.atomic import write_atomically
from ocp.controls import ends
from ocp.problem import SCHEMES

from . import residual
from .model import Network

#: rows at a time, so that no prediction fills the memory
_CHUNK = 4096
STATE_FILE, SOURCE_FILE = "network.safetensors", "residual.py"
EXPORTED_FILE, ONNX_FILE = "network.pt2", "network.onnx"


class Deployed(nn.Module):
    """`network(x)` are logits, `predict(x)` class names; `to_torch()` is a plain nn.Sequential.

    classes : their names, in the order of the logits
    """

    def __init__(self, stack: nn.Sequential, classes: np.ndarray, settings: dict) -> None:
        super().__init__()
        self.stack, self.classes, self.settings = stack.eval(), classes, settings

    @property
    def depth(self) -> int:
        return self.settings["depth"]

    @property
    def width(self) -> int:
        return self.settings["width"]

    def forward(self, inputs: Any) -> Tensor:
        """Return the logits, (batch, n_classes), of tensors or arrays (batch, n_in)."""
        return self.stack(self._rows(inputs))

    @torch.no_grad()
    def logits(self, inputs: Any) -> np.ndarray:
        """Return the logits as an array, without gradients and a piece at a time."""
        rows = torch.as_tensor(inputs)
        pieces = [self(part).cpu().numpy() for part in rows.split(_CHUNK)]
        return np.concatenate(pieces)

    def predict(self, inputs: Any) -> np.ndarray:
        """Return the name of the class with the largest logit, (batch,)."""
        return self.classes[self.logits(inputs).argmax(axis=1)]

    def to_torch(self, dtype: torch.dtype = torch.float32) -> nn.Sequential:
        """Return a plain nn.Sequential on the CPU; its `Residual` is the file `residual.py`."""
        stack = residual.build(**self.settings).to(dtype)
        stack.load_state_dict({k: v.detach().cpu() for k, v in self.stack.state_dict().items()})
        return stack.eval()

    def _rows(self, inputs: Any) -> Tensor:
        weight = next(self.stack.parameters())
        rows = torch.as_tensor(inputs, dtype=weight.dtype, device=weight.device)
        if rows.ndim != 2 or rows.shape[1] != self.settings["n_in"]:
            raise ValueError(
                f"inputs have shape {tuple(rows.shape)}; wanted (samples, {self.settings['n_in']})"
            )
        return rows

    def __repr__(self) -> str:
        names = [str(name) for name in self.classes]
        shown = names if len(names) <= 10 else [*names[:8], "...", names[-1]]
        return (
            f"Deployed(depth={self.depth}, width={self.width}, inputs={self.settings['n_in']},"
            f" classes=[{', '.join(shown)}])"
        )


def deployed(
    network: Network, classes: np.ndarray | None = None, dtype: torch.dtype = torch.float64
) -> Deployed:
    """Return the network for use, without its samples.

    classes : names; default: those of the problem, else 0, 1, ...
    """
    problem, u = network.problem, network.controls()
    E, e, C, c = ends(problem, u)
    if problem.input_scale is not None:
        E, e = problem.input_scale * E, e + (problem.input_shift or 0.0) * E.sum(axis=1)
    settings = {
        "n_in": problem.inputs.shape[1],
        "n_classes": problem.n_classes,
        "depth": problem.depth,
        "width": problem.width,
        "h": problem.h,
        "nodes": list(SCHEMES[problem.scheme][0]),
        "slopes": list(SCHEMES[problem.scheme][1]),
        "double": problem.block == "double",
        "activation": problem.activation,
        "sharpness": problem.sharpness,
        "offset": float(problem.sigma.offset),
    }
    stack = residual.build(**settings).to(dtype)
    arrays = {"0.weight": E, "0.bias": e}
    for k in range(problem.depth):
        arrays |= {f"{k + 1}.inner.weight": u.A[k], f"{k + 1}.inner.bias": u.b[k]}
        if u.W is not None:
            arrays[f"{k + 1}.outer.weight"] = u.W[k]
    arrays |= {f"{problem.depth + 1}.weight": C, f"{problem.depth + 1}.bias": c}
    stack.load_state_dict({name: torch.tensor(array) for name, array in arrays.items()})
    if classes is None:
        names = problem.class_names
        classes = np.arange(problem.n_classes) if names is None else np.array(names)
    if len(classes) != problem.n_classes:
        raise ValueError(f"there are {len(classes)} names; wanted {problem.n_classes} classes")
    return Deployed(stack, np.asarray(classes), settings)


def write_plain(folder: str | os.PathLike, network: Deployed) -> None:
    """Write the weights and the source of `Residual`; together they need torch alone."""
    write_weights(Path(folder) / STATE_FILE, network)
    write_source(folder)


def write_source(folder: str | os.PathLike) -> None:
    """Write the file `residual.py`, which reads the weights."""
    write_atomically(Path(folder) / SOURCE_FILE, source())


def source() -> bytes:
    """Return the file that reads the weights, which needs torch and safetensors alone."""
    return inspect.getsource(residual).encode()


def write_weights(path: str | os.PathLike, network: Deployed) -> None:
    """Write the state_dict, float32, with what `residual.load` builds the network from."""
    tensors = {k: v.contiguous().numpy() for k, v in network.to_torch().state_dict().items()}
    metadata = {
        "network": json.dumps(network.settings, allow_nan=False),
        "classes": json.dumps([str(name) for name in network.classes]),
    }
    write_atomically(path, container.encoded(tensors, metadata))


def write_exported(path: str | os.PathLike, network: Deployed) -> None:
    """Write what torch.export makes of it; `torch.export.load(path).module()` is the network."""
    program = torch.export.export(
        network.to_torch(), (_two_rows(network),), dynamic_shapes=_any_batch()
    )
    content = io.BytesIO()
    torch.export.save(program, content)
    write_atomically(path, content.getvalue())


def can_write_onnx() -> bool:
    """Whether the extra `onnx` is installed."""
    return all(importlib.util.find_spec(name) is not None for name in ("onnx", "onnxscript"))


def write_onnx(path: str | os.PathLike, network: Deployed) -> None:
    """Write an ONNX file with input "inputs", output "logits" and the metadata "classes".

    Raises
    ------
    ValueError : the extra `onnx` is not installed
    """
    if not can_write_onnx():
        raise ValueError("an ONNX file needs onnx and onnxscript: install the extra `onnx`")
    exporter = logging.getLogger("torch.onnx")
    level = exporter.level
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own, about versions to come
        exporter.setLevel(logging.ERROR)  # and about other packages that are not installed
        try:
            program = torch.onnx.export(
                network.to_torch(),
                (_two_rows(network),),
                dynamo=True,
                dynamic_shapes=_any_batch(),
                input_names=["inputs"],
                output_names=["logits"],
                verbose=False,
            )
        finally:
            exporter.setLevel(level)
    if program is None:
        raise ValueError("torch's exporter returned no ONNX program")
    names = json.dumps([str(name) for name in network.classes])
    program.model.metadata_props["classes"] = names
    with tempfile.TemporaryDirectory() as scratch:  # it takes a name, and is written whole
        place = Path(scratch) / ONNX_FILE
        program.save(str(place), external_data=False)
        write_atomically(path, place.read_bytes())


def _two_rows(network: Deployed) -> Tensor:
    return torch.zeros(2, network.settings["n_in"])


def _any_batch() -> tuple:
    return ({0: torch.export.Dim("batch")},)
