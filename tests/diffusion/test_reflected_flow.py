"""The probability flow and its likelihoods against SciPy's solvers and closed forms."""

import math

import numpy as np
import pytest
import reflected_reference as reference
import torch

from loupe.diffusion.reflected import (
    VESDE,
    KernelMixture,
    ReflectedSDE,
    bump,
    corner_mixture,
    flow,
    log_likelihood,
    unfolded,
)
from loupe.diffusion.reflected.flow import _on_the_line

DOUBLE = torch.float64
SDE = ReflectedSDE()
MIXTURE = corner_mixture()
FIXED = ["euler", "midpoint", "heun2", "rk4"]
CHOOSING = ["dopri5", "dopri8", "bosh3", "adaptive_heun"]


def generator(seed=0):
    return torch.Generator().manual_seed(6000 + seed)


def uniform(n, seed=0, side=0.01):
    return side + (1 - 2 * side) * torch.rand(n, 2, generator=generator(seed), dtype=DOUBLE)


def tight(size=1e-8):
    return {"rtol": size, "atol": size}


# ---- the flow


def test_flows_by_scipy():
    x = uniform(2)
    for start, end in ((1.0, 0.0),):
        found = flow(MIXTURE.score, SDE, x, start=start, end=end, **tight()).x
        wanted = reference.flow(reference.mixture_score, x.numpy(), start, end)
        np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)
    there = flow(MIXTURE.score, SDE, x, start=0.0, end=1.0, **tight()).x
    back = flow(MIXTURE.score, SDE, there, **tight()).x
    torch.testing.assert_close(back, x, rtol=0, atol=5e-4)


@pytest.mark.parametrize("method", [*CHOOSING, *FIXED])
def test_every_method(method):
    x = uniform(6, 1)
    wanted = flow(MIXTURE.score, SDE, x, end=0.3, **tight()).x
    options = {"steps": 400 if method == "euler" else 60} if method in FIXED else tight(1e-5)
    found = flow(MIXTURE.score, SDE, x, end=0.3, method=method, **options)
    torch.testing.assert_close(found.x, wanted, rtol=0, atol=1e-2)
    assert found.evaluations > 20


def test_orders():
    x = uniform(20, 2)
    wanted = flow(MIXTURE.score, SDE, x, end=0.3, **tight(1e-9)).x
    for method, order in (("euler", 1), ("heun2", 2), ("midpoint", 2), ("rk4", 4)):
        errors = [
            (flow(MIXTURE.score, SDE, x, end=0.3, method=method, steps=steps).x - wanted).abs().mean().item()
            for steps in (40, 80)
        ]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.15 * order)


def test_heun_by_definition():
    x, steps = uniform(5, 3), 10
    found = flow(MIXTURE.score, SDE, x, method="heun2", steps=steps)

    def slope(t, u):
        return reference.velocity(t, u, outside, 0.01, 5.0)

    def outside(u, sigma):
        return np.where(np.mod(u, 2) > 1, -1, 1) * reference.mixture_score(reference.fold(u), sigma)

    wanted = []
    for point in x.numpy():
        for k in range(steps):
            t, s = 1 - k / steps, 1 - (k + 1) / steps
            first = slope(t, point)
            point = point + (s - t) * (first + slope(s, point + (s - t) * first)) / 2
        wanted.append(reference.fold(point))
    np.testing.assert_allclose(found.x, wanted, rtol=0, atol=1e-9)
    assert found.evaluations == 2 * steps


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_evaluations_are_counted(dtype):
    asked = []

    def score(x, sigma):
        asked.append(len(x))
        return 0.1 * (0.5 - x) / (1 + sigma.view(-1, 1, 1, 1) ** 2)

    x = torch.rand(3, 1, 2, 2, generator=generator(), dtype=dtype)
    for options in ({}, {"method": "bosh3"}, {"method": "rk4", "steps": 5}):
        asked.clear()
        assert flow(score, SDE, x, **options).evaluations == len(asked)
        asked.clear()
        assert log_likelihood(score, SDE, x, noise_vectors=2, **options).evaluations == len(asked)
    for steps in (1, 3, 49, 61):
        for start, end in ((1.0, 0.0), (0.9, 0.2), (0.0, 1.0)):
            found = flow(lambda x, sigma: 0 * x, SDE, x, method="euler", steps=steps, start=start, end=end)
            assert found.evaluations == steps


