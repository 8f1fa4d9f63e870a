"""The soft cross-entropy g_y(z) = KL(q(y) || softmax z) and what it says of a classification."""

from __future__ import annotations

import numpy as np
from scipy.special import xlog1py, xlogy


def off_target(n_classes: int, p_d: float) -> float:
    """eps = (1 - p_d)/(n_c - 1), what the soft target gives to each class but the true one."""
    return (1.0 - p_d) / (n_classes - 1)


def soft_target(labels: np.ndarray, n_classes: int, p_d: float) -> np.ndarray:
    """Return q, shape (n_d, n_c): p_d on the true class, eps on each other."""
    q = np.full((len(labels), n_classes), off_target(n_classes, p_d))
    q[np.arange(len(labels)), labels] = p_d
    return q


def entropy(q: np.ndarray) -> np.ndarray:
    """H(q) = -sum_j q_j log q_j over the last axis, with 0 log 0 = 0."""
    return -xlogy(q, q).sum(axis=-1)


def soft_cross_entropy(z: np.ndarray, q: np.ndarray) -> np.ndarray:
    """g = logsumexp(z) - q.z - H(q) >= 0 over the last axis; stable for logits of any size.

    z : logits, shape (..., n_c), real or complex;  q : targets that sum to one, (..., n_c)
    """
    w = z - z.real.max(axis=-1, keepdims=True)
    return np.log(np.exp(w).sum(axis=-1)) - (q * w).sum(axis=-1) - entropy(q)


def softmax(z: np.ndarray) -> np.ndarray:
    """softmax over the last axis; the gradient of g_y is softmax(z) - q(y)."""
    e = np.exp(z - z.real.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def is_right(z: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Whether the true logit is strictly the largest, shape z.shape[:-1]; labels (n_d,).

    NaN logits are wrong, and so is a tie.
    """
    index = np.broadcast_to(labels, z.shape[:-1])[..., None]
    true = np.take_along_axis(z, index, axis=-1)
    others = z.copy()
    np.put_along_axis(others, index, -np.inf, axis=-1)
    return np.logical_and.reduce(true > others, axis=-1)


def misclassification_threshold(n_classes: int, p_d: float) -> float:
    """g_mis: a sample whose soft cross-entropy lies below it is classified right.

    g_mis = p log(2p/(p + eps)) + eps log(2 eps/(p + eps)), p = p_d: the least
    value of g on the set where another logit is at least the true one.  With t = (p - eps)/(p +
    eps) it is (p + eps)/2 [(1 + t) log(1 + t) + (1 - t) log(1 - t)], never below 0.
    """
    eps = off_target(n_classes, p_d)
    t = max(0.0, (p_d - eps) / (p_d + eps))
    if t < 1e-2:  # the two terms cancel: their series
        both = t**2 + t**4 / 6 + t**6 / 15 + t**8 / 28
    else:
        both = xlog1py(1 + t, t) + xlog1py(1 - t, -t)
    return float(0.5 * (p_d + eps) * both)
