"""The transformer: what it sees, what it starts as, and its size; and the scores that are made of it."""

import math

import pytest
import torch

from loupe.diffusion.discrete import Absorbing, Denoiser, ScoreNetwork, Uniform
from loupe.networks import transformer
from loupe.networks.transformer import Transformer, noise_features, rotary_angles, rotated


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def network(states=6, *, random=True, dtype=torch.float64, **options):
    made = Transformer(states, **(dict(width=16, heads=2, blocks=2, condition=8) | options))
    if random:
        with torch.no_grad():
            for k, parameter in enumerate(made.parameters()):
                parameter.normal_(0, 0.3, generator=generator(k))
    return made.to(dtype).eval()


TOKENS = torch.randint(6, (3, 7), generator=generator())
NOISE = torch.tensor([0.1, 1.0, 7.0], dtype=torch.float64)


# ---- positions


def test_rotary_angles_turn_pairs():
    q = torch.randn(5, 2, 8, generator=generator(), dtype=torch.float64)
    turned = rotated(q, *rotary_angles(5, 8, dtype=torch.float64))
    z = torch.complex(q[..., :4], q[..., 4:])
    rates = torch.tensor([10_000 ** (-2 * i / 8) for i in range(4)], dtype=torch.float64)
    wanted = z * torch.exp(1j * torch.arange(5).double()[:, None, None] * rates)
    torch.testing.assert_close(
        torch.complex(turned[..., :4], turned[..., 4:]), wanted, rtol=1e-12, atol=1e-12
    )
    assert torch.equal(turned[0], q[0])


def test_products_of_turned_vectors_depend_on_the_distance():
    q, k = (
        torch.randn(1, 1, 8, generator=generator(s), dtype=torch.float64).expand(20, 1, 8) for s in (0, 1)
    )
    angles = rotary_angles(20, 8, dtype=torch.float64)
    products = torch.einsum("ihd,jhd->ij", rotated(q, *angles), rotated(k, *angles))
    for offset in range(-19, 20):
        diagonal = products.diagonal(offset)
        assert (diagonal - diagonal[0]).abs().max() < 1e-12
    assert (products[0, 1] - products[1, 0]).abs() > 1e-3


def test_positions_enter_by_the_angles_only(monkeypatch):
    net, order = network(), torch.tensor([4, 2, 6, 0, 1, 5, 3])
    seen = net(TOKENS[:, order], NOISE) - net(TOKENS, NOISE)[:, order]
    assert seen.abs().max() > 1e-3
    monkeypatch.setattr(transformer, "rotated", lambda x, *angles: x)
    seen = net(TOKENS[:, order], NOISE) - net(TOKENS, NOISE)[:, order]
    assert seen.abs().max() < 1e-12


def test_a_causal_network_sees_no_future():
    for condition in (0, 8):
        net = network(causal=True, condition=condition)
        before = net(TOKENS, NOISE)
        for i in range(7):
            changed = TOKENS.clone()
            changed[:, i] = (changed[:, i] + 1) % 6
            moved = (net(changed, NOISE) - before).abs().amax((0, 2))
            assert moved[:i].max().item() == 0 if i else True
            assert moved[i] > 1e-6
    both = network()
    changed = TOKENS.clone()
    changed[:, -1] = (changed[:, -1] + 1) % 6
    assert (both(changed, NOISE) - both(TOKENS, NOISE))[:, 0].abs().max() > 1e-6


# ---- noise


@pytest.mark.parametrize("pieces", [[7], [1] * 7, [3, 1, 3], [2, 5]])
def test_a_cache_changes_nothing(pieces):
    net, cache = network(condition=0, causal=True), {}
    found = [net(part, cache=cache) for part in TOKENS.split(pieces, dim=-1)]
    torch.testing.assert_close(torch.cat(found, dim=1), net(TOKENS), rtol=1e-12, atol=1e-12)
    assert len(cache) == len(net.blocks)


@pytest.mark.parametrize(("causal", "padding"), [(False, None), (True, torch.zeros(3, 7, dtype=torch.bool))])
def test_a_cache_that_makes_no_sense_is_refused(causal, padding):
    with pytest.raises(ValueError, match="a cache is for a causal network"):
        network(condition=0, causal=causal)(TOKENS, padding=padding, cache={})


def test_noise_features_by_definition():
    found = noise_features(NOISE)
    assert found.shape == (3, 256)
    for b, noise in enumerate(NOISE.tolist()):
        for i in (0, 1, 64, 127):
            angle = noise * 10_000 ** (-i / 128)
            assert found[b, i].item() == pytest.approx(math.cos(angle), abs=1e-12)
            assert found[b, 128 + i].item() == pytest.approx(math.sin(angle), abs=1e-12)