def test_times_on_the_way():
    x = uniform(7)
    path = flow(MIXTURE.score, SDE, x, times=[1.0, 0.6, 0.25, 0.0], **tight())
    assert path.x.shape == (4, 7, 2)
    assert torch.equal(path.x[0], x)
    for k, end in enumerate((0.6, 0.25, 0.0), start=1):
        alone = flow(MIXTURE.score, SDE, x, end=end, **tight()).x
        torch.testing.assert_close(path.x[k], alone, rtol=0, atol=2e-5)
    up = flow(MIXTURE.score, SDE, x, times=(0.0, 0.5, 1.0), start=0.0, end=1.0, method="rk4", steps=8)
    torch.testing.assert_close(
        up.x[1], flow(MIXTURE.score, SDE, x, start=0.0, end=0.5, method="rk4", steps=4).x, rtol=0, atol=1e-9
    )


def test_flows_stay_inside():
    """Points may not leave the cube, whatever a score says; the true one does not want to."""
    x, visited = uniform(300, side=0.0), []

    def watching(x, sigma):
        visited.append((x.min().item(), x.max().item()))
        return MIXTURE.score(x, sigma)

    end = flow(watching, SDE, x).x
    assert end.min() >= 0
    assert end.max() <= 1
    assert all(low >= 0 and high <= 1 for low, high in visited)
    # On the line that is unfolded, too: each interval is mapped to itself, to the tolerance.
    walls = torch.tensor([(0.0, 0.0), (1.0, 1.0), (0.0, 1.0), (0.3, 0.0)], dtype=DOUBLE)
    stayed = flow(MIXTURE.score, SDE, walls, **tight(1e-6)).x
    assert (stayed[:3] - walls[:3]).abs().max() < 1e-5
    assert stayed[3, 1].abs() < 1e-6

    def wild(x, sigma):
        return 3 * torch.cos(9 * x) / sigma.view(-1, 1)

    for options in ({}, {"method": "euler", "steps": 7}):
        end = flow(wild, SDE, x.float(), **options).x
        assert end.min() >= 0
        assert end.max() <= 1
        assert end.dtype == torch.float32


def test_the_flow_has_the_distribution():
    x = SDE.limit((2000, 2), generator(), dtype=DOUBLE)
    end = flow(MIXTURE.score, SDE, x, rtol=1e-4, atol=1e-4).x
    for axis in range(2):

        def cumulative(at, axis=axis):
            return sum(
                share * reference.distribution(at, point[axis], math.hypot(reference.WIDTH, 0.01))
                for point, share in zip(reference.CORNERS, reference.SHARES, strict=True)
            )

        assert reference.kolmogorov_smirnov(end[:, axis], cumulative) < 1.95 / math.sqrt(2000)


def test_velocities_beyond_the_walls():
    """They continue oddly: the velocity of a point's image is the image of its velocity."""
    x, t = uniform(20, 4), torch.full((20,), 0.6, dtype=DOUBLE)
    velocity, _ = _on_the_line(MIXTURE.score, SDE, None, DOUBLE)
    for sign, shift in ((-1, 0), (-1, 2), (1, -2), (1, 4), (-1, -4)):
        found = velocity(sign * x + shift, t)
        torch.testing.assert_close(found, sign * velocity(x, t), rtol=1e-9, atol=1e-9)

    # The same by hand, on the line, for a score that presses against the wall at 1.
    def pressing(x, sigma):
        return 1 / (sigma.view(-1, 1) + 0.5) + 0 * x

    found = flow(pressing, SDE, x, method="euler", steps=40).x
    line = x.clone()
    for k in range(40):
        inside, direction = unfolded(line)
        sigma = SDE.sigma(torch.tensor(1 - k / 40, dtype=DOUBLE)).expand(20)
        line = line + direction * SDE.growth * sigma[:, None] ** 2 * pressing(inside, sigma) / 40
    torch.testing.assert_close(found, unfolded(line)[0], rtol=0, atol=1e-9)


