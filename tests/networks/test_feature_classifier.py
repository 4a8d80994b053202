"""Feature classifiers: sizes by hand, features under the head, seeds, and what training mode may and may not do."""

import math
import re

import pytest
import torch
from torch import nn
from torch.nn import functional

from loupe.networks.feature_classifier import FeatureClassifier, WideResNet


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def pictures(n=4, channels=1, size=16, seed=0):
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(seed))


BUILT = {
    "small": lambda **options: FeatureClassifier(1, widths=(8, 16), **options),
    "wide": lambda **options: WideResNet(1, depth=10, widen=1, **options),
}
EACH = pytest.mark.parametrize("build", BUILT.values(), ids=BUILT)


@pytest.mark.parametrize(
    ("channels", "widths", "classes"), [(1, (32, 64, 128), 10), (3, (6,), 7), (1, (4, 12), 2)]
)
def test_parameters_of_the_small_one(channels, widths, classes):
    count, fan_in = 0, channels
    for fan_out in widths:
        count += 9 * fan_in * fan_out + 2 * fan_out
        fan_in = fan_out
    assert (
        parameters(FeatureClassifier(channels, widths=widths, classes=classes))
        == count + (fan_in + 1) * classes
    )


def wide_parameters(channels, depth, widen, classes):
    """Weights of a wide residual network, block by block as in its paper's table 1."""
    blocks, count, fan_in = (depth - 4) // 6, 9 * channels * 16, 16
    for fan_out in (16 * widen, 32 * widen, 64 * widen):
        for k in range(blocks):
            count += 2 * fan_in + 9 * fan_in * fan_out + 2 * fan_out + 9 * fan_out**2
            if k == 0 and fan_in != fan_out:
                count += fan_in * fan_out
            fan_in = fan_out
    return count + 2 * fan_in + (fan_in + 1) * classes


@pytest.mark.parametrize(
    ("channels", "depth", "widen", "classes"), [(3, 16, 4, 10), (1, 10, 1, 10), (3, 22, 2, 7), (3, 28, 1, 10)]
)
def test_parameters_and_convolutions_of_the_wide_one(channels, depth, widen, classes):
    network = WideResNet(channels, depth=depth, widen=widen, classes=classes)
    assert parameters(network) == wide_parameters(channels, depth, widen, classes)
    convolutions = sum(isinstance(layer, nn.Conv2d) for layer in network.modules())
    assert convolutions == depth - (widen == 1)  # without widening the first group needs none of 1 x 1


def test_wide_resnet_16_4_has_the_size_of_its_paper():
    assert parameters(WideResNet()) == wide_parameters(3, 16, 4, 10)
    assert parameters(WideResNet()) / 1e6 == pytest.approx(2.7, abs=0.05)


def test_the_small_one_layer_by_layer():
    network = FeatureClassifier(3, widths=(4, 12), seed=5).double()
    x = pictures(2, 3, 9).double()
    h = x
    for k, groups in ((0, 4), (3, 4)):
        conv, norm = network.body[k], network.body[k + 1]
        h = functional.conv2d(h, conv.weight, stride=2, padding=1)
        parts = h.reshape(2, groups, -1)
        spread = parts.var(dim=2, unbiased=False, keepdim=True) + norm.eps
        h = ((parts - parts.mean(dim=2, keepdim=True)) / spread.sqrt()).view(h.shape).clamp(min=0)
    expected = h.flatten(2).mean(2)
    torch.testing.assert_close(network.features(x), expected)
    logits = expected @ network.head.weight.T + network.head.bias
    torch.testing.assert_close(network(x), logits)


@EACH
@pytest.mark.parametrize("size", [1, 8, 17, 32])
def test_features_do_not_depend_on_the_size_of_images(build, size):
    network = build(classes=3).eval()
    x = pictures(size=size)
    assert network.features(x).shape == (4, network.head.in_features)
    assert torch.equal(network(x), network.head(network.features(x)))
    assert network(x).shape == (4, 3)


def test_numbers_of_features():
    assert FeatureClassifier().features(pictures()).shape == (4, 128)
    assert WideResNet(widen=2, depth=10).eval().features(pictures(2, 3, 32)).shape == (2, 128)


def test_the_wide_one_halves_twice():
    seen = []
    network = WideResNet(depth=16, widen=1).eval()
    for layer in network.body:
        layer.register_forward_hook(lambda layer, given, out: seen.append(tuple(out.shape[1:])))
    network(pictures(2, 3, 32))
    groups = [(16, 32, 32)] * 3 + [(32, 16, 16)] * 2 + [(64, 8, 8)] * 2
    assert seen == groups + [(64, 8, 8)] * 2


