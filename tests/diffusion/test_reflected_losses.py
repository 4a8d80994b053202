"""Denoising score matching in the cube draw for draw, and the bound of the likelihood where all of it is known."""

import math

import numpy as np
import pytest
import reflected_reference as reference
import torch

from loupe.diffusion.reflected import (
    VESDE,
    KernelMixture,
    ReflectedSDE,
    ScoreNetwork,
    bits_per_dimension,
    corner_mixture,
    denoising_loss,
    kernel_score,
    likelihood_bound,
)

DOUBLE = torch.float64
SDE = ReflectedSDE()
MIXTURE = corner_mixture()


def generator(seed=0):
    return torch.Generator().manual_seed(3000 + seed)


def wrong(x, sigma):
    """Some score, of torch or NumPy."""
    return (0.3 - x) / (sigma.reshape(-1, 1) + 0.2)


# ---- processes


def test_schedule():
    for sde in (SDE, ReflectedSDE(1e-4), VESDE(0.02, 3.0)):
        t = torch.linspace(0, 1, 11, dtype=DOUBLE)
        wanted = reference.level(t.numpy(), sde.sigma_min, sde.sigma_max)
        np.testing.assert_allclose(sde.sigma(t), wanted, rtol=1e-13)
        torch.testing.assert_close(sde.time(sde.sigma(t)), t, rtol=0, atol=1e-14)
        t.requires_grad_()
        (slope,) = torch.autograd.grad((sde.sigma(t) ** 2).sum(), t)
        torch.testing.assert_close(sde.diffusion(t) ** 2, slope)
        assert sde.sigma(torch.tensor(0.25)).dtype == torch.float32
    assert 2 * SDE.growth == pytest.approx(12.43, abs=5e-3)
    assert 2 * ReflectedSDE(1e-4).growth == pytest.approx(21.64, abs=5e-3)
    for case in ((0.0, 1.0), (1.0, 0.5), (-1.0, 1.0), (0.1, math.inf), (math.nan, 1.0), (0.1, 0.1)):
        for kind in (ReflectedSDE, VESDE):
            with pytest.raises(ValueError, match=f"sigma_min above 0.*got {case[0]}"):
                kind(*case)


def test_limits_of_processes():
    x = SDE.limit((20_000, 2), generator())
    assert reference.kolmogorov_smirnov(x.flatten(), lambda x: x) < 1.95 / math.sqrt(40_000)
    away = SDE.limit((20_000, 2), generator(), side=0.01)
    torch.testing.assert_close(away, 0.01 + 0.98 * x)
    assert torch.equal(SDE.limit_log_density(x), torch.zeros(20_000))
    assert torch.equal(SDE.inputs(x, None), 2 * x - 1)
    exploding = VESDE()
    y = exploding.limit((4000, 2, 3), generator(), dtype=DOUBLE)
    wanted = torch.distributions.Normal(0.5, torch.tensor(5.0, dtype=DOUBLE)).log_prob(y).sum((1, 2))
    torch.testing.assert_close(exploding.limit_log_density(y), wanted)
    assert (y.mean() - 0.5).abs() < 5 * 5 / math.sqrt(24_000)
    assert y.std().item() == pytest.approx(5, rel=0.03)
    # Inputs have variance 1 at any noise, for data of that mean and spread.
    clean = (torch.rand(20_000, 1, generator=generator(), dtype=DOUBLE) > 0.5).to(DOUBLE)
    for sigma in (0.01, 1.0, 5.0):
        level = torch.full((20_000,), sigma, dtype=DOUBLE)
        seen = exploding.inputs(exploding.noised(clean, level, generator(1)), level)
        assert abs(seen.mean()) < 0.03
        assert seen.std().item() == pytest.approx(1, abs=0.03)
    sigma = torch.tensor([0.3], dtype=DOUBLE)
    x, x0 = torch.tensor([[3.0, -1.0]], dtype=DOUBLE), torch.tensor([[0.2, 0.9]], dtype=DOUBLE)
    torch.testing.assert_close(exploding.kernel_score(x, x0, sigma), (x0 - x) / 0.09)


