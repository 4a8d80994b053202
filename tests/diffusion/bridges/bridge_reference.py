"""Bridges restated from their definitions: coefficients in 50 digits, the sampler step by step."""

import math

import mpmath
import pytest
import torch

from loupe.diffusion import bridges as b

DOUBLE = torch.float64
VE, VP = b.VEBridge(), b.VPBridge()
BRIDGES = {"VE": VE, "VE 20": b.VEBridge(20.0), "VP": VP, "VP steep": b.VPBridge(180.0, 0.1)}
BRIDGES |= {"VP flat": b.VPBridge(0.0, 0.7), "VP linear": b.VPBridge(3.0, 0.0)}
both = pytest.mark.parametrize("bridge", [VE, VP], ids=["VE", "VP"])
every = pytest.mark.parametrize("bridge", BRIDGES.values(), ids=BRIDGES)
shapes = pytest.mark.parametrize("shape", [(), (3,), (2, 4, 4), (5, 4, 6, 3)], ids=str)
HALF, BYTES = torch.full((4,), 0.5), torch.zeros(4, 3, dtype=torch.uint8)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0, dtype=DOUBLE):
    return torch.randn(shape, generator=generator(seed), dtype=dtype)


def bent(x, x_T, level):
    """No network of anything, but its values depend on everything."""
    return torch.tanh(x.roll(1, -1) / 2 - 0.3 * x_T) + 0.1 * level.view(-1, *(1,) * (x.ndim - 1))


def refused(cases):
    """Each of the calls has to fail with its message."""
    for match, *calls in cases:
        for call in calls:
            with pytest.raises(ValueError, match=match):
                call()


def times_of(bridge):
    """Times everywhere, and next to both ends."""
    near = torch.tensor([1e-8, 1e-6, 1e-4, 0.02], dtype=DOUBLE)
    return bridge.t_max * torch.cat([near, torch.linspace(0.1, 0.9, 7, dtype=DOUBLE), 1 - near.flip(0)])


def schedule(bridge, t):
    """Scale alpha and variance sigma^2 of the diffusion without the pin, in 50 digits."""
    with mpmath.workdps(50):
        t = mpmath.mpf(float(t))
        if isinstance(bridge, b.VEBridge):
            return mpmath.mpf(1), t**2
        total = mpmath.mpf(bridge.beta_d) * t**2 / 2 + mpmath.mpf(bridge.beta_min) * t
        return mpmath.exp(-total / 2), 1 - mpmath.exp(-total)


def rates(bridge, t):
    """The factor f and g^2."""
    beta = 0 * t if isinstance(bridge, b.VEBridge) else bridge.beta_min + bridge.beta_d * t
    return -beta / 2, 2 * t if isinstance(bridge, b.VEBridge) else beta


def exact(bridge, t):
    """(a, b, c) by conditioning the normal pair (x_t, x_T) on x_T, the factor of x_T and the pace of h."""
    with mpmath.workdps(50):
        (alpha, variance), (end, total) = schedule(bridge, t), schedule(bridge, bridge.t_max)
        a = end / alpha * variance / total
        pinned = variance - (end / alpha * variance) ** 2 / total
        reached = total - (end / alpha) ** 2 * variance  # of x_T given x_t
        pace = (end / alpha) ** 2 / reached if reached else mpmath.inf
        return [float(each) for each in (a, alpha - a * end, pinned, alpha / end, pace)]


def table(bridge, times):
    return torch.tensor([exact(bridge, t) for t in times], dtype=DOUBLE).T


def restated(denoiser, y, bridge, noise, *, n=40, s=0.33, w=1.0, official=False, clamp=None, t_min=None):
    """Algorithm 1, with the score as that of the diffusion plus h; returns all states."""
    first, last = (bridge.t_max - 1e-4) ** (1 / 7), (t_min or bridge.t_min) ** (1 / 7)
    grid = [*((first + i / (n - 1) * (last - first)) ** 7 for i in range(n)), 0.0]

    def slope(x, t, share):
        D = denoiser(x, torch.full((len(x),), t, dtype=DOUBLE), y)
        D = D if clamp is None else D.clamp(*clamp)
        alpha, variance = map(float, schedule(bridge, t))
        *_, growth, pace = exact(bridge, t)
        h, base = pace * (growth * y - x), (alpha * D - x) / variance
        if official and isinstance(bridge, b.VEBridge):
            return -2 * t * base if share == 1 else -t * (base - w * h)
        f, g2 = rates(bridge, t)
        return f * x - g2 * (share * (base + h) - w * h)

    x, states = y, [y]
    for i in range(n):
        t, end = grid[i], grid[i + 1]
        if s:
            middle = t + s * (end - t)
            spread = math.sqrt((t - middle) * rates(bridge, t)[1])
            x, t = x + (middle - t) * slope(x, t, 1.0) + spread * noise[i], middle
        d = slope(x, t, 0.5)
        if end > 0:
            d = (d + slope(x + d * (end - t), end, 0.5)) / 2
        x = x + d * (end - t)
        states.append(x)
    return torch.stack(states)
