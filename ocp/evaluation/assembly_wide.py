"""The Hessian for Euler's method and block single of wide layers, ends trained or not.

The sensitivity of a state to a matrix has the entries of two vectors, not of a matrix: with
X = (x, 1), D = diag(h sigma'), M and zeta as in `assembly_euler`, and Y = (dx_p/dx_{j+1} D_j)'

    H[A_j(a, l), A_p(b, l')] = sum_i  X_j,l (Y M_p)_ab X_p,l'  +  X_j,l Y_al' zeta_p,b,   j < p,

so a block of (n^2 + n)^2 numbers is two products over the samples, of n^2 weights with (n+1)^2
and n (n+1) outer products: n_d n^4 multiplications twice, where the general assembly, which
knows (n_d n, n^2) sensitivities only, takes n_d n^5.  The same holds for the readout and the lift:

    T_k = F_x' T_{k+1} + d2F/dx dtheta          H[A_k(a, l), theta] = sum_i X_k,l D_k,a T_{k+1},a
    G_p = Y M_p X_p' + Y zeta_p                 H[E(a, l), A_p(b, l')] = sum_i s_l G_p,a(b,l')

Measured on digits with a trained readout, one thread: a third of the general assembly's time at
n = 10 (N = 1 to 10) and a sixth at n = 16; with fixed ends two thirds to four fifths of the time of
`assembly_euler` on the spirals at n = 6 and 8, N = 20, a third on digits at n = 10.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..problem import Problem
from .assembly_euler import add_diagonal, recursion
from .layer_derivatives import mixed_readout
from .sweeps import Backward, Constants, Forward

#: least width
WIDE = 6
#: doubles in one (samples, N, n, n) array of a chunk
CHUNK_DOUBLES = 1 << 17
#: but at least so many samples: each chunk passes over arrays of the Hessian's size
CHUNK_SAMPLES = 64


def applies(problem: Problem) -> bool:
    """Whether the problem has this structure, and layers wide enough to gain by it."""
    return problem.scheme == "euler" and problem.block == "single" and problem.width >= WIDE


def chunk(problem: Problem) -> int:
    """Return how many samples are taken at once."""
    size = CHUNK_DOUBLES // (max(problem.depth, 4) * problem.width**2)
    return max(CHUNK_SAMPLES, size)


class Blocks:
    """The sums over the samples of one Hessian, in the order in which they are formed."""

    def __init__(self, constants: Constants, sweep: Forward, adjoint: Backward) -> None:
        self.constants, self.sweep, self.adjoint = constants, sweep, adjoint
        problem = constants.problem
        N, n = problem.depth, problem.width
        # [p]: of all layers j < p with layer p
        self.by_state = [np.zeros((p, n * n, (n + 1) ** 2)) for p in range(N)]
        self.by_slope = [np.zeros((p, n * n, n * (n + 1))) for p in range(N)]

    def add(self, H: np.ndarray, losses: np.ndarray, part: slice) -> None:
        """Add some samples: the ends and the diagonal to H, the rest to the sums.

        losses : Hessians of the data cost at the loss points that count, (points, samples, n, n)
        """
        sweep, adjoint = self.sweep, self.adjoint
        problem, A, hold = self.constants.problem, sweep.controls.A, np.ascontiguousarray
        N = problem.depth
        samples = part.stop - part.start
        X = hold(sweep.X[:N, part].mT)  # (N, n, samples)
        dsigma, kappa = hold(adjoint.dsigma[0][:, part].mT), hold(adjoint.kappa[0][:, part].mT)
        D, zeta = problem.h * dsigma, kappa * dsigma
        bend = kappa * hold(adjoint.ddsigma[0][:, part].mT)
        L = hold(losses.transpose(0, 2, 3, 1))
        C, weights, P = recursion(A, D, bend, L, stages_cost=self.constants.first == 0)
        add_diagonal(H, weights, X)
        C *= D[:, None]
        C += A.mT[..., None] * bend[:, None]
        M, D, zeta = hold(C.transpose(0, 3, 1, 2)), hold(D.mT), hold(zeta.mT)
        ones = np.ones((N, samples, 1))
        extended = np.concatenate([sweep.X[:N, part], ones], axis=2)  # (N, samples, n + 1)
        self._add_pairs(extended, D, M, zeta)
        lift = sweep.controls.lift_weight is not None
        if lift:
            inputs = np.concatenate([self.constants.inputs[part], np.ones((samples, 1))], axis=1)
            self._add_lift(H, inputs, extended, D, M, zeta, P)
        if sweep.controls.readout_weight is not None:
            T = self._add_readout(H, extended, D, part)
            if lift:
                _add_corner(H, problem, inputs, T)

    def _add_pairs(self, X: np.ndarray, D: np.ndarray, M: np.ndarray, zeta: np.ndarray) -> None:
        """Add all pairs of layers; arrays are (N, samples, .)."""
        A = self.sweep.controls.A
        N, samples, n = D.shape
        Y = np.zeros((samples, N, n, n))  # [i, j, a, .] is row a of dx_p/dx_{j+1} D_j, transposed
        for p in range(1, N):
            Y[:, p - 1, np.arange(n), np.arange(n)] = D[p - 1]
            rows = np.ascontiguousarray(Y[:, :p]).reshape(samples, p * n, n)
            weights = (rows @ M[p]).reshape(samples, p, n * n).transpose(1, 2, 0)
            states = (X[:p, :, :, None] * X[p][:, None, :]).reshape(p, samples, -1)
            self.by_state[p] += weights @ states
            slopes = (zeta[p][:, :, None] * X[:p, :, None, :]).reshape(p, samples, -1)
            self.by_slope[p] += rows.reshape(samples, p, n * n).transpose(1, 2, 0) @ slopes
            if p + 1 < N:
                moved = (rows.reshape(-1, n) @ A[p].T).reshape(samples, p, n, n)
                moved *= D[p][:, None, None]
                Y[:, :p] += moved

    def finish(self, H: np.ndarray) -> None:
        """Put the pairs of layers into the upper triangle of H."""
        n, m = self.constants.problem.width, self.constants.problem.layer_size
        nn = n * n
        for p, (by_state, by_slope) in enumerate(zip(self.by_state, self.by_slope, strict=True)):
            # (j, a, b, l, l') and (j, a, l', b, l) become (j, a, l, b, l')
            sums = by_state.reshape(p, n, n, n + 1, n + 1).transpose(0, 1, 3, 2, 4).copy()
            sums[..., :n] += by_slope.reshape(p, n, n, n, n + 1).transpose(0, 1, 4, 3, 2)
            columns = slice(p * m, p * m + nn), slice(p * m + nn, (p + 1) * m)
            for j, block in enumerate(sums):
                of_A, of_b = slice(j * m, j * m + nn), slice(j * m + nn, (j + 1) * m)
                H[of_A, columns[0]] += block[:, :n, :, :n].reshape(nn, nn)
                H[of_A, columns[1]] += block[:, :n, :, n].reshape(nn, n)
                H[of_b, columns[0]] += block[:, n, :, :n].reshape(n, nn)
                H[of_b, columns[1]] += block[:, n, :, n]

    def _add_readout(self, H: np.ndarray, X: np.ndarray, D: np.ndarray, part: slice) -> np.ndarray:
        """Add the rows of the layers and the readout's own block; return T_0, (samples, n, t)."""
        constants, A = self.constants, self.sweep.controls.A
        problem = constants.problem
        N, samples, n = D.shape
        m, nn, t = problem.layer_size, n * n, problem.n_classes * (n + 1)
        theta = slice(problem.n_decision - t, problem.n_decision)
        T = mixed_readout(constants, self.sweep, N, N + 1, part)[0]
        for k in range(N - 1, -1, -1):
            DT = D[k][..., None] * T
            sums = X[k].T @ DT.reshape(samples, n * t)  # (l, a, t)
            sums = sums.reshape(n + 1, n, t).transpose(1, 0, 2)
            H[k * m : k * m + nn, theta] += sums[:, :n].reshape(nn, t)
            H[k * m + nn : (k + 1) * m, theta] += sums[:, n]
            T += A[k].T @ DT
            if constants.first == 0:
                T += mixed_readout(constants, self.sweep, k, k + 1, part)[0]
        H[theta, theta] += readout_block(constants, self.sweep, part)
        return T

    def _add_lift(
        self,
        H: np.ndarray,
        inputs: np.ndarray,
        X: np.ndarray,
        D: np.ndarray,
        M: np.ndarray,
        zeta: np.ndarray,
        P: np.ndarray,
    ) -> None:
        """Add the columns of the lift, and its own block from P_0, (n, n, samples)."""
        A, problem = self.sweep.controls.A, self.constants.problem
        N, samples, n = D.shape
        m, nn, size = problem.layer_size, n * n, inputs.shape[1]
        rows, weight, bias = _of_lift(problem)
        Y = np.zeros((samples, n, n))  # (dx_p/dx_0)'
        Y[:, np.arange(n), np.arange(n)] = 1.0
        for p in range(N):
            G = np.empty((samples, n, m))
            of_A = G[..., :nn].reshape(samples, n, n, n)
            G[..., nn:] = Y @ M[p]
            np.multiply(G[..., nn:, None], X[p][:, None, None, :n], out=of_A)
            of_A += Y[:, :, None, :] * zeta[p][:, None, :, None]
            sums = (G.reshape(samples, n * m).T @ inputs).reshape(n, m, size).transpose(1, 0, 2)
            H[p * m : (p + 1) * m, weight] += sums[..., :-1].reshape(m, -1)
            H[p * m : (p + 1) * m, bias] += sums[..., -1]
            Y += (Y.reshape(-1, n) @ A[p].T).reshape(Y.shape) * D[p][:, None]
        for a in range(n):
            for b in range(a, n):
                sums = (inputs * P[a, b][:, None]).T @ inputs
                one, two = rows(a), rows(b)
                H[one, two] += sums[:-1, :-1]
                H[one, bias.start + b] += sums[:-1, -1]
                if a != b:
                    H[two, bias.start + a] += sums[:-1, -1]
                H[bias.start + a, bias.start + b] += sums[-1, -1]


