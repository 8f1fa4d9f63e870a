"""Failure signatures with the next step to take; nothing here is a verdict."""

from __future__ import annotations

import numpy as np

from ocp import cautions, loss
from ocp.controls import describe

from ..evaluation import states
from ..evaluation.layers import depth_used, entry_layer
from ..evaluation.subject import TrainingSubject
from ..report import Entry, Finding, Verdict
from .first_order import kink_reason

#: shares and factors at which a caution is given; our choice
NEAR_ONE, NEAR_UNIFORM = 0.999, 1.05
VANISHING, SATURATED = 1e-6, 0.5
SETTLED, WRONG = 0.8, 0.1
HEAVY_TERMINAL = 100.0
SHOWN = 8


def check_diagnosis(subject: TrainingSubject) -> list[Entry]:
    """Return one line for each signature found, root causes first; one that says so if none is."""
    found = [
        line
        for signature in (
            _inputs,
            _soft_target,
            _balance,
            _trapped,
            _convergence,
            _sensitivities,
            _saturation,
            _depth,
            _laggards,
        )
        for line in signature(subject)
    ]
    if found:
        return found
    return [_line("none", "no known failure signature")]


def _line(name: str, message: str, measured: float = float("nan"), where: str = "") -> Finding:
    return Finding(
        name=f"diagnosis.{name}",
        verdict=Verdict.OBSERVED,
        measured=measured,
        where=where,
        message=message,
    )


def _inputs(subject: TrainingSubject) -> list[Entry]:
    """Inputs whose size decides what is learnt, and outcomes no better than a constant answer."""
    problem, right = subject.problem, subject.survey.right[-1]
    if right.all():
        return []
    found = np.bincount(problem.labels[right], minlength=problem.n_classes)
    lines: list[Entry] = []
    if found.sum() <= np.bincount(problem.labels).max():
        text = cautions.outcome(problem, found, settled=True)
        lines.append(_line("largest_class", text, float(found.sum())))
    elif scale := cautions.ranges(problem):
        lines.append(_line("input_scale", scale, 1.0 - float(right.mean())))
    if problem.class_names:
        text = f"right {cautions.by_class(problem, found)}"
        lines.append(_line("by_class", text, float(found.sum())))
    return lines


def _soft_target(subject: TrainingSubject) -> list[Entry]:
    p, n_c = subject.problem.p_d, subject.problem.n_classes
    if p > NEAR_ONE:
        text = "p_d is so near 1 that the pull towards the minimisers vanishes; lower it, to .9 say"
        return [_line("p_d_near_one", text, p)]
    if p * n_c < NEAR_UNIFORM:
        text = "p_d is so near 1/n_classes that the classes' minimisers coincide; raise it, to .9"
        return [_line("p_d_near_uniform", text, p)]
    return []


def _balance(subject: TrainingSubject) -> list[Entry]:
    problem, found = subject.problem, subject.survey
    decay = problem.h * float(states.regularisation(problem, subject.controls).sum())
    data = found.objective - decay - states.ends_cost(problem, subject.controls)
    lines: list[Entry] = []
    wrong = float((~found.right[-1]).mean())
    idle = problem.gamma + problem.h * problem.depth * problem.beta
    uniform = idle * float(found.data_cost[0])
    if decay < 0.01 * data and data > 0.5 * uniform and problem.r > 0 and wrong > WRONG:
        text = "controls hardly move the samples and cost next to nothing: lower r, or start away"
        lines.append(_line("r_too_large", f"{text} from u = 0", decay / max(data, 1e-300)))
    elif wrong > WRONG and problem.r > 0 and _settled(subject):
        k = entry_layer(subject)
        text = (
            "samples stay wrong though the data cost has settled and layers are left over: moving"
        )
        text += " them costs more than it gains, or a better minimum is elsewhere: lower r,"
        text += " raise p_d, or start anew" if problem.p_d < 0.9 else " or start anew"
        lines.append(_line("settled_unfitted", text, wrong, f"layer {k}"))
    if problem.r == 0:
        lines.append(_line("r_zero", "r = 0: controls may grow without bound; give r > 0", 0.0))
    per_layers = problem.h * problem.depth
    if problem.beta and problem.gamma > HEAVY_TERMINAL * per_layers:
        text = (
            "the terminal cost outweighs all layers: a leaving arc at the end; lower gamma to h N"
        )
        lines.append(_line("gamma_too_large", text, problem.gamma / per_layers))
    return lines


def _settled(subject: TrainingSubject) -> bool:
    """Whether a stationary file has its data cost settled before the last layers, and some idle."""
    if subject.problem.beta == 0 or not subject.grad_inf_norm <= subject.tolerance:
        return False
    depth = subject.problem.depth
    return entry_layer(subject) <= SETTLED * depth and depth_used(subject) < depth


