"""Where the loss of each sample is least: minimisers, rank of the readout, merged repetitions.

M_y = {x : P C x = P(log q(y) - c)}, nonempty for every y iff rank(P C) = n_c - 1; P C the centred
readout.  A lower rank leaves the minimiser z* of the loss over {C x + c}, with value above 0.
Equal lifted inputs with different labels are never separated: their mean target is what counts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.optimize
from scipy.special import log_softmax, logsumexp, xlogy

from ocp import loss
from ocp.controls import Controls, ends
from ocp.problem import Problem

from . import alpha
from .states import batches

#: singular values of P C relative to the largest: rank decided below the first, above the second
ZERO, CLEAR = 1e-13, 1e-9
#: losses below it are rounding: counts of them have no bound
RESOLVED = 1e-14


class Minimisers:
    """Where each sample's loss is least, with repeated inputs merged.

    target : mean soft targets, (m, n_c);  of_sample : index into them, (n_d,)
    minimiser : centred logits z* of least loss over the readout's range, (m, n_c)
    softmax : softmax(z*), (m, n_c): the target itself if the rank is full;  log_softmax : its
        logarithm, which does not underflow
    least : l* = least value of F over all states
    singular : singular values of P C, descending;  rank : of P C, -1 if it cannot be decided
    conflicts : pairs of samples with equal lifted inputs and different labels
    merge : False where equal states at layer 0 need not come from equal inputs (traces)
    """

    def __init__(self, problem: Problem, controls: Controls, merge: bool = True) -> None:
        _, _, self.C, c = ends(problem, controls)
        self.c = c - c[0]  # losses are those of logits up to a common offset
        self.n_classes, self.p_d = problem.n_classes, problem.p_d
        apart = self.C - self.C[0]  # equal rows differ by exactly 0, their mean by rounding
        self.PC = apart - apart.mean(axis=0)
        self.singular = np.linalg.svd(self.PC, compute_uv=False)
        self.rank = self._decide_rank()
        mean, self.gap = problem.soft_targets, 0.0
        self.conflicts: list[tuple[int, int]] = []
        if merge:
            mean, self.gap, self.conflicts = _merge(problem, controls)
        self.target, index = np.unique(mean, axis=0, return_inverse=True)
        self.of_sample = index.ravel()
        share = np.bincount(self.of_sample, minlength=len(self.target)) / problem.n_samples
        if self.applicable:  # only what holds for every readout is used: F >= gap
            self.minimiser = self.softmax = self.log_softmax = np.full(self.target.shape, np.nan)
            self.least = self.gap
            return
        points = np.log(self.target) if self.full_rank else self._minimise()
        self.minimiser = points - points.mean(axis=1, keepdims=True)
        self.softmax, self.log_softmax = loss.softmax(points), log_softmax(points, axis=1)
        values = 0.0 if self.full_rank else loss.soft_cross_entropy(points, self.target)
        self.least = self.gap + float((share * values).sum())

    def _decide_rank(self) -> int:
        largest = self.singular.max(initial=0.0)
        relative = self.singular / largest if largest > 0 else np.zeros_like(self.singular)
        if ((relative > ZERO) & (relative <= CLEAR)).any():
            return -1
        return int((relative > CLEAR).sum())

    @property
    def full_rank(self) -> bool:
        return self.rank == self.n_classes - 1

    @property
    def applicable(self) -> str:
        """Why there are no distances to minimisers, or ""."""
        if self.p_d == 1.0:
            return "p_d = 1: the infimum of hard cross-entropy is not attained"
        if self.rank < 0:
            return "the rank of the centred readout cannot be decided in double precision"
        return ""

    @property
    def least_singular(self) -> float:
        """sigma_min^+(P C), the least singular value that is not zero."""
        return float(self.singular[self.rank - 1]) if self.rank > 0 else 0.0

    def offset(self, z: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        """P(z - z*), (..., m, n_c), for the samples `rows`."""
        centred = z - z.mean(axis=-1, keepdims=True)
        return centred - self.minimiser[self.of_sample[rows]]

    def excess(self, z: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        """g - g(z*) with merged targets, (..., m): log E_pi e^v - pi.v, v the offset."""
        kind = self.of_sample[rows]
        return log_mean_exp(self.offset(z, rows), self.softmax[kind], self.log_softmax[kind])

    def alpha(self, distance: np.ndarray, rows: slice | np.ndarray) -> np.ndarray:
        """The lower bound of the excess at a distance of the logits, (..., m)."""
        result = np.empty_like(distance)
        kind = self.of_sample[rows]
        for k in range(len(self.softmax)):
            members = kind == k
            if members.any():
                result[..., members] = self.bound(distance[..., members], k)
        return result

    def bound(self, distance: np.ndarray, kind: int) -> np.ndarray:
        """alpha for targets of one kind: the exact two-class form needs full rank."""
        pi = self.softmax[kind]
        if self.full_rank:
            return alpha.lower_bound(distance, self.n_classes, pi)
        return alpha.closed_form(distance, self.n_classes, float(pi.min()))

    @cached_property
    def slowest(self) -> int:
        """The kind of target with the weakest bound, for claims about all samples."""
        return int(self.softmax.min(axis=1).argmin())

    def _minimise(self) -> np.ndarray:
        """min over z in c + range(P C) of KL(target || softmax z), one row a target.

        Convex and coercive, but flat where the bias saturates: a trust region first, then Newton.
        """
        left, _, _ = np.linalg.svd(self.PC, full_matrices=False)
        basis, centred = left[:, : max(self.rank, 0)], self.c - self.c.mean()
        points = np.tile(centred, (len(self.target), 1))
        if not basis.shape[1]:
            return points
        for row, target in enumerate(self.target):
            points[row] = _least_divergence(basis, centred, target)
        return points


def _least_divergence(basis: np.ndarray, start: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The point of start + range(basis) of least cross-entropy with the target, (n_c,)."""

    def value(y: np.ndarray) -> float:
        return float(loss.soft_cross_entropy(basis @ y + start, target))

    def slope(y: np.ndarray) -> np.ndarray:
        return basis.T @ (loss.softmax(basis @ y + start) - target)

    def curvature(y: np.ndarray) -> np.ndarray:
        p = loss.softmax(basis @ y + start)
        return basis.T @ (np.diag(p) - np.outer(p, p)) @ basis

    y = basis.T @ (np.log(target) - start)  # the nearest point to the minimiser over all logits
    y = scipy.optimize.minimize(
        value, y, jac=slope, hess=curvature, method="trust-exact", options={"gtol": 1e-10}
    ).x
    for _ in range(20):
        g, H = slope(y), curvature(y)
        if np.abs(g).max() < 1e-15 or np.linalg.cond(H) > 1 / ZERO:
            break
        step = np.linalg.solve(H, g)
        if np.abs(slope(y - step)).max() >= np.abs(g).max():
            break  # rounding
        y = y - step
    return basis @ y + start


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class ClassDistances:
    """log(p/eps)/sqrt2 and its double: distances that the soft target fixes, in logits."""

    boundary: float
    between_classes: float


