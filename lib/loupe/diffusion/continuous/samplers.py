"""From noise to data: steps of the reverse SDE, of the probability flow, or of both in turn.

A drift is any callable of ``(x, t)``, with times of shape (B,): :func:`reverse_drift` and :func:`probability_flow` make
them from a score, and a bridge has its own. ``ddim`` and ``ddpm`` take a denoiser and any schedule. Noise is drawn in
the order of the steps. No gradients are kept.

References
----------
.. [1] Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, 2021.
.. [2] Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, 2022.
.. [3] Song et al., Denoising Diffusion Implicit Models, 2021.
.. [4] Ho et al., Denoising Diffusion Probabilistic Models, 2020.
.. [5] Zhou et al., Denoising Diffusion Bridge Models, 2024.
"""

from itertools import pairwise

import torch

from loupe.checks import of_shape
from loupe.deprecation import renamed
from loupe.diffusion.continuous.sde import per_sample, predicted
from loupe.diffusion.times import checked_times

VARIANCES = ("small", "large")


def reverse_drift(score, sde):
    """Drift ``f x - g^2 s`` of the reverse SDE ([1], eq. 6), a function of ``(x, t)``."""
    return lambda x, t: _drift(score, sde, x, t, 1.0)


def probability_flow(score, sde):
    """Drift ``f x - g^2 s / 2`` of the ODE that has the same marginals ([1], eq. 13), a function of ``(x, t)``."""
    return lambda x, t: _drift(score, sde, x, t, 0.5)


def _drift(score, sde, x, t, fraction):
    found = predicted("the score", score, x, t)
    return sde.drift(x, t) - fraction * per_sample("t", sde.diffusion(t), x) ** 2 * found


@torch.no_grad()
def euler_maruyama(drift, diffusion, x, times, *, generator=None, callback=None):
    """Euler-Maruyama steps of ``dx = drift(x, t) dt + diffusion(t) dw``, forward or backward in time.

    Parameters
    ----------
    drift : callable
        ``(x, t)`` to the shape of ``x``.
    diffusion : callable or None
        Times to the coefficient g; None for an ODE, by Euler's method.
    x : torch.Tensor, shape (B, ...)
    times : torch.Tensor, shape (n,)
        For example from :func:`time_grid`; ``x`` is at the first.
    generator : torch.Generator, optional
        On the device of ``x``.
    callback : callable, optional
        ``callback(k, x)`` after k steps; the first call, with k = 0, gets the initial points.

    Returns
    -------
    torch.Tensor
        Shape of ``x``.
    """

    def step(x, t, s):
        return _euler(drift, diffusion, x, t, s, generator)

    return _walk(step, x, times, callback)


def heun(flow, x, times, *, callback=None):
    """Heun's method for an ODE, such as the probability flow: EDM's deterministic sampler ([2], algorithm 1)."""
    return hybrid(None, flow, None, x, times, fraction=0.0, callback=callback)


@renamed(share="fraction")
@torch.no_grad()
def hybrid(reverse, flow, diffusion, x, times, *, fraction, generator=None, callback=None):
    """Each step first follows an SDE, then an ODE with the same marginals ([5], algorithm 1).

    The SDE part is one Euler-Maruyama step; the ODE part is one Heun step, or an Euler step where it ends at time 0,
    since scores are not defined there.

    Parameters
    ----------
    reverse, flow : callable
        Drifts of the SDE and of the ODE, ``(x, t)`` to the shape of ``x``.
    diffusion : callable
        Times to the coefficient g of the SDE.
    fraction : float
        Fraction of each step that the SDE takes, from 0 (no noise) to below 1. At the pinned end of a bridge use 0 or
        at least 0.2: the long ODE step that follows would amplify a small noise.
    x, times, generator, callback
        As in :func:`euler_maruyama`.

    Returns
    -------
    torch.Tensor
        Shape of ``x``.
    """
    if not 0 <= fraction < 1:
        raise ValueError(f"fraction must be at least 0 and below 1, got {fraction}")

    def step(x, t, s):
        if fraction:
            between = t + fraction * (s - t)
            x, t = _euler(reverse, diffusion, x, t, between, generator), between
        first = of_shape("the drift", flow(x, _batch(t, x)), x.shape)
        end = x + (s - t) * first
        if s == 0:
            return end
        return x + (s - t) * (first + of_shape("the drift", flow(end, _batch(s, x)), x.shape)) / 2

    return _walk(step, x, times, callback)


