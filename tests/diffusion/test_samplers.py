"""Samplers: their distributions against enumeration, prompts, options, and errors."""

import math

import brute_force
import pytest
import torch

from loupe.diffusion.discrete import (
    Absorbing,
    Denoiser,
    GeometricNoise,
    LogLinearNoise,
    ScoreNetwork,
    Uniform,
    expected_evaluations,
    first_hitting,
    sample,
    sample_autoregressive,
)
from loupe.diffusion.discrete.bigram import BigramOracle
from loupe.diffusion.discrete.enumeration import Enumeration, frequencies
from loupe.networks.transformer import Transformer

both = pytest.mark.parametrize("graph", [Absorbing(3), Uniform(3)], ids=repr)
methods = pytest.mark.parametrize("method", ["tweedie", "euler"])
DISTRIBUTION = brute_force.random_distribution(3, 3, seed=1)
DRAWS = 100_000


def generator(seed=0):
    return torch.Generator().manual_seed(1000 + seed)


def schedule(graph):
    return LogLinearNoise() if isinstance(graph, Absorbing) else GeometricNoise(1e-4, 20.0)


def assert_drawn_from(tokens, distribution):
    found = frequencies(tokens, 3)
    assert brute_force.total_variation(found, distribution) < 1.5 * brute_force.variation_floor(
        distribution, len(tokens)
    )


def network(states, *, seed=0, **options):
    made = Transformer(states, **(dict(width=16, heads=2, blocks=2, condition=0) | options))
    with torch.no_grad():
        for k, parameter in enumerate(made.parameters()):
            parameter.normal_(0, 0.4, generator=generator(seed + k))
    return made.eval()


def flat_score(graph, value=0.0):
    def score(x, total):
        return torch.full((*x.shape, graph.states), value)

    return score


def at_one_time(score):
    """For masks time is a factor of all scores, which does not matter to their ratios."""
    return lambda x, total: score(x, 1.0)


# ---- distributions


@both
@methods
@pytest.mark.parametrize("exponential_dtype", [None, torch.float64])
def test_four_steps_have_the_enumerated_distribution(graph, method, exponential_dtype):
    score, noise = Enumeration(DISTRIBUTION, graph), schedule(graph)
    wanted = brute_force.sampler_distribution(DISTRIBUTION, graph, noise, 4, method)
    drawn = sample(
        score,
        graph,
        noise,
        (DRAWS, 3),
        steps=4,
        method=method,
        exponential_dtype=exponential_dtype,
        generator=generator(),
    )
    assert_drawn_from(drawn.tokens, wanted)
    assert drawn.evaluations.tolist() == [5] * DRAWS
    assert brute_force.total_variation(wanted, DISTRIBUTION) > 5 * brute_force.variation_floor(
        DISTRIBUTION, DRAWS
    )


@methods
def test_geometric_masks_have_the_enumerated_distribution(method):
    """Where the methods differ."""
    graph, noise = Absorbing(3), GeometricNoise(1e-2, 6.0)
    wanted = brute_force.sampler_distribution(DISTRIBUTION, graph, noise, 4, method)
    drawn = sample(
        Enumeration(DISTRIBUTION, graph),
        graph,
        noise,
        (DRAWS, 3),
        steps=4,
        method=method,
        generator=generator(),
    )
    assert_drawn_from(drawn.tokens, wanted)


@both
def test_wrong_scores_have_their_distribution_too(graph):
    truth = Enumeration(DISTRIBUTION, graph)

    def score(x, total):
        return truth(x, total) + torch.sin(3.0 * torch.arange(graph.states))

    noise = schedule(graph)
    wanted = brute_force.sampler_distribution(
        DISTRIBUTION, graph, noise, 3, "tweedie", tables=lambda total: truth.table(score, total)
    )
    drawn = sample(score, graph, noise, (DRAWS, 3), steps=3, generator=generator())
    assert_drawn_from(drawn.tokens, wanted)


def test_one_step_from_masks_has_independent_marginals():
    drawn = sample(
        Enumeration(DISTRIBUTION, Absorbing(3)),
        Absorbing(3),
        LogLinearNoise(),
        (DRAWS, 3),
        steps=1,
        generator=generator(),
    )
    single = [DISTRIBUTION.sum([j for j in range(3) if j != i]) for i in range(3)]
    assert_drawn_from(drawn.tokens, torch.einsum("a,b,c->abc", *single))


