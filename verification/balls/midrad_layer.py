"""One layer of the backward sweep of `midrad_hessian`, for some samples at a time."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from . import midrad
from .midrad import MidRad, matmul
from .midrad_functions import softmax


class Parts(NamedTuple):
    """A (N, n, n), b (N, n), W or None, E, e, C, c over the box."""

    A: MidRad
    b: MidRad
    W: MidRad | None
    E: MidRad
    e: MidRad
    C: MidRad
    c: MidRad


class Stage(NamedTuple):
    """One stage: its point X and sigma, sigma', sigma'' at its pre-activations, (n_i, n) each."""

    X: MidRad
    sigma: tuple[MidRad, MidRad, MidRad]


class Loss(NamedTuple):
    """A weighted data cost w g of every sample and its derivatives at logits C X + c.

    slope : w (p - q), (n_i, n_c);  Q : w (diag p - p p')
    M : d2(w g)/dX d(C, c), (n_i, n, t);  end : d2(sum w g)/d(C, c)2, (t, t); None where fixed
    """

    slope: MidRad
    Q: MidRad
    M: MidRad | None
    end: MidRad | None


class Swept(NamedTuple):
    """What a layer hands on.

    costate : dV_k/dx, (n_i, n);  Phi : d x_{k+1}/d(x, u_k), (n_i, n, n + m)
    rows : V_k''[x, (x, u_k)], (n_i, n, n + m);  own : sum of V_k''[u_k, u_k], (m, m)
    seen : what the stage costs add to d2V_k/d(x, u_k) d(C, c), (n_i, n, t) and (m, t)
    end : what they add to d2V_k/d(C, c)2, (t, t)
    """

    costate: MidRad
    Phi: MidRad
    rows: MidRad
    own: MidRad
    seen: tuple[MidRad, MidRad] | None
    end: MidRad | None


def loss(q: Parts, X: MidRad, targets: MidRad, weight: MidRad, t: int) -> Loss:
    """Return the weighted data cost at the points X; t: size of a trained readout, or 0."""
    p, Q = softmax(matmul(X, q.C.T) + q.c)
    slope, Q = weight * (p - targets), weight * Q
    if not t:
        return Loss(slope, Q, None, None)
    B = bilinear(X, p.shape[1], 0, t, bias=True)
    G = matmul(Q, B)
    M, n = matmul(q.C.T, G), X.shape[1]
    _add_transposed_unit(M, slope, 0, n)
    return Loss(slope, Q, M, matmul(flat(B).T, flat(G)))


def sweep(
    q: Parts,
    k: int,
    stages: list[Stage],
    losses: list[Loss] | None,
    a: list[MidRad],
    w: list[MidRad],
    costate: MidRad,
    P: MidRad,
) -> Swept:
    """Go back through layer k: costate and P = d2V/dx2 belong to x_{k+1}; a = h a_s, w = h w_s."""
    n = costate.shape[1]
    A, W = q.A[k], None if q.W is None else q.W[k]
    m = (n * n + n) if W is None else 2 * n * n + n
    kappas, costate = _adjoints(q, k, stages, losses, a, w, costate)
    jacobians, Phi = _jacobians(A, W, stages, a, w, m)
    Y = matmul(P, Phi)
    rows = matmul(Phi[..., :n].T, Y)
    own = summed(Phi[..., n:], Y[..., n:], sparse=W is None and len(stages) == 1)
    seen, end = None, None
    for s, (stage, kappa, (J, D, dsigma)) in enumerate(zip(stages, kappas, jacobians, strict=True)):
        eta = kappa if W is None else matmul(kappa, W)
        bent = (eta * stage.sigma[2])[..., None] * D
        rows += matmul(D[..., :n].T, bent)
        own += summed(D[..., n:], bent[..., n:], sparse=W is None and J is None)
        zeta = eta * stage.sigma[1]
        if J is None:
            _add_transposed_unit(rows, zeta, n, n)
        else:
            _add_cross(rows, own, zeta, J, 0)
        if W is not None:
            _add_cross(rows, own, kappa, dsigma, n * n + n)
        if losses is None:
            continue
        cost = losses[s]
        if J is None:
            x = rows[..., :n]
            rows[..., :n] = x + matmul(q.C.T, matmul(cost.Q, q.C))
        else:
            Z = matmul(q.C, J)
            G = matmul(cost.Q, Z)
            rows += matmul(Z[..., :n].T, G)
            own += matmul(flat(Z[..., n:]).T, flat(G[..., n:]))
        if cost.M is not None and cost.end is not None:
            if J is None:
                more = cost.M, midrad.zeros(m, cost.M.shape[-1])
            else:
                more = (
                    matmul(J[..., :n].T, cost.M),
                    matmul(flat(J[..., n:]).T, flat(cost.M)),
                )
            seen = more if seen is None else (seen[0] + more[0], seen[1] + more[1])
            end = cost.end if end is None else end + cost.end
    return Swept(costate, Phi, rows, own, seen, end)


