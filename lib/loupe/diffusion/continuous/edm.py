"""EDM's parametrization: a network whose input, output and training target have variance 1 at all noise levels.

References
----------
.. [1] Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, 2022.
"""

from typing import NamedTuple

import torch

from loupe.checks import of_shape
from loupe.diffusion.continuous.sde import per_sample


class Preconditioning(NamedTuple):
    """Coefficients for one time or one per sample, and the weight of the loss, ``1 / c_out^2``."""

    c_skip: torch.Tensor
    c_out: torch.Tensor
    c_in: torch.Tensor
    c_noise: torch.Tensor
    weight: torch.Tensor


def edm_preconditioning(sigma, sigma_data=0.5):
    """The coefficients for data of standard deviation ``sigma_data`` ([1], table 1), shape of ``sigma``."""
    total = sigma**2 + sigma_data**2
    return Preconditioning(
        c_skip=sigma_data**2 / total,
        c_out=sigma * sigma_data / total.sqrt(),
        c_in=total.rsqrt(),
        c_noise=sigma.log() / 4,
        weight=total / (sigma * sigma_data) ** 2,
    )


class Preconditioned(torch.nn.Module):
    """The denoiser ``c_skip x + c_out F(c_in x, c_noise)`` of a network F ([1], eq. 7).

    Parameters
    ----------
    network : callable
        ``(x, c_noise, *condition)`` to the shape of ``x``. Loupe's networks take the log of the noise level themselves:
        wrap them as ``lambda x, c_noise: network(x, (4 * c_noise).exp())``.
    coefficients : callable
        Times to :class:`Preconditioning`; ``functools.partial(edm_preconditioning, sigma_data=...)`` for other data, or
        those of a bridge.
    """

    def __init__(self, network, coefficients=edm_preconditioning):
        super().__init__()
        self.network, self.coefficients = network, coefficients

    def forward(self, x, t, *condition):
        """Denoised points, shape of ``x``, for times that are one number or one per sample."""
        c, found = self._network_output(x, t, condition)
        return per_sample("t", c.c_skip, x) * x + per_sample("t", c.c_out, x) * found

    def loss(self, x0, x, t, *condition):
        """Weighted squared error of the denoiser, the mean over each sample, shape (B,).

        Computed as the network's error against ``(x0 - c_skip x) / c_out``: equal to ``weight (D - x0)^2``, but without
        multiplying small differences by large weights.
        """
        c, found = self._network_output(of_shape("x", x, x0.shape), t, condition)
        wanted = (x0 - per_sample("t", c.c_skip, x) * x) / per_sample("t", c.c_out, x)
        return (found - wanted).square().unsqueeze(-1).flatten(1).mean(1)

    def _network_output(self, x, t, condition):
        c = self.coefficients(torch.as_tensor(t, device=x.device))
        noise = c.c_noise.to(torch.promote_types(x.dtype, torch.float32))
        found = self.network(per_sample("t", c.c_in, x) * x, noise, *condition)
        return c, of_shape("the network's output", found, x.shape)
