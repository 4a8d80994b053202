"""Two diffusions with the same schedule: one reflected in the cube, the other without walls.

Both add noise whose standard deviation grows from ``sigma_min`` to ``sigma_max`` as time runs from 0 to 1. They have
the same methods, so losses, samplers and networks work with either.

References
----------
.. [1] Lou and Ermon, Reflected Diffusion Models, 2023.
"""

from dataclasses import dataclass

import torch

from loupe.deprecation import renamed
from loupe.diffusion.continuous import sde as continuous
from loupe.diffusion.reflected.kernel import (
    check_cube,
    checked_sigma,
    fold,
    kernel_score,
    per_row,
    sample_kernel,
    unfolded,
)


@dataclass(frozen=True)
class ReflectedSDE(continuous.GeometricSchedule):
    """Brownian motion in [0, 1]^d with reflecting walls ([1]); its limit is uniform.

    It has no drift. Use ``sigma_min = 0.01`` for samples, and 1e-4 for the likelihood bound of gray levels.
    """

    def noised(self, x0, sigma, generator=None):
        """Draw from the kernel; shape of ``x0 (B, ...)``, ``sigma (B,)`` or one for each coordinate."""
        return sample_kernel(x0, sigma, generator)

    def kernel_score(self, x, x0, sigma):
        """Score of the kernel, shape of ``x``."""
        return kernel_score(x, x0, sigma)

    def limit(self, shape, generator=None, device="cpu", dtype=torch.float32, side=0.0):
        """Draw from the uniform distribution, the limit at time 1.

        ``side`` keeps every coordinate at least that far from the walls: a mollified flow hardly moves points there,
        and the published sampler starts 0.01 away.
        """
        drawn = torch.rand(shape, generator=generator, device=device, dtype=dtype)
        return side + (1 - 2 * side) * drawn if side else drawn

    def limit_log_density(self, x):
        """Log-density of the limit, shape (B,): 0."""
        return x.new_zeros(len(x))

    def inputs(self, x, sigma):
        """Network inputs: the cube rescaled to [-1, 1]."""
        return 2 * x - 1

    def chart(self, x):
        """Folded points for points of the line, and the direction of the fold there (1 or -1)."""
        return unfolded(x)

    def folded(self, x):
        """Folded points for points of the line."""
        return fold(x)


@renamed(centre="center")
@dataclass(frozen=True)
class VESDE(continuous.VESDE):
    """The same noise without walls: :class:`loupe.diffusion.continuous.VESDE` with the methods of :class:`ReflectedSDE`.

    Parameters
    ----------
    sigma_min, sigma_max : float
    center, spread : float
        Approximate mean and standard deviation of the data. They center the final noise and scale the network's inputs.
        The defaults suit the unit interval.
    """

    center: float = 0.5
    spread: float = 0.5
    limit, limit_log_density = continuous.VESDE.prior_sample, continuous.VESDE.prior_log_density

    def noised(self, x0, sigma, generator=None):
        """Add noise; shape of ``x0 (B, ...)``, for ``sigma (B,)`` or one for each coordinate."""
        noise = torch.randn(x0.shape, generator=generator, device=x0.device, dtype=x0.dtype)
        return x0 + per_row(checked_sigma(sigma, x0, each=True), x0) * noise

    def kernel_score(self, x, x0, sigma):
        """Score ``(x0 - x) / sigma^2`` of the Gaussian kernel, shape of ``x``."""
        return (x0 - x) / per_row(checked_sigma(sigma, x, each=True), x) ** 2

    def inputs(self, x, sigma):
        """Network inputs: ``x`` centered and divided by its standard deviation at this noise."""
        return (x - self.center) / (per_row(sigma, x) ** 2 + self.spread**2).sqrt()

    def chart(self, x):
        """The point itself, and 1: no fold."""
        return x, 1.0

    def folded(self, x):
        """The point itself."""
        return x


def checked_data(x0, sde, name="x0"):
    """Checked points of shape (B, ...), in the cube for a reflected process."""
    if isinstance(sde, ReflectedSDE):
        check_cube(x0, name)
    elif not torch.is_floating_point(x0):
        raise ValueError(f"{name} must hold floating-point numbers, got {x0.dtype}: convert with .float()")
    return x0
