"""Bridges between given ends: coefficients in 50 digits, moment equations, scores, and how they are called."""

import math

import bridge_reference as ref
import pytest
import torch
from bridge_reference import DOUBLE, VE, VP, both, every, generator, normal, refused
from torch.testing import assert_close

from loupe.diffusion import bridges as b

T = torch.tensor([0.1, 0.2, 0.5, 0.9], dtype=DOUBLE)


@every
def test_coefficients_in_fifty_digits(bridge):
    t = ref.times_of(bridge)
    wanted = ref.table(bridge, t)
    assert_close(torch.stack([*bridge.coefficients(t), bridge.growth(t)]), wanted[:4], rtol=1e-12, atol=0)
    assert_close(bridge.snr(t), bridge.snr(bridge.t_max) / bridge.ratio(t)[0], rtol=1e-12, atol=0)
    single = torch.cat([torch.tensor([1e-4, bridge.t_min]), ref.times_of(bridge).float()])[:-1]
    found, wanted = torch.stack(bridge.coefficients(single)).double(), ref.table(bridge, single)[:3]
    assert_close(found[:, :2], wanted[:, :2], rtol=1e-6, atol=1e-25)
    near = 4e-5 if bridge == ref.BRIDGES["VP steep"] else 1e-6  # alpha is the exponential of -45
    assert_close(found, wanted, rtol=near, atol=1e-25)
    ends = torch.stack(bridge.coefficients(torch.tensor([0.0, bridge.t_max], dtype=DOUBLE)))
    assert_close(ends, torch.tensor([[0.0, 1], [1, 0], [0, 0]], dtype=DOUBLE), rtol=0, atol=1e-15)
    assert [each.item() for each in bridge.coefficients(0)] == [0, 1, 0]


@every
def test_moment_equations_of_the_pinned_sde(bridge):
    """The mean follows dx = [f x + g^2 h] dt, and the variance the equation that belongs to it."""
    t = ref.times_of(bridge)[2:-2].requires_grad_()
    found = a, b_, c = bridge.coefficients(t)
    slopes = [torch.autograd.grad(each.sum(), t, retain_graph=True)[0] for each in found]
    f, g2 = ref.rates(bridge, t := t.detach())
    *_, growth, pace = ref.table(bridge, t)
    pull = g2 * pace
    wanted = (f - pull) * a + pull * growth, (f - pull) * b_, 2 * (f - pull) * c + g2
    size = pull * (a + b_ + c) + g2  # terms next to an end cancel
    assert all(((x - y).abs() < 1e-9 * size).all() for x, y in zip(slopes, wanted, strict=True))


@every
def test_chapman_kolmogorov(bridge):
    """From x_T to a later time, and on to an earlier one by the posterior of the diffusion without the pin."""
    s, t = torch.tensor([[0.01, 0.2, 0.5], [0.3, 0.21, 0.99]], dtype=DOUBLE) * bridge.t_max
    a, b_, c = bridge.coefficients(t)
    on_xt, on_x0, variance = bridge.sde.posterior_coefficients(s, t)
    composed = on_xt * a, on_xt * b_ + on_x0, on_xt**2 * c + variance
    assert_close(bridge.coefficients(s), composed, rtol=1e-11, atol=0)


@every
def test_h_and_scores_are_derivatives_of_log_densities(bridge):
    """200 points; the score of the kernel is that of the diffusion plus h (B1)."""
    x0, y, noise = normal(3, 200, 2, 3)
    t = bridge.t_min + (bridge.t_max - bridge.t_min) * torch.rand(200, generator=generator(), dtype=DOUBLE)
    a, b_, c = ref.table(bridge, t)[:3, :, None, None]
    x = bridge.sample(x0, y, t, noise=noise).requires_grad_()
    assert_close(x.detach(), a * y + b_ * x0 + c.sqrt() * noise)
    assert_close(bridge.sample(x0, y, t[2].item(), noise=noise)[2], x[2].detach())
    wide = t.view(-1, 1, 1)
    alpha, sigma, spread = bridge.sde.alpha(wide), bridge.sde.sigma(wide), bridge.sde.sigma(bridge.t_max)
    scale = bridge.sde.alpha(bridge.t_max) / alpha
    end = torch.distributions.Normal(scale * x, (spread**2 - (scale * sigma) ** 2).sqrt())
    h = bridge.h(x, t, y)
    assert_close(h, torch.autograd.grad(end.log_prob(y).sum(), x)[0], rtol=1e-9, atol=1e-9)
    found, route = bridge.score(x, t, y, x0), (alpha * x0 - x) / sigma**2 + h
    assert ((found - route).norm() / route.norm()) < 1e-9
    assert_close(bridge.h(x, 0.0, y), bridge.h(x, 1e-9, y), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, DOUBLE, torch.bfloat16])
