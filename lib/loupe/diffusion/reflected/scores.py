"""Scores as functions of ``(x, sigma)``: of a network, guided towards a class, or with a threshold.

A score is any callable: points ``x (B, ...)`` and noise levels ``sigma (B,)`` give the gradient of the log-density at
that noise, of the shape of ``x``. Everything here takes such functions and gives them.

References
----------
.. [1] Lou and Ermon, Reflected Diffusion Models, 2023.
"""

import math

import torch

from loupe.checks import of_shape
from loupe.derivatives import slope
from loupe.diffusion.reflected.kernel import checked_sigma, per_row

THRESHOLDS = ("static", "dynamic")


class ScoreNetwork(torch.nn.Module):
    """A network's output, divided by sigma: it has to learn something of one size at all noise levels.

    Parameters
    ----------
    network : torch.nn.Module
        ``network(inputs, sigma)`` or ``network(inputs, sigma, labels)``, of the shape of the inputs.
    sde : ReflectedSDE or ExplodingSDE
        Whose points it sees, scaled by ``sde.inputs``.
    levels : int, optional
        Grey levels of data of which the likelihood is wanted: the network is then also shown where between two of them
        each coordinate lies (:func:`level_features`), and has three times as many inputs as outputs along axis 1.
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
    """Sine and cosine of the place between two grey levels, twice the channels of ``x (B, C, ...)``.

    Without them a network would have to tell 256 levels apart in a number between 0 and 1. The sine is divided by its
    standard deviation for noise around a level: at little noise it is the noise, in its own units.
    """
    phase = 2 * math.pi * (levels - 1) * x
    angle = 2 * math.pi * (levels - 1) * per_row(sigma, x)
    spread = (-torch.expm1(-2 * angle**2) / 2).sqrt()
    return torch.cat([phase.sin() / spread, phase.cos()], 1)


def conditional(score, labels):
    """The score of given classes: a function of ``(x, sigma)``.

    Parameters
    ----------
    score : callable
        ``score(x, sigma, labels)``.
    labels : torch.Tensor of int64, shape (B,)
    """
    return lambda x, sigma: score(x, sigma, labels)


def classifier_free(score, labels, weight, *, classes):
    """Guidance without a classifier: ``(1 + w) s(x, label) - w s(x, no label)`` ([1]).

    In a reflected process it stays a score within the cube whatever the weight. The network is asked about both at
    once, in a batch of twice the size. (The published code feeds class 0 where this feeds no label.)

    Parameters
    ----------
    score : callable
        ``score(x, sigma, labels)``.
    labels : torch.Tensor of int64, shape (B,)
        From 0 to ``classes - 1``.
    weight : float
        w; 0 gives the conditional score, -1 the unconditional one.
    classes : int
        How many there are; this number itself is the label that says nothing, which training has put in place of
        some labels.

    Returns
    -------
    callable
        ``(x, sigma)`` to scores of the shape of ``x``.

    Raises
    ------
    ValueError
        If there are no classes, a label is none of them, or the weight is not a number.
    """
    weight = _checked_weight(weight)
    if classes < 1:
        raise ValueError("guidance needs a network with classes, and this one has none: train it with labels")
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        wrong = labels[(labels < 0) | (labels >= classes)][0].item()
        raise ValueError(f"labels must be from 0 to {classes - 1}, got {wrong}")
    if weight == 0:
        return conditional(score, labels)
    both = torch.cat([labels, torch.full_like(labels, classes)])

    def guided(x, sigma):
        pairs = torch.cat([x, x])
        found = of_shape("the score", score(pairs, torch.cat([sigma, sigma]), both), pairs.shape)
        told, untold = found.chunk(2)
        return torch.lerp(untold, told, 1 + weight)

    return guided


def classifier_guided(score, log_probability, labels, weight):
    """Guidance by a classifier of noisy points: ``s(x) + (1 + w) grad log p(label | x)``.

    With the true posterior this is :func:`classifier_free` with the same weight, by Bayes' rule.

    Parameters
    ----------
    score : callable
        Without label, ``(x, sigma)``.
    log_probability : callable
        ``(x, sigma)`` to log-probabilities of the classes, shape (B, classes).
    labels : torch.Tensor of int64, shape (B,)
    weight : float
        w; 0 gives the score of the class.

    Returns
    -------
    callable
        ``(x, sigma)`` to scores of the shape of ``x``.
    """
    weight = _checked_weight(weight)

    def guided(x, sigma):
        chosen = slope(lambda at: log_probability(at, sigma).gather(1, labels.unsqueeze(1)), x)
        return of_shape("the score", score(x, sigma), x.shape) + (1 + weight) * chosen

    return guided


def thresholded(score, how, share=0.995):
    """What practice does to a diffusion without walls: keep the predicted clean image in the cube.

    The prediction ``x + sigma^2 s`` is clipped, and turned back into a score.

    Parameters
    ----------
    score : callable
    how : str
        ``"static"`` clips to [0, 1]. ``"dynamic"`` first looks how far from the centre the given share of the
        coordinates of each image lies at most; if that is outside the cube, it clips there and scales all down to the
        cube (Saharia et al. 2022).
    share : float

    Returns
    -------
    callable
        ``(x, sigma)`` to scores.

    Raises
    ------
    ValueError
        For another word, or a share outside (0, 1].
    """
    if how not in THRESHOLDS:
        raise ValueError(f"a threshold is {' or '.join(THRESHOLDS)}, got {how!r}")
    if not 0 < share <= 1:
        raise ValueError(f"share must be above 0 and at most 1, got {share}")

    def bounded(x, sigma):
        variance = per_row(checked_sigma(sigma, x), x) ** 2
        clean = x + variance * of_shape("the score", score(x, sigma), x.shape)
        if how == "static":
            clean = clean.clamp(0, 1)
        else:
            centred = 2 * clean - 1
            bound = per_row(centred.abs().flatten(1).quantile(share, dim=1).clamp(min=1), x)
            clean = (centred.clamp(-bound, bound) / bound + 1) / 2
        return (clean - x) / variance

    return bounded


def _checked_weight(weight):
    if not abs(weight) < float("inf"):
        raise ValueError(f"the weight of guidance must be a finite number, got {weight}")
    return float(weight)
