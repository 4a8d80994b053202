"""Stick breaking: a map between the cube and the simplex.

References
----------
.. [1] Lou and Ermon, Reflected Diffusion Models, 2023.
"""

import torch

MARGIN = 1e-6


def to_simplex(u):
    """Break a stick of length 1: piece i takes the fraction ``u_i`` of the rest.

    Parameters
    ----------
    u : torch.Tensor, shape (..., d)
        Values in [0, 1].

    Returns
    -------
    torch.Tensor, shape (..., d)
        Values of at least 0 with a sum of at most 1; the last piece is 1 minus the sum.
    """
    left = torch.cat([torch.ones_like(u[..., :1]), (1 - u).cumprod(-1)], dim=-1)
    return u * left[..., :-1]


def from_simplex(x, margin=MARGIN):
    """The fractions of a broken stick, the inverse of :func:`to_simplex`.

    Parameters
    ----------
    x : torch.Tensor, shape (..., d)
    margin : float
        Shares are kept this far from 0 and 1; they are undetermined once the stick is used up.

    Returns
    -------
    torch.Tensor, shape (..., d)

    Raises
    ------
    ValueError
        If values are negative, or their sum exceeds 1 by more than rounding.
    """
    total = x.sum(-1)
    slack = 16 * torch.finfo(x.dtype).eps * max(1, x.shape[-1])
    if x.numel() and not (x.min() >= 0 and total.max() <= 1 + slack):
        raise ValueError(
            f"points of the simplex have values of at least 0 with a sum of at most 1, got a least value of "
            f"{x.min().item():g} and a largest sum of {total.max().item():g}"
        )
    # The rest before piece i is summed from the far end: it is small there, and 1 minus a sum would lose digits.
    rest = (1 - total).clamp(min=0).unsqueeze(-1)
    left = torch.cat([x, rest], -1).flip(-1).cumsum(-1).flip(-1)[..., :-1]
    return (x / left.clamp(min=torch.finfo(x.dtype).tiny)).clamp(margin, 1 - margin)


def simplex_log_det(u):
    """Log-determinant of :func:`to_simplex`, ``sum_i (d - i) log(1 - u_i)`` with i from 1."""
    d = u.shape[-1]
    powers = torch.arange(d - 1, 0, -1, device=u.device, dtype=u.dtype)
    return (powers * torch.log1p(-u[..., :-1])).sum(-1)
