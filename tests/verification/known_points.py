"""Kinds of points: stationary ones of every curvature, tails, nudges, kinks and ties."""

from __future__ import annotations

import dataclasses

import known_minima
import numpy as np
import oracle
import oracle_digits
from known_files import Case, base_of, claimed, kind, random_controls, solved
from truth import TOLERANCE, Facts, on_kinks

from ocp.problem import Problem

# stationary points


@kind
def minimum(index: int) -> Case | None:
    found = solved(index)
    return found and Case(content=claimed(*found[:2]), facts=found[2])


@kind
def soft_nudge(index: int) -> Case | None:
    """Along the least curvature, gradient .3 of the tolerance: still within any distance."""
    found = solved(index)
    if found is None:
        return None
    problem, u, facts = found
    values, vectors = np.linalg.eigh(oracle.derivatives(problem, u)[2])
    j = int(np.argmax(values > 1e-7 * values[-1]))
    step = vectors[:, j] / np.abs(vectors[:, j]).max()
    u = u + 0.3 * TOLERANCE / values[j] * step
    return Case(content=claimed(problem, u), facts=facts)


@kind
def stiff_nudge(index: int) -> Case | None:
    """Along the largest curvature, gradient thirty tolerances: it fails."""
    found = solved(index)
    if found is None:
        return None
    problem, u, facts = found
    values, vectors = np.linalg.eigh(oracle.derivatives(problem, u)[2])
    step = vectors[:, -1] / np.abs(vectors[:, -1]).max()
    u = u + 30 * TOLERANCE / values[-1] * step
    return Case(content=claimed(problem, u), facts=dataclasses.replace(facts, near=None))


@kind
def far_along_the_valley(index: int) -> Case | None:
    """Along the least curvature until the gradient is three tolerances."""
    found = solved(index)
    if found is None:
        return None
    problem, u, facts = found
    values, vectors = np.linalg.eigh(oracle.derivatives(problem, u)[2])
    j = int(np.argmax(values > 1e-7 * values[-1]))
    step = vectors[:, j] / np.abs(vectors[:, j]).max()
    u = u + 3 * TOLERANCE / values[j] * step
    return Case(content=claimed(problem, u), facts=dataclasses.replace(facts, near=None))


@kind
def embedded(index: int) -> Case | None:
    """A minimum in a state space with an unused coordinate: saddle or minimum, on kinks or not."""
    found = solved(index)
    if found is None or not found[0].sigma.zero_at_zero:
        return None
    problem, u, facts = found
    wide, v, new = known_minima.embed(problem, u)
    if problem.activation in ("relu", "leaky_relu"):
        # descent from such kinks is for the judge to find; none of it may pass
        return Case(content=claimed(wide, v), facts=Facts(near=None))
    H = oracle.derivatives(wide, v)[2]
    least = float(np.linalg.eigvalsh(H[np.ix_(new, new)])[0])
    if abs(least) < 1e-5:
        return None
    if least < 0:
        facts = dataclasses.replace(facts, strict=False, flat=False)
    elif on_kinks(wide, v):
        # mixed second derivatives see sigma' alone, which does not jump: still a minimum
        facts = dataclasses.replace(facts, known_minimum=True)
    return Case(content=claimed(wide, v), facts=dataclasses.replace(facts, best=np.inf))


EIGENVALUES = (-1e-4, -1e-6, -1e-8, -1e-10, -1e-12, -5e-14, 5e-14, 1e-12, 1e-10, 1e-8, 1e-6, 1e-4)


def tuned_near(index: int, eigenvalue: float) -> tuple[Problem, np.ndarray] | None:
    """A tuned embedding of this configuration or of one of the next."""
    tries = (known_minima.degenerate(index + 31 * step, eigenvalue) for step in range(6))
    return next((found for found in tries if found is not None), None)


