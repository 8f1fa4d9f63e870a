"""Training: the right steps, stopped with a reason."""

import numpy as np
import pytest
import torch
from small_trainings import OPTIMIZERS, log, parameters, run, spirals

from nn_baseline import checkpoint
from nn_baseline.options import Options
from nn_baseline.start import samples, start_network
from nn_baseline.training import Status
from ocp import controls, files
from ocp.evaluation import rollout

torch.set_num_threads(1)


@pytest.mark.parametrize("method", OPTIMIZERS, ids=lambda m: m["optimizer"])
def test_every_optimiser_lowers_the_objective(method):
    problem = spirals()
    options = Options(epochs=30, evaluate_every=10, init_scale=0.3, **method)
    start = rollout.objective(problem, start_network(problem, options).controls())
    network, result = run(problem, options)
    assert result.status is Status.FINISHED
    assert result.objectives[-1] < 0.9 * start
    # the reported objective is the statement's
    reference = rollout.objective(problem, network.controls())
    assert result.objectives[-1] == pytest.approx(reference, abs=1e-12)


def test_one_epoch_of_sgd_is_written_out_by_hand():
    problem = spirals(5, r=0.1)
    options = Options(optimizer="sgd", lr=0.2, epochs=3, init_scale=0.3)
    network, _ = run(problem, options)
    u = controls.flatten(start_network(problem, options).controls())
    for _ in range(3):
        u = u - 0.2 * rollout.gradient(problem, controls.unflatten(problem, u))[0]
    assert parameters(network) == pytest.approx(u, abs=1e-13)


def test_coupled_weight_decay_h_r_is_r_and_decoupled_decay_is_not():
    """SGD with weight_decay = h r and r = 0 takes the steps of r in J; AdamW ends elsewhere."""
    with_r, without = spirals(5, r=0.2), spirals(5, r=0.0)
    options = Options(optimizer="sgd", lr=0.2, epochs=5, init_scale=0.3)
    wanted, _ = run(with_r, options)
    network = start_network(without, options)
    decay = with_r.h * with_r.r
    sgd = torch.optim.SGD(network.parameters(), lr=0.2, weight_decay=decay)
    inputs, labels = samples(network)
    for _ in range(5):
        sgd.zero_grad()
        network(inputs, labels).backward()
        sgd.step()
    assert parameters(network) == pytest.approx(parameters(wanted), abs=1e-13)

    base = {"lr": 1e-2, "epochs": 2000, "init_scale": 0.3, "evaluate_every": 0}
    coupled, _ = run(with_r, Options(optimizer="adam", **base))
    decoupled, _ = run(without, Options(optimizer="adamw", decoupled_decay=decay, **base))
    J = [rollout.objective(with_r, net.controls()) for net in (coupled, decoupled)]
    assert J[1] > J[0] + 1e-3


def test_mini_batches_of_an_epoch_average_to_the_objective():
    problem = spirals(8)  # 16 samples in batches of 5: 5, 5 and 6 after balancing
    options = Options(epochs=1, batch_size=6, lr=1e-12, init_scale=0.3)
    network, result = run(problem, options)
    exact = rollout.objective(problem, network.controls())
    assert result.epoch_means[0] == pytest.approx(exact, abs=1e-9)


def test_clipping_bounds_the_step():
    problem = spirals(5)
    options = Options(optimizer="sgd", lr=1.0, clip=1e-3, epochs=1, init_scale=0.3)
    network, _ = run(problem, options)
    start = parameters(start_network(problem, options))
    assert np.linalg.norm(parameters(network) - start) == pytest.approx(1e-3, rel=1e-3)


def test_early_stopping_stops_when_the_objective_rests():
    options = Options(epochs=5000, lr=1e-2, patience=3, min_fall=1e-4, evaluate_every=5)
    _, result = run(spirals(4), options)
    assert result.status is Status.EARLY_STOPPED
    assert 0 < len(result.epoch_means) < 5000