# ---- the mollifier


def test_bump():
    for dtype in (torch.float32, DOUBLE):
        x = torch.linspace(0, 1, 101, dtype=dtype).requires_grad_()
        for width in (200.0, 1.0, 1e4):
            values = bump(x, width)
            (slope,) = torch.autograd.grad(values.sum(), x)
            assert slope.isfinite().all()
            values = values.detach()
            assert values[50] == 1
            assert values[0] == values[-1] == 0
            torch.testing.assert_close(values, values.flip(0), rtol=1e-4, atol=1e-6)
            assert (values[:51].diff() >= 0).all()
        at = torch.tensor([0.01], dtype=dtype)
        assert bump(at).item() == pytest.approx(math.exp((4 - 1 / 0.0099) / 200), rel=1e-5)
        outside = bump(torch.tensor([-0.1, 1.2, -3.0], dtype=dtype))
        assert torch.equal(outside, torch.zeros(3, dtype=dtype))


def test_mollified_flows():
    """The published width slows points within a hundredth of a wall: points move by 5e-3 in the mean, few by more.

    A width of 2000 moves none by more than that.
    """
    x = uniform(60)
    plain = flow(MIXTURE.score, SDE, x, **tight(1e-6)).x
    apart = (flow(MIXTURE.score, SDE, x, mollifier=200.0, **tight(1e-6)).x - plain).abs()
    assert apart.mean() < 5e-3
    assert apart.quantile(0.9) < 5e-3
    assert apart.max() > 1e-3
    wide = (flow(MIXTURE.score, SDE, x, mollifier=2000.0, **tight(1e-6)).x - plain).abs()
    assert wide.max() < 5e-3
    found = flow(MIXTURE.score, SDE, x[:3], mollifier=200.0, **tight()).x
    wanted = reference.flow(
        reference.mixture_score,
        x[:3].numpy(),
        1,
        0,
        factor=lambda x: np.exp((4 - 1 / np.maximum(x * (1 - x), 1e-12)) / 200),
    )
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-6)

    # What a score presses against a wall does not reach it: no fold is met.
    def pressing(x, sigma):
        return 1 / (sigma.view(-1, 1) + 0.5) + 0 * x

    end = flow(pressing, SDE, x, mollifier=200.0).x
    assert (end >= x - 1e-3).all()
    assert end.max() < 1


# ---- likelihoods


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE])
def test_likelihoods_are_exact(dtype):
    """R7: with the true score the flow's density is that of the distribution."""
    x, _ = MIXTURE.sample(500 if dtype == DOUBLE else 50, generator())
    x[:3] = torch.tensor([(0.0, 0.0), (1.0, 0.3), (0.4, 1.0)])
    mixture = corner_mixture(dtype)
    size = 2e-8 if dtype == DOUBLE else 1e-5
    found = log_likelihood(mixture.score, SDE, x.to(dtype), **tight(size))
    assert found.nats.dtype == dtype
    assert found.nats.shape == (len(x),)
    error = (found.nats - mixture.log_density(x.to(dtype), 0.01)).abs().max()
    assert error < (1e-4 if dtype == DOUBLE else 2e-2)
    assert ((found.end >= 0) & (found.end <= 1)).all()


def test_likelihoods_at_the_walls():
    """Points of data lie there, and a fold has a derivative there, too."""
    values = torch.tensor([0.0, 1.0, 0.4], dtype=DOUBLE)
    x = torch.cartesian_prod(values, values)
    found = log_likelihood(MIXTURE.score, SDE, x, **tight(1e-7)).nats
    torch.testing.assert_close(found, MIXTURE.log_density(x, 0.01), rtol=0, atol=2e-3)


