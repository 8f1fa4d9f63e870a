"""A search for low optima: a race of shallow starts, growth of the best few, cycles in depth.

    race      two starts descend to where all stall, many shaken copies of them and fresh starts
              go on from there at depth 5, in one batch; the best distinct ones survive
    growth    each gets new layers of several scales at depth 8, and again at depth 11; the best
              distinct ones survive again; where depth 8 brings a rise, the race begins anew
    cycles    the survivors are cropped at 4 to 9 layers, shaken, solved there and grown back;
              what is lower than a survivor takes its place; until the budget of work ends
    the end   the best one is solved at full depth, and assessed

Basins are decided at a few layers, where a step costs a tenth of one at full depth.  From depth 11
on the layers behind idle, so the problem has gamma + h (N - K) beta in place of gamma: its
objective is that of the full depth with an idle tail, an upper bound of what the end will find.

Work is counted in cost(K) = K (K + 5) for one step of one start at depth K, about its share of
time; so a seed and an effort give the same result on any machine, and `seconds` do not.

Distinct: objectives differ by more than `SAME`.  All symmetries of a problem (signed permutations
of coordinates and classes, hidden units) leave J alone, so equal networks up to symmetry count
once, and of two different ones with equal J one is as good a survivor as the other.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time

import numpy as np

from .. import interrupts
from ..controls import Controls, random_start, zeros
from ..evaluation import batch
from ..problem import Problem
from ..solvers import DEFAULT, as_solver
from ..solvers.clock import OutOfTime, Tick, never, until
from ..solvers.lockstep import Cull, Descents, descend
from ..solvers.optimality import assess
from ..solvers.progress import Progress, Report, silent
from ..solvers.size import check_size
from ..solvers.solution import (
    Iteration,
    Solution,
    Solver,
    SolveReport,
    Status,
    keeping,
)
from ..versions import versions
from .growth import escape, extend
from .search_options import EFFORTS, SearchOptions, cost

#: depths of the race and of the selections after it
LEVELS = (5, 8, 11)
#: at the second level the objective counts so many idle layers more
AHEAD = 1
#: steps to where all starts stall
TRUNK = 22
#: standard deviation of the last layers: all but idle
IDLE = 1e-6
#: saddles left at full depth
ESCAPES = 5
#: a survivor whose objective lies so much above the best one, relatively, is not grown on from
#: the second level: the objectives at depths 8 and 20 have a correlation of .97
BEHIND = 0.015
#: at the second level only the best half goes on after so many steps
HALVED = 40
#: more races where all survivors of one rise so much with depth, relatively
RACES_AGAIN, RISE = 2, 0.01
#: races of a large budget, and its share for them and their own cycles
RACES, SHARE = 6, 0.6
#: bytes of the batch that is evaluated at once
MEMORY = 1 << 28
#: objectives that differ by less, relatively, belong to one minimum
SAME = 1e-5


def applies(problem: Problem) -> bool:
    """Whether starts of this problem can be raced in batches; else growth is the search."""
    return batch.applies(problem) and problem.sigma.smooth


@keeping
def search(
    problem: Problem,
    solver: Solver | None = None,
    *,
    seed: int = 0,
    options: SearchOptions | None = None,
    report: Report = silent,
) -> Solution:
    """Search for a low strict minimum; see the module's text.

    solver : of the last solves, at full depth; default the structured one

    Ctrl-C ends the search with the best point so far, at full depth.

    Raises
    ------
    ValueError : batches do not apply to the problem, or the memory for it is not there
    """
    if not applies(problem):
        raise ValueError(
            "the search wants Euler's method, block single, fixed ends, a smooth activation and a"
            f" width of at most {batch.WIDEST}; the problem has another form: use growth"
        )
    check_size(problem, DEFAULT)
    own = _Search(problem, options or SearchOptions(), seed, report)
    try:
        with interrupts.opened():
            own.climb()
            own.cycles()
    except KeyboardInterrupt:
        best = own.stopped()
    else:
        best = own.end(as_solver(solver or DEFAULT))
    record = dataclasses.replace(
        best.report,
        method=f"{best.report.method} with search",
        iterations=own.steps + best.report.iterations,
        seconds=time.perf_counter() - own.begun,
        seed=seed,
        trace=(*own.trace, *best.report.trace),
        options={**best.report.options, "search": dataclasses.asdict(own.options)},
    )
    return dataclasses.replace(best, report=record)


def distinct(objectives: np.ndarray, count: int) -> list[int]:
    """Return the places of at most `count` least objectives that differ, least first."""
    found: list[int] = []
    for i in np.argsort(objectives, kind="stable"):
        J = objectives[i]
        if not np.isfinite(J) or len(found) == count:
            break
        if not found or J - objectives[found[-1]] > SAME * abs(J):
            found.append(int(i))
    return found


def halved(iteration: int, objectives: np.ndarray, running: np.ndarray) -> np.ndarray:
    """Keep the better half of a batch after `HALVED` steps."""
    if iteration != HALVED:
        return running
    return running & (objectives <= np.median(objectives))


class _Search:
    """The survivors, the work done and the clock of one search."""

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
        self.aside: list[dict[int, tuple[np.ndarray, np.ndarray]]] = []
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

    def climb(self) -> None:
        """Race at the first level, and grow the best of each level to the next.

        Layers behind the end of the work cost what is left of the loss, and little else; where
        the objective of every survivor rises by more, all of them are on a wrong way, and other
        starts race.
        """
        options, first = self.options, self.levels[0]
        for _ in range(RACES_AGAIN + 1):
            self.found.pop(first, None)
            self.race()
            if len(self.levels) == 1:
                return
            points, objectives = self.found[first]
            self.promote(self.levels[1], points[: options.survivors], options.first_scales)
            if self.found[self.levels[1]][1][0] <= objectives[0] * (1 + RISE):
                break
        for before, level in itertools.pairwise(self.levels[1:]):
            points, objectives = self.found[before]
            near = int((objectives <= objectives[0] * (1 + BEHIND)).sum())
            self.promote(level, points[: min(near, options.survivors)], options.append_scales)

    def race(self) -> None:
        """Descend from many starts at the first level."""
        options, first = self.options, self.levels[0]
        starts = EFFORTS[options.effort][0] if options.starts is None else options.starts
        count = starts - starts // 4
        # where the race is all, other starts are worth more than time
        fresh = starts if len(self.levels) == 1 else starts - count
        own = [
            random_start(self.at(first), self.rng, options.start_scale)
            for _ in range(options.trunks + fresh)
        ]
        packed = batch.pack(own)
        # a few starts go to where all of them stall, the others go on from there
        trunks = self.descend(first, packed[: options.trunks], max_iterations=TRUNK)
        trunks = np.resize(trunks, (count, trunks.shape[1]))
        scales = np.sort(np.resize(options.race_shakes, count))[:, None]
        shaken = trunks + scales * self.rng.standard_normal(trunks.shape)
        self.descend(first, np.concatenate([shaken, packed[options.trunks :]]))

    def cycles(self) -> None:
        """Crop, shake, solve, grow back, generation by generation, until the budget ends.

        With a large budget several races go first, each with cycles of its own: the survivors of
        one have common ancestors, and a poor one is not left.
        """
        options, climbed = self.options, self.work
        if len(self.levels) == 1:
            return
        total = options.budget(self.problem.depth)
        began, seconds = time.perf_counter(), options.seconds
        if seconds is not None:
            self.tick = until(self.begun + seconds)
            pace = climbed / max(1e-3, began - self.begun)  # work a second
            total = int(pace * max(0.0, self.begun + seconds - began))
        self.brief = True
        races = min(RACES, total // (4 * climbed))
        with contextlib.suppress(OutOfTime):
            for race in range(1, races + 1):
                while self.work - climbed < SHARE * total * race / races:
                    self.generation(self.levels[1])
                self.set_aside()
                if race < races:
                    self.climb()
            self.gather()
            count = 0
            while self.work - climbed < total or seconds is not None:
                count += 1
                # the last improvements need the deeper level
                self.generation(self.levels[-1 if races and count % 2 else 1])
        self.gather()

    def set_aside(self) -> None:
        """Put the survivors of a race away."""
        self.aside.append(self.found)
        self.found, self.known = {}, set()

    def gather(self) -> None:
        """Bring all survivors together."""
        for other in self.aside:
            for level, (u, J) in other.items():
                if level in self.found:
                    u = np.concatenate([self.found[level][0], u])
                    J = np.concatenate([self.found[level][1], J])
                best = distinct(J, self.options.elite)
                self.found[level] = u[best], J[best]
        self.aside = []

    def generation(self, level: int) -> None:
        """Crops of the survivors, shaken, solved at their depths and grown back to a level."""
        options, rng, m = self.options, self.rng, self.problem.layer_size
        deep = self.levels[1:] if level == self.levels[1] else [level]
        parents = [u for above in deep for u in self.found[above][0]]
        crops: dict[int, list[np.ndarray]] = {}
        for i in range(options.generation):
            k = int(rng.integers(max(1, level - 4), level))
            u = parents[i % len(parents)][: k * m]
            crops.setdefault(k, []).append(
                u + options.cycle_shake * rng.random() * rng.standard_normal(len(u))
            )
        grown = []
        self.known |= set(self.found[self.levels[1]][1])
        for k in sorted(crops):
            u = self.descend(k, np.array(crops[k]), tolerance=1e-4, keep=False)
            grown.append(self.extended(u, level, rng.choice(options.append_scales, len(u))))
        self.descend(level, np.concatenate(grown), cull=halved)
        points, objectives = self.found[level]
        near = objectives <= objectives[0] * (1 + BEHIND)
        new = [i for i, J in enumerate(objectives) if near[i] and J not in self.known]
        if new and level < self.levels[-1]:
            self.promote(self.levels[-1], points[new], options.append_scales)

    def promote(self, level: int, points: np.ndarray, scales: tuple[float, ...]) -> None:
        """Grow shallower points, (points, d), to a level, with new layers of every scale."""
        u = np.tile(points, (len(scales), 1))
        u = self.extended(u, level, np.repeat(scales, len(points)))
        self.descend(level, u, cull=halved)

    def extended(self, u: np.ndarray, depth: int, scales: np.ndarray) -> np.ndarray:
        """Append Gaussian layers to the rows, (points, d), each of its scale."""
        new = depth * self.problem.layer_size - u.shape[1]
        layers = scales[:, None] * self.rng.standard_normal((len(u), new))
        return np.concatenate([u, layers], axis=1)

    def descend(
        self,
        depth: int,
        u: np.ndarray,
        *,
        tolerance: float = 1e-5,
        max_iterations: int = 150,
        keep: bool = True,
        cull: Cull | None = None,
    ) -> np.ndarray:
        """Descend from the rows of u; merge them into those of the level; return where all are."""
        problem = self.at(depth)
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
        self.steps, self.work = self.steps + steps, self.work + steps * cost(depth)
        points = np.concatenate([one.u for one in self.live])
        if keep:
            objectives = np.concatenate([one.objective for one in self.live])
            if depth in self.found:
                points_before, before = self.found[depth]
                objectives = np.concatenate([before, objectives])
                best = distinct(objectives, self.options.elite)
                self.found[depth] = np.concatenate([points_before, points])[best], objectives[best]
            else:
                best = distinct(objectives, self.options.elite)
                self.found[depth] = points[best], objectives[best]
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

    def deep(self, u: np.ndarray) -> Controls:
        """Controls of the full depth: those of a row, and layers that all but idle."""
        shallow = batch.unpack(self.problem.with_(depth=len(u) // self.problem.layer_size), u)
        return extend(self.problem, shallow, self.rng, IDLE)

    def end(self, solver: Solver) -> Solution:
        """Solve at full depth from the best points, one by one until one is a strict minimum."""
        best, spent = None, 0
        points, _ = self.found[self.levels[-1]]
        for u in points:
            found = solver(self.problem, self.deep(u), self.options.tolerance, self.report)
            spent += found.report.iterations
            for _ in range(ESCAPES):
                if found.status is not Status.SADDLE:
                    break
                found = escape(found, solver, self.report)
                spent += found.report.iterations
            if best is None or found.status in (Status.SOLVED, Status.INTERRUPTED):
                best = found
            if best.status in (Status.SOLVED, Status.INTERRUPTED):
                break
        if best is None:  # every start left the range of numbers
            return solver(self.problem, self.deep(self.start()), self.options.tolerance, silent)
        return dataclasses.replace(best, report=dataclasses.replace(best.report, iterations=spent))

    def start(self) -> np.ndarray:
        """The best point there is, (d,): of the deepest level, else of the race under way."""
        self.gather()
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

    def stopped(self) -> Solution:
        """The best point of an interrupted search, at full depth with an idle tail."""
        controls = self.deep(self.start())
        facts = assess(self.problem, controls, 0.0)
        record = SolveReport(
            status=Status.INTERRUPTED,
            method=DEFAULT,
            tolerance=self.options.tolerance,
            versions=versions(),
            **facts.fields_of_report(),
        )
        return Solution(
            problem=self.problem,
            controls=controls,
            states=facts.states,
            costate=facts.costate,
            report=record,
        )
