"""The oracle in sixty digits: J, gradient, Hessian and Newton's polish with mpmath.

Reverse sweep over scalars; h, p_d, weights and data are the float64 numbers of the file, 1 - p_d
and the quadrature weights are exact.
"""

from __future__ import annotations

import contextlib
import itertools

import mpmath
import numpy as np
from mpmath import mpf
from oracle import NODES, derivatives, shapes, split

from ocp.activations import Activation
from ocp.problem import Problem

DIGITS = 60
WEIGHTS = {"euler": (1,), "heun": (mpf(1) / 2,) * 2}
#: of the central differences of the gradient: error and rounding are both about 1e-40
STEP = mpf(10) ** -20
#: Newton step that ends the polish
SMALL = mpf(10) ** -50


@contextlib.contextmanager
def digits():
    with mpmath.workdps(DIGITS + 5):
        yield


def sigma(activation: Activation, v):
    """(sigma, sigma') at a scalar: the one table of formulas in digits, from the statement."""
    k, one = mpf(activation.sharpness), mpf(1)
    logistic = lambda t: one / (1 + mpmath.exp(-t))  # noqa: E731
    match activation.name:
        case "tanh":
            t = mpmath.tanh(v)
            return t, 1 - t * t
        case "softsign":
            d = one / (1 + abs(v))
            return v * d, d * d
        case "identity":
            return v, one
        case "relu":
            return (v, one) if v > 0 else (mpf(0), mpf(0))
        case "leaky_relu":
            return (v, one) if v > 0 else (mpf(0.01) * v, mpf(0.01))
        case "gelu":
            cdf = mpmath.erfc(-v / mpmath.sqrt(2)) / 2
            return v * cdf, cdf + v * mpmath.exp(-v * v / 2) / mpmath.sqrt(2 * mpmath.pi)
        case "silu":
            s = logistic(v)
            return v * s, s + v * s * (1 - s)
        case "sigmoid":
            s = logistic(v)
            return s - (mpf(1) / 2 if activation.shifted else 0), s * (1 - s)
        case "softplus":
            s = mpmath.log(1 + mpmath.exp(k * v)) - (mpmath.log(2) if activation.shifted else 0)
            return s / k, logistic(k * v)
    raise ValueError(activation.name)


def _weights(scheme: str) -> tuple:
    third = mpf(1) / 3
    return (third / 2, third, third, third / 2) if scheme == "rk4" else WEIGHTS[scheme]


def vector(u) -> np.ndarray:
    """A vector of floats, or of digits, as digits."""
    return np.array(
        [mpf(x) if not isinstance(x, float) else mpf(float(x)) for x in u], dtype=object
    )


def _exact(array) -> np.ndarray:
    array = np.asarray(array)
    if array.dtype == object:
        return array
    return np.array([mpf(float(x)) for x in array.ravel()], dtype=object).reshape(array.shape)


class _Loss:
    """F of one sample's state: value, and its slope in x and in the readout."""

    def __init__(self, problem: Problem, C, c, label: int) -> None:
        p, n_c = mpf(problem.p_d), problem.n_classes
        other = (1 - p) / (n_c - 1)
        self.q = np.array([p if j == label else other for j in range(n_c)], dtype=object)
        self.entropy = -sum((q * mpmath.log(q) for q in self.q if q > 0), mpf(0))
        self.C, self.c, self.n_d = C, c, problem.n_samples

    def __call__(self, x, weight, out):
        """weight times F, and its slope in x; adds that in (C, c) to out."""
        z = self.C.dot(x) + self.c
        top = max(z)
        e = np.array([mpmath.exp(t - top) for t in z], dtype=object)
        total = e.sum()
        value = mpmath.log(total) + top - self.q.dot(z) - self.entropy
        slope = (e / total - self.q) * weight / self.n_d
        if out is not None:
            out["C"] += np.outer(slope, x)
            out["c"] += slope
        return weight * value / self.n_d, self.C.T.dot(slope)


