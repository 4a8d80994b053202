"""SDEs, DDPM's table, EDM's coefficients and losses: identities, closed forms, the schedulers of diffusers."""

import math

import pytest
import torch
from gaussian import DOUBLE, generator, normal
from torch.testing import assert_close

from loupe.diffusion import continuous as c

TABLE, ZERO = c.DDPMTable.linear(), c.DDPMTable.scaled_linear().zero_terminal()
SDES = [c.VESDE(0.02, 30.0), c.EDMSDE(), c.VPSDE(), c.VPSDE(0.1, 2.1, t_min=1e-4)]
SHAPES = [(), (3,), (2, 5, 4), (4, 6, 5, 3)]  # of events: numbers, vectors, images, trajectories
WRONG = [
    lambda x: x[:1],
    lambda x: x.flatten(1)[:, 0],
    lambda x: x[:, :1],
    lambda x: x[None],
    lambda x: x.sum(),
]


def times_of(schedule, n):
    """An earlier and a later time for each sample."""
    if isinstance(schedule, c.DDPMTable):
        return torch.randperm(schedule.steps, generator=generator())[: 2 * n].view(2, n).sort(0).values
    share = torch.rand(2, n, generator=generator(), dtype=DOUBLE).sort(0).values
    return schedule.t_min + (schedule.t_max - schedule.t_min) * share


@pytest.mark.parametrize("sde", SDES, ids=repr)
def test_coefficients_solve_the_sde(sde):
    """d alpha / dt = f alpha and d sigma^2 / dt = 2 f sigma^2 + g^2."""
    t = times_of(sde, 40)[1].requires_grad_()
    alpha, variance = sde.alpha(t), sde.sigma(t) ** 2
    f, g = sde.drift(torch.ones(40, dtype=DOUBLE), t), sde.diffusion(t)
    assert_close(torch.autograd.grad(variance.sum(), t, retain_graph=True)[0], 2 * f * variance + g**2)
    assert_close(torch.autograd.grad(alpha.sum() + 0 * t.sum(), t)[0], f * alpha)
    assert sde.sigma(sde.t_min) < 0.05 * sde.sigma(sde.t_max) <= 0.05 * sde.prior_std + sde.prior_std
    x = sde.prior_sample((4000, 2, 3), generator(), dtype=DOUBLE)
    assert x.std().item() == pytest.approx(sde.prior_std, rel=0.02)
    wanted = torch.distributions.Normal(0.0, sde.prior_std).log_prob(x).sum((1, 2))
    assert_close(sde.prior_log_density(x), wanted)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("schedule", [*SDES, TABLE, ZERO], ids=lambda s: type(s).__name__)
