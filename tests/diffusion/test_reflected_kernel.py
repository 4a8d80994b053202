"""The reflected heat kernel against two hundred images, its own theorems, and tensors of every form."""

import math

import numpy as np
import pytest
import reflected_reference as reference
import torch
from scipy import integrate

from loupe.diffusion.reflected import (
    KernelMixture,
    cell_probabilities,
    corner_mixture,
    fold,
    kernel,
    kernel_cdf,
    kernel_log_density,
    kernel_score,
    sample_kernel,
    unfolded,
)

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
    law = {"means": means.double().numpy(), "shares": shares.double().numpy(), "width": 0.0}
    given = arrays(x, level)
    wanted = reference.mixture_score(*given, **law)
    found = mixture.score(x, level).double().numpy()
    # Between atoms their weights hang on a difference of large logarithms.
    tolerance = 1e-11 if dtype == DOUBLE else 1e-3
    error = np.abs(found - wanted).max(1) / (np.abs(wanted).max(1) + 1)
    assert error.max() < tolerance
    assert np.quantile(error, 0.9) < (1e-14 if dtype == DOUBLE else 1e-5)
    np.testing.assert_allclose(
        mixture.log_density(x, level).double(),
        reference.mixture_log_density(*given, **law),
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


# ---- tensors


@functions
def test_rows_in_any_order(function):
    """Many rows of many sizes, in several pieces, are what they are one by one."""
    shape = 97, 3, 40, 10
    x, x0 = (torch.rand(shape, generator=generator(k)) for k in range(2))
    sigma = torch.tensor(LEVELS)[torch.randint(len(LEVELS), (97,), generator=generator())]
    assert x.numel() > 3 * kernel.PIECE
    found = function(x, x0, sigma)
    assert found.shape == shape
    for k in range(0, 97, 7):
        alone = function(x[k : k + 1], x0[k : k + 1], sigma[k : k + 1])
        torch.testing.assert_close(found[k : k + 1], alone, rtol=1e-6, atol=1e-6)
    order = torch.randperm(97, generator=generator(5))
    # Powers differ in their last digit by where they stand in a vector register.
    near = {"rtol": 1e-6, "atol": 1e-6}
    torch.testing.assert_close(function(x[order], x0[order], sigma[order]), found[order], **near)
    flat = function(x.flatten(1), x0.flatten(1), sigma)
    torch.testing.assert_close(flat.view(shape), found, **near)


@functions
def test_layouts(function):
    x, x0 = (torch.rand(6, 3, 5, 4, generator=generator(k), dtype=DOUBLE) for k in range(2))
    sigma = torch.tensor([0.1, 0.7, 0.3, 0.05, 2.0, 0.15], dtype=DOUBLE)
    wanted = function(x, x0, sigma)
    last = torch.channels_last
    wide = torch.zeros(6, 3, 5, 8, dtype=DOUBLE)[..., ::2]
    for other, other0 in (
        (x.to(memory_format=last), x0.to(memory_format=last)),
        (x.to(memory_format=last), x0),
        (wide.copy_(x), x0),
    ):
        before = other.clone()
        torch.testing.assert_close(function(other, other0, sigma), wanted, rtol=1e-14, atol=0)
        assert torch.equal(other, before)
    turned = function(x.transpose(1, 3), x0.transpose(1, 3), sigma)
    torch.testing.assert_close(turned.transpose(1, 3), wanted, rtol=1e-14, atol=0)
    same = function(x[:1].expand(6, -1, -1, -1), x0, sigma[:1].expand(6))
    torch.testing.assert_close(same, function(x[:1].repeat(6, 1, 1, 1), x0, 0.1), rtol=1e-14, atol=0)


@functions
def test_shapes(function):
    line = torch.rand(11, generator=generator(), dtype=DOUBLE)
    sigma = torch.rand(11, generator=generator(1), dtype=DOUBLE) + 0.05
    found = function(line, line.flip(0), sigma)
    torch.testing.assert_close(
        function(line[:, None], line.flip(0)[:, None], sigma)[:, 0], found, rtol=0, atol=0
    )
    for level in (0.3, torch.tensor(0.3), np.float64(0.3), torch.full((11,), 0.3)):
        torch.testing.assert_close(
            function(line, line.flip(0), level), function(line, line.flip(0), 0.3), rtol=1e-5, atol=1e-5
        )
    for shape in ((0,), (0, 3), (0, 2, 3, 4), (3, 0)):
        for level in (0.1, torch.full(shape[:1], 0.1)):
            empty = torch.zeros(shape)
            assert function(empty, empty, level).shape == shape
    assert sample_kernel(torch.zeros(0, 2), 0.1).shape == (0, 2)
    line.requires_grad_()
    assert torch.autograd.grad(function(line, line.flip(0).detach(), sigma).sum(), line)[0].isfinite().all()


@functions
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_taken_to_single(function, dtype):
    x, x0 = (torch.rand(8, 5, generator=generator(k)).to(dtype) for k in range(2))
    sigma = torch.tensor(LEVELS[1:9]).to(dtype)
    found = function(x, x0, sigma)
    assert found.dtype == torch.float32
    assert torch.equal(found, function(x.float(), x0.float(), sigma.float()))
    assert function(x, x0.double(), sigma).dtype == DOUBLE
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(function(x.float(), x0.float(), sigma.float()), found)


class Elsewhere(torch.Tensor):
    """On the CPU, and says that it is not."""

    @property
    def device(self):
        return torch.device("meta")


@functions
@precisions
def test_the_branch_of_accelerators(function, dtype, monkeypatch):
    """Both series for each row, one of them chosen: values and gradients are those of sorted rows."""
    x, x0 = (torch.rand(66, 7, generator=generator(k), dtype=dtype) for k in range(2))
    x[:, 0], x[:, 1], x0[:, 1], x0[:, 2], x0[::2, 3] = 0, 1, 0, 1, x[::2, 3]
    sigma = torch.tensor([1e-3, *LEVELS[1:], 50.0], dtype=dtype).repeat(6)[:66]
    found = []
    for elsewhere in (False, True):
        at, level = x.clone().requires_grad_(), sigma.clone().requires_grad_()
        if elsewhere:
            monkeypatch.setattr(kernel, "checked_sigma", lambda sigma, x, each: sigma)
            given = [each.as_subclass(Elsewhere) for each in (at, x0, level)]
            assert given[0].device.type != "cpu"
        else:
            given = at, x0, level
        values = function(*given)
        gradients = torch.autograd.grad(values.sum(), (at, level))
        found.append([each.detach().as_subclass(torch.Tensor) for each in (values, *gradients)])
    for here, there in zip(*found, strict=True):
        assert there.isfinite().all()
        largest = here.abs().amax(dim=-1, keepdim=True) + 1
        assert ((here - there) / largest).abs().max() < (1e-12 if dtype == DOUBLE else 2e-5)


def test_memory_of_a_large_batch():
    """Pieces are worked on one after another: beside the result little more than the inputs."""
    from torch.profiler import ProfilerActivity, profile

    x, x0 = (torch.rand(64, 3, 64, 64, generator=generator(k)) for k in range(2))
    sigma = torch.linspace(0.01, 3, 64)
    size = x.numel() * 4
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as seen:
        kernel_score(x, x0, sigma)
    now = most = 0
    for event in seen.profiler.kineto_results.events():
        if event.name() == "[memory]":
            now += event.nbytes()
            most = max(most, now)
    assert size < most < 5 * size


# ---- mixtures


@pytest.mark.parametrize("sigma", [0.01, 0.1, 0.3, 1.0, 3.0])
def test_marginal_scores_are_posterior_means(sigma):
    """R3."""
    mixture = corner_mixture()
    x = torch.rand(300, 2, generator=generator(), dtype=DOUBLE)
    level = torch.full((300,), sigma, dtype=DOUBLE)
    found, wanted = mixture.score(x, level).numpy(), reference.mixture_score(*arrays(x, level))
    # Of much noise no score is left but the rounding of images.
    assert np.abs(found - wanted).max() < 1e-8 * np.abs(wanted).max() + 1e-15
    torch.testing.assert_close(
        mixture.log_density(x, level), torch.from_numpy(reference.mixture_log_density(*arrays(x, level)))
    )
    joint = torch.from_numpy(reference.mixture_log_joint(*arrays(x, level)))
    torch.testing.assert_close(mixture.log_joint(x, level), joint)
    torch.testing.assert_close(mixture.log_posterior(x, level), joint.log_softmax(1))
    labels = torch.arange(300) % 4
    total = np.hypot(level.numpy(), 0.05)
    wanted = reference.score(x.numpy(), mixture.means[labels].numpy(), total[:, None])
    np.testing.assert_allclose(mixture.class_score(x, level, labels), wanted, rtol=1e-9, atol=1e-12)
    assert torch.equal(mixture.score(x, sigma), mixture.score(x, level))


def test_mixtures_beyond_the_walls():
    """They continue evenly, and their scores oddly; derivatives of scores at walls are those from inside."""
    mixture = corner_mixture()
    x = 6 * torch.rand(100, 2, generator=generator(), dtype=DOUBLE) - 3
    inside, direction = unfolded(x)
    level = torch.full((100,), 0.2, dtype=DOUBLE)
    torch.testing.assert_close(mixture.log_density(x, level), mixture.log_density(inside, level))
    torch.testing.assert_close(mixture.score(x, level), direction * mixture.score(inside, level))

    def slopes(at):
        at = torch.tensor([at], dtype=DOUBLE).requires_grad_()
        score = mixture.score(at, 0.2)
        return torch.stack([torch.autograd.grad(score[0, k], at, retain_graph=True)[0][0] for k in range(2)])

    for wall, near in (((0.0, 0.4), (1e-7, 0.4)), ((1.0, 0.0), (1 - 1e-7, 1e-7)), ((0.0, 1.0), (1e-7, 1.0))):
        torch.testing.assert_close(slopes(wall), slopes(near), rtol=1e-5, atol=1e-5)


def test_mixture_samples():
    mixture = corner_mixture()
    x, labels = mixture.sample(20_000, generator())
    shares = torch.bincount(labels, minlength=4) / 20_000
    assert (shares - torch.from_numpy(reference.SHARES)).abs().max() < 0.015
    for axis in range(2):

        def cumulative(at, axis=axis):
            return sum(
                share * reference.distribution(at, point[axis], reference.WIDTH)
                for point, share in zip(reference.CORNERS, reference.SHARES, strict=True)
            )

        assert reference.kolmogorov_smirnov(x[:, axis], cumulative) < 1.95 / math.sqrt(20_000)
    again = mixture.sample(20_000, generator())
    assert torch.equal(x, again[0])
    atoms, labels = KernelMixture(mixture.means, torch.ones(4)).sample(20, generator())
    assert torch.equal(atoms, mixture.means[labels])


@pytest.mark.parametrize("levels", [2, 9, 64, 256])
def test_cell_probabilities(levels):
    mixture = corner_mixture()
    found = cell_probabilities(mixture, levels)
    assert found.shape == (levels, levels)
    assert found.sum().item() == pytest.approx(1, abs=1e-12)
    np.testing.assert_allclose(found, reference.cells(levels), rtol=0, atol=1e-13)
    if levels == 9:
        edges = np.clip((np.arange(10) - 0.5) / 8, 0, 1)

        def density(b, a):
            return float(np.exp(reference.mixture_log_density(np.array([[a, b]]), 0.0))[0])

        for i, j in ((0, 0), (3, 8), (6, 6)):
            mass, _ = integrate.dblquad(density, *edges[i : i + 2], *edges[j : j + 2], epsabs=1e-6)
            assert found[i, j].item() == pytest.approx(mass, abs=1e-6)


def test_identities_of_score_matching():
    """R5: by parts there is a term of the boundary, and denoising needs none."""
    mixture = KernelMixture(torch.tensor([[0.1], [0.7], [1.0]], dtype=DOUBLE), torch.tensor([0.2, 0.3, 0.5]))
    x, weights = nodes()
    sigma = 0.3
    density = mixture.log_density(x[:, None], sigma).exp()
    score = mixture.score(x[:, None], sigma)[:, 0]
    explicit = (weights * density * x * score).sum()  # of s(x) = x
    implicit = -(weights * density).sum()
    ends = mixture.log_density(torch.tensor([[0.0], [1.0]], dtype=DOUBLE), sigma).exp()
    boundary = ends[1] * 1 - ends[0] * 0
    assert abs(explicit - implicit - boundary) < 1e-8
    assert boundary > 0.1
    denoising = 0.0
    for mean, share in zip(mixture.means[:, 0], mixture.log_weights.exp(), strict=True):
        at = mean.expand(len(x))
        one = kernel_log_density(x, at, sigma).exp() * x * kernel_score(x, at, sigma)
        denoising += share * (weights * one).sum()
    assert abs(denoising - explicit) < 1e-8


# ---- bad input


@pytest.mark.parametrize("function", [kernel_log_density, kernel_score])
def test_the_kernel_says_what_is_wrong(function):
    good, sigma = torch.full((3, 2), 0.5), torch.full((3,), 0.1)
    for x, x0, level, match in (
        (good, 2 * good - 1.2, sigma, r"x0 .*expects \[0, 1\], got -0.2 to -0.2"),
        (good + 0.6, good, sigma, r"x .*expects \[0, 1\], got 1.1 to 1.1"),
        (good, (255 * good).to(torch.uint8), sigma, "uint8: divide by 255"),
        (good, good.long(), sigma, "floating-point numbers.*int64"),
        (good, good * math.nan, sigma, r"expects \[0, 1\], got nan"),
        (good, good[:2], sigma, r"got \(3, 2\) and \(2, 2\)"),
        (good, good, 0.0, "above 0 and finite, got 0"),
        (good, good, -0.2, "above 0 and finite, got -0.2"),
        (good, good, math.nan, "above 0 and finite, got nan"),
        (good, good, torch.tensor([0.1, math.inf, 0.2]), "above 0 and finite, got inf"),
        (good, good, sigma[:2], r"shape \(3,\), or as many axes as \(3, 2\) .*, got \(2,\)"),
        (good, good, sigma[:2, None], r"broadcast to it, got \(2, 1\)"),
    ):
        with pytest.raises(ValueError, match=match):
            function(x, x0, level)
    for x0, level in ((good + 1, 0.1), (good, 0.0)):
        with pytest.raises(ValueError, match="got"):
            sample_kernel(x0, level)


def test_mixtures_say_what_is_wrong():
    means, shares = torch.rand(3, 2, generator=generator()), torch.ones(3)
    for case, match in (
        ((means, shares[:2]), r"got \(3, 2\) and \(2,\)"),
        ((means[0], shares), r"means \(K, d\)"),
        ((means, shares - 1), "weights must be above 0"),
        ((means, shares, -0.1), "width"),
        ((means, shares, math.nan), "width"),
        ((means + 1, shares), r"must lie in \[0, 1\]"),
    ):
        with pytest.raises(ValueError, match=match):
            KernelMixture(*case)
    mixture = KernelMixture(means, shares)
    with pytest.raises(ValueError, match=r"shape \(B, 2\), got \(4, 3\)"):
        mixture.score(torch.rand(4, 3), 0.1)
    with pytest.raises(ValueError, match="sigma must be above 0"):
        mixture.log_density(means)
    with pytest.raises(ValueError, match=r"shape \(3,\), got \(2,\)"):
        mixture.score(means, torch.tensor([0.1, 0.2]))
