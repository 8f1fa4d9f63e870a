"""The ways in which people train: checkpointing, compile, autocast, several processes."""

import copy
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import torch.utils.checkpoint
from torch import nn
from wrapped_library import LIBRARY, vit
from wrapped_models import Strided, made, sequential, strided, text

from nn_baseline import wrap

ROOT = Path(__file__).parents[2]


def gradients(w, case):
    w.zero_grad()
    J = w(*case.args, labels=case.labels, **case.kwargs)
    J.backward()
    return J.detach(), [p.grad for p in case.model.parameters()]


def same(one, two, bound):
    assert float(one[0]) == pytest.approx(float(two[0]), rel=bound)
    scale = max(float(g.abs().max()) for g in two[1])
    for g, wanted in zip(one[1], two[1], strict=True):
        assert float((g - wanted).abs().max()) <= bound * scale


class Checkpointed(Strided):
    """Every block, the last and those with shortcuts too, runs in a checkpoint."""

    reentrant = None

    def forward(self, x):
        x = self.stem(x)
        for block in self.blocks():
            if self.reentrant is None:
                x = block(x)
            else:
                x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=self.reentrant)
        return self.head(x)


@pytest.mark.parametrize("reentrant", [True, False])
@pytest.mark.parametrize("training", [True, False])
def test_gradient_checkpointing_changes_nothing(reentrant, training):
    case = made(strided)
    model = Checkpointed().double()
    model.load_state_dict(case.model.state_dict())
    case.model = model.train(training)
    plain = gradients(wrap(model, model.blocks(), r=0.1, p_d=0.9), case)
    plain = plain[0], [g.clone() for g in plain[1]]
    model.reentrant = reentrant
    w = wrap(model, model.blocks(), r=0.1, p_d=0.9)
    same(gradients(w, case), plain, 1e-10)


@pytest.mark.skipif(not LIBRARY, reason="transformers is not installed")
@pytest.mark.parametrize("reentrant", [True, False])
def test_gradient_checkpointing_of_the_library(reentrant):
    case = made(vit)
    case.model.train()
    w = wrap(case.model, case.blocks, r=0.1, p_d=0.9)
    plain = gradients(w, case)
    plain = plain[0], [g.clone() for g in plain[1]]
    enable = getattr(case.model, "activation_checkpointing_enable", None)
    enable = enable or case.model.gradient_checkpointing_enable  # its name before
    enable({"use_reentrant": reentrant})
    same(gradients(w, case), plain, 1e-10)


def test_autocast_keeps_the_loss_in_single_precision():
    case = made(sequential, dtype=torch.float32)
    w = wrap(case.model, case.blocks, r=0.1, p_d=0.9)
    plain = w(*case.args, labels=case.labels).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert w.stage_logits(*case.args).dtype == torch.bfloat16
        J = w(*case.args, labels=case.labels)
    assert J.dtype == torch.float32
    assert float(J.detach()) == pytest.approx(float(plain), rel=2e-2)
    assert float(J.detach()) != float(plain)


def test_half_precision_parameters_are_weighed_in_single():
    case = made(sequential, dtype=torch.bfloat16)
    w = wrap(case.model, case.blocks, r=0.1, p_d=0.9)
    assert w(*case.args, labels=case.labels).dtype == torch.float32


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*:UserWarning")
@pytest.mark.parametrize("how", ["blocks", "blocks before", "model", "wrapper"])
def test_compiled_as_eager(how):
    torch._dynamo.reset()
    case = made(lambda: text(0.0))
    wanted = gradients(wrap(case.model, case.blocks, r=0.1, p_d=0.9), case)
    wanted = wanted[0], [g.clone() for g in wanted[1]]
    if how == "blocks before":
        for block in case.blocks:
            block.compile(backend="aot_eager")
        case.answer()
    w = wrap(case.model, case.blocks, r=0.1, p_d=0.9)
    called = w
    if how == "blocks":
        for block in case.blocks:
            block.compile(backend="aot_eager")
    elif how == "model":
        case.model.compile(backend="aot_eager")
    elif how == "wrapper":
        called = torch.compile(w, backend="aot_eager")
    for _ in range(2):
        w.zero_grad()
        J = called(*case.args, labels=case.labels, **case.kwargs)
        J.backward()
        same((J.detach(), [p.grad for p in case.model.parameters()]), wanted, 1e-10)


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:.*:UserWarning")
def test_a_model_compiled_and_called_before_is_right_or_refused():
    torch._dynamo.reset()
    case = made(sequential)
    wanted = case.by_hand()
    case.model.compile(backend="aot_eager")
    case.answer()
    try:
        z = wrap(case.model, case.blocks, r=0.1).stage_logits(*case.args)
    except ValueError as error:
        assert "blocks ran" in str(error)
    else:
        assert torch.allclose(z, wanted, rtol=1e-12)


