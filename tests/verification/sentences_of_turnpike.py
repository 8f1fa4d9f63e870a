# ruff: noqa: E501 (a table)
"""What the checks dissipativity and turnpike say of one file, and turnpike of several depths."""

import numpy as np
from grown import grown
from sentences import rows
from small_minima import small
from steered import REST, course, steered, traced

from ocp.controls import zeros
from ocp.datasets import blobs
from ocp.files import TrainingFile

WELL = REST - 1.0
THREE = "wanted three or more, the largest at least twice the smallest"
NO_GRADIENT = "a stage trace has no gradient: nothing tells a solution from any other network"


def still(**changes) -> TrainingFile:
    problem = small(**changes)
    return TrainingFile(problem=problem, controls=zeros(problem))


def three(**changes) -> TrainingFile:
    inputs, labels = blobs(n_samples=9, n_classes=3)
    return still(inputs=inputs, labels=labels, n_classes=3, **changes)


def softplus(depth=4) -> TrainingFile:
    return still(activation="softplus", shifted=False, depth=depth)


def hard(depth=4) -> TrainingFile:
    return still(p_d=1.0, depth=depth)


def rank_one() -> TrainingFile:
    return three(readout_weight=np.array([[1.0, 0.0], [-0.5, 0.0], [-0.5, 0.0]]))


def overflow():
    return traced(np.ones((3, 2)), 1e200)


def rests(depth=4, **changes) -> TrainingFile:
    """Two samples a little beyond rest in every layer."""
    return steered(np.full((depth + 1, 2), REST + 1.0), **({"h": 0.5} | changes))


def approach(costs):
    return lambda: traced(course(costs))


def depths(make, *which):
    return lambda: [make(depth) for depth in which]


def trained_with(key, value):
    return lambda: [still(), still(depth=6), still(depth=8, **{key: value})]


EXPONENTIAL = np.exp(-np.append(np.arange(9.0), [8.0] * 3))
UNEVEN = np.exp(-np.append(np.arange(9.0) - 3 * (np.arange(9) % 2), [8.0] * 3))
HARD = "p_d = 1: the infimum of hard cross-entropy is not attained"
NO_REST = "softplus unshifted is not 0 at 0: u = 0 is no equilibrium"
OVERFLOW = "the states are not finite"

DISSIPATIVITY = rows(
    "dissipativity",
    ("dissipative: two classes", "alpha", rests, "g - g* >= alpha(s) = log(p + (1-p) e^(-sqrt2 s)) + (1-p) sqrt2 s, s the distance of the centred logits; measured: curvature of alpha at 0; least target entry 0.1"),
    ("dissipative: three classes", "alpha", three, "g - g* >= alpha(s) = (eps/rho) phi(sqrt(rho) s), s the distance of the centred logits; measured: curvature of alpha at 0; least target entry 0.05"),
    ("dissipative: a trajectory", "trajectory", lambda: steered(np.full((4, 2), WELL)), "least slack 0.0239 over 6 (layer, sample) pairs (measured: minus its lower end)"),
    ("dissipative: a trace", "trajectory", lambda: traced(np.full((4, 2), WELL)), "least slack over 8 (layer, sample) pairs (measured: minus it); in float64, no proof: a stage trace does not hold the data that its logits come from"),
    ("dissipative: alpha of a trace", "alpha", lambda: traced(np.full((4, 2), WELL)), "g - g* >= alpha(s) = ...; measured: curvature of alpha at 0; least target entry 0.1; no proof: a stage trace does not hold the data that its logits come from"),
    ("dissipative: rank deficient", "trajectory", rank_one, "least slack ... over 36 (layer, sample) pairs (measured: minus it; bound: rounding); in float64, no proof: the minimisers behind a rank-deficient readout are found by minimisation in float64"),
    ("dissipative: nothing to sample", "sampled", lambda: still(readout_weight=np.ones((2, 2))), "a readout of rank 0 moves no logit: none is sampled"),
    ("dissipative: a sample", "sampled", rests, "least slack relative to rounding over 466913 logit vectors, seed 271828, random and adversarial directions, distances 1e-4 to 1e3; in float64, no proof: a test of alpha on samples"),
    ("dissipative: not certified", "certified", rests, "asked for with --certify"),
    ("dissipative: a certificate of another target", "certified", rank_one, "the certified form is that of the plain soft target", {"certify": True}),
    ("dissipative: hard targets", "sampled", hard, HARD),
    ("dissipative: standard training", "sampled", lambda: still(beta=0), "beta = 0: the layers carry no data cost"),
    ("dissipative: no equilibrium", "sampled", softplus, NO_REST),
    ("dissipative: overflow", "", overflow, OVERFLOW),
)  # fmt: skip

