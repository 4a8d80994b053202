"""Losses beside score entropy: concrete scores, masked cross-entropy, D3PM, autoregression; bounds."""

import itertools
import math

import brute_force
import pytest
import torch
from loss_cases import case, generator, letters, network

from loupe.diffusion.discrete import (
    Absorbing,
    ConstantNoise,
    Denoiser,
    GeometricNoise,
    LogLinearNoise,
    ScoreNetwork,
    Uniform,
    any_order_nats,
    autoregressive_nats,
    concrete_score_loss,
    d3pm_bound,
    d3pm_loss,
    likelihood_bound,
    masked_cross_entropy,
    named_method,
    normalization_excess,
    score_entropy_loss,
    training_times,
)
from loupe.diffusion.discrete.methods import NAMED
from loupe.networks.transformer import Transformer

# ---- other losses


def test_concrete_score_by_definition():
    for graph, noise in ((Absorbing(5), LogLinearNoise()), (Uniform(5), GeometricNoise())):
        x0 = torch.randint(5, (3, 4), generator=generator())
        times = torch.tensor([0.3, 0.6, 0.9])
        score = torch.randn(3, 4, graph.states, generator=generator(), dtype=torch.float64)
        found = concrete_score_loss(lambda x, total, s=score: s, x0, graph, noise, times, generator(7))
        total, rate = noise(times)
        x = graph.corrupt(x0, total, generator(7))
        Q = brute_force.rate_matrix(graph)
        for b in range(3):
            P, value = brute_force.kernel(graph, total[b]), 0.0
            for i, y in itertools.product(range(4), range(graph.states)):
                if y != x[b, i]:
                    r = P[y, x0[b, i]] / P[x[b, i], x0[b, i]]
                    value += 0.5 * (Q[x[b, i], y] * (score[b, i, y].exp() - r) ** 2).item()
            assert found[b].item() == pytest.approx(rate[b].item() * value, rel=1e-9, abs=1e-12)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("noise", [LogLinearNoise(), GeometricNoise(1e-3, 8)], ids=repr)
def test_masked_cross_entropy_is_score_entropy(dtype, noise):
    """For every draw, and for log-linear noise the cross-entropy over the time."""
    graph = Absorbing(27)
    denoiser = Denoiser(network(graph).to(dtype), graph)
    x0 = torch.randint(27, (20, 16), generator=generator())
    times = training_times(20, generator())
    first = score_entropy_loss(denoiser, x0, graph, noise, times, generator(3))
    second = masked_cross_entropy(denoiser, x0, graph, noise, times, generator(3))
    tolerance = 1e-10 if dtype == torch.float64 else 2e-6
    torch.testing.assert_close(first.double(), second.double(), rtol=tolerance, atol=tolerance)
    if isinstance(noise, LogLinearNoise):
        total = noise(times)[0]
        x = graph.corrupt(x0, total, generator(3))
        right = denoiser.log_probabilities(x, total).gather(-1, x0.unsqueeze(-1)).squeeze(-1)
        by_time = -(right * (x == 27)).sum(-1) / times
        torch.testing.assert_close(second.double(), by_time.double(), rtol=1e-5, atol=1e-5)


def test_the_excess_of_scores_that_are_not_normalised():
    graph, total = Absorbing(7), torch.tensor(0.8, dtype=torch.float64)
    score, x, x0 = case(graph, total)
    x = torch.full_like(x, 7)
    C = score[..., :7].exp().sum(-1)
    scaled = score - torch.expm1(total).log()
    normal = -(score.gather(-1, x0.unsqueeze(-1)).squeeze(-1) - C.log()) / torch.expm1(total)
    excess = graph.score_entropy(scaled, total, x, x0) - normal
    torch.testing.assert_close(excess, (C - 1 - C.log()) / torch.expm1(total), rtol=1e-9, atol=1e-9)


