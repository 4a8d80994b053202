"""A re-statement of the hybrid sampler of diffusion bridges as it is usually written (Zhou et al., 2024, algorithm 1).

Every evaluation computes the schedule again, as tensors of one number per sample, and the path goes to the host.
"""

import torch

RHO, MARGIN = 7, 1e-4


def schedule(t, kind, beta_d=2.0, beta_min=0.1):
    """alpha, sigma^2, f and g^2 of the diffusion without the pin, shape of ``t``."""
    if kind == "VE":
        return torch.ones_like(t), t**2, torch.zeros_like(t), 2 * t
    total, rate = beta_d * t**2 / 2 + beta_min * t, beta_min + beta_d * t
    return (-total / 2).exp(), -(-total).expm1(), -rate / 2, rate


def drift(x, denoised, t, y, kind, last, *, share, guidance):
    """The reverse SDE's drift (share 1) or the flow's (1/2), for times (B,)."""
    (alpha, variance, f, g2), (end, total, *_) = (
        [each.reshape(-1, *(1,) * (x.ndim - 1)) for each in schedule(at, kind)]
        for at in (t, torch.full_like(t, last))
    )
    ratio = (end**2 / total) / (alpha**2 / variance)
    a, b, c = end.reciprocal() * alpha * ratio, alpha * (1 - ratio), variance * (1 - ratio)
    score = -(x - a * y - b * denoised) / c
    h = (alpha / end * y - x) / (variance * (1 / ratio - 1))
    return f * x - g2 * (share * score - guidance * h)


def sample(denoiser, y, *, kind, last, first, steps, churn, noise, guidance=1.0):
    """Samples and the path, on the host."""
    grid = torch.linspace((last - MARGIN) ** (1 / RHO), first ** (1 / RHO), steps, dtype=y.dtype) ** RHO
    grid, x, path = torch.cat([grid, grid.new_zeros(1)]), y, []

    def slope(x, t, share):
        each = t * x.new_ones(len(x))
        return drift(x, denoiser(x, each, y), each, y, kind, last, share=share, guidance=guidance)

    for k in range(steps):
        t, end = grid[k], grid[k + 1]
        if churn:
            middle = t + churn * (end - t)
            diffusion = schedule(t, kind)[3].sqrt()
            x = x + slope(x, t, 1.0) * (middle - t) + (t - middle).sqrt() * diffusion * noise[k]
            path.append(x.detach().to("cpu", copy=True))
            t = middle
        d = slope(x, t, 0.5)
        if end > 0:
            d = (d + slope(x + d * (end - t), end, 0.5)) / 2
        x = x + d * (end - t)
        path.append(x.detach().to("cpu", copy=True))
    return x, path
