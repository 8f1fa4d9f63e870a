"""What the wrapper refuses: every model that it would answer wrongly for, with one sentence."""

import warnings

import pytest
import torch
from torch import nn
from wrapped_models import Dense, made, preactivated, sequential, strided, text, tied

from nn_baseline import crop, wrap, write_trace


def images(n=5):
    return torch.randn(n, 3, 8, 8)


class Chain(nn.Module):
    """Blocks one after the other, and whatever else the test does to the state."""

    def __init__(self, *blocks, run=None):
        super().__init__()
        self.blocks, self.run = nn.ModuleList(blocks), run
        self.out = nn.Linear(6, 4)

    def forward(self, x):
        if self.run:
            return self.out(self.run(self.blocks, x))
        for block in self.blocks:
            x = block(x)
        return self.out(x)


class Of(nn.Module):
    """A block with one linear map and a function of (its answer, the state)."""

    def __init__(self, function, width=6, out=6):
        super().__init__()
        self.linear, self.norm, self.function = nn.Linear(width, out), nn.LayerNorm(out), function

    def forward(self, x):
        return self.function(self, x)


def post_norm(b, x):
    return b.norm(x + b.linear(x))


CHAINS = {
    "is no residual block: with all its parameters at zero it returns 0": Of(post_norm),
    "it returns 0, not its input": Of(lambda b, x: torch.tanh(b.linear(x))),
    "not its input: largest difference": Of(lambda b, x: 0.9 * x + b.linear(x)),
    "numbers that are not finite": Of(lambda b, x: x + b.linear(x) / b.norm.weight.norm()),
}


@pytest.mark.parametrize(("says", "block"), CHAINS.items(), ids=range(len(CHAINS)))
def test_what_is_no_residual_block(says, block):
    model = Chain(Dense(), block)
    with pytest.raises(ValueError, match=f"block 1 .*{says}"):
        wrap(model, model.blocks, r=0.1).stage_logits(torch.randn(5, 6))


def test_a_change_of_shape_without_a_shortcut():
    wide = Of(lambda b, x: b.linear(x) + torch.cat([x, x[:, :2]], 1), 6, 8)
    model = nn.Sequential(Dense(), wide, nn.Linear(8, 4))
    with pytest.raises(ValueError, match=r"block 1 changes the state from \(5, 6\) to \(5, 8\)"):
        wrap(model, model[:2], r=0.1).stage_logits(torch.randn(5, 6))
    skip = lambda b, x: torch.cat([x, x[:, :2]], 1) if isinstance(b, Of) else x  # noqa: E731
    z = wrap(model, model[:2], r=0.1, skip=skip).stage_logits(x := torch.randn(5, 6))
    assert torch.allclose(z[0], model[2](torch.cat([x, x[:, :2]], 1)), atol=1e-6)


def test_a_named_skip_that_is_not_what_remains():
    model = Chain(Of(post_norm))
    with pytest.raises(ValueError, match="but those of the named skip at zero does not return"):
        wrap(model, model.blocks, r=0.1, skip=lambda b, x: x).stage_logits(torch.randn(5, 6))
    good = wrap(model, model.blocks, r=0.1, skip=lambda b, x: b.norm(x))
    assert len(good.stage_logits(torch.randn(5, 6))) == 2
    assert good.facts.skips[0].parameters == {"norm.weight", "norm.bias"}


def test_several_submodules_that_could_be_the_shortcut():
    def two(b, x):
        return b.linear(x) + b.other(x)

    block = Of(two, 6, 8)
    block.other = nn.Linear(6, 8)
    model = nn.Sequential(block, nn.Linear(8, 4))
    with pytest.raises(ValueError, match=r"could be its shortcut \(linear, other\)"):
        wrap(model, model[:1], r=0.1).stage_logits(torch.randn(5, 6))


def write(x):
    x.add_(1.0)


def twice(blocks, x):
    for block in (*blocks, blocks[-1]):
        x = block(x)
    return x


def backwards(blocks, x):
    for block in reversed(blocks):
        x = block(x)
    return x


RUNS = {
    "block 1 runs twice in one forward": twice,
    "1 of 2 blocks ran": lambda blocks, x: blocks[0](x),
    "block 1 runs before block 0": backwards,
    "runs with gradients switched off": None,
}


@pytest.mark.parametrize("says", list(RUNS)[:3])
def test_blocks_that_run_otherwise_than_once_each_in_order(says):
    model = Chain(Dense(), Dense(), run=RUNS[says])
    with pytest.raises(ValueError, match=says):
        wrap(model, model.blocks, r=0.1).stage_logits(torch.randn(5, 6))


def test_a_block_that_is_dropped_at_random_is_found_in_the_step_that_drops_it():
    model = Chain(Dense(), Dense())
    w = wrap(model, model.blocks, r=0.1)
    w.stage_logits(torch.randn(5, 6))
    model.run = lambda blocks, x: blocks[0](x)
    with pytest.raises(ValueError, match="1 of 2 blocks ran"):
        w(torch.randn(5, 6), labels=torch.zeros(5, dtype=torch.int64))


