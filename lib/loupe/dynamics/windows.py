"""Windows of charged particles, of people who run and walk, and of molecules.

As in Xu et al., Equivariant Graph Neural Operator for Modeling 3D Dynamics, 2024.
"""

import math

import numpy as np
import torch

from loupe.checks import edge_list, whole
from loupe.deprecation import renamed
from loupe.dynamics.simulators import draw_charged, simulate_charged
from loupe.dynamics.trajectories import Windows, last_frames, uniform_frames
from loupe.networks.egnn import Graph

FRAME, STEP = 100, 1e-3  # simulator steps between saved frames, and their length
CHARGED_SEEDS = {"train": 43, "valid": 44, "test": 45}  # the published sets come from one stream with seed 43
BOND_LENGTH = 1.6
"""Angstrom; heavy atoms closer than this in the first frame are bonded."""

FEMTOSECONDS = 100.0
"""Time unit of molecules: velocities then have the scale of those in the charged systems."""

FRACTIONS = {"train": 0.7, "valid": 0.15, "test": 0.15}
WALKS = {
    "train": ("01", "02", "05", "07", "08", "09", "10", "11", "12", "13"),
    "valid": ("14", "15", "16", "28", "29"),
    "test": ("30", "31", "32", "33", "34"),
}
LATEST_START, STARTS, AFTER_START = 300, 100, 33


# --- charged particles --------------------------------------------------------------------------------------


