"""A search for low optima: a race of shallow starts, growth of the best few, cycles in depth.

    race      two starts descend to where all stall, many shaken copies of them and fresh starts
              go on from there at depth 5, in one batch; the best distinct ones survive
    growth    each gets new layers of several scales at depth 8, and again at depth 11; the best
              distinct ones survive again; where depth 8 brings a rise, the race begins anew
    variants  of a large budget: populations at depths 5, 6, 7, 8 and 11, whose children take
              some steps on another objective (`variants`) before they descend on their own
    cycles    the survivors are cropped at 4 to 9 layers, shaken, solved there and grown back;
              what is lower than a survivor takes its place; until the budget of work ends
    the end   the best one is solved at full depth, and assessed

Basins are decided at a few layers, where a step costs a tenth of one at full depth; what the
objective of a depth is, and which points count as distinct, stands in `levels`.

Work is counted in cost(K) = K (K + 5) for one step of one start at depth K, about its share of
time; so a seed and an effort give the same result on any machine, and `seconds` do not.
"""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import time

import numpy as np

from .. import interrupts
from ..controls import Controls, random_start
from ..evaluation import batch
from ..problem import Problem
from ..solvers import DEFAULT, as_solver
from ..solvers.clock import OutOfTime, until
from ..solvers.progress import Report, silent
from ..solvers.size import check_size
from ..solvers.solution import (
    Solution,
    Solver,
    Status,
    keeping,
)
from .levels import Levels, halved
from .search_options import EFFORTS, SearchOptions
from .steps import escape, extend, stopped
from .variants import variant

#: steps to where all starts stall
TRUNK = 22
#: standard deviation of the last layers: all but idle
IDLE = 1e-6
#: saddles left at full depth
ESCAPES = 5
#: a survivor whose objective lies so much above the best one, relatively, is not grown on from
#: the second level: the objectives at depths 8 and 20 have a correlation of .97
BEHIND = 0.015
#: more races where all survivors of one rise so much with depth, relatively
RACES_AGAIN, RISE = 2, 0.01
#: a budget is large from so many times the work of race and growth; the share of populations
LARGE, SHARE = 8, 0.85
#: depths of the populations, their size, and the scales of the layers that they grow
POPULATED, POPULATION, GROWN = (5, 6, 7, 8, 11), 32, (0.1, 0.5)
#: a generation: families, children of each, steps that they take on another objective
FAMILIES, FAMILY, AWAY = 6, 6, 30


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


class _Search(Levels):
    """Race, growth, populations, cycles and end of one search."""

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

        A large budget goes first to a population at every level, which finds what the survivors
        of one race never reach.
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
        with contextlib.suppress(OutOfTime):
            if total >= LARGE * climbed:
                self.populate(int(SHARE * total))
            while self.work - climbed < total or seconds is not None:
                self.generation(self.levels[1])

    def populate(self, budget: int) -> None:
        """Spend the work on populations at levels of rising depth, each grown from the last."""
        end = self.work
        first, last = self.levels[0], self.levels[-1]
        levels = sorted({min(k, last) for k in POPULATED})
        points = self.found[first][0]
        for level in levels:
            count = POPULATION if level < last else POPULATION // 2
            if level > first:
                scales = np.repeat(GROWN, len(points))
                u = self.extended(np.tile(points, (len(GROWN), 1)), level, scales)
                self.descend(level, u, tolerance=1e-4, max_iterations=100, keep=count)
            end += budget // len(levels)
            while self.work < end:
                points, _ = self.found[level]
                children = []
                for _ in range(FAMILIES):
                    parents = points[self.rng.integers(0, len(points), FAMILY)]
                    other = variant(self.at(level), self.rng)
                    children.append(
                        self.descend(
                            level, parents, other, tolerance=1e-3, max_iterations=AWAY, keep=0
                        )
                    )
                self.descend(
                    level,
                    np.concatenate(children),
                    tolerance=1e-4,
                    max_iterations=100,
                    keep=count,
                )
            points = self.found[level][0]

    def generation(self, level: int) -> None:
        """Crops of the survivors, shaken, solved at their depths and grown back to a level."""
        options, rng, m = self.options, self.rng, self.problem.layer_size
        deep = self.levels[1:]
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
            u = self.descend(k, np.array(crops[k]), tolerance=1e-4, keep=0)
            grown.append(self.extended(u, level, rng.choice(options.append_scales, len(u))))
        self.descend(level, np.concatenate(grown), cull=halved)
        points, objectives = self.found[level]
        near = objectives <= objectives[0] * (1 + BEHIND)
        new = [i for i, J in enumerate(objectives) if near[i] and J not in self.known]
        if new and level < self.levels[-1]:
            self.promote(self.levels[-1], points[new], options.append_scales)

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

    def stopped(self) -> Solution:
        """The best point of an interrupted search, at full depth with an idle tail."""
        return stopped(self.problem, self.deep(self.start()), DEFAULT, self.options.tolerance)
