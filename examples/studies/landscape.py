"""The default spirals have hundreds of local minima: which are found, how often, by which method?

Every start of the structured solver (depth growth from random controls) ends at a strict local
minimum; they are grouped up to the symmetries of the problem.  The best ones are certified in
ball arithmetic.  Adam (each run also finished by an exact solve) and IPOPT are placed among them,
and the best minima are shaken: random noise on the controls, then solved again.

    python examples/studies/landscape.py            about 40 processor minutes; resumable
    python examples/studies/landscape.py --quick    a small case: seconds

"Best known" is the lowest value that was found, nothing more: beat it.
"""

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import hashlib
import sys
from pathlib import Path

import csv_tables
import exact
import numpy as np
import pictures
import study
import study_rows

from ocp import exits
from ocp.atomic import write_atomically

NAME = "landscape"
SPIRALS = {"data": "spirals", "data_options": {"points_per_class": 97}, "depth": 20}
SMALL = {"data": "spirals", "data_options": {"points_per_class": 8}, "depth": 6}
GROWTH = {"append_scale": 1e-2, "intermediate_tolerance": 1e-6, "tolerance": 1e-8,
          "escapes": 5, "restarts": 1, "trials": 1}  # fmt: skip
SCALES = (0.1, 0.5)
#: where best_known/README.md says it comes from; no start of this study
BEST_KNOWN = Path(__file__).parents[1] / "best_known" / "earlier" / "spirals.safetensors"
#: tuned on other seeds: tests/benchmarks/bench_torch_spirals.py
TRAINING = {"lr": 0.1, "schedule": "cosine", "lr_end": 1e-3, "clip": 1.0, "evaluate_every": 0}
ADAM_SCALE = 0.3


def parse(arguments: list[str]) -> argparse.Namespace:
    made = study.parser(__doc__, NAME)
    add = made.add_argument
    add("--starts", type=int, default=520, help="starts of the structured solver (520)")
    add("--shakes", type=int, default=30, help="shaken minima a generation (30)")
    add("--adam", type=int, default=20, help="runs of Adam (20)")
    add("--ipopt", type=int, default=10, help="runs of IPOPT with growth (10)")
    add("--certified", type=int, default=10, help="best distinct minima to certify (10)")
    add(
        "--known",
        type=Path,
        metavar="FILE",
        help="a minimum to begin with (examples/best_known/earlier/spirals.safetensors)",
    )
    options = study.parsed(made, arguments, starts=6, shakes=3, adam=1, ipopt=1, certified=1)
    options.steps, options.generations, options.case = 5000, 4, SPIRALS
    if options.quick:
        options.steps, options.generations, options.case = 50, 1, SMALL
    elif options.known is None:
        options.known = BEST_KNOWN
    for name, least in (("starts", 2), ("shakes", 1), ("adam", 1), ("ipopt", 1), ("certified", 1)):
        if getattr(options, name) < least:
            raise ValueError(f"--{name} is {getattr(options, name)}; wanted at least {least}")
    if options.starts % 2:
        raise ValueError(f"--starts is {options.starts}; wanted an even number, two scales")
    if options.known is not None:
        refuse_another_problem(options)
    return options


# --- rows ---------------------------------------------------------------------------------------


def start(parameters: dict, given: study.Files) -> tuple[dict, study.Files]:
    """Depth growth from random controls, by the solver that the parameters name."""
    from ocp import GrowthOptions, grow, solver_by_name

    problem = exact.problem_of(parameters)
    growth = GrowthOptions(start_scale=parameters["start_scale"], **parameters["growth"])
    solver = solver_by_name(parameters["solver"], max_iterations=parameters["max_iterations"])
    found = grow(problem, solver, seed=parameters["seed"], options=growth)
    return exact.solved_row(found)


def shake(parameters: dict, given: study.Files) -> tuple[dict, study.Files]:
    """Noise on the controls of a known minimum, then an exact solve."""
    from ocp import flatten, unflatten

    known = exact.load(given["from"])
    rng = np.random.default_rng([parameters["generation"], parameters["seed"]])
    u = flatten(known.controls)
    u = u + parameters["noise"] * rng.standard_normal(u.shape)
    return exact.solved_row(exact.solve(known.problem, unflatten(known.problem, u)))


