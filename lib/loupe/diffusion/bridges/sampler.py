"""The hybrid sampler of diffusion bridges: stochastic steps and Heun steps in turn, from one table of coefficients.

For a denoiser D, each part of a step is linear in x, D, x_T and the noise. All factors follow from the times: they are
computed once, in float64, for all steps, and each part is one sum of scaled tensors.

References
----------
.. [1] Zhou, Lou, Khanna, Ermon, Denoising Diffusion Bridge Models, 2024, algorithm 1.
.. [2] Karras et al., Elucidating the Design Space of Diffusion-Based Generative Models, 2022.
"""

import math
import warnings
from itertools import pairwise
from typing import NamedTuple

import torch

from loupe.checks import of_shape, whole
from loupe.diffusion.bridges.bridge import (
    Bridge,
    VEBridge,
    batch_of,
    limits,
    normal_like,
    of_floats,
    of_kind,
    random_on,
)
from loupe.diffusion.times import time_grid

MARGIN = 1e-4
"""How long before the pinned end sampling starts: there, the bridge has no noise and no score."""

SMALL = 0.1
"""Below this churn, unless it is 0, one Heun step from next to the pinned end overshoots: answers are too spread out."""


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
        Unless ``n`` is at least 2 and ``0 < t_min < t_max``, all finite.
    """
    t_min, t_max = _number("t_min", t_min), _number("t_max", t_max)
    if not 0 < t_min < t_max < math.inf:
        raise ValueError(f"t_min must lie between 0 and t_max, both finite, got {t_min:g} and {t_max:g}")
    return time_grid(t_max, t_min, whole("n", n, 2), rho=rho, to_zero=True)


@torch.no_grad()
def bridge_sample(
    denoiser, x_T, bridge, *, steps=40, churn=0.33, guidance=1.0, compat=None, generator=None, noise=None,
    t_min=None, path=False, clamp=None,
):  # fmt: skip
    """Draw targets for given sources ([1], algorithm 1).

    Each of the steps first follows the reverse SDE over a fraction ``churn`` of its interval, by Euler-Maruyama, then the
    probability flow over the rest, by Heun; the last, to time 0, ends with an Euler step. Without churn the result is a
    function of ``x_T``: one answer. With it, the answers vary. No gradients are kept.

    Parameters
    ----------
    denoiser : callable
        ``(x, t, x_T)`` to the shape of ``x``, with times of shape (B,) in float64, since times next to the pinned end
        differ by less than float32 resolves: for example ``preconditioning.denoiser(net)``.
    x_T : torch.Tensor of floats, shape (B, ...)
    bridge : Bridge
    steps : int
    churn : float
        In [0, 1): 0 or at least 0.1; below, a warning says that the samples will be too spread out.
    guidance : float or torch.Tensor
        Weight w of the pull to the source, one number or shape (B,). 1 is the process itself.
    compat : {None, "official"}
        ``"official"`` weighs the pull of a :class:`VEBridge` as the official code does: by 1 in the SDE, whatever w is,
        and by ``(1 + w) / 2`` in the ODE. A :class:`VPBridge` is the same in both.
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
    of_kind("bridge", bridge, Bridge, "VPBridge()")
    churn = _number("churn", churn)
    if not 0 <= churn < 1:
        raise ValueError(f"churn must be at least 0 and below 1, got {churn}")
    if 0 < churn < SMALL:
        warnings.warn(
            f"a churn of {churn:g} makes samples too spread out: take 0, or at least 0.2", stacklevel=3
        )
    if compat not in (None, "official"):
        raise ValueError(f"compat must be None or 'official', got {compat!r}")
    batch_of("x_T", x_T), random_on(x_T.device, generator)
    clamp = limits(clamp)
    t_min = bridge.t_min if t_min is None else t_min
    times = karras_grid(whole("steps", steps, 2), t_min, bridge.t_max - MARGIN)
    if noise is not None:
        of_shape("the noise", noise, (steps, *x_T.shape))
    try:
        weight = torch.as_tensor(guidance, dtype=torch.float64, device="cpu")
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"guidance must be one number or one per sample, got {guidance!r}") from None
    if weight.ndim:
        of_shape("guidance", weight, (len(x_T),))
    if not weight.isfinite().all():
        raise ValueError(f"guidance must be finite, got {guidance}")
    official = compat == "official" and isinstance(bridge, VEBridge)
    stochastic, euler, heun = _tables(bridge, times, churn, weight, official, x_T)
    totals, x, states = [], x_T, [x_T]

    def predict(x, t):
        each = torch.full((len(x),), t, dtype=torch.float64, device=x.device)
        found = of_floats("the prediction", of_shape("the prediction", denoiser(x, each, x_T), x.shape))
        totals.append(found.sum(dtype=torch.promote_types(found.dtype, torch.float32)))
        return found if clamp is None else found.clamp(*clamp)

    for k, (t, end) in enumerate(pairwise(times.tolist())):
        if churn:
            *factors, scale = stochastic[k]
            z = normal_like(x, generator, None if noise is None else noise[k])
            x = _affine(x, x_T, factors, predict(x, t)).add_(z, alpha=scale)
            t = t + churn * (end - t)
        first = predict(x, t)
        ahead = _affine(x, x_T, euler[k], first)
        x = ahead if end == 0 else _affine(x, x_T, heun[k], first, predict(ahead, end))
        if path:
            states.append(x)
    wrong = (~torch.stack(totals).isfinite()).nonzero()  # looked at once: each look waits for a GPU
    if len(wrong):
        step = int(wrong[0]) // (2 + bool(churn)) + 1
        why = ": float16 may be too narrow, so take float32" if x_T.dtype == torch.float16 else ""
        raise ValueError(f"the denoiser's prediction is not finite in step {step} of {steps}{why}")
    states[-1] = x = x if clamp is None else x.clamp(*clamp)
    return Drawn(x, len(totals), torch.stack(states) if path else None)


