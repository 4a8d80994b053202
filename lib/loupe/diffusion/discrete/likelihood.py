"""Bits per token: an upper bound on the negative log-likelihood, from scores alone.

References
----------
.. [1] Lou, Meng and Ermon, Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution, 2024,
   theorem 3.6 and appendix C.6.
"""

import math
from dataclasses import dataclass

import torch

from loupe.checks import whole
from loupe.diffusion.discrete.losses import d3pm_loss, rate_weighted

START = 1e-3
"""Start of the time integral, as published."""

ENDS = 8
"""Times of the integral for each draw of the last step, which affects one token in a thousand and matters little."""


@dataclass(frozen=True)
class Bound:
    """The parts of the bound in nats, one for each sequence, shape (n,) or that of the batch, float64.

    Attributes
    ----------
    path : torch.Tensor
        The integral of the diffusion-weighted score entropy over times from 1e-3 to 1.
    end : torch.Tensor
        ``-log p(x0 | x_t)`` at the time 1e-3, where the reverse process takes its last step.
    prior : torch.Tensor
        KL divergence of the process at time 1 from the distribution where samples start. With masks, that distribution
        is taken as a mask, or a uniform token with probability ``exp(-total_noise)``; samples in fact start from masks
        only.
    length : int
        Tokens of a sequence.
    times : int
        Random times for each sequence.
    """

    path: torch.Tensor
    end: torch.Tensor
    prior: torch.Tensor
    length: int
    times: int

    def bits(self, strict=False):
        """Bits per token of each sequence: the published number, or a true bound with all three parts."""
        nats = self.path + self.end + self.prior if strict else self.path
        return nats / (self.length * math.log(2))


def likelihood_bound(score, x0, graph, noise, *, times=1000, batch=64, generator=None):
    """Estimate the bound of each sequence at stratified random times.

    Parameters
    ----------
    score : callable
        ``score(x, total_noise)`` gives a log-score. Put a network in evaluation mode.
    x0 : torch.Tensor of int64, shape (n, L) or (..., L)
        The score gets them with one batch axis.
    graph : Absorbing or Uniform
    noise : GeometricNoise or LogLinearNoise
    times : int
        Number of times for each sequence, one in each of as many equal intervals from 1e-3 to 1.
    batch : int
        Sequences in one call of the score.
    generator : torch.Generator, optional

    Returns
    -------
    Bound

    Raises
    ------
    ValueError
        If there are no sequences or no times.
    """
    times, batch = whole("times", times), whole("batch", batch)
    if not x0.numel():
        raise ValueError("a bound needs sequences, got none")
    batch_shape, x0 = x0.shape[:-1], x0.reshape(-1, x0.shape[-1])
    count, length = x0.shape
    draws = torch.rand(count, times, generator=generator, device=x0.device, dtype=torch.float64)
    t = START + (1 - START) * (draws + torch.arange(times, device=x0.device)) / times
    last = torch.full((count, -(-times // ENDS)), START, dtype=torch.float64, device=x0.device)

    def path(clean, t):
        total, rate = noise(t)
        x = graph.corrupt(clean, total, generator)
        nats = graph.score_entropy(score(x, total), total, x, clean)
        return (1 - START) * rate_weighted(nats, rate).double()

    def end(clean, t):
        total = noise(t)[0]
        x = graph.corrupt(clean, total, generator)
        found = graph.denoise_probabilities(score(x, total), x, total)
        return -found.gather(-1, clean.unsqueeze(-1)).log().sum((-1, -2))

    prior = length * graph.prior_gap(noise(1.0)[0].to(x0.device)).expand(count)
    parts = _mean(path, x0, t, batch), _mean(end, x0, last, batch), prior
    return Bound(*(part.view(batch_shape) for part in parts), length, times)


def d3pm_bound(network, x0, graph, steps, *, times=1000, batch=64, generator=None):
    """Estimate the bound of D3PM with masks of each sequence, in nats, at stratified random times.

    Parameters
    ----------
    network, graph, steps
        As :func:`~loupe.diffusion.discrete.losses.d3pm_loss` takes them.
    x0 : torch.Tensor of int64, shape (n, L) or (..., L)
    times, batch, generator
        As :func:`likelihood_bound` takes them; the intervals are those of [0, 1].

    Returns
    -------
    torch.Tensor, shape (n,) or (...), float64

    Raises
    ------
    ValueError
        If there are no sequences, no times or no steps.
    """
    times, batch = whole("times", times), whole("batch", batch)
    if not x0.numel():
        raise ValueError("a bound needs sequences, got none")
    rows = x0.reshape(-1, x0.shape[-1])
    draws = torch.rand(len(rows), times, generator=generator, device=x0.device, dtype=torch.float64)
    t = (draws + torch.arange(times, device=x0.device)) / times
    nats = _mean(lambda clean, t: d3pm_loss(network, clean, graph, steps, t, generator), rows, t, batch)
    return nats.view(x0.shape[:-1])


def _mean(part, x0, t, batch):
    """Means over times of ``part(x0, t)`` for sequences ``(n, L)`` and times ``(n, k)``."""
    which = torch.arange(len(x0), device=x0.device).repeat_interleave(t.shape[1])
    with torch.no_grad():
        pieces = zip(which.split(batch), t.flatten().split(batch), strict=True)
        return torch.cat([part(x0[some], times) for some, times in pieces]).view(t.shape).mean(1)
