"""Training losses of discrete diffusion: nats for each sequence, shape (B,), or (...) for tokens (..., L).

``score(x, total_noise)`` gives a log-score; ``times (B,)`` come from
:func:`~loupe.diffusion.discrete.noise.training_times`. If times begin at ``start``, the mean over times is the integral
divided by ``1 - start``.

References
----------
.. [1] Lou, Meng and Ermon, Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution, 2024.
.. [2] Meng et al., Concrete Score Matching, 2022.
.. [3] Austin et al., Structured Denoising Diffusion Models in Discrete State-Spaces, 2021.
.. [4] Sahoo et al., Simple and Effective Masked Diffusion Language Models, 2024.
"""

import torch
from torch.nn.functional import cross_entropy, one_hot, pad

from loupe.checks import of_shape, whole
from loupe.deprecation import renamed
from loupe.diffusion.discrete.models import log_expm1


def score_entropy_loss(score, x0, graph, noise, times, generator=None):
    """Diffusion-weighted denoising score entropy ([1], eq. 10) at one time for each sequence.

    Parameters
    ----------
    score : callable
    x0 : torch.Tensor of int64, shape (B, L)
    graph : Absorbing or Uniform
    noise : GeometricNoise or LogLinearNoise
    times : torch.Tensor, shape (B,)
    generator : torch.Generator, optional
        Of the corruption.

    Returns
    -------
    torch.Tensor, shape (B,)
    """
    total, rate = noise(times)
    x = graph.corrupt(x0, total, generator)
    return rate_weighted(graph.score_entropy(score(x, total), total, x, x0), rate)


def concrete_score_loss(score, x0, graph, noise, times, generator=None):
    """Concrete score matching [2] with the same weights: half the squared distance between scores and ratios.

    ``1/2 sum_{y != x} Q(x, y) (s_y - r_y)**2``. Arguments as for :func:`score_entropy_loss`.
    """
    total, rate = noise(times)
    x = graph.corrupt(x0, total, generator)
    here = one_hot(x, graph.states).bool()
    away = graph.rate_to(x).masked_fill(here, 0)
    # p(y | x0) / p(x | x0), from the columns of both chains
    p = graph.transition(x0, total)
    ratio = (p / p.gather(-1, x.unsqueeze(-1))).masked_fill(away == 0, 0)
    gap = graph.check_score(score(x, total), x).double().exp().masked_fill(away == 0, 0) - ratio
    return rate_weighted(0.5 * (away * gap.square()).sum(-1), rate)


def masked_cross_entropy(score, x0, graph, noise, times, generator=None):
    """The loss of MDLM ([4], eq. 10): cross-entropy at masks, weighted with ``rate / expm1(total_noise)``.

    The scores must be normalized, as those of a :class:`~loupe.diffusion.discrete.Denoiser` are. Then the loss equals
    :func:`score_entropy_loss` for every draw.
    """
    total, rate = noise(times)
    x = graph.corrupt(x0, total, generator)
    logs = graph.check_score(score(x, total), x)
    logs = logs.gather(-1, x0.unsqueeze(-1)).squeeze(-1) + log_expm1(total).unsqueeze(-1)
    return rate_weighted(-logs.masked_fill(x != graph.mask, 0), rate * (-log_expm1(total)).exp())


def d3pm_loss(network, x0, graph, steps, times, generator=None, *, auxiliary=0.0):
    """``steps`` times one term of the bound of D3PM with masks ([3], eq. 1), at a random step of each sequence.

    After step k of T a fraction ``t = k / T`` of the tokens is masked. The network predicts each masked token over all N +
    1 states; probability on the mask state is wasted, since clean tokens are never masks.

    Parameters
    ----------
    network : callable
        ``network(x, total_noise)`` gives logits (B, L, N + 1).
    x0 : torch.Tensor of int64, shape (B, L)
    graph : Absorbing
    steps : int
        T.
    times : torch.Tensor, shape (B,)
        From 0 to 1, rounded up to the next ``k / T``.
    generator : torch.Generator, optional
    auxiliary : float
        Weight of an extra cross-entropy at masks for training ([3], eq. 5); it is not part of the bound.

    Returns
    -------
    torch.Tensor, shape (B,)
        In expectation over uniform times, a bound on the negative log-likelihood in nats.

    Raises
    ------
    ValueError
        If there are no steps.
    """
    steps = whole("steps", steps)
    t = (times.double() * steps).ceil().clamp(1, steps) / steps
    # At the last step total noise is infinite.
    total = -torch.log1p(-t.clamp_max(1 - 1 / (2 * steps)))
    draw = torch.rand(x0.shape, generator=generator, device=x0.device, dtype=torch.float64)
    t, s = t.unsqueeze(-1), (t - 1 / steps).clamp_min(0).unsqueeze(-1)
    x = torch.where(draw < t, graph.mask, x0)
    logits = of_shape("the logits", network(x, total), (*x.shape, graph.states))
    logs = logits.double().log_softmax(-1)
    right, m = logs.gather(-1, x0.unsqueeze(-1)).squeeze(-1), logs[..., graph.mask].exp()
    fraction = 1 / (steps * t)  # masked at t but not at s
    spent = torch.log1p((1 - t) * m / t)
    stays = torch.log1p((1 - s) * m / torch.where(s > 0, s, 1))
    nats = fraction * (spent - right) + torch.where(s > 0, (1 - fraction) * (spent - stays), 0)
    return (steps * nats - auxiliary * right).masked_fill(x != graph.mask, 0).sum(-1)