def log_mean_exp(v: np.ndarray, pi: np.ndarray, log_pi: np.ndarray | None = None) -> np.ndarray:
    """log E_pi e^v - E_pi v >= 0 over the last axis, without cancellation near v = 0.

    log_pi : the logarithm of pi, where entries of pi may underflow
    """
    d = v - (pi * v).sum(axis=-1, keepdims=True)
    top = d.max(axis=-1)
    result = np.log1p((pi * alpha.phi(-np.minimum(d, 30.0))).sum(axis=-1))
    far = ~(top < 30.0)
    if far.any():
        log_pi = np.log(pi) if log_pi is None else log_pi
        usual = logsumexp(np.broadcast_to(log_pi, d.shape)[far] + d[far], axis=-1)
        result = np.where(far, np.nan, result)
        result[far] = usual
    return result


def class_distances(problem: Problem) -> ClassDistances:
    """Distance of M_y from the decision boundary and from another class's, in logits."""
    ratio = np.log(problem.p_d * (problem.n_classes - 1) / (1.0 - problem.p_d))
    return ClassDistances(
        boundary=float(ratio / np.sqrt(2)), between_classes=float(ratio * np.sqrt(2))
    )


def _merge(problem: Problem, controls: Controls) -> tuple[np.ndarray, float, list[tuple[int, int]]]:
    """Mean target of every sample's group of equal lifted inputs; gap; pairs in conflict."""
    E, e, _, _ = ends(problem, controls)
    q = problem.soft_targets
    lifted = np.concatenate([batch.s @ E.T + e for batch in batches(problem)])
    _, group = np.unique(lifted, axis=0, return_inverse=True)
    group = group.ravel()
    count = np.bincount(group)
    first = np.full(len(count), -1)
    first[group[::-1]] = np.arange(len(group))[::-1]
    conflicting = problem.labels != problem.labels[first[group]]
    if not conflicting.any():
        return q, 0.0, []
    bad = np.unique(group[conflicting])
    mean = q.copy()
    gap = 0.0
    for k in bad:
        members = np.flatnonzero(group == k)
        mean[members] = q[members].mean(axis=0)
        own, merged = xlogy(q[members], q[members]).sum(), xlogy(mean[members], mean[members]).sum()
        gap += float(own - merged) / problem.n_samples
    pairs = [(int(first[group[i]]), int(i)) for i in np.flatnonzero(conflicting)]
    return mean, gap, pairs
