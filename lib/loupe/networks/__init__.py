"""Architectures that more than one paper uses."""

from loupe.networks.classifiers import fully_connected

__all__ = ["fully_connected"]
