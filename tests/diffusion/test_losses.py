"""Losses against sums over all states with matrix exponentials, each other, and what they must start at."""

import math

import brute_force
import pytest
import torch
from loss_cases import case, conditional_log_ratios, generator, letters, network, small
from torch.nn.functional import one_hot

from loupe.diffusion.discrete import (
    Absorbing,
    GeometricNoise,
    LogLinearNoise,
    ScoreNetwork,
    Uniform,
    score_entropy_loss,
    training_times,
)
from loupe.networks.transformer import Transformer

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
