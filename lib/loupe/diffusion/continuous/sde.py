r"""Diffusions with Gaussian noise, ``x_t = alpha_t x_0 + sigma_t noise``, and what follows from these two functions.

A schedule has ``alpha(t)`` and ``sigma(t)``; an SDE also has ``drift(x, t)`` and ``diffusion(t)``, so that
:math:`\mathrm dx=f(t)x\,\mathrm dt+g(t)\,\mathrm dw`. Times may be one number or one per sample: the leading axes of
``x``. Coefficients have the dtype of the times, so pass times in float64; they are cast to the dtype of ``x`` when
multiplied with it.

References
----------
.. [1] Song et al., Score-Based Generative Modeling through Stochastic Differential Equations, 2021.
.. [2] Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, 2022.
.. [3] Kingma et al., Variational Diffusion Models, 2021.
"""

import math
from dataclasses import dataclass

import torch

from loupe.checks import of_shape
from loupe.deprecation import renamed

KINDS = ("denoiser", "noise", "score", "velocity")
"""What a model may predict: x_0, the noise, the score, or ``alpha noise - sigma x_0`` (v-prediction)."""


def per_sample(name, value, x):
    """A value (one number, or one per sample), shaped to multiply ``x``.

    Parameters
    ----------
    name : str
    value : torch.Tensor or float
        A number, or a tensor with the shape of the leading axes of ``x``.
    x : torch.Tensor of floats

    Returns
    -------
    torch.Tensor
        Of the dtype, the device and the number of axes of ``x`` (a number has none).

    Raises
    ------
    ValueError
        For any other shape, which would broadcast silently, or for integer ``x``.
    """
    if not x.is_floating_point():
        raise ValueError(
            f"points must hold floating-point numbers, got {x.dtype}: scale them to floats first"
        )
    value = torch.as_tensor(value, dtype=x.dtype, device=x.device)
    if value.shape != x.shape[: value.ndim]:
        raise ValueError(
            f"{name} must be one number or one per sample, of shape {tuple(x.shape[:1])} for points of shape "
            f"{tuple(x.shape)}, got {tuple(value.shape)}"
        )
    return value.reshape(*value.shape, *(1,) * (x.ndim - value.ndim)) if value.ndim else value


def predicted(name, model, x, t):
    """The prediction ``model(x, t)``, checked to have the shape of ``x``; float times are cast to the dtype of ``x``."""
    # Not torch's default dtype, which would round a number of float64.
    t = torch.as_tensor(t, dtype=torch.float64 if isinstance(t, float) else None)
    if t.is_floating_point():
        t = t.to(torch.promote_types(x.dtype, torch.float32))
    return of_shape(name, model(x, t.to(x.device)), x.shape)