@pytest.mark.parametrize("schedule", ["constant", "linear", "cosine"])
def test_schedules_warm_up_and_end_where_they_say(schedule):
    options = Options(schedule=schedule, lr=0.1, lr_end=0.05, warmup=10)
    rates = [options.learning_rate(step, 100) for step in range(101)]
    assert rates[0] == pytest.approx(0.01) and rates[10] == pytest.approx(0.1)
    assert rates[100] == pytest.approx(0.1 if schedule == "constant" else 0.005)
    assert rates[10:] == sorted(rates[10:], reverse=True)


@pytest.mark.parametrize(
    "method",
    [{"optimizer": "sgd", "lr": 1e30}, {"optimizer": "adam", "lr": 1e60}],
    ids=lambda m: m["optimizer"],
)
def test_divergence_stops_with_step_and_layer_and_keeps_the_last_good_state(tmp_path, method):
    problem = spirals(5, activation="identity", h=1.0, depth=6)
    options = Options(epochs=50, init_scale=0.3, batch_size=4, **method)
    network, result = run(problem, options, folder=tmp_path)
    assert result.status is Status.DIVERGED
    assert "step" in result.message and "layer" in result.message
    # the step that broke J is undone, too
    assert np.isfinite(rollout.objective(problem, network.controls()))
    kept = files.load(tmp_path / checkpoint.TRAINING_FILE)
    assert np.array_equal(controls.flatten(kept.controls), parameters(network))
    assert kept.origin["status"] == "DIVERGED"
    assert "stopped" in log(tmp_path)[-1]


def test_what_was_trained_is_a_training_file_of_the_problem(tmp_path):
    problem = spirals(5)
    network, _ = run(problem, Options(epochs=2), folder=tmp_path)
    back = files.load(tmp_path / checkpoint.TRAINING_FILE)
    assert np.array_equal(controls.flatten(back.controls), parameters(network))
    assert np.array_equal(back.problem.inputs, problem.inputs)
    assert back.origin["status"] == "FINISHED"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"optimizer": "lion"}, "wanted one of adam"),
        ({"lr": 0.0}, "lr is 0"),
        ({"lr": float("nan")}, "finite"),
        ({"epochs": True}, "integer"),
        ({"momentum": 0.9}, "only sgd"),
        ({"optimizer": "lbfgs", "clip": 1.0}, "lbfgs"),
        ({"patience": 2, "evaluate_every": 0}, "evaluate_every"),
        ({"dtype": "float16"}, "float32"),
    ],
)
def test_bad_options_are_refused(given, words):
    with pytest.raises(ValueError, match=words):
        Options(**given)


def test_batches_larger_than_the_data_are_refused():
    with pytest.raises(ValueError, match="17 but there are 16 samples"):
        run(spirals(8), Options(batch_size=17))
    with pytest.raises(ValueError, match="with lbfgs"):
        run(spirals(8), Options(optimizer="lbfgs", batch_size=4))


def test_a_device_that_is_not_there_is_refused():
    if torch.cuda.is_available():
        pytest.skip("CUDA is there")
    with pytest.raises(ValueError, match="0 CUDA devices are there; try cpu"):
        start_network(spirals(5), Options(device="cuda"))
    with pytest.raises(ValueError, match="wanted cpu"):
        start_network(spirals(5), Options(device="abacus"))


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device; none is there")
def test_the_whole_path_on_a_cuda_device(tmp_path):
    problem = spirals(20)
    options = Options(epochs=20, batch_size=8, lr=1e-2, init_scale=0.3, device="cuda")
    network, result = run(problem, options, folder=tmp_path)
    assert network.A.device.type == "cuda" and result.status is Status.FINISHED
    on_cpu, _ = run(problem, Options(epochs=20, batch_size=8, lr=1e-2, init_scale=0.3))
    # the order of additions differs; 100 steps of Adam spread roundings
    assert parameters(network) == pytest.approx(parameters(on_cpu), abs=1e-6)
    files.load(tmp_path / checkpoint.TRAINING_FILE)


def test_progress_counts_up_and_foresees_the_end():
    seen = []
    run(spirals(5), Options(epochs=3, batch_size=4), report=seen.append)
    assert [p.step for p in seen] == list(range(1, 10))
    assert seen[-1].seconds_left == 0 and all(p.seconds_left >= 0 for p in seen)