def test_training_brings_the_objective_down_and_a_copy_goes_on_alike():
    case = made(strided, dtype=torch.float32)
    w = wrap(case.model, case.blocks, r=1e-2, p_d=0.9)
    w.examined(*case.args)
    optimizer = torch.optim.Adam(w.parameters(), lr=1e-2)
    w.check(optimizer)
    costs = []
    for _ in range(15):
        optimizer.zero_grad()
        J = w(*case.args, labels=case.labels)
        J.backward()
        optimizer.step()
        costs.append(float(J.detach()))
    assert costs[-1] < 0.7 * costs[0]
    twin = copy.deepcopy(w)
    one, two = (float(v(*case.args, labels=case.labels).detach()) for v in (w, twin))
    assert one == two


def test_frozen_ends_cost_nothing_and_frozen_blocks_do():
    case = made(sequential)
    for p in case.model[0].parameters():
        p.requires_grad_(False)
    w = wrap(case.model, case.blocks, r=0.1, r_ends=0.2)
    w.examined(*case.args)
    own = sum(p.square().sum() for block in case.blocks for p in block.parameters())
    ends = sum(p.square().sum() for p in case.model[-1].parameters())
    wanted = 0.1 / 8 * own + 0.1 * ends
    assert float(w.penalty().detach()) == pytest.approx(float(wanted.detach()), rel=1e-12)


PROCESSES = """
import os, sys, torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
sys.path.insert(0, sys.argv[1])
from wrapped_models import made, sequential, strided
from nn_baseline import wrap

torch.set_num_threads(1)
dist.init_process_group("gloo", init_method="file://" + sys.argv[2], rank=int(sys.argv[3]),
                        world_size=2)
rank, found = dist.get_rank(), []
for maker in (sequential, strided):
    case = made(maker)
    case.model.eval()  # a BatchNorm in train mode sees its own process's half
    x, y = torch.cat([case.args[0][:4]]), case.labels[:4]
    w = wrap(case.model, case.blocks, r=0.1, p_d=0.9)
    ddp = DistributedDataParallel(w)
    optimizer = torch.optim.SGD(w.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        ddp(x[2 * rank:2 * rank + 2], labels=y[2 * rank:2 * rank + 2]).backward()
        optimizer.step()
    alone = made(maker)
    alone.model.eval()
    w = wrap(alone.model, alone.blocks, r=0.1, p_d=0.9)
    optimizer = torch.optim.SGD(w.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        w(x, labels=y).backward()
        optimizer.step()
    for one, two in zip(case.model.parameters(), alone.model.parameters()):
        found.append(float((one - two).detach().abs().max() / two.detach().abs().max().clamp(1e-3)))
print(max(found))
dist.destroy_process_group()
"""


def test_two_processes_are_one(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", PROCESSES, str(Path(__file__).parent), str(tmp_path / "at"),
             str(rank)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment,
        )
        for rank in (0, 1)
    ]  # fmt: skip
    for process in running:
        out, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
        assert float(out) <= 1e-10


def test_a_model_of_one_module_list_without_samples_first():
    """Integer inputs, states that merge samples and positions."""

    class Flat(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(7, 6)
            self.blocks = nn.ModuleList(nn.Sequential() for _ in range(0))
            from wrapped_models import Dense

            self.blocks.extend(Dense() for _ in range(3))
            self.out = nn.Linear(6, 7)

        def forward(self, ids):
            x = self.embedding(ids).flatten(0, 1)
            for block in self.blocks:
                x = block(x)
            return self.out(x).unflatten(0, ids.shape)

    torch.manual_seed(0)
    model, ids = Flat().double(), torch.randint(0, 7, (4, 5))
    w = wrap(model, model.blocks, r=0.1)
    z = w.stage_logits(ids)
    x = model.embedding(ids)
    for k, block in enumerate(model.blocks):
        assert torch.allclose(z[k], model.out(x), rtol=1e-12)
        x = block(x)
    assert w(ids, labels=ids).isfinite()
