"""The statement refuses what it does not mean, with one sentence; descriptions round-trip."""

import copy
import dataclasses
import math
import pickle

import numpy as np
import pytest
from problems import blobs, random_problem, spirals

from ocp import datasets, description, loss
from ocp.controls import random_start
from ocp.evaluation.rollout import gradient
from ocp.problem import SCHEMES, Problem

GOOD = {
    "inputs": np.array([[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]),
    "labels": np.array([0, 1, 1]),
    "n_classes": 2,
}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"activation": "sine"}, "activation is 'sine'; wanted one of tanh"),
        ({"scheme": "midpoint"}, "scheme is 'midpoint'; wanted one of euler, heun, rk4"),
        ({"block": "triple"}, "block is 'triple'; wanted one of single, double"),
        ({"p_d": 0.5}, "p_d is 0.5; wanted 1/n_classes = 0.5 < p_d <= 1"),
        ({"p_d": 1.01}, "p_d is 1.01"),
        ({"p_d": math.nan}, "p_d is nan; wanted a finite number"),
        ({"p_d": "0.9"}, "p_d is '0.9'; wanted a number"),
        ({"h": 0.0}, "h is 0.0; wanted a number above 0"),
        ({"h": -0.5}, "h is -0.5; wanted a number above 0"),
        ({"h": math.inf}, "h is inf; wanted a finite number"),
        ({"depth": 0}, "depth is 0; wanted an integer of at least 1"),
        ({"depth": True}, "depth is True; wanted an integer"),
        ({"depth": 2.0}, "depth is 2.0; wanted an integer"),
        ({"width": 1}, "width is 1 but inputs have 2 coordinates"),
        ({"r": -1e-3}, "r is -0.001; wanted a number of at least 0"),
        ({"gamma": -1.0}, "gamma is -1.0; wanted a number of at least 0"),
        ({"beta": 0, "gamma": 0.0}, "beta and gamma are both 0"),
        ({"beta": 0.5}, "beta is 0.5; wanted 0 or 1"),
        ({"beta": True}, "beta is True; wanted 0 or 1"),
        ({"n_classes": 1}, "n_classes is 1; wanted an integer of at least 2"),
        ({"labels": np.array([0, 1, 2])}, "labels[2] is 2; wanted a class in 0..1"),
        ({"labels": np.array([0, -1, 1])}, "labels[1] is -1; wanted a class in 0..1"),
        ({"labels": np.array([0.0, 1.0, 1.0])}, "labels have type float64; wanted integers"),
        ({"labels": np.array([True, False, True])}, "labels have type bool; wanted integers"),
        ({"labels": np.array([1, 1, 1])}, "all labels are 1; wanted samples of at least two"),
        ({"labels": np.array([0, 1])}, "labels have shape (2,); wanted (3,)"),
        ({"inputs": np.array([[0, 1], [np.nan, 0], [1, 1]])}, "inputs[1, 0] is nan"),
        ({"inputs": np.array([[0, 1], [np.inf, 0], [1, 1]])}, "inputs[1, 0] is inf"),
        ({"inputs": np.zeros((3, 0))}, "inputs have shape (3, 0)"),
        ({"inputs": np.array([["a"], ["b"], ["c"]])}, "inputs have type <U1; wanted numbers"),
        ({"input_scale": 2.0}, "input_scale and input_shift are given with inputs of type float64"),
        ({"trained": ("readout",)}, "wanted a subset of ['layers', 'lift', 'readout']"),
        ({"trained": ("layers", "all")}, "wanted a subset of"),
        ({"r_ends": 0.1}, "neither lift nor readout is trained; wanted 0"),
        ({"shifted": True}, "shifted is true for activation 'tanh'"),
        ({"sharpness": 2.0}, "wanted 1 (only softplus has a sharpness)"),
        ({"readout_weight": np.eye(3)}, "readout_weight has shape (3, 3); wanted (2, 3)"),
        ({"lift_bias": np.array([0, np.nan, 0])}, "lift_bias[1] is nan"),
    ],
)
def test_bad_statements_are_refused_with_one_sentence(changes, sentence):
    with pytest.raises(ValueError) as error:
        Problem(**{**GOOD, **changes})
    assert sentence in str(error.value)
    assert "\n" not in str(error.value)


