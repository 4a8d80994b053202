"""Random choices with given probabilities, exact in float64, and as they are often made in fewer digits."""

import torch


def categorical(weights, uniform):
    """For each row a state, with probability in proportion to its weight.

    By the inverse of the distribution function in float64.

    Parameters
    ----------
    weights : torch.Tensor, shape (m, states)
        At least 0, not all 0 in any row.
    uniform : torch.Tensor, shape (m,), float64
        Random numbers from 0 to 1, below 1.

    Returns
    -------
    torch.Tensor, shape (m,), int64

    Raises
    ------
    ArithmeticError
        If a row has no finite sum above 0.
    """
    up_to = weights.double().cumsum(-1)
    total = up_to[:, -1:]
    _check(total)
    # Below the total, to which the product may be rounded up; and strictly above that, so that no weight of 0 is chosen.
    goal = torch.minimum(uniform.unsqueeze(-1) * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(up_to, goal, right=True).squeeze(-1)


def exponential_race(weights, generator=None, dtype=torch.float64):
    """For each row the state whose exponential clock of rate ``weight`` rings first, computed in ``dtype``.

    In float64 the law is that of :func:`categorical`. With fewer digits no wait is shorter than the distance of the
    random numbers from 1, and rare states, which would need one, hardly ever win: the temperature is lower than it
    seems (Zheng et al. 2024, arXiv 2409.02908).

    Parameters
    ----------
    weights : torch.Tensor, shape (..., states)
    generator : torch.Generator, optional
    dtype : torch.dtype

    Returns
    -------
    torch.Tensor, shape (...), int64

    Raises
    ------
    ArithmeticError
        If a row has no finite sum above 0.
    """
    _check(weights.sum(-1, dtype=torch.float64))
    uniform = torch.rand(weights.shape, generator=generator, device=weights.device, dtype=dtype)
    return (weights.to(dtype) / -uniform.log()).argmax(-1)


def _check(totals):
    if not ((totals > 0) & (totals < torch.inf)).all():
        raise ArithmeticError("probabilities must be finite and not all 0 in any row")
