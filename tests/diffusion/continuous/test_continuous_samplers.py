"""Samplers and likelihoods of Gaussian data by closed forms, and beside the schedulers of diffusers."""

import math
from functools import partial
from itertools import product

import pytest
import torch
from gaussian import (
    COVARIANCE,
    DOUBLE,
    MEAN,
    carried,
    covariance,
    generator,
    log_density,
    normal,
    score_of,
)

from loupe.diffusion.continuous import (
    EDMSDE,
    VESDE,
    VPSDE,
    DDPMTable,
    Preconditioned,
    ddim,
    ddpm,
    divergence,
    euler_maruyama,
    heun,
    hybrid,
    log_likelihood,
    probability_flow,
    reverse_drift,
    solve_flow,
    thresholded,
    time_grid,
)

TABLE = DDPMTable.linear()
VE, EDM, VP = VESDE(0.01, 20.0), EDMSDE(0.002, 20.0), VPSDE()
SDES = {"VE": VE, "EDM": EDM, "VP": VP}


def grid(sde, steps):
    if isinstance(sde, DDPMTable):
        return sde.times(steps)
    return time_grid(sde.t_max, sde.t_min, steps, rho={VE: 1.0, EDM: 7.0, VP: 2.0}[sde])


def denoiser(schedule):
    return schedule.convert(score_of(schedule), "score", "denoiser")


SAMPLERS = {
    "euler_maruyama": lambda sde, x, times, g: euler_maruyama(
        reverse_drift(score_of(sde), sde), sde.diffusion, x, times, generator=g
    ),
    "heun": lambda sde, x, times, g: heun(probability_flow(score_of(sde), sde), x, times),
    "hybrid": lambda sde, x, times, g: hybrid(
        *(make(score_of(sde), sde) for make in (reverse_drift, probability_flow)),
        sde.diffusion,
        x,
        times,
        share=0.33,
        generator=g,
    ),
    "ddim": lambda sde, x, times, g: ddim(denoiser(sde), sde, x, times),
    "ddim, eta": lambda sde, x, times, g: ddim(denoiser(sde), sde, x, times, eta=0.6, generator=g),
    "ddpm": lambda sde, x, times, g: ddpm(denoiser(sde), sde, x, times, generator=g),
    "ddpm, large": lambda sde, x, times, g: ddpm(denoiser(sde), sde, x, times, variance="large", generator=g),
}
CASES = [*product(SDES.values(), SAMPLERS), *((TABLE, name) for name in SAMPLERS if name.startswith("dd"))]


@pytest.mark.parametrize(
    ("sde", "name"), CASES, ids=lambda case: case if isinstance(case, str) else type(case).__name__
)
def test_samplers_reach_mean_and_covariance(sde, name):
    times, n = grid(sde, 250), 20_000
    first = times[0]
    x = sde.alpha(first) * MEAN + normal(n, 2) @ torch.linalg.cholesky(covariance(sde, first)).T
    end = SAMPLERS[name](sde, x, times, generator(1))
    torch.testing.assert_close(end.mean(0), sde.alpha(times[-1]) * MEAN, rtol=0, atol=0.025)
    torch.testing.assert_close(end.T.cov(), covariance(sde, times[-1]), rtol=0.04, atol=0.02)
    assert (end == SAMPLERS[name](sde, x, times, generator(1))).all()


@pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
def test_orders_of_ode_steps(sde):
    x, flow = normal(50, 2), probability_flow(score_of(sde), sde)
    start, end = (sde.time(2.0).item(), sde.time(0.1).item()) if sde is VE else (0.9, 0.1)
    x = carried(sde, x, *torch.tensor([0.9, start], dtype=DOUBLE))
    wanted = carried(sde, x, *torch.tensor([start, end], dtype=DOUBLE))
    for solver, order in (
        (partial(euler_maruyama, flow, None), 1),
        (partial(heun, flow), 2),
        (partial(ddim, denoiser(sde), sde), 1),
    ):
        errors = [(solver(x, time_grid(start, end, n)) - wanted).abs().mean() for n in (60, 120)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.12 * order)
    found = solve_flow(flow, x, [start, (start + end) / 2, end], rtol=1e-8, atol=1e-8)
    torch.testing.assert_close(found.x[-1], wanted, rtol=0, atol=1e-6)
    found = solve_flow(flow, x, [start, end], method="rk4", steps=50)
    torch.testing.assert_close(found.x[-1], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
def test_likelihoods_are_exact(sde):
    x = MEAN + normal(20, 2) @ torch.linalg.cholesky(COVARIANCE).T
    flow, times = probability_flow(score_of(sde), sde), [sde.t_min, sde.t_max]
    first, last = torch.tensor(times, dtype=DOUBLE)
    options = {"rtol": 1e-7, "atol": 1e-7}
    found = log_likelihood(flow, lambda end: log_density(sde, end, last), x, times, **options)
    torch.testing.assert_close(found.nats, log_density(sde, x, first), rtol=0, atol=2e-5)
    torch.testing.assert_close(found.end, carried(sde, x, first, last), rtol=1e-5, atol=1e-4)
    with_prior = log_likelihood(flow, sde.prior_log_density, x, times, **options)
    torch.testing.assert_close(with_prior.nats, found.nats, rtol=0, atol=0.02)
    assert not torch.equal(with_prior.nats, found.nats)
    single = log_likelihood(
        lambda x, t: flow(x.double(), t.double()).float(), sde.prior_log_density, x.float(), times
    )
    assert single.nats.dtype == torch.float32
    torch.testing.assert_close(single.nats.double(), with_prior.nats, rtol=0, atol=0.05)


def test_hutchinson_is_unbiased():
    """The mean over all sign vectors is the exact divergence, for a field that is not linear."""
    x = normal(3, 2, 2).requires_grad_()
    v = torch.sin(x.flatten(1) @ normal(4, 4, seed=1)).view_as(x) * x.sum((1, 2), keepdim=True)
    signs = (
        torch.tensor(list(product((-1.0, 1.0), repeat=4)), dtype=DOUBLE).view(16, 1, 2, 2).expand(16, 3, 2, 2)
    )
    exact = divergence(v, x)
    torch.testing.assert_close(divergence(v, x, signs), exact)
    assert not torch.allclose(divergence(v, x, signs[:1]), exact)
    jacobian = torch.func.jacrev(lambda x: torch.sin(x.flatten() @ normal(4, 4, seed=1)) * x.sum())
    for k in range(3):
        torch.testing.assert_close(exact[k], jacobian(x[k].detach()).view(4, 4).trace())
    flow, times = probability_flow(score_of(VP), VP), [VP.t_min, VP.t_max]
    x = normal(1, 2).expand(400, 2)
    many = log_likelihood(flow, VP.prior_log_density, x, times, probes=1, generator=generator(1)).nats
    exact = log_likelihood(flow, VP.prior_log_density, x[:1], times).nats
    assert many.std() > 0.05
    assert abs(many.mean() - exact) < 4 * many.std() / 20


# ---- diffusers


def noise_model(x, t):
    """No model of anything, but its values depend on everything."""
    return torch.tanh(x.roll(1, -1) - 0.3 * x) + 0.1 * torch.sin(t / 200.0).view(-1, 1, 1, 1)


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("name", ["small", "large", "eta 0", "eta 0.5", "clipped", "dynamic"])
def test_ddpm_and_ddim_of_diffusers(name, steps):
    diffusers = pytest.importorskip("diffusers")
    x, ours, theirs = normal(2, 3, 4, 4, dtype=torch.float32), generator(3), generator(3)
    plain = model = TABLE.convert(noise_model, "noise", "denoiser")
    step = {}
    if name in ("small", "large"):
        other = diffusers.DDPMScheduler(variance_type=f"fixed_{name}", clip_sample=False)
        sampler, options = ddpm, {"variance": name}
    else:
        options = {"eta": 0.5 if name == "eta 0.5" else 0.0}
        dynamic = name == "dynamic"
        other = diffusers.DDIMScheduler(
            clip_sample=name == "clipped", thresholding=dynamic, sample_max_value=1e9
        )
        if name in ("clipped", "dynamic"):
            model = thresholded(plain, "dynamic" if dynamic else "static")
        sampler, step = ddim, {"use_clipped_model_output": True, **options}
    other.set_timesteps(steps)
    found = sampler(model, TABLE, x, TABLE.times(steps), generator=ours, **options)
    for t in other.timesteps:
        x = other.step(noise_model(x, t.expand(2)), t, x, generator=theirs, **step).prev_sample
    torch.testing.assert_close(found, x, rtol=2e-3, atol=2e-3)


def test_edm_of_diffusers():
    """The same grid, preconditioning and Euler steps; then Heun's on the table's noise levels."""
    diffusers = pytest.importorskip("diffusers")
    net = lambda x, c_noise: torch.tanh(x.roll(1, -1)) + 0.1 * c_noise.view(-1, 1, 1, 1)  # noqa: E731
    model, sde = Preconditioned(net), EDMSDE()
    flow = probability_flow(sde.convert(model, "denoiser", "score"), sde)
    times = time_grid(80.0, 0.002, 18, rho=7, to_zero=True)
    x = start = 80 * normal(2, 3, 4, 4, dtype=torch.float32)
    other = diffusers.EDMEulerScheduler()
    other.set_timesteps(18)
    torch.testing.assert_close(other.sigmas.double(), times, rtol=1e-5, atol=1e-6)
    for t in other.timesteps:
        x = other.step(net(other.scale_model_input(x, t), t.expand(2)), t, x).prev_sample
    torch.testing.assert_close(euler_maruyama(flow, None, start, times), x, rtol=1e-4, atol=1e-4)

    other = diffusers.HeunDiscreteScheduler(
        beta_start=1e-4, beta_end=0.02, prediction_type="sample", use_karras_sigmas=True
    )
    other.set_timesteps(12)
    levels = other.sigmas[[*range(0, 23, 2), -1]].double()
    torch.testing.assert_close(
        levels, time_grid(levels[0].item(), levels[-2].item(), 12, rho=7, to_zero=True), rtol=1e-4, atol=1e-6
    )
    asked = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2)]).float()
    x = start
    for t, sigma in zip(other.timesteps, asked, strict=True):
        x = other.step(model(x, sigma.expand(2)), t, x).prev_sample
    torch.testing.assert_close(heun(flow, start, levels), x, rtol=1e-4, atol=1e-4)


