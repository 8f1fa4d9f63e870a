"""From 15 layers on the tanh optimum enters its turnpike at one layer; Adam's comes with depth.

For depths N = 5 .. 40, tanh and relu, layer by layer: stage cost l_k, control norm |u_k|, distance
of the logits to the minimiser subspaces (root mean square over samples) and the entry layer,

    exact     the best of several grown solutions; relu through softplus of sharpness 10, 100 and
              1000, whose last point is then judged as relu
    trained   Adam on the whole set, several seeds; the figure shows the one with the median J

and the judge's verdict on the turnpike over all depths, for either way.

    python examples/path_ladder.py                  the two spirals: ten minutes on two cores
    python examples/path_ladder.py --quick          20 points, depths 3, 4 and 6: seconds

Every finished rung is kept in OUTPUT/rungs: run the same command again to go on after a stop.
Optimum means best known; nothing here is a global one.  The parameter values are our choice.
"""

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import csv
import dataclasses
import io
import json
import sys
import time
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor, as_completed
from pathlib import Path

import matplotlib as mpl
from cross_validate import exact_solver, save, statement, train
from path_ladder_figure import draw
from rich.console import Console
from rich.table import Table
from threadpoolctl import threadpool_limits

import ocp
from ocp import (
    GrowthOptions,
    Problem,
    Solution,
    Status,
    TrainingFile,
    exits,
    figures,
    grow,
    run_folder,
    smoothed_relu,
    workers,
)
from ocp.atomic import write_atomically
from ocp.outputs import check_folder
from ocp.terminal import console as console_for
from verification import Verdict, verify_content
from verification.crosscheck import paths as path_comparison

DEPTHS, ACTIVATIONS = (5, 10, 15, 20, 30, 40), ("tanh", "relu")
WAYS = ("exact", "trained")
SHARPNESS = (10.0, 100.0, 1000.0)
#: relu: the smoothed path is followed with at most so many layers, its minima are then grown
PATH_DEPTH = 10
#: what a rung's record must agree in to be taken up again
SETTINGS = ("starts", "seeds", "steps", "lr", "quick")


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--depths", type=int, nargs="+", default=list(DEPTHS), help="depths N (5 .. 40)")
    add("--starts", type=int, default=2, help="exact solutions a rung, the best counts (2)")
    add("--seeds", type=int, default=3, help="networks trained a rung, the median is drawn (3)")
    add("--steps", type=int, default=5000, help="steps of Adam (5000)")
    add("--lr", type=float, default=3e-2, help="Adam's rate, decayed on half a cosine (3e-2)")
    add("--workers", type=int, default=2, help="processes, one thread each (2)")
    add("--output", type=Path, default=Path("output/path_ladder"))
    add("--quick", action="store_true", help="10 points a class, depths 3, 4, 6: seconds")
    options = parser.parse_args(arguments)
    if options.quick:  # what is given holds all the same
        # a second worker would only import PyTorch again
        parser.set_defaults(depths=[3, 4, 6], starts=1, seeds=1, steps=200, workers=1)
        options = parser.parse_args(arguments)
    for name in ("starts", "seeds", "steps", "workers"):
        if getattr(options, name) < 1:
            raise ValueError(f"--{name} is {getattr(options, name)}; wanted at least 1")
    if min(options.depths) < 1 or len(set(options.depths)) < 3:
        raise ValueError(f"--depths are {options.depths}; wanted three or more, of at least 1")
    options.depths = sorted(set(options.depths))
    return options


def exact_path(problem: Problem, seed: int) -> tuple[Solution, ...]:
    """One exact solution; for relu those of the smoothed path and the last judged as relu."""
    growth = GrowthOptions(start_scale=0.1, trials=4, escapes=8)
    if problem.activation == "relu":
        return smoothed_relu(problem, exact_solver, sharpness=SHARPNESS, path_depth=PATH_DEPTH,
                             seed=seed, options=growth)  # fmt: skip
    return (grow(problem, exact_solver, seed=seed, options=growth),)


def best_of(paths: list[tuple[Solution, ...]]) -> tuple[Solution, ...]:
    """The path with the lowest J at its end among those whose smooth problems were solved."""

    def rank(path: tuple[Solution, ...]) -> tuple[bool, float]:
        smooth = path[:-1] or path
        return smooth[-1].status is not Status.SOLVED, path[-1].report.objective

    return min(paths, key=rank)


