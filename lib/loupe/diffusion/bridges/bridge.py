r"""Diffusions pinned at both ends, and the parametrization and loss of their denoisers.

A diffusion with transitions :math:`x_t\mid x_0\sim\mathcal N(\alpha_tx_0,\sigma_t^2)`, conditioned on its end
:math:`x_T`, has Gaussian marginals again:
:math:`q(x_t\mid x_0,x_T)=\mathcal N(a_tx_T+b_tx_0,\,c_t)`. With
:math:`r_t=\mathrm{SNR}_T/\mathrm{SNR}_t`, which grows from 0 to 1,

.. math:: a_t=\frac{\alpha_t}{\alpha_T}r_t,\qquad b_t=\alpha_t(1-r_t),\qquad c_t=\sigma_t^2(1-r_t).

Coefficients have the dtype of the times, float64 for numbers. Differences that vanish at an end are computed without
cancellation, so they are good to rounding in float32 too. But float32 times themselves are coarse next to the end of a
VE bridge (7e-6 at 80), so pass times in float64: they are cast to the dtype of the points when multiplied with them.

References
----------
.. [1] Zhou, Lou, Khanna, Ermon, Denoising Diffusion Bridge Models, 2024.
.. [2] Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, 2022.
"""

import math
from dataclasses import dataclass
from itertools import pairwise

import torch

from loupe.checks import of_shape
from loupe.derivatives import readable
from loupe.diffusion.continuous import EDMSDE, VPSDE, per_sample
from loupe.diffusion.times import training_times


def paired(x, x_T, name="x"):
    """The sources, if both are floats of one shape on one device; images of bytes would have another scale."""
    of_floats("x_T", of_shape("x_T", x_T, of_floats(name, x).shape))
    if x_T.device != x.device:
        raise ValueError(f"x_T must be on the device of {name}, {x.device}, got {x_T.device}: move it there")
    return x_T


def of_floats(name, points):
    """The points; ValueError unless they are a tensor of floats."""
    if not isinstance(points, torch.Tensor):
        raise ValueError(
            f"{name} must be a torch.Tensor, got {type(points).__name__}: torch.as_tensor converts arrays and lists"
        )
    if not points.is_floating_point():
        raise ValueError(
            f"{name} must hold floating-point numbers, got {points.dtype}: scale images to [-1, 1], and convert by .float()"
        )
    return points


def batch_of(name, points):
    """The points (B, ...); ValueError unless they are a tensor of floats with at least one axis."""
    if of_floats(name, points).ndim == 0:
        raise ValueError(
            f"{name} must have shape (B, ...), got one number: give it a first axis by reshape(1)"
        )
    return points


def of_kind(name, value, kind, such=""):
    """The value; ValueError unless it is of that class. ``such`` is an example for the message."""
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be a {kind.__name__}{such and ' such as '}{such}, got {value!r}")
    return value


def limits(clamp):
    """Limits (low, high) as floats, or None; ValueError unless the first is below the second."""
    if clamp is None:
        return None
    try:
        low, high = map(float, clamp)
    except (TypeError, ValueError):
        low = high = math.nan
    if not low < high:
        raise ValueError(f"clamp must be two numbers, the lower first, such as (-1, 1), got {clamp!r}")
    return low, high


def random_on(device, generator):
    """The generator, or None; ValueError unless it is torch's own, for this kind of device."""
    if generator is None or (isinstance(generator, torch.Generator) and generator.device.type == device.type):
        return generator
    got = generator.device.type if isinstance(generator, torch.Generator) else repr(generator)
    raise ValueError(f"generator must be torch.Generator({device.type!r}), seeded or not, got {got}")


def times_within(t, last):
    """Times as floats, numbers in float64; ValueError outside [0, last], where the check doesn't wait for a GPU."""
    if not (isinstance(t, torch.Tensor) and t.is_floating_point()):
        t = torch.as_tensor(t, dtype=torch.float64)
    if t.device.type == "cpu" and t.numel() and readable(t):
        low, high = t.detach().aminmax()
        if low < 0 or high > torch.tensor(last, dtype=t.dtype):
            raise ValueError(
                f"times of this bridge lie in [0, {last:g}], got {float(low):g} to {float(high):g}"
            )
    return t


def normal_like(x, generator, noise=None):
    """The noise, if floats of the shape of ``x`` are given; otherwise standard normal, drawn."""
    if noise is None:
        generator = random_on(x.device, generator)
        return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
    return of_floats("the noise", of_shape("the noise", noise, x.shape))


