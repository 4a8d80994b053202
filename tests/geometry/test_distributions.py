"""Distributions on manifolds: masses by quadrature, moments of samples, scipy; and what a weighted sample is worth."""

import math

import numpy as np
import pytest
import scipy.special
import scipy.stats
import torch

from loupe.geometry import (
    SPD,
    Hyperboloid,
    PoincareBall,
    Product,
    SpecialOrthogonal,
    SpecialUnitary,
    Sphere,
    Torus,
    VonMisesFisher,
    WrappedNormal,
    to_hyperboloid,
)
from loupe.metrics import effective_sample_size

DOUBLE = torch.float64
PACKED = Product((Sphere(), 3), (SpecialUnitary(2), (2, 2)), (Torus(2), 2))
CASES = {
    "torus": (Torus(2), (2,), 1.5),
    "sphere": (Sphere(), (4,), 0.3),
    "ball": (PoincareBall(-0.7), (3,), 0.8),
    "hyperboloid": (Hyperboloid(-0.7), (3,), 0.8),
    "SO3": (SpecialOrthogonal(3), (3, 3), 0.4),
    "SU3": (SpecialUnitary(3), (3, 3), 0.4),
    "SPD": (SPD(), (2, 2), 0.6),
    "product": (PACKED, (13,), 0.3),
}


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def legendre(low, high, n=400):
    nodes, weights = (torch.from_numpy(a) for a in np.polynomial.legendre.leggauss(n))
    return low + (high - low) * (1 + nodes) / 2, weights * (high - low) / 2


@pytest.mark.parametrize("name", CASES)
def test_samples_are_normal_and_dense_where_the_density_says(name):
    """Coordinates of the samples, and a mean under one scale by weighted samples of another."""
    space, shape, scale = CASES[name]
    mean = space.random(*shape, generator=generator(), dtype=torch.complex128 if space.complex else DOUBLE)
    wanted = WrappedNormal(space, mean, scale)
    x = wanted.sample((4000,), generator(1))
    assert x.shape == (4000, *shape)
    space.check(x)
    a = space.coordinates(mean, space.log(mean, x))
    if name != "torus":  # wide enough to go round
        torch.testing.assert_close(
            a.T @ a / 4000 / scale**2, torch.eye(a.shape[1], dtype=DOUBLE), rtol=0, atol=0.1
        )
    wide = WrappedNormal(space, mean, 1.1 * scale)
    y = wide.sample((4000,), generator(2))
    ratio = (wanted.log_prob(y) - wide.log_prob(y)).exp()
    assert ratio.mean().item() == pytest.approx(1, abs=5 * ratio.std().item() / 4000**0.5)


def test_masses_by_quadrature():
    """A quarter of each scale is beyond the places where geodesics meet, so that all turns count."""
    angle, weight = legendre(0, math.pi)
    zero = torch.zeros_like(angle)
    circle = torch.stack([angle.cos(), angle.sin()], -1)
    found = (
        2
        * weight
        @ WrappedNormal(Sphere(), circle[:1] * 0 + circle.new_tensor([1.0, 0]), 2.5).log_prob(circle).exp()
    )
    assert found.item() == pytest.approx(1, abs=1e-9)
    north = torch.tensor([1.0, 0, 0], dtype=DOUBLE)
    on_sphere = torch.stack([angle.cos(), angle.sin(), zero], -1)
    area = 2 * math.pi * angle.sin() * weight
    for density in (WrappedNormal(Sphere(), north, 1.2), VonMisesFisher(north, 7.0)):
        assert (area @ density.log_prob(on_sphere).exp()).item() == pytest.approx(1, abs=2e-5)
    turn = SpecialOrthogonal(3)
    eye = torch.eye(3, dtype=DOUBLE)
    u = turn.from_frame(eye, torch.stack([angle, zero, zero], -1))
    density = WrappedNormal(turn, eye, 1.6).log_prob(turn.exp(eye.expand_as(u), u)).exp()
    assert (8 * math.pi * (1 - angle.cos()) * weight @ density).item() == pytest.approx(1, abs=1e-6)
    grid = legendre(0, 2 * math.pi)[0]
    torus = torch.cartesian_prod(grid, grid)
    weights = torch.cartesian_prod(2 * weight, 2 * weight).prod(-1)
    scale = torch.tensor([0.5, 3.0], dtype=DOUBLE)
    density = WrappedNormal(Torus(2), torch.tensor([0.2, 5.0], dtype=DOUBLE), scale).log_prob(torus).exp()
    assert (weights @ density).item() == pytest.approx(1, abs=1e-9)
    far, weight = legendre(0, 12)
    for curvature in (-1.0, -2.3):
        c = -curvature
        points = Hyperboloid(curvature).exp0(torch.stack([0 * far, far, 0 * far], -1))
        mean = torch.tensor([c**-0.5, 0, 0], dtype=DOUBLE)
        density = WrappedNormal(Hyperboloid(curvature), mean, 1.0).log_prob(points).exp()
        ring = 2 * math.pi * (c**0.5 * far).sinh() / c**0.5
        assert (ring * weight @ density).item() == pytest.approx(1, abs=1e-9)