def climb(folder: Path, activation: str, depth: int, settings: dict) -> float:
    """Solve and train one rung, write its networks and then its record; return the seconds."""
    begun, cpu = time.perf_counter(), time.process_time()
    problem = statement(settings["quick"], depth=depth, activation=activation)
    with threadpool_limits(1):
        path = best_of([exact_path(problem, seed) for seed in range(settings["starts"])])
        networks = [train(problem, settings["steps"], settings["lr"], seed)
                    for seed in range(settings["seeds"])]  # fmt: skip
    name = f"{activation}_{depth}"
    ocp.save(folder / f"{name}_exact.safetensors", path[-1].to_file())
    for seed, controls in enumerate(networks):
        origin = {"producer": "nn_baseline", "optimizer": "adam", "seed": seed}
        content = TrainingFile(problem=problem, controls=controls, origin=origin)
        ocp.save(folder / f"{name}_trained_{seed}.safetensors", content)
    smoothed = [
        {"sharpness": sharpness, "objective": s.report.objective, "status": s.status.name,
         "grad_inf_norm": s.report.grad_inf_norm, "entry": path_of(s.to_file()).entry}
        for sharpness, s in zip(SHARPNESS, path[:-1], strict=False)
    ]  # fmt: skip
    record = {
        **settings,
        "status": path[-1].status.name,
        "smoothed": smoothed,
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time() - cpu,
    }
    write_atomically(folder / f"{name}.json", json.dumps(record, indent=1).encode())
    return record["seconds"]


def path_of(content: TrainingFile) -> path_comparison.Path:
    return path_comparison.path("", content)


def finished(record: Path, settings: dict) -> bool:
    """Whether a rung is there and was made with these settings."""
    if not record.exists():
        return False
    found = json.loads(record.read_text())
    return all(found.get(name) == value for name, value in settings.items())


def climb_all(options: argparse.Namespace, console: Console, folder: Path) -> None:
    """Make every rung that is not there yet, and say how far it is."""
    settings = {name: getattr(options, name) for name in SETTINGS}
    # side by side the dearest first, so that none is left waiting for it at the end
    order = options.depths[::-1] if options.workers > 1 else options.depths
    rungs = [(a, N) for N in order for a in ACTIVATIONS]
    wanted = [r for r in rungs if not finished(folder / f"{r[0]}_{r[1]}.json", settings)]
    done = len(rungs) - len(wanted)
    if done:
        console.print(f"{done} of {len(rungs)} rungs are there already")
    with run_folder.claimed(folder), workers.pool(options.workers) as pool:
        jobs = {pool.submit(climb, folder, a, N, settings): (a, N) for a, N in wanted}
        try:
            for job in as_completed(jobs):
                done += 1
                activation, N = jobs[job]
                console.print(f"rung {done} of {len(rungs)}: {activation}, N = {N},"
                              f" {job.result():.0f} s")  # fmt: skip
        except BrokenExecutor:
            raise OSError(
                "a worker died; finished rungs are kept, the same command goes on"
            ) from None


