"""Networks so small that "optimal" is a theorem: what do their global optima look like?

Residual networks of width 1 with one, two and three layers.  Many starts find minima; a branch
and bound of the judge proves which of them is global, encloses V_N, the least J over all controls,
and says how far above it the others are.  Appending an idle layer and cropping the last one give

    V_{N+1} <= V_N + beta h F(x_N)                                  (idle layer: states stay)
    V_N <= V_{N+1} if beta = 1 and gamma <= h                       (crop the last layer)

so with a loss at every layer V_N rises where gamma <= h and may fall where gamma > h; with a
terminal loss alone it never rises.  Every training file is judged with --certify.

    python examples/studies/global_optimum.py            some processor minutes; resumable
    python examples/studies/global_optimum.py --quick    two small problems: seconds

The data and all parameter values are our choice.
"""

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import itertools
import sys

import continuation_rows
import csv_tables
import exact
import numpy as np
import pictures
import study
import study_rows

from ocp import exits

NAME = "global_optimum"
#: inputs, labels, step and readout: one logit of the state against 0, or of six times the state
DATA = {
    "flow": ([-0.3, -0.2, 0.1, 0.3], [0, 0, 1, 1], 0.5, [[3.0], [-3.0]]),
    "six": ([-1.5, -0.6, 0.4, 1.2, 0.8, -1.1], [0, 0, 1, 1, 1, 0], 1.0, [[1.0], [0.0]]),
    "twins": ([-1.5, -0.6, 0.6, 1.5], [0, 1, 0, 1], 1.0, [[1.0], [0.0]]),
}
#: (data, beta, gamma): gamma > h, = h, a terminal loss alone
KINDS = [("flow", 1, 1.0), ("flow", 1, 0.5), ("flow", 0, 1.0), ("six", 1, 1.0), ("six", 0, 1.0)]
KINDS += [("twins", 1, 1.0), ("twins", 0, 1.0)]
WEIGHTS = (1e-1, 1e-2)
#: with three layers: what the search decides in minutes
THREE = [("flow", 1, 1.0, 1e-1), ("flow", 1, 0.5, 1e-1)]
#: random starts a problem, standard deviation of their entries, distinct minima that are kept
STARTS, SCALE, KEPT = 40, 2.0, 8
SAME = 1e-9


def parse(arguments: list[str]) -> argparse.Namespace:
    options = study.parsed(study.parser(__doc__, NAME), arguments)
    options.kinds, options.weights, options.three = KINDS, WEIGHTS, THREE
    options.starts, options.depths = STARTS, (1, 2)
    if options.quick:
        options.kinds, options.weights, options.three = [("twins", 1, 1.0)], WEIGHTS[1:], []
        options.starts = 8
    return options


def problem_of(parameters: dict):
    """The problem that a row's parameters state."""
    from ocp import Problem

    inputs, labels, h, readout = DATA[parameters["data"]]
    return Problem(
        inputs=np.array(inputs)[:, None],
        labels=np.array(labels),
        n_classes=2,
        width=1,
        h=h,
        readout_weight=np.array(readout),
        **{name: parameters[name] for name in ("depth", "r", "gamma", "beta")},
    )


def minima(parameters: dict, given: study.Files) -> tuple[dict, study.Files]:
    """The distinct strict minima that random starts end at, lowest first, and how often each."""
    from ocp import Status, flatten, objective, unflatten

    problem = problem_of(parameters)
    rng = np.random.default_rng(parameters["seed"])
    found: list[list] = []  # [J, controls, solution, hits]
    for _ in range(parameters["starts"]):
        start = parameters["scale"] * rng.standard_normal(problem.n_decision)
        solution = exact.finished(exact.solve(problem, unflatten(problem, start)))
        if solution.status is not Status.SOLVED:
            continue
        J, u = float(objective(problem, solution.controls)), flatten(solution.controls)
        same = [f for f in found if abs(f[0] - J) < SAME and np.abs(f[1] - u).max() < 1e-6]
        if same:
            same[0][3] += 1
        else:
            found.append([J, u, solution, 1])
    found.sort(key=lambda f: f[0])
    files: study.Files = {}
    for i, (_, _, solution, _) in enumerate(found[:KEPT]):
        content = exact.content_of(solution)
        files[f"{i}.safetensors"] = exact.judged(content, only=("statement",))[1][exact.SOLUTION]
    return {"J": [f[0] for f in found], "hits": [f[3] for f in found]}, files


