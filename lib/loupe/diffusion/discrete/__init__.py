"""Diffusion of discrete tokens: corruption chains, scores, losses, bounds and samplers.

After Lou, Meng and Ermon, Discrete Diffusion Modeling by Estimating the Ratios of the Data Distribution, 2024, and
later work on masked diffusion.
"""

from loupe.deprecation import renamed_names
from loupe.diffusion.discrete.bigram import BigramOracle, stationary_chain
from loupe.diffusion.discrete.draws import categorical, exponential_sampling, sharpened
from loupe.diffusion.discrete.enumeration import Enumeration, divergence, total_variation
from loupe.diffusion.discrete.graphs import Absorbing, Uniform
from loupe.diffusion.discrete.likelihood import Bound, d3pm_bound, likelihood_bound
from loupe.diffusion.discrete.losses import (
    any_order_nats,
    autoregressive_nats,
    concrete_score_loss,
    d3pm_loss,
    masked_cross_entropy,
    normalization_excess,
    score_entropy_loss,
)
from loupe.diffusion.discrete.methods import (
    ConstantNoise,
    Method,
    autoregressive_method,
    d3pm_method,
    in_batches,
    named_method,
    score_method,
)
from loupe.diffusion.discrete.models import Denoiser, ScoreNetwork
from loupe.diffusion.discrete.noise import GeometricNoise, LogLinearNoise, training_times
from loupe.diffusion.discrete.released import load_released_sedd
from loupe.diffusion.discrete.samplers import (
    Samples,
    expected_evaluations,
    first_hitting,
    sample,
    sample_autoregressive,
)

__all__ = [
    "Absorbing",
    "BigramOracle",
    "Bound",
    "ConstantNoise",
    "Denoiser",
    "Enumeration",
    "GeometricNoise",
    "LogLinearNoise",
    "Method",
    "Samples",
    "ScoreNetwork",
    "Uniform",
    "any_order_nats",
    "autoregressive_method",
    "autoregressive_nats",
    "categorical",
    "concrete_score_loss",
    "d3pm_bound",
    "d3pm_loss",
    "d3pm_method",
    "divergence",
    "expected_evaluations",
    "exponential_sampling",
    "first_hitting",
    "in_batches",
    "likelihood_bound",
    "load_released_sedd",
    "masked_cross_entropy",
    "named_method",
    "normalization_excess",
    "sample",
    "sample_autoregressive",
    "score_entropy_loss",
    "score_method",
    "sharpened",
    "stationary_chain",
    "total_variation",
    "training_times",
]

__getattr__ = renamed_names(__name__, exponential_race="exponential_sampling")
