"""The shared loop of all simulators: kicks by pairwise forces, and drifts.

It consists only of sums, products, quotients and roots in a fixed order, so it rounds the same way everywhere.
"""

import numpy as np
import torch

PIECE = 15_000
"""Pairs processed at once: enough to hide the cost of a call, few enough for the cache."""


def pairs_of(particles):
    """Both indices of every pair, neighbors first, in the order of :func:`_diagonals`."""
    first = [np.arange(particles - apart) for apart in range(1, particles)]
    second = [each + apart for apart, each in enumerate(first, 1)]
    none = np.arange(0)
    return np.concatenate([none, *first]), np.concatenate([none, *second])


def _diagonals(x, kicks, differences):
    """Views (x_i, x_j, kicks_i, kicks_j, differences_ij) of all pairs of equal j - i, for each j - i.

    An incidence matrix, diagonal by diagonal: N - 1 calls instead of one for each pair, no gather or scatter, and a
    summation order that does not depend on a library.
    """
    start, particles = 0, len(x)
    for apart in range(1, particles):
        end = start + particles - apart
        yield x[:-apart], x[apart:], kicks[:-apart], kicks[apart:], differences[start:end]
        start = end


def simulate(positions, velocities, couplings, weigh, times, *, masses=None, synchronous=False, **options):
    """Simulate systems, block by block: the shared loop of all simulators.

    Parameters
    ----------
    positions, velocities : numpy.ndarray, shape (S, N, 3), float64
    couplings : numpy.ndarray, shape (S, P)
        Couplings of the pairs of :func:`pairs_of`.
    weigh : callable
        Takes differences (P, 3, S), couplings (P, S) and work space (P, 3, S); returns the factors (P, S) that turn
        differences into forces.
    times : tuple
        steps, save_every and step, as in :func:`simulate_charged`.
    masses : numpy.ndarray, shape (S, N), optional
    synchronous : bool
        Whether saved velocities belong to the times of positions, and the initial state is saved too.
    most_force : float, optional
        Bound on each coordinate of a summed force.
    """
    steps, save_every, step = times
    systems, particles, _ = positions.shape
    saved = np.empty((2, systems, (steps - 1) // save_every + synchronous, particles, 3))
    rows = max(1, PIECE // max(1, couplings.shape[1]))
    for start in range(0, systems, rows):
        block = slice(start, start + rows)
        state = [each if each is None else each[block] for each in (positions, velocities, couplings, masses)]
        _simulate_block(saved[:, block], *state, weigh, save_every, step, synchronous, **options)
        _reject_infinite(saved[:, block], start)
    return torch.from_numpy(saved[0]), torch.from_numpy(saved[1])


def _simulate_block(
    saved, positions, velocities, couplings, masses, weigh, save_every, step, synchronous, most_force=None
):
    """One block of systems, from the initial state to the last of the frames ``saved`` (2, S, F, N, 3)."""
    # Displacements and kicks per step instead of velocities and forces save two products.
    x, u = (each.transpose(1, 2, 0).copy() for each in (positions, velocities))
    u *= step
    couplings = np.ascontiguousarray(couplings.T) * step**2
    differences = np.empty((len(couplings), 3, x.shape[2]))
    work, kicks = np.empty_like(differences), np.empty_like(x)
    diagonals = list(_diagonals(x, kicks, differences))
    inverse_masses = None if masses is None else 1 / masses.T[:, None]
    bound = None if most_force is None else most_force * step**2

    def kick():
        for here, there, _, _, difference in diagonals:
            np.subtract(here, there, out=difference)
        weights = weigh(differences, couplings, work)
        np.multiply(differences, weights[:, None], out=differences)
        kicks.fill(0.0)
        for _, _, here, there, force in diagonals:
            np.add(here, force, out=here)
            np.subtract(there, force, out=there)
        if bound is not None:
            np.minimum(kicks, bound, out=kicks)
            np.maximum(kicks, -bound, out=kicks)
        if inverse_masses is not None:
            np.multiply(kicks, inverse_masses, out=kicks)

    def save(frame, displacements):
        saved[0, :, frame] = x.transpose(2, 0, 1)
        saved[1, :, frame] = displacements.transpose(2, 0, 1) / step

    # Overflow from an encounter is reported once, at the end.
    with np.errstate(all="ignore"):
        if synchronous:
            save(0, u)
        kick()
        u += kicks / 2 if synchronous else kicks
        for i in range(1, save_every * (saved.shape[2] - synchronous) + 1):
            np.add(x, u, out=x)
            kick()
            if i % save_every == 0:
                if synchronous:
                    save(i // save_every, u + kicks / 2)
                else:
                    save(i // save_every - 1, u)
            np.add(u, kicks, out=u)


def constant(differences, couplings, work):
    return couplings


def inverse_cubes(softening):
    """Weights c / (r^2 + softening^2)^(3/2), with a square root: half the time of a power, and its rounding is defined."""

    def weigh(differences, couplings, work):
        np.multiply(differences, differences, out=work)
        squares, weights = work[:, 0], work[:, 1]
        np.add(squares, weights, out=squares)
        np.add(squares, work[:, 2], out=squares)
        if softening:
            np.add(squares, softening**2, out=squares)
        np.sqrt(squares, out=weights)
        np.multiply(weights, squares, out=weights)
        return np.divide(couplings, weights, out=weights)

    return weigh


def _reject_infinite(saved, start):
    infinite = ~np.isfinite(saved).all(axis=(0, 2, 3, 4))
    if infinite.any():
        raise ValueError(
            f"system {start + infinite.argmax()} left the range of float64: two of its particles met at one place, or the "
            "step is too long for its forces; shorten the step or leave the system out"
        )
