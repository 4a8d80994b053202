"""The first lines of chapters to come: bridges, preferences, trajectories and manifolds call these functions first."""

import math

import pytest
import torch
from gaussian import DOUBLE, generator, normal
from torch.nn.functional import logsigmoid
from torch.testing import assert_close

from loupe.diffusion import continuous as c
from loupe.networks.unet import make_unet

BRIDGES = {"VE": c.EDMSDE(0.002, 80.0), "VP": c.VPSDE(0.1, 2.1, t_min=1e-4)}


def h_transform(sde, x, t, y):
    """Gradient of log p(x_T = y | x_t = x): what pins the diffusion to its end."""
    scale, variance = (c.per_sample("t", each, x) for each in sde.transition(t, sde.t_max))
    return scale * (y - scale * x) / variance


def bridge_drift(sde, score, y, share):
    """Drift of the reverse SDE of a bridge (share 1) or of its flow (1/2), for the score given x_T = y."""

    def drift(x, t):
        g = c.per_sample("t", sde.diffusion(t), x)
        return sde.drift(x, t) - g**2 * (share * score(x, t) - h_transform(sde, x, t, y))

    return drift


@pytest.mark.parametrize("sde", BRIDGES.values(), ids=BRIDGES)
def test_a_bridge_kernel_and_its_score(sde):
    x0, y, noise = normal(3, 20, 3, 4, 4)
    t = c.training_times(20, generator(), start=sde.t_min, end=sde.t_max)
    mean, variance = sde.posterior(x0, y, t, sde.t_max)
    x = mean + variance.sqrt() * noise
    r = sde.snr(sde.t_max) / sde.snr(t)
    assert_close(variance, c.per_sample("t", sde.sigma(t) ** 2 * (1 - r), x))
    alpha, sigma = sde.coefficients(t, x)
    wanted = (alpha * x0 - x) / sigma**2 + h_transform(sde, x, t, y)
    assert_close((mean - x) / variance, wanted, rtol=1e-7, atol=1e-7)


@pytest.mark.parametrize("sde", BRIDGES.values(), ids=BRIDGES)
def test_a_bridge_is_sampled_by_the_hybrid(sde):
    """From one end the flow gives one value; with noise in a third of each step the distribution N(m, v) comes back."""
    m, v, y = 0.2, 0.09, torch.full((4000, 1), 0.5, dtype=DOUBLE)

    def score(x, t):
        on_y, on_x0, variance = (each[:, None] for each in sde.posterior_coefficients(t, sde.t_max))
        return -(x - on_y * y - on_x0 * m) / (v * on_x0**2 + variance)

    times = c.time_grid(sde.t_max - 1e-4, sde.t_min, 40, rho=7, to_zero=True)
    reverse, flow = (bridge_drift(sde, score, y, share) for share in (1.0, 0.5))
    fixed = c.hybrid(reverse, flow, sde.diffusion, y, times, fraction=0.0)
    assert (fixed == fixed[0]).all()
    found = c.hybrid(reverse, flow, sde.diffusion, y, times, fraction=1 / 3, generator=generator())
    assert found.mean().item() == pytest.approx(m, abs=0.03)
    assert 0.9 < found.var().item() / v < 1.3


def test_a_bridge_has_coefficients_of_its_own():
    sde, (x0, y, noise) = BRIDGES["VE"], normal(3, 4, 1, 4, 4)

    def coefficients(t, std=0.5, end=0.5, cov=0.125):
        on_y, on_x0, variance = sde.posterior_coefficients(t, sde.t_max)
        total = on_y**2 * end**2 + on_x0**2 * std**2 + 2 * on_y * on_x0 * cov + variance
        c_out = ((on_y**2 * (end**2 * std**2 - cov**2) + std**2 * variance) / total).sqrt()
        c_skip = (on_x0 * std**2 + on_y * cov) / total
        return c.Preconditioning(c_skip, c_out, total.rsqrt(), t.log() / 4, c_out**-2)

    net = make_unet(channels=2, width=4, blocks=1, multipliers=(1, 2), attention=(), size=4).double()
    both = lambda x, c_noise, y: net(torch.cat([x, y], 1), (4 * c_noise).exp())[:, :1]  # noqa: E731
    mean, variance = sde.posterior(x0, y, t := c.lognormal_sigmas(4, generator()), sde.t_max)
    loss = c.Preconditioned(both, coefficients).loss(x0, mean + variance.sqrt() * noise, t, y)
    loss.mean().backward()
    assert loss.shape == (4,)