# ---- what is wrong


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 4, 4), (3, 5, 6, 3)], ids=str)
def test_shapes_dtypes_and_callbacks(shape):
    seen, x = [], normal(*shape, dtype=torch.float32)
    pull = lambda x, t: -x / (1 + t.view(-1, *(1,) * (x.ndim - 1)) ** 2)  # noqa: E731
    flow, times = probability_flow(pull, EDM), time_grid(1.0, 0.1, 4)
    calls = {
        "em": partial(euler_maruyama, reverse_drift(pull, EDM), EDM.diffusion),
        "heun": partial(heun, flow),
        "ddpm": partial(ddpm, EDM.convert(pull, "score", "denoiser"), EDM),
    }
    for call in calls.values():
        end = call(x, times, callback=lambda k, x: seen.append((k, x.shape)))
        assert (end.shape, end.dtype) == (x.shape, torch.float32)
        assert call(x * math.nan, times).isnan().all()
        assert call(x[:0], times).shape == x[:0].shape
    assert seen == [(k, x.shape) for k in range(5)] * 3
    assert solve_flow(flow, x, [1.0, 0.1]).x.shape == (2, *shape)
    assert log_likelihood(flow, EDM.prior_log_density, x, [0.1, 1.0], probes=1).nats.shape == (3,)


@pytest.mark.parametrize("wrong", [lambda x: x[:1], lambda x: x[:, :1], lambda x: x[None], lambda x: x.sum()])
def test_wrong_shapes_are_refused(wrong):
    x, times = normal(3, 3), time_grid(1.0, 0.1, 2)
    model = lambda x, t: wrong(x)  # noqa: E731
    flow = probability_flow(model, VE)
    for call in (
        lambda: euler_maruyama(reverse_drift(model, VE), VE.diffusion, x, times),
        lambda: euler_maruyama(model, None, x, times),
        lambda: heun(flow, x, times),
        lambda: heun(model, x, times),
        lambda: ddim(model, VE, x, times),
        lambda: ddpm(model, VE, x, times),
        lambda: solve_flow(model, x, times),
        lambda: log_likelihood(flow, VE.prior_log_density, x, times),
        lambda: log_likelihood(lambda x, t: -x, wrong, x, times),
    ):
        with pytest.raises(ValueError, match="must have shape"):
            call()


def test_bad_input():
    x, flow = normal(3, 2), probability_flow(score_of(VP), VP)
    for call, match in (
        (lambda: heun(flow, x, [1.0]), "at least 2"),
        (lambda: heun(flow, x, [1.0, 0.2, 0.5]), "rise or fall"),
        (lambda: ddim(denoiser(VP), VP, x, [0.1, 1.0]), "must fall"),
        (lambda: ddpm(denoiser(VP), VP, x, [0.1, 1.0]), "must fall"),
        (lambda: ddim(denoiser(VP), VP, x, [1.0, 0.1], eta=1.5), "eta must be"),
        (lambda: ddpm(denoiser(VP), VP, x, [1.0, 0.1], variance="learned"), "small or large"),
        (lambda: hybrid(flow, flow, VP.diffusion, x, [1.0, 0.1], share=1.0), "below 1"),
        (lambda: solve_flow(flow, x, [1.0, 0.1], method="rk45"), "one of dopri5"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    with pytest.raises(RuntimeError, match=r"not finite, at step 0 .* time 0\.9"):
        solve_flow(lambda x, t: x * math.nan, x, [0.9, 0.1], method="heun2", steps=3)