def test_likelihoods_by_scipy():
    """Of a score that is no score of a distribution: the density is that of its flow."""

    def other(x, sigma):
        return MIXTURE.score(x, sigma) + torch.sin(torch.pi * x) * torch.cos(3 * x.flip(1))

    def its(x, sigma):
        return reference.mixture_score(x, sigma) + np.sin(np.pi * x) * np.cos(3 * x[:, ::-1])

    x = torch.tensor([(0.95, 0.3)], dtype=DOUBLE)
    found = log_likelihood(other, SDE, x, **tight()).nats
    wanted = reference.log_likelihood(its, x.numpy())
    np.testing.assert_allclose(found, wanted, rtol=0, atol=2e-4)
    assert (found - MIXTURE.log_density(x, 0.01)).abs().max() > 0.05


def test_random_signs_are_unbiased():
    x = MIXTURE.sample(1, generator())[0]
    options = tight(1e-4)
    exact = log_likelihood(MIXTURE.score, SDE, x, **options).nats
    many = log_likelihood(
        MIXTURE.score, SDE, x.expand(60, 2), noise_vectors=1, generator=generator(1), **options
    ).nats
    spread = many.std() / math.sqrt(60)
    assert spread > 1e-4
    assert abs(many.mean() - exact) < 4 * spread + 1e-3
    again = log_likelihood(
        MIXTURE.score, SDE, x.expand(60, 2), noise_vectors=1, generator=generator(1), **options
    ).nats
    assert torch.equal(many, again)
    more = log_likelihood(
        MIXTURE.score, SDE, x.expand(60, 2), noise_vectors=4, generator=generator(1), **options
    ).nats
    assert more.std().item() == pytest.approx(many.std().item() / 2, rel=0.4)

    # Where the derivatives of a score are diagonal one sign is exact.
    def diagonal(x, sigma):
        return 0.1 * torch.cos(3 * x) / (1 + sigma.view(-1, 1) ** 2)

    x = uniform(10)
    pair = [log_likelihood(diagonal, SDE, x, noise_vectors=noise_vectors).nats for noise_vectors in (None, 1)]
    torch.testing.assert_close(*pair, rtol=1e-6, atol=1e-6)


def test_likelihoods_of_images():
    """Any shape; a score without any pull is the uniform distribution; gradients are not kept."""
    x = torch.rand(4, 1, 3, 2, generator=generator(), dtype=DOUBLE)
    found = log_likelihood(lambda x, sigma: 0 * x, SDE, x)
    assert found.nats.abs().max() == 0
    torch.testing.assert_close(found.end, x)
    scale = torch.tensor(0.05, requires_grad=True)

    def pulling(x, sigma):
        return scale * (0.5 - x) / (1 + sigma.view(-1, *(1,) * (x.ndim - 1)) ** 2)

    found = log_likelihood(pulling, SDE, x, mollifier=200.0)
    assert found.nats.shape == (4,)
    assert not found.nats.requires_grad
    flat = log_likelihood(pulling, SDE, x.flatten(1), mollifier=200.0)
    torch.testing.assert_close(flat.nats, found.nats)
    with torch.no_grad():
        again = log_likelihood(pulling, SDE, x, mollifier=200.0)
    torch.testing.assert_close(again.nats, found.nats)


def mass(change):
    """The integral of the flow's density in one dimension, for the score of a mixture that is changed by a function."""
    single = KernelMixture(torch.tensor([[0.2], [1.0]], dtype=DOUBLE), torch.ones(2, dtype=DOUBLE), 0.1)

    def score(x, sigma):
        return single.score(x, sigma) + change(x) / (1 + sigma[:, None] ** 2)

    x = torch.linspace(0, 1, 201, dtype=DOUBLE)[:, None]
    nats = log_likelihood(score, SDE, x, **tight(1e-5)).nats
    return torch.trapezoid(nats.exp(), x[:, 0]).item()


