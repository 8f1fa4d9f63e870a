"""The depth found by growth against fresh networks of every depth, on eight sets.

    python tests/benchmarks/depth_found.py --data-dir FOLDER    writes depth_found.csv, .md
    python tests/benchmarks/depth_found.py --quick --output DIR
    python tests/benchmarks/depth_found.py --table              the table of the rows there are

FOLDER holds mnist/ and fashion/ as `python -m nn_baseline fetch` leaves them; without it these
two sets are left out.  Each row is one training or growth under one seed; a row that is in the
CSV is not run again.  CPU seconds of one thread.

    fresh K    a network of K layers from its own start (0: lift and readout alone), for the same
               epochs at every depth
    grown      `nn_baseline.grow`: the depth found
    equal      a fresh network of the depth found, for the layer passes of the whole growth
    autogrow   AutoGrow's periodic growth on the same models: random layers, a constant rate, a
               layer each phase until validation accuracy gains less than 0.05 points, then the
               same annealing (Wen, Yan, Chen, Li, "AutoGrow", KDD 2020)
    bisection  over 1..20 by fresh networks on the validation samples
    append A   growth with other new layers: "near zero"
"""

import argparse
import csv
import dataclasses
import itertools
import sys
import time
from pathlib import Path

import torch
from depth_sets import IMAGES, NAMES, TABULAR, Set, load
from depth_table import write_table

from nn_baseline import Options, Plan, grow, start_network, train
from nn_baseline.growing import passes, right
from nn_baseline.paired import difference
from ocp.atomic import write_atomically

HERE = Path(__file__).parent
FIELDS = (
    *("set", "row", "seed", "depth", "gain_depth", "accuracy", "validation", "work", "passes"),
    *("cpu_seconds", "curve"),
)
DEEPEST, TAU = 12, 0.05
STEPS = 1000


