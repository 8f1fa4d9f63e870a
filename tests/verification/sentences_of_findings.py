# ruff: noqa: E501 (a table)
"""What the checks geometry, reachability, depth, gap and diagnosis say, and what traces are told."""

import dataclasses

import numpy as np
import zoo_specimens
from closed_forms import bowl, file_at, statement, valley
from sentences import rows
from small_minima import small, solved
from zoo import claimed, minimum

from ocp.controls import random_start
from ocp.trace import Trace


def overflow():
    return file_at(small(activation="identity"), A=1e200)


def chain(a, **changes):
    """Three linear layers x' = (1 + h a) x."""
    return file_at(
        statement(depth=3, activation="identity", readout_weight=[[1.0], [0.0]], **changes), A=a
    )


def line(n, wrong, **changes):
    """u = 0; n samples at -1 and 1, of which the first ones are classified wrong."""
    labels = np.arange(n) % 2
    inputs = np.where(labels == 0, 1.0, -1.0) * np.where(np.arange(n) < wrong, -1.0, 1.0)
    keys = {"inputs": inputs[:, None], "labels": labels, "readout_weight": [[1.1], [-1.1]]}
    return file_at(statement(**(keys | changes)))


def steered(**changes):
    """Eight random points and random controls, near which some control steers them."""
    rng = np.random.default_rng(0)
    keys = {"inputs": rng.standard_normal((8, 2)), "labels": np.arange(8) % 2, "beta": 1}
    problem = statement(**(keys | {"width": 3, "depth": 8, "r": 1e-3} | changes))
    return claimed(problem, random_start(problem, np.random.default_rng(1), 0.3))


def trace(depth=3):
    logits = np.zeros((depth + 1, 2, 2))
    logits[1:] = [[2.0, 0.0], [0.0, 2.0]]
    return Trace(
        logits=logits, control_norm=np.ones(depth), labels=np.array([0, 1]), n_classes=2,
        depth=depth, h=0.5, p_d=0.9, r=1e-3, gamma=1.0, beta=1,
    )  # fmt: skip


def full_trace():
    """A trace that says what its blocks do."""
    one = np.full(3, 0.5)
    return dataclasses.replace(
        trace(), relative_update=one, direction_change=0.2 * one, ends_norm=np.array([2.0])
    )


def wide():
    """One coordinate that matters among very many inputs."""
    return file_at(
        statement(
            inputs=np.pad([[1.0], [-1.0]], ((0, 0), (0, 250_000))), lift_weight=np.eye(1, 250_001)
        )
    )


def blind_first_class():
    return statement(
        inputs=np.eye(3), labels=[0, 1, 2], n_classes=3, width=3,
        readout_weight=[[1.0, 0, 0], [0.0, 0, 0], [-1.0, 0, 0]],
    )  # fmt: skip


GEOMETRY = rows(
    "geometry",
    ("rank", "rank", minimum, "singular value number 1 of the centred readout over the largest"),
    ("no rank", "rank", bowl, "the centred readout has rank 0 < n_classes - 1 = 1: no state attains the least loss of every class"),
    (
        "doubtful rank", "rank", zoo_specimens.a_readout_of_doubtful_rank,
        "a singular value of the centred readout is too small to be told from zero; singular value number 2 of the"
        " centred readout over the largest",
    ),
    ("minimisers", "minimisers", minimum, "|softmax(C x + c) - q| at a point of each M_y; every M_y has dimension 1"),
    ("no rank, no minimisers", "minimisers", bowl, "the centred readout is rank-deficient"),
    ("hard labels, no minimisers", "minimisers", lambda: bowl(p_d=1.0), "p_d = 1: the infimum of hard cross-entropy is not attained"),
    (
        "doubtful rank, no minimisers", "minimisers", zoo_specimens.a_readout_of_doubtful_rank,
        "the rank of the centred readout cannot be decided in double precision",
    ),
    (
        "conditioning", "conditioning", minimum,
        "of the centred readout; dist_z >= 1 dist(x, M_y), the factor being its least singular value",
    ),
    (
        "class distance", "class_distance", minimum,
        "between minimisers of two classes, in logits; 1.554 from the decision boundary",
    ),
    ("least cost", "least_cost", bowl, "l*, the least data cost of any state: it is above 0"),
    ("conflicts", "conflicts", bowl, "equal lifted inputs with different labels, never separated: 0 and 1"),
    ("readout of a trace", "rank", trace, "a stage trace holds no readout"),
)  # fmt: skip