def refuse_another_problem(options: argparse.Namespace) -> None:
    """Look at the minimum known before now rather than after hours of work."""
    from ocp import load

    found = load(options.known).problem
    own = exact.problem_of(options.case)
    for name in own.__slots__:
        if not np.array_equal(getattr(own, name), getattr(found, name)):
            raise ValueError(f"{options.known} belongs to another problem: {name} differs")


def known(parameters: dict, given: study.Files) -> tuple[dict, study.Files]:
    """A minimum that was found elsewhere, judged like all others."""
    from ocp import assess

    content = exact.load(given["known"])
    facts, produced = exact.judged(content)
    status = assess(content.problem, content.controls, 1e-8).status
    measures = exact.measures(content.problem, content.controls)
    return {"status": status.name} | measures | facts, produced


def adam(parameters: dict, given: study.Files) -> tuple[dict, study.Files]:
    """Adam on the whole set from random controls; where it ends, and where an exact solve goes on
    from there to."""
    import torch

    from nn_baseline import Options, start_network, train
    from ocp import TrainingFile, near_zero

    torch.set_num_threads(1)
    problem = exact.problem_of(parameters)
    rng = np.random.default_rng([parameters["seed"], 1])
    options = Options(seed=parameters["seed"], **parameters["options"])
    network = start_network(problem, options, near_zero(problem, rng, parameters["start_scale"]))
    train(network, options)
    trained = network.controls()
    ended, _ = exact.judged(TrainingFile(problem=problem, controls=trained, origin={}))
    before = exact.measures(problem, trained)
    result, produced = exact.solved_row(exact.solve(problem, trained))
    ended = {"exit_code": ended["exit_code"], "gradient": ended["gradient"]} | {
        name: before[name] for name in ("J", "right", "depth_used")
    }
    return {f"trained_{name}": value for name, value in ended.items()} | result, produced


def certificate(parameters: dict, given: study.Files) -> tuple[dict, study.Files]:
    """All checks of the judge on one minimum, with the certificate in ball arithmetic."""
    content = exact.load(given["minimum"])
    facts, produced = exact.judged(content, certify=True)
    told = exact.lines_of(produced[exact.REPORT])
    minimum, gap = told["certificate.minimum"], told["gap.lower_bound"]
    names = ("exit_code", "gradient", "curvature", "curvature_band")
    result = {name: facts[name] for name in names} | {
        "certificate": minimum["verdict"],
        "distance": minimum["measured"],
        "certificate_says": minimum["message"],
        "lower_bound": gap["measured"],
    }
    return exact.measures(content.problem, content.controls) | result, produced


# --- the study ----------------------------------------------------------------------------------