@torch.no_grad()
def ddim(denoiser, schedule, x, times, *, eta=0.0, generator=None, callback=None):
    """DDIM ([3], eq. 12): keeps the predicted noise, or replaces part of it with fresh noise.

    Parameters
    ----------
    denoiser : callable
        ``(x, t)`` to denoised points; ``schedule.convert`` makes it from a noise predictor.
    schedule : Schedule
        An SDE or a :class:`DDPMTable`.
    x, generator, callback
        As in :func:`euler_maruyama`.
    times : torch.Tensor, shape (n,)
        Decreasing; for a table, ``table.times(n)``.
    eta : float
        0 is deterministic; 1 is :func:`ddpm` with the small variance.

    Returns
    -------
    torch.Tensor
        Shape of ``x``.
    """
    if not 0 <= eta <= 1:
        raise ValueError(f"eta must be from 0 to 1, got {eta}")

    def step(x, t, s):
        clean = predicted("the denoiser", denoiser, x, _batch(t, x))
        variance = eta**2 * schedule.posterior_coefficients(s, t)[2]
        noise = (x - schedule.alpha(t) * clean) / schedule.sigma(t)
        mean = schedule.alpha(s) * clean + (schedule.sigma(s) ** 2 - variance).sqrt() * noise
        return _noised(mean, variance, generator)

    return _walk(step, x, times, callback, falling=True)


@torch.no_grad()
def ddpm(denoiser, schedule, x, times, *, variance="small", generator=None, callback=None):
    """Ancestral sampling ([4], algorithm 2): draws from the posterior around the predicted data.

    Parameters
    ----------
    denoiser, schedule, x, times, generator, callback
        As in :func:`ddim`.
    variance : str
        ``"small"`` is the posterior variance, ``"large"`` that of the forward step (beta); the last step adds no noise.

    Returns
    -------
    torch.Tensor
        Shape of ``x``.
    """
    if variance not in VARIANCES:
        raise ValueError(f"variance must be small or large, got {variance!r}")

    def step(x, t, s):
        clean = predicted("the denoiser", denoiser, x, _batch(t, x))
        on_xt, on_x0, small = schedule.posterior_coefficients(s, t)
        large = variance == "large" and schedule.sigma(s) > 0
        added = schedule.transition(s, t)[1] if large else small
        return _noised(on_xt * x + on_x0 * clean, added, generator)

    return _walk(step, x, times, callback, falling=True)


def _walk(step, x, times, callback, falling=False):
    """All steps between successive times."""
    times = checked_times(times)
    if falling and times[0] < times[1]:
        raise ValueError(f"times must fall, from noise to data, got {times[0]:g} to {times[-1]:g}")
    if callback is not None:
        callback(0, x)
    for k, (t, s) in enumerate(pairwise(times)):
        x = step(x, t, s)
        if callback is not None:
            callback(k + 1, x)
    return x


def _batch(t, x):
    """The time of each sample."""
    return t.to(x.device).expand(len(x))


def _euler(drift, diffusion, x, t, s, generator):
    each = _batch(t, x)
    end = x + (s - t) * of_shape("the drift", drift(x, each), x.shape)
    return end if diffusion is None else _noised(end, diffusion(t) ** 2 * (s - t).abs(), generator)


def _noised(mean, variance, generator):
    """The points plus noise of that variance; nothing is drawn where it is 0."""
    if variance == 0:
        return mean
    noise = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + variance.sqrt() * noise
