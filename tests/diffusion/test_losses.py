"""Losses against sums over all states with matrix exponentials, each other, and what they must start at."""

import itertools
import math

import brute_force
import pytest
import torch
from torch.nn.functional import one_hot

from loupe.diffusion.discrete import (
    Absorbing,
    Denoiser,
    GeometricNoise,
    LogLinearNoise,
    ScoreNetwork,
    Uniform,
    any_order_nats,
    autoregressive_nats,
    concrete_score_loss,
    d3pm_loss,
    likelihood_bound,
    masked_cross_entropy,
    score_entropy_loss,
    training_times,
)
from loupe.networks.transformer import Transformer

letters = pytest.mark.parametrize("graph", [Absorbing(27), Uniform(27)], ids=repr)
small = pytest.mark.parametrize("graph", [Absorbing(5), Uniform(5), Absorbing(2), Uniform(2)], ids=repr)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def case(graph, noise, shape=(6, 40), seed=0, dtype=torch.float64):
    """Clean and corrupted tokens, of which some of each kind, and a score of any values."""
    made = generator(seed)
    x0 = torch.randint(graph.tokens, shape, generator=made)
    x = graph.corrupt(x0, torch.as_tensor(noise), made)
    half = shape[1] // 2
    x[:, :half] = graph.mask if isinstance(graph, Absorbing) else (x0[:, :half] + 1) % graph.tokens
    return torch.randn(*shape, graph.states, generator=made, dtype=torch.float64).to(dtype), x, x0


def conditional_log_ratios(graph, noise, x, x0):
    """``log p(y | x0) / p(x | x0)``, from closed forms in float64."""
    noise = torch.as_tensor(noise, dtype=torch.float64)
    kept = one_hot(x0, graph.states) * (-noise).exp()
    if isinstance(graph, Absorbing):
        lost = one_hot(torch.full_like(x0, graph.tokens), graph.states) * -torch.expm1(-noise)
    else:
        lost = -torch.expm1(-noise) / graph.tokens
    logs = (kept + lost).log()
    return logs - logs.gather(-1, x.unsqueeze(-1))


def network(graph, *, seed=0, random=True, **options):
    made = Transformer(graph.states, **(dict(width=16, heads=2, blocks=2, condition=8, seed=seed) | options))
    if random:
        with torch.no_grad():
            for k, parameter in enumerate(made.parameters()):
                parameter.normal_(0, 0.3, generator=generator(seed + k))
    return made.double().eval()


# ---- score entropy


@letters
@pytest.mark.parametrize("noise", [1e-3, 0.5, 8.0])
def test_score_entropy_by_definition(graph, noise):
    score, x, x0 = case(graph, noise, (1, 12))
    found = graph.score_entropy(score, noise, x, x0)
    for i in range(12):
        wanted = brute_force.score_entropy(graph, score[0, i], noise, x[0, i].item(), x0[0, i].item())
        assert found[0, i].item() == pytest.approx(wanted, rel=1e-9, abs=1e-9)


@letters
def test_score_entropy_of_ten_thousand_scores(graph):
    noise = torch.logspace(-4, 0.9, 10, dtype=torch.float64)
    score, x, x0 = case(graph, noise, (10, 1000))
    assert graph.score_entropy(3 * score, noise, x, x0).min() >= -1e-9


@letters
@pytest.mark.parametrize("noise", [1e-4, 1e-2, 1.0, 8.0])
def test_score_entropy_vanishes_at_the_truth(graph, noise):
    _, x, x0 = case(graph, noise)
    truth = conditional_log_ratios(graph, noise, x, x0).clamp_min(-700)
    size = (truth.exp() * truth.abs()).sum(-1)
    assert (graph.score_entropy(truth, noise, x, x0).abs() <= 1e-10 * size.clamp_min(1e-3)).all()


