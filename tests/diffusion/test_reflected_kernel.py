"""The kernel between reflecting walls: folding, two series, theorems, samples."""

import math

import numpy as np
import pytest
import reflected_reference as reference
import torch
from kernel_cases import DOUBLE, LEVELS, arrays, generator, grid, nodes, noisy, precisions

from loupe.diffusion.reflected import (
    KernelMixture,
    fold,
    kernel,
    kernel_cdf,
    kernel_log_density,
    kernel_score,
    sample_kernel,
    unfolded,
)

# ---- folding


@precisions
def test_fold(dtype):
    u = torch.tensor([-0.35, 1.6, 2.25, -5.2, 0.0, 1.0, 2.0, -1.0, 0.7], dtype=dtype)
    before = u.clone()
    wanted = torch.tensor([0.35, 0.4, 0.25, 0.8, 0.0, 1.0, 0.0, 1.0, 0.7], dtype=dtype)
    torch.testing.assert_close(fold(u), wanted, rtol=0, atol=1e-6 if dtype == torch.float32 else 1e-14)
    assert torch.equal(u, before)
    u = torch.cat([20 * torch.rand(1000, generator=generator(), dtype=dtype) - 10, u])
    assert torch.equal(fold(-u), fold(u))
    torch.testing.assert_close(fold(u + 2), fold(u), rtol=0, atol=3e-6 if dtype == torch.float32 else 1e-14)
    np.testing.assert_allclose(fold(u), reference.fold(u.numpy()), atol=2e-6)
    assert ((fold(u) >= 0) & (fold(u) <= 1)).all()
    inside = torch.tensor([1e-30, 1e-8, 0.3, 1 - 6e-8], dtype=dtype)
    assert torch.equal(fold(inside), inside)
    assert fold(torch.tensor([-1e-30], dtype=dtype)) > 0


@precisions
def test_unfolding_knows_the_direction(dtype):
    u = torch.cat([20 * torch.rand(500, generator=generator(), dtype=dtype) - 10, torch.arange(-4, 5)])
    u = u.to(dtype).requires_grad_()
    x, direction = unfolded(u)
    assert torch.equal(x, fold(u))
    (slope,) = torch.autograd.grad(fold(u).sum(), u)
    assert torch.equal(slope.abs(), torch.ones_like(u))
    assert torch.equal(direction, slope)
    away = (u % 1 - 0.5).abs() < 0.499
    change = (fold(u + 1e-3) - fold(u)).sign()
    assert torch.equal(change[away], direction[away])


# ---- R1


@precisions
def test_both_series_give_the_kernel(dtype):
    x, x0, sigma = noisy(dtype=dtype)
    given = arrays(x, x0, sigma)
    tolerance = 1e-9 if dtype == DOUBLE else 1e-4
    found = kernel_log_density(x, x0, sigma), kernel_score(x, x0, sigma) * sigma
    wanted = reference.log_density(*given), reference.score(*given) * given[2]
    for mine, its in zip(found, wanted, strict=True):
        assert mine.dtype == dtype
        assert np.abs(mine.double().numpy() - its).max() < tolerance
    # What is said of their accuracy is far from what they have.
    assert np.abs(found[1].double().numpy() - wanted[1]).max() < (1e-12 if dtype == DOUBLE else 5e-6)


@precisions
def test_the_change_from_one_series_to_another_is_not_seen(dtype):
    x, x0 = (each.to(dtype) for each in grid(*[torch.linspace(0, 1, 41, dtype=DOUBLE)] * 2))
    for at in (kernel.FEW_IMAGES, kernel.BALANCE):
        for sigma in (at * (1 - 1e-6), at, at * (1 + 1e-6)):
            level = torch.full_like(x, sigma)
            given = arrays(x, x0, level)
            scores = kernel_score(x, x0, level).double().numpy()
            logs = kernel_log_density(x, x0, level).double().numpy()
            close = {"rtol": 1e-6, "atol": 1e-5} if dtype == torch.float32 else {"rtol": 1e-13, "atol": 1e-12}
            np.testing.assert_allclose(scores, reference.score(*given), **close)
            np.testing.assert_allclose(logs, reference.log_density(*given), **close)
            if at == kernel.BALANCE:
                np.testing.assert_allclose(scores, reference.score_by_cosines(*given), **close)
                np.testing.assert_allclose(logs, np.log(reference.density_by_cosines(*given)), **close)


