"""Initial states of small systems of particles, drawn as those of the published data sets."""

import numpy as np
import torch

from loupe.checks import whole
from loupe.dynamics.integration import pairs_of

WALL = 5.0
"""Initial positions of charges and springs are reflected once into a box of this half-width."""

SPEED = 0.5
"""Initial speed of charges and of the ends of springs."""


def draw_charged(count, particles=5, *, seed=0, legacy_rng=False):
    r"""Initial states of the charged systems of the published data sets.

    Charges are 1 or -1, each with probability one half; positions are Gaussian of standard deviation
    :math:`(N/5)^{1/3}`, so that the density does not depend on N; velocities have Gaussian directions and norm 0.5.
    What lies beyond the walls of the published box, at 5, is reflected there once, and sent inwards; no wall acts
    later.

    Parameters
    ----------
    count, particles : int
        How many systems, and particles in each.
    seed : int or numpy.random.Generator
        With an int, the first systems of a longer draw are those of a shorter one.
    legacy_rng : bool
        Draw as the published generator does: system by system charges, positions (3, N), velocities (3, N), from one
        ``numpy.random.RandomState(seed)``. Its sets used seed 43; workers that shared it make them irreproducible.

    Returns
    -------
    positions, velocities : torch.Tensor, shape (count, particles, 3), float64
    charges : torch.Tensor, shape (count, particles, 1), float64

    Raises
    ------
    ValueError
        If count is negative, particles is not positive, or ``legacy_rng`` is not given an int as seed.
    """
    count, particles = _check_sizes(count, particles)
    if legacy_rng:
        if isinstance(seed, np.random.Generator):
            raise ValueError("legacy_rng=True needs an int as seed, got a Generator: give the seed itself")
        stream = np.random.RandomState(seed)
        charges = np.empty((count, particles))
        drawn = np.empty((2, count, 3, particles))
        for system in range(count):
            # The published choice is among -1, 0 and 1 with probabilities 1/2, 0 and 1/2: one uniform number each.
            charges[system] = stream.random_sample(particles)
            drawn[0, system] = stream.randn(3, particles)
            drawn[1, system] = stream.randn(3, particles)
        charges = np.where(charges < 0.5, -1.0, 1.0)
        positions, velocities = drawn.transpose(0, 1, 3, 2)
    else:
        drawn = np.random.default_rng(seed).standard_normal((count, particles, 7))
        positions, velocities = drawn[..., :3], drawn[..., 3:6]
        charges = np.copysign(1.0, drawn[..., 6])
    states = _into_the_box(positions * (float(particles) / 5.0) ** (1 / 3), velocities)
    return *states, torch.from_numpy(charges[..., None])


def draw_springs(count, particles=5, *, seed=0):
    """Initial states of the spring systems of the published data sets.

    Each pair is connected with probability one half; positions are Gaussian of standard deviation 0.5; velocities
    have Gaussian directions and norm 0.5.

    Parameters
    ----------
    count, particles, seed
        As in :func:`draw_charged`.

    Returns
    -------
    positions, velocities : torch.Tensor, shape (count, particles, 3), float64
    couplings : torch.Tensor, shape (count, particles, particles), float64
        Symmetric, of zeros and ones, 0 on the diagonal.

    Raises
    ------
    ValueError
        If count is negative or particles is not positive.
    """
    count, particles = _check_sizes(count, particles)
    pairs = particles * (particles - 1) // 2
    drawn = np.random.default_rng(seed).standard_normal((count, 6 * particles + pairs))
    states = drawn[:, : 6 * particles].reshape(count, particles, 6)
    couplings = np.zeros((count, particles, particles))
    first, second = pairs_of(particles)
    couplings[:, first, second] = couplings[:, second, first] = drawn[:, 6 * particles :] > 0
    return *_into_the_box(0.5 * states[..., :3], states[..., 3:]), torch.from_numpy(couplings)


def draw_gravity(count, particles=10, *, seed=0):
    """Initial states of the gravitating systems of the published data sets, for unit masses.

    Positions and velocities are standard normal, and the mean velocity of each system is taken away.

    Parameters
    ----------
    count, particles, seed
        As in :func:`draw_charged`.

    Returns
    -------
    positions, velocities : torch.Tensor, shape (count, particles, 3), float64

    Raises
    ------
    ValueError
        If count is negative or particles is not positive.
    """
    count, particles = _check_sizes(count, particles)
    drawn = np.random.default_rng(seed).standard_normal((count, particles, 6))
    velocities = drawn[..., 3:] - drawn[..., 3:].mean(axis=1, keepdims=True)
    return torch.from_numpy(drawn[..., :3].copy()), torch.from_numpy(velocities)


def _into_the_box(positions, velocities):
    """Speeds set to 0.5, and both reflected at the walls, as contiguous tensors (count, N, 3)."""
    velocities = velocities * SPEED / np.sqrt((velocities**2).sum(axis=-1, keepdims=True))
    outside = np.abs(positions) > WALL
    velocities = np.where(outside, -np.copysign(velocities, positions), velocities)
    positions = np.where(outside, np.copysign(2 * WALL, positions) - positions, positions)
    return tuple(torch.from_numpy(np.ascontiguousarray(each)) for each in (positions, velocities))


def _check_sizes(count, particles):
    return whole("count", count, 0), whole("particles", particles)
