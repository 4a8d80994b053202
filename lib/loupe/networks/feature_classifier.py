"""Classifiers whose last hidden layer gives features to compare sets of images.

Both take images in [0, 1] of any size and average over positions at the end, so the number of features depends only on
the network.
"""

import math
from itertools import pairwise

import torch
from torch import nn

from loupe.checks import whole
from loupe.networks.convolutional import check_images

GROUPS = 8  # channels in a normalization group; fewer where a width is not a multiple
BASE_WIDTH = 16  # channels of a wide residual network before widening


class FeatureClassifier(nn.Module):
    """A small convolutional network: one block of stride 2 for each width, then the mean over positions.

    A block is a 3 x 3 convolution, group normalization and a ReLU. Images of a batch do not affect each other.

    Parameters
    ----------
    channels : int
        Of the images: 1 for gray, 3 for color.
    widths : sequence of int
        Channels after each block; the last is the number of features.
    classes : int
    seed : int
        Of the initial weights.

    Raises
    ------
    ValueError
        For numbers that are not positive, or no width.

    Examples
    --------
    >>> sum(p.numel() for p in FeatureClassifier().parameters())
    94186
    """

    def __init__(self, channels=1, *, widths=(32, 64, 128), classes=10, seed=0):
        super().__init__()
        widths = tuple(widths)
        channels, _, classes = check_images(channels, 1, classes, smallest=1)
        widths = tuple(whole("each of widths", width) for width in widths)
        if not widths:
            raise ValueError("widths must be one or more positive whole numbers, got none")
        self.channels = channels
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            layers = []
            for fan_in, fan_out in pairwise([channels, *widths]):
                layers += [
                    nn.Conv2d(fan_in, fan_out, kernel_size=3, stride=2, padding=1, bias=False),
                    nn.GroupNorm(math.gcd(GROUPS, fan_out), fan_out),
                    nn.ReLU(),
                ]
            self.body = nn.Sequential(*layers)
            self.head = nn.Linear(widths[-1], classes)

    def features(self, x):
        """Means over positions after the last block, shape (B, widths[-1]), of images (B, channels, H, W) in [0, 1]."""
        check_batch(x, self.channels)
        return self.body(x).mean(dim=(2, 3))

    def forward(self, x):
        """Logits (B, classes) of images (B, channels, H, W) in [0, 1]."""
        return self.head(self.features(x))


class WideResNet(nn.Module):
    """A wide residual network for images of 32 pixels (Zagoruyko and Komodakis 2016), such as WRN-16-4.

    Three groups of (depth - 4) / 6 blocks each have 16, 32 and 64 times ``widen`` channels, the last two at half the
    input size. Batch normalization and ReLU come before each convolution. Convolutions use the initialization of He et
    al. (2015) for the backward pass.

    Use features in evaluation mode only: in training mode they depend on the other images of the batch.

    Parameters
    ----------
    channels : int
        Of the images: 1 for gray, 3 for color.
    depth : int
        Number of convolutions, counting the 1 x 1 shortcut of each group: 10, 16, 22, 28, ...
    widen : int
        Factor on the channels.
    classes : int
    seed : int
        Of the initial weights.

    Raises
    ------
    ValueError
        For a depth that is not 6 n + 4, or numbers that are not positive.

    Examples
    --------
    >>> sum(p.numel() for p in WideResNet().parameters())
    2748890
    """

    def __init__(self, channels=3, *, depth=16, widen=4, classes=10, seed=0):
        super().__init__()
        channels, _, classes = check_images(channels, 1, classes, smallest=1)
        depth, widen = whole("depth", depth, 10), whole("widen", widen)
        if depth % 6 != 4:
            raise ValueError(f"depth must be 6 n + 4: 10, 16, 22, 28, ..., got {depth!r}")
        self.channels = channels
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            layers, width = [convolution(channels, BASE_WIDTH)], BASE_WIDTH
            for group in range(3):
                wide = BASE_WIDTH * widen * 2**group
                for k in range((depth - 4) // 6):
                    layers.append(ResidualBlock(width, wide, stride=2 if group and k == 0 else 1))
                    width = wide
            self.body = nn.Sequential(*layers, nn.BatchNorm2d(width), nn.ReLU())
            self.head = nn.Linear(width, classes)
        nn.init.zeros_(self.head.bias)

    def features(self, x):
        """Means over positions before the last layer, shape (B, 64 widen), of images (B, channels, H, W) in [0, 1]."""
        check_batch(x, self.channels)
        return self.body(x).mean(dim=(2, 3))

    def forward(self, x):
        """Logits (B, classes) of images (B, channels, H, W) in [0, 1]."""
        return self.head(self.features(x))


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions, each after normalization, added to the input."""

    def __init__(self, fan_in, fan_out, stride):
        super().__init__()
        self.norm1 = nn.BatchNorm2d(fan_in)
        self.first = convolution(fan_in, fan_out, stride)
        self.norm2 = nn.BatchNorm2d(fan_out)
        self.second = convolution(fan_out, fan_out)
        same = fan_in == fan_out and stride == 1
        self.beside = None if same else convolution(fan_in, fan_out, stride, kernel=1)

    def forward(self, x):
        """``x (B, fan_in, H, W)`` to ``(B, fan_out, H / stride, W / stride)``, rounded up."""
        h = self.norm1(x).relu()
        if self.beside is not None:
            x = self.beside(h)  # as published: a block that changes the shape also normalizes its shortcut
        return x + self.second(self.norm2(self.first(h)).relu())


def convolution(fan_in, fan_out, stride=1, kernel=3):
    """A convolution without bias that keeps the size except for its stride, with weights of variance 2 / fan-out."""
    layer = nn.Conv2d(fan_in, fan_out, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def check_batch(x, channels):
    """Raise ValueError unless these are floating-point images with that many channels."""
    if not x.is_floating_point():
        raise ValueError(
            f"images must be floating point numbers in [0, 1], got {x.dtype}: divide uint8 by 255"
        )
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"images must have shape (B, {channels}, H, W), got {tuple(x.shape)}")
