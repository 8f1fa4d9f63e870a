"""How depth is grown, apart from the problem: one frozen, validated record."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from ocp.validation import at_least, integer, one_of, positive

from .options import Options
from .paired import TOLERANCE

APPENDED = ("near zero", "random")


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How to grow.

    Parameters
    ----------
    phase : trainings after each growth, one after the other, at a constant rate
    final : trainings of the depth that was decided, as annealing; may be empty
    first, deepest : depths to begin with and not to exceed
    added : layers appended at a time
    append : "near zero", with b != 0, or "random"
    append_scale : standard deviation of the new layers; by default 0.01 near zero, and
        1/sqrt(width) for random ones
    worth : share of the idle extension's J that a growth has to gain, or it is undone
    patience : growths without more validation accuracy before no more is tried, once half of what
        the largest class errs is reached; 0: the gain in J alone decides how far to grow
    settled : a depth is trained, a phase at a time, until one lowers its J by no more than this
        share: only then does it show what more layers are worth
    most_phases : of a depth, whether it has settled or not
    tolerance : points of validation accuracy that do not count

    Raises
    ------
    ValueError : one sentence with what was found and what was wanted
    """

    phase: tuple[Options, ...]
    final: tuple[Options, ...] = ()
    first: int = 1
    deepest: int = 20
    added: int = 1
    append: str = "random"
    append_scale: float | None = None
    worth: float = 0.002
    patience: int = 1
    settled: float = 0.1
    most_phases: int = 10
    tolerance: float = TOLERANCE

    def __post_init__(self) -> None:
        least = {"first": 1, "deepest": 1, "added": 1, "patience": 0, "most_phases": 1}
        for name, bound in least.items():
            object.__setattr__(self, name, integer(name, getattr(self, name), bound))
        one_of("append", self.append, APPENDED)
        for name in ("worth", "settled", "tolerance"):
            object.__setattr__(self, name, at_least(name, getattr(self, name), 0))
        if self.append_scale is not None:  # b = 0 would never be left
            object.__setattr__(self, "append_scale", positive("append_scale", self.append_scale))
        if self.first > self.deepest:
            raise ValueError(f"first is {self.first} and deepest {self.deepest}; wanted no more")
        if not self.phase:
            raise ValueError("phase is empty; wanted at least one training")
        for options in self.phase:
            if options.schedule != "constant" or options.warmup:
                raise ValueError(
                    f"a phase has schedule {options.schedule} and warmup {options.warmup}; wanted a"
                    " constant rate, because the steps after a growth are compared with those"
                    " without it"
                )
            if options.patience:
                raise ValueError("a phase has patience; wanted the same steps with and without")
        facts = {(o.device, o.dtype, o.seed) for o in (*self.phase, *self.final)}
        if len(facts) > 1:
            raise ValueError("phases differ in device, dtype or seed; wanted one of each")

    def scale(self, width: int) -> float:
        """Return the standard deviation of new layers of this width."""
        if self.append_scale is not None:
            return self.append_scale
        return 1e-2 if self.append == "near zero" else width**-0.5

    def stored(self) -> dict:
        """Return the plan as JSON values; how often to save is no part of it."""
        content = dataclasses.asdict(self)
        for part in ("phase", "final"):
            content[part] = [
                {k: v for k, v in options.items() if k != "checkpoint_seconds"}
                for options in content[part]
            ]
        return content