def d3pm_term(log_p, token, k, T, N):
    """``KL(q(x_{k-1} | x_k = M, x0) || p(x_{k-1} | x_k = M))``, from the one-step matrices of the chain."""

    def one_step(k):
        Q = torch.eye(N + 1, dtype=torch.float64) * (1 - 1 / (T - k + 1))
        Q[N] += 1 / (T - k + 1)
        return Q

    before = torch.eye(N + 1, dtype=torch.float64)
    for j in range(1, k):
        before = one_step(j) @ before
    joint = before * one_step(k)[N].unsqueeze(1)  # p(x_{k-1}, x_k = M | x0), columns x0
    true = joint[:, token] / joint[:, token].sum()
    model = joint @ log_p.exp()  # eq. 4 of D3PM: summed over x0 with the network's weights
    return brute_force.divergence(true, model / model.sum())


@pytest.mark.parametrize("spends", [True, False])
def test_d3pm_by_the_discrete_chain(spends):
    T, N, graph = 5, 3, Absorbing(3)
    logits = torch.randn(1, 6, N + 1, generator=generator(), dtype=torch.float64)
    logits[..., N] = logits[..., N] if spends else -math.inf
    log_p = logits.log_softmax(-1)[0]
    x0 = torch.tensor([[0, 1, 2, 2, 1, 0]])
    for k in range(1, T + 1):
        wanted = [d3pm_term(log_p[i], x0[0, i].item(), k, T, N) for i in range(6)]
        for share in (1e-6, 0.5, 1.0):  # anywhere in the step
            times = torch.tensor([(k - 1 + share) / T], dtype=torch.float64)
            found = d3pm_loss(lambda x, total: logits, x0, graph, T, times, generator(k))
            draw = torch.rand(x0.shape, generator=generator(k), dtype=torch.float64)
            masked = draw < k / T
            assert found.item() == pytest.approx(
                T * sum(w for w, m in zip(wanted, masked[0], strict=True) if m)
            )
            if not spends:
                nats = -log_p.gather(1, x0.T).squeeze(1)
                assert found.item() == pytest.approx((nats * masked[0]).sum().item() * T / k)
            more = d3pm_loss(lambda x, total: logits, x0, graph, T, times, generator(k), auxiliary=0.1)
            nats = -(log_p.gather(1, x0.T).squeeze(1) * masked[0]).sum()
            assert (more - found).item() == pytest.approx(0.1 * nats.item())
    with pytest.raises(ValueError, match="steps must be a positive whole number, got 0"):
        d3pm_loss(lambda x, total: logits, x0, graph, 0, times)


def test_the_bound_of_d3pm_is_the_mean_of_its_loss():
    graph, sizes = Absorbing(5), []
    x0 = torch.randint(5, (2, 3, 6), generator=generator())
    random = network(graph)

    def counted(x, total):
        sizes.append(len(x))
        return random(x, total)

    found = d3pm_bound(counted, x0, graph, 8, times=400, batch=7, generator=generator(1))
    assert (found.shape, max(sizes), sum(sizes)) == ((2, 3), 7, 2400)
    times = torch.arange(1, 9).repeat_interleave(300) / 8
    many = [
        d3pm_loss(random, x0[0, :1].expand(2400, -1), graph, 8, times, generator(k)).mean() for k in range(3)
    ]
    assert found[0, 0].item() == pytest.approx(torch.stack(many).mean().item(), rel=0.05)
    for sequences, times, match in ((x0[:0], 3, "needs sequences"), (x0, 0, "positive whole number, got 0")):
        with pytest.raises(ValueError, match=match):
            d3pm_bound(random, sequences, graph, 8, times=times)


