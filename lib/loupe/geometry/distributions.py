"""Distributions on manifolds, with densities relative to the Riemannian volume."""

import math
from dataclasses import dataclass

import numpy as np
import torch

from loupe.geometry.base import Manifold, normal
from loupe.geometry.manifolds import Sphere

_NODES, _WEIGHTS = np.polynomial.legendre.leggauss(200)


@dataclass(frozen=True)
class WrappedNormal:
    """``exp_mean(u)`` of a normal tangent vector ``u``, whose coordinates in the frame at the mean are independent.

    On the torus the density counts every geodesic that leads to a point, on the sphere and SO(3) those of up to four turns
    each way, enough for scales to 4. It grows without bound where many meet: near the sphere's antipode of the mean, and,
    after a full turn, near the mean on the sphere and SO(3). On SU(n) it counts the shortest one only, and raises for
    scales where others matter.

    Parameters
    ----------
    manifold : Manifold
    mean : torch.Tensor, shape (...) and that of a point
    scale : float or torch.Tensor
        Standard deviation; broadcasts against frame coordinates ``(..., dimension)``, so that one number for each mean
        has shape ``(..., 1)``.

    Raises
    ------
    ValueError
        If a scale is not positive, or a mean is off the manifold.
    """

    manifold: Manifold
    mean: torch.Tensor
    scale: float | torch.Tensor = 1.0

    def __post_init__(self):
        _positive("scale", self.scale)
        self.manifold.sound(self.mean)

    def sample(self, shape=(), generator=None):
        """Points of shape ``(*shape, ...)``, differentiable in mean and scale."""
        lead = self.mean.shape[: self.mean.dim() - self.manifold.ndim]
        mean = self.mean.expand(*shape, *self.mean.shape)
        real = self.mean.dtype.to_real()
        size = *shape, *lead, self.manifold.dimension_like(self.mean)
        a = self.scale * normal(size, generator, real, self.mean.device)
        return self.manifold.exp(mean, self.manifold.from_frame(mean, a.to(real)))

    def log_prob(self, x):
        """The log density, shape ``(...)``."""
        return self.manifold.log_wrapped_normal(self.mean, x, self.scale)


@dataclass(frozen=True)
class VonMisesFisher:
    """The density proportional to ``exp(concentration <mean, x>)`` on the sphere, of any dimension.

    Parameters
    ----------
    mean : torch.Tensor, shape (..., d)
        Points of the sphere.
    concentration : float or torch.Tensor, shape (...)
        At least 0, where the distribution is uniform.

    Raises
    ------
    ValueError
        If a concentration is negative, or a mean is off the sphere.
    """

    mean: torch.Tensor
    concentration: float | torch.Tensor

    def __post_init__(self):
        _positive("concentration", self.concentration, zero=True)
        Sphere().sound(self.mean)

    def log_prob(self, x):
        """The log density, shape ``(...)``."""
        kappa = torch.as_tensor(self.concentration, dtype=x.dtype, device=x.device)
        Sphere().sound(self.mean, x)
        quarter = (x - self.mean).square().sum(-1) / 2  # 1 - <mean, x>
        return -kappa * quarter - _log_normalizer(kappa, x.shape[-1])

    def sample(self, shape=(), generator=None):
        """Points of shape ``(*shape, ..., d)``, by Wood's rejection of Ulrich's proposals; without gradients."""
        with torch.no_grad():
            mean, d = self.mean.expand(*shape, *self.mean.shape), self.mean.shape[-1]
            kappa = torch.as_tensor(self.concentration, dtype=mean.dtype, device=mean.device)
            kappa = kappa.expand(mean.shape[:-1]).reshape(-1)
            b = (d - 1) / (2 * kappa + (4 * kappa.square() + (d - 1) ** 2).sqrt())
            best = (1 - b) / (1 + b)
            top = kappa * best + (d - 1) * torch.log1p(-best.square())
            below, above = torch.empty_like(kappa), torch.empty_like(kappa)
            open_ = torch.arange(len(kappa), device=mean.device)
            while len(open_):
                # One coordinate of a uniform point has exactly this symmetric beta distribution.
                uniform = Sphere().random(
                    len(open_), d, generator=generator, dtype=mean.dtype, device=mean.device
                )
                z, c = 0.5 * (1 + uniform[:, 0]), b[open_]
                denominator = 1 - (1 - c) * z
                # 1 - w and 1 + w.
                below[open_], above[open_] = (2 * c * z / denominator, 2 * (1 - z) / denominator)
                w = 1 - below[open_]
                draw = torch.rand(len(open_), generator=generator, dtype=mean.dtype, device=mean.device)
                score = kappa[open_] * w + (d - 1) * torch.log1p(-best[open_] * w) - top[open_]
                open_ = open_[score < draw.log()]
            along, across = (a.reshape(*mean.shape[:-1], 1) for a in (1 - below, (below * above).sqrt()))
            turn = Sphere().project(Sphere().random_tangent(mean, generator))
            return Sphere().project(along * mean + across * turn)


def _log_normalizer(kappa, d):
    """The log of the integral of ``exp(kappa (<mean, x> - 1))``, differentiable to any order (torch's Bessel functions
    are not).

    Gauss-Legendre quadrature over the angle to the mean, within twelve widths of the peak.
    """
    n, at = d - 2, kappa.detach().double()
    cosine = 2 * at / (n + (n * n + 4 * at.square()).sqrt()).clamp_min(1e-300)
    top = torch.where(at > 0, cosine.clamp(max=1).acos(), math.pi / 2)
    width = 12 / (n + at * top.cos().clamp_min(0) + 0.5).sqrt()
    low, high = (top - width).clamp_min(0), (top + width).clamp_max(math.pi)
    if n == 0:
        low, high = torch.zeros_like(low), torch.minimum(width * 2, torch.full_like(width, math.pi))
    nodes, weights = (torch.from_numpy(a).to(at.device) for a in (_NODES, _WEIGHTS))
    half = 0.5 * (high - low).unsqueeze(-1)
    angles = low.unsqueeze(-1) + half * (1 + nodes)
    logs = (half * weights).log() + (n * angles.sin().log() if n else 0)
    logs = logs.to(kappa.dtype) - kappa.unsqueeze(-1) * (2 * (0.5 * angles).sin().square()).to(kappa.dtype)
    around = math.log(2) if n == 0 else Sphere().log_volume_like(torch.empty(d - 1))
    return logs.logsumexp(-1) + around


def _positive(name, value, zero=False):
    value = torch.as_tensor(value).detach()
    if not (((value >= 0) if zero else (value > 0)) & value.isfinite()).all():
        worst = value.min().item()
        raise ValueError(f"{name} must be {'at least 0' if zero else 'positive'} and finite, got {worst:g}")
