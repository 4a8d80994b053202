"""Kernels, preconditioning and losses of bridges beside 50 digits, moment equations, quadrature, and EDM; I2SB's loss."""

import math
from functools import partial

import bridge_reference as ref
import pytest
import torch
from bridge_reference import DOUBLE, VE, VP, both, every, generator, normal, refused
from torch.testing import assert_close

from loupe.diffusion import bridges as b
from loupe.diffusion.continuous import edm_preconditioning

T = torch.tensor([0.1, 0.2, 0.5, 0.9], dtype=DOUBLE)
MOMENTS = (0.51, 0.82, 0.3)  # standard deviations of targets and sources, and their covariance
CASES = [b.Preconditioning(VE, *MOMENTS), b.Preconditioning(VP, *MOMENTS), b.Preconditioning(VP),
         b.Preconditioning(VP, 0.5, 0.5, -0.2), b.Preconditioning(VE, *MOMENTS, simple=True)]  # fmt: skip
NAMES = ("c_in", "c_skip", "c_out", "weight")
I2SB = b.BrownianBridge()
PARTS = ([0.0, 0.5], [0.5, 1.0], [0.0, 0.6, 0.4, 1.0])  # times of no whole path
cases = pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))


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
def test_whole_paths_have_the_moments_of_the_kernel(bridge):
    """At every time, and between two times those of the posterior of the diffusion without the pin."""
    times = bridge.t_max * torch.tensor([0.0, 0.1, 0.5, 0.9, 1.0], dtype=DOUBLE)
    x0, x_T, n = (
        torch.full((2, 20_000), 0.3, dtype=DOUBLE),
        torch.full((2, 20_000), -0.8, dtype=DOUBLE),
        20_000,
    )
    path = bridge.path(x0, x_T, times, generator())
    assert path.shape == (5, 2, n)
    assert_close(path[[0, -1]], torch.stack([x0, x_T]), rtol=0, atol=1e-12 * bridge.t_max)
    a, b_, c = bridge.coefficients(times[1:-1])
    z = (path[1:-1] - (a * -0.8 + b_ * 0.3)[:, None, None]) / c.sqrt()[:, None, None]
    assert (z.mean(-1).abs() < 5 / n**0.5).all()
    assert ((z.var(-1) - 1).abs() < 5 * (2 / n) ** 0.5).all()
    on_later = bridge.sde.posterior_coefficients(times[1:-2], times[2:-1])[0]
    together = on_later * (c[1:] / c[:-1]).sqrt()  # correlation of neighbors
    assert_close((z[:-1] * z[1:]).mean((1, 2)), together, rtol=0, atol=0.03)
    single = bridge.path(x0[:, :3].float(), x_T[:, :3].float(), times, generator())
    assert single.dtype == torch.float32


@every
def test_h_and_scores_are_derivatives_of_log_densities(bridge):
    """200 points; the score of the kernel is that of the diffusion plus h (B1)."""
    x0, y, noise = normal(3, 200, 2, 3)
    t = bridge.t_min + (bridge.t_max - bridge.t_min) * torch.rand(200, generator=generator(), dtype=DOUBLE)
    a, b_, c = ref.table(bridge, t)[:3, :, None, None]
    x = bridge.sample(x0, y, t, noise=noise).requires_grad_()
    assert_close(x.detach(), a * y + b_ * x0 + c.sqrt() * noise)
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
        wanted = torch.stack([mean(x0, prior), mean(x0**2, prior)])
        assert_close(torch.stack([drawn, drawn**2]).mean(1), wanted, rtol=0, atol=0.005)


@cases
def test_coefficients(case):
    s0, sT, k = case.sigma_0, case.sigma_T, case.covariance
    for t in ref.times_of(case.bridge):
        a, b_, c = ref.exact(case.bridge, t)[:3]
        A = a**2 * sT**2 + b_**2 * s0**2 + 2 * a * b_ * k + c
        c_skip, c_out = (b_ * s0**2 + a * k) / A, math.sqrt((a**2 * (sT**2 * s0**2 - k**2) + s0**2 * c) / A)
        wanted = (1, 0, 1, 1) if case.simple else (A**-0.5, c_skip, c_out, c_out**-2)
        assert [getattr(case, name)(t).item() for name in NAMES] == pytest.approx(wanted, rel=1e-12)


