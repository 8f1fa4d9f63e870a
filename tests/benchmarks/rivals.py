"""The methods of the comparison: each takes a problem, a seed and a tolerance.

A method returns (controls, iterations, what it said).  All start from random controls of the seed
with the standard deviation that is the default of growth: cold methods at full depth, the same
controls for each of them; methods with growth from the same ones at depth 5.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from ocp import solvers
from ocp.continuation import growth as continuation
from ocp.controls import Controls, flatten, random_start, unflatten
from ocp.problem import Problem
from ocp.solvers import fatrop
from ocp.solvers.solution import Status

Result = tuple[Controls, int, str]


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Method:
    """run(problem, seed, tolerance) and how the table calls it; seeds: how many are run."""

    title: str
    run: object
    seeds: int
    points_per_class: int = 97
    depth: int = 20
    width: int = 3


START_SCALE = continuation.GrowthOptions().start_scale


def grown(name: str, start_scale: float = START_SCALE, trials: int = 2, **options) -> object:
    """Depth growth with a solver of the toolkit; by default as the toolkit sets it."""

    def run(problem: Problem, seed: int, tolerance: float) -> Result:
        solver = solvers.by_name(name, options=options)
        growth = continuation.GrowthOptions(
            tolerance=tolerance, restarts=0, start_scale=start_scale, trials=trials
        )
        found = continuation.grow(problem, solver, seed=seed, options=growth)
        return found.controls, found.report.iterations, found.status.name

    return run


def by_gain(problem: Problem, seed: int, tolerance: float) -> Result:
    """Growth whose steps in depth follow the gain over idling."""
    from ocp.continuation.growth_by_gain import GainOptions, grow_by_gain

    growth = continuation.GrowthOptions(tolerance=tolerance, restarts=0, append_scale=1e-6)
    found, _ = grow_by_gain(
        problem,
        solvers.by_name("structured"),
        depth=problem.depth,
        seed=seed,
        options=GainOptions(growth=growth),
    )
    return found.controls, found.report.iterations, found.status.name


def many(problem: Problem, seed: int, tolerance: float) -> Result:
    """Sixty starts one after the other; the best is the answer, what it said counts the solved."""
    solver = solvers.by_name("structured")
    growth = continuation.GrowthOptions(tolerance=tolerance, restarts=0, trials=1)
    found = [
        continuation.grow(problem, solver, seed=1000 + 60 * seed + start, options=growth)
        for start in range(60)
    ]
    solved = [solution for solution in found if solution.status is Status.SOLVED]
    best = min(solved, key=lambda solution: solution.report.objective)
    iterations = sum(solution.report.iterations for solution in found)
    return best.controls, iterations, f"{len(solved)} of {len(found)} starts SOLVED"


def cold(name: str, start_scale: float = START_SCALE, **options) -> object:
    """One solve at full depth from random controls."""

    def run(problem: Problem, seed: int, tolerance: float) -> Result:
        solver = solvers.by_name(name, options=options)
        start = random_start(problem, np.random.default_rng(seed), start_scale)
        found = solver(problem, start, tolerance, lambda progress: None)
        return found.controls, found.report.iterations, found.status.name

    return run


def cold_fatrop(problem: Problem, seed: int, tolerance: float) -> Result:
    options = fatrop.FatropOptions(tolerance=tolerance)
    found = fatrop.solve(problem, _start(problem, seed), options=options)
    return found.controls, found.report.iterations, found.status.name


def scipy_lbfgs(problem: Problem, seed: int, tolerance: float) -> Result:
    """L-BFGS-B, 50 corrections, with the adjoint gradient in NumPy."""
    from scipy.optimize import minimize

    options = {"maxcor": 50, "maxiter": 200_000, "maxfun": 200_000, "ftol": 0, "gtol": tolerance}
    start = flatten(_start(problem, seed))
    found = minimize(_value(problem), start, jac=True, method="L-BFGS-B", options=options)
    return unflatten(problem, found.x), found.nfev, str(found.message)


def scipy_trust_constr(problem: Problem, seed: int, tolerance: float) -> Result:
    """trust-constr with the adjoint gradient and our fast exact Hessian."""
    from scipy.optimize import minimize

    from ocp.evaluation.assembly import assembled_hessian

    found = minimize(
        _value(problem),
        flatten(_start(problem, seed)),
        jac=True,
        hess=lambda u: assembled_hessian(problem, unflatten(problem, u)),
        method="trust-constr",
        options={"gtol": tolerance, "xtol": 1e-16, "maxiter": 100_000},
    )
    return unflatten(problem, found.x), found.nit, str(found.message)


def searched(problem: Problem, seed: int, tolerance: float) -> Result:
    """The search as the example sets it."""
    from ocp.continuation.search import search
    from ocp.continuation.search_options import SearchOptions

    found = search(problem, seed=seed, options=SearchOptions(tolerance=tolerance))
    return found.controls, found.report.iterations, found.status.name


def grown_trust_exact(problem: Problem, seed: int, tolerance: float) -> Result:
    """trust-exact with our gradient and Hessian, grown as the toolkit grows: two trials."""
    rng = np.random.default_rng([seed, 0])
    options = continuation.GrowthOptions()
    depths = continuation.default_depths(problem.depth)
    iterations = 0
    found = []
    for _ in range(options.trials):
        controls = random_start(problem.with_(depth=depths[0]), rng, options.start_scale)
        for depth in depths[:2]:
            ended = _trust_exact(problem, controls, depth, options.intermediate_tolerance, rng)
            controls, iterations = ended[1], iterations + ended[2]
        found.append(ended[:2])
    controls = min(found, key=lambda pair: pair[0])[1]
    for depth in depths[2:]:
        last = depth == problem.depth
        goal = tolerance if last else options.intermediate_tolerance
        _, controls, more = _trust_exact(problem, controls, depth, goal, rng)
        iterations += more
    return controls, iterations, "stopped"


def _trust_exact(
    problem: Problem, controls: Controls, depth: int, tolerance: float, rng: np.random.Generator
) -> tuple[float, Controls, int]:
    """Append layers up to a depth and minimise there: J, controls, iterations."""
    from scipy.optimize import minimize

    from ocp.evaluation.assembly import assembled_hessian

    shallow = problem.with_(depth=depth)
    if controls.depth < depth:
        scale = continuation.GrowthOptions().append_scale
        controls = continuation.extend(shallow, controls, rng, scale)
    found = minimize(
        _value(shallow),
        flatten(controls),
        jac=True,
        hess=lambda u: assembled_hessian(shallow, unflatten(shallow, u)),
        method="trust-exact",
        options={"gtol": tolerance, "maxiter": 2000},
    )
    return float(found.fun), unflatten(shallow, found.x), int(found.nit)


def torch_lbfgs(problem: Problem, seed: int, tolerance: float) -> Result:
    """torch.optim.LBFGS, 50 corrections, strong Wolfe line search, float64."""
    import torch
    from torch_objective import torch_objective

    u = torch.tensor(flatten(_start(problem, seed)), requires_grad=True)
    J, count = torch_objective(problem), 0
    method = torch.optim.LBFGS(
        [u],
        max_iter=100_000,
        max_eval=200_000,
        history_size=50,
        tolerance_grad=tolerance,
        tolerance_change=0,
        line_search_fn="strong_wolfe",
    )

    def closure():
        nonlocal count
        count += 1
        method.zero_grad()
        value = J(u)
        value.backward()
        return value

    method.step(closure)
    return unflatten(problem, u.detach().numpy()), count, "stopped"


def torch_adam(problem: Problem, seed: int, tolerance: float) -> Result:
    """Adam, float64, full batch, step size 1e-2 decayed to 1e-5 over 30,000 steps."""
    import torch
    from torch_objective import torch_objective

    u = torch.tensor(flatten(_start(problem, seed)), requires_grad=True)
    J, steps = torch_objective(problem), 30_000
    method = torch.optim.Adam([u], lr=1e-2)
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(method, steps, eta_min=1e-5)
    taken = 0
    while taken < steps:
        method.zero_grad()
        J(u).backward()
        if float(u.grad.abs().max()) <= tolerance:
            break
        method.step()
        decay.step()
        taken += 1
    return unflatten(problem, u.detach().numpy()), taken, "stopped"


def _start(problem: Problem, seed: int) -> Controls:
    return random_start(problem, np.random.default_rng(seed), START_SCALE)


def _value(problem: Problem):
    """u -> (J, dJ/du) by the toolkit's fast sweeps."""
    from ocp.evaluation.sweeps import backward, forward, prepare

    constants = prepare(problem)

    def value(u: np.ndarray):
        sweep = forward(constants, u)
        return sweep.objective, backward(constants, sweep).gradient

    return value


