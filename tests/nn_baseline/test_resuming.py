"""A training on disk: resumed to the last bit, extended, its state and log read with suspicion."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from small_trainings import OPTIMIZERS, StopAfter, log, parameters, run, spirals

from nn_baseline import checkpoint
from nn_baseline.options import Options
from nn_baseline.start import start_network
from nn_baseline.training import Status, train
from ocp import run_folder

torch.set_num_threads(1)


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
from small_trainings import spirals, run
from nn_baseline.options import Options
options = Options(epochs=2000, batch_size=5, init_scale=0.3, evaluate_every=500,
                  checkpoint_seconds=0.05)
run(spirals(), options, folder=Path(sys.argv[1]), resume=sys.argv[3] == "resume",
    report=lambda p: print(p.step, flush=True))
"""


def _step_of(state_file):
    return checkpoint.load_state(state_file)["counters"]["step"]


def test_kill_9_loses_no_more_than_the_work_since_the_last_state(tmp_path):
    here = os.path.dirname(__file__)
    script = [sys.executable, "-c", KILLED, str(tmp_path / "killed"), here]
    process = subprocess.Popen([*script, "new"], stdout=subprocess.PIPE, text=True)
    place = tmp_path / "killed" / checkpoint.STATE_FILE
    for line in process.stdout:  # 60 steps may take less time than there is between two states
        if int(line) >= 60 and place.exists() and _step_of(place) > 0:
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert 0 < _step_of(place) < 8000
    options = Options(
        epochs=2000, batch_size=5, init_scale=0.3, evaluate_every=500, checkpoint_seconds=9
    )
    resumed, _ = run(spirals(), options, folder=tmp_path / "killed", resume=True)
    whole, _ = run(spirals(), options)
    assert np.array_equal(parameters(resumed), parameters(whole))
    assert not [p for p in (tmp_path / "killed").iterdir() if p.suffix in (".tmp", ".lock")]


def test_changed_options_are_listed_and_other_problems_refused(tmp_path):
    options = Options(epochs=2, lr=1e-2, schedule="cosine")
    own = {"facts": {"threads": 1}, "source": {"points": 5}}
    run(spirals(5), options, folder=tmp_path, **own)
    with pytest.raises(ValueError, match=r"lr was 0\.01, is 0\.02; .*epochs was 2, is 3") as found:
        run(spirals(5), Options(epochs=3, lr=2e-2, schedule="cosine"), folder=tmp_path, resume=True)
    assert "seed" not in str(found.value)
    with pytest.raises(ValueError, match=r"another training: r was 0\.001, is 0\.5"):
        run(spirals(5, r=0.5), options, folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match=r"numbers of inputs, labels differ; .*points was 5, is 6"):
        run(spirals(6), options, folder=tmp_path, resume=True, source={"points": 6})
    with pytest.raises(ValueError, match=r"training: threads was 1, is 2$"):
        run(spirals(5), options, folder=tmp_path, resume=True, facts={"threads": 2}, source={})


def test_resuming_from_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="not there"):
        run(spirals(5), Options(), folder=tmp_path, resume=True)


def without_seconds(folder):
    """The content of all files of a training; the seconds that they record left out."""
    found = {path.name: path.read_bytes() for path in folder.iterdir()}
    found[checkpoint.LOG_FILE] = log(folder)
    tree = checkpoint.load_state(folder / checkpoint.STATE_FILE)
    del tree["counters"]["seconds"]
    checkpoint.save_state(folder.parent / "plain", tree)
    found[checkpoint.STATE_FILE] = (folder.parent / "plain").read_bytes()
    return found


def test_more_epochs_may_follow_under_a_constant_schedule(tmp_path):
    short, whole = tmp_path / "short", tmp_path / "whole"
    run(spirals(5), Options(epochs=2), folder=short)
    with pytest.raises(ValueError, match=r"epochs was 2, is 5 \(more epochs: extend 5\)"):
        run(spirals(5), Options(epochs=5), folder=short, resume=True)
    run(spirals(5), Options(epochs=5), folder=short, extend=True)
    run(spirals(5), Options(epochs=5), folder=whole)
    assert without_seconds(short) == without_seconds(whole)
    with pytest.raises(ValueError, match="extend is 3, but 5 epochs are done"):
        run(spirals(5), Options(epochs=3), folder=short, extend=True)
    falling = {"schedule": "cosine"}
    run(spirals(5), Options(epochs=2, **falling), folder=tmp_path / "cosine")
    with pytest.raises(ValueError, match=r"epochs was 2, is 5 .*only a constant one"):
        run(spirals(5), Options(epochs=5, **falling), folder=tmp_path / "cosine", extend=True)


