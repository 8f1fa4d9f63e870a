"""The reduced Hessian assembled block by block: the second exact route, and the fast one.

Per sample, with V_k(x) the cost from layer k on at fixed controls, lambda_k its gradient and
P_k its Hessian, one layer F with Hamiltonian Hessian Q (all terms of the layer's own cost and
of lambda_{k+1}.F) gives

    P_k = Q_xx + F_x' P_{k+1} F_x,      G_k = Q_xu + F_x' P_{k+1} F_u,
    H_kk = sum_i  Q_uu + F_u' P_{k+1} F_u,
    H_jk = sum_i  (dx_k/du_j)' G_k,     j < k,

and with Phi the product of the F_x between, a range of layers that is split in two needs only

    H_left,right = sum_i  S_left' G_right,
    S_left -> Phi_right S_left,   G_right -> Phi_left' G_right,

S the sensitivity of the range's end to its controls, G the mixed derivative at its start.  So
the sensitivities are transported log2 N times, not N times, and the flops are those of one
large product per split: n_d n d^2 instead of n_d n d^2 N / 3 for the textbook sum Z'WZ.

The sum over samples is the Schur complement of the KKT matrix on the shared controls.
Source: the backward recursion is that of Dunn and Bertsekas, "Efficient dynamic programming
implementations of Newton's method for unconstrained optimal control problems" (1989).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..controls import Controls, flatten
from ..problem import Problem
from . import assembly_euler, assembly_wide
from .layer_derivatives import (
    Layers,
    add_bilinear,
    differentiate,
    loss_hessians,
    mixed_readout,
    sum_products,
)
from .sweeps import Backward, Constants, Forward, backward, forward, prepare

#: doubles in one (layers, samples, n, m) array of a chunk of samples: 1 MB, measured best
CHUNK_DOUBLES = 1 << 17
#: but at least so many samples: each chunk passes once over the d x d Hessian
CHUNK_SAMPLES = 64


def assembled_hessian(problem: Problem, controls: Controls) -> np.ndarray:
    """Return the dense Hessian of J(u), (d, d), symmetric to the last bit."""
    constants = prepare(problem)
    sweep = forward(constants, flatten(controls))
    return hessian(constants, sweep, backward(constants, sweep))


def hessian(
    constants: Constants,
    sweep: Forward,
    adjoint: Backward,
    tick: Callable[[], None] = lambda: None,
) -> np.ndarray:
    """Return the Hessian at two sweeps, (d, d), symmetric to the last bit.

    tick : called before each chunk of samples; what it raises ends the assembly

    Memory: d^2 and the arrays of one chunk, whatever the number of samples.
    """
    problem = constants.problem
    d, n, n_d = problem.n_decision, problem.width, problem.n_samples
    H = np.zeros((d, d))
    wide = None
    if assembly_wide.applies(problem):
        wide = assembly_wide.Blocks(constants, sweep, adjoint)
        size = assembly_wide.chunk(problem)
    else:
        size = max(CHUNK_SAMPLES, CHUNK_DOUBLES // (n * d))
    # equal chunks: a small last one would waste its overhead
    count = -(-n_d // size)
    for part in np.array_split(np.arange(n_d), count):
        tick()
        rows = slice(part[0], part[-1] + 1)
        if wide:
            wide.add(H, loss_hessians(constants, sweep, rows), rows)
        else:
            _add_chunk(H, constants, sweep, adjoint, rows)
    if wide:
        wide.finish(H)
        wide = None  # its sums are as large as H
    H = np.triu(H)
    H += np.triu(H, 1).T
    H[np.arange(d), np.arange(d)] += constants.penalty
    return H


def _add_chunk(
    H: np.ndarray, constants: Constants, sweep: Forward, adjoint: Backward, part: slice
) -> None:
    """Add the upper triangle of the Hessian of the data cost of some samples."""
    problem = constants.problem
    N, n, m = problem.depth, problem.width, problem.layer_size
    losses = loss_hessians(constants, sweep, part)
    if assembly_euler.applies(problem):
        S, G, Fx = assembly_euler.blocks(H, constants, sweep, adjoint, losses, part)
        _combine(H, S, G, Fx, m, 0, N, to_end=False, to_start=False)
        return
    layers = differentiate(constants, sweep, adjoint, losses, part)
    P = losses[-1]
    C = np.empty_like(layers.Fx)
    D = np.empty_like(layers.Fx)
    for k in range(N - 1, -1, -1):
        D[k] = P
        np.matmul(layers.Fx[k].mT, P, out=C[k])
        P = layers.Qxx[k] + C[k] @ layers.Fx[k]
    diagonal = layers.Quu + sum_products(layers.Fu, D @ layers.Fu)
    samples = part.stop - part.start
    # (samples, n, N m): the columns of a range of layers are contiguous in each row
    S = np.ascontiguousarray(layers.Fu.transpose(1, 2, 0, 3)).reshape(samples, n, N * m)
    G = layers.Qxu + C @ layers.Fu
    G = np.ascontiguousarray(G.transpose(1, 2, 0, 3)).reshape(samples, n, N * m)
    for k in range(N):
        H[k * m : (k + 1) * m, k * m : (k + 1) * m] += diagonal[k]
    _combine(H, S, G, layers.Fx, m, 0, N, to_end=False, to_start=True)
    _add_ends(H, constants, sweep, layers, P, G, part)


def _combine(
    H: np.ndarray,
    S: np.ndarray,
    G: np.ndarray,
    Fx: np.ndarray,
    m: int,
    start: int,
    stop: int,
    *,
    to_end: bool,
    to_start: bool,
) -> np.ndarray:
    """Fill the blocks of a range of layers; return its transition Phi, (samples, n, n).

    On return S refers to the range's end if `to_end`, G to its start if `to_start`; what nobody
    reads is not transported.
    """
    if stop - start == 1:
        return Fx[start]
    middle = (start + stop) // 2
    left = _combine(H, S, G, Fx, m, start, middle, to_end=True, to_start=to_start)
    right = _combine(H, S, G, Fx, m, middle, stop, to_end=to_end, to_start=True)
    one, two = slice(start * m, middle * m), slice(middle * m, stop * m)
    rows = S.shape[0] * S.shape[1]
    H[one, two] += S.reshape(rows, -1)[:, one].T @ G.reshape(rows, -1)[:, two]
    if to_end:
        S[:, :, one] = right @ S[:, :, one]
    if to_start:
        G[:, :, two] = left.mT @ G[:, :, two]
    return right @ left


def _add_ends(
    H: np.ndarray,
    constants: Constants,
    sweep: Forward,
    layers: Layers,
    P: np.ndarray,
    G: np.ndarray,
    part: slice,
) -> None:
    """Add the rows and columns of a trained lift and readout; P and G refer to x_0."""
    problem, controls = constants.problem, sweep.controls
    if problem.trained == ("layers",):
        return
    N, n = problem.depth, problem.width
    m, samples = problem.layer_size, part.stop - part.start
    u, lift = slice(0, N * m), slice(N * m, N * m)
    Y = None
    if controls.lift_weight is not None:
        inputs = constants.inputs[part]
        size = controls.lift_weight.size
        lift = slice(N * m, N * m + size + n)
        Y = np.zeros((samples, n, size + n))
        add_bilinear(Y, inputs, 0)
        Y[:, np.arange(n), size + np.arange(n)] = 1.0
        flat = Y.reshape(samples * n, -1)
        H[u, lift] += G.reshape(samples * n, -1).T @ flat
        H[lift, lift] += flat.T @ (P @ Y).reshape(samples * n, -1)
    if layers.T is not None and layers.U is not None:  # the readout is trained
        theta = slice(lift.stop, problem.n_decision)
        last = len(sweep.X) - 1
        T = mixed_readout(constants, sweep, last, last + 1, part)[0]
        for k in range(N - 1, -1, -1):
            Fu = layers.Fu[k].reshape(samples * n, m)
            H[k * m : (k + 1) * m, theta] += Fu.T @ T.reshape(samples * n, -1) + layers.U[k]
            T = layers.Fx[k].mT @ T + layers.T[k]
        if Y is not None:
            H[lift, theta] += Y.reshape(samples * n, -1).T @ T.reshape(samples * n, -1)
        H[theta, theta] += assembly_wide.readout_block(constants, sweep, part)
