"""The U-Net: its parts by their formulas, its size, what it starts as, and what it is told."""

import math
import sys

import numpy as np
import pytest
import torch
from layers import generator, perturbed, silu

from loupe.errors import LoupeError
from loupe.networks.noise_embedding import NoiseEmbedding
from loupe.networks.unet import (
    Attention,
    DiffusersUNet,
    ResidualBlock,
    TranslationUNet,
    UNet,
    group_norm,
    make_unet,
)

# Levels of 4 and 8 pixels.
TINY = dict(channels=2, width=8, multipliers=(1, 2), blocks=1, attention=(4,), size=8, classes=3)


def network(**options):
    return perturbed(UNet(**TINY | options)).eval()


def images(batch=3, channels=2, size=8):
    return torch.randn(batch, channels, size, size, generator=generator(), dtype=torch.float64)


X = images()
SIGMA = torch.tensor([0.02, 1.0, 30.0], dtype=torch.float64)
LABELS = torch.tensor([0, 2, 3])


# ---- formulas, in numpy


def linear(layer, x):
    weight, bias = (p.detach().numpy() for p in (layer.weight, layer.bias))
    return x @ weight.reshape(len(weight), -1).T + bias


def normalised(norm, x, groups):
    """Group normalization of ``x (B, C, H, W)``, sample by sample and group by group."""
    out = np.empty_like(x)
    for b in range(len(x)):
        for part in np.split(np.arange(x.shape[1]), groups):
            h = x[b, part]
            out[b, part] = (h - h.mean()) / np.sqrt(h.var() + 1e-5)
    weight, bias = (p.detach().numpy().reshape(-1, 1, 1) for p in (norm.weight, norm.bias))
    return weight * out + bias


def convolved(conv, x):
    """Convolution of 3 x 3 with a border of zeros, as nine matrix products."""
    weight, bias = (p.detach().numpy() for p in (conv.weight, conv.bias))
    H, W = x.shape[2:]
    padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
    out = np.zeros((len(x), len(weight), H, W)) + bias[:, None, None]
    for i in range(3):
        for j in range(3):
            out += np.einsum("oc,bchw->bohw", weight[:, :, i, j], padded[:, :, i : i + H, j : j + W])
    return out


