"""Diffusion on compact symmetric spaces: exact heat kernels, score matching, and the probability flow.

After Lou et al., Scaling Riemannian Diffusion Models, 2023, and De Bortoli et al., Riemannian Score-Based Generative
Modelling, 2022. The manifolds are those of :mod:`loupe.geometry`.
"""

from loupe.diffusion.riemannian.flow import log_likelihood, probability_flow, sample
from loupe.diffusion.riemannian.heat import HeatKernel, HeatMixture, heat_mixture
from loupe.diffusion.riemannian.losses import denoising_loss, implicit_loss

__all__ = [
    "HeatKernel",
    "HeatMixture",
    "denoising_loss",
    "heat_mixture",
    "implicit_loss",
    "log_likelihood",
    "probability_flow",
    "sample",
]
