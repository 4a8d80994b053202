"""Data for interactive pictures, and one picture of each kind."""

import numpy as np
from scipy.sparse.csgraph import minimum_spanning_tree
from scipy.spatial.distance import pdist, squareform

from loupe.plotting import (
    filtration_slider,
    folding_kernel,
    picture_chooser,
    poincare_disk,
    reverse_path,
    trajectory_view,
)

X = np.linspace(0, 1, 101)
SIGMAS = np.geomspace(0.03, 1.2, 40)
STARTS = np.array([0.1, 0.3, 0.5])
MASK = 27
TIMES = np.arange(1, 6) / 5
MODELS = {"EGNO": 0.02, "EGNN-R": 0.1, "EGNN-S": 0.3}
POINTS = [[0.86, 0.38], [-0.25, 0.55], [-0.35, -0.5]]


def cloud(count=60, seed=0, scale=1.0):
    generator = np.random.default_rng(seed)
    angle = generator.uniform(0, 2 * np.pi, count)
    points = scale * np.column_stack([np.cos(angle), np.sin(angle)]) * generator.normal(1, 0.1, (count, 1))
    tree = minimum_spanning_tree(squareform(pdist(points))).tocoo()
    return points, np.column_stack([tree.row, tree.col]), tree.data


def reflected(x=X, sigmas=SIGMAS, starts=STARTS):
    """The density of the reflected particle as a sum over images at 2j + start and 2j - start."""
    x, sigmas, starts = (np.asarray(each, dtype=float) for each in (x, sigmas, starts))
    shift = 2.0 * np.arange(-10, 11)[:, None, None, None]
    start, sigma = starts[:, None, None], sigmas[:, None]
    images = sum(np.exp(-(((x - shift - sign * start) / sigma) ** 2) / 2) for sign in (-1, 1))
    return images.sum(axis=0) / (sigma * np.sqrt(2 * np.pi))


def masks(texts=3, states=65, length=64, seed=0):
    """Texts of which each character shows at a step of its own."""
    generator = np.random.default_rng(seed)
    final = generator.integers(0, 27, (texts, 1, length))
    when = generator.integers(0, states, (texts, 1, length))
    return np.where(when <= np.arange(states)[:, None], final, MASK).astype(np.uint8)


def uniform(texts=3, states=65, length=64, seed=0, churn=0.9):
    """Texts of which each character changes less and less."""
    generator = np.random.default_rng(seed)
    path = [generator.integers(0, 27, (texts, length))]
    for k in range(1, states):
        flip = generator.random((texts, length)) < churn * (1 - k / states) ** 2
        path.append(np.where(flip, generator.integers(0, 27, (texts, length)), path[-1]))
    return np.stack(path, axis=1).astype(np.uint8)


def times(states=65):
    return np.linspace(1, 1e-5, states)


def system(seed=0, count=5, times=TIMES, models=MODELS, **more):
    """Straight flights, and predictions that are the further off the later."""
    generator = np.random.default_rng(seed)
    start = generator.normal(size=(count, 3))
    away = np.asarray(times)[:, None, None]
    truth = start + away * generator.normal(size=(count, 3))
    predictions = {
        name: truth + away * generator.normal(0, noise, truth.shape) for name, noise in models.items()
    }
    return {"start": start, "truth": truth, "predictions": predictions, "times": times} | more


def filtration(**words):
    return filtration_slider(*cloud(), **words)


def folding(**words):
    return folding_kernel(X, SIGMAS, STARTS, reflected(), **words)


def poincare(**words):
    return poincare_disk(POINTS, {"Euclidean mean": np.mean(POINTS, axis=0)}, **words)


def reverse(**words):
    return reverse_path({"masks": masks(), "uniform tokens": uniform()}, times(), **words)


def trajectories(**words):
    tenths = np.arange(1, 11) / 10
    return trajectory_view({name: system(k, times=tenths) for k, name in enumerate("ab")}, **words)


def chooser(**words):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    return picture_chooser({"low": {"a": pixels, "b": "b < c"}, "high": {"a": "<b>a</b>", "b": pixels}},
                           choose=("noise level", "method"), **words)  # fmt: skip


PLAYED = {"filtration": filtration, "folding": folding, "reverse-path": reverse, "trajectories": trajectories}
"""Pictures with Play, a button for the next step and a slider, by what their class ends with."""

EXAMPLES = PLAYED | {"poincare": poincare, "frames": chooser}