def test_noise_matters_where_it_is_told():
    for condition, told in ((8, True), (0, False)):
        net = network(condition=condition)
        moved = (net(TOKENS, NOISE) - net(TOKENS, NOISE + 1)).abs().max().item()
        assert (moved > 1e-3) == told
    net = network()
    for noise in (0.5, torch.tensor(0.5), torch.tensor([0.5]), torch.full((3,), 0.5)):
        torch.testing.assert_close(net(TOKENS, noise), net(TOKENS, torch.full((3,), 0.5)), rtol=0, atol=0)
    with pytest.raises(ValueError, match="takes the noise"):
        net(TOKENS)


# ---- the start


def test_blocks_start_as_the_identity():
    """adaLN-zero: with a head that is not 0, outputs are those of embedding and head alone."""
    net = network(random=False)
    assert net(TOKENS, NOISE).abs().max() == 0
    with torch.no_grad():
        net.head.weight.normal_(generator=generator())
    h = torch.nn.functional.layer_norm(net.embedding(TOKENS), (16,))
    torch.testing.assert_close(net(TOKENS, NOISE), h @ net.head.weight.T, rtol=1e-12, atol=1e-12)
    # The noise is heard only once the first step is taken.
    net(TOKENS, NOISE).square().sum().backward()
    assert net.blocks[0].modulation.linear.weight.grad.abs().max() > 0
    assert net.blocks[0].qkv.weight.grad.abs().max() == 0


def test_gates_that_start_closed_make_blocks_the_identity():
    net = network(random=False, condition=0, gate=0.0)
    with torch.no_grad():
        net.head.weight.normal_(generator=generator())
    h = torch.nn.functional.layer_norm(net.embedding(TOKENS), (16,))
    torch.testing.assert_close(net(TOKENS), h @ net.head.weight.T, rtol=1e-12, atol=1e-12)


def test_without_a_condition_gates_start_open():
    net = network(random=False, condition=0)
    with torch.no_grad():
        net.head.weight.normal_(generator=generator())
    shift, scale, gate = net.blocks[0].modulation(None)[:3]
    assert shift.abs().max() == scale.abs().max() == 0
    assert (gate == 1).all()
    assert [part.abs().max() for part in net.modulation(None)] == [0, 0]
    h = torch.nn.functional.layer_norm(net.embedding(TOKENS), (16,))
    assert (net(TOKENS) - h @ net.head.weight.T).abs().max() > 1e-3


@pytest.mark.parametrize("graph", [Absorbing(5), Uniform(6)], ids=repr)
def test_networks_start_at_the_score_of_uniform_tokens(graph):
    score = ScoreNetwork(network(random=False), graph)
    found = score(TOKENS, NOISE)
    wanted = -(torch.expm1(NOISE).log() + math.log(5)) if isinstance(graph, Absorbing) else torch.zeros(3)
    others = torch.ones_like(found, dtype=torch.bool).scatter(-1, TOKENS.unsqueeze(-1), False)
    wanted = wanted.view(3, 1, 1).expand_as(found)[others].double()
    torch.testing.assert_close(found[others], wanted, rtol=1e-12, atol=1e-12)
    assert found[~others].abs().max() == 0


@pytest.mark.parametrize("graph", [Absorbing(5), Uniform(6)], ids=repr)
def test_scores_of_tokens_themselves_are_one(graph):
    found = ScoreNetwork(network(), graph)(TOKENS, NOISE)
    assert found.gather(-1, TOKENS.unsqueeze(-1)).abs().max().item() == 0
    assert found.abs().max() > 0.1


def test_denoisers_are_normalised():
    graph = Absorbing(5)
    score = Denoiser(network(), graph)
    found = score(TOKENS, NOISE)
    assert found.shape == (3, 7, 6)
    sums = found[..., :5].exp().sum(-1) * torch.expm1(NOISE).unsqueeze(1)
    torch.testing.assert_close(sums, torch.ones(3, 7).double(), rtol=1e-12, atol=1e-12)
    assert score.needs_noise
    assert not Denoiser(network(condition=0), graph).needs_noise
    with pytest.raises(ValueError, match="must be Absorbing, got Uniform"):
        Denoiser(network(), Uniform(6))
    with pytest.raises(ValueError, match="scale_by_noise is for the absorbing graph"):
        ScoreNetwork(network(), Uniform(6), scale_by_noise=True)


def test_scales_of_little_and_great_noise():
    for noise in (1e-6, 1e-3, 30.0, 800.0):
        found = Denoiser(network(), Absorbing(5))(TOKENS[:1], torch.tensor([noise], dtype=torch.float64))
        log_e = noise if noise > 700 else math.log(math.expm1(noise))
        assert found[..., :5].logsumexp(-1).mean().item() == pytest.approx(-log_e, rel=1e-9)


