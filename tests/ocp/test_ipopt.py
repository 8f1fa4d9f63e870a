"""IPOPT is believed only as far as our own residual and curvature go."""

import dataclasses
import os
import signal
import threading

import casadi as ca
import numpy as np
import pytest
from problems import blobs, circles, spirals

from ocp.continuation.growth import escape
from ocp.controls import flatten, random_start, unflatten, zeros
from ocp.evaluation.hessian_products import reduced_hessian
from ocp.evaluation.rollout import gradient, objective
from ocp.solvers import by_name, ipopt
from ocp.solvers.ipopt import RETURN_STRINGS, IpoptOptions
from ocp.solvers.multiple_shooting import multiple_shooting
from ocp.solvers.newton import polish
from ocp.solvers.optimality import assess
from ocp.solvers.solution import SolveError, Status

SMALL = {
    "spirals": spirals(4, depth=3),
    "blobs, rk4, silu": blobs(3, 6, depth=2, scheme="rk4", activation="silu", r=1e-2),
    "blobs, heun": blobs(2, 4, depth=3, scheme="heun", width=2, r=1e-2),
}


@pytest.fixture(scope="module", params=SMALL)
def solved(request):
    problem = SMALL[request.param]
    return ipopt.solve(problem, random_start(problem, np.random.default_rng(1)))


def saddle():
    """From u = 0 on circles IPOPT says "Solve_Succeeded" at a point with negative curvature."""
    problem = circles(6, depth=2)
    return ipopt.solve(problem, zeros(problem))


def test_a_solution_is_stationary_and_strictly_minimal(solved):
    report = solved.report
    assert report.status is Status.SOLVED
    assert solved.require() is solved
    assert report.grad_inf_norm <= 1e-8
    assert report.kkt_residual <= 1e-8
    assert report.min_curvature > report.curvature_band > 0
    g, costate = gradient(solved.problem, solved.controls)
    assert report.grad_inf_norm == np.abs(g).max()
    assert np.array_equal(costate, solved.costate)
    assert np.linalg.eigvalsh(reduced_hessian(solved.problem, solved.controls))[0] > 0


def test_the_record_is_complete(solved):
    report = solved.report
    assert report.iterations == report.trace[-1].iteration > 0
    assert report.trace[-1].dual_infeasibility <= 1e-8
    assert report.versions["casadi"] == ca.__version__
    assert report.options["tolerance"] == 1e-8
    assert all(np.isfinite(dataclasses.astuple(line)).all() for line in report.trace)
    record = report.to_json()
    assert record["status"] == "SOLVED"
    assert len(record["trace"]) == report.iterations + 1


def full_kkt(problem, solution):
    """The KKT matrix of the multiple-shooting program, built by CasADi, dense."""
    program = multiple_shooting(problem)
    x, f, g = (program.nlp[key] for key in ("x", "f", "g"))
    lam = ca.MX.sym("lam", g.numel())
    W = ca.hessian(f + ca.dot(lam, g), x)[0]
    evaluate = ca.Function("kkt", [x, lam], [W, ca.jacobian(g, x)])
    w = program.packing.pack(solution.controls, solution.states)
    W, G = (np.array(m) for m in evaluate(w, program.packing.multipliers(solution.costate)))
    return np.block([[W, G.T], [G, np.zeros((len(G), len(G)))]])


def inertia(K):
    eigenvalues = np.linalg.eigvalsh(K)
    noise = 1e-12 * np.abs(eigenvalues).max()
    return tuple(
        int(n) for n in ((eigenvalues > noise).sum(), (eigenvalues < -noise).sum(),
                         (np.abs(eigenvalues) <= noise).sum())
    )  # fmt: skip


def test_inertia_of_the_full_kkt_matrix_at_minima(solved):
    problem = solved.problem
    m = problem.depth * problem.width * problem.n_samples
    assert inertia(full_kkt(problem, solved)) == (m + problem.n_decision, m, 0)


def test_inertia_of_the_full_kkt_matrix_at_a_saddle():
    solution = saddle()
    problem = solution.problem
    m = problem.depth * problem.width * problem.n_samples
    eigenvalues = np.linalg.eigvalsh(reduced_hessian(problem, solution.controls))
    negative = int((eigenvalues < -1e-6).sum())
    assert negative > 0
    found = inertia(full_kkt(problem, solution))
    assert found != (m + problem.n_decision, m, 0)
    assert found[1] == m + negative


