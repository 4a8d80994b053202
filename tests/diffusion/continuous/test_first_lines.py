"""The first lines of chapters to come: bridges, preferences, trajectories and manifolds call these functions first."""

import pytest
import torch
from gaussian import DOUBLE, generator, normal
from torch.nn.functional import logsigmoid

from loupe.diffusion.continuous import (
    EDMSDE,
    VESDE,
    VPSDE,
    DDPMTable,
    Preconditioned,
    Preconditioning,
    ddpm,
    denoising_loss,
    euler_maruyama,
    hybrid,
    log_likelihood,
    lognormal_sigmas,
    per_sample,
    time_grid,
    training_times,
)
from loupe.networks.unet import make_unet

BRIDGES = {"VE": EDMSDE(0.002, 80.0), "VP": VPSDE(0.1, 2.1, t_min=1e-4)}
A, B, V = 0.6, -0.1, 0.09  # x_0 given x_T = y is N(A y + B, V)


def h_transform(sde, x, t, y):
    """Gradient of log p(x_T = y | x_t = x): what pins the diffusion to its end."""
    scale, variance = (per_sample("t", each, x) for each in sde.transition(t, sde.t_max))
    return scale * (y - scale * x) / variance


def bridge_drifts(sde, score, y):
    """Drifts of the reverse SDE and of the flow of a bridge, for the score given x_T = y."""

    def drift(x, t, share):
        g2 = per_sample("t", sde.diffusion(t), x) ** 2
        return sde.drift(x, t) - g2 * (share * score(x, t) - h_transform(sde, x, t, y))

    return lambda x, t: drift(x, t, 1.0), lambda x, t: drift(x, t, 0.5)


