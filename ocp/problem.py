"""The training problem as an optimal control problem: one frozen, validated statement.

    minimise  J(u) = sum_k h [ sum_s w_s beta F(X_{k,s}) + (r/2) |u_k|^2 ]  +  gamma F(x_N)
    subject to  x_{k+1} = Phi_h(x_k, u_k),   x_0 = E s + e,     the u_k shared by all samples

A `Problem` says what is to be solved.  It knows no method: states, gradients and solvers live
elsewhere, and each room builds its own from this statement.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import activations, loss, validation
from .activations import Activation

#: explicit Runge-Kutta: stage s starts from x_k + h a_s K_{s-1}; (a, w)
SCHEMES: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "euler": ((0.0,), (1.0,)),
    "heun": ((0.0, 1.0), (1 / 2, 1 / 2)),
    "rk4": ((0.0, 1 / 2, 1 / 2, 1.0), (1 / 6, 1 / 3, 1 / 3, 1 / 6)),
}
#: of h and the weights
LARGEST = 1e100
#: sets a field of a frozen problem while it is made
Put = Callable[[str, object], None]
BLOCKS = ("single", "double")
TRAINABLE = ("layers", "lift", "readout")
#: E, e, C, c in the order in which trained ones follow the layers
END_PARTS = ("lift_weight", "lift_bias", "readout_weight", "readout_bias")


class _Cached:
    """Room for what a problem computes once; no field, so that copies compute it anew."""

    __slots__ = ("_soft_targets",)
    _soft_targets: np.ndarray


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Problem(_Cached):
    """The statement of one training problem; arrays are read-only.

    Parameters
    ----------
    inputs : samples s_i, (n_d, n_in) float64; or uint8 with `input_scale` and `input_shift`
    labels : classes y_i in 0..n_classes - 1, (n_d,) int64
    n_classes : n_c >= 2
    depth : N, number of layers
    width : n, dimension of the state
    h : step size of a layer
    scheme : "euler", "heun" or "rk4"
    block : "single", x' = sigma(A x + b), or "double", x' = W sigma(A x + b)
    activation : one of `ocp.activations.NAMES`
    shifted : sigma(v) - sigma(0), where sigma(0) is not 0; None means the default, true for these
    sharpness : k of sigma(k v) / k, for activations that have one
    p_d : probability of the true class in the soft target, 1/n_c < p_d <= 1 (1: hard targets)
    r : weight of (1/2)|u_k|^2 in the layer cost
    gamma : weight of the terminal data cost
    beta : 1 data cost in every layer (dissipative), 0 standard training
    trained : subset of ("layers", "lift", "readout") with "layers"
    r_ends : weight of (1/2)|.|^2 of a trained lift or readout
    lift_weight, lift_bias : E (n, n_in) and e (n,); default zero padding
    readout_weight, readout_bias : C (n_c, n) and c (n_c,); default eye and 0
    class_names, column_names : of the classes and the inputs, for figures and tables; no part of
        the statement

    Raises
    ------
    ValueError : one sentence with what was found and what was wanted

    Source: arXiv 2405.19013; every numerical default is this project's own choice.
    """

    inputs: np.ndarray
    labels: np.ndarray
    n_classes: int
    depth: int = 20
    width: int = 3
    h: float = 0.5
    scheme: str = "euler"
    block: str = "single"
    activation: str = "tanh"
    shifted: bool | None = None
    sharpness: float = 1.0
    p_d: float = 0.9
    r: float = 1e-3
    gamma: float = 1.0
    beta: int = 1
    trained: tuple[str, ...] = ("layers",)
    r_ends: float = 0.0
    # None asks for the default; a constructed problem has arrays (Any: callers may pass None)
    lift_weight: np.ndarray | Any = None
    lift_bias: np.ndarray | Any = None
    readout_weight: np.ndarray | Any = None
    readout_bias: np.ndarray | Any = None
    input_scale: float | None = None
    input_shift: float | None = None
    class_names: tuple[str, ...] | None = None
    column_names: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        put: Put = lambda name, value: object.__setattr__(self, name, value)  # noqa: E731
        for name, least in (("n_classes", 2), ("depth", 1), ("width", 1)):
            put(name, validation.integer(name, getattr(self, name), least))
        for name in ("h", "sharpness"):
            put(name, validation.positive(name, getattr(self, name)))
        for name in ("r", "gamma", "r_ends"):
            put(name, validation.at_least(name, getattr(self, name), 0))
        for name in ("h", "sharpness", "r", "gamma", "r_ends"):
            if getattr(self, name) > LARGEST:
                raise ValueError(
                    f"{name} is {getattr(self, name)}; wanted at most {LARGEST:g}, so that"
                    " objective and squares stay finite"
                )
        put("p_d", validation.number("p_d", self.p_d))
        for name, known in (
            ("scheme", tuple(SCHEMES)),
            ("block", BLOCKS),
            ("activation", activations.NAMES),
        ):
            validation.one_of(name, getattr(self, name), known)
        put("beta", validation.flag("beta", self.beta))
        validation.some_data_cost(self.beta, self.gamma)
        validation.soft_probability(self.n_classes, self.p_d)
        self._validate_activation(put)
        self._validate_trained(put)
        self._validate_data(put)
        self._validate_ends(put)
        for name, count in (("class_names", self.n_classes), ("column_names", self.n_inputs)):
            if getattr(self, name) is not None:
                put(name, validation.names(name, getattr(self, name), count))

    def _validate_activation(self, put: Put) -> None:
        sigma = Activation(self.activation)
        if self.shifted is None:
            put("shifted", sigma.shiftable)
        if not isinstance(self.shifted, bool):
            raise ValueError(f"shifted is {self.shifted!r}; wanted true or false")
        if self.shifted and not sigma.shiftable:
            known = [name for name in activations.NAMES if Activation(name).shiftable]
            raise ValueError(
                f"shifted is true for activation {self.activation!r};"
                f" wanted one of {', '.join(known)} (others are 0 at 0 already)"
            )
        if self.sharpness != 1.0 and not sigma.has_sharpness:
            known = [name for name in activations.NAMES if Activation(name).has_sharpness]
            raise ValueError(
                f"sharpness is {self.sharpness} for activation {self.activation!r};"
                f" wanted 1 (only {', '.join(known)} has a sharpness)"
            )

    def _validate_trained(self, put: Put) -> None:
        trained = self.trained
        if isinstance(trained, str) or not all(isinstance(t, str) for t in trained):
            raise ValueError(f"trained is {trained!r}; wanted a list of names")
        if not set(trained) <= set(TRAINABLE) or "layers" not in trained:
            raise ValueError(
                f"trained is {list(trained)}; wanted a subset of {list(TRAINABLE)} with 'layers'"
            )
        put("trained", tuple(t for t in TRAINABLE if t in trained))
        if self.r_ends > 0 and self.trained == ("layers",):
            raise ValueError(
                f"r_ends is {self.r_ends} but neither lift nor readout is trained; wanted 0"
            )

    def _validate_data(self, put: Put) -> None:
        inputs = np.asarray(self.inputs)
        if inputs.ndim != 2 or 0 in inputs.shape:
            raise ValueError(f"inputs have shape {inputs.shape}; wanted (n_d, n_in), neither 0")
        scaled = self.input_scale is not None or self.input_shift is not None
        if inputs.dtype == np.uint8 and scaled:
            put("input_scale", validation.number("input_scale", self.input_scale))
            shift = 0.0 if self.input_shift is None else self.input_shift
            put("input_shift", validation.number("input_shift", shift))
            put("inputs", _frozen(inputs))
        elif scaled:
            raise ValueError(
                f"input_scale and input_shift are given with inputs of type {inputs.dtype};"
                " wanted uint8 inputs, or neither of the two"
            )
        elif inputs.dtype.kind not in "fiu":
            raise ValueError(f"inputs have type {inputs.dtype}; wanted numbers")
        else:
            put("inputs", _frozen(inputs.astype(np.float64)))
            validation.finite("inputs", self.inputs)
        labels = np.asarray(self.labels)
        if labels.dtype.kind not in "iu":
            raise ValueError(f"labels have type {labels.dtype}; wanted integers")
        if labels.shape != (len(inputs),):
            raise ValueError(f"labels have shape {labels.shape}; wanted ({len(inputs)},)")
        validation.classes(labels, self.n_classes)
        put("labels", _frozen(labels.astype(np.int64)))

    def _validate_ends(self, put: Put) -> None:
        n, n_c, n_in = self.width, self.n_classes, self.inputs.shape[1]
        if self.lift_weight is None:
            if n < n_in:
                raise ValueError(
                    f"width is {n} but inputs have {n_in} coordinates; the default lift pads with"
                    f' zeros and wants width >= {n_in} (or give lift = "principal" or "gaussian",'
                    " or a lift_weight)"
                )
            put("lift_weight", np.eye(n, n_in))
        if self.readout_weight is None:
            put("readout_weight", np.eye(n_c, n))
        for name, shape in zip(END_PARTS, ((n, n_in), (n,), (n_c, n), (n_c,)), strict=True):
            given = getattr(self, name)
            value = np.zeros(shape) if given is None else np.asarray(given)
            if value.dtype.kind not in "fiu":
                raise ValueError(f"{name} has type {value.dtype}; wanted numbers")
            validation.shape(name, value, shape)
            put(name, _frozen(value.astype(np.float64)))
            validation.finite(name, getattr(self, name))

    @property
    def n_samples(self) -> int:
        """n_d."""
        return len(self.labels)

    @property
    def n_inputs(self) -> int:
        """n_in."""
        return int(self.inputs.shape[1])

    @property
    def classes(self) -> tuple[str, ...]:
        """What the classes are called: their names, or 0, 1, ..."""
        return self.class_names or tuple(str(c) for c in range(self.n_classes))

    @property
    def sigma(self) -> Activation:
        """The activation function."""
        return Activation(self.activation, bool(self.shifted), self.sharpness)

    @property
    def input_values(self) -> np.ndarray:
        """The samples as float64, (n_d, n_in)."""
        return self.input_rows(slice(None))

    def input_rows(self, rows: slice) -> np.ndarray:
        """Return some of the samples as float64, (rows, n_in)."""
        inputs = self.inputs[rows]
        if self.input_scale is not None and self.input_shift is not None:  # bytes
            return self.input_scale * inputs.astype(np.float64) + self.input_shift
        return inputs

    @property
    def soft_targets(self) -> np.ndarray:
        """q(y_i), (n_d, n_c), read-only, computed once."""
        if not hasattr(self, "_soft_targets"):
            q = _frozen(loss.soft_target(self.labels, self.n_classes, self.p_d))
            object.__setattr__(self, "_soft_targets", q)
        return self._soft_targets

    @property
    def layer_size(self) -> int:
        """Number of decision variables in one layer: n^2 + n, for block double 2n^2 + n."""
        n = self.width
        return (2 if self.block == "double" else 1) * n * n + n

    @property
    def trained_parts(self) -> tuple[str, ...]:
        """Those of `END_PARTS` that are decision variables."""
        return tuple(part for part in END_PARTS if part.partition("_")[0] in self.trained)

    @property
    def n_decision(self) -> int:
        """d: all layers, and the entries of trained ends."""
        ends = sum(getattr(self, part).size for part in self.trained_parts)
        return self.depth * self.layer_size + ends

    def with_(self, **changes: Any) -> Problem:
        """Return a copy with some fields replaced, validated again."""
        if changes.get("activation", self.activation) != self.activation:
            changes.setdefault("shifted", None)
            changes.setdefault("sharpness", 1.0)
        if {"labels", "n_classes"} & changes.keys():
            changes.setdefault("class_names", None)
        if "inputs" in changes:
            changes.setdefault("column_names", None)
        return dataclasses.replace(self, **changes)

    def cautions(self) -> tuple[str, ...]:
        """Return sentences on what is allowed but limits what can be concluded."""
        from . import cautions

        return cautions.cautions(self)


def _frozen(array: np.ndarray) -> np.ndarray:
    array = np.array(array, order="C")
    array.flags.writeable = False
    return array
