"""How a user steers samples: temperature, nucleus, order, prompts, padding, any shape of batch; and what is refused."""

import itertools
import math
from functools import partial

import brute_force
import pytest
import torch
from scipy.stats import chi2

from loupe.diffusion.discrete import (
    Absorbing,
    BigramOracle,
    Denoiser,
    GeometricNoise,
    LogLinearNoise,
    ScoreNetwork,
    Uniform,
    any_order_nats,
    autoregressive_nats,
    concrete_score_loss,
    first_hitting,
    likelihood_bound,
    masked_cross_entropy,
    sample,
    sample_autoregressive,
    score_entropy_loss,
    sharpened,
)
from loupe.diffusion.discrete.enumeration import Enumeration, frequencies
from loupe.networks.transformer import Transformer

DISTRIBUTION, DRAWS, M = brute_force.random_distribution(3, 3, seed=1), 30_000, 3
MASKS, NOISE = Absorbing(3), LogLinearNoise()
GRAPHS = [(MASKS, NOISE), (Uniform(3), GeometricNoise(1e-4, 20.0))]
SHARP = [(0.5, 1.0), (1.0, 0.6), (2.0, 0.8)]
both = pytest.mark.parametrize(("graph", "noise"), GRAPHS, ids=["absorbing", "uniform"])
sharp = pytest.mark.parametrize(("temperature", "top_p"), SHARP)


def generator(seed=0):
    return torch.Generator().manual_seed(1000 + seed)


def network(states, *, seed=0, **options):
    made = Transformer(states, **(dict(width=16, heads=2, blocks=2, condition=0) | options))
    with torch.no_grad():
        for k, parameter in enumerate(made.parameters()):
            parameter.normal_(0, 0.4, generator=generator(seed + k))
    return made.eval()


def drawn(score, graph, noise, shape, *, steps=3, **options):
    return sample(score, graph, noise, shape, steps=steps, generator=generator(), **options)


def assert_drawn_from(tokens, distribution, unlike=None):
    """Pearson's test at a level of 1e-4; and that this test sees a difference from another distribution."""
    found, possible, n = frequencies(tokens, 3), distribution > 1e-12, len(tokens)

    def chance(p):
        return chi2.sf((n * (found - p) ** 2 / p)[possible].sum().item(), max(1, possible.sum().item() - 1))

    assert not found[~possible].any()
    assert chance(distribution) > 1e-4
    assert unlike is None or chance(unlike) < 1e-12


# ---- the same by hand


def by_hand(p, temperature, top_p):
    """One row of probabilities, sharpened with lists."""
    p = [each ** (1 / temperature) for each in p]
    p, kept, total = [each / sum(p) for each in p], [], 0.0
    for y in sorted(range(len(p)), key=lambda y: -p[y]):
        if total < top_p or top_p == 1:
            kept.append(y)
        total += p[y]
    return [p[y] / sum(p[z] for z in kept) if y in kept else 0.0 for y in range(len(p))]


def clean(graph, x, total, temperature=1.0, top_p=1.0):
    """``p(clean token | the other tokens of x)``, sharpened, from the definition; x of 3 tokens, (3, 3) of lists."""
    kernel = graph.transition(torch.arange(3), total)
    likely = [kernel[:, state] for state in x]
    found = []
    for i in range(3):
        factors = [likely[j] if j != i else torch.ones(3).double() for j in range(3)]
        q = torch.einsum("abc,a,b,c->abc", DISTRIBUTION, *factors).sum([j for j in range(3) if j != i])
        found.append(by_hand((q / q.sum()).tolist(), temperature, top_p))
    return found


