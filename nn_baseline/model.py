"""The statement's residual network and neural ODE, built natively in torch.

    x_0 = E s + e,   x_{k+1} = Phi_h(x_k, u_k),   z_k = C x_k + c
    J = sum_k h [ sum_s w_s beta F(X_{k,s}) + (r/2)|u_k|^2 ] + gamma F(x_N) + (r_ends/2)|ends|^2

All layers live in three stacked tensors, so an optimiser sees three parameters, not sixty, and the
readout is applied once to the stacked stage points: a loss at every layer costs next to nothing.
Names and shapes are those of `ocp.controls`.

On weight decay: dJ/du_k holds h r u_k, so in J the decay is *coupled*.  `torch.optim.SGD` with
weight_decay = h r on the layers and r = 0 in J takes the same steps; AdamW's decoupled decay is
no gradient of J and ends at the solution of another problem.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ocp.controls import Controls, ends, flatten, near_zero, validate
from ocp.loss import entropy, off_target, soft_target
from ocp.problem import END_PARTS, SCHEMES, Problem

from .activations import activation
from .fused import WeightedCosts

LAYER_PARTS = ("A", "b", "W")


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class Path:
    """What one forward pass visits.

    states : N + 1 tensors x_k, (batch, n)
    stages : N S tensors X_{k,s}, (batch, n), layer by layer; X_{k,1} is x_k itself
    """

    states: list[Tensor]
    stages: list[Tensor]


class Network(nn.Module):
    """One problem's network; trained parts are parameters, fixed ends are buffers.

    Parameters
    ----------
    problem : the statement; its samples are not copied here
    controls : where to start; default near zero with b != 0, drawn from `seed`
    dtype, device : of every tensor of the network
    scale, seed : of the default start

    Raises
    ------
    ValueError : the controls do not fit the problem
    """

    A: nn.Parameter  # (N, n, n)
    b: nn.Parameter  # (N, n)
    W: nn.Parameter | None  # (N, n, n), block double
    lift_weight: Tensor  # (n, n_in)
    lift_bias: Tensor
    readout_weight: Tensor  # (n_c, n)
    readout_bias: Tensor
    sigma: Callable[[Tensor], Tensor]

    def __init__(
        self,
        problem: Problem,
        controls: Controls | None = None,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
        scale: float = 1e-2,
        seed: int = 0,
    ) -> None:
        super().__init__()
        if controls is None:
            controls = near_zero(problem, np.random.default_rng(seed), scale)
        validate(problem, controls)
        self.problem = problem
        self.sigma = activation(problem.sigma)
        self.nodes, self.weights = SCHEMES[problem.scheme]
        put = lambda value: torch.tensor(value, dtype=dtype, device=device)  # noqa: E731
        for name in LAYER_PARTS:
            value = getattr(controls, name)
            self.register_parameter(name, None if value is None else nn.Parameter(put(value)))
        for name, value in zip(END_PARTS, ends(problem, controls), strict=True):
            if name in problem.trained_parts:
                self.register_parameter(name, nn.Parameter(put(value)))
            else:
                self.register_buffer(name, put(value))

    def lift(self, inputs: Tensor) -> Tensor:
        """x_0 = E s + e, (batch, n), of samples as numbers or as bytes, (batch, n_in)."""
        if inputs.dtype == torch.uint8:
            scale, shift = self.problem.input_scale, self.problem.input_shift
            if scale is None or shift is None:
                raise ValueError("inputs are bytes; wanted numbers, or a problem with input_scale")
            inputs = inputs.to(self.A.dtype).mul_(scale).add_(shift)
        return F.linear(inputs, self.lift_weight, self.lift_bias)

    def path(self, inputs: Tensor) -> Path:
        """Roll the layers out from the samples."""
        return self.path_from(self.lift(inputs))

    def path_from(self, x: Tensor) -> Path:
        """Roll the layers out from x_0, (batch, n)."""
        # unbind, not A[k]: the backward pass is then one stack, not N writes of all of A
        W = [None] * self.problem.depth if self.W is None else self.W.unbind(0)
        states: list[Tensor] = [x]
        stages: list[Tensor] = []
        for A_k, b_k, W_k in zip(self.A.unbind(0), self.b.unbind(0), W, strict=True):
            x = self.layer(x, A_k, b_k, W_k, stages)
            states.append(x)
        return Path(states=states, stages=stages)

    def layer(
        self, x: Tensor, A: Tensor, b: Tensor, W: Tensor | None, stages: list[Tensor] | None = None
    ) -> Tensor:
        """One step Phi_h(x, u), (batch, n); appends its stage points to `stages`."""
        h, K, following = self.problem.h, x, x  # K is written before it is read: a_1 = 0
        for a, w in zip(self.nodes, self.weights, strict=True):
            X = x if a == 0.0 else torch.add(x, K, alpha=h * a)
            if stages is not None:
                stages.append(X)
            K = self.sigma(F.linear(X, A, b))  # (batch, n)
            if W is not None:
                K = F.linear(K, W)
            following = torch.add(following, K, alpha=h * w)
        return following

    def states(self, inputs: Tensor) -> Tensor:
        """Return x_0 .. x_N, (N+1, batch, n)."""
        return torch.stack(self.path(inputs).states)

    def logits(self, X: Tensor) -> Tensor:
        """z = C x + c for states of any leading shape, (..., n_c)."""
        return F.linear(X, self.readout_weight, self.readout_bias)

    def cost_weights(self) -> list[float]:
        """Weight in J of the data cost at each point that `costed` returns."""
        problem = self.problem
        if problem.beta == 0:
            return [problem.gamma]
        return [problem.h * w for w in self.weights] * problem.depth + [problem.gamma]

    def costed(self, path: Path) -> Tensor:
        """Stack the points at which J charges the data cost, (points, batch, n)."""
        if self.problem.beta == 0:
            return path.states[-1][None]
        return torch.stack([*path.stages, path.states[-1]])

    def data_costs(self, points: Tensor, labels: Tensor) -> Tensor:
        """F at each of the stacked points, (points,); the mean over the given samples."""
        problem = self.problem
        z = self.logits(points)
        return soft_cross_entropy(z, labels, problem.p_d).mean(dim=-1)

    def penalty(self) -> Tensor:
        """sum_k h (r/2) |u_k|^2 + (r_ends/2) |trained ends|^2: no part of it depends on samples."""
        problem = self.problem
        squares = lambda part: part.square().sum()  # noqa: E731
        layers = sum(squares(getattr(self, p)) for p in LAYER_PARTS if getattr(self, p) is not None)
        total = (0.5 * problem.h * problem.r) * layers
        if problem.r_ends:
            trained = sum(squares(getattr(self, p)) for p in problem.trained_parts)
            total = total + (0.5 * problem.r_ends) * trained
        return total

    def forward(self, inputs: Tensor, labels: Tensor | None = None, share: float = 1.0) -> Tensor:
        """Return J with F taken over these samples: the whole set, or an unbiased mini-batch.

        Without labels: the logits z_N, (batch, n_c).

        share : factor on the data cost; a process that holds m of the B samples of a global
            batch on P processes passes m P / B, and the mean over processes is then J itself
        """
        problem = self.problem
        if labels is None:
            return self.logits(self.path(inputs).states[-1])
        weights = [w * share for w in self.cost_weights()]
        data = WeightedCosts.apply(
            *(self.lift(inputs), self.A, self.b, self.W),
            *(self.readout_weight, self.readout_bias, labels),
            *(self.sigma, (self.nodes, self.weights), problem.h, weights, problem.p_d),
        )
        constant = sum(weights) * target_entropy(problem.n_classes, problem.p_d)
        return data - constant + self.penalty()

    def costate(self, inputs: Tensor, labels: Tensor) -> Tensor:
        """lambda_k = dJ/dx_k, (N+1, batch, n), by back-propagation."""
        path = self.path_from(self.lift(inputs).detach().requires_grad_())
        costs = self.data_costs(self.costed(path), labels)
        J = costs @ costs.new_tensor(self.cost_weights()) + self.penalty()
        return torch.stack(torch.autograd.grad(J, path.states))

    def extra_repr(self) -> str:
        problem = self.problem
        return f"depth={problem.depth}, width={problem.width}, classes={problem.n_classes}"

    def controls(self) -> Controls:
        """Return the trained parts as float64 NumPy arrays (exact for float32)."""
        trained = {
            name: value.detach().cpu().numpy().astype(np.float64)
            for name, value in self.named_parameters()
        }
        return Controls(**trained)

    def gradient(self) -> np.ndarray:
        """The .grad of all parameters in the flat order of `ocp.controls`, (d,)."""
        parts = {}
        for name, p in self.named_parameters():
            if p.grad is None:
                raise ValueError(f"{name} has no gradient; wanted a backward pass before")
            parts[name] = p.grad.cpu().numpy().astype(np.float64)
        return flatten(Controls(**parts))


def soft_cross_entropy(z: Tensor, labels: Tensor, p_d: float) -> Tensor:
    """g_y(z) = KL(q(y) || softmax z), (..., batch), for logits (..., batch, n_c)."""
    n_classes = z.shape[-1]
    eps = off_target(n_classes, p_d)
    log_p = torch.log_softmax(z, dim=-1)
    index = labels.expand(z.shape[:-1])[..., None]
    picked = log_p.gather(-1, index)[..., 0]
    # q = eps everywhere and p_d - eps more on the true class
    return -(p_d - eps) * picked - eps * log_p.sum(dim=-1) - target_entropy(n_classes, p_d)


@functools.cache
def target_entropy(n_classes: int, p_d: float) -> float:
    """H(q), the same for every class."""
    return float(entropy(soft_target(np.zeros(1, dtype=int), n_classes, p_d))[0])
