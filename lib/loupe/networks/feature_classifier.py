"""Classifiers whose last hidden layer is looked at: features by which sets of images are compared.

Both take images in [0, 1] of any size and average over positions at the end, so the number of features depends on the
network alone.
"""

import math
from itertools import pairwise

import torch
from torch import nn

from loupe.checks import whole
from loupe.networks.convolutional import check_images

GROUPS = 8  # of channels that are normalised together; fewer where a width is no multiple of it
BASE_WIDTH = 16  # channels of a wide residual network before widening


class FeatureClassifier(nn.Module):
    """A small convolutional network: a step of stride 2 for each width, then the mean over positions.

    A step is a 3 x 3 convolution, a group normalisation and a ReLU. Nothing in it depends on the other images of a
    batch.

    Parameters
    ----------
    channels : int
        Of the images: 1 in grey, 3 in colour.
    widths : sequence of int
        Channels after each step; the last is the number of features.
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
        """Means over positions after the last step, shape (B, widths[-1]), of images (B, channels, H, W) in [0, 1]."""
        check_batch(x, self.channels)
        return self.body(x).mean(dim=(2, 3))

    def forward(self, x):
        """Logits (B, classes) of images (B, channels, H, W) in [0, 1]."""
        return self.head(self.features(x))


class WideResNet(nn.Module):
    """A wide residual network for images of 32 pixels (Zagoruyko and Komodakis 2016), such as WRN-16-4.

    Three groups of (depth - 4) / 6 blocks each have 16, 32 and 64 times ``widen`` channels, the last two at half the
    size of what comes in. Batch normalisation and ReLU come before each convolution. Convolutions start as He et al.
    (2015) propose for the backward pass.

    Features are of evaluation mode only: in training mode they depend on the other images of the batch.

    Parameters
    ----------
    channels : int
        Of the images: 1 in grey, 3 in colour.
    depth : int
        Convolutions, with those of 1 x 1 beside the first block of each group: 10, 16, 22, 28, ...
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
    """Two 3 x 3 convolutions, each after its normalisation, added to what came in."""

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
            x = self.beside(h)  # as published: a block that changes the shape normalises both of its ways
        return x + self.second(self.norm2(self.first(h)).relu())


def convolution(fan_in, fan_out, stride=1, kernel=3):
    """A convolution without bias that keeps the size but for its stride, with weights of variance 2 / fan-out."""
    layer = nn.Conv2d(fan_in, fan_out, kernel, stride=stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return layer


def check_batch(x, channels):
    """Raise ValueError unless these are floating point images of so many channels."""
    if not x.is_floating_point():
        raise ValueError(
            f"images must be floating point numbers in [0, 1], got {x.dtype}: divide uint8 by 255"
        )
    if x.ndim != 4 or x.shape[1] != channels:
        raise ValueError(f"images must have shape (B, {channels}, H, W), got {tuple(x.shape)}")
