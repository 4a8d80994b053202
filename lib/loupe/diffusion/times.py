"""Random training times and time grids for samplers, all in float64."""

import math

import torch

from loupe.checks import whole


def training_times(count, generator=None, *, start=1e-3, stratified=True, device="cpu", end=1.0):
    """Random times, each uniform between ``start`` and ``end``.

    Parameters
    ----------
    count : int
    generator : torch.Generator, optional
        On the device.
    start : float
        No time is below this: there the loss has infinite variance.
    stratified : bool
        One in each of ``count`` equal intervals, in random order, all shifted by the same random amount; means over
        them have lower variance. Otherwise independent, as published.
    device : str or torch.device
    end : float
        The latest time.

    Returns
    -------
    torch.Tensor, shape (count,), float64
    """
    if not 0 <= start < end:
        raise ValueError(f"start must be at least 0 and below {end:g}, got {start}")
    return start + (end - start) * _unit_draws(count, generator, stratified, device)


def lognormal_sigmas(count, generator=None, *, mean=-1.2, std=1.2, stratified=True, device="cpu"):
    """Random noise levels whose logarithm is normal (Karras et al. 2022, table 1: ``P_mean``, ``P_std``).

    Parameters
    ----------
    count, generator, stratified, device
        As in :func:`training_times`; the strata are equally probable.
    mean, std : float
        Of the natural logarithm.

    Returns
    -------
    torch.Tensor, shape (count,), float64
    """
    if not std > 0:
        raise ValueError(f"std must be above 0, got {std}")
    return (mean + std * torch.special.ndtri(_unit_draws(count, generator, stratified, device))).exp()


def time_grid(start, end, steps, *, rho=1.0, to_zero=False):
    """Times of a sampler, from ``start`` to ``end``, evenly spaced in their ``1 / rho``-th power (Karras et al., eq. 5).

    Parameters
    ----------
    start, end : float
        At least 0. For a reverse process ``start`` is the later one.
    steps : int
    rho : float
        1 for equal steps; 7 puts most of them at low noise.
    to_zero : bool
        Whether the last of the steps goes from ``end`` to 0, as EDM's does.

    Returns
    -------
    torch.Tensor, shape (steps + 1,), float64
    """
    steps = whole("steps", steps)
    if not (min(start, end) >= 0 and rho > 0):
        raise ValueError(f"times must be at least 0 and rho above 0, got {start}, {end} and {rho}")
    fractions = torch.linspace(0, 1, steps + (not to_zero), dtype=torch.float64)
    first, last = start ** (1 / rho), end ** (1 / rho)
    grid = (first + fractions * (last - first)) ** rho
    grid[0] = start  # not the rounded power of a root
    if not to_zero:
        grid[-1] = end
    return torch.cat([grid, grid.new_zeros(1)]) if to_zero else grid


def checked_times(times, low=-math.inf, high=math.inf):
    """At least two times, increasing or decreasing within bounds: on the CPU, integers as int64, others as float64."""
    if isinstance(times, torch.Tensor):
        grid = times.cpu().to(torch.float64 if times.is_floating_point() else torch.int64)
    else:
        times = list(times)
        counted = times and all(isinstance(t, int) for t in times)
        grid = torch.tensor(times, dtype=torch.int64 if counted else torch.float64)
    if grid.ndim != 1 or len(grid) < 2:
        raise ValueError(f"times must be at least 2, the first and the last, got {grid.tolist()}")
    if not ((grid >= low) & (grid <= high)).all():
        raise ValueError(f"times must lie in [{low:g}, {high:g}], got {grid.tolist()}")
    steps = grid.diff()
    if not ((steps > 0).all() or (steps < 0).all()):
        raise ValueError(f"times must rise or fall, each different from the one before, got {grid.tolist()}")
    return grid


def _unit_draws(count, generator, stratified, device):
    """Random numbers in [0, 1), shape (count,)."""
    options = {"generator": generator, "device": device, "dtype": torch.float64}
    if not stratified:
        return torch.rand(count, **options)
    order = torch.randperm(count, generator=generator, device=device)
    return (order + torch.rand((), **options)) / count
