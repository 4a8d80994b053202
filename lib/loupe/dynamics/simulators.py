r"""Small systems of interacting particles, thousands at a time: charges, springs, gravity.

The datasets of [1], [2] and [3] are trajectories of a few particles in three dimensions under forces along the lines
between pairs,

.. math:: F_i=\sum_{j\ne i}w_{ij}\,(x_i-x_j),

with :math:`w=q_iq_j/r^3` between charges, :math:`w=-0.1\,e_{ij}` between the ends of a spring and
:math:`w=-m_im_j/(r^2+0.1^2)^{3/2}` between masses. Units are those of the papers: lengths of about one, unit masses,
and a time step of 1e-3.

Close encounters of charges are chaotic: a rounding error leads to another trajectory. Yet the same initial states must
give the same frames, bit for bit, on every machine and in every batch. So the loop uses only sums, products, quotients
and roots in a fixed order, whose rounding IEEE 754 defines; a power or a matrix product would depend on a library.

References
----------
.. [1] Satorras, Hoogeboom and Welling, E(n) Equivariant Graph Neural Networks, 2021.
.. [2] Xu et al., Equivariant Graph Neural Operator for Modeling 3D Dynamics, 2024.
.. [3] Han et al., Geometric Trajectory Diffusion Models, 2024.
"""

import numpy as np
import torch

from loupe.checks import unmasked, whole
from loupe.dynamics.integration import constant, inverse_cubes, pairs_of, simulate
from loupe.dynamics.trajectories import last_frames, uniform_frames  # noqa: F401 - old location

MOST_FORCE = 100.0
"""Each coordinate of the summed force of charges or springs is clamped here: 0.1 divided by the time step."""

WALL = 5.0
"""Initial positions of charges and springs are reflected once into a box of this half-width."""

SPEED = 0.5
"""Initial speed of charges and of the ends of springs."""


def simulate_charged(positions, velocities, charges, *, steps=5000, save_every=100, step=1e-3):
    r"""Trajectories of charged particles of unit mass, saved at the frames of the published datasets.

    Before the first step velocities receive a full kick, :math:`v\leftarrow v+\delta F(x)`. Then, for
    i = 1, ..., steps - 1, first :math:`x\leftarrow x+\delta v`; if ``save_every`` divides i, (x, v) is saved; and
    last :math:`v\leftarrow v+\delta F(x)`. A saved velocity is thus the one that led to the saved position: as a
    leapfrog scheme, it belongs to half a step earlier.

    Parameters
    ----------
    positions, velocities : torch.Tensor or array, shape (S, N, 3)
        S systems of N particles each; any real dtype, computed in float64.
    charges : torch.Tensor or array, shape (S, N, 1) or (S, N)
    steps : int
        At least 1. The published sets have 5000.
    save_every : int
        At least 1.
    step : float
        Time step :math:`\delta`.

    Returns
    -------
    positions, velocities : torch.Tensor, shape (S, F, N, 3), float64
        F = (steps - 1) // save_every frames; number k, from 0, follows (k + 1) save_every updates of positions.

    Raises
    ------
    ValueError
        If shapes do not agree, a value is NaN or infinite, two particles of a system coincide at any time, or steps,
        save_every or step are not positive.

    Notes
    -----
    Each coordinate of the summed force is clamped to [-100, 100]. While clamped, momentum is not conserved and the
    motion depends on the axes. Energy drifts even earlier, when the step is too long for an encounter.
    """
    positions, velocities = _checked_states(positions, velocities)
    charges = _per_particle(charges, "charges", positions)
    _reject_coincident(positions)
    first, second = pairs_of(positions.shape[1])
    couplings, times = charges[:, first] * charges[:, second], _checked_times(steps, save_every, step)
    return simulate(positions, velocities, couplings, inverse_cubes(0.0), times, most_force=MOST_FORCE)