@renamed(part="split")
def charged_windows(split, count, *, start=30, distance=10, slices=5, particles=5):
    """Charged particles: a frame is 100 simulator steps; targets are spread evenly over the window.

    Parameters
    ----------
    split : {"train", "valid", "test"}
        Each has its own seed; a smaller count gives the first windows of a larger one.
    count : int
        Number of systems.
    start, distance, slices : int
        Frame of the input, frames to the last target, and number of targets, which need not lie on frames.
    particles : int

    Returns
    -------
    Windows
        Time is in simulator units; edge values are products of charges.

    Raises
    ------
    ValueError
        For an unknown split, or numbers out of range.
    """
    if split not in CHARGED_SEEDS:
        raise ValueError(f"split must be one of {', '.join(CHARGED_SEEDS)}, got {split!r}")
    start, distance, slices = whole("start", start, 0), whole("distance", distance), whole("slices", slices)
    if distance * FRAME % slices:
        raise ValueError(
            f"a window of {distance * FRAME} steps cannot be cut into slices={slices} equal parts: give a divisor"
        )
    x, v, charges = draw_charged(count, particles, seed=CHARGED_SEEDS[split])
    first, last = FRAME * (start + 1), FRAME * (start + 1 + distance)  # updates of positions
    every = math.gcd(first, distance * FRAME // slices)
    x, v = simulate_charged(x, v, charges, steps=last + 1, save_every=every)
    now = first // every - 1
    frames = uniform_frames(now, distance * FRAME // every, slices)
    graph = Graph.complete(1, particles)
    ends, starts = graph.edges
    return Windows(
        x[:, now].float(),
        v[:, now].float(),
        x[:, frames].float(),
        torch.arange(1, slices + 1, dtype=torch.float64) / slices,
        distance * FRAME * STEP,
        graph.edges,
        (charges[:, ends] * charges[:, starts]).float(),
    )


# --- human motion -------------------------------------------------------------------------------------------------


def walk_starts(motion):
    """Start frames for the 20 available walks: our split, not the published one.

    Parameters
    ----------
    motion : loupe.data.Motion
        The dataset ``cmu35_walk``.

    Returns
    -------
    dict of str to dict
        Part, then trial, then int64 frames: up to 100 for each trial, drawn in order of trials with seed 100.

    Raises
    ------
    ValueError
        If a trial of the split is missing or too short.
    """
    generator = np.random.default_rng(100)
    starts = {split: {} for split in WALKS}
    for trial, split in sorted((trial, split) for split, trials in WALKS.items() for trial in trials):
        if trial not in motion.trials:
            raise ValueError(f"trial {trial!r} of the walks is missing: load the data set cmu35_walk")
        latest = min(LATEST_START, len(motion.trials[trial]) - AFTER_START)
        if latest < 1:
            raise ValueError(f"trial {trial!r} has only {len(motion.trials[trial])} frames: leave it out")
        starts[split][trial] = generator.choice(latest, size=min(STARTS, latest), replace=False)
    return starts


def motion_windows(motion, starts, *, limit=None, distance=30, slices=5, spread="uniform", height=None):
    """Windows of a person's motion.

    Parameters
    ----------
    motion : loupe.data.Motion
    starts : dict of str to array of int
        Start frames of windows, by trial.
    limit : int, optional
        Total number of windows; takes the first ``limit // trials`` of each trial.
    distance, slices : int
        Frames to the last target, and number of targets.
    spread : {"uniform", "last"}
        Targets spread over the window, or its last frames.
    height : float, optional
        Divisor of heights, the largest one of the training windows; by default that of these windows.

    Returns
    -------
    Windows
        Time is in frames, and a velocity is the displacement to the next frame. Edges join joints one or two bones
        apart; the edge value is 1 or 2.

    Raises
    ------
    ValueError
        For a missing trial, a window that leaves its trial, an unknown spread, or no windows.
    """
    grids = {"uniform": uniform_frames, "last": last_frames}
    if spread not in grids:
        raise ValueError(f"spread must be 'uniform' or 'last', got {spread!r}")
    if not starts:
        raise ValueError("starts name no trial: give at least one")
    each = None if limit is None else limit // len(starts)
    if each is not None and each < 1:
        raise ValueError(f"limit={limit} leaves no window for each of {len(starts)} trials: raise it")
    x, v, targets = [], [], []
    for trial, frames in starts.items():
        if trial not in motion.trials:
            raise ValueError(f"there is no trial {trial!r}: choose from {', '.join(motion.trials)}")
        path, frames = motion.trials[trial], np.asarray(frames)[:each]
        # The last frame has no velocity and is dropped, as published.
        for frame in frames:
            if not 0 <= frame <= len(path) - 2 - distance:
                raise ValueError(
                    f"a window from frame {frame} leaves trial {trial!r}, which has {len(path)} frames: starts must be "
                    f"in [0, {len(path) - 2 - distance}]"
                )
        x.append(path[frames])
        v.append(path[frames + 1] - path[frames])
        targets.append(path[grids[spread](frames, distance, slices).numpy()])
    x, v, targets = (torch.from_numpy(np.concatenate(each)) for each in (x, v, targets))
    edges, hops = bonded(torch.from_numpy(motion.bones.T), x.shape[1])
    times = (grids[spread](0, distance, slices)).double() / distance
    hops = hops.float().view(1, -1, 1).expand(len(x), -1, -1)
    height = float(x[..., 1].max()) if height is None else height
    return Windows(x, v, targets, times, float(distance), edges, hops, height=height)


# --- molecules ----------------------------------------------------------------------------------------------


@renamed(part="split")
def molecule_windows(molecule, split, *, count=None, distance=320, slices=8, seed=0):
    """Windows of molecular dynamics: heavy atoms only, split in time.

    Parameters
    ----------
    molecule : loupe.data.Molecule
    split : {"train", "valid", "test"}
        The first 70 %, the next 15 and the last 15 % of what remains after two gaps of ``distance`` frames.
    count : int, optional
        Number of windows, drawn without replacement; all if there are fewer, or by default.
    distance, slices : int
        Frames to the last target, and number of targets, spread evenly.
    seed : int
        Of the draw.

    Returns
    -------
    Windows
        Units are angstrom and 100 femtoseconds. Node values are atomic numbers over the largest. Edges join atoms one
        or two bonds apart; edge values are both atomic numbers and the number of bonds (1 or 2).

    Raises
    ------
    ValueError
        For an unknown split, a count below 1, or a trajectory too short to split.
    """
    if split not in FRACTIONS:
        raise ValueError(f"split must be one of {', '.join(FRACTIONS)}, got {split!r}")
    if count is not None:
        count = whole("count (None for all windows)", count)
    first, end = _frames_of_split(split, len(molecule.positions), distance, molecule.name)
    starts = np.random.default_rng(seed).permutation(np.arange(first, end - distance))[:count]
    heavy = molecule.numbers > 1
    path = torch.from_numpy(molecule.positions[:, heavy])
    velocities = torch.from_numpy(molecule.velocities[:, heavy]) * FEMTOSECONDS
    numbers = torch.from_numpy(molecule.numbers[heavy]).float()
    numbers = numbers / numbers.max()
    near = torch.cdist(path[0].double(), path[0].double()) < BOND_LENGTH
    edges, hops = bonded(near.triu(1).nonzero().T, len(numbers))
    known = torch.stack([numbers[edges[0]], numbers[edges[1]], hops.float()], dim=1)
    frames = uniform_frames(starts, distance, slices)
    return Windows(
        path[starts],
        velocities[starts],
        path[frames],
        uniform_frames(0, distance, slices).double() / distance,
        distance * molecule.step / FEMTOSECONDS,
        edges,
        known.expand(len(starts), -1, -1),
        numbers.view(1, -1, 1).expand(len(starts), -1, -1),
    )


def _frames_of_split(split, frames, distance, name):
    """First frame of a split, and one past its last."""
    kept, names = frames - 2 * distance, list(FRACTIONS)
    bounds = np.cumsum([0.0, *FRACTIONS.values()])
    cuts = [max(kept, 0) * bound for bound in bounds]
    place = names.index(split)
    first, end = (round(cuts[place + k]) + place * distance for k in (0, 1))
    if end - first <= distance:
        raise ValueError(
            f"{name} has {frames} frames, too few for windows of {distance} frames in its {split} split: shorten distance"
        )
    return first, end


def bonded(bonds, nodes):
    """Edges along bonds and between second neighbors, in both directions.

    Parameters
    ----------
    bonds : torch.Tensor
        int64 ``(2, b)``, each bond once.
    nodes : int

    Returns
    -------
    edges : torch.Tensor
        int64 ``(2, M)``.
    hops : torch.Tensor
        int64 ``(M,)``: 1 along a bond, 2 between nodes with a common neighbor but no bond.
    """
    bonds = edge_list(bonds, nodes, axis=0, name="bonds")
    near = torch.zeros(nodes, nodes, dtype=torch.long)
    near[bonds[0], bonds[1]] = near[bonds[1], bonds[0]] = 1
    next_near = (near @ near > 0) & (near == 0)
    hops = near + 2 * next_near.long().fill_diagonal_(0)
    return hops.nonzero().T, hops[hops > 0]
