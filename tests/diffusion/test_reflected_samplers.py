"""Samplers in the cube: step by step, in distribution, as published, and what goes wrong."""

import math

import numpy as np
import pytest
import reflected_reference as reference
import torch

from loupe.diffusion.reflected import (
    VESDE,
    ReflectedSDE,
    corner_mixture,
    euler_reflected,
    interior_tweedie,
    sample,
    thresholded,
)

DOUBLE = torch.float64
SDE = ReflectedSDE()
MIXTURE = corner_mixture()
WALLS = {"fold": reference.fold, "clip": lambda x: np.clip(x, 0, 1)}
walls = pytest.mark.parametrize("walls", list(WALLS))


def generator(seed=0):
    return torch.Generator().manual_seed(5000 + seed)


def noises(made, n, shape):
    return [torch.randn(shape, generator=made, dtype=DOUBLE).numpy() for _ in range(n)]


def drawn(n=30, seed=0, **options):
    given = {"steps": 20, "generator": generator(seed), "dtype": DOUBLE} | options
    return sample(MIXTURE.score, given.pop("sde", SDE), (n, 2), **given)


# ---- step by step


@walls
@pytest.mark.parametrize("steps", [1, 2, 9])
def test_steps_by_definition(walls, steps):
    start = torch.rand(12, 2, generator=generator(), dtype=DOUBLE)
    before = start.clone()
    found = drawn(12, 1, start=start, steps=steps, walls=walls, denoise=False)
    wanted = reference.sampler(
        reference.mixture_score, start.numpy(), noises(generator(1), steps, (12, 2)), wall=WALLS[walls]
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-9)
    assert torch.equal(start, before)
    denoised = drawn(12, 1, start=start, steps=steps, walls=walls)
    clean = wanted + 0.01**2 * reference.mixture_score(wanted, np.full(12, 0.01))
    np.testing.assert_allclose(denoised, np.clip(clean, 0, 1), rtol=0, atol=1e-9)
    torch.testing.assert_close(interior_tweedie(MIXTURE.score, found, SDE), denoised)


def test_the_start_is_drawn_first():
    x = torch.rand((8, 2), generator=(made := generator(3)), dtype=DOUBLE).numpy()
    wanted = reference.sampler(reference.mixture_score, x, noises(made, 5, (8, 2)))
    np.testing.assert_allclose(drawn(8, 3, steps=5, denoise=False), wanted, rtol=0, atol=1e-9)


@pytest.mark.parametrize("correct", [0, 1, 2])
@pytest.mark.parametrize("smallest", [0.01, 0.1])
def test_the_published_steps(correct, smallest):
    """N - 1 of them, of g^2 / N each, at times of linspace(1, 1e-5, N); the noise of the last stays."""
    sde, seen, N = ReflectedSDE(smallest, 0.5), [], 7

    def score(x, sigma):
        seen.append(sigma[0].item())
        return MIXTURE.score(x, sigma)

    start = torch.rand(12, 2, generator=generator(), dtype=DOUBLE)
    found = sample(
        score, sde, (12, 2), steps=N, compat="official", correct=correct, start=start,
        generator=generator(1), dtype=DOUBLE,
    )  # fmt: skip
    made = generator(1)
    plain, corrections = [], []
    for _ in range(N - 1):
        plain += noises(made, 1, (12, 2))
        corrections.append(noises(made, correct, (12, 2)))
    wanted = reference.published_sampler(
        reference.mixture_score, start.numpy(), plain, smallest, 0.5, corrections=corrections
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-7)
    levels = reference.level(np.linspace(1, 1e-5, N)[:-1], smallest, 0.5).repeat(1 + correct)
    np.testing.assert_allclose(seen, levels, rtol=1e-9)


