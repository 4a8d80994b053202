"""Noise schedules: total noise at each time from 0 to 1, and its rate.

``total_noise`` is the integral of the noise rate. Kernels, scores and networks depend on the total noise only; the
noise rate multiplies the loss and the reverse process.
"""

import math
from dataclasses import dataclass

import torch

from loupe.derivatives import readable
from loupe.diffusion.times import training_times

__all__ = ["GeometricNoise", "LogLinearNoise", "training_times"]


@dataclass(frozen=True)
class GeometricNoise:
    """``minimum**(1 - t) * maximum**t`` (Lou et al. 2024, appendix C.1), the schedule of the uniform graph.

    Parameters
    ----------
    minimum, maximum : float
        Total noise at times 0 and 1.

    Raises
    ------
    ValueError
        Unless ``0 < minimum < maximum``.
    """

    minimum: float = 1e-4
    maximum: float = 20.0

    def __post_init__(self):
        if not 0 < self.minimum < self.maximum < math.inf:
            raise ValueError(
                f"noise must rise from a minimum above 0 to a maximum, got {self.minimum} and {self.maximum}"
            )

    def __call__(self, t):
        """Total noise and noise rate at times ``t``, float64, shape of ``t``."""
        t = _times(t)
        span = math.log(self.maximum / self.minimum)
        total = self.minimum * (t * span).exp()
        return total, total * span


@dataclass(frozen=True)
class LogLinearNoise:
    """``-log(1 - (1 - eps) t)``: a token is masked at time t with probability ``(1 - eps) t`` exactly.

    Parameters
    ----------
    eps : float
        Share of the tokens still unmasked at time 1.

    Raises
    ------
    ValueError
        Unless ``0 < eps < 1``.
    """

    eps: float = 1e-3

    def __post_init__(self):
        if not 0 < self.eps < 1:
            raise ValueError(f"eps must lie between 0 and 1, got {self.eps}")

    def __call__(self, t):
        """Total noise and noise rate at times ``t``, float64, shape of ``t``."""
        masked = (1 - self.eps) * _times(t)
        return -torch.log1p(-masked), (1 - self.eps) / (1 - masked)


def _times(t):
    t = torch.as_tensor(t, dtype=torch.float64)
    if readable(t) and t.numel() and not (t.min() >= 0 and t.max() <= 1):
        raise ValueError(f"times must lie between 0 and 1, got {t.min().item():g} to {t.max().item():g}")
    return t
