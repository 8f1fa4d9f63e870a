"""The statement once more, sample by sample in mpmath: an oracle that shares no code with it.

Numbers of the file are taken as they are stored; 1 - p_d is exact.  Call inside
`mpmath.workdps(60)`.
"""

from __future__ import annotations

import mpmath
import oracle_digits

from ocp.controls import Controls, ends
from ocp.problem import Problem

mp = mpmath.mpf
#: nodes and weights of the schemes
TABLES = {
    "euler": (("0",), ("1",)),
    "heun": (("0", "1"), ("1/2", "1/2")),
    "rk4": (("0", "1/2", "1/2", "1"), ("1/6", "1/3", "1/3", "1/6")),
}


def fraction(text: str):
    over, _, under = text.partition("/")
    return mp(over) / mp(under or 1)


def matrix(values) -> list:
    return [[mp(v) for v in row] for row in values.tolist()]


def vector(values) -> list:
    return [mp(v) for v in values.tolist()]


def affine(M: list, v: list, x: list) -> list:
    return [mpmath.fdot(row, x) + add for row, add in zip(M, v, strict=True)]


class Network:
    """Logits and losses of every stage point.

    stages : [k][s][i], logits of sample i;  final : [i], those of x_N
    """

    def __init__(self, problem: Problem, u: Controls) -> None:
        self.problem = problem
        E, e, C, c = ends(problem, u)
        E, C, e, c = matrix(E), matrix(C), vector(e), vector(c)
        sigma = lambda v: oracle_digits.sigma(problem.sigma, v)[0]  # noqa: E731
        h = mp(problem.h)
        nodes, self.weights = (list(map(fraction, part)) for part in TABLES[problem.scheme])
        depth, zero = problem.depth, [mp(0)] * problem.width
        self.stages = [[[] for _ in nodes] for _ in range(depth)]
        self.final = []
        for s in problem.input_values:
            x = affine(E, e, vector(s))
            for k in range(depth):
                A, b = matrix(u.A[k]), vector(u.b[k])
                W = None if u.W is None else matrix(u.W[k])
                K, step = zero, zero
                for stage, (a, w) in enumerate(zip(nodes, self.weights, strict=True)):
                    X = [xj + h * a * Kj for xj, Kj in zip(x, K, strict=True)]
                    self.stages[k][stage].append(affine(C, c, X))
                    K = [sigma(v) for v in affine(A, b, X)]
                    K = K if W is None else affine(W, zero, K)
                    step = [t + w * Kj for t, Kj in zip(step, K, strict=True)]
                x = [xj + h * t for xj, t in zip(x, step, strict=True)]
            self.final.append(affine(C, c, x))
        square = lambda *parts: mpmath.fsum(  # noqa: E731
            mp(v) ** 2 for part in parts if part is not None for v in part.ravel().tolist()
        )
        r = mp(problem.r) / 2
        W = u.W if u.W is not None else [None] * depth
        self.penalties = [r * square(*parts) for parts in zip(u.A, u.b, W, strict=True)]
        trained = (u.lift_weight, u.lift_bias, u.readout_weight, u.readout_bias)
        self.ends_cost = mp(problem.r_ends) / 2 * square(*trained)

    def at(self, k: int) -> list:
        """Logits at x_k."""
        return self.stages[k][0] if k < self.problem.depth else self.final

    def target(self, label: int) -> list:
        p, n_c = mp(self.problem.p_d), self.problem.n_classes
        return [p if j == label else (1 - p) / (n_c - 1) for j in range(n_c)]

    def cost(self, logits: list) -> mpmath.mpf:
        """F, the mean of the soft cross-entropies."""
        labels = self.problem.labels.tolist()
        values = [divergence(self.target(y), z) for z, y in zip(logits, labels, strict=True)]
        return mpmath.fsum(values) / len(values)

    def layer_cost(self, k: int) -> mpmath.mpf:
        stages = zip(self.weights, self.stages[k], strict=True)
        data = mpmath.fsum(w * self.cost(z) for w, z in stages)
        return self.problem.beta * data + self.penalties[k]

    def objective(self) -> mpmath.mpf:
        layers = mpmath.fsum(self.layer_cost(k) for k in range(self.problem.depth))
        final = mp(self.problem.gamma) * self.cost(self.final)
        return mp(self.problem.h) * layers + final + self.ends_cost


def divergence(q: list, z: list) -> mpmath.mpf:
    """KL(q || softmax z)."""
    top = max(z)
    total = top + mpmath.log(mpmath.fsum(mpmath.exp(v - top) for v in z))
    entropy = -mpmath.fsum(v * mpmath.log(v) for v in q if v)
    return total - mpmath.fdot(q, z) - entropy


def distance(q: list, z: list) -> mpmath.mpf:
    """|P(z - log q)|."""
    d = [v - mpmath.log(t) for v, t in zip(z, q, strict=True)]
    mean = mpmath.fsum(d) / len(d)
    return mpmath.sqrt(mpmath.fsum((v - mean) ** 2 for v in d))


def alpha(s, q: list) -> mpmath.mpf:
    """The lower bound of the loss at a distance: exact for two classes, else the closed form."""
    if len(q) == 2:
        p, t = max(q), mpmath.sqrt(2) * s
        return mpmath.log(p + (1 - p) * mpmath.exp(-t)) + (1 - p) * t
    rho = 1 - mp(1) / len(q)
    t = mpmath.sqrt(rho) * s
    return min(q) / rho * (mpmath.exp(-t) + t - 1)


def g_mis(q: list) -> mpmath.mpf:
    p, eps = max(q), min(q)
    return mpmath.fsum(t * mpmath.log(2 * t / (p + eps)) for t in (p, eps) if t)
