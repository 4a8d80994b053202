"""Mixtures of heat kernels, losses, and the probability flow."""

import math
import warnings

import pytest
import torch

from loupe.diffusion.riemannian import (
    HeatKernel,
    denoising_loss,
    heat_mixture,
    implicit_loss,
    log_likelihood,
    probability_flow,
    sample,
)
from loupe.geometry import SpecialOrthogonal, SpecialUnitary, Sphere, Torus

MANIFOLDS = [Torus(2), Sphere(2), SpecialOrthogonal(3)]
WEIGHTS = torch.tensor([0.5, 0.3, 0.2])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture(manifold, sigmas=0.4):
    centers = manifold.random(3, *manifold.event_shape, generator=generator(), dtype=torch.float64)
    return heat_mixture(manifold, centers, 2 * WEIGHTS, sigmas)  # weights need not add up to 1


@pytest.mark.parametrize("manifold", [*MANIFOLDS, SpecialUnitary(3)])
def test_mixtures_add_weighted_kernels(manifold):
    mix, kernel = mixture(manifold, torch.tensor([0.2, 0.4, 0.6])), HeatKernel(manifold)
    x = mix.sample(50, generator(1))
    sigma = torch.linspace(0.1, 1, 50, dtype=torch.float64)
    parts = [
        math.log(w) + kernel.log_density(x, c, torch.hypot(s, sigma))
        for w, c, s in zip(WEIGHTS.tolist(), mix.centers, mix.sigmas, strict=True)
    ]
    torch.testing.assert_close(
        mix.log_density(x, sigma), torch.stack(parts).logsumexp(0), rtol=1e-6, atol=1e-6
    )
    u, h = manifold.random_tangent(x, generator(2)), 1e-5
    low, high = (mix.log_density(manifold.exp(x, e * u), sigma) for e in (-h, h))
    slope = manifold.inner(x, mix.score(x, sigma), u)
    torch.testing.assert_close(slope, (high - low) / (2 * h), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("manifold", MANIFOLDS)
def test_likelihoods_are_exact_where_the_score_is(manifold):
    mix = mixture(manifold)
    x = mix.sample(5, generator(1))
    found = log_likelihood(mix.score, x, manifold, sigma_min=0.02, sigma_max=6.0, steps=60)
    torch.testing.assert_close(found, mix.log_density(x, 0.02), rtol=0, atol=1e-4)
    rough = log_likelihood(
        lambda y, s: 0.9 * mix.score(y, s), x, manifold, sigma_min=0.02, sigma_max=6.0, steps=20
    )
    assert (rough - mix.log_density(x)).abs().max() > 1e-2  # the control: a wrong score is seen


def test_likelihoods_on_su3_take_any_callable():
    """The score Re tr of a fixed matrix is a gradient; the density gained is the divergence's integral."""
    manifold = SpecialUnitary(3)
    x = manifold.random(2, 3, 3, generator=generator(), dtype=torch.float64)

    def score(y, sigma):
        return (
            manifold.to_tangent(y, torch.eye(3, dtype=y.dtype).expand_as(y)) * (-sigma).exp()[:, None, None]
        )

    one, two = (log_likelihood(score, x, manifold, sigma_min=0.1, sigma_max=3.0, steps=n) for n in (10, 20))
    torch.testing.assert_close(one, two, rtol=0, atol=1e-4)
    assert one.abs().max() > 0.1


@pytest.mark.parametrize("manifold", MANIFOLDS)
def test_samples_follow_the_mixture(manifold):
    mix = mixture(manifold)
    x = sample(
        mix.score,
        manifold,
        (400, *manifold.event_shape),
        sigma_min=1e-2,
        sigma_max=6.0,
        steps=40,
        generator=generator(),
    )
    wanted = mix.log_density(mix.sample(4000, generator(1)))
    found = mix.log_density(x.double())
    assert abs(found.mean() - wanted.mean()) < 4 * wanted.std() / 20
    steps = sample(
        mix.score, manifold, (4, *manifold.event_shape), sigma_min=0.1, sigma_max=6.0, steps=3, path=True
    )
    assert steps.shape == (4, 4, *manifold.event_shape)


def test_hutchinson_estimates_average_to_the_exact_divergence():
    mix, manifold = mixture(Sphere(2)), Sphere(2)
    x = mix.sample(3, generator(1))
    options = {"sigma_min": 0.1, "sigma_max": 6.0, "steps": 20}
    exact = log_likelihood(mix.score, x, manifold, **options)
    signs = torch.tensor([[1.0, 1.0], [1.0, -1.0]], dtype=torch.float64)
    guesses = [log_likelihood(mix.score, x, manifold, noise=s.expand(3, 2), **options) for s in signs]
    torch.testing.assert_close(sum(guesses) / 2, exact, rtol=0, atol=1e-6)
    assert (guesses[0] - exact).abs().max() > 1e-2


@pytest.mark.parametrize("manifold", [*MANIFOLDS, SpecialUnitary(3)])
def test_without_a_score_nothing_moves(manifold):
    """Not even with one that is normal to the manifold; the density is then uniform, and the loss the target's size."""
    x = manifold.random(4, *manifold.event_shape, generator=generator(), dtype=torch.float64)
    sigmas = {"sigma_min": 0.1, "sigma_max": 6.0, "steps": 2}

    def score(y, sigma):
        return (
            torch.zeros_like(y) if isinstance(manifold, Torus) else sigma[(..., *[None] * manifold.ndim)] * y
        )

    volume = 0.0 if isinstance(manifold, SpecialUnitary) else manifold.log_volume_like(x)
    found = log_likelihood(score, x, manifold, **sigmas)
    torch.testing.assert_close(found, torch.full_like(found, -volume))
    torch.testing.assert_close(sample(score, manifold, x.shape, start=x, **sigmas), x)
    kernel = HeatKernel(manifold)
    noisy = kernel.sample(x, 0.5, generator(1))
    target = kernel.score(noisy, x, 0.5)
    loss = denoising_loss(score, kernel, x, 0.5, generator=generator(1))
    torch.testing.assert_close(loss, 0.25 * manifold.inner(noisy, target, target))
    torch.testing.assert_close(implicit_loss(score, manifold, x, 0.5), torch.zeros_like(found))


def test_few_steps_stay_on_the_sphere_and_follow_the_generator():
    mix, options = mixture(Sphere(2), 0.1), {"sigma_min": 0.1, "sigma_max": 6.0, "steps": 4}
    one, two = (sample(mix.score, Sphere(2), (50, 3), generator=generator(3), **options) for _ in range(2))
    assert torch.equal(one, two)
    torch.testing.assert_close(one.norm(dim=-1), torch.ones(50))


def test_draws_from_mixtures_have_their_weights_and_widths():
    centers, sigmas = torch.tensor([[1.0], [4.0]], dtype=torch.float64), torch.tensor([0.3, 0.1])
    mix = heat_mixture(Torus(1), centers, torch.tensor([1.0, 3.0]), sigmas)
    x = mix.sample(4000, generator())
    assert torch.equal(x, mix.sample(4000, generator()))
    first = (x < 2.5)[:, 0]
    assert first.double().mean().item() == pytest.approx(0.25, abs=0.03)
    assert x[first].std().item() == pytest.approx(0.3, rel=0.1)
    assert x[~first].std().item() == pytest.approx(0.1, rel=0.1)


@pytest.mark.parametrize(
    ("manifold", "gap"),
    [(Torus(2), 1), (Sphere(2), 2), (SpecialOrthogonal(3), 2), (SpecialUnitary(3), 8 / 3)],
)
def test_a_base_that_is_not_uniform_is_said(manifold, gap):
    """The slowest mode has to fall below e^-3."""
    edge, options = (6 / gap) ** 0.5, {"sigma_min": 0.1, "steps": 1}
    x = manifold.random(1, *manifold.event_shape, generator=generator())
    for run in (
        lambda s: log_likelihood(lambda y, t: 0 * y, x, manifold, sigma_max=s, **options),
        lambda s: sample(lambda y, t: 0 * y, manifold, x.shape, sigma_max=s, **options),
    ):
        with pytest.warns(UserWarning, match=r"still at 0\.05"):
            run(0.99 * edge)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(1.01 * edge)


def test_the_score_of_su3_has_no_divergence_and_says_so():
    mix, x = mixture(SpecialUnitary(3)), torch.eye(3, dtype=torch.complex128)[None]
    with pytest.raises(RuntimeError, match="its score has no divergence: call it on a batch"):
        log_likelihood(mix.score, x, SpecialUnitary(3), sigma_min=0.1, sigma_max=6.0, steps=1)


@pytest.mark.parametrize("manifold", [*MANIFOLDS, SpecialUnitary(3)])
def test_the_denoising_loss_is_least_at_the_exact_score(manifold):
    mix = mixture(manifold)
    x0 = mix.sample(2000, generator(1))
    x = mix.kernel.sample(x0, 0.5, generator(2))

    def loss(score):
        return denoising_loss(score, mix.kernel, x0, 0.5, x=x)

    exact = loss(mix.score)
    for factor in (0.8, 1.2):
        worse = loss(lambda y, s, factor=factor: factor * mix.score(y, s)) - exact
        assert worse.mean() > 3 * worse.std() / 2000**0.5
    target = mix.kernel.score(x, x0, 0.5)
    torch.testing.assert_close(loss(lambda y, s: target), torch.zeros(2000, dtype=torch.float64))
    torch.testing.assert_close(
        loss(lambda y, s: torch.zeros_like(y)), 0.25 * manifold.inner(x, target, target)
    )


@pytest.mark.parametrize("manifold", MANIFOLDS)
def test_the_implicit_loss_is_the_denoising_loss_less_a_constant(manifold):
    mix, wrong = mixture(manifold), mixture(manifold, 0.7)
    x0 = mix.sample(4000, generator(1))
    x = mix.kernel.sample(x0, 0.5, generator(2))
    target = mix.kernel.score(x, x0, 0.5)
    gap = denoising_loss(wrong.score, mix.kernel, x0, 0.5, x=x) - implicit_loss(wrong.score, manifold, x, 0.5)
    gap = gap - 0.25 * manifold.inner(x, target, target)
    assert gap.mean().abs() < 4 * gap.std() / 4000**0.5
    dimension = manifold.dimension_like(x)
    signs = 1 - 2 * torch.randint(2, (4000, dimension), generator=generator(3)).double()
    sliced = implicit_loss(wrong.score, manifold, x, 0.5, noise=signs) - implicit_loss(
        wrong.score, manifold, x, 0.5
    )
    assert sliced.abs().max() > 1e-3
    assert sliced.mean().abs() < 4 * sliced.std() / 4000**0.5


def test_losses_reach_the_network():
    torch.manual_seed(0)
    network, manifold = torch.nn.Linear(3, 3).double(), Sphere(2)
    x0 = manifold.random(8, 3, generator=generator(), dtype=torch.float64)
    x = HeatKernel(manifold).sample(x0, 0.5, generator(1))
    for loss in (
        lambda: denoising_loss(lambda y, s: network(y), HeatKernel(manifold), x0, 0.5, x=x),
        lambda: implicit_loss(lambda y, s: network(y), manifold, x, 0.5),
    ):
        weight, h = network.weight, 1e-6
        (gradient,) = torch.autograd.grad(loss().sum(), weight)
        values = []
        for e in (h, -2 * h):
            with torch.no_grad():
                weight[0, 1] += e
            values.append(loss().sum())
        with torch.no_grad():
            weight[0, 1] += h
        assert gradient[0, 1].item() == pytest.approx(
            ((values[0] - values[1]).sum() / (2 * h)).item(), rel=1e-5
        )


def test_bad_input_is_named():
    mix, manifold, x = mixture(Sphere(2)), Sphere(2), torch.eye(3, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"the score must have shape \(3, 3\), got \(3,\)"):
        denoising_loss(lambda y, s: s, mix.kernel, x, 0.5)
    with pytest.raises(ValueError, match="weights must be positive and finite, got -1"):
        heat_mixture(manifold, x, torch.tensor([1.0, -1.0, 1.0]))
    for weight in (0.0, math.inf):
        with pytest.raises(ValueError, match=f"weights must be positive and finite, got {weight:g}"):
            heat_mixture(manifold, x, torch.tensor([1.0, weight, 1.0]))
    with pytest.raises(ValueError, match="at least one center, got none"):
        heat_mixture(manifold, x[:0])
    with pytest.raises(ValueError, match=r"weights must have shape \(3,\), got \(2,\)"):
        heat_mixture(manifold, x, torch.ones(2))
    with pytest.raises(ValueError, match="sigma_min must be positive and below sigma_max, got 0"):
        log_likelihood(mix.score, x, manifold, sigma_min=0.0, sigma_max=6.0)
    with pytest.raises(ValueError, match=r"below sigma_max, got 6\.0 and 0\.1"):
        sample(mix.score, manifold, (3, 3), sigma_min=6.0, sigma_max=0.1)
    with pytest.raises(ValueError, match=r"noise must have shape \(3, 2\), got \(3,\)"):
        implicit_loss(mix.score, manifold, x, 0.5, noise=torch.ones(3))
    with pytest.raises(ValueError, match="sigma must be 0 or positive and finite, got -1"):
        mix.log_density(x, -1.0)
    with pytest.raises(ValueError, match=r"centers must have shape \(3, 3\), got \(3,\)"):
        heat_mixture(manifold, x[0])
    with pytest.raises(ValueError, match="steps must be a positive whole number"):
        sample(mix.score, manifold, (3, 3), sigma_min=0.1, sigma_max=6.0, steps=0)
    with pytest.raises(RuntimeError, match="log-likelihood of point 1 is not finite"):
        log_likelihood(
            lambda y, s: torch.where(torch.arange(3)[:, None] == 1, torch.nan, mix.score(y, s)),
            x, manifold, sigma_min=0.1, sigma_max=6.0, steps=2,
        )  # fmt: skip
    with pytest.warns(UserWarning, match="the slowest mode is still at 0.37"):
        log_likelihood(mix.score, x, manifold, sigma_min=0.1, sigma_max=1.0, steps=2)
    velocity = probability_flow(mix.score, manifold)(x, math.log(0.5))
    torch.testing.assert_close(velocity, -0.25 * mix.score(x, 0.5))