@pytest.mark.parametrize("transcription", ["multiple", "single"])
def test_a_moved_point_comes_back(solved, transcription):
    problem = solved.problem
    reference = polish(problem, solved.controls)
    u = flatten(reference.controls)
    rng = np.random.default_rng(7)
    moved = unflatten(problem, u * (1 + 1e-3 * rng.standard_normal(len(u))))
    options = IpoptOptions(transcription=transcription)
    back = ipopt.solve(problem, moved, options=options)
    assert back.report.method == f"ipopt/{transcription}"
    back = polish(problem, back.controls)
    assert back.report.objective == pytest.approx(reference.report.objective, rel=1e-12)
    report = back.report
    # the polished gradient is at its rounding floor, here at least one ulp of the objective
    floor = max(report.grad_inf_norm, reference.report.grad_inf_norm, np.finfo(float).eps)
    distance = np.abs(flatten(back.controls) - u).max()
    assert distance <= 10 * floor * np.sqrt(len(u)) / report.min_curvature


def test_success_at_a_saddle_is_reported_as_a_saddle_and_left():
    solution = saddle()
    report = solution.report
    assert report.solver_said == "Solve_Succeeded"
    assert report.status is Status.SADDLE
    assert report.min_curvature < -report.curvature_band
    after = objective(
        solution.problem, unflatten(solution.problem, flatten(solution.controls) + report.witness)
    )
    assert report.objective - after == pytest.approx(report.witness_decrease)
    assert report.witness_decrease > 0
    with pytest.raises(SolveError, match="SADDLE"):
        solution.require()
    left = escape(solution, by_name("ipopt"))
    assert left.report.objective < report.objective
    with pytest.raises(ValueError, match="wanted SADDLE with a witness"):
        escape(
            dataclasses.replace(solution, report=dataclasses.replace(report, status=Status.SOLVED)),
            by_name("ipopt"),
        )


def test_a_solution_inside_an_unused_coordinate_is_a_saddle():
    problem = circles(width=3)
    narrow = circles(width=2)
    flat = ipopt.solve(narrow, random_start(narrow, np.random.default_rng(0), 0.3))
    pad = np.zeros(problem.n_decision)
    wide = unflatten(problem, pad)
    wide.A[:, :2, :2], wide.b[:, :2] = flat.controls.A, flat.controls.b
    facts = assess(problem, wide, 1e-8)
    assert facts.grad_inf_norm <= 1e-8
    assert facts.status is Status.SADDLE


def test_null_directions_are_degenerate_not_solved():
    problem = blobs(2, 4, depth=2, r=0.0)
    u = random_start(problem, np.random.default_rng(0))
    solution = ipopt.solve(problem, u, options=IpoptOptions(max_iterations=300))
    assert solution.status is not Status.SOLVED


def test_relu_on_kinks_is_nonsmooth_never_solved():
    problem = blobs(2, 4, depth=2, activation="relu")
    dead = zeros(problem)  # every unit's pre-activation is exactly on the kink
    facts = assess(problem, dead, 1e-8)
    assert facts.status is Status.NONSMOOTH
    assert facts.kinks.count == 2 * 4 * 3
    assert facts.kinks.where == "layer 0, unit 0"
    soft = blobs(2, 4, depth=2, activation="softsign")
    facts = assess(soft, zeros(soft), 1.0)
    assert facts.status is Status.NONSMOOTH
    away = blobs(2, 4, depth=2, activation="relu")
    facts = assess(away, random_start(away, np.random.default_rng(0)), 1e-8)
    assert facts.status is Status.NOT_STATIONARY


def test_every_return_string_of_ipopt_maps_to_a_status():
    # the names in IPOPT's IpReturnCodes and CasADi's translation of them
    assert len(RETURN_STRINGS) == 20
    assert Status.SOLVED not in RETURN_STRINGS.values()
    assert Status.SADDLE not in RETURN_STRINGS.values()