def value_and_gradient(problem: Problem, u, with_gradient: bool = True):
    """J and dJ/du, (d,) of digits; u of floats or digits."""
    found = {
        name: [_exact(v) for v in blocks] for name, blocks in split(problem, _exact(u)).items()
    }
    A, b, W = found["A"], found["b"], found.get("W")
    E, e, C, c = (found[name][0] for name in "EeCc")
    h, r, beta, gamma = (mpf(v) for v in (problem.h, problem.r, problem.beta, problem.gamma))
    nodes, weights = NODES[problem.scheme], _weights(problem.scheme)
    N, S = problem.depth, len(nodes)
    slopes = {name: [v * 0 for v in blocks] for name, blocks in found.items()}
    ends = {name: slopes[name][0] for name in "Cc"}
    J, inputs = mpf(0), _exact(problem.input_values)
    for k in range(N):
        for name, value in (("A", A), ("b", b), ("W", W)):
            if value is not None:
                J += h * r / 2 * (value[k] ** 2).sum()
                slopes[name][k] += h * r * value[k]
    for i, label in enumerate(problem.labels):
        F = _Loss(problem, C, c, int(label))
        x, tape = E.dot(inputs[i]) + e, []
        for k in range(N):
            slope, moved = None, x
            for s in range(S):
                point = x if slope is None else x + mpf(nodes[s]) * h * slope
                pairs = [sigma(problem.sigma, v) for v in A[k].dot(point) + b[k]]
                value = np.array([p[0] for p in pairs], dtype=object)
                d = np.array([p[1] for p in pairs], dtype=object)
                slope = value if W is None else W[k].dot(value)
                moved = moved + h * weights[s] * slope
                cost, lam = F(point, beta * h * weights[s], ends) if beta else (0, x * 0)
                J += cost
                tape.append((point, value, d, lam))
            x = moved
        cost, lam = F(x, gamma, ends)
        J += cost
        if not with_gradient:
            continue
        for k in reversed(range(N)):  # lam = dJ/dx_{k+1}
            total, carried = lam, None
            for s in reversed(range(S)):
                point, value, d, own = tape[k * S + s]
                back = h * weights[s] * lam  # dJ/d slope_s
                if carried is not None:
                    back = back + mpf(nodes[s + 1]) * h * carried
                if W is not None:
                    slopes["W"][k] += np.outer(back, value)
                    back = W[k].T.dot(back)
                back = back * d
                slopes["A"][k] += np.outer(back, point)
                slopes["b"][k] += back
                carried = A[k].T.dot(back) + own  # dJ/d point_s
                total = total + carried
            lam = total
        slopes["E"][0] += np.outer(lam, inputs[i])
        slopes["e"][0] += lam
    for name in "EeCc":
        if ("lift" if name in "Ee" else "readout") in problem.trained:
            J += mpf(problem.r_ends) / 2 * (found[name][0] ** 2).sum()
            slopes[name][0] += mpf(problem.r_ends) * found[name][0]
    at = {name: itertools.count() for name in slopes}
    return J, np.concatenate([slopes[name][next(at[name])].ravel() for name, _ in shapes(problem)])


def objective(problem: Problem, u):
    return value_and_gradient(problem, u, with_gradient=False)[0]


def hessian(problem: Problem, u) -> np.ndarray:
    """The Hessian by central differences of the gradient, good to about 1e-38."""
    u = _exact(u)
    H = np.empty((len(u), len(u)), dtype=object)
    for j in range(len(u)):
        step = u * 0
        step[j] = STEP
        ahead, behind = (value_and_gradient(problem, v)[1] for v in (u + step, u - step))
        H[j] = (ahead - behind) / (2 * STEP)
    return (H + H.T) / 2


def polish(problem: Problem, u) -> tuple[np.ndarray, np.ndarray, mpf]:
    """Newton to fifty digits: (the stationary point, H there, largest gradient entry).

    The float Hessian serves every step, each of which gains some ten digits; where it is too
    nearly singular for that, Hessians in digits do.
    """
    inverse = np.linalg.pinv(derivatives(problem, np.asarray(u, dtype=float))[2], rcond=1e-300)
    inverse, u, last = _exact(inverse), _exact(u), mpf("inf")
    for _ in range(12):
        s = inverse.dot(value_and_gradient(problem, u)[1])
        u, size = u - s, max(abs(x) for x in s)
        if size < SMALL or size > last / 10:
            break
        last = size
    while size >= SMALL:
        H = mpmath.matrix(hessian(problem, u).tolist())
        s = mpmath.lu_solve(H, mpmath.matrix(value_and_gradient(problem, u)[1].tolist()))
        u, last, size = u - np.array(list(s), dtype=object), size, max(abs(x) for x in s)
        if size > last / 10:
            break
    return u, hessian(problem, u), max(abs(x) for x in value_and_gradient(problem, u)[1])


def eigenvalues(H: np.ndarray) -> list:
    """All eigenvalues, ascending, in digits."""
    return sorted(mpmath.eigsy(mpmath.matrix(H.tolist()), eigvals_only=True))


def definite(H: np.ndarray) -> bool:
    """Whether a Cholesky factor exists."""
    try:
        mpmath.cholesky(mpmath.matrix(H.tolist()))
    except ValueError:
        return False
    return True