@pytest.mark.parametrize(("fan_in", "fan_out", "groups"), [(12, 8, (6, 8)), (16, 16, (8, 8))])
def test_residual_block_by_definition(fan_in, fan_out, groups):
    block = perturbed(ResidualBlock(fan_in, fan_out, 5, dropout=0.0))
    x, condition = images(2, fan_in, 4), torch.randn(2, 5, generator=generator(9), dtype=torch.float64)
    found = block(x, condition).detach().numpy()
    x, condition = x.numpy(), condition.numpy()
    h = convolved(block.conv1, silu(normalised(block.norm1, x, groups[0])))
    film = linear(block.film, condition)[:, :, None, None]
    h = (1 + film[:, :fan_out]) * normalised(block.norm2, h, groups[1]) + film[:, fan_out:]
    h = convolved(block.conv2, silu(h))
    skip = x
    if fan_in != fan_out:
        skip = np.moveaxis(linear(block.skip, np.moveaxis(x, 1, -1)), -1, 1)
    np.testing.assert_allclose(found, (skip + h) / np.sqrt(2), rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize(("channels", "heads", "groups"), [(8, 1, 8), (64, 1, 8), (128, 2, 32), (200, 2, 25)])
def test_attention_by_definition(channels, heads, groups):
    attention = perturbed(Attention(channels))
    x = images(2, channels, 3)
    found = attention(x).detach().numpy()
    x = x.numpy()
    tokens = normalised(attention.norm, x, groups).reshape(2, channels, 9).swapaxes(1, 2)
    q, k, v = np.split(linear(attention.qkv, tokens), 3, axis=-1)
    mixed = np.empty_like(v)
    for part in np.split(np.arange(channels), heads):
        for b in range(2):
            weights = np.exp(q[b][:, part] @ k[b][:, part].T / math.sqrt(channels / heads))
            mixed[b][:, part] = weights / weights.sum(1, keepdims=True) @ v[b][:, part]
    h = linear(attention.out, mixed).swapaxes(1, 2).reshape(x.shape)
    np.testing.assert_allclose(found, (x + h) / np.sqrt(2), rtol=1e-11, atol=1e-11)


def test_embedding_by_definition():
    embedding = perturbed(NoiseEmbedding(6, classes=3))
    found = embedding(SIGMA, LABELS, 3).detach().numpy()
    for b, sigma in enumerate(SIGMA.tolist()):
        angles = [250 * math.log(sigma) * 10_000 ** (-i / 128) for i in range(128)]
        features = np.array([math.cos(a) for a in angles] + [math.sin(a) for a in angles])
        h = linear(embedding.noise[2], silu(linear(embedding.noise[0], features)))
        h = h + embedding.label.weight[LABELS[b]].detach().numpy()
        np.testing.assert_allclose(found[b], silu(h), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    ("channels", "groups"), [(1, 1), (6, 6), (16, 8), (24, 8), (64, 8), (96, 32), (200, 25)]
)
def test_groups_divide_the_channels(channels, groups):
    assert group_norm(channels).num_groups == groups


def test_network_by_its_parts():
    """Two levels: what each stage of the decoder sees of the encoder, how sizes change, and the head."""
    net = network()
    condition = net.embedding(SIGMA, LABELS, 3)
    stem = net.stem(X)
    first = net.encoder[0][0](stem, condition)
    pooled = first.unflatten(3, (4, 2)).unflatten(2, (4, 2)).mean((3, 5))
    second = net.encoder[1][0](pooled, condition)
    x = second
    for stage in net.middle:
        x = stage(x, condition)
    x = net.decoder[0][0](torch.cat([x, second], 1), condition)
    x = net.decoder[0][1](torch.cat([x, pooled], 1), condition)
    x = x.repeat_interleave(2, 2).repeat_interleave(2, 3)
    x = net.decoder[1][0](torch.cat([x, first], 1), condition)
    x = net.decoder[1][1](torch.cat([x, stem], 1), condition)
    x = torch.from_numpy(convolved(net.head, silu(normalised(net.norm, x.detach().numpy(), 8))))
    torch.testing.assert_close(net(X, SIGMA, LABELS), x, rtol=1e-11, atol=1e-11)
    stage = net.encoder[1][0]
    wanted = stage.attention(stage.block(pooled, condition))
    torch.testing.assert_close(second, wanted, rtol=1e-12, atol=1e-12)


# ---- size


def residual(fan_in, fan_out, condition):
    count = 2 * fan_in + 2 * fan_out + 9 * fan_in * fan_out + fan_out + 9 * fan_out**2 + fan_out
    count += (condition + 1) * 2 * fan_out
    return count + (fan_in != fan_out) * (fan_in + 1) * fan_out


def attended(channels):
    return 2 * channels + 4 * channels**2 + 4 * channels


def test_number_of_parameters():
    net = UNet(1, out_channels=2, width=8, multipliers=(1, 2), blocks=1, attention=(4,), size=8, classes=3)
    wanted = (257 * 32 + 33 * 32 + 4 * 32) + (9 * 8 + 8)  # embedding and stem
    wanted += residual(8, 8, 32) + residual(8, 16, 32) + attended(16)
    wanted += 2 * residual(16, 16, 32) + attended(16)
    wanted += residual(16 + 16, 16, 32) + residual(16 + 8, 16, 32) + 2 * attended(16)
    wanted += residual(16 + 8, 8, 32) + residual(8 + 8, 8, 32)
    wanted += 2 * 8 + 9 * 8 * 2 + 2
    assert sum(p.numel() for p in net.parameters()) == wanted


@pytest.mark.parametrize("width", [16, 24, 32])
def test_size_at_no_attention(width):
    net = UNet(1, width=width, blocks=1, attention=(), size=16, classes=10)
    one, two, condition = width, 2 * width, 4 * width
    wanted = 257 * condition + (condition + 1) * condition + 11 * condition + 10 * one
    pairs = [(one, one), (one, two), *3 * [(two, two)]]  # encoder and middle
    pairs += [
        (2 * two, two),
        (2 * two, two),
        (2 * two, two),
        (two + one, two),
        (two + one, one),
        (2 * one, one),
    ]
    wanted += sum(residual(*pair, condition) for pair in pairs) + 2 * one + 9 * one + 1
    assert sum(p.numel() for p in net.parameters()) == wanted


@pytest.mark.parametrize(
    "options",
    [
        dict(multipliers=(1,), attention=()),
        dict(multipliers=(1,), attention=(8,)),
        dict(multipliers=(1, 2, 3), attention=(2, 8)),
        dict(blocks=2, attention=()),
        dict(channels=1, out_channels=2),
        dict(channels=3, out_channels=1, classes=0),
        dict(width=6, multipliers=[2, 1], size=4),
        dict(width=7, multipliers=(1, 1), size=12, attention=[6]),
    ],
    ids=str,
)
def test_shapes(options):
    net = network(**options)
    options = TINY | options
    size, channels = options["size"], options["channels"]
    found = net(images(2, channels, size), SIGMA[:2])
    assert found.shape == (2, options.get("out_channels") or channels, size, size)
    assert found.isfinite().all()
    assert found.std() > 1e-2


def test_attention_is_where_it_is_wanted():
    net = UNet(**TINY | dict(blocks=2))
    found = {name for name, module in net.named_modules() if isinstance(module, Attention)}
    wanted = {f"encoder.1.{k}" for k in range(2)} | {"middle.0"} | {f"decoder.0.{k}" for k in range(3)}
    assert found == {f"{name}.attention" for name in wanted}
    assert not any(isinstance(m, Attention) for m in UNet(**TINY | dict(attention=())).modules())


@pytest.mark.parametrize(("size", "side"), [(32, 16), (28, 14), (64, 16), (24, 12), (8, 8)])
def test_attention_is_at_16_pixels_or_near(size, side):
    net, named = (
        make_unet(channels=1, width=8, blocks=1, size=size, **o) for o in ({}, {"attention": (side,)})
    )
    assert net.state_dict().keys() == named.state_dict().keys()
    assert any(isinstance(m, Attention) for m in net.encoder.modules())


def test_pixels_far_apart_meet():
    """Every output pixel depends on every input pixel: by attention, or by the levels below."""
    for options in (dict(multipliers=(1,), attention=(8,)), dict(multipliers=(1, 2, 2), attention=())):
        net, x = network(**options), X[:1].clone().requires_grad_()
        net(x, 1.0)[0, 0, 0, 0].backward()
        assert x.grad[0, 0, -1, -1].abs() > 1e-9


# ---- the start, seeds


def test_parts_start_as_the_identity():
    x, condition = images(2, 8, 4).float(), torch.randn(2, 5, generator=generator())
    for part in (ResidualBlock(8, 8, 5, dropout=0.0), Attention(8)):
        torch.testing.assert_close(part(x, condition), x / math.sqrt(2), rtol=1e-6, atol=1e-6)


def test_starts_at_zero():
    net = UNet(**TINY).double()
    assert net(X, SIGMA, LABELS).abs().max() == 0
    assert network()(X, SIGMA, LABELS).abs().max() > 0.1
    with torch.no_grad():
        net.head.weight.normal_(generator=generator())
    # Blocks and attention add nothing yet: neither the noise nor the label is heard.
    assert torch.equal(net(X, SIGMA, LABELS), net(X, 2 * SIGMA))
    assert net(X, SIGMA).abs().max() > 0.1


@pytest.mark.parametrize("backbone", ["loupe", "diffusers"])
def test_seeds_of_weights(backbone):
    if backbone == "diffusers":
        diffusers_unet()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    options = TINY | dict(width=16, blocks=1, attention=())
    nets = [make_unet(backbone=backbone, seed=seed, **options).state_dict() for seed in (0, 0, 1)]
    assert torch.equal(torch.get_rng_state(), before)
    assert all(torch.equal(nets[0][name], nets[1][name]) for name in nets[0])
    differ = [name for name in nets[0] if not torch.equal(nets[0][name], nets[2][name])]
    assert any("conv1" in name for name in differ)
    assert any("label" in name or "class_embedding" in name for name in differ)


# ---- what it is told


def test_noise_matters():
    net = network()
    one = net(X, torch.full((3,), 0.5).double(), LABELS)
    assert (one - net(X, SIGMA, LABELS)).abs().amax((1, 2, 3)).min() > 1e-2
    for sigma in (0.5, torch.tensor(0.5), torch.tensor([0.5]), torch.full((3,), 0.5)):
        assert torch.equal(net(X, sigma, LABELS), one)
    # Neighbors in float32 stay apart, though 250 log sigma in float32 is one number for both.
    low = torch.tensor(1.1e-3)
    high = low.nextafter(torch.tensor(1.0))
    assert (250 * low.log()).float() == (250 * high.log()).float()
    assert not torch.equal(net(X, low, LABELS), net(X, high, LABELS))


def test_labels_matter():
    net = network()
    found = [net(X, SIGMA, torch.full((3,), label)) for label in range(4)]
    for k in range(4):
        for j in range(k):
            assert (found[k] - found[j]).abs().amax((1, 2, 3)).min() > 1e-3
    torch.testing.assert_close(net(X, SIGMA), found[3], rtol=1e-13, atol=1e-13)
    mixed = torch.stack([found[label][b] for b, label in enumerate(LABELS)])
    torch.testing.assert_close(net(X, SIGMA, LABELS), mixed, rtol=1e-11, atol=1e-11)


def test_samples_do_not_meet():
    net = network()
    alone = torch.cat([net(X[b : b + 1], SIGMA[b : b + 1], LABELS[b : b + 1]) for b in range(3)])
    torch.testing.assert_close(net(X, SIGMA, LABELS), alone, rtol=1e-11, atol=1e-11)
    assert net(X[:0], SIGMA[:0], LABELS[:0]).shape == (0, 2, 8, 8)


def test_no_classes():
    net = network(classes=0)
    assert net(X, SIGMA).abs().max() > 0.1
    assert not any("label" in name for name, _ in net.named_parameters())
    with pytest.raises(ValueError, match=r"knows no classes.*classes="):
        net(X, SIGMA, LABELS)


def test_dropout_in_training_only():
    net = network(dropout=0.5)
    assert torch.equal(net(X, SIGMA), net(X, SIGMA))
    assert torch.equal(net(X, SIGMA), network()(X, SIGMA))
    net.train()
    assert not torch.equal(net(X, SIGMA), net(X, SIGMA))


# ---- gradients, formats, compilers


def test_gradients_against_differences():
    net = network(channels=1, width=2, multipliers=(1, 2), attention=(2,), size=4, classes=1)
    x = images(2, 1, 4).requires_grad_()
    sigma = torch.tensor([0.9, 1.1], dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([0, 1])
    torch.autograd.gradcheck(lambda x: net(x, sigma.detach(), labels), (x,), atol=1e-6)
    # Angles are 250 log sigma, so that differences in sigma must be small.
    torch.autograd.gradcheck(lambda s: net(x.detach(), s, labels), (sigma,), eps=1e-8, atol=1e-4, rtol=1e-3)


def test_every_parameter_learns():
    # In groups of one channel the second normalization takes away what the first bias adds: 16 channels make pairs.
    net = network(width=16, multipliers=(1, 2, 2), blocks=2, attention=(4, 8)).train()
    net(X, SIGMA, torch.tensor([0, 1, 2])).square().sum().backward()
    for name, parameter in net.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().max() > 1e-9, name
    assert net.embedding.label.weight.grad[3].abs().max() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_channels_last(dtype):
    net, x = network(attention=(4, 8)).to(dtype), X.to(dtype)
    wanted = net(x, SIGMA, LABELS)
    wanted.square().sum().backward()
    slopes = {name: parameter.grad.clone() for name, parameter in net.named_parameters()}
    net.zero_grad()
    net.to(memory_format=torch.channels_last)
    found = net(x.contiguous(memory_format=torch.channels_last), SIGMA, LABELS)
    assert found.is_contiguous(memory_format=torch.channels_last)
    digits = dict(rtol=1e-10, atol=1e-10) if dtype == torch.float64 else dict(rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(found, wanted, **digits)
    found.square().sum().backward()
    scale = max(slope.abs().max() for slope in slopes.values())
    for name, parameter in net.named_parameters():
        torch.testing.assert_close(parameter.grad / scale, slopes[name] / scale, **digits)


def test_compiled_whole():
    net = network()
    torch.compiler.reset()
    compiled = torch.compile(net, backend="eager", fullgraph=True)
    for labels in (None, LABELS):
        torch.testing.assert_close(compiled(X, SIGMA, labels), net(X, SIGMA, labels), rtol=1e-12, atol=1e-12)
    torch.compiler.reset()


def test_no_comparison_of_labels_off_the_cpu():
    """Where values cannot be read, as on a meta device, nothing asks for them."""
    net = UNet(**TINY).to("meta")
    found = net(X.float().to("meta"), SIGMA.to("meta"), LABELS.to("meta"))
    assert found.shape == (3, 2, 8, 8)


def test_autocast():
    net = network().float()
    wanted = net(X.float(), SIGMA, LABELS)
    with torch.autocast("cpu", torch.bfloat16):
        found = net(X.float(), SIGMA, LABELS)
    torch.testing.assert_close(found.float(), wanted, rtol=0, atol=0.1 * wanted.abs().max().item())


def test_functional_gradients():
    net = network()
    parameters = dict(net.named_parameters())

    def loss(parameters):
        return torch.func.functional_call(net, parameters, (X, SIGMA, LABELS)).square().sum()

    found = torch.func.grad(loss)(parameters)
    loss(parameters).backward()
    for name, parameter in parameters.items():
        torch.testing.assert_close(found[name], parameter.grad, rtol=1e-9, atol=1e-9)


# ---- bad input


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(size=6, multipliers=(1, 1, 1)), r"size must be a multiple of 4 for 3 levels, got 6: pad"),
        (dict(attention=(5,)), r"attention must name sides among 8, 4, those of the levels, got 5"),
        (dict(attention=(4, 16)), r"sides among 8, 4.*got 16"),
        (dict(multipliers=()), r"at least one level"),
        (dict(multipliers=(1, 0)), r"each of multipliers must be a positive whole number, got 0"),
        (dict(width=8.0), r"width must be a positive whole number, got 8.0"),
        (dict(channels=0), r"channels must be a positive whole number, got 0"),
        (dict(out_channels=-1), r"out_channels must be .* got -1"),
        (dict(blocks=0), r"blocks must be .* got 0"),
        (dict(classes=-2), r"classes must be a whole number of at least 0, got -2"),
        (dict(dropout=1.0), r"dropout must be at least 0 and below 1, got 1.0"),
    ],
    ids=str,
)
@pytest.mark.parametrize("backbone", ["loupe", "diffusers"])
def test_options_that_make_no_network(backbone, options, message):
    with pytest.raises(ValueError, match=message):
        make_unet(backbone=backbone, **TINY | options)


