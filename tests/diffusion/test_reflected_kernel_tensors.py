"""The reflected kernel on tensors of any layout and dtype; mixtures of kernels; bad input."""

import math

import numpy as np
import pytest
import reflected_reference as reference
import torch
from kernel_cases import DOUBLE, LEVELS, arrays, functions, generator, nodes, precisions
from scipy import integrate

from loupe.diffusion.reflected import (
    KernelMixture,
    cell_probabilities,
    corner_mixture,
    kernel,
    kernel_log_density,
    kernel_score,
    sample_kernel,
    unfolded,
)

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