@pytest.mark.parametrize("patience", [0, 2])
def test_resuming_a_run_that_has_ended_changes_nothing(tmp_path, patience):
    options = Options(epochs=8, lr=1e-9, patience=patience, min_fall=1e-3)
    _, first = run(spirals(5), options, folder=tmp_path)
    assert first.status is (Status.EARLY_STOPPED if patience else Status.FINISHED)
    before = {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()}
    _, again = run(spirals(5), options, folder=tmp_path, resume=True)
    assert {p.name: (p.read_bytes(), p.stat().st_mtime_ns) for p in tmp_path.iterdir()} == before
    assert (again.status, again.steps) == (first.status, first.steps)
    assert again.message == "Nothing was left to do."
    # a run that was killed between its two last writes has its training file made again
    (tmp_path / checkpoint.TRAINING_FILE).unlink()
    run(spirals(5), options, folder=tmp_path, resume=True)
    left = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    assert left == {name: content for name, (content, _) in before.items()}


def test_a_folder_that_holds_a_training_is_used_only_to_resume(tmp_path):
    run(spirals(5), Options(epochs=1), folder=tmp_path)
    with pytest.raises(ValueError, match=r"holds a training \(state.*--resume.*--extend"):
        run(spirals(5), Options(epochs=1), folder=tmp_path)
    with run_folder.claimed(tmp_path), pytest.raises(ValueError, match="in use by another run"):
        run(spirals(5), Options(epochs=1), folder=tmp_path, resume=True)
    with pytest.raises(ValueError, match="batch_size is 99"):
        run(spirals(5), Options(epochs=1, batch_size=99), folder=tmp_path / "none")
    assert not (tmp_path / "none").exists()


LINES = ["whole", "torn", "behind", "shorter", "gone", "of another run"]


@pytest.mark.parametrize("what", LINES)
def test_the_log_has_each_epoch_once_whatever_became_of_it(tmp_path, what):
    options = Options(epochs=6, batch_size=5, evaluate_every=2, init_scale=0.3)
    run(spirals(), options, folder=tmp_path / "whole")
    folder = tmp_path / "parts"
    run(spirals(), options, folder=folder, should_stop=StopAfter(9))
    path = folder / checkpoint.LOG_FILE
    lines = path.read_text().splitlines(keepends=True)
    assert len(lines) == 2
    if what in ("torn", "behind"):  # killed in the middle of a line; after a state that is older
        later = (tmp_path / "whole" / checkpoint.LOG_FILE).read_text().splitlines(keepends=True)
        lines += [later[2][:30]] if what == "torn" else later[2:5]
    elif what == "shorter":  # lost with the power
        lines = [lines[0], lines[1][:20]]
    elif what == "of another run":
        lines[0] = lines[0].replace('"epoch_mean": ', '"epoch_mean": 1')
    path.write_text("".join(lines))
    if what == "gone":
        path.unlink()
    if what == "of another run":
        with pytest.raises(ValueError, match=r"line 1 is not the record of epoch 1.*epoch_mean"):
            run(spirals(), options, folder=folder, resume=True)
        return
    run(spirals(), options, folder=folder, resume=True)
    found, wanted = log(folder), log(tmp_path / "whole")
    if what in ("shorter", "gone"):  # what the state does not know is missing from its lines
        assert [r["epoch"] for r in found] == list(range(1, 7))
        assert all(a.items() <= b.items() for a, b in zip(found, wanted, strict=True))
    else:
        assert found == wanted


def damaged(tree, path, value):
    """The tree with the value at a path of keys."""
    *way, last = path
    for key in way:
        tree = tree[key]
    if value is KeyError:
        del tree[last]
    else:
        tree[last] = value