@pytest.mark.parametrize(
    ("x", "sigma", "labels", "message"),
    [
        (X[:, :1], SIGMA, None, r"\(B, 2, 8, 8\) for this network, got \(3, 1, 8, 8\): resize"),
        (images(3, 2, 4), SIGMA, None, r"got \(3, 2, 4, 4\)"),
        (X[0], SIGMA, None, r"got \(2, 8, 8\)"),
        (X, SIGMA[:2], None, r"noise levels must be one number or of shape \(3,\) .* got \(2,\)"),
        (X, SIGMA[:, None], None, r"noise levels must .* got \(3, 1\)"),
        (X, SIGMA, torch.tensor([0, 4, 1]), r"labels must be in \[0, 3\], where 3 means no label, got 4"),
        (X, SIGMA, torch.tensor([0, -1, 1]), r"labels must be in \[0, 3\].* got -1"),
        (X, SIGMA, LABELS[:2], r"labels must be int64 of shape \(3,\), got torch.int64 of shape \(2,\)"),
        (X, SIGMA, LABELS.float(), r"labels must be int64 .* got torch.float32"),
    ],
)
def test_input_that_does_not_suit(x, sigma, labels, message):
    with pytest.raises(ValueError, match=message):
        network()(x, sigma, labels)


# ---- diffusers


