"""One file under examination: its content and what has been evaluated of it, each once."""

from __future__ import annotations

import time
from functools import cached_property

import numpy as np

from ocp.controls import Controls
from ocp.files import TrainingFile
from ocp.problem import Problem

from . import adjoint, descent, hessian, states
from .minimisers import Minimisers

#: memory for which a dense reduced Hessian is still formed, and work for its products
HESSIAN_BYTES = 400 * 2**20
HESSIAN_WORK = 4e12
#: passes over the data unless --budget says more: ten Lanczos steps on a large file
BUDGET = 35.0


class TrainingSubject:
    """The evaluations of one training file, cached: several checks read the same numbers.

    content : the file;  tolerance : on the largest absolute entry of dJ/du, unscaled
    certify : whether slow rigorous variants were asked for
    budget : in passes, one being a gradient over the data, for what is iterative on large files
    """

    def __init__(
        self,
        content: TrainingFile,
        tolerance: float = 1e-8,
        certify: bool = False,
        budget: float = BUDGET,
    ) -> None:
        if not 0.0 < tolerance < np.inf:
            raise ValueError(f"the tolerance is {tolerance}; wanted a finite number above 0")
        self.content = content
        self.tolerance = tolerance
        self.certify = certify
        if not budget >= 0.0:
            raise ValueError(f"the budget is {budget}; wanted a number of passes of at least 0")
        self.budget = budget
        #: whether the survey is read off the pass that computes the gradient
        self.share_pass = False
        #: processor seconds of one gradient, and of Lanczos, once they have run
        self.pass_seconds = float("nan")
        self.lanczos_seconds, self.lanczos_steps = 0.0, 0
        self.lanczos_work = {"forward": 0, "backward": 0}

    @property
    def problem(self) -> Problem:
        return self.content.problem

    @property
    def controls(self) -> Controls:
        return self.content.controls

    @cached_property
    def survey(self) -> states.Survey:
        if not self.share_pass:
            return states.survey(self.problem, self.controls)
        return self._gradient_and_survey[1].result()

    @cached_property
    def minimisers(self) -> Minimisers:
        """Where each sample's loss is least."""
        return Minimisers(self.problem, self.controls)

    @cached_property
    def distances(self) -> np.ndarray:
        """dist_z of every sample to its minimiser at every layer, (N+1, n_d)."""
        result = np.empty((self.problem.depth + 1, self.problem.n_samples))
        for batch in states.batches(self.problem):
            if self.survey.logits is None:
                run = states.propagate(self.problem, self.controls, batch)
                z = states.logits(self.problem, self.controls, run.X)
            else:
                z = self.survey.logits[:, batch.rows]
            offset = self.minimisers.offset(z, batch.rows)
            result[:, batch.rows] = np.linalg.norm(offset, axis=-1)
        return result

    @cached_property
    def kinks(self) -> tuple[int, str]:
        """How many pre-activations lie on kinks, and the first one."""
        return states.kinks(self.problem, self.controls, self.survey)

    @cached_property
    def _gradient_and_survey(self) -> tuple:
        """One pass for both; `pass_seconds` counts what the gradient alone would take."""
        gathered, gathering = states.Gathering(self.problem, self.controls), 0.0

        def also(batch: states.Batch, run: states.Pass) -> None:
            nonlocal gathering
            started = time.process_time()
            if self.share_pass:
                gathered.add(batch, run)
            gathering += time.process_time() - started

        begun = time.process_time()
        found = adjoint.gradient_and_costate_norms(self.problem, self.controls, also)
        self.pass_seconds = time.process_time() - begun - gathering
        return found, gathered

    @property
    def _gradients(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._gradient_and_survey[0]

    @property
    def gradient(self) -> np.ndarray:
        """dJ/du at the rolled-out states, (d,)."""
        return self._gradients[0]

    @property
    def data_gradient(self) -> np.ndarray:
        """The part of it without the quadratic costs, (d,)."""
        return self._gradients[1]

    @property
    def costate_norms(self) -> np.ndarray:
        """Norm of lambda_k over all samples, (N+1,)."""
        return self._gradients[2]

    @cached_property
    def grad_inf_norm(self) -> float:
        """Largest absolute entry; NaN if any entry is NaN."""
        return float(np.abs(self.gradient).max())

    @cached_property
    def kink_descent(self) -> descent.Descent | None:
        """A direction of descent shown by evaluating J, for points on kinks; or None.

        The full search takes dozens of passes over the data; large files get one step along -g.
        """
        if self.too_large:
            return descent.descend_once(
                self.problem, self.controls, self.gradient, self.survey.objective, self.tolerance
            )
        return descent.descend_from_kink(self.problem, self.controls, self.gradient, self.tolerance)

    @property
    def too_large(self) -> str:
        """Why no dense reduced Hessian is formed, or ""."""
        d = self.problem.n_decision
        if 8.0 * d * d > HESSIAN_BYTES:
            return f"the reduced Hessian has {d} x {d} entries, {8 * d * d / 2**30:.1f} GiB"
        size = self.problem.n_samples * self.problem.depth * self.problem.width**2
        work = 20.0 * d * size
        if work > HESSIAN_WORK:
            return f"the {d} columns of the reduced Hessian cost {work:.0e} operations"
        return ""

    @cached_property
    def hessian(self) -> hessian.Spectrum:
        """The reduced Hessian by two routes, with its spectrum."""
        return hessian.spectrum(self.problem, self.controls)
