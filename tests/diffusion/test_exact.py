"""The exact laboratories against matrices over all sequences, and the theorems of the paper in them."""

import itertools
import math

import brute_force
import pytest
import torch

from loupe.diffusion.discrete import (
    Absorbing,
    GeometricNoise,
    LogLinearNoise,
    Uniform,
    likelihood_bound,
    sample,
)
from loupe.diffusion.discrete.bigram import BigramOracle, stationary_chain
from loupe.diffusion.discrete.enumeration import Enumeration, divergence, frequencies, total_variation

both = pytest.mark.parametrize("graph", [Absorbing(3), Uniform(3)], ids=repr)
noises = pytest.mark.parametrize("noise", [LogLinearNoise(), GeometricNoise(1e-4, 20.0)], ids=repr)
DISTRIBUTION = brute_force.random_distribution(3, 4)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def perturbed(score, size, seed=0):
    """Another score, the same at each call with the same tokens."""

    def other(x, total_noise):
        logs = score(x, total_noise)
        place = logs.shape[-1] ** torch.arange(x.shape[1])
        phase = ((x * place).sum(-1) + seed)[:, None, None] * 0.7 + torch.arange(x.shape[1])[:, None] * 1.3
        return logs + size * torch.sin(phase + 2.1 * torch.arange(logs.shape[-1]))

    return other


def chain(seed=0, N=3, sharp=2):
    made = generator(seed)
    initial, rows = (
        torch.rand(*shape, generator=made, dtype=torch.float64) ** sharp for shape in ((N,), (N, N))
    )
    return initial / initial.sum(), rows / rows.sum(1, keepdim=True)


def chain_distribution(initial, rows, length):
    distribution = initial
    for _ in range(length - 1):
        distribution = distribution.unsqueeze(-1) * rows
    return distribution


# ---- enumeration


@both
@pytest.mark.parametrize("total", [1e-4, 0.3, 2.0, 9.0])
def test_marginals_and_scores(graph, total):
    laboratory = Enumeration(DISTRIBUTION, graph)
    p = brute_force.marginal(DISTRIBUTION, graph, total)
    torch.testing.assert_close(laboratory.marginal(total), p, rtol=1e-9, atol=1e-16)
    assert laboratory.sequences.tolist() == [list(x) for x in brute_force.sequences(graph.states, 4)]
    assert laboratory.index(laboratory.sequences).tolist() == list(range(graph.states**4))
    wanted = brute_force.log_scores(laboratory.marginal(total), graph.states, 4)
    torch.testing.assert_close(laboratory.table(laboratory, total), wanted, rtol=0, atol=1e-12)
    K = brute_force.kron([brute_force.kernel(graph, total)] * 4)
    from_clean = laboratory.conditional(total)
    torch.testing.assert_close(from_clean, K[:, laboratory.index(laboratory.clean)].T, rtol=1e-9, atol=1e-15)


@both
def test_scores_of_any_batch(graph):
    laboratory = Enumeration(DISTRIBUTION, graph)
    x = torch.randint(graph.states, (7, 4), generator=generator())
    noise = torch.tensor([0.1, 2.0, 0.1, 0.5, 0.5, 3.0, 0.1], dtype=torch.float64)
    found = laboratory(x, noise)
    assert found.shape == (7, 4, graph.states)
    for i in range(7):
        torch.testing.assert_close(found[i], laboratory(x[i], noise[i].item()))
    assert found.gather(-1, x.unsqueeze(-1)).abs().max() == 0
    assert laboratory(x[:0], noise[:0]).shape == (0, 4, graph.states)


def test_unreachable_sequences_have_score_one():
    distribution = torch.zeros(3, 3)
    distribution[0, 1] = distribution[1, 2] = 0.5
    laboratory = Enumeration(distribution, Absorbing(3))
    assert torch.equal(laboratory(torch.tensor([[0, 0]]), 1.0), torch.zeros(1, 2, 4).double())
    found = laboratory(torch.tensor([[0, 3]]), 1.0)[0, 1]
    torch.testing.assert_close(
        found.exp(), torch.tensor([0, 1 / math.expm1(1), 0, 1]).double(), rtol=1e-7, atol=0
    )
    nats = laboratory.path(laboratory, 1e-3, 3.0, nodes=8, pieces=1)
    assert torch.equal(nats.isfinite(), distribution.flatten() > 0)