@small
def test_score_entropy_gradients(graph):
    noise = torch.tensor([0.05, 0.7])
    score, x, x0 = case(graph, noise, (2, 6))
    score.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: graph.score_entropy(s, noise, x, x0), score, eps=1e-6, atol=1e-6
    )
    # Twice through one graph.
    nats = graph.score_entropy(score, noise, x, x0).sum()
    first = torch.autograd.grad(nats, score, retain_graph=True)[0].clone()
    assert torch.equal(torch.autograd.grad(nats, score)[0], first)
    # Strided, through another dtype, and functional.
    turned = score.detach().permute(2, 1, 0).contiguous().requires_grad_()
    assert torch.autograd.gradcheck(lambda s: graph.score_entropy(s.permute(2, 1, 0), noise, x, x0), turned)
    wanted = torch.autograd.grad(graph.score_entropy(score, noise, x, x0).sum(), score)[0]
    single = score.detach().float().requires_grad_()
    (found,) = torch.autograd.grad(graph.score_entropy(single.double(), noise, x, x0).sum(), single)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found.double(), wanted, rtol=1e-5, atol=1e-5)
    found = torch.func.grad(lambda s: graph.score_entropy(s, noise, x, x0).sum())(score.detach())
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=1e-12)


@letters
@pytest.mark.parametrize("kind", ["any", "near", "truth"])
def test_float32_score_entropy(graph, kind):
    for noise in (1e-4, 1e-3, 1e-2, 0.1, 1.0, 8.0):
        score, x, x0 = case(graph, noise)
        if kind != "any":
            truth = conditional_log_ratios(graph, noise, x, x0).clamp_min(-60)
            score = truth + (0.1 * score if kind == "near" else 0)
        check_float32(graph, score, noise, x, x0, 1e-4)


@pytest.mark.parametrize("graph", [Absorbing(50257), Uniform(50257)], ids=repr)
def test_float32_score_entropy_of_many_tokens(graph):
    for noise in (1e-6, 1e-4) if isinstance(graph, Uniform) else (1e-4,):
        score, x, x0 = case(graph, noise, (1, 6))
        check_float32(graph, score, noise, x, x0, 1e-3)
        truth = conditional_log_ratios(graph, noise, x, x0).clamp_min(-60)
        check_float32(graph, truth + 0.1 * score, noise, x, x0, 1e-3)
        check_float32(graph, truth, noise, x, x0, 1e-3)


def check_float32(graph, score, noise, x, x0, tolerance):
    single = score.float()
    exact, found = (graph.score_entropy(each, noise, x, x0) for each in (single.double(), single))
    assert found.dtype == torch.float32
    assert ((found - exact).abs() <= tolerance * exact.abs().clamp_min(1)).all()


def test_constants_of_many_tokens_keep_their_digits():
    # The published form of rho, 1 - N / (e + N), has none left here.
    graph, noise = Uniform(50257), 1e-4
    token = torch.zeros(1, 1, dtype=torch.int64)
    score = torch.zeros(1, 1, 50257)
    rho = math.expm1(noise) / (math.expm1(noise) + 50257)
    wanted = 50256 / 50257 * (1 + rho * (math.log(rho) - 1))
    assert graph.score_entropy(score, noise, token, token).item() == pytest.approx(wanted, rel=1e-6)


@pytest.mark.parametrize("tokens", [900, 3000])
@pytest.mark.parametrize("kind", [Absorbing, Uniform])
def test_rows_in_pieces(tokens, kind):
    """Wide rows, many of them, in more pieces than one: values and gradients as in one sum."""
    graph, noise = kind(tokens), 0.3
    score, x, x0 = case(graph, noise, (5, 80))
    score.requires_grad_()
    logs = conditional_log_ratios(graph, noise, x, x0)
    weight = (graph.rate_to(x) > 0).double() * (1 if kind is Absorbing else 1 / tokens)
    r = logs.exp()
    terms = score.exp() - r * score + torch.special.xlogy(r, r) - r
    wanted = (weight * torch.where(weight > 0, terms, 0)).sum(-1)
    found = graph.score_entropy(score, noise, x, x0)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    weights = torch.randn(5, 80, generator=generator()).double()
    grads = [torch.autograd.grad((each * weights).sum(), score)[0] for each in (found, wanted)]
    torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-12)
    half = score.detach().bfloat16().requires_grad_()
    (coarse,) = torch.autograd.grad((graph.score_entropy(half, noise, x, x0) * weights).sum(), half)
    assert coarse.dtype == torch.bfloat16
    torch.testing.assert_close(coarse.double(), grads[1], rtol=0.05, atol=0.05)


