"""The exact optimum of the two-spirals training problem shows the turnpike.

    minimise   J(u) = sum_{k=0}^{N-1} h [ F(x_k) + (r/2) |u_k|^2 ]  +  gamma F(x_N)
    subject to x_{k+1} = x_k + h tanh(A_k x_k + b_k),   x_0 = (s, 0),   u_k = (A_k, b_k)

F is the mean soft cross-entropy KL(q(y) || softmax C x) over 194 points, q = p_d on the true class.
Its minimisers are whole subspaces, u = 0 keeps a state where it is, so once the classes are there
the cheapest thing to do is nothing: from some layer on the optimal network idles.

    python examples/spirals_ocp.py                      a few seconds on one core
    python examples/spirals_ocp.py --effort thorough    a minute, for a lower optimum
    python examples/spirals_ocp.py --solver ipopt --trials 1   half a minute, the reference solver
    python examples/spirals_ocp.py --seed 3 --depth 40 --output my_run

The parameter values are our choice.  Theory: arXiv 2405.19013.
"""

from ocp import interrupts

if __name__ == "__main__":  # before all else: Ctrl-C from the first line on
    interrupts.listen()

import argparse
import json
import sys
from pathlib import Path

from rich.console import Console
from threadpoolctl import threadpool_limits

import ocp
from ocp import (
    SOLVERS,
    GrowthOptions,
    Problem,
    SearchOptions,
    Solution,
    Status,
    datasets,
    exits,
    grow,
    idle_from,
    layer_table,
    search,
    solver_by_name,
)
from ocp import console as show
from ocp.atomic import write_atomically
from ocp.outputs import check_folder
from ocp.terminal import console as console_for


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--points-per-class", type=int, default=97, help="points of each spiral (97)")
    add("--depth", type=int, default=20, help="number of layers N (20)")
    add("--width", type=int, default=3, help="dimension n of the state (3)")
    add("--step", type=float, default=0.5, help="step size h of a layer (0.5)")
    add("--p-d", type=float, default=0.9, help="probability of the true class (0.9)")
    add("--r", type=float, default=1e-3, help="weight of the controls (1e-3)")
    add("--gamma", type=float, default=1.0, help="weight of the terminal cost (1)")
    add("--seed", type=int, default=0, help="seed of the random start (0)")
    add("--starts", type=int, default=1, help="solve from seeds seed..seed+starts-1, keep the best")
    add("--effort", help="of the search: quick, standard (default) or thorough, a minute")
    add("--seconds", type=float, help="instead of an effort: about how long to search")
    add("--trials", type=int, help="no search, but growth with so many starts at two depths")
    add(
        "--solver",
        choices=SOLVERS,
        default=SOLVERS[0],
        help="others than the first grow (--trials 4)",
    )
    add("--output", type=Path, default=Path("output/spirals"), help="folder for what is written")
    add("--pdf", action="store_true", help="figures as PDF, too")
    add("--quick", action="store_true", help="12 points a class, 8 layers: seconds, for a look")
    options = parser.parse_args(arguments)
    if options.quick:  # what is given holds all the same
        parser.set_defaults(points_per_class=12, depth=8)
        options = parser.parse_args(arguments)
    if options.starts < 1:
        raise ValueError(f"--starts is {options.starts}; wanted at least 1")
    given = [name for name in ("effort", "seconds") if getattr(options, name) is not None]
    if len(given) == 2:
        raise ValueError("--effort is given with --seconds, which does not use it")
    for name in given:
        if options.trials is not None:
            raise ValueError(f"--{name} is given with --trials, which does not use it")
        if options.solver != SOLVERS[0]:
            raise ValueError(f"--{name} is given with --solver {options.solver}, which grows")
    SearchOptions(effort=options.effort or "standard", seconds=options.seconds)
    return options


def statement(options: argparse.Namespace) -> Problem:
    inputs, labels = datasets.spirals(options.points_per_class)
    return Problem(
        inputs=inputs,
        labels=labels,
        n_classes=2,
        depth=options.depth,
        width=options.width,
        h=options.step,
        p_d=options.p_d,
        r=options.r,
        gamma=options.gamma,
    )


def solve(options: argparse.Namespace, problem: Problem, console: Console) -> Solution:
    """Solve from every seed, by the search or by growth, and return the best strict minimum."""
    show.print_cautions(problem)
    solver = solver_by_name(options.solver, max_iterations=600, max_seconds=240)
    growing = options.trials is not None or options.solver != SOLVERS[0]
    growth = GrowthOptions(trials=4 if options.trials is None else options.trials)
    wanted = SearchOptions(effort=options.effort or "standard", seconds=options.seconds)
    best = None
    for seed in range(options.seed, options.seed + options.starts):
        with show.reporting(console) as report:
            if growing:
                found = grow(problem, solver, seed=seed, options=growth, report=report)
            else:
                found = search(problem, solver, seed=seed, options=wanted, report=report)
        console.print(f"seed {seed}: {found.status.name}, J = {found.report.objective:.6f}")
        rank = (found.status is not Status.SOLVED, found.report.objective)
        if best is None or rank < (best.status is not Status.SOLVED, best.report.objective):
            best = found
        if found.status is Status.INTERRUPTED:
            break
    return best


def main(arguments: list[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    console, problem = console_for(), statement(options)
    check_folder("--output", options.output, ("solution.safetensors", "report.json"))
    options.output.mkdir(parents=True, exist_ok=True)
    with threadpool_limits(1):
        solution = solve(options, problem, console)
        table = layer_table(solution.problem, solution.controls)
    idle = idle_from(solution.controls)
    right = round(table.accuracy[-1] * solution.problem.n_samples)
    ocp.save(options.output / "solution.safetensors", solution.to_file())
    report = {
        **solution.report.to_json(),
        "idle_from": idle,
        "classified_right": right,
        "layers": {name: getattr(table, name).tolist() for name in table.__slots__},
    }
    write_atomically(options.output / "report.json", json.dumps(report, indent=1).encode())
    stopped = solution.status is Status.INTERRUPTED  # and somebody waits for the prompt
    written = () if stopped else ocp.figures.save_figures(solution, options.output, pdf=options.pdf)
    show.print_layers(console, table, idle)
    show.print_summary(console, solution)
    console.print(f"classified right  {right} of {solution.problem.n_samples}")
    console.print(f"written to {options.output}: "
                  + ", ".join(["solution.safetensors", "report.json",
                               *(p.name for p in written)]))  # fmt: skip
    if stopped:
        return exits.INTERRUPTED
    return exits.OK if solution.status is Status.SOLVED else exits.FAILED


if __name__ == "__main__":
    sys.exit(exits.run(main))
