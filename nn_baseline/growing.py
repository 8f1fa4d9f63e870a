"""Depth grown from one layer: a layer is kept while its gain over idling is worth it.

After each phase the network of N layers goes on in two ways, for the same steps: with m new
layers near zero, and with m new layers that stay zero.  The second is the idle extension: its
J is that of N layers whose terminal weight is gamma + beta m h, so it costs no more than they do.

    raw gain = J_N + beta m h F(x_N) - J_{N+m}       also counts what more steps give N layers
    gain     = J of the trained idle extension - J_{N+m}

J rises with N, so it is compared at equal N only.  What decides is the gain; the depth that the
*accuracy* needs is then chosen on validation data.  A growth is a chain of trainings, each in a
folder of its own and each a function of those before it: resuming goes through them again, and
those that have ended are read.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ocp import run_folder
from ocp.controls import Controls, near_zero, random_start
from ocp.problem import Problem

from . import evaluation, growth_log
from .evaluation import evaluate, final_logits
from .growth_plan import Plan
from .growth_result import Grown, Stage, Step
from .model import Network, soft_cross_entropy
from .options import Options
from .paired import difference, least_depth
from .result import Progress, Status
from .start import available_device, samples, start_network
from .training import train

#: held-out inputs and labels, as arrays
Samples = tuple[np.ndarray, np.ndarray]


class _Stopped(Exception):
    """A training ended before its last epoch."""

    def __init__(self, status: Status, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass(slots=True)
class _Chain:
    """The trainings of one growth, in their order."""

    folder: Path | None
    report: Callable[[str, Progress], None] | None
    should_stop: Callable[[], bool]
    work: float = 0.0
    count: int = 0

    def train(self, network: Network, name: str, phase: tuple[Options, ...]) -> float:
        """Train in place, one set of options after the other; return J after it."""
        for options in phase:
            self.count += 1
            place, resume = None, False
            if self.folder is not None:
                place = self.folder / f"{self.count:03d}-{name}"
                resume = place.exists() and any(place.glob("state.*"))
            result = train(
                network,
                options,
                folder=place,
                resume=resume,
                should_stop=self.should_stop,
                report=self.reporter(name),
                training_file=False,
            )
            if result.status in (Status.INTERRUPTED, Status.DIVERGED):
                raise _Stopped(result.status, result.message)
            self.work += network.problem.depth * passes(options)
        return evaluate(network, *samples(network)).objective

    def reporter(self, name: str) -> Callable[[Progress], None] | None:
        """Return what is called after each step of the training of this name."""
        report = self.report
        return None if report is None else lambda progress: report(name, progress)


def passes(options: Options) -> float:
    """Passes over the samples, forward and back; lbfgs: the most of a call of 20 iterations."""
    return options.epochs * (25.0 if options.optimizer == "lbfgs" else 1.0)


def grow(
    problem: Problem,
    validation: Samples,
    plan: Plan,
    *,
    folder: Path | None = None,
    resume: bool = False,
    report: Callable[[str, Progress], None] | None = None,
    record: Callable[[Step], None] | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Grown:
    """Grow a network from `plan.first` layers and return that of the depth the task needs.

    problem : its depth is not used; validation : decides the depth, no part of J
    folder : for the state of each training and the log; None: nothing is written
    resume : continue from the folder; the numbers are those of a growth never stopped
    report : called after each step with the training's name
    record : called after each growth

    Raises
    ------
    ValueError : u = 0 is no idle layer for this problem (sigma(0) is not 0 in block single); what
        `train` refuses
    """
    if problem.block == "single" and not problem.sigma.zero_at_zero:
        raise ValueError(
            f"activation {problem.activation!r} is not 0 at 0: a layer of zeros is not idle and"
            " depth cannot grow; wanted shifted = true, or block double"
        )
    available_device(plan.phase[0].device)  # before a folder is made
    if folder is None:
        if resume:
            raise ValueError("resume was asked for without a folder")
        return _grow(problem, validation, plan, _Chain(None, report, should_stop), record)
    folder = Path(folder)
    with run_folder.claimed(folder):
        growth_log.claim(folder, problem, validation, plan, resume=resume)
        log = growth_log.Log(folder, record)
        return _grow(problem, validation, plan, _Chain(folder, report, should_stop), log)


def _grow(
    problem: Problem,
    validation: Samples,
    plan: Plan,
    chain: _Chain,
    record: Callable[[Step], None] | None,
) -> Grown:
    started, steps, stages = time.monotonic(), list[Step](), dict[int, Stage]()
    a_phase = sum(passes(options) for options in plan.phase)
    seen = a_phase  # passes that the parameters of `network` have seen
    network = start_network(problem.with_(depth=plan.first), plan.phase[0])
    status, message = Status.FINISHED, ""
    try:
        J = evaluate(network, *samples(network)).objective
        fall = J - chain.train(network, f"{plan.first}-layers", plan.phase)
        while network.problem.depth + plan.added <= plan.deepest:
            seen += a_phase * _settle(chain, network, fall, plan) + a_phase
            step, idle, grown = _one_growth(chain, problem, network, validation, plan)
            steps.append(step)
            if record is not None:
                record(step)
            N = network.problem.depth
            stages[N] = _stage(_at_rest(problem, idle), validation, step.idle, seen)
            if math.isfinite(step.objective):
                stages[N + plan.added] = _stage(grown, validation, step.objective, seen)
            network, fall = (grown, step.raw_gain) if step.kept else (idle, 0.0)
            if not step.kept or _asked_in_vain(steps, plan, validation[1]):
                break
        if not stages:
            J = evaluate(network, *samples(network)).objective
            stages[network.problem.depth] = _stage(network, validation, J, seen)
        depths = sorted(stages)
        depth = least_depth(depths, [stages[k].right for k in depths], plan.tolerance)
        network, seen = stages[depth].network, stages[depth].passes
        seen += sum(passes(options) for options in plan.final)
        if plan.final:
            chain.train(network, f"{depth}-layers-final", plan.final)
    except _Stopped as stop:
        status, message = stop.status, stop.message
        depth = network.problem.depth
        network = _at_rest(problem, network)
    return Grown(
        network=network,
        depth=depth,
        passes=seen,
        gain_depth=_gain_depth(steps, plan),
        steps=tuple(steps),
        stages=tuple(stages[k] for k in sorted(stages)),
        status=status,
        message=message,
        work=chain.work,
        seconds=time.monotonic() - started,
    )


def idle_extension(problem: Problem, network: Network, added: int) -> Network:
    """Return the N layers with the terminal weight that makes their J that of N + added layers.

    Idle layers stay at x_N: each costs beta h F(x_N), whatever the scheme, and nothing else.
    """
    N = network.problem.depth
    heavier = problem.with_(depth=N, gamma=problem.gamma + problem.beta * added * problem.h)
    return _network(heavier, network.controls(), network)


def appended(problem: Problem, network: Network, plan: Plan, seed: int) -> Network:
    """Return the network with new layers behind it, near zero with b != 0 or random."""
    N = network.problem.depth
    new = problem.with_(depth=plan.added)
    rng = np.random.default_rng([seed, N])
    draw = near_zero if plan.append == "near zero" else random_start
    tail = draw(new, rng, plan.scale(problem.width))
    return _network(
        problem.with_(depth=N + plan.added), network.controls().followed_by(tail), network
    )


def _settle(chain: _Chain, network: Network, fall: float, plan: Plan) -> int:
    """Train in place until a phase lowers J by no share that counts; return how many it took."""
    J = evaluate(network, *samples(network)).objective
    for count in range(plan.most_phases - 1):
        if fall <= plan.settled * abs(J):
            return count
        before, name = J, f"{network.problem.depth}-layers"
        J = chain.train(network, name, plan.phase)
        fall = before - J
    return plan.most_phases - 1


def _one_growth(
    chain: _Chain, problem: Problem, network: Network, validation: Samples, plan: Plan
) -> tuple[Step, Network, Network]:
    N, m = network.problem.depth, plan.added
    here = _at_rest(problem, network)
    idle = idle_extension(problem, here, m)
    before = evaluate(idle, *samples(idle)).objective  # J_N + beta m h F(x_N)
    grown = appended(problem, here, plan, plan.phase[0].seed)
    J_idle = chain.train(idle, f"{N}-layers-idle", plan.phase)
    try:
        J = chain.train(grown, f"{N + m}-layers", plan.phase)
    except _Stopped as stop:
        if stop.status is not Status.DIVERGED:
            raise
        J = math.nan  # a layer that breaks the training is not worth it
    old, new = right(idle, validation), right(grown, validation)
    step = Step(
        depth=N + m,
        raw_gain=before - J,
        gain=J_idle - J,
        idle=J_idle,
        objective=J,
        validation_loss=validation_loss(grown, validation),
        idle_validation_loss=validation_loss(idle, validation),
        validation_accuracy=float(new.mean()),
        gained=difference(new, old),
        kept=bool(J_idle - J > plan.worth * abs(J_idle)),
        work=chain.work,
    )
    return step, idle, grown


def _asked_in_vain(steps: list[Step], plan: Plan, labels: np.ndarray) -> bool:
    """Whether the last `patience` growths brought no accuracy on validation data.

    A network that errs more than half as often as the largest class would has learnt too little to
    be asked: on a plateau one layer gains no accuracy and three do.
    """
    if not plan.patience or len(steps) < plan.patience:
        return False
    guessed = 1.0 - np.bincount(labels).max() / len(labels)
    return all(
        step.gained.points <= plan.tolerance and 1.0 - step.validation_accuracy <= guessed / 2
        for step in steps[-plan.patience :]
    )


def _gain_depth(steps: list[Step], plan: Plan) -> int:
    kept = [step.depth for step in steps if step.kept]
    return max(kept, default=plan.first)


def _at_rest(problem: Problem, network: Network) -> Network:
    """Return the same layers under the problem's own terminal weight."""
    return _network(problem.with_(depth=network.problem.depth), network.controls(), network)


def _network(problem: Problem, controls: Controls, like: Network) -> Network:
    return Network(problem, controls, dtype=like.A.dtype, device=like.A.device)


def _stage(network: Network, validation: Samples, objective: float, seen: float) -> Stage:
    found = right(network, validation)
    return Stage(
        depth=network.problem.depth,
        network=network,
        objective=objective,
        passes=seen,
        accuracy=float(found.mean()),
        loss=validation_loss(network, validation),
        right=found,
    )


def right(network: Network, held_out: Samples) -> np.ndarray:
    """Which of the samples have their true logit strictly the largest, (n,) bool."""
    return evaluation.right(network, *samples(network, *held_out))


def validation_loss(network: Network, held_out: Samples) -> float:
    """F(x_N) over held-out samples."""
    x, y = samples(network, *held_out)
    g = soft_cross_entropy(final_logits(network, x), y.cpu(), network.problem.p_d)
    return float(g.mean())
