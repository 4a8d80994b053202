"""Scores as functions of ``(x, sigma)``: from a network, with guidance, or with a threshold.

A score is any callable that maps points ``x (B, ...)`` and noise levels ``sigma (B,)`` to the gradient of the
log-density at that noise, of the shape of ``x``. Everything here takes and returns such functions. Guidance works as in
any diffusion; the code published with [1] feeds class 0 where :func:`classifier_free` feeds the null label.

References
----------
.. [1] Lou and Ermon, Reflected Diffusion Models, 2023.
"""

import math

import torch

from loupe.checks import of_shape
from loupe.deprecation import renamed
from loupe.diffusion.continuous.guidance import (
    THRESHOLDS,
    check_threshold,
    classifier_free,
    classifier_guided,
    conditional,
    threshold,
)
from loupe.diffusion.reflected.kernel import checked_sigma, per_row

__all__ = [
    "THRESHOLDS",
    "ScoreNetwork",
    "classifier_free",
    "classifier_guided",
    "conditional",
    "level_features",
    "thresholded",
]


class ScoreNetwork(torch.nn.Module):
    """A network's output divided by sigma, so that its target has the same scale at all noise levels.

    Parameters
    ----------
    network : torch.nn.Module
        ``network(inputs, sigma)`` or ``network(inputs, sigma, labels)``, of the shape of the inputs.
    sde : ReflectedSDE or VESDE
        Its ``sde.inputs`` scales the network's inputs.
    levels : int, optional
        Number of gray levels, for likelihoods of discrete data: the network then also gets the position of each
        coordinate between two levels (:func:`level_features`), so axis 1 has three times as many inputs as outputs.
    """

    def __init__(self, network, sde, levels=None):
        super().__init__()
        self.network, self.sde, self.levels = network, sde, levels

    def forward(self, x, sigma, labels=None):
        """Scores of the shape of ``x (B, ...)`` for ``sigma (B,)`` and, if the network has classes, labels (B,)."""
        given = () if labels is None else (labels,)
        inputs = self.sde.inputs(x, sigma)
        if self.levels is not None:
            inputs = torch.cat([inputs, level_features(x, sigma, self.levels)], 1)
        return of_shape("the network's output", self.network(inputs, sigma, *given), x.shape) / per_row(
            sigma, x
        )


def level_features(x, sigma, levels):
    """Sine and cosine of the position between two gray levels, twice the channels of ``x (B, C, ...)``.

    Without them a network would have to resolve 256 levels in a number between 0 and 1. The sine is divided by its
    standard deviation for noise around a level: at low noise it is the noise in its own units.
    """
    phase = 2 * math.pi * (levels - 1) * x
    angle = 2 * math.pi * (levels - 1) * per_row(sigma, x)
    spread = (-torch.expm1(-2 * angle**2) / 2).sqrt()
    return torch.cat([phase.sin() / spread, phase.cos()], 1)


@renamed(share="quantile")
def thresholded(score, how, quantile=0.995, *, data_range=(0.0, 1.0)):
    """The usual threshold for diffusions without walls: keep the predicted clean image in the cube.

    The prediction ``x + sigma^2 s`` is clipped and turned back into a score.

    Parameters
    ----------
    score : callable
    how : str
        ``"static"`` clips to the cube, ``"dynamic"`` scales to it: :func:`loupe.diffusion.continuous.threshold`.
    quantile : float
    data_range : tuple of float
        The least and the largest value of data, for diffusions without walls.

    Returns
    -------
    callable
        ``(x, sigma)`` to scores.

    Raises
    ------
    ValueError
        For an unknown threshold, or a quantile outside (0, 1].
    """
    check_threshold(how, quantile, data_range)

    def bounded(x, sigma):
        variance = per_row(checked_sigma(sigma, x), x) ** 2
        clean = x + variance * of_shape("the score", score(x, sigma), x.shape)
        return (threshold(clean, how, quantile, data_range=data_range) - x) / variance

    return bounded
