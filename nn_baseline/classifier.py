"""An estimator after scikit-learn's rules: the depth that the data need, found while training.

classifier = TurnpikeClassifier(random_state=0).fit(X, y)
classifier.depth_, classifier.score(X_test, y_test)
print(classifier.diagnosis_)
"""

from __future__ import annotations

import dataclasses
import math
import os
from typing import Any

import numpy as np
import torch

from ocp.lift import Standardisation
from ocp.loss import off_target
from ocp.samples import Dataset

from . import cropping
from .checkpoint import save_training
from .deployment import deployed
from .diagnosis_of_depth import figure, sentences
from .growing import grow, right
from .growth_plan import Plan
from .growth_result import Grown
from .initialisation import problem_of
from .model import Network
from .options import Options
from .result import Status

try:
    from sklearn.base import BaseEstimator, ClassifierMixin
    from sklearn.utils import check_random_state
    from sklearn.utils.multiclass import check_classification_targets
    from sklearn.utils.validation import check_array, check_is_fitted, validate_data
except ImportError:
    raise ImportError("TurnpikeClassifier needs scikit-learn: install the extra `data`") from None

#: steps of a phase where no epochs are given; our choice
_STEPS = 1000
#: training samples from which on the default rate is lower
_MANY = 10_000
#: validation samples beyond which an interval is narrow enough
_MOST_VALIDATION = 10_000