@ref.shapes
@both
def test_shapes_and_dtypes(bridge, shape, dtype):
    (x, y), t = normal(2, 4, *shape).to(dtype), T * bridge.t_max
    flow = bridge.probability_flow(lambda x, t, y: x / 2, y, guidance=t)
    pair = b.TwoModePair()
    calls = (bridge.h, lambda *at: bridge.score(*at, y), pair.denoiser(bridge), lambda x, t, y: flow(x, t),
             lambda x, t, y: bridge.sample(x, y, t, generator()), lambda x, t, y: pair.sample(y + 0 * x))  # fmt: skip
    for call in calls:
        found = call(x, t, y)
        assert (found.shape, found.dtype) == (x.shape, dtype)
        assert found.isfinite().all()
        bad = call(x.clone().index_fill_(0, torch.tensor(0), math.nan), t, y)
        assert bad[0].isnan().all()
        assert bad[1:].isfinite().all()


@both
def test_exact_denoisers_are_posterior_means(bridge):
    """By quadrature over the targets."""
    y, x = torch.tensor([[-0.8, 0.3, 1.0], [-0.5, 0.1, 0.9]], dtype=DOUBLE)
    x0 = torch.linspace(-3, 3, 6001, dtype=DOUBLE)[:, None]
    gauss = lambda x, mean, var: torch.exp(-((x - mean) ** 2) / (2 * var))  # noqa: E731
    mean = lambda values, mass: (values * mass).sum(0) / mass.sum(0)  # noqa: E731
    modes = gauss(x0, 0.7 + 0.2 * y, 0.05**2) + gauss(x0, -0.7 + 0.2 * y, 0.05**2)
    for pair, prior in ((b.GaussianPair(), gauss(x0, 0.6 * y - 0.1, 0.09)), (b.TwoModePair(), modes)):
        for t in (0.05 * bridge.t_max, 0.4 * bridge.t_max, 0.99 * bridge.t_max):
            a, b_, c = ref.table(bridge, [t])[:3]
            found = pair.denoiser(bridge)(x, torch.full((3,), t, dtype=DOUBLE), y)
            assert_close(found, mean(x0, prior * gauss(x, a * y + b_ * x0, c)), rtol=1e-8, atol=1e-8)
        drawn = pair.sample(y.expand(100_000, 3), generator())
        assert_close(drawn.mean(0), mean(x0, prior), rtol=0, atol=0.01)
        assert_close((drawn**2).mean(0), mean(x0**2, prior), rtol=0.01, atol=0)


def test_bad_input():
    x, t, two, bytes_ = normal(4, 3), ref.HALF, normal(2, 3), ref.BYTES
    late, nan = torch.tensor([0.5, 1 + 1e-7], dtype=DOUBLE), math.nan
    flow = lambda D, **options: VP.probability_flow(D, x, **options)(x, t)  # noqa: E731
    refused([
        ("sigma_max must be above 0", lambda: b.VEBridge(0.0), lambda: b.VEBridge(nan)),
        ("beta_d and beta_min must be at", lambda: b.VPBridge(-1.0), lambda: b.VPBridge(0, 0), lambda: b.VPBridge(nan)),
        ("v must be above 0", lambda: b.GaussianPair(v=0.0), lambda: b.GaussianPair(v=nan)),
        ("std must be above 0", lambda: b.TwoModePair(std=0.0), lambda: b.TwoModePair(std=nan)),
        (r"lie in \[0, 1\], got", lambda: VP.coefficients(1.1), lambda: VP.coefficients(late)),
        (r"lie in \[0, 80\], got -0.1 to 3", lambda: VE.snr(torch.tensor([3.0, -0.1]))),
        ("x_T must have shape", lambda: VP.sample(x, two, t), lambda: VP.h(x, t, two)),
        ("x_T must have shape", lambda: VP.score(x, t, two, x), lambda: b.GaussianPair().denoiser(VP)(x, t, two)),
        ("the noise must have shape", lambda: VP.sample(x, x, t, noise=two)),
        ("x_T must hold floating-point numbers, got torch.uint8", lambda: VP.sample(x, bytes_, t)),
        ("points must hold floating-point", lambda: VP.sample(bytes_, x, t)),
        ("denoised points must have shape", lambda: VP.score(x, t, x, x[:1]), lambda: flow(lambda *at: x[:1])),
        ("guidance must be one number", lambda: flow(lambda *at: x, guidance=t[:1])),
        ("t must be one number or one per", lambda: VP.sample(x, x, t[:1]), lambda: VP.sample(x, x, t[:3])),
    ])  # fmt: skip
    tenth = b.VEBridge(0.1)  # above its float32, so rounded times are not above the end
    assert tenth.coefficients(torch.tensor([0.1]))[2] >= 0
    assert VP.coefficients(torch.tensor([nan]))[2].isnan()