def sharp_score(graph, temperature, top_p):
    def score(x, total):
        rows = []
        for sequence, noise in zip(x.tolist(), total.tolist(), strict=True):
            q = torch.tensor(clean(graph, sequence, noise, temperature, top_p), dtype=torch.float64)
            if graph is MASKS:
                rows.append(torch.nn.functional.pad(q / math.expm1(noise), (0, 1), value=1.0).log())
            else:
                s = math.exp(-noise) * q - math.expm1(-noise) / 3
                rows.append((s / s[range(3), sequence].unsqueeze(1)).log())
        return torch.stack(rows)

    return score


def unmasked_distribution(goes, confident, temperature=1.0, top_p=1.0):
    """The distribution of samples when so many masks go with probabilities ``goes(step, masks)``, a list."""
    states = {(M,) * 3: 1.0}
    for step in itertools.count():
        if all(M not in x for x in states):
            distribution = torch.zeros(3, 3, 3).double()
            for x, p in states.items():
                distribution[x] = p
            return distribution
        after = {}
        for x, p in states.items():
            masks, q = [i for i in range(3) if x[i] == M], clean(MASKS, x, 1.0)
            drawn = clean(MASKS, x, 1.0, temperature, top_p)
            for k, chance in enumerate(goes(step, len(masks))):
                sets = list(itertools.combinations(masks, k)) if chance else []
                if confident and chance:
                    sets = [sorted(masks, key=lambda i: -max(q[i]))[:k]]
                for some, tokens in itertools.product(sets, itertools.product(range(3), repeat=k)):
                    y = list(x)
                    for i, token in zip(some, tokens, strict=True):
                        y[i] = token
                    weight = math.prod(drawn[i][token] for i, token in zip(some, tokens, strict=True))
                    after[tuple(y)] = after.get(tuple(y), 0.0) + p * chance / len(sets) * weight
        states = after


def one_at_a_time(step, masks):
    return [0.0, 1.0] if masks else [1.0]


def in_steps(steps, step, masks):
    """Binomial: with log-linear noise a share of 1 / (steps - step) of the masks goes, about; the last step takes all."""
    times = torch.linspace(1, 1e-5, steps + 1, dtype=torch.float64)
    total = NOISE(times)[0].tolist()
    p = 1.0 if step == steps else math.expm1(total[step] - total[step + 1]) / math.expm1(total[step])
    return [math.comb(masks, k) * p**k * (1 - p) ** (masks - k) for k in range(masks + 1)]


# ---- temperature and nucleus


@pytest.mark.parametrize(
    ("p", "temperature", "top_p", "wanted"),
    [
        ([0.5, 0.3, 0.2], 0.5, 1.0, [25 / 38, 9 / 38, 4 / 38]),
        ([0.5, 0.3, 0.2], 1.0, 0.5, [1, 0, 0]),
        ([0.2, 0.5, 0.3], 1.0, 0.6, [0, 5 / 8, 3 / 8]),
        ([0.5, 0.3, 0.2], 1.0, 0.9, [0.5, 0.3, 0.2]),
        ([0.4, 0.4, 0.2], 1.0, 0.3, [1, 0, 0]),
        ([0.5, 0.3, 0.2], 0.5, 0.65, [1, 0, 0]),  # temperature first
        ([0.5, 0.5, 0.0], 3.0, 1.0, [0.5, 0.5, 0]),
        ([0.5, 0.3, 0.2], 1.0, 1e-9, [1, 0, 0]),
    ],
)
def test_sharpened_probabilities(p, temperature, top_p, wanted):
    logits = torch.tensor(p, dtype=torch.float64).log() + 7
    wanted = torch.tensor(wanted, dtype=torch.float64)
    torch.testing.assert_close(sharpened(logits, temperature, top_p).exp(), wanted)
    rows, each = logits.expand(2, 3), torch.tensor([[temperature, 1.0], [top_p, 1.0]], dtype=torch.float64)
    found = sharpened(rows, *each).exp()
    torch.testing.assert_close(found, torch.stack([wanted, torch.tensor(p).double()]))
    assert sharpened(rows.float(), 0.7).dtype == torch.float32