@dataclasses.dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Rung:
    """What one depth shows: the record, the exact path, the trained ones by rising J."""

    activation: str
    depth: int
    record: dict
    contents: dict[str, TrainingFile]
    exact: path_comparison.Path
    trained: list[path_comparison.Path]

    @property
    def median(self) -> path_comparison.Path:
        return self.trained[(len(self.trained) - 1) // 2]

    def rows(self) -> Iterator[dict]:
        """One row a network."""
        smoothed = {
            f"J_softplus_{s['sharpness']:g}": f"{s['objective']:.6f}"
            for s in self.record["smoothed"]
        }
        for way, paths in (("exact", [self.exact]), ("trained", self.trained)):
            for p in paths:
                yield {
                    "activation": self.activation,
                    "depth": self.depth,
                    "network": way,
                    "status": self.record["status"] if way == "exact" else "",
                    "objective": f"{p.objective:.6f}",
                    "entry": p.entry,
                    "used": p.used,
                    "last_stage_cost": f"{p.stage_cost[-1]:.3e}",
                    "last_control_norm": f"{p.control_norm[-1]:.3e}",
                    "last_distance": f"{p.distance[-1]:.4f}",
                    **(smoothed if way == "exact" else {}),
                }


def read_rung(folder: Path, activation: str, depth: int, seeds: int) -> Rung:
    """Read the networks of a rung and evaluate their paths with the judge's arithmetic."""
    name = f"{activation}_{depth}"
    load = lambda suffix: ocp.load(folder / f"{name}_{suffix}.safetensors")  # noqa: E731
    exact, networks = load("exact"), [load(f"trained_{seed}") for seed in range(seeds)]
    paths = sorted(
        ((path_of(content), content) for content in networks), key=lambda pair: pair[0].objective
    )
    median = paths[(len(paths) - 1) // 2][1]
    return Rung(
        activation=activation,
        depth=depth,
        record=json.loads((folder / f"{name}.json").read_text()),
        contents={"exact": exact, "trained": median},
        exact=path_of(exact),
        trained=[path for path, _ in paths],
    )


def verdicts(rungs: list[Rung]) -> list[dict]:
    """The judge on the turnpike over all depths, and which files it proves not optimal."""
    found = []
    for activation in ACTIVATIONS:
        for way in WAYS:
            ladder = [r for r in rungs if r.activation == activation]
            names = [f"N = {r.depth}" for r in ladder]
            contents = [r.contents[way] for r in ladder]
            report = verify_content(contents, names, only=["turnpike"])
            line = report.named("turnpike.across_depths")
            others = [e for e in report.entries if e.name == "turnpike.not_optimal"]
            refuted = [e.where for e in others if e.verdict is Verdict.PROVED]
            found.append({"activation": activation, "network": way, "verdict": line.verdict.value,
                          "growth": line.measured, "line": line.explanation,
                          "outside": report.named("turnpike.outside").message,
                          "not_optimal": refuted})  # fmt: skip
    return found


def tables(rungs: list[Rung], judged: list[dict]) -> list[Table]:
    """What is printed: one line a rung, and the verdicts."""
    rows = Table("activation", "N", "status", "J exact", "J trained", "entry exact", "trained",
                 "used exact", "trained", title="exact against trained, by depth")  # fmt: skip
    for r in rungs:
        join = lambda values: " ".join(str(v) for v in values)  # noqa: E731
        rows.add_row(r.activation, str(r.depth), r.record["status"], f"{r.exact.objective:.4f}",
                     join(f"{p.objective:.3f}" for p in r.trained), str(r.exact.entry),
                     join(p.entry for p in r.trained), str(r.exact.used),
                     join(p.used for p in r.trained))  # fmt: skip
    turnpike = Table("activation", "network", "turnpike", "layers off it, by depth",
                     title="the judge over all depths (claim turnpike.across_depths)")  # fmt: skip
    for j in judged:
        turnpike.add_row(j["activation"], j["network"], j["verdict"], j["outside"])
    return [rows, turnpike]


def as_csv(rungs: list[Rung]) -> bytes:
    rows = [row for r in rungs for row in r.rows()]
    columns = list(dict.fromkeys(key for row in rows for key in row))
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode()


def as_record(options: argparse.Namespace, rungs: list[Rung], judged: list[dict]) -> bytes:
    """Settings, verdicts and the drawn paths, six digits."""
    short = lambda values: [float(f"{v:.6g}") for v in values]  # noqa: E731
    shape = lambda p: {"objective": p.objective, "entry": p.entry, "used": p.used,  # noqa: E731
                       **{q: short(getattr(p, q))
                          for q in ("stage_cost", "control_norm", "distance")}}  # fmt: skip
    paths = [{"activation": r.activation, "depth": r.depth, "status": r.record["status"],
              "smoothed": r.record["smoothed"], "cpu_seconds": r.record["cpu_seconds"],
              "exact": shape(r.exact), "trained": [shape(p) for p in r.trained]}
             for r in rungs]  # fmt: skip
    settings = {name: getattr(options, name) for name in SETTINGS}
    return json.dumps({**settings, "turnpike": judged, "rungs": paths}).encode() + b"\n"


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    folder = options.output / "rungs"
    names = [f"ladder.{suffix}" for suffix in ("csv", "json", "pdf", "png")]
    check_folder("--output", options.output, names)
    check_folder("--output", folder, [f"{a}_{N}.json" for a in ACTIVATIONS for N in options.depths])
    folder.mkdir(parents=True, exist_ok=True)
    console = console_for(soft_wrap=True)
    climb_all(options, console, folder)
    with threadpool_limits(1):
        rungs = [
            read_rung(folder, a, N, options.seeds) for a in ACTIVATIONS for N in options.depths
        ]
        judged = verdicts(rungs)
    write_atomically(options.output / "ladder.csv", as_csv(rungs))
    write_atomically(options.output / "ladder.json", as_record(options, rungs, judged))
    with mpl.rc_context(figures.STYLE):
        save(draw(rungs), options.output, "ladder")
    for table in tables(rungs, judged):
        console.print(table)
    console.print(f"written to {options.output}: ladder.csv, .json, .pdf, .png")
    return exits.OK


if __name__ == "__main__":
    sys.exit(exits.run(main))