class Schedule:
    """What follows from ``alpha(t)`` and ``sigma(t)``. Time ``s`` has less noise than time ``t``."""

    def snr(self, t):
        """Signal-to-noise ratio ``alpha^2 / sigma^2``, shape of ``t``."""
        return (self.alpha(t) / self.sigma(t)) ** 2

    def coefficients(self, t, x):
        """``alpha(t)`` and ``sigma(t)``, shaped to multiply ``x``."""
        return per_sample("t", self.alpha(t), x), per_sample("t", self.sigma(t), x)

    def add_noise(self, x0, t, noise):
        """Noisy points ``alpha_t x_0 + sigma_t noise``; all of the shape of ``x0``, for times as in :func:`per_sample`."""
        alpha, sigma = self.coefficients(t, x0)
        return alpha * x0 + sigma * of_shape("the noise", noise, x0.shape)

    def transition(self, s, t):
        """Scale and variance of the kernel q(x_t | x_s), shape of the times ([3], appendix A.1)."""
        scale = self.alpha(t) / self.alpha(s)
        return scale, self.sigma(t) ** 2 - (scale * self.sigma(s)) ** 2

    def posterior(self, x0, xt, s, t):
        r"""Mean and variance of q(x_s | x_t, x_0): DDPM's posterior, and the kernel of a bridge from x_0 to x_t.

        With :math:`r=\mathrm{SNR}_t/\mathrm{SNR}_s` the mean is
        :math:`(\alpha_s/\alpha_t)r\,x_t+\alpha_s(1-r)\,x_0` and the variance :math:`\sigma_s^2(1-r)`.

        Returns
        -------
        mean, variance : torch.Tensor
            The mean has the shape of ``x0``; the variance can be multiplied with it.
        """
        of_shape("xt", xt, x0.shape)
        on_xt, on_x0, variance = self.posterior_coefficients(s, t)
        mean = per_sample("the times", on_xt, x0) * xt + per_sample("the times", on_x0, x0) * x0
        return mean, per_sample("the times", variance, x0)

    def posterior_coefficients(self, s, t):
        """Coefficients of x_t and x_0 in the mean of :meth:`posterior`, and its variance; shape of the times."""
        scale = self.alpha(t) / self.alpha(s)
        ratio = self.sigma(s) / self.sigma(t)
        # No division by alpha_t, which may be 0, or sigma_s, which is 0 at the data.
        rest = 1 - (scale * ratio) ** 2
        return scale * ratio**2, self.alpha(s) * rest, self.sigma(s) ** 2 * rest

    def target(self, kind, x0, noise, t):
        """The training target of a model of this kind (one of ``KINDS``), shape of ``x0``."""
        checked_kind(kind), of_shape("the noise", noise, x0.shape)
        alpha, sigma = self.coefficients(t, x0)
        if kind == "score":
            return -noise / sigma
        return {"denoiser": x0, "noise": noise, "velocity": alpha * noise - sigma * x0}[kind]

    def convert(self, model, given, wanted):
        """Turn a model of one kind into another of ``KINDS``, for the same distribution.

        Parameters
        ----------
        model : callable
            ``(x, t)`` to predictions of the shape of ``x``.
        given, wanted : str

        Returns
        -------
        callable
            ``(x, t)`` to predictions of the wanted kind. Where alpha is 0, noise and scores carry no information about
            the data, and a denoiser made from them is not finite: train a denoiser, or predict the velocity.
        """
        checked_kind(given), checked_kind(wanted)

        def converted(x, t):
            found = predicted(f"the {given}", model, x, t)
            if given == wanted:
                return found
            alpha, sigma = self.coefficients(t, x)
            if given == "velocity":
                total = alpha**2 + sigma**2
                x0, noise = (alpha * x - sigma * found) / total, (sigma * x + alpha * found) / total
            elif given == "denoiser":
                x0, noise = found, (x - alpha * found) / sigma
            else:
                noise = found if given == "noise" else -sigma * found
                x0 = (x - sigma * noise) / alpha
            return self.target(wanted, x0, noise, t)

        return converted


def checked_kind(kind):
    """The kind of prediction; ValueError if it is unknown."""
    if kind not in KINDS:
        raise ValueError(f"a prediction is one of {', '.join(KINDS)}, got {kind!r}")
    return kind


class GaussianSDE(Schedule):
    """A schedule with ``drift`` and ``diffusion``, from ``t_min`` to ``t_max``, whose prior is normal at ``t_max``."""

    center = 0.0

    def prior_sample(self, shape, generator=None, device="cpu", dtype=None):
        """Draw from the normal distribution that approximates the noisy data at ``t_max``."""
        noise = torch.randn(shape, generator=generator, device=device, dtype=dtype)
        return self.center + self.prior_std * noise

    def prior_log_density(self, x):
        """Log-density of the prior in nats, shape (B,) for ``x (B, ...)``."""
        scaled = ((x - self.center) / self.prior_std).unsqueeze(-1).flatten(1)
        constant = math.log(self.prior_std * math.sqrt(2 * math.pi))
        return -(scaled.square() / 2 + constant).sum(1)


@dataclass(frozen=True)
class GeometricSchedule:
    """Noise that grows geometrically in time (the variance-exploding schedule).

    Parameters
    ----------
    sigma_min, sigma_max : float
        Standard deviation of the noise at times 0 and 1.

    Raises
    ------
    ValueError
        Unless ``0 < sigma_min < sigma_max``.
    """

    sigma_min: float = 0.01
    sigma_max: float = 5.0

    def __post_init__(self):
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(
                f"noise must grow from a sigma_min above 0 to a sigma_max, got {self.sigma_min} and {self.sigma_max}"
            )

    @property
    def growth(self):
        """Logarithm of ``sigma_max / sigma_min``."""
        return math.log(self.sigma_max / self.sigma_min)

    def sigma(self, t):
        """Standard deviation ``sigma_min**(1 - t) * sigma_max**t`` of the noise at time t, shape of ``t``."""
        return (math.log(self.sigma_min) + self.growth * torch.as_tensor(t)).exp()

    def diffusion(self, t):
        """Diffusion coefficient g: g^2 is the time derivative of sigma^2."""
        return math.sqrt(2 * self.growth) * self.sigma(t)

    def time(self, sigma):
        """The time at which the noise has this standard deviation."""
        return (torch.as_tensor(sigma).log() - math.log(self.sigma_min)) / self.growth


