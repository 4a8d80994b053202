"""What the tests of Fréchet means share: problems, and what their answers are compared with."""

import pytest
import torch

CURVATURES = (-1.0, -0.5, -2.3)
curvatures = pytest.mark.parametrize("K", CURVATURES)
seeds = pytest.mark.parametrize("seed", range(3))
DOUBLE = torch.float64


def generator(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=generator(seed), dtype=DOUBLE)


def problem(K=-1.0, seed=0, shape=(4, 6, 3), radius=0.9):
    """Points of the ball within so much of its radius, and weights."""
    x = normal(*shape, seed=seed)
    share = torch.rand(*shape[:-1], 1, generator=generator(seed + 1), dtype=DOUBLE)
    w = torch.rand(shape[:-1], generator=generator(seed + 2), dtype=DOUBLE) + 0.1
    return radius * share * x / x.norm(dim=-1, keepdim=True) * (-K) ** -0.5, w


def slope(ball, x, w, y):
    """Length of the Riemannian gradient at the mean, against the sum of distances: both formulas of their own."""
    logs = ball.log(y.unsqueeze(-2), x)
    pull = (w.unsqueeze(-1) * logs).sum(-2)
    return ball.norm(y, pull) / (w * ball.dist(y.unsqueeze(-2), x)).sum(-1)


def near(found, wanted, atol):
    torch.testing.assert_close(found, wanted, rtol=0, atol=atol)


def jacobian(function, *inputs):
    return torch.autograd.functional.jacobian(function, inputs, vectorize=False)
