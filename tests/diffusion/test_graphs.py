"""Kernels, rates, steps, schedules and draws, against matrix exponentials and frequencies."""

import math

import brute_force
import pytest
import torch
from scipy.stats import chi2

from loupe.diffusion.discrete import (
    Absorbing,
    GeometricNoise,
    LogLinearNoise,
    Uniform,
    categorical,
    exponential_sampling,
    training_times,
)

graphs = pytest.mark.parametrize("graph", [Absorbing(4), Uniform(4), Absorbing(2), Uniform(2)], ids=repr)
both = pytest.mark.parametrize("graph", [Absorbing(4), Uniform(4)], ids=repr)
methods = pytest.mark.parametrize("method", ["euler", "tweedie"])


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def assert_drawn_from(draws, distribution):
    """Chi-square of frequencies at the level 0.001; impossible states never come."""
    counts = torch.bincount(draws, minlength=len(distribution)).double()
    possible = distribution > 1e-15
    assert counts[~possible].sum() == 0
    wanted = len(draws) * distribution[possible]
    statistic = ((counts[possible] - wanted).square() / wanted).sum().item()
    assert possible.sum() == 1 or chi2.sf(statistic, int(possible.sum()) - 1) > 1e-3


# ---- kernels and rates


@graphs
@pytest.mark.parametrize("noise", [0.01, 0.7, 3.0])
def test_kernels_are_matrix_exponentials(graph, noise):
    states = torch.arange(graph.states)
    P = graph.transition(states, noise)
    torch.testing.assert_close(P.T, brute_force.kernel(graph, noise), rtol=0, atol=1e-12)
    torch.testing.assert_close(P.sum(1), torch.ones(graph.states).double(), rtol=0, atol=1e-14)
    torch.testing.assert_close(P @ graph.transition(states, 0.4), graph.transition(states, noise + 0.4))
    assert torch.equal(graph.transition(states, 0), torch.eye(graph.states).double())


@graphs
def test_rates(graph):
    states, Q = torch.arange(graph.states), brute_force.rate_matrix(graph)
    torch.testing.assert_close(graph.rate(states).T, Q)
    torch.testing.assert_close(graph.rate_to(states), Q)
    assert graph.rate(states).sum(1).abs().max() < 1e-15


@graphs
def test_tiny_noise_keeps_its_digits(graph):
    P = graph.transition(torch.arange(graph.tokens), 1e-12)
    away = 1 if isinstance(graph, Absorbing) else (graph.tokens - 1) / graph.tokens
    moved = P.masked_fill(torch.eye(graph.tokens, graph.states).bool(), 0).sum(1)
    torch.testing.assert_close(
        moved / 1e-12, torch.full_like(moved, away), rtol=1e-3 if away == 1 else 1e-9, atol=0
    )


@graphs
def test_corruption_follows_the_kernel(graph):
    x0 = torch.arange(graph.tokens).repeat(50_000, 1)
    x = graph.corrupt(x0, torch.tensor(0.7), generator())
    for token in range(graph.tokens):
        assert_drawn_from(x[:, token], brute_force.kernel(graph, 0.7)[:, token])


@graphs
def test_noise_of_each_sequence(graph):
    noise = torch.tensor([0.0, 0.5, 40.0])
    x0 = torch.zeros(3, 20_000, dtype=torch.int64)
    shares = (graph.corrupt(x0, noise, generator()) != 0).double().mean(1)
    away = 1 if isinstance(graph, Absorbing) else 1 - 1 / graph.tokens
    torch.testing.assert_close(shares, away * -torch.expm1(-noise.double()), rtol=0, atol=0.015)
    x = x0[:, :2]
    one = torch.stack([graph.transition(x[i], noise[i]) for i in range(3)])
    torch.testing.assert_close(graph.transition(x, noise), one)


@graphs
def test_limits(graph):
    x = graph.limit((100, 50), generator())
    assert x.shape == (100, 50)
    assert x.dtype == torch.int64
    far = brute_force.kernel(graph, 60)[:, 0]
    assert_drawn_from(x.flatten(), far)


