"""The estimator: scikit-learn's own conformance tests, and what it adds to them."""

import json
import pickle

import numpy as np
import pytest
import torch

sklearn = pytest.importorskip("sklearn")
from sklearn.datasets import load_digits, make_classification  # noqa: E402
from sklearn.model_selection import GridSearchCV, train_test_split  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import MinMaxScaler  # noqa: E402
from sklearn.utils.estimator_checks import parametrize_with_checks  # noqa: E402

from nn_baseline import TurnpikeClassifier  # noqa: E402
from ocp import files  # noqa: E402

torch.set_num_threads(1)
QUICK = {"phase_epochs": 30, "final_epochs": 40, "lr": 0.01, "deepest": 2, "random_state": 0}


def quick(**given):
    return TurnpikeClassifier(**QUICK | given)


@parametrize_with_checks([quick()], expected_failed_checks=lambda estimator: {})
def test_the_rules_of_scikit_learn_hold(estimator, check):
    check(estimator)


@pytest.fixture(scope="module")
def digits():
    X, y = load_digits(return_X_y=True)
    return train_test_split(X, y, random_state=0)


@pytest.fixture(scope="module")
def fitted(digits):
    return quick(phase_epochs=10, final_epochs=20).fit(digits[0], digits[2])


def test_digits_are_learnt_and_what_was_found_is_said(fitted, digits):
    assert fitted.score(digits[1], digits[3]) > 0.93
    depths = [row["depth"] for row in fitted.depth_curve_]
    assert depths == [1, 2] and fitted.depth_ in depths
    assert fitted.network_.depth == fitted.depth_ and fitted.network_.width == 64
    assert len(fitted.gain_) == len(fitted.history_) == 1
    assert fitted.gain_[0] == fitted.history_[0]["idle"] - fitted.history_[0]["objective"]
    assert (
        "on validation data" in fitted.diagnosis_ or "the most that were tried" in fitted.diagnosis_
    )
    assert json.loads(json.dumps(fitted.depth_curve_)) == fitted.depth_curve_
    axes = fitted.plot_depth()
    assert axes.get_xlabel() == "layers"


def test_the_network_takes_the_inputs_as_they_are_and_says_what_it_is(fitted, digits):
    plain = fitted.network_.to_torch(torch.float64)
    z = plain(torch.tensor(digits[1])).detach().numpy()
    assert np.array_equal(z.argmax(axis=1), fitted.predict(digits[1]))
    assert np.allclose(fitted.network_.logits(digits[1]), z, atol=1e-12)
    assert repr(fitted.network_).startswith(f"Deployed(depth={fitted.depth_}, width=64, inputs=64")
    with pytest.raises(ValueError, match=r"wanted \(samples, 64\)"):
        fitted.network_(np.zeros((3, 5)))


def test_equal_seeds_give_equal_networks(digits):
    few = digits[0][:200], digits[2][:200]
    one, two, other = (quick(random_state=s).fit(*few) for s in (0, 0, 1))
    z = [c.network_.logits(digits[1]) for c in (one, two, other)]
    assert np.array_equal(z[0], z[1]) and not np.array_equal(z[0], z[2])


def test_class_names_of_any_kind_and_tables_with_column_names(digits):
    pandas = pytest.importorskip("pandas")
    X, names = digits[0][:200], np.array(["zero or more", "one or more"])[digits[2][:200] % 2]
    table = pandas.DataFrame(X, columns=[f"pixel {i}" for i in range(64)])
    found = quick().fit(table, pandas.Series(names))
    assert list(found.classes_) == ["one or more", "zero or more"]
    assert set(found.predict(table)) <= set(names)
    assert list(found.feature_names_in_) == list(table.columns)
    assert list(found.network_.classes) == list(found.classes_)
    with pytest.raises(ValueError, match="feature names"):
        found.predict(table[list(table.columns)[::-1]])


def test_bytes_are_scaled_and_floats_of_the_same_values_are_predicted_alike(digits):
    X = digits[0][:200].astype(np.uint8)
    found = quick().fit(X, digits[2][:200])
    assert np.array_equal(found.predict(X), found.predict(X.astype(float)))


def test_numbers_of_any_kind_are_the_same_numbers(digits):
    """A list, float32 and integers are read as float64; bytes alone stay bytes."""
    X, y = digits[0][:100], digits[2][:100]
    wanted = quick().fit(X, y).network_.logits(X)
    for other in (X.tolist(), X.astype(np.float32), X.astype(np.int32)):
        assert np.array_equal(quick().fit(other, y).network_.logits(X), wanted)


