"""Gaussian diffusion in continuous and discrete time: SDEs, DDPM's table, losses, samplers, likelihoods.

After Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, 2021; Karras et al.,
Elucidating the Design Space of Diffusion-Based Generative Models, 2022; and Ho et al., Denoising Diffusion Probabilistic
Models, 2020. Samples are images, vectors or trajectories: of any shape (B, ...).
"""

from loupe.diffusion.continuous.ddpm import DDPMTable
from loupe.diffusion.continuous.edm import Preconditioned, Preconditioning, edm_preconditioning
from loupe.diffusion.continuous.flow import Flow, LogLikelihood, divergence, log_likelihood, solve_flow
from loupe.diffusion.continuous.guidance import (
    classifier_free,
    classifier_guided,
    conditional,
    threshold,
    thresholded,
)
from loupe.diffusion.continuous.losses import denoising_loss
from loupe.diffusion.continuous.samplers import (
    ddim,
    ddpm,
    euler_maruyama,
    heun,
    hybrid,
    probability_flow,
    reverse_drift,
)
from loupe.diffusion.continuous.sde import EDMSDE, VESDE, VPSDE, GaussianSDE, Schedule, per_sample
from loupe.diffusion.times import lognormal_sigmas, time_grid, training_times

__all__ = [
    "EDMSDE",
    "VESDE",
    "VPSDE",
    "DDPMTable",
    "Flow",
    "GaussianSDE",
    "LogLikelihood",
    "Preconditioned",
    "Preconditioning",
    "Schedule",
    "classifier_free",
    "classifier_guided",
    "conditional",
    "ddim",
    "ddpm",
    "denoising_loss",
    "divergence",
    "edm_preconditioning",
    "euler_maruyama",
    "heun",
    "hybrid",
    "log_likelihood",
    "lognormal_sigmas",
    "per_sample",
    "probability_flow",
    "reverse_drift",
    "solve_flow",
    "threshold",
    "thresholded",
    "time_grid",
    "training_times",
]
