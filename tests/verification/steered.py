"""Files of known truth: two classes, and every sample on the course that a test wants.

Sample i lives on axis i of R^n; the activation is the identity and A_k diagonal, so that
x_{k+1} = (1 + h a) x moves each sample by itself.  The last axis is not read out: `spare` puts
control there that costs and does nothing else.  A file and a trace are made from the margins
m = (true logit less the other one), (N+1, n_d), of which everything follows:

    g(m) = log(1 + e^-m) + (1-p) m - H(q),   dist_z = |m - log(p/(1-p))| / sqrt2,   right iff m > 0
"""

from __future__ import annotations

import numpy as np
import scipy.optimize

from ocp.controls import Controls
from ocp.files import TrainingFile
from ocp.problem import Problem
from ocp.trace import Trace
from verification import verify_content

P = 0.9
#: the margin at a minimiser
REST = float(np.log(P / (1 - P)))
EPS = float(np.finfo(float).eps)


def steered(margins, spare=0.0, **changes) -> TrainingFile:
    """A training file with these margins; h small and gamma = r = 0: next to stationary."""
    m = np.array(margins, dtype=float)
    N, n_d = len(m) - 1, m.shape[1]
    labels = np.arange(n_d) % 2
    keys = {"h": 1e-3, "p_d": P, "r": 0.0, "gamma": 0.0, "activation": "identity"}
    half = np.append(np.full(n_d, 0.5), 0.0)
    problem = Problem(
        **{
            "inputs": np.diag(np.where(labels == 0, m[0], -m[0])), "labels": labels,
            "n_classes": 2, "depth": N, "width": n_d + 1, "readout_weight": [half, -half],
            **keys, **changes,
        }
    )  # fmt: skip
    A, b = np.zeros((N, n_d + 1, n_d + 1)), np.zeros((N, n_d + 1))
    for k in range(N):
        ratio = np.divide(m[k + 1], m[k], out=np.ones(n_d), where=m[k] != 0)
        A[k, range(n_d), range(n_d)] = (ratio - 1) / problem.h
    b[:, -1] = spare
    return TrainingFile(problem=problem, controls=Controls(A=A, b=b))


def traced(margins, norm=0.0, **changes) -> Trace:
    """A stage trace with these margins and this norm of its controls, by layer."""
    m = np.array(margins, dtype=float)
    N, n_d = len(m) - 1, m.shape[1]
    labels = np.arange(n_d) % 2
    half = 0.5 * np.where(labels == 0, m, -m)
    keys = {"h": 0.5, "p_d": P, "r": 1e-2, "gamma": 1.0, "beta": 1}
    return Trace(
        logits=np.stack([half, -half], axis=-1), labels=labels, n_classes=2, depth=N,
        control_norm=np.broadcast_to(norm, N).astype(float), **(keys | changes),
    )  # fmt: skip


def cost_at(m, p=P):
    """g at a margin."""
    return np.logaddexp(0, -m) + (1 - p) * m + p * np.log(p) + (1 - p) * np.log(1 - p)


def distance_at(m, p=P):
    """dist_z at a margin."""
    return np.abs(m - np.log(p / (1 - p))) / np.sqrt(2)


def margin_of(cost: float) -> float:
    """The margin below that of rest at which g has this value."""
    return scipy.optimize.brentq(lambda m: cost_at(m) - cost, -1e5, REST, xtol=1e-15, rtol=1e-15)


def course(costs, n_d=2) -> np.ndarray:
    """Margins of n_d samples, equal for all of them, whose data costs are these."""
    return np.repeat([[margin_of(cost)] for cost in costs], n_d, axis=1)


def tight(s, p=P):
    """alpha for two classes: log(p + (1-p) e^(-sqrt2 s)) + (1-p) sqrt2 s."""
    return np.log(p + (1 - p) * np.exp(-np.sqrt(2) * s)) + (1 - p) * np.sqrt(2) * s


def g_mis(p=P) -> float:
    """g at a tie of two classes."""
    return float(p * np.log(2 * p) + (1 - p) * np.log(2 * (1 - p)))


def lines_of(content, check: str) -> dict:
    """The lines of one check on one file, or on several together, by name."""
    contents = content if isinstance(content, list) else [content]
    report = verify_content(contents, only=(check,))
    return {line.name: line for line in report.entries}