def test_what_the_sums_leave_out():
    """The first image and the first cosine that are not summed, at the worst sigma of each branch."""

    def image(reach, sigma):
        # The nearest that are left out mirror x0 at -reach and at reach + 1: from x = x0 at a wall, 2 reach away.
        return math.exp(-((2 * reach) ** 2) / (2 * sigma**2))

    assert 4 * image(1, kernel.FEW_IMAGES) < 1e-38
    assert 4 * image(kernel.REACH[torch.float32], kernel.BALANCE) < 1e-10
    assert 4 * image(kernel.REACH[DOUBLE], kernel.BALANCE) < 2e-24
    for dtype, most in ((torch.float32, 1e-15), (DOUBLE, 1e-22)):
        k = kernel.COSINES[dtype] + 1
        assert k * math.exp(-((k * math.pi * kernel.BALANCE) ** 2) / 2) < most


@precisions
@pytest.mark.parametrize("sigma", [1e-3, 0.01, 0.05, 0.2])
def test_scores_far_from_every_image(dtype, sigma):
    """More than 7.4 sigma away a quotient of densities would be 0 / 0."""
    x = torch.rand(2000, generator=generator(), dtype=DOUBLE).to(dtype)
    x0 = torch.rand(2000, generator=generator(1), dtype=DOUBLE).to(dtype)
    given = arrays(x, x0, torch.full_like(x, sigma))
    tolerance = 1e-12 if dtype == DOUBLE else 1e-5
    wanted = reference.score(*given)
    np.testing.assert_allclose(
        kernel_score(x, x0, sigma).double(), wanted, rtol=tolerance, atol=tolerance / sigma**2 * 1e-1
    )
    np.testing.assert_allclose(
        kernel_log_density(x, x0, sigma).double(),
        reference.log_density(*given),
        rtol=tolerance,
        atol=tolerance,
    )


@precisions
@pytest.mark.parametrize("sigma", [2e-3, 0.01, 0.05, 0.3])
def test_mixtures_far_from_every_atom(dtype, sigma):
    means, shares = torch.tensor([(0.2, 0.3), (0.9, 0.1)], dtype=dtype), torch.tensor([0.3, 0.7], dtype=dtype)
    mixture = KernelMixture(means, shares)
    x = torch.rand(1500, 2, generator=generator(), dtype=DOUBLE).to(dtype)
    level = torch.full((1500,), sigma, dtype=dtype)
    atoms = {"means": means.double().numpy(), "shares": shares.double().numpy(), "width": 0.0}
    given = arrays(x, level)
    wanted = reference.mixture_score(*given, **atoms)
    found = mixture.score(x, level).double().numpy()
    # Between atoms their weights hang on a difference of large logarithms.
    tolerance = 1e-11 if dtype == DOUBLE else 1e-3
    error = np.abs(found - wanted).max(1) / (np.abs(wanted).max(1) + 1)
    assert error.max() < tolerance
    assert np.quantile(error, 0.9) < (1e-14 if dtype == DOUBLE else 1e-5)
    np.testing.assert_allclose(
        mixture.log_density(x, level).double(),
        reference.mixture_log_density(*given, **atoms),
        rtol=1e-12 if dtype == DOUBLE else 1e-6,
        atol=1e-12 if dtype == DOUBLE else 1e-5,
    )


# ---- theorems


@pytest.mark.parametrize("sigma", LEVELS)
def test_symmetries(sigma):
    x, x0 = grid(*[torch.linspace(0, 1, 33, dtype=DOUBLE)] * 2)
    close = {"rtol": 1e-10, "atol": 1e-10 / sigma}
    log, score = kernel_log_density(x, x0, sigma), kernel_score(x, x0, sigma)
    torch.testing.assert_close(kernel_log_density(x0, x, sigma), log, **close)
    torch.testing.assert_close(kernel_log_density(1 - x, 1 - x0, sigma), log, **close)
    torch.testing.assert_close(kernel_score(1 - x, 1 - x0, sigma), -score, **close)


@precisions
@pytest.mark.parametrize("sigma", [1e-6, *LEVELS])
def test_no_score_at_the_walls(dtype, sigma):
    """Neumann: zero to rounding, which is a share of the largest score there is, 1 / sigma^2."""
    x0 = torch.cat([torch.linspace(0, 1, 301, dtype=dtype), torch.logspace(-12, -1, 200, dtype=dtype)])
    x0 = torch.cat([x0, 1 - x0])
    eps = torch.finfo(dtype).eps
    for wall in (0.0, 1.0):
        found = kernel_score(torch.full_like(x0, wall), x0, sigma)
        assert found.isfinite().all()
        assert found.abs().max() <= 16 * eps * max(1, sigma**-2)
    # As near to a wall as the noise is small, where a point and its image weigh alike.
    near = torch.rand(300, generator=generator(), dtype=dtype) * min(1, 4 * sigma)
    for wall, start in ((0.0, near), (1.0, 1 - near)):
        found = kernel_score(torch.full_like(start, wall), start, sigma)
        assert (sigma * found).abs().max() <= 64 * eps * max(1, 1 / sigma)


