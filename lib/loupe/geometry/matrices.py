"""Matrix functions with correct derivatives of any order, even where eigenvalues coincide.

Autograd through ``eigh`` divides by differences of eigenvalues and fails at the identity. Here logarithms use inverses
and products (inverse scaling and squaring) and exponentials are torch's. Eigenvectors are used only for the value and
the first derivative, when nothing records the backward pass.
"""

import math
from functools import reduce

import numpy as np
import torch

from loupe.derivatives import full_precision, transformed
from loupe.geometry.series import artanh_ratio, sin_ratio

_ITERATIONS = (16, 11, 9)
"""Newton iterations for each of three successive square roots: enough for condition numbers up to 1e12."""

_NODES, _WEIGHTS = (
    (1 + a) / 2 if k == 0 else a / 2 for k, a in enumerate(np.polynomial.legendre.leggauss(12))
)


def product(*factors):
    """The matrix product in the dtype of the factors; autocast would use half precision."""
    with torch.autocast(factors[0].device.type, enabled=False):
        return reduce(torch.matmul, factors)


def expm(x):
    """The matrix exponential with autocast off, like :func:`product`."""
    with torch.autocast(x.device.type, enabled=False):
        return torch.matrix_exp(x)


def adjoint(x):
    """The conjugate transpose."""
    return x.mT.conj() if x.is_complex() else x.mT


def sym(x):
    """The symmetric part."""
    return 0.5 * (x + x.mT)


def eye_like(x):
    """The identity matrix, with the size, dtype and device of ``x``."""
    return torch.eye(x.shape[-1], dtype=x.dtype, device=x.device)


def largest(x):
    """The largest absolute value of each matrix, shape (..., 1, 1)."""
    return x.abs().amax((-2, -1), keepdim=True)


def sound_matrix(x, instead):
    """The matrices, with nan or infinite ones replaced (decompositions would raise), and a mask of those."""
    bad = ~x.isfinite().all((-2, -1), keepdim=True)
    return torch.where(bad, instead, x), bad


def log1p(z):
    """The principal logarithm of ``1 + z``, accurate for small ``z``, differentiable to any order.

    Parameters
    ----------
    z : torch.Tensor, shape (..., n, n)
        ``1 + z`` has no eigenvalue at 0 or below.

    Returns
    -------
    torch.Tensor, shape (..., n, n)
    """
    eye, n = eye_like(z), z.shape[-1]
    near = torch.linalg.matrix_norm(z.detach())[..., None, None] < 0.3
    # Avoid overflow: divide by the geometric mean of the eigenvalues.
    size = torch.where(near, 0.0, torch.linalg.slogdet(eye + z.detach())[1][..., None, None] / n)
    root = (eye + z) * torch.exp(-size).to(z.dtype)
    for iterations in _ITERATIONS:
        root = _root(root, eye, iterations)
    w = torch.where(near, z, root - eye)
    # log(1 + w) is the integral of w / (1 + s w) for s from 0 to 1. Not torch's solve: its second-order forward mode is
    # wrong.
    terms = [
        b * product(torch.linalg.inv_ex(eye + s * w)[0], w) for s, b in zip(_NODES, _WEIGHTS, strict=True)
    ]
    times = torch.where(near, 1.0, 2.0 ** len(_ITERATIONS)).to(size.dtype)
    return times * sum(terms) + size * eye


def _root(a, eye, iterations):
    """The square root, by Newton's method in the product form of Denman and Beavers."""
    x = m = a
    for _ in range(iterations):
        inverse = torch.linalg.inv_ex(m)[0]
        x = 0.5 * product(x, eye + inverse)
        m = 0.5 * (eye + 0.5 * (m + inverse))
    return x


def log1p_symmetric(z):
    """:func:`log1p` of a symmetric matrix, by its eigenvalues if at most a first derivative is recorded."""
    if torch.compiler.is_compiling() or transformed():
        return sym(log1p(z))
    return _SymmetricLog.apply(z)[0]


class _SymmetricLog(torch.autograd.Function):
    """The first derivative by divided differences of the logarithm; higher ones by the explicit formula."""

    @staticmethod
    def forward(z):
        safe, bad = sound_matrix(z, torch.zeros_like(z))
        values, vectors = torch.linalg.eigh(safe)
        log = product(vectors * values.log1p().unsqueeze(-2), vectors.mT)
        return torch.where(bad, torch.nan, log), values, vectors

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    @full_precision
    def backward(ctx, cotangent, *_):
        z, values, vectors = ctx.saved_tensors
        if torch.is_grad_enabled():
            return torch.func.vjp(log1p, z)[1](cotangent)[0]
        a, b = values.unsqueeze(-1), values.unsqueeze(-2)
        total = 2 + a + b
        slopes = 2 / total * artanh_ratio(((a - b) / total).square())
        return vectors @ (slopes * (vectors.mT @ cotangent @ vectors)) @ vectors.mT


