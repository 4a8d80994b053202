"""Pairs of numbers whose denoisers are known in closed form. Tensors of any shape are many pairs, one per coordinate."""

import math
from dataclasses import dataclass

import torch

from loupe.diffusion.bridges.bridge import of_floats, paired, random_on
from loupe.diffusion.continuous import per_sample


class _Pair:
    """Targets that are a mixture of normals of one variance, around means that depend on the source."""

    def sample(self, x_T, generator=None):
        """Targets for these sources, of their shape."""
        means = self._means(of_floats("x_T", x_T))
        options = {"generator": random_on(x_T.device, generator), "device": x_T.device}
        which = torch.randint(len(means), x_T.shape, **options)
        noise = torch.randn(x_T.shape, dtype=x_T.dtype, **options)
        return means.gather(0, which.unsqueeze(0))[0] + self._std * noise

    def denoiser(self, bridge):
        """The posterior mean of x_0: a function of ``(x, t, x_T)``, shape of ``x``."""

        def denoised(x, t, x_T):
            paired(x, x_T)
            a, b, c = (per_sample("t", each, x) for each in bridge.coefficients(t))
            means = self._means(x_T)
            total = self._std**2 * b**2 + c
            error = x - a * x_T - b * means
            weights = (-(error**2) / (2 * total)).softmax(0)
            return (weights * (means + self._std**2 * b / total * error)).sum(0)

        return denoised


@dataclass(frozen=True)
class GaussianPair(_Pair):
    """Targets normal around ``A x_T + b``, with variance v.

    Parameters
    ----------
    A, b, v : float
    """

    A: float = 0.6
    b: float = -0.1
    v: float = 0.09

    def __post_init__(self):
        if not self.v > 0:
            raise ValueError(f"v must be above 0, got {self.v}")

    @property
    def _std(self):
        return math.sqrt(self.v)

    def _means(self, x_T):
        return (self.A * x_T + self.b).unsqueeze(0)


@dataclass(frozen=True)
class TwoModePair(_Pair):
    """Targets normal around ``slope x_T + mode`` or ``slope x_T - mode``, by a fair coin.

    Parameters
    ----------
    mode, slope, std : float
    """

    mode: float = 0.7
    slope: float = 0.2
    std: float = 0.05

    def __post_init__(self):
        if not self.std > 0:
            raise ValueError(f"std must be above 0, got {self.std}")

    @property
    def _std(self):
        return self.std

    def _means(self, x_T):
        return self.slope * x_T + torch.stack(
            [torch.full_like(x_T, self.mode), torch.full_like(x_T, -self.mode)]
        )
