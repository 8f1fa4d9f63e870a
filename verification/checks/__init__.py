"""The one registry of checks: all that command line, API, assertions and traces know of them.

A check called N is the file N.py in this folder with the function check_N(subject), which returns
its lines.  Nothing is imported before a check runs, so that --help is immediate.
"""

from __future__ import annotations

from typing import NamedTuple  # dataclasses would cost --help half as much again


class Row(NamedTuple):
    """One check.

    name : what --only takes, the file's name and the first part of its lines' names
    asks : what it answers, one line for the reader
    kind : of the line that says it was not evaluated: "claim" or "finding"
    on_traces : the function of its file that judges a stage trace; "" where a trace does not hold
        what the check needs
    reads_gradient : whether it needs dJ/du, whose pass over the data then serves all checks
    on_request : whether it runs only where asked for, since it takes long
    by_name : whether it runs, on request, also where it is named, and then takes its time
    over_depths : whether it makes a claim on several files, of three or more depths
    """

    name: str
    asks: str
    kind: str = "finding"
    on_traces: str = ""
    reads_gradient: bool = False
    on_request: bool = False
    by_name: bool = False
    over_depths: bool = False

    @property
    def claims(self) -> bool:
        """Whether it says anything that can fail, beside contradictions."""
        return self.kind == "claim" or self.over_depths


REGISTRY = (
    Row(
        name="statement",
        asks="does the file say of itself what is true?",
        kind="claim",
        on_traces="check_statement_of_trace",
        reads_gradient=True,
    ),
    Row(
        name="first_order",
        asks="is it a stationary point, and is the stored costate its adjoint?",
        kind="claim",
        reads_gradient=True,
    ),
    Row(
        name="second_order",
        asks="is the stationary point a strict local minimum?",
        kind="claim",
        reads_gradient=True,
    ),
    Row(
        name="geometry",
        asks="which states have the least loss, and does the readout reach them?",
        kind="claim",
        on_traces="check_geometry_of_trace",
    ),
    Row(
        name="dissipativity",
        asks="does the dissipation inequality hold along the states and near them?",
        on_traces="check_dissipativity_of_trace",
    ),
    Row(
        name="turnpike",
        asks="how many layers lie off the turnpike, by bound and by count?",
        on_traces="check_turnpike",
        over_depths=True,
    ),
    Row(name="reachability", asks="can some control steer every sample onto its minimiser?"),
    Row(
        name="depth",
        asks="how many layers are used, and what do idling and cropping change?",
        on_traces="check_depth_of_trace",
    ),
    Row(
        name="certificate",
        asks="is a strict local minimiser proved to lie next to the controls?",
        kind="claim",
        on_request=True,
    ),
    Row(
        name="global_minimum",
        asks="is it proved to be the global minimum, or proved not to be? (tiny problems)",
        on_request=True,
        by_name=True,
    ),
    Row(name="gap", asks="how far is the objective above a bound for every control?"),
    Row(
        name="diagnosis",
        asks="which known failure signature does the file show, and what is the next step?",
        reads_gradient=True,
    ),
)
CHECKS = tuple(row.name for row in REGISTRY)
