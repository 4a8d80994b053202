"""The discrete schedule of DDPM: steps with a table of betas, computed once in float64.

References
----------
.. [1] Ho et al., Denoising Diffusion Probabilistic Models, 2020.
.. [2] Lin et al., Common Diffusion Noise Schedules and Sample Steps are Flawed, 2024.
"""

from dataclasses import dataclass

import torch

from loupe.checks import whole
from loupe.derivatives import transformed
from loupe.diffusion.continuous.sde import Schedule

SPACINGS = ("leading", "linspace", "trailing")


@dataclass(frozen=True, eq=False)
class DDPMTable(Schedule):
    r"""Times are steps from 0 to ``steps - 1`` (int64), and -1 for the data: ``alpha(-1) = 1``, ``sigma(-1) = 0``.

    Parameters
    ----------
    betas : torch.Tensor, shape (T,)
        Variance that each step adds, above 0 and below 1; the last may be 1, which leaves pure noise.

    Attributes
    ----------
    alphas_cumprod : torch.Tensor, shape (T,), float64
        :math:`\bar\alpha_t`, the square of ``alpha(t)``.
    posterior_mean_x0, posterior_mean_xt, posterior_variance : torch.Tensor, shape (T,), float64
        Mean and variance of q(x_{t-1} | x_t, x_0) ([1], eq. 7): coefficients of x_0 and x_t, and :math:`\tilde\beta_t`.
    posterior_log_variance : torch.Tensor, shape (T,), float64
        Its logarithm; step 0 repeats the value of step 1.

    Raises
    ------
    ValueError
        For betas of the wrong shape or out of range.
    """

    betas: torch.Tensor

    def __post_init__(self):
        betas = torch.as_tensor(self.betas, dtype=torch.float64)
        inside = (betas > 0) & (betas <= 1)
        if betas.ndim != 1 or len(betas) < 2 or not inside.all() or (betas[:-1] == 1).any():
            raise ValueError(
                "betas must be at least 2 numbers above 0 and below 1, of which the last may be 1: raise the number "
                f"of steps or lower the betas, got {betas.tolist() if betas.numel() < 9 else tuple(betas.shape)}"
            )
        # Log of alphas_cumprod, from -1 on.
        kept = torch.cat([betas.new_zeros(1), torch.log1p(-betas).cumsum(0)])
        variances = -torch.expm1(kept)
        variance = betas * variances[:-1] / variances[1:]
        for name, value in (
            ("betas", betas),
            ("alphas_cumprod", kept[1:].exp()),
            ("posterior_mean_x0", betas * (kept[:-1] / 2).exp() / variances[1:]),
            ("posterior_mean_xt", variances[:-1] * (1 - betas).sqrt() / variances[1:]),
            ("posterior_variance", variance),
            ("posterior_log_variance", torch.cat([variance[1:2], variance[1:]]).log()),
            ("_alpha", (kept / 2).exp()),
            ("_sigma", variances.sqrt()),
        ):
            object.__setattr__(self, name, value)

    @classmethod
    def linear(cls, steps=1000, first=1e-4, last=0.02):
        """Evenly spaced betas ([1], section 4)."""
        return cls(torch.linspace(first, last, whole("steps", steps, 2), dtype=torch.float64))

    @classmethod
    def scaled_linear(cls, steps=1000, first=0.00085, last=0.012):
        """Betas whose square roots are evenly spaced, as in latent diffusion."""
        return cls(torch.linspace(first**0.5, last**0.5, whole("steps", steps, 2), dtype=torch.float64) ** 2)

    def zero_terminal(self):
        """The table rescaled so that the last step is pure noise ([2], algorithm 1)."""
        alpha = self._alpha[1:]
        alpha = (alpha - alpha[-1]) * alpha[0] / (alpha[0] - alpha[-1])
        kept = alpha**2
        return type(self)(1 - kept / torch.cat([kept.new_ones(1), kept[:-1]]))

    @property
    def steps(self):
        """The number of steps."""
        return len(self.betas)

    def alpha(self, t):
        """Root of ``alphas_cumprod``, shape of ``t``, float64."""
        return self._at(self._alpha, t)

    def sigma(self, t):
        """Root of ``1 - alphas_cumprod``, shape of ``t``, float64."""
        return self._at(self._sigma, t)

    def times(self, steps, spacing="leading"):
        """Steps of a sampler, from noise to -1, shape (steps + 1,), int64.

        Parameters
        ----------
        steps : int
            At most the table's number; at that number all spacings agree.
        spacing : str
            ``"leading"`` ends at 0, ``"trailing"`` begins at the last step, ``"linspace"`` does both ([2], table 2).
        """
        count = whole("steps", steps)
        if count > self.steps or spacing not in SPACINGS:
            raise ValueError(
                f"take at most {self.steps} steps, spaced {', '.join(SPACINGS)}; got {count} spaced {spacing!r}"
            )
        if spacing == "leading":
            chosen = torch.arange(count) * (self.steps // count)
        elif spacing == "linspace":
            chosen = torch.linspace(0, self.steps - 1, count, dtype=torch.float64).round().long()
        else:
            ends = self.steps - torch.arange(count, dtype=torch.float64) * (self.steps / count)
            chosen = ends.round().long().flip(0) - 1
        return torch.cat([chosen.flip(0), torch.tensor([-1])])

    def _at(self, table, t):
        t = torch.as_tensor(t)
        if t.is_floating_point() or t.dtype == torch.bool:
            raise ValueError(f"times of a DDPM table are whole steps, got {t.dtype}")
        if t.numel() and t.device.type == "cpu" and not (torch.compiler.is_compiling() or transformed()):
            low, high = (bound.item() for bound in t.aminmax())
            if low < -1 or high >= self.steps:
                raise ValueError(
                    f"steps must lie between -1 (the data) and {self.steps - 1}, got {low} to {high}"
                )
        return table.to(t.device)[t + 1]