def test_first_hitting_has_the_distribution_itself():
    score = at_one_time(Enumeration(DISTRIBUTION, Absorbing(3)))
    drawn = first_hitting(score, Absorbing(3), (DRAWS, 3), generator=generator())
    assert_drawn_from(drawn.tokens, DISTRIBUTION)
    assert drawn.evaluations.tolist() == [3] * DRAWS


def test_first_hitting_of_a_long_chain():
    made = generator(4)
    rows = torch.rand(5, 5, generator=made, dtype=torch.float64) ** 4
    oracle = BigramOracle(torch.full((5,), 0.2), rows / rows.sum(1, keepdim=True), Absorbing(5))
    nats = oracle.nats(first_hitting(oracle, Absorbing(5), (1500, 24), generator=generator()).tokens)
    assert abs(nats.mean() - oracle.entropy(24)) < 4 * nats.std() / 1500**0.5
    # A few steps at once are worse, by what tokens drawn at the same time do not know of each other.
    rough = oracle.nats(
        sample(oracle, Absorbing(5), LogLinearNoise(), (1500, 24), steps=4, generator=generator()).tokens
    )
    assert rough.mean() > nats.mean() + 4 * rough.std() / 1500**0.5


def test_autoregressive_samples_have_the_networks_distribution():
    net = network(4, causal=True)
    x = torch.cartesian_prod(*[torch.arange(3)] * 3)
    distribution = torch.ones(27, dtype=torch.float64)
    with torch.no_grad():
        logits = net(torch.nn.functional.pad(x[:, :-1], (1, 0), value=3))[..., :3].double()
    distribution = logits.log_softmax(-1).gather(-1, x.unsqueeze(-1)).sum((1, 2)).exp().view(3, 3, 3)
    drawn = sample_autoregressive(net, (DRAWS, 3), 3, generator=generator())
    assert_drawn_from(drawn.tokens, distribution)
    assert drawn.evaluations.tolist() == [3] * DRAWS
    given = torch.tensor([2, 0])
    drawn = sample_autoregressive(net, (20_000, 3), 3, generator=generator(), given=given)
    assert torch.equal(drawn.tokens[:, :2], given.expand(20_000, 2))
    wanted = torch.zeros_like(distribution)
    wanted[2, 0] = distribution[2, 0] / distribution[2, 0].sum()
    assert_drawn_from(drawn.tokens, wanted)
    assert drawn.evaluations[0] == 1


# ---- given tokens


@both
@pytest.mark.parametrize("exponential_dtype", [None, torch.float32])
def test_given_tokens_never_change(graph, exponential_dtype):
    seen = []
    given = torch.tensor([4, 0]), torch.tensor([[0, 1], [2, 2], [1, 0]])
    drawn = sample(
        flat_score(graph, -0.5), graph, schedule(graph), (3, 6), steps=5, given=given, exponential_dtype=exponential_dtype,
        generator=generator(), callback=lambda k, x: seen.append((k, x.clone())),
    )  # fmt: skip
    assert [k for k, _ in seen] == list(range(7))
    assert all(torch.equal(x[:, given[0]], given[1]) for _, x in seen)
    assert torch.equal(seen[-1][1], drawn.tokens)
    assert (drawn.tokens < 3).all()


def test_given_tokens_condition_the_others():
    graph, score = Absorbing(3), Enumeration(DISTRIBUTION, Absorbing(3))
    wanted = torch.zeros_like(DISTRIBUTION)
    wanted[2, :, 1] = DISTRIBUTION[2, :, 1] / DISTRIBUTION[2, :, 1].sum()
    given = [0, 2], [2, 1]
    drawn = first_hitting(at_one_time(score), graph, (DRAWS, 3), given=given, generator=generator())
    assert_drawn_from(drawn.tokens, wanted)
    assert drawn.evaluations.tolist() == [1] * DRAWS
    # One mask is left: any number of steps is exact.
    drawn = sample(score, graph, LogLinearNoise(), (DRAWS, 3), steps=2, given=given, generator=generator())
    assert_drawn_from(drawn.tokens, wanted)


