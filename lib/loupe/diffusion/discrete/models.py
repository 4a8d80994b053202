"""From a network's outputs to scores: modules that are called with tokens ``(..., L)`` and total noise ``(...)``.

Each gives a log-score ``(..., L, states)``, and passes ``padding (..., L)`` on to its network if there is any; samplers
and bounds take any function of this kind. With the absorbing graph a score is the probability of a token given the
unmasked ones, divided by ``expm1(total_noise)`` [1]: time enters only through this known factor.

References
----------
.. [1] Ou et al., Your Absorbing Discrete Diffusion Secretly Models the Conditional Distributions of Clean Data, 2024.
.. [2] Sahoo et al., Simple and Effective Masked Diffusion Language Models, 2024.
"""

import math

import torch
from torch import nn

from loupe.diffusion.discrete.graphs import Absorbing


class ScoreNetwork(nn.Module):
    """A log-score from an unconstrained network, as published.

    Parameters
    ----------
    network : torch.nn.Module
        Called with tokens and noise.
    graph : Absorbing or Uniform
    scale_by_noise : bool, optional
        Whether to subtract ``log(expm1(total_noise)) + log N``, so that an output of 0 is the score of independent
        uniform tokens. Only for the absorbing graph, where it is the default.

    Raises
    ------
    ValueError
        If set with the uniform graph, where outputs of 0 already are that score.
    """

    def __init__(self, network, graph, scale_by_noise=None):
        super().__init__()
        absorbing = isinstance(graph, Absorbing)
        if scale_by_noise and not absorbing:
            raise ValueError(
                "scale_by_noise is for the absorbing graph: without it a uniform graph starts right"
            )
        self.network, self.graph = network, graph
        self.scale_by_noise = absorbing if scale_by_noise is None else scale_by_noise

    def forward(self, x, total_noise, padding=None):
        """The log-score, 0 at the tokens of ``x``; at least float32."""
        out = self.graph.check_score(self.network(x, total_noise, **_given(padding)), x)
        out = out.float() if out.dtype in (torch.float16, torch.bfloat16) else out
        if self.scale_by_noise:
            out = out - (log_expm1(total_noise) + math.log(self.graph.tokens)).to(out)[..., None, None]
        return out.scatter(-1, x.unsqueeze(-1), 0)


class Denoiser(nn.Module):
    """The log-score of a network that predicts logits of masked tokens, as in MDLM [2] and RADD [1].

    Parameters
    ----------
    network : torch.nn.Module
        Called with tokens and noise; its last output, for the mask, is unused and may be missing.
    graph : Absorbing

    Raises
    ------
    ValueError
        If the graph has no masks.
    """

    def __init__(self, network, graph):
        super().__init__()
        if not isinstance(graph, Absorbing):
            raise ValueError(f"a denoiser tells what masks hide: the graph must be Absorbing, got {graph}")
        self.network, self.graph = network, graph

    @property
    def needs_noise(self):
        """Whether the network takes the noise as input; if not, outputs can be reused until a token changes."""
        return bool(getattr(self.network, "condition", True))

    def log_probabilities(self, x, total_noise=None, padding=None):
        """``log p(x0_i = y | x)`` where tokens are masked, shape (..., L, N)."""
        out = self.network(x, total_noise, **_given(padding))
        if out.shape[-1] != self.graph.tokens:
            out = self.graph.check_score(out, x)[..., : self.graph.tokens]
        return (out.float() if out.dtype in (torch.float16, torch.bfloat16) else out).log_softmax(-1)

    def forward(self, x, total_noise, padding=None):
        """The log-score; entries of the mask state, and at unmasked tokens, are unused and at most 0."""
        return scaled_score(self.log_probabilities(x, total_noise, padding), total_noise)


def _given(padding):
    return {} if padding is None else {"padding": padding}


def scaled_score(log_probabilities, total_noise):
    """The log-score ``(..., L, N + 1)`` from log-probabilities ``(..., L, N)`` of masked tokens."""
    scale = log_expm1(total_noise).to(log_probabilities)[..., None, None]
    return nn.functional.pad(log_probabilities - scale, (0, 1))


def log_expm1(total_noise):
    """``log(expm1(total_noise))``, float64, without overflow."""
    noise = torch.as_tensor(total_noise, dtype=torch.float64)
    return noise + torch.log(-torch.expm1(-noise))
