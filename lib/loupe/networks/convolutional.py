"""Convolutional networks that classify square images: LeNet, a narrow AlexNet, and VGG for small images."""

import math

from torch import nn

from loupe.checks import whole
from loupe.networks.classifiers import fully_connected

# Channels of the five blocks of VGG, and how many convolutions each block has at every depth.
VGG_CHANNELS = (64, 128, 256, 512, 512)
VGG_CONVOLUTIONS = {11: (1, 1, 2, 2, 2), 13: (2, 2, 2, 2, 2), 16: (2, 2, 3, 3, 3), 19: (2, 2, 4, 4, 4)}

ALEXNET_CHANNELS = 64


def lenet(channels=3, size=32, classes=10):
    """LeNet-5 with ReLU and max pooling: two convolutions, three linear layers.

    Parameters
    ----------
    channels : int
        Of the images: 3 for color, 1 for gray.
    size : int
        Height and width of the images, at least 16 pixels.
    classes : int

    Returns
    -------
    torch.nn.Sequential
        Maps images (B, channels, size, size) to logits (B, classes).

    Raises
    ------
    ValueError
        For numbers that are not positive, or images that are too small.

    Examples
    --------
    >>> sum(p.numel() for p in lenet().parameters())
    62006
    """
    channels, size, classes = check_images(channels, size, classes, smallest=16)
    side = ((size - 4) // 2 - 4) // 2
    return nn.Sequential(
        nn.Conv2d(channels, 6, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(6, 16, kernel_size=5),
        nn.ReLU(),
        nn.MaxPool2d(2),
        *fully_connected([16 * side**2, 120, 84, classes], bias=True),
    )


def alexnet(channels=3, size=32, classes=10, dropout=0.5):
    r"""AlexNet for small images: five convolutions of 64 channels each, three linear layers.

    With :math:`s` numbers left after the last pooling (64 for images of 28 to 43 pixels), the two hidden linear
    layers have width :math:`s\,\lfloor1+\log_2 s\rfloor`.

    Parameters
    ----------
    channels : int
        Of the images: 3 for color, 1 for gray.
    size : int
        Height and width of the images, at least 28 pixels.
    classes : int
    dropout : float
        Share of the inputs of each hidden linear layer that training drops, in [0, 1).

    Returns
    -------
    torch.nn.Sequential
        Maps images (B, channels, size, size) to logits (B, classes).

    Raises
    ------
    ValueError
        For numbers that are not positive, images that are too small, or a share outside [0, 1).

    Examples
    --------
    >>> sum(p.numel() for p in alexnet().parameters())
    451146
    """
    channels, size, classes = check_images(channels, size, classes, smallest=28)
    side = size // 2 + 1
    for _ in range(3):  # poolings of width 3 and stride 2; the other convolutions keep the side
        side = (side - 3) // 2 + 1
    flat = ALEXNET_CHANNELS * side**2
    hidden = flat * int(1 + math.log2(flat))
    wide = ALEXNET_CHANNELS
    return nn.Sequential(
        nn.Conv2d(channels, wide, kernel_size=4, stride=2, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        nn.Conv2d(wide, wide, kernel_size=5, padding=2),
        nn.ReLU(),
        nn.MaxPool2d(3, stride=2),
        *convolutions_of_3(wide, wide, repeats=3),
        nn.MaxPool2d(3, stride=2),
        *dropout_head([flat, hidden, hidden, classes], dropout),
    )


def vgg(depth, channels=3, size=32, classes=10, batch_norm=False, dropout=0.5):
    r"""VGG for small images: five blocks of 3 x 3 convolutions, then linear layers 512-512-classes.

    Convolutions use the initialization of He et al. (2015) for the backward pass: no bias, and weights of variance
    :math:`2/(9\,c)` with :math:`c` output channels (the fan-out is :math:`9c`).

    Parameters
    ----------
    depth : int
        Layers with weights, the three linear ones included: 11, 13, 16 or 19.
    channels : int
        Of the images: 3 for color, 1 for gray.
    size : int
        Height and width of the images. Poolings round up, which changes nothing at 32 pixels and allows any other size,
        such as MNIST's 28.
    classes : int
    batch_norm : bool
        Whether each convolution is followed by batch normalization.
    dropout : float
        Share of the inputs of each hidden linear layer that training drops, in [0, 1).

    Returns
    -------
    torch.nn.Sequential
        Maps images (B, channels, size, size) to logits (B, classes).

    Raises
    ------
    ValueError
        For a depth that has no configuration, numbers that are not positive, or a share outside [0, 1).

    Examples
    --------
    >>> sum(p.numel() for p in vgg(11).parameters())
    9750922
    """
    if depth not in VGG_CONVOLUTIONS:
        raise ValueError(f"depth must be one of {', '.join(map(str, VGG_CONVOLUTIONS))}, got {depth}")
    channels, size, classes = check_images(channels, size, classes, smallest=1)
    layers, side, fan_in = [], size, channels
    for fan_out, repeats in zip(VGG_CHANNELS, VGG_CONVOLUTIONS[depth], strict=True):
        layers += convolutions_of_3(fan_in, fan_out, repeats, batch_norm)
        layers.append(nn.MaxPool2d(2, ceil_mode=True))
        side, fan_in = math.ceil(side / 2), fan_out
    for layer in layers:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
    return nn.Sequential(*layers, *dropout_head([fan_in * side**2, 512, 512, classes], dropout))


def convolutions_of_3(fan_in, fan_out, repeats, batch_norm=False):
    """A list of layers: 3 x 3 convolutions that keep the size of the image, each with its ReLU."""
    layers = []
    for k in range(repeats):
        layers.append(nn.Conv2d(fan_out if k else fan_in, fan_out, kernel_size=3, padding=1))
        if batch_norm:
            layers.append(nn.BatchNorm2d(fan_out))
        layers.append(nn.ReLU())
    return layers


def dropout_head(widths, dropout):
    """A list of layers: a fully connected network of four widths that drops inputs of its two hidden layers."""
    if not 0 <= dropout < 1:
        raise ValueError(f"dropout must be at least 0 and below 1, got {dropout}")
    flatten, *layers = fully_connected(widths, bias=True)
    for place in (2, 0):
        layers.insert(place, nn.Dropout(dropout))
    return [flatten, *layers]


def check_images(channels, size, classes, smallest):
    """The first three as int; ValueError unless they are positive integers and the images are large enough."""
    channels, size, classes = whole("channels", channels), whole("size", size), whole("classes", classes)
    if size < smallest:
        raise ValueError(f"size must be at least {smallest} pixels for this network, got {size}")
    return channels, size, classes
