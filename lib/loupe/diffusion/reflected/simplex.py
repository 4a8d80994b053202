"""The simplex by way of the cube: breaking a stick.

References
----------
.. [1] Lou and Ermon, Reflected Diffusion Models, 2023.
"""

import torch

MARGIN = 1e-6


def to_simplex(u):
    """Break a stick of length 1: ``u_i`` is the share that piece i takes of what is left.

    Parameters
    ----------
    u : torch.Tensor, shape (..., d)
        Values in [0, 1].

    Returns
    -------
    torch.Tensor, shape (..., d)
        Values of at least 0 whose sum is at most 1; what is missing from 1 is the last piece.
    """
    left = torch.cat([torch.ones_like(u[..., :1]), (1 - u).cumprod(-1)], dim=-1)
    return u * left[..., :-1]


def from_simplex(x, margin=MARGIN):
    """The shares of a broken stick, the inverse of :func:`to_simplex`.

    Parameters
    ----------
    x : torch.Tensor, shape (..., d)
    margin : float
        Shares are kept this far from 0 and 1; where nothing is left, they are not determined.

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
    # What is left before piece i is summed from the far end: there it is small, and a difference from 1 is not exact.
    rest = (1 - total).clamp(min=0).unsqueeze(-1)
    left = torch.cat([x, rest], -1).flip(-1).cumsum(-1).flip(-1)[..., :-1]
    return (x / left.clamp(min=torch.finfo(x.dtype).tiny)).clamp(margin, 1 - margin)


def simplex_log_det(u):
    """Logarithm of the volume by which :func:`to_simplex` stretches, ``sum_i (d - i) log(1 - u_i)`` with i from 1."""
    d = u.shape[-1]
    powers = torch.arange(d - 1, 0, -1, device=u.device, dtype=u.dtype)
    return (powers * torch.log1p(-u[..., :-1])).sum(-1)
