"""Diffusion bridges: diffusions between paired points, their denoisers, and their samplers.

After Zhou et al., Denoising Diffusion Bridge Models, 2024 (DDBM). A pair is a source ``x_T``, which is given, and a target
``x_0``, which is wanted; both have the shape (B, ...). A denoiser is called ``(x, t, x_T)`` and predicts ``x_0``.
"""

from loupe.diffusion.bridges.bridge import Preconditioning, VEBridge, VPBridge, bridge_loss
from loupe.diffusion.bridges.pairs import GaussianPair, TwoModePair
from loupe.diffusion.bridges.rivals import (
    BrownianBridge,
    i2sb_loss,
    i2sb_sample,
    rectified_flow_loss,
    rectified_flow_sample,
)
from loupe.diffusion.bridges.sampler import Drawn, bridge_sample, karras_grid

__all__ = [
    "BrownianBridge",
    "Drawn",
    "GaussianPair",
    "Preconditioning",
    "TwoModePair",
    "VEBridge",
    "VPBridge",
    "bridge_loss",
    "bridge_sample",
    "i2sb_loss",
    "i2sb_sample",
    "karras_grid",
    "rectified_flow_loss",
    "rectified_flow_sample",
]
