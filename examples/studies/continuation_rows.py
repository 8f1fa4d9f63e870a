"""One problem at growing depths: each depth starts from the one before, and each is judged.

A chain is a dictionary of parameters without "depth"; its rows are one exact solution a depth.
The files of a chain are then judged together, which is where the turnpike itself can fail.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Sequence

import exact
import numpy as np
import study
import study_rows

CHECKS = exact.CHECKS
#: how all studies grow their rows; each adds the scale of appended layers
GROWTH = {
    **{"start_scale": 0.1, "trials": 4, "intermediate_tolerance": 1e-6, "tolerance": 1e-8},
    **{"escapes": 5, "restarts": 2},
}


def climb(parameters: dict, given: study.Files) -> tuple[dict, study.Files]:
    """Grow from the next smaller depth, or from random controls, and judge what is found."""
    from ocp import GainOptions, GrowthOptions, Status, extend, grow_by_gain, silent, solver_by_name

    problem = exact.problem_of(parameters)
    solver = solver_by_name("structured", max_iterations=parameters.get("max_iterations", 3000))
    start = exact.load(given["shallower"]).controls if given else None
    growth = GrowthOptions(**parameters["growth"])
    step = problem.depth - start.depth if given else 3
    options = GainOptions(first=min(problem.depth, 5), step=step, growth=growth)
    found, rungs = grow_by_gain(
        problem,
        solver,
        depth=problem.depth,
        seed=parameters["seed"],
        start=start,
        options=options,
    )
    if found.status is Status.INTERRUPTED:
        raise KeyboardInterrupt
    if found.problem.depth < problem.depth:  # stuck on the way up: idle layers, and once more
        rng = np.random.default_rng(parameters["seed"])
        idle = extend(problem, found.controls, rng, growth.append_scale)
        found = solver(problem, idle, growth.tolerance, silent)
    result, produced = described(found, parameters)
    return result | {"gain": rungs[-1].gain, "rejected": rungs[-1].rejected}, produced


def carry(parameters: dict, given: study.Files) -> tuple[dict, study.Files]:
    """Go on from the minimum of a neighbouring problem of the same depth."""
    problem = exact.problem_of(parameters)
    return described(exact.solve(problem, exact.load(given["neighbour"]).controls), parameters)


def described(found, parameters: dict) -> tuple[dict, study.Files]:
    """Return what a row says of a solution, and its files."""
    problem = found.problem
    slack = parameters.get("slack_at") == problem.depth
    result, produced = exact.solved_row(found, only=(*CHECKS, "dissipativity") if slack else CHECKS)
    result |= _of_lines(exact.lines_of(produced[exact.REPORT]), problem.n_samples)
    if slack:
        result |= storages(problem, found.controls)
    controls = exact.load(produced[exact.SOLUTION]).controls
    return result | logit_norms(problem, controls) | spectrum(problem, controls), produced


def ladder(parameters: dict, given: study.Files) -> tuple[dict, study.Files]:
    """Judge the files of all depths of one chain together: the turnpike itself."""
    from verification import verify_content

    contents = [exact.load(content) for content in given.values()]
    report = verify_content(contents, names=list(given), only=CHECKS)
    across = report.named("turnpike.across_depths")
    refuted = [e.where for e in report.entries if e.name == "turnpike.not_optimal" and e.where]
    return {
        "exit_code": report.exit_code,
        "turnpike": across.verdict.value,
        "off_growth": across.measured,
        "says": across.explanation.replace(";", ","),
        "proved_not_optimal": ", ".join(refuted),
    }, {}


def grown(
    held: study.Study, part: str, of: Sequence[dict], depths: Sequence[int]
) -> list[list[dict]]:
    """Compute all chains, depth by depth; one list of rows a chain."""
    found: list[list[dict]] = [[] for _ in of]
    for depth in depths:
        tasks = [
            study.Task(
                part=part,
                label=f"{label(chain)}_{depth}",
                parameters=chain | {"depth": depth},
                given={"shallower": study_rows.file_of(own[-1], exact.SOLUTION)} if own else {},
            )
            for chain, own in zip(of, found, strict=True)
        ]
        for own, row in zip(found, held.rows(climb, tasks), strict=True):
            own.append(row)
    return found


def ladders(held: study.Study, found: list[list[dict]], part: str = "ladders") -> list[dict]:
    """Judge every chain as a whole."""
    tasks = []
    for own in found:
        chain = {k: v for k, v in own[0]["parameters"].items() if k != "depth"}
        given = {
            f"N={r['parameters']['depth']}": study_rows.file_of(r, exact.SOLUTION) for r in own
        }
        tasks.append(study.Task(part=part, label=label(chain), parameters=chain, given=given))
    return held.rows(ladder, tasks)


def carried(
    held: study.Study, part: str, found: list[list[dict]], name: str, values: Sequence[float]
) -> list[dict]:
    """Solve again from minima that were found at other values of a weight, r or gamma.

    What is feasible at one value is feasible at every other, at a cost that is known.  Each seed's
    minimum that will cost least, and the lowest one, are carried to the next value, up and down;
    then every value at which a network found elsewhere costs less is solved again from there, until
    no such solve is new.  A value stays beaten only where that solve ends at no strict minimum.
    """
    rows = [own[-1] for own in found]
    for way, order in (("up", values), ("down", list(reversed(values)))):
        for before, here in itertools.pairwise(order):
            there = [row for row in rows if row["parameters"][name] == before]
            tasks = _carry_tasks(part, name, here, way, cheapest(there, name, here, by_seed=True))
            tasks += _carry_tasks(part, name, here, way, cheapest(there, name, before))
            rows += held.rows(carry, list({task.name: task for task in tasks}.values()))
    while True:
        tasks, known = [], {row["name"] for row in rows}
        for here in values:
            own = cheapest([row for row in rows if row["parameters"][name] == here], name, here)
            for key, row in cheapest(rows, name, here).items():
                lowest = cost_at(own[key], name, here) if key in own else np.inf
                if cost_at(row, name, here) < (1 - 1e-9) * lowest:
                    tasks += _carry_tasks(part, name, here, "beaten", {key: row})
        tasks = [task for task in tasks if task.name not in known]
        if not tasks:
            return rows
        rows += held.rows(carry, tasks)


def _carry_tasks(part: str, name: str, here: float, way: str, rows: dict) -> list[study.Task]:
    tasks = []
    for row in rows.values():
        parameters = row["parameters"] | {name: here, "carried": way}
        given = {"neighbour": study_rows.file_of(row, exact.SOLUTION)}
        task = study.Task(part=part, label=label(parameters), parameters=parameters, given=given)
        tasks.append(task)
    return tasks


def cost_at(row: dict, name: str, value: float) -> float:
    """J of a row's controls at another value of r or gamma."""
    found = row["result"]
    unit = {"r": 0.5 * found["control_sum"], "gamma": found["data_cost_end"]}[name]
    return found["J"] + (value - row["parameters"][name]) * unit


