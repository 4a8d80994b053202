"""Preconditioning and losses of bridges: unit variances, EDM as a special case, gradients; I2SB and rectified flow."""

import math
from functools import partial

import bridge_reference as ref
import pytest
import torch
from bridge_reference import DOUBLE, VE, VP, generator, normal, refused
from torch.testing import assert_close

from loupe.diffusion import bridges as b
from loupe.diffusion.continuous import edm_preconditioning
from loupe.networks.unet import make_unet

MOMENTS = (0.51, 0.82, 0.3)  # standard deviations of targets and sources, and their covariance
CASES = [b.Preconditioning(VE, *MOMENTS), b.Preconditioning(VP, *MOMENTS), b.Preconditioning(VP),
         b.Preconditioning(VP, 0.5, 0.5, -0.2), b.Preconditioning(VE, *MOMENTS, simple=True)]  # fmt: skip
NAMES = ("c_in", "c_skip", "c_out", "weight")
I2SB = b.BrownianBridge()
every = pytest.mark.parametrize("case", CASES, ids=range(len(CASES)))


@every
def test_coefficients(case):
    s0, sT, k = case.sigma_0, case.sigma_T, case.covariance
    for t in ref.times_of(case.bridge):
        a, b_, c = ref.exact(case.bridge, t)[:3]
        A = a**2 * sT**2 + b_**2 * s0**2 + 2 * a * b_ * k + c
        c_skip, c_out = (b_ * s0**2 + a * k) / A, math.sqrt((a**2 * (sT**2 * s0**2 - k**2) + s0**2 * c) / A)
        wanted = (1, 0, 1, 1) if case.simple else (A**-0.5, c_skip, c_out, c_out**-2)
        assert [getattr(case, name)(t).item() for name in NAMES] == pytest.approx(wanted, rel=1e-12)
    if not case.simple:
        ends = torch.tensor([0.0, case.bridge.t_max], dtype=DOUBLE)
        assert_close(case.c_skip(ends), torch.tensor([1, k / sT**2], dtype=DOUBLE))
        assert_close(case.c_out(ends), torch.tensor([0, math.sqrt(s0**2 - k**2 / sT**2)], dtype=DOUBLE))


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


@every
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
    assert_close(single.double(), found, rtol=1e-3, atol=1e-4)


def test_rivals():
    """Variances by quadrature, kernels by conditioning, and losses from their definitions."""
    grid = torch.linspace(0, 1, 20_001, dtype=DOUBLE)
    roots = math.sqrt(0.1) + torch.minimum(grid, 1 - grid) * (math.sqrt(0.3) - math.sqrt(0.1))
    wanted = torch.cumulative_trapezoid(roots**2, grid)
    assert_close(I2SB.variance(grid[1:].float()), wanted, rtol=1e-6, atol=1e-8)
    assert_close(I2SB.variance(grid[1:]), wanted, rtol=1e-7, atol=1e-12)
    s, t = torch.tensor([[0.0, 0.2, 0.45, 0.9], [0.3, 0.4, 0.7, 0.98]], dtype=DOUBLE)
    before, between = I2SB.variance(s), I2SB.variance(t) - I2SB.variance(s)
    whole = before + between
    assert_close(I2SB.posterior(s, t), (before / whole, between / whole, before * between / whole))
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
    images = normal(3, 2, 1, 4, 4, dtype=torch.float32)
    net = make_unet(channels=2, out_channels=1, width=4, blocks=1, multipliers=(1, 2), attention=(), size=4)
    value = loss(lambda x, y, level: net(torch.cat([x, y], 1), level.exp()), *images[:2], t[1:3], images[2])
    assert (value.shape, value.dtype, value.requires_grad) == ((2,), torch.float32, True)


def test_bad_input():
    x, two, P = normal(4, 3), normal(2, 3), partial(b.Preconditioning, VP)
    of_pairs = partial(b.Preconditioning.of_pairs, VP)
    for loss in LOSSES.values():
        of = partial(loss, lambda x, *other: x)
        refused([
            ("x_T must have shape", partial(of, x, two, ref.HALF, x)),
            ("x_T must hold floating-point", partial(of, x, ref.BYTES, ref.HALF, x)),
            ("points must hold floating-point", partial(of, ref.BYTES, x, ref.HALF, x)),
            ("output must have shape", *[partial(loss, lambda *_: y, x, x, ref.HALF, x) for y in (two, x[None])]),  # noqa: B023
            ("one number or one per sample", partial(of, x, x, ref.HALF[:1], x)),
            (r"lie in \[0, 1\]", partial(of, x, x, ref.HALF + 0.6, x)),
        ])  # fmt: skip
    refused([
        ("sigma_0 and sigma_T must be above 0", partial(P, 0.0), partial(P, 0.5, math.inf), partial(P, math.nan)),
        ("smaller than the product of the standard deviations, 0.4", partial(P, 0.5, 0.8, 0.4)),
        ("smaller than the product", partial(P, 0.5, 0.8, -0.5), partial(P, 0.5, 0.8, math.nan)),
        ("smaller than the product", partial(of_pairs, x, x), partial(of_pairs, x, -3 * x)),
        ("x_T must have shape", partial(of_pairs, x, two)),
        ("must hold floating-point", partial(of_pairs, ref.BYTES, ref.BYTES), partial(of_pairs, x, ref.BYTES)),
        ("noise must have shape", *[partial(LOSSES[name], ref.bent, x, x, ref.HALF, two) for name in ("bridge", "i2sb")]),
        ("output must have shape", lambda: CASES[1].denoiser(lambda *at: x[:1])(x, ref.HALF, x)),
        ("beta_min above 0", partial(b.BrownianBridge, 0.0), partial(b.BrownianBridge, 0.4, 0.3)),
    ])  # fmt: skip