# ---- the loss


@pytest.mark.parametrize("weighting", ["variance", "likelihood"])
@pytest.mark.parametrize("smallest", [0.01, 1e-4])
def test_the_loss_draw_for_draw(weighting, smallest):
    x0, _ = MIXTURE.sample(40, generator())
    sde = ReflectedSDE(smallest)
    made = generator(1)
    share = (torch.randperm(40, generator=made) + torch.rand((), generator=made, dtype=DOUBLE)) / 40
    t = 1e-5 + (1 - 1e-5) * share
    noise = torch.randn(x0.shape, generator=made, dtype=DOUBLE).numpy()
    for mine, its in ((wrong, wrong), (MIXTURE.score, reference.mixture_score)):
        found = denoising_loss(mine, x0, sde, generator=generator(1), weighting=weighting)
        wanted = reference.loss(its, x0.numpy(), t.numpy(), noise, smallest, 5.0, weighting)
        assert found.shape == (40,)
        np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-12)
    # Times that are given are used; then the noise comes first.
    again = denoising_loss(wrong, x0, sde, t, generator(2), weighting=weighting)
    noise = torch.randn(x0.shape, generator=generator(2), dtype=DOUBLE).numpy()
    wanted = reference.loss(wrong, x0.numpy(), t.numpy(), noise, smallest, 5.0, weighting)
    np.testing.assert_allclose(again, wanted, rtol=1e-9)


def test_the_loss_without_walls():
    x0, _ = MIXTURE.sample(30, generator())
    sde, t = VESDE(), torch.linspace(0.1, 1, 30, dtype=DOUBLE)
    found = denoising_loss(wrong, x0, sde, t, generator(1))
    noise = torch.randn(x0.shape, generator=generator(1), dtype=DOUBLE)
    sigma = sde.sigma(t)[:, None]
    x = x0 + sigma * noise
    wanted = ((sigma * wrong(x, sigma) + noise) ** 2).sum(1) / 2
    torch.testing.assert_close(found, wanted)
    # Data may lie anywhere.
    assert denoising_loss(wrong, 7 * x0 - 3, sde, t, generator(1)).isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_both_weightings_are_one_loss(dtype):
    """R4."""
    x0 = torch.rand(50, 3, 4, 4, generator=generator(), dtype=dtype)
    for smallest in (0.01, 1e-4):
        sde = ReflectedSDE(smallest)
        both = [
            denoising_loss(lambda x, sigma: -x, x0, sde, generator=generator(1), weighting=weighting)
            for weighting in ("variance", "likelihood")
        ]
        ratio = both[1].sum() / both[0].sum()
        assert ratio.item() == pytest.approx(2 * math.log(5 / smallest), rel=1e-6)


@pytest.mark.parametrize("place", [(0.3, 0.8), (0.0, 1.0)])
def test_one_point_is_learned_entirely(place):
    x0 = torch.tensor(place, dtype=DOUBLE).expand(64, 2)

    def exact(x, sigma):
        return kernel_score(x, x0[:1].expand_as(x), sigma)

    def independent(x, sigma):
        return torch.from_numpy(reference.score(x.numpy(), np.array(place), sigma[:, None].numpy()))

    for smallest in (0.01, 1e-4):
        sde = ReflectedSDE(smallest)
        for score in (exact, independent):
            assert denoising_loss(score, x0, sde, generator=generator()).max() < 1e-18
    nats = likelihood_bound(exact, x0[:3], sde, generator=generator())
    assert nats.max() < 1e-18
    assert bits_per_dimension(nats, 2).max() < 1e-18
    # The mixture of one point knows it too.
    single = KernelMixture(torch.tensor([place], dtype=DOUBLE), torch.ones(1))
    assert likelihood_bound(single.score, x0[:3], sde, generator=generator()).max() < 1e-15


