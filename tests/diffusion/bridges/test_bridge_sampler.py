"""The hybrid sampler beside its restatement, on pairs with known answers, and at the limits; I2SB, rectified flow."""

import math
from functools import partial

import bridge_reference as ref
import pytest
import torch
from bridge_reference import DOUBLE, VE, VP, both, every, generator, normal, refused
from torch.testing import assert_close

from loupe.diffusion import bridges as b
from loupe.diffusion.continuous import euler_maruyama, hybrid, per_sample, time_grid

GAUSS, MODES = b.GaussianPair(), b.TwoModePair()
WEIGHTS = torch.tensor([1.0, 0.5, 0.0, 1.2], dtype=DOUBLE)
Y = torch.linspace(-1, 1, 12, dtype=DOUBLE).view(4, 3)
CALLS = {"plain": {}, "a third": {"s": 1 / 3, "n": 7}, "ODE": {"s": 0.0}, "late": {"s": 0.9, "n": 2},
         "half": {"w": 0.5}, "half, ODE": {"w": 0.5, "s": 0.0, "n": 10}, "each": {"w": WEIGHTS},
         "official": {"w": 0.5, "official": True}, "official, each": {"w": WEIGHTS, "official": True, "s": 0.2},
         "clamp": {"clamp": (-0.4, 0.3), "t_min": 0.01}}  # fmt: skip


def predict(x, t, x_T):
    return ref.bent(x, x_T, t.log())


@pytest.mark.parametrize("options", CALLS.values(), ids=CALLS)
@every
def test_the_sampler_is_algorithm_1(bridge, options):
    """And the general hybrid sampler on the bridge's drifts; drawn noise is the same as given noise."""
    n, s, w = (options.get(key, default) for key, default in (("n", 40), ("s", 0.33), ("w", 1.0)))
    clamp, again = options.get("clamp"), generator(1)
    noise = torch.stack([torch.randn(4, 3, generator=again, dtype=DOUBLE) for _ in range(n)])
    given = {"steps": n, "churn": s, "clamp": clamp, "t_min": options.get("t_min"), "guidance": w,
             "compat": "official" if "official" in options else None}  # fmt: skip
    for D in (GAUSS.denoiser(bridge), predict):
        wide = w[:, None] if w is WEIGHTS else w
        path = ref.restated(D, Y, bridge, noise, **options | {"w": wide})
        found = b.bridge_sample(D, Y, bridge, path=True, noise=noise, **given)
        path[-1] = path[-1] if clamp is None else path[-1].clamp(*clamp)
        assert ((found.samples - path[-1]).norm() / path[-1].norm()) < 1e-10
        assert_close(found.path, path, rtol=1e-10, atol=1e-10)
        drawn = b.bridge_sample(D, Y, bridge, generator=generator(1), **given)
        assert torch.equal(drawn.samples, found.samples)
        assert (drawn.path, found.evaluations) == (None, 3 * n - 1 if s else 2 * n - 1)
        if not (clamp or given["compat"]):
            drifts = [make(D, Y, guidance=w) for make in (bridge.reverse_drift, bridge.probability_flow)]
            times = b.karras_grid(n, bridge.t_min, bridge.t_max - 1e-4)
            ends = hybrid(*drifts, bridge.sde.diffusion, Y, times, fraction=s, generator=generator(1))
            assert_close(ends, found.samples, rtol=1e-9, atol=1e-9)


def test_the_grid():
    assert [each.t_min for each in (VE, b.VEBridge(20.0), VP)] == pytest.approx([0.002, 0.0005, 1e-4])
    grid = b.karras_grid(40, 1e-4, 1 - 1e-4)
    assert (len(grid), grid[0], grid[-2], grid[-1]) == (41, 1 - 1e-4, pytest.approx(1e-4, rel=1e-12), 0)
    assert_close(b.karras_grid(3, 1.0, 9.0, rho=2), torch.tensor([9.0, 4, 1, 0], dtype=DOUBLE))