@both
def test_given_steps_have_the_enumerated_distribution(graph):
    laboratory, noise, given = Enumeration(DISTRIBUTION, graph), schedule(graph), ([1], [0])
    wanted = laboratory.sampler_distribution(laboratory, noise, 4, given=given)
    drawn = sample(laboratory, graph, noise, (DRAWS, 3), steps=4, given=given, generator=generator())
    assert_drawn_from(drawn.tokens, wanted)


@both
def test_given_nothing_or_everything(graph):
    score, noise = flat_score(graph), schedule(graph)
    free = sample(score, graph, noise, (4, 3), steps=2, generator=generator())
    empty = sample(score, graph, noise, (4, 3), steps=2, generator=generator(), given=([], []))
    assert torch.equal(free.tokens, empty.tokens)
    whole = sample(score, graph, noise, (4, 3), steps=2, given=(range(3), [2, 1, 0]))
    assert whole.tokens.tolist() == [[2, 1, 0]] * 4
    if isinstance(graph, Absorbing):
        done = first_hitting(score, graph, (4, 3), given=(range(3), [2, 1, 0]))
        assert done.tokens.tolist() == [[2, 1, 0]] * 4
        assert done.evaluations.sum() == 0


@both
@pytest.mark.parametrize(
    ("given", "match"),
    [
        (([3], [0]), "positions must be from 0 to 2, got 3 to 3"),
        (([-1], [0]), "positions must be from 0 to 2, got -1"),
        (([1, 1], [0, 2]), "some position is named twice"),
        (([1], [3]), "given tokens must be from 0 to 2, got 3 to 3"),
        (([1, 2], [1]), "as many as their positions"),
        (([1], [[1], [2], [0]]), "for all 2 sequences or each of them"),
        (([[1]], [[1]]), "as many as their positions"),
        (([1.5], [1]), "must be integers"),
        (([1], [1.5]), "must be integers"),
    ],
)
def test_given_tokens_that_make_no_sense(graph, given, match):
    with pytest.raises(ValueError, match=match):
        sample(flat_score(graph), graph, LogLinearNoise(), (2, 3), steps=2, given=given)


# ---- evaluations


@methods
@pytest.mark.parametrize("given", [None, ([0, 5], [1, 2])])
def test_cached_samples_are_the_same(method, given):
    graph = Absorbing(5)
    score = Denoiser(network(6), graph)
    options = dict(steps=20, method=method, given=given)
    plain = sample(score, graph, LogLinearNoise(), (40, 8), generator=generator(), **options)
    cached = sample(score, graph, LogLinearNoise(), (40, 8), generator=generator(), cached=True, **options)
    assert torch.equal(plain.tokens, cached.tokens)
    assert plain.evaluations.tolist() == [21] * 40
    assert (cached.evaluations <= 8).all()
    drawn = [
        sample(
            score,
            graph,
            LogLinearNoise(),
            (40, 8),
            generator=generator(),
            exponential_dtype=torch.float32,
            cached=c,
            **options,
        )
        for c in (False, True)
    ]
    assert torch.equal(drawn[0].tokens, drawn[1].tokens)


@pytest.mark.parametrize(("steps", "length"), [(4, 3), (10, 8), (32, 16)])
def test_expected_evaluations(steps, length):
    """``n (1 - (1 - 1/n)^L)``: a step costs one if any token goes in it."""
    graph, count = Absorbing(5), 3000
    score = Denoiser(network(6, width=4, heads=1, blocks=1), graph)
    asked = sample(
        score, graph, LogLinearNoise(), (count, length), steps=steps, cached=True, generator=generator()
    ).evaluations.double()
    wanted = steps * (1 - (1 - 1 / steps) ** length)
    assert abs(asked.mean() - wanted) < 4 * asked.std() / count**0.5 + 0.01
    assert asked.max() <= min(steps, length) + 1


def test_only_denoisers_without_noise_are_cached():
    graph = Absorbing(5)
    for score in (
        Denoiser(network(6, condition=4), graph),
        ScoreNetwork(network(6), graph),
        flat_score(graph),
    ):
        with pytest.raises(ValueError, match="does not take the noise"):
            sample(score, graph, LogLinearNoise(), (2, 3), steps=2, cached=True)


# ---- the rest


