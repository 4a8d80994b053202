"""Architectures have the sizes of their papers, learn in every part, and refuse what they cannot take."""

from itertools import pairwise

import pytest
import torch
from torch import nn

from loupe.networks import alexnet, lenet, vgg


def parameters(network):
    return sum(parameter.numel() for parameter in network.parameters())


def convolution(fan_in, fan_out, kernel):
    return fan_in * fan_out * kernel**2 + fan_out


def linear(fan_in, fan_out):
    return fan_in * fan_out + fan_out


def test_parameters_of_lenet():
    head = linear(400, 120) + linear(120, 84) + linear(84, 10)
    assert parameters(lenet()) == convolution(3, 6, 5) + convolution(6, 16, 5) + head == 62_006
    assert parameters(lenet(channels=1, size=28)) == 44_426  # 256 numbers enter the head, and one channel


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("size", "flat"), [(28, 64), (32, 64), (43, 64), (44, 4 * 64)])
def test_parameters_of_alexnet(channels, size, flat):
    hidden = flat * (7 if flat == 64 else 9)  # 1 + log2 of the flattened size
    body = convolution(channels, 64, 4) + convolution(64, 64, 5) + 3 * convolution(64, 64, 3)
    head = linear(flat, hidden) + linear(hidden, hidden) + linear(hidden, 10)
    assert parameters(alexnet(channels, size)) == body + head


@pytest.mark.parametrize("depth", [11, 13, 16, 19])
@pytest.mark.parametrize("batch_norm", [False, True])
def test_depth_of_vgg_counts_layers_with_weights(depth, batch_norm):
    layers = list(vgg(depth, batch_norm=batch_norm).modules())
    assert sum(isinstance(layer, nn.Conv2d | nn.Linear) for layer in layers) == depth
    assert sum(isinstance(layer, nn.BatchNorm2d) for layer in layers) == batch_norm * (depth - 3)


def test_parameters_of_vgg():
    widths = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    body = sum(convolution(a, b, 3) for a, b in pairwise(widths))
    head = 2 * linear(512, 512) + linear(512, 10)
    assert parameters(vgg(11)) == body + head
    assert parameters(vgg(11, batch_norm=True)) == body + head + 2 * sum(widths[1:])


BUILT = {
    "lenet": lenet,
    "alexnet": alexnet,
    "vgg": lambda *numbers: vgg(11, *numbers),
    "vgg with norm": lambda *numbers: vgg(11, *numbers, batch_norm=True),
}


@pytest.mark.parametrize("build", BUILT.values(), ids=BUILT)
@pytest.mark.parametrize(("channels", "size", "classes"), [(3, 32, 10), (1, 28, 10), (3, 33, 7)])
def test_logits_for_each_image_and_a_gradient_for_each_parameter(build, channels, size, classes):
    torch.manual_seed(0)
    network = build(channels, size, classes)
    logits = network(torch.randn(4, channels, size, size))
    assert logits.shape == (4, classes)
    logits.square().sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.any() or "norm" in name, name


@pytest.mark.parametrize("size", [1, 2, 17, 40])
def test_vgg_takes_any_size(size):
    assert vgg(11, size=size).eval()(torch.randn(2, 3, size, size)).shape == (2, 10)


def test_rounding_up_changes_nothing_at_32_pixels():
    network = vgg(11).eval()
    images = torch.randn(2, 3, 32, 32)
    expected = network(images)
    for layer in network:
        if isinstance(layer, nn.MaxPool2d):
            layer.ceil_mode = False
    assert torch.equal(network(images), expected)


def test_vgg_starts_with_the_variance_of_its_fan_out():
    torch.manual_seed(0)
    convolutions = [layer for layer in vgg(16) if isinstance(layer, nn.Conv2d)]
    for layer in convolutions:
        assert not layer.bias.any()
        spread = layer.weight.var().item() * 9 * layer.out_channels / 2
        # Standard errors of a variance.
        assert spread == pytest.approx(1, abs=5 * (2 / layer.weight.numel()) ** 0.5)


def test_dropout_acts_in_training_only():
    images = torch.randn(2, 3, 32, 32)
    for network in (alexnet(), vgg(11)):
        assert not torch.equal(network(images), network(images))
        network.eval()
        assert torch.equal(network(images), network(images))
    without = alexnet(dropout=0)
    assert torch.equal(without(images), without(images))


@pytest.mark.parametrize("network", [alexnet(), vgg(11)], ids=["alexnet", "vgg"])
def test_inputs_of_both_hidden_layers_are_dropped_and_those_of_the_last_are_not(network):
    before = [type(one) for one, layer in pairwise(network) if isinstance(layer, nn.Linear)]
    assert before == [nn.Dropout, nn.Dropout, nn.ReLU]


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: lenet(size=15), "size must be at least 16 pixels for this network, got 15"),
        (lambda: alexnet(size=27), "size must be at least 28 pixels for this network, got 27"),
        (lambda: vgg(12), "depth must be one of 11, 13, 16, 19, got 12"),
        (lambda: lenet(channels=0), "channels must be a positive whole number, got 0"),
        (lambda: vgg(11, classes=2.5), "classes must be a positive whole number, got 2.5"),
        (lambda: alexnet(dropout=1), "dropout must be at least 0 and below 1, got 1"),
    ],
)
def test_refusals(build, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        build()


def test_the_smallest_images_pass():
    assert lenet(size=16)(torch.randn(1, 3, 16, 16)).shape == (1, 10)
    assert alexnet(size=28)(torch.randn(1, 3, 28, 28)).shape == (1, 10)