def plan_of(found: Set, seed: int, quick: bool, **changes) -> Plan:
    """The estimator's defaults: phases of about 1000 steps, annealing of three phases."""
    n = found.problem.n_samples
    batch = min(128, n)
    epochs = min(max(2, -(-STEPS // -(-n // batch))), 100)
    phase = Options(
        optimizer="adam",
        lr=1e-2 if n < 10_000 else 3e-3,
        epochs=2 if quick else epochs,
        batch_size=batch,
        evaluate_every=0,
        init_scale=0.1,
        seed=seed,
        dtype="float32",
    )
    final = dataclasses.replace(phase, epochs=3 * phase.epochs, schedule="cosine")
    return Plan(phase=(phase,), final=(final,), deepest=DEEPEST, **changes)


def fresh(found: Set, plan: Plan, depth: int, epochs: int):
    """Train a network of this depth from its own start, with the plan's annealing."""
    options = dataclasses.replace(plan.final[0], epochs=epochs)
    # lift and readout alone: layers of a step that does nothing
    problem = found.problem.with_(depth=depth) if depth else found.problem.with_(h=1e-9)
    network = start_network(problem, options)
    train(network, options)
    return network, max(depth, 1) * epochs


def run_fresh(found: Set, plan: Plan, depth: int) -> dict:
    epochs = plan.phase[0].epochs + plan.final[0].epochs + plan.phase[0].epochs
    network, work = fresh(found, plan, depth, epochs)
    return measured(found, network, depth=depth, work=work, passes=epochs)


def measured(found: Set, network, **row) -> dict:
    accuracy = 100 * right(network, found.test).mean()
    validation = 100 * right(network, found.validation).mean()
    return row | {"accuracy": accuracy, "validation": validation}


def run_grown(found: Set, plan: Plan) -> dict:
    result = grow(found.problem, found.validation, plan)
    curve = " ".join(f"{s.depth}:{100 * s.accuracy:.2f}" for s in result.stages)
    return measured(
        found,
        result.network,
        depth=result.depth,
        gain_depth=result.gain_depth,
        work=result.work,
        passes=result.passes,
        curve=curve,
    )


def run_autogrow(found: Set, plan: Plan) -> dict:
    """A layer each phase, whatever it does, until accuracy has not risen by TAU over a phase."""
    from nn_baseline.growing import appended

    network = start_network(found.problem, plan.phase[0])
    work, seen, best = 0.0, 0, -1.0
    while True:
        train(network, plan.phase[0])
        seen += plan.phase[0].epochs
        work += network.problem.depth * plan.phase[0].epochs
        accuracy = 100 * right(network, found.validation).mean()
        if accuracy < best + TAU or network.problem.depth == DEEPEST:
            break
        best = accuracy
        network = appended(found.problem, network, plan, plan.phase[0].seed)
    depth = network.problem.depth
    train(network, plan.final[0])
    work, seen = work + depth * passes(plan.final[0]), seen + plan.final[0].epochs
    return measured(found, network, depth=depth, work=work, passes=seen)


def run_bisection(found: Set, plan: Plan) -> dict:
    """The least of 1..20 that is not shown to lose, if losing falls with depth."""
    epochs = 2 * plan.phase[0].epochs + plan.final[0].epochs
    deep, work = fresh(found, plan, 20, epochs)
    best, kept = right(deep, found.validation), deep
    low, high = 1, 20
    while low < high:
        middle = (low + high) // 2
        network, more = fresh(found, plan, middle, epochs)
        work += more
        lost = difference(right(network, found.validation), best)
        if lost.high >= -plan.tolerance:
            high, kept = middle, network
        else:
            low = middle + 1
    return measured(found, kept, depth=high, work=work, passes=epochs)


def run(name: str, found: Set, plan: Plan, row: str, rows: dict) -> dict:
    kind, _, number = row.partition(" ")
    if kind == "fresh":
        return run_fresh(found, plan, int(number))
    if kind == "equal":
        grown = rows[name, "grown", plan.phase[0].seed]
        depth = int(grown["depth"])
        epochs = max(1, round(float(grown["work"]) / depth))
        network, work = fresh(found, plan, depth, epochs)
        return measured(found, network, depth=depth, work=work, passes=epochs)
    if kind == "append":
        return run_grown(found, dataclasses.replace(plan, append=number, append_scale=None))
    return {"grown": run_grown, "autogrow": run_autogrow, "bisection": run_bisection}[kind](
        found, plan
    )


def wanted(name: str, seed: int, growths: bool) -> list[str]:
    """The rows of a set under a seed: the growths and what they are compared with, or the rest."""
    few = seed < 5 and name not in IMAGES
    if growths:
        return ["grown", "equal", "autogrow"] + ["append near zero"] * few
    return [f"fresh {k}" for k in range(DEEPEST + 1)] + ["bisection"] * few


def seeds_of(name: str, seeds: int) -> int:
    return 2 * seeds if name in TABULAR else seeds


def main() -> int:
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--data-dir", help="folder with mnist/ and fashion/")
    p.add_argument("--sets", nargs="+", choices=NAMES, default=list(NAMES))
    p.add_argument("--seeds", type=int, default=10, help="twice as many for wine and cancer [10]")
    p.add_argument("--seconds", type=float, default=float("inf"), help="begin no row after these")
    p.add_argument("--output", type=Path, default=HERE)
    p.add_argument("--table", action="store_true", help="run nothing")
    p.add_argument("--quick", action="store_true", help="two sets, one seed, few samples")
    args = p.parse_args()
    torch.set_num_threads(1)
    path, begun = args.output / "depth_found.csv", time.monotonic()
    rows = read(path)
    names = ["wine", "moons"] if args.quick else args.sets
    names = [n for n in names if args.data_dir or n not in IMAGES]
    seeds = 1 if args.quick else args.seeds
    for growths in () if args.table else (True, False):  # the reference takes longest
        for seed, name in itertools.product(range(2 * seeds), names):
            if seed >= seeds_of(name, seeds):
                continue
            todo = [r for r in wanted(name, seed, growths) if (name, r, seed) not in rows]
            if args.quick:
                todo = [r for r in todo if r in ("grown", "equal", "autogrow", "fresh 1")]
            found = load(name, seed, args.data_dir, args.quick) if todo else None
            for row in todo:
                if time.monotonic() - begun > args.seconds:
                    continue
                started = time.process_time()
                plan = plan_of(found, seed, args.quick)
                result = run(name, found, plan, row, rows)
                result["cpu_seconds"] = time.process_time() - started
                rows[name, row, seed] = {"set": name, "row": row, "seed": seed} | result
                write(path, rows)
                said = f"{name:13} {row:17} seed {seed}  depth {result['depth']:2}"
                said += f"  {result['accuracy']:.2f} %  {result['cpu_seconds']:.1f} s"
                print(said, flush=True)
    write_table(args.output / "depth_found.md", list(rows.values()))
    return 0


def read(path: Path) -> dict:
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        return {(r["set"], r["row"], int(r["seed"])): r for r in csv.DictReader(file)}


def write(path: Path, rows: dict) -> None:
    lines = [",".join(FIELDS)]
    for row in rows.values():
        cells = (row.get(name, "") for name in FIELDS)
        lines.append(",".join(f"{c:.6g}" if isinstance(c, float) else str(c) for c in cells))
    write_atomically(path, ("\n".join(lines) + "\n").encode())


if __name__ == "__main__":
    sys.exit(main())