@pytest.mark.parametrize(
    "change",
    [
        lambda x: 0 * x,
        lambda x: 0.5 * torch.sin(torch.pi * x),
        lambda x: -0.2 * torch.sin(2 * torch.pi * x),
        lambda x: 0.5 * x * (1 - x),
    ],
)
def test_likelihoods_have_mass_one(change):
    """Where the score vanishes at both walls: the true one, and others that are none of a distribution."""
    assert mass(change) == pytest.approx(1, abs=2e-3)


@pytest.mark.parametrize(
    ("change", "low", "high"),
    [
        (lambda x: -0.5 * torch.cos(torch.pi * x), 0, 0.5),  # points into both walls
        (lambda x: x - 0.5, 0, 0.5),
        (lambda x: 0.2 * torch.cos(torch.pi * x), 1.3, 3),  # points away from both
        (lambda x: -0.3 * x, 1.3, 3),
    ],
)
def test_likelihoods_have_another_mass_where_scores_do_not_vanish_at_the_walls(change, low, high):
    """As the docstring warns: paths stick to a wall, and the divergence does not see it."""
    assert low < mass(change) < high


def test_the_exploding_twin():
    """One Gaussian datum: scale and shift are known."""
    centre, spread = torch.tensor([0.3, 0.7], dtype=DOUBLE), 0.1
    sde = VESDE()

    def score(x, sigma):
        return (centre - x) / (spread**2 + sigma.view(-1, 1) ** 2)

    x = uniform(6)
    first, last = (math.hypot(spread, sigma) for sigma in (sde.sigma_min, sde.sigma_max))
    end = centre + (x - centre) * last / first
    normal = torch.distributions.Normal(0.5, torch.tensor(5.0, dtype=DOUBLE))
    wanted = normal.log_prob(end).sum(1) + 2 * math.log(last / first)
    for noise_vectors in (None, 1):
        found = log_likelihood(score, sde, x, noise_vectors=noise_vectors, **tight(1e-7))
        torch.testing.assert_close(found.nats, wanted, rtol=0, atol=1e-4)
        torch.testing.assert_close(found.end, end, rtol=0, atol=1e-4)
    back = flow(score, sde, end, **tight(1e-7)).x
    torch.testing.assert_close(back, x, rtol=0, atol=1e-5)
    # Data outside the cube are data.
    assert log_likelihood(score, sde, x + 3).nats.isfinite().all()


# ---- bad input


def test_flows_say_what_is_wrong():
    x = uniform(3)
    for options, match in (
        ({"method": "rk45"}, "one of dopri5.*got 'rk45'"),
        ({"method": "euler"}, "euler takes equal steps: say how many"),
        ({"steps": 5}, r"dopri5 chooses its own steps \(steps is 5\)"),
        ({"method": "rk4", "steps": 0}, "steps must be a positive whole number, got 0"),
        ({"rtol": 0.0}, "rtol and atol must be above 0, got 0.0"),
        ({"atol": -1.0}, "above 0"),
        ({"mollifier": 0.0}, "above 0, or None for none, got 0.0"),
        ({"mollifier": -200.0}, "got -200"),
        ({"mollifier": math.nan}, "got nan"),
    ):
        for run in (flow, log_likelihood):
            with pytest.raises(ValueError, match=match):
                run(MIXTURE.score, SDE, x, **options)
    for run in (flow, log_likelihood):
        with pytest.raises(ValueError, match="this process has none"):
            run(MIXTURE.score, VESDE(), x, mollifier=200.0)
    with pytest.raises(ValueError, match=r"noise_vectors.*must be a positive whole number, got 0"):
        log_likelihood(MIXTURE.score, SDE, x, noise_vectors=0)
    for data, match in ((x + 1, r"expects \[0, 1\]"), ((255 * x).to(torch.uint8), "divide by 255")):
        with pytest.raises(ValueError, match=match):
            log_likelihood(MIXTURE.score, SDE, data)