def test_limits_are_told_apart():
    problem = SMALL["spirals"]
    start = random_start(problem, np.random.default_rng(1))
    few = ipopt.solve(problem, start, options=IpoptOptions(max_iterations=2))
    assert few.status is Status.ITERATION_LIMIT
    assert few.report.message == "IPOPT said Maximum_Iterations_Exceeded"
    acceptable = {"acceptable_iter": 1, "acceptable_tol": 1e2, "acceptable_dual_inf_tol": 1e10,
                  "acceptable_constr_viol_tol": 1e2, "acceptable_compl_inf_tol": 1e2}  # fmt: skip
    loose = ipopt.solve(problem, start, options=IpoptOptions(ipopt=acceptable))
    assert loose.report.solver_said == "Solved_To_Acceptable_Level"
    assert loose.status is Status.NOT_STATIONARY


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"tolx": 1}, "No such IPOPT option: tolx"),
        ({"mumps_pivot_order": "QAMD"}, "IPOPT does not take the options mumps_pivot_order"),
        ({"max_iter": "many"}, "IPOPT does not take the options max_iter"),
    ],
)
def test_unknown_and_mistyped_options_are_errors(options, sentence):
    problem = SMALL["spirals"]
    with pytest.raises(ValueError) as error:
        ipopt.solve(problem, zeros(problem), options=IpoptOptions(ipopt=options))
    assert sentence in str(error.value)


def test_bad_options_of_ours_are_errors():
    for bad in ({"tolerance": 0.0}, {"tolerance": np.nan}, {"max_iterations": 0},
                {"max_seconds": 0.0}, {"transcription": "triple"}):  # fmt: skip
        with pytest.raises(ValueError, match=next(iter(bad))):
            IpoptOptions(**bad)
    problem = SMALL["spirals"]
    with pytest.raises(ValueError, match="A has shape"):
        ipopt.solve(problem.with_(depth=4), zeros(problem))
    with pytest.raises(ValueError, match="solver is 'snopt'"):
        by_name("snopt")


def test_a_warm_start_with_its_costate_needs_no_work(solved):
    again = ipopt.solve(solved.problem, solved.controls, costate=solved.costate)
    assert again.report.iterations <= 1
    assert again.status is Status.SOLVED


def test_ctrl_c_returns_the_best_iterate():
    problem = spirals(20, depth=8)
    start = random_start(problem, np.random.default_rng(0))
    seen = []

    def interrupt_at_ten(progress):
        seen.append(progress.objective)
        if progress.iteration == 10:
            os.kill(os.getpid(), signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    solution = ipopt.solve(problem, start, report=interrupt_at_ten)
    assert solution.status is Status.INTERRUPTED
    assert solution.report.objective == pytest.approx(min(seen), rel=1e-14)
    assert len(seen) <= 13
    assert signal.getsignal(signal.SIGINT) is before


def test_it_runs_outside_the_main_thread():
    problem = SMALL["blobs, heun"]
    found = []
    start = random_start(problem, np.random.default_rng(1))
    thread = threading.Thread(target=lambda: found.append(ipopt.solve(problem, start)))
    thread.start()
    thread.join()
    assert found[0].status is Status.SOLVED


def test_the_same_start_gives_the_same_solution_twice(solved):
    problem = solved.problem
    start = random_start(problem, np.random.default_rng(1))
    again = ipopt.solve(problem, start)
    assert np.array_equal(flatten(again.controls), flatten(solved.controls))


@pytest.mark.parametrize("trained", [("lift",), ("readout",), ("lift", "readout")])
@pytest.mark.parametrize("block", ["single", "double"])
def test_trained_ends_and_the_double_block_are_solved(trained, block):
    problem = blobs(
        2, 6, depth=2, block=block, trained=("layers", *trained), r_ends=1e-2, r=1e-2, width=2
    )
    start = random_start(problem, np.random.default_rng(3))
    solution = ipopt.solve(problem, start)
    if solution.status is Status.SADDLE:
        solution = escape(solution, by_name("ipopt"))
    if block == "double" and len(trained) == 2:
        # x -> R x with E, A, W, C turned along leaves J unchanged for every rotation R:
        # n (n - 1)/2 = 1 exact null direction, hence never a strict minimum
        assert solution.status is Status.DEGENERATE
        # a residual |g| lets the null eigenvalue look like O(|g|); the Newton step unmasks it
        assert abs(solution.report.min_curvature) <= 10 * solution.report.grad_inf_norm
        eigenvalues = np.linalg.eigvalsh(reduced_hessian(problem, solution.controls))
        assert eigenvalues[1] > 1e-5
    else:
        assert solution.status is Status.SOLVED