def simulate_springs(
    positions, velocities, couplings, *, strength=0.1, steps=5000, save_every=100, step=1e-3
):
    r"""Trajectories of unit masses connected by springs of rest length zero.

    :math:`F_i=-\mathrm{strength}\sum_je_{ij}(x_i-x_j)`; kicks, frames and the clamp are those of
    :func:`simulate_charged`.

    Parameters
    ----------
    positions, velocities : torch.Tensor or array, shape (S, N, 3)
    couplings : torch.Tensor or array, shape (S, N, N)
        Symmetric; 1 for a spring, 0 for none. The diagonal is ignored.
    strength : float
        Stiffness of a spring of coupling 1.
    steps, save_every, step
        As in :func:`simulate_charged`.

    Returns
    -------
    positions, velocities : torch.Tensor, shape (S, F, N, 3), float64

    Raises
    ------
    ValueError
        As :func:`simulate_charged`, except that particles may coincide; and if couplings are not symmetric.
    """
    positions, velocities = _checked_states(positions, velocities)
    couplings = _as_float64(couplings)
    systems, particles, _ = positions.shape
    if couplings.shape != (systems, particles, particles):
        wanted = (systems, particles, particles)
        raise ValueError(f"couplings must have shape {wanted}, as positions demand, got {couplings.shape}")
    _reject_nonfinite(couplings, "couplings")
    uneven = (couplings != couplings.transpose(0, 2, 1)).any(axis=(1, 2))
    if uneven.any():
        raise ValueError(
            f"couplings of system {uneven.argmax()} are not symmetric: give each spring at (i, j) and at (j, i)"
        )
    if not np.isfinite(strength):
        raise ValueError(f"strength must be a finite number, got {strength}")
    couplings, times = -strength * couplings[:, *pairs_of(particles)], _checked_times(steps, save_every, step)
    return simulate(positions, velocities, couplings, constant, times, most_force=MOST_FORCE)


def simulate_gravity(
    positions, velocities, masses=None, *, softening=0.1, steps=5000, save_every=100, step=1e-3
):
    r"""Trajectories of masses that attract each other, by the kick-drift-kick leapfrog.

    :math:`a_i=\sum_jm_j(x_j-x_i)/(\|x_j-x_i\|^2+\mathrm{softening}^2)^{3/2}`, without a clamp. Half a kick comes before
    and half a kick after each update of the positions, so saved velocities and positions belong to the same time. The
    state is saved before steps 0, save_every, ...: the first frame is the initial state, an extra frame compared with
    :func:`simulate_charged`.

    Parameters
    ----------
    positions, velocities : torch.Tensor or array, shape (S, N, 3)
    masses : torch.Tensor or array, shape (S, N, 1) or (S, N), optional
        Above 0; all 1 by default.
    softening : float
        A length, 0 or more.
    steps, save_every, step
        As in :func:`simulate_charged`.

    Returns
    -------
    positions, velocities : torch.Tensor, shape (S, F, N, 3), float64
        F = (steps - 1) // save_every + 1 frames; number k, from 0, follows k save_every steps.

    Raises
    ------
    ValueError
        As :func:`simulate_charged`, except that particles may coincide if softening is above 0; and if a mass is not
        above 0, or softening is negative.
    """
    positions, velocities = _checked_states(positions, velocities)
    first, second = pairs_of(positions.shape[1])
    if masses is None:
        couplings = np.full((len(positions), len(first)), -1.0)
    else:
        masses = _per_particle(masses, "masses", positions)
        if (masses <= 0).any():
            system = (masses <= 0).any(axis=1).argmax()
            raise ValueError(f"masses must be above 0, got {masses[system].min():g} in system {system}")
        couplings = -masses[:, first] * masses[:, second]
    if not 0 <= softening < np.inf:
        raise ValueError(f"softening must be a length of 0 or more, got {softening}")
    if softening == 0:
        _reject_coincident(positions)
    weigh, times = inverse_cubes(softening), _checked_times(steps, save_every, step)
    return simulate(positions, velocities, couplings, weigh, times, masses=masses, synchronous=True)


