r"""Losses for the score of data that heat has spread.

References
----------
.. [1] Lou et al., Scaling Riemannian Diffusion Models, 2023.
.. [2] De Bortoli et al., Riemannian Score-Based Generative Modelling, 2022.
"""

import torch

from loupe.checks import of_shape
from loupe.diffusion.riemannian.heat import per_sample


def denoising_loss(score, kernel, x0, sigma, *, x=None, generator=None):
    r"""Denoising score matching: :math:`\sigma^2\|s(x,\sigma)-\nabla_x\log K_\sigma(x\mid x_0)\|^2` ([1]).

    Parameters
    ----------
    score : callable
        ``(x, sigma)`` to vectors of the shape of ``x``, for sigma of shape (B,); their tangent part counts.
    kernel : HeatKernel
    x0 : torch.Tensor, shape (B,) and that of a point
        Data.
    sigma : float or torch.Tensor, shape (B,)
    x : torch.Tensor, shape of ``x0``, optional
        Noisy points instead of draws from the kernel.
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor, shape (B,)

    Raises
    ------
    ValueError
        As :meth:`HeatKernel.log_density`, and for scores of another shape.
    """
    manifold, sigma = kernel.manifold, per_sample(sigma, x0, kernel.manifold)
    with torch.no_grad():
        x = kernel.sample(x0, sigma, generator) if x is None else x
        target = kernel.score(x, x0, sigma)
    error = _tangent(score, manifold, x, sigma) - target
    weight = sigma.square().to(x.dtype.to_real())
    return weight * manifold.inner(x, error, error)


def implicit_loss(score, manifold, x, sigma, *, noise=None):
    r"""Implicit score matching: :math:`\sigma^2(\|s\|^2+2\,\mathrm{div}\,s)` at noisy points ([2]).

    It needs no kernel, only noisy points; its mean is that of :func:`denoising_loss` minus a constant.

    Parameters
    ----------
    score : callable
        As there, differentiable in ``x``.
    manifold : Manifold
    x : torch.Tensor, shape (B,) and that of a point
        Noisy data.
    sigma : float or torch.Tensor, shape (B,)
    noise : torch.Tensor, shape (B, dimension), optional
        A noise vector of mean 0 and covariance 1, such as random signs, for sliced score matching; by default the
        divergence is exact, with one derivative for each dimension.

    Returns
    -------
    torch.Tensor, shape (B,)
    """
    sigma = per_sample(sigma, x, manifold)
    _check_noise(noise, manifold, x)
    field = _tangent(score, manifold, x, sigma)
    divergence = manifold.divergence(lambda at: _tangent(score, manifold, at, sigma), x, noise)
    return sigma.square().to(x.dtype.to_real()) * (manifold.inner(x, field, field) + 2 * divergence)


def _check_noise(noise, manifold, x):
    if noise is not None:
        of_shape("noise", noise, (*x.shape[: x.dim() - manifold.ndim], manifold.dimension_like(x)))


def _tangent(score, manifold, x, sigma):
    value = of_shape("the score", score(x, sigma.to(x.dtype.to_real())), x.shape)
    return manifold.to_tangent(x, value)