def diffusers_unet(**options):
    pytest.importorskip("diffusers")
    return perturbed(make_unet(backbone="diffusers", **TINY | options), scale=0.1).eval()


def test_diffusers_behind_the_same_call():
    net = diffusers_unet()
    assert isinstance(net, DiffusersUNet)
    found = net(X, SIGMA, LABELS)
    assert found.shape == X.shape
    null = torch.full((3,), 3)
    assert torch.equal(net(X, SIGMA), net(X, SIGMA, null))
    assert (found - net(X, SIGMA, null)).abs().amax((1, 2, 3))[:2].min() > 1e-4
    assert (found - net(X, 2 * SIGMA, LABELS)).abs().amax((1, 2, 3)).min() > 1e-4
    assert torch.equal(net(X, 0.5), net(X, torch.full((3,), 0.5)))
    with pytest.raises(ValueError, match="labels must be in"):
        net(X, SIGMA, LABELS + 1)
    with pytest.raises(ValueError, match=r"\(B, 2, 8, 8\)"):
        net(X[:, :1], SIGMA)
    with pytest.raises(ValueError, match="noise levels must"):
        net(X, SIGMA[:2])


@pytest.mark.parametrize(
    "options",
    [
        dict(multipliers=(1,), attention=(), classes=0),
        dict(multipliers=(1, 2, 3), attention=(4, 2), out_channels=1, blocks=2),
        dict(width=24, attention=(8,), channels=1),
    ],
    ids=str,
)
def test_diffusers_takes_the_same_options(options):
    net = diffusers_unet(**options)
    channels = options.get("channels", 2)
    found = net(images(2, channels), SIGMA[:2])
    assert found.shape == (2, options.get("out_channels", channels), 8, 8)
    if options.get("classes") == 0:
        with pytest.raises(ValueError, match="knows no classes"):
            net(images(2, channels), SIGMA[:2], LABELS[:2])