def test_inputs_and_targets_have_variance_one():
    """Monte Carlo, 2e5 pairs of these moments, at 8 times."""
    (s0, sT, k), (first, second, noise) = MOMENTS, normal(3, 200_000)
    x0, x_T = s0 * first, k / s0 * first + math.sqrt(sT**2 - (k / s0) ** 2) * second
    for case in CASES[:2]:
        for t in torch.tensor([1e-4, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0], dtype=DOUBLE) * case.bridge.t_max:
            x = case.bridge.sample(x0, x_T, t, noise=noise)
            scaled, target = case.c_in(t) * x, (x0 - case.c_skip(t) * x) / case.c_out(t)
            moments = torch.stack([scaled, target]).cov()
            assert_close(moments, torch.eye(2, dtype=DOUBLE), rtol=0, atol=0.02)
    found = b.Preconditioning.of_pairs(VP, x0.view(100, -1), x_T.view(100, -1), simple=True)
    assert (found.sigma_0, found.sigma_T, found.covariance) == pytest.approx(MOMENTS, abs=0.005)
    assert (found.sigma_0, found.simple) == (pytest.approx(x0.std(correction=0).item(), rel=1e-12), True)


def test_targets_plus_noise_are_edm():
    t = ref.times_of(VE)[:-3]
    case, wanted = b.Preconditioning(VE, 0.5, math.sqrt(0.25 + 80**2), 0.25), edm_preconditioning(t, 0.5)
    for name in NAMES:
        assert_close(getattr(case, name)(t), getattr(wanted, name), rtol=1e-10, atol=0)


@cases
def test_the_loss_is_that_of_the_denoiser(case):
    (x0, x_T, noise), seen = normal(3, 6, 2, 3), []
    low, high = case.bridge.t_min, case.bridge.t_max
    drawn, again = generator(2), generator(2)  # times come first, uniform; then noise
    t = low + (high - low) * torch.rand(6, generator=again, dtype=DOUBLE)
    drawn_noise = torch.randn(x0.shape, generator=again, dtype=DOUBLE)
    of = partial(b.bridge_loss, lambda *given: seen.append(given) or ref.bent(*given), x0, x_T, case)
    assert_close(of(drawn), of(t=t, noise=drawn_noise))
    found, D = of(t=t, noise=noise), case.denoiser(ref.bent)
    x = case.bridge.sample(x0, x_T, t, noise=noise)
    c_in, c_skip, c_out, weight = (getattr(case, name)(t).view(-1, 1, 1) for name in NAMES)
    assert_close(found, (weight * (D(x, t, x_T) - x0) ** 2).mean((1, 2)), rtol=1e-9, atol=1e-12)
    assert_close(D(x, t, x_T), c_skip * x + c_out * ref.bent(c_in * x, x_T, t.log() / 4))
    assert_close(D(x, t[0], x_T)[0], D(x, t, x_T)[0])
    assert_close(seen[-1], (c_in * x, x_T, t.log() / 4))
    single = b.bridge_loss(of.args[0], x0.float(), x_T.float(), case, t=t, noise=noise.float())
    assert {each.dtype for each in (*seen[-1], single)} == {torch.float32}


def test_rivals():
    """Variances by quadrature, and losses from their definitions."""
    grid = torch.linspace(0, 1, 20_001, dtype=DOUBLE)
    roots = math.sqrt(0.1) + torch.minimum(grid, 1 - grid) * (math.sqrt(0.3) - math.sqrt(0.1))
    wanted = torch.cumulative_trapezoid(roots**2, grid)
    assert_close(I2SB.variance(grid[1:].float()), wanted, rtol=1e-6, atol=1e-8)
    assert_close(I2SB.variance(grid[1:]), wanted, rtol=1e-7, atol=1e-12)
    model, again = (lambda x, t: torch.sin(x + t.view(-1, 1, 1))), generator(1)
    x0, x_T = normal(2, 4, 2, 3)
    t = 1e-3 + (1 - 1e-3) * torch.rand(4, generator=again, dtype=DOUBLE)
    noise, wide = torch.randn(x0.shape, generator=again, dtype=DOUBLE), t.view(-1, 1, 1)
    first, later = I2SB.variance(wide), I2SB.variance(1) - I2SB.variance(wide)
    x = (later * x0 + first * x_T) / (first + later) + (first * later / (first + later)).sqrt() * noise
    wanted = ((model(x, t) - (x - x0) / first.sqrt()) ** 2).mean((1, 2))
    assert_close(b.i2sb_loss(model, x0, x_T, I2SB, t=t, noise=noise), wanted)
    assert_close(b.i2sb_loss(model, x0, x_T, I2SB, generator(1)), wanted)
    wanted = ((model((1 - wide) * x0 + wide * x_T, t) - (x_T - x0)) ** 2).mean((1, 2))
    assert_close(b.rectified_flow_loss(model, x0, x_T, t=t), wanted)
    assert_close(b.rectified_flow_loss(model, x0, x_T, generator(1)), wanted)