def test_gradients_of_the_loss():
    """Half the squared error, by its parameter; the least is where the mixture's score is."""
    scale = torch.tensor(0.7, dtype=DOUBLE, requires_grad=True)
    x0, _ = MIXTURE.sample(6000, generator())

    def scaled(x, sigma):
        return scale * MIXTURE.score(x, sigma)

    values = denoising_loss(scaled, x0, SDE, generator=generator(1))
    (slope,) = torch.autograd.grad(values.mean(), scale)
    at_one = denoising_loss(MIXTURE.score, x0, SDE, generator=generator(1)).mean()
    twice = denoising_loss(lambda x, sigma: 0 * x, x0, SDE, generator=generator(1)).mean()
    # A parabola through three points: at 0, at 0.7 and at 1.
    a = (twice - at_one - (twice - values.mean()) / 0.7) / (0.7 - 1)
    b = (at_one - twice) - a
    assert abs(slope - (2 * a * 0.7 + b)) < 1e-9
    assert (-b / (2 * a)).item() == pytest.approx(1, abs=0.02)


def test_times_of_training():
    seen = []

    def watching(x, sigma):
        seen.append(SDE.time(sigma))
        return 0 * x

    denoising_loss(watching, torch.rand(1000, 1, dtype=DOUBLE), SDE, generator=generator())
    t = seen[0].sort().values
    assert t[0] >= 1e-5 * (1 - 1e-9)
    strata = ((t - 1e-5) / (1 - 1e-5) * 1000).floor()
    assert torch.equal(strata, torch.arange(1000, dtype=DOUBLE))


def test_half_precision_and_networks():
    """The error is taken in single precision, whatever the network gives."""
    linear = torch.nn.Linear(3, 3)
    network = ScoreNetwork(lambda x, sigma: linear(x), SDE)
    x0, t = torch.rand(32, 3, generator=generator()), torch.linspace(0, 1, 32)
    plain = denoising_loss(network, x0, SDE, t, generator(1))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = denoising_loss(network, x0, SDE, t, generator(1))
    assert plain.dtype == cast.dtype == torch.float32
    torch.testing.assert_close(cast, plain, rtol=0.05, atol=0.05)
    assert plain.requires_grad
    empty = denoising_loss(network, x0[:0], SDE, generator=generator())
    assert empty.shape == (0,)


# ---- the bound


def eight(d):
    """Eight gray levels in one dimension, or nine of the 64 pairs; with unequal probabilities."""
    levels = torch.arange(8, dtype=DOUBLE) / 7
    if d == 1:
        means = levels[:, None]
    else:
        means = torch.cartesian_prod(levels, levels)[torch.randperm(64, generator=generator())[:9]]
    shares = torch.rand(len(means), generator=generator(1), dtype=DOUBLE) + 0.2
    return KernelMixture(means, shares / shares.sum())


@pytest.mark.parametrize("d", [1, 2])
def test_the_bound_is_tight_at_the_true_score(d):
    """For each point: minus the logarithm of its probability; in the mean: the entropy."""
    mixture = eight(d)
    sde, copies, times = ReflectedSDE(1e-3), 20, 400
    x0 = mixture.means.repeat_interleave(copies, 0)
    drawn = likelihood_bound(
        mixture.score, x0, sde, times=times, levels=8, batch=20_000, generator=generator()
    )
    assert drawn.dtype == DOUBLE
    each = drawn.view(-1, copies)
    error = each.std(1) / math.sqrt(copies)
    wanted = -mixture.log_weights
    assert ((each.mean(1) - wanted).abs() < 4 * error + 1e-3).all()
    shares = mixture.log_weights.exp()
    entropy = (shares * wanted).sum()
    assert abs((shares * each.mean(1)).sum() - entropy) < 4 * (shares * error).norm()
    assert (shares * error).norm() < 0.04 * entropy

    # Any other score has more, by half g^2 times its squared distance from the true one.
    for size in (0.5, 0.1):

        def perturbed(x, sigma, size=size):
            return mixture.score(x, sigma) + size / sigma[:, None]

        more = likelihood_bound(
            perturbed, x0, sde, times=times, levels=8, batch=20_000, generator=generator()
        )
        gaps = (more - drawn).view(-1, copies)
        spread = (shares * gaps.std(1) / math.sqrt(copies)).norm()
        gap = (shares * gaps.mean(1)).sum()
        assert gap > 4 * spread
        assert abs(gap - sde.growth * size**2 * d) < 4 * spread


