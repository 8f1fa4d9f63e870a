"""J, gradient and Hessian over many boxes at once: width 1, two classes, block single, Euler.

    v_k = a_k x_k + b_k,  x_{k+1} = x_k + h sigma(v_k),  t = +-((C_0 - C_1) x + c_0 - c_1),
    g(t) = log(1 + e^-t) + (1 - p_d) t - H(q),   the sign + for samples of class 0.

Natural interval extensions: boxes are (d, B), samples by boxes (n_d, B); u = (a_0, b_0, a_1, ..).
Every factor encloses its values on the box, so J, gradient and Hessian enclose theirs.
"""

from __future__ import annotations

import itertools
from collections import Counter
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ocp.activations import Activation
from ocp.problem import Problem

from . import arithmetic as balls
from . import midrad
from .intervals import Interval, Tabulated, of, point
from .midrad_functions import LIPSCHITZ, at_floats
from .model import ball_model

#: largest pre-activation and margin for which tables are made
REACH = 128.0


def refusal(problem: Problem) -> str:
    """Say why the problem is none of those that are enclosed here, or nothing."""
    wanted = [
        ("width", problem.width, 1),
        ("n_classes", problem.n_classes, 2),
        ("block", problem.block, "single"),
        ("scheme", problem.scheme, "euler"),
        ("trained", ",".join(problem.trained), "layers"),
        ("sharpness", problem.sharpness, 1.0),
    ]
    for name, found, want in wanted:
        if found != want:
            return f"{name} is {found}; a global proof is for {name} {want}"
    if problem.sigma.name not in LIPSCHITZ:
        return f"activation is {problem.sigma.name}; wanted one of {', '.join(LIPSCHITZ)}"
    if not problem.r > 0:
        return "r is 0; wanted r > 0, which bounds the search"
    return ""


def mirrored(problem: Problem) -> bool:
    """Whether J(a, -b) = J(a, b) exactly, of a problem that is not refused.

    An odd sigma turns x into -x when b and x_0 change sign; a sample's margin stays if its class
    changes too and the logits differ by a multiple of x; then mirrored samples must be samples.
    """
    if not problem.sigma.odd or problem.readout_bias[0] != problem.readout_bias[1]:
        return False
    row, shift = problem.lift_weight[0], Fraction(problem.lift_bias[0])
    states = [
        sum((Fraction(w) * Fraction(s) for w, s in zip(row, own, strict=True)), shift)
        for own in problem.inputs
    ]
    labels = problem.labels.tolist()
    samples = Counter(zip(states, labels, strict=True))
    return samples == Counter((-x, 1 - label) for x, label in zip(states, labels, strict=True))


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ScalarNetwork:
    """The statement; x, slope and offset (n_d, 1), t = slope x + offset; the others 0-d.

    running : beta h / n_d;  final : gamma / n_d;  penalty : h r;  h : a float
    """

    depth: int
    h: Interval
    running: Interval
    final: Interval
    penalty: Interval
    x: Interval
    slope: Interval
    offset: Interval
    sigma: Tabulated
    cost: Tabulated

    def objective_and_gradient(self, u: Interval) -> tuple[Interval, Interval]:
        """Return enclosures of J, (B,), and of dJ/du, (d, B), over the boxes u."""
        x, states, slopes = self.x, [], []
        J = point(0.5) * self.penalty * u.square().sum()
        for k in range(self.depth):
            J = J + (self.running * self.cost(self.margins(x), 0)).sum()
            states.append(x)
            v = u[2 * k] * x + u[2 * k + 1]
            slopes.append(self.h * self.sigma(v, 1))
            x = x + self.h * self.sigma(v, 0)
        t = self.margins(x)
        J = J + (self.final * self.cost(t, 0)).sum()
        costate = self.final * self.cost(t, 1) * self.slope
        gradient = self.penalty * u
        for k in reversed(range(self.depth)):
            x, local = states[k], costate * slopes[k]
            change = (local * x).sum(), local.sum()
            for j, more in enumerate(change):
                row = gradient[2 * k + j] + more
                gradient.lo[2 * k + j], gradient.hi[2 * k + j] = row.lo, row.hi
            if k:  # x_0 is data
                # the factor 1 + a h sigma' holds the costate once
                costate = costate * (point(1.0) + u[2 * k] * slopes[k])
                costate = costate + self.running * self.cost(self.margins(x), 1) * self.slope
        return J, gradient

    def margins(self, x: Interval) -> Interval:
        """The true logit minus the other, (n_d, B)."""
        return self.slope * x + self.offset

    def hessian(self, u: Interval) -> Interval:
        """Return an enclosure of the Hessian over the boxes u, (d, d, B), forward in k."""
        d, B = u.lo.shape
        H = Interval(np.zeros((d, d, B)), np.zeros((d, d, B)))
        x = self.x
        Dx: dict[int, Interval] = {}
        D2x: dict[tuple[int, int], Interval] = {}
        for k in range(self.depth + 1):
            if Dx:
                weight = self.running if k < self.depth else self.final
                self._add_costs(H, weight, x, Dx, D2x)
            if k == self.depth:
                break
            a, own = u[2 * k], 2 * k
            v = a * x + u[own + 1]
            first, second = self.h * self.sigma(v, 1), self.h * self.sigma(v, 2)
            growth = point(1.0) + a * first
            Dv = {i: a * s for i, s in Dx.items()} | {own: x}
            bent = {i: second * s for i, s in Dv.items()} | {own + 1: second}
            Dv[own + 1] = point(1.0)
            pairs = itertools.combinations_with_replacement(range(own + 2), 2)
            new = {}
            for i, j in pairs:
                # sigma'' v_i v_j + (1 + a sigma') x_ij + sigma' x_i [j = a]
                term = second * Dv[i].square() if i == j else bent[i] * Dv[j]
                if j == own + 1:
                    term = bent[i]
                if (i, j) in D2x:
                    term = term + growth * D2x[i, j]
                if j == own and i < own:
                    term = term + first * Dx[i]
                new[i, j] = term
            D2x = new
            Dx = {i: growth * s for i, s in Dx.items()} | {own: first * x, own + 1: first}
            x = x + self.h * self.sigma(v, 0)
        for i in range(d):
            row = H[i, i] + self.penalty
            H.lo[i, i], H.hi[i, i] = row.lo, row.hi
        return H

    def _add_costs(self, H: Interval, weight: Interval, x: Interval, Dx: dict, D2x: dict) -> None:
        """Add sum_i weight (g'' t_i t_j + g' t_ij)."""
        t = self.margins(x)
        first = weight * self.cost(t, 1) * self.slope
        second = weight * self.cost(t, 2) * self.slope.square()
        for (i, j), bent in D2x.items():
            squares = Dx[i].square() if i == j else Dx[i] * Dx[j]
            entry = H[i, j] + (second * squares + first * bent).sum()
            H.lo[i, j], H.hi[i, j] = H.lo[j, i], H.hi[j, i] = entry.lo, entry.hi