def _of_lift(problem: Problem) -> tuple[Callable[[int], slice], slice, slice]:
    """Where E and e stand: row a of E, all of E, and e."""
    n, n_in, start = problem.width, problem.inputs.shape[1], problem.depth * problem.layer_size
    weight = slice(start, start + n * n_in)

    def row(a: int) -> slice:
        return slice(start + a * n_in, start + (a + 1) * n_in)

    return row, weight, slice(weight.stop, weight.stop + n)


def _add_corner(H: np.ndarray, problem: Problem, inputs: np.ndarray, T: np.ndarray) -> None:
    """Add d2J of the lift and the readout; T is d2(cost)/dx_0 dtheta, (samples, n, t)."""
    samples, n, t = T.shape
    _, weight, bias = _of_lift(problem)
    sums = (inputs.T @ T.reshape(samples, n * t)).reshape(-1, n, t).transpose(1, 0, 2)
    H[weight, -t:] += sums[:, :-1].reshape(-1, t)
    H[bias, -t:] += sums[:, -1]


def readout_block(constants: Constants, sweep: Forward, part: slice) -> np.ndarray:
    """d2(sum of weight F)/dtheta2 at all loss points: weights of classes times outer products."""
    problem = constants.problem
    n, n_c, first = problem.width, problem.n_classes, constants.first
    t = n_c * (n + 1)
    weight = constants.weights[first:, None, None, None] / problem.n_samples
    p, X = sweep.p[:, part], sweep.X[first:, part]
    between = -p[..., :, None] * p[..., None, :]
    between[..., np.arange(n_c), np.arange(n_c)] += p
    between *= weight
    X = np.concatenate([X, np.ones((*X.shape[:-1], 1))], axis=-1)
    outer = (X[..., :, None] * X[..., None, :]).reshape(-1, (n + 1) ** 2)
    block = between.reshape(-1, n_c * n_c).T @ outer
    block = block.reshape(n_c, n_c, n + 1, n + 1).transpose(0, 2, 1, 3).reshape(t, t)
    order = np.arange(t).reshape(n_c, n + 1)
    order = np.concatenate([order[:, :n].ravel(), order[:, n]])
    return block[np.ix_(order, order)]