@both
@sharp
@pytest.mark.parametrize("method", ["tweedie", "euler"])
def test_sharpened_samples_have_the_enumerated_distribution(graph, noise, temperature, top_p, method):
    truth, options = (
        Enumeration(DISTRIBUTION, graph),
        {"temperature": temperature, "top_p": top_p, "method": method},
    )
    wanted = truth.sampler_distribution(sharp_score(graph, temperature, top_p), noise, 3, method)
    plain = truth.sampler_distribution(truth, noise, 3, method)
    assert_drawn_from(drawn(truth, graph, noise, (DRAWS, 3), **options).tokens, wanted, unlike=plain)


@sharp
@pytest.mark.parametrize("order", ["random", "confidence"])
def test_one_mask_at_a_time(temperature, top_p, order):
    wanted = unmasked_distribution(one_at_a_time, order == "confidence", temperature, top_p)
    samples = first_hitting(
        lambda x, total: Enumeration(DISTRIBUTION, MASKS)(x, 1.0), MASKS, (DRAWS, 3),
        temperature=temperature, top_p=top_p, order=order, generator=generator(),
    )  # fmt: skip
    assert_drawn_from(samples.tokens, wanted, unlike=DISTRIBUTION)


@pytest.mark.parametrize("top_p", [1.0, 0.6])
def test_steps_in_order_of_confidence(top_p):
    distribution = partial(unmasked_distribution, partial(in_steps, 2), temperature=1.0, top_p=top_p)
    options = {"steps": 2, "order": "confidence", "top_p": top_p}
    samples = drawn(Enumeration(DISTRIBUTION, MASKS), MASKS, NOISE, (DRAWS, 3), **options)
    assert_drawn_from(samples.tokens, distribution(True), unlike=distribution(False))


@sharp
def test_sharpened_autoregressive_samples(temperature, top_p):
    net = network(4, causal=True)
    x = torch.cartesian_prod(*[torch.arange(3)] * 3)
    with torch.no_grad():
        rows = net(torch.nn.functional.pad(x[:, :-1], (1, 0), value=3))[..., :3].double().softmax(-1)
    rows = torch.tensor([[by_hand(p, temperature, top_p) for p in row] for row in rows.tolist()])
    distribution = rows.double().gather(-1, x.unsqueeze(-1)).prod(1).view(3, 3, 3)
    options = {"temperature": temperature, "top_p": top_p, "generator": generator()}
    assert_drawn_from(sample_autoregressive(net, (DRAWS, 3), 3, **options).tokens, distribution)


@pytest.mark.parametrize("given", [None, torch.tensor([2, 0, 1])])
def test_a_cache_of_keys_and_values_changes_no_text(given):
    net = Transformer(4, width=8, heads=2, blocks=2, condition=0, causal=True)
    torch.nn.init.normal_(net.head.weight, generator=generator())
    one, two = (
        sample_autoregressive(net, (50, 9), 3, generator=generator(), given=given, cached=cached)
        for cached in (False, True)
    )  # fmt: skip
    assert torch.equal(one.tokens, two.tokens)
    assert torch.equal(one.evaluations, two.evaluations)


@both
def test_each_sequence_has_its_own_and_ones_change_nothing(graph, noise):
    truth, half = Enumeration(DISTRIBUTION, graph), torch.arange(2 * DRAWS) < DRAWS
    top_p = torch.where(half, 0.6, 1.0).double()
    tokens = drawn(truth, graph, noise, (2 * DRAWS, 3), top_p=top_p).tokens
    for which, p in ((half, 0.6), (~half, 1.0)):
        assert_drawn_from(tokens[which], truth.sampler_distribution(sharp_score(graph, 1.0, p), noise, 3))
    ones = {}, {"temperature": 1, "top_p": torch.ones(50)}, {"temperature": torch.tensor(1.0)}
    plain, *others = (drawn(truth, graph, noise, (50, 3), **more).tokens for more in ones)
    assert all(torch.equal(plain, other) for other in others)
    if graph is not MASKS:  # the way there and back
        x, total = torch.randint(3, (40, 3), generator=generator()), torch.full((40,), 0.7)
        torch.testing.assert_close(graph.sharpen(truth(x, total), x, total), truth(x, total))