@pytest.mark.parametrize(
    ("smallest", "least", "most"), [(1 / 56, 1e-4, 2e-4), (1 / 112, 0, 1e-14), (1e-3, 0, 1e-15)]
)
def test_what_the_beginning_leaves_out(smallest, least, most):
    """The mean bound is the information of the first noisy point about the level, and not all of the entropy.

    At the largest sigma_min that is taken, nats for each dimension are missing in the fourth digit.
    """
    mixture = eight(1)
    x = torch.linspace(0, 1, 20_001, dtype=DOUBLE)[:, None]
    logs = mixture.log_posterior(x, smallest)
    unknown = -(logs.exp() * logs).sum(1)
    missing = torch.trapezoid(mixture.log_density(x, smallest).exp() * unknown, x[:, 0])
    assert least <= missing < most


def test_the_bound_by_definition():
    """Stratified times of each point, one after another; a batch only cuts the list."""
    x0, _ = MIXTURE.sample(5, generator())
    sde, times = ReflectedSDE(1e-4), 6
    found = likelihood_bound(wrong, x0, sde, times=times, batch=1000, generator=generator(1))
    made = generator(1)
    shares = torch.rand(5, times, generator=made, dtype=DOUBLE)
    t = ((shares + torch.arange(times)) / times).flatten().numpy()
    noise = torch.randn(5 * times, 2, generator=made, dtype=DOUBLE).numpy()
    wanted = reference.loss(wrong, x0.numpy().repeat(times, 0), t, noise, 1e-4, 5.0, "likelihood")
    np.testing.assert_allclose(found, wanted.reshape(5, times).mean(1), rtol=1e-8)
    sizes = []

    def watching(x, sigma):
        sizes.append(len(x))
        return wrong(x, sigma)

    likelihood_bound(watching, x0, sde, times=times, batch=7, generator=generator(1))
    assert sizes == [7, 7, 7, 7, 2]
    x = torch.rand(2, 1, 3, 3, generator=generator())
    assert likelihood_bound(lambda x, sigma: -x, x, sde, times=2, generator=generator()).shape == (2,)


def test_bits():
    assert bits_per_dimension(math.log(2), 1) == pytest.approx(1)
    assert bits_per_dimension(torch.tensor([3072 * 2 * math.log(2)]), 3072).item() == pytest.approx(2)


def test_losses_say_what_is_wrong():
    x0 = torch.full((4, 2), 0.5)
    with pytest.raises(ValueError, match="one of variance, likelihood, got 'sigma'"):
        denoising_loss(wrong, x0, SDE, weighting="sigma")
    for sde, data, match in (
        (SDE, 2 * x0 - 2, r"expects \[0, 1\], got -1 to -1"),
        (SDE, (255 * x0).to(torch.uint8), "divide by 255"),
        (SDE, x0 * math.nan, "got nan"),
    ):
        with pytest.raises(ValueError, match=match):
            denoising_loss(wrong, data, sde)
    for t in (torch.rand(3), torch.rand(4, 1)):
        with pytest.raises(ValueError, match=r"shape \(4,\)"):
            denoising_loss(wrong, x0, SDE, t)
    with pytest.raises(
        ValueError, match=r"sigma_min = 0.01 mixes .* 256 gray levels.*at most 0.00049.*dequantize"
    ):
        likelihood_bound(wrong, x0, SDE)
    with pytest.raises(ValueError, match="mixes neighbors"):
        likelihood_bound(wrong, x0, ReflectedSDE(1.001 / (255 * 8)))
    likelihood_bound(wrong, x0, ReflectedSDE(1 / (255 * 8)), times=1)
    with pytest.raises(ValueError, match="ReflectedSDE, got VESDE"):
        likelihood_bound(wrong, x0, VESDE(1e-4))
    with pytest.raises(ValueError, match=r"expects \[0, 1\], got 1.5 to 1.5"):
        likelihood_bound(wrong, x0 + 1, ReflectedSDE(1e-4))