@precisions
def test_walls_opposite_each_other(dtype):
    """From one wall at the other: the images on both sides weigh alike, though their distances are large."""
    start = torch.cat([torch.zeros(1, dtype=dtype), torch.logspace(-9, -2, 300, dtype=dtype)])
    eps = torch.finfo(dtype).eps
    for sigma in (1e-3, 0.01, 0.1, 0.3):
        for wall, x0 in ((1.0, start), (0.0, 1 - start)):
            found = kernel_score(torch.full_like(x0, wall), x0, sigma)
            assert found.abs().max() <= 16 * eps / sigma**2


@pytest.mark.parametrize("sigma", LEVELS[2:])
def test_normalisation(sigma):
    x, weights = nodes()
    for x0 in (0.0, 0.1, 0.5, 0.93, 1.0):
        density = kernel_log_density(x, torch.full_like(x, x0), sigma).exp()
        assert abs((weights * density).sum() - 1) < 1e-12


@pytest.mark.parametrize(("s", "t"), [(0.1, 0.12), (0.12, 0.3), (0.2, 0.7), (0.5, 0.3), (1.0, 2.0)])
def test_semigroup(s, t):
    z, weights = nodes()
    x, y = grid(*[torch.linspace(0, 1, 9, dtype=DOUBLE)] * 2)
    shape = len(x), len(z)
    pairs = [each.unsqueeze(1).expand(shape).reshape(-1) for each in (x, y)]
    middle = z.expand(shape).reshape(-1)
    logs = kernel_log_density(pairs[0], middle, s) + kernel_log_density(middle, pairs[1], t)
    found = (logs.exp().view(shape) * weights).sum(1)
    wanted = kernel_log_density(x, y, math.hypot(s, t)).exp()
    assert (found - wanted).abs().max() < 1e-10


@pytest.mark.parametrize("sigma", LEVELS)
def test_derivatives(sigma):
    x = torch.linspace(0.003, 0.997, 40, dtype=DOUBLE)
    x, x0 = grid(x, torch.tensor([0.0, 1e-4, 0.3, 0.77, 1.0], dtype=DOUBLE))
    x.requires_grad_()
    level = torch.full_like(x, sigma)
    (slope,) = torch.autograd.grad(kernel_log_density(x, x0, level).sum(), x)
    score = kernel_score(x, x0, level)
    torch.testing.assert_close(score, slope, rtol=1e-10, atol=1e-10)
    (curvature,) = torch.autograd.grad(score.sum(), x)
    with torch.no_grad():
        h = 1e-6 * min(1, sigma)
        both = [kernel_log_density(x + sign * h, x0, level) for sign in (1, -1)]
        size = score.abs().max() + 1e-30
        assert ((both[0] - both[1]) / (2 * h) - score).abs().max() < 1e-6 * size + 1e-7
        both = [kernel_score(x + sign * h, x0, level) for sign in (1, -1)]
        size = curvature.abs().max() + 1e-30
        assert ((both[0] - both[1]) / (2 * h) - curvature).abs().max() < 1e-5 * size


def test_double_differentiation():
    x = (0.02 + 0.96 * torch.rand(9, generator=generator(), dtype=DOUBLE)).requires_grad_()
    x0 = torch.rand(9, generator=generator(1), dtype=DOUBLE)
    sigma = torch.tensor([0.7, 0.1, 0.3, 0.14, 0.9, 0.2, 0.12, 0.5, 3.0], dtype=DOUBLE)
    assert torch.autograd.gradcheck(lambda x: kernel_score(x, x0, sigma), (x,))
    assert torch.autograd.gradgradcheck(lambda x: kernel_score(x, x0, sigma), (x,), atol=1e-3)
    sigma.requires_grad_()
    assert torch.autograd.gradcheck(lambda sigma: kernel_log_density(x, x0, sigma), (sigma,))


def test_limits():
    x, x0 = grid(*[torch.linspace(0.05, 0.95, 31, dtype=DOUBLE)] * 2)
    for sigma in (1e-4, 1e-3, 5e-3):
        torch.testing.assert_close(kernel_score(x, x0, sigma), (x0 - x) / sigma**2, rtol=1e-9, atol=1e-3)
    x, x0 = grid(*[torch.linspace(0, 1, 31, dtype=DOUBLE)] * 2)
    for dtype in (torch.float32, DOUBLE):
        for sigma in (5.0, 20.0, 1e4):
            assert kernel_score(x.to(dtype), x0.to(dtype), sigma).abs().max() < 1e-40
            assert kernel_log_density(x.to(dtype), x0.to(dtype), sigma).abs().max() < 1e-40