@kind
def tuned_embedding(index: int) -> Case | None:
    """An unused coordinate whose least eigenvalue is as wanted."""
    eigenvalue = EIGENVALUES[(index * 7 + index // 12) % len(EIGENVALUES)]
    found = tuned_near(index, eigenvalue)
    if found is None:
        return None
    return Case(content=claimed(*found), facts=facts_of(*found, eigenvalue))


@kind
def tuned_embedding_again(index: int) -> Case | None:
    return tuned_embedding(index + len(known_minima.CONFIGURATIONS))


@kind
def nearly_singular(index: int) -> Case | None:
    """The same around the rounding of a Hessian alone."""
    eigenvalue = (-1e-11, -3e-13, -5e-14, 5e-14, 3e-13, 1e-11)[index % 6]
    found = tuned_near(index, eigenvalue)
    if found is None:
        return None
    return Case(content=claimed(*found), facts=facts_of(*found, eigenvalue))


def facts_of(problem: Problem, u: np.ndarray, eigenvalue: float) -> Facts:
    """The sign of the least eigenvalue; from sixty digits where float64 cannot tell."""
    strict = eigenvalue > 0
    if abs(eigenvalue) < 1e-12:
        with oracle_digits.digits():
            strict = oracle_digits.definite(oracle_digits.polish(problem, u)[1])
    return Facts(near=True, strict=strict)


@kind
def zero_of_a_double_block(index: int) -> Case | None:
    """u = 0 is stationary there, and what the data couple makes it a saddle."""
    problem = known_minima.problem_of(index, r=1e-3)
    zero_at_zero = problem.sigma.zero_at_zero
    if problem.block != "double" or problem.trained != ("layers",) or not zero_at_zero:
        return None
    u = np.zeros(known_minima.n_decision(problem))
    saddle = oracle.least_eigenvalue(problem, u)[0] < -1e-4
    if problem.activation in ("relu", "leaky_relu"):
        return Case(content=claimed(problem, u), facts=Facts(near=None))
    return (
        Case(content=claimed(problem, u), facts=Facts(near=True, strict=False)) if saddle else None
    )


# not stationary


@kind
def untrained(index: int) -> Case | None:
    problem, u = random_controls(index)
    assert np.abs(oracle.gradient(problem, u)).max() > 1e-4
    return Case(content=claimed(problem, u), facts=Facts(near=None))


@kind
def tiny_weights(index: int) -> Case | None:
    """J times 1e-12: the gradient passes anywhere, and no stationary point is near."""
    problem = known_minima.problem_of(index, beta=0, gamma=1.0, r=0.1, r_ends=0.0)
    rng = np.random.default_rng([4, index])
    for _ in range(20):
        u = 0.5 * rng.standard_normal(known_minima.n_decision(problem))
        _, g, H = oracle.derivatives(problem, u)
        # |grad| cannot vanish within the distance: its change is at most about |H|_inf times that
        if np.abs(g).max() > 5 * 1e-3 * max(1.0, np.abs(u).max()) * np.abs(H).sum(axis=1).max():
            break
    else:
        return None
    problem = problem.with_(gamma=1e-12, r=1e-13)
    return Case(content=claimed(problem, u), facts=Facts(near=False, strict=False))


@kind
def separated_tail(index: int) -> Case | None:
    """Hard labels, free readout, separated states: J is convex in (C, c) and falls for ever."""
    problem = known_minima.problem_of(index, p_d=1.0, r=0.0, r_ends=0.0, beta=0)
    if "readout" not in problem.trained:
        problem = problem.with_(trained=(*problem.trained, "readout"))
    rng = np.random.default_rng([5, index])
    size = problem.n_classes * (problem.width + 1)
    for _ in range(200):
        u = 0.5 * rng.standard_normal(known_minima.n_decision(problem))
        z = oracle.run(problem, oracle.torch.tensor(u)).logits[-1].numpy()
        labels, ordered = z.argmax(axis=1), np.sort(z, axis=1)
        margin = float((ordered[:, -1] - ordered[:, -2]).min())
        if margin > 0.15 and len(set(labels)) > 1:
            break
    else:
        return None
    problem = problem.with_(labels=labels)
    u[-size:] *= (26.0, 40.0, 120.0)[index % 3] / margin
    if np.abs(oracle.gradient(problem, u)).max() > 0.5 * TOLERANCE:
        return None
    return Case(content=claimed(problem, u), facts=Facts(near=False, strict=False))


@kind
def saturated_tail(index: int) -> Case | None:
    """r = 0 and targets out of reach of bounded layers: J falls along u -> t u for ever."""
    activation = ("tanh", "sigmoid", "softsign")[index % 3]
    scheme = known_minima.CONFIGURATIONS[index % len(known_minima.CONFIGURATIONS)][-1]
    rng = np.random.default_rng([6, index])
    side = np.array([1.0, 1.0, -1.0, -1.0, 1.0])
    inputs = np.stack([0.3 * side, 0.1 * rng.standard_normal(5)], axis=1)
    problem = Problem(
        inputs=inputs, labels=(side < 0).astype(int), n_classes=2, depth=2, width=2, h=0.2,
        activation=activation, scheme=scheme, p_d=0.9, r=0.0, beta=0,
    )  # fmt: skip
    t = {"tanh": 35.0, "sigmoid": 70.0, "softsign": 3e4}[activation]
    t *= (1.0, 2.0, 5.0)[index // 3 % 3]  # up to where the computed slope of tanh is 0
    # both units see the class from its side, in both layers, far from where they would turn
    A, b = np.array([[1.0, 0.1], [-1.0, 0.1]]), 0.01 * rng.standard_normal(2)
    layer = np.concatenate([A.ravel(), b]) * t
    u = np.concatenate([layer, layer])
    with oracle_digits.digits():
        assert oracle_digits.objective(problem, 2 * u) < oracle_digits.objective(problem, u)
    if np.abs(oracle.gradient(problem, u)).max() > 0.5 * TOLERANCE:
        return None
    return Case(content=claimed(problem, u), facts=Facts(near=False, strict=False))


@kind
def hidden_slope(index: int) -> Case | None:
    """States that differ by delta alone, r = 0: J falls by slope delta for a length of 1/delta.

    It is no null direction, though curvature delta^2 there is rounding; a larger slope in b, which
    one Newton step removes, hides it.
    """
    rng = np.random.default_rng([7, index])
    delta = 10.0 ** rng.uniform(-9.2, -8.7)
    side = np.array([1.0, 1.0, -1.0, -1.0])
    activation = ("tanh", "identity", "silu", "gelu")[index % 4]
    problem = Problem(
        inputs=np.stack([0 * side, delta * side], axis=1), labels=(side < 0).astype(int),
        n_classes=2, depth=1, width=2, h=0.5, activation=activation, p_d=0.9, r=0.0, beta=0,
        readout_weight=np.array([[1.0, 0.0], [-1.0, 0.0]]),
    )  # fmt: skip
    u = np.zeros(6)
    u[4] = 0.8 * TOLERANCE / oracle.derivatives(problem, u)[2][4, 4]
    lower = [oracle.objective(problem, u + t * np.eye(6)[1]) for t in (0.0, 1e3, 1e5, 1e6)]
    assert np.all(np.diff(lower) < 0)
    return Case(content=claimed(problem, u), facts=Facts(near=False, strict=False))


@kind
def shuffled_layers(index: int) -> Case | None:
    """The layers of a minimum in another order, and what is then true of them."""
    found = solved(index)
    if found is None or found[0].depth < 2:
        return None
    problem, u, facts = found
    layers = problem.depth * problem.layer_size
    u = np.concatenate([u[:layers].reshape(problem.depth, -1)[::-1].ravel(), u[layers:]])
    return Case(content=claimed(problem, u), facts=Facts(best=facts.best))


@kind
def idle_layer(index: int) -> Case | None:
    """A minimum with a layer of zeros behind it, whatever that is."""
    problem, u, _ = base_of(index)
    layers = problem.depth * problem.layer_size
    u = np.concatenate([u[:layers], np.zeros(problem.layer_size), u[layers:]])
    return Case(content=claimed(problem.with_(depth=problem.depth + 1), u), facts=Facts())


# kinks and ties


@kind
def dead_units(index: int) -> Case | None:
    """Rows of zeros: v = 0 at every sample; for tanh and the like only a nudge."""
    problem, u, facts = base_of(index)
    blocks = [np.zeros(shape) if name in "Ab" else np.ones(shape)
              for name, shape in oracle.shapes(problem)]  # fmt: skip
    for name_block, (name, _) in zip(blocks, oracle.shapes(problem), strict=True):
        if name in "Ab":
            name_block[1:] = 1.0
    u = u * np.concatenate([block.ravel() for block in blocks])
    return Case(content=claimed(problem, u), facts=Facts(near=None, best=facts.best))


@kind
def beside_a_kink(index: int) -> Case | None:
    """relu: in the piece of u the minimum is a corner, u = 0, from which J falls elsewhere.

    Both classes at 0, where only b acts and their slopes cancel exactly; the sample at 1, switched
    off here, gains at first order along a.
    """
    rng = np.random.default_rng([8, index])
    scheme = ("euler", "heun", "rk4")[index % 3]
    c = float(rng.uniform(0.2, 0.9))
    problem = Problem(
        inputs=np.array([[0.0], [0.0], [1.0]]), labels=np.array([0, 1, 0]), n_classes=2, depth=1,
        width=1, h=0.5, scheme=scheme, activation="relu", p_d=0.9, beta=0,
        r=float(10 ** rng.uniform(-3, -1)), readout_weight=np.array([[c], [-c]]),
    )  # fmt: skip
    u = 10 ** rng.uniform(-8.3, -7.7) * np.array([-2.0, 1.0])
    corner = oracle.objective(problem, np.zeros(2))
    assert oracle.objective(problem, np.array([1e-3, 0.0])) < corner - 1e-6
    return Case(content=claimed(problem, u), facts=Facts(strict=False))


@kind
def nothing_to_read(index: int) -> Case | None:
    """C = 0, rank 0: every control costs the same but for r; u = 0 is its minimum if r > 0."""
    problem = known_minima.problem_of(index)
    if "readout" in problem.trained or "lift" in problem.trained:
        return None
    problem = problem.with_(readout_weight=np.zeros_like(problem.readout_weight))
    u = np.zeros(known_minima.n_decision(problem))
    kinked = on_kinks(problem, u)
    facts = Facts(near=True, strict=True, known_minimum=kinked)
    return Case(content=claimed(problem, u), facts=facts)


@kind
def one_place(index: int) -> Case | None:
    """All samples at one place: labels that contradict each other, counts at their bounds."""
    problem = known_minima.problem_of(index, gamma=0.0, beta=1)
    place = np.repeat(problem.input_values[:1], problem.n_samples, axis=0)
    problem = problem.with_(inputs=place)
    u = np.zeros(known_minima.n_decision(problem))
    return Case(content=claimed(problem, u), facts=Facts(near=None))
