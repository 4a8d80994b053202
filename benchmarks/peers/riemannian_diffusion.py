"""A re-statement of the published samplers and scores of heat kernels (Lou et al., 2023), in float32.

Written from their description, with variances mended so that each sampler aims at the kernel of its score.
"""

import math

import torch

from loupe.geometry import SpecialOrthogonal, SpecialUnitary, Sphere

WALK = 100


def series(cosine, sigma, dimension, terms):
    """The truncated series of eigenfunctions, up to the volume, and its derivative in the cosine."""
    alpha = (dimension - 1) / 2
    before, value, slope_before, slope = 0.0, torch.ones_like(cosine), 0.0, torch.zeros_like(cosine)
    total, total_slope, decay = torch.ones_like(cosine), torch.zeros_like(cosine), torch.ones_like(sigma)
    for k in range(1, terms + 1):
        fade = torch.exp(-(2 * k + dimension - 2) * sigma**2 / 2)  # in the recurrence, which would overflow
        lead, lag = 2 * (k + alpha - 1) / k, (k + 2 * alpha - 2) / k * decay
        value, before, slope, slope_before = (
            fade * (lead * cosine * value - lag * before), value,
            fade * (lead * (cosine * slope + value) - lag * slope_before), slope,
        )  # fmt: skip
        total, total_slope = total + (k + alpha) / alpha * value, total_slope + (k + alpha) / alpha * slope
        decay = fade
    return total, total_slope


def sphere_score(x, x0, sigma, switch, terms):
    """Varadhan's limit with its first factor below the switch, the series above."""
    dimension, cosine = x.shape[-1] - 1, (x * x0).sum(-1).clamp(-1 + 1e-6, 1 - 1e-6)
    theta = cosine.acos()
    near = -theta / sigma**2 + (dimension - 1) / 2 * (1 / theta - 1 / theta.tan())
    total, total_slope = series(cosine, sigma, dimension, terms)
    slope = torch.where(sigma < switch, near, -theta.sin() * total_slope / total)
    return (-slope / theta.sin())[:, None] * (x0 - cosine[:, None] * x)


def rejected(propose, n):
    """Proposals until all are accepted."""
    found, left = None, torch.arange(n)
    while len(left):
        x, accepted = propose(left)
        found = x.clone() if found is None else found
        found[left[accepted]], left = x[accepted], left[~accepted]
    return found


def sphere_sample(x0, sigma, generator):
    """Rejection with a series of 100 terms: from normal steps below 0.35, from uniform points above."""
    space, top = Sphere(2), series(torch.ones_like(sigma), sigma, 2, 100)[0]

    def propose(left):
        at, s = x0[left], sigma[left]
        step = s[:, None] * space.random_tangent(at, generator)
        near = space.exp(at, step)
        x = torch.where(s[:, None] < 0.35, near, space.random(len(left), 3, generator=generator))
        kernel = series((x * at).sum(-1), s, 2, 100)[0]
        theta = step.norm(dim=-1)
        normal = 2 / s**2 * torch.exp(-(theta**2) / (2 * s**2))  # like the kernel relative to uniform points
        ratio = torch.where(s < 0.35, kernel * (theta.sin() / theta).abs() / normal / 1.1, kernel / top[left])
        return x, (s < 0.04) | (ratio > torch.rand(len(left), generator=generator))

    return rejected(propose, len(x0))


def rotation_series(theta, sigma, terms=3):
    """The truncated series up to the volume, and its derivative in the angle."""
    level = torch.arange(terms + 1.0)
    weight = (2 * level + 1) * torch.exp(-level * (level + 1) * sigma[:, None] ** 2 / 2)
    wave, half = (level + 0.5) * theta[:, None], (theta / 2)[:, None]
    values = wave.sin() / half.sin()
    slopes = ((level + 0.5) * wave.cos() - values * half.cos() / 2) / half.sin()
    return (weight * values).sum(-1), (weight * slopes).sum(-1)