def test_the_kernels_compose(schedule, shape):
    """q(x_s | x_0) q(x_t | x_s) = q(x_t | x_0) q(x_s | x_t, x_0); predictions of all kinds say the same."""
    x0, xs, xt = normal(3, 4, *shape)
    s, t = times_of(schedule, 4)

    def density(x, mean, variance):
        return -((x - mean) ** 2) / variance - torch.log(variance.expand_as(x))

    scale, added = (c.per_sample("t", each, x0) for each in schedule.transition(s, t))
    (a_s, sd_s), (a_t, sd_t) = schedule.coefficients(s, x0), schedule.coefficients(t, x0)
    forwards = density(xs, a_s * x0, sd_s**2) + density(xt, scale * xs, added)
    backwards = density(xt, a_t * x0, sd_t**2) + density(xs, *schedule.posterior(x0, xt, s, t))
    assert_close(forwards, backwards, rtol=1e-6, atol=1e-6)
    noisy = schedule.add_noise(x0, t, xs)
    for kind in ("noise", "score", "velocity"):
        target = schedule.target(kind, x0, xs, t)
        back = schedule.convert(lambda x, t, y=target: y, kind, "denoiser")
        assert_close(back(noisy, t), x0, rtol=1e-6, atol=1e-6)
        again = schedule.convert(lambda x, t: x0, "denoiser", kind)
        assert_close(again(noisy, t), target, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize(("schedule", "t"), [(c.EDMSDE(), 0.002), (c.VPSDE(), 1e-3), (ZERO, ZERO.steps - 1)])
def test_conversions_keep_their_digits(schedule, t):
    """In single precision at little noise, and where alpha is 0; times that are numbers reach the model as they are."""
    x, noise = normal(2, 4, 3, dtype=torch.float32)
    sigma, alpha = (each.float() for each in (schedule.sigma(t), schedule.alpha(t)))
    score = schedule.convert(lambda x, t: noise, "noise", "score")(x, t)
    assert_close(score, -noise / sigma, rtol=1e-6, atol=0)
    assert_close(schedule.convert(lambda x, t: score, "score", "noise")(x, t), noise, rtol=1e-6, atol=0)
    velocity = alpha * noise - sigma * x
    found = schedule.convert(lambda x, t: velocity, "velocity", "noise")(alpha * x + sigma * noise, t)
    assert_close(found, noise, rtol=1e-5, atol=1e-6)
    seen = []
    schedule.convert(lambda x, t: seen.append(t) or x, "noise", "noise")(x.double(), t)
    assert seen[0].item() == t


@pytest.mark.parametrize("table", [TABLE, c.DDPMTable.linear(50, 2e-3, 0.4), ZERO])
def test_the_table(table):
    """By the formulas of the paper, and as a posterior between successive times."""
    t, bar = torch.arange(table.steps), (1 - table.betas).cumprod(0)
    before = torch.cat([torch.ones(1, dtype=DOUBLE), bar[:-1]])
    assert_close(table.alphas_cumprod, bar, rtol=1e-11, atol=0)
    assert_close(table.posterior_variance, table.betas * (1 - before) / (1 - bar))
    assert_close(table.posterior_mean_x0, table.betas * before.sqrt() / (1 - bar))
    assert_close(table.posterior_mean_xt, (1 - before) * (1 - table.betas).sqrt() / (1 - bar))
    found = table.posterior_coefficients(t - 1, t)
    wanted = (table.posterior_mean_xt, table.posterior_mean_x0, table.posterior_variance)
    assert_close(found, wanted, rtol=1e-9, atol=1e-14)
    assert_close(table.posterior_log_variance[1:].exp(), table.posterior_variance[1:])
    assert table.posterior_log_variance[0] == table.posterior_log_variance[1]
    assert_close(table.transition(t - 1, t)[1], table.betas, rtol=1e-9, atol=0)
    assert (table.alpha(-1), table.sigma(-1)) == (1, 0)
    assert (table.alphas_cumprod[-1] == 0) == (table is ZERO)


@pytest.mark.parametrize("spacing", ["leading", "linspace", "trailing"])
@pytest.mark.parametrize("steps", [1, 7, 50, 1000])
def test_the_table_of_diffusers(steps, spacing):
    diffusers = pytest.importorskip("diffusers")
    for name, table in (
        ("linear", TABLE),
        ("scaled_linear", c.DDPMTable.scaled_linear(first=1e-4, last=0.02)),
    ):
        for rescale, ours in ((False, table), (True, table.zero_terminal())):
            options = {"timestep_spacing": spacing, "rescale_betas_zero_snr": rescale}
            other = diffusers.DDIMScheduler(beta_schedule=name, **options)
            assert_close(other.alphas_cumprod.double(), ours.alphas_cumprod, rtol=1e-3, atol=1e-6)
            other.set_timesteps(steps)
            assert ours.times(steps, spacing).tolist() == [*other.timesteps.tolist(), -1]
    x, noise, t = normal(3, 2, 4, 4), normal(3, 2, 4, 4, seed=1), torch.tensor([0, 500, 999])
    other, near = diffusers.DDPMScheduler(), {"rtol": 1e-4, "atol": 1e-5}
    assert_close(TABLE.add_noise(x, t, noise), other.add_noise(x, noise, t), **near)
    assert_close(TABLE.target("velocity", x, noise, t), other.get_velocity(x, noise, t), **near)


def test_edm_coefficients():
    """Input and target have variance 1, weight c_out^2 is 1, and the loss is that of the denoiser."""
    sigma = torch.tensor([0.01, 0.3, 5.0], dtype=DOUBLE)
    x0, noise = 0.7 * normal(3, 100_000), normal(3, 100_000, seed=1)
    k, x = c.edm_preconditioning(sigma, 0.7), c.EDMSDE().add_noise(x0, sigma, noise)
    for values in (k.c_in[:, None] * x, (x0 - k.c_skip[:, None] * x) / k.c_out[:, None]):
        assert_close(values.var(1), torch.ones(3, dtype=DOUBLE), rtol=0.02, atol=0)
    assert_close(k.weight * k.c_out**2, torch.ones(3, dtype=DOUBLE))
    model = c.Preconditioned(lambda x, c_noise, shift: torch.sin(x + (4 * c_noise.exp())[:, None]) + shift)
    options = {"kind": "denoiser", "weight": c.edm_preconditioning(sigma).weight}
    wanted = c.denoising_loss(lambda x, t: model(x, t, 0.3), c.EDMSDE(), x0, sigma, noise, **options)
    assert_close(model.loss(x0, x, sigma, 0.3), wanted)


def test_losses_and_their_times():
    sde, x0, noise = c.VPSDE(), normal(5, 2, 3), normal(5, 2, 3, seed=1)
    t = c.training_times(5, generator(), start=sde.t_min)
    for kind in ("denoiser", "noise", "score", "velocity"):
        target = sde.target(kind, x0, noise, t)
        model = lambda x, t, y=target: y + 0.5  # noqa: E731
        found = c.denoising_loss(model, sde, x0, t, noise, kind=kind, reduction="sum")
        assert_close(found, torch.full((5,), 1.5, dtype=DOUBLE))
        assert_close(c.denoising_loss(model, sde, x0, t, noise, kind=kind, weight=t), t / 4)
    single = c.denoising_loss(
        lambda x, t: x * t[:, None, None], sde, x0.float(), t, noise.float(), kind="noise"
    )
    assert single.dtype == torch.float32
    for stratified, tolerance in ((True, 2e-3), (False, 0.06)):
        logs = c.lognormal_sigmas(4000, generator(), mean=-1.0, std=1.5, stratified=stratified).log()
        assert (logs.mean(), logs.std()) == (pytest.approx(-1.0, abs=tolerance), pytest.approx(1.5, abs=0.06))
        t = c.training_times(4000, generator(), start=2.0, end=10.0, stratified=stratified)
        assert 2 <= t.min() < 2.02 < 9.98 < t.max() < 10
    assert c.time_grid(1.0, 0.0, 4).tolist() == [1, 0.75, 0.5, 0.25, 0]


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("schedule", [c.VESDE(), TABLE], ids=["sde", "table"])
def test_wrong_shapes_are_refused(schedule, wrong):
    x, t = normal(4, 4, 4), times_of(schedule, 4)[1]
    for call in (
        lambda: schedule.add_noise(x, t, wrong(x)),
        lambda: schedule.posterior(x, wrong(x), t, t),
        lambda: schedule.convert(lambda x, t: wrong(x), "noise", "noise")(x, t),
        lambda: c.denoising_loss(lambda x, t: wrong(x), schedule, x, t, x, kind="noise"),
        lambda: c.denoising_loss(lambda x, t: x, schedule, x, t, wrong(x), kind="noise"),
        lambda: c.Preconditioned(lambda x, k: wrong(x))(x, torch.rand(4)),
        lambda: c.Preconditioned(lambda x, k: x).loss(x, wrong(x), torch.rand(4)),
    ):
        with pytest.raises(ValueError, match="must have shape"):
            call()
    for times in (t[:1], t[:2], t[:, None], t[None], t.view(4, 1, 1)):
        with pytest.raises(ValueError, match="one number or one per sample"):
            schedule.add_noise(x, times, x)


def test_bad_input():
    bytes_, two = torch.ones(2, 3, dtype=torch.uint8), torch.ones(2)
    for call, match in (
        (lambda: c.VESDE(1.0, 0.5), "sigma_min above 0"),
        (lambda: c.EDMSDE(0.0), "sigma_min above 0"),
        (lambda: c.VPSDE(math.nan), "beta must grow"),
        (lambda: c.DDPMTable.linear(20, 0.005, 1.1), "above 0 and below 1"),
        (lambda: c.DDPMTable(torch.tensor([0.1, 1.0, 0.2])), r"below 1.* got \[0.1"),
        (lambda: TABLE.alpha(torch.tensor([0.5])), "whole steps"),
        (lambda: TABLE.alpha(torch.tensor([-2, 3])), "got -2 to 3"),
        (lambda: TABLE.sigma(1000), "got 1000 to 1000"),
        (lambda: TABLE.times(1001), "at most 1000"),
        (lambda: TABLE.times(10, "even"), "'even'"),
        (lambda: c.VESDE().add_noise(bytes_, 0.5, bytes_), "floating-point"),
        (lambda: c.VESDE().target("eps", two, two, 0.5), "one of denoiser, noise"),
        (
            lambda: c.denoising_loss(None, c.VESDE(), two, 0.5, two, kind="noise", reduction="max"),
            "mean or sum",
        ),
        (lambda: c.training_times(3, start=1.0), "below 1"),
        (lambda: c.time_grid(-1.0, 0.0, 3), "at least 0"),
    ):
        with pytest.raises(ValueError, match=match):
            call()


@pytest.mark.parametrize("schedule", [c.VESDE(), c.VPSDE(), TABLE], ids=lambda s: type(s).__name__)
def test_pure_functions_compile_and_map(schedule):
    x0, noise, (s, t) = normal(4, 3), normal(4, 3, seed=1), times_of(schedule, 4)

    def loss(x0, s, t, noise):
        model = schedule.convert(lambda x, t: torch.tanh(x), "noise", "score")
        mean, variance = schedule.posterior(x0, schedule.add_noise(x0, t, noise), s, t)
        return model(mean, t) * variance + schedule.target("velocity", x0, noise, t)

    wanted = loss(x0, s, t, noise)
    assert_close(torch.func.vmap(loss)(x0, s, t, noise), wanted)
    torch.compiler.reset()
    assert_close(torch.compile(loss, backend="eager", fullgraph=True)(x0, s, t, noise), wanted)
    assert torch.autograd.gradgradcheck(lambda x0: loss(x0, s, t, noise), x0.clone().requires_grad_())
    x0[0, 0] = math.nan
    assert loss(x0, s, t, noise)[0, 0].isnan()