def cheapest(
    rows: Sequence[dict], name: str, value: float, *, by_seed: bool = False
) -> dict[str, dict]:
    """For each setting of the other parameters the strict minimum that costs least at a value."""
    apart = {name, "carried"} if by_seed else {name, "carried", "seed"}
    best: dict[str, dict] = {}
    for row in rows:
        if row["result"]["status"] != "SOLVED":
            continue
        own = {k: v for k, v in row["parameters"].items() if k not in apart}
        key = json.dumps(own, sort_keys=True)
        if key not in best or cost_at(row, name, value) < cost_at(best[key], name, value):
            best[key] = row
    return best


def label(chain: dict) -> str:
    """A few readable characters."""
    shown = ("data", "activation", "loss", "p_d", "r", "gamma", "h", "seed", "carried")
    return "_".join(str(chain[name]) for name in shown if name in chain)


def logit_norms(problem, controls) -> dict:
    """Mean norm of the centred logits at the last layer and in the middle, and how far samples
    still move in the second half."""
    from ocp import logits, rollout

    z = logits(problem, controls, rollout(problem, controls).X)
    z = z - z.mean(axis=-1, keepdims=True)
    half = z[problem.depth // 2]
    mean = lambda v: float(np.linalg.norm(v, axis=-1).mean())  # noqa: E731
    return {"logit_end": mean(z[-1]), "logit_half": mean(half), "drift": mean(z[-1] - half)}


def spectrum(problem, controls) -> dict:
    """The largest eigenvalue of the reduced Hessian, and its ratio to the least."""
    from ocp import reduced_hessian

    if problem.n_decision > 2000:
        return {}
    values = np.linalg.eigvalsh(reduced_hessian(problem, controls))
    return {"largest_curvature": float(values[-1]), "condition": float(values[-1] / values[0])}


def storages(problem, controls) -> dict:
    """Available storage at the tight rate, the most over depths, and 5 % above it, 20 layers."""
    from verification import Minimisers, available_storage

    minimisers = Minimisers(problem, controls)
    return {
        "available_storage": float(available_storage(problem, minimisers).max()),
        "available_storage_above": float(available_storage(problem, minimisers, 1.05)[-1]),
    }


def _of_lines(lines: dict[str, dict], n_samples: int) -> dict:
    """Counts in layers, mean over samples; slack where it was evaluated."""
    wrong = lines.get("turnpike.misclassified", {})
    per_sample = lambda v: None if v is None else v / n_samples  # noqa: E731
    found = {
        "wrong": per_sample(wrong.get("measured")),
        "wrong_bound": per_sample(wrong.get("bound")),
        "rate_says": lines["turnpike.rate"]["message"].replace(";", ","),
    }
    for name in ("trajectory", "sampled"):
        line = lines.get(f"dissipativity.{name}")
        if line:
            found |= {name: line["measured"], f"{name}_is": line["verdict"]}
    return found
