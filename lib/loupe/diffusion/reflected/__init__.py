"""Reflected diffusion: noise, scores, losses and samplers that stay in the unit cube.

After Lou and Ermon, Reflected Diffusion Models, 2023, with the same diffusion without walls for comparison.
"""

from loupe.deprecation import renamed_names
from loupe.diffusion.reflected.flow import Flow, LogLikelihood, bump, flow, log_likelihood
from loupe.diffusion.reflected.kernel import (
    fold,
    kernel_cdf,
    kernel_log_density,
    kernel_score,
    sample_kernel,
    unfolded,
)
from loupe.diffusion.reflected.losses import bits_per_dimension, denoising_loss, likelihood_bound
from loupe.diffusion.reflected.mixture import KernelMixture, cell_probabilities, corner_mixture
from loupe.diffusion.reflected.samplers import euler_reflected, interior_tweedie, sample
from loupe.diffusion.reflected.scores import (
    ScoreNetwork,
    classifier_free,
    classifier_guided,
    conditional,
    thresholded,
)
from loupe.diffusion.reflected.sde import VESDE, ReflectedSDE
from loupe.diffusion.reflected.simplex import from_simplex, simplex_log_det, to_simplex

__all__ = [
    "VESDE",
    "Flow",
    "KernelMixture",
    "LogLikelihood",
    "ReflectedSDE",
    "ScoreNetwork",
    "bits_per_dimension",
    "bump",
    "cell_probabilities",
    "classifier_free",
    "classifier_guided",
    "conditional",
    "corner_mixture",
    "denoising_loss",
    "euler_reflected",
    "flow",
    "fold",
    "from_simplex",
    "interior_tweedie",
    "kernel_cdf",
    "kernel_log_density",
    "kernel_score",
    "likelihood_bound",
    "log_likelihood",
    "sample",
    "sample_kernel",
    "simplex_log_det",
    "thresholded",
    "to_simplex",
    "unfolded",
]

__getattr__ = renamed_names(__name__, ExplodingSDE="VESDE")
