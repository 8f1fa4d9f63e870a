"""The levels of a search: its descents in batches, the best points at each depth, the work done.

From depth 11 on the layers behind idle, so the problem has gamma + h (N - K) beta in place of
gamma: its objective is that of the full depth with an idle tail, an upper bound of what the end
will find.

Distinct: objectives differ by more than `SAME`.  All symmetries of a problem (signed permutations
of coordinates and classes, hidden units) leave J alone, so equal networks up to symmetry count
once, and of two different ones with equal J one is as good a start as the other.
"""

from __future__ import annotations

import time

import numpy as np

from ..controls import zeros
from ..evaluation import batch
from ..problem import Problem
from ..solvers.clock import Tick, never
from ..solvers.lockstep import Cull, Descents, descend
from ..solvers.progress import Progress, Report
from ..solvers.solution import Iteration
from .search_options import SearchOptions, cost

#: depths of the race and of the selections after it
LEVELS = (5, 8, 11)
#: at the second level the objective counts so many idle layers more
AHEAD = 1
#: at the second level only the best half goes on after so many steps
HALVED = 40
#: bytes of the batch that is evaluated at once
MEMORY = 1 << 28
#: objectives that differ by less, relatively, belong to one minimum
SAME = 1e-5
#: of a population objectives differ by more, relatively
APART = 1e-4


def distinct(objectives: np.ndarray, count: int, same: float = SAME) -> list[int]:
    """Return the places of at most `count` least objectives that differ, least first."""
    found: list[int] = []
    for i in np.argsort(objectives, kind="stable"):
        J = objectives[i]
        if not np.isfinite(J) or len(found) == count:
            break
        if not found or J - objectives[found[-1]] > same * abs(J):
            found.append(int(i))
    return found


def halved(iteration: int, objectives: np.ndarray, running: np.ndarray) -> np.ndarray:
    """Keep the better half of a batch after `HALVED` steps."""
    if iteration != HALVED:
        return running
    return running & (objectives <= np.median(objectives))


class Levels:
    """The points found at every depth, the work done and the clock of one search."""

    def __init__(self, problem: Problem, options: SearchOptions, seed: int, report: Report) -> None:
        self.problem, self.options, self.report = problem, options, report
        self.rng = np.random.default_rng([seed, 2])
        self.begun = time.perf_counter()
        self.levels = sorted({min(depth, problem.depth) for depth in LEVELS})
        #: the best distinct points of each level, best first: (points, d), (points,)
        self.found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        self.work, self.steps = 0, 0
        self.trace: list[Iteration] = []
        self.live: list[Descents] = []
        self.known: set[float] = set()
        self.tick: Tick = never
        #: whether the trace has one line a descent, not one a step
        self.brief = False

    def at(self, depth: int) -> Problem:
        """The problem at a depth, from the second level on with the cost of an idle tail."""
        whole = self.problem
        tail = 0
        if depth >= LEVELS[2]:
            tail = whole.depth - depth
        elif depth >= LEVELS[1]:
            tail = min(AHEAD, whole.depth - depth)
        return whole.with_(depth=depth, gamma=whole.gamma + tail * whole.h * whole.beta)

    def extended(self, u: np.ndarray, depth: int, scales: np.ndarray) -> np.ndarray:
        """Append Gaussian layers to the rows, (points, d), each of its scale."""
        new = depth * self.problem.layer_size - u.shape[1]
        layers = scales[:, None] * self.rng.standard_normal((len(u), new))
        return np.concatenate([u, layers], axis=1)

    def promote(self, level: int, points: np.ndarray, scales: tuple[float, ...]) -> None:
        """Grow shallower points, (points, d), to a level, with new layers of every scale."""
        u = np.tile(points, (len(scales), 1))
        u = self.extended(u, level, np.repeat(scales, len(points)))
        self.descend(level, u, cull=halved)

    def descend(
        self,
        depth: int,
        u: np.ndarray,
        problem: Problem | None = None,
        *,
        tolerance: float = 1e-5,
        max_iterations: int = 150,
        keep: int | None = None,
        cull: Cull | None = None,
    ) -> np.ndarray:
        """Descend from the rows of u; merge them into those of the level; return where all are.

        problem : another one than that of the level
        keep : how many points the level keeps, default the elite; 0: what is found stays out
        """
        keep = self.options.elite if keep is None else keep
        problem = problem or self.at(depth)
        bytes_of_one = 48 * (depth * problem.width + 2) * problem.n_samples
        groups = np.array_split(u, min(len(u), -(-len(u) * bytes_of_one // MEMORY)))
        self.live = []
        for group in groups:
            descend(
                problem,
                group,
                tolerance=tolerance,
                max_iterations=max_iterations,
                cull=cull,
                tick=self.tick,
                into=self.live,
            )
        if keep:
            self.tell(depth)
        steps = sum(one.steps for one in self.live)
        self.steps += steps
        self.work += steps * cost(depth) * problem.n_samples // self.problem.n_samples
        points = np.concatenate([one.u for one in self.live])
        if keep:
            objectives = np.concatenate([one.objective for one in self.live])
            merged = points
            if depth in self.found:
                points_before, before = self.found[depth]
                objectives = np.concatenate([before, objectives])
                merged = np.concatenate([points_before, points])
            best = distinct(objectives, keep, SAME if keep <= self.options.elite else APART)
            self.found[depth] = merged[best], objectives[best]
        return points

    def tell(self, depth: int) -> None:
        """Lines of the trace for the descents just made, of the best start, and of the report."""
        seconds = time.perf_counter() - self.begun
        lines = [line for one in self.live for line in (one.path[-1:] if self.brief else one.path)]
        for steps, J, residual in lines:
            self.trace.append(
                Iteration(
                    depth=depth,
                    iteration=self.steps + steps,
                    objective=J,
                    primal_infeasibility=0.0,
                    dual_infeasibility=residual,
                    regularisation=float("nan"),
                    step_length=float("nan"),
                    seconds=seconds,
                )
            )
        if lines:
            steps, J, residual = lines[-1]
            self.report(
                Progress(
                    depth=depth,
                    iteration=self.steps + steps,
                    objective=J,
                    residual=residual,
                    seconds=seconds,
                )
            )

    def start(self) -> np.ndarray:
        """The best point there is, (d,): of the deepest level, else of the race under way."""
        for level in reversed(self.levels):
            if level in self.found and len(self.found[level][0]):
                return self.found[level][0][0]
        ends = [
            (J, list(u)) for one in self.live for J, u in zip(one.objective, one.u, strict=True)
        ]
        ends = [end for end in ends if np.isfinite(end[0])]
        if ends:
            return np.array(min(ends)[1])
        return batch.pack([zeros(self.at(self.levels[0]))])[0]
