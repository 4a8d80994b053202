"""Samplers and likelihoods of Gaussian data by closed forms, and beside the schedulers of diffusers."""

import math
from functools import partial
from itertools import product

import pytest
import torch
from gaussian import COVARIANCE, DOUBLE, MEAN, carried, covariance, generator, log_density, normal, score_of
from torch.testing import assert_close

from loupe.diffusion import continuous as c

TABLE = c.DDPMTable.linear()
VE, EDM, VP = c.VESDE(0.01, 20.0), c.EDMSDE(0.002, 20.0), c.VPSDE()
SDES = {"VE": VE, "EDM": EDM, "VP": VP}


def flow_of(sde):
    return c.probability_flow(score_of(sde), sde)


def reverse_of(sde):
    return c.reverse_drift(score_of(sde), sde)


def denoiser(schedule):
    return schedule.convert(score_of(schedule), "score", "denoiser")


SAMPLERS = {
    "euler_maruyama": lambda s: partial(c.euler_maruyama, reverse_of(s), s.diffusion),
    "hybrid": lambda s: partial(c.hybrid, reverse_of(s), flow_of(s), s.diffusion, fraction=0.33),
    "heun": lambda s: lambda x, times, generator: c.heun(flow_of(s), x, times),
    "ddim": lambda s: partial(c.ddim, denoiser(s), s),
    "ddim, eta": lambda s: partial(c.ddim, denoiser(s), s, eta=0.6),
    "ddpm": lambda s: partial(c.ddpm, denoiser(s), s),
    "ddpm, large": lambda s: partial(c.ddpm, denoiser(s), s, variance="large"),
}
CASES = [*product(SDES.values(), SAMPLERS), *((TABLE, name) for name in SAMPLERS if name.startswith("dd"))]


@pytest.mark.parametrize(
    ("sde", "name"), CASES, ids=lambda case: case if isinstance(case, str) else type(case).__name__
)
def test_samplers_reach_mean_and_covariance(sde, name):
    rho = {VE: 1.0, EDM: 7.0, VP: 2.0}
    times = TABLE.times(200) if sde is TABLE else c.time_grid(sde.t_max, sde.t_min, 200, rho=rho[sde])
    sample, first, last = SAMPLERS[name](sde), times[0], times[-1]
    x = sde.alpha(first) * MEAN + normal(6000, 2) @ torch.linalg.cholesky(covariance(sde, first)).T
    end = sample(x, times, generator=generator(1))
    assert_close(end.mean(0), sde.alpha(last) * MEAN, rtol=0, atol=0.035)
    assert_close(end.T.cov(), covariance(sde, last), rtol=0.05, atol=0.025)
    assert torch.equal(*(sample(x, times[:9], generator=generator(1)) for _ in range(2)))


@pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
def test_orders_of_ode_steps(sde):
    x, flow = normal(50, 2), flow_of(sde)
    start, end = (sde.time(2.0).item(), sde.time(0.1).item()) if sde is VE else (0.9, 0.1)
    wanted = carried(sde, x, *torch.tensor([start, end], dtype=DOUBLE))
    for solver, order in (
        (partial(c.euler_maruyama, flow, None), 1),
        (partial(c.heun, flow), 2),
        (partial(c.ddim, denoiser(sde), sde), 1),
    ):
        errors = [(solver(x, c.time_grid(start, end, n)) - wanted).abs().mean() for n in (60, 120)]
        assert math.log2(errors[0] / errors[1]) == pytest.approx(order, abs=0.12 * order)
    found = c.solve_flow(flow, x, [start, (start + end) / 2, end], rtol=1e-8, atol=1e-8)
    assert_close(found.x[-1], wanted, rtol=0, atol=1e-6)
    assert_close(c.solve_flow(flow, x, [start, end], method="rk4", steps=50).x[-1], wanted, rtol=0, atol=1e-5)


@pytest.mark.parametrize("sde", SDES.values(), ids=SDES)
def test_likelihoods_are_exact(sde):
    x = MEAN + normal(20, 2) @ torch.linalg.cholesky(COVARIANCE).T
    flow, times = flow_of(sde), [sde.t_min, sde.t_max]
    first, last = torch.tensor(times, dtype=DOUBLE)
    found = c.log_likelihood(flow, lambda end: log_density(sde, end, last), x, times, rtol=1e-7, atol=1e-7)
    assert_close(found.nats, log_density(sde, x, first), rtol=0, atol=2e-5)
    assert_close(found.end, carried(sde, x, first, last), rtol=1e-5, atol=1e-4)
    single = c.log_likelihood(
        lambda x, t: flow(x.double(), t.double()).float(), sde.prior_log_density, x.float(), times
    )
    assert single.nats.dtype == torch.float32
    assert_close(single.nats.double(), found.nats, rtol=0, atol=0.1)


