"""Ways to train one network on tokens, so that they can be compared: all that differs between them, in one object."""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import torch

from loupe.diffusion.discrete.graphs import Absorbing, Uniform
from loupe.diffusion.discrete.likelihood import d3pm_bound, likelihood_bound
from loupe.diffusion.discrete.losses import (
    autoregressive_nats,
    concrete_score_loss,
    d3pm_loss,
    masked_cross_entropy,
    score_entropy_loss,
)
from loupe.diffusion.discrete.models import Denoiser, ScoreNetwork
from loupe.diffusion.discrete.noise import GeometricNoise, LogLinearNoise


class Method(NamedTuple):
    """How a network on tokens is trained, and what a text costs under it.

    Attributes
    ----------
    states : int
        Of the network's tokens, with the mask or the start if there is one.
    model : callable
        ``model(network)`` gives what is trained and sampled from.
    loss : callable
        ``loss(model, x0, times, generator)`` gives nats (B,) for sequences (B, L) and times (B,).
    bound : callable
        ``bound(model, x0, times=, batch=, generator=)`` gives two tensors of nats (n,): as published, and with all parts
        of the bound.
    first : float or None
        The first of the times; None where there is no time.
    options : dict
        Of the network, a :class:`~loupe.networks.transformer.Transformer`.
    """

    states: int
    model: Callable
    loss: Callable
    bound: Callable
    first: float | None = 1e-3
    options: Mapping = MappingProxyType({})


def score_method(graph, noise, model, objective, **options):
    """A method that learns scores of a graph and a noise, such as SEDD and MDLM.

    ``model(network, graph)`` is a :class:`ScoreNetwork`, a :class:`Denoiser` or a :class:`ConstantNoise`, and
    ``objective`` one of the losses of scores.
    """

    def loss(score, x0, times, generator=None):
        return objective(score, x0, graph, noise, times, generator)

    def bound(score, x0, **options):
        found = likelihood_bound(score, x0, graph, noise, **options)
        return found.path, found.path + found.end + found.prior

    return Method(graph.states, partial(model, graph=graph), loss, bound, options=options)


def d3pm_method(tokens, steps, auxiliary=0.0):
    """D3PM with masks, in so many steps; see :func:`d3pm_loss`."""
    graph = Absorbing(tokens)

    def loss(network, x0, times, generator=None):
        return d3pm_loss(network, x0, graph, steps, times, generator, auxiliary=auxiliary)

    def bound(network, x0, **options):
        return [d3pm_bound(network, x0, graph, steps, **options)] * 2

    return Method(graph.states, lambda network: network, loss, bound, first=0)


def autoregressive_method(tokens):
    """From left to right, by a causal network that takes no noise; ``tokens`` stands before the first token."""

    def loss(network, x0, times=None, generator=None):
        return autoregressive_nats(network, x0, tokens).sum(-1)

    def bound(network, x0, batch=64, **options):
        return [in_batches(batch, x0, partial(loss, network)).double()] * 2

    options = {"condition": 0, "causal": True}
    return Method(tokens + 1, lambda network: network, loss, bound, None, options)


def in_batches(size, x0, compute):
    """``compute`` of ``size`` sequences at a time, in one tensor."""
    return torch.cat([compute(part) for part in x0.split(size)])


class ConstantNoise(Denoiser):
    """A denoiser whose network gets the noise level at which half the tokens are masked, whatever the level is.

    It tells what a network gains by its noise input.
    """

    needs_noise = False

    def log_probabilities(self, x, total_noise=None, padding=None):
        """``log p(x0_i = y | x)`` where tokens are masked, shape (..., L, N)."""
        return super().log_probabilities(x, np.log(2), padding)


NAMED = {
    "SEDD absorb": (Absorbing, LogLinearNoise(), ScoreNetwork, score_entropy_loss),
    "SEDD uniform": (Uniform, GeometricNoise(), ScoreNetwork, score_entropy_loss),
    "MDLM": (Absorbing, LogLinearNoise(), Denoiser, masked_cross_entropy),
    "time-free": (Absorbing, LogLinearNoise(), Denoiser, masked_cross_entropy),
    "constant noise": (Absorbing, LogLinearNoise(), ConstantNoise, masked_cross_entropy),
    "concrete score": (Absorbing, LogLinearNoise(), ScoreNetwork, concrete_score_loss),
}
"""Methods that learn scores: SEDD on both graphs, MDLM, RADD (time-free) with its control, and the loss before SEDD."""


def named_method(name, tokens, *, steps=1000, auxiliary=0.01):
    """A published method for so many tokens, by its name in :data:`NAMED`, or ``"D3PM"`` or ``"autoregressive"``.

    ``steps`` and ``auxiliary`` are of D3PM. Its ``options`` make a
    :class:`~loupe.networks.transformer.Transformer` fit:

    >>> from loupe.networks.transformer import Transformer
    >>> method = named_method("MDLM", tokens=27)
    >>> model = method.model(Transformer(method.states, width=32, heads=4, blocks=2, **method.options))
    >>> loss = method.loss(model, torch.zeros(8, 64, dtype=torch.int64), torch.rand(8))
    """
    if name == "D3PM":
        return d3pm_method(tokens, steps, auxiliary)
    if name == "autoregressive":
        return autoregressive_method(tokens)
    if name not in NAMED:
        raise ValueError(
            f"method must be one of {', '.join([*NAMED, 'D3PM', 'autoregressive'])}, got {name!r}"
        )
    graph, noise, model, objective = NAMED[name]
    options = {"condition": 0, "gate": 0.0} if name == "time-free" else {}
    return score_method(graph(tokens), noise, model, objective, **options)