@ref.shapes
@both
def test_shapes_and_dtypes(bridge, shape):
    y, noise, times = normal(4, *shape), normal(5, 4, *shape), []
    watched = lambda x, t, x_T: times.append(t) or predict(x, t.float(), x_T)  # noqa: E731
    half = lambda x, t, x_T: predict(x, t, x_T).bfloat16()  # noqa: E731
    order, exact = torch.tensor([2, 0, 3, 1]), MODES.denoiser(bridge)
    for w in (1.0, torch.ones(4), torch.tensor(1.0)):
        sample = partial(b.bridge_sample, bridge=bridge, steps=5, guidance=w)
        wanted = sample(predict, y, noise=noise).samples
        found, _, path = sample(watched, y.float(), noise=noise.float(), path=True)
        assert (found.dtype, wanted.dtype, path.shape) == (torch.float32, DOUBLE, (6, 4, *shape))
        assert_close(found.double(), wanted, rtol=1e-4, atol=1e-5)
        assert_close(sample(half, y, noise=noise).samples, wanted, rtol=0.05, atol=0.05)
        shuffled = sample(exact, y[order], noise=noise[:, order]).samples
        assert_close(shuffled, sample(exact, y, noise=noise).samples[order])
    assert len(times) == 3 * (3 * 5 - 1)
    assert {(t.shape, t.dtype) for t in times} == {((4,), DOUBLE)}  # float32 does not resolve 80 - 1e-4
    assert b.bridge_sample(predict, y[:0], bridge, steps=3).samples.shape == y[:0].shape


@both
@pytest.mark.parametrize("s", [0.0, 0.33])
def test_float32_next_to_the_pinned_end(bridge, s):
    """There the factors of x and x_T are large, up to 5e4, and nearly cancel."""
    y, noise, exact = normal(500, 1, dtype=torch.float32), normal(40, 500, 1), MODES.denoiser(bridge)
    single = lambda x, t, x_T: exact(x.double(), t, x_T.double()).float()  # noqa: E731
    wanted = b.bridge_sample(exact, y.double(), bridge, noise=noise, churn=s).samples
    found = b.bridge_sample(single, y, bridge, noise=noise.float(), churn=s).samples
    assert (found - wanted).abs().median() < 1e-6


@pytest.mark.filterwarnings("ignore:a churn of")
@both
def test_what_is_known_of_pairs(bridge):
    """Without noise one answer; with a third of each step the whole distribution (B6); too little noise spreads."""
    sample = partial(b.bridge_sample, x_T=torch.full((4000, 1), 0.3, dtype=DOUBLE), bridge=bridge)
    one = partial(sample, GAUSS.denoiser(bridge), generator=generator())
    none, tiny, small, third = (one(churn=s).samples for s in (0.0, 0.001, 0.03, 1 / 3))
    assert [none.mean().item(), third.mean().item()] == pytest.approx([0.08, 0.08], abs=0.03)
    assert none.var() < 1e-20
    assert 0.9 < third.var() / 0.09 < 1.25 < 2 < small.var() / 0.09 < 30 < tiny.var() / 0.09
    found = sample(MODES.denoiser(bridge), churn=1 / 3, generator=generator()).samples - 0.06
    assert 0.45 < (found > 0).double().mean() < 0.55
    assert (found.abs() - 0.7).abs().lt(0.2).double().mean() > 0.98
    assert sample(MODES.denoiser(bridge), churn=0).samples.unique().numel() == 1
    x0 = normal(4000, 1)  # if it is known, half of the last noise is left
    left = (sample(lambda *at: x0, generator=generator()).samples - x0).std() / bridge.sde.sigma(bridge.t_min)
    assert 0 < left < 0.8


def test_more_steps_come_closer():
    y, exact = torch.tensor([[-1.0], [0.2], [0.9]], dtype=DOUBLE), GAUSS.denoiser(VE)
    more, less = (b.bridge_sample(exact, y, VE, steps=n, churn=0).samples - 0.6 * y + 0.1 for n in (400, 50))
    assert more.abs().max() < min(1e-2, less.abs().max())
    many, times = torch.full((5000, 1), 0.5, dtype=DOUBLE), time_grid(1 - 1e-4, 1e-4, 400, rho=2)
    reverse = VP.reverse_drift(GAUSS.denoiser(VP), many)
    ends = euler_maruyama(reverse, VP.sde.diffusion, many, times, generator=generator())
    assert ends.mean().item() == pytest.approx(0.2, abs=3 * 0.3 / math.sqrt(5000) + 0.004)
    assert ends.var().item() == pytest.approx(0.09, rel=3 * math.sqrt(2 / 5000) + 0.02)


