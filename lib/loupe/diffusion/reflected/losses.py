"""Constrained denoising score matching, and the likelihood bound that it gives.

References
----------
.. [1] Lou and Ermon, Reflected Diffusion Models, 2023.
"""

import math

import torch

from loupe.checks import of_shape, whole
from loupe.diffusion.reflected.kernel import checked_sigma, per_row
from loupe.diffusion.reflected.sde import ReflectedSDE, checked_data
from loupe.diffusion.times import training_times

EARLIEST = 1e-5
"""Earliest training time."""

WEIGHTINGS = ("variance", "likelihood")
ENOUGH = 2.0
"""Smallest final noise for which the distribution is uniform to 1e-17."""

CLOSEST = 8
"""Standard deviations of the first noise that must fit between two gray levels, so that it does not mix them."""


def denoising_loss(score, x0, sde, t=None, generator=None, *, weighting="variance"):
    r"""Half the weighted squared error of a score against that of the kernel, for each point ([1]).

    .. math:: \tfrac12\lambda_t\,\bigl\|s_\theta(x,\sigma_t)-\nabla_x\log p_t(x\mid x_0)\bigr\|^2

    for a noisy point :math:`x\sim p_t(\cdot\mid x_0)`. The weight is :math:`\lambda=\sigma^2` or :math:`\lambda=g^2`,
    which for this schedule differ by the constant factor :math:`2\ln(\sigma_{\max}/\sigma_{\min})`. The minimizer is
    the score of the noisy data.

    Parameters
    ----------
    score : callable
        ``(x, sigma)`` to scores of the shape of ``x``.
    x0 : torch.Tensor, shape (B, ...)
        Clean points; in [0, 1] for a reflected process.
    sde : ReflectedSDE or VESDE
    t : torch.Tensor, shape (B,), optional
        Times in [0, 1]; stratified over the batch by default.
    generator : torch.Generator, optional
        On the device of ``x0``.
    weighting : str
        ``"variance"`` (:math:`\sigma^2`, for samples) or ``"likelihood"`` (:math:`g^2`: nats).

    Returns
    -------
    torch.Tensor, shape (B,)

    Raises
    ------
    ValueError
        For data outside the cube, an unknown weighting, or a score whose shape differs from that of the points.
    """
    if weighting not in WEIGHTINGS:
        raise ValueError(
            f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}",
        )
    x0 = checked_data(x0, sde)
    if t is None:
        t = training_times(len(x0), generator, start=EARLIEST, device=x0.device)
    sigma = checked_sigma(sde.sigma(t), x0)
    x = sde.noised(x0, sigma, generator)
    # Multiplied by sigma, both are of order 1 at any noise level.
    found = of_shape("the score", score(x, sigma), x.shape)
    error = per_row(sigma, x) * (found - sde.kernel_score(x, x0, sigma))
    values = error.square().flatten(1).sum(1) / 2
    return values if weighting == "variance" else 2 * sde.growth * values


def likelihood_bound(score, x0, sde, *, times=20, levels=256, batch=256, generator=None):
    """An upper bound on the negative log-likelihood of gray levels, in nats ([1]).

    It is the loss with likelihood weighting, integrated over all times. The omitted terms are small, in nats for each
    dimension: at the end, less than 1e-17 for ``sigma_max`` of 2 or more; at the start, less than 2e-4 for the largest
    accepted ``sigma_min`` and 1e-50 for 1e-4, since that noise cannot mix two gray levels.

    Parameters
    ----------
    score : callable
        ``(x, sigma)`` to scores.
    x0 : torch.Tensor, shape (n, ...)
        Gray levels divided by ``levels - 1``.
    sde : ReflectedSDE
    times : int
        Stratified times for each point.
    levels : int
        Gray levels from 0 to 1.
    batch : int
        Noisy points in one call of the score.
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor, shape (n,), float64
        An unbiased estimate of each point's bound. Divide by d ln 2 for bits per dimension.

    Raises
    ------
    ValueError
        If the process is not reflected, ``sigma_min`` mixes gray levels, ``sigma_max`` is too small to reach noise, or
        data lie outside the cube.
    """
    levels, times, batch = whole("levels", levels, 2), whole("times", times), whole("batch", batch)
    if not isinstance(sde, ReflectedSDE):
        raise ValueError(f"the bound is that of a ReflectedSDE, got {type(sde).__name__}")
    most = 1 / (CLOSEST * (levels - 1))
    if sde.sigma_min > most:
        raise ValueError(
            f"sigma_min = {sde.sigma_min:g} mixes neighbors among {levels} gray levels, so that the loss bounds "
            f"nothing: take at most {most:.2g}, or dequantize and use log_likelihood"
        )
    if sde.sigma_max < ENOUGH:
        raise ValueError(
            f"sigma_max must be at least {ENOUGH:g} for nothing of the data to be left, got {sde.sigma_max:g}"
        )
    draws = torch.rand(len(x0), times, generator=generator, device=x0.device, dtype=torch.float64)
    t = ((draws + torch.arange(times, device=x0.device)) / times).flatten()
    rows = torch.arange(len(x0), device=x0.device).repeat_interleave(times)
    parts = []
    with torch.no_grad():
        for row, at in zip(rows.split(batch), t.split(batch), strict=True):
            parts.append(denoising_loss(score, x0[row], sde, at, generator, weighting="likelihood").double())
    return torch.cat(parts).view(len(x0), times).mean(1)


def bits_per_dimension(nats, dimensions):
    """Nats of a point, converted to bits per dimension."""
    return nats / (dimensions * math.log(2))