@pytest.mark.parametrize("sde", BRIDGES.values(), ids=BRIDGES)
def test_a_bridge_kernel_and_its_score(sde):
    x0, y, noise = normal(3, 20, 3, 4, 4)
    t = training_times(20, generator(), start=sde.t_min, end=sde.t_max)
    mean, variance = sde.posterior(x0, y, t, sde.t_max)
    x = mean + variance.sqrt() * noise
    r = sde.snr(sde.t_max) / sde.snr(t)
    torch.testing.assert_close(variance, per_sample("t", sde.sigma(t) ** 2 * (1 - r), x))
    if isinstance(sde, EDMSDE):
        share = per_sample("t", t / 80, x) ** 2
        torch.testing.assert_close(mean, share * y + (1 - share) * x0)
    alpha, sigma = sde.coefficients(t, x)
    wanted = (alpha * x0 - x) / sigma**2 + h_transform(sde, x, t, y)
    torch.testing.assert_close((mean - x) / variance, wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("sde", BRIDGES.values(), ids=BRIDGES)
def test_a_bridge_is_sampled_by_the_hybrid(sde):
    """From one end the flow gives one value; with noise in a third of each step the distribution comes back."""
    y = torch.full((4000, 1), 0.5, dtype=DOUBLE)
    m = A * y + B

    def score(x, t):
        on_y, on_x0, variance = (c[:, None] for c in sde.posterior_coefficients(t, sde.t_max))
        return -(x - on_y * y - on_x0 * m) / (V * on_x0**2 + variance)

    times = time_grid(sde.t_max - 1e-4, sde.t_min, 40, rho=7, to_zero=True)
    drifts = bridge_drifts(sde, score, y)
    fixed = hybrid(*drifts, sde.diffusion, y, times, share=0.0)
    assert fixed.std() == 0
    found = hybrid(*drifts, sde.diffusion, y, times, share=1 / 3, generator=generator())
    assert found.mean().item() == pytest.approx(m[0].item(), abs=0.03)
    assert 0.9 < found.var().item() / V < 1.3


def test_a_bridge_has_coefficients_of_its_own():
    sde, x0, y = BRIDGES["VE"], normal(4, 1, 4, 4), normal(4, 1, 4, 4, seed=1)

    def coefficients(t, spread=0.5, end=0.5, cov=0.125):
        a, b, c = sde.posterior_coefficients(t, sde.t_max)
        total = a**2 * end**2 + b**2 * spread**2 + 2 * a * b * cov + c
        c_out = ((a**2 * (end**2 * spread**2 - cov**2) + spread**2 * c) / total).sqrt()
        return Preconditioning(
            (b * spread**2 + a * cov) / total, c_out, total.rsqrt(), t.log() / 4, c_out**-2
        )

    net = make_unet(channels=2, width=4, blocks=1, multipliers=(1, 2), attention=(), size=4).double()
    model = Preconditioned(
        lambda x, c_noise, y: net(torch.cat([x, y], 1), (4 * c_noise).exp())[:, :1], coefficients
    )
    t = lognormal_sigmas(4, generator())
    mean, variance = sde.posterior(x0, y, t, sde.t_max)
    loss = model.loss(x0, mean + variance.sqrt() * normal(4, 1, 4, 4, seed=2), t, y)
    loss.mean().backward()
    assert loss.shape == (4,)


def test_preferences():
    """Diffusion-DPO: the same step and noise for winner and loser; equal models give log 2."""
    table = DDPMTable.scaled_linear()
    winner, loser, noise = normal(3, 6, 4, 8, 8, dtype=torch.float32)
    t = torch.randint(table.steps, (6,), generator=generator())

    def inside(model, reference, beta=2000.0):
        pairs, twice, same = torch.cat([winner, loser]), t.repeat(2), noise.repeat(2, 1, 1, 1)
        error, fixed = (
            denoising_loss(m, table, pairs, twice, same, kind="noise") for m in (model, reference)
        )
        won, lost = (error - fixed).chunk(2)
        return -beta / 2 * (won - lost)

    reference = lambda x, t: 0.9 * x  # noqa: E731
    assert (-logsigmoid(inside(reference, reference))).exp().mean().item() == pytest.approx(2)
    shift = 0.01 * normal(4, 8, 8, dtype=torch.float32)
    found = inside(lambda x, t: 0.9 * x + shift, reference)
    # With shared noise the error changes by a number, and by what is linear in the noisy points.
    alpha = table.alpha(t).float()
    torch.testing.assert_close(
        found, -2000 * 0.9 * alpha * ((winner - loser) * shift).flatten(1).mean(1), rtol=1e-3, atol=1e-3
    )


def test_trajectories():
    """GeoTDM: residuals of (batch, nodes, frames, 3) around a reference, by DDPM's posterior; all else equivariant."""
    steps = 100
    table = DDPMTable.linear(steps, 0.1 / steps, 20 / steps)
    x0, around = normal(5, 4, 6, 3), normal(5, 4, 1, 3, seed=1)
    tau = torch.randint(steps, (5,), generator=generator())
    noise = normal(5, 4, 6, 3, seed=2)
    noise = noise - noise.mean((1, 2), keepdim=True)
    noisy = around + table.add_noise(x0 - around, tau, noise)
    assert noisy.shape == x0.shape
    mean, variance = table.posterior(x0, noisy, tau - 1, tau)
    torch.testing.assert_close(
        mean,
        per_sample("", table.posterior_mean_x0[tau], x0) * x0
        + per_sample("", table.posterior_mean_xt[tau], x0) * noisy,
    )
    torch.testing.assert_close(variance.flatten(), table.posterior_variance[tau], rtol=1e-9, atol=1e-14)
    turn = torch.linalg.qr(normal(3, 3, seed=3)).Q

    def sampled(x, target, seed=4):
        draw = ddpm(
            lambda x, t: target, table, x, table.times(steps), variance="large", generator=generator(seed)
        )
        return draw

    torch.testing.assert_close(sampled(noise, x0), x0)
    torch.testing.assert_close(sampled(noise @ turn, x0 @ turn), x0 @ turn)


def test_manifolds():
    """Riemannian diffusion has the schedule, the times and the solver in common, and brings its own steps: a circle."""
    sde = VESDE(1e-2, 4.0)
    t = training_times(2000, generator(), start=1e-5)
    slope = (sde.sigma(t + 1e-6) ** 2 - sde.sigma(t - 1e-6) ** 2) / 2e-6
    torch.testing.assert_close(sde.diffusion(t) ** 2, slope, rtol=1e-5, atol=0)
    angle = torch.linspace(-3, 3, 61, dtype=DOUBLE)[:, None]
    waves = torch.arange(1, 40, dtype=DOUBLE)

    def log_density(angle, sigma):
        decay = torch.exp(-((waves * sigma[:, None]) ** 2) / 2) * torch.exp(-((waves * 0.5) ** 2) / 2)
        return ((1 + 2 * (decay * (waves * angle).cos()).sum(1)) / (2 * torch.pi)).log()

    def flow(angle, t):
        (score,) = torch.autograd.grad(log_density(angle, sde.sigma(t)).sum(), angle, create_graph=True)
        return -(per_sample("t", sde.diffusion(t), angle) ** 2) * score / 2

    uniform = lambda end: torch.full((len(end),), -1.8378770664093453, dtype=DOUBLE)  # noqa: E731
    found = log_likelihood(flow, uniform, angle, [0.0, 1.0], rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(
        found.nats, log_density(angle, torch.full((61,), 0.01, dtype=DOUBLE)), rtol=0, atol=2e-3
    )
    spread = euler_maruyama(lambda x, t: 0 * x, sde.diffusion, 0 * normal(4000, 1), time_grid(0.0, 1.0, 400))
    assert spread.std().item() == pytest.approx(4.0, rel=0.05)
