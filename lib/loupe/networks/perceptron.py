"""The old name of :mod:`loupe.networks.mlp`."""

from loupe.deprecation import renamed_names

__getattr__ = renamed_names(__name__, NoisePerceptron="loupe.networks.mlp:NoiseMLP")