def test_hutchinson_is_unbiased():
    """The mean over all sign vectors is the exact divergence, for a field that is not linear."""
    x, W = normal(3, 2, 2).requires_grad_(), normal(4, 4, seed=1)
    v = torch.sin(x.flatten(1) @ W).view_as(x) * x.sum((1, 2), keepdim=True)
    signs = (
        torch.tensor(list(product((-1.0, 1.0), repeat=4)), dtype=DOUBLE).view(16, 1, 2, 2).expand(16, 3, 2, 2)
    )
    exact = c.divergence(v, x)
    assert_close(c.divergence(v, x, signs), exact)
    assert not torch.allclose(c.divergence(v, x, signs[:1]), exact)
    jacobian = torch.func.vmap(torch.func.jacrev(lambda x: torch.sin(x @ W) * x.sum()))(x.flatten(1))
    assert_close(exact, jacobian.diagonal(dim1=1, dim2=2).sum(1))
    x, options = normal(1, 2).expand(400, 2), (VP.prior_log_density,)
    many = c.log_likelihood(flow_of(VP), *options, x, [1e-3, 1], noise_vectors=1, generator=generator(1)).nats
    exact = c.log_likelihood(flow_of(VP), *options, x[:1], [1e-3, 1]).nats
    assert 0 < abs(many.mean() - exact) < 4 * many.std() / 20


def noise_model(x, t):
    """No model of anything, but its values depend on everything."""
    return torch.tanh(x.roll(1, -1) - 0.3 * x) + 0.1 * torch.sin(t / 200.0).view(-1, 1, 1, 1)


@pytest.mark.parametrize("steps", [10, 50])
@pytest.mark.parametrize("name", ["small", "large", "eta 0", "eta 0.5", "static", "dynamic"])
def test_ddpm_and_ddim_of_diffusers(name, steps):
    diffusers = pytest.importorskip("diffusers")
    x, theirs = normal(2, 3, 4, 4, dtype=torch.float32), generator(3)
    model, step = TABLE.convert(noise_model, "noise", "denoiser"), {}
    if name in ("small", "large"):
        other = diffusers.DDPMScheduler(variance_type=f"fixed_{name}", clip_sample=False)
        sampler = partial(c.ddpm, variance=name)
    else:
        options = {"thresholding": name == "dynamic", "sample_max_value": 1e9}
        other = diffusers.DDIMScheduler(clip_sample=name == "static", **options)
        model = model if "eta" in name else c.thresholded(model, name)
        step = {"use_clipped_model_output": True, "eta": 0.5 * (name == "eta 0.5")}
        sampler = partial(c.ddim, eta=step["eta"])
    other.set_timesteps(steps)
    found = sampler(model, TABLE, x, TABLE.times(steps), generator=generator(3))
    for t in other.timesteps:
        x = other.step(noise_model(x, t.expand(2)), t, x, generator=theirs, **step).prev_sample
    assert_close(found, x, rtol=2e-3, atol=2e-3)


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")
def test_edm_of_diffusers():
    """The same grid, preconditioning and Euler steps; then Heun's on the table's noise levels."""
    diffusers = pytest.importorskip("diffusers")
    net = lambda x, c_noise: torch.tanh(x.roll(1, -1)) + 0.1 * c_noise.view(-1, 1, 1, 1)  # noqa: E731
    model, sde, near = c.Preconditioned(net), c.EDMSDE(), {"rtol": 1e-4, "atol": 1e-4}
    flow = c.probability_flow(sde.convert(model, "denoiser", "score"), sde)
    times = c.time_grid(80.0, 0.002, 18, rho=7, to_zero=True)
    x = start = 80 * normal(2, 3, 4, 4, dtype=torch.float32)
    other = diffusers.EDMEulerScheduler()
    other.set_timesteps(18)
    assert_close(other.sigmas.double(), times, rtol=1e-5, atol=1e-6)
    for t in other.timesteps:
        x = other.step(net(other.scale_model_input(x, t), t.expand(2)), t, x).prev_sample
    assert_close(c.euler_maruyama(flow, None, start, times), x, **near)

    other = diffusers.HeunDiscreteScheduler(
        1000, 1e-4, 0.02, prediction_type="sample", use_karras_sigmas=True
    )
    other.set_timesteps(12)
    levels = other.sigmas[[*range(0, 23, 2), -1]].double()
    assert_close(levels, c.time_grid(levels[0].item(), levels[-2].item(), 12, rho=7, to_zero=True), **near)
    x = start
    asked = torch.cat([levels[:1], levels[1:-1].repeat_interleave(2)]).float()
    for t, sigma in zip(other.timesteps, asked, strict=True):
        x = other.step(model(x, sigma.expand(2)), t, x).prev_sample
    assert_close(c.heun(flow, start, levels), x, **near)