def test_enumeration_says_what_is_wrong():
    for distribution, graph, match in (
        (torch.ones(3, 4) / 12, Uniform(3), "3 entries on each axis, got"),
        (torch.ones(3, 3), Uniform(3), "sum to 1, got 1 and 9"),
        (torch.tensor([1.5, -0.5]), Uniform(2), "at least 0"),
        (torch.ones((3,) * 8, dtype=torch.float64) / 3**8, Absorbing(3), "too many to list"),
    ):
        with pytest.raises(ValueError, match=match):
            Enumeration(distribution, graph)
    for start, end in ((0, 1), (2, 1)):
        with pytest.raises(ValueError, match="must rise from above 0"):
            Enumeration(DISTRIBUTION, Uniform(3)).path(None, start, end)


# ---- proposition 3.3 and theorem 3.4


@both
@pytest.mark.parametrize("total", [0.05, 0.7, 3.0])
def test_three_objectives_have_one_gradient(graph, total):
    laboratory = Enumeration(DISTRIBUTION, graph)
    table = torch.randn(graph.states**4, 4, graph.states, generator=generator(), dtype=torch.float64)
    table.requires_grad_()
    objectives = (
        laboratory.explicit_objective,
        laboratory.implicit_objective,
        laboratory.denoising_objective,
    )
    values = [objective(table, total) for objective in objectives]
    gradients = [torch.autograd.grad(value, table)[0] for value in values]
    assert gradients[0].abs().max() > 1e-2
    for gradient in gradients[1:]:
        assert (gradient - gradients[0]).abs().max() < 1e-10
    assert values[0] > 0
    truth = laboratory.table(laboratory, total)
    assert abs(laboratory.explicit_objective(truth, total)) < 1e-10
    # By definition, from the matrices.
    p, Q, wanted = laboratory.marginal(total), brute_force.rate_matrix(graph), 0.0
    for k, x in enumerate(brute_force.sequences(graph.states, 4)):
        for i in range(4):
            for y in range(graph.states):
                if y != x[i]:
                    s, r = table[k, i, y].exp().item(), truth[k, i, y].exp().item()
                    wanted += (p[k] * Q[x[i], y]).item() * (s - r * math.log(s) + r * (math.log(r) - 1))
    assert values[0].item() == pytest.approx(wanted, rel=1e-10)


@both
def test_denoising_rate_by_definition(graph):
    laboratory, total = Enumeration(DISTRIBUTION[0, 0] / DISTRIBUTION[0, 0].sum(), graph), 0.4
    table = torch.randn(graph.states**2, 2, graph.states, generator=generator(), dtype=torch.float64)
    found, P = laboratory.denoising_rate(table, total), brute_force.kernel(graph, total)
    for k, x0 in enumerate(brute_force.sequences(3, 2)):
        wanted = 0.0
        for j, x in enumerate(brute_force.sequences(graph.states, 2)):
            weight = (P[x[0], x0[0]] * P[x[1], x0[1]]).item()
            if weight > 0:
                wanted += weight * sum(
                    brute_force.score_entropy(graph, table[j, i], total, x[i], x0[i]) for i in range(2)
                )
        assert found[k].item() == pytest.approx(wanted, rel=1e-10)


# ---- theorem 3.6


@both
@pytest.mark.parametrize(("start", "end"), [(1e-3, 0.1), (0.01, 3.0), (0.5, 12.0)])
def test_the_bound_is_tight_at_the_true_score(graph, start, end):
    """Pointwise in x0: the path is the difference of two divergences; with another score it is more."""
    laboratory = Enumeration(DISTRIBUTION, graph)

    def gaps(total):
        K = brute_force.kron([brute_force.kernel(graph, total)] * 4)[:, laboratory.index(laboratory.clean)]
        p = brute_force.marginal(DISTRIBUTION, graph, total)
        return torch.stack([torch.tensor(brute_force.divergence(q, p), dtype=torch.float64) for q in K.T])

    wanted = gaps(start) - gaps(end)
    torch.testing.assert_close(
        laboratory.divergence_from_marginal(start) - laboratory.divergence_from_marginal(end),
        wanted,
        rtol=0,
        atol=1e-10,
    )
    assert (laboratory.path(laboratory, start, end, nodes=20, pieces=4) - wanted).abs().max() < 1e-9
    # The truth is the least in the mean, though not for each x0; a small error costs second order.
    for size in (0.5, 1e-3):
        more = laboratory.path(perturbed(laboratory, size), start, end, nodes=20, pieces=4)
        mean = (DISTRIBUTION.flatten() * (more - wanted)).sum()
        assert 0.001 * size**2 < mean < 10 * size**2


