"""Frames of a trajectory at which a window is cut."""

import numpy as np
import torch

from loupe.checks import whole


def uniform_frames(start, distance, slices):
    r"""Frames that are spread evenly over a window: :math:`f_0+\lfloor\Delta F\,p/P\rfloor` for p = 1, ..., P.

    Parameters
    ----------
    start : int, or tensor or array of ints, shape (...)
        Input frame :math:`f_0`, or several of them.
    distance : int
        Frames :math:`\Delta F` from the input to the last target.
    slices : int
        Number P of targets, from 1 to ``distance``.

    Returns
    -------
    torch.Tensor, shape (..., P), int64
        Increasing; the last is start + distance.

    Raises
    ------
    ValueError
        If slices is not from 1 to ``distance``: two targets would be one frame, or the input itself.

    Examples
    --------
    >>> uniform_frames(30, 10, 5).tolist()
    [32, 34, 36, 38, 40]
    """
    distance, slices = whole("distance", distance), whole("slices", slices)
    return _frames(start, distance, slices, [distance * p // slices for p in range(1, slices + 1)])


def last_frames(start, distance, slices):
    r"""The last consecutive frames of a window: :math:`f_0+\Delta F+p-P` for p = 1, ..., P.

    Parameters, errors and the form of the result are those of :func:`uniform_frames`.

    Examples
    --------
    >>> last_frames(30, 10, 5).tolist()
    [36, 37, 38, 39, 40]
    """
    distance, slices = whole("distance", distance), whole("slices", slices)
    return _frames(start, distance, slices, [distance + p - slices for p in range(1, slices + 1)])


def _frames(start, distance, slices, offsets):
    if not 1 <= slices <= distance:
        raise ValueError(
            f"slices must be from 1 to the distance of {distance} frames, got {slices}: targets must differ "
            "from each other and from the input"
        )
    return torch.from_numpy(np.asarray(start, dtype=np.int64)[..., None] + np.array(offsets))