def judged(parameters: dict, given: study.Files) -> tuple[dict, study.Files]:
    """All checks of the judge on a minimum, with --certify; three layers searched by name."""
    from ocp import flatten, rollout
    from verification import verify_content

    content = exact.load(given["minimum"])
    problem, controls = content.problem, content.controls
    facts, produced = exact.judged(content, certify=True)
    exit_code = facts["exit_code"]
    told = exact.lines_of(produced[exact.REPORT])
    if told.get("global_minimum", {}).get("verdict") == "not checked":
        report = verify_content([content], only=("global_minimum",))
        told.pop("global_minimum")
        told |= {e.name: {"verdict": e.verdict.value, "measured": e.measured, "bound": e.bound,
                          "message": e.message} for e in report.entries}  # fmt: skip
    value, gap = told["global_minimum.value"], told["global_minimum.gap"]
    stored = "global_minimum.stored_is_global"
    is_global = told[stored]["verdict"] if stored in told else "not global"
    return {
        "exit_code": exit_code,
        "certificate": told["certificate.minimum"]["verdict"],
        "stored_is_global": is_global,
        "V_lower": value["bound"],
        "V_upper": value["measured"],
        "gap_lower": gap["bound"],
        "gap_upper": gap["measured"],
        "places": int(told["global_minimum.minimisers"]["measured"]),
        "places_are": told["global_minimum.minimisers"]["verdict"],
        "u": flatten(controls),
        **exact.measures(problem, controls),
        "J_0": idle(problem),
        "states": rollout(problem, controls).X[..., 0].ravel(),
        "diagnosis": facts["diagnosis"],
        "verdicts": {name: line["verdict"] for name, line in told.items()},
    }, produced


def idle(problem) -> float:
    """J(0)."""
    from ocp import objective, unflatten

    return float(objective(problem, unflatten(problem, np.zeros(problem.n_decision))))


# --- the study ----------------------------------------------------------------------------------


def problems(options: argparse.Namespace) -> list[dict]:
    """The parameters of all problems, the depths of each chain in order."""
    found = []
    for (data, beta, gamma), r in itertools.product(options.kinds, options.weights):
        deep = (3,) if (data, beta, gamma, r) in options.three else ()
        for depth in (*options.depths, *deep):
            own = {"data": data, "beta": beta, "gamma": gamma, "r": r, "depth": depth}
            found.append(own | {"h": DATA[data][2]})
    return found


def compute(options: argparse.Namespace, held: study.Study) -> None:
    """Compute all rows and write the tables."""
    cases = problems(options)
    search = {"starts": options.starts, "scale": SCALE, "seed": 0}
    tasks = [study.Task(part="minima", label=label(p), parameters=p | search) for p in cases]
    found = held.rows(minima, tasks)
    best = held.rows(judged, [minimum_task("optima", row, 0) for row in found])
    # of three layers each local minimum would take minutes: those of one and two are judged
    others = [
        minimum_task("locals", row, i)
        for row in found
        if row["parameters"]["depth"] <= 2
        for i in range(1, min(KEPT, len(row["result"]["J"])))
        if row["result"]["J"][i] > row["result"]["J"][i - 1] + SAME  # mirror images: one of them
    ]
    local = held.rows(judged, others)
    held.table("minima", [csv_tables.flat(row) for row in found])
    held.table("optima", [csv_tables.flat(row, ("verdicts",)) for row in best])
    if local:
        names = ("verdicts", "states")
        held.table("locals", [csv_tables.flat(row, names) for row in local])
    held.table("verdicts", counted(best))
    chains: dict[str, list[dict]] = {}
    for row in best:
        chains.setdefault(label(row["parameters"] | {"depth": ""}), []).append(row)
    whole = continuation_rows.ladders(held, [own for own in chains.values() if len(own) >= 3])
    if whole:
        held.table("ladders", [csv_tables.flat(row) for row in whole])


def label(parameters: dict) -> str:
    """A few readable characters."""
    names = ("data", "beta", "gamma", "r", "depth")
    return "_".join(str(parameters[name]) for name in names)


def minimum_task(part: str, row: dict, i: int) -> study.Task:
    """Judge the i-th minimum that the starts of a problem ended at."""
    names = ("data", "beta", "gamma", "r", "depth", "h")
    parameters = {name: row["parameters"][name] for name in names} | {"minimum": i}
    given = {"minimum": study_rows.file_of(row, f"{i}.safetensors")}
    name = f"{label(parameters)}_{i}"
    return study.Task(part=part, label=name, parameters=parameters, given=given)