@both
def test_the_whole_path_is_the_negative_log_likelihood(graph):
    laboratory = Enumeration(DISTRIBUTION, graph)
    nats = laboratory.path(laboratory, 1e-9, 40.0, nodes=12, pieces=12)
    torch.testing.assert_close(nats, -DISTRIBUTION.flatten().log(), rtol=0, atol=1e-5)


def test_any_score_bounds_the_distribution_of_its_own_samples():
    """Theorem 3.6 for each x0, with the distribution of a sampler of many steps for the model's."""
    for graph, noise in ((Absorbing(3), LogLinearNoise()), (Uniform(3), GeometricNoise(1e-3, 12.0))):
        laboratory = Enumeration(DISTRIBUTION, graph)
        score = perturbed(laboratory, 0.6)
        distribution = laboratory.sampler_distribution(score, noise, 150)
        assert total_variation(distribution, DISTRIBUTION) > 0.1
        total = noise(1e-3)[0]
        last = graph.denoise_probabilities(laboratory.table(score, total), laboratory.sequences, total)
        nats = torch.stack(
            [
                -last.gather(-1, x0.expand(len(last), -1)[..., None]).log().sum((1, 2))
                for x0 in laboratory.clean
            ]
        )
        p = laboratory.conditional(total)
        end = (p * torch.where(p > 0, nats, 0)).sum(1)
        path = laboratory.path(score, 1e-3, 1.0, noise=noise, nodes=20, pieces=4)
        gaps = path + end + 4 * graph.prior_gap(noise(1.0)[0]) + distribution.flatten().log()
        assert gaps.min() > -0.02
        assert 0 < (distribution.flatten() * gaps).sum() < 4


@both
@noises
def test_paths_over_times(graph, noise):
    laboratory = Enumeration(DISTRIBUTION, graph)
    score = perturbed(laboratory, 0.3)
    ends = [noise(t)[0].item() for t in (0.1, 0.9)]
    by_noise = laboratory.path(score, *ends, nodes=20, pieces=2)
    again = laboratory.path(score, 0.1, 0.9, noise=noise, nodes=20, pieces=2)
    torch.testing.assert_close(again, by_noise, rtol=1e-12, atol=0)
    # The same by the middle rule over the time, with the rate.
    middle = torch.linspace(0.1, 0.9, 101, dtype=torch.float64)
    middle = (middle[1:] + middle[:-1]) / 2
    parts = [
        noise(t)[1] * laboratory.denoising_rate(laboratory.table(score, noise(t)[0]), noise(t)[0])
        for t in middle
    ]
    torch.testing.assert_close(torch.stack(parts).mean(0) * 0.8, by_noise, rtol=1e-3, atol=1e-6)


@both
def test_the_estimated_bound_is_the_exact_one(graph):
    """The library's estimate, of the path, of the last step and of both ends together."""
    noise = GeometricNoise(0.05, 15.0)  # so that there is something left to do for the last step
    laboratory = Enumeration(DISTRIBUTION, graph)
    score = perturbed(laboratory, 0.3)
    x0 = torch.tensor([[0, 1, 2, 0], [2, 2, 1, 1]]).repeat_interleave(100, 0)
    bound = likelihood_bound(score, x0, graph, noise, times=64, batch=6400, generator=generator())
    path = laboratory.path(score, 1e-3, 1.0, noise=noise, nodes=20, pieces=2)
    numbers = [(laboratory.clean == x0[k]).all(1).nonzero().item() for k in (0, 100)]
    total = noise(1e-3)[0]
    last = graph.denoise_probabilities(laboratory.table(score, total), laboratory.sequences, total)
    for half, k in zip((bound.path[:100], bound.path[100:]), numbers, strict=True):
        assert abs(half.mean() - path[k]) < 4 * half.std() / 10
    for half, k in zip((bound.end[:100], bound.end[100:]), numbers, strict=True):
        nats = -last.gather(-1, laboratory.clean[k].expand(len(last), -1).unsqueeze(-1)).log().sum((1, 2))
        p = laboratory.conditional(total)[k]
        wanted = (p * torch.where(p > 0, nats, 0)).sum()
        assert abs(half.mean() - wanted) < 4 * half.std() / 10 + 1e-9
    strict = bound.bits(strict=True) * 4 * math.log(2)
    truth = -DISTRIBUTION.flatten().log()[numbers].repeat_interleave(100)
    assert (strict - truth).mean() > -4 * (strict - truth).std() / 200**0.5


