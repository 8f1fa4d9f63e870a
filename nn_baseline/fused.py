"""All layers as one autograd node, and the loss at all of them as another: the training path.

Autograd's bookkeeping of sixty small operations a pass costs as much as the arithmetic.  Here the
stage points go into one buffer that the readout reads as it lies, the adjoint runs by hand as in
the statement,

    kappa_s = h w_s lambda_{k+1} + h a_{s+1} mu_{s+1},   zeta_s = sigma'(v_s) * W' kappa_s,
    mu_s = A' zeta_s + dJ/dX_s,   lambda_k = lambda_{k+1} + sum_s mu_s,

and the gradients of all layers are one batched product.  `model.Network.path` is the same
forward pass in plain operations; the tests hold both to the reference.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable


class Layers(Function):
    """x_0 (batch, n) -> the N S stage points and x_N, (N S + 1, batch, n), or x_N alone."""

    @staticmethod
    def forward(
        ctx,
        x: Tensor,
        A: Tensor,
        b: Tensor,
        W: Tensor | None,
        sigma: Callable[[Tensor], Tensor],
        tableau: tuple[tuple[float, ...], tuple[float, ...]],
        h: float,
        all_points: bool,
    ) -> Tensor:
        (nodes, weights), N = tableau, len(A)
        S = len(nodes)
        P = x.new_empty(N * S + 1, *x.shape)
        V, Y = x.new_empty(N * S, *x.shape), []
        points, pre = P.unbind(0), V.unbind(0)
        points[0].copy_(x)
        maps = [None] * N if W is None else W.unbind(0)
        for k, (A_k, b_k, W_k) in enumerate(zip(A.unbind(0), b.unbind(0), maps, strict=True)):
            start, following = points[k * S], points[(k + 1) * S]
            K = None
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
        ctx.save_for_backward(P, V, A, W)
        ctx.Y, ctx.sigma, ctx.tableau, ctx.h, ctx.all_points = Y, sigma, tableau, h, all_points
        return P if all_points else P[-1:].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor):
        P, V, A, W = ctx.saved_tensors
        (nodes, weights), h, N = ctx.tableau, ctx.h, len(A)
        S = len(nodes)
        Z = torch.empty_like(V)
        kappas = None if W is None else torch.empty_like(V)
        charged = upstream.unbind(0) if ctx.all_points else None
        lam = upstream[-1].clone()
        for k in range(N - 1, -1, -1):
            mu, total = None, None
            for s in range(S - 1, -1, -1):
                j = k * S + s
                kappa = lam * (h * weights[s])
                if mu is not None:
                    kappa.add_(mu, alpha=h * nodes[s + 1])
                if W is not None:
                    kappas[j] = kappa
                    kappa = kappa @ W[k]
                zeta = pull_back(ctx.sigma, V[j], ctx.Y[j], kappa)
                Z[j] = zeta
                mu = zeta @ A[k] if charged is None else torch.addmm(charged[j], zeta, A[k])
                total = mu if total is None else total + mu
            lam = lam.add_(total)
        # (N, S batch, n): the sums over stages and samples are one batched product
        rows = lambda buffer: buffer.view(N, -1, buffer.shape[-1])  # noqa: E731
        dA = torch.bmm(rows(Z).mT, rows(P[:-1]))
        db = rows(Z).sum(dim=1)
        dW = None if W is None else torch.bmm(rows(kappas).mT, rows(torch.stack(ctx.Y)))
        return lam, dA, db, dW, None, None, None, None


def pull_back(sigma: Callable, v: Tensor, y: Tensor, kappa: Tensor) -> Tensor:
    """sigma'(v) * kappa, elementwise; y = sigma(v)."""
    if sigma is torch.tanh:
        return torch.ops.aten.tanh_backward(kappa, y)
    if sigma is torch.relu:
        return torch.ops.aten.threshold_backward(kappa, y, 0)
    with torch.enable_grad():  # every activation by its own convention at kinks
        v = v.detach().requires_grad_()
        (zeta,) = torch.autograd.grad(sigma(v), v, kappa)
    return zeta


class WeightedLoss(Function):
    """sum_j weights_j F(X_j) for stacked points X (points, batch, n), readout included.

    Two things make it cheap: softmax z - q, the gradient, is a by-product of the value; and the
    logits are laid out classes first, (n_c, points, batch), which a CPU's softmax reads 17 times
    faster than ten classes last.
    """

    @staticmethod
    def forward(
        ctx, X: Tensor, C: Tensor, c: Tensor, labels: Tensor, weights: list[float], p_d: float
    ) -> Tensor:
        n_classes, points, batch = len(C), X.shape[0], X.shape[1]
        eps = (1.0 - p_d) / (n_classes - 1)
        flat = X.reshape(points * batch, -1)
        z = torch.addmm(c[:, None], C, flat.T).view(n_classes, points, batch)
        log_p = torch.log_softmax(z, dim=0)
        index = labels.expand(1, points, batch)
        picked = log_p.gather(0, index)[0]
        # q = eps everywhere and p_d - eps more on the true class
        cross = (p_d - eps) * picked.sum(dim=1) + eps * log_p.sum(dim=(0, 2))
        scale = X.new_tensor(weights) / batch
        value = -(scale @ cross)
        residual = log_p.exp_().sub_(eps)
        residual.scatter_add_(0, index, residual.new_full((), eps - p_d).expand(index.shape))
        residual = residual.mul_(scale[:, None]).view(n_classes, points * batch)
        ctx.save_for_backward(residual, flat, C)
        ctx.shape = X.shape
        return value

    @staticmethod
    @once_differentiable
    def backward(ctx, upstream: Tensor):
        residual, flat, C = ctx.saved_tensors
        residual = residual * upstream  # (n_c, points * batch)
        dX = (residual.T @ C).view(ctx.shape)
        trained = ctx.needs_input_grad[1]
        dC = residual @ flat if trained else None
        dc = residual.sum(dim=1) if trained else None
        return dX, dC, dc, None, None, None
