"""The base of both hyperbolic charts: a negative curvature, one number or one for each element of a batch."""

import math

import torch

from loupe.derivatives import readable
from loupe.geometry.base import Manifold
from loupe.geometry.series import log_sinh_ratio


class Hyperbolic(Manifold):
    """A manifold of negative curvature."""

    def __init__(self, curvature=-1.0):
        if isinstance(curvature, torch.Tensor):
            curvature = curvature.reshape(()) if curvature.numel() == 1 else curvature
        else:
            curvature = float(curvature)
        self.curvature = curvature
        if self._readable():
            self.number()

    def number(self):
        """The current curvature: a float, or a tensor with one for each element of a batch.

        ValueError unless it is negative: an optimizer may have moved it.
        """
        value = self.curvature.detach() if isinstance(self.curvature, torch.Tensor) else self.curvature
        if self._batched:
            worst = value.max().item() if value.isfinite().all() else math.nan
        else:
            value = worst = float(value)
        if not (worst < 0 and math.isfinite(worst)):
            raise ValueError(
                f"curvature must be negative; got {worst:g}: use Euclidean() for 0, Sphere() for 1"
            )
        return value

    def _readable(self):
        """Whether the curvature can be read without a wait."""
        tensor = isinstance(self.curvature, torch.Tensor)
        return not tensor or (readable(self.curvature) and self.curvature.device.type == "cpu")

    def sound(self, *points, vectors=()):
        if self._readable():
            self.number()
        return super().sound(*points, vectors=vectors)

    def _only(self, x, off):
        return x if self._batched else super()._only(x, off)  # each point with its curvature

    @property
    def c(self):
        """Minus the curvature; 1/sqrt(c) is the unit of length, and the radius of the ball."""
        return -self.curvature

    @property
    def _batched(self):
        return isinstance(self.curvature, torch.Tensor) and self.curvature.dim() > 0

    @property
    def _c(self):
        """Minus the curvature, beside coordinates."""
        return self.c.unsqueeze(-1) if self._batched else self.c

    def beside(self):
        return type(self)(self.curvature.unsqueeze(-1)) if self._batched else self

    def log_volume_density(self, x, u):
        square = self.c * self.inner(x, u, u)
        return (self.dimension_like(x) - 1) * log_sinh_ratio(square)

    def __repr__(self):
        K = self.curvature
        shown = f"{tuple(K.shape)} numbers" if self._batched else f"{float(torch.as_tensor(K).detach()):g}"
        return f"{type(self).__name__}(curvature={shown})"