def test_the_excess_is_what_normalization_saves():
    graph, noise, times = Absorbing(5), LogLinearNoise(), torch.tensor([0.3, 0.8])
    x0 = torch.randint(5, (2, 6), generator=generator())
    denoiser = Denoiser(network(graph), graph)

    def scaled(x, total):  # scores that sum to more than they must
        return denoiser(x, total) + 0.5

    given = (x0, graph, noise, times)
    loss, least = (score_entropy_loss(one, *given, generator(3)) for one in (scaled, denoiser))
    excess = normalization_excess(scaled, *given, generator(3))
    torch.testing.assert_close(excess.sum(1), loss - least, rtol=1e-6, atol=1e-6)
    assert normalization_excess(denoiser, *given, generator(3)).abs().max() < 1e-9
    total, rate = noise(times)
    masked = graph.corrupt(x0, total, generator(3)) == graph.mask
    each = (rate / torch.expm1(total)).unsqueeze(1) * (math.exp(0.5) - 1.5)
    torch.testing.assert_close(excess, masked * each.expand_as(masked), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("name", [*NAMED, "D3PM", "autoregressive"])
def test_a_method_has_a_loss_and_a_bound(name):
    """In expectation the loss is the bound, at the same times."""
    method = named_method(name, 5, steps=16)
    options = {"width": 16, "heads": 2, "blocks": 1, "seed": 1} | method.options
    model = method.model(Transformer(method.states, **options)).eval()
    x0 = torch.randint(5, (4, 8), generator=generator())
    with torch.no_grad():
        published, strict = method.bound(model, x0, times=512, batch=256, generator=generator())
        first = method.first or 0
        times = training_times(len(x0) * 500, generator(2), start=first)
        loss = method.loss(model, x0.repeat(500, 1), times, generator(3)).mean()
    assert (strict >= published - 1e-12).all()
    if name != "concrete score":  # it is no likelihood
        assert loss.item() * (1 - first) == pytest.approx(published.mean().item(), rel=0.1)
    assert (strict / 8 / math.log(5) - 1).abs().max() < 0.35  # an untrained network knows nothing
    with pytest.raises(ValueError, match=r"one of SEDD absorb, .*, got 'GPT'"):
        named_method("GPT", 5)


def test_constant_noise_hides_the_time():
    graph, seen = Absorbing(5), []

    def logits(x, noise):
        seen.append(noise)
        return torch.zeros(*x.shape, 6)

    x = torch.full((2, 4), graph.mask)
    scores = ConstantNoise(logits, graph)(x, torch.tensor([0.1, 2.0]))
    assert seen == [math.log(2)]
    torch.testing.assert_close(
        scores[:, 0, 0].exp() * torch.expm1(torch.tensor([0.1, 2.0])), torch.full((2,), 0.2)
    )


def table_score(graph, length, seed=0):
    """A score by a table of random conditionals of masked tokens, normalized, without time."""
    tables = torch.randn(graph.states**length, length, graph.tokens, generator=generator(seed)).double()
    place = graph.states ** torch.arange(length - 1, -1, -1)

    def log_probabilities(x):
        return tables[(x * place).sum(-1)].log_softmax(-1)

    def score(x, total):
        scale = torch.expm1(torch.as_tensor(total).double()).log().view(-1, 1, 1)
        return torch.nn.functional.pad(log_probabilities(x) - scale, (0, 1))

    return score, log_probabilities


def any_order_exact(log_probabilities, x0, requested, always_masked, mask):
    """The mean over all orders of the nats of the asked tokens written in that order."""
    total, orders = 0.0, list(itertools.permutations(requested))
    for order in orders:
        x = x0.clone()
        x[list(requested) + list(always_masked)] = mask
        for i in order:
            total -= log_probabilities(x.unsqueeze(0))[0, i, x0[i]].item()
            x[i] = x0[i]
    return total / len(orders)


def test_any_order_bound():
    graph = Absorbing(3)
    score, log_probabilities = table_score(graph, 4)
    x0 = torch.tensor([0, 2, 1, 1])
    for requested, always_masked in (((0, 1, 2, 3), ()), ((1, 2), (3,)), ((2,), ())):
        wanted = any_order_exact(log_probabilities, x0, requested, always_masked, 3)
        flags = [
            torch.zeros(4, dtype=torch.bool).index_fill(0, torch.tensor(at).long(), True)
            for at in (requested, always_masked)
        ]
        n = 60_000 if len(requested) > 1 else 10
        draws = any_order_nats(score, x0.expand(n, -1), graph, *flags, generator=generator())
        assert abs(draws.mean().item() - wanted) < 4 * draws.std().item() / n**0.5 + 1e-9
    with pytest.raises(ValueError, match="got 0 requested"):
        any_order_nats(score, x0[None], graph, torch.zeros(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="none of them masked"):
        any_order_nats(
            score, x0[None], graph, torch.ones(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)
        )


def test_the_absorbing_bound_is_the_any_order_loss():
    """The whole integral over time, of normalized scores, against the enumeration of all orders."""
    graph, noise = Absorbing(3), LogLinearNoise()
    score, log_probabilities = table_score(graph, 4)
    x0 = torch.tensor([0, 2, 1, 1])
    wanted = any_order_exact(log_probabilities, x0, range(4), (), 3)
    bound = likelihood_bound(
        score, x0.expand(400, -1), graph, noise, times=64, batch=256, generator=generator()
    )
    nats = bound.path + bound.end
    # What is masked never at time 1, a share of 1e-3, is written for nothing.
    assert abs(nats.mean().item() - wanted) < 4 * nats.std().item() / 20 + 4 * 1e-3 * wanted


def test_autoregressive_nats_sum_to_one():
    model = network(Uniform(4), condition=0, causal=True)
    x0 = torch.cartesian_prod(*[torch.arange(3)] * 4)

    def net(x):
        return model(x)[..., :3]

    nats = autoregressive_nats(net, x0, 3)
    assert nats.shape == (81, 4)
    assert (-nats.sum(-1)).exp().sum().item() == pytest.approx(1, abs=1e-12)
    # The last token changes only its own part.
    assert torch.equal(nats[::3, :3], nats[1::3, :3])


@pytest.mark.parametrize("batch", [7, 64, 1000])
def test_bounds_in_batches(batch):
    graph = Absorbing(5)
    score = Denoiser(network(graph), graph)
    x0 = torch.randint(5, (3, 6), generator=generator())
    sizes = []

    def counted(x, total):
        sizes.append(len(x))
        return score(x, total)

    bound = likelihood_bound(
        counted, x0, graph, LogLinearNoise(), times=40, batch=batch, generator=generator()
    )
    assert max(sizes) <= batch
    assert sum(sizes) == 3 * 45
    assert bound.path.shape == bound.end.shape == bound.prior.shape == (3,)
    assert not bound.path.requires_grad
    torch.testing.assert_close(
        bound.bits(strict=True) * 6 * math.log(2), bound.path + bound.end + bound.prior, rtol=1e-12, atol=0
    )
    for sequences, times, match in ((x0[:0], 3, "needs sequences"), (x0, 0, "positive whole number, got 0")):
        with pytest.raises(ValueError, match=match):
            likelihood_bound(score, sequences, graph, LogLinearNoise(), times=times)


@letters
def test_training_under_autocast(graph):
    score = ScoreNetwork(network(graph).float(), graph)
    x0 = torch.randint(27, (4, 8), generator=generator())
    noise, times = LogLinearNoise(), torch.tensor([0.2, 0.4, 0.6, 0.8])
    plain = score_entropy_loss(score, x0, graph, noise, times, generator())
    with torch.autocast("cpu", torch.bfloat16):
        nats = score_entropy_loss(score, x0, graph, noise, times, generator())
    assert nats.dtype == torch.float32
    torch.testing.assert_close(nats, plain, rtol=0.1, atol=0.5)
    nats.sum().backward()
    assert all(p.grad.isfinite().all() for p in score.parameters())
