"""Any residual network as the statement's problem: the stage cost over a model as it is.

    J = sum_{k<N} h (beta F(z_k) + (r/2) |u_k|^2) + gamma F(z_N) + (r_ends/2) |ends|^2

z_k are the logits that the model would give were the blocks from k on idle, z_N its own answer; u_k
all parameters of block k but its shortcut's; ends those of stem, shortcuts and head that are
trained.  F is the soft cross-entropy of `ocp.loss`, a mean over the targets that are not ignored.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ocp import validation

from ..model import target_entropy
from . import controls
from .arguments import Call
from .examination import Examined, examine
from .losses import check_labels, data_costs
from .recording import Runs
from .residual import NamedSkip

#: what the blocks of a statement may not be: wrappers that hide the model's own forward
OUTER = (nn.DataParallel, nn.parallel.DistributedDataParallel)


class Wrapped(nn.Module):
    """A model with the loss at every block; made by `wrap`.

    Everything that depends on how the model works is found out on the first batch, in eval mode,
    and refused there if it does not fit: see `examined`.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Sequence[nn.Module],
        *,
        skip: NamedSkip | None,
        head: Callable[[Tensor], Tensor] | None,
        logits: Callable[[Any], Tensor] | None,
        numbers: dict[str, float],
        label_smoothing: float | None,
        ignore_index: int,
        batch_dim: int,
        depths_per_step: int | None,
        seed: int,
    ) -> None:
        super().__init__()
        self.model = model
        self.blocks = list(blocks)  # a plain list: they are registered within the model
        self.skip, self.head, self.to_logits = skip, head, logits
        self.depth = len(blocks)
        self.h, self.r, self.r_ends = numbers["h"], numbers["r"], numbers["r_ends"]
        self.beta, self.gamma, self.p_d = int(numbers["beta"]), numbers["gamma"], numbers["p_d"]
        self.label_smoothing, self.ignore_index = label_smoothing, ignore_index
        self.batch_dim, self.depths_per_step = batch_dim, depths_per_step
        self.generator = torch.Generator().manual_seed(seed)
        self.runs = Runs(model, blocks, batch_dim)
        self._examined: Examined | None = None
        self._warned = False

    @torch.compiler.disable
    def examined(self, *inputs: Any, **kwargs: Any) -> Examined:
        """What was found out about the model, on this batch if it is the first.

        Raises
        ------
        ValueError : the model is none that this wrapper answers rightly for; the sentence says why
        """
        if self._examined is None:
            self._examined = examine(
                self.model,
                self.blocks,
                self.runs,
                Call(args=inputs, kwargs=kwargs),
                skip=self.skip,
                head=self.head,
                to_logits=self.to_logits,
                batch_dim=self.batch_dim,
            )
        return self._examined

    @property
    def facts(self) -> Examined:
        """What was found out on the first batch.

        Raises
        ------
        ValueError : there was none yet
        """
        if self._examined is None:
            raise ValueError("the wrapper has seen no batch yet; call it, or `examined`, on one")
        return self._examined

    @torch.compiler.disable(recursive=False)
    def forward(self, *inputs: Any, labels: Tensor, share: float = 1.0, **kwargs: Any) -> Tensor:
        """Return J with F taken over these samples; the model is called with all but the labels.

        labels : classes, in the shape of the logits without their last dimension
        share : factor on the data cost, for a process that holds more or fewer targets than others
        """
        call = Call(args=inputs, kwargs=kwargs)
        facts = self.examined(*inputs, **kwargs)
        if facts.head_dropout and self.training and not self._warned:
            self._warned = True
            warnings.warn(
                f"the head drops out ({facts.head_dropout}): in train mode every stage draws a mask"
                " of its own",
                stacklevel=2,
            )
        stages, weights = self._drawn()
        z = self._logits(call, facts, stages)
        check_labels(labels, z, self.ignore_index)
        costs = self.data_costs(z, labels)
        data = costs @ costs.new_tensor(weights)
        if self.label_smoothing is not None:  # torch's loss is F + H(q)
            entropy = target_entropy(z.shape[-1], self.p_d_of(z.shape[-1]))
            data = data + entropy * sum(weights)
        return share * data + self.penalty()

    @torch.compiler.disable
    def penalty(self) -> Tensor:
        """sum_k h (r/2) |u_k|^2 + (r_ends/2) |ends|^2: no part of it depends on samples."""
        found = self.facts.weighed
        device = next(self.model.parameters()).device
        total = torch.zeros((), device=device)
        if self.r:
            every = [p for own in found.blocks for p in own]
            total = total + (0.5 * self.h * self.r) * controls.squares(every).to(device)
        trained = [p for p in found.ends if p.requires_grad]
        if self.r_ends and trained:
            total = total + (0.5 * self.r_ends) * controls.squares(trained).to(device)
        return total

    def stage_logits(self, *inputs: Any, **kwargs: Any) -> Tensor:
        """z_0 .. z_N, (N + 1, ...): the logits before the first block and after every one."""
        facts = self.examined(*inputs, **kwargs)
        return self._logits(Call(args=inputs, kwargs=kwargs), facts, range(self.depth))

    def stages_and_updates(self, call: Call) -> tuple[Tensor, Tensor]:
        """All logits, and per sample what each block does to its state, (2, N, rows), float64.

        Relative update and change of direction; see `block_report`.
        """
        facts, tape = self.examined(*call.args, **call.kwargs), self.runs.tape
        facts.samples.count(call)
        try:
            own = facts.logits_of(self.runs.first(call))
            moved = []
            for k, skip in enumerate(facts.skips):
                rest = skip.apply(self.blocks[k], tape.states[k])
                moved.append(_moved(rest, tape.outputs[k], self.batch_dim))
            stacked = facts.stacked(self.runs, call, range(self.depth), self.head, own)
            return torch.cat([stacked, own[None]]), torch.stack(moved, dim=1)
        finally:
            tape.clear()

    @torch.compiler.disable
    def data_costs(self, z: Tensor, labels: Tensor) -> Tensor:
        """F of stacked logits, (stages,)."""
        return data_costs(z, labels, self.p_d_of(z.shape[-1]), self.ignore_index)

    def p_d_of(self, n_classes: int) -> float:
        """Probability of the true class: p_d, or 1 - eps + eps/n_c of torch's label smoothing.

        Raises
        ------
        ValueError : no soft target for that number of classes
        """
        p_d = self.p_d
        if self.label_smoothing is not None:
            p_d = 1.0 - self.label_smoothing + self.label_smoothing / n_classes
        validation.soft_probability(n_classes, p_d)
        return p_d

    def check(self, optimizer: torch.optim.Optimizer) -> None:
        """Raise ValueError if an optimiser decays what the control term weighs already."""
        found = self.facts.weighed
        heavy = {id(p) for own in found.blocks for p in own} if self.r else set()
        heavy |= {id(p) for p in found.ends} if self.r_ends else set()
        name = type(optimizer).__name__
        for i, group in enumerate(optimizer.param_groups):
            decay = group.get("weight_decay", 0.0)
            if not decay or not any(id(p) in heavy for p in group["params"]):
                continue
            if "AdamW" in name or group.get("decoupled_weight_decay", False):
                why = "and decoupled decay is no gradient of J"
            else:
                why = f"which J does already with h r = {self.h * self.r:.3g} for the blocks"
            raise ValueError(
                f"{name} decays parameters that r weighs (group {i}, weight_decay {decay:g}),"
                f" {why}; wanted weight_decay=0 for them"
            )

    @torch.compiler.disable
    def _drawn(self) -> tuple[Sequence[int], list[float]]:
        """Stages below N whose loss is taken, and the weight in J of each and of the last.

        m of N depths, each weighted N/m: every depth is drawn with probability m/N, so J and its
        gradient are unbiased.
        """
        N, m = self.depth, self.depths_per_step
        if not self.beta:
            return (), [self.gamma]
        if m is None or m >= N or not self.training:
            return range(N), [self.h] * N + [self.gamma]
        drawn = torch.randperm(N, generator=self.generator)[:m].sort().values.tolist()
        return drawn, [self.h * N / m] * m + [self.gamma]

    @torch.compiler.disable(recursive=False)
    def _logits(self, call: Call, facts: Examined, stages: Sequence[int]) -> Tensor:
        """Logits of the stages and of the model itself, (stages + 1, ...)."""
        if not stages:
            return facts.logits_of(call.of(self.model))[None]
        facts.samples.count(call)
        try:
            own = facts.logits_of(self.runs.first(call))
            stacked = facts.stacked(self.runs, call, stages, self.head, own)
            return torch.cat([stacked, own[None]])
        finally:
            self.runs.tape.clear()