# ---- theorem 4.2, and samplers


@both
@pytest.mark.parametrize(("start", "end"), [(3.0, 0.5), (0.8, 0.7), (0.05, 1e-4)])
def test_tweedie_gives_the_exact_marginals_of_each_token(graph, start, end):
    laboratory = Enumeration(DISTRIBUTION, graph)
    step = start - end
    forward = brute_force.kron([brute_force.kernel(graph, step)] * 4)
    joint = forward * brute_force.marginal(DISTRIBUTION, graph, end)  # rows x_start, columns x_end
    true = joint / joint.sum(1, keepdim=True)
    torch.testing.assert_close(laboratory.true_step(start, end), true, rtol=1e-8, atol=1e-12)
    p = graph.tweedie_probabilities(laboratory.table(laboratory, start), laboratory.sequences, step)
    grid = true.view(-1, *(graph.states,) * 4)
    for i in range(4):
        wanted = grid.sum([j + 1 for j in range(4) if j != i])
        assert (p[:, i] - wanted).abs().max() < 1e-12


@both
@noises
def test_tweedie_steps_give_each_token_its_distribution(graph, noise):
    laboratory = Enumeration(DISTRIBUTION, graph)
    exact, euler = (
        laboratory.token_error(laboratory, noise, 0.9, 0.5, method) for method in ("tweedie", "euler")
    )
    assert exact < 1e-12
    # For masks with log-linear noise both steps are one.
    assert (euler < 1e-12) == (isinstance(graph, Absorbing) and isinstance(noise, LogLinearNoise))


@both
@noises
def test_tweedie_is_the_best_step(graph, noise):
    laboratory = Enumeration(DISTRIBUTION, graph)
    for start, end in ((1.0, 0.7), (0.5, 0.4), (0.2, 1e-5)):
        best, euler = (
            laboratory.step_divergence(laboratory, noise, start, end, method)
            for method in ("tweedie", "euler")
        )
        assert 0 <= best <= euler + 1e-12
        # From the definition, of products of the exact marginals: a sum of Kullback-Leibler divergences over x.
        total, later = noise(start)[0].item(), noise(end)[0].item()
        true = laboratory.true_step(total, later)
        grid = true.view(-1, *(graph.states,) * 4)
        parts = [grid.sum([j + 1 for j in range(4) if j != i]) for i in range(4)]
        product = torch.einsum("xa,xb,xc,xd->xabcd", *parts).flatten(1)
        wanted = (laboratory.marginal(total) * divergence(true, product)).sum()
        assert best.item() == pytest.approx(wanted.item(), rel=1e-6, abs=1e-12)


@pytest.mark.parametrize("size", [0.0, 1.0])
def test_methods_are_one_for_log_linear_masks(size):
    """Exactly, for any scores: e^ds - 1 is the time times the rate."""
    graph, noise = Absorbing(3), LogLinearNoise()
    laboratory = Enumeration(DISTRIBUTION, graph)
    score = perturbed(laboratory, size)
    for steps in (1, 3, 8):
        distributions = [
            laboratory.sampler_distribution(score, noise, steps, method) for method in ("tweedie", "euler")
        ]
        assert total_variation(*distributions) < 1e-12
        other = [
            laboratory.sampler_distribution(score, GeometricNoise(), steps, method)
            for method in ("tweedie", "euler")
        ]
        assert steps == 1 or total_variation(*other) > 1e-5