def test_blocks_in_a_plain_list_are_not_reached():
    model = Chain(Dense(), Dense())
    kept = list(model.blocks)
    model.run = lambda blocks, x: kept[1](kept[0](x))
    with pytest.raises(ValueError, match=r"0 of 2 blocks ran.*in a plain list"):
        wrap(model, model.blocks, r=0.1).stage_logits(torch.randn(5, 6))


def test_gradients_switched_off_around_a_block():
    def frozen(blocks, x):
        x = blocks[0](x)
        with torch.no_grad():
            return blocks[1](x)

    model = Chain(Dense(), Dense(), run=frozen)
    w = wrap(model, model.blocks, r=0.1)
    with pytest.raises(ValueError, match=r"block 1 runs with gradients switched off"):
        w(torch.randn(5, 6), labels=torch.zeros(5, dtype=torch.int64))


def test_another_batch_in_the_second_run():
    class Halved(Chain):
        def forward(self, x):
            x = x if len(x) <= 5 else x[:5]
            return super().forward(x)

    model = Halved(Dense(), Dense())
    with pytest.raises(ValueError, match=r"meets a state of shape \(5, 6\) in the second run"):
        wrap(model, model.blocks, r=0.1).stage_logits(torch.randn(5, 6))


def test_a_state_that_travels_beside_the_first_of_a_tuple():
    class Pair(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(6, 6)

        def forward(self, x, other):
            y = self.linear(x)
            return x + y, other + y

    def both(blocks, x):
        other = x
        for block in blocks:
            x, other = block(x, other)
        return x + other

    model = Chain(Pair(), Pair(), run=both)
    with pytest.raises(ValueError, match=r"differs from the model's own answer.*nan|not finite"):
        wrap(model, model.blocks, r=0.1).stage_logits(torch.randn(5, 6))


def test_a_head_that_looks_at_earlier_states():
    """The last stage of the second run is not the model's answer."""

    def dense(blocks, x):
        first = x = blocks[0](x)
        for block in blocks[1:]:
            x = block(x)
        return x + first

    model = Chain(Dense(), Dense(), run=dense)
    with pytest.raises(ValueError, match="the last stage differs from the model's own answer"):
        wrap(model, model.blocks, r=0.1).stage_logits(torch.randn(5, 6))


def test_blocks_that_share_parameters_or_lie_elsewhere_too():
    one, two = Dense(), Dense()
    two.one.weight = one.one.weight
    model = Chain(one, two)
    with pytest.raises(ValueError, match="blocks 0 and 1 share a parameter"):
        wrap(model, model.blocks, r=0.1).stage_logits(torch.randn(5, 6))
    model = Chain(Of(lambda b, x: x + b.linear(x)))
    model.extra = nn.Linear(6, 6)
    model.extra.weight = model.blocks[0].linear.weight
    with pytest.raises(ValueError, match="block 0 shares its 'weight' with the ends"):
        wrap(model, model.blocks, r=0.1).stage_logits(torch.randn(5, 6))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"r": -1.0}, "r is -1.0"),
        ({"p_d": 0.9, "label_smoothing": 0.1}, "both given"),
        ({"label_smoothing": 1.0}, "label_smoothing is 1.0"),
        ({"h": 0.0}, "h is 0.0"),
        ({"beta": 2}, "beta is 2"),
        ({"beta": 0, "gamma": 0.0}, "beta and gamma are both 0"),
        ({"depths_per_step": 5}, "depths_per_step is 5; wanted 1..4"),
        ({"depths_per_step": 2, "beta": 0}, "takes no loss below N"),
        ({"batch_dim": 2}, "batch_dim is 2"),
        ({"p_d": 0.2}, "p_d is 0.2"),
    ],
)
def test_numbers(change, says):
    case = made(sequential)
    with pytest.raises(ValueError, match=says):
        wrap(case.model, case.blocks, **({"r": 0.1} | change))(*case.args, labels=case.labels)


def test_models_and_blocks():
    case = made(sequential)
    model, blocks = case.model, case.blocks
    for given, says in (
        ([], "no block is given"),
        ([blocks[0], blocks[0]], "block 1 is given twice"),
        ([nn.Linear(3, 3)], "block 0 is no submodule"),
        ([blocks[0], blocks[0].one], "block 1 lies within block 0"),
    ):
        with pytest.raises(ValueError, match=says):
            wrap(model, given, r=0.1)
    with pytest.raises(ValueError, match="is a DataParallel"):
        wrap(nn.DataParallel(model), blocks, r=0.1)
    with pytest.raises(ValueError, match="compiled as a whole"):
        wrap(torch.compile(model, backend="eager"), blocks, r=0.1)
    w = wrap(model, blocks, r=0.1)
    model[2] = Dense().double()
    with pytest.raises(ValueError, match="block 1 is no longer where it was"):
        w.stage_logits(*case.args)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        (torch.zeros(4, dtype=torch.int64), r"labels have shape \(4,\); wanted \(5,\)"),
        (torch.zeros(5), "type torch.float32; wanted int64"),
        (torch.full((5,), 4), "labels hold 4; wanted 0..3"),
        (torch.full((5,), -1), "labels hold -1"),
        (torch.full((5,), -100), "all labels are -100"),
    ],
)
def test_labels(labels, says):
    case = made(sequential)
    with pytest.raises(ValueError, match=says):
        wrap(case.model, case.blocks, r=0.1)(*case.args, labels=labels)