def test_scales_by_coordinate_and_by_mean():
    ball, sheet = PoincareBall(-1.0), Hyperboloid(-1.0)
    mean = ball.random(6, 2, generator=generator(), dtype=DOUBLE)
    x = ball.random(6, 2, generator=generator(1), dtype=DOUBLE)
    scale = torch.tensor([[0.3, 1.2]], dtype=DOUBLE)
    # Both charts have one frame, so one distribution.
    torch.testing.assert_close(
        WrappedNormal(ball, mean, scale).log_prob(x),
        WrappedNormal(sheet, to_hyperboloid(mean), scale).log_prob(to_hyperboloid(x)),
    )
    each = torch.linspace(0.5, 1, 6, dtype=DOUBLE)
    found = WrappedNormal(ball, mean, each[:, None]).log_prob(x)
    rows = [WrappedNormal(ball, m, s.item()).log_prob(y) for m, s, y in zip(mean, each, x, strict=True)]
    torch.testing.assert_close(found, torch.stack(rows))
    inputs = [a.clone().requires_grad_() for a in (mean, each[:, None], x)]
    assert torch.autograd.gradcheck(lambda m, s, x: WrappedNormal(ball, m, s).log_prob(x), inputs)
    assert WrappedNormal(Sphere(), torch.tensor([1.0, 0, 0])).sample((2, 3)).dtype == torch.float32
    north = torch.tensor([1.0, 0, 0], dtype=DOUBLE)
    assert WrappedNormal(Sphere(), north).log_prob(north).item() == pytest.approx(-math.log(2 * math.pi))


@pytest.mark.parametrize("d", [2, 3, 4, 10, 128])
@pytest.mark.parametrize("kappa", [1e-3, 1.0, 30.0, 500.0, 1e5])
def test_von_mises_and_fisher(d, kappa):
    mean = Sphere().random(d, generator=generator(), dtype=DOUBLE)
    x = Sphere().random(5, d, generator=generator(1), dtype=DOUBLE)
    order = d / 2 - 1
    bessel = np.log(scipy.special.ive([order, order + 1], kappa))
    norm = order * math.log(kappa) - d / 2 * math.log(2 * math.pi) - bessel[0] - kappa
    density = VonMisesFisher(mean, kappa)
    torch.testing.assert_close(density.log_prob(x), norm + kappa * (x @ mean), rtol=1e-9, atol=1e-9)
    if kappa <= 500 and d < 100:
        peer = scipy.stats.vonmises_fisher(mean.numpy(), kappa).logpdf(x.numpy())
        torch.testing.assert_close(density.log_prob(x), torch.from_numpy(peer), rtol=1e-9, atol=1e-8)
    along = density.sample((4000,), generator(2)) @ mean
    resultant = math.exp(bessel[1] - bessel[0])
    assert along.mean().item() == pytest.approx(resultant, abs=4 * along.std().item() / 4000**0.5)


def test_von_mises_and_fisher_in_batches_and_at_zero():
    mean = Sphere().random(6, 3, generator=generator(), dtype=DOUBLE)
    kappa = torch.linspace(0, 5, 6, dtype=DOUBLE)
    density = VonMisesFisher(mean, kappa)
    assert density.sample((7,), generator(1)).shape == (7, 6, 3)
    assert density.log_prob(mean)[0].item() == pytest.approx(-math.log(4 * math.pi))
    inputs = kappa[1:].clone().requires_grad_()
    for check in (torch.autograd.gradcheck, torch.autograd.gradgradcheck):
        assert check(lambda k: VonMisesFisher(mean[1:], k).log_prob(mean[:5]), inputs)
    single = VonMisesFisher(mean.float(), 1000.0).log_prob(mean.float())
    torch.testing.assert_close(
        single.double(), VonMisesFisher(mean, 1000.0).log_prob(mean), rtol=1e-5, atol=1e-5
    )


def test_refusals():
    north = torch.tensor([1.0, 0, 0])
    for build, message in (
        (lambda: WrappedNormal(Sphere(), north, 0.0), "scale must be positive and finite, got 0"),
        (lambda: WrappedNormal(Sphere(), 2 * north), "unit sphere"),
        (lambda: VonMisesFisher(north, -1.0), "concentration must be at least 0 and finite, got -1"),
        (lambda: VonMisesFisher(north + 1, 1.0), "unit sphere"),
        (lambda: effective_sample_size([0.0]), "log_weights must be a tensor"),
        (lambda: effective_sample_size(torch.zeros(3, 0)), "n at least 1"),
        (lambda: effective_sample_size(torch.tensor([1, 2])), "floating-point numbers, got torch.int64"),
    ):
        with pytest.raises(ValueError, match=message):
            build()
    unitary = SpecialUnitary(3)
    x = unitary.random(3, 3, generator=generator())
    with pytest.raises(ValueError, match="leads round the group with probability"):
        WrappedNormal(unitary, x, 1.0).log_prob(x)


def test_effective_sample_size():
    weights = torch.rand(4, 50, generator=generator(), dtype=DOUBLE)
    wanted = weights.sum(-1) ** 2 / (50 * weights.square().sum(-1))
    torch.testing.assert_close(effective_sample_size(weights.log()), wanted)
    torch.testing.assert_close(effective_sample_size(weights.log() + 1e4), wanted, rtol=1e-8, atol=0)
    one = torch.tensor([0.0, *[-torch.inf] * 9])
    assert effective_sample_size(one).item() == pytest.approx(0.1)
    assert effective_sample_size(torch.zeros(7)).item() == pytest.approx(1)
    for bad in (torch.nan, torch.inf):
        assert effective_sample_size(torch.tensor([bad, 0.0])).isnan()
    # Of a normal, weighted to another of half the width: known in closed form.
    x = torch.randn(200_000, generator=generator(1), dtype=DOUBLE)
    assert effective_sample_size(-1.5 * x.square()).item() == pytest.approx(7**0.5 / 4, abs=0.01)
