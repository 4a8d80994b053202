"""From noise to data: steps of the reverse process, folded or clipped at the walls.

References
----------
.. [1] Lou and Ermon, Reflected Diffusion Models, 2023.
"""

import math

import torch

from loupe.checks import of_shape, whole
from loupe.deprecation import renamed
from loupe.diffusion.reflected.kernel import fold
from loupe.diffusion.reflected.sde import ReflectedSDE, checked_data

WALLS = {"fold": fold, "clip": lambda x: x.clamp(0, 1)}
"""Treatment of steps that leave the cube: reflection (order 1) or projection (order 1/2)."""

LAST_TIME = 1e-5  # as in the published sampler


def reverse_times(steps, device="cpu"):
    """Times from 1 to 0 in equal steps, shape (steps + 1,), float64."""
    steps = whole("steps", steps)
    return torch.linspace(1, 0, steps + 1, dtype=torch.float64, device=device)


@renamed(watch="callback")
@torch.no_grad()
def sample(
    score,
    sde,
    shape,
    *,
    steps,
    walls="fold",
    start=None,
    denoise=True,
    compat=None,
    correct=0,
    generator=None,
    device="cpu",
    dtype=torch.float32,
    callback=None,
):
    r"""Follow the reverse process from noise to data by Euler-Maruyama steps ([1]).

    From noise :math:`\sigma` to :math:`\sigma'` a step is
    :math:`x\gets\mathrm{fold}\bigl(x+(\sigma^2-\sigma'^2)\,s(x,\sigma)+\sqrt{\sigma^2-\sigma'^2}\,z\bigr)`: the
    variance is exact, and noise levels are evenly spaced in their logarithm.

    Parameters
    ----------
    score : callable
        ``(x, sigma)`` to scores; see :mod:`loupe.diffusion.reflected.scores` for guidance and thresholds.
    sde : ReflectedSDE or VESDE
        The latter runs without walls.
    shape : tuple of int
        Of the samples, (B, ...).
    steps : int
    walls : str
        ``"fold"`` or ``"clip"``; the latter thresholds after each step.
    start : torch.Tensor, optional
        Initial noise; drawn by default.
    denoise : bool
        Whether to remove the remaining noise of ``sigma_min`` at the end, by ``x + sigma^2 s`` and a clip to the cube.
        Tweedie's formula is exact away from the walls; near a wall it is an approximation.
    compat : str, optional
        ``"official"`` for the steps of the published code: g^2 / steps instead of the difference of variances, times
        from 1 to 1e-5 without a step from the last, and no denoising, so samples keep some noise.
    correct : int
        Langevin steps after each step of the ``"official"`` sampler, at signal-to-noise ratio 0.01.
    generator : torch.Generator, optional
        On the device.
    device : str or torch.device
    dtype : torch.dtype
    callback : callable, optional
        ``callback(k, x)`` is called with the points after k steps; the first call gets the noise.

    Returns
    -------
    torch.Tensor of ``shape``

    Raises
    ------
    ValueError
        For unknown options, no steps, ``correct`` without ``compat``, a start outside the cube, or a score whose shape
        differs from that of the points.
    RuntimeError
        If a score is not finite; the message names the step and the noise.
    """
    if walls not in WALLS:
        raise ValueError(f"walls must be one of {', '.join(WALLS)}, got {walls!r}")
    if compat not in (None, "official"):
        raise ValueError(f"compat must be None or 'official', got {compat!r}")
    if correct and compat is None:
        raise ValueError("corrections belong to the published sampler: give compat='official' too")
    times = reverse_times(steps)
    if start is not None and tuple(start.shape) != tuple(shape):
        raise ValueError(
            f"start must have the shape of the samples, {tuple(shape)}, got {tuple(start.shape)}"
        )
    if start is not None:
        checked_data(start, sde, "start")
    bounded = WALLS[walls] if isinstance(sde, ReflectedSDE) else sde.folded
    options = {"generator": generator, "device": device, "dtype": dtype}
    x = sde.limit(shape, **options) if start is None else start.to(device, dtype)
    callback = callback or _look_away
    callback(0, x)

    def checked_score(x, t, k):
        sigma = sde.sigma(t).to(device, dtype).expand(len(x))
        found = of_shape("the score", score(x, sigma), x.shape)
        if not found.isfinite().all():
            raise RuntimeError(f"a score is not finite, at step {k} and sigma {sigma[0].item():.3g}")
        return found

    if compat == "official":
        times = torch.linspace(1, LAST_TIME, steps, dtype=torch.float64)[:-1]
        added = sde.diffusion(times) ** 2 / steps
    else:
        added = -(sde.sigma(times) ** 2).diff()
        times = times[:-1]
    for k, (t, variance) in enumerate(zip(times, added.tolist(), strict=True)):
        noise = torch.randn(shape, **options)
        x = bounded(x + variance * checked_score(x, t, k) + math.sqrt(variance) * noise)
        for _ in range(correct):
            x = _langevin(lambda x, t=t, k=k: checked_score(x, t, k), x, bounded, options)
        callback(k + 1, x)
    if denoise and compat is None:
        x = interior_tweedie(lambda x, sigma: checked_score(x, times.new_zeros(()), steps), x, sde)
    return x


def interior_tweedie(score, x, sde):
    """Remove the last noise, ``x + sigma_min^2 s``, and clip to the cube.

    This is the formula without walls: it holds for coordinates many ``sigma_min`` away from both walls.
    """
    sigma = torch.full((len(x),), sde.sigma_min, device=x.device, dtype=x.dtype)
    return (x + sde.sigma_min**2 * of_shape("the score", score(x, sigma), x.shape)).clamp(0, 1)


def _langevin(score, x, bounded, options, ratio=0.01):
    """A step of Langevin dynamics at one noise level, as in the published sampler: norms are means over the batch."""
    noise, slope = torch.randn(x.shape, **options), score(x)
    size, strength = (each.flatten(1).norm(dim=1).mean() for each in (noise, slope))
    # Where the score is nearly 0, the step would be huge.
    step = (2 * (ratio * size / strength) ** 2).clamp(max=1)
    return bounded(x + step * slope + (2 * step).sqrt() * noise)


def euler_reflected(drift, diffusion, x, *, time, steps, walls="fold", generator=None):
    """Run a reflected process with a drift forward in [0, 1], by Euler-Maruyama steps.

    Parameters
    ----------
    drift : callable
        ``x`` to its drift.
    diffusion : float
        Constant g.
    x : torch.Tensor
        Starting points, any shape.
    time : float
    steps : int
    walls : str
        ``"fold"`` or ``"clip"``.
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor
        End points.
    """
    if walls not in WALLS:
        raise ValueError(f"walls must be one of {', '.join(WALLS)}, got {walls!r}")
    step = time / whole("steps", steps)
    for _ in range(steps):
        noise = torch.randn(x.shape, generator=generator, dtype=x.dtype, device=x.device)
        x = WALLS[walls](
            x + step * of_shape("the drift", drift(x), x.shape) + diffusion * math.sqrt(step) * noise
        )
    return x


def _look_away(k, x):
    """The default callback: do nothing."""
