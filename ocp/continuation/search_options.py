"""How much work a search may do, and how it counts it."""

from __future__ import annotations

from dataclasses import dataclass

from .. import validation

#: starts of the race, and what the cycles may do, in steps at the problem's full depth
EFFORTS = {"quick": (8, 0), "standard": (16, 0), "thorough": (16, 10500)}


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """How to search; the defaults were chosen on seeds 0 to 19 and 400 to 439 of the spirals.

    effort : one of `EFFORTS`: how many starts, and how much work the cycles in depth may do
    work : of the cycles, instead of the effort's, in steps at the problem's full depth
    seconds : instead of a count of work, when to end the cycles
    tolerance : on the gradient at full depth
    starts : in the race, instead of the effort's
    start_scale : standard deviation of the random controls of the race
    trunks : starts that go to where all stall;  race_shakes : of the copies that go on from there
    first_scales : standard deviations of new layers behind the race's survivors, one child each.
        With small ones the child stays in the basin of its parent's idle extension: of two of the
        four lowest minima at depth 5 nothing good grows with less than .6
    append_scales : of all later new layers, where the end is the same for all scales
    survivors : of the race;  elite : points that a level keeps
    generation : children of a generation of cycles;  cycle_shake : at most, of a cropped parent
    """

    effort: str = "standard"
    work: int | None = None
    seconds: float | None = None
    tolerance: float = 1e-8
    starts: int | None = None
    start_scale: float = 0.2
    race_shakes: tuple[float, ...] = (0.3, 0.5)
    first_scales: tuple[float, ...] = (0.3, 0.3, 0.6, 0.6)
    trunks: int = 2
    append_scales: tuple[float, ...] = (0.3,)
    survivors: int = 4
    elite: int = 4
    generation: int = 9
    cycle_shake: float = 0.2

    def __post_init__(self) -> None:
        validation.one_of("effort", self.effort, EFFORTS)
        if self.work is not None:
            validation.integer("work", self.work, 0)
        if self.seconds is not None:
            validation.positive("seconds", self.seconds)
        validation.positive("tolerance", self.tolerance)
        for name in ("starts", "survivors", "elite", "generation"):
            if getattr(self, name) is not None:
                validation.integer(name, getattr(self, name), 1)

    def budget(self, depth: int) -> int:
        """The work of the cycles, in the unit of `cost`, at a full depth."""
        return (EFFORTS[self.effort][1] if self.work is None else self.work) * cost(depth)


def cost(depth: int) -> int:
    """The work of one step of one start, in a unit of its own."""
    return depth * (depth + 5)