@pytest.mark.parametrize("x0", [0.0, 1e-3, 0.3, 1.0])
def test_size_of_the_score(x0):
    """In the mean sigma^2 score^2 is 1 where there is little noise, at walls too, and 0 where there is much."""
    found = []
    for sigma in (1e-3, 3e-3, 1.0, 3.0):
        start, end = max(0, x0 - 9 * sigma), min(1, x0 + 9 * sigma)
        x, weights = nodes(start=start, end=end)
        at = torch.full_like(x, x0)
        density = kernel_log_density(x, at, sigma).exp()
        found.append((weights * density * (sigma * kernel_score(x, at, sigma)) ** 2).sum().item())
    if x0 != 1e-3:  # where a wall is about as far as the noise goes it is less
        assert found[:2] == pytest.approx([1, 1], abs=1e-9)
    assert found[2] < 0.2
    assert found[3] < 1e-30


def test_extremes():
    for dtype in (torch.float32, DOUBLE):
        x = torch.tensor([0, 0, 1, 1, 0, 0.5, 1e-38, 1e-6, 1, 1 - 6e-8], dtype=dtype)
        x0 = torch.tensor([0, 1, 0, 1, 0.3, 0.5, 0, 0, 1 - 6e-8, 1], dtype=dtype)
        for sigma in (1e-6, 1e-9, 1e-12):
            score, logs = kernel_score(x, x0, sigma), kernel_log_density(x, x0, sigma)
            assert score.isfinite().all()
            assert logs.isfinite().all()
            assert (score[:6] == 0).all()
            given = arrays(x, x0, torch.full_like(x, sigma))
            wanted = reference.log_density(*given)
            np.testing.assert_allclose(logs[:6].double(), wanted[:6], rtol=1e-6, atol=1e-5)
        at = torch.tensor([1e-6], dtype=dtype)
        assert kernel_score(at, torch.zeros(1, dtype=dtype), 1e-6).item() == pytest.approx(-1e6, rel=1e-5)


@precisions
def test_the_distribution_function(dtype):
    x, x0, sigma = noisy(dtype=dtype)
    found, given = kernel_cdf(x, x0, sigma), arrays(x, x0, sigma)
    assert found.dtype == dtype
    close = 1e-13 if dtype == DOUBLE else 5e-5
    np.testing.assert_allclose(found.double(), reference.distribution(*given), rtol=0, atol=close)
    for wall in (0.0, 1.0):
        assert (kernel_cdf(torch.full_like(x, wall), x0, sigma) - wall).abs().max() < close


# ---- samples


PAIRS = [(0.0, 0.05), (0.1, 0.4), (0.5, 0.14), (0.97, 0.3), (1.0, 1.0), (0.3, 4.0)]


@pytest.mark.parametrize(("x0", "sigma"), PAIRS)
def test_folded_noise_has_the_kernel(x0, sigma):
    """R2, with the moments."""
    n = 200_000
    drawn = sample_kernel(torch.full((n,), x0, dtype=DOUBLE), sigma, generator())
    assert ((drawn >= 0) & (drawn <= 1)).all()
    distance = reference.kolmogorov_smirnov(drawn[::2], lambda x: reference.distribution(x, x0, sigma))
    assert distance < 1.95 / math.sqrt(n / 2)
    for values, wanted in ((drawn, reference.mean), (drawn**2, reference.second_moment)):
        assert abs(values.mean() - wanted(x0, sigma)) < 5 * values.std() / math.sqrt(n)
    # The reference agrees with itself and with the library's density.
    x, weights = nodes(400)
    density = kernel_log_density(x, torch.full_like(x, x0), sigma).exp()
    assert (weights * density * x).sum().item() == pytest.approx(reference.mean(x0, sigma), abs=1e-9)
    assert (weights * density * x**2).sum().item() == pytest.approx(
        reference.second_moment(x0, sigma), abs=1e-9
    )
    at, part = nodes(200, 0.0, 0.37)
    mass = (part * kernel_log_density(at, torch.full_like(at, x0), sigma).exp()).sum()
    assert mass.item() == pytest.approx(reference.distribution(0.37, x0, sigma).item(), abs=1e-10)


def test_samples_by_definition():
    x0 = torch.rand(5, 3, 4, generator=generator(), dtype=DOUBLE)
    sigma = torch.tensor([0.01, 3.0, 0.2, 0.5, 1.0], dtype=DOUBLE)
    found = sample_kernel(x0, sigma, generator(3))
    noise = torch.randn(x0.shape, generator=generator(3), dtype=DOUBLE)
    np.testing.assert_allclose(
        found, reference.fold((x0 + sigma[:, None, None] * noise).numpy()), rtol=0, atol=1e-14
    )
    assert sample_kernel(x0.half(), 0.1).dtype == torch.float32
