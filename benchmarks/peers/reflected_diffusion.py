"""Peers to measure the score of the reflected heat kernel against.

What is called a re-statement puts a published algorithm in our words; it is not the authors' code. Points have shape
``(B, ...)``, and there is one noise level for each row, ``sigma (B,)``.
"""

import math

import torch

SWITCH = 0.01  # of sigma^2 / 2: above it cosines, below it images
TERMS = 20
SHIFTS = 20  # the images are 2k + x0 and 2k - x0 for even numbers 2k from -20 to 20
GUARD = 1e-12  # in the quotient of densities, against 0 / 0
FAR = 50  # of the images of the definition


def per_row(sigma, x):
    """``sigma (B,)`` with as many axes as ``x (B, ...)``."""
    return sigma.view(-1, *(1,) * (x.ndim - 1))


def cosine_score(x, x0, sigma, exponential):
    """The derivative of twenty cosines over their sum, all of them along a first axis."""
    waves = math.pi * torch.arange(1, TERMS + 1, dtype=x.dtype).view(-1, *(1,) * x.ndim)
    terms = 2 * exponential(-((waves * per_row(sigma, x)) ** 2) / 2) * (waves * x0).cos()
    density = 1 + (terms * (waves * x).cos()).sum(0)
    return -(terms * waves * (waves * x).sin()).sum(0) / density


def image_score(x, x0, sigma, exponential):
    """The derivative of 42 bells over their sum, all of them along a first axis."""
    shifts = torch.arange(-SHIFTS, SHIFTS + 1, 2, dtype=x.dtype).view(-1, *(1,) * x.ndim)
    away = x - torch.cat([shifts + x0, shifts - x0])
    variance = per_row(sigma, x) ** 2
    bells = exponential(-(away**2) / (2 * variance))
    return -(bells * away / variance).sum(0) / (bells.sum(0) + GUARD)


def heat_kernel_score(x, x0, sigma, exponential=torch.exp):
    """Re-statement of the published score: rows are copied out by a mask, for either series, and put back.

    Parameters
    ----------
    x, x0 : torch.Tensor, shape (B, ...)
    sigma : torch.Tensor, shape (B,)
    exponential : callable

    Returns
    -------
    torch.Tensor
        Shape of ``x``.
    """
    score = torch.empty_like(x)
    broad = sigma**2 / 2 > SWITCH
    for rows, series in ((broad, cosine_score), (~broad, image_score)):
        if rows.any():
            score[rows] = series(x[rows], x0[rows], sigma[rows], exponential)
    return score


def by_powers_of_two(exponents):
    """``exp`` by ``exp2``, which stays fast where the result is too small a number."""
    return (exponents * (1 / math.log(2))).exp2()


def score_by_definition(x, x0, sigma):
    """The mean of the ways to two hundred images, by a softmax in float64; row by row."""
    shifts = 2 * torch.arange(-FAR, FAR, dtype=torch.float64).unsqueeze(1)
    rows = []
    for at, start, level in zip(x.double(), x0.double(), sigma.double(), strict=True):
        at, start = at.flatten(), start.flatten()
        away = at - torch.cat([shifts + start, shifts + 2 - start])
        weights = (-((away / level) ** 2) / 2).softmax(0)
        rows.append(-(weights * away).sum(0) / level**2)
    return torch.stack(rows).view(x.shape)