def _moved(rest: Tensor, state: Tensor, batch_dim: int) -> Tensor:
    """|x - s| / |s| and 1 - cos(x, s) of every sample, (2, rows)."""
    s, x = (v.double().movedim(batch_dim, 0).flatten(1) for v in (rest, state))
    size, other = s.norm(dim=1), x.norm(dim=1)
    tiny = torch.finfo(torch.float64).tiny
    update = (x - s).norm(dim=1) / size.clamp_min(tiny)
    # |a - b|^2 / 2 of unit vectors: 1 - cos without cancellation
    unit = s / size.clamp_min(tiny)[:, None] - x / other.clamp_min(tiny)[:, None]
    return torch.stack([update, 0.5 * unit.square().sum(dim=1)])


def wrap(
    model: nn.Module,
    blocks: Sequence[nn.Module] | nn.Module,
    *,
    r: float,
    p_d: float | None = None,
    label_smoothing: float | None = None,
    h: float | None = None,
    beta: int = 1,
    gamma: float = 1.0,
    r_ends: float | None = None,
    skip: NamedSkip | None = None,
    head: Callable[[Tensor], Tensor] | None = None,
    logits: Callable[[Any], Tensor] | None = None,
    ignore_index: int = -100,
    batch_dim: int = 0,
    depths_per_step: int | None = None,
    seed: int = 0,
) -> Wrapped:
    """Put the loss at every block of a residual network, which stays as it is.

    Parameters
    ----------
    model : any torch module that ends in logits of classes
    blocks : its residual blocks in the order in which they run
    r : weight of the controls;  r_ends : of stem, shortcuts and head (r)
    p_d : probability of the true class in the target (1: hard);  label_smoothing : instead of it,
        torch's eps, whose loss is F + H(q): equal gradients, other values
    h : factor of a stage (1/N)
    skip : (block, state) -> what remains of the state when the block idles; found by itself for
        blocks of the usual forms
    head : last state -> logits, instead of a second run of the model
    logits : what the model returns -> logits (the tensor, its `logits`, or the entry "logits")
    ignore_index : label of targets that do not count
    batch_dim : dimension of the states and of the inputs that counts the samples
    depths_per_step : in train mode, take the loss at so many depths below N, drawn at each step
    seed : of that draw

    Raises
    ------
    ValueError : numbers out of range, or blocks that are not the model's
    """
    if isinstance(model, OUTER):
        raise ValueError(f"the model is a {type(model).__name__}; wrap the model in it, then that")
    if hasattr(model, "_orig_mod"):
        raise ValueError("the model is compiled as a whole; wrap it first, compile its blocks then")
    listed = list(blocks.children() if isinstance(blocks, nn.Module) else blocks)
    if p_d is not None and label_smoothing is not None:
        raise ValueError("p_d and label_smoothing are both given; wanted one of them")
    if label_smoothing is not None and not 0 <= validation.number("eps", label_smoothing) < 1:
        raise ValueError(f"label_smoothing is {label_smoothing}; wanted 0 <= eps < 1")
    beta = validation.flag("beta", beta)
    numbers = {
        "h": validation.positive("h", 1.0 / max(1, len(listed)) if h is None else h),
        "r": validation.at_least("r", r, 0),
        "r_ends": validation.at_least("r_ends", r if r_ends is None else r_ends, 0),
        "gamma": validation.at_least("gamma", gamma, 0),
        "p_d": validation.number("p_d", 1.0 if p_d is None else p_d),
        "beta": beta,
    }
    validation.some_data_cost(beta, numbers["gamma"])
    if depths_per_step is not None and not 1 <= depths_per_step <= len(listed):
        raise ValueError(f"depths_per_step is {depths_per_step}; wanted 1..{len(listed)}")
    if depths_per_step is not None and not beta:
        raise ValueError("depths_per_step is given with beta = 0, which takes no loss below N")
    if batch_dim not in (0, 1):
        raise ValueError(f"batch_dim is {batch_dim}; wanted 0 or 1")
    return Wrapped(
        model, listed, skip=skip, head=head, logits=logits, numbers=numbers,
        label_smoothing=label_smoothing, ignore_index=ignore_index, batch_dim=batch_dim,
        depths_per_step=depths_per_step, seed=seed,
    )  # fmt: skip