def _number(name, value):
    """The value as a float; ValueError unless it is one number."""
    try:
        return float(value)
    except (TypeError, ValueError, RuntimeError):
        raise ValueError(f"{name} must be one number, got {value!r}") from None


def _tables(bridge, times, churn, weight, official, x):
    """The factors of :func:`_affine` in each step: of its SDE part and the noise, of an Euler step, of a Heun step."""
    start, end = times[:-1], times[1:]
    middle = start + churn * (end - start)
    g = bridge.sde.diffusion(start)
    step, left = (_column(each, weight) for each in (middle - start, end - middle))
    of_sde, of_ode = (torch.ones_like(weight), (1 + weight) / 2) if official else (weight, weight)
    sde = [step * each for each in _rates(bridge, start, 1.0, of_sde)]
    on_x, on_D, on_y = (left * each for each in _rates(bridge, middle, 0.5, of_ode))
    # Nothing is evaluated at time 0: the last step is an Euler step.
    on_x2, on_D2, on_y2 = (left[:-1] * each for each in _rates(bridge, end[:-1], 0.5, of_ode))
    then = 1 + on_x2
    # Heun's end is (x + the Euler step + the slope there) / 2, in terms of x, x_T and both predictions.
    heun = ((1 + on_x[:-1]) * then - 1) / 2, (on_y[:-1] * then + on_y2) / 2, on_D[:-1] * then / 2, on_D2 / 2
    noise = (start - middle).sqrt() * g
    return _steps(x, sde[0], sde[2], sde[1], noise), _steps(x, on_x, on_y, on_D), _steps(x, *heun)


def _rates(bridge, t, share, weight):
    """Factors of x, of the denoised points and of x_T in a drift, shape (n,), or (n, B) for one weight per sample."""
    factors = [bridge.sde.drift(torch.ones_like(t), t), bridge.sde.diffusion(t) ** 2]
    f, variance, a, b, c, ratio, rest = (
        _column(each, weight) for each in (*factors, *bridge.coefficients(t), *bridge.ratio(t))
    )
    pace = variance / c
    # share - weight ratio, where share is 1 and weight near 1: written without cancellation.
    on_x = f + pace * (share * rest + (share - weight) * ratio)
    return on_x, -pace * share * b, pace * (weight - share) * a


def _column(values, weight):
    """Values (n,) that broadcast with weights of shape (B,) or ()."""
    return values.reshape(-1, *(1,) * weight.ndim)


def _steps(x, on_x, on_y, *others):
    """Tables as one tuple for each step, of numbers, or of tensors that multiply ``x``; the first is the sum of two."""
    tables = [on_x + on_y, on_y, *others]
    tables = [
        each.tolist() if each.ndim == 1 else each.to(x).reshape(*each.shape, *(1,) * (x.ndim - 1)).unbind()
        for each in tables
    ]
    return list(zip(*tables, strict=True))


def _affine(x, x_T, factors, *predictions):
    """``x + on_x x + on_y x_T``, and predictions times their factors.

    Near the pinned end x and x_T are close, and the factors large and of opposite signs: in float32 only
    ``x + (on_x + on_y) x + on_y (x_T - x)`` is right.
    """
    both, on_y, *others = factors
    total = torch.lerp(x, x_T, on_y)
    for factor, each in ((both, x), *zip(others, predictions, strict=True)):
        if isinstance(factor, float):
            total.add_(each, alpha=factor)
        else:
            total.addcmul_(each, factor)
    return total