@both
@noises
@pytest.mark.parametrize("method", ["tweedie", "euler"])
def test_distributions_of_samplers(graph, noise, method):
    distribution = brute_force.random_distribution(3, 2)
    laboratory = Enumeration(distribution, graph)
    for steps in (1, 4):
        found = laboratory.sampler_distribution(laboratory, noise, steps, method)
        assert found.sum().item() == pytest.approx(1, abs=1e-12)
        wanted = brute_force.sampler_distribution(distribution, graph, noise, steps, method)
        # Steps from a total noise of 20 multiply rounding by up to exp(20).
        torch.testing.assert_close(found, wanted, rtol=0, atol=1e-6)


@both
def test_many_steps_give_the_distribution_itself(graph):
    noise = LogLinearNoise() if isinstance(graph, Absorbing) else GeometricNoise()
    laboratory = Enumeration(DISTRIBUTION, graph)
    gaps = [
        total_variation(laboratory.sampler_distribution(laboratory, noise, n), DISTRIBUTION).item()
        for n in (4, 16, 64, 256)
    ]
    assert all(more > less for more, less in itertools.pairwise(gaps))
    assert gaps[-1] < 0.01


@both
def test_many_steps_give_the_conditional_distribution(graph):
    laboratory = Enumeration(DISTRIBUTION, graph)
    noise = LogLinearNoise() if isinstance(graph, Absorbing) else GeometricNoise()
    distribution = laboratory.sampler_distribution(laboratory, noise, 200, given=([1, 3], [2, 0]))
    wanted = torch.zeros_like(DISTRIBUTION)
    wanted[:, 2, :, 0] = DISTRIBUTION[:, 2, :, 0] / DISTRIBUTION[:, 2, :, 0].sum()
    gap = total_variation(distribution, wanted)
    # Exact in the limit for masks; of the uniform graph only as exact as the given tokens are true at great noise.
    assert gap < (0.01 if isinstance(graph, Absorbing) else 0.2)


def test_one_step_from_masks_gives_independent_marginals():
    laboratory = Enumeration(DISTRIBUTION, Absorbing(3))
    distribution = laboratory.sampler_distribution(laboratory, LogLinearNoise(), 1)
    single = [DISTRIBUTION.sum([j for j in range(4) if j != i]) for i in range(4)]
    assert total_variation(distribution, torch.einsum("a,b,c,d->abcd", *single)) < 1e-4


# ---- the bigram oracle


@both
@pytest.mark.parametrize("total", [1e-4, 0.02, 0.7, 4.0, 15.0])
def test_the_oracle_is_the_enumeration(graph, total):
    initial, rows = chain()
    oracle = BigramOracle(initial, rows, graph)
    laboratory = Enumeration(chain_distribution(initial, rows, 4), graph)
    found, wanted = oracle(laboratory.sequences, total), laboratory.table(laboratory, total)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12 if total > 1e-3 else 1e-11)


@both
def test_the_oracle_knows_impossible_tokens(graph):
    initial = torch.tensor([0.5, 0.5, 0.0], dtype=torch.float64)
    rows = torch.tensor([[0.0, 1, 0], [0.5, 0, 0.5], [0.3, 0.3, 0.4]], dtype=torch.float64)
    oracle = BigramOracle(initial, rows, graph)
    laboratory = Enumeration(chain_distribution(initial, rows, 4), graph)
    total = 0.7
    found, wanted = oracle(laboratory.sequences, total), laboratory.table(laboratory, total)
    possible = laboratory.marginal(total) > 0
    assert torch.equal(found[possible] == -torch.inf, wanted[possible] == -torch.inf)
    torch.testing.assert_close(found[possible].exp(), wanted[possible].exp(), rtol=1e-12, atol=0)
    assert not found.isnan().any()
    if isinstance(graph, Absorbing):
        # No mask is left without a token to turn into, and every sampler ends.
        masks = laboratory.sequences == 3
        assert (found[..., :3].amax(-1)[masks] > -torch.inf).all()
        for steps in (1, 2, 5):
            sample(oracle, graph, LogLinearNoise(), (500, 12), steps=steps, generator=generator())
        # Nothing follows 0 but 1, and before 2 stands 1 or 2: what is left of the gap decides.
        gap = oracle(torch.tensor([[0, 3, 0, 3]]), total).exp()[0, 1] * math.expm1(total)
        torch.testing.assert_close(gap[:3], torch.tensor([0, 1, 0]).double())
    else:
        assert found.isfinite().all()


