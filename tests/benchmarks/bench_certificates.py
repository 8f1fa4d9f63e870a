"""Processor seconds of a certificate: by midpoint-radius matrices, and in balls throughout.

    python -m pytest tests/benchmarks/bench_certificates.py --benchmark-only --benchmark-json=FILE
    python tests/benchmarks/bench_certificates.py FILE > tests/benchmarks/certificates.md

One process, one thread, imports done.  The spirals of width 8 are solved first (a minute).  Where
the time goes is read from one more run under cProfile, which slows Python down.
"""

from __future__ import annotations

import cProfile
import pstats
import statistics
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import recorded
from threadpoolctl import threadpool_limits

import ocp
from ocp import files
from ocp.controls import flatten
from ocp.versions import versions
from verification.balls import arithmetic as balls
from verification.balls import by_balls, costs, midrad, midrad_hessian
from verification.balls.hessian import gradient_and_hessian
from verification.balls.model import ball_model
from verification.checks.certificate import Outcome, certify_minimum

BEST = Path(__file__).parents[2] / "examples" / "best_known" / "spirals.safetensors"
ROUNDS = 5
#: half side of the box on which both enclosures are compared
HALF_SIDE = 1e-12
#: file, function -> the part it belongs to; each is counted with all that it calls
PARTS = {
    ("model.py", "gradient"): "gradients in balls",
    ("model.py", "objective"): "objective in balls",
    ("midrad_hessian.py", "hessian"): "Hessians over boxes",
    ("hessian.py", "by_condensing"): "Hessian in floats",
    ("by_matrices.py", "gershgorin"): "definiteness",
    ("by_matrices.py", "defect_of"): "I - B H",
    ("by_matrices.py", "inverse"): "inverses",
}


def best_spirals():
    content = files.load(BEST)
    return content.problem, flatten(content.controls)


def wide_spirals():
    inputs, labels = ocp.datasets.spirals()
    problem = ocp.Problem(inputs=inputs, labels=labels, n_classes=2, width=8)
    return problem, flatten(ocp.solve(problem, seed=0).controls)


CASES = {"best known, n = 3": best_spirals, "seed 0, n = 8": wide_spirals}


def parts(problem, u) -> dict[str, float]:
    """Share of each part of a run under cProfile."""
    profile = cProfile.Profile(time.process_time)
    profile.runcall(certify_minimum, problem, u)
    stats = pstats.Stats(profile)
    found = dict.fromkeys(PARTS.values(), 0.0)
    for (path, _, name), (_, _, _, seconds, _) in stats.stats.items():
        part = PARTS.get((Path(path).name, name))
        if part:
            found[part] += seconds / stats.total_tt
    return found


def ratio(problem, u) -> float:
    """Mean radius of the Hessian by matrices to that by balls, over one box."""
    with balls.precision(128):
        model, centre = ball_model(problem), balls.exact(u)
        box = midrad.around(centre, np.full(len(u), HALF_SIDE))
        own = midrad_hessian.hessian(midrad_hessian.statement(model), box)
        H = gradient_and_hessian(model, balls.ball(centre, HALF_SIDE))[1]
        wide = np.array([balls.upper(x.rad()) for x in H.ravel()])
    return float(own.rad.sum() / wide.sum())


@pytest.mark.timeout(3600)
@pytest.mark.benchmark(timer=time.process_time)
@pytest.mark.parametrize("case", CASES)
def test_certificates(benchmark, case):
    with threadpool_limits(1):
        problem, u = CASES[case]()
        found = benchmark.pedantic(certify_minimum, (problem, u), rounds=ROUNDS, warmup_rounds=1)
        assert found.outcome is Outcome.MINIMUM, found.reason
        before, widths = None, None
        if len(u) < 1000:
            begun = time.process_time()
            with balls.precision(128):
                oracle = by_balls.attempt(problem, u, 128, lambda text: None)[0]
            before, widths = time.process_time() - begun, ratio(problem, u)
            assert oracle.outcome is Outcome.MINIMUM
        benchmark.extra_info.update(
            case=case,
            d=len(u),
            seconds=statistics.median(benchmark.stats.stats.data),
            estimate=costs.of_matrices(problem).seconds,
            balls=before,
            balls_estimate=costs.of_balls(problem).seconds,
            widths=widths,
            radius=found.radius,
            rho=found.rho,
            parts=parts(problem, u),
            versions=versions("python-flint"),
            host=recorded.host(),
        )


def table(path: str) -> str:
    """Return the committed table of a pytest-benchmark JSON file."""
    rows, said = recorded.rows_and_host(path)
    lines = [
        "# What a certificate takes",
        "",
        "`python -m pytest tests/benchmarks/bench_certificates.py --benchmark-only"
        " --benchmark-json=FILE`, then `python tests/benchmarks/bench_certificates.py FILE`.",
        "",
        said + ".  `certify_minimum` after imports on minima of the default spirals (194 points,"
        f" N = 20); processor seconds, medians of {ROUNDS} runs by matrices and one in balls"
        " throughout, which was all there was before, up to 1000 variables.",
        "",
        "| file | d | by matrices [s] | estimate [s] | in balls [s] | estimate [s] | ratio"
        " | radii of H, matrices/balls | half side of the box | rho |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for r in rows:
        before = f"{r['balls']:.1f}" if r["balls"] else "refused"
        times = f"{r['balls'] / r['seconds']:.0f}" if r["balls"] else ""
        widths = f"{r['widths']:.3f}" if r["widths"] else ""
        lines.append(
            f"| {r['case']} | {r['d']} | {r['seconds']:.2f} | {r['estimate']:.1f} | {before}"
            f" | {r['balls_estimate']:.0f} | {times} | {widths} | {r['radius']:.2g}"
            f" | {r['rho']:.2f} |"
        )
    lines += [
        "",
        "Share of each part (under cProfile; the rest is Python between them):",
        "",
        "| part | " + " | ".join(f"d = {r['d']}" for r in rows) + " |",
        "|---|" + "---|" * len(rows),
    ]
    for part in rows[0]["parts"]:
        shares = " | ".join(f"{100 * r['parts'][part]:.0f} %" for r in rows)
        lines.append(f"| {part} | {shares} |")
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(sys.argv[1]))
