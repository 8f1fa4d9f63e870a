"""The whole objective as one autograd node: the training path.

Autograd's bookkeeping of sixty small operations a pass costs as much as the arithmetic, and a
gradient that passes between two nodes may not be changed in place.  Here the stage points go into
one buffer that the readout reads as it lies, softmax z - q comes with the value of the loss, and
the adjoint runs by hand as in the statement,

    kappa_s = h w_s lambda_{k+1} + h a_{s+1} mu_{s+1},   zeta_s = sigma'(v_s) * W' kappa_s,
    mu_s = A' zeta_s + dJ/dX_s,   lambda_k = lambda_{k+1} + sum_s mu_s,

into the buffer that holds the dJ/dX_s; the gradients of all layers are one batched product.
`model.Network.path` and `data_costs` are the same in plain operations; the tests hold both to the
reference.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from ocp.loss import off_target

Sigma = Callable[[Tensor], Tensor]
#: nodes a_s and weights w_s of a scheme
Tableau = tuple[tuple[float, ...], tuple[float, ...]]


class WeightedCosts(Function):
    """sum_j weights_j F(X_j), without the entropy of the targets, over the points that J charges.

    These are the N S stage points and x_N, or x_N alone if there is one weight.
    """

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        A: Tensor,
        b: Tensor,
        W: Tensor | None,
        C: Tensor,
        c: Tensor,
        labels: Tensor,
        sigma: Sigma,
        tableau: Tableau,
        h: float,
        weights: Sequence[float],
        p_d: float,
    ) -> Tensor:
        P, V, Y = roll_out(x, A, b, W, sigma, tableau, h)
        value, residual = weighted_loss(P[-len(weights) :], C, c, labels, weights, p_d)
        ctx.save_for_backward(P, V, A, W, C, residual)
        ctx.Y, ctx.sigma, ctx.tableau, ctx.h = Y, sigma, tableau, h
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        P, V, A, W, C, residual = ctx.saved_tensors
        (nodes, weights), h, N = ctx.tableau, ctx.h, len(A)
        S, n_points = len(nodes), residual.shape[1] // P.shape[1]
        everywhere = n_points > 1
        # dJ/dX of the charged points, which the adjoint then builds upon
        mus = (residual.T @ (upstream * C)).view(n_points, *P.shape[1:]).unbind(0)
        lam = mus[-1]
        Z = torch.empty_like(V)
        # views once, not by indexing in the loop; a factor as a tensor, which a number would become
        zetas, pre, maps = Z.unbind(0), V.unbind(0), A.unbind(0)
        factors = [lam.new_tensor(h * w) for w in weights]
        kappas = None if W is None else torch.empty_like(V)
        for k in range(N - 1, -1, -1):
            mu: Tensor | None = None
            total: Tensor | None = None
            for s in range(S - 1, -1, -1):
                j = k * S + s
                kappa = lam * factors[s]
                if mu is not None:
                    kappa.add_(mu, alpha=h * nodes[s + 1])
                if kappas is not None:
                    kappas[j] = kappa
                    kappa = kappa @ W[k]
                pull_back(ctx.sigma, pre[j], ctx.Y[j], kappa, out=zetas[j])
                mu = mus[j].addmm_(zetas[j], maps[k]) if everywhere else zetas[j] @ maps[k]
                total = mu if total is None else total + mu
            lam = lam.add_(total)
        # (N, S batch, n): the sums over stages and samples are one batched product
        rows = lambda buffer: buffer.view(N, -1, buffer.shape[-1])  # noqa: E731
        dA = torch.bmm(rows(Z).mT, rows(P[:-1]))
        db = rows(Z).sum(dim=1)
        dW = None if W is None else torch.bmm(rows(kappas).mT, rows(torch.stack(ctx.Y)))
        dC = dc = None
        if ctx.needs_input_grad[4]:
            dC = upstream * (residual @ P[-n_points:].view(-1, P.shape[-1]))
            dc = upstream * residual.sum(dim=1)
        return lam, dA, db, dW, dC, dc, *[None] * 6


def roll_out(
    x: Tensor, A: Tensor, b: Tensor, W: Tensor | None, sigma: Sigma, tableau: Tableau, h: float
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Return the N S stage points and x_N, (N S + 1, batch, n), all pre-activations and sigmas."""
    (nodes, weights), N = tableau, len(A)
    S = len(nodes)
    P = x.new_empty(N * S + 1, *x.shape)
    V, Y = x.new_empty(N * S, *x.shape), []
    points, pre = P.unbind(0), V.unbind(0)
    points[0].copy_(x)
    maps = [None] * N if W is None else W.unbind(0)
    for k, (A_k, b_k, W_k) in enumerate(zip(A.unbind(0), b.unbind(0), maps, strict=True)):
        start, following = points[k * S], points[(k + 1) * S]
        K = start  # written before it is read
        for s, (a, w) in enumerate(zip(nodes, weights, strict=True)):
            X, v = points[k * S + s], pre[k * S + s]
            if s:
                torch.add(start, K, alpha=h * a, out=X)
            torch.addmm(b_k, X, A_k.T, out=v)
            y = sigma(v)
            Y.append(y)
            K = y if W_k is None else y @ W_k.T
            if s == 0 and S > 1:
                step = K * w
            elif S > 1:
                step.add_(K, alpha=w)
            else:
                step = K
        torch.add(start, step, alpha=h, out=following)
    return P, V, Y


def weighted_loss(
    X: Tensor, C: Tensor, c: Tensor, labels: Tensor, weights: Sequence[float], p_d: float
) -> tuple[Tensor, Tensor]:
    """Return sum_j weights_j (F(X_j) + H(q)) and its gradient in the logits, (n_c, points batch).

    The logits are laid out classes first, (n_c, points, batch), which a CPU's softmax reads 17
    times faster than ten classes last.
    """
    n_classes, (points, batch, n) = len(C), X.shape
    q = X.new_full((n_classes, 1, batch), off_target(n_classes, p_d))
    q.scatter_(0, labels[None, None], p_d)
    scale = X.new_tensor(weights)[:, None] / batch
    qs = q * scale  # (n_c, points, batch)
    z = torch.addmm(c[:, None], C, X.reshape(-1, n).T).view(n_classes, points, batch)
    z.sub_(z.amax(dim=0))  # q sums to one: neither softmax nor value changes
    e = z.exp()
    total = e.sum(dim=0)
    value = (total.log() * scale).sum() - torch.dot(z.view(-1), qs.view(-1))
    return value, e.mul_(scale / total).sub_(qs).view(n_classes, points * batch)


def pull_back(sigma: Sigma, v: Tensor, y: Tensor, kappa: Tensor, out: Tensor) -> None:
    """Put sigma'(v) * kappa, elementwise, into out; y = sigma(v)."""
    if sigma is torch.tanh:
        torch.ops.aten.tanh_backward.grad_input(kappa, y, grad_input=out)
    elif sigma is torch.relu:
        torch.ops.aten.threshold_backward.grad_input(kappa, y, 0, grad_input=out)
    else:
        with torch.enable_grad():  # every activation by its own convention at kinks
            v = v.detach().requires_grad_()
            (zeta,) = torch.autograd.grad(sigma(v), v, kappa)
        out.copy_(zeta)
