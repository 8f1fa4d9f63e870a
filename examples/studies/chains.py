"""One problem at growing depths: each depth starts from the one before, and each is judged.

A chain is a dictionary of parameters without "depth"; its rows are one exact solution a depth.
The files of a chain are then judged together, which is where the turnpike itself can fail.
"""

from __future__ import annotations

from collections.abc import Sequence

import exact
import numpy as np
import study

CHECKS = exact.CHECKS


def climb(parameters: dict, given: study.Files) -> tuple[dict, study.Files]:
    """Grow from the next smaller depth, or from random controls, and judge what is found."""
    from ocp.continuation import GrowthOptions, extend
    from ocp.gain import GainOptions, grow_by_gain
    from ocp.progress import silent
    from ocp.solvers import by_name

    problem = exact.problem_of(parameters)
    solver = by_name("structured", max_iterations=parameters.get("max_iterations", 3000))
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
    if found.problem.depth < problem.depth:  # stuck on the way up: idle layers, and once more
        rng = np.random.default_rng(parameters["seed"])
        idle = extend(problem, found.controls, rng, growth.append_scale)
        found = solver(problem, idle, growth.tolerance, silent)
    slack = parameters.get("slack_at") == problem.depth
    result, produced = exact.solved_row(found, only=(*CHECKS, "dissipativity") if slack else CHECKS)
    lines = exact.lines_of(produced[exact.REPORT])
    result |= {"gain": rungs[-1].gain, "rejected": rungs[-1].rejected}
    result |= _of_lines(lines, problem.n_samples)
    controls = exact.load(produced[exact.SOLUTION]).controls
    return result | logit_norms(problem, controls) | spectrum(problem, controls), produced


def ladder(parameters: dict, given: study.Files) -> tuple[dict, study.Files]:
    """Judge the files of all depths of one chain together: the turnpike itself."""
    from verification import api

    contents = [exact.load(content) for content in given.values()]
    report = api.verify_content(contents, names=list(given), only=CHECKS)
    across = report.named("turnpike.across_depths")
    refuted = [e.where for e in report.entries if e.name == "turnpike.not_optimal" and e.where]
    return {
        "exit_code": report.exit_code,
        "turnpike": across.verdict.value,
        "off_growth": across.measured,
        "says": across.explanation.replace(";", ","),
        "proved_not_optimal": ", ".join(refuted),
    }, {}


def rows(
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
                given={"shallower": study.file_of(own[-1], exact.SOLUTION)} if own else {},
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
        given = {f"N={r['parameters']['depth']}": study.file_of(r, exact.SOLUTION) for r in own}
        tasks.append(study.Task(part=part, label=label(chain), parameters=chain, given=given))
    return held.rows(ladder, tasks)


def label(chain: dict) -> str:
    """A few readable characters."""
    shown = ("data", "activation", "loss", "p_d", "r", "gamma", "h", "seed")
    return "_".join(str(chain[name]) for name in shown if name in chain)


def logit_norms(problem, controls) -> dict:
    """Mean norm of the centred logits at the last layer and in the middle, and how far samples
    still move in the second half."""
    from ocp import rollout

    z = rollout.logits(problem, controls, rollout.rollout(problem, controls).X)
    z = z - z.mean(axis=-1, keepdims=True)
    half = z[problem.depth // 2]
    mean = lambda v: float(np.linalg.norm(v, axis=-1).mean())  # noqa: E731
    return {"logit_end": mean(z[-1]), "logit_half": mean(half), "drift": mean(z[-1] - half)}


def spectrum(problem, controls) -> dict:
    """The largest eigenvalue of the reduced Hessian, and its ratio to the least."""
    from ocp.assembly import assembled_hessian

    if problem.n_decision > 2000:
        return {}
    values = np.linalg.eigvalsh(assembled_hessian(problem, controls))
    return {"largest_curvature": float(values[-1]), "condition": float(values[-1] / values[0])}


def _of_lines(lines: dict[str, dict], n_samples: int) -> dict:
    """Counts in layers, mean over samples; slack and storages where they were evaluated."""
    wrong = lines.get("turnpike.misclassified", {})
    per_sample = lambda v: None if v is None else v / n_samples  # noqa: E731
    found = {
        "wrong": per_sample(wrong.get("measured")),
        "wrong_bound": per_sample(wrong.get("bound")),
        "rate_says": lines["turnpike.rate"]["message"].replace(";", ","),
    }
    names = ("trajectory", "sampled", "available_storage", "available_storage_above")
    for name in names:
        line = lines.get(f"dissipativity.{name}")
        if line:
            found |= {name: line["measured"], f"{name}_is": line["verdict"]}
    return found
