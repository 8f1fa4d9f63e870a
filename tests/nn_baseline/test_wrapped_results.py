"""Crops that leave the process, reports, the choice of a depth, traces and state dicts."""

import io
import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn
from wrapped_library import LIBRARY, bert, vit
from wrapped_models import Dense, Strided, made, sequential, strided, text, tied

import verification
from nn_baseline import block_report, choose, crop, load_state, wrap, write_trace
from nn_baseline.wrapped.block_report import paired_interval
from ocp import trace

ROOT = Path(__file__).parents[2]


def wrapped(case, **changes):
    options = {"r": 0.1, "p_d": 0.9} | case.options | changes
    w = wrap(case.model.eval(), case.blocks, **options).eval()
    w.examined(*case.args, **case.kwargs)
    return w


FRESH = """
import sys, torch
sys.path.insert(0, sys.argv[1])
from wrapped_models import Dense
from torch import nn
idle = [nn.Identity(), nn.Identity()]
model = nn.Sequential(nn.Linear(3, 6), Dense(), Dense(), *idle, nn.Linear(6, 4))
model.double().load_state_dict(torch.load(sys.argv[2], weights_only=True), strict=True)
x, z = torch.load(sys.argv[3], weights_only=True)
print(float((model(x) - z).detach().abs().max()))
"""


def test_a_crop_loads_strictly_into_a_fresh_model_in_another_process(tmp_path):
    case = made(sequential)
    w = wrapped(case)
    cropped = crop(w, 2)
    assert (cropped.kept, cropped.depth, cropped.deleted, cropped.replaced) == (2, 4, (), (2, 3))
    torch.save(cropped.model.state_dict(), tmp_path / "state.pt")
    torch.save((case.args[0], w.stage_logits(*case.args)[2].detach()), tmp_path / "z.pt")
    done = subprocess.run(
        [sys.executable, "-c", FRESH, str(Path(__file__).parent),
         str(tmp_path / "state.pt"), str(tmp_path / "z.pt")],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) == 0.0


def test_a_crop_is_saved_whole_copied_and_exported():
    case = made(strided)
    w = wrapped(case)
    z = w.stage_logits(*case.args)[3].detach()
    cropped = crop(w, 3)
    buffer = io.BytesIO()
    torch.save(cropped.model, buffer)
    buffer.seek(0)
    again = torch.load(buffer, weights_only=False)
    assert torch.equal(again(*case.args), cropped.model(*case.args))
    exported = torch.export.export(cropped.model, case.args).module()
    assert torch.allclose(exported(*case.args), z, rtol=1e-12)
    own = set(case.model.state_dict())
    assert {n for n in cropped.model.state_dict() if n not in own} == set()
    assert "layer3.0.downsample.0.weight" in cropped.model.state_dict()
    assert "layer3.0.conv1.weight" not in cropped.model.state_dict()
    assert "3 of 6 blocks kept, 2 deleted, 1 replaced" in str(cropped)
    assert str(cropped).endswith("running statistics as trained")


@pytest.mark.skipif(not LIBRARY, reason="transformers is not installed")
@pytest.mark.parametrize("k", [0, 1, 3])
def test_the_librarys_own_save_and_load_give_equal_logits(tmp_path, k):
    case = made(vit, dtype=torch.float32)
    w = wrapped(case)
    z = w.stage_logits(**case.kwargs)[k].detach()
    cropped = crop(w, k)
    assert cropped.model.config.num_hidden_layers == k
    assert case.model.config.num_hidden_layers == 4
    assert cropped.configured and "configuration" not in str(cropped)
    cropped.model.save_pretrained(tmp_path)
    again = type(case.model).from_pretrained(tmp_path).eval()
    assert torch.allclose(again(**case.kwargs).logits, z, atol=1e-6)


@pytest.mark.skipif(not LIBRARY, reason="transformers is not installed")
def test_a_configuration_that_cannot_say_what_is_left_is_named():
    case = made(bert)
    cropped = crop(wrapped(case), 2)
    assert not cropped.configured
    assert "its configuration does not describe it: save the state dict" in str(cropped)


def test_a_stage_whose_logits_are_zero_is_compared_too():
    case = made(sequential)
    with torch.no_grad():
        for p in (*case.model[0].parameters(), case.model[-1].bias):
            p.zero_()
    assert crop(wrapped(case), 0).kept == 0


def test_recalibrated_statistics_are_the_mean_over_the_batches():
    case = made(strided)
    w = wrapped(case)
    batches = [(torch.randn(6, 3, 8, 8).double(),) for _ in range(3)]
    cropped = crop(w, 2, recalibrate=batches)
    assert cropped.recalibrated and str(cropped).endswith("recalibrated")
    wanted = torch.stack([case.model.conv(b[0]).mean((0, 2, 3)) for b in batches]).mean(0)
    assert torch.allclose(cropped.model.bn.running_mean, wanted, rtol=1e-12)
    assert not any(m.training for m in cropped.model.modules())
    with pytest.raises(ValueError, match="no batch is given to recalibrate"):
        crop(w, 2, recalibrate=[])


