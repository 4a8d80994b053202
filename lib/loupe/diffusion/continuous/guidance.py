"""Guidance toward a class, and thresholds for predicted data: functions that take a model and return a model.

A model is any callable that maps points ``x (B, ...)`` and times or noise levels ``(B,)`` to a score, denoised points
or noise of the shape of ``x``.

References
----------
.. [1] Ho and Salimans, Classifier-Free Diffusion Guidance, 2022.
.. [2] Dhariwal and Nichol, Diffusion Models Beat GANs on Image Synthesis, 2021.
.. [3] Saharia et al., Photorealistic Text-to-Image Diffusion Models with Deep Language Understanding, 2022.
"""

import math

import torch

from loupe.checks import of_shape
from loupe.deprecation import renamed
from loupe.derivatives import slope, transformed
from loupe.diffusion.continuous.sde import per_sample, predicted

THRESHOLDS = ("static", "dynamic")


def conditional(score, labels):
    """The score of given classes: a function of ``(x, sigma)``.

    Parameters
    ----------
    score : callable
        ``score(x, sigma, labels)``.
    labels : torch.Tensor of int64, shape (B,)
    """
    return lambda x, sigma: score(x, sigma, labels)


def classifier_free(score, labels, weight, *, classes=None, null=None):
    """Guidance without a classifier: ``(1 + w) s(x, label) - w s(x, no label)`` ([1], eq. 6).

    Works for scores, denoisers and noise predictors alike, and in a reflected process for any weight. The network
    evaluates both terms at once, in a batch of twice the size.

    Parameters
    ----------
    score : callable
        ``score(x, sigma, labels)``.
    labels : torch.Tensor
        int64 of shape (B,), from 0 to ``classes - 1``; with ``null``, any condition (B, ...), such as an embedding.
    weight : float or torch.Tensor of shape (B,)
        w, one number or one per sample; 0 gives the conditional score, -1 the unconditional one.
    classes : int, optional
        Number of classes; it also serves as the null label, which replaced some labels in training.
    null : torch.Tensor, optional
        Instead of ``classes``: the null condition, of the shape of one condition or of the batch.

    Returns
    -------
    callable
        ``(x, sigma)`` to scores of the shape of ``x``.

    Raises
    ------
    ValueError
        If there are no classes, a label is out of range, or the weight is not finite or has the wrong shape.
    """
    weight = _checked_weight(weight)
    if null is None:
        _check_labels(labels, classes)
        null = torch.full_like(labels, classes)
    elif null.shape not in (labels.shape, labels.shape[1:]):
        raise ValueError(
            f"null must have the shape of a condition, {tuple(labels.shape[1:])}, got {tuple(null.shape)}"
        )
    if not isinstance(weight, torch.Tensor) and weight == 0:
        return conditional(score, labels)
    both = torch.cat([labels, null.to(labels).expand_as(labels)])

    def guided(x, sigma):
        pairs = torch.cat([x, x])
        found = of_shape("the score", score(pairs, torch.cat([sigma, sigma]), both), pairs.shape)
        conditioned, unconditioned = found.chunk(2)
        return torch.lerp(unconditioned, conditioned, _each(1 + weight, x))

    return guided


def classifier_guided(score, log_probability, labels, weight):
    """Guidance by a classifier of noisy points: ``s(x) + (1 + w) grad log p(label | x)`` ([2], section 4).

    With the true posterior this is :func:`classifier_free` with the same weight, by Bayes' rule.

    Parameters
    ----------
    score : callable
        Unconditional, ``(x, sigma)``; it must be a score, not another kind of model.
    log_probability : callable
        ``(x, sigma)`` to log-probabilities of the classes, shape (B, classes).
    labels : torch.Tensor of int64, shape (B,)
    weight : float or torch.Tensor of shape (B,)
        w, one number or one per sample; 0 gives the score of the class.

    Returns
    -------
    callable
        ``(x, sigma)`` to scores of the shape of ``x``.
    """
    weight = _checked_weight(weight)

    def guided(x, sigma):
        chosen = slope(lambda at: log_probability(at, sigma).gather(1, labels.unsqueeze(1)), x)
        return of_shape("the score", score(x, sigma), x.shape) + _each(1 + weight, x) * chosen

    return guided