class Bridge:
    """What all bridges have in common: a subclass brings the diffusion, its last time, and ratios between two times."""

    def coefficients(self, t):
        """``(a, b, c)``: factors of x_T and x_0 in the mean of q(x_t | x_0, x_T), and its variance ([1], eq. 8).

        Parameters
        ----------
        t : torch.Tensor or float
            Times in [0, t_max].

        Returns
        -------
        tuple of three torch.Tensor
            Shape of ``t``.
        """
        t = self.times(t)
        ratio, rest = self.ratio(t)
        alpha = self.sde.alpha(t)
        return self.growth(t) * ratio, alpha * rest, self.sde.sigma(t) ** 2 * rest

    def times(self, t):
        """The times as floats; ValueError outside [0, t_max]."""
        return times_within(t, self.t_max)

    def sample(self, x0, x_T, t, generator=None, *, noise=None):
        """Draw from q(x_t | x_0, x_T).

        Parameters
        ----------
        x0, x_T : torch.Tensor, shape (B, ...)
        t : torch.Tensor or float
            One for all, or shape (B,).
        generator : torch.Generator, optional
            On the device of ``x0``.
        noise : torch.Tensor, optional
            Standard normal, shape of ``x0``: used instead of drawing.

        Returns
        -------
        torch.Tensor
            Shape of ``x0``.
        """
        paired(x0, x_T, "x0")
        a, b, c = (per_sample("t", each, x0) for each in self.coefficients(t))
        return a * x_T + b * x0 + c.sqrt() * normal_like(x0, generator, noise)

    def path(self, x0, x_T, times, generator=None):
        """Draw whole bridges: free paths from ``x0``, each shifted so that it ends in ``x_T``.

        Parameters
        ----------
        x0, x_T : torch.Tensor, shape (B, ...)
        times : torch.Tensor, shape (n,)
            Increasing, from 0 to t_max.
        generator : torch.Generator, optional
            On the device of ``x0``.

        Returns
        -------
        torch.Tensor, shape (n, B, ...)

        Raises
        ------
        ValueError
            If shapes differ, or the times do not run from 0 to t_max.
        """
        paired(x0, x_T, "x0")
        times = times if isinstance(times, torch.Tensor) else torch.as_tensor(times, dtype=torch.float64)
        ends = times.ndim == 1 and len(times) > 1 and times[0] == 0 and times[-1] == self.t_max
        if not (ends and times.diff().gt(0).all()):
            raise ValueError(f"times of a path must increase from 0 to {self.t_max:g}, got {times.tolist()}")
        free = [x0]
        for s, t in pairwise(times):
            scale, variance = self.sde.transition(s, t)
            free.append(scale * free[-1] + variance.sqrt() * normal_like(x0, generator))
        # a_t is also the regression of x_t on x_T, given x_0.
        gains = self.coefficients(times)[0].to(x0).reshape(-1, *(1,) * x0.ndim)
        return torch.stack(free) + gains * (x_T - free[-1])

    def h(self, x, t, x_T):
        r"""Gradient of :math:`\log p(x_T\mid x_t=x)`: the pull of Doob's transform ([1], eq. 5), shape of ``x``."""
        paired(x, x_T)
        t = self.times(t)
        # r / c, with SNR_T in place of r SNR_t, so that it is finite at time 0.
        pull = self.snr(self.t_max) / (self.sde.alpha(t) ** 2 * self.ratio(t)[1])
        return per_sample("t", pull, x) * (per_sample("t", self.growth(t), x) * x_T - x)

    def score(self, x, t, x_T, denoised):
        """Score of q(x_t | x_0, x_T) at ``x_0 = denoised``; with the posterior mean of x_0, that of q(x_t | x_T)."""
        paired(x, x_T), of_shape("the denoised points", denoised, x.shape)
        a, b, c = (per_sample("t", each, x) for each in self.coefficients(t))
        return (a * x_T + b * denoised - x) / c

    def reverse_drift(self, denoiser, x_T, *, guidance=1.0):
        """Drift ``f x - g^2 (s - w h)`` of the reverse SDE ([1], eq. 6), a function of ``(x, t)``."""
        return self._drift(denoiser, x_T, 1.0, guidance)

    def probability_flow(self, denoiser, x_T, *, guidance=1.0):
        """Drift ``f x - g^2 (s / 2 - w h)`` of the ODE with the same marginals ([1], eq. 7), a function of ``(x, t)``."""
        return self._drift(denoiser, x_T, 0.5, guidance)

    def _drift(self, denoiser, x_T, share, guidance):
        def drift(x, t):
            score = self.score(x, t, x_T, denoiser(x, t, x_T))
            pull = per_sample("guidance", guidance, x) * self.h(x, t, x_T)
            return self.sde.drift(x, t) - per_sample("t", self.sde.diffusion(t), x) ** 2 * (
                share * score - pull
            )

        return drift