def rotation_score(x, x0, sigma):
    """Varadhan's limit below 0.01, 15 geodesics up to 1.7, the series above."""
    log = SpecialOrthogonal().log(x, x0)
    theta = (log.square().sum((-2, -1)) / 2).sqrt().clamp_min(1e-6)
    angles = theta[:, None] + 2 * math.pi * torch.arange(-7.0, 8)
    signs = 1 - 2 * (torch.arange(-7, 8) % 2)
    weight = signs * torch.exp(-(angles**2 - theta[:, None] ** 2) / (2 * sigma[:, None] ** 2))
    total = (angles * weight).sum(-1)
    wrapped = (weight * (1 - angles**2 / sigma[:, None] ** 2)).sum(-1) / total - 0.5 / (theta / 2).tan()
    value, slope = rotation_series(theta, sigma)
    slope = torch.where(sigma < 1.7, wrapped, slope / value)
    slope = torch.where(sigma < 0.01, -theta / sigma**2, slope)
    return (-slope / theta)[:, None, None] * log


def rotation_sample(x0, sigma, generator):
    """Normal steps below 1.1; above, uniform points and rejection with the series."""
    space = SpecialOrthogonal()
    top = rotation_series(torch.full_like(sigma, 1e-3), sigma)[0]

    def propose(left):
        at, s = x0[left], sigma[left]
        near = space.exp(at, s[:, None, None] * space.random_tangent(at, generator))
        x = torch.where(s[:, None, None] < 1.1, near, space.random(len(left), 3, 3, generator=generator))
        value = rotation_series(space.dist(x, at).clamp_min(1e-3), s)[0]
        return x, (s < 1.1) | (value / top[left] > torch.rand(len(left), generator=generator))

    return rejected(propose, len(x0))


def walk(space, x0, sigma, generator):
    """A geodesic random walk of 100 steps."""
    scale = (sigma / WALK**0.5)[(..., *[None] * space.ndim)]
    for _ in range(WALK):
        x0 = space.project(space.exp(x0, scale * space.random_tangent(x0, generator)))
    return x0


def unitary_score(x, x0, sigma, turns=4):
    """81 geodesics, whatever sigma; the derivative by autograd."""
    values, vectors = torch.linalg.eig(x0.mH @ x)
    vectors = torch.linalg.qr(vectors)[0]
    with torch.enable_grad():
        free = values.angle().requires_grad_()
        shift = 2 * math.pi * torch.arange(-turns, turns + 1.0)
        # The third angle follows from the first two.
        a, b = free[:, 0, None, None] + shift[:, None], free[:, 1, None, None] + shift
        product = (a - b) / 2 * (a / 2 + b) * (a + b / 2)
        least = (a**2 + a * b + b**2).flatten(1).amin(1)[:, None, None].detach()
        weight = torch.exp((least - a**2 - a * b - b**2) / sigma[:, None, None] ** 2)
        a, b = free[:, 0], free[:, 1]
        sines = ((a - b) / 2).sin() * (a / 2 + b).sin() * (a + b / 2).sin()
        log = ((product * weight).sum((1, 2)) / sines).abs().log() - least[:, 0, 0] / sigma**2
        (slopes,) = torch.autograd.grad(log.sum(), free)
    turn = 1j * (slopes - slopes.mean(-1, keepdim=True))
    return x @ vectors @ (turn.unsqueeze(-1) * vectors.mH)


def routes():
    """Sampler and score by space."""
    return {
        "S^2": (sphere_sample, lambda *at: sphere_score(*at, 0.4, 10)),
        "SO(3)": (rotation_sample, rotation_score),
        "S^127": (lambda *at: walk(Sphere(127), *at), lambda *at: sphere_score(*at, 0.08, 100)),
        "SU(3)": (lambda *at: walk(SpecialUnitary(3), *at), unitary_score),
    }