def test_defaults_are_those_of_the_contract():
    problem = Problem(**GOOD)
    assert (problem.width, problem.depth, problem.h, problem.p_d) == (3, 20, 0.5, 0.9)
    assert (problem.r, problem.gamma, problem.beta) == (1e-3, 1.0, 1)
    assert (problem.scheme, problem.block, problem.activation) == ("euler", "single", "tanh")
    assert np.array_equal(problem.lift_weight, np.eye(3, 2))
    assert np.array_equal(problem.readout_weight, np.eye(2, 3))
    assert Problem(**GOOD, activation="softplus").shifted is True


def test_the_arrays_of_a_problem_cannot_be_changed_behind_its_back():
    inputs = GOOD["inputs"].copy()
    problem = Problem(**{**GOOD, "inputs": inputs})
    inputs[0, 0] = 7.0
    assert problem.inputs[0, 0] == 0.0
    with pytest.raises(ValueError):
        problem.inputs[0, 0] = 7.0


def test_a_class_may_be_absent():
    assert Problem(**{**GOOD, "n_classes": 4}).n_classes == 4


def test_bytes_are_scaled():
    raw = np.array([[0, 255], [255, 0], [51, 51]], dtype=np.uint8)
    problem = Problem(**{**GOOD, "inputs": raw, "input_scale": 1 / 255, "input_shift": -0.5})
    assert np.allclose(problem.input_values[2], 0.2 - 0.5)


def test_the_soft_targets_are_computed_once_and_copies_compute_their_own(monkeypatch):
    computed, soft_target = [], loss.soft_target
    monkeypatch.setattr(loss, "soft_target", lambda *a: computed.append(a) or soft_target(*a))
    problem = blobs(depth=4, scheme="rk4")
    gradient(problem, random_start(problem, np.random.default_rng(0)))
    assert len(computed) == 1
    q = problem.soft_targets
    assert q is problem.soft_targets
    eps = loss.off_target(3, problem.p_d)
    assert q[0].tolist() == [problem.p_d, eps, eps] and q.sum(axis=1) == pytest.approx(1.0)
    with pytest.raises(ValueError, match="read-only"):
        q[0, 0] = 0.0
    other = problem.with_(p_d=0.5)
    assert other.soft_targets[0, 0] == 0.5
    for same in (copy.copy(problem), pickle.loads(pickle.dumps(problem)), problem.with_()):
        assert same.soft_targets is not q and np.array_equal(same.soft_targets, q)
    assert "soft_targets" not in {field.name.strip("_") for field in dataclasses.fields(problem)}


def test_equal_inputs_with_different_labels_are_a_warning_that_names_them():
    inputs = np.array([[0.0, 1.0], [1.0, 0.0], [0.0, 1.0]])
    problem = Problem(inputs=inputs, labels=np.array([0, 1, 1]), n_classes=2)
    (caution,) = problem.cautions()
    assert "samples 0 and 2 have equal lifted inputs and different labels" in caution
    assert spirals().cautions() == ()


def test_what_limits_the_conclusions_is_said():
    assert "hard cross-entropy" in spirals(p_d=1.0).cautions()[0]
    unshifted = spirals(activation="sigmoid", shifted=False)
    assert "no equilibrium" in unshifted.cautions()[0]
    narrow = blobs(n_classes=3, width=3, readout_weight=np.ones((3, 3)))
    assert "rank 0" in narrow.cautions()[0]


