"""What the tests of the reflected kernel share."""

import math

import numpy as np
import pytest
import torch

from loupe.diffusion.reflected import fold, kernel_log_density, kernel_score

DOUBLE = torch.float64
LEVELS = [1e-3, 0.02, 0.1, 0.149999, 0.15, 0.3, 0.5641, 0.5642, 0.9, 2.0, 5.0]
functions = pytest.mark.parametrize("function", [kernel_log_density, kernel_score])
precisions = pytest.mark.parametrize("dtype", [torch.float32, DOUBLE], ids=["single", "double"])


def generator(seed=0):
    return torch.Generator().manual_seed(2000 + seed)


def noisy(n=6000, dtype=DOUBLE):
    """Points within four sigma of an image, for sigma from 1e-3 to 5, clean ones at walls and near them among them."""
    made = generator()
    sigma = (math.log(1e-3) + math.log(5e3) * torch.rand(n, generator=made, dtype=DOUBLE)).exp()
    x0 = torch.rand(n, generator=made, dtype=DOUBLE)
    x0[: n // 10], x0[n // 10 : n // 5] = 0, 1
    x0[n // 5 : n // 3] *= 0.01
    x0[n // 3 : n // 2] = 1 - 0.01 * x0[n // 3 : n // 2]
    x = fold(x0 + sigma * (8 * torch.rand(n, generator=made, dtype=DOUBLE) - 4))
    return x.to(dtype), x0.to(dtype), sigma.to(dtype)


def arrays(*tensors):
    return [each.detach().double().numpy() for each in tensors]


def nodes(n=200, start=0.0, end=1.0):
    at, weights = np.polynomial.legendre.leggauss(n)
    size = (end - start) / 2
    return torch.from_numpy(start + size * (at + 1)), torch.from_numpy(size * weights)


def grid(first, second):
    return (each.flatten() for each in torch.meshgrid(first, second, indexing="ij"))
