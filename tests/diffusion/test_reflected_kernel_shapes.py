"""The reflected kernel at a noise level for each coordinate, point by point, and under transforms."""

import pytest
import torch

from loupe.diffusion.reflected import (
    VESDE,
    ReflectedSDE,
    kernel_cdf,
    kernel_log_density,
    kernel_score,
    sample_kernel,
)

SIGMA = torch.logspace(-3, 0.7, 24, dtype=torch.float64).view(8, 3)  # both series
X, X0 = torch.rand(2, 8, 3, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
functions = pytest.mark.parametrize("function", [kernel_score, kernel_log_density, kernel_cdf])


@functions
def test_a_noise_level_for_each_coordinate(function):
    found = function(X, X0, SIGMA)
    for k in range(3):
        assert torch.equal(found[:, k], function(X[:, k], X0[:, k], SIGMA[:, k]))
    assert torch.equal(function(X, X0, SIGMA[:, :1]), function(X, X0, SIGMA[:, 0]))
    torch.testing.assert_close(function(X, X0, SIGMA[:1])[3:4], function(X[3:4], X0[3:4], SIGMA[:1]))
    assert torch.equal(function(X[2, 1], X0[2, 1], SIGMA[2, 1]), found[2, 1])  # one number


@functions
@pytest.mark.parametrize("sigma", [SIGMA, SIGMA[:, 0]], ids=["coordinates", "rows"])
def test_transforms(function, sigma):
    wanted = function(X, X0, sigma)
    torch.testing.assert_close(torch.vmap(function)(X, X0, sigma), wanted)
    compiled = torch.compile(function, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(X, X0, sigma), wanted)
    with pytest.raises(ValueError, match=r"got \(5,\)"):
        torch.vmap(function)(X, X0, torch.ones(8, 5))


def test_scores_are_slopes_point_by_point():
    slopes = torch.vmap(torch.func.grad(kernel_log_density))(*(each.flatten() for each in (X, X0, SIGMA)))
    torch.testing.assert_close(slopes, kernel_score(X, X0, SIGMA).flatten())
    curves = torch.func.jacrev(kernel_score)(X[0], X0[0], SIGMA[5])
    step = 1e-6 * torch.eye(3, dtype=torch.float64)
    rise = kernel_score(X[0] + step, X0[0].expand(3, 3), SIGMA[5].expand(3, 3))
    fall = kernel_score(X[0] - step, X0[0].expand(3, 3), SIGMA[5].expand(3, 3))
    torch.testing.assert_close(curves, ((rise - fall) / 2e-6).T, rtol=1e-5, atol=1e-5)


def test_noise_of_each_coordinate():
    x0, sigma = torch.full((40_000, 2), 0.5, dtype=torch.float64), torch.tensor([[0.01, 0.05]]).double()
    draws = {"cube": ReflectedSDE().noised(x0, sigma), "line": VESDE().noised(x0, sigma)}
    draws["kernel"] = sample_kernel(x0, sigma)
    for name, x in draws.items():
        torch.testing.assert_close(x.std(0), sigma[0], rtol=0.03, atol=0, msg=name)
    found = VESDE().kernel_score(draws["line"], x0, sigma)
    torch.testing.assert_close(found, (x0 - draws["line"]) / sigma**2)