def log1p_unitary(z):
    """The shortest logarithm of trace 0 of ``1 + z``, a matrix of SU(n); one of several if that is not unique.

    First derivatives are accurate up to the points without a unique one, higher ones and those of ``torch.func`` up to
    about 1e-4 of them (1e-1 in single precision).
    """
    if torch.compiler.is_compiling() or transformed():
        return _log1p_unitary(z)
    return _UnitaryLog.apply(z)[0]


def unitary_spectrum(z):
    """Logarithm, angles that sum to 0 and have the least sum of squares, and orthonormal eigenvectors; detached."""
    with torch.no_grad():
        z = z.detach()
        safe, bad = sound_matrix(z, torch.zeros_like(z))
        values, vectors = torch.linalg.eig(safe)
        # Schur vectors, which are orthonormal even where eigenvalues coincide.
        vectors = torch.linalg.qr(vectors)[0]
        angles, order = torch.atan2(values.imag, 1 + values.real).sort(-1)
        vectors = vectors.gather(-1, order.unsqueeze(-2).expand_as(vectors))
        # The angles sum to k full turns: shift the k largest (or the -k smallest) by a turn.
        turns = (angles.sum(-1, keepdim=True) / (2 * math.pi)).round()
        index = torch.arange(z.shape[-1], device=z.device)
        shift = (index < -turns).to(angles.dtype) - (index >= z.shape[-1] - turns).to(angles.dtype)
        angles = angles + 2 * math.pi * shift
        log = product(vectors * (1j * angles).unsqueeze(-2), adjoint(vectors))
        return torch.where(bad, torch.nan, log), angles, vectors


def _log1p_unitary(z):
    """:func:`log1p_unitary` with derivatives of any order, by :func:`log1p`; 0 where that is not defined."""
    log, angles, _ = unitary_spectrum(z)
    low, high = (angle[..., None, None] for angle in (angles.amin(-1), angles.amax(-1)))
    # Rotated by the middle of their arc, the angles are as far from a half turn as possible.
    middle = 0.5 * (high + low)
    less = torch.complex(-2 * (0.5 * middle).sin().square(), -middle.sin())  # exp(-i middle) - 1
    near = high - low > 2 * math.pi - torch.finfo(z.dtype).eps ** (1 / 3)
    smooth = log1p(torch.where(near, 0.0, z + less * (eye_like(z) + z)))
    return log + (smooth - smooth.detach())


class _UnitaryLog(torch.autograd.Function):
    """The first derivative by divided differences of the logarithm, higher ones by the explicit formula."""

    @staticmethod
    def forward(z):
        return unitary_spectrum(z)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.mark_non_differentiable(*output[1:])
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    @full_precision
    def backward(ctx, cotangent, *_):
        z, angles, vectors = ctx.saved_tensors
        if torch.is_grad_enabled():
            return torch.func.vjp(_log1p_unitary, z)[1](cotangent)[0]
        half = 0.5 * (angles.unsqueeze(-1) - angles.unsqueeze(-2))
        middle = 0.5 * (angles.unsqueeze(-1) + angles.unsqueeze(-2))
        ratio = sin_ratio(half.square())
        # Infinite where angles differ by a full turn: there the derivative across is set to 0.
        turned = ratio.abs() < 4 * torch.finfo(ratio.dtype).eps
        slopes = torch.polar(torch.where(turned, 0.0, 1 / ratio), middle)
        return vectors @ (slopes * (adjoint(vectors) @ cotangent @ vectors)) @ adjoint(vectors)


def exp_slope(s, v):
    """The derivative of the matrix exponential at ``s`` along ``v``."""
    return _corner(expm(_block(s, v)))


def log1p_slope(z, u):
    """The derivative of :func:`log1p` at ``z`` along ``u``."""
    return _corner(log1p(_block(z, u)))


def log_det_sinhc(square):
    """``log |det(sinh(A) / A)|`` for ``square = A**2``, shape ``(..., m, m)``, of any sign."""
    lower = torch.cat([square, torch.zeros_like(square)], -1)
    upper = torch.cat([torch.zeros_like(square), eye_like(square).expand_as(square)], -1)
    found = _corner(expm(torch.cat([upper, lower], -2)))
    # By QR, for the reason above; a Cholesky factor of the Gram matrix would have half the digits.
    return torch.linalg.qr(found)[1].diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)


def _block(a, b):
    a, b = torch.broadcast_tensors(a, b)
    return torch.cat([torch.cat([a, b], -1), torch.cat([torch.zeros_like(a), a], -1)], -2)


def _corner(x):
    n = x.shape[-1] // 2
    return x[..., :n, n:]
