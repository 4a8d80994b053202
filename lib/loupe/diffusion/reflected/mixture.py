"""A distribution in the cube that can be noised exactly: a mixture of reflected heat kernels."""

import torch

from loupe.derivatives import slope
from loupe.diffusion.reflected.kernel import (
    checked_sigma,
    kernel_cdf,
    kernel_log_density,
    sample_kernel,
    unfolded,
)


class KernelMixture:
    """A mixture of reflected heat kernels around given points.

    Adding noise gives another such mixture: the kernels form a semigroup. So density and score are known at every noise
    level, and ``mixture.score(x, sigma)`` works in samplers, flows and likelihoods.

    Parameters
    ----------
    means : torch.Tensor, shape (K, d)
        In [0, 1].
    weights : torch.Tensor, shape (K,)
        Above 0; they are divided by their sum.
    width : float
        Standard deviation of the noise around each point; 0 for point masses.

    Raises
    ------
    ValueError
        If shapes do not match, points lie outside the cube, or weights or width are negative.
    """

    def __init__(self, means, weights, width=0.0):
        if means.ndim != 2 or weights.shape != means.shape[:1]:
            raise ValueError(
                f"means (K, d) need as many weights (K,), got {tuple(means.shape)} and {tuple(weights.shape)}"
            )
        if not ((weights > 0).all() and width >= 0):
            raise ValueError("weights must be above 0, and the width at least 0")
        if not (means.min() >= 0 and means.max() <= 1):
            raise ValueError(
                f"means must lie in [0, 1], got {means.min().item():g} to {means.max().item():g}"
            )
        self.means, self.width = means, width
        self.log_weights = (weights / weights.sum()).log()

    def sample(self, n, generator=None):
        """Draw points ``(n, d)`` and the component of each ``(n,)``."""
        labels = torch.multinomial(self.log_weights.exp(), n, replacement=True, generator=generator)
        points = self.means[labels]
        return (sample_kernel(points, self.width, generator) if self.width else points), labels

    def log_joint(self, x, sigma=0.0):
        """Log-density of each point together with each component, shape (B, K), for noise ``sigma (B,)`` or a number."""
        total = self._total(x, sigma)
        (B, d), K = x.shape, len(self.means)
        inside, _ = unfolded(x)
        pairs = (
            inside.unsqueeze(1).expand(B, K, d).reshape(-1, d),
            self.means.to(x).expand(B, K, d).reshape(-1, d),
            total.repeat_interleave(K),
        )
        return kernel_log_density(*pairs).sum(-1).view(B, K) + self.log_weights.to(x)

    def log_density(self, x, sigma=0.0):
        """Log-density, shape (B,), of points ``x (B, d)``; points beyond the walls are folded first."""
        return self.log_joint(x, sigma).logsumexp(1)

    def log_posterior(self, x, sigma=0.0):
        """Log-probability of each component given a noisy point, shape (B, K)."""
        return self.log_joint(x, sigma).log_softmax(1)

    def score(self, x, sigma):
        """Score of the noisy mixture, shape of ``x (B, d)``."""
        return slope(lambda at: self.log_density(at, sigma), x)

    def class_score(self, x, sigma, labels):
        """Score of one component for each point, ``labels (B,)``."""
        rows = torch.arange(len(x), device=x.device)
        return slope(lambda at: self.log_joint(at, sigma)[rows, labels], x)

    def _total(self, x, sigma):
        if x.ndim != 2 or x.shape[1] != self.means.shape[1]:
            raise ValueError(f"x must have shape (B, {self.means.shape[1]}), got {tuple(x.shape)}")
        sigma = torch.as_tensor(sigma, dtype=x.dtype, device=x.device)
        if (sigma < 0).any():
            raise ValueError(f"sigma must be at least 0, got {sigma.min().item():g}")
        return checked_sigma(sigma.square().add(self.width**2).sqrt(), x)


def corner_mixture(dtype=torch.float64):
    """Four noisy points, three of them at walls (d = 2): a distribution with known density and score."""
    means = torch.tensor([(0.0, 0.0), (1.0, 0.3), (0.4, 1.0), (0.8, 0.75)], dtype=dtype)
    return KernelMixture(means, torch.tensor([0.4, 0.3, 0.2, 0.1], dtype=dtype), width=0.05)


def cell_probabilities(mixture, levels=256):
    """Probability that a point of a mixture in the square is closest to each pair of gray levels.

    Parameters
    ----------
    mixture : KernelMixture
        With d = 2.
    levels : int
        Gray levels, evenly spaced from 0 to 1.

    Returns
    -------
    torch.Tensor, shape (levels, levels), float64
    """
    if mixture.means.shape[1] != 2:
        raise ValueError(
            f"cells are those of a square: the mixture must have d = 2, got {mixture.means.shape[1]}"
        )
    edges = ((torch.arange(levels + 1, dtype=torch.float64) - 0.5) / (levels - 1)).clamp(0, 1)
    B, K = levels + 1, len(mixture.means)
    found = []
    for mean in mixture.means.double().T:  # (K,) for each axis
        reached = kernel_cdf(edges.repeat_interleave(K), mean.repeat(B), mixture.width).view(B, K)
        found.append(reached.diff(dim=0))  # (levels, K)
    return torch.einsum("k,ak,bk->ab", mixture.log_weights.double().exp(), *found)