def tasks_of_starts(options: argparse.Namespace, solver: str, count: int) -> list[study.Task]:
    """Half of the starts from small random controls, half from large ones."""
    scales = SCALES if solver == "structured" else SCALES[:1]
    common = options.case | {"solver": solver, "max_iterations": 3000, "growth": GROWTH}
    return [
        study.Task(
            part="starts" if solver == "structured" else solver,
            label=f"{scale}_{seed}",
            parameters=common | {"start_scale": scale, "seed": seed},
        )
        for seed in range(count // len(scales))
        for scale in scales
    ]


def tasks_of_known(options: argparse.Namespace) -> list[study.Task]:
    """The minimum known before, copied to the rows, where workers get it from."""
    if options.known is None:
        return []
    content = options.known.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    file = f"known_{digest[:10]}.safetensors"
    write_atomically(options.output / "rows" / file, content)
    parameters = options.case | {"file": options.known.name, "file_sha256": digest}
    return [study.Task(part="known", label="0", parameters=parameters, given={"known": file})]


def tasks_of_shakes(options, rows: list[dict], generation: int) -> list[study.Task]:
    """Noise of two sizes on the best minima so far."""
    best = [group[0] for group in distinct(options.output / "rows", rows)[:4]]
    return [
        study.Task(
            part="shakes",
            label=f"{generation}_{i}",
            parameters={"generation": generation, "seed": i, "noise": (0.1, 0.3)[i // 4 % 2]},
            given={"from": study_rows.file_of(best[i % len(best)], exact.SOLUTION)},
        )
        for i in range(options.shakes)
    ]


def tasks_of_adam(options) -> list[study.Task]:
    training = TRAINING | {"epochs": options.steps, "warmup": min(100, options.steps // 10)}
    return [
        study.Task(
            part="adam",
            label=f"{seed}",
            parameters=options.case
            | {"optimizer": "adam", "start_scale": ADAM_SCALE, "seed": seed, "options": training},
        )
        for seed in range(options.adam)
    ]


def distinct(folder, rows: list[dict]) -> list[list[dict]]:
    """Group the strict minima up to symmetry, lowest first."""
    from ocp import load
    from verification.crosscheck import optima

    solved = [row for row in rows if row["result"]["status"] == "SOLVED"]
    if not solved:
        return []
    contents = [load(folder / study_rows.file_of(row, exact.SOLUTION)) for row in solved]
    groups = optima.distinct(contents[0].problem, [c.controls for c in contents])
    return [[solved[i] for i in sorted(group)] for group in groups]


def optima_table(groups: list[list[dict]], certificates: list[dict]) -> list[dict]:
    """One line a distinct minimum, lowest first: what it is and what ended there."""
    lines = []
    proofs = {row["given"]["minimum"]: row for row in certificates}
    for rank, group in enumerate(groups, 1):
        first = group[0]["result"]
        ended = {
            f"ended_{part}": sum(row["part"] == part for row in group)
            for part in ("starts", "adam", "ipopt", "shakes", "known")
        }
        names = ("J", "curvature", "curvature_band", "gradient", "depth_used", "entry", "off")
        line = {"rank": rank, "row": group[0]["name"]} | {n: first[n] for n in names} | ended
        line |= {"right": first["right"], "exit_code": first["exit_code"]}
        proof = proofs.get(study_rows.file_of(group[0], exact.SOLUTION))
        if proof is not None:
            names = ("certificate", "distance", "lower_bound", "certificate_says")
            line |= {"exit_code_with_certificate": proof["result"]["exit_code"]}
            line |= {name: proof["result"][name] for name in names}
        lines.append(line)
    return lines


def methods_table(rows: dict[str, list[dict]], groups: list[list[dict]]) -> list[dict]:
    """One line a method: where its runs end, beside the best known minimum."""
    best = groups[0][0]["result"]["J"]
    at_best = {row["name"] for row in groups[0]}
    lines = []
    for method, found in rows.items():
        solved = [row for row in found if row["result"]["status"] == "SOLVED"]
        values = np.sort([row["result"]["J"] for row in solved])
        group_of = {row["name"]: i for i, group in enumerate(groups) for row in group}
        line = {
            "method": method,
            "runs": len(found),
            "strict_minima": len(solved),
            "exit_code_0": sum(row["result"]["exit_code"] == 0 for row in found),
            "distinct": len({group_of[row["name"]] for row in solved}),
            "best_J": values[0] if len(values) else None,
            "median_J": float(np.median(values)) if len(values) else None,
            "worst_J": values[-1] if len(values) else None,
            "at_best_known": sum(row["name"] in at_best for row in solved),
            "within_1_percent": int((values <= 1.01 * best).sum()),
            "within_5_percent": int((values <= 1.05 * best).sum()),
            "median_depth_used": float(np.median([r["result"]["depth_used"] for r in found])),
        }
        if method.startswith("adam"):
            trained = [row["result"]["trained_J"] for row in found]
            line |= {"trained_best_J": min(trained), "trained_median_J": float(np.median(trained))}
        lines.append(line)
    return lines


def compute(options: argparse.Namespace, held: study.Study) -> None:
    """Compute all rows and write the tables."""
    rows = {"starts": held.rows(start, tasks_of_starts(options, "structured", options.starts))}
    rows["known"] = held.rows(known, tasks_of_known(options))
    rows["shakes"] = []
    for generation in range(options.generations):
        earlier = rows["starts"] + rows["known"] + rows["shakes"]
        tasks = tasks_of_shakes(options, earlier, generation)
        rows["shakes"] += held.rows(shake, tasks)
    rows["adam"] = held.rows(adam, tasks_of_adam(options))
    rows["ipopt"] = held.rows(start, tasks_of_starts(options, "ipopt", options.ipopt))
    everything = [row for found in rows.values() for row in found]
    groups = distinct(held.rows_folder, everything)
    proofs = held.rows(
        certificate,
        [
            study.Task(part="certificates", label=f"{rank}", parameters={},
                       given={"minimum": study_rows.file_of(group[0], exact.SOLUTION)})
            for rank, group in enumerate(groups[: options.certified], 1)
        ],
    )  # fmt: skip
    for part, found in rows.items():
        if not found:
            continue
        held.table(part, [csv_tables.flat(row, without=exact.CURVES) for row in found])
    held.table("certificates", [csv_tables.flat(row) for row in proofs])
    held.table("optima", optima_table(groups, proofs))
    by_method = {f"structured, scale {s}": [r for r in rows["starts"]
                 if r["parameters"]["start_scale"] == s] for s in SCALES}  # fmt: skip
    by_method |= {"adam, then exact": rows["adam"], "ipopt": rows["ipopt"]}
    held.table("methods", methods_table(by_method | {"shaken minima": rows["shakes"]}, groups))
    best = held.rows_folder / proofs[0]["name"]
    for suffix, name in ((exact.SOLUTION, "best.safetensors"), (exact.REPORT, "best.json")):
        content = best.with_name(f"{best.name}.{suffix}").read_bytes()
        write_atomically(held.folder / name, content)


def draw(tables: dict[str, list[dict]]) -> dict:
    """Objectives by method, how often each minimum is found, what the minima have in common."""
    from matplotlib.figure import Figure

    starts, optima = tables["starts"], tables["optima"]
    best = optima[0]["J"]
    above = lambda values: 100 * (np.sort(values) / best - 1)  # noqa: E731
    figure = Figure(figsize=(7.4, 5.2), layout="constrained")
    axes = figure.subplots(2, 2)
    groups = [(f"structured, scale {s}", [ln["J"] for ln in starts if ln["start_scale"] == s])
              for s in SCALES]  # fmt: skip
    groups += [("IPOPT", [ln["J"] for ln in tables["ipopt"]]),
               ("Adam, then exact", [ln["J"] for ln in tables["adam"]]),
               ("Adam", [ln["trained_J"] for ln in tables["adam"]])]  # fmt: skip
    for i, (label, values) in enumerate(groups):
        style = pictures.style(i, size=3) | {"markevery": max(1, len(values) // 12)}
        share = (np.arange(len(values)) + 1) / len(values)
        axes[0, 0].plot(above(values), 100 * share, **style, label=label)
    axes[0, 0].set(xlabel="above the best known [%]", ylabel="share of runs [%]",
                   title="where runs end")  # fmt: skip
    axes[0, 0].set_xscale("symlog", linthresh=1)
    axes[0, 0].set_xlim(left=-0.1)
    axes[0, 0].legend(fontsize=6)
    hits = [line["ended_starts"] for line in optima[:40]]
    axes[0, 1].bar(np.arange(1, len(hits) + 1), hits, color="#0072B2")
    axes[0, 1].set(xlabel="rank of the minimum", ylabel=f"of {len(starts)} starts",
                   title="how often the lowest are found")  # fmt: skip
    own = [line for line in optima if line["ended_starts"]]
    J = np.array([line["J"] for line in own])
    used = np.array([line["depth_used"] for line in own])
    axes[1, 0].plot(100 * (J / best - 1), used, "o", color="#0072B2", markersize=2.5, alpha=0.5)
    axes[1, 0].set(xlabel="above the best known [%]", ylabel="depth used of 20",
                   title="distinct minima")  # fmt: skip
    axes[1, 1].semilogy(100 * (J / best - 1), [line["curvature"] for line in own], "^",
                        color="#D55E00", markersize=2.5, alpha=0.5)  # fmt: skip
    for axis, column in ((axes[1, 0], "depth_used"), (axes[1, 1], "curvature")):
        axis.plot(0.0, optima[0][column], "*", color="#000000", markersize=8, label="best known")
        axis.legend(fontsize=6)
    axes[1, 1].set(xlabel="above the best known [%]", ylabel="least curvature",
                   title="distinct minima")  # fmt: skip
    pictures.letters(axes.flat)
    return {NAME: figure}


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    return study.conduct(NAME, options, compute, draw)


if __name__ == "__main__":
    sys.exit(exits.run(main))
