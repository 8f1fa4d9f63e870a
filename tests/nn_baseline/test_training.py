"""Training: the right steps, resumed to the last bit, stopped with a reason."""

import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from nn_baseline import checkpoint
from nn_baseline.options import Options
from nn_baseline.start import samples, start_network
from nn_baseline.training import Status, train
from ocp import controls, datasets, files
from ocp.evaluation import rollout
from ocp.problem import Problem

torch.set_num_threads(1)

OPTIMIZERS = [
    {"optimizer": "adam", "lr": 1e-2},
    {"optimizer": "adamw", "lr": 1e-2, "decoupled_decay": 0.1},
    {"optimizer": "sgd", "lr": 1e-1, "momentum": 0.9},
    {"optimizer": "lbfgs", "lr": 1.0},
]


def spirals(points=8, **given):
    inputs, labels = datasets.spirals(points)
    return Problem(inputs=inputs, labels=labels, n_classes=2, **{"depth": 4, **given})


def run(problem, options, **kwargs):
    network = start_network(problem, options)
    return network, train(network, options, **kwargs)


def parameters(network):
    return controls.flatten(network.controls())


class StopAfter:
    """Asks to stop after a number of steps."""

    def __init__(self, steps):
        self.left = steps

    def __call__(self):
        self.left -= 1
        return self.left == 0


def log(folder):
    lines = (folder / checkpoint.LOG_FILE).read_text().splitlines()
    records = [json.loads(line) for line in lines]
    return [{k: v for k, v in r.items() if k != "seconds"} for r in records]


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


@pytest.mark.parametrize("method", OPTIMIZERS, ids=lambda m: m["optimizer"])
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_a_resumed_run_is_the_uninterrupted_one_bit_for_bit(tmp_path, method, dtype):
    problem = spirals()
    batch = 0 if method["optimizer"] == "lbfgs" else 5
    options = Options(epochs=6, batch_size=batch, init_scale=0.3, dtype=dtype, **method)
    whole, result = run(problem, options, folder=tmp_path / "whole")
    stops = (2,) if batch == 0 else (3, 2, 9)  # within an epoch, and at its end
    folder = tmp_path / "parts"
    for i, steps in enumerate(stops):
        _, part = run(problem, options, folder=folder, resume=i > 0, should_stop=StopAfter(steps))
        assert part.status is Status.INTERRUPTED
    resumed, last = run(problem, options, folder=folder, resume=True)
    assert np.array_equal(parameters(resumed), parameters(whole))
    assert last.objectives == result.objectives
    assert last.epoch_means == result.epoch_means
    assert log(folder) == log(tmp_path / "whole")


KILLED = """
import sys, torch
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_training import spirals, run
from nn_baseline.options import Options
options = Options(epochs=2000, batch_size=5, init_scale=0.3, evaluate_every=500,
                  checkpoint_seconds=0.05)
run(spirals(), options, folder=Path(sys.argv[1]), resume=sys.argv[3] == "resume",
    report=lambda p: print(p.step, flush=True))
"""


def test_kill_9_loses_no_more_than_the_work_since_the_last_state(tmp_path):
    here = os.path.dirname(__file__)
    script = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), here]
    process = subprocess.Popen([*script, "new"], stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if int(line) >= 60 and (tmp_path / "killed" / checkpoint.STATE_FILE).exists():
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    state = checkpoint.load_state(tmp_path / "killed" / checkpoint.STATE_FILE)
    done = state["counters"]["step"]
    assert 0 < done < 8000
    options = Options(
        epochs=done // 4 + 3,
        batch_size=5,
        init_scale=0.3,
        evaluate_every=500,
        checkpoint_seconds=0.05,
    )
    resumed, _ = run(spirals(), options, folder=tmp_path / "killed", resume=True)
    whole, _ = run(spirals(), options)
    assert np.array_equal(parameters(resumed), parameters(whole))
    left = [p for p in (tmp_path / "killed").iterdir() if p.suffix == ".tmp"]
    assert len(left) <= 1  # a temporary file of the write that was killed; never read


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


def test_changed_options_are_listed_and_other_problems_refused(tmp_path):
    options = Options(epochs=2, lr=1e-2, schedule="cosine")
    run(spirals(5), options, folder=tmp_path)
    with pytest.raises(ValueError, match=r"lr was 0\.01, is 0\.02; .*epochs was 2, is 3") as found:
        run(spirals(5), Options(epochs=3, lr=2e-2, schedule="cosine"), folder=tmp_path, resume=True)
    assert "seed" not in str(found.value)
    with pytest.raises(ValueError, match=r"another problem: r was 0\.001, is 0\.5"):
        run(spirals(5, r=0.5), options, folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match="samples or the fixed ends differ"):
        run(spirals(6), options, folder=tmp_path, resume=True)


def test_resuming_from_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not there"):
        run(spirals(5), Options(), folder=tmp_path, resume=True)


def test_more_epochs_may_follow_under_a_constant_schedule(tmp_path):
    run(spirals(5), Options(epochs=2), folder=tmp_path)
    longer, _ = run(spirals(5), Options(epochs=5), folder=tmp_path, resume=True)
    assert np.array_equal(parameters(longer), parameters(run(spirals(5), Options(epochs=5))[0]))


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


@pytest.mark.parametrize(
    ("seconds", "wanted"), [(0.0, [None, 1, 2, 3, 4, 5]), (1e6, [None] * 5 + [5])]
)
def test_saving_is_bounded_by_the_clock(tmp_path, seconds, wanted):
    state, found = tmp_path / checkpoint.STATE_FILE, []

    def look(progress=None):
        found.append(checkpoint.load_state(state)["counters"]["step"] if state.exists() else None)

    run(spirals(4), Options(epochs=5, checkpoint_seconds=seconds), folder=tmp_path, report=look)
    look()  # a step is reported before its state is saved
    assert found == wanted