def halves(case):
    """The case's batch in two batches of a loader."""
    n = len(case.labels)
    args = [(tuple(a[s] for a in case.args) or {k: v[s] for k, v in case.kwargs.items()},
             case.labels[s]) for s in (slice(0, n // 2), slice(n // 2, n))]  # fmt: skip
    return args


def test_the_report_is_what_a_loop_measures():
    case = made(sequential)
    w = wrapped(case, r_ends=0.3)
    report = block_report(w, halves(case))
    J = w(*case.args, labels=case.labels)
    assert report.objective == pytest.approx(float(J.detach()), rel=1e-12)
    z, x = case.by_hand(), case.model[0](case.args[0])
    for k, block in enumerate(case.blocks):
        y = block(x)
        update = ((y - x).norm(dim=1) / x.norm(dim=1)).mean()
        turn = (1 - torch.cosine_similarity(x, y)).mean()
        assert report.relative_update[k] == pytest.approx(update.item(), rel=1e-12)
        assert report.direction_change[k] == pytest.approx(turn.item(), rel=1e-9)
        norm = sum(p.square().sum() for p in block.parameters()).sqrt()
        assert report.control_norm[k] == pytest.approx(norm.item(), rel=1e-12)
        x = y
    right = (z.argmax(-1) == case.labels).double().mean(1)
    assert np.array_equal(report.accuracy, right.numpy())
    assert not report.free_scale.any() and np.isnan(report.folded_norm).all()
    assert len(report.table().splitlines()) == 6


def test_blocks_count_as_idle_by_norm_and_update_together():
    case = made(sequential)
    with torch.no_grad():
        for block in case.blocks[2:]:
            for p in block.parameters():
                p.zero_()
    w = wrapped(case)
    assert block_report(w, halves(case)).idle_from == 2
    with torch.no_grad():
        case.blocks[3].two.bias.fill_(0.05)  # a small norm that moves the state
    assert block_report(w, halves(case)).idle_from == 4


def test_a_weight_before_a_batchnorm_is_weighed_with_it():
    """The folded norm is that of the map: it does not see the scale that the norm takes away."""
    case = made(strided)
    w = wrapped(case)
    batches = [(case.args[0], case.labels)]
    one = block_report(w, batches)
    assert one.free_scale.all()
    with torch.no_grad():
        for block in case.blocks:
            for conv, bn in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
                conv.weight.mul_(1e-3)
                bn.running_mean.mul_(1e-3)
                bn.running_var.mul_(1e-6).sub_(bn.eps * (1 - 1e-6))
    two = block_report(w, batches)
    assert np.allclose(two.accuracy, one.accuracy)
    assert np.allclose(two.relative_update, one.relative_update, rtol=1e-9)
    assert np.allclose(two.folded_norm, one.folded_norm, rtol=1e-9)
    assert (two.control_norm < 0.9 * one.control_norm).all()
    # by hand, for a block without shortcut
    block, total = case.blocks[1], 0.0
    for conv, bn in ((block.conv1, block.bn1), (block.conv2, block.bn2)):
        scale = bn.weight / (bn.running_var + bn.eps).sqrt()
        total += (conv.weight * scale[:, None, None, None]).square().sum()
        total += (bn.bias - bn.running_mean * scale).square().sum()
    assert two.folded_norm[1] == pytest.approx(total.sqrt().item(), rel=1e-9)


def test_no_idleness_is_read_off_a_norm_that_nothing_folds():
    class Grouped(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear, self.norm = nn.Linear(6, 6), nn.LayerNorm(6)

        def forward(self, x):
            return x + self.norm(self.linear(x))

    model = nn.Sequential(nn.Linear(3, 6), Dense(), Grouped(), nn.Linear(6, 4))
    with torch.no_grad():
        for p in model[2].parameters():
            p.zero_()
    w = wrap(model, model[1:3], r=0.1).eval()
    report = block_report(w, [(torch.randn(5, 3), torch.arange(5) % 4)])
    assert report.free_scale.tolist() == [False, True] and np.isnan(report.folded_norm[1])
    assert report.relative_update[1] == 0.0 and report.idle_from == 2


def test_the_choice_is_the_least_depth_within_the_allowance():
    rng = np.random.default_rng(0)
    case = made(sequential)
    report = block_report(wrapped(case), halves(case))
    right = rng.random((5, 2000)) < np.array([0.5, 0.9, 0.898, 0.9, 0.9])[:, None]
    report = type(report)(
        **{n: getattr(report, n) for n in report.__slots__}
        | {"right": right, "accuracy": right.mean(axis=1)}
    )
    found = choose(report, allowed=3.0)
    assert found.kept == 1
    lost = 100 * (right[-1].mean() - right[1].mean())
    assert found.lost == pytest.approx(lost)
    assert found.interval == paired_interval(right[-1], right[1])
    assert found.interval[0] < lost < found.interval[1]
    # two of four differ: mean 25 points, deviation of (1, -1, 1, 0)
    low, high = paired_interval(np.array([1, 0, 1, 0]), np.array([0, 1, 0, 0]))
    deviation = np.std([1, -1, 1, 0], ddof=1) / 2
    assert (low + high) / 2 == pytest.approx(25)
    assert (high - low) / 2 == pytest.approx(100 * 1.959964 * deviation)
    assert choose(report, allowed=100.0).kept == 0


@pytest.mark.parametrize("maker", [sequential, strided, text, tied])
def test_a_trace_is_judged_and_says_what_the_report_says(tmp_path, maker):
    case = made(maker)
    if maker is text:
        case.args, case.kwargs = (), case.kwargs | {"ids": case.args[0]}
    w = wrapped(case, r_ends=0.3)
    inputs = case.kwargs or case.args
    write_trace(tmp_path / "t.safetensors", w, [(inputs, case.labels)])
    found, report = trace.load(tmp_path / "t.safetensors"), block_report(w, [(inputs, case.labels)])
    assert np.array_equal(found.control_norm, report.control_norm)
    assert np.array_equal(found.relative_update, report.relative_update)
    judged = verification.verify(tmp_path / "t.safetensors")
    assert judged.named("depth.relative_update").measured == report.relative_update.max()
    ends = 0.5 * 0.1 * found.ends_norm[0] ** 2  # r/2 |.|^2 is their whole cost
    assert ends == pytest.approx(0.5 * 0.3 * report.ends_norm**2)
    counted = case.labels != -100
    assert len(found.labels) == int(counted.sum())
    F = report.cross_entropy
    J = w.h * (F[:-1] + 0.05 * report.control_norm**2).sum() + F[-1]
    assert J + ends == pytest.approx(report.objective)


# --- state dicts --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda s: s, "loaded 12 tensors"),
        (lambda s: {"epoch": 3, "state_dict": s, "optimizer": {}}, "from the entry 'state_dict'"),
        (lambda s: {f"module.{k}": v for k, v in s.items()}, "without the prefix 'module.'"),
        (
            lambda s: {"model": {f"_orig_mod.module.{k}": v for k, v in s.items()}},
            "from the entry 'model', without the prefix '_orig_mod.module.'",
        ),
    ],
)
def test_state_dicts_as_people_save_them(tmp_path, change, said):
    model = nn.Sequential(nn.Linear(3, 6), Dense(), Dense(), nn.Linear(6, 4))
    other = nn.Sequential(nn.Linear(3, 6), Dense(), Dense(), nn.Linear(6, 4))
    torch.save(change(model.state_dict()), tmp_path / "x.pt")
    assert said in str(load_state(other, tmp_path / "x.pt"))
    x = torch.randn(2, 3)
    assert torch.equal(model(x), other(x))
    safetensors.torch.save_file(model.state_dict(), tmp_path / "x.safetensors")
    assert load_state(other, tmp_path / "x.safetensors").tensors == 12


def test_state_dicts_that_are_none(tmp_path):
    model = nn.Linear(3, 4)
    good = model.state_dict()
    nan = {k: v * torch.nan for k, v in good.items()}
    cases = [
        ({"weight": good["weight"]}, "lacks 'bias' (1 missing, 0 unknown of the model's 2)"),
        (good | {"extra": good["bias"]}, "holds the unknown 'extra'"),
        (good | {"bias": torch.zeros(5)}, "'bias' has shape (5,); wanted (4,)"),
        ({"model": good, "state_dict": good}, "several state dicts: state_dict, model"),
        ({"epoch": 3}, "no state dict but 'epoch'"),
        ([1, 2], "holds a list"),
        (nan, "not finite"),
    ]
    for content, says in cases:
        torch.save(content, tmp_path / "x.pt")
        with pytest.raises(ValueError) as error:
            load_state(model, tmp_path / "x.pt")
        assert says in str(error.value)
    torch.save(Strided(), tmp_path / "whole.pt")
    with pytest.raises(ValueError, match="more than tensors"):
        load_state(model, tmp_path / "whole.pt")
    (tmp_path / "pickle.pt").write_bytes(pickle.dumps(print))
    (tmp_path / "text.pt").write_text(json.dumps({"a": 1}))
    (tmp_path / "bad.safetensors").write_bytes(b"\0" * 20)
    for name in ("pickle.pt", "text.pt", "bad.safetensors"):
        with pytest.raises(ValueError, match=name):
            load_state(model, tmp_path / name)
    with pytest.raises(OSError):
        load_state(model, tmp_path / "missing.pt")