def counted(rows: list[dict]) -> list[dict]:
    """Line by line of the judge: on how many proved optima it says what."""
    lines: dict[str, dict] = {}
    for row in rows:
        for name, verdict in row["result"]["verdicts"].items():
            line = lines.setdefault(name, {"line": name, "files": 0})
            line["files"] += 1
            line[verdict] = line.get(verdict, 0) + 1
    words = ("passed", "failed", "inconclusive", "proved", "vacuous", "observed")
    words += ("not applicable", "not checked")
    return [
        {"line": name, "files": line["files"]} | {word: line.get(word, 0) for word in words}
        for name, line in sorted(lines.items())
    ]


def draw(tables: dict[str, list[dict]]) -> dict:
    """V_N against N, the states of the proved optima, and how far above V_N the minima are."""
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    figure = Figure(figsize=(7.4, 5.0), layout="constrained")
    axes = figure.subplots(2, 2)
    optima = tables["optima"]
    values, local, states, costs = axes[0][0], axes[0][1], axes[1][0], axes[1][1]
    seen: set[str] = set()
    for own in chains_of(optima):
        depth, name = [line["depth"] for line in own], kind(own[0])
        dash = "-" if own[0]["r"] < 0.05 else "--"
        style = pictures.style(list(LABELS).index(name), dash=dash)
        text = LABELS[name] if name not in seen else None
        seen.add(name)
        relative = [line["V_upper"] / own[0]["V_upper"] for line in own]
        values.plot(depth, relative, **style, label=text)
        costs.plot(depth, [line["data_cost_end"] for line in own], **style)
    values.axhline(1.0, color="0.8", linewidth=0.8, zorder=0)
    values.set(title="$V_N / V_1$; solid r = .01, dashed .1", xlabel="N")
    costs.set(title="$F(x_N)$ at the optima of (a)", xlabel="N", yscale="log")
    values.legend(fontsize=6, loc="lower right")
    shown = max(optima, key=lambda line: line["depth"])  # the first of the deepest
    problem = problem_of(shown)
    x = np.reshape(shown["states"], (shown["depth"] + 1, problem.n_samples))
    for i, label_of in enumerate(problem.labels):
        states.plot(range(shown["depth"] + 1), x[:, i], **pictures.style(label_of, dash="-"))
    target = np.log(problem.p_d / (1 - problem.p_d)) / np.ptp(problem.readout_weight)
    for sign in (1, -1):
        states.axhline(sign * target, color="0.6", linewidth=0.8, linestyle=":", zorder=0)
    states.set(title=f"states and targets, {named(shown)}", xlabel="layer k", ylabel="$x_k$")
    for axis in (values, costs, states):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if tables.get("locals"):
        lines = tables["locals"]
        gaps = sorted(line["gap_lower"] / line["V_upper"] for line in lines)
        local.plot(range(1, len(gaps) + 1), gaps, **pictures.style(1, dash="none"))
        local.set(yscale="log")
    local.set(title="local minima: proved $(J - V_N)/V_N$", xlabel="minimum, sorted")
    pictures.letters([values, local, states, costs])
    return {NAME: figure}


#: what of V_N is known before anything is computed
LABELS = {
    "above": r"$\gamma > h$: either way",
    "at": r"$\gamma = h$: cannot fall",
    "terminal": "terminal loss alone: cannot rise",
}


def kind(line: dict) -> str:
    """Which of the three cases of V_N a problem belongs to."""
    if not line["beta"]:
        return "terminal"
    return "above" if line["gamma"] > line["h"] else "at"


def chains_of(lines: list[dict]) -> list[list[dict]]:
    """The lines of one problem in the order of depths."""
    found: dict[tuple, list[dict]] = {}
    for line in lines:
        key = tuple(line[name] for name in ("data", "beta", "gamma", "r"))
        found.setdefault(key, []).append(line)
    return [sorted(own, key=lambda line: line["depth"]) for own in found.values()]


def named(line: dict) -> str:
    cost = rf"$\gamma$ = {line['gamma']:g}" if line["beta"] else "terminal"
    return f"{line['data']}, {cost}, r = {line['r']:g}"


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return study.conduct(NAME, options, compute, draw)


if __name__ == "__main__":
    sys.exit(exits.run(main))