TEXTBOOK = {"mumps_pivot_order": 7, "nlp_scaling_method": "gradient-based"}
METHODS = {
    "structured-growth": Method(
        title="structured, growth (the default: best of 2 shallow starts)",
        run=grown("structured"),
        seeds=10,
    ),
    "structured-growth-4": Method(
        title="structured, growth, best of 4 shallow starts",
        run=grown("structured", trials=4),
        seeds=10,
    ),
    "structured-search": Method(
        title="structured, search of standard effort (the default of the example)",
        run=searched,
        seeds=10,
    ),
    "structured-many": Method(
        title="structured, 60 starts one after the other, the best", run=many, seeds=3
    ),
    "structured-growth-1": Method(
        title="structured, growth, one start", run=grown("structured", trials=1), seeds=10
    ),
    "structured-growth-far": Method(
        title="structured, growth, one start of scale 0.5",
        run=grown("structured", start_scale=0.5, trials=1),
        seeds=10,
    ),
    "ipopt-growth-far": Method(
        title="IPOPT, growth, one start of scale 0.5, MUMPS with QAMD",
        run=grown("ipopt", start_scale=0.5, trials=1),
        seeds=10,
    ),
    "structured-cold": Method(title="structured, cold", run=cold("structured"), seeds=10),
    "ipopt-growth": Method(
        title="(b) IPOPT, the same growth, MUMPS with QAMD", run=grown("ipopt"), seeds=10
    ),
    "ipopt-growth-default": Method(
        title="(b) IPOPT, the same growth, MUMPS as IPOPT sets it",
        run=grown("ipopt", **TEXTBOOK),
        seeds=3,
    ),
    "ipopt-cold": Method(
        title="(a) textbook: multiple shooting, IPOPT + MUMPS, cold, starts of scale 0.5",
        run=cold("ipopt", start_scale=0.5, **TEXTBOOK),
        seeds=3,
    ),
    "ipopt-cold-near": Method(
        title="(a) the same, starts of scale 0.1", run=cold("ipopt", **TEXTBOOK), seeds=1
    ),
    "scipy-lbfgs": Method(title="(c) SciPy L-BFGS-B, cold", run=scipy_lbfgs, seeds=3),
    "scipy-trust-constr": Method(
        title="(c) SciPy trust-constr, our Hessian, cold", run=scipy_trust_constr, seeds=3
    ),
    "scipy-trust-exact": Method(
        title="(c) SciPy trust-exact, our Hessian, the same growth", run=grown_trust_exact, seeds=5
    ),
    "torch-lbfgs": Method(title="(c) PyTorch L-BFGS, cold", run=torch_lbfgs, seeds=3),
    "torch-adam": Method(title="(c) PyTorch Adam, cold", run=torch_adam, seeds=3),
    "fatrop-98": Method(
        title="(c) fatrop, stacked samples, cold, 98 points",
        run=cold_fatrop,
        seeds=3,
        points_per_class=49,
    ),
    "structured-growth-98": Method(
        title="structured, growth, 98 points",
        run=grown("structured"),
        seeds=10,
        points_per_class=49,
    ),
    "structured-growth-1940": Method(
        title="structured, growth, 1940 points",
        run=grown("structured"),
        seeds=5,
        points_per_class=970,
    ),
    "structured-gain-100": Method(
        title="structured, growth by gain to N = 100", run=by_gain, seeds=5, depth=100
    ),
    "structured-gain-20": Method(
        title="structured, growth by gain to N = 20", run=by_gain, seeds=5
    ),
    "structured-gain-wide": Method(
        title="structured, growth by gain, n = 8", run=by_gain, seeds=3, width=8
    ),
}