class _Driftless(GaussianSDE):
    """An SDE that only adds noise: alpha is 1."""

    def alpha(self, t):
        """1, shape of ``t``."""
        return torch.ones_like(_float(t))

    def drift(self, x, t):
        """0."""
        return torch.zeros_like(x)

    @property
    def prior_std(self):
        """Standard deviation of the prior."""
        return self.sigma_max


@renamed(centre="center")
@dataclass(frozen=True)
class VESDE(GeometricSchedule, _Driftless):
    """The variance-exploding SDE: sigma grows geometrically over the times 0 to 1 ([1], eq. 9).

    Parameters
    ----------
    sigma_min, sigma_max : float
    center : float
        Mean of the prior, usually that of the data: 0 for data in [-1, 1], 0.5 for [0, 1].
    """

    center: float = 0.0
    t_min, t_max = 0.0, 1.0

    def sigma(self, t):
        """Standard deviation of the noise, shape of ``t``; in float64 for numbers."""
        return super().sigma(_float(t))


@renamed(centre="center")
@dataclass(frozen=True)
class EDMSDE(_Driftless):
    """The variance-exploding SDE of EDM, whose time is the noise level: ``sigma(t) = t`` ([2], table 1).

    Parameters
    ----------
    sigma_min, sigma_max : float
        The earliest and the latest time.
    center : float
        Mean of the prior.
    """

    sigma_min: float = 0.002
    sigma_max: float = 80.0
    center: float = 0.0
    __post_init__ = GeometricSchedule.__post_init__

    @property
    def t_min(self):
        """The earliest time."""
        return self.sigma_min

    @property
    def t_max(self):
        """The latest time."""
        return self.sigma_max

    def sigma(self, t):
        """Standard deviation of the noise: ``t`` itself."""
        return _float(t)

    def diffusion(self, t):
        """g, of which g^2 = 2 t."""
        return (2 * _float(t)).sqrt()


@dataclass(frozen=True)
class VPSDE(GaussianSDE):
    """The variance-preserving SDE: ``beta(t)`` grows linearly over the times 0 to 1 ([1], eq. 11 and 33).

    Parameters
    ----------
    beta_min, beta_max : float
        Noise rates at times 0 and 1.
    t_min : float
        The earliest time: at 0 there is no noise, so no score.

    Raises
    ------
    ValueError
        Unless ``0 <= beta_min <= beta_max``, not both 0, and ``0 < t_min < 1``.
    """

    beta_min: float = 0.1
    beta_max: float = 20.0
    t_min: float = 1e-3
    t_max, prior_std = 1.0, 1.0

    def __post_init__(self):
        if not (0 <= self.beta_min <= self.beta_max < math.inf and self.beta_max > 0 and 0 < self.t_min < 1):
            raise ValueError(
                "beta must grow from a beta_min of at least 0 to a beta_max, and t_min lie between 0 and 1, got "
                f"{self.beta_min}, {self.beta_max} and {self.t_min}"
            )

    def beta(self, t):
        """Noise rate, shape of ``t``."""
        return self.beta_min + _float(t) * (self.beta_max - self.beta_min)

    def log_alpha(self, t):
        """Logarithm of alpha: minus half the integral of beta."""
        t = _float(t)
        return -t / 2 * (self.beta_min + t * (self.beta_max - self.beta_min) / 2)

    def alpha(self, t):
        """Factor that multiplies the data, shape of ``t``."""
        return self.log_alpha(t).exp()

    def sigma(self, t):
        """Standard deviation of the noise, ``sqrt(1 - alpha^2)``, exact at early times too."""
        return (-torch.expm1(2 * self.log_alpha(t))).sqrt()

    def drift(self, x, t):
        """``-beta(t) x / 2``, shape of ``x``."""
        return -per_sample("t", self.beta(t), x) / 2 * x

    def diffusion(self, t):
        """g, of which g^2 = beta(t)."""
        return self.beta(t).sqrt()


def _float(t):
    """Times as floats: tensors of floats as they are, numbers in float64."""
    if isinstance(t, torch.Tensor) and t.is_floating_point():
        return t
    return torch.as_tensor(t, dtype=torch.float64)