def test_prior_gaps():
    for noise in (1e-3, 0.5, 4.0):
        P, eps = brute_force.kernel(Uniform(5), noise)[:, 2], math.exp(-noise)
        wanted = brute_force.divergence(P, torch.full((5,), 0.2, dtype=torch.float64))
        assert Uniform(5).prior_gap(torch.tensor(noise, dtype=torch.float64)).item() == pytest.approx(
            wanted, rel=1e-6
        )
        P = brute_force.kernel(Absorbing(5), noise)[:, 2]
        base = torch.tensor([eps / 5] * 5 + [1 - eps], dtype=torch.float64)
        assert Absorbing(5).prior_gap(noise).item() == pytest.approx(
            brute_force.divergence(P, base), rel=1e-6
        )
    assert Uniform(5).prior_gap(0.0).item() == pytest.approx(math.log(5))
    assert abs(Uniform(27).prior_gap(20.0).item()) < 1e-15
    eps = LogLinearNoise()(1.0)[0]
    assert Absorbing(27).prior_gap(eps).item() / math.log(2) == pytest.approx(0.0048, abs=5e-5)


# ---- the reversed chain


@both
def test_the_reversed_chain_undoes_the_chain(graph):
    p0 = torch.tensor([0.5, 0.3, 0.15, 0.05]).double()
    p = brute_force.marginal(p0, graph, 0.6)
    table = brute_force.log_scores(p, graph.states, 1)
    back = graph.reverse_rate(table, torch.arange(graph.states).unsqueeze(1))[:, 0]
    assert back.sum(1).abs().max() < 1e-13
    torch.testing.assert_close(p @ back, -(brute_force.rate_matrix(graph) @ p), rtol=0, atol=1e-14)


@graphs
@methods
@pytest.mark.parametrize("step", [1e-3, 0.4, 2.5])
def test_steps_of_any_score(graph, method, step):
    x = torch.arange(graph.states).unsqueeze(0)
    log_score = torch.randn(1, graph.states, graph.states, generator=generator(), dtype=torch.float64)
    found = graph.probabilities(log_score, x, torch.tensor([step], dtype=torch.float64), method)
    found = found / found.sum(-1, keepdim=True)
    for i in range(graph.states):
        wanted = brute_force.step_probabilities(graph, log_score[0, i], i, step, method)
        torch.testing.assert_close(found[0, i], wanted, rtol=0, atol=1e-12)


@graphs
def test_the_last_step(graph):
    x = torch.arange(graph.states).unsqueeze(0)
    log_score = torch.randn(1, graph.states, graph.states, generator=generator(), dtype=torch.float64)
    found = graph.denoise_probabilities(log_score, x, 0.3)
    for i in range(graph.states):
        wanted = brute_force.step_probabilities(graph, log_score[0, i], i, 0.3, "tweedie")
        wanted[graph.tokens :] = 0
        torch.testing.assert_close(found[0, i], wanted / wanted.sum(), rtol=0, atol=1e-12)


@both
@methods
@pytest.mark.parametrize("step", [0.05, 0.5, 3.0])
def test_draws_of_a_step(graph, method, step):
    n = 40_000
    log_score = torch.randn(graph.states, graph.states, generator=generator(1))
    x = torch.arange(graph.states).repeat(n, 1)
    scores = log_score.expand(n, -1, -1)
    drawn = graph.advance(scores, x, torch.tensor(step), method=method, generator=generator())
    last = graph.denoise(scores, x, torch.tensor(0.4), generator())
    for i in range(graph.states):
        assert_drawn_from(drawn[:, i], brute_force.step_probabilities(graph, log_score[i], i, step, method))
        assert_drawn_from(last[:, i], graph.denoise_probabilities(log_score[None], x[:1], 0.4)[0, i])


@pytest.mark.parametrize("tokens", [5, 2000])
def test_a_mask_goes_alike_in_rows_of_any_width(tokens):
    graph = Absorbing(tokens)
    x = torch.where(torch.rand(40, 30, generator=generator()) < 0.5, graph.mask, 1)
    score = torch.full((40, 30, graph.states), -math.log(tokens))
    y = graph.advance(score, x, torch.tensor(0.3), generator=generator())
    assert torch.equal(y[x != graph.mask], x[x != graph.mask])
    gone = (y != x).sum() / (x == graph.mask).sum()
    assert abs(gone - math.expm1(0.3)) < 0.08