@small
def test_bfloat16_scores(graph):
    score, x, x0 = case(graph, 0.5, dtype=torch.bfloat16)
    found = graph.score_entropy(score, 0.5, x, x0)
    assert found.dtype == torch.float32
    torch.testing.assert_close(
        found.double(), graph.score_entropy(score.double(), 0.5, x, x0), rtol=1e-5, atol=1e-5
    )


@small
@pytest.mark.parametrize("value", [-math.inf, math.inf, 80.0, 1e4, math.nan])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_entries_without_a_use(graph, value, dtype):
    score, x, x0 = case(graph, 0.5, dtype=dtype)
    unused = one_hot(x, graph.states).bool()
    if isinstance(graph, Absorbing):
        unused |= (x != graph.mask).unsqueeze(-1)
    results = []
    for filled in (score.masked_fill(unused, value), score.masked_fill(unused, 0)):
        filled.requires_grad_()
        nats = graph.score_entropy(filled, 0.5, x, x0)
        results.append((nats.detach(), torch.autograd.grad(nats.sum(), filled)[0]))
    torch.testing.assert_close(results[0], results[1], rtol=0, atol=0)


@small
def test_no_sequences(graph):
    score, x, x0 = (each[:0].clone() for each in case(graph, 0.5))
    score.requires_grad_()
    nats = graph.score_entropy(score, torch.ones(0), x, x0)
    assert nats.shape == x.shape
    assert torch.autograd.grad(nats.sum(), score)[0].shape == score.shape


@small
def test_noise_of_all_or_each(graph):
    score, x, x0 = case(graph, 0.5)
    wanted = graph.score_entropy(score, 0.5, x, x0)
    for noise in (torch.tensor(0.5), torch.tensor([0.5]), torch.full((6,), 0.5)):
        assert torch.equal(graph.score_entropy(score, noise, x, x0), wanted)
    assert torch.equal(graph.score_entropy(score[0], 0.5, x[0], x0[0]), wanted[0])


def test_score_entropy_says_what_is_wrong():
    graph = Absorbing(5)
    score, x, x0 = case(graph, 0.5)
    with pytest.raises(ValueError, match="6 states, the last of them the mask"):
        graph.score_entropy(score[..., :5], 0.5, x, x0)
    with pytest.raises(ValueError, match=r"x0 must be from 0 to 4, got 5 to 9 \(5 is the mask\)"):
        graph.score_entropy(score, 0.5, x, x0 + 5)
    with pytest.raises(ValueError, match="x must be from 0 to 5, got"):
        graph.score_entropy(score, 0.5, x + 6, x0)
    with pytest.raises(ValueError, match=r"got torch.int32"):
        graph.score_entropy(score, 0.5, x.int(), x0.int())
    with pytest.raises(ValueError, match=r"the log-score must have shape \(1, 40, 6\)"):
        graph.score_entropy(score, 0.5, x[:1], x0[:1])
    with pytest.raises(ValueError, match=r"x0 must have shape \(1, 40\)"):
        graph.score_entropy(score, 0.5, x[:1], x0)
    with pytest.raises(ValueError, match=r"infinite without noise.*got 0"):
        graph.score_entropy(score, torch.tensor([1.0, 1, 0, 1, 1, 1]), x, x0)
    with pytest.raises(ValueError, match="noise must be at least 0"):
        graph.score_entropy(score, math.nan, x, x0)
    with pytest.raises(ValueError, match="infinite without noise"):
        score_entropy_loss(lambda x, total: score, x0, graph, LogLinearNoise(), torch.zeros(6))


# ---- where training starts


def test_absorbing_starts_at_the_uniform_bound():
    graph, noise = Absorbing(27), LogLinearNoise()
    score = ScoreNetwork(network(graph, random=False), graph).eval()
    mask, x0 = torch.full((1, 1), 27), torch.full((1, 1), 3)
    nodes = torch.linspace(1e-3, 1, 400, dtype=torch.float64)
    values = []
    for t in nodes:
        total, rate = noise(t)
        nats = graph.score_entropy(score(mask, total.view(1)), total, mask, x0)
        values.append(rate * -torch.expm1(-total) * nats.item())
    # Constant in time: ln(27) / t at masks, of which there are (1 - eps) t.
    torch.testing.assert_close(
        torch.stack(values), torch.full((400,), 0.999 * math.log(27)).double(), rtol=1e-9, atol=0
    )
    assert 0.999 * torch.stack(values).mean() / math.log(2) == pytest.approx(4.7454, abs=1e-4)