# ---- prompts, padding, batches


@both
def test_prompts_of_different_lengths(graph, noise):
    truth, rows = Enumeration(DISTRIBUTION, graph), torch.arange(2 * DRAWS) % 2
    where = torch.tensor([[True, False, False], [True, False, True]])[rows]
    tokens = torch.tensor([[2, -1, 9], [0, 7, 1]])[rows]  # what is not given is not read
    samples = drawn(truth, graph, noise, (2 * DRAWS, 3), given=(where, tokens)).tokens
    for row, given in enumerate([([0], [2]), ([0, 2], [0, 1])]):
        assert_drawn_from(samples[rows == row], truth.sampler_distribution(truth, noise, 3, given=given))


def test_spellings_of_prompts():
    score = Denoiser(network(4), MASKS)
    positions, tokens = torch.tensor([[0, 1], [3, 2]]), torch.tensor([[1, 2], [0, 2]])
    where = torch.tensor([[True, True, False, False], [False, False, True, True]])
    values = torch.tensor([[1, 2, 0, 0], [0, 0, 2, 0]])
    ways = (positions, tokens), (where, values), (where.numpy(), values.tolist())
    plain, *others = (drawn(score, MASKS, NOISE, (2, 4), given=given).tokens for given in ways)
    assert all(torch.equal(plain, other) for other in others)
    assert torch.equal(plain.gather(1, positions), tokens)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("side", ["left", "right"])
def test_networks_do_not_look_at_padding(causal, side):
    net, x = network(5, causal=causal, condition=8).double(), torch.randint(5, (3, 6), generator=generator())
    lengths, noise = [6, 4, 1], torch.rand(3, generator=generator(), dtype=torch.float64)
    place = torch.arange(6) if side == "right" else torch.arange(5, -1, -1)
    padding = place >= torch.tensor(lengths).unsqueeze(1)
    found = net(x, noise, padding)
    for row, real in enumerate(~padding):
        torch.testing.assert_close(found[row, real], net(x[row, real], noise[row]))
    assert found.isfinite().all()
    if not causal:
        assert not torch.allclose(found, net(x, noise))


@both
def test_samples_leave_padding_alone(graph, noise):
    padding, seen = torch.arange(6) >= torch.tensor([6, 4, 1]).unsqueeze(1), []
    inner, given, asked = ScoreNetwork(network(graph.states, condition=4), graph), ([0], [2]), []

    def score(x, total, padding=None):
        asked.append(padding)
        return inner(x, total, padding)

    found = drawn(
        score, graph, noise, (3, 6), callback=lambda k, x: seen.append(x), padding=padding, given=given
    )
    assert all(torch.equal(each, padding) for each in asked)
    assert all((x[padding] == 0).all() and (x[:, 0] == 2).all() for x in seen)
    assert (found.tokens < 3).all()
    alone, whole = (
        drawn(score, graph, noise, (1, 6), padding=p, given=given).tokens for p in (None, padding[:1])
    )
    assert torch.equal(alone, whole)


def wrapped(x, total, **padding):
    return Denoiser(network(4), MASKS)(x, total, **padding) + torch.tensor([0.0, -1.0, 0.0, 0.0])