REACHABILITY = rows(
    "reachability",
    ("hard labels are not reached", "steering", lambda: minimum(p_d=1.0), "p_d = 1: the minimum of hard cross-entropy is not attained"),
    ("no rank, not reachable", "depth", bowl, "the centred readout has rank 0; wanted n_classes - 1 = 1"),
    (
        "doubtful rank, not reachable", "depth", zoo_specimens.a_readout_of_doubtful_rank,
        "the centred readout has a rank that cannot be decided; wanted n_classes - 1 = 2",
    ),
    (
        "layers that move", "steering", lambda: minimum(activation="softplus", shifted=False),
        "softplus unshifted is not 0 at 0: appended layers move the states",
    ),
    ("overflow is not steered", "steering", overflow, "the objective is not finite"),
    ("too large to steer", "steering", lambda: line(502, 0), "502 equations in 2 unknowns; steering is tried up to 500 and 1000; weaker bound, ..."),
    (
        "equal inputs are not steered", "steering", zoo_specimens.a_minimum_on_contradicting_labels,
        "samples 0 and 12 have equal lifted inputs and different labels: not reachable; weaker bound, from this file"
        " idled: V_N <= ... + ... (N - 4), residual F(x_M) = ...",
    ),
    ("no steering, no depth", "depth", zoo_specimens.a_minimum_on_contradicting_labels, "no exact steering is proved"),
    (
        "not steered", "steering", minimum,
        "exact steering is not certified: Gauss-Newton leaves a residual of ...; weaker bound, ...",
    ),
    (
        "steered", "steering", lambda: steered(r=10.0),
        "a control of depth ... that steers every sample onto its minimiser is proved to exist (contraction ...): V_N <="
        " ... for every N >= ...",
    ),
    (
        "steered, not optimal", "steering", steered,
        "a control of depth 8 that steers every sample onto its minimiser is proved to exist (contraction ...): V_N <="
        " ... for every N >= 8; this file costs more and is proved not globally optimal",
    ),
    (
        "few layers are wrong", "depth", steered,
        "a globally optimal control of any depth N >= ... misclassifies a sample in at most ... layers; this file uses ..."
        " (measured)",
    ),
    ("no layer's data cost", "depth", lambda: steered(beta=0), "beta = 0: the layers carry no data cost"),
    ("uniform targets", "depth", lambda: steered(p_d=float(np.nextafter(0.5, 1))), "g_mis = ... is rounding: p_d is next to 1/n_c"),
)  # fmt: skip

DEPTH = rows(
    "depth",
    ("depth used", "used", minimum, "idling from layer 4 of 4 changes J by at most 1% and flips nothing; the entry layer is ..."),
    ("depth of overflow", "used", overflow, "the objective is not finite"),
    ("idled", "idled", minimum, "idled there, J changes by ... (measured: sum over kept layers less evaluation, at most)"),
    ("cropped", "cropped", minimum, "cropped there, J changes by ... (measured: sum over kept layers less evaluation, at most)"),
    (
        "too large to be enclosed", "idled", wide,
        "idled there, J changes by ... (measured: formula less evaluation); in float64, no proof: outward rounding is meant"
        " for 500000 numbers; this file takes ...",
    ),
    ("idling moves", "idled", lambda: bowl(activation="sigmoid", shifted=False), "u = 0 moves the states"),
    ("nothing to crop", "cropped", bowl, "a network needs one layer"),
    ("logits when cropped", "logits", minimum, "largest change of a logit when the network is cropped at layer 4"),
    (
        "flips", "flips", minimum,
        "samples whose prediction changes; 12 of 12 cannot: their margin exceeds the spread of the changes of their logits",
    ),
    ("depth of a trace", "used", trace, "idling cannot be told from a trace"),
    ("a trace, cropped", "cropped", trace, "change of J when the network is cropped at the entry layer"),
    ("a trace of one layer", "cropped", lambda: trace(depth=1), "the entry layer is 1 of 1"),
    ("idle blocks of a plain trace", "idle_blocks", trace, "no relative_update is in the trace; norms alone say little"),
    ("idle blocks", "idle_blocks", full_trace, "last blocks whose norm is at most 5 % of the largest and whose relative update is at most 1 %, as the file says"),
    ("relative update", "relative_update", full_trace, "largest |f(x)|/|x| of a block, mean over samples; of the last block 0.5, as the file says"),
    ("direction change", "direction_change", full_trace, "largest 1 - cos of a block's state before and after; of the last block 0.1, as the file says"),
    ("ends of a trace", "ends_norm", full_trace, "norm of stem, shortcuts and head: they add 0.002 to J, as the file says"),
    ("logits of a trace", "logits", trace, "largest change of a logit; 0 predictions flip"),
)  # fmt: skip

