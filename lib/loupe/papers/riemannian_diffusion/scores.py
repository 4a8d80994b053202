"""Networks for scores on manifolds, and their training."""

import math

import torch
from torch import nn

from loupe.diffusion import riemannian
from loupe.networks.mlp import NoiseMLP
from loupe.training import train


class ScoreMLP(nn.Module):
    """An MLP from points, any event shape, and noise levels to ambient vectors, divided by the noise level.

    Parameters
    ----------
    example : torch.Tensor
        One point, real or complex, which gives the shape.
    settings : Network
    seed : int
        Of the weights and of the Fourier features, whose wave vectors have lengths even in their logarithm.
    angles : bool
        Whether the coordinates are angles, of which the network sees cosines and sines.
    """

    def __init__(self, example, settings, *, seed=0, angles=False):
        super().__init__()
        self.complex, self.axes, self.angles = example.is_complex(), example.dim(), angles
        outputs = example.numel() * (2 if self.complex else 1)
        inputs = outputs * (2 if angles else 1)
        generator = torch.Generator().manual_seed(seed)
        turns = torch.nn.functional.normalize(torch.randn(inputs, settings.waves, generator=generator), dim=0)
        lengths = settings.frequency ** torch.rand(settings.waves, generator=generator)
        self.register_buffer("vectors", turns * lengths)
        sizes = {"width": settings.width, "layers": settings.layers, "seed": seed}
        self.mlp = NoiseMLP(inputs + 2 * settings.waves, outputs=outputs, **sizes)

    def forward(self, x, sigma):
        """Vectors of the shape of ``x (B, ...)``, for noise levels of shape (B,), or one for each point (B, sites)."""
        flat = torch.view_as_real(x) if self.complex else x
        flat, shape = flat.flatten(1), flat.shape
        if self.angles:
            flat = torch.cat([flat.cos(), flat.sin()], -1)
        phases = flat @ self.vectors
        sigma = sigma.flatten(1)[:, 0] if sigma.dim() > 1 else sigma
        out = self.mlp(torch.cat([flat, phases.cos(), phases.sin()], -1), sigma) / sigma.unsqueeze(-1)
        out = out.reshape(shape)
        return torch.view_as_complex(out.contiguous()) if self.complex else out


def noise_levels(network, count, generator, device="cpu"):
    """Noise levels whose logarithms are uniform, shape (count,)."""
    low, high = math.log(network.sigma_min), math.log(network.sigma_max)
    return (low + (high - low) * torch.rand(count, generator=generator, device=device)).exp()


def denoising(kernel, settings):
    """The loss of denoising score matching, for :func:`trained`; points with sites have one noise level for all."""

    def loss(model, batch, generator):
        (x0,) = batch
        sigma = noise_levels(settings, len(x0), generator, x0.device)
        sigma = sigma.reshape(-1, *[1] * (x0.dim() - 1 - kernel.manifold.ndim))
        sigma = sigma.expand(x0.shape[: x0.dim() - kernel.manifold.ndim])
        each = riemannian.denoising_loss(model, kernel, x0, sigma, generator=generator)
        return each.flatten(1).sum(1).mean() if each.dim() > 1 else each.mean()

    return loss


def sliced(kernel, settings):
    """The loss of sliced score matching, for :func:`trained`: it sees samples of the kernel, but not its score."""

    def loss(model, batch, generator):
        (x0,), manifold = batch, kernel.manifold
        sigma = noise_levels(settings, len(x0), generator, x0.device)
        shape = len(x0), manifold.dimension_like(x0)
        signs = 2.0 * torch.randint(2, shape, generator=generator, device=x0.device) - 1
        x = kernel.sample(x0, sigma, generator)
        return riemannian.implicit_loss(model, manifold, x, sigma, noise=signs.to(x0.dtype)).mean()

    return loss


def trained(points, loss, settings, training, *, seed, device, work, angles=False, evaluate=None):
    """Train a :class:`ScoreMLP` on points (n, ...) with a loss."""
    network = ScoreMLP(points[0], settings, seed=seed, angles=angles)
    options = {"seed": seed, "device": device, "work": work, "evaluate": evaluate}
    return train(network, loss, (points,), training, **options)


def nll(network, x, manifold, settings, steps):
    """Negative log-likelihoods (n,) of points, in nats, with the exact divergence; on the CPU."""
    levels = {"sigma_min": settings.sigma_min, "sigma_max": settings.sigma_max, "steps": steps}
    return -riemannian.log_likelihood(network, x.to(device_of(network)), manifold, **levels).cpu()


def device_of(network):
    """Where the weights are."""
    return next(network.parameters()).device