@pytest.mark.parametrize("padding", [None, torch.arange(6) >= torch.tensor([6, 4, 1, 6]).unsqueeze(1)])
def test_what_wraps_a_denoiser_keeps_its_cache(padding, monkeypatch):
    options = {"padding": padding, "steps": 20}
    with pytest.raises(ValueError, match="attribute needs_noise = False"):
        drawn(wrapped, MASKS, NOISE, (4, 6), cached=True, **options)
    monkeypatch.setattr(wrapped, "needs_noise", False, raising=False)
    plain, cached = (drawn(wrapped, MASKS, NOISE, (4, 6), cached=c, **options) for c in (False, True))
    assert torch.equal(plain.tokens, cached.tokens)
    real = torch.full((4,), 6) if padding is None else (~padding).sum(1)
    assert (cached.evaluations <= real + 1).all()
    assert torch.equal(first_hitting(wrapped, MASKS, (4, 6), padding=padding).evaluations, real)


def test_batches_of_any_shape():
    score, net = Denoiser(network(4), MASKS), network(4, causal=True)
    x, made = torch.randint(3, (2, 3, 5), generator=generator()), generator(1)
    t = torch.rand(2, 3, generator=made) / 2 + 0.1
    rows = torch.full((3, 3), 1 / 3)
    oracle = BigramOracle(rows[0], rows, MASKS)
    asked, shapes = torch.arange(5) > 1, [(2, 3, 5), (6, 5), (5,)]
    losses = [score_entropy_loss, concrete_score_loss, masked_cross_entropy]
    calls = [partial(loss, score, graph=MASKS, noise=NOISE) for loss in losses]
    calls = [lambda x, t, g, call=call: call(x, times=t, generator=g) for call in calls]
    calls += [
        lambda x, t, g: any_order_nats(score, x, MASKS, asked, generator=g),
        lambda x, t, g: autoregressive_nats(net, x, 3).sum(-1),
        lambda x, t, g: likelihood_bound(score, x, MASKS, NOISE, times=3, generator=g).bits(True),
        lambda x, t, g: oracle.nats(x),
        lambda x, t, g: oracle(x, t).sum((-1, -2)),
        lambda x, t, g: score(x, t).sum((-1, -2)),
        lambda x, t, g: ScoreNetwork(net, MASKS)(x, t).sum((-1, -2)),
        lambda x, t, g: sample(score, MASKS, NOISE, x.shape, steps=3, generator=g, order="confidence").tokens.sum(-1),
        lambda x, t, g: sample(score, MASKS, NOISE, x.shape, steps=3, generator=g, temperature=t).evaluations,
        lambda x, t, g: first_hitting(score, MASKS, x.shape, generator=g, given=([0], x[..., :1])).tokens.sum(-1),
        lambda x, t, g: sample_autoregressive(net, x.shape, 3, generator=g, given=x[..., :2], top_p=t).tokens.sum(-1),
    ]  # fmt: skip
    for number, call in enumerate(calls):
        many, flat = call(x, t, generator()), call(x.view(6, 5), t.view(6), generator())
        assert many.shape == (2, 3), number
        torch.testing.assert_close(many.flatten(), flat)
        assert call(x[0, 0], t[0, 0], generator()).shape == (), number
    for shape in shapes:
        seen = []
        sample(score, MASKS, NOISE, shape, steps=1, callback=lambda k, x: seen.append(x.shape))  # noqa: B023
        assert seen == [shape] * 3


# ---- transforms, and what is refused


