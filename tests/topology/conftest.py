"""Clouds on which several routes must agree: smooth, fractal, tied, and with duplicates."""

import numpy as np
import pytest

from loupe.topology import CLOUDS


def grid(*shape, spacing=1.0):
    """Points of a regular grid, shape (n, number of axes)."""
    return spacing * np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1).reshape(
        -1, len(shape)
    )


SAMPLES = {
    "square": CLOUDS["cube_2"].sample(150, seed=1),
    "sphere": CLOUDS["sphere"].sample(150, seed=2),
    "Sierpinski": CLOUDS["sierpinski"].sample(150, seed=3),
    "Cantor set": CLOUDS["cantor_set"].sample(60, seed=4),
    "duplicates": np.repeat(CLOUDS["cube_3"].sample(40, seed=5), [1, 2] * 20, axis=0),
    "ties": grid(4, 3),
}


@pytest.fixture(params=SAMPLES, ids=str)
def sample(request):
    """Points of one to three columns, shape (n, d), float64."""
    return SAMPLES[request.param]


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def central_differences():
    """A function that differentiates another numerically at a matrix: step 1e-6, float64."""

    def gradient(function, x, h=1e-6):
        found = np.empty_like(x)
        for index in np.ndindex(*x.shape):
            step = np.zeros_like(x)
            step[index] = h
            found[index] = (function(x + step) - function(x - step)) / (2 * h)
        return found

    return gradient
