"""Where another implementation leaves the statement, and which slip explains it.

Quantities are taken in the order of computation, each from the *other's own* previous ones, so
an early error is not found again later:

    x_0 | x_{k+1} from x_k, layer by layer | logits from x_k | losses from logits | penalty | J |
    costate, from the last layer back | gradient, group by group

For the first that disagrees, slips are tried one by one (another step h, a missing bias, a
temperature, another p_d, ...); one that reproduces the other's numbers to rounding is named.
A slip with a number in it (h, T, p_d) has that number fitted to the other's values.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator

import numpy as np
from numpy.typing import ArrayLike

from ocp import activations, loss
from ocp.controls import Controls, describe, ends
from ocp.problem import SCHEMES, Problem

from ..evaluation.states import layer, statement_logits
from .evaluation import Evaluation, Own

#: a slip explains a difference if it leaves this many times the tolerance (a fit costs digits)
EXPLAINED = 1e2
Slip = tuple[str, np.ndarray]
#: where, and what
Found = tuple[str, str]


def locate(
    problem: Problem, controls: Controls, own: Own, other: Evaluation, tolerance: float
) -> Found:
    """Return (where, what) of the first disagreement."""
    for search in (_states, _logits, _losses, _penalty, _objective, _costate, _gradient):
        found = search(problem, controls, own, other, tolerance)
        if found is not None:
            return found
    return "", "single quantities agree within the tolerance; their combination does not"


def _states(
    problem: Problem, controls: Controls, own: Own, other: Evaluation, tolerance: float
) -> Found | None:
    X = other.states
    if X is None:
        return None
    E, e, _, _ = ends(problem, controls)
    lifted = problem.input_values @ E.T + e
    if not _same(X[0], lifted, tolerance):
        slips: Iterable[Slip] = [("the lift has no bias e", problem.input_values @ E.T)]
        return "layer 0", _name("x_0 = E s + e", X[0], lifted, slips, tolerance)
    for k in range(problem.depth):
        wanted = layer(problem, controls, k, X[k], problem.h)
        if not _same(X[k + 1], wanted, tolerance):
            slips = _layer_slips(problem, controls, k, X)
            return f"layer {k}", _name(f"x_{k + 1}", X[k + 1], wanted, slips, tolerance)
    return None


def _layer_slips(problem: Problem, controls: Controls, k: int, X: np.ndarray) -> Iterator[Slip]:
    """Yield the slips that one layer can contain, with what each would give."""
    x, h = X[k], problem.h
    no_bias = dataclasses.replace(controls, b=np.zeros_like(controls.b))
    yield "the bias b is missing", layer(problem, no_bias, k, x, h)
    other_h = _fit(lambda t: layer(problem, controls, k, x, t), X[k + 1], h)
    text = f"the step h is {other_h:.6g}, the statement's {h:.6g} ({other_h / h - 1:+.2%})"
    yield text, layer(problem, controls, k, x, other_h)
    turned = dataclasses.replace(controls, A=controls.A.mT)
    yield "A is transposed", layer(problem, turned, k, x, h)
    if controls.W is not None:
        turned = dataclasses.replace(controls, W=controls.W.mT)
        yield "W is transposed", layer(problem, turned, k, x, h)
    yield "the skip connection is missing", layer(problem, controls, k, x, h) - x
    for name in activations.NAMES:
        if name != problem.activation:
            slip = problem.with_(activation=name)
            yield f"the activation is {name}", layer(slip, controls, k, x, h)
    if problem.sigma.shiftable:
        slip = problem.with_(shifted=not problem.shifted)
        text = "shifted" if slip.shifted else "not shifted"
        yield f"the activation is {text}", layer(slip, controls, k, x, h)
    for name in SCHEMES:
        slip = problem.with_(scheme=name)
        yield f"the scheme is {name}", layer(slip, controls, k, x, h)


def _logits(
    problem: Problem, controls: Controls, own: Own, other: Evaluation, tolerance: float
) -> Found | None:
    X, z = other.states, other.logits
    if z is None:
        return None
    wanted = own.logits if X is None else statement_logits(problem, controls, X)
    if _same(z, wanted, tolerance):
        return None
    c = ends(problem, controls)[3]
    factor = float((z * wanted).sum() / max((wanted * wanted).sum(), 1e-300))
    slips = [
        ("the readout has no bias c", wanted - c),
        (f"softmax temperature {1 / factor if factor else np.inf:.6g}", factor * wanted),
    ]
    return _layer_of(z, wanted), _name("logits", z, wanted, slips, tolerance)


def _losses(
    problem: Problem, controls: Controls, own: Own, other: Evaluation, tolerance: float
) -> Found | None:
    g, z = other.losses, other.logits
    if g is None:
        return None
    z = own.logits if z is None else z
    q = problem.soft_targets
    wanted = loss.soft_cross_entropy(z, q)
    # a loss is a difference of logits: its rounding is theirs
    scale = max(1.0, float(np.abs(z).max()))
    if _same(g, wanted, tolerance * scale):
        return None
    slips = _loss_slips(problem, z, g)
    return _layer_of(g, wanted), _name("losses", g, wanted, slips, tolerance * scale)


def _loss_slips(problem: Problem, z: np.ndarray, g: np.ndarray) -> Iterator[Slip]:
    n_c, p_d, labels = problem.n_classes, problem.p_d, problem.labels
    target = lambda p: loss.soft_target(labels, n_c, p)  # noqa: E731
    # g' = lse - p z_y - (1-p) mean of the others - H is affine in p: least squares for (p, H)
    true = np.take_along_axis(z, np.broadcast_to(labels, z.shape[:-1])[..., None], axis=-1)[..., 0]
    rest = (z.sum(axis=-1) - true) / (n_c - 1)
    top = z.max(axis=-1)
    lse = top + np.log(np.exp(z - top[..., None]).sum(axis=-1))
    slope = np.stack([-(true - rest).ravel(), -np.ones(g.size)], axis=1)
    (p, _), *_ = np.linalg.lstsq(slope, (g - lse + rest).ravel(), rcond=None)
    without = loss.soft_cross_entropy(z, target(p_d)) + float(loss.entropy(target(p_d)[:1])[0])
    yield "the entropy H(q) is not subtracted", without
    if -1e-9 <= p <= 1.0 + 1e-9:
        p = min(max(float(p), 0.0), 1.0)
        swap = abs(p - (1 - p_d)) < 1e-6
        kind = " (swapped: 1 - p_d)" if swap else " (hard targets)" if p > 1 - 1e-9 else ""
        p = 1 - p_d if swap else p
        text = f"p_d is {p:.6g}, the statement's {p_d:.6g}{kind}"
        yield text, loss.soft_cross_entropy(z, target(p))
        fitted = lse - p * true - (1 - p) * rest
        yield f"{text}, and the entropy is not subtracted", fitted
    T = _fit(lambda t: loss.soft_cross_entropy(z * t, target(p_d)), g, 1.0)
    yield (
        f"softmax temperature {1 / T if T else np.inf:.6g}",
        loss.soft_cross_entropy(z * T, target(p_d)),
    )


def _penalty(
    problem: Problem, controls: Controls, own: Own, other: Evaluation, tolerance: float
) -> Found | None:
    if other.penalty is None or _same(other.penalty, own.penalty, tolerance):
        return None
    factor = other.penalty / own.penalty if own.penalty else float("inf")
    known = ((0.0, "it is missing"), (2.0, "r/2 is r"), (1 / problem.h, "the factor h is missing"))
    fits = [text for value, text in known if abs(factor - value) <= 1e-9 * max(1.0, value)]
    if fits:
        return "", f"penalty: {' or '.join(fits)} ({other.penalty:.6g}, wanted {own.penalty:.6g})"
    return "", f"penalty: {factor:.6g} times the statement's {own.penalty:.6g}"


def _objective(
    problem: Problem, controls: Controls, own: Own, other: Evaluation, tolerance: float
) -> Found | None:
    if _same(other.objective, own.objective, tolerance):
        return None
    F_N = float(own.losses[-1].mean())
    data = own.objective - own.penalty
    layers = data - problem.gamma * F_N
    slips = {
        "the terminal cost is missing": own.objective - problem.gamma * F_N,
        "the cost of the layers is missing (beta = 0)": own.objective - layers,
        "the factor h of the layers' data cost is missing": own.objective
        + layers * (1 / problem.h - 1),
        "the data cost is summed over samples, not averaged": own.penalty
        + data * problem.n_samples,
        "the penalty is missing": data,
    }
    as_arrays = [(text, np.asarray(value)) for text, value in slips.items()]
    text = _name("J", np.asarray(other.objective), np.asarray(own.objective), as_arrays, tolerance)
    if other.states is None:
        text += "; supply states, logits and losses to locate it"
    return "", text


def _costate(
    problem: Problem, controls: Controls, own: Own, other: Evaluation, tolerance: float
) -> Found | None:
    if other.costate is None or _same(other.costate, own.costate, tolerance):
        return None
    for j in reversed(range(len(own.costate))):
        if not _same(other.costate[j], own.costate[j], tolerance):
            break
    k = j + problem.depth + 1 - len(own.costate)
    if not other.costate[j].any():
        return f"layer {k}", f"costate: no derivative arrives at x_{k} and before"
    if _same(-other.costate[j], own.costate[j], tolerance):
        return f"layer {k}", "costate: the sign is that of multipliers for x - f = 0"
    return f"layer {k}", f"costate: first wrong at x_{k}, counted from the last layer"


def _gradient(
    problem: Problem, controls: Controls, own: Own, other: Evaluation, tolerance: float
) -> Found | None:
    if other.gradient is None or _same(other.gradient, own.gradient, tolerance):
        return None
    difference = np.abs(other.gradient - own.gradient)
    scale = tolerance * max(1.0, float(np.abs(own.gradient).max()))
    groups: dict[str, list[int]] = {}
    for index in np.flatnonzero(~(difference <= scale)):
        groups.setdefault(describe(problem, int(index)).split("[")[0], []).append(int(index))
    wrong = [index for members in groups.values() for index in members]
    silent = not other.gradient[wrong].any()
    names = ", ".join(list(groups)[:6]) + (
        f" and {len(groups) - 6} more" if len(groups) > 6 else ""
    )
    text = "no gradient arrives at" if silent else "wrong for"
    return describe(problem, int(difference.argmax())), f"gradient: {text} {names}"


def _same(found: ArrayLike, wanted: ArrayLike, tolerance: float) -> bool:
    error = np.abs(np.asarray(found) - np.asarray(wanted)).max()
    return bool(error <= tolerance * max(1.0, float(np.abs(np.asarray(wanted)).max())))


def _name(
    quantity: str,
    found: np.ndarray,
    wanted: np.ndarray,
    slips: Iterable[Slip],
    tolerance: float,
) -> str:
    """Return the first slip that reproduces `found`, or how far off it is."""
    for text, value in slips:
        if _same(found, value, EXPLAINED * tolerance):
            return f"{quantity}: {text}"
    error = float(np.abs(found - wanted).max())
    return f"{quantity}: off by up to {error:.3g}, no known slip explains it"


def _layer_of(found: np.ndarray, wanted: np.ndarray) -> str:
    error = np.abs(found - wanted).reshape(len(found), -1).max(axis=1)
    return f"layer {int((error > 1e-3 * error.max()).argmax())}"


def _fit(model: Callable[[float], np.ndarray], values: np.ndarray, start: float) -> float:
    """Return t with model(t) nearest to the values: Gauss-Newton on one number."""
    t = start
    for _ in range(30):
        residual = values - model(t)
        width = 1e-6 * max(abs(t), 1e-3)
        slope = (model(t + width) - model(t - width)) / (2 * width)
        squared = float((slope * slope).sum())
        change = float((slope * residual).sum()) / squared if squared > 0 else 0.0
        # a step beyond the half or the double is no refinement of a slip
        change = float(np.clip(change, -0.5 * abs(t), abs(t)))
        t += change
        if not abs(change) > 1e-15 * abs(t):
            break
    return t