def test_corrections_without_a_score():
    """At much noise the exact score is nothing, in single precision too: the step has no end, the points stay."""
    mixture = corner_mixture(torch.float32)
    found = sample(mixture.score, SDE, (50, 2), steps=15, compat="official", correct=1, generator=generator())
    assert ((found >= 0) & (found <= 1)).all()
    flat = sample(
        lambda x, sigma: 0 * x, SDE, (50, 2), steps=3, compat="official", correct=2, generator=generator()
    )
    assert ((flat >= 0) & (flat <= 1)).all()


@walls
def test_never_outside(walls):
    seen = []

    def wild(x, sigma):
        return 30 * torch.cos(50 * x) / sigma.view(-1, 1)

    for compat, dtype in ((None, torch.float32), ("official", torch.float32), (None, DOUBLE)):
        x = sample(
            wild, SDE, (500, 3), steps=12, walls=walls, compat=compat, dtype=dtype, generator=generator(),
            callback=lambda k, x: seen.append((k, x)),
        )  # fmt: skip
        seen.append((None, x))
        assert x.dtype == dtype
    assert all(x.min() >= 0 and x.max() <= 1 for _, x in seen)
    assert [k for k, _ in seen] == [*range(13), None, *range(12), None, *range(13), None]


def test_determinism():
    first = drawn()
    assert torch.equal(first, drawn())
    assert not torch.equal(first, drawn(seed=1))
    assert torch.equal(first, drawn(walls="fold", compat=None))
    torch.manual_seed(3)
    a = drawn(generator=None)
    torch.manual_seed(3)
    assert torch.equal(a, drawn(generator=None))
    assert drawn(0).shape == (0, 2)


def test_without_walls():
    """The exploding twin runs on the line; with a threshold its samples end in the cube."""
    sde, seen = VESDE(), []

    def score(x, sigma):
        return (0.4 - x) / (0.1**2 + sigma.view(-1, 1) ** 2)

    x = sample(
        score, sde, (3000, 2), steps=300, denoise=False, generator=generator(), dtype=DOUBLE,
        callback=lambda k, x: seen.append(x),
    )  # fmt: skip
    assert seen[0].abs().max() > 5
    assert abs(x.mean() - 0.4) < 5 * 0.1 / math.sqrt(6000)
    assert x.std().item() == pytest.approx(math.hypot(0.1, 0.01), rel=0.06)
    clipped = sample(
        thresholded(score, "static"), sde, (300, 2), steps=50, walls="clip", generator=generator()
    )
    assert ((clipped >= 0) & (clipped <= 1)).all()


# ---- in distribution


def cumulative(axis):
    def at(x):
        return sum(
            share * reference.distribution(x, point[axis], math.hypot(reference.WIDTH, 0.01))
            for point, share in zip(reference.CORNERS, reference.SHARES, strict=True)
        )

    return at


def distances(x):
    return [reference.kolmogorov_smirnov(x[:, axis], cumulative(axis)) for axis in range(2)]


def energy(x, y):
    def mean(a, b):
        return torch.cdist(a, b).mean()

    return (2 * mean(x, y) - mean(x, x) - mean(y, y)).item()


def test_many_steps_have_the_distribution():
    n = 1500
    x = drawn(n, steps=160, denoise=False)
    assert max(distances(x)) < 1.95 / math.sqrt(n)
    one, two = (MIXTURE.sample(n, generator(k))[0] for k in (1, 2))
    assert energy(x, one) < 4 * energy(two, one) + 1e-3
    # Each component has its share.
    shares = MIXTURE.log_posterior(x).exp().mean(0)
    assert (shares - torch.from_numpy(reference.SHARES)).abs().max() < 4 * math.sqrt(0.25 / n)


def test_clipping_has_the_distribution_but_for_the_walls():
    """It leaves on them a share that falls as the square root of the steps; folding leaves none."""
    found = {}
    for steps in (8, 32, 128):
        for walls in WALLS:
            x = drawn(1000, walls=walls, steps=steps, denoise=False)
            found[walls, steps] = ((x == 0) | (x == 1)).double().mean().item()
    assert max(distances(x)) < 3 / math.sqrt(1000)
    assert found["fold", 8] == found["fold", 32] == found["fold", 128] == 0
    for fewer, more in ((8, 32), (32, 128)):
        assert 1.5 < found["clip", fewer] / found["clip", more] < 2.6