TURNPIKE = rows(
    "turnpike",
    ("turnpike: no equilibrium", "counts", softplus, NO_REST),
    ("turnpike: overflow", "one_file", overflow, OVERFLOW),
    ("turnpike: standard training", "counts", lambda: still(beta=0), "beta = 0: the layers carry no data cost, nothing bounds these counts"),
    ("turnpike: hard targets", "tube", hard, HARD),
    ("turnpike: a tube", "tube_1/2", rests, "layers outside the tube of radius 0.777 (logits), mean over samples; bound J'/(w_1 h alpha(e)), trivial bound 4"),
    ("turnpike: the wrong", "misclassified", rests, "(sample, layer) pairs classified wrong; bound n_d J/(w_1 h g_mis), g_mis = 0.36806, trivial bound 8"),
    ("turnpike: a bound that is all but met", "misclassified", lambda: steered(np.tile([0.0, 2000.0], (4, 1)), p_d=1.0, h=0.5), "undecided, the enclosures overlap by ...: ..."),
    ("turnpike: a level of a trace", "level_1/2", approach([0.1, 1e-4, 1e-4, 1e-4]), "layers with l_k - l* > 0.184 = 1/2 g_mis; bound J'/(h eta), trivial bound 3; in float64, no proof: a stage trace does not hold the data that its logits come from"),
    ("turnpike: a level", "level_1/8", rests, "layers with l_k - l* > 0.046 = 1/8 g_mis; bound J'/(h eta), trivial bound 4"),
    ("turnpike: entered", "one_file", approach(EXPONENTIAL), "observed from layer 8 of 11: the data cost stays within 10 % of its final 0.0003355; one file proves no turnpike, give three depths"),
    ("turnpike: not entered", "one_file", approach([3.0, 2.0, 1.0]), "no turnpike is seen: the data cost still changes in the last layer of 2"),
    ("turnpike: an arc", "leaving", approach([2.0, 1.0, 1.0, 1.05]), "rise of the data cost from its least value after the entry to the last layer"),
    ("turnpike: no arc before the entry", "leaving", approach([3.0, 2.0, 1.0]), "the turnpike is not entered"),
    ("turnpike: no arc to hard targets", "leaving", hard, HARD),
    ("turnpike: a rate", "rate", approach(EXPONENTIAL), "exponential rate of approach of F - l* by layer, 95 % interval [1, 1], fitted on even layers; on the odd ones the logarithm errs by ... of 6"),
    ("turnpike: no rate", "rate", approach(UNEVEN), "exponential rate of approach of F - l* by layer, 95 % interval [1, 1], fitted on even layers; on the odd ones the logarithm errs by 3 of 6: not an exponential approach"),
    ("turnpike: too few layers for a rate", "rate", approach([1.0, 0.1, 0.1]), "too few layers before the entry for a fit and a judgement"),
    ("turnpike: no rate to hard targets", "rate", hard, HARD),
    ("depths: another r", "across_depths", trained_with("r", 0.5), "file 2 and file 0 differ in r, not only in depth"),
    ("depths: another lift", "across_depths", trained_with("lift_bias", np.ones(2)), "file 2 and file 0 differ in lift_bias, not only in depth"),
    ("depths: too close", "across_depths", depths(rests, 6, 4, 7), "depths 4, 6, 7; wanted three or more, the largest at least twice the smallest"),
    ("depths: hard targets", "across_depths", depths(hard, 4, 6, 8), HARD),
    ("depths: no equilibrium", "across_depths", depths(softplus, 4, 6, 8), "u = 0 is no equilibrium"),
    ("depths: bounded", "across_depths", lambda: grown(1), "growth of the layers outside the tube 1/2, mean over samples: ... (N = 6), ... (N = 9), ... (N = 12)"),
    ("depths: few layers between", "across_depths", lambda: grown(1, (2, 3, 4)), "only 2 layers lie between the depths: one layer more is no small share; growth of ..."),
    (
        "depths: traces", "across_depths", depths(lambda N: traced(np.full((N + 1, 2), REST)), 4, 6, 8),
        f"of solutions there are depths none; {THREE}; not counted: file 0 ({NO_GRADIENT}), file 1 ({NO_GRADIENT}), file 2 ({NO_GRADIENT})",
    ),
    (
        "depths: unfinished", "across_depths", lambda: [*grown(1)[:2], still(depth=12, r=1e-3)],
        f"of solutions there are depths 6, 9; {THREE}; not counted: file 2 (first_order.gradient failed)",
    ),
    (
        "depths: copies", "across_depths", lambda: [*grown(1)[:2], grown(1)[0], grown(1)[2]],
        "growth of the layers outside the tube 1/2, mean over samples: ... (N = 6), ... (N = 9), ... (N = 12); not counted: file 2 (the leading layers of file 0)",
    ),
    ("depths: counts of all", "outside", depths(rests, 4, 6), "layers outside the tube 1/2 of every file, solution or not, mean over samples: 0.00 (N = 4), 0.00 (N = 6)"),
    ("depths: values", "values", depths(lambda N: rests(N, gamma=1.0), 6, 4), "objectives by depth, upper bounds of V_N: 0.1... (N = 4), 0.1... (N = 6)"),
    ("depths: idle layers after another file", "not_optimal", lambda: [rests(4), rests(6, spare=9.0, r=0.0), rests(7)], "no file is refuted by appending to or cropping another one"),
    ("depths: appended to", "not_optimal", lambda: [rests(4, r=1.0), rests(7, r=1.0, spare=9.0)], "not globally optimal: 3 idle layers after file 0 costs less at the same depth; restart from there"),
    ("depths: cropped", "not_optimal", lambda: [rests(4, r=1.0, spare=9.0), rests(7, r=1.0)], "not globally optimal: the first 4 layers of file 1 costs less at the same depth; restart from there"),
    ("depths: a trace appended to", "not_optimal", lambda: [traced(np.full((4, 2), REST)), traced(np.full((6, 2), REST - 3))], "not optimal if both files are what they say and their ends cost the same: 2 idle layers after file 0 costs less at the same depth; restart from there; no proof: a stage trace does not hold the data that its logits come from"),
    ("depths: as it is", "not_optimal", lambda: [rests(4, r=1.0, spare=9.0), rests(4, r=1.0)], "not globally optimal: the controls of file 1 costs less at the same depth; restart from there"),
)  # fmt: skip

ROWS = [*DISSIPATIVITY, *TURNPIKE]
