"""The hybrid sampler of diffusion bridges: stochastic steps and Heun steps in turn, from one table of coefficients.

For a denoiser D, each part of a step is linear in x, D, x_T and the noise. All factors follow from the times, so they are
computed once, in float64, and a part is one sum of scaled tensors.

References
----------
.. [1] Zhou, Lou, Khanna, Ermon, Denoising Diffusion Bridge Models, 2024, algorithm 1.
.. [2] Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, 2022.
"""

import warnings
from itertools import pairwise
from typing import NamedTuple

import torch

from loupe.checks import of_shape, whole
from loupe.diffusion.bridges.bridge import VEBridge
from loupe.diffusion.times import time_grid

MARGIN = 1e-4
"""How long before the pinned end sampling starts: there, the bridge has no noise and no score."""

SMALL = 0.1
"""Below this churn, unless it is 0, the noise next to the pinned end is stretched by a long ODE step."""


class Drawn(NamedTuple):
    """Samples (B, ...), the number of calls of the denoiser, and all states (steps + 1, B, ...) if requested."""

    samples: torch.Tensor
    evaluations: int
    path: torch.Tensor | None


def karras_grid(n, t_min, t_max, rho=7):
    """Times from ``t_max`` to ``t_min``, evenly spaced in their ``1 / rho``-th power, then 0: shape (n + 1,) ([2], eq. 5).

    Raises
    ------
    ValueError
        Unless ``n`` is at least 2 and ``0 < t_min < t_max``.
    """
    if not 0 < t_min < t_max:
        raise ValueError(f"t_min must lie between 0 and t_max, got {t_min:g} and {t_max:g}")
    return time_grid(t_max, t_min, whole("n", n, 2), rho=rho, to_zero=True)


@torch.no_grad()
def bridge_sample(
    denoiser, x_T, bridge, *, steps=40, churn=0.33, guidance=1.0, compat=None, generator=None, noise=None,
    t_min=None, path=False, clamp=None,
):  # fmt: skip
    """Draw targets for given sources ([1], algorithm 1).

    Each of the steps first follows the reverse SDE over a fraction ``churn`` of its interval, by Euler-Maruyama, then the
    probability flow over the rest, by Heun; the last, to time 0, ends with an Euler step. Without churn the result is a
    function of ``x_T``: one average answer. With it, the answers vary.

    Parameters
    ----------
    denoiser : callable
        ``(x, t, x_T)``, with times of shape (B,), to the shape of ``x``: for example ``preconditioning.denoiser(net)``.
    x_T : torch.Tensor of floats, shape (B, ...)
    bridge : Bridge
    steps : int
    churn : float
        In [0, 1): 0 or at least 0.1; below, a warning says that the samples will be too spread out.
    guidance : float or torch.Tensor
        Weight w of the pull to the source, one number or shape (B,). 1 is the process itself.
    compat : {None, "official"}
        ``"official"`` weighs the pull of a :class:`VEBridge` as the official code does: not at all in the SDE, and
        ``(1 + w) / 2`` in the ODE.
    generator : torch.Generator, optional
        On the device of ``x_T``.
    noise : torch.Tensor, optional
        Standard normal, shape (steps, B, ...), one for each interval in their order: used instead of drawing.
    t_min : float, optional
        The last time before 0; by default that of the bridge.
    path : bool
        Whether to keep all states.
    clamp : pair of float, optional
        Limits of predictions and of the result, such as (-1, 1) for images.

    Returns
    -------
    Drawn
        With ``2 steps - 1`` calls of the denoiser without churn, and ``3 steps - 1`` with it.

    Raises
    ------
    ValueError
        For arguments out of range, predictions of another shape, and predictions that are not finite (with their step).
    """
    if not 0 <= churn < 1:
        raise ValueError(f"churn must be at least 0 and below 1, got {churn}")
    if 0 < churn < SMALL:
        warnings.warn(
            f"a churn of {churn:g} makes samples too spread out: take 0, or at least 0.2", stacklevel=2
        )
    if compat not in (None, "official"):
        raise ValueError(f"compat must be None or 'official', got {compat!r}")
    if not x_T.is_floating_point():
        raise ValueError(
            f"x_T must hold floating-point numbers, got {x_T.dtype}: scale images to [-1, 1] first"
        )
    t_min = bridge.t_min if t_min is None else t_min
    times = karras_grid(steps, t_min, bridge.t_max - MARGIN)
    if noise is not None:
        of_shape("the noise", noise, (len(times) - 1, *x_T.shape))
    weight = torch.as_tensor(guidance, dtype=torch.float64)
    if weight.ndim:
        of_shape("guidance", weight, (len(x_T),))
    rates = _Rates(bridge, weight, compat == "official" and isinstance(bridge, VEBridge))
    totals, x, states = [], x_T, [x_T]

    def predict(x, t):
        found = of_shape(
            "the prediction", denoiser(x, torch.full((len(x),), t, device=x.device), x_T), x.shape
        )
        totals.append(found.sum())
        return found if clamp is None else found.clamp(*clamp)

    for k, (t, end) in enumerate(pairwise(times.tolist())):
        if churn:
            middle = t + churn * (end - t)
            on_x, on_D, on_y = rates.reverse(t)
            step, scale = middle - t, float(abs(middle - t) ** 0.5 * bridge.sde.diffusion(t))
            z = (
                torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)
                if noise is None
                else noise[k]
            )
            x = _sum(x, [(1 + step * on_x, x), (step * on_D, predict(x, t)), (step * on_y, x_T), (scale, z)])
            t = middle
        x = _ode_step(rates, predict, x, x_T, t, end)
        if path:
            states.append(x)
    if not bool(torch.stack(totals).isfinite().all()):
        first = int((~torch.stack(totals).isfinite()).nonzero()[0])
        raise ValueError(
            f"the denoiser's prediction is not finite in step {first // (2 + bool(churn)) + 1} of {steps}"
        )
    x = x if clamp is None else x.clamp(*clamp)
    return Drawn(x, len(totals), torch.stack(states) if path else None)