@both
@methods
def test_seeds_decide(graph, method):
    def draw(seed, **options):
        return sample(
            ScoreNetwork(network(graph.states, condition=4), graph), graph, schedule(graph), (5, 6),
            steps=3, method=method, generator=generator(seed), **options,
        ).tokens  # fmt: skip

    assert torch.equal(draw(0), draw(0))
    assert not torch.equal(draw(0), draw(1))
    assert torch.equal(draw(0, exponential_dtype=torch.float64), draw(0, exponential_dtype=torch.float64))
    torch.manual_seed(3)
    before = torch.get_rng_state()
    draw(0)
    assert torch.equal(torch.get_rng_state(), before)


@both
@pytest.mark.parametrize("shape", [(0, 4), (1, 1), (1, 4), (3, 1)])
@pytest.mark.parametrize("exponential_dtype", [None, torch.float16])
def test_few_tokens_and_one_step(graph, shape, exponential_dtype):
    drawn = sample(
        flat_score(graph),
        graph,
        schedule(graph),
        shape,
        steps=1,
        exponential_dtype=exponential_dtype,
        generator=generator(),
    )
    assert drawn.tokens.shape == shape
    assert drawn.evaluations.shape == shape[:1]
    assert (drawn.tokens < 3).all()
    if isinstance(graph, Absorbing):
        assert first_hitting(flat_score(graph), graph, shape).tokens.shape == shape
        cached = sample(Denoiser(network(4), graph), graph, LogLinearNoise(), shape, steps=1, cached=True)
        assert cached.tokens.shape == shape
        assert sample_autoregressive(network(4, causal=True), shape, 3).tokens.shape == shape


def test_two_tokens_and_no_gradients():
    for graph in (Absorbing(2), Uniform(2)):
        score = ScoreNetwork(network(graph.states, condition=4), graph)
        drawn = sample(score, graph, schedule(graph), (50, 4), steps=3, generator=generator())
        assert set(drawn.tokens.unique().tolist()) == {0, 1}
        assert not drawn.tokens.requires_grad


@both
@pytest.mark.parametrize("value", [math.nan, math.inf, 1e4])
@pytest.mark.parametrize("exponential_dtype", [None, torch.float32])
def test_scores_that_are_not_finite(graph, value, exponential_dtype):
    def score(x, total):
        return torch.full((*x.shape, graph.states), value if total[0] < 2 else -20.0)

    with pytest.raises(RuntimeError, match=r"finite.*, at step [1-4] and time 0\.\d+"):
        sample(
            score,
            graph,
            LogLinearNoise(),
            (3, 4),
            steps=4,
            exponential_dtype=exponential_dtype,
            generator=generator(),
        )
    if isinstance(graph, Absorbing) and value != 1e4:
        with pytest.raises(RuntimeError, match=r"finite.*, at mask 0"):
            first_hitting(lambda x, total: score(x, total * 0), graph, (3, 4))


def test_samplers_say_what_is_wrong():
    graph, score = Absorbing(5), flat_score(Absorbing(5))
    for steps in (0, -2):
        with pytest.raises(ValueError, match=f"steps must be a positive whole number, got {steps}"):
            sample(score, graph, LogLinearNoise(), (2, 3), steps=steps)
    with pytest.raises(ValueError, match="euler, tweedie, got 'heun'"):
        sample(score, graph, LogLinearNoise(), (2, 3), steps=2, method="heun")
    with pytest.raises(ValueError, match="graph must be Absorbing, got Uniform"):
        first_hitting(flat_score(Uniform(5)), Uniform(5), (2, 3))
    with pytest.raises(ValueError, match="the last of them the mask"):
        sample(flat_score(Uniform(5)), graph, LogLinearNoise(), (2, 3), steps=2)
    net = network(6, causal=True)
    for given in ([0, 1, 2, 3], [5], [-1]):
        with pytest.raises(ValueError, match="at most 3, numbers from 0 to 4"):
            sample_autoregressive(net, (2, 3), 5, given=torch.tensor(given))


def test_expected_evaluations_are_steps_in_which_a_mask_goes():
    times = torch.rand(20_000, 8, generator=torch.Generator().manual_seed(0))
    for steps in (1, 3, 20):
        used = torch.nn.functional.one_hot((times * steps).long(), steps).any(1).sum(1).double()
        assert expected_evaluations(steps, 8) == pytest.approx(used.mean().item(), abs=4 * 2 / 20_000**0.5)