def test_preferences():
    """Diffusion-DPO: the same step and noise for winner and loser; equal models give log 2."""
    table = c.DDPMTable.scaled_linear()
    winner, loser, noise = normal(3, 6, 4, 8, 8, dtype=torch.float32)
    t = torch.randint(table.steps, (6,), generator=generator())
    pairs, twice, same = torch.cat([winner, loser]), t.repeat(2), noise.repeat(2, 1, 1, 1)

    def inside(model, reference, beta=2000.0):
        error, fixed = (
            c.denoising_loss(m, table, pairs, twice, same, kind="noise") for m in (model, reference)
        )
        won, lost = (error - fixed).chunk(2)
        return -beta / 2 * (won - lost)

    reference = lambda x, t: 0.9 * x  # noqa: E731
    assert_close(-logsigmoid(inside(reference, reference)), torch.full((6,), math.log(2)))
    shift = 0.01 * normal(4, 8, 8, dtype=torch.float32)
    found = inside(lambda x, t: 0.9 * x + shift, reference)
    # The noise is shared, so what is left is linear in the difference of the pair.
    wanted = -2000 * 0.9 * table.alpha(t).float() * ((winner - loser) * shift).flatten(1).mean(1)
    assert_close(found, wanted, rtol=1e-3, atol=1e-3)


def test_trajectories():
    """GeoTDM: residuals (batch, nodes, frames, 3) around a reference, by DDPM's posterior."""
    table = c.DDPMTable.linear(100, 1e-3, 0.2)
    x0, noise, around = normal(5, 4, 6, 3), normal(5, 4, 6, 3, seed=2), normal(5, 4, 1, 3, seed=1)
    tau = torch.randint(100, (5,), generator=generator())
    y = table.add_noise(x0 - around, tau, noise - noise.mean((1, 2), keepdim=True))
    assert_close(y.mean((1, 2)), table.alpha(tau)[:, None] * (x0 - around).mean((1, 2)))
    mean, variance = table.posterior(x0 - around, y, tau - 1, tau)
    on_x0, on_xt = (
        c.per_sample("", each[tau], y) for each in (table.posterior_mean_x0, table.posterior_mean_xt)
    )
    assert_close(mean, on_x0 * (x0 - around) + on_xt * y)
    assert_close(variance.flatten(), table.posterior_variance[tau], rtol=1e-9, atol=1e-14)
    end = c.ddpm(lambda y, t: x0 - around, table, noise, table.times(100), variance="large")
    assert_close(end + around, x0)


def test_manifolds():
    """Riemannian diffusion has schedule, times and solver in common, and brings its own kernel: that of a circle."""
    sde, angle = c.VESDE(1e-2, 4.0), torch.linspace(-3, 3, 31, dtype=DOUBLE)[:, None]
    waves = torch.arange(1, 40, dtype=DOUBLE)

    def log_density(angle, sigma):
        strength = torch.exp(-(waves**2) * (sigma[:, None] ** 2 + 0.25) / 2)
        return ((1 + 2 * (strength * (waves * angle).cos()).sum(1)) / (2 * torch.pi)).log()

    def flow(angle, t):
        (score,) = torch.autograd.grad(log_density(angle, sde.sigma(t)).sum(), angle, create_graph=True)
        return -(c.per_sample("t", sde.diffusion(t), angle) ** 2) * score / 2

    uniform = lambda end: torch.full((len(end),), -math.log(2 * math.pi), dtype=DOUBLE)  # noqa: E731
    found = c.log_likelihood(flow, uniform, angle, [sde.t_min, sde.t_max]).nats
    assert_close(found, log_density(angle, torch.full((31,), 0.01, dtype=DOUBLE)), rtol=0, atol=5e-3)