def _trapped(subject: TrainingSubject) -> list[Entry]:
    """b = 0 under odd activations, and coordinates that nothing enters or leaves."""
    problem, u = subject.problem, subject.controls
    lines: list[Entry] = []
    if problem.sigma.odd and not u.b.any():
        text = "b = 0 in every layer is invariant under gradient steps: start with b away from 0"
        lines.append(_line("b_zero", text, 0.0))
    E, e = problem.lift_weight, problem.lift_bias
    for j in range(problem.width):
        others = np.arange(problem.width) != j
        entered = u.A[:, j, :].any() or u.b[:, j].any() or E[j].any() or e[j] != 0
        if u.W is not None:
            entered = u.W[:, j, :].any() or E[j].any() or e[j] != 0
        left = u.A[:, others, j].any()
        if not entered and not left:
            text = f"coordinate {j} is unused, and stays so under gradient steps: perturb it; a"
            text += " stationary point inside the others is a saddle or a smaller network"
            lines.append(_line("unused_coordinate", text, where=f"coordinate {j}"))
    if problem.block == "double" and u.W is not None:
        dead = [
            k for k in range(problem.depth) if not (u.A[k].any() or u.b[k].any() or u.W[k].any())
        ]
        if dead:
            text = "layers at exactly zero never leave it: append W = 0 with small random A, b"
            lines.append(_line("zero_layers", text, float(len(dead)), f"layer {dead[0]}"))
    return lines


def _convergence(subject: TrainingSubject) -> list[Entry]:
    norm = subject.grad_inf_norm
    if norm <= subject.tolerance:
        return []
    lines: list[Entry] = []
    if kink_reason(subject):
        text = f"{kink_reason(subject)}: train softplus of growing sharpness instead of relu"
        lines = [_line("kinks", text, norm)]
        # among the many pre-activations of a large file some are always near a kink
        if not subject.too_large or subject.kink_descent is None:
            return lines
    if not np.isfinite(norm):
        text = "states or controls overflow: lower h or the controls"
        return [*lines, _line("not_finite", text, norm)]
    where = describe(subject.problem, int(np.abs(subject.gradient).argmax()))
    if subject.content.float32:
        text = f"stored in single precision: export float64, then {_onwards(subject)}"
    else:
        text = f"{norm / subject.tolerance:.1g} times the tolerance: training stopped early;"
        text += f" {_onwards(subject)}"
    weight = subject.problem.h * subject.problem.r
    share = norm / weight if weight > 0 else float("nan")
    note = f" (dJ/du holds h r u: decoupled weight decay ends elsewhere; |g|/(h r) = {share:.2g})"
    return [*lines, _line("not_converged", text + note, norm, where)]


def _onwards(subject: TrainingSubject) -> str:
    """Polishing forms the whole Hessian; where that is too large, only more training is left."""
    return "train on" if subject.too_large else "polish"


def _sensitivities(subject: TrainingSubject) -> list[Entry]:
    """Costate norms by layer: the ratio of the first to the last."""
    norm = subject.costate_norms
    top = norm.max()
    if not np.isfinite(top) or top == 0:
        return []
    k = int(norm.argmax())
    low = int(norm[: k + 1].argmin())
    if norm[low] < VANISHING * top and low < k:
        text = "costates vanish towards the first layers: they cannot learn; lower h or |A|"
        return [_line("vanishing", text, float(norm[low] / top), f"layer {low}")]
    growth = norm[0] / max(norm[-1], 1e-300)
    if subject.problem.beta == 0 and growth > 1 / VANISHING:
        text = "costates explode towards the first layers; lower h or |A|, raise r"
        return [_line("exploding", text, float(growth), "layer 0")]
    return []


def _saturation(subject: TrainingSubject) -> list[Entry]:
    share = subject.survey.saturated
    if subject.problem.sigma.piecewise_linear or not share.max() > SATURATED:
        return []
    k = int(share.argmax())
    text = "share of activations on their flat part: scale the inputs or the start down"
    return [_line("saturated", text, float(share[k]), f"layer {k}")]


def _depth(subject: TrainingSubject) -> list[Entry]:
    problem, right = subject.problem, subject.survey.right
    if not np.isfinite(subject.survey.objective):
        return []
    k = entry_layer(subject)
    wrong = int((~right[-1]).sum())
    if k >= problem.depth or (wrong and depth_used(subject) >= problem.depth):
        text = f"no turnpike is reached in {problem.depth} layers, {wrong} samples are wrong at the"
        return [_line("depth_too_small", f"{text} end: grow the depth", float(k), f"layer {k}")]
    return []


def _laggards(subject: TrainingSubject) -> list[Entry]:
    """Samples that are wrong or far from their minimiser when most others have arrived."""
    g = subject.survey.g[-1]
    n_c, p_d = subject.problem.n_classes, subject.problem.p_d
    late = np.flatnonzero(g >= loss.misclassification_threshold(n_c, p_d))
    if not len(late) or len(late) > 0.5 * len(g):
        return []
    worst = late[g[late].argsort()[::-1]]
    names = subject.problem.class_names
    called = lambda i: f"{i} ({names[subject.problem.labels[i]]})" if names else str(i)  # noqa: E731
    listed = ", ".join(called(i) for i in worst[:SHOWN])
    more = f" and {len(late) - SHOWN} more" if len(late) > SHOWN else ""
    text = f"samples not settled at the last layer: {listed}{more}; look at their labels"
    return [_line("laggards", text, float(len(late)), f"sample {worst[0]}")]