@renamed(share="quantile")
def threshold(x0, how, quantile=0.995, *, data_range=(-1.0, 1.0)):
    """Predicted data, kept in their range ([3], section 2.3).

    Parameters
    ----------
    x0 : torch.Tensor, shape (B, ...)
        Of any size.
    how : str
        ``"static"`` clips to the range. ``"dynamic"`` takes, for each sample, this ``quantile`` of the distances
        of coordinates from the center; if that lies outside the range, it clips there and rescales to the range.
    quantile : float
    data_range : tuple of float
        The least and the largest value of data.

    Returns
    -------
    torch.Tensor
        Shape of ``x0``. With a NaN entry, a static threshold returns NaN there, a dynamic one for the whole sample.

    Raises
    ------
    ValueError
        For an unknown threshold, a quantile outside (0, 1], or an invalid range.
    """
    low, high = check_threshold(how, quantile, data_range)
    if how == "static":
        return x0.clamp(low, high)
    center, half = (low + high) / 2, (high - low) / 2
    centered = (x0 - center) / half
    bound = _each(_quantile(centered.abs().unsqueeze(-1).flatten(1), quantile).clamp(min=1), x0)
    return centered.clamp(-bound, bound) / bound * half + center


@renamed(share="quantile")
def thresholded(denoiser, how, quantile=0.995, *, data_range=(-1.0, 1.0)):
    """A denoiser whose predictions stay in the range of the data; arguments as in :func:`threshold`.

    Returns
    -------
    callable
        ``(x, t)`` to denoised points.
    """
    check_threshold(how, quantile, data_range)
    return lambda x, t: threshold(
        predicted("the denoiser", denoiser, x, t), how, quantile, data_range=data_range
    )


def check_threshold(how, quantile, data_range):
    """The ends of the range; ValueError for invalid arguments."""
    low, high = data_range
    if how not in THRESHOLDS:
        raise ValueError(f"a threshold is {' or '.join(THRESHOLDS)}, got {how!r}")
    if not 0 < quantile <= 1:
        raise ValueError(f"quantile must be above 0 and at most 1, got {quantile}")
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"data_range must be a least and a largest value, got {low} and {high}")
    return low, high


def _quantile(values, quantile):
    """``torch.quantile`` of each row, bit for bit, for rows of any length: torch's own is limited to 2^24 numbers."""
    single = values.to(torch.promote_types(values.dtype, torch.float32))
    ordered = single.sort(dim=1).values
    rank = torch.tensor(quantile, dtype=single.dtype, device=values.device) * (values.shape[1] - 1)
    low, high = (ordered.index_select(1, at.long().view(1)).squeeze(1) for at in (rank, rank.ceil()))
    # NaN sorts to the end.
    found = torch.where(ordered[:, -1].isnan(), math.nan, torch.lerp(low, high, rank - rank.floor()))
    return found.to(values.dtype)


def _each(value, x):
    """The weight, shaped to multiply ``x``; plain numbers are unchanged."""
    return per_sample("the weight", value, x) if isinstance(value, torch.Tensor) else value


def _checked_weight(weight):
    """A number as a float, tensors unchanged; checked to be finite where the check doesn't wait for a GPU."""
    if not isinstance(weight, torch.Tensor):
        finite = abs(weight) < math.inf
    elif weight.device.type != "cpu" or torch.compiler.is_compiling() or transformed():
        return weight
    else:
        finite = weight.isfinite().all()
    if not finite:
        raise ValueError(f"the weight of guidance must be a finite number, got {weight}")
    return weight if isinstance(weight, torch.Tensor) else float(weight)


def _check_labels(labels, classes):
    if not classes or classes < 1:
        raise ValueError("guidance needs a network with classes, and this one has none: train it with labels")
    if len(labels) and not (labels.min() >= 0 and labels.max() < classes):
        wrong = labels[(labels < 0) | (labels >= classes)][0].item()
        raise ValueError(f"labels must be from 0 to {classes - 1}, got {wrong}")
