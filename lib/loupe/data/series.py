"""Multivariate time series, whose covariance matrices are the points of a chapter."""

from dataclasses import dataclass

import numpy as np

from loupe.data.arrays import read_arrays


@dataclass(frozen=True, eq=False)
class Series:
    """Labelled series of several channels, of unequal length, in the archive's own two parts.

    Attributes
    ----------
    x_train, x_test : tuple of numpy.ndarray
        Each float32 ``(length, channels)``.
    y_train, y_test : numpy.ndarray
        int64 ``(n,)``, index into `classes`.
    classes : tuple of str
        Class names.
    """

    x_train: tuple[np.ndarray, ...]
    y_train: np.ndarray
    x_test: tuple[np.ndarray, ...]
    y_test: np.ndarray
    classes: tuple[str, ...]


def series(source):
    """A :class:`Series`; the arrays are views of one block for each part."""
    stored = read_arrays(source.path())
    parts = []
    for part in ("train", "test"):
        cuts = stored[f"{part}_offsets"][1:-1]
        parts += [tuple(np.split(stored[f"{part}_values"], cuts)), stored[f"{part}_labels"].astype(np.int64)]
    return Series(*parts, tuple(str(name) for name in stored["class_names"]))
