"""What the studies share of exact training: the problem of a row, its solution, its judgement."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np

import ocp
from ocp import Controls, Problem, Solution, Status, TrainingFile, datasets, loss

#: all checks but dissipativity (a theorem), the global bound and exact steering (seconds each)
CHECKS = (
    *("statement", "first_order", "second_order", "geometry"),
    *("turnpike", "depth", "diagnosis"),
)
FIELDS = (
    *("depth", "width", "h", "scheme", "block", "activation"),
    *("p_d", "r", "gamma", "beta"),
)
#: results with one number a layer
CURVES = ("data_cost", "control_norm")
SOLUTION, REPORT = "solution.safetensors", "verification.json"


def problem_of(parameters: dict) -> Problem:
    """Return the problem that a row's parameters state: "data", "data_options" and fields."""
    inputs, labels = datasets.GENERATORS[parameters["data"]](**parameters["data_options"])
    fields = {name: parameters[name] for name in FIELDS if name in parameters}
    return Problem(inputs=inputs, labels=labels, n_classes=int(labels.max()) + 1, **fields)


def solve(problem: Problem, controls: Controls) -> Solution:
    """Solve from given controls, leaving saddles."""
    solver = ocp.solver_by_name("structured", max_iterations=3000)
    found = solver(problem, controls, 1e-8, ocp.silent)
    for _ in range(5):
        if found.status is Status.SADDLE:
            found = ocp.escape(found, solver)
    return found


def finished(solution: Solution) -> Solution:
    """Return the solution after Newton steps to rounding; Ctrl-C inside a solver goes on up."""
    if solution.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    return ocp.polished(solution)


def content_of(solution: Solution) -> TrainingFile:
    """Return its training file without costate, which anybody can recompute."""
    return solution.to_file(costate=None)


def judged(
    content: TrainingFile, *, only=CHECKS, certify: bool = False
) -> tuple[dict, dict[str, bytes]]:
    """Write the file, have it judged as `python -m verification FILE --only ...` does, and return
    the numbers of the report with the exit code, and the files."""
    from verification import json_text, verify

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / SOLUTION
        ocp.save(path, content)
        report = verify(path, only=() if certify else only, certify=certify)
        stored = path.read_bytes()
    told = json.loads(json_text(report))
    told["files"] = [SOLUTION]
    lines = {entry.name: entry for entry in report.entries}
    measured = lambda name: lines[name].measured if name in lines else None  # noqa: E731
    bound = lambda name: lines[name].bound if name in lines else None  # noqa: E731
    verdict = lambda name: lines[name].verdict.value if name in lines else None  # noqa: E731
    facts = {
        "exit_code": report.exit_code,
        "gradient": measured("first_order.gradient"),
        "curvature": measured("second_order.curvature"),
        "curvature_band": bound("second_order.curvature"),
        "off": measured("turnpike.tube_1/2"),
        "off_bound": bound("turnpike.tube_1/2"),
        "off_bound_is": verdict("turnpike.tube_1/2"),
        "rate": measured("turnpike.rate"),
        "leaving": measured("turnpike.leaving"),
        "diagnosis": ", ".join(n.partition(".")[2] for n in lines if n.startswith("diagnosis.")),
    }
    return facts, {SOLUTION: stored, REPORT: (json.dumps(told, indent=1) + "\n").encode()}


def measures(problem: Problem, controls: Controls) -> dict:
    """Return the objective and what happens layer by layer."""
    table = ocp.layer_table(problem, controls)
    right = round(float(table.accuracy[-1]) * problem.n_samples)
    g_mis = loss.misclassification_threshold(problem.n_classes, problem.p_d)
    return {
        "J": float(problem.h * table.stage_cost.sum() + problem.gamma * table.data_cost[-1]),
        "data_cost_end": float(table.data_cost[-1]),
        "g_mis": float(g_mis),
        "right": right,
        "samples": problem.n_samples,
        "depth_used": ocp.depth_used(problem, controls),
        "entry": ocp.entry_layer(problem, controls),
        "idle_from": ocp.idle_from(controls),
        "control_sum": float(problem.h * (table.control_norm**2).sum()),
        "control_max": float(table.control_norm.max()),
        "data_cost": np.round(table.data_cost, 10),
        "control_norm": np.round(table.control_norm, 10),
    }


def solved_row(solution: Solution, only=CHECKS) -> tuple[dict, dict[str, bytes]]:
    """Return status, measures and judgement of a solution, and its files."""
    solution = finished(solution)
    facts, produced = judged(content_of(solution), only=only)
    own = {"status": solution.status.name, "iterations": solution.report.iterations}
    return own | measures(solution.problem, solution.controls) | facts, produced


def load(content: bytes) -> TrainingFile:
    """Read a training file from memory."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / SOLUTION
        path.write_bytes(content)
        return ocp.load(path)


def lines_of(report: bytes) -> dict[str, dict]:
    """Return the lines of a stored report of one file by name."""
    return {line["name"]: line for line in json.loads(report)["checks"]}