def test_uniform_starts_at_the_uniform_bound():
    graph, noise = Uniform(27), GeometricNoise()
    score = ScoreNetwork(network(graph, random=False), graph).eval()
    x, x0 = torch.tensor([[3, 4]]), torch.tensor([[3, 3]])
    low, high = (math.log(noise(t)[0].item()) for t in (1e-3, 1.0))
    edges = torch.linspace(low, high, 4001, dtype=torch.float64)
    middle = ((edges[1:] + edges[:-1]) / 2).exp()
    kept, wrong = graph.score_entropy(
        score(x.expand(4000, 2), middle), middle, x.expand(4000, 2), x0.expand(4000, 2)
    ).T
    moved = -torch.expm1(-middle) * 26 / 27
    path = ((1 - moved) * kept + moved * wrong) @ (middle * (edges[1] - edges[0]))

    def entropy(total):
        P = brute_force.kernel(graph, total)[:, 3]
        return -(P * P.log()).sum().item()

    assert path.item() == pytest.approx(entropy(math.exp(high)) - entropy(math.exp(low)), rel=1e-5)
    assert path.item() / math.log(2) == pytest.approx(4.753, abs=1e-3)


@letters
def test_the_training_loss_starts_there_too(graph):
    noise = LogLinearNoise() if isinstance(graph, Absorbing) else GeometricNoise()
    score = ScoreNetwork(Transformer(graph.states, width=8, heads=1, blocks=1, condition=4), graph)
    x0 = torch.randint(27, (3000, 32), generator=generator())
    with torch.no_grad():
        nats = score_entropy_loss(score, x0, graph, noise, training_times(3000, generator()), generator())
    error = nats.std() / 3000**0.5
    assert abs(0.999 * nats.mean() - 0.999 * math.log(27) * 32) < 4 * error
    assert error < 0.03 * 32 * math.log(27)


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


def table_score(graph, length, seed=0):
    """A score by a table of random conditionals of masked tokens, normalised, without time."""
    tables = torch.randn(graph.states**length, length, graph.tokens, generator=generator(seed)).double()
    place = graph.states ** torch.arange(length - 1, -1, -1)

    def log_probabilities(x):
        return tables[(x * place).sum(-1)].log_softmax(-1)

    def score(x, total):
        scale = torch.expm1(torch.as_tensor(total).double()).log().view(-1, 1, 1)
        return torch.nn.functional.pad(log_probabilities(x) - scale, (0, 1))

    return score, log_probabilities


def any_order_exact(log_probabilities, x0, asked, hidden, mask):
    """The mean over all orders of the nats of the asked tokens written in that order."""
    total, orders = 0.0, list(itertools.permutations(asked))
    for order in orders:
        x = x0.clone()
        x[list(asked) + list(hidden)] = mask
        for i in order:
            total -= log_probabilities(x.unsqueeze(0))[0, i, x0[i]].item()
            x[i] = x0[i]
    return total / len(orders)


def test_any_order_bound():
    graph = Absorbing(3)
    score, log_probabilities = table_score(graph, 4)
    x0 = torch.tensor([0, 2, 1, 1])
    for asked, hidden in (((0, 1, 2, 3), ()), ((1, 2), (3,)), ((2,), ())):
        wanted = any_order_exact(log_probabilities, x0, asked, hidden, 3)
        flags = [
            torch.zeros(4, dtype=torch.bool).index_fill(0, torch.tensor(at).long(), True)
            for at in (asked, hidden)
        ]
        n = 60_000 if len(asked) > 1 else 10
        draws = any_order_nats(score, x0.expand(n, -1), graph, *flags, generator=generator())
        assert abs(draws.mean().item() - wanted) < 4 * draws.std().item() / n**0.5 + 1e-9
    with pytest.raises(ValueError, match="got 0 asked"):
        any_order_nats(score, x0[None], graph, torch.zeros(4, dtype=torch.bool))
    with pytest.raises(ValueError, match="none of them hidden"):
        any_order_nats(
            score, x0[None], graph, torch.ones(4, dtype=torch.bool), torch.ones(4, dtype=torch.bool)
        )


def test_the_absorbing_bound_is_the_any_order_loss():
    """The whole integral over time, of normalised scores, against the enumeration of all orders."""
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