@pytest.mark.parametrize("shape", [(3, 2), (3, 2, 4, 4), (3, 5, 6, 3)], ids=str)
def test_shapes_dtypes_and_callbacks(shape):
    seen, x, times = [], normal(*shape, dtype=torch.float32), c.time_grid(1.0, 0.1, 4)
    pull = lambda x, t: -x / (1 + t.view(-1, *(1,) * (x.ndim - 1)) ** 2)  # noqa: E731
    flow = c.probability_flow(pull, EDM)
    for call in (
        partial(c.euler_maruyama, c.reverse_drift(pull, EDM), EDM.diffusion),
        partial(c.heun, flow),
        partial(c.ddpm, EDM.convert(pull, "score", "denoiser"), EDM),
    ):
        end = call(x, times, callback=lambda k, x: seen.append((k, x.shape)))
        assert (end.shape, end.dtype) == (x.shape, torch.float32)
        assert call(x * math.nan, times).isnan().all()
        assert call(x[:0], times).shape == x[:0].shape
    assert seen == [(k, x.shape) for k in range(5)] * 3
    assert c.solve_flow(flow, x, [1.0, 0.1]).x.shape == (2, *shape)
    assert c.log_likelihood(flow, EDM.prior_log_density, x, [0.1, 1.0], noise_vectors=1).nats.shape == (3,)


@pytest.mark.parametrize("wrong", [lambda x: x[:1], lambda x: x[:, :1], lambda x: x[None], lambda x: x.sum()])
def test_wrong_shapes_are_refused(wrong):
    x, times = normal(3, 3), c.time_grid(1.0, 0.1, 2)
    model = lambda x, t: wrong(x)  # noqa: E731
    flow = c.probability_flow(model, VE)
    for call in (
        lambda: c.euler_maruyama(c.reverse_drift(model, VE), VE.diffusion, x, times),
        lambda: c.euler_maruyama(model, None, x, times),
        lambda: c.heun(flow, x, times),
        lambda: c.heun(model, x, times),
        lambda: c.ddim(model, VE, x, times),
        lambda: c.ddpm(model, VE, x, times),
        lambda: c.solve_flow(model, x, times),
        lambda: c.log_likelihood(flow, VE.prior_log_density, x, times),
        lambda: c.log_likelihood(lambda x, t: -x, wrong, x, times),
    ):
        with pytest.raises(ValueError, match="must have shape"):
            call()


def test_bad_input():
    x, flow, clean = normal(3, 2), flow_of(VP), denoiser(VP)
    for call, match in (
        (lambda: c.heun(flow, x, [1.0]), "at least 2"),
        (lambda: c.heun(flow, x, [1.0, 0.2, 0.5]), "rise or fall"),
        (lambda: c.ddim(clean, VP, x, [0.1, 1.0]), "must fall"),
        (lambda: c.ddim(clean, VP, x, [1.0, 0.1], eta=1.5), "eta must be"),
        (lambda: c.ddpm(clean, VP, x, [1.0, 0.1], variance="learned"), "small or large"),
        (lambda: c.hybrid(flow, flow, VP.diffusion, x, [1.0, 0.1], fraction=1.0), "below 1"),
        (lambda: c.solve_flow(flow, x, [1.0, 0.1], method="rk45"), "one of dopri5"),
    ):
        with pytest.raises(ValueError, match=match):
            call()
    with pytest.raises(RuntimeError, match=r"not finite, at step 0 .* time 0\.9"):
        c.solve_flow(lambda x, t: x * math.nan, x, [0.9, 0.1], method="heun2", steps=3)
