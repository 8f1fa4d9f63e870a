"""One file under examination: what has been evaluated of it, each once, whatever the file is.

    TrainingSubject   a training file: states, costates and derivatives are computed here
    TraceSubject      a stage trace: logits and norms of a network that is not here

What checks of both share is the protocol `Subject`.  A number that is unknown is NaN: no check
passes on it.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol, final

import numpy as np

from ocp import loss
from ocp.controls import Controls
from ocp.files import TrainingFile
from ocp.problem import Problem
from ocp.trace import Trace

from ..balls import enclosures
from ..balls.enclosures import Enclosures
from ..report import Finding, Verdict
from . import adjoint, descent, hessian, lanczos, newton, states
from .minimisers import Minimisers
from .null_directions import null_directions

#: memory for which a dense reduced Hessian is still formed, and work for its products
HESSIAN_BYTES = 400 * 2**20
HESSIAN_WORK = 4e12
#: passes over the data unless --budget says more: ten Lanczos steps on a large file
BUDGET = 35.0
#: passes that one Lanczos step costs at most, and that the other checks cost together
PASSES_A_STEP, PASSES_BEFORE = 3.0, 5.0
NO_STATES = "a stage trace holds no states, costates or derivatives"
UNKNOWN_DATA = "a stage trace does not hold the data that its logits come from"
Progress = Callable[[str], None]


class Stored(Protocol):
    """What every kind of file says of itself."""

    @property
    def origin(self) -> dict: ...
    @property
    def sha256(self) -> str: ...
    @property
    def float32(self) -> tuple[str, ...]: ...


class Subject(Protocol):
    """A file under examination, of any kind.

    tolerance : on the largest absolute entry of dJ/du, unscaled
    certify : whether slow rigorous variants were asked for
    """

    @property
    def content(self) -> Stored: ...
    @property
    def tolerance(self) -> float: ...
    @property
    def certify(self) -> bool: ...
    @property
    def problem(self) -> Problem: ...
    @property
    def survey(self) -> states.Survey: ...
    @property
    def minimisers(self) -> Minimisers: ...
    @property
    def distances(self) -> np.ndarray: ...
    @property
    def ends_cost(self) -> float: ...
    @property
    def enclosures(self) -> Enclosures | None: ...
    @property
    def sharper_enclosures(self) -> Enclosures | None: ...
    @property
    def why_not_enclosed(self) -> str: ...
    @property
    def grad_inf_norm(self) -> float: ...


@dataclass(slots=True)
class LanczosCost:
    """What Lanczos has taken so far: processor seconds, steps, and its passes."""

    seconds: float = 0.0
    steps: int = 0
    forward: int = 0
    backward: int = 0


def decided(subject: Subject, line: Callable[[Enclosures], Finding]) -> Finding:
    """Return a line about enclosures, of more bits where the first ones leave it open."""
    if subject.enclosures is None:
        raise ValueError(f"nothing is enclosed: {subject.why_not_enclosed}")
    first = line(subject.enclosures)
    if first.verdict is not Verdict.INCONCLUSIVE or subject.sharper_enclosures is None:
        return first
    return line(subject.sharper_enclosures)


def _require_positive(tolerance: float) -> None:
    if not 0.0 < tolerance < np.inf:
        raise ValueError(f"the tolerance is {tolerance}; wanted a finite number above 0")


@final
class TrainingSubject:
    """The evaluations of one training file, cached: several checks read the same numbers.

    content : the file;  tolerance, certify : as in `Subject`
    budget : in passes, one being a gradient over the data, for what is iterative on large files
    share_pass : whether the survey is read off the pass that computes the gradient
    progress : told what takes long
    named : the checks that were asked for by name
    """

    def __init__(
        self,
        content: TrainingFile,
        tolerance: float = 1e-8,
        certify: bool = False,
        budget: float = BUDGET,
        share_pass: bool = False,
        progress: Progress = lambda text: None,
        named: frozenset[str] = frozenset(),
    ) -> None:
        _require_positive(tolerance)
        if not budget >= 0.0:
            raise ValueError(f"the budget is {budget}; wanted a number of passes of at least 0")
        self.content, self.tolerance, self.certify = content, tolerance, certify
        self.budget, self.share_pass, self.progress = budget, share_pass, progress
        self.named = named
        #: processor seconds of one gradient, once it has run
        self.pass_seconds = float("nan")
        self.lanczos_cost = LanczosCost()

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

    @property
    def ends_cost(self) -> float:
        """(r_ends/2) times the squared norm of the trained ends."""
        return states.ends_cost(self.problem, self.controls)

    @property
    def why_not_enclosed(self) -> str:
        """Why nothing of this file is computed with outward rounding, or ""."""
        return enclosures.why_not(self.problem)

    @cached_property
    def enclosures(self) -> Enclosures | None:
        """Costs and decisions with outward rounding; None where `why_not_enclosed` says why."""
        if self.why_not_enclosed:
            return None
        return enclosures.enclose(self.problem, self.controls)

    @cached_property
    def sharper_enclosures(self) -> Enclosures | None:
        """The same in the most bits, for comparisons that the first ones leave open."""
        if self.enclosures is None or self.enclosures.bits == enclosures.BITS[-1]:
            return None
        return enclosures.enclose(self.problem, self.controls, enclosures.BITS[-1:])

    @cached_property
    def kinks(self) -> tuple[int, str]:
        """How many pre-activations lie on kinks, and the first one."""
        return states.kinks(self.problem, self.controls, self.survey)

    @cached_property
    def _gradient_and_survey(
        self,
    ) -> tuple[tuple[np.ndarray, np.ndarray, np.ndarray], states.Gathering]:
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
    def gradient(self) -> np.ndarray:
        """dJ/du at the rolled-out states, (d,)."""
        return self._gradient_and_survey[0][0]

    @property
    def data_gradient(self) -> np.ndarray:
        """The part of it without the quadratic costs, (d,)."""
        return self._gradient_and_survey[0][1]

    @property
    def costate_norms(self) -> np.ndarray:
        """Norm of lambda_k over all samples, (N+1,)."""
        return self._gradient_and_survey[0][2]

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

    @cached_property
    def null_directions(self) -> dict[str, np.ndarray]:
        """Exact null directions of the reduced Hessian by structural reason."""
        return null_directions(self.problem, self.controls, self.hessian)

    @cached_property
    def gradient_size(self) -> float:
        """What rounding of the gradient is relative to."""
        return adjoint.gradient_size(self.problem, self.controls)

    @cached_property
    def contraction(self) -> newton.Contraction:
        """Whether Newton's method contracts here, by dense Hessians or within the budget."""
        problem, controls, g = self.problem, self.controls, self.gradient
        size = self.gradient_size
        if not self.too_large:
            return newton.by_spectrum(problem, controls, g, size, self.hessian)
        # Lanczos comes first: it decides the curvature, and what it leaves is for the steps
        used = 0 if self.least_curvature is None else self.least_curvature.steps
        left = max(0, int((self.budget - PASSES_BEFORE) // PASSES_A_STEP) - used)
        begun = time.process_time()
        with states.counting() as work:
            found = newton.by_products(problem, controls, g, size, left)
        self.lanczos_cost.seconds += time.process_time() - begun
        self.lanczos_cost.forward += work.forward
        self.lanczos_cost.backward += work.backward
        return found

    @cached_property
    def least_curvature(self) -> lanczos.Ritz | None:
        """What Lanczos finds of a Hessian too large to form; None if the budget allows no step."""
        steps = int((self.budget - PASSES_BEFORE) // PASSES_A_STEP)
        if steps < 1:
            return None
        problem, controls = self.problem, self.controls
        begun = time.process_time()
        with states.counting() as work:
            found = lanczos.least_eigenvalue(
                lambda d: hessian.products(problem, controls, d[None])[0],
                problem.n_decision,
                steps,
                enough=lambda ritz: ritz.least < -ritz.rounding or ritz.interval[0] > ritz.rounding,
            )
        seconds = time.process_time() - begun
        self.lanczos_cost = LanczosCost(
            seconds=seconds, steps=found.steps, forward=work.forward, backward=work.backward
        )
        return found


@final
class TraceSubject:
    """A stage trace seen as a network whose states are its logits (C = identity).

    It has no derivatives: `grad_inf_norm` is NaN, and nothing that needs them is concluded.
    """

    def __init__(self, content: Trace, tolerance: float = 1e-8, certify: bool = False) -> None:
        _require_positive(tolerance)
        self.content, self.tolerance, self.certify = content, tolerance, certify
        self.grad_inf_norm, self.ends_cost = float("nan"), 0.0
        self.enclosures = self.sharper_enclosures = None
        self.why_not_enclosed = UNKNOWN_DATA
        self.problem = Problem(
            inputs=content.logits[0],
            labels=content.labels,
            n_classes=content.n_classes,
            depth=content.depth,
            width=content.n_classes,
            h=content.h,
            activation="identity",
            p_d=content.p_d,
            r=content.r,
            gamma=content.gamma,
            beta=content.beta,
        )

    @property
    def said_ends_cost(self) -> float:
        """What the file says that J adds for stem, shortcuts and head; NaN where it says nothing.

        `ends_cost` stays 0: the trace's own J is the Euler sum of what it holds of the layers.
        """
        norm = self.content.ends_norm
        return float("nan") if norm is None else 0.5 * self.content.r * float(norm[0]) ** 2

    @cached_property
    def minimisers(self) -> Minimisers:
        """Where each sample's loss is least."""
        n, N = self.problem.width, self.problem.depth
        nothing = Controls(A=np.zeros((N, n, n)), b=np.zeros((N, n)))
        return Minimisers(self.problem, nothing, merge=False)

    @cached_property
    def distances(self) -> np.ndarray:
        """dist_z of every sample to its minimiser at every layer, (N+1, n_d)."""
        offset = self.minimisers.offset(self.content.logits, slice(None))
        return np.linalg.norm(offset, axis=-1)

    @cached_property
    def survey(self) -> states.Survey:
        """Euler sums of the costs that the trace carries."""
        trace = self.content
        q = self.problem.soft_targets
        g = np.stack([loss.soft_cross_entropy(z, q) for z in trace.logits])
        cost = g.mean(axis=1)
        layer_cost = trace.beta * cost[:-1] + 0.5 * trace.r * trace.control_norm**2
        J = trace.h * float(layer_cost.sum()) + trace.gamma * float(cost[-1])
        return states.Survey(
            objective=J,
            layer_cost=layer_cost,
            data_cost=cost,
            stage_data_cost=cost[:-1, None],
            g=g,
            right=np.stack([loss.is_right(z, trace.labels) for z in trace.logits]),
            final_logits=trace.logits[-1],
            least_preactivation=np.nan,
            largest_preactivation=np.nan,
            saturated=np.full(trace.depth, np.nan),
            logits=trace.logits,
        )
