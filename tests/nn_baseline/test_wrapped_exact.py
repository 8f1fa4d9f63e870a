"""The wrapper against loops written by hand: stages, objective, gradients and crops, in float64."""

import copy

import pytest
import torch
from wrapped_library import LIBRARY
from wrapped_models import (
    OWN,
    between,
    made,
    sequential,
    strided,
    text,
    tied,
    time_first,
)

from nn_baseline import crop, wrap
from nn_baseline.model import soft_cross_entropy
from nn_baseline.wrapped.arguments import Call

NUMBERS = {"r": 0.3, "p_d": 0.9, "gamma": 0.7, "r_ends": 0.2}
cases = pytest.mark.parametrize("maker", [*OWN, *LIBRARY], ids=lambda m: m.__name__)


def wrapped(case, **changes):
    return wrap(case.model, case.blocks, **(NUMBERS | case.options | changes))


def value(t):
    return float(t.detach())


def near(found, wanted, bound=1e-12):
    found, wanted = found.detach(), wanted.detach()
    scale = max(float(wanted.abs().max()), 1e-300)
    return float((found - wanted).abs().max()) <= bound * scale


@cases
def test_the_stages_are_those_of_the_loop_and_the_last_is_the_models_own(maker):
    case = made(maker)
    case.model.eval()
    w = wrapped(case)
    z = w.stage_logits(*case.args, **case.kwargs)
    assert torch.equal(z[-1], case.answer())
    assert near(z, case.by_hand())
    assert len(z) == len(case.blocks) + 1 and z.requires_grad


@cases
def test_every_crop_is_its_stage(maker):
    case = made(maker)
    case.model.eval()
    w = wrapped(case)
    z = w.stage_logits(*case.args, **case.kwargs)
    names = set(case.model.state_dict())
    for k in (0, len(z) // 2, len(z) - 2):
        if maker is time_first and not k:  # torch's encoder asks its first layer what it is
            with pytest.raises(ValueError, match="does not run with 0 of its 3 blocks"):
                crop(w, k)
            continue
        cropped = crop(w, k)
        out = cropped.model(*case.args, **case.kwargs)
        out = out if isinstance(out, torch.Tensor) else out["logits"]
        assert near(out, z[k])
        assert set(cropped.model.state_dict()) < names
        assert cropped.parameters[1] < cropped.parameters[0]
    assert set(case.model.state_dict()) == names


def objective_by_hand(case, w):
    """J from the stages of the loop, with every sum written out."""
    z, N = case.by_hand(), len(case.blocks)
    keep = case.labels != -100
    F = [soft_cross_entropy(s[keep], case.labels[keep], NUMBERS["p_d"]).mean() for s in z]
    shortcuts = {"downsample", "shortcut", "LayerNorm"}
    own = {
        id(p): p
        for block in case.blocks
        for name, p in block.named_parameters()
        if not shortcuts & set(name.split("."))
    }
    ends = [p for p in case.model.parameters() if id(p) not in own]
    controls = sum(p.square().sum() for p in own.values())
    J = sum(f / N for f in F[:-1]) + NUMBERS["gamma"] * F[-1] + NUMBERS["r"] / (2 * N) * controls
    return J + NUMBERS["r_ends"] / 2 * sum(p.square().sum() for p in ends)


@cases
def test_objective_and_gradient_are_those_of_the_loop(maker):
    case = made(maker)
    case.model.eval()  # the loop has no second run whose statistics could differ
    w = wrapped(case)
    J = w(*case.args, labels=case.labels, **case.kwargs)
    wanted = objective_by_hand(case, w)
    assert value(J) == pytest.approx(value(wanted), rel=1e-12)
    parameters = [p for p in case.model.parameters() if p.requires_grad]
    found = torch.autograd.grad(J, parameters)
    wanted = torch.autograd.grad(wanted, parameters)
    scale = max(float(g.abs().max()) for g in wanted)
    for one, two in zip(found, wanted, strict=True):
        assert float((one - two).abs().max()) <= 1e-10 * scale


def test_nothing_of_the_wrapper_is_left_in_the_model():
    case = made(strided)
    before = {name: type(m) for name, m in case.model.named_modules()}
    w = wrapped(case)
    w(*case.args, labels=case.labels).backward()
    assert {name: type(m) for name, m in case.model.named_modules()} == before
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in case.model.modules())
    assert w.runs.tape.states == []
    twin = copy.deepcopy(w)
    assert twin.blocks[0] is twin.model.layer1[0]
    again = twin(*case.args, labels=case.labels)
    assert value(again) == pytest.approx(value(w(*case.args, labels=case.labels)), rel=1e-12)