def test_folding_is_of_order_one_and_clipping_of_half():
    """R6, of fewer paths: a reflected process with a drift, from its stationary distribution."""
    n, spread = 100_000, 0.6 / math.sqrt(8)
    normal = torch.distributions.Normal(torch.tensor(0.1, dtype=DOUBLE), spread)
    low, high = (normal.cdf(torch.tensor(at, dtype=DOUBLE)) for at in (0.0, 1.0))

    def quantiles(shares):
        return normal.icdf(low + (high - low) * shares)

    wanted = quantiles((torch.arange(n, dtype=DOUBLE) + 0.5) / n)
    start = quantiles(torch.rand(n, generator=generator(), dtype=DOUBLE))
    steps, found = [8, 16, 32, 64], {}
    for walls in WALLS:
        ends = [
            euler_reflected(
                lambda x: -4 * (x - 0.1), 0.6, start, time=1, steps=k, walls=walls, generator=generator(1)
            )
            for k in steps
        ]
        assert all(end.min() >= 0 and end.max() <= 1 for end in ends)
        found[walls] = np.array([(end.sort().values - wanted).abs().mean().item() for end in ends])
    assert (found["fold"] < found["clip"] / 2).all()
    slope = np.polyfit(np.log(steps), np.log(found["clip"]), 1)[0]
    assert -0.6 < slope < -0.35


def test_reflected_euler_by_definition():
    x = torch.rand(9, generator=generator(), dtype=DOUBLE)
    before = x.clone()
    for walls, wall in WALLS.items():
        found = euler_reflected(
            lambda x: 3 - x, 0.7, x, time=2.0, steps=4, walls=walls, generator=generator(1)
        )
        wanted = x.numpy()
        for z in noises(generator(1), 4, (9,)):
            wanted = wall(wanted + 0.5 * (3 - wanted) + 0.7 * math.sqrt(0.5) * z)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12)
    assert torch.equal(x, before)


# ---- bad input


def test_samplers_say_what_is_wrong():
    for options, match in (
        ({"walls": "bounce"}, "one of fold, clip, got 'bounce'"),
        ({"compat": "published"}, "None or 'official', got 'published'"),
        ({"correct": 1}, "compat='official'"),
        ({"steps": 0}, "steps must be a positive whole number, got 0"),
        ({"steps": -3}, "positive whole number, got -3"),
        ({"steps": 0, "compat": "official"}, "steps must be a positive whole number, got 0"),
    ):
        with pytest.raises(ValueError, match=match):
            drawn(**options)
    for options, match in (
        ({"walls": "bounce"}, "got 'bounce'"),
        ({"steps": 0}, "steps must be a positive whole number, got 0"),
    ):
        with pytest.raises(ValueError, match=match):
            euler_reflected(torch.zeros_like, 1.0, torch.rand(3), **({"time": 1, "steps": 2} | options))


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_scores_that_are_no_numbers(value):
    def broken(below):
        return lambda x, sigma: torch.where(sigma.view(-1, 1) < below, value, 0 * x)

    with pytest.raises(RuntimeError, match=r"step 0 and sigma 5"):
        sample(broken(9), SDE, (3, 2), steps=4)
    with pytest.raises(RuntimeError, match=r"step 2 and sigma 0.22"):
        sample(broken(0.5), SDE, (3, 2), steps=4)
    # The last question is that of the denoising.
    with pytest.raises(RuntimeError, match=r"sigma 0.01"):
        sample(broken(0.011), SDE, (3, 2), steps=4)
    assert sample(broken(0.011), SDE, (3, 2), steps=4, denoise=False).isfinite().all()