def test_diffusers_is_told_250_logs():
    net, seen = diffusers_unet(), []
    net.net.time_proj.register_forward_hook(lambda module, arguments, output: seen.append(arguments[0]))
    net(X, SIGMA)
    torch.testing.assert_close(seen[0], 250 * SIGMA.log(), rtol=1e-12, atol=1e-12)


def test_diffusers_missing(monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    with pytest.raises(
        LoupeError, match=r"diffusers, which is not installed: `pip install 'loupe\[diffusers\]'`"
    ):
        make_unet(backbone="diffusers", **TINY)
    assert isinstance(make_unet(**TINY), UNet)


def test_unknown_backbone():
    with pytest.raises(ValueError, match=r"backbone must be one of 'loupe', 'diffusers', got 'dit'"):
        make_unet(backbone="dit", **TINY)


def test_translation_sees_its_source_unless_withheld():
    torch.manual_seed(0)
    x, one, other = torch.randn(3, 2, 1, 16, 16)
    for sources in (True, False):
        network = TranslationUNet(make_unet(channels=1 + sources, out_channels=1, width=16, size=16), sources)
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        answers = [network(x, source, torch.zeros(2)) for source in (one, other)]
        assert answers[0].shape == x.shape
        assert torch.equal(*answers) is not sources
    with pytest.raises(ValueError, match=r"\(B, 1, 16, 16\) for this network, got \(2, 2, 16, 16\)"):
        TranslationUNet(make_unet(channels=1, width=16, size=16))(x, one, torch.zeros(2))