class TurnpikeClassifier(ClassifierMixin, BaseEstimator):
    """A residual network grown from one layer to the depth that validation accuracy needs.

    Parameters
    ----------
    width : dimension of the state; None: the number of inputs, between 16 and 64
    shallowest, deepest : layers to begin with, and at most; equal: a network of that depth
    h, activation, scheme, block, p_d, r, beta : of the statement; p_d is the probability of the
        true class in the soft target
    phase_epochs : passes over the samples after each growth; None: about 1000 steps
    final_epochs : passes while the rate falls to its end; None: three phases
    optimizer, lr, batch_size : of both; batch_size 0 is the whole set, None 128; lr None is 0.01,
        from 10,000 training samples on 0.003
    worth, patience, tolerance, append : of `nn_baseline.Plan`
    validation_fraction : share of the samples that decides the depth, stratified; the first
        10,000 at most
    standardise : the inputs, within the lift; bytes (uint8) are divided by the largest
    device, dtype : of the training
    random_state : seed of start, order and split

    Attributes
    ----------
    classes_ : names, (n_classes,);  n_features_in_, feature_names_in_ : of the inputs
    depth_ : the least depth whose paired 95 % interval to the best holds -tolerance or more
    gain_depth_ : the depth that the objective uses
    depth_curve_ : for each depth tried: depth, accuracy, low, high (points to the best depth),
        loss, objective, multiply_adds; on validation data, before annealing
    gain_ : gain over idling of each growth, (growths,)
    history_ : each growth with both gains and the validation loss, as dictionaries
    right_, validation_score_ : which validation samples the annealed network gets right, and how
        many of them
    network_ : `nn_baseline.Deployed`;  diagnosis_ : sentences on the depth
    """

    def __init__(
        self,
        *,
        width: int | None = None,
        shallowest: int = 1,
        deepest: int = 12,
        h: float = 0.5,
        activation: str = "tanh",
        scheme: str = "euler",
        block: str = "single",
        p_d: float = 0.9,
        r: float = 1e-4,
        beta: int = 1,
        phase_epochs: int | None = None,
        final_epochs: int | None = None,
        optimizer: str = "adam",
        lr: float | None = None,
        batch_size: int | None = None,
        worth: float = 0.002,
        patience: int = 1,
        tolerance: float = 0.2,
        append: str = "random",
        validation_fraction: float = 0.2,
        standardise: bool = True,
        device: str = "cpu",
        dtype: str = "float32",
        random_state: Any = None,
    ) -> None:
        self.width = width
        self.shallowest = shallowest
        self.deepest = deepest
        self.h = h
        self.activation = activation
        self.scheme = scheme
        self.block = block
        self.p_d = p_d
        self.r = r
        self.beta = beta
        self.phase_epochs = phase_epochs
        self.final_epochs = final_epochs
        self.optimizer = optimizer
        self.lr = lr
        self.batch_size = batch_size
        self.worth = worth
        self.patience = patience
        self.tolerance = tolerance
        self.append = append
        self.validation_fraction = validation_fraction
        self.standardise = standardise
        self.device = device
        self.dtype = dtype
        self.random_state = random_state

    def fit(
        self, X: Any, y: Any, *, validation: tuple[Any, Any] | None = None, **growth: Any
    ) -> TurnpikeClassifier:
        """Grow and train; return the estimator.

        validation : samples of one's own that decide the depth; default a part of X, y
        growth : folder, resume, record, report, should_stop of `nn_baseline.grow`

        Raises
        ------
        ValueError : samples or parameters that do not fit, in one sentence
        """
        if not 0 < self.validation_fraction < 1:
            raise ValueError(
                f"validation_fraction is {self.validation_fraction}; wanted between 0 and 1"
            )
        X, y = validate_data(self, X, y, dtype=(np.float64, np.uint8))
        check_classification_targets(y)
        self.classes_, labels = np.unique(y, return_inverse=True)
        if len(self.classes_) < 2:
            raise ValueError(
                f"all labels are one class, {self.classes_[0]}; wanted samples of at least two"
            )
        rng = check_random_state(self.random_state)
        seed = int(rng.randint(2**31 - 1))
        if validation is None:
            held = _stratified(labels, self.validation_fraction, np.random.default_rng(seed))
            if held.all() or not held.any():
                parts = (X, labels), (X, labels)
            else:
                parts = (X[~held], labels[~held]), (X[held], labels[held])
        else:
            parts = (X, labels), self._given(validation, X.dtype)
        (inputs, labels), held_out = parts
        standard = self._standardisation(inputs)
        dataset = Dataset(
            name="X",
            inputs=inputs if standard is None else standard(inputs),
            labels=labels.astype(np.int64),
            n_classes=len(self.classes_),
            scale=1 / max(1, int(inputs.max())) if inputs.dtype == np.uint8 else None,
            shift=0.0 if inputs.dtype == np.uint8 else None,
            classes=tuple(str(name) for name in self.classes_),
        )
        problem = self._problem(dataset, seed)
        plan = self._plan(len(labels), seed)
        scaled = held_out[0] if standard is None else standard(held_out[0])
        found = grow(problem, (scaled, held_out[1].astype(np.int64)), plan, **growth)
        if found.status is Status.INTERRUPTED:
            raise KeyboardInterrupt
        if found.status is not Status.FINISHED:
            raise ValueError(f"{found.status.value} {found.message}".rstrip())
        self._keep(found, standard, inputs)
        shown = (held_out[0], held_out[1].astype(np.int64))
        self.right_ = right(self.trained_, shown)
        self.validation_score_ = float(self.right_.mean())
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the class names, (n,)."""
        z = self._logits(X)
        return self.classes_[z.argmax(axis=1)]

    def predict_proba(self, X: Any) -> np.ndarray:
        """Return the probability of each class, (n, n_classes), with the soft targets undone.

        They are calibrated as far as the network is; see `undone`.
        """
        z = self._logits(X)
        z = np.exp(z - z.max(axis=1, keepdims=True))
        return undone(z / z.sum(axis=1, keepdims=True), self.p_d)

    def plot_depth(self, ax: Any = None) -> Any:
        """Draw validation accuracy and gain by depth; return the matplotlib axes."""
        check_is_fitted(self)
        return figure(self.depth_curve_, self.history_, self.depth_, ax)

    def save_training(self, path: str | os.PathLike) -> str:
        """Write the training file that the judge reads, samples included; return its hash.

        Its inputs are those given, its lift standardises them: an evaluation is the same, but
        first-order training from the file is as badly scaled as the inputs are.

        Raises
        ------
        ValueError : the estimator comes from a pickle, which carries no samples
        """
        check_is_fitted(self)
        if getattr(self, "trained_", None) is None:
            raise ValueError("a pickled estimator carries no samples; fit it again for the file")
        return save_training(path, self.trained_, origin={"optimizer": self.optimizer})

    def __getstate__(self) -> dict:
        return {name: value for name, value in super().__getstate__().items() if name != "trained_"}

    def _logits(self, X: Any) -> np.ndarray:
        check_is_fitted(self)
        X = validate_data(self, X, dtype=(np.float64, np.uint8), reset=False)
        return self.network_.logits(X.astype(np.float64))

    def _given(self, validation: tuple[Any, Any], dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        inputs = check_array(validation[0], dtype=dtype)
        names = np.asarray(validation[1])
        if inputs.shape[1] != self.n_features_in_ or names.shape != (len(inputs),):
            raise ValueError(
                f"validation has shapes {inputs.shape} and {names.shape}; wanted"
                f" {self.n_features_in_} columns and a label for each row"
            )
        labels = np.searchsorted(self.classes_, names).clip(0, len(self.classes_) - 1)
        strange = names[self.classes_[labels] != names]
        if len(strange):
            raise ValueError(f"validation has the class {strange[0]}, which y does not have")
        return inputs, labels

    def _standardisation(self, inputs: np.ndarray) -> Standardisation | None:
        if not self.standardise or inputs.dtype == np.uint8:
            return None
        return Standardisation.of(inputs)

    def _problem(self, dataset: Dataset, seed: int) -> Any:
        n_in = dataset.inputs.shape[1]
        return problem_of(
            dataset,
            width=min(64, max(16, n_in)) if self.width is None else self.width,
            trained=("layers", "lift", "readout"),
            seed=seed,
            depth=1,
            **{name: getattr(self, name) for name in _STATEMENT},
        )

    def _plan(self, n: int, seed: int) -> Plan:
        batch = min(128 if self.batch_size is None else self.batch_size, n)
        if self.optimizer == "lbfgs" and self.batch_size is None:
            batch = 0
        steps = math.ceil(n / batch) if batch else 1
        first = 10 if self.optimizer == "lbfgs" else min(max(2, math.ceil(_STEPS / steps)), 100)
        epochs = first if self.phase_epochs is None else self.phase_epochs
        final = 3 * epochs if self.final_epochs is None else self.final_epochs
        rate = 0.01 if n < _MANY else 0.003  # images were trained badly at 0.01
        if self.optimizer == "lbfgs":
            rate = 1.0
        phase = Options(
            optimizer=self.optimizer,
            lr=rate if self.lr is None else self.lr,
            epochs=epochs,
            batch_size=batch,
            evaluate_every=0,
            init_scale=0.1,
            seed=seed,
            dtype=self.dtype,
            device=self.device,
        )
        schedule = "constant" if self.optimizer == "lbfgs" else "cosine"
        annealing = dataclasses.replace(phase, epochs=final, schedule=schedule)
        return Plan(
            phase=(phase,),
            final=(annealing,),
            first=self.shallowest,
            deepest=self.deepest,
            worth=self.worth,
            patience=self.patience,
            tolerance=self.tolerance,
            append=self.append,
        )

    def _keep(self, found: Grown, standard: Standardisation | None, inputs: np.ndarray) -> None:
        """Set what a fit leaves behind; the network takes the inputs as they were given."""
        self.trained_ = found.network if standard is None else _folded(found, standard, inputs)
        self.network_ = deployed(self.trained_, self.classes_).to("cpu")
        self.depth_, self.gain_depth_ = found.depth, found.gain_depth
        self.depth_curve_ = [
            row | {"multiply_adds": cropping.multiply_adds(found.network.problem, row["depth"])}
            for row in found.curve()
        ]
        self.gain_ = np.array([step.gain for step in found.steps])
        self.history_ = [dataclasses.asdict(step) for step in found.steps]
        self.diagnosis_ = "\n".join(sentences(found, self.tolerance))
        self.work_ = found.work


def undone(softmax: np.ndarray, p_d: float) -> np.ndarray:
    """Return probabilities without the softness of the targets, (n, n_classes).

    Where classes have the probabilities p, soft targets have the mean eps + (p_d - eps) p, which
    minimises the loss; solved for p, cut to [0, 1] and normalised.
    """
    eps = off_target(softmax.shape[1], p_d)
    p = np.clip((softmax - eps) / (p_d - eps), 0.0, 1.0)
    return p / p.sum(axis=1, keepdims=True)


_STATEMENT = ("h", "activation", "scheme", "block", "p_d", "r", "beta")


def _folded(found: Grown, standard: Standardisation, inputs: np.ndarray) -> Network:
    """Return the network on the raw inputs: no weight lies on the lift, so J is the same."""
    network = found.network
    u = network.controls()
    if u.lift_weight is None or u.lift_bias is None:
        raise ValueError("the lift is not trained; wanted one that standardising can go into")
    E, e = standard.folded(u.lift_weight, u.lift_bias)
    problem = network.problem.with_(inputs=inputs, lift_weight=E, lift_bias=e)
    raw = dataclasses.replace(u, lift_weight=E, lift_bias=e)
    return Network(problem, raw, dtype=torch.float64)


def _stratified(labels: np.ndarray, share: float, rng: np.random.Generator) -> np.ndarray:
    """Return which samples are held out, (n,) bool: a share of each class, one stays at least."""
    held = np.zeros(len(labels), bool)
    share = min(share, _MOST_VALIDATION / len(labels))
    for label in np.unique(labels):
        members = rng.permutation(np.flatnonzero(labels == label))
        held[members[: min(round(share * len(members)), len(members) - 1)]] = True
    return held
