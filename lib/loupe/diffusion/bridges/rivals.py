r"""Other methods for pairs, with the same networks: I2SB, and rectified flow between paired points.

References
----------
.. [1] Liu et al., I2SB: Image-to-Image Schrödinger Bridge, 2023.
.. [2] Liu, Gong, Liu, Flow Straight and Fast: Learning to Generate and Transfer Data with Rectified Flow, 2023.
"""

from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import torch

from loupe.diffusion.bridges.bridge import (
    batch_of,
    limits,
    normal_like,
    of_floats,
    of_kind,
    paired,
    random_on,
    times_within,
)
from loupe.diffusion.bridges.sampler import Drawn
from loupe.diffusion.continuous import heun, per_sample, time_grid, training_times
from loupe.diffusion.continuous.sde import predicted

FIRST = 1e-3
"""First time of training, where I2SB's noise is still above rounding."""


@dataclass(frozen=True)
class BrownianBridge:
    """I2SB's bridge: Brownian motion over the times 0 to 1, its rate symmetric about 1/2 ([1], section 3.3).

    Parameters
    ----------
    beta_min, beta_max : float
        The square root of the rate grows linearly from that of ``beta_min`` at time 0, toward that of ``beta_max`` at
        time 1, but only up to the middle; then it falls again, as in the official code.
    """

    beta_min: float = 0.1
    beta_max: float = 0.3

    def __post_init__(self):
        if not 0 < self.beta_min <= self.beta_max < float("inf"):
            raise ValueError(
                f"rates must grow from a beta_min above 0 to a beta_max, got {self.beta_min} and {self.beta_max}"
            )

    def variance(self, t):
        """Variance of x_t given x_0, without the pin: the integral of the rate, shape of ``t``, float64."""
        t = times_within(t, 1.0).double()
        low, slope = self.beta_min**0.5, self.beta_max**0.5 - self.beta_min**0.5

        def rising(t):
            return t * (low**2 + t * (low * slope + t * slope**2 / 3))

        middle = rising(torch.full_like(t, 0.5))
        return torch.where(t <= 0.5, rising(t), 2 * middle - rising(1 - t))

    def posterior(self, s, t):
        """Factors of x_t and x_0 in the mean of q(x_s | x_0, x_t), and its variance ([1], eq. 4); float64."""
        before, whole = self.variance(s), self.variance(t)
        share = before / whole
        return share, 1 - share, before * (1 - share)


def i2sb_loss(model, x0, x_T, bridge, generator=None, *, t=None, noise=None):
    """Squared error of a network that predicts ``(x_t - x_0) / std_t`` from x_t alone ([1], eq. 12).

    Parameters
    ----------
    model : callable
        ``(x_t, t)``, times of shape (B,), to the shape of ``x0``.
    x0, x_T, generator, t, noise
        As in :func:`bridge_loss`, with times uniform in [0.001, 1).
    bridge : BrownianBridge

    Returns
    -------
    torch.Tensor, shape (B,)
    """
    of_kind("bridge", bridge, BrownianBridge)
    t = _times(t, x0, generator)
    on_xT, on_x0, variance = (per_sample("t", each, x0) for each in bridge.posterior(t, torch.ones_like(t)))
    x = on_xT * paired(x0, x_T, "x0") + on_x0 * x0 + variance.sqrt() * normal_like(x0, generator, noise)
    return _squared(model, x, t, (x - x0) / per_sample("t", bridge.variance(t).sqrt(), x0))


@torch.no_grad()
def i2sb_sample(model, x_T, bridge, *, steps=40, generator=None, clamp=None):
    """Ancestral sampling from the posteriors around the predicted x_0, on equal steps from 1 to 0 ([1], algorithm 2).

    Returns
    -------
    Drawn
        With as many calls of the network as steps.
    """
    of_kind("bridge", bridge, BrownianBridge)
    x, clamp = batch_of("x_T", x_T), limits(clamp)
    for t, s in pairwise(time_grid(1.0, 0.0, steps)):
        found = _output(model, x, t.expand(len(x)))
        clean = x - float(bridge.variance(t).sqrt()) * found
        clean = clean if clamp is None else clean.clamp(*clamp)
        on_x, on_clean, variance = map(float, bridge.posterior(s, t))
        x = on_x * x + on_clean * clean
        if variance:
            x = x + variance**0.5 * normal_like(x, generator)
    return Drawn(x, steps, None)


def rectified_flow_loss(model, x0, x_T, generator=None, *, t=None):
    """Squared error of a network that predicts the velocity ``x_T - x_0`` on the line between a pair ([2], eq. 1).

    Parameters
    ----------
    model : callable
        ``(x_t, t)``, times of shape (B,), to the shape of ``x0``.
    x0, x_T, generator, t
        As in :func:`bridge_loss`, with times uniform in [0.001, 1).

    Returns
    -------
    torch.Tensor, shape (B,)
    """
    t = _times(t, x0, generator)
    way = per_sample("t", t, x0)
    return _squared(model, (1 - way) * x0 + way * paired(x0, x_T, "x0"), t, x_T - x0)


def rectified_flow_sample(model, x_T, *, steps=40, clamp=None):
    """Follow the velocity from the sources at time 1 to time 0, by Heun on equal steps; the last is an Euler step.

    Returns
    -------
    Drawn
        With ``2 steps - 1`` calls of the network.
    """
    clamp = limits(clamp)
    x = heun(partial(_output, model), batch_of("x_T", x_T), time_grid(1.0, 0.0, steps))
    return Drawn(x if clamp is None else x.clamp(*clamp), 2 * steps - 1, None)


def _output(model, x, t):
    return of_floats("the model's output", predicted("the model's output", model, x, t))


def _times(t, x0, generator):
    batch_of("x0", x0), random_on(x0.device, generator)
    if t is not None:
        return times_within(t, 1.0)
    return training_times(len(x0), generator, start=FIRST, stratified=False, device=x0.device)


def _squared(model, x, t, target):
    error = _output(model, x, t) - target
    return error.square().unsqueeze(-1).flatten(1).mean(1)