@dataclass(frozen=True)
class VEBridge(Bridge):
    """The bridge of the variance-exploding diffusion, whose noise level is the time: Brownian motion in ``t^2``.

    Parameters
    ----------
    sigma_max : float
        Time, and noise level, of the source.
    """

    sigma_max: float = 80.0

    def __post_init__(self):
        if not 0 < self.sigma_max < math.inf:
            raise ValueError(f"sigma_max must be above 0 and finite, got {self.sigma_max}")

    @property
    def t_max(self):
        """Time of the source."""
        return self.sigma_max

    @property
    def t_min(self):
        """First time of training and last time of sampling."""
        return 2.5e-5 * self.sigma_max

    @property
    def sde(self):
        """The diffusion that is pinned."""
        return EDMSDE(self.t_min, self.sigma_max)

    def snr(self, t):
        """Signal-to-noise ratio ``1 / t^2``, shape of ``t``."""
        return self.times(t) ** -2.0

    def ratio(self, t):
        """``SNR_T / SNR_t`` and 1 minus it, both exact, shape of ``t``."""
        return (t / self.t_max) ** 2, (self.t_max - t) * (self.t_max + t) / self.t_max**2

    def growth(self, t):
        """``alpha_t / alpha_T``: 1, shape of ``t``."""
        return torch.ones_like(t)


@dataclass(frozen=True)
class VPBridge(Bridge):
    """The bridge of the variance-preserving diffusion, over the times 0 to 1.

    Parameters
    ----------
    beta_d, beta_min : float
        The noise rate is ``beta_min + beta_d t``.
    """

    beta_d: float = 2.0
    beta_min: float = 0.1
    t_max, t_min = 1.0, 1e-4

    def __post_init__(self):
        if not (
            0 <= self.beta_d < math.inf and 0 <= self.beta_min < math.inf and self.beta_d + self.beta_min
        ):
            raise ValueError(
                f"beta_d and beta_min must be at least 0 and not both 0, got {self.beta_d} and {self.beta_min}"
            )

    @property
    def sde(self):
        """The diffusion that is pinned."""
        return VPSDE(self.beta_min, self.beta_min + self.beta_d, self.t_min)

    def snr(self, t):
        """Signal-to-noise ratio ``1 / expm1(B)``, with B the integral of the noise rate; shape of ``t``."""
        return 1 / torch.expm1(self._integral(self.times(t)))

    def ratio(self, t):
        """``SNR_T / SNR_t`` and 1 minus it, both exact, shape of ``t``."""
        whole, left = math.expm1(-self.beta_d / 2 - self.beta_min), -self._remaining(t)
        return left.exp() * torch.expm1(-self._integral(t)) / whole, torch.expm1(left) / whole

    def growth(self, t):
        """``alpha_t / alpha_T``, shape of ``t``."""
        return (self._remaining(t) / 2).exp()

    def _integral(self, t):
        return t * (self.beta_d * t / 2 + self.beta_min)

    def _remaining(self, t):
        """The integral of the noise rate from t to the end."""
        return (1 - t) * (self.beta_d * (1 + t) / 2 + self.beta_min)