def test_without_noise_bridges_are_flow_matching():
    """A Brownian bridge of variance c^2 u, whose time in ours is c sqrt(u) (B4)."""
    (x0, y, z), u, deviations = normal(3, 50, 2), torch.linspace(0.05, 0.95, 50, dtype=DOUBLE), []
    wide = u[:, None]
    for c in (1.0, 0.1, 0.01, 0.001):
        x = (1 - wide) * x0 + wide * y + c * (wide * (1 - wide)).sqrt() * z
        flow = b.VEBridge(c).probability_flow(lambda *at: x0, y)
        v = flow(x, c * u.sqrt()) * per_sample("dt/du", c / (2 * u.sqrt()), x)
        assert_close(v, ((x - x0) / wide + (y - x) / (1 - wide)) / 2, rtol=1e-8, atol=1e-8)
        deviations.append((v - (y - x0)).norm().log10())
    assert_close(-torch.stack(deviations).diff(), torch.ones(3, dtype=DOUBLE), rtol=0, atol=0.02)


def test_rivals():
    """Both samplers step by step; the network gets times like the points."""
    y, seen, bridge, again = normal(4, 2), [], b.BrownianBridge(), generator(1)
    net = lambda x, t: seen.append((t.shape, t.dtype)) or torch.tanh(x) + t.to(x).view(-1, 1)  # noqa: E731
    i2sb, flow = (lambda net, y, **k: b.i2sb_sample(net, y, bridge, **k)), b.rectified_flow_sample
    found, x = i2sb(net, y, steps=7, generator=generator(1), clamp=(-0.8, 0.8)), y
    for k in range(7, 0, -1):
        t, s = (bridge.variance(at / 7).item() for at in (k, k - 1))
        clean = (x - math.sqrt(t) * (torch.tanh(x) + k / 7)).clamp(-0.8, 0.8)
        z = torch.randn(x.shape, generator=again, dtype=DOUBLE) if s else 0
        x = (s * x + (t - s) * clean) / t + math.sqrt(s * (t - s) / t) * z
    assert_close(found.samples, x)
    assert found.evaluations == len(seen) == 7
    found, x = flow(net, y, steps=5, clamp=(-0.4, 0.4)), y
    for k in range(5, 0, -1):
        d = torch.tanh(x) + k / 5
        x = x - d / 5 if k == 1 else x - (d + torch.tanh(x - d / 5) + (k - 1) / 5) / 10
    assert_close(found.samples, x.clamp(-0.4, 0.4))
    assert found.evaluations == len(seen) - 7 == 9
    for sample in (i2sb, flow):
        assert sample(net, y.float(), steps=3).samples.dtype == torch.float32
        assert seen[-1] == ((4,), torch.float32)
        refused([("x_T must hold floating-point", partial(sample, net, ref.BYTES)),
                 ("output must have shape", partial(sample, lambda x, t: x[:1], y))])  # fmt: skip