GAP = rows(
    "gap",
    (
        "a gap", "lower_bound", minimum,
        "every control costs at least ...; this file is ...% of its objective above that; no more is known of other minima",
    ),
    (
        "no gap of trained ends", "lower_bound", zoo_specimens.a_minimum_with_trained_ends,
        "the bound is for fixed ends; a trained lift or readout moves the samples freely",
    ),
    ("no gap of many samples", "lower_bound", lambda: line(3001, 0), "the matching is meant for 3000 samples; found 3001"),
    ("no gap of overflow", "lower_bound", overflow, "the objective is not finite"),
)  # fmt: skip

SETTLED = "samples stay wrong though the data cost has settled and layers are left over: moving them costs more than it gains, or a better minimum is elsewhere: lower r,"
WEIGHT = " (dJ/du holds h r u: decoupled weight decay ends elsewhere; |g|/(h r) = 1)"
DIAGNOSIS = rows(
    "diagnosis",
    ("near 1", "p_d_near_one", lambda: bowl(p_d=0.9995), "p_d is so near 1 that the pull towards the minimisers vanishes; lower it, to .9 say"),
    ("near 1/n_c", "p_d_near_uniform", lambda: bowl(p_d=0.501), "p_d is so near 1/n_classes that the classes' minimisers coincide; raise it, to .9"),
    (
        "idle", "r_too_large", zoo_specimens.zero_on_circles,
        "controls hardly move the samples and cost next to nothing: lower r, or start away from u = 0",
    ),
    ("settled", "settled_unfitted", lambda: claimed(*solved(depth=8, r=0.3)), f"{SETTLED} or start anew"),
    ("settled at a small p_d", "settled_unfitted", lambda: claimed(*solved(depth=8, r=0.3, p_d=0.8)), f"{SETTLED} raise p_d, or start anew"),
    ("r = 0", "r_zero", lambda: bowl(r=0.0), "r = 0: controls may grow without bound; give r > 0"),
    ("heavy end", "gamma_too_large", lambda: bowl(beta=1, gamma=51.0), "the terminal cost outweighs all layers: a leaving arc at the end; lower gamma to h N"),
    ("b = 0", "b_zero", bowl, "b = 0 in every layer is invariant under gradient steps: start with b away from 0"),
    (
        "unused", "unused_coordinate", lambda: bowl(width=2),
        "coordinate 1 is unused, and stays so under gradient steps: perturb it; a stationary point inside the others is a"
        " saddle or a smaller network",
    ),
    ("zero layers", "zero_layers", lambda: bowl(block="double"), "layers at exactly zero never leave it: append W = 0 with small random A, b"),
    (
        "stopped on kinks", "kinks", lambda: valley(4.0, -1.0, activation="leaky_relu"),
        "2 pre-activations on kinks, first at layer 0, unit 0: train softplus of growing sharpness instead of relu",
    ),
    ("not finite", "not_finite", overflow, "states or controls overflow: lower h or the controls"),
    ("stopped early", "not_converged", lambda: bowl(b=1.0, r=1.0), f"5e+07 times the tolerance: training stopped early; polish{WEIGHT}"),
    (
        "stopped early, too large to polish", "not_converged", lambda: bowl(b=1.0, r=1.0, width=85),
        f"5e+07 times the tolerance: training stopped early; train on{WEIGHT}",
    ),
    (
        "stopped by rounding", "not_converged", lambda: dataclasses.replace(bowl(b=1.0, r=1.0), float32=("A",)),
        f"stored in single precision: export float64, then polish{WEIGHT}",
    ),
    ("vanishing", "vanishing", lambda: chain(-2.0), "costates vanish towards the first layers: they cannot learn; lower h or |A|"),
    ("exploding", "exploding", lambda: chain(2e3), "costates explode towards the first layers; lower h or |A|, raise r"),
    ("saturated", "saturated", lambda: bowl(b=20.0), "share of activations on their flat part: scale the inputs or the start down"),
    ("too shallow", "depth_too_small", minimum, "no turnpike is reached in 4 layers, 1 samples are wrong at the end: grow the depth"),
    ("one laggard", "laggards", lambda: line(4, 1), "samples not settled at the last layer: 0; look at their labels"),
    (
        "many laggards", "laggards", lambda: line(20, 9),
        "samples not settled at the last layer: 8, 7, 6, 5, 4, 3, 2, 1 and 1 more; look at their labels",
    ),
    ("well", "none", zoo_specimens.a_minimum_with_three_classes, "no known failure signature"),
)  # fmt: skip

NO_STATES = "a stage trace holds no states, costates or derivatives"
TRACES = [
    row
    for check in (
        "first_order",
        "second_order",
        "gap",
        "reachability",
        "diagnosis",
        "global_minimum",
    )
    for row in rows(check, (f"{check} of a trace", "", trace, NO_STATES))
]

ROWS = [*GEOMETRY, *REACHABILITY, *DEPTH, *GAP, *DIAGNOSIS, *TRACES]