@dataclass(frozen=True)
class Preconditioning:
    r"""Inputs, outputs and training targets of variance 1 at all times, for data of these moments ([1], section 4).

    The denoiser is ``c_skip x_t + c_out F(c_in x_t, x_T, ln(t) / 4)``. Where the source is the target plus noise, this is
    EDM's parametrization [2].

    Parameters
    ----------
    bridge : Bridge
    sigma_0, sigma_T : float
        Standard deviations of targets and sources.
    covariance : float
        Of a target and its source, per coordinate. The paper states ``sigma_0**2 / 2``, its scripts use 0.
    simple : bool
        No preconditioning: the network predicts x_0 itself, from x_t itself, with weight 1 (``vp_simple``,
        ``ve_simple`` of the official code).

    Raises
    ------
    ValueError
        If a standard deviation is not above 0, the covariance is impossible for them, or ``bridge`` isn't a bridge.
    """

    bridge: Bridge
    sigma_0: float = 0.5
    sigma_T: float = 0.5  # noqa: N815 - the paper's symbol
    covariance: float = 0.0
    simple: bool = False

    def __post_init__(self):
        of_kind("bridge", self.bridge, Bridge, "VPBridge()")
        if not (0 < self.sigma_0 < math.inf and 0 < self.sigma_T < math.inf):
            raise ValueError(
                f"sigma_0 and sigma_T must be above 0 and finite, got {self.sigma_0} and {self.sigma_T}"
            )
        # Rounding must not let through a target that is a multiple of its source: c_out would be 0 at the end.
        if not abs(self.covariance) < self.sigma_0 * self.sigma_T * (1 - 1e-12):
            raise ValueError(
                f"covariance must be smaller than the product of the standard deviations, "
                f"{self.sigma_0 * self.sigma_T:g}, got {self.covariance:g}: targets that are a multiple of their sources "
                "need no bridge"
            )

    @classmethod
    def of_pairs(cls, bridge, x0, x_T, **options):
        """The preconditioning for these pairs, with their moments over all coordinates.

        Raises
        ------
        ValueError
            If there are no pairs, values that are not finite, targets or sources that are all the same, or targets that
            are a multiple of their sources.
        """
        paired(x0, x_T, "x0")
        for name, points in (("x0", x0), ("x_T", x_T)):
            if wrong := int((~points.isfinite()).sum()):
                raise ValueError(
                    f"{wrong} of {points.numel()} values of {name} are not finite: leave those pairs out"
                )
            if not points.numel() or points.min() == points.max():
                raise ValueError(
                    f"the values of {name} must differ, got {points.unique().tolist()}: give more pairs"
                )
        target, source = x0.double().flatten(), x_T.double().flatten()
        moments = torch.stack([target, source]).cov(correction=0)
        return cls(
            bridge, float(moments[0, 0].sqrt()), float(moments[1, 1].sqrt()), float(moments[0, 1]), **options
        )

    def c_in(self, t):
        """Factor of x_t at the network's input, shape of ``t``."""
        return self._all(t)[0]

    def c_skip(self, t):
        """Share of x_t in the output, shape of ``t``."""
        return self._all(t)[1]

    def c_out(self, t):
        """Factor of the network's output, shape of ``t``."""
        return self._all(t)[2]

    def weight(self, t):
        """Weight ``1 / c_out^2`` of the denoiser's squared error, shape of ``t``."""
        return self._all(t)[2] ** -2

    def denoiser(self, model):
        """The denoiser ``(x, t, x_T)`` of a network F that is called ``(c_in x, x_T, ln(t) / 4)``."""

        def denoised(x, t, x_T):
            of_floats("x", x)
            c_in, c_skip, c_out = (per_sample("t", each, x) for each in self._all(t))
            return c_skip * x + c_out * self._output(model, c_in * x, x_T, t)

        return denoised

    def _all(self, t):
        a, b, c = self.bridge.coefficients(t)
        if self.simple:
            return torch.ones_like(a), torch.zeros_like(a), torch.ones_like(a)
        s0, sT, kappa = self.sigma_0, self.sigma_T, self.covariance
        total = (a * sT) ** 2 + (b * s0) ** 2 + 2 * a * b * kappa + c
        left = a**2 * (s0 * sT - kappa) * (s0 * sT + kappa) + s0**2 * c
        return total.rsqrt(), (b * s0**2 + a * kappa) / total, (left / total).sqrt()

    @staticmethod
    def _output(model, scaled, x_T, t):
        t = torch.as_tensor(t, dtype=torch.promote_types(scaled.dtype, torch.float32), device=scaled.device)
        found = model(scaled, x_T, (t.log() / 4).expand(len(scaled)))
        return of_floats("the model's output", of_shape("the model's output", found, scaled.shape))


def bridge_loss(model, x0, x_T, preconditioning, generator=None, *, t=None, noise=None):
    """Denoising bridge score matching: the network's squared error against its unit-variance target ([1], eq. 10).

    Equal to ``weight(t) (D - x_0)^2``, without the product of a large weight and a small difference. Its minimizer over
    all functions is the score of q(x_t | x_T).

    Parameters
    ----------
    model : callable
        ``(c_in x_t, x_T, ln(t) / 4)``, the last of shape (B,), to the shape of ``x0``.
    x0, x_T : torch.Tensor, shape (B, ...)
    preconditioning : Preconditioning
    generator : torch.Generator, optional
        On the device of ``x0``.
    t : torch.Tensor, optional
        Times of shape (B,), above 0; by default uniform in [t_min, t_max).
    noise : torch.Tensor, optional
        Standard normal, shape of ``x0``; by default drawn after the times.

    Returns
    -------
    torch.Tensor, shape (B,)
        The mean over each sample.

    Raises
    ------
    ValueError
        If shapes differ, or points are not floats.
    """
    bridge = of_kind("preconditioning", preconditioning, Preconditioning).bridge
    t = _training_times(bridge, x0, generator) if t is None else t
    x = bridge.sample(x0, x_T, t, generator, noise=noise)
    c_in, c_skip, c_out = (per_sample("t", each, x) for each in preconditioning._all(t))
    wanted = (x0 - c_skip * x) / c_out
    error = preconditioning._output(model, c_in * x, x_T, t) - wanted
    return error.square().unsqueeze(-1).flatten(1).mean(1)


def _training_times(bridge, x0, generator):
    """Independent times, uniform from the first to the last of the bridge, shape (B,), float64."""
    count, device = len(batch_of("x0", x0)), x0.device
    options = {"start": bridge.t_min, "end": bridge.t_max, "stratified": False, "device": device}
    return training_times(count, random_on(device, generator), **options)