@both
@pytest.mark.parametrize("how", ["vmap", "compile"])
@pytest.mark.filterwarnings("ignore:There is a performance drop")  # of attention under vmap, on a CPU
def test_functions_of_the_chain_under_transforms(graph, noise, how):
    made = generator()
    x, x0 = (torch.randint(3, (4, 5), generator=made) for _ in range(2))
    x = torch.where(torch.rand(4, 5, generator=made) < 0.5, graph.states - 1, x)
    total, steer = torch.rand(4, generator=made).double() + 0.1, (0.7, 0.9)
    score = torch.randn(4, 5, graph.states, generator=made).double()
    calls = [
        (graph.rate, x), (graph.rate_to, x), (graph.transition, x, total), (graph.reverse_rate, score, x),
        (graph.tweedie_probabilities, score, x, total), (graph.euler_probabilities, score, x, total / 9),
        (graph.denoise_probabilities, score, x, total), (graph.score_entropy, score, total, x, x0),
        (graph.prior_gap, total), (lambda t: noise(t)[0], total / 2), (lambda s: sharpened(s, *steer), score),
        (ScoreNetwork(network(graph.states, condition=4), graph), x, total),
    ]  # fmt: skip
    if graph is not MASKS:
        calls.append((lambda s, x, t: graph.sharpen(s, x, t, *steer), score, x, total))
    change = torch.vmap if how == "vmap" else partial(torch.compile, fullgraph=True, backend="eager")
    for function, *given in calls:
        torch.testing.assert_close(change(function)(*given), function(*given), msg=repr(function))
    if how == "vmap":  # per-sample gradients of a score
        slope = torch.func.grad(lambda *given: graph.score_entropy(*given).sum())
        slopes = torch.vmap(slope)(score, total, x, x0)
        leaf = score.clone().requires_grad_()
        graph.score_entropy(leaf, total, x, x0).sum().backward()
        torch.testing.assert_close(slopes, leaf.grad)


RAGGED = "where some sequences have more than others, give positions as bool"
REFUSED = [
    ({"temperature": 0.0}, "temperature must be above 0 and finite, got 0: .* small top_p"),
    ({"temperature": math.nan}, "temperature must be above 0"),
    ({"top_p": 0.0}, "top_p must be above 0 and at most 1, got 0"),
    ({"top_p": 1.5}, "top_p must be above 0 and at most 1, got 1.5"),
    ({"top_p": torch.ones(3)}, r"top_p must be one number or one for each sequence, of shape \(2,\), got \(3,\)"),
    ({"order": "left"}, "order must be one of random, confidence, got 'left'"),
    ({"order": "confidence", "exponential_dtype": torch.float32}, "exponential sampling has none"),
    ({"top_p": 0.9, "exponential_dtype": torch.float32}, "works as published"),
    ({"given": ([[0], [1, 2]], [[1], [1, 2]])}, RAGGED),
    ({"given": (torch.ones(2, 3, dtype=torch.bool), torch.ones(2, 3).long())}, RAGGED),
    ({"given": (torch.ones(2, 4, dtype=torch.bool), torch.full((2, 4), 3))}, r"from 0 to 2, got 3 to 3 \(3 is the mask\)"),
    ({"padding": torch.zeros(2, 3, dtype=torch.bool)}, r"padding must be bool of shape \(2, 4\)"),
    ({"padding": torch.zeros(2, 4)}, "padding must be bool .* got torch.float32"),
    ({"padding": torch.ones(4, dtype=torch.bool), "given": ([0], [1])}, "given in the padding"),
]  # fmt: skip


@pytest.mark.parametrize(("options", "match"), REFUSED)
def test_options_that_make_no_sense(options, match):
    with pytest.raises(ValueError, match=match):
        sample(Denoiser(network(4), MASKS), MASKS, NOISE, (2, 4), steps=2, **options)


@pytest.mark.parametrize(
    ("score", "match"),
    [
        (
            Denoiser(network(3), MASKS),
            r"tokens must be from 0 to 2 for this network, got 3 to 3: use the vocab",
        ),
        (Denoiser(network(9), MASKS), "has 4 states, the last of them the mask: .* as many, got 9"),
        (ScoreNetwork(network(9), MASKS), "must have as many, got 9"),
    ],
)
def test_networks_of_another_vocabulary(score, match):
    with pytest.raises(ValueError, match=match):
        sample(score, MASKS, NOISE, (2, 4), steps=2)
    with pytest.raises(ValueError, match="only masks have an order"):
        sample(score, Uniform(3), NOISE, (2, 4), steps=2, order="confidence")
