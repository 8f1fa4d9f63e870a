"""The specimens, by what is wrong with them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import safetensors.numpy
from small_minima import minimise, small, solved
from zoo import claimed, curvature_at, edited, minimum, moved, specimen, widened

from ocp import container, datasets, files
from ocp import controls as containers
from ocp.controls import Controls, flatten
from ocp.description import statement_of
from ocp.evaluation.assembly import assembled_hessian
from ocp.evaluation.rollout import gradient
from ocp.files import TrainingFile

GOOD = {"statement": "PPP", "first_order": "POPPP", "second_order": "POOOT", "geometry": "PPOO"}
#: stationary, but the reduced Hessian is singular: no Newton distance, curvature undecided
FLAT = {"statement": "PPP", "first_order": "POPPP", "second_order": "IOOOT", "geometry": "PPOO"}
UNTRAINED = {"statement": "PPP", "first_order": "FOOPP", "second_order": "nT", "geometry": "PPOO"}


# minima, stated truly: everything passes


@specimen(0, **GOOD)
def a_minimum():
    return minimum()


@specimen(0, **GOOD)
def a_minimum_of_heun():
    return minimum(scheme="heun")


@specimen(0, **GOOD)
def a_minimum_of_rk4():
    return minimum(scheme="rk4")


@specimen(0, **GOOD)
def a_minimum_of_the_double_block():
    return minimum(block="double")


@specimen(0, **GOOD)
def a_minimum_with_softsign():
    return minimum(activation="softsign")


@specimen(0, **GOOD)
def a_minimum_with_gelu():
    return minimum(activation="gelu")


@specimen(0, **GOOD)
def a_minimum_with_silu():
    return minimum(activation="silu")


@specimen(0, **GOOD)
def a_minimum_with_shifted_softplus():
    return minimum(activation="softplus")


@specimen(0, **GOOD)
def a_minimum_with_shifted_sigmoid():
    return minimum(activation="sigmoid")


@specimen(0, **GOOD)
def a_minimum_of_linear_layers():
    return minimum(activation="identity")


@specimen(0, **GOOD)
def a_minimum_with_a_trained_readout():
    return minimum(trained=("layers", "readout"), r_ends=0.01)


@specimen(0, **GOOD)
def a_minimum_with_trained_ends():
    return minimum(trained=("layers", "lift", "readout"), r_ends=0.01)


@specimen(0, **GOOD)
def a_minimum_of_standard_training():
    return minimum(beta=0)


@specimen(0, **(GOOD | {"geometry": "PPOO"}))
def a_minimum_with_three_classes():
    inputs, labels = datasets.blobs(9, 3, seed=1)
    problem = small(inputs=inputs, labels=labels, n_classes=3, width=3)
    start = containers.random_start(problem, np.random.default_rng(0), 0.5)
    return claimed(problem, minimise(problem, start))


@specimen(0, says="1.414", **GOOD)
def a_minimum_with_a_biased_scaled_readout():
    problem = small(readout_weight=np.array([[2.0, 1.0], [0.0, 1.0]]), readout_bias=[0.3, -0.2])
    start = containers.random_start(problem, np.random.default_rng(0), 0.5)
    return claimed(problem, minimise(problem, start))


@specimen(0, **(GOOD | {"statement": "PPPO", "geometry": "Pn"}))
def a_minimum_with_hard_labels():
    problem = small(p_d=1.0)
    start = containers.random_start(problem, np.random.default_rng(0), 0.5)
    return claimed(problem, minimise(problem, start))


@specimen(0, says="rank 1", **(GOOD | {"statement": "PPPO", "geometry": "nnOOO"}))
def a_minimum_behind_a_rank_deficient_readout():
    inputs, labels = datasets.blobs(9, 3, seed=1)
    weight = np.array([[1.0, 0.0], [0.0, 0.0], [-1.0, 0.0]])
    problem = small(inputs=inputs, labels=labels, n_classes=3, readout_weight=weight, r=0.05)
    start = containers.random_start(problem, np.random.default_rng(0), 0.5)
    return claimed(problem, minimise(problem, start))


@specimen(0, says="never separated", **(GOOD | {"statement": "PPPO", "geometry": "PPOOOO"}))
def a_minimum_on_contradicting_labels():
    inputs, labels = datasets.circles(12)
    inputs, labels = np.vstack([inputs, inputs[:1]]), np.append(labels, 1 - labels[0])
    problem = small(inputs=inputs, labels=labels)
    start = containers.random_start(problem, np.random.default_rng(0), 0.5)
    return claimed(problem, minimise(problem, start))


@specimen(0, **GOOD)
def a_minimum_with_an_idle_weight_moved_by_1e_6():
    content = minimum(r=1e-3)
    problem, u = content.problem, content.controls
    # behind the last layer that acts there is an idle one; its curvature is h r = 5e-4
    deeper = problem.with_(depth=5)
    zeros = containers.zeros(problem.with_(depth=1))
    u = minimise(deeper, u.followed_by(zeros))
    content = claimed(deeper, u)
    curvature = np.diag(_hessian(content))
    return moved(content, int(curvature.argmin()), 1e-6)


@specimen(0, **GOOD)
def a_minimum_with_least_eigenvalue_1e_6():
    return claimed(*curvature_at(1e-6))


@specimen(0, **(GOOD | {"statement": "Pnn", "first_order": "POPnn"}))
def a_minimum_that_claims_nothing():
    problem, u = solved()
    return TrainingFile(problem=problem, controls=u)


@specimen(0, says="single precision", **(GOOD | {"statement": "PPPO"}))
def a_minimum_with_inputs_in_single_precision(path: Path):
    inputs, labels = datasets.circles(12)
    problem = small(inputs=inputs.astype(np.float32), labels=labels)
    start = containers.random_start(problem, np.random.default_rng(0), 0.5)
    content = claimed(problem, minimise(problem, start))
    rewritten(path, content, "inputs")


@specimen(0, **(GOOD | {"statement": "PPPO"}))
def a_minimum_with_unshifted_softplus():
    return minimum(activation="softplus", shifted=False)


# stationary, and no minimum


@specimen(1, says="J falls", **(GOOD | {"second_order": "FOOOT"}))
def a_saddle_in_an_unused_coordinate():
    return claimed(*widened(*solved()))


@specimen(1, says="J falls", **(GOOD | {"second_order": "FOOOT"}))
def a_saddle_with_least_eigenvalue_minus_1e_6():
    return claimed(*curvature_at(-1e-6))


@specimen(1, says="J falls", **(GOOD | {"second_order": "FOOOT"}))
def the_zero_of_a_double_block():
    problem = small(block="double")
    return claimed(problem, containers.zeros(problem))


@specimen(1, says="J falls", **(GOOD | {"first_order": "POIPP", "second_order": "FT"}))
def a_saddle_with_softsign_kinks():
    return claimed(*widened(*solved(activation="softsign")))


# stationary, and the second order cannot decide


@specimen(3, says="error band", **(FLAT | {"first_order": "POIPP"}))
def a_minimum_without_control_cost():
    return minimum(r=0.0)


@specimen(3, says="same row added", **FLAT)
def a_trained_readout_without_cost():
    return minimum(trained=("layers", "readout"), r_ends=0.0)


@specimen(3, says="rotated", **FLAT)
def a_double_block_of_linear_layers():
    return minimum(activation="identity", block="double")


@specimen(3, says="kinks", **(GOOD | {"first_order": "POIPP", "second_order": "IT"}))
def a_minimum_on_kinks_of_softsign():
    problem, u = solved(activation="softsign", r=0.2)
    return claimed(*widened(problem, u))


@specimen(3, says="kinks", **(GOOD | {"first_order": "IOnnn", "second_order": "IT"}))
def a_minimum_on_kinks_of_relu():
    problem = small(
        activation="relu",
        lift_weight=np.eye(2),
        lift_bias=[5.0, 0.0],
        readout_weight=np.array([[1.0, 0.0], [0.0, 0.0]]),
    )
    return claimed(problem, containers.zeros(problem))


@specimen(3, says="too small", **(GOOD | {"geometry": "In"}))
def a_readout_of_doubtful_rank():
    inputs, labels = datasets.blobs(9, 3, seed=1)
    weight = np.array([[1.0, 0.0], [0.0, 1e-11], [-1.0, 0.0]])
    problem = small(inputs=inputs, labels=labels, n_classes=3, readout_weight=weight, r=0.05)
    start = containers.random_start(problem, np.random.default_rng(0), 0.5)
    return claimed(problem, minimise(problem, start))


# not stationary


@specimen(1, says="kinks", **(UNTRAINED | {"first_order": "FOnnn"}))
def descent_stuck_on_kinks_of_relu():
    return minimum(activation="relu")


@specimen(1, says="kinks", **(UNTRAINED | {"first_order": "FOnnn"}))
def descent_stuck_on_kinks_of_leaky_relu():
    return minimum(activation="leaky_relu")


@specimen(1, **UNTRAINED)
def zero_on_circles():
    problem = small()
    return claimed(problem, containers.zeros(problem))


@specimen(1, **UNTRAINED)
def random_controls():
    problem = small()
    return claimed(problem, containers.random_start(problem, np.random.default_rng(3), 0.5))


@specimen(1, **UNTRAINED)
def near_zero_controls():
    problem = small()
    return claimed(problem, containers.near_zero(problem, np.random.default_rng(3), 1e-3))


@specimen(1, **UNTRAINED)
def a_minimum_with_a_weight_moved_by_1e_5():
    content = minimum()
    index = int(np.diag(_hessian(content)).argmax())
    return moved(content, index, 1e-5)


@specimen(1, **UNTRAINED)
def training_stopped_at_1e_6():
    content = minimum()
    step = 1e-6 * np.ones(len(flatten(content.controls)))
    H = _hessian(content)
    u = containers.unflatten(content.problem, flatten(content.controls) + np.linalg.solve(H, step))
    return claimed(content.problem, u)


@specimen(1, says="single precision", **(UNTRAINED | {"statement": "PPFO"}))
def a_minimum_in_single_precision(path: Path):
    rewritten(path, minimum(), "A", "b", "costate")


@specimen(1, **(UNTRAINED | {"statement": "FFF", "first_order": "FOOFF"}))
def two_labels_swapped(path: Path):
    swap = lambda y: y[[11, *range(1, 11), 0]]  # noqa: E731
    edited(path, minimum(), tensors={"labels": swap})


@specimen(1, **(UNTRAINED | {"statement": "FFF", "first_order": "FOOFF"}))
def p_d_edited(path: Path):
    edited(path, minimum(), metadata={"problem": ('"p_d":0.9', '"p_d":0.91')})


@specimen(1, **(UNTRAINED | {"statement": "FFF"}))
def r_edited(path: Path):
    edited(path, minimum(), metadata={"problem": ('"r":0.01', '"r":0.011')})


@specimen(1, **(UNTRAINED | {"statement": "FFF", "first_order": "FOOFP"}))
def gamma_edited(path: Path):
    edited(path, minimum(), metadata={"problem": ('"gamma":1.0', '"gamma":1.001')})


@specimen(1, **(UNTRAINED | {"statement": "FFF", "first_order": "FOOFF"}))
def scheme_edited(path: Path):
    edited(path, minimum(), metadata={"problem": ('"scheme":"euler"', '"scheme":"heun"')})


# the file says what is not so


@specimen(1, **(GOOD | {"statement": "PFP"}))
def objective_edited():
    content = minimum()
    return dataclasses.replace(
        content, origin=content.origin | {"objective": content.origin["objective"] + 1e-9}
    )


@specimen(1, **(GOOD | {"statement": "PFP"}))
def objective_no_number():
    content = minimum()
    return dataclasses.replace(content, origin=content.origin | {"objective": True})


@specimen(1, **(UNTRAINED | {"statement": "PPF"}))
def gradient_norm_claimed_small():
    problem = small()
    content = claimed(problem, containers.random_start(problem, np.random.default_rng(3), 0.5))
    return dataclasses.replace(content, origin=content.origin | {"grad_inf_norm": 1e-12})


@specimen(1, **(GOOD | {"statement": "FPP"}))
def hash_edited(path: Path):
    content = minimum()
    digest = files.save(path, content)
    wrong = "0" * 63 + ("1" if digest[-1] != "1" else "2")
    edited(path, content, metadata={"origin": (digest, wrong)})


@specimen(1, **(GOOD | {"first_order": "POPFF"}))
def costate_of_the_wrong_sign():
    content = minimum()
    return dataclasses.replace(content, costate=-content.costate)


@specimen(1, says="layer 0", **(GOOD | {"first_order": "POPPF"}))
def costate_wrong_in_one_entry():
    content = minimum()
    costate = content.costate.copy()
    costate[0, 3, 1] += 1e-6
    return dataclasses.replace(content, costate=costate)


@specimen(1, **(GOOD | {"first_order": "POPFF"}))
def costate_of_another_network():
    content = minimum()
    problem, u = content.problem, containers.zeros(content.problem)
    return dataclasses.replace(content, costate=gradient(problem, u)[1])


@specimen(1, says="not finite", **(UNTRAINED | {"statement": "PFF", "first_order": "Fnnnn"}))
def states_that_overflow(path: Path):
    problem = small(activation="identity")
    u = Controls(A=np.full((4, 2, 2), 1e200), b=np.zeros((4, 2)))
    origin = {"objective": 1.0, "grad_inf_norm": 0.0}
    return TrainingFile(problem=problem, controls=u, origin=origin)


# unusable: refused with one sentence, exit code 2


@specimen(2, says="'A'[1, 0, 0] is nan")
def a_weight_that_is_nan(path: Path):
    def poison(A):
        A = A.copy()
        A[1, 0, 0] = np.nan
        return A

    edited(path, minimum(), tensors={"A": poison})


@specimen(2, says="inf")
def an_input_that_is_infinite(path: Path):
    edited(path, minimum(), tensors={"inputs": lambda x: np.where(x == x.max(), np.inf, x)})


@specimen(2, says="not a complete safetensors file")
def a_truncated_file(path: Path):
    files.save(path, minimum())
    path.write_bytes(path.read_bytes()[:-8])


@specimen(2, says="unknown tensor 'extra'")
def an_unknown_tensor(path: Path):
    files.save(path, minimum())
    with safetensors.safe_open(path, framework="numpy") as file:
        meta = file.metadata()
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    path.write_bytes(safetensors.numpy.save(stored | {"extra": np.zeros(1)}, meta))


@specimen(2, says="'costate' has shape")
def a_costate_of_the_wrong_depth(path: Path):
    edited(path, minimum(), tensors={"costate": lambda c: c[:-1]})


def _hessian(content: TrainingFile) -> np.ndarray:
    return assembled_hessian(content.problem, content.controls)


def rewritten(path: Path, content: TrainingFile, *single: str) -> None:
    """Store the named tensors in single precision, with the hash of what is then stored."""
    digest = files.save(path, content)
    with safetensors.safe_open(path, framework="numpy") as file:
        meta = file.metadata()
        stored = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    stored |= {name: stored[name].astype("<f4") for name in single}
    new = container.content_hash(statement_of(content.problem), stored)
    meta["origin"] = meta["origin"].replace(digest, new)
    path.write_bytes(safetensors.numpy.save(stored, meta))