def test_it_works_in_pipelines_and_grids(digits):
    X, y = digits[0][:300], digits[2][:300]
    chain = make_pipeline(MinMaxScaler(), quick())
    grid = GridSearchCV(chain, {"turnpikeclassifier__r": [1e-4, 1.0]}, cv=2).fit(X, y)
    assert grid.best_params_ == {"turnpikeclassifier__r": 1e-4}
    assert grid.score(digits[1], digits[3]) > 0.7


@pytest.mark.slow
def test_processes_find_what_one_finds(digits):
    X, y = digits[0][:200], digits[2][:200]
    found = [GridSearchCV(quick(), {"r": [1e-4, 1.0]}, cv=2, n_jobs=n).fit(X, y) for n in (None, 2)]
    assert np.array_equal(*(g.cv_results_["mean_test_score"] for g in found))


def test_lbfgs_trains_on_the_whole_set_and_refuses_batches(digits):
    X, y = digits[0][:200], digits[2][:200]
    given = {"optimizer": "lbfgs", "lr": None, "phase_epochs": 2, "final_epochs": 2}
    assert quick(**given).fit(X, y).score(digits[1], digits[3]) > 0.8
    with pytest.raises(ValueError, match="wanted 0, the whole set"):
        quick(**given | {"batch_size": 10}).fit(X, y)


def test_softness_is_undone_exactly():
    from nn_baseline.classifier import undone

    rng = np.random.default_rng(0)
    for n_classes, p_d in ((2, 0.9), (10, 0.9), (3, 0.5), (4, 1.0)):
        p = rng.dirichlet(np.ones(n_classes), 50)
        eps = (1 - p_d) / (n_classes - 1)
        soft = p * p_d + (1 - p) * eps  # the mean of the soft targets under p
        assert np.allclose(undone(soft, p_d), p, atol=1e-12)
    # beyond what soft targets can mean: cut, and still probabilities
    assert np.allclose(undone(np.array([[0.99, 0.01]]), 0.9), [[1.0, 0.0]])


def test_probabilities_are_calibrated_and_those_with_softness_are_not():
    """Classes are drawn with a probability that is known."""
    rng = np.random.default_rng(0)
    X = rng.uniform(-3, 3, (4000, 1))
    p = 1 / (1 + np.exp(-2 * X[:, 0]))
    y = (rng.random(4000) < p).astype(int)
    found = quick(phase_epochs=3, final_epochs=20, p_d=0.8, width=8).fit(X, y)
    calibrated = found.predict_proba(X)[:, 1]
    z = found.network_.logits(X)
    raw = 1 / (1 + np.exp(z[:, 0] - z[:, 1]))
    # the standard error of a frequency of 400 samples is 0.025 at most
    assert np.abs(calibrated - p).mean() < 0.03
    assert np.abs(raw - p).mean() > 0.1
    for low in np.linspace(0, 0.9, 10):
        here = (calibrated >= low) & (calibrated < low + 0.1)
        if here.sum() > 100:
            assert abs(y[here].mean() - calibrated[here].mean()) < 0.1


def test_a_pickle_carries_no_samples(fitted, digits):
    copy = pickle.loads(pickle.dumps(fitted))
    assert np.array_equal(copy.predict_proba(digits[1]), fitted.predict_proba(digits[1]))
    assert len(pickle.dumps(fitted)) < digits[0].nbytes / 4
    with pytest.raises(ValueError, match="carries no samples"):
        copy.save_training("nowhere.safetensors")


def test_the_judge_reads_its_training_file_and_finds_its_objective(fitted, tmp_path):
    from verification import verify

    path = tmp_path / "training.safetensors"
    fitted.save_training(path)
    report = verify(path, only=["statement"])
    assert bool(report.exit_code == 0)
    assert files.load(path).problem.depth == fitted.depth_


def test_a_validation_set_of_ones_own_decides(digits):
    X, y = digits[0][:200], digits[2][:200]
    found = quick().fit(X, y, validation=(digits[1], digits[3]))
    right = found.network_.predict(digits[1]) == digits[3]
    assert found.validation_score_ == right.mean()
    with pytest.raises(ValueError, match="the class 11, which y does not have"):
        quick().fit(X, y, validation=(digits[1][:2], [11, 1]))
    with pytest.raises(ValueError, match="wanted 64 columns"):
        quick().fit(X, y, validation=(digits[1][:, :3], digits[3]))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"validation_fraction": 1.5}, "wanted between 0 and 1"),
        ({"p_d": 0.1}, "p_d"),
        ({"activation": "swish"}, "activation"),
        ({"append": "copies"}, "append"),
        ({"device": "cuda:99"}, "device"),
        ({"deepest": 0}, "deepest"),
    ],
)
def test_what_makes_no_sense_is_refused_in_a_sentence(given, message):
    X, y = make_classification(40, random_state=0)
    with pytest.raises(ValueError, match=message):
        quick(**given).fit(X, y)