def test_arguments():
    case = made(sequential)
    w = wrap(case.model, case.blocks, r=0.1)
    with pytest.raises(ValueError, match="the first batch has 1 sample; wanted at least 2"):
        w.stage_logits(case.args[0][:1])
    model = Chain(Dense(), run=lambda blocks, x: blocks[0](x[0] if isinstance(x, set) else x))
    with pytest.raises(ValueError, match="a set, which cannot be repeated"):
        wrap(model, model.blocks, r=0.1).stage_logits({1})
    case = made(text)
    w = wrap(case.model, case.blocks, r=0.1)
    w.stage_logits(*case.args, **case.kwargs)
    with pytest.raises(ValueError, match="argument mask has shape"):
        w.stage_logits(case.args[0], mask=case.kwargs["mask"][:3])
    with pytest.raises(ValueError, match="mask is there in one batch and not in another"):
        w.stage_logits(case.args[0])
    with pytest.raises(ValueError, match="without logits; name them"):
        wrap(case.model, case.blocks, r=0.1, logits=lambda out: None).stage_logits(
            *case.args, **case.kwargs
        )


def test_inference_mode():
    case = made(sequential)
    w = wrap(case.model, case.blocks, r=0.1)
    with torch.inference_mode(), pytest.raises(ValueError, match="inference mode"):
        w.stage_logits(case.args[0] + 0)


def test_a_state_that_is_written_into_only_later():
    case = made(sequential)
    w = wrap(case.model, case.blocks, r=0.1)
    w.stage_logits(*case.args)
    case.blocks[1].register_forward_hook(lambda m, args, out: write(args[0]))
    with (
        pytest.raises(ValueError, match="the state before block 1 is written into"),
        torch.no_grad(),
    ):
        w.stage_logits(*case.args)
    assert made(preactivated).blocks  # those that always write are copied: see the exact tests


@pytest.mark.parametrize(
    ("optimizer", "says"),
    [
        (torch.optim.Adam, r"Adam decays .* J does already with h r = 0.025"),
        (torch.optim.SGD, "SGD decays"),
        (torch.optim.AdamW, "decoupled decay is no gradient of J"),
    ],
)
def test_an_optimiser_that_decays_what_r_weighs(optimizer, says):
    case = made(sequential)
    w = wrap(case.model, case.blocks, r=0.1)
    with pytest.raises(ValueError, match="seen no batch yet"):
        w.check(optimizer(w.parameters(), lr=0.1))
    w.examined(*case.args)
    w.check(optimizer(w.parameters(), lr=0.1, weight_decay=0.0))
    with pytest.raises(ValueError, match=says):
        w.check(optimizer(w.parameters(), lr=0.1, weight_decay=0.1))
    free = wrap(case.model, case.blocks, r=0.1, r_ends=0.0)
    free.examined(*case.args)
    ends = [*case.model[0].parameters(), *case.model[-1].parameters()]
    free.check(optimizer(ends, lr=0.1, weight_decay=0.1))


def test_a_trace_in_train_mode(tmp_path):
    case = made(strided)
    w = wrap(case.model, case.blocks, r=0.1)
    with pytest.raises(ValueError, match="train mode"):
        write_trace(tmp_path / "t", w, [(case.args, case.labels)])
    assert not list(tmp_path.iterdir())


def test_head_dropout_warns_once_and_only_in_train_mode():
    case = made(lambda: text(0.3))
    w = wrap(case.model, case.blocks, r=0.1)
    call = lambda: w(*case.args, labels=case.labels, **case.kwargs)  # noqa: E731
    w.eval()
    call()
    w.train()
    with pytest.warns(UserWarning, match=r"the head drops out \(drop\)"):
        call()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        call()


def test_a_crop_needs_a_batch_and_a_depth_that_is_there():
    case = made(tied)
    w = wrap(case.model, case.blocks, r=0.1)
    with pytest.raises(ValueError, match="seen no batch yet"):
        crop(w, 1)
    w.examined(*case.args)
    with pytest.raises(ValueError, match=r"4 blocks are to be kept; wanted 0\.\.3"):
        crop(w, 4)
    with pytest.raises(ValueError, match="no BatchNorm; there is nothing to recalibrate"):
        crop(w, 2, recalibrate=[case.args])