@both
def test_entries_that_are_not_used(graph):
    x0 = torch.randint(4, (3, 6), generator=generator())
    x = graph.corrupt(x0, 1.0, generator())
    x[:, 0] = x0[:, 0]
    score = torch.randn(3, 6, graph.states, generator=generator(), dtype=torch.float64)
    unused = torch.nn.functional.one_hot(x, graph.states).bool()
    if isinstance(graph, Absorbing):
        unused |= (x != graph.mask).unsqueeze(-1)
    clean = score.masked_fill(unused, 0)
    for value in (-math.inf, math.inf, 80.0, 1e4, math.nan):
        odd = score.masked_fill(unused, value)
        for method in ("euler", "tweedie"):
            torch.testing.assert_close(
                graph.probabilities(odd, x, 0.1, method), graph.probabilities(clean, x, 0.1, method)
            )
        torch.testing.assert_close(
            graph.denoise_probabilities(odd, x, 0.1), graph.denoise_probabilities(clean, x, 0.1)
        )
        assert torch.equal(
            graph.advance(odd, x, 0.1, generator=generator()),
            graph.advance(clean, x, 0.1, generator=generator()),
        )
        assert torch.equal(graph.denoise(odd, x, 0.1, generator()), graph.denoise(clean, x, 0.1, generator()))


@graphs
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 1), (1, 4)])
def test_small_shapes(graph, shape):
    x = graph.limit(shape, generator())
    score = torch.zeros(*shape, graph.states)
    for noise in (0.5, 1, torch.tensor(0.5), torch.full(shape[:1], 0.5)):
        assert graph.transition(x, noise).shape == score.shape
        assert graph.corrupt(torch.zeros_like(x), noise).shape == shape
        assert graph.advance(score, x, noise).shape == shape
        assert (graph.denoise(score, x, noise) < graph.tokens).all()
        assert graph.denoise_probabilities(score, x, noise).shape == score.shape


@both
def test_strided_inputs(graph):
    x = graph.limit((6, 3), generator())
    score = torch.randn(6, 3, graph.states, generator=generator())
    wanted = graph.advance(score, x, 0.2, generator=generator())
    strided = score.permute(2, 1, 0).contiguous().permute(2, 1, 0)
    assert not strided.is_contiguous()
    assert torch.equal(graph.advance(strided, x.T.contiguous().T, 0.2, generator=generator()), wanted)


def test_graphs_say_what_is_wrong():
    score, x = torch.zeros(2, 3, 6), torch.zeros(2, 3, dtype=torch.int64)
    for tokens in (1, 0, -3):
        with pytest.raises(ValueError, match=f"tokens must be a whole number of at least 2, got {tokens}"):
            Absorbing(tokens)
    with pytest.raises(ValueError, match=r"x0 must be from 0 to 4, got 0 to 5 \(5 is the mask\)"):
        Absorbing(5).corrupt(torch.tensor([[0, 5]]), 1.0)
    with pytest.raises(ValueError, match="x0 must be from 0 to 4, got -1 to 3"):
        Uniform(5).corrupt(torch.tensor([[-1, 3]]), 1.0)
    with pytest.raises(ValueError, match=r"got torch.int32: convert whole numbers with .long\(\)"):
        Uniform(5).corrupt(x.int(), 1.0)
    with pytest.raises(ValueError, match=r"got torch.float32"):
        Absorbing(5).transition(x.float(), 1.0)
    with pytest.raises(ValueError, match=r"6 states, the last of them the mask.*got 5"):
        Absorbing(5).advance(score[..., :5], x, 0.1)
    with pytest.raises(ValueError, match="5 states: the log-score must have as many, got 6"):
        Uniform(5).advance(score, x, 0.1)
    with pytest.raises(ValueError, match="euler, tweedie, got 'midpoint'"):
        Absorbing(5).advance(score, x, 0.1, method="midpoint")
    with pytest.raises(ValueError, match="euler, tweedie, got 'midpoint'"):
        Uniform(6).advance(score, x, 0.1, method="midpoint")
    for graph in (Absorbing(5), Uniform(5)):
        for noise in (-1.0, math.nan):
            with pytest.raises(ValueError, match="noise must be at least 0"):
                graph.corrupt(x, noise)
    with pytest.raises(ArithmeticError, match="finite"):
        Absorbing(5).advance(torch.full_like(score, math.nan), x + 5, 0.1)


# ---- schedules


@pytest.mark.parametrize(
    "noise", [GeometricNoise(), LogLinearNoise(), GeometricNoise(1e-3, 1), LogLinearNoise(0.1)]
)
def test_rates_are_derivatives(noise):
    t = torch.linspace(0.01, 0.98, 60, dtype=torch.float64)
    h = 1e-5 * (1 - t)
    slope = (noise(t + h)[0] - noise(t - h)[0]) / (2 * h)
    torch.testing.assert_close(noise(t)[1], slope, rtol=1e-6, atol=0)
    assert noise(t)[0].dtype == torch.float64
    assert noise(t.float())[0].shape == t.shape


