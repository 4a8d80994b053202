"""Categorical sampling: exact in float64, and by exponential clocks in lower precision, as is common."""

import torch
from torch.nn.functional import pad

from loupe.derivatives import readable


def categorical(weights, uniform):
    """One state for each row, with probability proportional to its weight.

    By inverting the distribution function in float64.

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
    # Rounding may bring the product up to the total: stay below it. Strictly greater, so that no weight of 0 is chosen.
    goal = torch.minimum(uniform.unsqueeze(-1) * total, total.nextafter(torch.zeros_like(total)))
    return torch.searchsorted(up_to, goal, right=True).squeeze(-1)


def exponential_sampling(weights, generator=None, dtype=torch.float64):
    """Exponential sampling: for each row, the state whose clock of rate ``weight`` rings first, computed in ``dtype``.

    In float64 the distribution is that of :func:`categorical`. In lower precision random numbers are never very close
    to 1, so the shortest waits are missing and rare states hardly ever win: the effective temperature is lower (Zheng
    et al. 2024, arXiv 2409.02908).

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


def sharpened(logits, temperature=1.0, top_p=1.0):
    """Log-probabilities at a temperature, restricted to the most probable states (nucleus sampling).

    First ``p**(1 / temperature)``, normalized. Then the most probable states are kept until their sum reaches
    ``top_p``; the others get ``-inf``, and the rest is normalized again. Among ties the first is kept.

    Parameters
    ----------
    logits : torch.Tensor, shape (..., states)
        Differentiable; a constant added to a row changes nothing.
    temperature, top_p : float or torch.Tensor, shape (...)
        Above 0, and above 0 up to 1: one number, or one for each row.

    Returns
    -------
    torch.Tensor, shape (..., states)
        The dtype of the logits, at least float32.

    Raises
    ------
    ValueError
        If the temperature or ``top_p`` is out of range.
    """
    logits = logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits
    temperature, top_p = (
        torch.as_tensor(each, dtype=logits.dtype, device=logits.device).unsqueeze(-1)
        for each in (temperature, top_p)
    )
    _check_sharpness(temperature, top_p)
    logs = (logits / temperature).log_softmax(-1)
    if readable(top_p) and (top_p == 1).all():
        return logs
    ordered, order = logs.sort(dim=-1, descending=True, stable=True)
    before = pad(ordered.exp().cumsum(-1)[..., :-1], (1, 0))  # sum over more probable states
    gone = (before >= top_p) & (top_p < 1)
    return logs.masked_fill(gone.scatter(-1, order, gone), -torch.inf).log_softmax(-1)


def sharpness(temperature, top_p, batch, device="cpu"):
    """Both as float64, one for each of ``batch`` sequences along one axis; None if all are 1."""
    if all(isinstance(each, (int, float)) and each == 1 for each in (temperature, top_p)):
        return None
    found = [torch.as_tensor(each, dtype=torch.float64, device=device) for each in (temperature, top_p)]
    for name, each in zip(("temperature", "top_p"), found, strict=True):
        if each.shape not in ((), batch):
            raise ValueError(
                f"{name} must be one number or one for each sequence, of shape {tuple(batch)}, got {tuple(each.shape)}"
            )
    _check_sharpness(*found)
    if all((each == 1).all() for each in found):
        return None
    return tuple(each.expand(batch).reshape(-1) for each in found)


def _check_sharpness(temperature, top_p):
    if not readable(temperature, top_p):
        return
    if not ((temperature > 0) & (temperature < torch.inf)).all():
        raise ValueError(
            f"temperature must be above 0 and finite, got {temperature.min().item():g}: for the most probable token "
            "take a small top_p"
        )
    if not ((top_p > 0) & (top_p <= 1)).all():
        raise ValueError(f"top_p must be above 0 and at most 1, got {top_p.min().item():g}")


def _check(totals):
    if not ((totals > 0) & (totals < torch.inf)).all():
        raise ArithmeticError("probabilities must be finite and not all 0 in any row")