def draw_charged(count, particles=5, *, seed=0, legacy_rng=False):
    r"""Initial states of the charged systems of the published datasets.

    Charges are 1 or -1, each with probability one half; positions are Gaussian of standard deviation
    :math:`(N/5)^{1/3}`, so that the density does not depend on N; velocities have Gaussian directions and norm 0.5.
    Positions beyond the walls of the published box, at 5, are reflected once, with velocities turned inward; there are
    no walls later.

    Parameters
    ----------
    count, particles : int
        Number of systems, and of particles in each.
    seed : int or numpy.random.Generator
        With an int, a longer draw starts with the systems of a shorter one.
    legacy_rng : bool
        Draw as the published generator does: for each system charges, positions (3, N), velocities (3, N), from one
        ``numpy.random.RandomState(seed)``. The published sets used seed 43, but parallel workers shared it, so they
        cannot be reproduced.

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
            # The published code chooses among -1, 0 and 1 with probabilities 1/2, 0 and 1/2: one uniform number each.
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
    """Initial states of the spring systems of the published datasets.

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
    """Initial states of the gravitating systems of the published datasets, for unit masses.

    Positions and velocities are standard normal, and the mean velocity of each system is subtracted.

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
    """Speeds set to 0.5 and points reflected at the walls, as contiguous tensors (count, N, 3)."""
    velocities = velocities * SPEED / np.sqrt((velocities**2).sum(axis=-1, keepdims=True))
    outside = np.abs(positions) > WALL
    velocities = np.where(outside, -np.copysign(velocities, positions), velocities)
    positions = np.where(outside, np.copysign(2 * WALL, positions) - positions, positions)
    return tuple(torch.from_numpy(np.ascontiguousarray(each)) for each in (positions, velocities))


def _check_sizes(count, particles):
    return whole("count", count, 0), whole("particles", particles)


def _as_float64(values):
    if isinstance(values, torch.Tensor):
        return values.detach().to("cpu", torch.float64).numpy()
    return np.asarray(unmasked("each array", values), dtype=np.float64)


def _checked_states(positions, velocities):
    positions, velocities = _as_float64(positions), _as_float64(velocities)
    if positions.ndim != 3 or positions.shape[1] < 1 or positions.shape[2] != 3:
        raise ValueError(
            f"positions must have shape (systems, particles, 3), got {positions.shape}; a single system needs [None], "
            "one in the plane a third coordinate of 0"
        )
    if velocities.shape != positions.shape:
        raise ValueError(
            f"velocities must have the shape of positions, {positions.shape}, got {velocities.shape}"
        )
    _reject_nonfinite(positions, "positions")
    _reject_nonfinite(velocities, "velocities")
    return positions, velocities


def _per_particle(values, name, positions):
    """Charges or masses, shape (S, N), float64."""
    values, wanted = _as_float64(values), positions.shape[:2]
    if values.shape == (*wanted, 1):
        values = values[..., 0]
    if values.shape != wanted:
        raise ValueError(
            f"{name} must have shape {(*wanted, 1)} or {wanted}, one for each particle, got {values.shape}"
        )
    _reject_nonfinite(values, name)
    return values


def _checked_times(steps, save_every, step):
    steps, save_every = whole("steps", steps), whole("save_every", save_every)
    if not 0 < step < np.inf:
        raise ValueError(f"step must be a time above 0, got {step}")
    return steps, save_every, float(step)


def _reject_nonfinite(values, name):
    bad = ~np.isfinite(values).all(axis=tuple(range(1, values.ndim)))
    if bad.any():
        raise ValueError(
            f"{name} must be finite, but system {bad.argmax()} holds NaN or infinity: leave that system out"
        )


def _reject_coincident(positions):
    """Raise ValueError where two particles are so close that 1 / r^3 overflows."""
    first, second = pairs_of(positions.shape[1])
    with np.errstate(under="ignore"):
        squares = ((positions[:, first] - positions[:, second]) ** 2).sum(axis=2)
        together = squares * np.sqrt(squares) < np.finfo(np.float64).tiny
    if together.any():
        system, pair = np.argwhere(together)[0]
        raise ValueError(
            f"particles {first[pair]} and {second[pair]} of system {system} lie at one place, where the force "
            "between them is infinite: move one of them"
        )