def test_running_statistics_move_as_in_the_models_own_training():
    one, two = made(strided), made(strided)
    one.model.train()
    two.model.train()
    w = wrapped(one)
    w(*one.args, labels=one.labels)
    two.model(*two.args)
    for (name, found), wanted in zip(one.model.named_buffers(), two.model.buffers(), strict=True):
        assert torch.equal(found, wanted), name


def test_label_smoothing_is_torchs_loss():
    case = made(sequential)
    w = wrapped(case, p_d=None, label_smoothing=0.2, r=0.0, r_ends=0.0)
    J = w(*case.args, labels=case.labels)
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.2)
    F = [loss(z, case.labels) for z in case.by_hand()]
    wanted = sum(F[:-1]) / 4 + 0.7 * F[-1]
    assert value(J) == pytest.approx(value(wanted), rel=1e-12)


def test_a_language_model_takes_the_mean_over_targets_that_count():
    case = made(tied)
    w = wrapped(case, p_d=1.0, r=0.0, r_ends=0.0, beta=0, gamma=1.0)
    wanted = torch.nn.functional.cross_entropy(case.answer().flatten(0, 1), case.labels.flatten())
    assert value(w(*case.args, labels=case.labels)) == pytest.approx(value(wanted), rel=1e-12)


def test_terminal_only_runs_the_model_once():
    case = made(sequential)
    calls = []
    case.model.register_forward_hook(lambda *a: calls.append(1))
    w = wrapped(case, beta=0)
    w.examined(*case.args)
    calls.clear()
    w(*case.args, labels=case.labels)
    assert len(calls) == 1


def test_a_head_given_by_the_user_is_compared_and_used():
    case = made(sequential)
    w = wrapped(case, head=case.model[-1])
    assert near(w.stage_logits(*case.args), case.by_hand())
    with pytest.raises(ValueError, match="the last stage differs from the model's own answer"):
        wrapped(case, head=lambda x: 1.001 * case.model[-1](x)).stage_logits(*case.args)


def test_random_subsets_of_depths_are_unbiased():
    """All subsets of two of four depths: their mean is J, and so for the gradient."""
    case = made(sequential)
    whole = wrapped(case)(*case.args, labels=case.labels)
    w = wrapped(case, depths_per_step=2)
    w.train()
    found = {}
    for _ in range(300):
        state = w.generator.get_state()
        drawn = tuple(w._drawn()[0])
        if drawn in found:
            continue
        w.generator.set_state(state)
        J = w(*case.args, labels=case.labels)
        found[drawn] = (J.detach(), torch.autograd.grad(J, case.model[0].weight)[0])
    assert len(found) == 6
    values, gradients = (torch.stack(v) for v in zip(*found.values(), strict=True))
    assert float(values.mean()) == pytest.approx(value(whole), rel=1e-12)
    assert near(gradients.mean(0), torch.autograd.grad(whole, case.model[0].weight)[0], 1e-10)
    # variance of N/m times a sum of m of N without replacement, h = 1/N
    z = case.by_hand()
    F = torch.stack([soft_cross_entropy(s, case.labels, 0.9).mean() for s in z[:-1]])
    wanted = F.var(correction=1) / 2 * (1 - 2 / 4)
    assert float(values.var(correction=0)) == pytest.approx(value(wanted), rel=1e-9)
    w.eval()
    assert value(w(*case.args, labels=case.labels)) == pytest.approx(value(whole), rel=1e-12)


def test_subsets_pass_later_shortcuts_and_what_lies_between():
    for maker in (strided, between):
        case = made(maker)
        case.model.eval()
        w = wrapped(case)
        facts, z = w.examined(*case.args), case.by_hand()
        for stages in ([0], [1, 3], [3], [2, 3]):
            found = w._logits(Call(args=case.args, kwargs={}), facts, stages)
            assert near(found, z[[*stages, -1]])


def test_the_share_scales_the_data_cost_alone():
    case = made(sequential)
    w = wrapped(case)
    one, two = (w(*case.args, labels=case.labels, share=s) for s in (1.0, 2.0))
    assert value(two - one) == pytest.approx(value(one - w.penalty()), rel=1e-12)


def test_masks_are_repeated_for_every_stage():
    case = made(text)
    w = wrapped(case)
    one = w.stage_logits(*case.args, **case.kwargs)
    other = w.stage_logits(case.args[0], mask=torch.zeros_like(case.kwargs["mask"]))
    assert not near(one[0], other[0], 1e-3)
    assert near(one[0, 3:], other[0, 3:])  # samples that had no mask
