"""One network evaluated natively by PyTorch and by CasADi, as the judge takes it.

`verification` imports neither framework; it is handed these values and compares them with its own.
"""

from __future__ import annotations

from collections.abc import Callable

import casadi as ca
import numpy as np
import scipy.sparse.linalg
import torch

from nn_baseline import Network, soft_cross_entropy
from ocp import Controls, Problem, multiple_shooting, single_shooting, unflatten
from verification.crosscheck import Evaluation


def by_torch(
    problem: Problem,
    controls: Controls,
    build: Callable[..., Network] = Network,
    dtype: torch.dtype = torch.float64,
) -> Evaluation:
    """Evaluate with torch; gradient and costate by autograd.

    build : makes the module from (problem, controls, dtype=...)
    """
    network = build(problem, controls, dtype=dtype)
    inputs = torch.tensor(problem.input_values, dtype=dtype)
    labels = torch.tensor(problem.labels)
    J = network(inputs, labels)
    J.backward()
    with torch.no_grad():
        X = network.states(inputs)
        z = network.logits(X)
        losses = soft_cross_entropy(z, labels, network.problem.p_d)
        penalty = float(network.penalty())
    as_numpy = lambda value: value.double().numpy()  # noqa: E731
    return Evaluation(
        name="torch",
        objective=float(J.detach()),
        gradient=network.gradient(),
        costate=as_numpy(network.costate(inputs, labels)),
        states=as_numpy(X),
        logits=as_numpy(z),
        losses=as_numpy(losses),
        penalty=penalty,
    )


def by_casadi(problem: Problem, controls: Controls) -> Evaluation:
    """Evaluate with CasADi: J and its gradient by single shooting, the costate as multipliers.

    The states solve the constraints of multiple shooting and the costate its adjoint system,
    J_X' lam_g = -f_X: nothing of the NumPy evaluation is used.
    """
    program = single_shooting(problem)
    w, f = program.nlp["x"], program.nlp["f"]
    J, slope = ca.Function("J", [w], [f, ca.gradient(f, w)])(program.packing.pack(controls, None))
    X, costate = _states_and_costate(problem, controls)
    return Evaluation(
        name="casadi",
        objective=float(J),
        gradient=np.array(slope).ravel()[program.packing.order()],
        costate=costate,
        states=X,
    )


def _states_and_costate(problem: Problem, controls: Controls) -> tuple[np.ndarray, np.ndarray]:
    """Return x_0..x_N, (N+1, n_d, n), and lambda_1..lambda_N, (N, n_d, n)."""
    program = multiple_shooting(problem)
    w, f, g = (program.nlp[key] for key in ("x", "f", "g"))
    E = problem.lift_weight if controls.lift_weight is None else controls.lift_weight
    e = problem.lift_bias if controls.lift_bias is None else controls.lift_bias
    X = np.zeros((problem.depth + 1, problem.n_samples, problem.width))
    X[0] = np.array(ca.DM(E) @ ca.DM(problem.input_values.T)).T + e
    residual = ca.Function("g", [w], [g])
    for k in range(problem.depth):
        # X_{k+1} is still 0: its constraint holds -Phi_h(x_k, u_k)
        violation = np.array(residual(program.packing.pack(controls, X)))
        X[k + 1] = -violation.reshape(X[1:].shape)[k]
    point = program.packing.pack(controls, X)
    slope, jacobian = ca.Function("d", [w], [ca.gradient(f, w), ca.jacobian(g, w)])(point)
    # the places of the states in the program's vector, in the order of the constraints
    marks = np.zeros_like(X)
    marks[1:] = 1.0 + np.arange(marks[1:].size).reshape(marks[1:].shape)
    nothing = unflatten(problem, np.zeros(problem.n_decision))
    places = program.packing.pack(nothing, marks)
    order = np.argsort(np.where(places > 0, places, np.inf), kind="stable")[: marks[1:].size]
    by_states = jacobian.sparse()[:, order].T.tocsr()  # unit upper triangular
    lam_g = scipy.sparse.linalg.spsolve_triangular(
        by_states, -np.array(slope).ravel()[order], lower=False
    )
    return X, program.packing.costate(lam_g)