LOSSES = {
    "bridge": lambda F, x0, y, t, z: b.bridge_loss(F, x0, y, CASES[1], t=t, noise=z),
    "i2sb": lambda F, x0, y, t, z: b.i2sb_loss(lambda x, t: F(x, x, t), x0, y, I2SB, t=t, noise=z),
    "flow": lambda F, x0, y, t, z: b.rectified_flow_loss(lambda x, t: F(x, x, t), x0, y, t=t),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradients_maps_precisions_and_the_compiler(loss):
    W, t = normal(3, 3), torch.tensor([0.02, 0.3, 0.6, 0.97], dtype=DOUBLE)
    x0, x_T, noise = normal(3, 4, 3)
    of = lambda W, *at: loss(lambda *given: ref.bent(*given) @ W, *at)  # noqa: E731
    inputs = W.requires_grad_(), x0.clone().requires_grad_()
    assert torch.autograd.gradcheck(lambda W, x0: of(W, x0, x_T, t, noise), inputs)
    given = W, x0, x_T, t, noise
    one = torch.func.grad(lambda W, *at: of(W, *[each.unsqueeze(0) for each in at]).sum())
    slopes = torch.func.vmap(one, (None, 0, 0, 0, 0))(W.detach(), *given[1:])
    assert_close(slopes.sum(0), torch.autograd.grad(of(*given).sum(), W)[0])
    torch.compiler.reset()
    assert_close(torch.compile(of, backend="eager", fullgraph=True)(*given), of(*given))
    with torch.autocast("cpu", torch.bfloat16):
        half = of(*[each.detach().float() for each in given])
    assert half.dtype == torch.float32
    assert_close(half.double(), of(*given).detach(), rtol=0.05, atol=0.05)
    x0[1, 0] = math.nan
    assert of(*given).isnan().tolist() == [False, True, False, False]


def test_bad_input():
    x, two, t, P = normal(4, 3), normal(2, 3), ref.HALF, partial(b.Preconditioning, VP)
    late, nan = torch.tensor([0.5, 1 + 1e-7], dtype=DOUBLE), math.nan
    flow = lambda D, **options: VP.probability_flow(D, x, **options)(x, t)  # noqa: E731
    of_pairs = partial(b.Preconditioning.of_pairs, VP)
    for loss in LOSSES.values():
        of = partial(loss, lambda x, *other: x)
        refused([
            ("x_T must have shape", partial(of, x, two, ref.HALF, x)),
            ("x_T must hold floating-point numbers, got torch.uint8", partial(of, x, ref.BYTES, ref.HALF, x)),
            ("x0 must hold floating-point", partial(of, ref.BYTES, x, ref.HALF, x)),
            ("output must have shape", *[partial(loss, lambda *_: y, x, x, ref.HALF, x) for y in (two, x[None])]),  # noqa: B023
            ("one number or one per sample", partial(of, x, x, ref.HALF[:1], x)),
            (r"lie in \[0, 1\]", partial(of, x, x, ref.HALF + 0.6, x)),
        ])  # fmt: skip
    refused([
        ("sigma_max must be above 0", lambda: b.VEBridge(0.0), lambda: b.VEBridge(nan)),
        ("beta_d and beta_min must be at", lambda: b.VPBridge(-1.0), lambda: b.VPBridge(0, 0), lambda: b.VPBridge(nan)),
        ("(v|std) must be above 0", *[partial(p, 0, 0, v) for p in (b.GaussianPair, b.TwoModePair) for v in (0, nan)]),
        (r"lie in \[0, 1\], got", lambda: VP.coefficients(1.1), lambda: VP.coefficients(late)),
        (r"lie in \[0, 80\], got -0.1 to 3", lambda: VE.snr(torch.tensor([3.0, -0.1]))),
        ("x_T must have shape", lambda: VP.sample(x, two, t), lambda: VP.h(x, t, two)),
        ("x_T must have shape", lambda: VP.score(x, t, two, x), lambda: b.GaussianPair().denoiser(VP)(x, t, two)),
        ("denoised points must have shape", lambda: VP.score(x, t, x, x[:1]), lambda: flow(lambda *at: x[:1])),
        ("guidance must be one number", lambda: flow(lambda *at: x, guidance=t[:1])),
        ("t must be one number or one per", lambda: VP.sample(x, x, t[:1]), lambda: VP.sample(x, x, t[:3])),
        ("sigma_0 and sigma_T must be above 0", partial(P, 0.0), partial(P, 0.5, math.inf), partial(P, math.nan)),
        ("smaller than the product of the standard deviations, 0.4", partial(P, 0.5, 0.8, 0.4)),
        ("smaller than the product", partial(P, 0.5, 0.8, -0.5), partial(P, 0.5, 0.8, math.nan)),
        ("smaller than the product", partial(of_pairs, x, x), partial(of_pairs, x, -3 * x)),
        ("x_T must have shape", partial(of_pairs, x, two)),
        ("must hold floating-point", partial(of_pairs, ref.BYTES, x), partial(of_pairs, x, ref.BYTES)),
        ("noise must have shape", *[partial(LOSSES[name], ref.bent, x, x, ref.HALF, two) for name in ("bridge", "i2sb")]),
        ("output must have shape", lambda: CASES[1].denoiser(lambda *at: x[:1])(x, ref.HALF, x)),
        ("increase from 0 to 1, got", *[partial(VP.path, x, x, ref.HALF.new_tensor(each)) for each in PARTS]),
        ("x_T must have shape", partial(VP.path, x, two, ref.HALF.new_tensor([0.0, 1.0]))),
        ("beta_min above 0", partial(b.BrownianBridge, 0.0), partial(b.BrownianBridge, 0.4, 0.3)),
        ("1 of 12 values of x0 are not finite: leave", partial(of_pairs, x.where(x < x.max(), nan), x)),
        ("1 of 12 values of x_T are not finite: leave", partial(of_pairs, x, x.where(x < x.max(), math.inf))),
        (r"values of x0 must differ, got \[\]", partial(of_pairs, x[:0], x[:0])),
        (r"values of x_T must differ, got \[3.0\]: give more pairs", partial(of_pairs, x, 0 * x + 3)),
        ("need no bridge", partial(of_pairs, x, 2 * x)),
        (r"bridge must be a Bridge such as VPBridge\(\), got 'VP'", partial(b.Preconditioning, "VP")),
        ("increase from 0 to 1, got", partial(VP.path, x, x, []), partial(VP.path, x, x, 1.0)),
    ])  # fmt: skip
    assert VP.path(x, x, [0, 0.5, 1]).shape == (3, 4, 3)
    array, form, gauss = x.numpy(), P(), b.GaussianPair()
    drawn = [
        partial(b.bridge_loss, preconditioning=form),
        partial(b.i2sb_loss, bridge=I2SB),
        b.rectified_flow_loss,
    ]
    wrong_bridges = [partial(b.bridge_loss, ref.bent, x, x, VP), partial(b.i2sb_loss, ref.bent, x, x, VP)]
    refused([
        ("x0 must be a torch.Tensor, got ndarray", partial(of_pairs, array, array), partial(VP.sample, array, x, 0.5)),
        ("x_T must be a torch.Tensor, got ndarray", partial(of_pairs, x, array), partial(gauss.sample, array)),
        ("x must be a torch.Tensor", partial(VP.h, array, 0.5, x), partial(form.denoiser(ref.bent), array, 0.5, x)),
        ("must be a (Preconditioning|BrownianBridge), got VPBridge", *wrong_bridges),
        ("x_T must be on the device of x0, cpu, got meta: move it", partial(VP.sample, x, x.to("meta"), 0.5)),
        (r"generator must be torch.Generator\('cpu'\), seeded or not, got 0", partial(VP.sample, x, x, 0.5, 0),
         partial(gauss.sample, x, 0), *[partial(loss, ref.bent, x, x, generator=0) for loss in drawn]),
        (r"generator must be torch.Generator\('meta'\), seeded or not, got cpu",
         partial(VP.sample, x.to("meta"), x.to("meta"), 0.5, generator())),
        ("got one number: give it a first axis", *[partial(loss, ref.bent, x[0, 0], x[0, 0]) for loss in drawn]),
        ("the model's output must hold floating-point", *[partial(loss, lambda x, *_: x.long(), x, x) for loss in drawn]),
    ])  # fmt: skip
    tenth = b.VEBridge(0.1)  # above its float32, so rounded times are not above the end
    assert tenth.coefficients(torch.tensor([0.1]))[2] >= 0
    assert VP.coefficients(torch.tensor([nan]))[2].isnan()
