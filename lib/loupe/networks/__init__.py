"""Architectures that several papers use."""

from loupe.networks.classifiers import fully_connected
from loupe.networks.convolutional import alexnet, lenet, vgg

__all__ = ["alexnet", "fully_connected", "lenet", "vgg"]