def test_bad_input():
    flat, noise, nan = normal(4, 3, dtype=torch.float32), normal(40, 4, 3), math.nan
    same, s = (lambda x, t, y: x), partial(b.bridge_sample, lambda x, t, y: x, flat, VP)
    unlike = lambda D, y=flat, **options: partial(b.bridge_sample, D, y, VP, **options)  # noqa: E731
    refused([
        ("churn must be at least 0 and below 1", *[partial(s, churn=churn) for churn in (1.0, -0.1, nan)]),
        ("steps must be a whole number of at least 2", partial(s, steps=1), partial(s, steps=4.0)),
        ("n must be a whole number of at least 2", lambda: b.karras_grid(1, 0.1, 1.0)),
        ("t_min must lie between 0 and t_max", *[partial(s, t_min=each) for each in (0.0, 1.0, nan)]),
        ("compat must be None or 'official', got 'repo'", partial(s, compat="repo")),
        ("x_T must hold floating-point numbers, got torch.uint8", unlike(same, ref.BYTES)),
        (r"the noise must have shape \(40, 4, 3\)", partial(s, noise=noise[:39]), partial(s, noise=noise[:, :1])),
        ("guidance must have shape", *[partial(s, guidance=torch.ones(shape)) for shape in ((3,), (4, 1))]),
        ("guidance must be finite", partial(s, guidance=nan)),
        ("the prediction must have shape", unlike(lambda x, t, y: x[:1]), unlike(lambda x, t, y: x[None])),
        ("not finite in step 1 of 40", unlike(same, flat * nan), unlike(lambda x, t, y: x / 0, clamp=(-1, 1))),
    ])  # fmt: skip
    sources = [partial(b.bridge_sample, same, bridge=VP), partial(b.rectified_flow_sample, lambda x, t: x),
               partial(b.i2sb_sample, lambda x, t: x, bridge=b.BrownianBridge())]  # fmt: skip
    for sample in sources:
        of = partial(sample, x_T=flat, steps=3)
        refused([
            ("clamp must be two numbers, the lower first, such as .*, got 1", partial(of, clamp=1)),
            (r"the lower first, such as .*, got \(1, -1\)", partial(of, clamp=(1, -1))),
            ("the lower first", *[partial(of, clamp=each) for each in ((0, 0), (nan, 1), (0, 1, 2), (None, 1))]),
            ("x_T must be a torch.Tensor, got ndarray", partial(of, x_T=flat.numpy())),
            ("x_T must be a torch.Tensor, got list", partial(of, x_T=[0.1, 0.2])),
            ("x_T must have shape .*, got one number", partial(of, x_T=flat[0, 0])),
            ("steps must be a .*whole number.*, got 0", partial(of, steps=0)),
        ])  # fmt: skip
        assert of(clamp=torch.tensor([-0.5, 0.5])).samples.abs().max() <= 0.5
        assert not of(x_T=flat.clone().requires_grad_()).samples.requires_grad
    refused([
        ("must be a Bridge such as VPBridge", *[partial(b.bridge_sample, same, flat, no) for no in ("VP", b.VPBridge)]),
        ("must be a BrownianBridge, got VPB", lambda: b.i2sb_sample(same, flat, VP)),
        ("churn must be one number, got", *[partial(s, churn=each) for each in (None, "some", torch.ones(2))]),
        ("t_min must be one number, got 'a'", partial(s, t_min="a")),
        ("both finite", lambda: b.karras_grid(3, 0.1, math.inf)),
        ("guidance must be one number or one per sample, got None", partial(s, guidance=None)),
        ("generator must be torch.Generator.*, got 1", partial(s, generator=1), partial(s, generator=1, churn=0.0)),
        ("the noise must be a torch.Tensor, got ndarray", partial(s, noise=noise.numpy())),
        ("the prediction must be a torch.Tensor, got ndarray", unlike(lambda x, t, y: x.numpy())),
        ("the prediction must hold floating-point", unlike(lambda x, t, y: x.long()), unlike(lambda x, t, y: x + 1j)),
        ("float16 may be too narrow, so take float32", unlike(lambda x, t, y: 1e5 * (x + 1), flat.half())),
    ])  # fmt: skip
    for churn in (0.0, 0.33):  # the end of a step, where the next one starts, belongs to the step
        for step, limit in enumerate(b.karras_grid(5, VP.t_min, VP.t_max - 1e-4)[1:-1].tolist(), 1):
            late = lambda x, t, y: x * nan if t[0] <= limit else x  # noqa: B023, E731
            refused([(f"not finite in step {step} of 5", unlike(late, steps=5, churn=churn))])
    large = torch.full((2, 3000), 100.0, dtype=torch.float16)  # whose sum float16 does not hold
    assert unlike(same, large, steps=10)().samples.isfinite().all()
    with pytest.warns(UserWarning, match=r"churn of 0.05 makes samples too spread out") as caught:
        b.bridge_sample(same, flat, VP, steps=2, churn=0.05)
    assert caught[0].filename == __file__
    assert unlike(same, 3 * flat + 2, steps=2, churn=0.1)().samples.isfinite().all()