def _adjoints(
    q: Parts,
    k: int,
    stages: list[Stage],
    losses: list[Loss] | None,
    a: list[MidRad],
    w: list[MidRad],
    costate: MidRad,
) -> tuple[list[MidRad], MidRad]:
    """kappa = dV_k/dK of every stage in forward order, and dV_k/dx."""
    kappas: list[MidRad] = []
    total, mu = costate, costate
    for s in reversed(range(len(stages))):
        kappa = w[s] * costate
        if s + 1 < len(stages):
            kappa = kappa + a[s + 1] * mu
        kappas.append(kappa)
        eta = kappa if q.W is None else matmul(kappa, q.W[k])
        mu = matmul(eta * stages[s].sigma[1], q.A[k])
        if losses is not None:
            mu = mu + matmul(losses[s].slope, q.C)
        total = total + mu
    return kappas[::-1], total


def _jacobians(
    A: MidRad, W: MidRad | None, stages: list[Stage], a: list[MidRad], w: list[MidRad], m: int
) -> tuple[list[tuple[MidRad | None, MidRad, MidRad]], MidRad]:
    """Of every stage point (None for [I 0]), pre-activation and sigma in (x, u_k), and Phi."""
    n = A.shape[0]
    found: list[tuple[MidRad | None, MidRad, MidRad]] = []
    J: MidRad | None = None
    Phi: MidRad | None = None
    for s, stage in enumerate(stages):
        D = bilinear(stage.X, n, n, m, bias=True)
        if J is None:
            D.mid[..., :n], D.rad[..., :n] = A.mid, A.rad
        else:
            D += matmul(A, J)
        dsigma = stage.sigma[1][..., None] * D
        found.append((J, D, dsigma))
        dK = dsigma
        if W is not None:
            dK = matmul(W, dsigma) + bilinear(stage.sigma[0], n, 2 * n + n * n, n * n, bias=False)
        Phi = w[s] * dK if Phi is None else Phi + w[s] * dK
        if s + 1 < len(stages):
            J = _plus_identity(a[s + 1] * dK)
    assert Phi is not None
    return found, _plus_identity(Phi)


def summed(U: MidRad, V: MidRad, sparse: bool) -> MidRad:
    """Return sum_i U_i' V_i.

    sparse : in row j of U_i only the columns of (A, b) that make the pre-activation j, those of
        A_j and b_j, are not zero: the Jacobian of A x + b itself
    """
    if not sparse:
        return matmul(flat(U).T, flat(V))
    n, m = U.shape[1:]
    out = midrad.zeros(m, V.shape[-1])
    for j in range(n):
        own = np.append(np.arange(j * n, j * n + n), n * n + j)
        out[own] = matmul(U[:, j, own].T, V[:, j])
    return out


def flat(x: MidRad) -> MidRad:
    """Samples and rows as one axis."""
    return x.reshape(x.shape[0] * x.shape[1], x.shape[2])


def bilinear(X: MidRad, rows: int, before: int, after: int, bias: bool) -> MidRad:
    """d(M x + c)/d(.., M, c, ..): M row-major from column `before`, then c; `after` columns."""
    n_i, width = X.shape
    out = midrad.zeros(n_i, rows, before + after)
    for j in range(rows):
        here = slice(before + j * width, before + (j + 1) * width)
        out.mid[:, j, here], out.rad[:, j, here] = X.mid, X.rad
        if bias:
            out.mid[:, j, before + rows * width + j] = 1.0
    return out


def _plus_identity(x: MidRad) -> MidRad:
    diagonal = np.arange(x.shape[-2])
    x[..., diagonal, diagonal] = x[..., diagonal, diagonal] + 1.0
    return x


def _add_transposed_unit(rows: MidRad, adjoint: MidRad, start: int, n: int) -> None:
    """Add d2(adjoint' M x)/dx dM = adjoint_j in row l, column (j, l); M row-major from `start`."""
    for row in range(n):
        here = start + row + n * np.arange(adjoint.shape[1])
        rows[:, row, here] = rows[:, row, here] + adjoint


def _add_cross(rows: MidRad, own: MidRad, adjoint: MidRad, J: MidRad, start: int) -> None:
    """Add the second derivative of adjoint' M y, y with Jacobian J, M in u_k from `start`."""
    n_i, n, columns = J.shape
    m, here = columns - n, slice(start, start + n * n)
    block = adjoint[:, None, :, None] * J[..., :n].T[:, :, None, :]
    in_rows = slice(n + start, n + start + n * n)
    rows[..., in_rows] = rows[..., in_rows] + block.reshape(n_i, n, n * n)
    summed = matmul(adjoint.T, J[..., n:].reshape(n_i, n * m)).reshape(n * n, m)
    own[here] = own[here] + summed
    own[:, here] = own[:, here] + summed.T