@pytest.mark.parametrize("method", OPTIMIZERS, ids=lambda m: m["optimizer"])
@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("counters", "epoch"), 1.0),
        (("counters", "epoch"), 7),
        (("counters", "step"), True),
        (("counters", "batch_sum"), float("nan")),
        (("counters", "objectives"), [1.0]),
        (("counters", "epoch_means"), ["1", "2", "3"]),
        (("counters", "more"), 1),
        (("counters",), [1]),
        (("options", "lr"), float("nan")),
        (("options", "colour"), "red"),
        (("options",), None),
        (("parameters", "A"), torch.zeros(1)),
        (("parameters", "A"), 3),
        (("parameters", "b"), KeyError),
        (("facts",), 3),
        (("problem", "statement"), []),
        (("optimizer", "state"), {}),
        (("optimizer", "state", 0), {}),
        (("optimizer", "state", 0), {"step": torch.zeros(3), "d": "x", "exp_avg": 1}),
        (("optimizer", "param_groups"), []),
        (("optimizer", "param_groups", 0, "params"), [5]),
        (("more",), 1),
        ((3,), 1),
        (("optimizer",), KeyError),
    ],
)
def test_a_damaged_state_is_refused_with_one_sentence(tmp_path, method, path, value):
    options = Options(epochs=6, **method)
    run(spirals(5), options, folder=tmp_path, should_stop=StopAfter(3))
    state = tmp_path / checkpoint.STATE_FILE
    tree = checkpoint.load_state(state)
    damaged(tree, path, value)
    checkpoint.save_state(state, tree)
    with pytest.raises(ValueError, match=r"state\.safetensors") as found:
        run(spirals(5), options, folder=tmp_path, resume=True)
    assert "\n" not in str(found.value)


@pytest.mark.parametrize("method", OPTIMIZERS, ids=lambda m: m["optimizer"])
def test_no_tensor_of_an_optimiser_may_have_another_shape_or_be_infinite(tmp_path, method):
    options = Options(epochs=6, **method)
    run(spirals(5), options, folder=tmp_path, should_stop=StopAfter(3))
    state = tmp_path / checkpoint.STATE_FILE
    honest = state.read_bytes()
    names = [k for k, v in checkpoint.load_state(state)["optimizer"]["state"][0].items()
             if isinstance(v, torch.Tensor)]  # fmt: skip
    assert names
    for name in names:
        for change in (lambda t: t * torch.nan, lambda t: torch.cat([t.flatten()] * 2)):
            state.write_bytes(honest)
            tree = checkpoint.load_state(state)
            tree["optimizer"]["state"][0][name] = change(tree["optimizer"]["state"][0][name])
            checkpoint.save_state(state, tree)
            with pytest.raises(ValueError, match=f"optimiser's {name} "):
                run(spirals(5), options, folder=tmp_path, resume=True)


@pytest.mark.parametrize("method", OPTIMIZERS, ids=lambda m: m["optimizer"])
def test_ctrl_c_within_an_evaluation_leaves_the_step_undone(tmp_path, method):
    """Pressed inside the model: the state kept is that before the step, and resumes to the bit."""
    problem = spirals()
    options = Options(epochs=5, init_scale=0.3, **method)
    run(problem, options, folder=tmp_path / "whole")
    network, calls = start_network(problem, options), []

    def press(*_):
        calls.append(1)
        if len(calls) == 3:
            signal.raise_signal(signal.SIGINT)

    network.register_forward_pre_hook(press)
    result = train(network, options, folder=tmp_path / "parts")
    assert result.status is Status.INTERRUPTED
    run(problem, options, folder=tmp_path / "parts", resume=True)
    assert without_seconds(tmp_path / "parts") == without_seconds(tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):  # nothing is kept without a folder
        calls.clear()
        train(network, options)


def test_equal_trees_give_equal_bytes(tmp_path):
    tensors = {name: torch.full((2,), float(i)) for i, name in enumerate("qwertyuiop")}
    first, second = tmp_path / "a", tmp_path / "b"
    checkpoint.save_state(first, {"x": tensors, "y": {2: 1.0, "z": 2}})
    checkpoint.save_state(second, {"y": {"z": 2, 2: 1.0}, "x": dict(reversed(tensors.items()))})
    assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize(("seconds", "wanted"), [(0.0, [0, 1, 2, 3, 4, 5]), (1e6, [0] * 5 + [5])])
def test_saving_is_bounded_by_the_clock(tmp_path, seconds, wanted):
    state, found = tmp_path / checkpoint.STATE_FILE, []

    def look(progress=None):
        found.append(checkpoint.load_state(state)["counters"]["step"] if state.exists() else None)

    run(spirals(4), Options(epochs=5, checkpoint_seconds=seconds), folder=tmp_path, report=look)
    look()  # a step is reported before its state is saved
    assert found == wanted