def scalar_network(problem: Problem, largest: float) -> ScalarNetwork:
    """Return the statement for |u| <= largest.

    Raises
    ------
    ValueError : the problem is another one, or its pre-activations may pass the tables
    """
    reason = refusal(problem)
    if reason:
        raise ValueError(reason)
    with balls.precision(128):
        model = ball_model(problem)
        rounded = lambda x: of(midrad.enclose(np.array(x, dtype=object)))  # noqa: E731
        E, e = balls.exact(problem.lift_weight), balls.exact(problem.lift_bias)
        C, c = balls.exact(problem.readout_weight), balls.exact(problem.readout_bias)
        sign = np.where(problem.labels == 0, 1.0, -1.0)[:, None]
        x = rounded(balls.matmul(model.inputs, E.T) + e)
        slope = rounded(balls.exact(sign) * (C[0, 0] - C[1, 0]))
        offset = rounded(balls.exact(sign) * (c[0] - c[1]))
        n_d = problem.n_samples
        false = midrad.enclose(np.array(balls.rational(1 - Fraction(problem.p_d)), dtype=object))
        entropy = midrad.enclose(np.array(model.entropy, dtype=object))
        gamma = balls.exact(problem.gamma)[()]
        reach_v, reach_t = _reaches(problem, largest, x, slope, offset)
        smooth = Activation("softplus")

        def cost(t: np.ndarray) -> list[midrad.MidRad]:
            f = at_floats(smooth, -t)
            return [f[0] + false * t - entropy, false - f[1], f[2], -f[3]]

        return ScalarNetwork(
            depth=problem.depth,
            h=rounded(model.h),
            running=rounded(problem.beta * model.h / n_d),
            final=rounded(gamma / n_d),
            penalty=rounded(model.h * balls.exact(problem.r)[()]),
            x=x,
            slope=slope,
            offset=offset,
            sigma=Tabulated(
                lambda v: at_floats(problem.sigma, v), LIPSCHITZ[problem.sigma.name][3], reach_v
            ),
            cost=Tabulated(cost, LIPSCHITZ["softplus"][3], reach_t),
        )


def _reaches(
    problem: Problem, largest: float, x: Interval, slope: Interval, offset: Interval
) -> tuple[float, float]:
    """How far pre-activations and margins may go, with room for boxes that stick out a little."""
    size = float(x.magnitude().max())
    name, v = problem.sigma.name, 0.0
    for _ in range(problem.depth):
        v = max(v, largest * (size + 1.0))  # in the whole cube
        step = 1.0 if problem.sigma.bounded else 1.0 + LIPSCHITZ[name][0] * v
        size += problem.h * step
    reach_v, reach_t = 1.25 * v + 1.0, float(slope.magnitude().max()) * size * 1.25
    return min(reach_v, REACH), min(reach_t + float(offset.magnitude().max()) + 1.0, REACH)