@pytest.mark.parametrize("suffix", [".toml", ".json"])
def test_a_description_round_trips_bit_for_bit(tmp_path, suffix):
    rng = np.random.default_rng(5)
    for scheme in SCHEMES:
        for activation in ("tanh", "softplus"):
            problem = random_problem(rng, scheme, activation)
            description.save(tmp_path / f"p{suffix}", problem)
            back = description.load(tmp_path / f"p{suffix}")
            for name in Problem.__slots__:
                one, two = getattr(problem, name), getattr(back, name)
                assert np.array_equal(one, two), name


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("[problem]\ndepht = 3", "unknown key 'depht' in section 'problem'"),
        ("[data]\nname = 'spiral'", "unknown dataset 'spiral'; wanted one of spirals"),
        ("[data]\nname = 'spirals'\npoints = 3", "unknown key 'points' for dataset 'spirals'"),
        ("[data]\nname = 'spirals'\npoints_per_class = 0", "points_per_class is 0"),
        ("[data]\nname = 'spirals'\nfile = 'a.csv'", "wanted one of name, file, inputs"),
        ("[solver]\nname = 'x'", "unknown section 'solver'"),
        ("[problem\n", "Expected ']'"),
        ("problem = 3", "section 'problem' is 3; wanted a table"),
        ("[readout]\nweights = [[1]]", "unknown key 'weights' in section 'readout'"),
        ("[data]\ninputs = [[1.0], [1.0, 2.0]]\nlabels = [0, 1]", "rows of different lengths"),
    ],
)
def test_bad_descriptions_are_refused(tmp_path, text, sentence):
    path = tmp_path / "p.toml"
    path.write_text(text)
    with pytest.raises(ValueError) as error:
        description.load(path)
    assert sentence in str(error.value)


def test_json_refuses_duplicate_keys_and_nan(tmp_path):
    with pytest.raises(ValueError, match="twice"):
        description.loads_json('{"a": 1, "a": 2}')
    with pytest.raises(ValueError, match="NaN"):
        description.loads_json('{"a": NaN}')


def test_the_users_csv_and_npz_are_read(tmp_path):
    (tmp_path / "a.csv").write_text("x,y,label\n0.0,1.0,0\n1.0,0.0,1\n")
    (tmp_path / "p.toml").write_text("[data]\nfile = 'a.csv'\n[problem]\ndepth = 2")
    problem = description.load(tmp_path / "p.toml")
    assert problem.inputs.tolist() == [[0.0, 1.0], [1.0, 0.0]]
    np.savez(tmp_path / "a.npz", inputs=problem.inputs, labels=problem.labels)
    (tmp_path / "p.toml").write_text("[data]\nfile = 'a.npz'")
    assert np.array_equal(description.load(tmp_path / "p.toml").labels, [0, 1])
    (tmp_path / "a.csv").write_text("0.0,1.0,0\n1.0,zero,1\n")
    (tmp_path / "p.toml").write_text("[data]\nfile = 'a.csv'")
    with pytest.raises(ValueError, match="line 2, column 2: found 'zero'; wanted a number"):
        description.load(tmp_path / "p.toml")
    np.savez(tmp_path / "a.npz", inputs=np.array([{}]), labels=np.array([0]))
    (tmp_path / "p.toml").write_text("[data]\nfile = 'a.npz'")
    with pytest.raises(ValueError, match="no plain NumPy file"):
        description.load(tmp_path / "p.toml")


def test_the_spirals_are_the_classic_ones():
    inputs, labels = datasets.spirals()
    assert inputs.shape == (194, 2)
    assert np.array_equal(labels, np.repeat([0, 1], 97))
    for i in (0, 1, 50, 96):
        angle, radius = i * math.pi / 16, 6.5 * (104 - i) / 104
        point = np.array([radius * math.sin(angle), radius * math.cos(angle)]) / 6.5
        assert np.allclose(inputs[i], point, atol=1e-15)
        assert np.array_equal(inputs[97 + i], -inputs[i])
    few, _ = datasets.spirals(4)
    assert np.array_equal(few[:4], inputs[[0, 32, 64, 96]])
    many, _ = datasets.spirals(193)
    assert np.allclose(many[:193:2], inputs[:97], atol=1e-14)


@pytest.mark.parametrize("name", ["circles", "blobs", "moons", "xor"])
def test_generated_data_are_reproducible_and_balanced_as_asked(name):
    generate = datasets.GENERATORS[name]
    inputs, labels = generate(60, noise=0.1, imbalance=0.5, seed=3)
    again, _ = generate(60, noise=0.1, imbalance=0.5, seed=3)
    other, _ = generate(60, noise=0.1, imbalance=0.5, seed=4)
    assert np.array_equal(inputs, again)
    assert not np.array_equal(inputs, other)
    counts = np.bincount(labels)
    assert counts.sum() == 60
    assert (np.diff(counts) < 0).all()
    with pytest.raises(ValueError, match="imbalance is 1"):
        generate(60, imbalance=1.0)