def normalization_excess(score, x0, graph, noise, times, generator=None):
    """What score entropy loses at each token to scores of masks that sum to C times what they must: nats, shape (B, L).

    It is ``rate / expm1(total) * (C - 1 - log C)`` at a mask, at least 0, and 0 elsewhere.

    Parameters
    ----------
    score, x0, graph, noise, times, generator
        As :func:`masked_cross_entropy` takes them.
    """
    total, rate = noise(times)
    x = graph.corrupt(x0, total, generator)
    logs = graph.check_score(score(x, total), x0)[..., : graph.tokens].double()
    log_c = (logs.logsumexp(-1) + torch.expm1(total).log().unsqueeze(-1)).masked_fill(x != graph.mask, 0)
    return (rate / torch.expm1(total)).unsqueeze(-1) * (torch.expm1(log_c) - log_c)


def autoregressive_nats(network, x0, start):
    """Negative log-likelihood of each token given those before it, exact, in nats, shape (B, L).

    Parameters
    ----------
    network : callable
        Causal: ``network(x)`` gives logits (B, L, states) from tokens up to each position.
    x0 : torch.Tensor of int64, shape (B, L)
    start : int
        Stands before the first token.
    """
    logits = network(pad(x0[..., :-1], (1, 0), value=start))
    of_shape("the logits", logits, (*x0.shape, logits.shape[-1]))
    return cross_entropy(logits.movedim(-1, 1), x0, reduction="none")


@renamed(asked="requested", hidden="masked")
def any_order_nats(score, x0, graph, requested, masked=None, *, generator=None):
    """One draw of the any-order bound: nats of the requested tokens, given those that are neither requested nor masked.

    The absorbing bound is the mean, over all orders, of the loss of a model that generates the tokens in that order.
    Here k of the n requested tokens are masked too, k uniform from 1 to n, and their cross-entropy is multiplied by n / k.
    Nothing depends on time.

    Parameters
    ----------
    score : callable
        Its scores at masks must be normalized.
    x0 : torch.Tensor of int64, shape (B, L)
    graph : Absorbing
    requested, masked : torch.Tensor of bool, shape (L,)
        Positions to predict, and positions that are always masked and not scored (none by default).
    generator : torch.Generator, optional

    Returns
    -------
    torch.Tensor, shape (B,)

    Raises
    ------
    ValueError
        If no position is requested, or one is both requested and masked.
    """
    options = {"generator": generator, "device": x0.device}
    n = int(requested.sum())
    if n == 0 or (masked is not None and (requested & masked).any()):
        raise ValueError(f"some positions must be requested and none of them masked, got {n} requested")
    k = torch.randint(1, n + 1, x0.shape[:-1], **options)
    order = torch.rand(*x0.shape[:-1], n, **options).argsort(-1)
    scored = requested.expand(x0.shape).clone()
    scored[..., requested] = order < k.unsqueeze(-1)
    gone = scored if masked is None else scored | masked
    fraction = gone.double().mean(-1).clamp_max(1 - 1e-3)
    found = graph.check_score(score(torch.where(gone, graph.mask, x0), -torch.log1p(-fraction)), x0)
    logs = found[..., : graph.tokens].log_softmax(-1)
    right = logs.gather(-1, x0.unsqueeze(-1)).squeeze(-1)
    return -right.masked_fill(~scored, 0).sum(-1) * n / k


def rate_weighted(nats, rate):
    """Sums over positions of ``nats (B, L)``, times ``rate (B,)``."""
    return nats.sum(-1) * rate.to(nats.dtype)