@both
@pytest.mark.parametrize("total", [1e-9, 1e-4, 3.0, 20.0, 800.0])
def test_the_oracle_at_length_256(graph, total):
    """No message underflows, and what is far away does not matter."""
    initial, rows = chain(sharp=2 if total == 3.0 else 6)
    oracle = BigramOracle(initial, rows, graph)
    x0 = oracle.sample((2, 256), generator())
    x = graph.corrupt(x0, min(total, 3.0), generator())
    found = oracle(x, total)
    assert found.isfinite().all()
    if total == 3.0:
        changed = x.clone()
        changed[:, 200:] = 0
        assert (oracle(changed, total)[:, :100] - found[:, :100]).abs().max() < 1e-9


@both
def test_oracles_in_chunks(graph, monkeypatch):
    oracle = BigramOracle(*chain(), graph)
    x = graph.corrupt(oracle.sample((50, 9), generator()), 0.5, generator())
    noise = torch.rand(50, generator=generator()) + 0.1
    whole = oracle(x, noise)
    monkeypatch.setattr("loupe.diffusion.discrete.bigram.CHUNK", 100)
    torch.testing.assert_close(oracle(x, noise), whole, rtol=0, atol=1e-13)
    torch.testing.assert_close(oracle(x[3:4], noise[3].item()), whole[3:4], rtol=0, atol=1e-13)
    assert oracle(x[:0], noise[:0]).shape == (0, 9, graph.states)
    assert oracle(x[:, :1], noise).shape == (50, 1, graph.states)


def test_the_chain_itself():
    initial, rows = chain(seed=3)
    oracle = BigramOracle(initial, rows, Uniform(3))
    distribution = chain_distribution(initial, rows, 4)
    x = torch.cartesian_prod(*[torch.arange(3)] * 4)
    torch.testing.assert_close(oracle.nats(x), -distribution.flatten().log(), rtol=1e-12, atol=1e-12)
    assert oracle.nats(x[:, :1]).shape == (81,)
    drawn = frequencies(oracle.sample((100_000, 4), generator()), 3)
    assert total_variation(drawn, distribution) < 1.5 * brute_force.variation_floor(distribution, 100_000)
    assert oracle.entropy(4).item() == pytest.approx(
        (distribution * -distribution.log()).sum().item(), rel=1e-12
    )
    stationary = torch.linalg.matrix_power(rows, 200)[0]
    torch.testing.assert_close(oracle.stationary(), stationary, rtol=1e-10, atol=1e-12)
    again = stationary_chain(5 * stationary[:, None] * rows)
    torch.testing.assert_close(again, (stationary, rows), rtol=1e-10, atol=1e-12)
    assert oracle.entropy_rate().item() == pytest.approx(
        (oracle.entropy(60) - oracle.entropy(59)).item(), rel=1e-9
    )


def test_the_oracle_says_what_is_wrong():
    initial, rows = chain()
    for case, match in (
        ((initial, rows, Uniform(4)), r"shape \(4,\) and \(4, 4\), got \(3,\) and \(3, 3\)"),
        ((initial, 2 * rows, Uniform(3)), "normalize each row"),
        ((-initial, rows, Uniform(3)), "at least 0"),
        ((initial, rows * math.nan, Uniform(3)), "at least 0"),
    ):
        with pytest.raises(ValueError, match=match):
            BigramOracle(*case)
    oracle = BigramOracle(initial, rows, Absorbing(3))
    for noise in (0.0, torch.tensor([1.0, 0.0])):
        with pytest.raises(ValueError, match="must be above 0, got 0"):
            oracle(torch.zeros(2, 4, dtype=torch.int64), noise)
    with pytest.raises(ValueError, match="x must be from 0 to 3, got 0 to 4"):
        oracle(torch.tensor([[0, 4]]), 1.0)
    with pytest.raises(ValueError, match="x must be from 0 to 2, got 0 to 3"):
        oracle.nats(torch.tensor([[0, 3]]))