def test_schedules_at_their_ends():
    t = torch.linspace(0, 1, 11, dtype=torch.float64)
    torch.testing.assert_close(1 - (-LogLinearNoise()(t)[0]).exp(), (1 - 1e-3) * t)
    assert LogLinearNoise()(1.0)[0].item() == pytest.approx(-math.log(1e-3), rel=1e-13)
    assert LogLinearNoise()(0)[0].item() == 0
    assert LogLinearNoise()(1e-12)[0].item() == pytest.approx(0.999e-12, rel=1e-9)
    ends = GeometricNoise()(torch.tensor([0.0, 1.0]))[0]
    torch.testing.assert_close(ends, torch.tensor([1e-4, 20.0], dtype=torch.float64), rtol=1e-13, atol=0)
    assert LogLinearNoise()(torch.tensor([]))[0].shape == (0,)


def test_schedules_say_what_is_wrong():
    for ends in ((0, 1), (-1, 1), (1, 1), (2, 1), (1e-4, math.inf), (math.nan, 1)):
        with pytest.raises(ValueError, match="from a minimum above 0 to a maximum"):
            GeometricNoise(*ends)
    for eps in (0, 1, 1.5, -0.1, math.nan):
        with pytest.raises(ValueError, match="eps must lie between 0 and 1"):
            LogLinearNoise(eps)
    for t in (-0.1, 1.1, math.nan, torch.tensor([0.5, 2])):
        with pytest.raises(ValueError, match="times must lie between 0 and 1"):
            GeometricNoise()(t)
    for start in (1.0, -0.1):
        with pytest.raises(ValueError, match="start must be at least 0 and below 1"):
            training_times(3, start=start)


def test_training_times():
    t = training_times(1000, generator(), start=0.1)
    share = ((t - 0.1) / 0.9 * 1000).sort().values
    torch.testing.assert_close(share.floor(), torch.arange(1000).double())
    torch.testing.assert_close(share.frac(), share[:1].frac().expand(1000), rtol=0, atol=1e-8)
    assert not torch.equal(t, t.sort().values)
    loose = training_times(100_000, generator(), stratified=False)
    assert loose.min() >= 1e-3
    assert loose.max() <= 1
    assert abs(loose.mean() - 0.5005) < 0.005
    # Unbiased: each time by itself is uniform.
    first = torch.stack([training_times(4, generator(k), start=0)[0] for k in range(4000)])
    assert abs(first.mean() - 0.5) < 0.02
    assert abs(first.var() - 1 / 12) < 0.006
    assert training_times(0).shape == (0,)


# ---- draws


@pytest.mark.parametrize("draw", ["categorical", "exponential sampling", "multinomial"])
def test_a_million_draws(draw):
    weights = torch.tensor([1e-4, 0.3, 0.0, 2.0, 1.0, 0.05]).double()
    rows = weights.expand(1_000_000, -1)
    if draw == "categorical":
        drawn = categorical(rows, torch.rand(1_000_000, generator=generator(), dtype=torch.float64))
    elif draw == "exponential sampling":
        drawn = exponential_sampling(rows, generator())
    else:
        drawn = torch.multinomial(weights, 1_000_000, replacement=True, generator=generator())
    assert_drawn_from(drawn, weights / weights.sum())


def test_exponential_sampling_in_fewer_digits_loses_rare_states():
    rare = torch.full((200_000, 33), 1.0)
    rare[:, 1:] = 3e-5
    wanted = 32 * 3e-5 / (1 + 32 * 3e-5)
    share = {
        dtype: (exponential_sampling(rare, generator(), dtype) > 0).double().mean().item()
        for dtype in (torch.float64, torch.float32, torch.float16)
    }
    assert share[torch.float64] == pytest.approx(wanted, rel=0.3)
    assert share[torch.float16] < 0.3 * share[torch.float64]


def test_draws_at_the_edges():
    weights = torch.tensor([[0.0, 1, 0, 2, 0]] * 4)
    uniform = torch.tensor([0.0, 1 - 2**-53, 1 / 3, 0.3333]).double()
    assert categorical(weights, uniform).tolist() == [1, 3, 3, 1]
    assert categorical(torch.ones(0, 3), torch.ones(0).double()).shape == (0,)
    assert categorical(torch.rand(3, 5).T, torch.rand(5, 2).double()[:, 0]).shape == (5,)
    for row in ([0.0, 0], [math.nan, 1], [math.inf, 1]):
        with pytest.raises(ArithmeticError, match="finite and not all 0"):
            categorical(torch.tensor([row]), torch.tensor([0.5]).double())
        with pytest.raises(ArithmeticError, match="finite and not all 0"):
            exponential_sampling(torch.tensor([row]))