def test_a_block_adds_to_what_came_in():
    network = WideResNet(depth=16, widen=1).eval()
    keeps, changes = network.body[1], network.body[3]
    for block in (keeps, changes):
        nn.init.zeros_(block.second.weight)
    x = torch.randn(2, 16, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(keeps(x), x)
    normalised = (x / math.sqrt(1 + 1e-5)).relu()  # statistics before training are mean 0, variance 1
    expected = torch.einsum("bihw,oi->bohw", normalised[:, :, ::2, ::2], changes.beside.weight[:, :, 0, 0])
    torch.testing.assert_close(changes(x), expected)


@EACH
def test_seeds_and_the_global_random_state(build):
    before = torch.get_rng_state()
    one, same, other = build(seed=3), build(seed=3), build(seed=4)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(9)
    again = build(seed=3)
    for network, equal in ((same, True), (again, True), (other, False)):
        pairs = zip(one.state_dict().values(), network.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs) == equal


@EACH
def test_every_parameter_gets_a_gradient(build):
    network = build()
    network(pictures(8)).square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any(), name


def test_only_the_wide_one_depends_on_the_batch_and_only_in_training():
    x = pictures(8)
    for build, alone in (("small", True), ("wide", False)):
        network = BUILT[build]()
        assert torch.allclose(network(x)[:3], network(x[:3]), atol=1e-5) == alone
        network.eval()
        torch.testing.assert_close(network(x)[:3], network(x[:3]), atol=1e-5, rtol=1e-4)


def test_buffers():
    assert not list(FeatureClassifier().buffers())
    network = WideResNet(depth=10, widen=1)
    norms = sum(isinstance(layer, nn.BatchNorm2d) for layer in network.modules())
    assert len(list(network.buffers())) == 3 * norms == 3 * 7


def test_convolutions_of_the_wide_one_start_with_the_variance_of_their_fan_out():
    for layer in WideResNet().modules():
        if isinstance(layer, nn.Conv2d):
            spread = layer.weight.var().item() * layer.kernel_size[0] ** 2 * layer.out_channels / 2
            assert spread == pytest.approx(1, abs=5 * (2 / layer.weight.numel()) ** 0.5)


@EACH
def test_it_learns_where_a_square_is(build):
    """Left from right, above from below: four classes that no mean over pixels tells apart."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(4, (256,), generator=generator)
    x = 0.3 * torch.rand(256, 1, 12, 12, generator=generator)
    for image, label in zip(x, labels, strict=True):
        row, column = 6 * (label // 2), 6 * (label % 2)
        image[0, row + 1 : row + 5, column + 1 : column + 5] += 0.5
    network = build(classes=4)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        functional.cross_entropy(network(x[:128]), labels[:128]).backward()
        optimizer.step()
    network.eval()
    assert (network(x[128:]).argmax(1) == labels[128:]).double().mean() > 0.9


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FeatureClassifier(0), "channels must be a positive whole number, got 0"),
        (lambda: FeatureClassifier(classes=2.5), "classes must be a positive whole number, got 2.5"),
        (lambda: FeatureClassifier(widths=()), "widths must be one or more positive whole numbers, got none"),
        (lambda: FeatureClassifier(widths=(8, 0)), "each of widths must be a positive whole number, got 0"),
        (lambda: WideResNet(depth=18), "depth must be 6 n + 4: 10, 16, 22, 28, ..., got 18"),
        (lambda: WideResNet(depth=4), "depth must be a whole number of at least 10, got 4"),
        (lambda: WideResNet(widen=0), "widen must be a positive whole number, got 0"),
        (lambda: WideResNet(channels="3"), "channels must be a positive whole number, got '3'"),
        (
            lambda: FeatureClassifier()(torch.zeros(2, 1, 8, 8, dtype=torch.uint8)),
            "images must be floating point numbers in [0, 1], got torch.uint8: divide uint8 by 255",
        ),
        (lambda: FeatureClassifier(3)(pictures()), "images must have shape (B, 3, H, W), got (4, 1, 16, 16)"),
        (
            lambda: WideResNet()(torch.zeros(3, 32, 32)),
            "images must have shape (B, 3, H, W), got (3, 32, 32)",
        ),
    ],
)
def test_refusals(build, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        build()