def _ode_step(rates, predict, x, x_T, t, end):
    """One Heun step of the probability flow, an Euler step where it ends at 0; both as one sum."""
    step = end - t
    on_x, on_D, on_y = (step * each for each in rates.flow(t))
    first = predict(x, t)
    ahead = _sum(x, [(1 + on_x, x), (on_D, first), (on_y, x_T)])
    if end == 0:
        return ahead
    on_x2, on_D2, on_y2 = (step * each for each in rates.flow(end))
    # (x + ahead + the slope at its end) / 2, in terms of x, both predictions and x_T.
    return _sum(x, [
        ((1 + (1 + on_x) * (1 + on_x2)) / 2, x), (on_D * (1 + on_x2) / 2, first), (on_D2 / 2, predict(ahead, end)),
        ((on_y * (1 + on_x2) + on_y2) / 2, x_T),
    ])  # fmt: skip


def _sum(x, terms):
    """The sum of tensors times factors, which are numbers or one per sample."""
    total = None
    for factor, each in terms:
        if isinstance(factor, torch.Tensor) and factor.ndim:
            factor = factor.to(x.dtype).to(x.device).reshape(-1, *(1,) * (x.ndim - 1))
            total = each * factor if total is None else torch.addcmul(total, each, factor)
        elif total is None:
            total = each * float(factor)
        else:
            total.add_(each, alpha=float(factor))
    return total


class _Rates:
    """Factors of x, of the denoised points and of x_T in both drifts, at one time: numbers, or one per sample."""

    def __init__(self, bridge, weight, official):
        self.bridge, self.weight, self.official = bridge, weight, official

    def reverse(self, t):
        return self._drift(t, 1.0, torch.ones(()) if self.official else self.weight)

    def flow(self, t):
        return self._drift(t, 0.5, (1 + self.weight) / 2 if self.official else self.weight)

    def _drift(self, t, share, weight):
        t = torch.tensor(t, dtype=torch.float64)
        (a, b, c), (ratio, rest) = self.bridge.coefficients(t), self.bridge.ratio(t)
        pace = self.bridge.sde.diffusion(t) ** 2 / c
        f = self.bridge.sde.drift(torch.ones(1, dtype=torch.float64), t)[0]
        # share - weight ratio, where share is 1 and weight near 1: written without cancellation.
        on_x = f + pace * (share * rest + (share - weight) * ratio)
        return on_x, -pace * share * b, pace * (weight - share) * a