# ---- size, seeds, dtypes


@pytest.mark.parametrize(
    ("options", "total", "inner"),
    [
        (dict(width=768, heads=12, blocks=12), 169.6, 92.4),
        (dict(width=1024, heads=16, blocks=24), 424.5, 321.5),
    ],
)
def test_published_sizes(options, total, inner):
    torch.set_default_device("meta")
    try:
        net = Transformer(50258, condition=128, **options)
    finally:
        torch.set_default_device("cpu")
    whole = sum(p.numel() for p in net.parameters()) / 1e6
    ends = sum(p.numel() for p in (net.embedding.weight, net.head.weight, net.head.bias)) / 1e6
    assert round(whole, 1) == total
    assert round(whole - ends, 1) == inner


def test_small_size():
    net = Transformer(28, width=96, heads=4, blocks=3, condition=32, length=64)
    assert round(sum(p.numel() for p in net.parameters()) / 1e6, 2) == 0.41


def test_seeds_of_weights():
    torch.manual_seed(5)
    before = torch.get_rng_state()
    nets = [Transformer(6, width=8, heads=1, blocks=1, seed=seed) for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    weights = [net.blocks[0].qkv.weight for net in nets]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_dropout_in_training_only():
    net = network(dropout=0.5)
    assert torch.equal(net(TOKENS, NOISE), net(TOKENS, NOISE))
    net.train()
    torch.manual_seed(0)
    assert not torch.equal(net(TOKENS, NOISE), net(TOKENS, NOISE))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_fewer_digits(dtype):
    wanted = network()(TOKENS, NOISE)
    found = network(dtype=dtype)(TOKENS, NOISE)
    assert found.dtype == dtype
    units = torch.finfo(dtype).eps * wanted.abs().max().item()
    torch.testing.assert_close(found.double(), wanted, rtol=0, atol=200 * units)
    assert ScoreNetwork(network(dtype=dtype), Absorbing(5))(TOKENS, NOISE).dtype == torch.float32


def test_autocast():
    net = network(dtype=torch.float32)
    wanted = net(TOKENS, NOISE)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(TOKENS, NOISE)
    torch.testing.assert_close(found.float(), wanted, rtol=0, atol=0.1 * wanted.abs().max().item())
    found.float().sum().backward()
    assert all(p.grad.isfinite().all() for p in net.parameters())


def test_inference_mode_leaves_no_trace():
    net = network()
    with torch.inference_mode():
        net(TOKENS, NOISE)
    net(TOKENS, NOISE).sum().backward()
    assert net.embedding.weight.grad.abs().max() > 0


def test_lengths():
    net = network(length=5)
    assert net(TOKENS[:, :5], NOISE).shape == (3, 5, 6)
    with pytest.warns(RuntimeWarning, match="7 tokens are longer than the 5 of training"):
        net(TOKENS, NOISE)
    free = network()
    assert free(TOKENS[:, :1], NOISE).shape == (3, 1, 6)
    assert free(TOKENS[:0], NOISE[:0]).shape == (0, 7, 6)
    # After another length the angles are those of the first again.
    first = free(TOKENS, NOISE)
    free(TOKENS[:, :3], NOISE)
    assert torch.equal(free(TOKENS, NOISE), first)
    torch.testing.assert_close(free(TOKENS[1:2], NOISE[1:2]), first[1:2], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("width", "heads"), [(18, 2), (6, 2), (16, 3)])
def test_widths_that_do_not_suit_the_heads(width, heads):
    with pytest.raises(ValueError, match=f"multiple of 2 \\* heads = {2 * heads}, got {width}"):
        Transformer(6, width=width, heads=heads, blocks=1)


def test_functional_gradients():
    score = ScoreNetwork(network(), Uniform(6))
    parameters = dict(score.named_parameters())

    def loss(parameters):
        return torch.func.functional_call(score, parameters, (TOKENS, NOISE)).square().sum()

    found = torch.func.grad(loss)(parameters)
    loss(parameters).backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-10, atol=1e-12)


# Warnings of torch's compiler.
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore:Guards may run slower")
def test_compiled_over_several_sizes():
    """By the compiler that chapters use: once sizes vary it makes other code than for the first one."""
    net = network(dtype=torch.float32, blocks=1, width=16, heads=2).eval()
    torch.compiler.reset()
    compiled = torch.compile(net)
    with torch.no_grad():
        for count in (2, 2, 5, 3):
            x, noise = torch.randint(6, (count, 8), generator=generator(count)), torch.full((count,), 0.5)
            torch.testing.assert_close(compiled(x, noise), net(x, noise), rtol=1e-4, atol=1e-5)
    torch.compiler.reset()
